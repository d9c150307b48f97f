/// @file  include/l3/files/safetensors.hpp: named tensors in a file: reads with suspicion, writes the reference's
/// bytes.
///
/// Layout  header size (8 bytes, little endian), header (JSON: name -> dtype, shape, data_offsets; `__metadata__` maps
///         strings to strings), then the tensors' bytes, little endian, C order, without holes.
/// Source  the format's documentation and the behaviour of its reference reader (github.com/huggingface/safetensors).
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/text.hpp>
#include <l3/files/atomic_file.hpp>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

static_assert(std::endian::native == std::endian::little, "l3: safetensors files are little endian, like this code");

/// Where a tensor lies in its file.
struct tensor_entry {
  std::string dtype;               ///< as the format spells it: F32, I64, ...
  std::vector<std::size_t> shape;  ///< C order; empty for a scalar
  std::size_t begin = 0;           ///< first byte, counted from the end of the header
  std::size_t end = 0;             ///< one past the last byte
};

namespace detail {

template <class T>
inline constexpr std::string_view safetensors_dtype = std::same_as<T, float>    ? "F32"
                                                      : std::same_as<T, double> ? "F64"
                                                                                : "I64";

inline constexpr std::size_t safetensors_header_limit = 100'000'000;  ///< the reference reader's cap
inline constexpr std::size_t safetensors_entry_limit = 1'000'000;     ///< bounds the memory a hostile header can claim
inline constexpr std::size_t safetensors_rank_limit = 64;             ///< NumPy's limit too

/// Bytes of one value, or 0 for a type the format does not have. (Types of less than a byte are not read.)
inline std::size_t safetensors_value_bytes(std::string_view dtype) {
  using list = std::initializer_list<std::string_view>;
  auto const is_in = [&](list names) { return std::find(names.begin(), names.end(), dtype) != names.end(); };
  if (is_in({"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"})) return 1;
  if (is_in({"U16", "I16", "F16", "BF16"})) return 2;
  if (is_in({"U32", "I32", "F32"})) return 4;
  if (is_in({"U64", "I64", "F64"})) return 8;
  return 0;
}

/// "F32 [64, 3, 3, 3]"
inline std::string describe(std::string_view dtype, std::vector<std::size_t> const& shape) {
  std::string text(dtype);
  text += " [";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + ']';
}

/// Takes the header apart while it is parsed, so that no document is built from it and anything unexpected (nesting,
/// types, repeated names) is refused at once. Called by nlohmann::json; every refusal is a format_error.
class safetensors_header {
 public:
  explicit safetensors_header(std::string file) : file_(std::move(file)) {}

  std::map<std::string, tensor_entry> tensors;
  std::map<std::string, std::string> metadata;

  /// Parses `text`; then the tensors must cover the data_bytes that follow it, without holes or overlaps.
  void parse(std::string_view text, std::size_t data_bytes) {
    if (!text.starts_with('{')) refuse("a header that starts with '{'", excerpt(text.substr(0, 1)));
    // The parser takes a zero byte for the end, other readers do not: no file may mean two things.
    if (auto const zero = text.find('\0'); zero != text.npos) refuse_at("valid JSON", zero);
    nlohmann::json::sax_parse(text.begin(), text.end(), this);
    require_cover(data_bytes);
  }

  bool start_object(std::size_t) {
    if (at_ == place::before) return go(place::names);
    if (at_ != place::names) return unexpected("an object");
    if (name_ == "__metadata__") {
      if (std::exchange(has_metadata_, true)) refuse("one '__metadata__'", "two");
      return go(place::metadata);
    }
    if (tensors.contains(name_)) refuse("tensors with different names", "two named " + excerpt(name_));
    count_entry();
    entry_ = {};
    offsets_.clear();
    has_dtype_ = has_shape_ = has_offsets_ = false;
    return go(place::tensor);
  }
  bool key(std::string& text) {
    (at_ == place::names ? name_ : key_) = text;
    return true;
  }
  bool end_object() {
    if (at_ == place::metadata) return go(place::names);
    if (at_ == place::names) return go(place::after);
    if (!has_dtype_ || !has_shape_ || !has_offsets_) refuse("dtype, shape and data_offsets" + of_tensor(), "fewer");
    require_size();
    tensors.emplace(name_, std::move(entry_));
    return go(place::names);
  }
  bool start_array(std::size_t) {
    if (at_ != place::tensor) return unexpected("an array");
    if (key_ == "shape" && !std::exchange(has_shape_, true)) return go(place::shape);
    if (key_ == "data_offsets" && !std::exchange(has_offsets_, true)) return go(place::offsets);
    return unexpected("an array");
  }
  bool end_array() {
    if (at_ == place::offsets && offsets_.size() != 2) refuse("two data_offsets" + of_tensor(), "fewer");
    return go(place::tensor);
  }
  bool string(std::string& text) {
    if (at_ == place::metadata) {
      count_entry();
      if (!metadata.emplace(key_, std::move(text)).second)
        refuse("different names in '__metadata__'", "two named " + excerpt(key_));
      return true;
    }
    if (at_ != place::tensor || key_ != "dtype" || std::exchange(has_dtype_, true)) return unexpected("a string");
    if (safetensors_value_bytes(text) == 0) refuse("a dtype of the format" + of_tensor(), excerpt(text));
    entry_.dtype = std::move(text);
    return true;
  }
  bool number_unsigned(std::uint64_t value) {
    if (at_ == place::shape) {
      if (entry_.shape.size() == safetensors_rank_limit) refuse("at most 64 dimensions" + of_tensor(), "more");
      entry_.shape.push_back(value);
    } else if (at_ == place::offsets) {
      if (offsets_.size() == 2) refuse("two data_offsets" + of_tensor(), "more");
      offsets_.push_back(value);
    } else {
      return unexpected("a number");
    }
    return true;
  }
  bool number_integer(std::int64_t value) { return unexpected("the negative number " + std::to_string(value)); }
  bool number_float(double, std::string const& text) { return unexpected("the number " + excerpt(text)); }
  bool boolean(bool) { return unexpected("true or false"); }
  bool null() { return unexpected("null"); }
  bool binary(nlohmann::json::binary_t&) { return unexpected("binary data"); }
  bool parse_error(std::size_t position, std::string const&, nlohmann::json::exception const&) {
    refuse_at("valid JSON in UTF-8", position);
  }

 private:
  enum class place { before, names, metadata, tensor, shape, offsets, after };

  bool go(place next) {
    at_ = next;
    return true;
  }
  std::string of_tensor() const { return " for tensor " + excerpt(name_); }
  [[noreturn]] void refuse(std::string expected, std::string found) const {
    throw format_error(complaint{file_, std::move(expected), std::move(found)});
  }
  [[noreturn]] void refuse_at(std::string expected, std::size_t position) const {
    refuse(std::move(expected), "an error at byte " + std::to_string(position) + " of the header");
  }
  bool unexpected(std::string const& what) const {
    switch (at_) {
      case place::before:
        refuse("a header that is an object", what);
      case place::names:
        refuse("an object for " + excerpt(name_), what);
      case place::metadata:
        refuse("a string for " + excerpt(key_) + " in '__metadata__'", what);
      case place::shape:
        refuse("whole numbers in the shape" + of_tensor(), what);
      case place::offsets:
        refuse("whole numbers in data_offsets" + of_tensor(), what);
      default:
        refuse("dtype, shape and data_offsets, once each," + of_tensor(), what + " for " + excerpt(key_));
    }
  }
  void count_entry() {
    if (++entries_ > safetensors_entry_limit)
      refuse("at most " + std::to_string(safetensors_entry_limit) + " tensors and metadata strings", "more");
  }
  void require_size() {
    auto const needed = checked_product(entry_.shape, safetensors_value_bytes(entry_.dtype));
    if (offsets_[0] > offsets_[1] || !needed || offsets_[1] - offsets_[0] != *needed)
      refuse((needed ? std::to_string(*needed) + " bytes" : "a size that can be counted") + of_tensor() + " of " +
                 describe(entry_.dtype, entry_.shape),
             "bytes " + std::to_string(offsets_[0]) + " to " + std::to_string(offsets_[1]));
    std::tie(entry_.begin, entry_.end) = std::pair(offsets_[0], offsets_[1]);
  }
  void require_cover(std::size_t data_bytes) const {
    std::vector<std::tuple<std::size_t, std::size_t, std::string_view>> parts;
    parts.reserve(tensors.size());
    for (auto const& [name, entry] : tensors) parts.emplace_back(entry.begin, entry.end, name);
    std::sort(parts.begin(), parts.end());
    std::size_t covered = 0;
    for (auto const& [begin, end, name] : parts) {
      if (begin != covered)
        refuse("tensor " + excerpt(name) + " to begin at byte " + std::to_string(covered), std::to_string(begin));
      covered = end;
    }
    if (covered != data_bytes)
      refuse(std::to_string(covered) + " bytes of tensors after the header", std::to_string(data_bytes));
  }

  std::string file_;
  place at_ = place::before;
  std::string name_, key_;  ///< keys last met: of the header; of a tensor or the metadata
  tensor_entry entry_;      ///< the tensor being read
  std::vector<std::size_t> offsets_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false, has_metadata_ = false;
  std::size_t entries_ = 0;
};

}  // namespace detail

/// A safetensors file open for reading. The header is checked when it is opened, before anything of the size it claims
/// is allocated; tensors are read from the file when asked for, from any number of threads.
class safetensors_file {
 public:
  /// Errors  file_error if it cannot be read, format_error if it is not a sound safetensors file.
  static safetensors_file open(std::filesystem::path path) {
    auto file = detail::open_stream(path, O_NONBLOCK);  // a pipe is refused, not waited for
    struct ::stat status {};
    if (::fstat(file.get(), &status) != 0) detail::throw_errno(path, "a file that can be read");
    auto const refuse = [&](std::string expected, std::string found) {
      throw format_error(complaint{path.string(), std::move(expected), std::move(found)});
    };
    if (!S_ISREG(status.st_mode)) refuse("a safetensors file", "a directory or a special file");
    auto const file_bytes = static_cast<std::uint64_t>(status.st_size);
    std::uint64_t header_bytes = 0;
    if (file_bytes < sizeof header_bytes)
      refuse("a safetensors file", "a file of " + std::to_string(file_bytes) + " bytes");
    detail::read_at(file, path, 0, std::as_writable_bytes(std::span(&header_bytes, 1)));
    auto const most = std::min<std::uint64_t>(detail::safetensors_header_limit, file_bytes - sizeof header_bytes);
    if (header_bytes > most)
      refuse("a safetensors header of at most " + std::to_string(most) + " bytes", std::to_string(header_bytes));

    std::string text(header_bytes, ' ');
    detail::read_at(file, path, sizeof header_bytes, std::as_writable_bytes(std::span(text)));
    detail::safetensors_header header(path.string());
    header.parse(text, file_bytes - sizeof header_bytes - header_bytes);

    safetensors_file opened;
    opened.path_ = std::move(path);
    opened.file_ = std::move(file);
    opened.data_ = sizeof header_bytes + header_bytes;
    opened.tensors_ = std::move(header.tensors);
    opened.metadata_ = std::move(header.metadata);
    return opened;
  }

  std::filesystem::path const& path() const { return path_; }
  std::map<std::string, tensor_entry> const& tensors() const { return tensors_; }
  std::map<std::string, std::string> const& metadata() const { return metadata_; }
  bool contains(std::string const& name) const { return tensors_.contains(name); }

  /// Where a tensor lies. Errors  format_error if there is none of that name.
  tensor_entry const& entry(std::string const& name) const {
    auto const found = tensors_.find(name);
    if (found == tensors_.end()) throw format_error(complaint{path_.string(), "a tensor named " + name, "none"});
    return found->second;
  }

  /// The text of a metadata key. Errors  format_error if there is none of that name.
  std::string const& metadata(std::string const& key) const {
    auto const found = metadata_.find(key);
    if (found == metadata_.end()) throw format_error(complaint{path_.string(), key + " in its metadata", "none"});
    return found->second;
  }

  /// Reads a tensor that must have this type (F32, F64, I64) and shape into `out`. Values are not judged: NaN is NaN.
  ///
  /// Errors  format_error if the tensor is missing or differs, shape_error if `out` does not hold `shape`, file_error.
  void read(std::string const& name, std::span<float> out, std::vector<std::size_t> const& shape) const {
    read_values(name, out, shape);
  }
  void read(std::string const& name, std::span<double> out, std::vector<std::size_t> const& shape) const {
    read_values(name, out, shape);
  }
  void read(std::string const& name, std::span<std::int64_t> out, std::vector<std::size_t> const& shape) const {
    read_values(name, out, shape);
  }

  /// A scalar I64 tensor, such as `num_batches_tracked`.
  std::int64_t read_int64(std::string const& name) const {
    std::int64_t value = 0;
    read(name, std::span(&value, 1), {});
    return value;
  }

  /// A tensor's bytes, whatever its dtype.
  std::vector<std::byte> read_bytes(std::string const& name) const {
    auto const& found = entry(name);
    std::vector<std::byte> bytes(found.end - found.begin);
    detail::read_at(file_, path_, data_ + found.begin, bytes);
    return bytes;
  }

 private:
  safetensors_file() = default;

  template <class T>
  void read_values(std::string const& name, std::span<T> out, std::vector<std::size_t> const& shape) const {
    auto const& found = entry(name);
    auto const dtype = detail::safetensors_dtype<T>;
    if (found.dtype != dtype || found.shape != shape)
      throw format_error(complaint{path_.string() + ": tensor " + name, detail::describe(dtype, shape),
                                   detail::describe(found.dtype, found.shape)});
    if (out.size_bytes() != found.end - found.begin)
      throw shape_error(complaint{"the memory for tensor " + name, detail::describe(dtype, shape),
                                  std::to_string(out.size()) + " values"});
    detail::read_at(file_, path_, data_ + found.begin, std::as_writable_bytes(out));
  }

  std::filesystem::path path_;
  detail::file_descriptor file_;
  std::uint64_t data_ = 0;  ///< where the header ends
  std::map<std::string, tensor_entry> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Writes a safetensors file, byte for byte as the reference writer does: tensors by falling size of their type, then
/// by name; header padded with spaces to 8 bytes. (Metadata, which that writer leaves in any order, is sorted.) Equal
/// tensors give equal files.
class safetensors_writer {
 public:
  /// Sets a metadata string. Errors  setting_error if key or value is not UTF-8.
  void metadata(std::string const& key, std::string const& value) {
    quoted(key);
    metadata_[key] = quoted(value);
  }

  /// Adds a tensor without copying it: `values` must stay as they are until `write` has returned.
  ///
  /// Errors  shape_error if there are not as many values as the shape says; setting_error for a name that is taken,
  ///         reserved or not UTF-8.
  void add(std::string const& name, std::vector<std::size_t> shape, std::span<float const> values) {
    add_values(name, std::move(shape), values);
  }
  void add(std::string const& name, std::vector<std::size_t> shape, std::span<double const> values) {
    add_values(name, std::move(shape), values);
  }
  void add(std::string const& name, std::vector<std::size_t> shape, std::span<std::int64_t const> values) {
    add_values(name, std::move(shape), values);
  }

  /// Writes the file, atomically, straight from the added tensors.
  ///
  /// Errors  file_error; setting_error if there are more names or metadata than a reader accepts.
  void write(std::filesystem::path const& path) const {
    std::vector<part const*> order;
    for (auto const& [name, tensor] : tensors_) order.push_back(&tensor);
    // I64 before F64 before F32: the largest alignment first, so that every tensor in a mapped file is aligned.
    std::stable_sort(order.begin(), order.end(), [](auto a, auto b) { return rank(a->dtype) < rank(b->dtype); });

    auto const header = this->header(order);
    if (header.size() > detail::safetensors_header_limit ||
        tensors_.size() + metadata_.size() > detail::safetensors_entry_limit)
      throw setting_error(complaint{path.string(), "a header of at most 100 MB and a million entries",
                                    std::to_string(header.size()) + " bytes and " +
                                        std::to_string(tensors_.size() + metadata_.size()) + " entries"});
    std::uint64_t const header_bytes = header.size();
    atomic_file file(path);
    file.write(std::as_bytes(std::span(&header_bytes, 1)));
    file.write(header);
    for (auto const* tensor : order) file.write(tensor->bytes);
    file.commit();
  }

 private:
  struct part {
    std::string quoted_name;
    std::string_view dtype;
    std::vector<std::size_t> shape;
    std::span<std::byte const> bytes;
  };

  template <class T>
  void add_values(std::string const& name, std::vector<std::size_t> shape, std::span<T const> values) {
    auto const dtype = detail::safetensors_dtype<T>;
    if (shape.size() > detail::safetensors_rank_limit || detail::checked_product(shape) != values.size())
      throw shape_error(complaint{"tensor " + name, "as many values as " + detail::describe(dtype, shape),
                                  std::to_string(values.size())});
    part tensor{quoted(name), dtype, std::move(shape), std::as_bytes(values)};
    if (name == "__metadata__" || !tensors_.try_emplace(name, std::move(tensor)).second)
      throw setting_error(complaint{"a tensor's name", "one not taken", detail::excerpt(name)});
  }

  static int rank(std::string_view dtype) { return dtype == "I64" ? 0 : dtype == "F64" ? 1 : 2; }

  static std::string quoted(std::string const& text) {
    try {
      return nlohmann::json(text).dump();
    } catch (nlohmann::json::exception const&) {
      throw setting_error(complaint{"a name or text for a safetensors file", "UTF-8", detail::excerpt(text)});
    }
  }

  std::string header(std::vector<part const*> const& order) const {
    std::string text;
    for (auto const& [key, value] : metadata_) text += (text.empty() ? "" : ",") + quoted(key) + ':' + value;
    if (!text.empty()) text = "\"__metadata__\":{" + text + '}';
    std::size_t offset = 0;
    for (auto const* tensor : order) {
      text += (text.empty() ? "" : ",") + tensor->quoted_name + ":{\"dtype\":\"";
      text += tensor->dtype;
      text += "\",\"shape\":[";
      for (std::size_t i = 0; i < tensor->shape.size(); ++i)
        text += (i > 0 ? "," : "") + std::to_string(tensor->shape[i]);
      text += "],\"data_offsets\":[" + std::to_string(offset) + ',';
      offset += tensor->bytes.size();
      text += std::to_string(offset) + "]}";
    }
    text = '{' + text + '}';
    text.resize((text.size() + 7) / 8 * 8, ' ');
    return text;
  }

  std::map<std::string, part> tensors_;
  std::map<std::string, std::string> metadata_;  ///< key -> quoted value
};

}  // namespace l3::inline L3_ISA
