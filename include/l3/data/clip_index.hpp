/// @file  include/l3/data/clip_index.hpp: what is known of each video of a collection, in one file that any SQLite
/// reads (docs/formats.md has its tables).
///
/// Programs that include this header link SQLite 3.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/text.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/sqlite.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

static_assert(std::endian::native == std::endian::little, "l3: blobs of an index are little endian, like this code");

/// What may be wrong with the content of a video that can be read.
enum class content_flag : std::uint32_t {
  no_picture = 1,
  no_sound = 2,
  short_clip = 4,  ///< less than a second of both
  silent = 8,      ///< no sample reaches -60 dB of full scale
  still = 16,      ///< one picture all the time
  copy = 32,       ///< the same content as a video before it in the collection
};
/// Names of the flags, as options and tables have them.
inline constexpr std::array<std::pair<content_flag, std::string_view>, 6> content_flag_names{
    {{content_flag::no_picture, "no-picture"},
     {content_flag::no_sound, "no-sound"},
     {content_flag::short_clip, "short"},
     {content_flag::silent, "silent"},
     {content_flag::still, "static"},
     {content_flag::copy, "copy"}}};
/// These cannot be drawn from: they are left out whatever is wished.
inline constexpr std::uint32_t unusable_flags = static_cast<std::uint32_t>(content_flag::no_picture) |
                                                static_cast<std::uint32_t>(content_flag::no_sound) |
                                                static_cast<std::uint32_t>(content_flag::short_clip);

/// One video of an index.
struct clip_record {
  clip video{};                     ///< where it is, its name and label
  std::uint64_t bytes = 0;          ///< of the file
  std::int64_t modified = 0;        ///< when the file was last written: nanoseconds since 1970
  std::string refused{};            ///< why it cannot be read; empty where it can
  std::uint32_t flags = 0;          ///< content_flag's, or-ed
  clip_facts facts{};               ///< of what was read
  double loudest = 0;               ///< largest sample; of full scale 1
  double motion = 0;                ///< largest difference found between two pictures: mean over colours 0 to 255
  std::vector<double> keys{};       ///< times of the pictures at which decoding can begin, seconds
  std::uint64_t content_print = 0;  ///< see clip_reader::content_print; 0: not known
  bool not_given = false;           ///< refused because the system did not give the file; an index does not keep it

  bool has(content_flag f) const { return (flags & static_cast<std::uint32_t>(f)) != 0; }
  void mark(content_flag f, bool is_so) {
    auto const bit = static_cast<std::uint32_t>(f);
    flags = is_so ? flags | bit : flags & ~bit;
  }
  /// Whether training may draw from it when `drop` says which flags are not wanted.
  bool usable(std::uint32_t drop) const { return refused.empty() && (flags & (drop | unusable_flags)) == 0; }
  /// Why it cannot draw from it whatever is wished; empty where it can.
  std::string why_unusable() const {
    if (!refused.empty() || usable(0)) return refused;
    return media_error(complaint{video.file.string(), clip_facts::what_a_draw_needs, facts.too_little()}).what();
  }
};

/// What an index was made with.
struct index_settings {
  double seconds = 10;     ///< only so many seconds of each video were looked at; 0: all
  bool content = true;     ///< whether sound and pictures were decoded to find silence and standstill
  std::uint32_t drop = 0;  ///< content_flag's that are not wanted
  int probes = 2;          ///< how it was looked; 1: by earlier builds, which did not note it
  /// Whether what was found with one is what would be found with the other.
  bool same_probes(index_settings const& other) const {
    return seconds == other.seconds && content == other.content && probes == other.probes;
  }
};

namespace detail {

inline constexpr int index_version = 1;
inline constexpr std::string_view packed_index_name = "index.l3index";        ///< in the folder of a packed collection
inline constexpr std::string_view packing_index_name = "unfinished.l3index";  ///< until all of it is packed
inline constexpr std::string_view index_tables =
    "CREATE TABLE about(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE places(id INTEGER PRIMARY KEY, path BLOB NOT NULL);"  // bytes: not all paths are UTF-8
    "CREATE TABLE labels(id INTEGER PRIMARY KEY, label TEXT NOT NULL);"
    "CREATE TABLE clips(id INTEGER PRIMARY KEY, place INTEGER NOT NULL, name BLOB NOT NULL, label INTEGER NOT NULL,"
    " usable INTEGER NOT NULL, bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL, refused TEXT,"
    " flags INTEGER NOT NULL, video_begin REAL, video_end REAL, sound_begin REAL, sound_end REAL, width INTEGER,"
    " height INTEGER, frame_rate REAL, rotation INTEGER, sample_rate INTEGER, channels INTEGER, container TEXT,"
    " video_codec TEXT, audio_codec TEXT, loudest REAL, motion REAL, key_times BLOB, content_print INTEGER);";

/// Column numbers of `select_clips`.
namespace column {
enum : int {
  id,
  place,
  name,
  label,
  usable,
  bytes,
  modified,
  refused,
  flags,
  video_begin,
  video_end,
  sound_begin,
  sound_end,
  width,
  height,
  frame_rate,
  rotation,
  sample_rate,
  channels,
  container,
  video_codec,
  audio_codec,
  loudest,
  motion,
  key_times,
  content_print
};
}
/// Whether an index has prints of contents; those of earlier builds have none.
inline bool has_content_prints(sql_database& index) {
  auto columns = index.prepare("SELECT count(*) FROM pragma_table_info('clips') WHERE name = 'content_print'");
  return columns.step() && columns.integer(0) == 1;
}
/// Begins a question for the columns above.
inline std::string select_clips(sql_database& index) {
  return "SELECT id, place, name, label, usable, bytes, modified_ns, refused, flags, video_begin, video_end, "
         "sound_begin,"
         " sound_end, width, height, frame_rate, rotation, sample_rate, channels, container, video_codec, audio_codec,"
         " loudest, motion, key_times, " +
         std::string(has_content_prints(index) ? "content_print" : "NULL") + " FROM clips ";
}

inline std::span<std::byte const> as_blob(std::string_view bytes) {
  return std::as_bytes(std::span(bytes.data(), bytes.size()));
}

/// Whether all of these are tables: views in their place could keep a reader busy for ever.
inline bool has_tables(sql_database& index, std::initializer_list<std::string_view> names) {
  return std::all_of(names.begin(), names.end(), [&](std::string_view name) {
    auto found = index.prepare("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ? AND rootpage > 0");
    if (!found.bind(name).step() || found.integer(0) != 1) return false;
    // What a column computes could take any time and memory.
    auto computed = index.prepare("SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden <> 0");
    return computed.bind(name).step() && computed.integer(0) == 0;
  });
}

/// Settings of an index.
inline index_settings read_settings(sql_database& index) {
  if (!has_tables(index, {"about", "places", "labels", "clips"}))
    throw format_error(complaint{index.name(), "an index, as l3 index writes it", "another database"});
  index_settings s{.probes = 1};
  std::int64_t version = 0;
  auto rows = index.prepare("SELECT key, value FROM about");
  while (rows.step()) {
    auto const key = rows.text(0);
    if (key == "l3.index") version = rows.integer(1);
    if (key == "seconds") s.seconds = rows.real(1);
    if (key == "content") s.content = rows.integer(1) != 0;
    if (key == "probes") s.probes = static_cast<int>(rows.integer(1));
    if (key == "drop") s.drop = static_cast<std::uint32_t>(rows.integer(1));
  }
  if (version != index_version)
    throw format_error(
        complaint{index.name(), "an index of version " + std::to_string(index_version), std::to_string(version)});
  return s;
}

/// A short text of a table as a path or a name; refuses what cannot be one.
inline std::string checked_path(sql_database const& index, std::string_view text) {
  if (text.find('\0') != text.npos || text.size() > longest_path)
    throw format_error(complaint{index.name(), "paths as file systems have them", excerpt(text)});
  return std::string(text);
}

/// A file or folder by its one real name, whatever links lead to it (but in a circle) and whether it is there.
inline std::filesystem::path real_path(std::filesystem::path const& path) {
  std::error_code unknown;
  auto const absolute = std::filesystem::absolute(path);
  auto const real = std::filesystem::weakly_canonical(absolute, unknown);
  return unknown ? absolute.lexically_normal() : real;
}
/// The same of a folder, with a slash at its end; of none, of the current one.
inline std::filesystem::path real_folder(std::filesystem::path const& folder) {
  return real_path(folder.empty() ? "." : folder) / "";
}

/// The folder that a file really lies in, whatever links lead to it and whether it is there.
inline std::filesystem::path folder_of(std::filesystem::path const& file) {
  std::error_code unknown;
  return real_folder((std::filesystem::is_symlink(file, unknown) ? real_path(file) : file).parent_path());
}

/// Texts of one of the tables places and labels, by id.
inline std::vector<std::string> read_texts(sql_database& index, std::string_view select) {
  std::vector<std::string> texts;
  auto rows = index.prepare(select);
  while (rows.step()) {
    if (rows.integer(0) != static_cast<std::int64_t>(texts.size()))
      throw format_error(complaint{index.name(), "places and labels numbered from 0", std::to_string(rows.integer(0))});
    if (rows.text(1).size() > 1 << 20)
      throw format_error(complaint{index.name(), "places and labels of at most 1 MiB", excerpt(rows.text(1))});
    texts.emplace_back(rows.text(1));
  }
  return texts;
}

}  // namespace detail

/// Whether an index that was to grow has been begun at this name. What a killed process had not saved is taken back; a
/// file without anything saved is removed.
inline bool is_begun_index(std::filesystem::path const& file) {
  if (!std::filesystem::exists(file)) return false;
  sql_database index(file, sql_database::mode::write);
  auto tables = index.prepare("SELECT count(*) FROM sqlite_master");
  tables.step();
  if (tables.integer(0) > 0) return true;
  std::filesystem::remove(file);
  return false;
}

/// Writes an index. With `whole` the file appears when it is complete, by `commit`; without, it grows under its name
/// and keeps what was added before the last `save`, to be gone on with later.
///
/// Errors  file_error: cannot be written; then, nothing more is. format_error: an old file that is to grow is no index.
class clip_index_writer {
 public:
  enum class mode { whole, growing };

  /// `more_tables`: SQL that makes tables beside the index's own.
  clip_index_writer(std::filesystem::path const& file, index_settings const& settings, mode how,
                    std::string const& more_tables = {})
      : folder_(detail::folder_of(file)) {
    if (how == mode::whole) file_.emplace(file);
    bool const old = how == mode::growing && is_begun_index(file);
    index_.emplace(file_ ? file_->temporary() : file, sql_database::mode::write);
    if (file_)
      index_->run("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF");  // nobody sees it half written
    else
      index_->run("PRAGMA cache_spill = OFF");  // so that it can be read until what was added is saved
    if (old) {
      (void)detail::read_settings(*index_);
      if (!detail::has_content_prints(*index_)) index_->run("ALTER TABLE clips ADD COLUMN content_print INTEGER");
      for (auto& each : detail::read_texts(*index_, "SELECT id, path FROM places ORDER BY id")) places_.add(each);
      for (auto& each : detail::read_texts(*index_, "SELECT id, label FROM labels ORDER BY id")) labels_.add(each);
      auto count = index_->prepare("SELECT count(*) FROM clips");  // ids are given without gaps
      count.step();
      old_ = count.integer(0);
    }
    index_->run("BEGIN");
    if (!old) {
      index_->run(std::string(detail::index_tables));
      auto about = index_->prepare("INSERT INTO about VALUES(?, ?)");
      about.run(std::string_view("l3.index"), detail::index_version);
      about.run(std::string_view("seconds"), settings.seconds);
      about.run(std::string_view("content"), settings.content);
      about.run(std::string_view("drop"), settings.drop);
      about.run(std::string_view("probes"), settings.probes);
      if (!more_tables.empty()) index_->run(more_tables);
      if (!file_) save();
    }
    insert_.emplace(index_->prepare(
        "INSERT INTO clips VALUES(NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    drop_ = settings.drop;
  }

  /// Adds a video after those before and returns its id, from 1.
  std::int64_t add(clip_record const& r) {
    auto const& path = r.video.file.native();
    auto const& name = r.video.name;
    auto const before = path.size() - std::min(path.size(), name.size());
    if (name.size() > detail::longest_path || name.find('\0') != name.npos ||
        path.compare(before, path.npos, name) != 0 || (before > 0 && path[before - 1] != '/'))
      throw setting_error(complaint{"a video of an index", "a path that ends in its name, " + detail::excerpt(name),
                                    detail::excerpt(path)});
    write([&] { insert(r, std::string_view(path).substr(0, before)); });
    return old_ + ++added_;
  }

  /// Number of the videos in it, those of an old file included.
  std::int64_t size() const { return old_ + added_; }

  /// For tables beside the index's own.
  sql_database& database() { return *index_; }

  /// Growing: makes what was added durable.
  void save() {
    write([&] { index_->run("COMMIT; BEGIN"); });
  }

  /// Completes the file. Once.
  void commit() {
    write([&] { index_->run("COMMIT"); });
    insert_.reset();
    index_.reset();
    if (file_) file_->commit();
  }

 private:
  /// Texts by number and numbers by text.
  struct numbered_texts {
    std::unordered_map<std::string, std::int64_t> ids;
    bool add(std::string const& text) { return ids.emplace(text, static_cast<std::int64_t>(ids.size())).second; }
  };

  /// Does this, unless something has failed before: SQLite may then have taken back all since the last save, and what
  /// refers to that must not be written alone.
  template <class F>
  void write(F&& f) {
    if (failed_)
      throw file_error(complaint{index_->name(), "an index that could be written so far", "an error before"});
    failed_ = true;
    f();
    failed_ = false;
  }

  /// A row for a video whose name is seen from `folder`.
  void insert(clip_record const& r, std::string_view folder) {
    auto const& name = r.video.name;
    bool const whole_path = name.starts_with('/');
    if (latest_place_id_ < 0 || whole_path != latest_is_whole_ || folder != latest_place_) {
      latest_place_ = folder;
      latest_is_whole_ = whole_path;
      auto const place = whole_path ? std::string() : from_here(latest_place_);
      latest_place_id_ = text_id(places_, place, "INSERT INTO places VALUES(?, ?)", true);
    }
    auto const label = text_id(labels_, r.video.label, "INSERT INTO labels VALUES(?, ?)", false);
    auto const& f = r.facts;
    auto const at = [](bool there, double value) { return there ? std::optional(value) : std::nullopt; };
    insert_->run(latest_place_id_, detail::as_blob(name), label, r.usable(drop_), r.bytes, r.modified,
                 r.refused.empty() ? std::nullopt : std::optional(std::string_view(r.refused)), r.flags,
                 at(f.has_video, f.video.begin), at(f.has_video, f.video.end), at(f.has_sound, f.sound.begin),
                 at(f.has_sound, f.sound.end), f.width, f.height, f.frame_rate, f.rotation, f.sample_rate, f.channels,
                 f.container, f.video_codec, f.audio_codec, r.loudest, r.motion, std::as_bytes(std::span(r.keys)),
                 r.content_print == 0 || !r.refused.empty() ? std::nullopt : std::optional(r.content_print));
  }

  std::int64_t text_id(numbered_texts& texts, std::string const& text, std::string_view insert, bool bytes) {
    if (texts.add(text)) {
      auto row = index_->prepare(insert);
      auto const id = texts.ids.at(text);
      bytes ? row.run(id, detail::as_blob(text)) : row.run(id, text);
    }
    return texts.ids.at(text);
  }

  /// A folder as seen from the index's, so that both can be moved together.
  std::string from_here(std::string const& place) const {
    auto const seen = detail::real_folder(place).lexically_relative(folder_).string();
    return seen.ends_with('/') ? seen : seen + '/';
  }

  std::filesystem::path folder_;
  std::optional<atomic_file> file_;
  std::optional<sql_database> index_;
  std::optional<sql_statement> insert_;
  numbered_texts places_, labels_;
  std::string latest_place_;
  bool latest_is_whole_ = false;
  std::int64_t latest_place_id_ = -1, old_ = 0, added_ = 0;
  std::uint32_t drop_ = 0;
  bool failed_ = false;
};

/// An index that is there already.
///
/// Errors  file_error: cannot be read. format_error: no index of l3's, or a damaged one.
class clip_index {
 public:
  explicit clip_index(std::filesystem::path const& file)
      : folder_(detail::folder_of(file)), index_(file, sql_database::mode::read) {
    settings_ = detail::read_settings(index_);
    places_ = detail::read_texts(index_, "SELECT id, path FROM places ORDER BY id");
    labels_ = detail::read_texts(index_, "SELECT id, label FROM labels ORDER BY id");
    for (auto& each : places_)  // none: the names are whole paths
      if (!each.empty()) each = (folder_ / detail::checked_path(index_, each) / "").lexically_normal().string();
    select_ = detail::select_clips(index_);
    one_.emplace(index_.prepare(select_ + "WHERE id = ?"));
  }

  index_settings const& settings() const { return settings_; }
  sql_database& database() { return index_; }

  /// The videos that can be drawn from, in the index's order: 24 bytes each beside their names.
  clip_list usable() {
    clip_list clips;
    std::string file;
    auto rows = index_.prepare("SELECT place, name, label FROM clips WHERE usable ORDER BY id");
    while (rows.step()) {
      auto const name = rows.text(1);
      file.assign(text_of(places_, rows.integer(0)));
      file += detail::checked_path(index_, name);
      clips.add(file, name, text_of(labels_, rows.integer(2)));
    }
    return clips;
  }

  /// Prints of the contents (see clip_record) of the videos that can be drawn from, in the index's order; none where
  /// they are not known.
  std::vector<std::uint64_t> content_prints() {
    std::vector<std::uint64_t> all;
    if (!detail::has_content_prints(index_)) return all;
    auto rows = index_.prepare("SELECT content_print FROM clips WHERE usable ORDER BY id");
    while (rows.step()) all.push_back(static_cast<std::uint64_t>(rows.integer(0)));
    return all;
  }

  /// Calls f(id, record) for every video, in the index's order.
  template <class F>
  void for_each(F&& f) {
    auto rows = index_.prepare(select_ + "ORDER BY id");
    while (rows.step()) f(rows.integer(detail::column::id), record_of(rows));
  }
  /// Calls f(id, name) for every video.
  template <class F>
  void for_each_name(F&& f) {
    auto rows = index_.prepare("SELECT id, name FROM clips");
    while (rows.step()) f(rows.integer(0), rows.text(1));
  }
  /// One video. Errors  format_error: none of this id.
  clip_record record(std::int64_t id) {
    one_->bind(id);
    if (!one_->step())
      throw format_error(complaint{index_.name(), "a video with the id " + std::to_string(id), "none"});
    auto found = record_of(*one_);
    while (one_->step()) {
    }
    return found;
  }

 private:
  std::string const& text_of(std::vector<std::string> const& texts, std::int64_t id) const {
    if (id < 0 || id >= static_cast<std::int64_t>(texts.size()))
      throw format_error(
          complaint{index_.name(), "videos with a place and a label", "the unknown " + std::to_string(id)});
    return texts[static_cast<std::size_t>(id)];
  }

  clip_record record_of(sql_statement const& row) const {
    namespace c = detail::column;
    clip_record r;
    r.video.name = detail::checked_path(index_, row.text(c::name));
    r.video.file = text_of(places_, row.integer(c::place)) + r.video.name;
    r.video.label = text_of(labels_, row.integer(c::label));
    r.bytes = static_cast<std::uint64_t>(row.integer(c::bytes));
    r.modified = row.integer(c::modified);
    r.refused = row.text(c::refused);
    r.flags = static_cast<std::uint32_t>(row.integer(c::flags));
    auto& f = r.facts;
    f.has_video = !row.is_null(c::video_begin);
    f.has_sound = !row.is_null(c::sound_begin);
    f.video = {row.real(c::video_begin), row.real(c::video_end)};
    f.sound = {row.real(c::sound_begin), row.real(c::sound_end)};
    f.width = static_cast<std::size_t>(row.integer(c::width));
    f.height = static_cast<std::size_t>(row.integer(c::height));
    f.frame_rate = row.real(c::frame_rate);
    f.rotation = static_cast<int>(row.integer(c::rotation));
    f.sample_rate = static_cast<int>(row.integer(c::sample_rate));
    f.channels = static_cast<int>(row.integer(c::channels));
    f.container = row.text(c::container);
    f.video_codec = row.text(c::video_codec);
    f.audio_codec = row.text(c::audio_codec);
    r.loudest = row.real(c::loudest);
    r.motion = row.real(c::motion);
    auto const keys = row.blob(c::key_times);
    r.keys.resize(keys.size() / sizeof(double));
    std::copy_n(keys.begin(), r.keys.size() * sizeof(double), reinterpret_cast<std::byte*>(r.keys.data()));
    r.content_print = static_cast<std::uint64_t>(row.integer(c::content_print));
    return r;
  }

  std::filesystem::path folder_;
  sql_database index_;
  index_settings settings_;
  std::vector<std::string> places_, labels_;
  std::string select_;
  std::optional<sql_statement> one_;
};

}  // namespace l3::inline L3_ISA
