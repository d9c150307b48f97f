/// @file  include/l3/data/collection.hpp: videos as a user names them: a folder, a CSV, a list, an index or a packed
/// collection.
///
/// Programs that include this header link SQLite 3 and libturbojpeg.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/fingerprint.hpp>
#include <l3/data/clip_index.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/packed_clips.hpp>
#include <l3/files/sqlite.hpp>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace l3::inline L3_ISA {

/// Which videos there are, and whether they are packed.
struct collection {
  clip_list clips;                     ///< those that can be drawn from, as far as known
  std::optional<packed_clips> packed;  ///< where they are: a loader takes it instead of the list
  std::filesystem::path index;         ///< what knows more of them; empty where there is none
};

/// Reads which videos there are; opens none of them.
///
/// - The folder (or the index) of a packed collection;
/// - an index: its usable videos;
/// - anything else as read_clips takes it.
///
/// Errors  as those of read_clips, clip_index and packed_clips; format_error: fewer than two usable videos, or a
/// packing that has not ended.
inline collection open_collection(std::filesystem::path const& source) {
  collection c;
  if (packed_clips::is_packed(source)) {
    c.packed.emplace(source);
    c.clips = c.packed->clips();
    c.index = packed_clips::index_of(source);
  } else if (is_sql_database(source)) {
    c.clips = clip_index(source).usable();
    c.index = source;
  } else {
    try {
      return {read_clips(source), std::nullopt, {}};
    } catch (format_error const&) {
      std::error_code unknown;
      if (!std::filesystem::exists(source / detail::packing_index_name, unknown)) throw;
      throw format_error(complaint{source.string(), "videos, or a packed folder",
                                   "a packing that has not ended (the same l3 pack goes on with it)"});
    }
  }
  if (c.clips.size() < 2)
    throw format_error(complaint{source.string(), "at least two usable videos", std::to_string(c.clips.size())});
  return c;
}

/// A number for each video's file, whichever links lead to it; of what is packed, to its folder. Opens no video.
inline std::vector<std::uint64_t> prints_of_files(collection const& of) {
  clip_list const& clips = of.clips;
  std::vector<std::uint64_t> prints;
  prints.reserve(clips.size());
  std::unordered_map<std::string, std::uint64_t> folders;
  for (std::size_t i = 0; i != clips.size(); ++i) {
    auto file = clips.file(i);
    if (std::error_code unknown; !of.packed && std::filesystem::is_symlink(file, unknown))
      file = detail::real_path(file);
    auto const [folder, is_new] = folders.try_emplace(file.parent_path().native());
    if (is_new) folder->second = fingerprint(detail::real_folder(folder->first).native());
    prints.push_back(fingerprint(file.filename().native(), folder->second));
  }
  return prints;
}

/// Places of the videos that a collection has before, too, by another name: links. `prints`: see prints_of_files.
inline std::vector<std::size_t> videos_listed_twice(collection const& of, std::span<std::uint64_t const> prints) {
  std::vector<std::size_t> again;
  std::unordered_set<std::uint64_t> seen;
  std::error_code unknown;
  for (std::size_t i = 0; std::uint64_t const print : prints) {
    if (!seen.insert(print).second && std::filesystem::exists(of.clips.file(i), unknown)) again.push_back(i);
    ++i;
  }
  return again;
}

/// Places in `b` of the videos that `a` has too: the same file, or, where both are indexed or packed, with the same
/// limit of seconds, the same content (clip_reader::content_print). Opens no video. `of_a`, `of_b`: see
/// prints_of_files.
inline std::vector<std::size_t> videos_of_both(collection const& a, std::span<std::uint64_t const> of_a,
                                               collection const& b, std::span<std::uint64_t const> of_b) {
  std::vector<bool> found(b.clips.size());
  auto const find = [&](std::span<std::uint64_t const> first, std::span<std::uint64_t const> second) {
    std::vector<std::uint64_t> known(first.begin(), first.end());
    std::sort(known.begin(), known.end());
    for (std::size_t i = 0; i != std::min(found.size(), second.size()); ++i)
      if (second[i] != 0 && std::binary_search(known.begin(), known.end(), second[i])) found[i] = true;
  };
  find(of_a, of_b);
  std::error_code unknown;
  for (std::size_t i = 0; i != found.size(); ++i)  // what a moved index names is no file any more
    if (found[i] && !std::filesystem::exists(b.clips.file(i), unknown)) found[i] = false;
  if (!a.index.empty() && !b.index.empty())
    if (clip_index first(a.index), second(b.index); first.settings().probes == second.settings().probes)
      find(first.content_prints(), second.content_prints());
  std::vector<std::size_t> both;
  for (std::size_t i = 0; i != found.size(); ++i)
    if (found[i]) both.push_back(i);
  return both;
}
inline std::vector<std::size_t> videos_of_both(collection const& a, collection const& b) {
  return videos_of_both(a, prints_of_files(a), b, prints_of_files(b));
}

}  // namespace l3::inline L3_ISA
