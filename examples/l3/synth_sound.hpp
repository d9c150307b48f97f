/// @file  examples/l3/synth_sound.hpp: the sounds of made-up instruments: one timbre a class; tuning, tune, loudness,
/// peaks and background drawn at random and alike for all classes.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <l3/core/random.hpp>
#include <limits>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "synth_common.hpp"

namespace l3::program::synth {

/// What vibrates.
enum class source : std::uint8_t { harmonic, odd, bell, noise };

/// A timbre: the spectrum and how it moves in time. Pitch is not part of it: roots vary over an octave and more.
struct timbre {
  char const* name;
  source from;
  double low, high;  ///< range of the root, Hz (noise: of its centre)
  int partials;      ///< how many at most; none above 20 kHz
  double tilt;       ///< partial k has amplitude k^-tilt
  double attack;     ///< seconds to full level
  double decay;      ///< seconds to 1/e; infinite: sustained
  double damping;    ///< partial k decays k^damping times as fast
  double glide;      ///< octaves that the pitch moves during a note
  double wobble;     ///< vibrato, octaves each way, 9 times a second
  double flutter;    ///< pulses of loudness a second, 0 for none
  double band;       ///< noise: bandwidth over centre frequency
  double formant;    ///< Hz, centre of the band that the body lets through, an octave wide; 0: all
};

/// The timbres in the order of the classes, those hardest to confuse first.
inline constexpr std::array<timbre, classes> timbres = [] {
  constexpr auto sustained = std::numeric_limits<double>::infinity();
  using enum source;
  return std::array<timbre, classes>{{
      {"flute", harmonic, 600, 1500, 3, 1.6, 0.03, sustained, 0, 0, 0, 0, 0, 0},
      {"shaker", noise, 7000, 14000, 0, 0, 0.005, 0.05, 0, 0, 0, 0, 0.7, 0},
      {"bell", bell, 1200, 3000, 6, 0.3, 0.001, 0.2, 0.3, 0, 0, 0, 0, 0},
      {"reed", harmonic, 220, 660, 40, 0.35, 0.02, sustained, 0, 0, 0, 0, 0, 0},
      {"drum", harmonic, 140, 350, 2, 1, 0.002, 0.08, 0, -1, 0, 0, 0, 0},
      {"whistle", harmonic, 1000, 2200, 2, 2, 0.01, sustained, 0, 2, 0, 0, 0, 0},
      {"rattle", noise, 3000, 6000, 0, 0, 0.002, sustained, 0, 0, 0, 18, 1.5, 0},
      {"zapper", harmonic, 7000, 14000, 1, 0, 0.002, 0.25, 0, -2.5, 0, 0, 0, 0},
      {"hollow pipe", odd, 1300, 2700, 9, 0.5, 0.02, sustained, 0, 0, 0, 0, 0, 0},
      {"wind", noise, 2500, 5000, 0, 0, 0.08, sustained, 0, 0, 0, 0, 0.25, 0},
      {"pluck", harmonic, 300, 800, 30, 0.2, 0.001, 0.25, 0.8, 0, 0, 0, 0, 0},
      {"warbler", harmonic, 3000, 6500, 1, 0, 0.01, sustained, 0, 0, 0.3, 0, 0, 0},
      {"horn", harmonic, 250, 700, 24, 0, 0.03, sustained, 0, 0, 0, 0, 0, 2800},
      {"buzzer", harmonic, 250, 600, 30, 0.2, 0.004, sustained, 0, 0, 0, 22, 0, 0},
      {"gust", noise, 1200, 2400, 0, 0, 0.12, sustained, 0, 2.2, 0, 0, 0.3, 0},
      {"cowbell", odd, 500, 1000, 16, 0, 0.001, 0.06, 0, 0, 0, 0, 0, 5500},
  }};
}();

/// What one instrument sounds like apart from its class: drawn once a video.
struct voice {
  int tuning;         ///< which of the cells of the timbre's range
  double root;        ///< Hz
  double rms;         ///< of the whole video, full scale 1
  double peak;        ///< of the whole video, full scale 1
  double background;  ///< level of the background over that of the instrument, decibels
};

/// Draws a voice. The tuning comes from the cells that belong to this part of the data set.
inline voice draw_voice(generator& g, timbre const& t, part which, level how) {
  constexpr int tunings = 60;
  bool const hard = how == level::hard;
  auto const wider = hard ? std::sqrt(2.0) : 1.0;  // half an octave more at both ends
  voice v{};
  v.tuning = held_out_cell(g, which, tunings);
  auto const place = (v.tuning + g.uniform()) / tunings;
  v.root = t.low / wider * std::pow(t.high / t.low * wider * wider, place);
  v.rms = std::pow(10.0, g.uniform(-34, -20) / 20);
  v.peak = v.rms * g.uniform(4.5, 5.6);
  v.background = hard ? g.uniform(-18, -8) : g.uniform(-40, -24);
  return v;
}

/// The same timbre as another maker would build it; at level hard with less of what sets it apart.
inline timbre vary(timbre t, generator& g, level how) {
  bool const hard = how == level::hard;
  auto const spread = hard ? 0.3 : 0.12;
  for (double timbre::*each : {&timbre::attack, &timbre::decay, &timbre::glide, &timbre::wobble, &timbre::flutter,
                               &timbre::band, &timbre::formant})
    t.*each *= std::exp(g.uniform(-spread, spread));
  t.tilt += g.uniform(-spread, spread);
  if (hard) {
    t.glide *= 0.5;
    t.wobble *= 0.5;
  }
  return t;
}

/// Band-pass filter of two poles (state variables, trapezoidal rule): stable while its frequency moves.
class band_pass {
 public:
  void tune(double frequency, double bandwidth) {
    auto const g = std::tan(std::numbers::pi * std::min(frequency, 0.45 * sample_rate) / sample_rate);
    k_ = bandwidth;
    a1_ = 1 / (1 + g * (g + k_));
    a2_ = g * a1_;
    a3_ = g * a2_;
  }
  double operator()(double x) {
    auto const v3 = x - s2_;
    auto const v1 = a1_ * s1_ + a2_ * v3, v2 = s2_ + a2_ * s1_ + a3_ * v3;
    s1_ = 2 * v1 - s1_;
    s2_ = 2 * v2 - s2_;
    return k_ * v1;
  }

 private:
  double k_ = 1, a1_ = 0, a2_ = 0, a3_ = 0, s1_ = 0, s2_ = 0;
};

/// Plays one note of a timbre into `out`, whose first sample is at 0 s.
inline void play(timbre const& t, double root, note const& n, generator& g, std::span<float> out) {
  constexpr int block = 32;  // samples during which pitch and envelopes stand still or move linearly
  constexpr double nyquist = 20000;
  static constexpr std::array bell_ratios{1.0, 1.51, 2.24, 2.98, 4.07, 5.43};
  struct partial {
    double ratio, level, decay, re = 1, im = 0;
  };
  std::vector<partial> partials;
  auto const frequency = root * std::exp2(n.pitch);
  if (t.from != source::noise)
    for (int k = 1; k <= t.partials; ++k) {
      auto const ratio = t.from == source::odd    ? 2 * k - 1
                         : t.from == source::bell ? bell_ratios[std::size_t(k - 1)]
                                                  : k;
      auto const highest = frequency * ratio * std::exp2(std::max(t.glide, 0.0) + t.wobble);
      if (highest > nyquist && k > 1) break;
      auto level = std::pow(ratio, -t.tilt);
      if (t.formant > 0) level *= 0.01 + std::exp(-std::pow(std::log2(frequency * ratio / t.formant) / 0.5, 2));
      auto const phase = g.uniform(0, 2 * std::numbers::pi);
      partials.push_back({ratio, level, t.decay / std::pow(ratio, t.damping), std::cos(phase), std::sin(phase)});
    }
  band_pass first, second;
  auto const turn = 2 * std::numbers::pi;
  auto const flutter_phase = g.uniform(), wobble_phase = g.uniform(0, turn);
  auto const samples = static_cast<int>(std::lround(n.length * sample_rate));
  auto const start = std::lround(n.onset * sample_rate);
  constexpr double release = 0.008;
  auto const envelope = [&](double at) {
    auto const pulse = t.flutter > 0 ? std::pow(0.5 + 0.5 * std::cos(turn * (t.flutter * at + flutter_phase)), 4) : 1.0;
    return n.loudness * pulse * std::clamp(at / t.attack, 0.0, 1.0) * std::clamp((n.length - at) / release, 0.0, 1.0);
  };
  for (int begin = 0; begin < samples; begin += block) {
    auto const at = static_cast<double>(begin) / sample_rate, next = at + static_cast<double>(block) / sample_rate;
    auto const bend = t.glide * at / n.length + t.wobble * std::sin(turn * 9 * at + wobble_phase);
    auto const pitch = frequency * std::exp2(bend);
    std::array<double, block> tone{};
    if (t.from == source::noise) {
      first.tune(pitch, t.band);
      second.tune(pitch, t.band);
      auto const level = std::exp(-at / t.decay) / std::sqrt(t.band * pitch);  // as loud in every band
      for (auto& v : tone) v = level * 100 * second(first(g.uniform(-1, 1)));
    }
    for (auto& p : partials) {
      auto const step = turn * std::min(pitch * p.ratio, nyquist) / sample_rate,
                 level = p.level * std::exp(-at / p.decay);
      auto const c = std::cos(step), s = std::sin(step);
      for (auto& v : tone) {
        v += level * p.im;
        p.re = c * p.re - s * std::exchange(p.im, s * p.re + c * p.im);
      }
    }
    auto const now = envelope(at), slope = (envelope(next) - now) / block;
    for (int i = 0; i < block && begin + i < samples; ++i) {
      auto const sample = start + begin + i;
      if (sample >= 0 && sample < static_cast<long>(out.size()))
        out[static_cast<std::size_t>(sample)] +=
            static_cast<float>((now + i * slope) * tone[static_cast<std::size_t>(i)]);
    }
  }
}

inline double rms(std::span<float const> x) {
  double sum = 0;
  for (float const v : x) sum += double{v} * v;
  return std::sqrt(sum / static_cast<double>(std::max<std::size_t>(x.size(), 1)));
}

/// Brings sound to a given root mean square and keeps it below `limit` by bending its peaks.
inline void bring_to(double target, double limit, std::span<float> x) {
  auto const bent = [&](float v, double gain) { return gain * v / std::sqrt(1 + std::pow(gain * v / limit, 2)); };
  double gain = target / std::max(rms(x), 1e-12);
  for (int i = 0; i < 8; ++i) {  // each round comes closer: bending takes less than gain gives
    double sum = 0;
    std::size_t count = 0;
    for (std::size_t s = 0; s < x.size(); s += 7, ++count) sum += std::pow(bent(x[s], gain), 2);
    gain *= target / std::max(std::sqrt(sum / static_cast<double>(count)), 1e-12);
  }
  for (auto& v : x) v = static_cast<float>(bent(v, gain));
}

/// The whole sound of one video: tune, background, distracting notes, taps of the player. Root mean square and peak are
/// the voice's, whatever the timbre. `streams(i)` gives a generator for part i.
template <class Streams>
std::vector<float> play_tune(timbre const& t, voice const& v, std::span<note const> tune, level how, double seconds,
                             Streams streams) {
  bool const hard = how == level::hard;
  std::vector<float> sound(static_cast<std::size_t>(std::lround(seconds * sample_rate)));
  generator chance = streams(0);
  std::uint32_t part = 1;
  for (auto const& n : tune) {
    generator g = streams(part++);
    play(t, v.root, n, g, sound);
  }
  bring_to(v.rms, 0.85 * v.peak, sound);

  // Background: noise with a slope of its own, and pure tones now and then.
  std::vector<float> background(sound.size());
  auto const smooth = chance.uniform(0, 0.9);
  double state = 0;
  for (std::size_t begin = 0; begin < background.size(); begin += sample_rate) {
    generator g = streams(part++);
    for (auto s = begin; s < std::min<std::size_t>(begin + sample_rate, background.size()); ++s) {
      state = smooth * state + (1 - smooth) * g.uniform(-1, 1);
      background[s] = static_cast<float>(state);
    }
  }
  auto const hush = v.rms * std::pow(10.0, v.background / 20);
  bring_to(hush, 4 * hush, background);
  timbre const beep{"beep", source::harmonic, 0, 0, 1, 0, 0.02, 0.3, 0, 0, 0, 0, 0, 0};
  auto const beeps = seconds * chance.uniform(0, hard ? 3 : 1);
  for (int i = 0; i < beeps; ++i) {
    generator g = streams(part++);
    auto const root = 300 * std::exp2(g.uniform(0, 4.5));
    note const n{g.uniform(-0.3, seconds), g.uniform(0.1, 0.4), 0, v.rms * (hard ? 0.5 : 0.2)};
    play(beep, root, n, g, background);
  }
  for (std::size_t s = 0; s < sound.size(); ++s) sound[s] += background[s];
  bring_to(v.rms, 0.95 * v.peak, sound);

  // Taps: clicks of 1-2 ms on some onsets. They set the peak, so that it tells nothing of the timbre.
  bool first = true;
  for (auto const& n : tune) {
    if (n.onset < 0 || (!first && chance.uniform() > 0.2)) continue;
    generator g = streams(part++);
    auto const level = v.peak * (std::exchange(first, false) ? 1 : g.uniform(0.6, 1));
    auto const frequency = g.uniform(500, 4000), decay = g.uniform(0.0004, 0.0008);
    auto const start = static_cast<std::size_t>(std::lround(n.onset * sample_rate));
    for (std::size_t i = 0; i < 200 && start + i < sound.size(); ++i) {
      auto const at = static_cast<double>(i) / sample_rate, ring = level * std::exp(-at / decay);
      auto const share = 1 - std::exp(-at / decay);  // the tap covers the instrument, so that it alone sets the peak
      auto const here = sound[start + i] * share + ring * std::cos(2 * std::numbers::pi * frequency * at);
      sound[start + i] = static_cast<float>(here);
    }
  }
  return sound;
}

}  // namespace l3::program::synth
