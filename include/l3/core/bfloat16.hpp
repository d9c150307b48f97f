/// @file  include/l3/core/bfloat16.hpp: a float cut to its upper half.
#pragma once
#include <bit>
#include <cstdint>
#include <l3/core/config.hpp>
#include <type_traits>

namespace l3::inline L3_ISA {

/// A number of 8 significant bits and float's range, for storage; arithmetic is float's.
///
/// Numbers  rounded to the nearest, a tie to the even one; not-a-number stays so.
struct bfloat16 {
  std::uint16_t bits;

  bfloat16() = default;
  L3_HOST_DEVICE static constexpr bfloat16 of_bits(std::uint16_t bits) {
    bfloat16 x;
    x.bits = bits;
    return x;
  }
  L3_HOST_DEVICE explicit constexpr bfloat16(float x) {
#if defined(__CUDA_ARCH__)
    if (!std::is_constant_evaluated()) {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
      return;
    }
#endif
    auto const u = std::bit_cast<std::uint32_t>(x);
    bits = static_cast<std::uint16_t>((u & 0x7FFFFFFFu) > 0x7F800000u ? (u >> 16) | 0x40u
                                                                      : (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
  }
  L3_HOST_DEVICE explicit constexpr operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

}  // namespace l3::inline L3_ISA
