/// @file  include/l3/data/stream_decoder.hpp: one stream of a scanned clip, decoded from its start or an entry point.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/data/ffmpeg.hpp>
#include <l3/data/packet_index.hpp>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA::detail {

/// A seek, or what was decoded after it, cannot be shown to equal decoding from the start. Never leaves l3.
struct strayed {};

/// A file with its scan. Passes take turns at its one open input; `again()` opens the file once more.
class clip_file {
 public:
  clip_file(std::filesystem::path path, decode_limits const& limits)
      : path_(std::move(path)), limits_(limits), in_(open()) {
    index_ = std::make_shared<packet_index>(packet_scan(*in_, limits_).run());
    at_start_ = false;
  }
  clip_file again() const { return clip_file(path_, limits_, index_); }

  ffmpeg::input& in() const { return *in_; }
  packet_index const& index() const { return *index_; }
  decode_limits const& limits() const { return limits_; }
  std::string const& name() const { return in_->name(); }

  /// Time of the clip's end: the limit, or infinity.
  double limit() const { return limits_.seconds > 0 ? limits_.seconds : std::numeric_limits<double>::infinity(); }
  double clock(stream_index const& s, std::int64_t time_stamp) const { return s.seconds(time_stamp) - index_->zero; }

  /// Runs `pass()`, which begins at packet 0, from the file's start: first after seeking there, then, if that strayed,
  /// with the file opened anew.
  template <class Pass>
  auto from_start(Pass pass) {
    try {
      return pass();
    } catch (strayed) {
      in_ = open();
    }
    try {
      return pass();
    } catch (strayed) {
      throw changed();
    }
  }
  media_error changed() const {
    return media_error(
        {path_.string(), "the packets found when the file was opened", "others: it changed while being read"});
  }

  /// Whether a picture's time counts as no later than t, and as inside the limit.
  bool is_by(double picture, double t) const { return picture <= t + same_time && picture < limit() - same_time; }

  /// Whether a stream has packets between two times, more than a second from either.
  bool goes_on(stream_index const& s, double from, double to) const {
    return std::any_of(s.packets.begin(), s.packets.end(), [&](packet_note const& p) {
      return p.pts != AV_NOPTS_VALUE && clock(s, p.pts) > from + 1 && clock(s, p.pts) < to - 1;
    });
  }

  /// Time stamp of the picture on display at t, where the scan knows it.
  std::optional<std::int64_t> expected(double t) const {
    auto const& times = index_->times;
    auto const after = std::partition_point(times.begin(), times.end(),
                                            [&](std::int64_t stamp) { return is_by(clock(index_->video, stamp), t); });
    return after == times.begin() ? std::nullopt : std::optional(*std::prev(after));
  }

  /// Lets the demuxer give only this stream, from a packet of it on; it may give packets before that one first.
  void position(stream_index const& s, std::size_t packet) {
    for (auto const* each : {&index_->video, &index_->sound})
      if (*each) in_->stream(each->stream).discard = each->stream == s.stream ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    if (packet == 0 && std::exchange(at_start_, false)) return;
    at_start_ = false;
    auto const to = s.packets[packet].seek;
    if (!in_->seek(s.stream, to != AV_NOPTS_VALUE ? to : 0)) throw strayed{};
  }

 private:
  clip_file(std::filesystem::path path, decode_limits const& limits, std::shared_ptr<packet_index const> index)
      : path_(std::move(path)), limits_(limits), index_(std::move(index)), in_(open()) {}

  std::unique_ptr<ffmpeg::input> open() {
    at_start_ = true;
    auto in = std::make_unique<ffmpeg::input>(path_, limits_.wall_seconds, limits_.max_pixels);
    if (limits_.seconds <= 0) in->be_patient();
    if (index_)
      for (auto const* each : {&index_->video, &index_->sound})
        if (*each && !in->has_stream(each->stream, each->codec, each->time_base)) throw changed();
    return in;
  }

  std::filesystem::path path_;
  decode_limits limits_;
  std::shared_ptr<packet_index const> index_;
  bool at_start_ = false;
  std::unique_ptr<ffmpeg::input> in_;
};

/// Decodes the scanned packets of one stream in file order. It checks that the demuxer gives the very packets of the
/// scan, so after a seek the decoder gets what it would have got without.
///
/// Errors  strayed: other packets came. media_error: the frame budget is spent, the watchdog struck.
class stream_decoder {
 public:
  /// `wanted`, if not empty: sorted time stamps of the only pictures that are asked for. Of the others those may be
  /// missing that no picture refers to: the wanted ones are the same without them.
  stream_decoder(clip_file& file, stream_index const& stream, std::size_t first, std::vector<std::int64_t> wanted = {})
      : file_(&file), stream_(&stream), next_(first), packet_(ffmpeg::make_packet()), wanted_(std::move(wanted)) {
    file.position(stream, first);
    ffmpeg::options settings;
    if (int const build = first > 0 ? stream.packets[first].x264 : -1; build >= 0)
      settings.set("x264_build", std::to_string(build).c_str());
    // Where not everything is decoded from the start, damage is to be noticed at once, not patched up: what it would be
    // patched up with may be missing. And that a JPEG is cut, FFmpeg says no other way.
    bool const strict = first > 0 || !wanted_.empty();
    bool const is_jpeg = stream.codec == AV_CODEC_ID_MJPEG && is_still_image(file.in(), stream);
    if (strict || is_jpeg) settings.set("err_detect", "explode");
    try {
      decoder_ = file.in().decoder(stream.stream, &settings, first == 0);
    } catch (media_error const&) {  // its settings, too, may be damaged
      if (strict) throw strayed{};
      throw;
    }
    skips_ = first;
  }

  /// The next frame in order of presentation; false at the end of the stream.
  bool next(ffmpeg::frame& to) {
    for (;;) {
      file_->in().check_watch();
      int const code = avcodec_receive_frame(decoder_.get(), &to);
      if (code == AVERROR_EOF) return false;
      if (code != AVERROR(EAGAIN)) count_frame();
      if (code >= 0) return true;
      if (code != AVERROR(EAGAIN)) note_damage(code);
      if (code == AVERROR(EAGAIN) || !draining_) feed();
    }
  }

  /// Packets given to the decoder so far end before this one.
  std::size_t position() const { return next_; }
  /// Asks for more pictures, sorted; those whose packets have gone by are not taken up.
  void want(std::vector<std::int64_t> const& more) {
    if (wanted_.empty()) return;
    auto const ahead = std::span(stream_->packets).subspan(next_);
    for (auto const stamp : more)
      if (!gives(stamp) &&
          std::any_of(ahead.begin(), ahead.end(), [&](packet_note const& p) { return p.pts == stamp; }))
        wanted_.insert(std::upper_bound(wanted_.begin(), wanted_.end(), stamp), stamp);
  }
  /// Whether the picture with this time stamp is not left out.
  bool gives(std::int64_t stamp) const {
    return wanted_.empty() || std::binary_search(wanted_.begin(), wanted_.end(), stamp);
  }
  /// Whether pictures of a stream can be left out as `wanted` says: in H.264 each says whether others refer to it. Of
  /// two fields, one may be referred to and the other not.
  static bool can_leave_out(ffmpeg::codec_parameters const& p) {
    return p.codec_id == AV_CODEC_ID_H264 && p.field_order == AV_FIELD_PROGRESSIVE;
  }

  /// Whether what was decoded last was AAC-LC.
  bool gives_aac_lc() const { return ffmpeg::is_aac_lc(*decoder_); }
  /// Times, on the clip's clock, of packets that the decoder refused.
  std::vector<double> const& damage() const { return damage_; }

 private:
  void feed() {
    bool const more = next_ < stream_->packets.size();
    draining_ = !more;
    if (more) read();
    decoder_->skip_frame = more && !gives(packet_->pts) ? AVDISCARD_NONREF : AVDISCARD_DEFAULT;
    int const code = avcodec_send_packet(decoder_.get(), more ? packet_.get() : nullptr);
    if (code < 0 && code != AVERROR(EAGAIN) && code != AVERROR_EOF) note_damage(code);
    ffmpeg::last_message().clear();
  }
  /// The packet that the scan has at next_; before it only packets skipped on the way from a seek's landing.
  void read() {
    auto const wanted = stream_->packets[next_].digest;
    for (;; --skips_) {
      do {
        if (!file_->in().read(*packet_)) throw strayed{};
      } while (packet_->stream_index != stream_->stream);
      auto found = digest(*packet_);
      if (file_->index().digests_bytes) found = digest_of_bytes(*packet_, found);
      if (found == wanted) break;
      if (skips_ == 0) throw strayed{};
    }
    skips_ = 0;
    ++next_;
  }
  void note_damage(int code) {
    if (code == AVERROR(ENOMEM)) require_memory_left();
    if (next_ == 0) return;
    if (auto const pts = stream_->packets[next_ - 1].pts; pts != AV_NOPTS_VALUE)
      damage_.push_back(file_->clock(*stream_, pts));
  }
  void count_frame() {
    if (++frames_ <= file_->limits().frames) return;
    throw media_error(
        {file_->name(), "at most " + std::to_string(file_->limits().frames) + " frames", "more (refused)"});
  }

  clip_file* file_;
  stream_index const* stream_;
  std::size_t next_, skips_;
  std::uint64_t frames_ = 0;
  bool draining_ = false;
  ffmpeg::packet_ptr packet_;
  ffmpeg::codec_ptr decoder_;
  std::vector<std::int64_t> wanted_;
  std::vector<double> damage_;
};

}  // namespace l3::inline L3_ISA::detail
