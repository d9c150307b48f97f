// A first network. Frames and sounds are made up: a frame's class is its colour, a sound's class is the width of its
// stripes. Nobody tells the network the classes. It only learns which frame belongs to which sound, and for that it has
// to find them. Every step makes new noise, so its accuracy is that on draws never met before. No video is needed.
#include <cmath>
#include <iostream>
#include <l3/l3net.hpp>

struct toy {  // as small as it gets; l3::tiny, l3::small and l3::paper are such descriptions, too
  static constexpr char const* name = "toy";
  using frame = l3::image<24, 24, 3>;
  static constexpr std::size_t frame_side = 24, width = 8, hidden = 32;
  struct front_end {
    static constexpr char const* name = "toy";
    using output = l3::image<24, 16, 1>;
  };
};
constexpr std::size_t classes = 8;

void make_up(std::uint64_t step, l3::tensor<float, toy::frame>& frames,
             l3::tensor<float, toy::front_end::output>& sounds) {
  for (std::uint32_t c = 0; c < classes; ++c) {  // one draw of each class, with noise
    l3::generator random(1, l3::stream::user, step, c);
    auto noisy = [&](double value) { return static_cast<float>(value + 0.5 * random.normal()); };
    for (std::size_t k = 0; k < toy::frame::size; ++k) frames.view()[c][k] = noisy((c >> k % 3) % 2);
    for (std::size_t k = 0; k < 24 * 16; ++k)
      sounds.view()[c][k] = noisy(std::sin(static_cast<double>(k / 16) * (0.3 + 0.35 * c)));
  }
}

int main() try {
  l3::require_processor();
  l3::context<l3::cpu> threads;
  l3::l3_network<l3::cpu, toy> net;
  net.initialise(/*seed*/ 1);
  l3::trainer teacher(threads, net,
                      {.which = l3::pairing::all, .batch = classes, .learning_rate = 3e-3, .warm_up_steps = 10});
  l3::tensor<float, toy::frame> frames(classes);
  l3::tensor<float, toy::front_end::output> sounds(classes);
  std::cout.precision(2);
  for (std::uint64_t step = 1; step <= 200; ++step) {
    make_up(step, frames, sounds);
    l3::step_report const report = teacher.step(frames, sounds, {});
    if (step == 1 || step % 40 == 0)
      std::cout << "step " << step << ": loss " << report.score.loss << ", accuracy " << report.score.accuracy << '\n';
  }
} catch (std::exception const& e) {
  std::cerr << "first_network: " << e.what() << '\n';
  return 1;
}
