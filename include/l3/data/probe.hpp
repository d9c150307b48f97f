/// @file  include/l3/data/probe.hpp: one video -> what an index keeps of it.
#pragma once
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/data/clip_index.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/decode.hpp>
#include <l3/data/sample.hpp>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

namespace detail {

/// Where pictures are compared, in shares of the video's length: uneven, for what comes round again.
inline constexpr std::array<double, 5> pictures_compared = {0, 0.13, 0.37, 0.71, 0.97};
inline constexpr std::size_t compared_side = 32;  ///< smallest side: noise of the coding is averaged away
inline constexpr double least_motion = 1;         ///< mean difference of colours 0 to 255
inline constexpr double least_loudness = 1e-3;    ///< -60 dB of full scale

/// Largest sample of the clip's sound.
inline double loudest_sample(clip_reader const& reader) {
  auto sound = reader.sound_from_start();
  std::vector<float> block(sound_rate);
  float most = 0;
  while (auto const got = sound.read(block))
    for (float const x : std::span(block).first(got)) most = std::max(most, std::abs(x));
  return most;
}

/// Mean difference of the colours of two pictures; that of pictures of two sizes is as large as can be.
inline double difference(rgb_frame const& a, rgb_frame const& b) {
  if (a.pixels.size() != b.pixels.size()) return 255;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i)
    sum += static_cast<std::uint64_t>(std::abs(a.pixels[i] - b.pixels[i]));
  return static_cast<double>(sum) / static_cast<double>(a.pixels.size());
}

/// Largest difference of a picture to the first of those compared; looks no further once there is motion. Pictures that
/// are damaged do not count.
///
/// Errors  media_error: all are.
inline double motion_seen(clip_reader& reader) {
  auto const span = reader.facts().video;
  auto times = pictures_compared;
  for (double& t : times) t = span.begin + span.seconds() * t;
  reader.expect_frames(times);
  rgb_frame first;
  double most = 0;
  for (std::size_t k = 0; k < times.size() && most < least_motion; ++k) {
    bool const last_hope = k + 1 == times.size() && first.pixels.empty();
    try {
      auto shown = reader.frame(times[k], compared_side);
      most = std::max(most, first.pixels.empty() ? 0 : difference(first, shown));
      if (first.pixels.empty()) first = std::move(shown);
    } catch (media_error const&) {
      require_memory_left();
      if (last_hope) throw;
    }
  }
  return most;
}

}  // namespace detail

/// Size and time of change of a file; zeros where there is none.
inline void stamp_file(clip_record& r) {
  struct ::stat status {};
  if (::stat(r.video.file.c_str(), &status) != 0) return;
  r.bytes = static_cast<std::uint64_t>(status.st_size);
  r.modified = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

/// Opens a video and finds out what it is. Where `s.content` asks for it, its sound is decoded, and pictures until one
/// differs from the first. What is wrong with the file is in the record, not thrown.
inline clip_record probe_clip(clip video, index_settings const& s, decode_limits limits = {}) {
  clip_record r{.video = std::move(video)};
  stamp_file(r);
  limits.seconds = s.seconds;
  try {
    clip_reader reader(r.video.file, limits);
    r.facts = reader.facts();
    r.keys = reader.key_times();
    r.content_print = reader.content_print();
    r.mark(content_flag::no_picture, !r.facts.has_video);
    r.mark(content_flag::no_sound, !r.facts.has_sound);
    r.mark(content_flag::short_clip, r.facts.has_video && r.facts.has_sound && !r.facts.too_little().empty());
    if (s.content && r.facts.has_video) {
      r.motion = detail::motion_seen(reader);
      r.mark(content_flag::still, r.motion < detail::least_motion);
    }
    if (s.content && r.facts.has_sound) {
      r.loudest = detail::loudest_sample(reader);
      r.mark(content_flag::silent, r.loudest < detail::least_loudness);
    }
  } catch (unusable_file const& e) {
    require_memory_left();
    r.refused = e.what();
    r.not_given = dynamic_cast<file_error const*>(&e) != nullptr;
  }
  return r;
}

}  // namespace l3::inline L3_ISA
