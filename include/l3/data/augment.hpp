/// @file  include/l3/data/augment.hpp: crop, mirror, colours and loudness: what changes in a frame and a second of
/// sound each time training sees them.
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/jitter.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/random.hpp>
#include <l3/core/shape.hpp>
#include <l3/data/picture.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <span>
#include <string>

namespace l3::inline L3_ISA {

namespace detail {

[[noreturn]] inline void refuse_crop(std::size_t width, std::size_t height, std::size_t crop_width,
                                     std::size_t crop_height) {
  auto const size = [](std::size_t w, std::size_t h) { return std::to_string(w) + " x " + std::to_string(h); };
  throw shape_error(
      complaint{"picture to be cropped", "at least " + size(crop_width, crop_height) + " pixels", size(width, height)});
}

template <image_shape Out>
void require_crop(rgb_view picture, image_jitter const& jitter) {
  static_assert(Out::channels == 3, "l3: pictures have three colours");
  if (picture.width < Out::width || jitter.left > picture.width - Out::width || picture.height < Out::height ||
      jitter.top > picture.height - Out::height)
    refuse_crop(picture.width, picture.height, jitter.left + Out::width, jitter.top + Out::height);
}

/// Colours 0 to 255 -> -1 to 1.
L3_INLINE float signed_colour(float x) { return (2 * x - 255) / 255; }

/// A row of pixels, colours interleaved, in whole registers.
template <std::size_t Pixels>
struct pixel_row {
  using reg = lanes<arch::best>;
  static constexpr std::size_t size = round_up(3 * Pixels, detail::width<reg>);
  alignas(alignment) std::array<float, size> values{};

  void brighten(float by) {
    each([&](std::size_t, reg const& x) { return x + reg(by); });
  }
  void saturate(float by) {
    for (std::size_t k = 0; k < 3 * Pixels; k += 3)  // vectorised
      grey[k] = grey[k + 1] = grey[k + 2] = 0.299f * values[k] + 0.587f * values[k + 1] + 0.114f * values[k + 2];
    each([&](std::size_t k, reg const& x) {
      reg const g = load<reg>(grey.data() + k);
      return fused(reg(by), x - g, g);
    });
  }

 private:
  /// Replaces every colour x by f(place, x), clamped.
  template <class F>
  void each(F&& f) {
    for (std::size_t k = 0; k < size; k += detail::width<reg>) {
      reg const x = larger(f(k, load<reg>(values.data() + k)), reg(0.0f));
      put(values.data() + k, pick(x > reg(255.0f), reg(255.0f), x));
    }
  }

  alignas(alignment) std::array<float, size> grey{};  ///< of its pixel, for each colour
};

}  // namespace detail

/// Chooses for a picture of width x height pixels, its smallest side already scaled: every crop of Out's size as
/// likely, every second image mirrored, brightness within +-32 of 255, saturation within [0.5, 1.5], either of them
/// first.
///
/// Errors  shape_error when the picture is smaller than Out.
/// Source  Arandjelović & Zisserman (ICCV 2017), section 3.1; the ranges are those usual for training on ImageNet.
template <image_shape Out>
image_jitter draw_image_jitter(std::size_t width, std::size_t height, generator random) {
  if (width < Out::width || height < Out::height) detail::refuse_crop(width, height, Out::width, Out::height);
  // One after the other: the order in which numbers are drawn is part of what a seed means.
  image_jitter j;
  j.top = random.below(static_cast<std::uint32_t>(height - Out::height + 1));
  j.left = random.below(static_cast<std::uint32_t>(width - Out::width + 1));
  j.mirrored = random.coin();
  j.brightness = static_cast<float>(random.uniform(-32, 32));
  j.saturation = static_cast<float>(random.uniform(0.5, 1.5));
  j.saturation_first = random.coin();
  return j;
}

/// Makes the training image that `jitter` describes. Saturation moves each colour from or to the pixel's grey,
/// 0.299 r + 0.587 g + 0.114 b; after each of the two steps colours are clamped to what a picture can hold.
///
/// Shapes  out Out, NHWC.
/// Units   out 2 x / 255 - 1, where x is the colour after the jitter: within [-1, 1].
/// Errors  shape_error when the crop is not inside the picture.
template <image_shape Out>
void augment_image(rgb_view picture, image_jitter const& jitter, std::span<float, Out::size> out) {
  detail::require_crop<Out>(picture, jitter);
  constexpr std::size_t values = 3 * Out::width;
  detail::pixel_row<Out::width> row;
  std::array<std::uint8_t, values + 1> mirror;
  for (std::size_t y = 0; y < Out::height; ++y) {
    std::uint8_t const* from = picture.pixels.data() + 3 * ((jitter.top + y) * picture.width + jitter.left);
    if (jitter.mirrored) {  // four bytes at a time, the fourth overwritten by the next pixel
      std::memcpy(mirror.data(), from + values - 3, 3);
      for (std::size_t k = 3; k < values; k += 3) std::memcpy(mirror.data() + k, from + values - 3 - k, 4);
      from = mirror.data();
    }
    std::copy_n(from, values, row.values.begin());
    if (jitter.saturation_first) row.saturate(jitter.saturation);
    row.brighten(jitter.brightness);
    if (!jitter.saturation_first) row.saturate(jitter.saturation);
    std::transform(row.values.begin(), row.values.begin() + values, out.data() + y * values,
                   [](float x) { return detail::signed_colour(x); });
  }
}

/// A random training image: draw_image_jitter's choice, made.
template <image_shape Out>
void augment_image(rgb_view picture, generator random, std::span<float, Out::size> out) {
  augment_image<Out>(picture, draw_image_jitter<Out>(picture.width, picture.height, random), out);
}

/// The crop in the middle, of two equally central ones the upper, the left; nothing else changed.
///
/// Errors  shape_error when the picture is smaller than Out.
template <image_shape Out>
image_jitter centre_crop(std::size_t width, std::size_t height) {
  if (width < Out::width || height < Out::height) detail::refuse_crop(width, height, Out::width, Out::height);
  return {.top = (height - Out::height) / 2, .left = (width - Out::width) / 2};
}

/// The image for evaluation: the crop in the middle, colours as they are: 2 x / 255 - 1, correctly rounded.
///
/// Shapes  out Out, NHWC.
/// Errors  shape_error when the picture is smaller than Out.
template <image_shape Out>
void centre_image(rgb_view picture, std::span<float, Out::size> out) {
  static_assert(Out::channels == 3, "l3::centre_image: pictures have three colours");
  image_jitter const at = centre_crop<Out>(picture.width, picture.height);
  for (std::size_t y = 0; y < Out::height; ++y) {
    std::uint8_t const* L3_RESTRICT row = picture.pixels.data() + 3 * ((at.top + y) * picture.width + at.left);
    float* L3_RESTRICT to = out.data() + y * 3 * Out::width;
    for (std::size_t k = 0; k < 3 * Out::width; ++k) to[k] = detail::signed_colour(row[k]);  // vectorised
  }
}

/// The crop that `jitter` describes and nothing else of it, for whoever does the rest.
///
/// Shapes  out Out, NHWC.
/// Errors  shape_error when the crop is not inside the picture.
template <image_shape Out>
void crop_image(rgb_view picture, image_jitter const& jitter, std::span<std::uint8_t, Out::size> out) {
  detail::require_crop<Out>(picture, jitter);
  for (std::size_t y = 0; y < Out::height; ++y)
    std::copy_n(picture.pixels.data() + 3 * ((jitter.top + y) * picture.width + jitter.left), 3 * Out::width,
                out.data() + y * 3 * Out::width);
}

/// How much louder a second of sound becomes in training: a factor from [0.9, 1.1).
inline float draw_volume(generator random) { return static_cast<float>(random.uniform(0.9, 1.1)); }

/// Makes a second of sound louder or softer, by one such factor.
inline void augment_sound(std::span<float> samples, generator random) {
  float const volume = draw_volume(random);
  for (float& s : samples) s *= volume;
}

}  // namespace l3::inline L3_ISA
