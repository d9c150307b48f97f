// expect: a batch that has, as const functions, frames .frame_view., sounds .sound_view. and
#include <l3/train/trainer.hpp>
using network = l3::l3_network<l3::reference<float>, l3::tiny>;
struct batch {
#ifdef L3_BROKEN
  using sound = l3::image<64, 100, 1>;
#else
  using sound = network::sound;
#endif
  l3::tensor<float, network::frame> frames{2};
  l3::tensor<float, sound> sounds{2};
  auto frame_view() const { return frames.view(); }
  auto sound_view() const { return sounds.view(); }
  std::span<std::int32_t const> label_view() const { return {}; }
};
struct source {
  batch one;
  batch const* next() { return &one; }
};
void run(l3::trainer<network>& on, source& from) { l3::train(on, from, 1, {}); }
int main() {}
