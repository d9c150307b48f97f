/// @file  examples/l3/index_summary.hpp: what an index says about its videos, all together.
#pragma once
#include <array>
#include <l3/data/clip_index.hpp>
#include <string>

#include "program.hpp"

namespace l3::program {

/// Counts over the videos of an index.
struct index_summary {
  std::size_t clips = 0, usable = 0, refused = 0;
  std::array<std::size_t, content_flag_names.size()> flagged{};  ///< of those that are not refused
  std::uint64_t bytes = 0;
  // Of those that are usable:
  double seconds = 0, seconds_of_pictures = 0;  ///< the first: of picture and sound
  std::size_t keys = 0;

  /// `drop` says which flags are not wanted.
  void add(clip_record const& r, std::uint32_t drop) {
    ++clips;
    bytes += r.bytes;
    refused += r.refused.empty() ? 0 : 1;
    if (!r.refused.empty()) return;
    for (std::size_t k = 0; k < flagged.size(); ++k) flagged[k] += r.has(content_flag_names[k].first) ? 1 : 0;
    if (!r.usable(drop)) return;
    ++usable;
    if (auto const both = r.facts.both()) seconds += both->seconds();
    seconds_of_pictures += r.facts.video.seconds();
    keys += r.keys.size();
  }

  double key_frame_every() const { return keys > 0 ? seconds_of_pictures / static_cast<double>(keys) : 0; }

  std::string sentence(std::uint32_t drop) const {
    std::string flags;
    for (std::size_t k = 0; k < flagged.size(); ++k) {
      auto const& [flag, name] = content_flag_names[k];
      bool const dropped = ((drop | unusable_flags) & static_cast<std::uint32_t>(flag)) != 0;
      if (flagged[k] > 0)
        flags += text(", %zu %s (%s)", flagged[k], std::string(name).c_str(), dropped ? "left out" : "kept");
    }
    return text("%zu videos: %zu usable, %zu refused%s; %s of picture and sound, a key frame every %.1f s", clips,
                usable, refused, flags.c_str(), short_time(seconds).c_str(), key_frame_every());
  }

  json document() const {
    json flags;
    for (std::size_t k = 0; k < flagged.size(); ++k) flags[std::string(content_flag_names[k].second)] = flagged[k];
    return {{"videos", clips},
            {"usable", usable},
            {"refused", refused},
            {"flagged", flags},
            {"bytes", bytes},
            {"seconds", seconds},
            {"key_frame_every_s", key_frame_every()}};
  }
};

}  // namespace l3::program
