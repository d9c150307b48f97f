/// @file  include/l3/data/clip_list.hpp: which videos there are: from a folder, a CSV or a list; and how they are
/// split.
#pragma once
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/fingerprint.hpp>
#include <l3/core/random.hpp>
#include <l3/core/text.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/csv.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// One video. Nothing is known of its content yet.
struct clip {
  std::filesystem::path file;  ///< where to open it
  std::string name;            ///< as listed: relative to the folder, or the CSV's cell; the same on every machine
  std::string label;           ///< class, or empty
};

/// Videos in an order that every machine agrees on: a draw names one by its place here.
///
/// Elements are made when asked for, since lists may be long: one costs 24 bytes beside its name, wherever its file is.
class clip_list {
 public:
  clip_list() = default;
  clip_list(std::initializer_list<clip> clips) {
    for (auto const& each : clips) push_back(each);
  }

  void push_back(clip const& c) { add(c.file.native(), c.name, c.label); }
  /// The same without an object: of a long list.
  void add(std::string_view file, std::string_view name, std::string_view label) {
    bool const inside = file.ends_with(name);  // as for all lists but made-up ones
    auto const place = places_.id(inside ? file.substr(0, file.size() - name.size()) : file);
    entries_.push_back({names_.size(), static_cast<std::uint32_t>(name.size()), place, labels_.id(label), inside});
    names_ += name;
  }

  std::size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  /// Valid as long as the list is and does not grow.
  std::string_view name(std::size_t i) const {
    return std::string_view(names_).substr(entries_[i].begin, entries_[i].length);
  }
  std::string const& label(std::size_t i) const { return labels_[entries_[i].label]; }
  std::filesystem::path file(std::size_t i) const {
    auto const& e = entries_[i];
    return e.inside ? places_[e.place] + std::string(name(i)) : places_[e.place];
  }
  clip operator[](std::size_t i) const { return {file(i), std::string(name(i)), label(i)}; }
  clip front() const { return (*this)[0]; }

  /// Walks the list; gives clips by value.
  class iterator {
   public:
    using value_type = clip;
    using difference_type = std::ptrdiff_t;
    iterator() = default;
    iterator(clip_list const& list, std::size_t at) : list_(&list), at_(at) {}
    clip operator*() const { return (*list_)[at_]; }
    iterator& operator++() {
      ++at_;
      return *this;
    }
    iterator operator++(int) { return {*list_, at_++}; }
    friend bool operator==(iterator const& a, iterator const& b) { return a.at_ == b.at_; }

   private:
    clip_list const* list_ = nullptr;
    std::size_t at_ = 0;
  };
  iterator begin() const { return {*this, 0}; }
  iterator end() const { return {*this, size()}; }

 private:
  /// Texts that many clips share, each kept once.
  class shared_texts {
   public:
    std::uint32_t id(std::string_view text) {
      if (!texts_.empty() && texts_[latest_] == text) return latest_;
      auto const [place, is_new] = ids_.try_emplace(std::string(text), static_cast<std::uint32_t>(texts_.size()));
      if (is_new) texts_.emplace_back(text);
      return latest_ = place->second;
    }
    std::string const& operator[](std::uint32_t id) const { return texts_[id]; }

   private:
    std::vector<std::string> texts_;
    std::unordered_map<std::string, std::uint32_t> ids_;
    std::uint32_t latest_ = 0;
  };

  struct entry {
    std::size_t begin;
    std::uint32_t length, place, label;
    bool inside;  ///< the file's path is the place and the name
  };

  std::string names_;
  std::vector<entry> entries_;
  shared_texts places_, labels_;
};

/// Endings, in lower case, of the files that a folder is searched for.
inline constexpr std::array<std::string_view, 29> video_extensions{
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv",   ".f4v", ".flv",  ".m2ts", ".m2v",
    ".m4v", ".mkv", ".mov", ".mp4", ".mpe",  ".mpeg", ".mpg", ".mts",  ".mxf",  ".nut",
    ".ogm", ".ogv", ".qt",  ".rm",  ".rmvb", ".ts",   ".vob", ".webm", ".wmv"};

namespace detail {

inline std::string lower_extension(std::filesystem::path const& file) {
  auto ending = file.extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return ending;
}

}  // namespace detail

/// Does the name end as video files do?
inline bool has_video_extension(std::filesystem::path const& file) {
  auto const& known = video_extensions;
  return std::find(known.begin(), known.end(), detail::lower_extension(file)) != known.end();
}

namespace detail {

/// A walk through folders.
struct folder_walk {
  std::vector<std::filesystem::path> open{};  ///< real names of the folders it is in
  std::unordered_set<std::uint64_t> seen{};   ///< fingerprints of those it was in
  std::size_t again = 0;                      ///< how often it came to one of these by another way
  std::vector<std::filesystem::path> found{};
};

/// Collects the wanted files at and below `folder`. A link back to a folder that the walk is in would never end, and
/// links from each of many folders to the next, twice, hardly ever. Hidden files and folders are passed over: other
/// systems leave `._x.mp4` behind. With `closed_too` a folder that cannot be read stands for what is in it: it, too,
/// shall be reported.
template <class Wanted>
void find_files(std::filesystem::path const& folder, Wanted const& wanted, bool closed_too, folder_walk& walk) {
  namespace fs = std::filesystem;
  auto const real = fs::canonical(folder);
  if (std::find(walk.open.begin(), walk.open.end(), real) != walk.open.end()) return;
  if (!walk.seen.insert(fingerprint(real.native())).second && ++walk.again > 10'000 + 10 * walk.seen.size())
    throw file_error(complaint{folder.string(), "few links to folders met before",
                               std::to_string(walk.again) + " to " + std::to_string(walk.seen.size()) + " folders"});
  std::error_code failed;
  fs::directory_iterator const entries(folder, failed);
  if (closed_too && !walk.open.empty() && failed == std::errc::permission_denied) return walk.found.push_back(folder);
  if (failed) throw fs::filesystem_error("folder", folder, failed);
  walk.open.push_back(real);
  for (auto const& entry : entries) {
    if (entry.path().filename().string().starts_with('.')) continue;
    std::error_code unknown;
    if (entry.status(unknown).type() == fs::file_type::directory)
      find_files(entry.path(), wanted, closed_too, walk);
    else if (wanted(entry.path()))  // a pipe or a dangling link too: it shall be reported, not lost
      walk.found.push_back(entry.path());
  }
  walk.open.pop_back();
}

}  // namespace detail

/// All files below a folder, links followed, that `wanted(path)` says yes to; with `closed_too` folders that cannot be
/// read are among them. Sorted.
///
/// Errors  file_error: a folder that cannot be read, or that links lead to again and again.
template <class Wanted>
std::vector<std::filesystem::path> files_below(std::filesystem::path const& folder, Wanted const& wanted,
                                               bool closed_too = false) {
  detail::folder_walk walk;
  try {
    detail::find_files(folder, wanted, closed_too, walk);
  } catch (std::filesystem::filesystem_error const& failure) {
    throw file_error(complaint{failure.path1().string(), "a folder that can be read", failure.code().message()});
  }
  std::sort(walk.found.begin(), walk.found.end());
  return std::move(walk.found);
}

namespace detail {

inline clip_list clips_of_folder(std::filesystem::path const& folder) {
  std::vector<clip> found;
  for (auto const& file : files_below(folder, has_video_extension, true)) {
    auto const inside = file.lexically_relative(folder);
    std::error_code unknown;
    bool const below = inside.has_parent_path() || std::filesystem::is_directory(file, unknown);  // or it is a folder
    found.push_back({file, inside.generic_string(), below ? inside.begin()->string() : ""});
  }
  std::sort(found.begin(), found.end(), [](clip const& a, clip const& b) { return a.name < b.name; });
  clip_list clips;
  for (auto const& each : found) clips.push_back(each);
  return clips;
}

inline constexpr std::size_t longest_path = 4096;  ///< bytes: Linux's PATH_MAX

inline void require_path(std::string_view path, std::string const& where) {
  if (path.size() > longest_path)
    throw format_error(complaint{where, "a path of at most " + std::to_string(longest_path) + " bytes",
                                 std::to_string(path.size()) + " bytes"});
}

inline clip_list clips_of_table(csv_table const& table, std::filesystem::path const& file) {
  auto const path = table.column("path");
  auto const label = table.column_if_any("label");
  clip_list clips;
  for (std::size_t row = 0; row != table.rows.size(); ++row) {
    auto const& cells = table.rows[row];
    if (cells[path].empty()) throw format_error(complaint{table.where(row), "the path of a video", "an empty cell"});
    require_path(cells[path], table.where(row));
    clips.push_back({file.parent_path() / cells[path], cells[path], label ? cells[*label] : std::string()});
  }
  return clips;
}

/// Calls f(line, number) for each line of a text that is not empty, numbered from 1. `subject` and `expected` are for
/// the error. Errors: format_error: a zero byte, at which a name would end.
template <class F>
void for_each_line(std::string_view text, std::string const& subject, std::string const& expected, F const& f) {
  if (auto const zero = text.find('\0'); zero != text.npos)
    throw format_error(complaint{subject, expected, "a zero byte at offset " + std::to_string(zero)});
  std::size_t number = 0;
  for (std::string_view rest = without_byte_order_mark(text); !rest.empty();) {
    auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) f(line, number);
  }
}

/// Whether a text is a table that names videos: by its name, or by a column `path`.
inline bool is_table(std::filesystem::path const& file, std::string_view text) {
  auto const extension = lower_extension(file);
  if (extension == ".csv" || extension == ".tsv") return true;
  try {
    return parse_csv(text.substr(0, text.find_first_of("\r\n")), file.string()).column_if_any("path").has_value();
  } catch (format_error const&) {  // the name of a video, with a quote, say
    return false;
  }
}

inline clip_list clips_of_file(std::filesystem::path const& file) {
  auto const text = read_stream(file, std::size_t{1} << 32);
  if (is_table(file, text)) return clips_of_table(parse_csv(text, file.string()), file);
  clip_list clips;
  for_each_line(text, file.string(), "a folder, a CSV file or a text with the path of a video in each line",
                [&](std::string_view line, std::size_t number) {
                  require_path(line, file.string() + ':' + std::to_string(number));
                  clips.push_back({file.parent_path() / line, std::string(line), {}});
                });
  return clips;
}

/// One video listed twice could be paired with itself as "two different videos".
inline void require_different(clip_list const& clips, std::filesystem::path const& source) {
  std::unordered_map<std::string, std::size_t> places;
  places.reserve(clips.size());
  auto const here = std::filesystem::current_path();
  for (std::size_t i = 0; i != clips.size(); ++i) {
    auto const [earlier, is_new] = places.emplace((here / clips.file(i)).lexically_normal().string(), i);
    if (!is_new)
      throw format_error(complaint{source.string(), "each video once",
                                   excerpt(clips.name(earlier->second)) + " as entry " +
                                       std::to_string(earlier->second + 1) + " and " + excerpt(clips.name(i)) +
                                       " as entry " + std::to_string(i + 1)});
  }
}

}  // namespace detail

/// Reads which videos there are; opens none of them.
///
/// - A folder: every file below it with a video's ending, links followed, sorted by name; the label is the name of the
///   first sub-folder, if any. A sub-folder that cannot be read is listed, too, and refused by who opens it.
/// - A table, which ends in `.csv` or `.tsv` or has a column `path`: that column, and `label` if there is one. Paths
///   are relative to the table's folder.
/// - Any other file: a text with one path in each line, relative to its folder; empty lines do not count.
///
/// Errors  file_error: nothing there, or it cannot be read. format_error: no column `path`, an empty path, a video
///         twice, fewer than `least` videos (the task needs the frame of one with the sound of another).
inline clip_list read_clips(std::filesystem::path const& source, std::size_t least = 2) {
  std::error_code failure;
  auto const type = std::filesystem::status(source, failure).type();
  if (type == std::filesystem::file_type::not_found || type == std::filesystem::file_type::none)
    throw file_error(complaint{source.string(), "a folder, a CSV file or a list of videos", failure.message()});
  bool const is_folder = type == std::filesystem::file_type::directory;
  if (!is_folder && has_video_extension(source))
    throw format_error(
        complaint{source.string(), "a folder, a CSV file or a list of at least two videos", "one video"});
  auto clips = is_folder ? detail::clips_of_folder(source) : detail::clips_of_file(source);
  detail::require_different(clips, source);
  if (clips.size() < least)
    throw format_error(complaint{
        source.string(),
        least == 1 ? "at least one video"
                   : "at least two videos, for each frame is also paired with the sound of another video",
        clips.empty()
            ? std::string("none") + (is_folder ? " (no file below it ends like a video: .mp4, .mkv, ...)" : "")
            : "only " + detail::excerpt(clips.front().name)});
  return clips;
}

/// Shares of a list; their sum is 1.
struct split_fractions {
  double train = 0.8;
  double valid = 0.1;
  double test = 0.1;
};

/// A list in three parts; every clip is in exactly one, in the order of the list.
struct clip_split {
  clip_list train, valid, test;
};

/// A number in [0, 1) that depends on the seed and the name alone: the name's fingerprint names a random number.
inline double split_position(std::string_view name, std::uint64_t seed) {
  std::uint64_t const hash = fingerprint(name);
  return generator(seed, stream::split, hash & 0xFFFFFFFFFFFFFF, static_cast<std::uint32_t>(hash >> 56)).uniform();
}

/// Splits by file. Where a clip goes depends on the seed, the fractions and its own name alone: clips that are added or
/// taken away move no other. Shares are therefore expected sizes, not exact ones.
///
/// Errors  setting_error: a negative fraction, or a sum that is not 1.
inline clip_split split_clips(clip_list const& clips, std::uint64_t seed, split_fractions shares = {}) {
  double const sum = shares.train + shares.valid + shares.test;
  if (!(shares.train >= 0 && shares.valid >= 0 && shares.test >= 0 && std::abs(sum - 1) < 1e-9))
    throw setting_error(complaint{
        "split fractions", "three numbers >= 0 with sum 1",
        std::to_string(shares.train) + ", " + std::to_string(shares.valid) + ", " + std::to_string(shares.test)});
  clip_split parts;
  for (auto const& each : clips) {
    double const position = split_position(each.name, seed);
    (position < shares.test                  ? parts.test
     : position < shares.test + shares.valid ? parts.valid
                                             : parts.train)
        .push_back(each);
  }
  return parts;
}

}  // namespace l3::inline L3_ISA
