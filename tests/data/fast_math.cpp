/// @file  tests/data/fast_math.cpp: compiled with -ffast-math -fno-finite-math-only, as docs/numerics.md allows, what
/// is not finite is found all the same.
#include <cmath>
#include <cstdio>
#include <l3/data/spectrogram.hpp>
#include <l3/kernels/kernels.hpp>
#include <limits>
#include <vector>

namespace {

template <class FrontEnd>
bool shows(float sample, std::size_t expected) {
  l3::spectrogram<FrontEnd> const to_picture;
  std::vector<float> sound(FrontEnd::samples, 0.1f), picture(FrontEnd::output::size);
  sound[24000] = sample;
  to_picture(sound, std::span<float, FrontEnd::output::size>(picture));
  std::size_t found = 0;
  for (float const value : picture) found += std::isnan(value);
  std::printf("%s: %zu not-a-numbers of a sample %g, %zu expected\n", FrontEnd::name, found, double{sample}, expected);
  return found == expected;
}

}  // namespace

int main() {
  float const wrong[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  bool good = shows<l3::paper_front_end>(0.2f, 0);
  l3::context<l3::cpu> on(1);
  for (float const value : wrong) {
    good = shows<l3::paper_front_end>(value, 2 * 257) && good;  // two frames have it
    good = shows<l3::coarse_front_end>(value, 2 * 64) && good;  // and two means of frames
    for (std::size_t const at : {0u, 500u, 998u}) {
      std::vector<float> values(999, 1.0f);
      good = l3::all_finite(on, values.size(), values.data()) && good;
      values[at] = value;
      good = !l3::all_finite(on, values.size(), values.data()) && good;
    }
  }
  return good ? 0 : 1;
}
