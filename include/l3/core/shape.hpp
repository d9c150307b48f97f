/// @file  include/l3/core/shape.hpp: an item's shape is a type; how many items there are is known at run time.
///
/// Legend used in all of l3: N items, H x W pixels, C channels, F frequency bins, T time frames, D features.
#pragma once
#include <concepts>
#include <cstddef>
#include <l3/core/config.hpp>
#include <type_traits>

namespace l3::inline L3_ISA {

/// Two lengths in pixels; for a spectrogram the height is the frequency axis and the width the time axis.
struct extent2 {
  std::size_t height = 1;
  std::size_t width = 1;
  friend constexpr bool operator==(extent2, extent2) = default;
};

/// An image of Height x Width pixels with Channels values each, channels innermost. Sound is `image<F, T, 1>`.
template <std::size_t Height, std::size_t Width, std::size_t Channels>
struct image {
  static constexpr std::size_t height = Height;
  static constexpr std::size_t width = Width;
  static constexpr std::size_t channels = Channels;
  static constexpr std::size_t pixels = Height * Width;
  static constexpr std::size_t size = pixels * Channels;  ///< values in one item
};

/// A vector of Count numbers.
template <std::size_t Count>
struct features {
  static constexpr std::size_t height = 1;
  static constexpr std::size_t width = 1;
  static constexpr std::size_t channels = Count;
  static constexpr std::size_t pixels = 1;
  static constexpr std::size_t size = Count;
};

namespace detail {
template <class>
inline constexpr bool is_image = false;
template <std::size_t H, std::size_t W, std::size_t C>
inline constexpr bool is_image<image<H, W, C>> = H > 0 && W > 0 && C > 0;
template <class>
inline constexpr bool is_features = false;
template <std::size_t D>
inline constexpr bool is_features<features<D>> = D > 0;
}  // namespace detail

/// Shapes with pixels.
template <class S>
concept image_shape = detail::is_image<S>;
/// Plain vectors.
template <class S>
concept feature_shape = detail::is_features<S>;
/// Any shape an item may have.
template <class S>
concept item_shape = image_shape<S> || feature_shape<S>;

/// Low <= Value <= High. A concept, not a bool, so that compilers print the numbers when it fails.
template <auto Low, auto Value, auto High>
concept within = (Low <= Value) && (Value <= High);

}  // namespace l3::inline L3_ISA
