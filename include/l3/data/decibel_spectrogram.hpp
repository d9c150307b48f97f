/// @file  include/l3/data/decibel_spectrogram.hpp: one second of sound -> the picture that OpenL3's audio networks look
/// at.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/front_end.hpp>
#include <l3/core/memory.hpp>
#include <l3/data/spectrogram.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/fft.hpp>
#include <l3/kernels/mel_filters.hpp>
#include <l3/kernels/spectrum.hpp>
#include <limits>
#include <span>
#include <type_traits>

namespace l3::inline L3_ISA {

/// Computes a spectrogram in decibels below its own loudest value, so that nothing is left of a second's level: all of
/// digital silence is 0. The frames of a few columns at a time go through the transform together, one in each lane of a
/// register. Any number of threads may use one object at the same time.
///
/// Shapes  samples (F::samples), out F::output: frequency first, from low to high; then time.
/// Units   samples of full scale 1 at 48 kHz; out decibels, -80 to 0.
/// Errors  shape_error for another number of samples. A sample that is not finite makes not-a-numbers of all values of
///         the frames it is in, but of bands that hold no bin.
/// Numbers within 0.001 of the exact values but where magnitudes are below 1e-6 of the frame's largest.
/// Source  kapre 0.1.7 and 0.3.7 and librosa 0.9, which OpenL3 uses.
/// Memory  none but the stack (100 kB; with AVX-512 200 kB).
template <decibel_front_end F>
class spectrogram<F> {
 public:
  using front_end = F;
  using output = typename F::output;

  void operator()(std::span<float const> samples, std::span<float, output::size> out) const {
    detail::require_second<F>(samples);
    std::array<float, together> loudest_of;  // in each lane, over all columns that were in it
    loudest_of.fill(std::numeric_limits<float>::lowest());
    for (std::size_t done = 0; done < columns; done += together)
      some_columns(samples.data(), std::min(done, columns - together), out.data(), loudest_of);
    float const loudest = *std::max_element(loudest_of.begin(), loudest_of.end());
    for (float& v : out) {  // vectorised
      float const below = v - loudest;
      v = F::floor > below ? F::floor : below;  // in this order not-a-number stays
    }
  }

 private:
  using lanes = detail::lanes<arch::best>;
  static constexpr std::size_t rows = output::height, columns = output::width;
  static constexpr std::size_t together = detail::width<lanes>;  ///< columns computed at once
  static_assert(columns >= together, "l3::spectrogram: fewer columns than lanes");

  /// `together` columns from `first` on, not yet below the loudest.
  void some_columns(float const* samples, std::size_t first, float* out, std::array<float, together>& loudest) const {
    alignas(alignment) float sound[F::fft * together];
    alignas(alignment) float bins[F::bins * together];
    window_frames(samples, first, sound);
    fft_.template transform<lanes>(sound, [&](std::size_t k, lanes const& re, lanes const& im) {
      lanes const power = re * re + im * im;
      detail::put(bins + k * together, F::sums_powers ? power : detail::root(power));
    });
    if constexpr (F::bands == mel_bands::none) {
      put_columns(bins, out + first, loudest);
    } else {
      alignas(alignment) float sums[rows * together];
      for (std::size_t row = 0; row < rows; ++row) {
        lanes sum(0.0f);
        filters_.each(row, [&](std::size_t k, float weight) {
          sum = detail::fused(lanes(weight), detail::load<lanes>(bins + k * together), sum);
        });
        detail::put(sums + row * together, sum);
      }
      put_columns(sums, out + first, loudest);
    }
  }

  /// Rows of `together` magnitudes, or of their squares, to their places, in decibels; and the loudest of each lane.
  static void put_columns(float* L3_RESTRICT values, float* L3_RESTRICT out, std::array<float, together>& loudest) {
    for (std::size_t k = 0; k < rows * together; ++k) {  // vectorised
      float const level = F::scale * detail::natural_log(values[k]);
      values[k] = F::quietest > level ? F::quietest : level;  // in this order not-a-number stays
    }
    for (std::size_t row = 0; row < rows; ++row, values += together, out += columns)
      for (std::size_t l = 0; l < together; ++l) {
        out[l] = values[l];
        loudest[l] = values[l] > loudest[l] ? values[l] : loudest[l];
      }
  }

  /// Frame first + l into lane l; silence where it reaches past the second.
  void window_frames(float const* samples, std::size_t first, float* L3_RESTRICT sound) const {
    std::size_t const begin = first * F::hop, end_of_last = begin + (together - 1) * F::hop + F::window;
    if (begin >= F::before && end_of_last <= F::samples + F::before)
      return detail::window_frames<together>(window_, samples + begin - F::before, F::hop, sound);
    for (std::size_t l = 0; l < together; ++l) {
      std::size_t const at = (first + l) * F::hop;  // counted from F::before samples before the second
      std::size_t const skip = std::min(F::before > at ? F::before - at : 0, F::window);
      std::size_t const end = std::min(F::window, F::samples + F::before - at);
      std::size_t n = 0;
      for (; n < skip; ++n) sound[n * together + l] = 0;
      for (; n < end; ++n) sound[n * together + l] = window_[n] * samples[at + n - F::before];
      for (; n < F::window; ++n) sound[n * together + l] = 0;
    }
  }

  struct no_filters {};
  std::array<float, F::window> window_ = detail::hann_window<F::window>();
  real_fft<F::fft> fft_;
  [[no_unique_address]] std::conditional_t<F::bands == mel_bands::none, no_filters, mel_filters<F>> filters_;
};

}  // namespace l3::inline L3_ISA
