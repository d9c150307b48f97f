/// @file  include/l3/data/video_pass.hpp: the picture on display at a time, going forward through a clip.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/error.hpp>
#include <l3/data/ffmpeg.hpp>
#include <l3/data/packet_index.hpp>
#include <l3/data/stream_decoder.hpp>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA::detail {

/// Decodes pictures from packet `first` on and finds, for rising times, the one on display.
///
/// From the start (first = 0), with all pictures, that is the truth by definition. Otherwise it is the same or
/// `strayed` is thrown: the packets must be the scan's, an entry must come out as a key frame at its own time, times
/// must rise, nothing may be damaged, and the picture found must be the one that the scan expects.
class video_pass {
 public:
  /// `wanted`: see stream_decoder.
  video_pass(clip_file& file, std::size_t first, std::vector<std::int64_t> wanted = {})
      : file_(&file),
        first_(first),
        all_(wanted.empty()),
        decoder_(file, file.index().video, first, std::move(wanted)) {}

  /// The last picture whose time is no later than `t`, or the first of all; pictures from the clip's limit on do not
  /// count. Needs reaches(t).
  ///
  /// A pass that goes on from an earlier question may be asked for what is `sure`: the answer that a new one would
  /// give. Where pictures came out of order, or the expected one did not come, it might be another.
  ///
  /// Errors  media_error: the picture is damaged or lost, or there is none. strayed: see above.
  ffmpeg::frame const& at(double t, bool sure = false) {
    auto const wanted = file_->expected(t);
    while (!(shown_ > 0 && wanted && stamp_of(*now_) == *wanted)) {
      if (!have_next_ && !ended_) ended_ = !(have_next_ = decode());
      if (!have_next_ || (shown_ > 0 && !file_->is_by(next_time_, t))) break;
      std::swap(now_, next_);
      in_order_ = in_order_ && (shown_ == 0 || next_time_ > now_time_);
      now_time_ = next_time_;
      latest_time_ = shown_ == 0 ? now_time_ : std::max(latest_time_, now_time_);
      have_next_ = false;
      ++shown_;
    }
    bool const found = shown_ > 0 && stamp_of(*now_) == wanted.value_or(AV_NOPTS_VALUE);
    bool const intact = decoder_.damage().empty() && !ffmpeg::is_damaged(*now_);
    if (first_ > 0 || !all_ ? !(found && intact) : sure && !(found && in_order_)) throw strayed{};
    require_undamaged(t);
    return *now_;
  }
  /// Asks for more pictures: see stream_decoder.
  void want(std::vector<std::int64_t> const& more) { decoder_.want(more); }
  /// Presentation time of the picture found last, on the clip's clock.
  double time() const { return now_time_; }
  /// Whether at(t) needs no way back.
  bool reaches(double t) const {
    if (!all_ && !decoder_.gives(file_->expected(t).value_or(AV_NOPTS_VALUE))) return false;
    return t >= latest_time_ - same_time || (first_ == 0 && shown_ <= 1);
  }
  /// Packets decoded so far end before this one.
  std::size_t position() const { return decoder_.position(); }

 private:
  /// A picture's own time stamp, where the scan knows them all: FFmpeg's best guess depends on those that came before.
  std::int64_t stamp_of(ffmpeg::frame const& f) const {
    return file_->index().times.empty() || f.pts == AV_NOPTS_VALUE ? f.best_effort_timestamp : f.pts;
  }

  /// Next picture into next_; false at the end.
  bool decode() {
    auto const& video = file_->index().video;
    do {
      if (!decoder_.next(*next_)) return false;
      auto const stamp = stamp_of(*next_);
      double const follows = shown_ > 0 ? now_time_ + 1 / frame_rate(file_->in(), video.stream) : 0;
      next_time_ = stamp != AV_NOPTS_VALUE ? file_->clock(video, stamp) : follows;
    } while (first_ > 0 && !entered(stamp_of(*next_)));
    return true;
  }
  /// Whether the picture in next_ is the entry's or a later one; those that lead it are not ours to give.
  bool entered(std::int64_t stamp) {
    auto const entry = file_->index().video.packets[first_].pts;
    if (!decoder_.damage().empty() || ffmpeg::is_damaged(*next_)) throw strayed{};
    if (shown_ == 0 && stamp < entry) return false;
    bool const expected = shown_ > 0 ? next_time_ > now_time_ : stamp == entry && ffmpeg::is_key(*next_);
    if (!expected) throw strayed{};
    return true;
  }

  void require_undamaged(double t) const {
    std::string const expected = "a picture that can be decoded at " + std::to_string(t) + " s";
    if (shown_ == 0)
      throw media_error(
          {file_->name(), expected,
           "none in the whole stream: damage, or more than " + std::to_string(file_->limits().max_pixels) + " pixels"});
    bool damaged = ffmpeg::is_damaged(*now_);
    for (double lost : decoder_.damage()) damaged |= lost > now_time_ + same_time && file_->is_by(lost, t);
    if (damaged) throw media_error({file_->name(), expected, "a damaged one"});
  }

  clip_file* file_;
  std::size_t first_;
  bool all_;
  stream_decoder decoder_;
  ffmpeg::frame_ptr now_ = ffmpeg::make_frame(), next_ = ffmpeg::make_frame();
  double now_time_ = 0, next_time_ = 0;
  double latest_time_ = 0;  // of all shown
  std::size_t shown_ = 0;
  bool have_next_ = false, ended_ = false, in_order_ = true;
};

}  // namespace l3::inline L3_ISA::detail
