/// @file  include/l3/core/front_end.hpp: how one second of sound becomes a picture: names and sizes, so that a network
/// and the loader that feeds it can agree. data/spectrogram.hpp computes them.
#pragma once
#include <concepts>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/shape.hpp>

namespace l3::inline L3_ISA {

/// A log-magnitude spectrogram of one second at 48 kHz: periodic Hann window of 10 ms, hop 5 ms, FFT of 512, frame k
/// starting at sample 240 k (no centring). `BinsPooled` neighbouring bins and `FramesPooled` neighbouring frames are
/// averaged before the logarithm; bins and frames left over are dropped.
///
/// Shapes  output image<F, T, 1>: frequency first, from 0 Hz up; then time.
/// Units   ln(max(magnitude, 1e-5)) / 5.
/// Source  Arandjelović & Zisserman (ICCV 2017), section 3.1, which is BinsPooled = FramesPooled = 1.
template <std::size_t BinsPooled, std::size_t FramesPooled>
struct log_spectrogram {
  static constexpr int sample_rate = 48000;
  static constexpr std::size_t samples = 48000;
  static constexpr std::size_t window = 480;
  static constexpr std::size_t hop = 240;
  static constexpr std::size_t fft = 512;
  static constexpr std::size_t bins = fft / 2 + 1;
  static constexpr std::size_t frames = (samples - window) / hop + 1;
  static constexpr std::size_t bins_pooled = BinsPooled;
  static constexpr std::size_t frames_pooled = FramesPooled;
  static constexpr float silence = -2.302585093f;  ///< ln(1e-5) / 5
  using output = image<bins / BinsPooled, frames / FramesPooled, 1>;
};

/// A front end of this family.
template <class F>
concept log_front_end = std::derived_from<F, log_spectrogram<F::bins_pooled, F::frames_pooled>>;

/// The paper's: 257 x 199.
struct paper_front_end : log_spectrogram<1, 1> {
  static constexpr char const* name = "paper";
};
/// A quarter of the bins and half of the frames, for small machines: 64 x 99.
struct coarse_front_end : log_spectrogram<4, 2> {
  static constexpr char const* name = "coarse";
};
static_assert(paper_front_end::output::height == 257 && paper_front_end::output::width == 199);
static_assert(coarse_front_end::output::height == 64 && coarse_front_end::output::width == 99);

}  // namespace l3::inline L3_ISA
