/// @file  include/l3/data/clip_facts.hpp: what is known of a clip, and what reading it may cost; knows nothing of
/// FFmpeg.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <optional>
#include <string>

namespace l3::inline L3_ISA {

inline constexpr int sound_rate = 48000;  ///< samples per second of all sound that l3 reads
/// The length of the sound that goes with a frame, in seconds. No clip with less common time can be drawn from.
inline constexpr double sound_seconds = 1;

/// What one file may cost. Packets, frames and bytes are counted, so they refuse the same files everywhere; the
/// watchdog depends on the machine. A pass is one walk through the file: the scan when it is opened, one decode of its
/// sound, ...
struct decode_limits {
  double seconds = 10.0;                          ///< only the first this many seconds of the clip are used; 0 = all
  std::uint64_t packets = 4'000'000;              ///< packets in one pass
  std::uint64_t frames = 8'000'000;               ///< decoded pictures or blocks of sound in one pass
  std::uint64_t bytes = std::uint64_t{64} << 30;  ///< bytes of packets in one pass
  double wall_seconds = 60;  ///< watchdog: longest time one request (or step of a pass) may take; of
                             ///< files without a limit of seconds: one packet
  std::size_t max_pixels = std::size_t{1} << 26;  ///< width x height of a picture, coded or displayed
};

/// A half-open stretch of time, in seconds on the clip's clock.
struct stream_span {
  double begin = 0, end = 0;
  double seconds() const { return end - begin; }
};

/// What a clip is. Spans are what the packets of the first seconds say, not what the header claims; only one picture at
/// most and one block of sound have been decoded for them.
struct clip_facts {
  bool has_video = false, has_sound = false;
  stream_span video, sound;                         ///< on the clip's clock, no further than the limit
  std::size_t width = 0, height = 0;                ///< as displayed
  double frame_rate = 0;                            ///< nominal pictures per second; real times may vary
  int sample_rate = 0, channels = 0;                ///< of the file; what is read is always 48 kHz mono
  std::string container, video_codec, audio_codec;  ///< FFmpeg's names; empty where there is none
  int rotation = 0;          ///< degrees clockwise by which pictures are turned for display (done already)
  bool still_image = false;  ///< an image file: one picture, whatever the time

  /// [T0, T1]: where picture and sound both are.
  std::optional<stream_span> both() const {
    stream_span const s{std::max(video.begin, sound.begin), std::min(video.end, sound.end)};
    return has_video && has_sound && s.begin < s.end ? std::optional(s) : std::nullopt;
  }

  /// What it has too little of to draw from it, beside what_a_draw_needs: "no sound"; empty where it can be drawn from.
  std::string too_little() const {
    if (!has_video || !has_sound) return has_video ? "no sound" : has_sound ? "no pictures" : "neither";
    auto const s = both();
    return s && s->seconds() >= sound_seconds ? "" : std::to_string(s ? s->seconds() : 0) + " s";
  }
  static constexpr char const* what_a_draw_needs = "at least one second with both picture and sound";
};

}  // namespace l3::inline L3_ISA
