/// @file  include/l3/core/fingerprint.hpp: a number by which texts, files and contents are told apart.
#pragma once
#include <cstdint>
#include <l3/core/config.hpp>
#include <string_view>

namespace l3::inline L3_ISA {

/// FNV-1a of the bytes, 64 bits; `before` is that of what stands before them. The same everywhere and in every version.
/// It tells apart what differs by chance, not what somebody has forged.
constexpr std::uint64_t fingerprint(std::string_view bytes, std::uint64_t before = 0xCBF29CE484222325) {
  for (char const c : bytes) before = (before ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return before;
}
/// The same of a number's eight bytes, the lowest first.
constexpr std::uint64_t fingerprint_of_number(std::uint64_t value, std::uint64_t before) {
  for (int i = 0; i < 8; ++i, value >>= 8) before = (before ^ (value & 0xFF)) * 0x100000001B3;
  return before;
}

}  // namespace l3::inline L3_ISA
