/// @file  include/l3/data/loader_options.hpp: what a loader makes, and with how much help.
#pragma once
#include <oneapi/tbb/info.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/pairing.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/refusal.hpp>
#include <l3/data/sample.hpp>
#include <limits>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// What a loader makes, and with how much help.
struct loader_options {
  std::uint64_t seed = 0;
  std::size_t batch = 64;  ///< items
  pairing pairs = pairing::all;
  /// If not zero: this many fixed pairs for evaluation (pairing `paper`, centre crop, no jitter) and then the end. Pair
  /// k depends on the seed and k alone, not on the batch size.
  std::uint32_t evaluation_pairs = 0;

  std::uint64_t first = 0;  ///< number of the first batch: where a resumed run goes on
  std::uint64_t batches = std::numeric_limits<std::uint64_t>::max();  ///< at most so many, and then the end
  /// If not zero: batches are parts of larger ones of `whole` items, from item `part_begin` on (with pairing `paper` an
  /// even number), as process r of W makes the part at r * batch of W * batch items. Training only, without shared
  /// openings.
  std::size_t whole = 0, part_begin = 0;
  /// If not zero: items of a worker, of which `batch` has several (see batch_sampler: drawing again).
  std::size_t worker = 0;

  /// If more than one: so many draws share the opening of a video (see reservoir), which are then spread over the
  /// batches; draws are in stock of at least `reservoir_videos` at a time. Training only. At most 32;
  /// must divide the batch size or be a multiple of it.
  std::size_t draws_per_opening = 1;
  std::size_t reservoir_videos = 64;

  std::size_t workers = 0;  ///< files decoded at the same time; 0: one for each core
  std::size_t ahead = 4;    ///< batches held in memory, with the one in use

  std::string name = {};  ///< of the list, where an error is about it; else "list of N videos"
  decode_limits limits = {};
  /// Videos stay open for the draws to come, those used last, as long as what they hold is within this. Not in
  /// evaluation, where a draw comes once.
  std::size_t open_bytes = std::size_t{512} << 20;
  std::vector<refusal> known = {};                      ///< refusals of the run so far; reported no more
  std::function<void(refusal const&)> on_refusal = {};  ///< called inside next(), once for each file, in an order that
                                                        ///< is the same for any number of workers; what it throws
                                                        ///< comes out of next(), and the batch is gone

  /// `open_bytes`, where draws can come again.
  std::size_t bytes_kept_open() const { return evaluation_pairs > 0 ? 0 : open_bytes; }
};

namespace detail {

/// Options, with what was left open filled in. Errors  setting_error: no loader can do that with so many clips.
inline loader_options checked(loader_options o, std::size_t clips) {
  auto const require = [](bool good, char const* what, char const* expected, std::uint64_t found) {
    if (!good) throw setting_error(complaint{what, expected, std::to_string(found)});
  };
  constexpr std::uint64_t most = std::numeric_limits<std::int32_t>::max();
  require(clips <= most, "list of videos", "at most 2^31 - 1", clips);
  require(o.batch <= most, "batch size", "at most 2^31 - 1", o.batch);
  require(std::max({o.whole, o.part_begin, o.worker}) <= most, "whole batch", "at most 2^31 - 1 items",
          std::max({o.whole, o.part_begin, o.worker}));
  require(o.whole == 0 || o.evaluation_pairs == 0, "pairs for evaluation, in parts of a batch", "0",
          o.evaluation_pairs);
  require(o.evaluation_pairs <= most, "pairs for evaluation", "at most 2^31 - 1", o.evaluation_pairs);
  require(o.evaluation_pairs % 2 == 0, "pairs for evaluation", "an even number", o.evaluation_pairs);
  require(o.ahead >= 1, "batches in memory", "at least 1", o.ahead);
  require(o.workers <= 4096, "workers of the loader", "at most 4096", o.workers);
  require(o.draws_per_opening >= 1 && o.draws_per_opening <= 32, "draws that share an opening", "1 to 32",
          o.draws_per_opening);
  require(o.reservoir_videos <= 65536, "videos of the reservoir", "at most 65536", o.reservoir_videos);
  if (o.evaluation_pairs > 0) {
    o.draws_per_opening = 1;
    o.pairs = pairing::paper;
    o.batch = std::min<std::size_t>(o.batch, o.evaluation_pairs);
    if (o.batch > 2) o.batch -= o.batch % 2;  // pairs come in twos, and are the same for any batch size
  }
  if (o.workers == 0) o.workers = static_cast<std::size_t>(tbb::info::default_concurrency());
  batch_sampler::require_valid({.pairs = o.pairs,
                                .evaluation = o.evaluation_pairs > 0,
                                .first = static_cast<std::uint32_t>(o.part_begin),
                                .count = static_cast<std::uint32_t>(o.batch),
                                .whole = static_cast<std::uint32_t>(o.whole),
                                .worker = static_cast<std::uint32_t>(o.worker),
                                .clips = static_cast<std::uint32_t>(clips)});
  return o;
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
