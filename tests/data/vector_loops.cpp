// Takes the functions whose loops say `// vectorised`, so that the compiler makes them: see tests/vector_loops.py.
#include <l3/data/augment.hpp>
#include <l3/data/decibel_spectrogram.hpp>
#include <l3/data/spectrogram.hpp>

auto paper = &l3::spectrogram<l3::paper_front_end>::operator();
auto coarse = &l3::spectrogram<l3::coarse_front_end>::operator();
auto linear = &l3::spectrogram<l3::openl3_linear>::operator();
auto mel = &l3::spectrogram<l3::openl3_mel256>::operator();

using frame = l3::image<224, 224, 3>;
void jittered(l3::rgb_view picture, l3::image_jitter const& jitter, std::span<float, frame::size> out) {
  l3::augment_image<frame>(picture, jitter, out);
}
auto plain = &l3::centre_image<frame>;
