// Pictures put together.
#include "canvas.hpp"

#include <algorithm>
#include <cmath>
#include <l3/data/picture_writer.hpp>
#include <l3/eval/colour_map.hpp>
#include <string_view>

#include "program.hpp"

namespace l3::program {
namespace {

/// Five rows of three pixels.
struct glyph {
  char letter;
  std::array<std::uint8_t, 5> rows;  ///< the left pixel is 4
};
constexpr glyph glyphs[] = {
    {'0', {7, 5, 5, 5, 7}}, {'1', {2, 6, 2, 2, 7}}, {'2', {7, 1, 7, 4, 7}}, {'3', {7, 1, 7, 1, 7}},
    {'4', {5, 5, 7, 1, 1}}, {'5', {7, 4, 7, 1, 7}}, {'6', {7, 4, 7, 5, 7}}, {'7', {7, 1, 1, 2, 2}},
    {'8', {7, 5, 7, 5, 7}}, {'9', {7, 5, 7, 1, 7}}, {'.', {0, 0, 0, 0, 2}}, {'-', {0, 0, 7, 0, 0}},
    {'u', {0, 5, 5, 5, 7}}, {'n', {0, 6, 5, 5, 5}}, {'i', {2, 0, 2, 2, 2}}, {'t', {2, 7, 2, 2, 3}},
    {'k', {4, 5, 6, 5, 5}}, {'H', {5, 5, 7, 5, 5}}, {'z', {0, 7, 1, 2, 7}}, {'s', {3, 4, 2, 1, 6}},
};

/// Values of a map at the centres of width x height pixels, bilinear, edges held.
template <class At>
float sampled(extent2 size, double y, double x, At&& at) {
  double const row = std::clamp(y, 0.0, static_cast<double>(size.height - 1)),
               column = std::clamp(x, 0.0, static_cast<double>(size.width - 1));
  auto const r = static_cast<std::size_t>(row), c = static_cast<std::size_t>(column);
  std::size_t const r1 = std::min(r + 1, size.height - 1), c1 = std::min(c + 1, size.width - 1);
  auto const fy = static_cast<float>(row - static_cast<double>(r)),
             fx = static_cast<float>(column - static_cast<double>(c));
  return (1 - fy) * ((1 - fx) * at(r, c) + fx * at(r, c1)) + fy * ((1 - fx) * at(r1, c) + fx * at(r1, c1));
}
/// The place in a row of `from` pixels that pixel k of `to` shows.
double place(std::size_t k, std::size_t to, std::size_t from) {
  return (static_cast<double>(k) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
}
rgb_frame blank(std::size_t width, std::size_t height) {
  return {width, height, std::vector<std::uint8_t>(3 * width * height, 255), 0};
}
float within_range(float value, float low, float high) {
  return high > low ? std::clamp((value - low) / (high - low), 0.0f, 1.0f) : 0.0f;
}

}  // namespace

canvas::canvas(std::size_t width, std::size_t height) : picture_(blank(width, height)) {}

void canvas::put(rgb_frame const& from, std::size_t x, std::size_t y) {
  if (x >= picture_.width) return;
  std::size_t const columns = std::min(from.width, picture_.width - x);
  for (std::size_t row = 0; row != from.height && y + row < picture_.height; ++row)
    std::copy_n(from.pixels.begin() + static_cast<std::ptrdiff_t>(3 * row * from.width), 3 * columns,
                picture_.pixels.begin() + static_cast<std::ptrdiff_t>(3 * ((y + row) * picture_.width + x)));
}

void canvas::write(std::string const& line, std::size_t x, std::size_t y, std::size_t scale) {
  for (char const letter : line) {
    auto const found =
        std::find_if(std::begin(glyphs), std::end(glyphs), [&](glyph const& g) { return g.letter == letter; });
    if (found != std::end(glyphs))
      for (std::size_t row = 0; row != 5 * scale; ++row)
        for (std::size_t column = 0; column != 3 * scale; ++column)
          if (found->rows[row / scale] >> (2 - column / scale) & 1 && x + column < picture_.width &&
              y + row < picture_.height)
            std::fill_n(
                picture_.pixels.begin() + static_cast<std::ptrdiff_t>(3 * ((y + row) * picture_.width + x + column)), 3,
                std::uint8_t{40});
    x += 4 * scale;
  }
}

rgb_frame resized(rgb_frame const& from, std::size_t width, std::size_t height) {
  rgb_frame out = blank(width, height);
  for (std::size_t y = 0; y != height; ++y)
    for (std::size_t x = 0; x != width; ++x)
      for (std::size_t c = 0; c != 3; ++c)
        out.pixels[3 * (y * width + x) + c] = static_cast<std::uint8_t>(std::lround(
            sampled({from.height, from.width}, place(y, height, from.height), place(x, width, from.width),
                    [&](std::size_t r, std::size_t s) { return float(from.pixels[3 * (r * from.width + s) + c]); })));
  return out;
}

rgb_frame middle_of(rgb_frame const& from, std::size_t width, std::size_t height) {
  width = std::min(width, from.width), height = std::min(height, from.height);
  std::size_t const top = (from.height - height) / 2, left = (from.width - width) / 2;
  rgb_frame out = blank(width, height);
  for (std::size_t row = 0; row != height; ++row)
    std::copy_n(from.pixels.begin() + static_cast<std::ptrdiff_t>(3 * ((top + row) * from.width + left)), 3 * width,
                out.pixels.begin() + static_cast<std::ptrdiff_t>(3 * row * width));
  return out;
}

rgb_frame overlaid(rgb_frame const& picture, heat_map const& heat, float low, float high) {
  rgb_frame out = picture;
  for (std::size_t y = 0; y != out.height; ++y)
    for (std::size_t x = 0; x != out.width; ++x) {
      float const value =
          within_range(sampled(heat.size, place(y, out.height, heat.size.height), place(x, out.width, heat.size.width),
                               [&](std::size_t r, std::size_t c) { return heat.values[r * heat.size.width + c]; }),
                       low, high);
      std::uint8_t* const p = out.pixels.data() + 3 * (y * out.width + x);
      float const grey = 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2], share = 0.15f + 0.6f * value;
      auto const colour = perceptual_colour(static_cast<double>(value));
      for (std::size_t c = 0; c != 3; ++c)
        p[c] = static_cast<std::uint8_t>(std::lround((1 - share) * grey + share * colour[c]));
    }
  return out;
}

rgb_frame coloured(heat_map const& values, float low, float high, bool upside_down) {
  rgb_frame out = blank(values.size.width, values.size.height);
  for (std::size_t y = 0; y != out.height; ++y)
    for (std::size_t x = 0; x != out.width; ++x) {
      std::size_t const row = upside_down ? out.height - 1 - y : y;
      float const value = within_range(values.values[row * out.width + x], low, high);
      auto const colour = perceptual_colour(static_cast<double>(value));
      std::copy(colour.begin(), colour.end(),
                out.pixels.begin() + static_cast<std::ptrdiff_t>(3 * (y * out.width + x)));
    }
  return out;
}

rgb_frame spectrogram_chart(heat_map const& spectrum, heat_map const& heat, float heat_high, std::size_t width,
                            std::size_t height, double top_hertz) {
  constexpr std::size_t left = 44, below = 18, above = 8, right = 12, scale = 2;
  auto const [low, high] = std::minmax_element(spectrum.values.begin(), spectrum.values.end());
  rgb_frame chart = resized(coloured(spectrum, *low, *high, true), width, height);
  if (!heat.values.empty()) {
    heat_map turned = heat;  // frequency upwards
    for (std::size_t r = 0; r != heat.size.height; ++r)
      std::copy_n(heat.values.begin() + static_cast<std::ptrdiff_t>((heat.size.height - 1 - r) * heat.size.width),
                  heat.size.width, turned.values.begin() + static_cast<std::ptrdiff_t>(r * heat.size.width));
    chart = overlaid(chart, turned, 0, heat_high);
  }
  canvas page(left + width + right, above + height + below);
  page.put(chart, left, above);
  for (int k : {0, 1, 2}) {
    std::string const hertz = k == 0 ? "0Hz" : text("%.0fkHz", top_hertz * k / 2000);
    std::size_t const y = above + height - static_cast<std::size_t>(k) * height / 2;
    if (top_hertz > 0)
      page.write(hertz, left - 4 - 4 * scale * hertz.size(), y - std::min<std::size_t>(y, k == 2 ? 0 : 10), scale);
    std::string const second = text(k == 1 ? "%.1fs" : "%.0fs", k / 2.0);
    std::size_t const x = left + static_cast<std::size_t>(k) * width / 2;
    page.write(second, x - (k == 0 ? 0 : 2 * scale * second.size()), above + height + 5, scale);
  }
  return page.picture();
}

void write_png(std::filesystem::path const& file, rgb_frame const& picture) {
  auto const png = png_of(picture);
  write_file(file, {reinterpret_cast<char const*>(png.data()), png.size()});
}

}  // namespace l3::program
