/// @file  include/l3/data/spectrogram.hpp: one second of sound -> the picture that the audio subnetwork looks at.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/front_end.hpp>
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/fft.hpp>
#include <l3/kernels/spectrum.hpp>
#include <span>
#include <string>

namespace l3::inline L3_ISA {

namespace detail {
template <std::size_t Size>
std::array<float, Size> hann_window() {
  std::array<float, Size> window;
  for (std::size_t n = 0; n < Size; ++n) window[n] = hann_value(n, Size);
  return window;
}
/// Throws shape_error for another number of samples than front end F takes.
template <class F>
void require_second(std::span<float const> samples) {
  if (samples.size() != F::samples)
    throw shape_error(
        complaint{"sound for a spectrogram", std::to_string(F::samples) + " samples", std::to_string(samples.size())});
}
/// Frame l, `apart` samples behind the one before, times the window into lane l: sound[n Lanes + l]. Four frames by
/// four samples are turned at a time, in registers that every instruction set has.
template <std::size_t Lanes, std::size_t Window>
void window_frames(std::array<float, Window> const& window, float const* L3_RESTRICT samples, std::size_t apart,
                   float* L3_RESTRICT sound) {
  using four = float __attribute__((vector_size(16)));
  auto const low = [](four const& a, four const& b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); };
  auto const high = [](four const& a, four const& b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); };
  constexpr std::size_t by_four = Lanes % 4 == 0 ? Window / 4 * 4 : 0;
  for (std::size_t n = 0; n < by_four; n += 4)
    for (std::size_t l = 0; l < Lanes; l += 4) {
      four frames[4], factors;
      std::memcpy(&factors, window.data() + n, sizeof factors);
      for (std::size_t k = 0; k < 4; ++k) {
        std::memcpy(&frames[k], samples + (l + k) * apart + n, sizeof(four));
        frames[k] *= factors;
      }
      four const pairs[4] = {low(frames[0], frames[2]), low(frames[1], frames[3]), high(frames[0], frames[2]),
                             high(frames[1], frames[3])};
      four const turned[4] = {low(pairs[0], pairs[1]), high(pairs[0], pairs[1]), low(pairs[2], pairs[3]),
                              high(pairs[2], pairs[3])};
      for (std::size_t k = 0; k < 4; ++k) std::memcpy(sound + (n + k) * Lanes + l, &turned[k], sizeof(four));
    }
  for (std::size_t n = by_four; n < Window; ++n)
    for (std::size_t l = 0; l < Lanes; ++l) sound[n * Lanes + l] = window[n] * samples[l * apart + n];
}
}  // namespace detail

/// Computes front end F (core/front_end.hpp): `to_picture(samples, out)`. For one of another family specialise it.
template <class F>
class spectrogram {
  static_assert(sizeof(F) == 0,
                "l3::spectrogram: what computes this front end is not included (data/decibel_spectrogram.hpp), or "
                "nobody has written it");
};

/// Computes the log-magnitude spectrogram. The frames of a few columns at a time go through the transform together, one
/// in each lane of a register. An object is 5 kB of constants: any number of threads may use one at the same time.
///
/// Shapes  samples (F::samples), out F::output: frequency first, from 0 Hz up; then time.
/// Units   samples of full scale 1 at F::sample_rate; out ln(max(magnitude, 1e-5)) / 5.
/// Errors  shape_error for another number of samples. A sample that is not finite makes not-a-numbers of all values of
///         the frames it is in; nothing hides it.
/// Numbers The transform is float: each magnitude is within 1e-7 sqrt(512 E) of the exact one, E being the sum of the
///         squares of the frame's windowed samples. So the error of a value is below 2e-5 where the magnitude is above
///         1e-3 sqrt(512 E), and in noise everywhere; it grows in the gaps between strong pure tones. Silence is
///         exactly ln(1e-5) / 5.
/// Memory  none but the stack (24 kB; with AVX-512 48 kB).
template <log_front_end F>
class spectrogram<F> {
 public:
  using front_end = F;
  using output = typename F::output;

  void operator()(std::span<float const> samples, std::span<float, output::size> out) const {
    detail::require_second<F>(samples);
    all_columns(samples.data(), columns, out.data());
  }

  static constexpr std::size_t apart = F::hop * F::frames_pooled;  ///< samples from a column to the next

  /// The same of a longer sound: from column k on its picture is, bit for bit, that of the second that begins at sample
  /// `k * apart`.
  ///
  /// Shapes  samples (F::samples + n * apart), out (output::height, output::width + n).
  /// Errors  shape_error for other numbers of samples and values.
  void of_long_sound(std::span<float const> samples, std::span<float> out) const {
    std::size_t const width = out.size() / rows;
    if (width < columns || out.size() != rows * width || samples.size() != F::samples + (width - columns) * apart)
      throw shape_error(
          complaint{"long sound for a spectrogram",
                    std::to_string(F::samples) + " samples and " + std::to_string(apart) +
                        " for each further column of the picture",
                    std::to_string(samples.size()) + " samples and " + std::to_string(out.size()) + " values"});
    all_columns(samples.data(), width, out.data());
  }

 private:
  using lanes = detail::lanes<arch::best>;
  static constexpr std::size_t rows = output::height, columns = output::width;
  static constexpr std::size_t together = detail::width<lanes>;  ///< columns computed at once
  static constexpr std::size_t pooled = F::bins_pooled * F::frames_pooled;
  static_assert(columns >= together, "l3::spectrogram: fewer columns than lanes");
  static_assert((F::frames - 1) * F::hop + F::window <= F::samples, "l3::spectrogram: a frame reaches past the sound");
  static_assert(rows * F::bins_pooled <= real_fft<F::fft>::bins, "l3::spectrogram: more bins than the transform gives");

  void all_columns(float const* samples, std::size_t width, float* out) const {
    for (std::size_t done = 0; done < width; done += together) {
      std::size_t const first = std::min(done, width - together);  // the last ones reach back, never past the samples
      some_columns(samples + first * apart, width, out + first);
    }
  }
  /// `together` columns: writes rows of so many values, the rows `width` apart.
  void some_columns(float const* samples, std::size_t width, float* out) const {
    alignas(alignment) float sound[F::fft * together];
    alignas(alignment) float picture[rows * together];
    if constexpr (pooled != 1) std::fill(std::begin(picture), std::end(picture), 0.0f);
    for (std::size_t part = 0; part < F::frames_pooled; ++part) {
      detail::window_frames<together>(window_, samples + part * F::hop, apart, sound);
      std::fill(sound + F::window * together, sound + F::fft * together, 0.0f);  // the transform takes all of it
      fft_.template transform<lanes>(sound, [&](std::size_t k, lanes const& re, lanes const& im) {
        std::size_t const row = k / F::bins_pooled;
        if (row >= rows) return;
        float* const at = picture + row * together;
        lanes const power = re * re + im * im;
        if constexpr (pooled == 1) {
          detail::put(at, power);
        } else {
          detail::put(at, detail::load<lanes>(at) + detail::root(power));
        }
      });
    }
    for (float& v : picture) v = detail::picture_value<F>(v);  // vectorised
    for (std::size_t row = 0; row < rows; ++row) std::copy_n(picture + row * together, together, out + row * width);
  }

  std::array<float, F::window> window_ = detail::hann_window<F::window>();
  real_fft<F::fft> fft_;
};

}  // namespace l3::inline L3_ISA
