#include <algorithm>
#include <cmath>
#include <cstdint>
#include <l3/core/random.hpp>
#include <l3/data/augment.hpp>
#include <vector>

#include "../support/catch.hpp"

namespace {

using l3::generator;
using l3::image;
using l3::image_jitter;
using l3::rgb_view;
using l3::stream;
using floats = std::vector<float>;

struct picture {
  std::size_t width, height;
  std::vector<std::uint8_t> pixels;
};

picture random_picture(std::size_t width, std::size_t height) {
  picture p{width, height, std::vector<std::uint8_t>(width * height * 3)};
  generator g(5, stream::user, 0, 0);
  for (auto& v : p.pixels) v = static_cast<std::uint8_t>(g() >> 24);
  return p;
}

/// Red and green tell the column and the row.
picture map_picture(std::size_t width, std::size_t height) {
  picture p{width, height, {}};
  for (std::size_t y = 0; y < height; ++y)
    for (std::size_t x = 0; x < width; ++x)
      p.pixels.insert(p.pixels.end(), {static_cast<std::uint8_t>(x), static_cast<std::uint8_t>(y), 77});
  return p;
}

template <class Out, class... How>
floats augmented(picture const& p, How const&... how) {
  floats out(Out::size, 99);
  l3::augment_image<Out>(p, how..., std::span<float, Out::size>(out));
  return out;
}
template <class Out>
floats centred(picture const& p) {
  floats out(Out::size, 99);
  l3::centre_image<Out>(p, std::span<float, Out::size>(out));
  return out;
}

float signed_colour(int x) { return static_cast<float>((2.0 * x - 255) / 255); }

/// The definition, pixel by pixel in double.
template <class Out>
std::vector<double> expected(picture const& p, image_jitter const& j) {
  std::vector<double> out;
  for (std::size_t y = 0; y < Out::height; ++y)
    for (std::size_t x = 0; x < Out::width; ++x) {
      std::size_t const column = j.left + (j.mirrored ? Out::width - 1 - x : x);
      std::uint8_t const* const from = &p.pixels[3 * ((j.top + y) * p.width + column)];
      double c[3] = {double(from[0]), double(from[1]), double(from[2])};
      auto const brightness = [&] {
        for (double& v : c) v = std::clamp(v + double{j.brightness}, 0.0, 255.0);
      };
      auto const saturation = [&] {
        double const grey = 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
        for (double& v : c) v = std::clamp(j.saturation * v + (1 - double{j.saturation}) * grey, 0.0, 255.0);
      };
      j.saturation_first ? (saturation(), brightness()) : (brightness(), saturation());
      for (double v : c) out.push_back(2 * v / 255 - 1);
    }
  return out;
}

double chi_square(std::vector<int> const& counts) {
  double total = 0, sum = 0;
  for (int c : counts) total += c;
  double const mean = total / static_cast<double>(counts.size());
  for (int c : counts) sum += (c - mean) * (c - mean) / mean;
  return sum;
}

}  // namespace

TEST_CASE("evaluation takes the middle and changes no colour") {
  using out = image<4, 6, 3>;
  auto const p = map_picture(13, 9);  // 7 columns and 5 rows over: 3 left of the crop, 2 above it
  auto const found = centred<out>(p);
  for (std::size_t y = 0; y < 4; ++y)
    for (std::size_t x = 0; x < 6; ++x) {
      float const* const pixel = &found[3 * (6 * y + x)];
      CHECK(pixel[0] == signed_colour(static_cast<int>(x + 3)));
      CHECK(pixel[1] == signed_colour(static_cast<int>(y + 2)));
      CHECK(pixel[2] == signed_colour(77));
    }
}

TEST_CASE("every byte becomes 2x/255 - 1, correctly rounded") {
  picture p{256, 1, {}};
  for (int x = 0; x < 256; ++x)
    for (int c = 0; c < 3; ++c) p.pixels.push_back(static_cast<std::uint8_t>(x));
  auto const found = centred<image<1, 256, 3>>(p);
  for (int x = 0; x < 256; ++x) CHECK(found[3 * static_cast<std::size_t>(x)] == signed_colour(x));
  CHECK((found.front() == -1 && found.back() == 1));
}

TEST_CASE("without jitter a training image is its crop, and mirrored it is that crop mirrored") {
  using out = image<5, 7, 3>;  // rows that are no whole number of registers
  auto const p = map_picture(20, 11);
  auto const plain = augmented<out>(p, image_jitter{.top = 6, .left = 13});
  auto const mirror = augmented<out>(p, image_jitter{.top = 6, .left = 13, .mirrored = true});
  for (std::size_t y = 0; y < 5; ++y)
    for (std::size_t x = 0; x < 7; ++x)
      for (std::size_t c = 0; c < 3; ++c) {
        int const value[] = {static_cast<int>(x + 13), static_cast<int>(y + 6), 77};
        CHECK(plain[3 * (7 * y + x) + c] == Approx(signed_colour(value[c])).margin(1e-6));
        CHECK(mirror[3 * (7 * y + (6 - x)) + c] == plain[3 * (7 * y + x) + c]);
      }
  CHECK(augmented<image<1, 1, 3>>(p, image_jitter{.top = 10, .left = 19, .mirrored = true})[0] ==
        Approx(signed_colour(19)).margin(1e-6));
}

TEST_CASE("saturation moves colours from and to grey, brightness adds, each clamps") {
  using out = image<1, 1, 3>;
  auto const bytes = [](image_jitter const& j) {
    auto v = augmented<out>({1, 1, {200, 100, 50}}, j);
    for (float& x : v) x = (x + 1) * 127.5f;
    return v;
  };
  auto const is = [](floats const& found, floats const& wanted) {
    for (std::size_t c = 0; c < 3; ++c) CHECK(found[c] == Approx(wanted[c]).margin(1e-4));
  };
  // grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
  is(bytes({.saturation = 0}), {124.2f, 124.2f, 124.2f});
  is(bytes({.saturation = 0.5f}), {162.1f, 112.1f, 87.1f});
  is(bytes({.saturation = 1.5f}), {237.9f, 87.9f, 12.9f});
  is(bytes({.brightness = 30}), {230, 130, 80});
  is(bytes({.brightness = 60}), {255, 160, 110});
  is(bytes({.brightness = -60}), {140, 40, 0});
  // 237.9 + 30 is too much; 230 -> 154.2 + 1.5 * 75.8 = 267.9 as well; the blue 12.9 - 30 is too little.
  is(bytes({.brightness = 30, .saturation = 1.5f}), {255, 117.9f, 42.9f});
  is(bytes({.brightness = -30, .saturation = 1.5f, .saturation_first = true}), {207.9f, 57.9f, 0});
  // The orders differ once something is clamped: 260 becomes 255 before grey is made, and 0.299 of 5 is missing.
  is(bytes({.brightness = 60, .saturation = 0}), {182.705f, 182.705f, 182.705f});
  is(bytes({.brightness = 60, .saturation = 0, .saturation_first = true}), {184.2f, 184.2f, 184.2f});
}

TEST_CASE("training images agree with the definition in double, and stay within [-1, 1]") {
  using out = image<48, 37, 3>;
  auto const p = random_picture(60, 54);
  for (std::uint32_t k = 0; k < 40; ++k) {
    generator const g(1, stream::image, 0, k);
    auto const j = l3::draw_image_jitter<out>(p.width, p.height, g);
    auto const found = augmented<out>(p, g);
    auto const wanted = expected<out>(p, j);
    double worst = 0;
    bool inside = true;
    for (std::size_t i = 0; i < out::size; ++i) {
      worst = std::max(worst, std::abs(found[i] - wanted[i]));
      inside = inside && found[i] >= -1 && found[i] <= 1;
    }
    CHECK(worst < 1e-6);
    CHECK(inside);
  }
}

TEST_CASE("a seed names an image: the same bits again, another for another index") {
  using out = image<48, 48, 3>;
  auto const p = random_picture(60, 54);
  generator const g(1, stream::image, 7, 3);
  CHECK(augmented<out>(p, g) == augmented<out>(p, g));
  CHECK(augmented<out>(p, g) != augmented<out>(p, generator(1, stream::image, 7, 4)));
}

TEST_CASE("crops, mirroring, colours and their order are drawn evenly and from their whole range") {
  using out = image<48, 48, 3>;
  std::vector<int> crops(7 * 13), mirrored(2), first(2), brightness(16), saturation(16), joint(4);
  for (std::uint32_t k = 0; k < 91 * 200; ++k) {
    auto const j = l3::draw_image_jitter<out>(60, 54, generator(11, stream::image, 0, k));
    ++crops.at(j.top * 13 + j.left);  // at(): no other crop exists
    ++mirrored[j.mirrored];
    ++first[j.saturation_first];
    ++joint[2u * j.mirrored + j.saturation_first];
    ++brightness.at(static_cast<std::size_t>((j.brightness + 32) / 4));
    ++saturation.at(static_cast<std::size_t>((j.saturation - 0.5f) * 16));
  }
  CHECK(chi_square(crops) < 150);  // 90 degrees of freedom: one in ten thousand seeds
  CHECK(chi_square(crops) > 45);   // and not by turns
  CHECK(chi_square(mirrored) < 15);
  CHECK(chi_square(first) < 15);
  CHECK(chi_square(joint) < 21);
  CHECK(chi_square(brightness) < 44);
  CHECK(chi_square(saturation) < 44);
}

TEST_CASE("a picture as large as the crop has one crop") {
  auto const j = l3::draw_image_jitter<image<48, 37, 3>>(37, 48, generator(1, stream::image, 0, 0));
  CHECK((j.top == 0 && j.left == 0));
}

TEST_CASE("pictures that are too small, or are not what they say, are refused") {
  using out = image<48, 48, 3>;
  generator const g(1, stream::image, 0, 0);
  auto const narrow = random_picture(47, 60), low = random_picture(60, 47), good = random_picture(60, 54);
  CHECK_THROWS_AS(centred<out>(narrow), l3::shape_error);
  CHECK_THROWS_AS(augmented<out>(low, g), l3::shape_error);
  CHECK_THROWS_WITH(centred<out>(low), "picture to be cropped: expected at least 48 x 48 pixels, found 60 x 47");
  CHECK_THROWS_AS(augmented<out>(good, image_jitter{.top = 7}), l3::shape_error);
  CHECK_THROWS_AS(augmented<out>(good, image_jitter{.left = 13}), l3::shape_error);
  CHECK_THROWS_AS(augmented<out>(good, image_jitter{.top = ~std::size_t{0}}), l3::shape_error);
  CHECK_THROWS_AS(rgb_view({}, std::size_t{1} << 32, std::size_t{1} << 32), l3::shape_error);
  CHECK_THROWS_WITH(rgb_view(std::span(good.pixels).first(9719), 60, 54),
                    "picture of 60 x 54 pixels: expected 9720 bytes, found 9719");
}

TEST_CASE("sound gets one factor between 0.9 and 1.1") {
  floats const x{0.5f, -1.0f, 0.25f, 0.0f, 1.0f};
  std::vector<int> volumes(16);
  for (std::uint32_t k = 0; k < 3200; ++k) {
    auto y = x;
    l3::augment_sound(y, generator(2, stream::sound, 0, k));
    float const volume = y[4];
    for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(y[i] == x[i] * volume);
    ++volumes.at(static_cast<std::size_t>((volume - 0.9f) * 80));
  }
  CHECK(chi_square(volumes) < 44);
  auto a = x, b = x;
  l3::augment_sound(a, generator(2, stream::sound, 0, 1));
  l3::augment_sound(b, generator(2, stream::sound, 0, 1));
  CHECK(a == b);
}
