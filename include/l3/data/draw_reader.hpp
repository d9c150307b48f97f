/// @file  include/l3/data/draw_reader.hpp: a draw -> its picture and its second of sound, or why there are none; what
/// one of a loader's workers does.
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/random.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/loader_report.hpp>
#include <l3/data/picture.hpp>
#include <l3/data/sample.hpp>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// What became of a draw.
struct draw_outcome {
  enum class verdict : std::uint8_t { accepted, bad_moment, bad_file };
  verdict says = verdict::accepted;
  std::string why;
  std::exception_ptr error;  ///< not the file's fault, and then the rest means nothing
  bool accepted() const { return says == verdict::accepted; }
};

/// Files that were refused as a whole, and why. Any number of threads may ask and tell.
class refused_files {
 public:
  void add(std::uint32_t clip, std::string why) {
    std::lock_guard const lock(mutex_);
    why_.emplace(clip, std::move(why));
  }
  std::optional<std::string> why(std::uint32_t clip) const {
    std::lock_guard const lock(mutex_);
    auto const known = why_.find(clip);
    return known == why_.end() ? std::nullopt : std::optional(known->second);
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::uint32_t, std::string> why_;
};

/// A draw that has been decoded before its batch takes it.
struct kept_draw {
  draw_outcome result;
  moment at;
  rgb_frame picture;
  std::vector<float> samples;
};

namespace detail {

/// Adds the time that it lives to a sum, in seconds.
class stage_timer {
 public:
  explicit stage_timer(double& sum) : sum_(sum) {}
  stage_timer(stage_timer const&) = delete;
  stage_timer& operator=(stage_timer const&) = delete;
  ~stage_timer() { sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  double& sum_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace detail

/// Reads draws of a source (see loader), for one thread at a time.
///
/// A file that is no video, or has less than a second of common picture and sound, is refused as a whole and not opened
/// again; one that the system does not give is refused as a whole, too, but asked for again by the next draw. One that
/// fails at a moment is refused for that draw only: whether another draw uses it must not depend on which of them was
/// tried first.
template <class Source>
class draw_reader {
 public:
  /// Pictures have a smallest side of `side` pixels. What is passed must outlive the reader.
  draw_reader(Source const& source, refused_files& refused, std::size_t side)
      : source_(source), refused_(refused), side_(side), tools_(source) {}

  /// Both halves, also one that no item takes: a draw is good only as a whole. Calls take(picture, samples, moment),
  /// which may change the samples. Errors  what is not the file's fault.
  template <class Take>
  draw_outcome read(std::uint32_t clip, generator numbers, Take&& take) {
    std::optional<reader> from;
    if (auto refused = open(clip, from)) return *refused;
    auto const both = *from->facts().both();
    return outcome_of([&] {
      moment const at = draw_moment(numbers, both.begin, both.end);
      ++spent.draws;
      expect(*from, {&at.frame_time, 1});
      std::optional<timer> timed(std::in_place, spent.picture);
      auto const& picture = from->frame(at.frame_time, side_);
      timed.emplace(spent.sound);
      from->sound(at.sound_start, samples_);
      timed.reset();
      take(picture, std::span(samples_), at);
    });
  }

  /// Several draws of one clip, pictures and sounds each in the order of time. `numbers` are those of all draws that
  /// share the opening, so that what is decoded does not depend on where a run began; the last ones are wanted `into`.
  void read(std::uint32_t clip, std::span<generator const> numbers, std::span<kept_draw> into) {
    std::optional<reader> from;
    if (auto refused = open(clip, from)) {
      for (auto& each : into) each.result = *refused;
      return;
    }
    auto const both = *from->facts().both();
    std::vector<kept_draw*> order;
    std::vector<double> times;
    for (std::size_t k = 0, unwanted = numbers.size() - into.size(); k != numbers.size(); ++k) {
      auto const at = draw_moment(numbers[k], both.begin, both.end);
      times.push_back(at.frame_time);
      if (k < unwanted) continue;
      order.push_back(&into[k - unwanted]);
      order.back()->at = at;
    }
    expect(*from, times);
    spent.draws += into.size();
    auto const whole = whole_sound(*from);
    auto const in_turn = [&](double moment::*when, double& sum, auto work) {
      timer const timed(sum);
      std::stable_sort(order.begin(), order.end(),
                       [&](auto const* a, auto const* b) { return a->at.*when < b->at.*when; });
      for (auto* each : order)
        if (each->result.accepted()) each->result = outcome_of([&] { work(*each); });
    };
    in_turn(&moment::frame_time, spent.picture, [&](kept_draw& k) { k.picture = from->frame(k.at.frame_time, side_); });
    in_turn(&moment::sound_start, spent.sound, [&](kept_draw& k) {
      k.samples.resize(samples_.size());
      if (whole)
        slice(*whole, k.at.sound_start, k.samples);
      else
        from->sound(k.at.sound_start, k.samples);
    });
  }

  loader_stages spent;  ///< by this reader, and by whoever uses what it has read

 private:
  using reader = typename Source::reader;
  using timer = detail::stage_timer;

  /// Opens a clip; or says why not.
  std::optional<draw_outcome> open(std::uint32_t clip, std::optional<reader>& to) {
    if (auto known = refused_.why(clip)) return draw_outcome{draw_outcome::verdict::bad_file, std::move(*known), {}};
    try {
      timer const timed(spent.open);
      to.emplace(source_, clip, tools_);
      if (auto found = to->facts().too_little(); !found.empty())
        throw media_error(
            complaint{source_.clips().file(clip).string(), clip_facts::what_a_draw_needs, std::move(found)});
    } catch (unusable_file const& e) {
      require_memory_left();
      // What the system does not give may be back for the next draw: a disk, or a network.
      if (dynamic_cast<file_error const*>(&e) == nullptr) refused_.add(clip, e.what());
      return draw_outcome{draw_outcome::verdict::bad_file, e.what(), {}};
    }
    return {};
  }

  /// What becomes of a moment that `work()` reads.
  template <class Work>
  static draw_outcome outcome_of(Work&& work) {
    try {
      work();
    } catch (unusable_file const& e) {
      require_memory_left();
      return {draw_outcome::verdict::bad_moment, e.what(), {}};
    }
    return {};
  }

  /// Lets a reader that can skip what nobody asks for do so.
  static void expect(reader& from, std::span<double const> times) {
    if constexpr (requires { from.expect_frames(times); }) from.expect_frames(times);
  }

  /// All the sound of a clip, which many draws share, where the reader has it and none of it is damaged.
  std::optional<std::span<float const>> whole_sound(reader& from) {
    if constexpr (requires { from.whole_sound(); }) {
      timer const timed(spent.sound);
      if (from.has_whole_sound()) try {
          return from.whole_sound();
        } catch (unusable_file const&) {  // each draw by itself finds out whether its second is whole
        }
    }
    return {};
  }
  /// Samples from time `start` on; zeros where there are none.
  static void slice(std::span<float const> whole, double start, std::span<float> out) {
    std::fill(out.begin(), out.end(), 0.0f);
    auto const first = std::llround(start * sound_rate), size = static_cast<long long>(whole.size());
    auto const begin = std::clamp<long long>(first, 0, size);
    auto const end = std::clamp<long long>(first + static_cast<long long>(out.size()), begin, size);
    if (begin != end) std::copy(whole.begin() + begin, whole.begin() + end, out.begin() + (begin - first));
  }

  Source const& source_;
  refused_files& refused_;
  std::size_t const side_;
  typename Source::tools tools_;
  std::vector<float> samples_ = std::vector<float>(sound_rate * static_cast<std::size_t>(sound_seconds));
};

}  // namespace l3::inline L3_ISA
