/// @file  include/l3/files/npz.hpp: arrays for NumPy: `.npy` files, and `.npz` archives as numpy.savez writes them.
///
/// Programs that include this header link libarchive.
/// Source  NumPy's "NPY format, version 1.0"; the archive is a zip with stored, ZIP64-capable members `<name>.npy`.
#pragma once
#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/text.hpp>
#include <l3/files/archive_writer.hpp>
#include <l3/files/atomic_file.hpp>
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
  if (checked_product(shape) != count)
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
  // ZIP64 fields always, like NumPy: members of more than 4 GB then take no other path than small ones.
  explicit npz_writer(std::filesystem::path path)
      : zip_(std::move(path), [](::archive* zip) {
          return ::archive_write_set_format_zip(zip) == ARCHIVE_OK &&
                 ::archive_write_set_options(zip, "zip:compression=store,zip:zip64") == ARCHIVE_OK;
        }) {}

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
    std::vector<std::byte> piece(std::min(bytes, archive_writer::piece_bytes));
    for (std::size_t offset = 0; offset < bytes; offset += piece.size()) {
      piece.resize(std::min(piece.size(), bytes - offset));
      rows.read_bytes(offset, piece);
      zip_.put(piece);
    }
  }

  /// Completes the archive and gives it its name. Once, after the last `add`.
  void commit() { zip_.commit(); }

 private:
  template <npy_value T>
  void add_values(std::string const& name, std::vector<std::size_t> const& shape, std::span<T const> values) {
    detail::require_values(name, shape, values.size());
    begin(name, detail::npy_header<T>(shape), values.size_bytes());
    zip_.put(std::as_bytes(values));
  }

  void begin(std::string const& name, std::string const& header, std::size_t bytes) {
    auto const plain = [](char c) { return c > ' ' && c < 0x7f && c != '/' && c != '\\'; };
    if (name.empty() || !std::all_of(name.begin(), name.end(), plain) || !names_.insert(name).second)
      throw setting_error(complaint{"an array's name", "plain ASCII, not yet taken", detail::excerpt(name)});
    zip_.begin(name + ".npy", header.size() + bytes);
    zip_.put(std::as_bytes(std::span(header)));
  }

  archive_writer zip_;
  std::set<std::string> names_;
};

}  // namespace l3::inline L3_ISA
