/// @file  include/l3/data/pack_check.hpp: whether a packed collection is still what was written: the members of its
/// shards, read by libarchive, against the checksums and places in its index.
///
/// Programs that include this header link SQLite 3 and libarchive.
#pragma once
#include <archive.h>
#include <archive_entry.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <l3/core/config.hpp>
#include <l3/core/context.hpp>
#include <l3/core/error.hpp>
#include <l3/core/text.hpp>
#include <l3/data/clip_index.hpp>
#include <l3/data/ffmpeg.hpp>
#include <l3/data/packed_clips.hpp>
#include <l3/files/sqlite.hpp>
#include <l3/files/wav.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace l3::inline L3_ISA {

/// What was read, and what is wrong with it.
struct pack_check {
  std::size_t shards = 0, clips = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> problems;  ///< "shard-00003.tar: expected ..., found ..."; none: all is as it was
};

namespace detail {

/// One shard against what the index says of it.
class shard_check {
 public:
  /// `clips`: those that the index knows of in it.
  shard_check(std::filesystem::path const& index, std::int64_t shard, std::string file, std::uint64_t bytes,
              std::uint64_t clips)
      : index_(index, sql_database::mode::read),
        find_(index_.prepare(
            "SELECT shard, crc32, sound_at, samples, picture_at, picture_bytes FROM packed WHERE id = ?")),
        shard_(shard),
        bytes_(bytes),
        clips_(clips),
        name_(std::move(file)),
        path_(folder_of(index) / name_) {}

  pack_check run() {
    found_.shards = 1;
    std::error_code unknown;
    auto const size = std::filesystem::file_size(path_, unknown);
    if (unknown) {
      problem("a shard", unknown.message());
      return found_;
    }
    found_.bytes = size;
    if (size != bytes_) problem(std::to_string(bytes_) + " bytes", std::to_string(size));
    read_members();
    if (found_.clips != clips_) problem(std::to_string(clips_) + " clips", std::to_string(found_.clips));
    return found_;
  }

 private:
  struct release {
    void operator()(::archive* a) const { ::archive_read_free(a); }
  };

  void problem(std::string const& expected, std::string const& what) {
    found_.problems.push_back(name_ + ": expected " + expected + ", found " + what);
  }

  void read_members() {
    std::unique_ptr<::archive, release> const tar(::archive_read_new());
    if (!tar || ::archive_read_support_format_tar(tar.get()) != ARCHIVE_OK ||
        ::archive_read_open_filename(tar.get(), path_.c_str(), std::size_t{1} << 20) != ARCHIVE_OK)
      return problem("a tar file", tar ? ::archive_error_string(tar.get()) : "no memory");
    ::archive_entry* entry = nullptr;
    int code;
    while ((code = ::archive_read_next_header(tar.get(), &entry)) == ARCHIVE_OK) {
      constexpr std::uint64_t header = 512;
      auto const at = static_cast<std::uint64_t>(::archive_read_header_position(tar.get())) + header;
      auto const* const name = ::archive_entry_pathname(entry);
      begin_member(name ? name : "", at, static_cast<std::uint64_t>(::archive_entry_size(entry)));
      void const* data = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      while ((code = ::archive_read_data_block(tar.get(), &data, &size, &offset)) == ARCHIVE_OK)
        crc_ = ffmpeg::crc32({static_cast<std::byte const*>(data), size}, crc_);
      if (code != ARCHIVE_EOF) break;
    }
    end_clip();
    if (code != ARCHIVE_EOF) problem("a whole tar file", ::archive_error_string(tar.get()));
  }

  /// A member "000000012.00003.jpg" at its place.
  void begin_member(std::string_view name, std::uint64_t at, std::uint64_t bytes) {
    std::uint32_t key = 0;  // a list has fewer clips than this holds
    auto const dot = std::min(name.find('.'), name.size());
    auto const [end, error] = std::from_chars(name.data(), name.data() + dot, key);
    if (error != std::errc() || end != name.data() + dot) return problem("members named after clips", excerpt(name));
    if (std::int64_t const id = std::int64_t{key} + 1; id != clip_) {
      end_clip();
      begin_clip(id);
    }
    auto const kind = name.substr(dot);
    if (kind == ".json" || !known_) return;
    std::uint64_t place = 0, length = 0;
    if (kind == ".wav") {
      place = sound_at_;
      length = 2 * samples_;
      at += wav_header_bytes;
      bytes -= wav_header_bytes;
    } else {
      std::size_t k = picture_at_.size();
      if (kind.size() > 1) std::from_chars(kind.data() + 1, kind.data() + kind.size(), k);
      if (k < picture_at_.size()) place = picture_at_[k], length = picture_bytes_[k];
    }
    if (at != place || bytes != length)
      problem(
          excerpt(name) + " where the index has it, " + std::to_string(length) + " bytes at " + std::to_string(place),
          std::to_string(bytes) + " bytes at " + std::to_string(at));
  }

  void begin_clip(std::int64_t id) {
    clip_ = id;
    crc_ = 0;
    known_ = find_.bind(id).step();
    if (!known_) return problem("clips of the index", "number " + std::to_string(id - 1));
    if (find_.integer(0) != shard_) problem("clip " + std::to_string(id - 1) + " in another shard", "it here");
    expected_crc_ = static_cast<std::uint32_t>(find_.integer(1));
    sound_at_ = static_cast<std::uint64_t>(find_.integer(2));
    samples_ = static_cast<std::uint64_t>(find_.integer(3));
    copy(find_.blob(4), picture_at_);
    copy(find_.blob(5), picture_bytes_);
    if (picture_at_.size() != picture_bytes_.size()) {
      problem("as many sizes as places of pictures", std::to_string(picture_bytes_.size()));
      picture_at_.clear();
    }
    while (find_.step()) {
    }
  }
  void end_clip() {
    if (clip_ < 0) return;
    ++found_.clips;
    if (known_ && crc_ != expected_crc_)
      problem("the bytes that were written of clip " + std::to_string(clip_ - 1), "others (CRC-32)");
    clip_ = -1;
  }
  template <class T>
  static void copy(std::span<std::byte const> from, std::vector<T>& to) {
    to.resize(from.size() / sizeof(T));
    if (!to.empty()) std::memcpy(to.data(), from.data(), to.size() * sizeof(T));
  }

  sql_database index_;
  sql_statement find_;
  std::int64_t shard_, clip_ = -1;
  std::uint64_t bytes_, clips_, sound_at_ = 0, samples_ = 0;
  std::string name_;
  std::filesystem::path path_;
  bool known_ = false;
  std::uint32_t crc_ = 0, expected_crc_ = 0;
  std::vector<std::uint64_t> picture_at_;
  std::vector<std::uint32_t> picture_bytes_;
  pack_check found_;
};

}  // namespace detail

/// Reads all shards of a packed collection and compares them with its index. `progress(bytes so far, bytes in all)` is
/// called after each shard, by one thread at a time.
///
/// Errors  file_error, format_error: no such index. What is wrong with the shards is in the result.
inline pack_check check_packing(std::filesystem::path const& folder, std::size_t threads = 0,
                                std::function<void(std::uint64_t, std::uint64_t)> const& progress = {}) {
  auto const index = std::filesystem::absolute(packed_clips::index_of(folder));
  sql_database database(index, sql_database::mode::read);
  (void)detail::read_settings(database);
  packed_clips::require_packing(database);
  struct shard {
    std::int64_t id;
    std::string file;
    std::uint64_t bytes;
  };
  std::vector<shard> shards;
  std::uint64_t total = 0;
  auto rows = database.prepare("SELECT id, file, bytes FROM shards ORDER BY id");
  while (rows.step()) {
    shards.push_back({rows.integer(0), packed_clips::shard_name(database, rows.text(1)),
                      static_cast<std::uint64_t>(rows.integer(2))});
    total += shards.back().bytes;
  }
  std::unordered_map<std::int64_t, std::uint64_t> clips;  // of each shard
  auto counts = database.prepare("SELECT shard, count(*) FROM packed GROUP BY shard");
  while (counts.step()) clips[counts.integer(0)] = static_cast<std::uint64_t>(counts.integer(1));
  std::vector<pack_check> parts(shards.size());
  std::mutex one_at_a_time;
  std::uint64_t read = 0;
  thread_team team(threads);
  team.run(shards.size(), [&](std::size_t k, std::size_t) {
    auto const known = clips.find(shards[k].id);
    parts[k] = detail::shard_check(index, shards[k].id, shards[k].file, shards[k].bytes,
                                   known == clips.end() ? 0 : known->second)
                   .run();
    std::lock_guard const lock(one_at_a_time);
    read += shards[k].bytes;
    if (progress) progress(read, total);
  });
  pack_check all;
  auto lost = database.prepare("SELECT count(*) FROM packed WHERE shard NOT IN (SELECT id FROM shards)");
  if (lost.step() && lost.integer(0) > 0)
    all.problems.push_back(index.string() + ": expected a shard for every clip, found " +
                           std::to_string(lost.integer(0)) + " clips without");
  auto absent = database.prepare("SELECT count(*) FROM clips WHERE usable AND id NOT IN (SELECT id FROM packed)");
  if (absent.step() && absent.integer(0) > 0)
    all.problems.push_back(index.string() + ": expected a place in the shards for every clip, found " +
                           std::to_string(absent.integer(0)) + " clips without");
  for (auto const& part : parts) {
    all.shards += part.shards;
    all.clips += part.clips;
    all.bytes += part.bytes;
    all.problems.insert(all.problems.end(), part.problems.begin(), part.problems.end());
  }
  if (all.problems.empty()) try {
      packed_clips const whole(folder);
    } catch (error const& e) {  // what the shards do not know of
      all.problems.push_back(e.what());
    }
  return all;
}

}  // namespace l3::inline L3_ISA
