// Correspondence on fixed pairs.
#include "evaluate.hpp"

namespace l3::program {

fixed_pairs::fixed_pairs(model_input const& input, collection data, loader_options options, std::size_t budget_bytes)
    : input_(input),
      data_(std::move(data)),
      options_(std::move(options)),
      keep_(options_.evaluation_pairs * (input.frame_size() + input.sound_size()) * sizeof(float) <= budget_bytes) {}

void fixed_pairs::for_each(std::function<void(feed_batch const&)> const& f) {
  if (!kept_.empty()) {
    for (kept_batch const& b : kept_)
      f({b.labels.size(), b.frames, b.sounds, b.labels, b.frame_clips, b.sound_clips, b.frame_times, b.sound_starts});
    return;
  }
  auto const source = input_.open(data_, options_);
  std::vector<kept_batch> kept;
  for (feed_batch b = source->next(); b.count > 0; b = source->next()) {
    f(b);
    if (keep_)
      kept.push_back({{b.frames.begin(), b.frames.end()},
                      {b.sounds.begin(), b.sounds.end()},
                      {b.labels.begin(), b.labels.end()},
                      {b.frame_clips.begin(), b.frame_clips.end()},
                      {b.sound_clips.begin(), b.sound_clips.end()},
                      {b.frame_times.begin(), b.frame_times.end()},
                      {b.sound_starts.begin(), b.sound_starts.end()}});
  }
  kept_ = std::move(kept);
}

correspondence evaluate(engine& net, fixed_pairs& pairs, std::uint64_t seed,
                        std::function<void(feed_batch const&, std::span<float const>)> const& each) {
  correspondence_meter meter;
  std::vector<float> logits;
  pairs.for_each([&](feed_batch const& b) {
    logits.resize(2 * b.count);
    net.score(b.frames, b.sounds, b.count, logits);
    meter.add(logits, b.labels, b.frame_clips);
    if (each) each(b, logits);
  });
  return meter.result(seed);
}

}  // namespace l3::program
