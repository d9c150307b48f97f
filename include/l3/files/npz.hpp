/// @file  include/l3/files/npz.hpp: arrays for NumPy: `.npy` files, and `.npz` archives as numpy.savez writes them.
///
/// Programs that include this header link libarchive.
/// Source  NumPy's "NPY format, version 1.0"; the archive is a zip with stored, ZIP64-capable members `<name>.npy`.
#pragma once
#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <l3/core/error.hpp>
#include <l3/files/atomic_file.hpp>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

static_assert(std::endian::native == std::endian::little, "l3: .npy files are written little endian, like this code");

/// Values an array may hold: float ('<f4') or double ('<f8').
template <class T>
concept npy_value = std::same_as<T, float> || std::same_as<T, double>;

namespace detail {

/// The bytes before the values. NumPy leaves room for a first axis of 21 digits, so that rows can be appended, and
/// aligns the values to 64 bytes; the same room makes the same bytes.
template <npy_value T>
std::string npy_header(std::vector<std::size_t> const& shape) {
  std::string sizes;
  for (auto const size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  if (shape.size() == 1) sizes += ',';
  std::string text = std::string("{'descr': '") + (std::same_as<T, float> ? "<f4" : "<f8") +
                     "', 'fortran_order': False, 'shape': (" + sizes + "), }";
  if (!shape.empty()) text.append(21 - std::to_string(shape.front()).size(), ' ');

  constexpr std::size_t prefix = 10;  // magic, version, length of the text
  auto const length = (prefix + text.size() + 1 + 63) / 64 * 64 - prefix;
  if (length > 0xffff) throw shape_error(complaint{"a NumPy array", "a shape of at most 65 kB", "more"});
  text.resize(length - 1, ' ');
  std::string header("\x93NUMPY\x01\x00", 8);
  header += {static_cast<char>(length & 0xff), static_cast<char>(length >> 8)};
  return header + text + '\n';
}

inline void require_values(std::string const& name, std::vector<std::size_t> const& shape, std::size_t count) {
  std::size_t product = 1;
  bool fits = true;
  for (auto const size : shape) fits = fits && !__builtin_mul_overflow(product, size, &product);
  if (!fits || product != count)
    throw shape_error(complaint{"array " + name, "as many values as its shape says", std::to_string(count)});
}

}  // namespace detail

/// Writes one array, C order, as `numpy.save` does. Errors  file_error; shape_error if shape and values disagree.
template <npy_value T>
void write_npy(std::filesystem::path const& path, std::vector<std::size_t> const& shape, std::span<T const> values) {
  detail::require_values(path.string(), shape, values.size());
  atomic_file file(path);
  file.write(detail::npy_header<T>(shape));
  file.write(std::as_bytes(values));
  file.commit();
}

/// Rows of one array whose number is not known in advance, kept in a nameless file beside the target until
/// `npz_writer::add` copies them, so that memory does not grow with their number.
///
/// Errors  file_error naming the target: missing directory, disk full.
template <npy_value T>
class npz_rows {
 public:
  npz_rows(std::filesystem::path target, std::size_t values_per_row)
      : target_(std::move(target)), values_per_row_(values_per_row) {
    auto temporary = detail::create_beside(target_);
    ::unlink(temporary.path.c_str());  // the system frees it when it is closed, however the process ends
    file_ = std::move(temporary.file);
  }

  /// Appends one row or several. Errors  shape_error if `values` are not whole rows.
  void append(std::span<T const> values) {
    if (values_per_row_ == 0 || values.size() % values_per_row_ != 0)
      throw shape_error(complaint{"rows for " + target_.string(), std::to_string(values_per_row_) + " values each",
                                  std::to_string(values.size())});
    if (!detail::write_all(file_, std::as_bytes(values)))
      detail::throw_errno(target_, "room beside it for a temporary file");
    count_ += values.size() / values_per_row_;
  }

  std::size_t count() const { return count_; }
  std::size_t values_per_row() const { return values_per_row_; }

  /// Fills `out` with the bytes from `offset` on.
  void read_bytes(std::size_t offset, std::span<std::byte> out) const { detail::read_at(file_, target_, offset, out); }

 private:
  std::filesystem::path target_;
  detail::file_descriptor file_;
  std::size_t values_per_row_;
  std::size_t count_ = 0;
};

/// Writes an `.npz` file, atomically: add arrays, then `commit`. Without `commit` there is no file. Times inside are
/// the zip format's first (1980-01-01), so equal arrays give equal files. Arrays beyond 4 GB are ZIP64, as NumPy's are.
///
/// Errors  file_error; shape_error if shape and values disagree; setting_error for a name taken, empty or not plain
///         ASCII.
class npz_writer {
 public:
  explicit npz_writer(std::filesystem::path path) : file_(std::move(path)), zip_(::archive_write_new()) {
    auto* const zip = zip_.get();
    // ZIP64 fields always, like NumPy: members of more than 4 GB then take no other path than small ones.
    require(zip != nullptr && ::archive_write_set_format_zip(zip) == ARCHIVE_OK &&
            ::archive_write_set_options(zip, "zip:compression=store,zip:zip64") == ARCHIVE_OK &&
            ::archive_write_set_bytes_in_last_block(zip, 1) == ARCHIVE_OK &&  // no padding after the end
            ::archive_write_open(zip, this, nullptr, &npz_writer::take_bytes, nullptr) == ARCHIVE_OK);
  }
  npz_writer(npz_writer const&) = delete;
  npz_writer& operator=(npz_writer const&) = delete;

  /// Adds an array, C order.
  void add(std::string const& name, std::vector<std::size_t> const& shape, std::span<float const> values) {
    add_values(name, shape, values);
  }
  void add(std::string const& name, std::vector<std::size_t> const& shape, std::span<double const> values) {
    add_values(name, shape, values);
  }

  /// Adds the collected rows as an array (count, values_per_row).
  template <npy_value T>
  void add(std::string const& name, npz_rows<T> const& rows) {
    auto const bytes = rows.count() * rows.values_per_row() * sizeof(T);
    begin(name, detail::npy_header<T>({rows.count(), rows.values_per_row()}), bytes);
    std::vector<std::byte> piece(std::min(bytes, piece_bytes));
    for (std::size_t offset = 0; offset < bytes; offset += piece.size()) {
      piece.resize(std::min(piece.size(), bytes - offset));
      rows.read_bytes(offset, piece);
      put(piece);
    }
  }

  /// Completes the archive and gives it its name. Once, after the last `add`.
  void commit() {
    require(::archive_write_close(zip_.get()) == ARCHIVE_OK);
    file_.commit();
  }

 private:
  static constexpr std::size_t piece_bytes = std::size_t{1} << 20;

  struct release {
    void operator()(::archive* zip) const { ::archive_write_free(zip); }
    void operator()(::archive_entry* entry) const { ::archive_entry_free(entry); }
  };

  /// libarchive is C: an exception waits outside until its call is over. It is never told of the failure, because it
  /// would then leak its buffers; it goes on into the void until `require` looks.
  static la_ssize_t take_bytes(::archive*, void* self, void const* bytes, std::size_t count) {
    auto& writer = *static_cast<npz_writer*>(self);
    try {
      if (!writer.failure_) writer.file_.write(std::span(static_cast<std::byte const*>(bytes), count));
    } catch (...) {
      writer.failure_ = std::current_exception();
    }
    return static_cast<la_ssize_t>(count);
  }

  void require(bool worked) const {
    if (failure_) std::rethrow_exception(failure_);
    if (worked) return;
    auto const* const reason = zip_ ? ::archive_error_string(zip_.get()) : nullptr;
    throw file_error(complaint{file_.target().string(), "an archive that can be written",
                               reason != nullptr ? reason : "a failure of libarchive"});
  }

  template <npy_value T>
  void add_values(std::string const& name, std::vector<std::size_t> const& shape, std::span<T const> values) {
    detail::require_values(name, shape, values.size());
    begin(name, detail::npy_header<T>(shape), values.size_bytes());
    put(std::as_bytes(values));
  }

  void begin(std::string const& name, std::string const& header, std::size_t bytes) {
    auto const plain = [](char c) { return c > ' ' && c < 0x7f && c != '/' && c != '\\'; };
    if (name.empty() || !std::all_of(name.begin(), name.end(), plain) || !names_.insert(name).second)
      throw setting_error(complaint{"an array's name", "plain ASCII, not yet taken", detail::excerpt(name)});
    std::unique_ptr<::archive_entry, release> const entry(::archive_entry_new());
    require(entry != nullptr);
    ::archive_entry_set_pathname(entry.get(), (name + ".npy").c_str());
    ::archive_entry_set_filetype(entry.get(), AE_IFREG);
    ::archive_entry_set_perm(entry.get(), 0644);
    ::archive_entry_set_size(entry.get(), static_cast<la_int64_t>(header.size() + bytes));
    require(::archive_write_header(zip_.get(), entry.get()) == ARCHIVE_OK);
    put(std::as_bytes(std::span(header)));
  }

  /// In pieces: libarchive counts the bytes of one call's checksum in 32 bits.
  void put(std::span<std::byte const> bytes) {
    while (!bytes.empty()) {
      auto const piece = bytes.first(std::min(bytes.size(), piece_bytes));
      require(::archive_write_data(zip_.get(), piece.data(), piece.size()) == static_cast<la_ssize_t>(piece.size()));
      bytes = bytes.subspan(piece.size());
    }
  }

  atomic_file file_;
  std::exception_ptr failure_;
  std::set<std::string> names_;
  std::unique_ptr<::archive, release> zip_;  ///< last, so that it goes first: it still writes when it is freed
};

}  // namespace l3::inline L3_ISA
