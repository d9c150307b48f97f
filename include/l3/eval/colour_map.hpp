/// @file  include/l3/eval/colour_map.hpp: colours for values, such that equal steps look equal.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <l3/core/config.hpp>
#include <numbers>

namespace l3::inline L3_ISA {

/// Red, green and blue for a value from 0 to 1 (clamped; not-a-number is 0): from a dark violet by way of blue and
/// green to a light yellow. Lightness rises evenly, so it reads the same in grey and for eyes that tell few colours
/// apart.
///
/// Source  Oklab (Björn Ottosson, 2020), a space in which equal distances look about equal: a path of even lightness
///         steps, 0.22 to 0.95, whose hue turns from 300 to 100 degrees.
inline std::array<std::uint8_t, 3> perceptual_colour(double value) {
  double const t = value > 0 ? std::min(value, 1.0) : 0;
  double const lightness = 0.22 + 0.73 * t, hue = (300 - 200 * t) * std::numbers::pi / 180,
               chroma = 0.06 + 0.09 * std::sin(std::numbers::pi * (0.15 + 0.7 * t));
  double const a = chroma * std::cos(hue), b = chroma * std::sin(hue);
  auto const cube = [](double x) { return x * x * x; };
  double const l = cube(lightness + 0.3963377774 * a + 0.2158037573 * b),
               m = cube(lightness - 0.1055613458 * a - 0.0638541728 * b),
               s = cube(lightness - 0.0894841775 * a - 1.2914855480 * b);
  auto const coded = [](double linear) {  // sRGB
    double const x = std::clamp(linear, 0.0, 1.0);
    return static_cast<std::uint8_t>(
        std::lround(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055)));
  };
  return {coded(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          coded(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          coded(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

}  // namespace l3::inline L3_ISA
