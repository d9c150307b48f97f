/// @file  include/l3/data/pack.hpp: a collection of videos -> shards for random access at training speed: JPEG pictures
/// and 48 kHz mono sound in tar files, and an index (docs/formats.md).
///
/// Programs that include this header link SQLite 3, libarchive and libturbojpeg.
#pragma once
#include <oneapi/tbb/parallel_pipeline.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/more_threads.hpp>
#include <l3/core/text.hpp>
#include <l3/data/clip_index.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/decode.hpp>
#include <l3/data/ffmpeg.hpp>
#include <l3/data/jpeg.hpp>
#include <l3/data/packed_clips.hpp>
#include <l3/data/probe.hpp>
#include <l3/files/archive_writer.hpp>
#include <l3/files/file_lock.hpp>
#include <l3/files/json_text.hpp>
#include <l3/files/sqlite.hpp>
#include <l3/files/wav.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// How a collection is packed.
struct pack_options {
  std::filesystem::path out{};                         ///< folder; made if it is not there
  double pictures_per_second = 5;                      ///< kept of each video
  std::size_t side = 256;                              ///< smallest side of pictures; smaller ones stay as they are
  int quality = 90;                                    ///< of JPEG, 1 to 100
  double seconds = 10;                                 ///< only the first this many seconds of each video; 0: all
  std::uint64_t shard_bytes = std::uint64_t{1} << 30;  ///< a shard ends with the clip that reaches this
  std::size_t threads = 0;                             ///< zero: one a core; the files are the same for any number
  bool overwrite = false;                              ///< begin anew where a packing lies in `out` already
  decode_limits limits{};
  std::function<void(std::size_t done, clip_record const&)> progress{};  ///< after each video, in order
  std::function<bool()> stop{};  ///< asked before each video, and before the end
};

/// What packing did.
struct pack_report {
  std::size_t videos = 0;    ///< of the list
  std::size_t finished = 0;  ///< of them, those that are packed or refused for good
  bool stopped = false;      ///< before the end: another packing of the same list goes on
  std::size_t known = 0;     ///< of them, packed or refused by an earlier run
  std::size_t changed = 0;   ///< of those, files that are others now: their old content stays
  std::size_t packed = 0;    ///< of them, in the shards
  std::size_t shards = 0;    ///< whole ones
  std::uint64_t bytes = 0;   ///< of the shards
};

namespace detail {

inline constexpr std::string_view packed_tables =
    "CREATE TABLE packing(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE shards(id INTEGER PRIMARY KEY, file TEXT NOT NULL, bytes INTEGER NOT NULL);"
    "CREATE TABLE packed(id INTEGER PRIMARY KEY, shard INTEGER NOT NULL, crc32 INTEGER NOT NULL,"
    " first_picture REAL NOT NULL, sound_at INTEGER NOT NULL, samples INTEGER NOT NULL, picture_at BLOB NOT NULL,"
    " picture_bytes BLOB NOT NULL);";

/// A clip on its way into a shard.
struct packed_clip {
  clip_record record{};
  std::vector<std::byte> sound{};              ///< a WAV file
  std::vector<std::byte> pictures{};           ///< JPEG files, one after the other
  std::vector<std::uint32_t> picture_bytes{};  ///< 0 where the picture is damaged
  std::vector<double> picture_times{};         ///< when each is shown first
};

/// One clip must fit into memory, and its sound into a WAV file.
inline constexpr std::size_t most_clip_bytes = std::size_t{1} << 30;

inline void require_clip_bytes(std::string const& name, std::size_t bytes) {
  if (bytes <= most_clip_bytes) return;
  throw media_error(complaint{name, "a clip that packs into 1 GiB (fewer --clip-seconds, or cut it)", "more"});
}

/// Decodes a clip and packs it. What is wrong with the file is in the record.
inline packed_clip pack_clip(clip video, pack_options const& o) {
  packed_clip p{.record = {.video = std::move(video)}};
  clip_record& r = p.record;
  auto limits = o.limits;
  limits.seconds = o.seconds;
  r = probe_clip(std::move(r.video), {.seconds = o.seconds, .content = false}, limits);
  if (!r.usable(0)) return p;
  try {
    clip_reader reader(r.video.file, limits);
    auto source = reader.sound_from_start();
    std::vector<float> block(sound_rate);
    p.sound.resize(wav_header_bytes);
    while (auto const got = source.read(block)) {
      require_clip_bytes(r.video.name, p.sound.size());
      p.sound.resize(p.sound.size() + 2 * got);
      put_samples_16(std::span(block).first(got), p.sound.data() + p.sound.size() - 2 * got);
    }
    auto const header = wav_header((p.sound.size() - wav_header_bytes) / 2, sound_rate);
    std::memcpy(p.sound.data(), header.data(), header.size());

    jpeg_encoder encode;
    auto const span = r.facts.video;
    std::size_t const smallest = std::min(r.facts.width, r.facts.height);
    std::vector<double> times;
    for (std::size_t k = 0; k == 0 || static_cast<double>(k) / o.pictures_per_second < span.seconds() - same_time; ++k)
      times.push_back(span.begin + static_cast<double>(k) / o.pictures_per_second);
    reader.expect_frames(times);
    for (double const t : times) {
      std::size_t const before = p.pictures.size();
      double shown = t;
      try {
        auto const picture = reader.frame(t, smallest > o.side ? o.side : 0);
        shown = picture.time;
        encode.append(picture, o.quality, p.pictures);
      } catch (media_error const&) {  // this moment is damaged; others may be whole
        require_memory_left();
      }
      p.picture_bytes.push_back(static_cast<std::uint32_t>(p.pictures.size() - before));
      p.picture_times.push_back(shown);
      require_clip_bytes(r.video.name, p.pictures.size());
    }
    if (p.pictures.empty()) throw media_error(complaint{r.video.file.string(), "pictures", "damaged ones only"});
    clip_record now{.video = r.video};
    stamp_file(now);
    if (now.modified == 0) throw file_error(complaint{r.video.file.string(), "a file that is there", "none any more"});
    if (now.bytes != r.bytes || now.modified != r.modified)
      throw media_error(
          complaint{r.video.file.string(), "a file that does not change while it is packed", "another size or time"});
  } catch (unusable_file const& e) {
    require_memory_left();
    r.refused = e.what();
    r.not_given = dynamic_cast<file_error const*>(&e) != nullptr;
  }
  return p;
}

inline std::string shard_name(std::uint64_t number) {
  char name[40];
  std::snprintf(name, sizeof name, "shard-%05llu.tar", static_cast<unsigned long long>(number));
  return name;
}
/// Whether a shard may be called so.
inline bool is_shard_name(std::string const& name) {
  return name.starts_with("shard-") && name == shard_name(std::strtoull(name.c_str() + 6, nullptr, 10));
}

}  // namespace detail

/// Packs the clips of a list into OUT/shard-*.tar and writes OUT/index.l3index when all are in. A shard appears when it
/// is whole; after an interruption the same call goes on with the clips behind the last one, and after the end there is
/// nothing left to do. Refused clips are in the index, with the reason.
///
/// Errors  setting_error: an option out of its range; the videos, or another packing, lie in `out`, or one is at work
/// there;
///         an earlier one of them is not as it was. file_error: cannot be written.
class packer {
 public:
  packer(clip_list const& clips, pack_options options) : clips_(clips), o_(std::move(options)) {
    require_possible();
    finished_ = o_.out / detail::packed_index_name;
    unfinished_ = o_.out / detail::packing_index_name;
    require_no_videos_in_folder();
    try {
      prepare_folder();
    } catch (std::filesystem::filesystem_error const& e) {
      throw file_error(complaint{o_.out.string(), "a folder that can be written", e.code().message()});
    }
    is_whole_ = std::filesystem::exists(finished_);
    if (is_whole_ || is_begun_index(unfinished_)) read_old();
    if (is_whole_) return;
    index_.emplace(
        unfinished_, index_settings{.seconds = o_.seconds, .content = false}, clip_index_writer::mode::growing,
        std::string(detail::packed_tables) + "INSERT INTO packing VALUES('settings', '" + settings_text() + "')");
  }

  /// Whether an earlier run has packed all of the list already.
  bool is_whole() const { return is_whole_; }
  /// Videos that an earlier run has packed, or refused, already.
  std::size_t known() const { return report_.known; }
  /// Of them, those that could not be used, and why; and those of them that can be used now.
  std::vector<std::string> const& refused() const { return refused_; }
  std::vector<std::string> const& mended() const { return mended_; }
  /// Of them, those whose files have changed since.
  std::size_t changed() const { return report_.changed; }

  /// Packs the rest. Once.
  pack_report run() {
    report_.videos = clips_.size();
    report_.finished = report_.known;
    if (is_whole_) return report_;
    {
      auto insert_packed = index_->database().prepare("INSERT INTO packed VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
      auto insert_shard = index_->database().prepare("INSERT INTO shards VALUES(?, ?, ?)");
      insert_packed_ = &insert_packed;
      insert_shard_ = &insert_shard;
      std::size_t next = report_.known;
      tbb::task_arena arena(o_.threads == 0 ? tbb::task_arena::automatic : static_cast<int>(o_.threads));
      more_threads const more(more_threads::beyond_cores(o_.threads));
      std::size_t const at_once = 2 * static_cast<std::size_t>(arena.max_concurrency());
      using clip_ptr = std::shared_ptr<detail::packed_clip>;
      arena.execute([&] {
        tbb::parallel_pipeline(
            at_once, tbb::make_filter<void, std::size_t>(tbb::filter_mode::serial_in_order,
                                                         [&](tbb::flow_control& flow) -> std::size_t {
                                                           if (next == clips_.size() || (o_.stop && o_.stop())) {
                                                             flow.stop();
                                                             return 0;
                                                           }
                                                           return next++;
                                                         }) &
                         tbb::make_filter<std::size_t, clip_ptr>(tbb::filter_mode::parallel,
                                                                 [&](std::size_t i) {
                                                                   return std::make_shared<detail::packed_clip>(
                                                                       detail::pack_clip(clips_[i], o_));
                                                                 }) &
                         tbb::make_filter<clip_ptr, void>(tbb::filter_mode::serial_in_order,
                                                          [&](clip_ptr const& p) { write(*p); }));
      });
      report_.stopped = report_.finished < clips_.size() || (o_.stop && o_.stop());
      if (!report_.stopped) end_shard();
    }
    if (!report_.stopped && report_.packed > 0) {
      index_->commit();
      std::filesystem::rename(unfinished_, finished_);
    } else {  // the open shard is given up: an interrupted packing ends with the same files as one that was not
      index_.reset();
      shard_.reset();
      report_.finished = saved_;
    }
    return report_;
  }

 private:
  void require_possible() const {
    auto const require = [](bool good, char const* what, char const* expected, double found) {
      if (!good) throw setting_error(complaint{what, expected, std::to_string(found)});
    };
    require(o_.pictures_per_second > 0 && o_.pictures_per_second <= 1000, "pictures per second",
            "above 0, at most 1000", o_.pictures_per_second);
    require(o_.side >= 16 && o_.side <= 4096, "smallest side of pictures", "16 to 4096", static_cast<double>(o_.side));
    require(o_.quality >= 1 && o_.quality <= 100, "quality of pictures", "1 to 100", o_.quality);
    require(o_.seconds >= 0, "seconds of a video", "0 or more", o_.seconds);
    require(o_.shard_bytes >= 1, "bytes of a shard", "1 or more", static_cast<double>(o_.shard_bytes));
  }

  /// A folder with a packing is read as that: videos in it would not be seen any more.
  void require_no_videos_in_folder() const {
    std::string const out = detail::real_folder(o_.out).string();
    std::unordered_set<std::string> seen;
    for (std::size_t i = 0; i != clips_.size(); ++i) {
      auto const file = clips_.file(i);
      if (auto const folder = file.parent_path(); seen.insert(folder.string()).second)
        if (detail::real_folder(folder).string().starts_with(out))
          throw setting_error(complaint{o_.out.string(), "a folder without the videos that are to be packed into it",
                                        detail::excerpt(file.string())});
    }
  }

  /// All that decides what a shard holds.
  std::string settings_text() const {
    return nlohmann::ordered_json{{"pictures_per_second", o_.pictures_per_second},
                                  {"side", o_.side},
                                  {"quality", o_.quality},
                                  {"seconds", o_.seconds},
                                  {"shard_bytes", o_.shard_bytes}}
        .dump();
  }

  /// An index that is no packing's; a damaged one is not said to be.
  static bool is_of_videos(std::filesystem::path const& index) {
    try {
      return is_sql_database(index) && !packed_clips::is_packed(index);
    } catch (error const&) {
      return false;
    }
  }

  /// Makes the folder; removes an old packing where that is wished, index first: without it shards are none.
  void prepare_folder() {
    namespace fs = std::filesystem;
    fs::create_directories(o_.out);
    lock_ = file_lock::of_folder(o_.out);
    if (lock_.is_taken())
      throw setting_error(complaint{o_.out.string(), "a folder that no process packs into", "another one at work"});
    detail::remove_leftovers(o_.out, std::chrono::minutes(1));  // a shard is written to all the time
    if (is_of_videos(finished_))
      throw setting_error(complaint{finished_.string(), "nothing, or a packed collection's index", "one of videos"});
    if (o_.overwrite) {
      fs::remove(finished_);
      fs::remove(unfinished_);
    }
    std::vector<fs::path> shards;
    for (auto const& each : fs::directory_iterator(o_.out))
      if (detail::is_shard_name(each.path().filename().string())) shards.push_back(each.path());
    if (!o_.overwrite && !shards.empty() && !fs::exists(unfinished_) && !fs::exists(finished_))
      throw setting_error(
          complaint{o_.out.string(), "an empty folder, or --force to pack anew", "shards without an index"});
    for (auto const& each : shards)
      if (o_.overwrite) fs::remove(each);
  }

  /// What an earlier run has done.
  void read_old() {
    clip_index old(is_whole_ ? finished_ : unfinished_);
    packed_clips::require_packing(old.database());
    auto settings = old.database().prepare("SELECT value FROM packing WHERE key = 'settings'");
    std::string const found = settings.step() ? std::string(settings.text(0)) : "none";
    auto const refuse = [&](std::string const& expected, std::string const& what) {
      throw setting_error(
          complaint{o_.out.string() + (is_whole_ ? ", which is packed" : ", where an earlier packing was interrupted"),
                    expected + " (or --force to begin anew)", what});
    };
    if (found != settings_text()) refuse("the settings " + found, settings_text());
    auto packed = old.database().prepare("SELECT count(*) FROM packed");
    packed.step();
    bool const any = packed.integer(0) > 0;
    old.for_each([&](std::int64_t id, clip_record const& then) {
      auto const place = static_cast<std::size_t>(id - 1);
      auto const& name = then.video.name;
      if (place >= clips_.size() || clips_.name(place) != name)
        refuse("the same list of videos, with " + detail::excerpt(name) + " at place " + std::to_string(id),
               place < clips_.size() ? detail::excerpt(clips_.name(place)) : "its end");
      if (clips_.label(place) != then.video.label)
        refuse("the same labels, with " + detail::excerpt(then.video.label) + " for " + detail::excerpt(name),
               detail::excerpt(clips_.label(place)));
      clip_record now{.video = clips_[place]};
      stamp_file(now);
      ++report_.known;
      bool const changed = now.modified != 0 && (now.bytes != then.bytes || now.modified != then.modified);
      if (then.usable(0)) {
        report_.changed += changed;
        last_packed_ = now.video.file;
      } else {
        refused_.push_back(then.why_unusable());
        bool const asks = any && changed && !(o_.stop && o_.stop());
        if (asks && detail::pack_clip(clips_[place], o_).record.usable(0)) mended_.push_back(name);
      }
    });
    if (is_whole_ && report_.known != clips_.size())
      refuse("the same list of videos, of " + std::to_string(report_.known), std::to_string(clips_.size()));
    if (!any) {  // there is nothing to go on with
      refused_.clear();
      last_packed_.clear();
      report_ = {};
      std::filesystem::remove(unfinished_);
      return;
    }
    auto shards = old.database().prepare("SELECT file, bytes FROM shards");
    while (shards.step()) {
      auto const file = o_.out / packed_clips::shard_name(old.database(), shards.text(0));
      auto const bytes = static_cast<std::uint64_t>(shards.integer(1));
      std::error_code missing;
      if (auto const size = std::filesystem::file_size(file, missing); missing || size != bytes)
        refuse(file.filename().string() + " of " + std::to_string(bytes) + " bytes",
               missing ? missing.message() : std::to_string(size) + " bytes");
      ++report_.shards;
      report_.bytes += bytes;
    }
    report_.packed = static_cast<std::size_t>(packed.integer(0));
    saved_ = report_.known;
  }

  /// The next clip of the list, into the shard and the index.
  void write(detail::packed_clip const& p) {
    std::error_code unknown;
    if (p.record.not_given && !last_packed_.empty() && !std::filesystem::exists(last_packed_, unknown))
      throw file_error(complaint{p.record.video.file.string() + " and " + last_packed_.string(),
                                 "files that are there until all are packed (the same call goes on)", "neither"});
    if (p.record.usable(0)) last_packed_ = p.record.video.file;
    auto const id = index_->add(p.record);
    if (p.record.usable(0)) write_members(p, id);
    ++report_.finished;
    if (o_.progress) o_.progress(report_.finished, p.record);
    if (shard_ && shard_->position() >= o_.shard_bytes) end_shard();
  }

  void write_members(detail::packed_clip const& p, std::int64_t id) {
    if (!shard_)
      shard_.emplace(o_.out / detail::shard_name(report_.shards),
                     [](::archive* tar) { return ::archive_write_set_format_ustar(tar) == ARCHIVE_OK; });
    char key[24];
    std::snprintf(key, sizeof key, "%09lld", static_cast<long long>(id - 1));
    std::uint32_t crc = 0;
    auto const put = [&](std::string const& name, std::span<std::byte const> bytes) {
      shard_->begin(name, bytes.size());
      auto const at = shard_->position();
      shard_->put(bytes);
      crc = ffmpeg::crc32(bytes, crc);
      return at;
    };
    nlohmann::ordered_json about{{"name", p.record.video.name},
                                 {"label", p.record.video.label},
                                 {"picture_times", p.picture_times},
                                 {"sound_rate", sound_rate},
                                 {"sound_begin", p.record.facts.sound.begin},
                                 {"sound_end", p.record.facts.sound.end}};
    auto const text = json_text(about);
    put(std::string(key) + ".json", std::as_bytes(std::span(text)));
    auto const sound_at = put(std::string(key) + ".wav", p.sound) + detail::wav_header_bytes;
    std::vector<std::uint64_t> picture_at;
    std::size_t used = 0;
    for (std::size_t k = 0; k < p.picture_bytes.size(); ++k) {
      char picture[64];
      std::snprintf(picture, sizeof picture, "%s.%05zu.jpg", key, k);
      auto const bytes = std::span(p.pictures).subspan(used, p.picture_bytes[k]);
      picture_at.push_back(bytes.empty() ? 0 : put(picture, bytes));
      used += bytes.size();
    }
    insert_packed_->run(id, report_.shards, crc, p.record.facts.video.begin, sound_at,
                        (p.sound.size() - detail::wav_header_bytes) / 2, std::as_bytes(std::span(picture_at)),
                        std::as_bytes(std::span(p.picture_bytes)));
    ++report_.packed;
  }

  /// The shard first, then what the index says of it: a shard that the index does not know is written again.
  void end_shard() {
    if (shard_) {
      shard_->commit();
      auto const file = detail::shard_name(report_.shards);
      auto const bytes = std::filesystem::file_size(o_.out / file);
      insert_shard_->run(report_.shards, file, bytes);
      report_.bytes += bytes;
      ++report_.shards;
      shard_.reset();
    }
    index_->save();
    saved_ = report_.finished;
  }

  clip_list const& clips_;
  pack_options const o_;
  std::filesystem::path finished_, unfinished_;
  file_lock lock_;
  bool is_whole_ = false;
  std::optional<clip_index_writer> index_;
  sql_statement *insert_packed_ = nullptr, *insert_shard_ = nullptr;
  std::optional<archive_writer> shard_;
  pack_report report_;
  std::vector<std::string> refused_, mended_;  ///< by an earlier run
  std::filesystem::path last_packed_;          ///< the last video that was there
  std::size_t saved_ = 0;                      ///< clips whose place is durable
};

}  // namespace l3::inline L3_ISA
