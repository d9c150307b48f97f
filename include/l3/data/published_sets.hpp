/// @file  include/l3/data/published_sets.hpp: lists of published data sets, and which of their videos are here.
#pragma once
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <iterator>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/random.hpp>
#include <l3/core/text.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/csv.hpp>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// Data sets whose own lists l3 reads.
inline constexpr std::array<std::string_view, 4> published_sets{"flickr-soundnet", "kinetics-sounds", "audioset",
                                                                "vggsound"};

/// Classes of Kinetics that are generally taken for Kinetics-Sounds: those of "Look, Listen and Learn" as far as they
/// are published, by Kinetics's present names. The paper's list has 34.
inline constexpr std::array<std::string_view, 33> kinetics_sounds_classes{
    "blowing nose",      "blowing out candles",  "bowling",
    "chopping wood",     "dribbling basketball", "finger snapping",
    "laughing",          "mowing lawn",          "playing accordion",
    "playing bagpipes",  "playing bass guitar",  "playing clarinet",
    "playing drums",     "playing guitar",       "playing harmonica",
    "playing keyboard",  "playing organ",        "playing piano",
    "playing saxophone", "playing trombone",     "playing trumpet",
    "playing violin",    "playing xylophone",    "ripping paper",
    "shoveling snow",    "shuffling cards",      "singing",
    "stomping grapes",   "strumming guitar",     "tap dancing",
    "tapping guitar",    "tapping pen",          "tickling"};

/// Which part of which set.
struct set_request {
  std::string set{};                ///< one of published_sets
  std::filesystem::path list{};     ///< the set's own list
  std::filesystem::path videos{};   ///< folder at and below which the files are
  std::string split = "all";        ///< all, train, valid or test
  std::filesystem::path classes{};  ///< kinetics-sounds: a file with a class in each line; none: those above
  std::size_t subset = 0;           ///< flickr-soundnet: so many of the list, at random; 0: all
  std::uint64_t seed = 0;           ///< flickr-soundnet: which subset, and which split
};

/// What of it is here.
struct set_listing {
  clip_list clips{};                   ///< in the list's order; names are relative to the folder
  std::size_t listed = 0;              ///< entries of the list that belong to the request
  std::vector<std::string> missing{};  ///< names, without an ending, of those that have no file
  std::vector<std::string> unheard{};  ///< wanted classes that do not occur in the list: renamed since?
};

namespace detail {

/// Videos by their names without the ending; of two of a name the first.
using video_files_by_name = std::unordered_map<std::string, std::filesystem::path>;

/// An entry of a list.
struct set_entry {
  std::string name;                   ///< that its file usually has, without the ending
  std::filesystem::path const* file;  ///< or null
  std::string label, split;
};

/// An entry whose file may have one of these names, the usual one first.
inline set_entry entry_of(video_files_by_name const& files, std::initializer_list<std::string> names,
                          std::string label = {}, std::string split = {}) {
  set_entry entry{*names.begin(), nullptr, std::move(label), std::move(split)};
  for (auto name = names.begin(); name != names.end() && !entry.file; ++name)
    if (auto const found = files.find(*name); found != files.end()) entry.file = &found->second;
  return entry;
}

inline std::string trimmed(std::string_view text) {
  auto const blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '"'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return std::string(text);
}

/// "<id>_000030_000040"
inline std::string stem_of(std::string const& id, long begin, long end = -1) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "_%06ld", begin);
  std::string stem = id + digits;
  if (end < 0) return stem;
  std::snprintf(digits, sizeof digits, "_%06ld", end);
  return stem + digits;
}

inline double seconds_of(std::string const& text, std::string const& where) {
  double value = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value < 1e6))
    throw format_error(complaint{where, "a time in seconds", excerpt(text)});
  return value;
}

/// Calls f(line, "file:number") for the lines of a published list that hold something and no comment.
template <class F>
void for_each_entry(std::filesystem::path const& file, F&& f) {
  for_each_line(read_stream(file, std::size_t{1} << 30), file.string(), "a list as text",
                [&](std::string_view raw, std::size_t number) {
                  auto const line = trimmed(raw);
                  if (!line.empty() && line.front() != '#') f(line, file.string() + ':' + std::to_string(number));
                });
}

/// Every line an id, or a path or address whose last part is the id. One that comes again does not count: it could be
/// in two splits.
inline std::vector<set_entry> flickr_entries(std::filesystem::path const& list, video_files_by_name const& files) {
  std::vector<set_entry> entries;
  std::unordered_set<std::string> known;
  for_each_entry(list, [&](std::string const& line, std::string const& where) {
    bool const is_address = line.find("://") != line.npos;
    std::string path = is_address ? line.substr(0, line.find_first_of("?#")) : line;
    while (path.ends_with('/')) path.pop_back();
    auto const name = std::filesystem::path(path).filename();
    auto const id = has_video_extension(name) ? name.stem().string() : name.string();
    if (id.empty()) throw format_error(complaint{where, "an id, or a path or address that ends in one", excerpt(line)});
    if (known.insert(id).second) entries.push_back(entry_of(files, {id}));
  });
  return entries;
}

/// Columns label, youtube_id, time_start, time_end and perhaps split, as Kinetics has them.
inline std::vector<set_entry> kinetics_entries(std::filesystem::path const& list, video_files_by_name const& files) {
  auto const table = read_csv(list);
  auto const label = table.column("label"), id = table.column("youtube_id"), begin = table.column("time_start"),
             end = table.column("time_end");
  auto const split = table.column_if_any("split");
  std::vector<set_entry> entries;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    auto const& cells = table.rows[row];
    auto const at = [&](std::size_t column) { return std::lround(seconds_of(cells[column], table.where(row))); };
    auto name = split ? cells[*split] : std::string();
    if (name == "val" || name == "validate" || name == "validation") name = "valid";
    entries.push_back(
        entry_of(files, {stem_of(cells[id], at(begin), at(end)), cells[id]}, trimmed(cells[label]), name));
  }
  return entries;
}

/// "YTID, start_seconds, end_seconds, positive_labels", comments before. A list is one split. Downloads are named in
/// several ways.
inline std::vector<set_entry> audioset_entries(std::filesystem::path const& list, video_files_by_name const& files) {
  std::vector<set_entry> entries;
  for_each_entry(list, [&](std::string const& line, std::string const& where) {
    std::array<std::string, 3> cells;
    std::size_t from = 0;
    for (auto& cell : cells) {
      auto const comma = line.find(',', from);
      if (comma == line.npos) throw format_error(complaint{where, "id, start, end, labels", excerpt(line)});
      cell = trimmed(std::string_view(line).substr(from, comma - from));
      from = comma + 1;
    }
    auto const begin = std::lround(seconds_of(cells[1], where)), end = std::lround(seconds_of(cells[2], where));
    auto const& id = cells[0];
    auto const plain = [&](long a, long b) { return id + '_' + std::to_string(a) + '_' + std::to_string(b); };
    entries.push_back(entry_of(files,
                               {stem_of(id, begin, end), plain(begin, end), plain(1000 * begin, 1000 * end),
                                stem_of(id, begin), id + '_' + std::to_string(begin), id, 'Y' + id},
                               trimmed(std::string_view(line).substr(from))));
  });
  return entries;
}

/// "id,start,label,split" without a header.
inline std::vector<set_entry> vggsound_entries(std::filesystem::path const& list, video_files_by_name const& files) {
  auto const text = read_stream(list, std::size_t{1} << 30);
  csv_parser parser(text, list.string());
  std::vector<set_entry> entries;
  for (std::vector<std::string> cells; parser.next(cells);) {
    auto const where = list.string() + ':' + std::to_string(parser.row_line());
    if (cells.size() != 4)
      throw format_error(complaint{where, "id,start,label,split", std::to_string(cells.size()) + " cells"});
    auto const begin = std::lround(seconds_of(cells[1], where));
    auto const& id = cells[0];
    entries.push_back(
        entry_of(files, {stem_of(id, begin), id + '_' + std::to_string(begin), stem_of(id, begin, begin + 10), id},
                 cells[2], cells[3]));
  }
  return entries;
}

inline std::set<std::string> wanted_classes(std::filesystem::path const& file) {
  std::set<std::string> wanted;
  if (file.empty())
    for (auto const each : kinetics_sounds_classes) wanted.emplace(each);
  else
    for_each_entry(file, [&](std::string const& line, std::string const&) { wanted.insert(line); });
  if (wanted.empty()) throw format_error(complaint{file.string(), "a class in each line", "none"});
  return wanted;
}

/// Places of the list in the order of random numbers that belong to the entries' own names.
inline std::vector<std::size_t> in_random_order(std::vector<set_entry> const& entries, std::uint64_t seed) {
  std::vector<std::pair<double, std::size_t>> positions;
  for (std::size_t i = 0; i < entries.size(); ++i) positions.emplace_back(split_position(entries[i].name, seed), i);
  std::sort(positions.begin(), positions.end());
  std::vector<std::size_t> order;
  for (auto const& each : positions) order.push_back(each.second);
  return order;
}

/// The first tenth of the random order is for the test, the second for validation, the rest for training: 50k, 50k and
/// 400k of the paper's 500k. A subset is the first so many of another such order.
inline void split_flickr(std::vector<set_entry>& entries, set_request const& r) {
  if (r.subset > 0 && r.subset < entries.size()) {
    auto order = in_random_order(entries, ~r.seed);
    order.resize(r.subset);
    std::sort(order.begin(), order.end());
    std::vector<set_entry> kept;
    for (auto const i : order) kept.push_back(std::move(entries[i]));
    entries = std::move(kept);
  }
  auto const order = in_random_order(entries, r.seed);
  for (std::size_t k = 0; k < order.size(); ++k)
    entries[order[k]].split = k < order.size() / 10 ? "test" : k < order.size() / 5 ? "valid" : "train";
}

}  // namespace detail

/// Reads a set's list and finds its videos: files at and below `videos` that are named after the entry, in any folder,
/// with any ending of a video. Files must be cut to the clips; nothing is opened.
///
/// - flickr-soundnet: an id (or path, or address) in each line. Split by the ids alone: 80 % train, 10 % valid, 10 %
///   test of the list, exactly; what is missing moves nothing.
/// - kinetics-sounds: Kinetics's CSV, of which the wanted classes are taken; `<id>_000030_000040`.
/// - audioset: "YTID, start_seconds, end_seconds, positive_labels"; one list a split.
/// - vggsound: "id,start,label,split" without a header; `<id>_000030`.
///
/// Errors  setting_error: an unknown set or split. file_error, format_error: the list, the classes or the folder.
inline set_listing list_published_set(set_request const& r) {
  auto const known = [](auto const& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (!known(published_sets, r.set))
    throw setting_error(complaint{"data set", "flickr-soundnet, kinetics-sounds, audioset or vggsound", r.set});
  if (!known(std::array<std::string_view, 4>{"all", "train", "valid", "test"}, r.split))
    throw setting_error(complaint{"split", "all, train, valid or test", r.split});
  bool const flickr = r.set == "flickr-soundnet", kinetics = r.set == "kinetics-sounds";
  if (r.subset > 0 && !flickr) throw setting_error(complaint{"subset", "only of flickr-soundnet", r.set});
  if (!r.classes.empty() && !kinetics) throw setting_error(complaint{"classes", "only of kinetics-sounds", r.set});
  if (r.set == "audioset" && r.split != "all")
    throw setting_error(complaint{"split of audioset", "all: each of its lists is a split", r.split});

  detail::video_files_by_name files;
  for (auto const& file : files_below(r.videos, has_video_extension)) files.emplace(file.stem().string(), file);
  auto const read = flickr                ? detail::flickr_entries
                    : kinetics            ? detail::kinetics_entries
                    : r.set == "audioset" ? detail::audioset_entries
                                          : detail::vggsound_entries;
  auto entries = read(r.list, files);
  set_listing found;
  if (flickr) detail::split_flickr(entries, r);
  if (kinetics) {
    auto const wanted = detail::wanted_classes(r.classes);
    std::set<std::string> heard;
    for (auto const& each : entries) heard.insert(each.label);
    std::erase_if(entries, [&](detail::set_entry const& each) { return !wanted.contains(each.label); });
    std::set_difference(wanted.begin(), wanted.end(), heard.begin(), heard.end(), std::back_inserter(found.unheard));
  }
  if (r.split != "all" && !entries.empty() &&
      std::all_of(entries.begin(), entries.end(), [](detail::set_entry const& each) { return each.split.empty(); }))
    throw setting_error(
        complaint{"split of " + r.list.string(), "all: the list does not say which are which", r.split});
  if (r.split != "all") std::erase_if(entries, [&](detail::set_entry const& each) { return each.split != r.split; });

  std::set<std::filesystem::path const*> taken;
  for (auto const& each : entries) {
    ++found.listed;
    if (!each.file)
      found.missing.push_back(each.name);
    else if (taken.insert(each.file).second)  // a list may name a video twice
      found.clips.push_back({*each.file, each.file->lexically_relative(r.videos).generic_string(), each.label});
  }
  return found;
}

}  // namespace l3::inline L3_ISA
