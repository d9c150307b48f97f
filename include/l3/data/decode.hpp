/// @file  include/l3/data/decode.hpp: media file -> RGB frames (bytes) and mono sound (floats), each with its time in
/// seconds.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <l3/core/error.hpp>
#include <l3/core/fingerprint.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/ffmpeg.hpp>
#include <l3/data/image_scale.hpp>
#include <l3/data/packet_index.hpp>
#include <l3/data/sound_pass.hpp>
#include <l3/data/stream_decoder.hpp>
#include <l3/data/video_pass.hpp>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// The whole sound of a clip in order, block by block, in constant memory; from clip_reader::sound_from_start().
class sound_source {
 public:
  explicit sound_source(detail::clip_file file)
      : file_(std::make_unique<detail::clip_file>(std::move(file))), pass_(*file_) {}

  /// Fills `out` with the next samples and returns how many: fewer than out.size() only at the end of the sound, 0
  /// after it. Sample i, counted over all blocks, is at i / 48000 s of the clip's clock (zeros until the sound begins):
  /// the blocks joined are what clip_reader::sound(0, ...) gives.
  ///
  /// Errors  media_error: as clip_reader::sound.
  std::size_t read(std::span<float> out) {
    file_->in().restart_watch();
    try {
      return pass_.read(out);
    } catch (detail::strayed) {
      throw file_->changed();
    }
  }

 private:
  std::unique_ptr<detail::clip_file> file_;  // pass_ keeps its address
  detail::sound_pass pass_;
};

/// Reads pictures and sound of one media file (or one image) at any time, on one clock.
///
/// Clock   zero is the moment at which the first of the two streams begins: the earlier of the first picture that can
///         be decoded and the first sample of sound, as presented (edit lists, start offsets and priming samples
///         respected). Times nearer than a microsecond are the same.
/// Streams those that FFmpeg's av_find_best_stream prefers; cover art is no video.
/// Exact   every picture is bit for bit the one of decoding from the file's start, every sound a slice of the full
///         decode (but that AAC's noise substitution draws its noise anew: see sound()), whatever was asked before:
///         results are a function of file, limits and time.
/// Damage  what FFmpeg can decode is given; a moment whose picture is damaged or lost raises media_error; lost sound is
///         silence. A file cut short ends where its packets end.
/// Threads one reader, one thread; decoders are single-threaded, many readers may work at once.
/// Errors  file_error: missing, a directory, unreadable. media_error: empty, not media, no video or sound, over budget.
///         std::system_error: the process may open no more files.
class clip_reader {
 public:
  explicit clip_reader(std::filesystem::path file, decode_limits limits = {})
      : file_(std::move(file), limits), scale_(file_.name(), limits.max_pixels) {
    find_facts();
  }
  clip_reader(clip_reader&&) = delete;  // passes over the file keep its address

  clip_facts const& facts() const { return facts_; }

  /// Times of the pictures at which decoding can begin, in seconds on the clip's clock: the first one, and of the
  /// others those from which on all is known to come out as if decoded from the start.
  std::vector<double> key_times() const {
    std::vector<double> times;
    if (!facts_.has_video) return times;
    auto const& video = file_.index().video;
    times.push_back(facts_.video.begin);
    for (auto const entry : file_.index().entries)
      if (double const t = file_.clock(video, video.packets[entry].pts); t > times.back()) times.push_back(t);
    return times;
  }

  /// A number that files of the same content have in common: of the bytes and times of their packets in the first
  /// seconds, and of what is shown and heard of them. Where in the file these stand, its name and its tags do not
  /// count; a copy that was encoded anew, or put into a format with other time stamps, is another content. Readers with
  /// the same limit of seconds say the same. Never 0.
  std::uint64_t content_print() const {
    std::uint64_t print = fingerprint("");
    auto const mix = [&](auto value) { print = fingerprint_of_number(static_cast<std::uint64_t>(value), print); };
    for (auto const* each : {&file_.index().video, &file_.index().sound}) {
      mix(each->codec), mix(each->print);
      mix(each->time_base.num), mix(each->time_base.den);
    }
    mix(facts_.width), mix(facts_.height);
    mix(facts_.rotation), mix(facts_.sample_rate), mix(facts_.channels);
    if (facts_.has_video && !facts_.still_image)
      if (auto const turn = orientation(file_, nullptr); turn.mirrors()) mix(1);
    return std::max<std::uint64_t>(print, 1);
  }

  /// The picture on display at time t: the last one whose presentation time is no later, the first one if t lies before
  /// it, the last one if t lies after the end. RGB as displayed, its smallest side scaled to `side` (0: not scaled),
  /// the other rounded to nearest.
  ///
  /// Numbers see detail::image_scaler.
  /// Errors  media_error: no video; the picture is damaged, lost, or larger than allowed. setting_error: t is not
  /// within a billion seconds.
  rgb_frame frame(double t, std::size_t side = 0) {
    require_video();
    require_time(t);
    file_.in().restart_watch();
    try {
      return to_rgb(file_, scale_, find(t), *pass_, side);
    } catch (...) {
      pass_.reset();
      throw;
    }
  }

  /// Says which pictures will be asked for next, in rising order: then only they and what they refer to are decoded. It
  /// changes no result.
  void expect_frames(std::span<double const> times) {
    expected_.clear();
    for (double const t : times)
      if (auto const stamp = file_.expected(t)) expected_.push_back(*stamp);
    std::sort(expected_.begin(), expected_.end());
    expected_.erase(std::unique(expected_.begin(), expected_.end()), expected_.end());
    if (pass_) pass_->want(expected_);
  }

  /// `out.size()` mono samples at 48 kHz, the first at time `start` (to the nearest sample); zeros where the sound has
  /// not begun, has ended, or lies beyond the limit.
  ///
  /// Cost    where the stream allows it (AAC-LC whose time stamps count samples, as in MP4), only what is asked for and
  ///         a few packets before are decoded. Else with a limit of at most a minute the sound is decoded from its
  ///         start as far as it is needed, and kept (10 s: 2 MB). Else nothing is kept: going forward is cheap, going
  ///         back decodes from the start (use sound_from_start()).
  /// Errors  media_error: no sound; samples that are not finite, or huge. setting_error: start is not within a billion
  ///         seconds.
  void sound(double start, std::span<float> out) {
    if (!facts_.has_sound) throw media_error({file_.name(), "a sound stream", "only pictures"});
    require_time(start);
    file_.in().restart_watch();
    std::fill(out.begin(), out.end(), 0.0f);
    long long const first = std::llround(start * sound_rate);
    std::size_t const skip = std::size_t(std::clamp<long long>(-first, 0, static_cast<long long>(out.size())));
    out = out.subspan(skip);
    if (!out.empty()) copy_sound(static_cast<std::size_t>(first + static_cast<long long>(skip)), out);
  }

  /// Calls callback(k, frame) for k = 0, 1, ... with the picture on display at first + k hop seconds: `count` times, or
  /// (0) while that lies before the end of the video, at least once. One pass of its own, constant memory; the reader
  /// stays usable meanwhile.
  ///
  /// Errors  as frame(); media_error: no picture for longer than longest_pause, and no sound meanwhile. setting_error:
  ///         hop is not positive.
  template <class Callback>
  void for_each_frame(double hop, std::size_t side, Callback&& callback, double first = 0,
                      std::size_t count = 0) const {
    require_video();
    require_time(first);
    if (!(hop > 0)) throw setting_error({"hop", "seconds above 0", std::to_string(hop)});
    auto file = file_.again();
    detail::image_scaler scale(file.name(), file.limits().max_pixels);
    detail::video_pass pass(file, 0);
    detail::packet_index const& index = file.index();
    double believed = -1;
    auto const require_no_pause = [&](double from, double to) {
      if (from == believed || !(to > from + detail::longest_pause && to < facts_.video.end)) return;
      if (!file.goes_on(index.sound, from, to))
        throw media_error({file.name(), "pictures without pauses of more than an hour",
                           "none after " + std::to_string(from) + " s (refused)"});
      believed = from;
    };
    if (count == 0)  // where the scan knows them, a pause need not be waited for
      for (std::size_t k = 1; k < index.times.size(); ++k)
        require_no_pause(file.clock(index.video, index.times[k - 1]), file.clock(index.video, index.times[k]));
    rgb_frame shown;
    for (std::size_t k = 0;; ++k) {
      double const t = first + double(k) * hop;
      if (count > 0 ? k == count : k > 0 && !(t < facts_.video.end - detail::same_time)) return;
      file.in().restart_watch();
      try {
        auto const& picture = pass.at(t);
        require_no_pause(pass.time(), t);
        if (k == 0 || shown.time != pass.time()) shown = to_rgb(file, scale, picture, pass, side);
      } catch (detail::strayed) {
        throw file.changed();
      }
      callback(k, std::as_const(shown));
    }
  }

  /// The sound from the clip's start to its end or limit, decoded once and kept; sample i is at i / 48000 s. It is what
  /// sound() says, but for the noise that AAC draws anew for each part (see there). Needs has_whole_sound().
  ///
  /// Errors  as sound().
  std::span<float const> whole_sound() {
    if (!has_whole_sound())
      throw setting_error({"limit", "at most 60 s to keep all sound", std::to_string(file_.limit())});
    file_.in().restart_watch();
    while (!sound_ended_) extend_sound(sound_.max_size());
    return sound_;
  }
  /// Whether there is sound, and a limit that lets all of it be kept.
  bool has_whole_sound() const { return facts_.has_sound && file_.limit() <= 60; }

  /// Bytes of memory that the open reader holds, roughly: tables of packets, ours and the demuxer's; sound; a dozen
  /// pictures of a video decoder.
  std::size_t held_bytes() const {
    std::size_t bytes = (std::size_t{256} << 10) + sound_.capacity() * sizeof(float);
    auto const& [video, sound] = std::tie(file_.index().video, file_.index().sound);
    bytes += (video.packets.size() + sound.packets.size()) * sizeof(detail::packet_note);
    for (auto const* each : {&video, &sound})
      if (*each) bytes += 128 * ffmpeg::index_entries(file_.in().stream(each->stream));
    if (sound_file_)
      bytes += (std::size_t{256} << 10) + 128 * ffmpeg::index_entries(sound_file_->in().stream(sound.stream));
    if (pass_) {
      auto const& coded = *file_.in().stream(video.stream).codecpar;
      bytes += 12 * ffmpeg::bits_per_pixel(coded) / 8 * static_cast<std::size_t>(std::max(coded.width, 0)) *
               static_cast<std::size_t>(std::max(coded.height, 0));
    }
    return bytes;
  }

  /// The sound from the clip's start to its end (or the limit), in order; opens the file once more.
  sound_source sound_from_start() const {
    if (!facts_.has_sound) throw media_error({file_.name(), "a sound stream", "only pictures"});
    return sound_source(file_.again());
  }

 private:
  void require_video() const {
    if (!facts_.has_video) throw media_error({file_.name(), "a video stream", "only sound"});
  }
  static void require_time(double t) {
    if (!(std::abs(t) < 1e9)) throw setting_error({"time", "a moment of the clip in seconds", std::to_string(t)});
  }

  void find_facts() {
    auto const& [video, sound] = std::tie(file_.index().video, file_.index().sound);
    auto const span = [&](detail::stream_index const& s) {
      double const zero = file_.index().zero, limit = file_.limit();
      return stream_span{std::min(s.begin - zero, limit), std::min(s.end - zero, limit)};
    };
    auto& in = file_.in();
    facts_.container = in->iformat->name;
    if (facts_.has_sound = bool(sound); facts_.has_sound) {
      facts_.sound = span(sound);
      facts_.sample_rate = file_.index().sample_rate;
      facts_.channels = file_.index().channels;
      facts_.audio_codec = avcodec_get_name(in.stream(sound.stream).codecpar->codec_id);
    }
    if (facts_.has_video = bool(video); !facts_.has_video) return;
    facts_.video = span(video);
    facts_.frame_rate = detail::frame_rate(in, video.stream);
    auto const& coded = *in.stream(video.stream).codecpar;
    facts_.video_codec = avcodec_get_name(coded.codec_id);
    facts_.still_image = detail::is_still_image(in, video) && !sound;
    if (facts_.still_image) {  // an image's orientation may stand in its own data
      auto const& picture = find(0);
      describe(picture.width, picture.height, aspect(file_, &picture), orientation(file_, &picture));
    } else {
      describe(coded.width, coded.height, aspect(file_, nullptr), orientation(file_, nullptr));
    }
  }
  void describe(int width, int height, ffmpeg::rational aspect, detail::orientation turn) {
    auto const size = detail::square_pixels(width, height, aspect.num, aspect.den);
    scale_.require_size(size);
    facts_.width = turn.transpose ? size.height : size.width;
    facts_.height = turn.transpose ? size.width : size.height;
    facts_.rotation = turn.degrees();
  }

  static ffmpeg::rational aspect(detail::clip_file const& file, ffmpeg::frame const* picture) {
    // FFmpeg only reads the picture, though its parameter is not const.
    return av_guess_sample_aspect_ratio(file.in().get(), &file.in().stream(file.index().video.stream),
                                        const_cast<ffmpeg::frame*>(picture));
  }
  static detail::orientation orientation(detail::clip_file const& file, ffmpeg::frame const* picture) {
    auto const* matrix = ffmpeg::display_matrix(file.in().stream(file.index().video.stream));
    return detail::orientation::of(matrix || !picture ? matrix : ffmpeg::display_matrix(*picture));
  }
  static rgb_frame to_rgb(detail::clip_file const& file, detail::image_scaler& scale, ffmpeg::frame const& picture,
                          detail::video_pass const& pass, std::size_t side) {
    auto out = scale(picture, aspect(file, &picture), orientation(file, &picture), side);
    out.time = pass.time();
    return out;
  }

  /// The packet at which decoding for time t best begins.
  std::size_t entry_for(double t) const {
    auto const wanted = file_.expected(t);
    if (!wanted) return 0;
    auto const& packets = file_.index().video.packets;
    auto const& entries = file_.index().entries;
    auto const after = std::partition_point(entries.begin(), entries.end(),
                                            [&](std::size_t entry) { return packets[entry].pts <= *wanted; });
    return after == entries.begin() ? 0 : *std::prev(after);
  }
  /// The pictures that a pass for the one at t is to give; empty: all. Whoever asks for one picture after the other
  /// without a word before may go on so, and is better off with all.
  std::vector<std::int64_t> wanted_with(double t) {
    auto const stamp = file_.expected(t);
    auto const& coded = *file_.in().stream(file_.index().video.stream).codecpar;
    if (!stamp || !detail::stream_decoder::can_leave_out(coded)) return {};
    if (std::binary_search(expected_.begin(), expected_.end(), *stamp)) return expected_;
    if (std::exchange(asked_unexpected_, true)) return {};
    return {*stamp};
  }
  void begin_pass(std::size_t entry, std::vector<std::int64_t> wanted) {
    if (!sound_file_) sound_pass_.reset();  // the pictures take over the input
    pass_.emplace(file_, entry, std::move(wanted));
  }
  /// The decoded picture on display at t; belongs to pass_. It does not depend on earlier questions: a pass goes on
  /// only where a new one is known to give the same.
  ffmpeg::frame const& find(double t) {
    auto const entry = entry_for(t);
    bool const known = file_.expected(t).has_value();
    try {
      if (pass_ && pass_->reaches(t) && entry < pass_->position()) return pass_->at(t, known);
    } catch (detail::strayed) {
    }
    try {
      if (known) {
        begin_pass(entry, wanted_with(t));
        return pass_->at(t, true);
      }
    } catch (detail::strayed) {
    }
    return *file_.from_start([&] {
      begin_pass(0, {});
      return &pass_->at(t);
    });
  }

  void copy_sound(std::size_t first, std::span<float> out) {
    if (double(first) >= file_.limit() * sound_rate) return;
    if (auto const entry = detail::sound_pass::entry_for(file_, first)) try {
        return copy_window(*entry, out);
      } catch (detail::strayed) {  // only costs time; the next one is tried again, lest the answer depend on this one
        std::fill(out.begin(), out.end(), 0.0f);
      }
    if (file_.limit() <= 60) {
      if (sound_.size() < first + out.size() && !sound_ended_) extend_sound(first + out.size());
      if (first < sound_.size())
        std::copy_n(sound_.begin() + std::ptrdiff_t(first), std::min(out.size(), sound_.size() - first), out.begin());
      return;
    }
    if (!source_ || source_position_ > first) {
      source_.emplace(sound_from_start());
      source_position_ = 0;
    }
    try {
      std::vector<float> skipped(4096);
      while (source_position_ < first) {
        auto const got = source_->read(std::span(skipped).first(std::min(skipped.size(), first - source_position_)));
        if (got == 0) return;
        source_position_ += got;
      }
      source_position_ += source_->read(out);
    } catch (...) {
      source_.reset();  // it may stand elsewhere than source_position_ says
      throw;
    }
  }

  /// Where sound is read. Who asks more than once gets an input of its own for it, so that pictures can go on with
  /// theirs.
  detail::clip_file& sound_input() {
    if (!sound_file_ && std::exchange(asked_for_sound_, true)) sound_file_.emplace(file_.again());
    if (sound_file_) {
      sound_file_->in().restart_watch();
      return *sound_file_;
    }
    pass_.reset();
    return file_;
  }
  /// Decodes a part of the sound.
  void copy_window(detail::sound_pass::entry const& entry, std::span<float> out) {
    auto& file = sound_input();
    sound_pass_.reset();
    detail::sound_pass(file, entry).read(out);
  }

  /// Decodes the sound as far as `wanted` samples and keeps it.
  void extend_sound(std::size_t wanted) {
    auto const most = std::size_t(std::ceil(file_.limit() * sound_rate));
    wanted = std::min(wanted, most);
    if (sound_file_) sound_file_->in().restart_watch();
    auto const go_on = [&] {
      auto const before = sound_.size();
      sound_.resize(wanted);
      std::size_t got = 0;
      try {
        got = sound_pass_->read(std::span(sound_).subspan(before));
      } catch (...) {
        sound_.resize(before);
        sound_pass_.reset();
        throw;
      }
      sound_.resize(before + got);
      sound_ended_ = sound_.size() == most || before + got < wanted;
      return true;
    };
    if (sound_pass_) try {
        go_on();
        return;
      } catch (detail::strayed) {
      }
    auto& file = sound_input();
    file.from_start([&] {
      sound_.clear();
      sound_pass_.emplace(file);
      return go_on();
    });
  }

  detail::clip_file file_;
  detail::image_scaler scale_;
  clip_facts facts_;
  std::optional<detail::video_pass> pass_;
  std::vector<std::int64_t> expected_;  // time stamps, sorted
  bool asked_unexpected_ = false;
  std::vector<float> sound_;                      // 48 kHz mono from the start, as far as it was asked for
  std::optional<detail::sound_pass> sound_pass_;  // that it came from, unless something else has used the input since
  bool sound_ended_ = false;
  bool asked_for_sound_ = false;
  std::optional<detail::clip_file> sound_file_;
  std::optional<sound_source> source_;  // else: a pass that has come to source_position_
  std::size_t source_position_ = 0;
};

}  // namespace l3::inline L3_ISA
