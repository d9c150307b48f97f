/// @file  examples/l3/evaluate.hpp: correspondence on fixed pairs, for `l3 eval` and for validation while training.
#pragma once
#include <array>
#include <l3/eval/metrics.hpp>
#include <l3/eval/roc.hpp>

#include "crew.hpp"
#include "engine.hpp"
#include "feed.hpp"
#include "program.hpp"

namespace l3::program {

/// A batch's frames or sounds, and both as bytes and samples, if so they came.
inline item_spans items_of(feed_batch const& b, modality what) {
  if (what == modality::frame) return {.values = b.frames, .crops = b.crops};
  return {.values = b.sounds, .seconds = b.seconds};
}
inline raw_spans raw_of(feed_batch const& b) { return {b.crops, b.seconds, b.jitters, b.volumes}; }

/// Fixed, seeded, balanced pairs of a data set. They are decoded once and kept if they fit the budget, else decoded
/// anew each time.
class fixed_pairs {
 public:
  /// `raw`: not as values, for an engine that takes_raw().
  fixed_pairs(model_input const& input, collection data, loader_options options, bool raw,
              std::size_t budget_bytes = std::size_t{1} << 30);
  /// Calls f(batch) for each batch; or for each of those that one process of several takes, whose place is always the
  /// same. Between batches `go_on` is asked; false: it said no.
  bool for_each(std::function<void(feed_batch const&)> const& f, std::size_t process = 0, std::size_t of = 1,
                std::function<bool()> const& go_on = {});

 private:
  struct kept_batch {
    explicit kept_batch(feed_batch const& b);
    feed_batch view() const;
    std::vector<float> frames, sounds;
    std::vector<std::int32_t> labels;
    std::vector<std::uint32_t> frame_clips, sound_clips;
    std::vector<double> frame_times, sound_starts;
    std::vector<std::uint8_t> crops;
    std::vector<float> seconds;
    std::vector<image_jitter> jitters;
    std::vector<float> volumes;
  };
  model_input const& input_;
  collection data_;
  loader_options options_;
  bool raw_, keep_;
  std::vector<kept_batch> kept_;
};

/// Errors  media_error, with the list's name: there are no two videos to draw from.
void require_readable(model_input const& input, collection const& data, std::string name, decode_limits const& limits);

/// A number that tells these videos, in this order, from others; and these weights.
std::uint64_t print_of(clip_list const& clips);
std::uint64_t print_of(engine& net);
/// What videos of these names are read from, and what is known of their contents.
std::string kind_of(collection const& data);

/// A pair and what the network said of it.
struct judged_pair {
  std::array<float, 2> logits;
  std::int32_t label;  ///< 1 corresponds
  std::uint32_t frame_clip, sound_clip;
  double frame_time, sound_start;
  /// Above 0 they correspond.
  double score() const { return static_cast<double>(logits[1]) - static_cast<double>(logits[0]); }
  bool positive() const { return label == 1; }
  bool right() const { return positive() ? score() > 0 : score() < 0; }  // a tie is a miss
};

/// How a network tells pairs.
struct evaluation {
  correspondence result;
  std::vector<judged_pair> pairs;
  bool whole = true;  ///< or one of the processes was told not to go on, and nothing is known
  std::vector<roc_point> curve() const;
};

/// Scores all pairs, shared out over the processes; all get the same result. `each` sees every batch of its own process
/// with its logits; between batches `go_on` is asked.
evaluation evaluate(engine& net, fixed_pairs& pairs, std::uint64_t seed, crew& all,
                    std::function<void(feed_batch const&, std::span<float const>)> const& each = {},
                    std::function<bool()> const& go_on = {});

}  // namespace l3::program
