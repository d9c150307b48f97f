/// @file  examples/l3/evaluate.hpp: correspondence on fixed pairs, for `l3 eval` and for validation while training.
#pragma once
#include <l3/eval/metrics.hpp>

#include "engine.hpp"
#include "feed.hpp"
#include "program.hpp"

namespace l3::program {

/// Fixed, seeded, balanced pairs of a data set. They are decoded once and kept if they fit the budget, else decoded
/// anew each time.
class fixed_pairs {
 public:
  fixed_pairs(model_input const& input, collection data, loader_options options,
              std::size_t budget_bytes = std::size_t{1} << 30);
  /// Calls f(batch) for each batch.
  void for_each(std::function<void(feed_batch const&)> const& f);

 private:
  struct kept_batch {
    std::vector<float> frames, sounds;
    std::vector<std::int32_t> labels;
    std::vector<std::uint32_t> frame_clips, sound_clips;
    std::vector<double> frame_times, sound_starts;
  };
  model_input const& input_;
  collection data_;
  loader_options options_;
  bool keep_;
  std::vector<kept_batch> kept_;
};

/// Scores all pairs. `each` sees every batch with its logits.
correspondence evaluate(engine& net, fixed_pairs& pairs, std::uint64_t seed,
                        std::function<void(feed_batch const&, std::span<float const>)> const& each = {});

}  // namespace l3::program
