#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <fstream>
#include <functional>
#include <l3/core/random.hpp>
#include <l3/data/spectrogram.hpp>
#include <limits>
#include <map>
#include <numbers>
#include <sstream>
#include <string>
#include <vector>

#include "../support/catch.hpp"

namespace {

using l3::coarse_front_end;
using l3::paper_front_end;
using floats = std::vector<float>;

constexpr std::size_t bins = 257, frames = 199, second = 48000;
constexpr double pi = std::numbers::pi;

template <class FrontEnd = paper_front_end>
floats picture_of(floats const& samples) {
  floats out(FrontEnd::output::size, 99);
  l3::spectrogram<FrontEnd>()(samples, std::span<float, FrontEnd::output::size>(out));
  return out;
}

floats sampled(std::function<double(double)> const& f) {
  floats x(second);
  for (std::size_t n = 0; n < second; ++n) x[n] = static_cast<float>(f(static_cast<double>(n) / second));
  return x;
}

floats noise(double level, std::uint32_t index = 0) {
  l3::generator g(1, l3::stream::user, 0, index);
  floats x(second);
  for (float& v : x) v = static_cast<float>(level * g.normal());
  return x;
}

/// The definition, in double, without any fast transform: magnitudes, bin by frame, and the energy of each frame.
struct exact {
  std::vector<double> magnitude = std::vector<double>(bins * frames), energy = std::vector<double>(frames);

  explicit exact(floats const& samples) {
    std::vector<std::complex<double>> root(512);
    for (std::size_t k = 0; k < 512; ++k) root[k] = std::polar(1.0, -2 * pi * static_cast<double>(k) / 512);
    std::vector<double> windowed(480);
    for (std::size_t t = 0; t < frames; ++t) {
      for (std::size_t n = 0; n < 480; ++n) {
        windowed[n] = samples[240 * t + n] * (0.5 - 0.5 * std::cos(2 * pi * static_cast<double>(n) / 480));
        energy[t] += windowed[n] * windowed[n];
      }
      for (std::size_t f = 0; f < bins; ++f) {
        double re = 0, im = 0;
        for (std::size_t n = 0; n < 480; ++n) {
          re += windowed[n] * root[f * n % 512].real();
          im += windowed[n] * root[f * n % 512].imag();
        }
        magnitude[f * frames + t] = std::hypot(re, im);
      }
    }
  }
  static double log_of(double m) { return std::log(std::max(m, 1e-5)) / 5; }
  double at(std::size_t f, std::size_t t) const { return log_of(magnitude[f * frames + t]); }
};

double worst_difference(floats const& found, std::function<double(std::size_t)> const& expected) {
  double worst = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    double const d = std::abs(found[k] - expected(k));
    worst = d <= worst ? worst : d;  // not-a-number counts as worst
  }
  return worst;
}

template <std::size_t Size, class T>
void check_transform() {
  constexpr std::size_t lanes = l3::detail::width<T>;
  l3::generator g(3, l3::stream::user, 0, 0);
  floats x(Size * lanes);
  for (float& v : x) v = static_cast<float>(g.normal());
  floats work = x;
  std::vector<int> visits(Size / 2 + 1);
  std::vector<std::complex<double>> found(visits.size() * lanes);
  l3::real_fft<Size>().template transform<T>(work.data(), [&](std::size_t k, T const& re, T const& im) {
    float parts[2 * lanes];
    l3::detail::put(parts, re);
    l3::detail::put(parts + lanes, im);
    ++visits.at(k);
    for (std::size_t l = 0; l < lanes; ++l) found[k * lanes + l] = {parts[l], parts[lanes + l]};
  });
  CHECK(visits == std::vector<int>(Size / 2 + 1, 1));
  double error = 0, power = 0;
  for (std::size_t k = 0; k <= Size / 2; ++k)
    for (std::size_t l = 0; l < lanes; ++l) {
      std::complex<double> exact = 0;
      for (std::size_t n = 0; n < Size; ++n)
        exact += double{x[n * lanes + l]} * std::polar(1.0, -2 * pi * static_cast<double>(k * n % Size) / Size);
      error += std::norm(exact - found[k * lanes + l]);
      power += std::norm(exact);
    }
  CHECK(std::sqrt(error / power) < 2e-7);
}

}  // namespace

TEMPLATE_TEST_CASE("the fast transform is the Fourier transform, in every lane", "", float,
                   l3::detail::lanes<l3::arch::best>, l3::detail::plain_lanes<16>) {
  check_transform<8, TestType>();
  check_transform<32, TestType>();
  check_transform<128, TestType>();
  check_transform<512, TestType>();
  check_transform<2048, TestType>();
}

TEST_CASE("the vectorised logarithm is the logarithm") {
  double worst = 0;
  for (float x = std::numeric_limits<float>::min(); x < 1e38f; x *= 1.0001f) {
    double const exact = std::log(double{x});
    worst = std::max(worst, std::abs(l3::detail::natural_log(x) - exact) / std::max(1.0, std::abs(exact)));
  }
  CHECK(worst < 2e-7);
  CHECK(l3::detail::natural_log(1.0f) == 0);
  CHECK(l3::detail::natural_log(0.0f) < -87);
  CHECK(l3::detail::natural_log(std::numeric_limits<float>::denorm_min()) < -87);
  CHECK(std::isnan(l3::detail::natural_log(std::numeric_limits<float>::infinity())));
  CHECK(std::isnan(l3::detail::natural_log(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("the spectrogram of noise, loud and soft, is its definition in double to 2e-5") {
  for (auto const& samples : {noise(0.3), noise(1e-4)}) {
    exact const truth(samples);
    CHECK(worst_difference(picture_of(samples), [&](std::size_t k) { return truth.at(k / frames, k % frames); }) <
          2e-5);
    auto const pooled = [&](std::size_t k) {
      double sum = 0;
      for (std::size_t f = 0; f < 4; ++f)
        for (std::size_t t = 0; t < 2; ++t) sum += truth.magnitude[(4 * (k / 99) + f) * frames + 2 * (k % 99) + t];
      return exact::log_of(sum / 8);
    };
    CHECK(worst_difference(picture_of<coarse_front_end>(samples), pooled) < 2e-5);
  }
}

TEST_CASE("beside strong tones magnitudes are right to 1e-7 of the frame's strength") {
  auto const hiss = noise(1e-3);
  auto const tone = [&](double level, double from, double to) {
    return sampled([&](double t) { return level * std::cos(2 * pi * (from * t + (to - from) / 2 * t * t)); });
  };
  auto in_noise = tone(0.5, 100, 20000);
  std::transform(in_noise.begin(), in_noise.end(), hiss.begin(), in_noise.begin(), std::plus<>());
  for (auto const& samples : {tone(1, 1000, 1000), tone(0.9, 7321.5, 7321.5), tone(0.5, 100, 23900), tone(0.7, 0, 0),
                              tone(1, 24000, 24000), in_noise}) {
    exact const truth(samples);
    auto const found = picture_of(samples);
    double worst = 0;
    for (std::size_t k = 0; k < found.size(); ++k) {
      double const magnitude = std::exp(5.0 * found[k]);
      // The logarithm itself is good for 2e-6 of a magnitude.
      double const error = std::abs(magnitude - std::max(truth.magnitude[k], 1e-5)) - 2e-6 * magnitude;
      double const ratio = error / std::sqrt(512 * truth.energy[k % frames]);
      worst = ratio <= worst ? worst : ratio;
    }
    CHECK(worst < 1e-7);
  }
}

TEST_CASE("the spectrogram agrees with scipy's") {
  std::vector<double> samples(second);
  std::uint32_t state = 1;
  auto const x = sampled([&](double t) {
    state = 1664525 * state + 1013904223;
    return 0.1 * std::sin(2 * pi * (200 * t + 5000 * t * t)) + 0.5 * (state * 0x1p-32 - 0.5);
  });
  std::map<std::string, std::pair<floats, std::size_t>> const found{{"paper", {picture_of(x), 199}},
                                                                    {"coarse", {picture_of<coarse_front_end>(x), 99}}};
  std::ifstream file(L3_SOURCE_DIR "/tests/golden/spectrogram.csv");
  std::string line, name;
  std::getline(file, line);
  REQUIRE(line == "front_end,row,column,value");
  double worst = 0;
  int values = 0;
  while (std::getline(file, line)) {
    std::replace(line.begin(), line.end(), ',', ' ');
    std::size_t row = 0, column = 0;
    double expected = 0;
    REQUIRE(std::istringstream(line) >> name >> row >> column >> expected);
    auto const& [picture, columns] = found.at(name);
    worst = std::max(worst, std::abs(picture.at(row * columns + column) - expected));
    ++values;
  }
  CHECK(values > 2000);
  CHECK(worst < 2e-5);
}

TEST_CASE("silence is exactly the floor") {
  auto const floor = static_cast<float>(std::log(1e-5) / 5);
  CHECK(picture_of(floats(second, 0.0f)) == floats(bins * frames, floor));
  CHECK(picture_of(floats(second, 1e-30f)) == floats(bins * frames, floor));
  CHECK(picture_of<coarse_front_end>(floats(second, -0.0f)) == floats(64 * 99, floor));
}

TEST_CASE("frequency is the first axis: 1 kHz lies between rows 10 and 11, nearer to 11") {
  auto const sine = sampled([](double t) { return std::sin(2 * pi * 1000 * t); });
  auto const p = picture_of(sine);
  for (std::size_t t = 0; t < frames; ++t) {
    std::vector<std::pair<float, std::size_t>> column(bins);
    for (std::size_t f = 0; f < bins; ++f) column[f] = {p[f * frames + t], f};
    std::sort(column.rbegin(), column.rend());
    CHECK((column[0].second == 11 && column[1].second == 10));
  }
  auto const c = picture_of<coarse_front_end>(sine);
  for (std::size_t t = 0; t < 99; ++t)
    for (std::size_t f = 0; f < 64; ++f) CHECK((f == 2 || c[f * 99 + t] < c[2 * 99 + t]));
}

TEST_CASE("time is the second axis: a click shows in the frames that contain it, with the window's height") {
  floats x(second, 0.0f);
  x[24100] = 1;
  auto const p = picture_of(x);
  auto const height = [](double n) { return std::log(0.5 - 0.5 * std::cos(2 * pi * n / 480)) / 5; };
  CHECK(worst_difference(p, [&](std::size_t k) {
          std::size_t const t = k % frames;
          return t == 99 ? height(340) : t == 100 ? height(100) : std::log(1e-5) / 5;
        }) < 1e-6);
  // The last sample of the last frame is the last that counts.
  floats end(second, 0.0f);
  end[239 + 240 * 199] = 1;
  CHECK(picture_of(end)[198] > -2.1);
}

TEST_CASE(
    "a column depends on its own samples alone: sound moved by a hop moves the picture by a column, bit for bit") {
  auto const x = noise(0.1);
  floats moved(x.begin() + 240, x.end());
  moved.resize(second, 0.5f);
  auto const a = picture_of(x), b = picture_of(moved);
  for (std::size_t f = 0; f < bins; ++f)
    CHECK(std::equal(a.begin() + static_cast<std::ptrdiff_t>(f * frames + 1),
                     a.begin() + static_cast<std::ptrdiff_t>((f + 1) * frames),
                     b.begin() + static_cast<std::ptrdiff_t>(f * frames)));
}

TEMPLATE_TEST_CASE("any second of a long sound's picture is that second's, bit for bit", "", paper_front_end,
                   coarse_front_end) {
  using transform = l3::spectrogram<TestType>;
  using output = typename TestType::output;
  transform const to_picture;
  for (std::size_t const more : {0, 1, 5, 200}) {
    std::size_t const width = output::width + more;
    auto x = noise(0.1);
    while (x.size() < second + more * transform::apart) x.insert(x.end(), x.begin(), x.begin() + second / 2);
    x.resize(second + more * transform::apart);
    floats all(output::height * width), one(output::size);
    to_picture.of_long_sound(x, all);
    for (std::size_t const k : {std::size_t{0}, more / 2, more}) {
      to_picture(std::span(x).subspan(k * transform::apart, second), std::span<float, output::size>(one));
      for (std::size_t f = 0; f < output::height; ++f)
        CHECK(std::equal(one.begin() + static_cast<std::ptrdiff_t>(f * output::width),
                         one.begin() + static_cast<std::ptrdiff_t>((f + 1) * output::width),
                         all.begin() + static_cast<std::ptrdiff_t>(f * width + k)));
    }
    CHECK_THROWS_AS(to_picture.of_long_sound(std::span(x).first(x.size() - 1), all), l3::shape_error);
    CHECK_THROWS_AS(to_picture.of_long_sound(x, std::span(all).first(all.size() - 1)), l3::shape_error);
  }
}

TEST_CASE("one object serves many threads, from and to any address, with the same bits") {
  l3::spectrogram<paper_front_end> const transform;
  auto const x = noise(0.1);
  auto const expected = picture_of(x);
  std::vector<int> same(16);
  tbb::parallel_for(std::size_t{0}, same.size(), [&](std::size_t k) {
    floats in(second + k), out(expected.size() + k);
    std::copy(x.begin(), x.end(), in.begin() + static_cast<std::ptrdiff_t>(k));
    transform(std::span(in).subspan(k),
              std::span<float, paper_front_end::output::size>(out.data() + k, expected.size()));
    same[k] = std::equal(expected.begin(), expected.end(), out.begin() + static_cast<std::ptrdiff_t>(k));
  });
  CHECK(same == std::vector<int>(16, 1));
}

TEST_CASE("samples that are not finite show in their frames and nowhere else") {
  float const bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  auto x = noise(0.1);
  auto const clean = picture_of(x);
  x[24100] = bad;
  auto const p = picture_of(x);
  int wrong = 0;
  for (std::size_t k = 0; k < p.size(); ++k) {
    bool const hit = k % frames == 99 || k % frames == 100;
    wrong += hit ? !std::isnan(p[k]) : p[k] != clean[k];
  }
  CHECK(wrong == 0);
  CHECK(std::isnan(picture_of<coarse_front_end>(x)[50]));
  CHECK(!std::isnan(picture_of<coarse_front_end>(x)[51]));
}

TEST_CASE("another number of samples is refused") {
  floats out(paper_front_end::output::size);
  std::span<float, paper_front_end::output::size> const to(out);
  l3::spectrogram<paper_front_end> const transform;
  CHECK_THROWS_AS(transform(floats(second - 1), to), l3::shape_error);
  CHECK_THROWS_WITH(transform(floats(second + 1), to), "sound for a spectrogram: expected 48000 samples, found 48001");
}
