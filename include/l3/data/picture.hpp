/// @file  include/l3/data/picture.hpp: pictures as bytes, and how large they become; knows nothing of FFmpeg.
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <span>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// One picture as displayed.
struct rgb_frame {
  std::size_t width = 0, height = 0;  ///< pixels, after rotation and scaling
  std::vector<std::uint8_t>
      pixels;       ///< height x width x 3, packed: red, green, blue of the first row's first pixel first
  double time = 0;  ///< when its display begins, in seconds on the clip's clock
};

/// A borrowed picture, as displayed.
///
/// Shapes  height x width x 3, packed: red, green, blue of the first row's first pixel first.
/// Errors  shape_error when there are not as many bytes.
struct rgb_view {
  std::span<std::uint8_t const> pixels;
  std::size_t width = 0, height = 0;

  rgb_view(std::span<std::uint8_t const> bytes, std::size_t columns, std::size_t rows)
      : pixels(bytes), width(columns), height(rows) {
    if (auto const needed = detail::checked_product(std::array{width, height}, 3); needed != bytes.size())
      throw shape_error(complaint{"picture of " + std::to_string(width) + " x " + std::to_string(height) + " pixels",
                                  (needed ? std::to_string(*needed) : "more") + " bytes",
                                  std::to_string(bytes.size())});
  }
  /// Of anything that holds one, as a decoder's frame does.
  template <class Frame>
  requires requires(Frame const& f) {
    { std::span(f.pixels) } -> std::convertible_to<std::span<std::uint8_t const>>;
    { f.width } -> std::convertible_to<std::size_t>;
    { f.height } -> std::convertible_to<std::size_t>;
  }
  rgb_view(Frame const& f) : rgb_view(f.pixels, f.width, f.height) {}
};

namespace detail {

/// Width and height in pixels.
struct picture_size {
  std::size_t width = 0, height = 0;
  friend bool operator==(picture_size, picture_size) = default;
};

/// Size with the smallest side `side` and the same proportions, the other side rounded to nearest; `side` 0: unchanged.
inline picture_size with_smallest_side(picture_size s, std::size_t side) {
  if (side == 0) return s;
  std::size_t const small = std::min(s.width, s.height), large = std::max(s.width, s.height);
  std::size_t const other = (2 * large * side + small) / (2 * small);
  return s.width <= s.height ? picture_size{side, other} : picture_size{other, side};
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
