/// @file  include/l3/files/protobuf.hpp: messages of Protocol Buffers, to write.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <string>
#include <string_view>

namespace l3::inline L3_ISA {
namespace detail {

/// One message: its fields, in the order in which they are added.
///
/// Source  "Encoding", the description of the wire format in Protocol Buffers' documentation.
class protobuf_message {
 public:
  void number(std::uint32_t field, std::uint64_t value) {
    begin(field, 0);
    varint(value);
  }
  void real(std::uint32_t field, double value) {
    begin(field, 1);
    fixed(std::bit_cast<std::uint64_t>(value), 8);
  }
  void real(std::uint32_t field, float value) {
    begin(field, 5);
    fixed(std::bit_cast<std::uint32_t>(value), 4);
  }
  void text(std::uint32_t field, std::string_view value) {
    announce(field, value.size());
    bytes_ += value;
  }
  void message(std::uint32_t field, protobuf_message const& value) { text(field, value.bytes_); }
  /// What stands before the bytes of a text or message that follow by another way.
  void announce(std::uint32_t field, std::size_t size) {
    begin(field, 2);
    varint(size);
  }
  std::string const& bytes() const { return bytes_; }

 private:
  void begin(std::uint32_t field, std::uint32_t kind) { varint(field << 3 | kind); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7F) | 0x80);
    bytes_ += static_cast<char>(value);
  }
  void fixed(std::uint64_t bits, int bytes) {
    for (int k = 0; k < bytes; ++k) bytes_ += static_cast<char>(bits >> (8 * k) & 0xFF);
  }
  std::string bytes_;
};

}  // namespace detail
}  // namespace l3::inline L3_ISA
