/// @file  include/l3/core/front_end.hpp: how one second of sound becomes a picture: names and sizes, so that a network
/// and the loader that feeds it can agree. data/spectrogram.hpp and data/decibel_spectrogram.hpp compute them.
#pragma once
#include <concepts>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/shape.hpp>
#include <numbers>

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
  static_assert(
      BinsPooled >= 1 && BinsPooled <= bins && FramesPooled >= 1 && frames / FramesPooled >= 16,
      "l3: a spectrogram pools 1 to 257 bins and 1 to 12 frames: so many that 16 columns are left, as many as "
      "the widest processor computes at once");
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

/// How OpenL3's spectrograms gather the bins of the transform to rows.
enum class mel_bands {
  none,           ///< each bin is a row; frames only where there is sound for all of them
  htk,            ///< root of the weighted sum of powers, HTK's scale, as much silence in front of the frames as behind
  slaney,         ///< weighted sum of magnitudes, Slaney's scale, silence behind the second alone
  slaney_centred  ///< the same, but the middle of frame k is sample k * hop: half a window of silence at either end
};

/// A spectrogram in decibels below the loudest value of the second: periodic Hann window of Fft samples, hop of 242
/// (5.04 ms), triangular bands from 0 to 24 kHz, each of weight one.
///
/// Shapes  output image<F, T, 1>: frequency first, from low to high; then time.
/// Units   10 log10(max(x, 1e-10)) less the largest of the picture, and no less than -80. (x is a magnitude: half of
///         what others call its level.)
/// Source  OpenL3 (Cramer, Wu, Salamon & Bello, ICASSP 2019), whose layers are kapre's; its function of librosa's.
template <std::size_t Fft, std::size_t Rows, mel_bands Bands>
struct decibel_spectrogram {
  static constexpr int sample_rate = 48000;
  static constexpr std::size_t samples = 48000;
  static constexpr std::size_t fft = Fft;
  static constexpr std::size_t window = Fft;
  static constexpr std::size_t hop = 242;
  static constexpr std::size_t bins = Fft / 2 + 1;
  static constexpr mel_bands bands = Bands;
  static constexpr std::size_t frames =
      Bands == mel_bands::none ? (samples - window) / hop + 1 : (samples + hop - 1) / hop;
  static constexpr std::size_t before = Bands == mel_bands::htk ? ((frames - 1) * hop + window - samples) / 2
                                        : Bands == mel_bands::slaney_centred ? window / 2
                                                                             : 0;  ///< silence in front, samples
  static constexpr float floor = -80.0f;                                           ///< decibels
  /// Rows are squared until the logarithm.
  static constexpr bool sums_powers = Bands == mel_bands::none || Bands == mel_bands::htk;
  static constexpr float least = sums_powers ? 1e-20f : 1e-10f;  ///< a row counts as no less
  static constexpr float quietest = -100.0f;                     ///< which is so many decibels
  /// From a row's natural logarithm to decibels.
  static constexpr float scale = (sums_powers ? 5 : 10) / std::numbers::ln10_v<float>;
  static_assert(Bands != mel_bands::none || Rows == bins, "l3::decibel_spectrogram: without bands each bin is a row");
  using output = image<Rows, frames, 1>;
};

/// A front end of this family.
template <class F>
concept decibel_front_end = std::derived_from<F, decibel_spectrogram<F::fft, F::output::height, F::bands>>;

/// What OpenL3's networks were trained on, and OpenL3 up to 0.3.1 gave them. The linear one has stayed the same.
struct openl3_linear : decibel_spectrogram<512, 257, mel_bands::none> {
  static constexpr char const* name = "openl3-linear";
};
struct openl3_mel128 : decibel_spectrogram<2048, 128, mel_bands::htk> {
  static constexpr char const* name = "openl3-mel128";
};
struct openl3_mel256 : decibel_spectrogram<2048, 256, mel_bands::htk> {
  static constexpr char const* name = "openl3-mel256";
};
/// What OpenL3 from 0.4 on gives the same networks (its front end `kapre`): to compare embeddings with those it made.
struct openl3_04_mel128 : decibel_spectrogram<2048, 128, mel_bands::slaney> {
  static constexpr char const* name = "openl3-0.4-mel128";
};
struct openl3_04_mel256 : decibel_spectrogram<2048, 256, mel_bands::slaney> {
  static constexpr char const* name = "openl3-0.4-mel256";
};
/// What its front end `librosa` gives them, with librosa 0.9 or newer. (Older ones mirror the sound where these have
/// silence.)
struct openl3_04_librosa_mel128 : decibel_spectrogram<2048, 128, mel_bands::slaney_centred> {
  static constexpr char const* name = "openl3-0.4-librosa-mel128";
};
struct openl3_04_librosa_mel256 : decibel_spectrogram<2048, 256, mel_bands::slaney_centred> {
  static constexpr char const* name = "openl3-0.4-librosa-mel256";
};
static_assert(openl3_linear::output::width == 197 && openl3_mel256::output::width == 199);
static_assert(openl3_mel256::before == 982 && openl3_04_mel256::before == 0 &&
              openl3_04_librosa_mel256::before == 1024);

}  // namespace l3::inline L3_ISA
