/// @file  examples/l3/canvas.hpp: pictures put together: heat maps over frames, spectrograms with axes.
#pragma once
#include <array>
#include <filesystem>
#include <l3/core/shape.hpp>
#include <l3/data/image_scale.hpp>
#include <span>
#include <string>
#include <vector>

namespace l3::program {

/// Values of a map, row by row.
struct heat_map {
  extent2 size;
  std::vector<float> values;
};

/// A white picture to draw on.
class canvas {
 public:
  canvas(std::size_t width, std::size_t height);
  rgb_frame const& picture() const { return picture_; }
  /// Puts a picture with its upper left corner at (x, y); what does not fit is cut off.
  void put(rgb_frame const& from, std::size_t x, std::size_t y);
  /// Writes digits, points, and the letters of "kHz", "s" and "unit", 5 pixels high times `scale`.
  void write(std::string const& line, std::size_t x, std::size_t y, std::size_t scale = 2);

 private:
  rgb_frame picture_;
};

/// Another size, bilinear.
rgb_frame resized(rgb_frame const& from, std::size_t width, std::size_t height);
/// The part of width x height pixels in the middle.
rgb_frame middle_of(rgb_frame const& from, std::size_t width, std::size_t height);
/// A heat map over a picture of any size: the picture in grey where the map is at `low` or less, in the colours of
/// perceptual_colour, the brighter the nearer to `high`.
rgb_frame overlaid(rgb_frame const& picture, heat_map const& heat, float low, float high);
/// Values as colours, `low` to `high`, the first row below if `upside_down`.
rgb_frame coloured(heat_map const& values, float low, float high, bool upside_down);
/// A second's spectrogram of full scale `top_hertz` (0: frequencies are not evenly spaced) with its axes, its picture
/// width x height without them; a heat map of the same second over it, unless it is empty.
rgb_frame spectrogram_chart(heat_map const& spectrum, heat_map const& heat, float heat_high, std::size_t width,
                            std::size_t height, double top_hertz);
/// A picture as a file, whole or not at all. Errors: file_error.
void write_png(std::filesystem::path const& file, rgb_frame const& picture);

}  // namespace l3::program
