/// @file  include/l3/kernels/mel_filters.hpp: triangular bands that stand evenly on a scale of pitch.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/front_end.hpp>
#include <type_traits>
#include <vector>

namespace l3::inline L3_ISA {
namespace detail {

/// Hertz on HTK's scale, and back: 2595 log10(1 + f / 700).
struct htk_scale {
  static double of_hertz(double f) { return 2595.0 * std::log10(1.0 + f / 700.0); }
  static double to_hertz(double m) { return 700.0 * (std::pow(10.0, m / 2595.0) - 1.0); }
};
/// On Slaney's, as in his Auditory Toolbox: linear up to 1 kHz, then 27 steps for each factor of 6.4.
struct slaney_scale {
  static constexpr double step = 200.0 / 3, corner = 1000.0, corner_mel = corner / step;
  static double log_step() { return std::log(6.4) / 27; }
  static double of_hertz(double f) { return f < corner ? f / step : corner_mel + std::log(f / corner) / log_step(); }
  static double to_hertz(double m) {
    return m < corner_mel ? m * step : corner * std::exp(log_step() * (m - corner_mel));
  }
};

}  // namespace detail

/// The bands of front end F (core/front_end.hpp) from 0 Hz to half the rate: band r rises from the middle of band r - 1
/// to its own and falls to that of band r + 1, and covers one hertz, so that wide bands are no louder. Of low bands
/// that lie between two bins nothing is left.
///
/// Source  librosa.filters.mel(htk=..., norm="slaney"), in double and rounded.
/// Memory  two numbers for each bin, taken when it is made.
template <decibel_front_end F>
class mel_filters {
 public:
  static constexpr std::size_t rows = F::output::height;

  mel_filters() {
    using scale = std::conditional_t<F::bands == mel_bands::htk, detail::htk_scale, detail::slaney_scale>;
    constexpr double nyquist = F::sample_rate / 2.0, bin = static_cast<double>(F::sample_rate) / F::fft;
    auto const middle = [](std::size_t place) {  // of band place - 1; the ends of all are places too
      return scale::to_hertz(scale::of_hertz(nyquist) * static_cast<double>(place) / (rows + 1));
    };
    for (std::size_t r = 0; r != rows; ++r) {
      double const low = middle(r), mid = middle(r + 1), high = middle(r + 2);
      band one{.first_bin = F::bins, .first_weight = weights_.size()};
      for (std::size_t k = 0; k != F::bins; ++k) {
        double const f = static_cast<double>(k) * bin;
        double const height = std::min((f - low) / (mid - low), (high - f) / (high - mid));
        if (height <= 0) continue;
        one.first_bin = std::min(one.first_bin, k);
        weights_.push_back(static_cast<float>(height * 2 / (high - low)));
      }
      one.count = weights_.size() - one.first_weight;
      bands_.push_back(one);
    }
  }

  /// Calls take(bin, weight) for each bin of a band, upwards.
  template <class Take>
  L3_INLINE void each(std::size_t row, Take&& take) const {
    band const& b = bands_[row];
    for (std::size_t k = 0; k != b.count; ++k) take(b.first_bin + k, weights_[b.first_weight + k]);
  }

 private:
  struct band {
    std::size_t first_bin, first_weight, count = 0;
  };
  std::vector<band> bands_;
  std::vector<float> weights_;
};

}  // namespace l3::inline L3_ISA
