/// @file  include/l3/data/video_pass.hpp: the picture on display at a time, going forward through a clip.
#pragma once
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
/// From the start (first = 0) that is the truth by definition. From an entry point it is the same or `strayed` is
/// thrown: the packets must be the scan's, the entry must come out as a key frame at its own time, times must rise,
/// nothing may be damaged, and the picture found must be the one that the scan expects. So it must where not all
/// pictures are wanted.
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
  /// Errors  media_error: the picture is damaged or lost, or there is none. strayed: see above.
  ffmpeg::frame const& at(double t) {
    auto const wanted = file_->expected(t);
    while (!(shown_ > 0 && wanted && now_->best_effort_timestamp == *wanted)) {
      if (!have_next_ && !ended_) ended_ = !(have_next_ = decode());
      if (!have_next_ || (shown_ > 0 && !file_->is_by(next_time_, t))) break;
      std::swap(now_, next_);
      now_time_ = next_time_;
      have_next_ = false;
      ++shown_;
    }
    if ((first_ > 0 || !all_) && (shown_ == 0 || now_->best_effort_timestamp != wanted.value_or(AV_NOPTS_VALUE)))
      throw strayed{};
    require_undamaged(t);
    return *now_;
  }
  /// Presentation time of the picture found last, on the clip's clock.
  double time() const { return now_time_; }
  /// Whether at(t) needs no way back.
  bool reaches(double t) const {
    if (!all_ && !decoder_.gives(file_->expected(t).value_or(AV_NOPTS_VALUE))) return false;
    return t >= now_time_ - same_time || (first_ == 0 && shown_ <= 1);
  }
  /// Packets decoded so far end before this one.
  std::size_t position() const { return decoder_.position(); }

 private:
  /// Next picture into next_; false at the end.
  bool decode() {
    auto const& video = file_->index().video;
    do {
      if (!decoder_.next(*next_)) return false;
      auto const stamp = next_->best_effort_timestamp;
      double const follows = shown_ > 0 ? now_time_ + 1 / frame_rate(file_->in(), video.stream) : 0;
      next_time_ = stamp != AV_NOPTS_VALUE ? file_->clock(video, stamp) : follows;
    } while (first_ > 0 && !entered(next_->best_effort_timestamp));
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
    if (shown_ == 0) throw media_error({file_->name(), expected, "none in the whole stream"});
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
  std::size_t shown_ = 0;
  bool have_next_ = false, ended_ = false;
};

}  // namespace l3::inline L3_ISA::detail
