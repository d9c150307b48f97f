/// @file  include/l3/data/sound_pass.hpp: a clip's sound, from its start or from later on, as 48 kHz mono on the clip's
/// clock.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <l3/core/error.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/ffmpeg.hpp>
#include <l3/data/packet_index.hpp>
#include <l3/data/stream_decoder.hpp>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

namespace detail {

/// Decodes, mixes and resamples sound in order, in constant memory.
///
/// Mono is the mean of the channels in float, before libswresample takes it to 48 kHz with its own settings. Blocks
/// follow one another without a seam, as with the ffmpeg program, as long as their time stamps agree with that to 0.1 s
/// (stamps are rounded: milliseconds in Matroska; to 2 ms where they count samples). Where they do not, or the sample
/// rate changes, or a packet was lost to damage, a new segment begins at its own time: zeros fill a gap, what overlaps
/// is dropped.
///
/// A pass may begin later, where the scan says that packets can be decoded without those before. It starts the
/// resampler at a sample at which that of the pass from the start has the same phase, a little ahead of what is wanted,
/// so that the same numbers come out: but for AAC's noise substitution, which draws other noise, and for what damage
/// before may have moved.
///
/// Errors  strayed, where it began later: blocks are not those expected.
///         media_error: samples that are not finite or beyond largest_sample, a pause longer than longest_pause, an
///         impossible rate or channel count, a format FFmpeg cannot give.
class sound_pass {
 public:
  /// Times full scale. Float files may hold integers of any width, unscaled; what is larger still is damage, and its
  /// power would be no number any more.
  static constexpr float largest_sample = 1e12f;
  /// Where a later pass begins.
  struct entry {
    std::size_t packet = 0;
    std::size_t sample = 0;  ///< that read() gives first
  };
  /// For sample `first`; none if it lies near the start or the stream has no such places.
  static std::optional<entry> entry_for(clip_file const& file, std::size_t first) {
    auto const& index = file.index();
    if (index.sound_block == 0 || first > std::size_t{1} << 40) return {};
    auto const begin = std::llround(file.clock(index.sound, index.sound_origin) * sound_rate);
    auto const wanted = (static_cast<long long>(first) - begin) * index.sample_rate / sound_rate;  // of its own samples
    // The block decoded first is not right yet, the next one loses some samples to the phase, the filter needs some.
    auto const from = wanted - 3 * index.sound_block - period(index.sample_rate) - warm_up(index.sample_rate);
    auto const before = index.sound_origin - index.sound.packets.front().pts;  // samples stored ahead of the first
    auto const packet = (before + from) / index.sound_block;
    if (from <= 0 || packet * index.sound_block < before || packet >= std::ssize(index.sound.packets)) return {};
    return entry{static_cast<std::size_t>(packet), first};
  }

  explicit sound_pass(clip_file& file) : sound_pass(file, entry{}) {}
  sound_pass(clip_file& file, entry from)
      : file_(&file), decoder_(file, file.index().sound, from.packet), entry_(from), given_(from.sample) {}

  /// Fills `out` with the next samples, sample i at i / 48000 s, and returns how many: fewer than wanted only at the
  /// end of the sound or at the clip's limit.
  std::size_t read(std::span<float> out) {
    std::size_t done = 0;
    auto const limit = file_->limit() * sound_rate;
    if (double(given_) + double(out.size()) > limit) out = out.first(std::size_t(std::round(limit)) - given_);
    while (done < out.size()) {
      std::size_t n = std::min(silence_, out.size() - done);
      std::fill_n(out.begin() + std::ptrdiff_t(done), n, 0.0f);
      silence_ -= n;
      done += n;
      n = std::min(ready_.size() - taken_, out.size() - done);
      std::copy_n(ready_.begin() + std::ptrdiff_t(taken_), n, out.begin() + std::ptrdiff_t(done));
      taken_ += n;
      done += n;
      if (done < out.size() && !produce()) break;
    }
    given_ += done;
    return done;
  }

 private:
  /// One more block of sound into ready_ (which is empty now); false at the end.
  bool produce() {
    ready_.clear();
    taken_ = 0;
    if (have_block_) {  // it begins a segment, and the one before it is out
      have_block_ = false;
      begin_segment();
      convert();
      return true;
    }
    if (ended_) return false;
    ended_ = !decoder_.next(*block_);
    if (ended_) {
      drain();
      return !ready_.empty();
    }
    require_sane();
    if (entry_.packet > 0 && !enters()) return true;
    if (have_block_ = begins_segment(); have_block_)
      drain();
    else
      convert();
    return true;
  }

  /// Of so many samples the resampler's phase returns.
  static int period(int rate) { return rate / std::gcd(rate, sound_rate); }
  /// Samples after which its filter has forgotten how it began.
  static int warm_up(int rate) { return 256 * std::max(1, rate / sound_rate); }

  /// In a pass that began later: whether the block is to be used; checks that it is the one expected.
  bool enters() {
    auto const& index = file_->index();
    bool const first = entered_ == 0, last = entry_.packet + entered_ + 1 == index.sound.packets.size();
    if (entry_.packet + entered_ >= index.sound.packets.size() || !decoder_.damage().empty() ||
        !decoder_.gives_aac_lc() || ffmpeg::channels(*block_) != index.channels ||
        block_->best_effort_timestamp != index.sound.packets[entry_.packet + entered_].pts ||
        block_->sample_rate != index.sample_rate || (block_->nb_samples != index.sound_block && !last))
      throw strayed{};
    ++entered_;
    if (!first && !resampler_) begin_later();
    return !first;
  }
  /// The segment that began at the start of the sound, from this block on.
  void begin_later() {
    auto const& index = file_->index();
    auto const before = block_->best_effort_timestamp - index.sound_origin;  // its samples ahead of this block
    auto const apart = period(index.sample_rate);
    dropped_ = static_cast<std::size_t>((apart - before % apart) % apart);
    segment_time_ = file_->clock(index.sound, index.sound_origin);
    segment_samples_ = before;
    rate_ = index.sample_rate;
    resampler_ = ffmpeg::mono_resampler(rate_, sound_rate, file_->name());
    auto const periods = (before + static_cast<std::int64_t>(dropped_)) / apart;
    auto const next = std::llround(segment_time_ * sound_rate) + periods * (sound_rate / std::gcd(rate_, sound_rate));
    overlap_ = entry_.sample - static_cast<std::size_t>(next);
    produced_ = static_cast<long long>(entry_.sample);
  }

  bool begins_segment() const {
    if (!resampler_ || block_->sample_rate != rate_) return true;
    bool const exact = file_->index().sound_block > 0 || decoder_.damage().size() > damage_;
    double const tolerance = exact ? 0.002 : 0.1;
    return std::abs(block_time() - follows()) > tolerance;
  }
  double follows() const { return segment_time_ + double(segment_samples_) / rate_; }
  double block_time() const {
    auto const stamp = block_->best_effort_timestamp;
    if (stamp != AV_NOPTS_VALUE) {
      double const time = file_->clock(file_->index().sound, stamp);
      if (std::abs(time) < 1e6) return time;
      throw media_error({file_->name(), "sound within 1e6 s", "some at " + std::to_string(time) + " s (refused)"});
    }
    return resampler_ ? follows() : file_->index().sound.begin - file_->index().zero;
  }
  void begin_segment() {
    segment_time_ = block_time();
    segment_samples_ = 0;
    rate_ = block_->sample_rate;
    damage_ = decoder_.damage().size();
    resampler_ = ffmpeg::mono_resampler(rate_, sound_rate, file_->name());
    auto const begin = std::llround(segment_time_ * sound_rate);
    double const now = double(produced_) / sound_rate;
    if (segment_time_ > now + longest_pause && file_->limit() > now + longest_pause &&
        !file_->goes_on(file_->index().video, now, segment_time_))
      throw media_error(
          {file_->name(), "sound without pauses of more than an hour",
           "one from " + std::to_string(now) + " s to " + std::to_string(segment_time_) + " s (refused)"});
    silence_ = static_cast<std::size_t>(std::max(begin - produced_, 0LL));
    overlap_ = static_cast<std::size_t>(std::max(produced_ - begin, 0LL));
    produced_ += static_cast<long long>(silence_);
  }

  /// block_ through mixing and resampling to ready_.
  void convert() {
    mix();
    segment_samples_ += block_->nb_samples;
    auto const drop = std::min(std::exchange(dropped_, 0), mono_.size());
    std::uint8_t const* in[] = {reinterpret_cast<std::uint8_t const*>(mono_.data() + drop)};
    resample(in, static_cast<int>(mono_.size() - drop));
  }
  void drain() {
    if (resampler_) resample(nullptr, 0);
  }
  void resample(std::uint8_t const** in, int count) {
    int const room = ffmpeg::check(swr_get_out_samples(resampler_.get(), count), file_->name(), "sound to resample");
    ready_.resize(static_cast<std::size_t>(room));
    std::uint8_t* out[] = {reinterpret_cast<std::uint8_t*>(ready_.data())};
    int const got =
        ffmpeg::check(swr_convert(resampler_.get(), out, room, in, count), file_->name(), "sound to resample");
    ready_.resize(static_cast<std::size_t>(got));
    taken_ = std::min(overlap_, ready_.size());
    overlap_ -= taken_;
    produced_ += static_cast<long long>(ready_.size() - taken_);
  }

  void require_sane() const {
    int const channels = ffmpeg::channels(*block_), rate = block_->sample_rate;
    if (channels >= 1 && channels <= 64 && rate >= 1000 && rate <= 768000) return;
    throw media_error({file_->name(), "1 to 64 channels at 1 to 768 kHz",
                       std::to_string(channels) + " at " + std::to_string(rate) + " Hz (refused)"});
  }

  /// Mean of the channels of block_ into mono_.
  void mix() {
    mono_.assign(static_cast<std::size_t>(block_->nb_samples), 0.0f);
    switch (block_->format) {
      case AV_SAMPLE_FMT_U8:
      case AV_SAMPLE_FMT_U8P:
        return mix_as<std::uint8_t>(1.0f / 128, 128);
      case AV_SAMPLE_FMT_S16:
      case AV_SAMPLE_FMT_S16P:
        return mix_as<std::int16_t>(1.0f / 32768);
      case AV_SAMPLE_FMT_S32:
      case AV_SAMPLE_FMT_S32P:
        return mix_as<std::int32_t>(0x1p-31f);
      case AV_SAMPLE_FMT_S64:
      case AV_SAMPLE_FMT_S64P:
        return mix_as<std::int64_t>(0x1p-63f);
      case AV_SAMPLE_FMT_FLT:
      case AV_SAMPLE_FMT_FLTP:
        return mix_as<float>(1);
      case AV_SAMPLE_FMT_DBL:
      case AV_SAMPLE_FMT_DBLP:
        return mix_as<double>(1);
      default:
        throw media_error({file_->name(), "samples of a known format", "format " + std::to_string(block_->format)});
    }
  }
  template <class Sample>
  void mix_as(float scale, Sample middle = 0) {
    int const channels = ffmpeg::channels(*block_);
    bool const planar = av_sample_fmt_is_planar(static_cast<decltype(AV_SAMPLE_FMT_U8)>(block_->format));
    std::size_t const step = planar ? 1 : static_cast<std::size_t>(channels);
    for (int c = 0; c < channels; ++c) {
      auto const* in = reinterpret_cast<Sample const*>(block_->extended_data[planar ? c : 0]) + (planar ? 0 : c);
      for (auto& sum : mono_) {
        sum += static_cast<float>(*in - middle) * scale;
        in += step;
      }
    }
    for (auto& sum : mono_) {
      sum /= static_cast<float>(channels);
      if (std::abs(sum) <= largest_sample) continue;
      char found[64];
      std::snprintf(found, sizeof found, "%g, after %f s", static_cast<double>(sum), follows());
      throw media_error({file_->name(), "samples of at most 1e12 times full scale", found});
    }
  }

  clip_file* file_;
  stream_decoder decoder_;
  entry entry_;
  std::size_t entered_ = 0;  // blocks since the entry
  std::size_t dropped_ = 0;  // samples of the next block that are left out
  ffmpeg::frame_ptr block_ = ffmpeg::make_frame();
  bool have_block_ = false, ended_ = false;
  ffmpeg::resampler_ptr resampler_;
  int rate_ = 0;
  double segment_time_ = 0;           // of the first sample that entered the resampler
  std::int64_t segment_samples_ = 0;  // that entered it since
  std::size_t damage_ = 0;            // packets lost before this segment
  std::vector<float> mono_, ready_;
  std::size_t taken_ = 0;    // of ready_
  std::size_t silence_ = 0;  // to be given before ready_
  std::size_t overlap_ = 0;  // of what the resampler gives next: to be dropped
  long long produced_ = 0;   // samples of the clip's clock covered by silence_, ready_ and all before
  std::size_t given_ = 0;
};

}  // namespace detail
}  // namespace l3::inline L3_ISA
