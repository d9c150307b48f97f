/// @file  include/l3/core/random.hpp: counter-based random numbers: the same (seed, stream, step, index) gives the same
/// draws whoever computes them, on any number of threads.
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <numbers>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// Philox 4x32 with ten rounds: 128 bits of counter and 64 of key to 128 random bits.
/// Source  Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); test vectors of Random123.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const a = std::uint64_t{0xD2511F53} * counter[0];
    std::uint64_t const b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

/// What a random number is for. Streams never share a number; the values are part of the reproducibility contract.
enum class stream : std::uint8_t {
  weights = 0,     ///< initial weights; index counts parameters
  clip = 1,        ///< which video a draw comes from
  moment = 2,      ///< frame time and start of the second inside the video
  image = 3,       ///< crop, mirror, colour
  sound = 4,       ///< loudness
  split = 5,       ///< which files are for training, validation and test
  evaluation = 6,  ///< fixed pairs for evaluation
  bootstrap = 7,   ///< resampling for intervals
  synthesis = 8,   ///< made-up data
  user = 9,        ///< whatever else draws: evaluation, programs
  openings = 255,  ///< which videos are opened when, where an opening serves several draws
};

/// A run of random numbers named by (seed, stream, step, index, attempt).
///
/// The name fills Philox's counter: word 0 counts blocks of four inside the run (65,536 of them) below the attempt,
/// word 1 is the index, words 2 and 3 hold 56 bits of step below the stream. Satisfies UniformRandomBitGenerator, but
/// begins again after 262,144 numbers: for more, name another run.
class generator {
 public:
  using result_type = std::uint32_t;

  constexpr generator(std::uint64_t seed, stream which, std::uint64_t step, std::uint32_t index,
                      std::uint16_t attempt = 0)
      : counter_{std::uint32_t{attempt} << 16, index, static_cast<std::uint32_t>(step),
                 (static_cast<std::uint32_t>(which) << 24) | (static_cast<std::uint32_t>(step >> 32) & 0xFFFFFF)},
        key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)} {}

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return 0xFFFFFFFF; }

  /// 32 random bits.
  constexpr std::uint32_t operator()() {
    if (used_ == 4) {
      block_ = philox4x32(counter_, key_);
      counter_[0] = (counter_[0] & 0xFFFF0000) | ((counter_[0] + 1) & 0xFFFF);
      used_ = 0;
    }
    return block_[used_++];
  }
  /// Uniform in [0, 1), on a grid of 2^-53.
  constexpr double uniform() {
    std::uint64_t const high = (*this)();
    std::uint64_t const bits = (high << 21) ^ ((*this)() >> 11);
    return static_cast<double>(bits) * 0x1p-53;
  }
  /// Uniform in [low, high); `low` when the range is empty.
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// A whole number in [0, n), every one as likely (rejection, no modulo bias). n > 0.
  constexpr std::uint32_t below(std::uint32_t n) {
    std::uint32_t const reject_below = (0u - n) % n;
    for (;;) {
      std::uint64_t const product = std::uint64_t{(*this)()} * n;
      if (static_cast<std::uint32_t>(product) >= reject_below) return static_cast<std::uint32_t>(product >> 32);
    }
  }
  /// True half of the time.
  constexpr bool coin() { return ((*this)() >> 31) != 0; }
  /// Standard normal (Box-Muller).
  double normal() {
    double const radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is never 0
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> block_{};
  unsigned used_ = 4;
};

/// Brings values into an order that (seed, which, step) decide, each as likely (Fisher-Yates).
template <class T>
void shuffle(std::vector<T>& values, std::uint64_t seed, stream which, std::uint64_t step) {
  for (std::size_t k = 0; k + 1 < values.size(); ++k) {
    auto const left = static_cast<std::uint32_t>(values.size() - k);
    std::swap(values[k], values[k + generator(seed, which, step, static_cast<std::uint32_t>(k)).below(left)]);
  }
}

}  // namespace l3::inline L3_ISA
