/// @file  examples/l3/synth_common.hpp: words that the pictures and the sounds of made-up instruments share.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <l3/core/random.hpp>
#include <vector>

namespace l3::program::synth {

inline constexpr int classes = 16;         ///< kinds of instruments there are
inline constexpr int width = 112;          ///< of a frame, pixels
inline constexpr int height = 96;          ///< of a frame, pixels
inline constexpr int frame_rate = 12;      ///< frames a second
inline constexpr int sample_rate = 48000;  ///< Hz

/// How far the classes are apart, and how much stands in the way.
enum class level : std::uint8_t { easy, hard };

/// The three parts of a data set.
enum class part : std::uint8_t { train, valid, test };

/// A cell (of colour combinations, of pitches) out of `count`: of every ten, the first seven belong to training, the
/// eighth to validation, the last two to the test. So a test instance has colours and a tuning never seen in training.
inline int held_out_cell(generator& g, part which, int count) {
  auto const tens = g.below(static_cast<std::uint32_t>(count / 10));
  auto const digit = which == part::train ? g.below(7) : which == part::valid ? 7 : 8 + g.below(2);
  return static_cast<int>(10 * tens + digit);
}

/// One struck, blown or shaken note.
struct note {
  double onset;     ///< seconds; the first may lie before 0, so that no video begins in silence
  double length;    ///< seconds, up to the next onset
  double pitch;     ///< octaves from the instrument's root
  double loudness;  ///< factor
};

/// A tune of 3 to 6 notes a second, the same kind for all classes.
inline std::vector<note> draw_tune(generator& g, double seconds) {
  auto const beat = 1 / g.uniform(3.4, 6);
  int scale[4];
  for (auto& step : scale) step = static_cast<int>(g.below(13)) - 6;  // semitones
  std::vector<note> tune;
  for (double at = -beat * g.uniform(); at < seconds;) {
    auto const length = beat * g.uniform(0.85, 1.15);
    tune.push_back({at, length, scale[g.below(4)] / 12.0, g.uniform(0.6, 1)});
    at += length;
  }
  return tune;
}

}  // namespace l3::program::synth
