/// @file  examples/l3/synth_scene.hpp: the pictures of made-up instruments: one silhouette a class, everything else
/// drawn at random and alike for all classes.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/random.hpp>
#include <numbers>
#include <span>
#include <vector>

#include "synth_common.hpp"

namespace l3::program::synth {

/// The silhouettes in the order of the classes, those hardest to confuse first.
inline constexpr std::array<char const*, classes> shape_names = {
    "disc",   "cross",  "triangle",  "ring",   "bars",  "star",  "crescent",  "dots",
    "zigzag", "square", "hourglass", "spiral", "arrow", "heart", "half disc", "frame"};

/// Whether a point of [-1, 1]^2 (y upwards) belongs to a silhouette.
inline bool inside(int shape, double x, double y) {
  auto const ax = std::abs(x), ay = std::abs(y), r = std::hypot(x, y);
  auto const fraction = [](double v) { return v - std::floor(v); };
  switch (shape) {
    case 0:
      return r < 0.9;
    case 1:
      return std::max(ax, ay) < 0.9 && std::min(ax, ay) < 0.28;
    case 2:
      return y > -0.6 && ax < (0.95 - y) * 0.577;
    case 3:
      return r < 0.95 && r > 0.55;
    case 4:
      return ay < 0.8 && ax < 0.9 && fraction((x + 0.9) / 0.7) < 0.4 / 0.7;
    case 5: {  // fold the plane into half a point of the star; its edge is a straight line
      auto const step = std::numbers::pi / 5;
      auto const angle = std::abs(fraction(std::atan2(x, y) / (2 * step) + 0.5) - 0.5) * 2 * step;
      auto const inner_x = 0.38 * std::cos(step), inner_y = 0.38 * std::sin(step);
      return (1 - inner_x) * r * std::sin(angle) < inner_y * (1 - r * std::cos(angle));
    }
    case 6:
      return r < 0.9 && std::hypot(x - 0.5, y) > 0.75;
    case 7:
      return std::hypot(ax - 0.52, ay - 0.52) < 0.36;
    case 8:
      return ax < 0.95 && std::abs(y - 0.55 * (4 * std::abs(fraction(x / 0.95 + 0.25) - 0.5) - 1)) < 0.3;
    case 9:
      return std::max(ax, ay) < 0.8;
    case 10:
      return ay < 0.85 && ax < 0.12 + 0.85 * ay;
    case 11:
      return r < 0.95 && fraction(2.1 * r - std::atan2(y, x) / (2 * std::numbers::pi)) < 0.5;
    case 12:
      return (ay < 0.2 && x > -0.9 && x < 0.1) || (x >= 0 && ay < 0.85 * (0.9 - x));
    case 13: {
      auto const hx = 1.25 * x, hy = 1.25 * y + 0.1, ring = hx * hx + hy * hy - 1;
      return ring * ring * ring < hx * hx * hy * hy * hy;
    }
    case 14:
      return y > -0.4 && std::hypot(x, y + 0.4) < 0.95;
    default:
      return std::max(ax, ay) < 0.85 && std::max(ax, ay) > 0.5;
  }
}

/// A silhouette as a grey picture, to be drawn at any place, size and angle.
class mask {
 public:
  explicit mask(int shape) : coverage_(side * side) {
    constexpr int fine = 4;  // sub-pixels in each direction
    int total = 0;
    for (int row = 0; row < side; ++row)
      for (int col = 0; col < side; ++col) {
        int hits = 0;
        for (int sub = 0; sub < fine * fine; ++sub)
          hits += inside(shape, 2 * (col + (sub % fine + 0.5) / fine) / side - 1,
                         1 - 2 * (row + (sub / fine + 0.5) / fine) / side);
        coverage_[static_cast<std::size_t>(row * side + col)] = static_cast<float>(hits) / (fine * fine);
        total += hits;
      }
    area_ = 4.0 * total / (side * side * fine * fine);
  }
  /// Size of [-1, 1] in pixels at which the silhouette covers as much as a disc of that radius. All classes are drawn
  /// with equal areas, so that no mean colour tells them apart.
  double scale(double radius) const { return radius * std::sqrt(std::numbers::pi / area_); }

  /// Coverage at a point of [-1, 1]^2 (y upwards), 0 beyond it; bilinear.
  float at(double x, double y) const {
    auto const col = (x + 1) / 2 * side - 0.5, row = (1 - y) / 2 * side - 0.5;
    if (!(col > -1 && row > -1 && col < side && row < side)) return 0;
    int const c = static_cast<int>(std::floor(col)), r = static_cast<int>(std::floor(row));
    auto const u = static_cast<float>(col - c), v = static_cast<float>(row - r);
    auto const upper = pixel(r, c) * (1 - u) + pixel(r, c + 1) * u;
    auto const lower = pixel(r + 1, c) * (1 - u) + pixel(r + 1, c + 1) * u;
    return upper * (1 - v) + lower * v;
  }

 private:
  static constexpr int side = 64;
  float pixel(int row, int col) const {
    if (row < 0 || col < 0 || row >= side || col >= side) return 0;
    return coverage_[static_cast<std::size_t>(row * side + col)];
  }
  std::vector<float> coverage_;
  double area_ = 0;
};

/// The mask of a class, made once.
inline mask const& mask_of(int shape) {
  static auto const all = [] {
    std::vector<mask> made;
    for (int s = 0; s < classes; ++s) made.emplace_back(s);
    return made;
  }();
  return all[static_cast<std::size_t>(shape)];
}

using colour = std::array<float, 3>;

/// The colour of a hue (in turns) and saturation that has just this luma (BT.601), all in [0, 1].
inline colour colour_of(double hue, double saturation, double luma) {
  colour c{};
  for (std::size_t i = 0; i < 3; ++i) {
    auto const wave = 0.5 + 0.5 * std::cos(2 * std::numbers::pi * (hue - static_cast<double>(i) / 3));
    c[i] = static_cast<float>(1 - saturation + saturation * wave);
  }
  auto const wanted = static_cast<float>(luma);
  auto const now = 0.299f * c[0] + 0.587f * c[1] + 0.114f * c[2];
  for (auto& v : c) v = now > wanted ? v * wanted / now : 1 - (1 - v) * (1 - wanted) / std::max(1 - now, 1e-6f);
  return c;
}

/// What one video looks like apart from its class: drawn once a video.
struct look {
  double radius;  ///< pixels, of the disc with the same area
  double x, y;    ///< place of the centre, pixels from the middle of the picture, y downwards
  double angle;   ///< radians
  bool mirrored;
  int colours;             ///< which of the colour combinations
  double luma, back_luma;  ///< of instrument and background
  double noise;            ///< camera noise, standard deviation in grey levels
  double sway_phase;       ///< of the slow movement
};

inline constexpr int hues = 20;  ///< steps of hue; instrument and background make hues^2 pairs

/// Draws a look. The combination of colours comes from the cells that belong to this part of the data set.
inline look draw_look(generator& g, part which, level how) {
  bool const hard = how == level::hard;
  look l{};
  l.radius = hard ? g.uniform(8, 13) : g.uniform(15, 21);
  auto const room = 42 - 1.35 * l.radius;  // keeps it inside the square that evaluation crops from the middle
  l.x = g.uniform(-room, room);
  l.y = g.uniform(-room, room);
  l.angle = hard ? g.uniform(-std::numbers::pi, std::numbers::pi) : g.uniform(-0.3, 0.3);
  l.mirrored = g.coin();
  l.colours = held_out_cell(g, which, hues * hues);
  auto const contrast = hard ? g.uniform(0.15, 0.3) : g.uniform(0.3, 0.5);
  auto const middle = g.uniform(0.35, 0.65), sign = g.coin() ? 0.5 : -0.5;
  l.luma = middle + sign * contrast;
  l.back_luma = middle - sign * contrast;
  l.noise = hard ? g.uniform(4, 10) : g.uniform(1, 4);
  l.sway_phase = g.uniform(0, 2 * std::numbers::pi);
  return l;
}

/// Draws the frames of one video.
class scene {
 public:
  scene(int shape, look const& l, level how, generator& g) : mask_(&mask_of(shape)), look_(l), back_(pixels * 3) {
    auto const hue = [](int step, generator& r) { return (step + r.uniform()) / hues; };
    auto const back = l.colours / hues, front = (back + l.colours) % hues;  // every hue occurs in every part
    auto const back_hue = hue(back, g), back_saturation = g.uniform(0.2, 0.7);
    fill_ = colour_of(hue(front, g), g.uniform(0.4, 0.9), l.luma);
    paint_background(g, back_hue, back_saturation);
    paint_distractors(g, how);
    light_ = g.uniform(0, 2 * std::numbers::pi);
  }

  /// Frame at `time` seconds. `pulse`, 1 at the onset of a note and falling to 0, swells the instrument. `g` makes the
  /// camera's noise.
  void draw(double time, double pulse, generator& g, std::span<std::uint8_t> rgb) const {
    auto canvas = back_;
    auto const sway = 2 * std::numbers::pi * 0.3 * time + look_.sway_phase;
    auto const x = width / 2.0 + look_.x + 1.5 * std::sin(sway), y = height / 2.0 + look_.y + 1.5 * std::cos(sway);
    auto const angle = look_.angle + 0.06 * std::sin(1.7 * sway);
    auto const scale = mask_->scale(look_.radius) * (1 + 0.1 * pulse);
    paint_mask(
        canvas, x + 2, y + 2.5, angle, scale,
        [](float, float) {
          return colour{0, 0, 0};
        },
        0.25f);
    auto const light_x = static_cast<float>(0.16 * std::cos(light_)),
               light_y = static_cast<float>(0.16 * std::sin(light_));
    auto const lit = [&](float u, float v) {
      auto c = fill_;
      for (auto& each : c) each *= 1 + u * light_x + v * light_y;
      return c;
    };
    paint_mask(canvas, x, y, angle, scale, lit, 1);
    for (std::size_t p = 0; p < pixels; ++p) {
      auto const bits = g();  // four bytes add up to nearly a normal number of standard deviation 148
      auto const sum = static_cast<int>((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24)) - 510;
      auto const grain = static_cast<float>(look_.noise / 148) * static_cast<float>(sum);
      for (std::size_t c = 3 * p; c < 3 * p + 3; ++c)
        rgb[c] = static_cast<std::uint8_t>(std::clamp(255 * canvas[c] + grain + 0.5f, 0.0f, 255.0f));
    }
  }

 private:
  static constexpr std::size_t pixels = std::size_t{width} * height;

  void paint_background(generator& g, double hue, double saturation) {
    auto const turn = [&] { return g.uniform(0, 2 * std::numbers::pi); };
    auto const slope = turn(), depth = g.uniform(0.02, 0.1);
    struct {
      double kx, ky, phase, depth;
    } waves[2];
    for (auto& w : waves) {
      auto const direction = turn(), wave_number = 2 * std::numbers::pi / g.uniform(7, 40);
      w = {wave_number * std::cos(direction), wave_number * std::sin(direction), turn(), g.uniform(0, 0.035)};
    }
    for (int row = 0; row < height; ++row)
      for (int col = 0; col < width; ++col) {
        auto const u = 2.0 * col / width - 1, v = 2.0 * row / height - 1;
        auto luma = look_.back_luma + depth * (u * std::cos(slope) + v * std::sin(slope));
        for (auto const& w : waves) luma += w.depth * std::sin(w.kx * col + w.ky * row + w.phase);
        set(back_, row, col, colour_of(hue, saturation, std::clamp(luma, 0.02, 0.98)), 1);
      }
  }

  /// Specks and sticks, the same kinds for all classes.
  void paint_distractors(generator& g, level how) {
    bool const hard = how == level::hard;
    auto const count = hard ? 5 + g.below(6) : 1 + g.below(4);
    for (std::uint32_t i = 0; i < count; ++i) {
      auto const x = g.uniform(0, width), y = g.uniform(0, height), angle = g.uniform(0, std::numbers::pi);
      auto const half_width = g.uniform(1.5, hard ? 4 : 3), half_length = half_width * g.uniform(1, 4);
      auto const paint = colour_of(g.uniform(), g.uniform(0.2, 0.8), g.uniform(0.2, 0.8));
      for (int row = 0; row < height; ++row)
        for (int col = 0; col < width; ++col) {
          auto const dx = col - x, dy = row - y;
          auto const along = std::abs(dx * std::cos(angle) + dy * std::sin(angle)) - (half_length - half_width);
          auto const across = -dx * std::sin(angle) + dy * std::cos(angle);
          auto const outside = std::hypot(std::max(along, 0.0), across) - half_width;
          set(back_, row, col, paint, static_cast<float>(std::clamp(0.5 - outside, 0.0, 1.0)));
        }
    }
  }

  /// Lays the silhouette over a picture; `paint` gives its colour at (u, v) in [-1, 1]^2 of the upright picture.
  template <class Paint>
  void paint_mask(std::vector<float>& canvas, double x, double y, double angle, double scale, Paint paint,
                  float opacity) const {
    auto const reach = scale * 1.4143;
    auto const from = [](double v) { return std::max(static_cast<int>(v), 0); };
    auto const to = [](double v, int limit) { return std::min(static_cast<int>(v) + 1, limit); };
    auto const cosine = std::cos(angle) / scale, sine = std::sin(angle) / scale;
    for (int row = from(y - reach); row < to(y + reach, height); ++row)
      for (int col = from(x - reach); col < to(x + reach, width); ++col) {
        auto const dx = (look_.mirrored ? -1 : 1) * (col + 0.5 - x), dy = y - row - 0.5;
        auto const covered = mask_->at(dx * cosine + dy * sine, dy * cosine - dx * sine);
        if (covered > 0)
          set(canvas, row, col, paint(static_cast<float>(dx / scale), static_cast<float>(dy / scale)),
              covered * opacity);
      }
  }

  static void set(std::vector<float>& canvas, int row, int col, colour const& c, float opacity) {
    auto* const pixel = &canvas[static_cast<std::size_t>(row * width + col) * 3];
    for (std::size_t i = 0; i < 3; ++i) pixel[i] += (c[i] - pixel[i]) * opacity;
  }

  mask const* mask_;
  look look_;
  colour fill_{};
  double light_ = 0;
  std::vector<float> back_;  ///< what does not move
};

}  // namespace l3::program::synth
