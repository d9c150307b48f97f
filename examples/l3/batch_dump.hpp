/// @file  examples/l3/batch_dump.hpp: batches as safetensors files: `frames`, `sounds`, `labels` and one result.
#pragma once
#include <l3/files/safetensors.hpp>

#include "engine.hpp"
#include "feed.hpp"
#include "program.hpp"

namespace l3::program {

/// Writes what the network saw, number by number, for comparing with other frameworks (tests/parity).
class batch_dump {
 public:
  batch_dump(std::filesystem::path folder, model_facts const& facts) : folder_(std::move(folder)), facts_(facts) {
    std::filesystem::create_directories(folder_);
  }
  void write(char const* name, std::uint64_t number, feed_batch const& b, std::span<float const> extra,
             char const* extra_name, std::vector<std::size_t> extra_shape) const {
    safetensors_writer out;
    std::vector<std::int64_t> const labels(b.labels.begin(), b.labels.end());
    out.add("frames", {b.count, facts_.frame.height, facts_.frame.width, 3}, b.frames);
    out.add("sounds", {b.count, facts_.sound.height, facts_.sound.width, 1}, b.sounds);
    out.add("labels", {b.count}, labels);
    out.add(extra_name, std::move(extra_shape), extra);
    out.write(folder_ / text("%s_%06llu.safetensors", name, static_cast<unsigned long long>(number)));
  }
  std::filesystem::path const& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
  model_facts const& facts_;
};

}  // namespace l3::program
