/// @file  include/l3/kernels/natural_log.hpp: the logarithm of spectrograms, the same on the processor and on a GPU.
#pragma once
#include <bit>
#include <cstdint>
#include <l3/core/config.hpp>
#include <numbers>

namespace l3::inline L3_ISA {
namespace detail {

/// ln(x) for x >= 0, to 2e-7 (of 1 or of the result, whichever is larger); zero and subnormal numbers give some number
/// below -87, infinity and what is not a number give not a number. Without branches, so that loops of it become vector
/// instructions.
L3_HOST_DEVICE L3_INLINE float natural_log(float x) {
  // x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): near 1 nothing cancels.
  constexpr std::int32_t sqrt_half = 0x3F3504F3;
  std::int32_t const offset = std::bit_cast<std::int32_t>(x) - sqrt_half;
  auto const e = static_cast<float>(offset >> 23);
  float const f = std::bit_cast<float>((offset & 0x007FFFFF) + sqrt_half) - 1.0f;
  // ln(1 + f) = 2 artanh(s), s = f / (2 + f), |s| < 0.172: four terms of the series leave 3e-8.
  float const s = f / (2.0f + f), z = s * s;
  float const series = 2.0f + z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7)));
  return e * std::numbers::ln2_v<float> + s * series + (x - x);
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
