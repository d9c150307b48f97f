// expect: what computes this front end is not included
#include <l3/data/spectrogram.hpp>
#ifdef L3_BROKEN
struct own {
  static constexpr std::size_t samples = 16000;
  using output = l3::image<64, 100, 1>;
};
#else
using own = l3::coarse_front_end;
#endif
int main() { return static_cast<int>(sizeof(l3::spectrogram<own>) == 0); }
