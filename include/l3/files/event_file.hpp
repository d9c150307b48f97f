/// @file  include/l3/files/event_file.hpp: values over the steps of a training, as TensorBoard shows them.
#pragma once
#include <fcntl.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <l3/core/config.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/protobuf.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace l3::inline L3_ISA {
namespace detail {

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4).
inline std::uint32_t crc32c(std::string_view bytes) {
  static constexpr auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t byte = 0; byte != 256; ++byte) {
      made[byte] = byte;
      for (int bit = 0; bit != 8; ++bit) made[byte] = made[byte] >> 1 ^ (made[byte] % 2 == 0 ? 0 : 0x82F63B78u);
    }
    return made;
  }();
  std::uint32_t crc = 0xFFFFFFFF;
  for (char const c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  return ~crc;
}

/// A record of a TFRecord file: length, its sum, bytes, their sum; little endian, the sums masked.
inline std::string tf_record(std::string_view bytes) {
  auto const little = [](std::uint64_t value, int size) {
    std::string text;
    for (int k = 0; k != size; ++k) text += static_cast<char>(value >> (8 * k) & 0xFF);
    return text;
  };
  auto const sum = [&](std::string_view of) {
    std::uint32_t const crc = crc32c(of);
    return little((crc >> 15 | crc << 17) + 0xA282EAD8u, 4);
  };
  std::string const length = little(bytes.size(), 8);
  return length + sum(length) + std::string(bytes) + sum(bytes);
}

}  // namespace detail

/// A value, and the chart that it is a point of: "loss/train".
struct event_value {
  std::string_view tag;
  double value = 0;
};

/// A file of events that only grows, record by record. One that could not be written whole is the last: readers stop
/// there. TensorBoard takes every file of a folder whose name has "tfevents" in it, in the order of the names.
///
/// Source  event.proto and summary.proto of TensorBoard; "TFRecord" in TensorFlow's documentation.
class event_file {
 public:
  /// A new file. What files before it say of step `next` and of later ones is void: a training that was stopped goes on
  /// with that step. (TensorBoard's quick loader does not look at that, and drops what has a step no smaller than one
  /// that comes later: begin with a step that is known.) `time`: seconds since 1970.
  ///
  /// Errors  file_error: it exists, or cannot be written.
  event_file(std::filesystem::path path, std::uint64_t next, double time = now())
      : path_(std::move(path)), file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666)) {
    if (!file_.is_open()) detail::throw_errno(path_, "a new file");
    detail::protobuf_message version, start = event(next, time), session;
    version.real(1, time);
    version.text(3, "brain.Event:2");
    session.number(1, 1);  // START: the first one counts as such, later ones as restarts
    start.message(7, session);
    write(detail::tf_record(version.bytes()) + detail::tf_record(start.bytes()));
  }

  /// Values of a step. Errors: file_error, after which nothing more is to be added.
  void add(std::uint64_t step, std::span<event_value const> values, double time = now()) {
    detail::protobuf_message summary;
    for (event_value const& v : values) {
      detail::protobuf_message one;
      one.text(1, v.tag);
      one.real(2, static_cast<float>(v.value));
      summary.message(1, one);
    }
    detail::protobuf_message of_step = event(step, time);
    of_step.message(5, summary);
    write(detail::tf_record(of_step.bytes()));
  }

  static double now() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  }

 private:
  static detail::protobuf_message event(std::uint64_t step, double time) {
    detail::protobuf_message e;
    e.real(1, time);
    e.number(2, step);
    return e;
  }
  void write(std::string_view records) {
    if (!detail::write_all(file_, std::as_bytes(std::span(records))))
      detail::throw_errno(path_, "room for more events");
  }

  std::filesystem::path path_;
  detail::file_descriptor file_;
};

}  // namespace l3::inline L3_ISA
