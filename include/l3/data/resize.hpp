/// @file  include/l3/data/resize.hpp: pictures of another size.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/data/picture.hpp>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// Gives RGB pictures another size. One thread at a time; tables are kept while sizes stay the same.
///
/// Numbers bilinear, the filter widened when shrinking so that no pixel is skipped (antialiased): bit for bit what
///         Pillow's Image.resize(size, BILINEAR) gives, which rounds to bytes between its two passes.
///         image_scaler, which takes videos' own formats, differs from it (docs/media.md says how much).
/// Source  Pillow; tests/golden/make_resize_golden.py compares.
class picture_resizer {
 public:
  /// The picture with the smallest side `side` and the same proportions.
  ///
  /// Errors  media_error, about `subject`: no pixels, or more than `max_pixels`. shape_error: another number of bytes
  ///         than the picture's size says.
  void operator()(rgb_frame& picture, std::size_t side, std::size_t max_pixels, std::string const& subject) {
    if (rgb_view const whole(picture); whole.pixels.empty())
      throw media_error({subject, "a picture", "one without pixels"});
    auto const to = detail::with_smallest_side({picture.width, picture.height}, side);
    if (to.width > max_pixels / to.height)
      throw media_error({subject, "pictures of at most " + std::to_string(max_pixels) + " pixels",
                         std::to_string(to.width) + " x " + std::to_string(to.height) + " (refused)"});
    if (to.width != picture.width) {
      across_.prepare(picture.width, to.width);
      half_.resize(3 * to.width * picture.height);
      for (std::size_t y = 0; y < picture.height; ++y)
        along_row(picture.pixels.data() + 3 * picture.width * y, half_.data() + 3 * to.width * y);
      picture.width = to.width;
      picture.pixels.swap(half_);
    }
    if (to.height != picture.height) {
      down_.prepare(picture.height, to.height);
      half_.resize(3 * to.width * to.height);
      for (std::size_t y = 0; y < to.height; ++y)
        row_of(picture.pixels.data(), 3 * to.width, y, half_.data() + 3 * to.width * y);
      picture.height = to.height;
      picture.pixels.swap(half_);
    }
  }

 private:
  static constexpr int digits = 22;  ///< of a weight behind the point
  static constexpr std::int32_t half = 1 << (digits - 1);

  /// Which neighbouring values of a line make each new one, and by what weights.
  struct line {
    std::size_t from = 0, to = 0, most = 0;
    std::vector<std::size_t> first, count;
    std::vector<std::int32_t> weights;  ///< (to, most)

    void prepare(std::size_t old_size, std::size_t new_size) {
      if (from == old_size && to == new_size) return;
      from = to = 0;  // until the tables are there
      double const scale = static_cast<double>(old_size) / static_cast<double>(new_size);
      double const reach = std::max(scale, 1.0);
      most = 2 * static_cast<std::size_t>(std::ceil(reach)) + 1;
      first.resize(new_size), count.resize(new_size), weights.assign(new_size * most, 0);
      std::vector<double> share(most);
      for (std::size_t k = 0; k < new_size; ++k) {
        double const centre = (static_cast<double>(k) + 0.5) * scale;
        first[k] = static_cast<std::size_t>(std::max(0.0, centre - reach + 0.5));
        count[k] = std::min(old_size, static_cast<std::size_t>(centre + reach + 0.5)) - first[k];
        double sum = 0;
        for (std::size_t j = 0; j < count[k]; ++j) {
          double const away = (static_cast<double>(first[k] + j) - centre + 0.5) / reach;
          sum += share[j] = std::max(0.0, 1 - std::abs(away));
        }
        for (std::size_t j = 0; j < count[k]; ++j)
          weights[k * most + j] = static_cast<std::int32_t>(std::floor(share[j] / sum * (1 << digits) + 0.5));
      }
      from = old_size, to = new_size;
    }
  };

  static std::uint8_t rounded(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> digits, 0, 255)); }
  /// Four sums at a time: a pixel's three, and one for nothing, where the next pixel's stand then.
  using four = std::int32_t __attribute__((vector_size(16)));

  void along_row(std::uint8_t const* from, std::uint8_t* to) {
    std::size_t const most = across_.most, pixels = across_.to;
    wide_.resize(3 * (across_.from + most) + 1);  // what lies behind the row has no weight
    sums_.resize(3 * pixels + 1);
    for (std::size_t k = 0; k < 3 * across_.from; ++k) wide_[k] = from[k];  // g++ makes no vectors of copy_n here
    std::int32_t const* weights = across_.weights.data();
    for (std::size_t x = 0; x < pixels; ++x, weights += most) {
      std::int32_t const* pixel = wide_.data() + 3 * across_.first[x];
      four sum = {half, half, half, half};
      for (std::size_t j = 0; j < most; ++j, pixel += 3) {
        four value;
        std::memcpy(&value, pixel, sizeof value);
        sum += weights[j] * value;
      }
      std::memcpy(sums_.data() + 3 * x, &sum, sizeof sum);
    }
    std::transform(sums_.begin(), sums_.end() - 1, to, rounded);
  }
  void row_of(std::uint8_t const* picture, std::size_t bytes, std::size_t y, std::uint8_t* to) {
    sums_.assign(bytes, half);
    for (std::size_t j = 0; j < down_.count[y]; ++j) {
      std::int32_t const weight = down_.weights[y * down_.most + j];
      std::uint8_t const* const from = picture + bytes * (down_.first[y] + j);
      for (std::size_t k = 0; k < bytes; ++k) sums_[k] += weight * from[k];
    }
    std::transform(sums_.begin(), sums_.end(), to, rounded);
  }

  line across_, down_;
  std::vector<std::uint8_t> half_;  ///< the picture between the passes
  std::vector<std::int32_t> wide_, sums_;
};

}  // namespace l3::inline L3_ISA
