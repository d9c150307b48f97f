/// @file  include/l3/files/archive_writer.hpp: an archive of libarchive's that appears whole or not at all.
///
/// Programs that include this header link libarchive.
#pragma once
#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <l3/core/error.hpp>
#include <l3/files/atomic_file.hpp>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace l3::inline L3_ISA {

/// Writes members one after the other into an archive: `begin` a member, `put` its bytes, at last `commit`. Times,
/// owners and rights are the same for all, so equal members give equal files. Without `commit` there is no file.
///
/// Errors  file_error naming the file: disk full, a member that the format cannot hold.
class archive_writer {
 public:
  /// `format(archive)` chooses libarchive's format and its options and says whether that worked.
  template <class Format>
  archive_writer(std::filesystem::path path, Format&& format)
      : file_(std::move(path)), archive_(::archive_write_new()) {
    auto* const a = archive_.get();
    require(a != nullptr && format(a) && ::archive_write_set_bytes_per_block(a, 0) == ARCHIVE_OK &&  // no buffer
            ::archive_write_set_bytes_in_last_block(a, 1) == ARCHIVE_OK &&  // no padding after the end
            ::archive_write_open(a, this, nullptr, &archive_writer::take_bytes, nullptr) == ARCHIVE_OK);
  }
  archive_writer(archive_writer const&) = delete;
  archive_writer& operator=(archive_writer const&) = delete;

  /// A member of `bytes` bytes, which `put` has to bring.
  void begin(std::string const& name, std::size_t bytes) {
    std::unique_ptr<::archive_entry, release> const entry(::archive_entry_new());
    require(entry != nullptr);
    ::archive_entry_set_pathname(entry.get(), name.c_str());
    ::archive_entry_set_filetype(entry.get(), AE_IFREG);
    ::archive_entry_set_perm(entry.get(), 0644);
    ::archive_entry_set_size(entry.get(), static_cast<la_int64_t>(bytes));
    require(::archive_write_header(archive_.get(), entry.get()) == ARCHIVE_OK);
  }

  /// In pieces: libarchive counts the bytes of one call's checksum in 32 bits.
  void put(std::span<std::byte const> bytes) {
    while (!bytes.empty()) {
      auto const piece = bytes.first(std::min(bytes.size(), piece_bytes));
      require(::archive_write_data(archive_.get(), piece.data(), piece.size()) ==
              static_cast<la_ssize_t>(piece.size()));
      bytes = bytes.subspan(piece.size());
    }
  }

  /// Bytes of the archive so far: after `begin`, where the member's own bytes will stand.
  std::uint64_t position() const { return position_; }

  /// Completes the archive and gives it its name. Once, after the last member.
  void commit() {
    require(::archive_write_close(archive_.get()) == ARCHIVE_OK);
    file_.commit();
  }

  static constexpr std::size_t piece_bytes = std::size_t{1} << 20;

 private:
  struct release {
    void operator()(::archive* a) const { ::archive_write_free(a); }
    void operator()(::archive_entry* entry) const { ::archive_entry_free(entry); }
  };

  /// libarchive is C: an exception waits outside until its call is over. It is never told of the failure, because it
  /// would then leak its buffers; it goes on into the void until `require` looks.
  static la_ssize_t take_bytes(::archive*, void* self, void const* bytes, std::size_t count) {
    auto& writer = *static_cast<archive_writer*>(self);
    try {
      if (!writer.failure_) writer.file_.write(std::span(static_cast<std::byte const*>(bytes), count));
      writer.position_ += count;
    } catch (...) {
      writer.failure_ = std::current_exception();
    }
    return static_cast<la_ssize_t>(count);
  }

  void require(bool worked) const {
    if (failure_) std::rethrow_exception(failure_);
    if (worked) return;
    auto const* const reason = archive_ ? ::archive_error_string(archive_.get()) : nullptr;
    throw file_error(complaint{file_.target().string(), "an archive that can be written",
                               reason != nullptr ? reason : "a failure of libarchive"});
  }

  atomic_file file_;
  std::exception_ptr failure_;
  std::uint64_t position_ = 0;
  std::unique_ptr<::archive, release> archive_;  ///< last, so that it goes first: it still writes when it is freed
};

}  // namespace l3::inline L3_ISA
