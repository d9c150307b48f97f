// Correspondence on fixed pairs.
#include "evaluate.hpp"

#include <cstring>
#include <utility>

namespace l3::program {

fixed_pairs::kept_batch::kept_batch(feed_batch const& b)
    : frames(b.frames.begin(), b.frames.end()),
      sounds(b.sounds.begin(), b.sounds.end()),
      labels(b.labels.begin(), b.labels.end()),
      frame_clips(b.frame_clips.begin(), b.frame_clips.end()),
      sound_clips(b.sound_clips.begin(), b.sound_clips.end()),
      frame_times(b.frame_times.begin(), b.frame_times.end()),
      sound_starts(b.sound_starts.begin(), b.sound_starts.end()),
      crops(b.crops.begin(), b.crops.end()),
      seconds(b.seconds.begin(), b.seconds.end()),
      jitters(b.jitters.begin(), b.jitters.end()),
      volumes(b.volumes.begin(), b.volumes.end()) {}
feed_batch fixed_pairs::kept_batch::view() const {
  return {labels.size(), frames,       sounds, labels,  frame_clips, sound_clips,
          frame_times,   sound_starts, crops,  seconds, jitters,     volumes};
}

fixed_pairs::fixed_pairs(model_input const& input, collection data, loader_options options, bool raw,
                         std::size_t budget_bytes)
    : input_(input),
      data_(std::move(data)),
      options_(std::move(options)),
      raw_(raw),
      keep_(options_.evaluation_pairs * (input.frame_bytes(raw) + input.sound_bytes(raw)) <= budget_bytes) {
  if (options_.batch > 2) options_.batch -= options_.batch % 2;  // as the loader does
}

bool fixed_pairs::for_each(std::function<void(feed_batch const&)> const& f, std::size_t process, std::size_t of,
                           std::function<bool()> const& go_on) {
  for (kept_batch const& b : kept_) {
    if (go_on && !go_on()) return false;
    f(b.view());
  }
  if (!kept_.empty()) return true;
  std::size_t const batches = (options_.evaluation_pairs + options_.batch - 1) / options_.batch;
  loader_options options = options_;
  options.first = batches * process / of;
  options.batches = batches * (process + 1) / of - options.first;
  if (options.batches == 0) return true;
  auto const source = input_.open(data_, options, raw_);
  std::vector<kept_batch> kept;
  for (feed_batch b = source->next(); b.count > 0; b = source->next()) {
    if (go_on && !go_on()) return false;
    f(b);
    if (keep_) kept.emplace_back(b);
  }
  kept_ = std::move(kept);
  return true;
}

void require_readable(model_input const& input, collection const& data, std::string name, decode_limits const& limits) {
  input
      .open(data, {.batch = 2,
                   .pairs = pairing::paper,
                   .evaluation_pairs = 2,
                   .workers = 1,
                   .ahead = 1,
                   .name = std::move(name),
                   .limits = limits})
      ->next();
}

std::uint64_t print_of(clip_list const& clips) {
  std::uint64_t print = clips.size();
  for (std::size_t k = 0; k != clips.size(); ++k) print = fingerprint(clips.name(k), print);
  return print;
}
std::string kind_of(collection const& data) {
  std::string kind = data.packed          ? text("a packing of %g pictures a second, %zu pixels high",
                                                 data.packed->pictures_per_second(), data.packed->side())
                     : data.index.empty() ? "videos"
                                          : "an index of videos";
  if (data.index.empty()) return kind;
  std::uint64_t contents = fingerprint("");
  for (std::uint64_t const print : clip_index(data.index).content_prints())
    contents = fingerprint_of_number(print, contents);
  return kind + ", contents " + hex(contents);
}
std::uint64_t print_of(engine& net) {
  auto const bytes = std::as_bytes(net.weights());
  return fingerprint({reinterpret_cast<char const*>(bytes.data()), bytes.size()});
}

std::vector<roc_point> evaluation::curve() const {
  std::vector<scored> scores;
  for (judged_pair const& p : pairs) scores.push_back({p.score(), p.positive()});
  return roc_curve(scores);
}

evaluation evaluate(engine& net, fixed_pairs& pairs, std::uint64_t seed, crew& all,
                    std::function<void(feed_batch const&, std::span<float const>)> const& each,
                    std::function<bool()> const& go_on) {
  std::vector<judged_pair> mine;
  std::vector<float> logits;
  bool const whole = pairs.for_each(
      [&](feed_batch const& b) {
        logits.resize(2 * b.count);
        if (b.crops.empty())
          net.score(b.frames, b.sounds, b.count, logits);
        else
          net.score(raw_of(b), logits);
        for (std::size_t k = 0; k != b.count; ++k)
          mine.push_back({{logits[2 * k], logits[2 * k + 1]},
                          b.labels[k],
                          b.frame_clips[k],
                          b.sound_clips[k],
                          b.frame_times[k],
                          b.sound_starts[k]});
        if (each) each(b, logits);
      },
      all.rank(), all.size(), go_on);
  evaluation e;
  for (std::string const& stopped : all.gather(whole ? "" : "stopped")) e.whole = e.whole && stopped.empty();
  if (!e.whole) return e;
  correspondence_meter meter;
  std::string const bytes(reinterpret_cast<char const*>(mine.data()), mine.size() * sizeof(judged_pair));
  for (std::string const& part : all.gather(bytes)) {
    std::size_t const before = e.pairs.size();
    e.pairs.resize(before + part.size() / sizeof(judged_pair));
    std::memcpy(e.pairs.data() + before, part.data(), part.size());
  }
  for (judged_pair const& p : e.pairs) meter.add(p.logits, {&p.label, 1}, {&p.frame_clip, 1});
  e.result = meter.result(seed);
  return e;
}

}  // namespace l3::program
