/// @file  include/l3/data/packed_clips.hpp: clips of a packed collection, read at random; what pack.hpp wrote.
///
/// Programs that include this header link SQLite 3 and libturbojpeg.
#pragma once
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/text.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/clip_index.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/jpeg.hpp>
#include <l3/data/picture.hpp>
#include <l3/data/resize.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/json_text.hpp>
#include <l3/files/sqlite.hpp>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// A packed collection as a source of a loader: no video is opened, a draw reads one JPEG and one second of samples.
///
/// A copy costs nothing, and any number of threads may use it, each with its own `tools`.
///
/// Numbers pictures are those at k / rate seconds after the video's first, so frame(t) is the one at or before t; sound
///         is the clip's, rounded to 16 bits.
/// Errors  file_error: a shard is missing. format_error: the index is none, or does not fit the shards.
class packed_clips {
  struct shard {
    std::filesystem::path path;
    std::uint64_t bytes = 0;
    detail::file_descriptor open;  ///< or not, where there are more shards than a process may open
  };
  struct place {
    std::int64_t id;
    stream_span video, sound;
  };
  struct contents {
    std::filesystem::path index;
    std::size_t max_pixels = 0, side = 0;
    double rate = 0;
    clip_list clips;
    std::vector<place> places;
    std::vector<shard> shards;
  };

 public:
  /// `folder` is what packing wrote, or its index.
  explicit packed_clips(std::filesystem::path const& folder, std::size_t max_pixels = std::size_t{1} << 26) {
    auto all = std::make_shared<contents>();
    all->index = index_of(folder);
    all->max_pixels = max_pixels;
    clip_index index(all->index);
    require_packing(index.database());
    read_settings(index.database(), *all);
    open_shards(index.database(), *all);
    auto const clips = index.usable();
    auto rows = index.database().prepare(
        "SELECT clips.id, video_begin, video_end, sound_begin, sound_end FROM clips WHERE usable ORDER BY id");
    while (rows.step())
      all->places.push_back({rows.integer(0), {rows.real(1), rows.real(2)}, {rows.real(3), rows.real(4)}});
    if (all->places.size() != clips.size())
      throw format_error(
          complaint{all->index.string(), "an index that does not change while it is read",
                    std::to_string(all->places.size()) + " and " + std::to_string(clips.size()) + " clips"});
    all->clips = clips;
    contents_ = std::move(all);
  }

  /// The index of a packed folder; of a file, the file.
  static std::filesystem::path index_of(std::filesystem::path const& path) {
    std::error_code unknown;
    return std::filesystem::is_directory(path, unknown) ? path / detail::packed_index_name : path;
  }

  /// A shard's file as the index names it. Errors  format_error: no plain name of a file in the index's folder.
  static std::string shard_name(sql_database const& index, std::string_view file) {
    auto const plain = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '.'; };
    if (!file.ends_with(".tar") || !std::all_of(file.begin(), file.end(), plain))
      throw format_error(complaint{index.name(), "shards in the index's folder", detail::excerpt(file)});
    return std::string(file);
  }

  /// Errors  format_error: an index, but not of a packed collection.
  static void require_packing(sql_database& index) {
    if (!has_packing(index))
      throw format_error(complaint{index.name(), "the index of a packed collection, as l3 pack writes it", "another"});
  }

  /// The same, using only the first so many seconds of each clip; 0: all.
  packed_clips limited_to(double seconds) const {
    packed_clips limited = *this;
    if (seconds > 0) limited.limit_ = seconds;
    return limited;
  }

  /// Whether packing has written this folder (or index).
  static bool is_packed(std::filesystem::path const& path) {
    auto const index = index_of(path);
    if (!is_sql_database(index)) return false;
    sql_database database(index, sql_database::mode::read);
    return has_packing(database);
  }

  clip_list const& clips() const { return contents_->clips; }
  double pictures_per_second() const { return contents_->rate; }
  std::size_t side() const { return contents_->side; }

  /// What one thread needs to read.
  class tools {
   public:
    explicit tools(packed_clips const& from)
        : index_(from.contents_->index, sql_database::mode::read),
          find_(index_.prepare("SELECT shard, first_picture, sound_at, samples, picture_at, picture_bytes FROM packed "
                               "WHERE id = ?")) {}

   private:
    friend class packed_clips;
    sql_database index_;
    sql_statement find_;
    jpeg_decoder decode_;
    picture_resizer resize_;
    std::vector<std::byte> bytes_;
    std::vector<std::uint64_t> picture_at_;
    std::vector<std::uint32_t> picture_bytes_;
    rgb_frame picture_;
  };

  /// One clip, as clip_reader offers it.
  class reader {
   public:
    reader(packed_clips const& from, std::uint32_t clip, tools& with)
        : all_(from.contents_.get()), with_(&with), name_(all_->clips.name(clip)) {
      auto const& p = all_->places[clip];
      facts_.has_video = facts_.has_sound = true;
      facts_.video = {std::min(p.video.begin, from.limit_), std::min(p.video.end, from.limit_)};
      facts_.sound = {std::min(p.sound.begin, from.limit_), std::min(p.sound.end, from.limit_)};
      auto& row = with.find_.bind(p.id);
      if (!row.step()) damaged("the clip");
      auto const shard = row.integer(0);
      if (shard < 0 || shard >= static_cast<std::int64_t>(all_->shards.size())) damaged("the clip's shard");
      shard_ = &all_->shards[static_cast<std::size_t>(shard)];
      first_picture_ = row.real(1);
      sound_at_ = static_cast<std::uint64_t>(row.integer(2));
      samples_ = static_cast<std::uint64_t>(row.integer(3));
      if (samples_ > shard_->bytes / 2 || sound_at_ > shard_->bytes - 2 * samples_) damaged("sound inside the shard");
      copy(row.blob(4), with.picture_at_);
      copy(row.blob(5), with.picture_bytes_);
      if (with.picture_at_.size() != with.picture_bytes_.size() || with.picture_at_.empty()) damaged("pictures");
      while (row.step()) {
      }
    }

    clip_facts const& facts() const { return facts_; }

    /// The picture kept for time t, its smallest side scaled to `side`. Belongs to the tools, until the next one.
    ///
    /// Errors  media_error: the picture was damaged when it was packed, or is now.
    rgb_frame const& frame(double t, std::size_t side) {
      double const place = std::floor((t - first_picture_) * all_->rate + 1e-6);
      auto const last = with_->picture_at_.size() - 1;
      auto const k = place > 0 ? std::min(last, static_cast<std::size_t>(std::min(place, 1e9))) : 0;
      std::uint64_t const at = with_->picture_at_[k], bytes = with_->picture_bytes_[k];
      if (bytes == 0)
        throw media_error(complaint{name_, "a picture at " + std::to_string(t) + " s", "one that was damaged already"});
      if (bytes > shard_->bytes || at > shard_->bytes - bytes) damaged("pictures inside the shard");
      with_->bytes_.resize(static_cast<std::size_t>(bytes));
      read(at, with_->bytes_);
      with_->decode_.read(with_->bytes_, side, all_->max_pixels, name_, with_->picture_);
      with_->picture_.time = first_picture_ + static_cast<double>(k) / all_->rate;
      if (side != 0) with_->resize_(with_->picture_, side, all_->max_pixels, name_);
      return with_->picture_;
    }

    /// Mono samples at 48 kHz, the first at time `start`; zeros outside the sound.
    void sound(double start, std::span<float> out) {
      std::fill(out.begin(), out.end(), 0.0f);
      auto const first = std::llround(start * sound_rate), size = static_cast<long long>(out.size());
      auto const begin = std::clamp<long long>(first, 0, static_cast<long long>(samples_));
      auto const end = std::clamp<long long>(first + size, 0, static_cast<long long>(samples_));
      if (begin >= end) return;
      auto const count = static_cast<std::size_t>(end - begin);
      with_->bytes_.resize(2 * count);
      read(sound_at_ + 2 * static_cast<std::uint64_t>(begin), with_->bytes_);
      auto const* from = with_->bytes_.data();
      for (float& x : out.subspan(static_cast<std::size_t>(begin - first), count)) {
        std::int16_t value;
        std::memcpy(&value, from, 2);
        x = static_cast<float>(value) * 0x1p-15f;
        from += 2;
      }
    }

   private:
    [[noreturn]] void damaged(char const* what) const {
      throw format_error(complaint{all_->index.string(), what + (" of " + detail::excerpt(name_)), "none"});
    }
    template <class T>
    void copy(std::span<std::byte const> from, std::vector<T>& to) const {
      if (from.size() % sizeof(T) != 0) damaged("whole numbers for the pictures");
      to.resize(from.size() / sizeof(T));
      if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
    }
    void read(std::uint64_t at, std::span<std::byte> out) const {
      if (shard_->open.is_open())
        detail::read_at(shard_->open, shard_->path, at, out);
      else
        detail::read_at(detail::open_to_read(shard_->path), shard_->path, at, out);
    }

    contents const* all_;
    tools* with_;
    std::string name_;
    clip_facts facts_;
    shard const* shard_ = nullptr;
    double first_picture_ = 0;
    std::uint64_t sound_at_ = 0, samples_ = 0;
  };

 private:
  static bool has_packing(sql_database& index) { return detail::has_tables(index, {"packing", "shards", "packed"}); }
  static void read_settings(sql_database& index, contents& all) {
    auto row = index.prepare("SELECT value FROM packing WHERE key = 'settings'");
    std::string const text = row.step() ? std::string(row.text(0)) : std::string();
    try {
      auto const settings = parse_json(text, index.name());
      all.rate = settings.at("pictures_per_second").get<double>();
      all.side = settings.at("side").get<std::size_t>();
    } catch (nlohmann::json::exception const&) {
      throw format_error(complaint{index.name(), "the settings of a packing", detail::excerpt(text)});
    }
    if (!(all.rate > 0 && all.rate <= 1000))
      throw format_error(complaint{index.name(), "a number of pictures per second", std::to_string(all.rate)});
  }

  static void open_shards(sql_database& index, contents& all) {
    auto const folder = detail::folder_of(all.index);
    auto rows = index.prepare("SELECT id, file, bytes FROM shards ORDER BY id");
    while (rows.step()) {
      auto const file = shard_name(index, rows.text(1));
      if (rows.integer(0) != static_cast<std::int64_t>(all.shards.size()))
        throw format_error(complaint{index.name(), "shards numbered from 0", std::to_string(rows.integer(0))});
      all.shards.push_back({folder / file, static_cast<std::uint64_t>(rows.integer(2)), {}});
    }
    ::rlimit files{};
    bool const keep = ::getrlimit(RLIMIT_NOFILE, &files) == 0 && all.shards.size() < files.rlim_cur / 4;
    for (auto& each : all.shards) {
      each.open = detail::open_to_read(each.path);
      struct ::stat status {};
      if (::fstat(each.open.get(), &status) != 0) detail::throw_errno(each.path, "a file that can be read");
      if (static_cast<std::uint64_t>(status.st_size) != each.bytes)
        throw format_error(complaint{
            each.path.string(), "the shard that the index was written with, " + std::to_string(each.bytes) + " bytes",
            std::to_string(status.st_size)});
      if (!keep) each.open = {};
    }
  }

  std::shared_ptr<contents const> contents_;
  double limit_ = std::numeric_limits<double>::infinity();  ///< of the clips' time
};

}  // namespace l3::inline L3_ISA
