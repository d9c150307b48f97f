#include <cmath>
#include <l3/core/random.hpp>
#include <l3/data/decibel_spectrogram.hpp>
#include <limits>
#include <map>
#include <numbers>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/golden.hpp"

namespace {
using namespace l3;

template <class FrontEnd>
std::vector<float> decibels_of(std::vector<float> const& samples) {
  std::vector<float> out(FrontEnd::output::size, 99);
  spectrogram<FrontEnd>()(samples, std::span<float, FrontEnd::output::size>(out));
  return out;
}

/// The sound of tests/golden/make_spectrogram_golden.py: a rising tone in noise.
std::vector<float> tone_in_noise() {
  std::vector<float> x(48000);
  std::uint32_t state = 1;
  for (std::size_t n = 0; n != x.size(); ++n) {
    double const t = static_cast<double>(n) / 48000;
    state = 1664525 * state + 1013904223;
    x[n] = static_cast<float>(0.1 * std::sin(2 * std::numbers::pi * (200 * t + 5000 * t * t)) +
                              0.5 * (state * 0x1p-32 - 0.5));
  }
  return x;
}

/// Frame that sample n of the second stands in, at its place of `window` (0 to 1): how loud a click there is.
template <class FrontEnd>
double click_height(std::size_t frame, std::size_t n) {
  double const at = static_cast<double>(n + FrontEnd::before) - static_cast<double>(frame * FrontEnd::hop);
  if (at < 0 || at >= static_cast<double>(FrontEnd::window)) return 0;
  return 0.5 - 0.5 * std::cos(2 * std::numbers::pi * at / FrontEnd::window);
}
}  // namespace

TEMPLATE_TEST_CASE("OpenL3's spectrograms agree with scipy's and librosa's", "", openl3_linear, openl3_mel128,
                   openl3_mel256, openl3_04_mel128, openl3_04_mel256, openl3_04_librosa_mel128,
                   openl3_04_librosa_mel256) {
  auto const file = safetensors_file::open(L3_SOURCE_DIR "/tests/golden/openl3.safetensors");
  auto const rows = golden_values(file, std::string(TestType::name) + ".rows");
  auto const columns = golden_values(file, std::string(TestType::name) + ".columns");
  constexpr std::size_t height = TestType::output::height, width = TestType::output::width;
  REQUIRE(rows.size() == 4 * width);
  REQUIRE(columns.size() == 4 * height);
  auto const found = decibels_of<TestType>(tone_in_noise());
  double worst = 0;
  for (std::size_t k = 0; k != 4; ++k) {
    std::size_t const row = std::array{std::size_t{0}, std::size_t{1}, height / 2, height - 1}[k];
    std::size_t const column = std::array{std::size_t{0}, std::size_t{4}, width / 2, width - 1}[k];
    for (std::size_t t = 0; t != width; ++t)
      worst = std::max(worst, std::abs(double{found[row * width + t]} - double{rows[k * width + t]}));
    for (std::size_t f = 0; f != height; ++f)
      worst = std::max(worst, std::abs(double{found[f * width + column]} - double{columns[k * height + f]}));
  }
  CAPTURE(worst);
  CHECK(worst < 1e-3);
}

TEMPLATE_TEST_CASE("nothing is left of a second's level but where silence begins", "", openl3_linear, openl3_mel256,
                   openl3_04_mel128, openl3_04_librosa_mel128) {
  auto loud = tone_in_noise();
  auto const picture = decibels_of<TestType>(loud);
  CHECK(*std::max_element(picture.begin(), picture.end()) == 0);
  CHECK(*std::min_element(picture.begin(), picture.end()) >= -80);
  for (float& x : loud) x *= 0x1p-6f;
  auto const softer = decibels_of<TestType>(loud);
  double worst = 0;
  for (std::size_t k = 0; k != picture.size(); ++k)
    worst = std::max(worst, std::abs(double{picture[k]} - double{softer[k]}));
  CHECK(worst < 1e-4);
  CHECK(decibels_of<TestType>(std::vector<float>(48000, 0.0f)) == std::vector<float>(TestType::output::size, 0.0f));
}

TEMPLATE_TEST_CASE("a click shows in the frames that hold it, with the window's height, at both ends of the second too",
                   "", openl3_linear, openl3_mel128, openl3_04_mel256, openl3_04_librosa_mel256) {
  constexpr std::size_t width = TestType::output::width, row = TestType::output::height / 2;
  for (std::size_t const n : {30, 24000, 47900}) {
    std::vector<float> x(48000, 0.0f);
    x[n] = 1;
    auto const picture = decibels_of<TestType>(x);
    double loudest = 0, worst = 0;
    for (std::size_t t = 0; t != width; ++t) loudest = std::max(loudest, click_height<TestType>(t, n));
    REQUIRE(loudest > 0);
    // A click is as loud at all frequencies, the row's own weight aside, which the loudest frame has too.
    float const most = *std::max_element(picture.begin() + row * width, picture.begin() + (row + 1) * width);
    for (std::size_t t = 0; t != width; ++t) {
      double const height = click_height<TestType>(t, n) / loudest;
      double const found = double{picture[row * width + t]} - double{most};
      if (height > 1e-3)
        worst = std::max(worst, std::abs(found - 10 * std::log10(height)));
      else
        CHECK(found < -25);
    }
    CAPTURE(n, worst);
    CHECK(worst < 2e-3);
  }
}

TEST_CASE("samples that are not finite show in their frames of OpenL3's spectrograms, and another number is refused") {
  float const bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  auto x = tone_in_noise();
  x[24100] = bad;
  auto const clean = decibels_of<openl3_mel256>(tone_in_noise()), p = decibels_of<openl3_mel256>(x);
  constexpr std::size_t width = openl3_mel256::output::width, at = 24100 + openl3_mel256::before;
  int wrong = 0;
  for (std::size_t k = 0; k != p.size(); ++k) {
    std::size_t const begin = k % width * openl3_mel256::hop;
    bool const hit = begin <= at && at < begin + openl3_mel256::window;
    bool const empty = clean[k / width * width] == -80;  // a band between two bins reads nothing
    wrong += std::isnan(p[k]) != (hit && !empty);
  }
  CHECK(wrong == 0);
  std::vector<float> out(openl3_mel256::output::size);
  CHECK_THROWS_WITH(
      spectrogram<openl3_mel256>()(std::vector<float>(47999), std::span<float, openl3_mel256::output::size>(out)),
      "sound for a spectrogram: expected 48000 samples, found 47999");
}
