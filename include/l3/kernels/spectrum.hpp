/// @file  include/l3/kernels/spectrum.hpp: what spectrograms are made of, on the processor and on a GPU alike: window,
/// roots of unity, logarithm.
#pragma once
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <limits>
#include <numbers>

namespace l3::inline L3_ISA {
namespace detail {

/// Value n of a Hann window, periodic: the next value would be the first again.
inline float hann_value(std::size_t n, std::size_t window) {
  return static_cast<float>(
      0.5 - 0.5 * std::cos(2 * std::numbers::pi * static_cast<double>(n) / static_cast<double>(window)));
}
/// e^(-2 pi i k / size): its real and its imaginary part.
inline std::array<float, 2> root_of_unity(std::size_t k, std::size_t size) {
  double const angle = -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(size);
  return {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
}

/// ln(x) for x >= 0, to 2e-7 (of 1 or of the result, whichever is larger); zero and subnormal numbers give some number
/// below -87, infinity and what is not a number give not a number. Without branches, so that loops of it become vector
/// instructions.
L3_HOST_DEVICE L3_INLINE float natural_log(float x) {
  // x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): near 1 nothing cancels.
  constexpr std::int32_t sqrt_half = 0x3F3504F3;
  auto const bits = std::bit_cast<std::int32_t>(x);
  std::int32_t const offset = bits - sqrt_half;
  auto const e = static_cast<float>(offset >> 23);
  float const f = std::bit_cast<float>((offset & 0x007FFFFF) + sqrt_half) - 1.0f;
  // ln(1 + f) = 2 artanh(s), s = f / (2 + f), |s| < 0.172: four terms of the series leave 3e-8.
  float const s = f / (2.0f + f), z = s * s;
  float const series = 2.0f + z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7)));
  float const logarithm = e * std::numbers::ln2_v<float> + s * series;
  // By its bits: under -fassociative-math arithmetic with x may be left out. And with a mask: of a choice between
  // floats g++ makes a branch to where the caller compares them, and the loop stays one of single numbers.
  constexpr std::int32_t infinite = 0x7F800000;
  constexpr auto not_a_number = std::bit_cast<std::int32_t>(std::numeric_limits<float>::quiet_NaN());
  std::int32_t const mask = -static_cast<std::int32_t>((bits & infinite) == infinite);
  return std::bit_cast<float>((mask & not_a_number) | (~mask & std::bit_cast<std::int32_t>(logarithm)));
}

/// The value of front end F's picture where `sum` is that of all magnitudes that are averaged: ln(mean) / 5, but no
/// less than silence's. Where nothing is averaged, `sum` is the magnitude's square, whose logarithm is twice as large.
template <class F>
L3_HOST_DEVICE L3_INLINE float picture_value(float sum) {
  constexpr std::size_t pooled = F::bins_pooled * F::frames_pooled;
  constexpr float scale = pooled == 1 ? 0.1f : 0.2f, silence = F::silence;
  float const level = scale * natural_log(sum * (1.0f / pooled));
  return silence > level ? silence : level;  // in this order not-a-number stays
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
