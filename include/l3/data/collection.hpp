/// @file  include/l3/data/collection.hpp: videos as a user names them: a folder, a CSV, a list, an index or a packed
/// collection.
///
/// Programs that include this header link SQLite 3 and libturbojpeg.
#pragma once
#include <filesystem>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/data/clip_index.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/packed_clips.hpp>
#include <l3/files/sqlite.hpp>
#include <optional>
#include <string>

namespace l3::inline L3_ISA {

/// Which videos there are, and whether they are packed.
struct collection {
  clip_list clips;                     ///< those that can be drawn from, as far as known
  std::optional<packed_clips> packed;  ///< where they are: a loader takes it instead of the list
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
  } else if (is_sql_database(source)) {
    c.clips = clip_index(source).usable();
  } else {
    try {
      return {read_clips(source), std::nullopt};
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

}  // namespace l3::inline L3_ISA
