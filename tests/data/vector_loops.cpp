// Calls the loops that say `// vectorised`, so that the compiler says what it makes of them: see tests/vector_loops.py.
#include <l3/data/augment.hpp>
#include <l3/data/decibel_spectrogram.hpp>
#include <l3/data/spectrogram.hpp>

template <class FrontEnd>
using picture_of = std::span<float, FrontEnd::output::size>;

void paper(l3::spectrogram<l3::paper_front_end> const& f, std::span<float const> samples,
           picture_of<l3::paper_front_end> out) {
  f(samples, out);
}
void coarse(l3::spectrogram<l3::coarse_front_end> const& f, std::span<float const> samples,
            picture_of<l3::coarse_front_end> out) {
  f(samples, out);
}
void linear(l3::spectrogram<l3::openl3_linear> const& f, std::span<float const> samples,
            picture_of<l3::openl3_linear> out) {
  f(samples, out);
}
void mel(l3::spectrogram<l3::openl3_mel256> const& f, std::span<float const> samples,
         picture_of<l3::openl3_mel256> out) {
  f(samples, out);
}
using frame = l3::image<224, 224, 3>;
void jittered(l3::rgb_view picture, l3::image_jitter const& jitter, std::span<float, frame::size> out) {
  l3::augment_image<frame>(picture, jitter, out);
}
void plain(l3::rgb_view picture, std::span<float, frame::size> out) { l3::centre_image<frame>(picture, out); }
