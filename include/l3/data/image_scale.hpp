/// @file  include/l3/data/image_scale.hpp: decoded picture -> RGB bytes as displayed: colour, size, shape of pixels,
/// rotation.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/error.hpp>
#include <l3/data/ffmpeg.hpp>
#include <l3/data/picture.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

namespace detail {

/// How a decoded picture must be turned for display: its axes exchanged first, then mirrored.
struct orientation {
  bool transpose = false, mirror_x = false, mirror_y = false;

  /// From a display matrix, rounded to the nearest right angle: x' = a x + c y, y' = b x + d y.
  static orientation of(std::int32_t const* matrix) {
    if (!matrix) return {};
    std::int64_t const a = matrix[0], b = matrix[1], c = matrix[3], d = matrix[4];
    if (std::abs(a) + std::abs(d) >= std::abs(b) + std::abs(c)) return {false, a < 0, d < 0};
    return {true, c < 0, b < 0};
  }
  /// Whether it does more than turn.
  bool mirrors() const { return transpose ? mirror_x == mirror_y : mirror_x != mirror_y; }
  /// Clockwise turn in degrees; a mirrored picture was mirrored left-right before.
  int degrees() const { return transpose ? (mirror_x ? 90 : 270) : (mirror_y ? 180 : 0); }
};

/// Size of a coded picture once its pixels are square: the width is stretched (or shrunk) by the pixels' aspect ratio.
inline picture_size square_pixels(int width, int height, int aspect_num, int aspect_den) {
  double const aspect = aspect_num > 0 && aspect_den > 0 ? double(aspect_num) / aspect_den : 1.0;
  return {static_cast<std::size_t>(std::max(1.0, std::floor(width * aspect + 0.5))), static_cast<std::size_t>(height)};
}

/// Turns packed RGB; `in` has the size before turning.
inline rgb_frame turned(rgb_frame in, orientation o) {
  if (!o.transpose && !o.mirror_x && !o.mirror_y) return in;
  rgb_frame out{in.width, in.height, std::vector<std::uint8_t>(in.pixels.size()), in.time};
  if (o.transpose) std::swap(out.width, out.height);
  std::uint8_t* to = out.pixels.data();
  for (std::size_t row = 0; row < out.height; ++row)
    for (std::size_t column = 0; column < out.width; ++column, to += 3) {
      std::size_t x = o.mirror_x ? out.width - 1 - column : column, y = o.mirror_y ? out.height - 1 - row : row;
      if (o.transpose) std::swap(x, y);
      std::copy_n(&in.pixels[(y * in.width + x) * 3], 3, to);
    }
  return out;
}

inline constexpr int scaling_flags = SWS_BILINEAR | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INT |
                                     SWS_FULL_CHR_H_INP;  // else RGB pictures shrink from the mean colours of pairs

/// Converts decoded pictures by libswscale; keeps its tables while size, format and colours stay the same.
class image_scaler {
 public:
  image_scaler(std::string subject, std::size_t max_pixels) : subject_(std::move(subject)), max_pixels_(max_pixels) {}

  /// RGB, smallest side `side` (0 = as it is), turned for display.
  ///
  /// Numbers bilinear, bit-exact and accurately rounded, full chroma; libswscale widens its filter when shrinking, so
  ///         this is antialiased. Matrix and range as tagged; without a tag BT.601 up to 576 lines, else BT.709,
  ///         limited range but for JPEG-like and grey formats.
  /// Errors  media_error: too many pixels, or a format that libswscale does not read.
  rgb_frame operator()(ffmpeg::frame const& f, ffmpeg::rational aspect, orientation o, std::size_t side) {
    auto const to = with_smallest_side(square_pixels(f.width, f.height, aspect.num, aspect.den), side);
    require_size(to);
    settings const s{f.width, f.height, f.format, colour_matrix(f), full_range(f), int(to.width), int(to.height)};
    if (!scaler_ || !(s == made_for_))
      make(s, ffmpeg::pixel_format(f) ? ffmpeg::pixel_format(f)->name : "without a format");
    // libswscale may write whole registers past a row's end, so it gets rows and a tail of its own.
    std::size_t const row = (to.width * 3 + 63) / 64 * 64;
    padded_.resize(row * to.height + 64);
    std::uint8_t* planes[4] = {padded_.data()};
    int const strides[4] = {int(row)};
    int const lines = sws_scale(scaler_.get(), f.data, f.linesize, 0, f.height, planes, strides);
    ffmpeg::check(lines, subject_, "a picture that libswscale converts");
    rgb_frame out{to.width, to.height, std::vector<std::uint8_t>(to.width * to.height * 3)};
    for (std::size_t y = 0; y < to.height; ++y)
      std::copy_n(padded_.data() + y * row, to.width * 3, out.pixels.data() + y * to.width * 3);
    return turned(std::move(out), o);
  }

  /// Errors  media_error if a picture of this size is not allowed.
  void require_size(picture_size s) const {
    if (s.width <= 65536 && s.height <= 65536 && s.width * s.height <= max_pixels_) return;
    throw media_error({subject_,
                       "pictures of at most " + std::to_string(max_pixels_) + " pixels, 65536 in a row or column",
                       std::to_string(s.width) + " x " + std::to_string(s.height) + " (refused)"});
  }

 private:
  struct settings {
    int width, height, format, matrix;
    bool full;
    int to_width, to_height;
    friend bool operator==(settings const&, settings const&) = default;
  };

  static int colour_matrix(ffmpeg::frame const& f) {
    switch (f.colorspace) {
      case AVCOL_SPC_BT709:
        return SWS_CS_ITU709;
      case AVCOL_SPC_FCC:
        return SWS_CS_FCC;
      case AVCOL_SPC_BT470BG:
      case AVCOL_SPC_SMPTE170M:
        return SWS_CS_ITU601;
      case AVCOL_SPC_SMPTE240M:
        return SWS_CS_SMPTE240M;
      case AVCOL_SPC_BT2020_NCL:
      case AVCOL_SPC_BT2020_CL:
        return SWS_CS_BT2020;
      default:
        return f.height <= 576 ? SWS_CS_ITU601 : SWS_CS_ITU709;
    }
  }
  static bool full_range(ffmpeg::frame const& f) {
    if (f.color_range != AVCOL_RANGE_UNSPECIFIED) return f.color_range == AVCOL_RANGE_JPEG;
    auto const* d = ffmpeg::pixel_format(f);
    return d && (d->nb_components < 3 || std::string_view(d->name).starts_with("yuvj"));
  }
  void make(settings const& s, std::string const& format_name) {
    scaler_ = ffmpeg::make_rgb_scaler(s.width, s.height, s.format, s.to_width, s.to_height, scaling_flags);
    if (!scaler_) {
      auto const found = std::to_string(s.width) + " x " + std::to_string(s.height) + " " + format_name;
      throw media_error({subject_, "a picture that libswscale converts", found});
    }
    sws_setColorspaceDetails(scaler_.get(), sws_getCoefficients(s.matrix), s.full, sws_getCoefficients(SWS_CS_DEFAULT),
                             1, 0, 1 << 16, 1 << 16);
    made_for_ = s;
  }

  std::string subject_;
  std::size_t max_pixels_;
  ffmpeg::scaler_ptr scaler_;
  settings made_for_{};
  std::vector<std::uint8_t> padded_;
};

}  // namespace detail
}  // namespace l3::inline L3_ISA
