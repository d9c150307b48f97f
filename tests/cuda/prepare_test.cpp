/// @file  tests/cuda/prepare_test.cpp: frames from bytes and spectrograms from samples, on a GPU, against the
/// definition in double; on the emulation also against the processor's.
#include <complex>
#include <cstring>
#include <numbers>

#include "../support/device.hpp"
#if !defined(__CUDACC__)
#include <l3/data/augment.hpp>
#include <l3/data/spectrogram.hpp>
#endif

namespace {
using namespace l3;
using namespace l3::test;

/// The larger one; what is not a number is larger than all.
double worse(double worst, double off) { return off <= worst ? worst : std::isnan(off) ? HUGE_VAL : off; }

std::vector<image_jitter> some_jitters() {
  return {{},
          {.mirrored = true},
          {.top = 3, .left = 1, .brightness = 31.5f, .saturation = 0.5f},
          {.mirrored = true, .brightness = -31.9f, .saturation = 1.5f, .saturation_first = true},
          {.brightness = 20, .saturation = 1.4f},
          {.brightness = 20, .saturation = 1.4f, .saturation_first = true},
          {.saturation = 0},
          {.brightness = 12}};
}

/// What becomes of one pixel.
std::array<double, 3> jittered(std::array<double, 3> rgb, image_jitter const& j) {
  auto const clamp = [](double x) { return std::clamp(x, 0.0, 255.0); };
  auto const saturate = [&] {
    double const grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    for (double& x : rgb) x = clamp(grey + static_cast<double>(j.saturation) * (x - grey));
  };
  if (j.saturation_first) saturate();
  for (double& x : rgb) x = clamp(x + static_cast<double>(j.brightness));
  if (!j.saturation_first) saturate();
  for (double& x : rgb) x = 2 * x / 255 - 1;
  return rgb;
}

template <image_shape Shape, class P>
void check_frames() {
  context<cuda<P>> on;
  auto const jitters = some_jitters();
  std::vector<std::uint8_t> crops(jitters.size() * Shape::size);
  for (std::size_t k = 0; k < crops.size(); ++k) {
    auto const random = generator(3, stream::user, 0, static_cast<std::uint32_t>(k)).below(300);
    crops[k] = static_cast<std::uint8_t>(random > 255 ? (random % 2 == 0 ? 0 : 255) : random);
  }
  auto const found = both_orders([&] {
    on_device<value_of<cuda<P>>> out(crops.size());
    augment_images<Shape>(on, jitters.size(), copied<std::uint8_t>(on, crops), copied<image_jitter>(on, jitters), out);
    return out.values(on);
  });
  double const tolerance = std::is_same_v<P, bf16> ? 0x1p-8 : 1e-6;
  for (std::size_t k = 0; k < jitters.size(); ++k) {
    CAPTURE(k);
    double worst = 0;
    for (std::size_t pixel = 0; pixel < Shape::pixels; ++pixel) {
      std::size_t const column = pixel % Shape::width;
      std::size_t const from = jitters[k].mirrored ? pixel - column + (Shape::width - 1 - column) : pixel;
      std::uint8_t const* const at = crops.data() + k * Shape::size + 3 * from;
      auto const expected = jittered({double(at[0]), double(at[1]), double(at[2])}, jitters[k]);
      for (std::size_t c = 0; c < 3; ++c)
        worst = worse(worst, std::abs(static_cast<double>(found[k * Shape::size + 3 * pixel + c]) - expected[c]));
    }
    CHECK(worst < tolerance);
  }
#if !defined(__CUDACC__)
  for (std::size_t k = 0; k < jitters.size(); ++k) {
    CAPTURE(k);
    image_jitter j = jitters[k];
    j.top = j.left = 0;
    std::vector<float> own(Shape::size);
    rgb_view const picture{std::span{crops}.subspan(k * Shape::size, Shape::size), Shape::width, Shape::height};
    augment_image<Shape>(picture, j, std::span<float, Shape::size>(own));
    std::vector<float> const part(found.begin() + static_cast<std::ptrdiff_t>(k * Shape::size),
                                  found.begin() + static_cast<std::ptrdiff_t>((k + 1) * Shape::size));
    CHECK(apart(part, in_double(own)) < tolerance);
    if (k == 0 && std::is_same_v<P, fp32>) {
      centre_image<Shape>(picture, std::span<float, Shape::size>(own));
      CHECK(part == own);
    }
  }
#endif
}

/// Three seconds: noise, two strong tones with little between them, silence with one click.
template <class F>
std::vector<float> some_sounds() {
  std::vector<float> sounds(3 * F::samples);
  for (std::size_t n = 0; n < F::samples; ++n) {
    double const t = static_cast<double>(n) / F::sample_rate;
    auto const noise = generator(5, stream::user, 0, static_cast<std::uint32_t>(n)).normal();
    sounds[n] = static_cast<float>(0.1 * noise);
    sounds[F::samples + n] = static_cast<float>(0.6 * std::sin(2 * std::numbers::pi * 440 * t) +
                                                0.3 * std::sin(2 * std::numbers::pi * 9000 * t) + 1e-4 * noise);
  }
  sounds[2 * F::samples + 24000] = 1;
  return sounds;
}

/// By the definition, in double; `errors`: how far float may be off, by what data/spectrogram.hpp says of itself.
template <class F>
void spectrum_of(float const* samples, double volume, std::vector<double>& out, std::vector<double>& errors) {
  std::vector<std::complex<double>> roots(F::fft);
  for (std::size_t k = 0; k < F::fft; ++k)
    roots[k] = std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k) / F::fft);
  constexpr std::size_t rows = F::output::height, columns = F::output::width;
  out.assign(rows * columns, 0), errors.assign(rows * columns, 0);
  std::vector<double> windowed(F::window);
  for (std::size_t frame = 0; frame < columns * F::frames_pooled; ++frame) {
    double energy = 0;
    for (std::size_t n = 0; n < F::window; ++n) {
      windowed[n] = (0.5 - 0.5 * std::cos(2 * std::numbers::pi * static_cast<double>(n) / F::window)) * volume *
                    static_cast<double>(samples[frame * F::hop + n]);
      energy += windowed[n] * windowed[n];
    }
    for (std::size_t bin = 0; bin < rows * F::bins_pooled; ++bin) {
      std::complex<double> sum = 0;
      for (std::size_t n = 0; n < F::window; ++n) sum += windowed[n] * roots[bin * n % F::fft];
      std::size_t const at = bin / F::bins_pooled * columns + frame / F::frames_pooled;
      constexpr double share = 1.0 / (F::bins_pooled * F::frames_pooled);
      out[at] += share * std::abs(sum), errors[at] += share * 1e-7 * std::sqrt(F::fft * energy);
    }
  }
  for (std::size_t k = 0; k < out.size(); ++k) {
    double const level = std::max(out[k], 1e-5);
    errors[k] = (std::log(level + errors[k]) - std::log(std::max(1e-5, level - errors[k]))) / 5 + 1e-6;
    out[k] = std::log(level) / 5;
  }
}

template <class F, class P>
void check_spectra() {
  context<cuda<P>> on;
  gpu_spectrogram<F, P> const to_picture(on);
  auto const sounds = some_sounds<F>();
  std::vector<float> const volumes{1.07f, 0.93f, 1};
  constexpr std::size_t size = F::output::size;
  auto const pictures_of = [&](std::vector<float> const& of) {
    return both_orders([&] {
      on_device<value_of<cuda<P>>> out(3 * size);
      to_picture(on, 3, copied<float>(on, of), copied<float>(on, volumes), out);
      return out.values(on);
    });
  };
  auto const found = pictures_of(sounds);
  for (std::size_t item = 0; item < 3; ++item) {
    CAPTURE(item);
    float const* const samples = sounds.data() + item * F::samples;
    std::vector<double> expected, errors;
    spectrum_of<F>(samples, static_cast<double>(volumes[item]), expected, errors);
    double worst = 0;
    for (std::size_t k = 0; k < size; ++k) {
      double const rounding = std::is_same_v<P, bf16> ? 0x1p-8 * std::abs(expected[k]) : 0;
      worst =
          worse(worst, std::abs(static_cast<double>(found[item * size + k]) - expected[k]) / (errors[k] + rounding));
    }
    CHECK(worst < 1);
#if !defined(__CUDACC__)
    if constexpr (std::is_same_v<P, fp32>) {
      std::vector<float> louder(samples, samples + F::samples), own(size);
      for (float& s : louder) s *= volumes[item];
      spectrogram<F>()(louder, std::span<float, size>(own));
      std::size_t others = 0;
      for (std::size_t k = 0; k < size; ++k) others += std::abs(own[k] - found[item * size + k]) <= 2e-5f ? 0 : 1;
      CHECK(others < (item == 1 ? size / 4 : size / 1000 + 1));  // between strong tones both are rounding alone
    }
#endif
  }
  // Where nothing sounds it is exactly silent; a sample that is no number shows in its own frames alone.
  CHECK(found[2 * size] == static_cast<float>(value_of<cuda<P>>(F::silence)));
  auto broken = sounds;
  broken[30000] = std::numeric_limits<float>::quiet_NaN();
  auto const spoilt = pictures_of(broken);
  constexpr std::size_t columns = F::output::width, apart = F::hop * F::frames_pooled;
  constexpr std::size_t reach = (F::frames_pooled - 1) * F::hop + F::window;
  std::size_t wrong = 0;
  for (std::size_t k = 0; k < size; ++k) {
    std::size_t const begin = k % columns * apart;
    bool const meets = begin <= 30000 && 30000 < begin + reach;
    wrong += (meets ? std::isnan(spoilt[k]) : spoilt[k] == found[k]) ? 0 : 1;
  }
  CHECK(wrong == 0);
}
}  // namespace

TEMPLATE_TEST_CASE("frames that a GPU makes of bytes are the definition's", "", fp32, bf16) {
  if (!has_gpu()) return;
  check_frames<image<5, 7, 3>, TestType>();
  check_frames<image<24, 32, 3>, TestType>();
  check_frames<image<1, 257, 3>, TestType>();
}

TEMPLATE_TEST_CASE("spectrograms that a GPU makes are the definition's", "", fp32, bf16) {
  if (!has_gpu()) return;
  check_spectra<paper_front_end, TestType>();
  check_spectra<coarse_front_end, TestType>();
}
