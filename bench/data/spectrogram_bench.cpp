// What the loader does to each item after decoding: a second of sound to a spectrogram, a picture to a training image.
#include <benchmark/benchmark.h>

#include <cmath>
#include <complex>
#include <l3/core/random.hpp>
#include <l3/data/augment.hpp>
#include <l3/data/spectrogram.hpp>
#include <numbers>
#include <vector>

namespace {

std::vector<float> noise(std::size_t count) {
  l3::generator g(1, l3::stream::user, 0, 0);
  std::vector<float> x(count);
  for (float& v : x) v = static_cast<float>(0.1 * g.normal());
  return x;
}

template <class FrontEnd>
void sound_to_picture(benchmark::State& state) {
  auto const samples = noise(FrontEnd::samples);
  std::vector<float> out(FrontEnd::output::size);
  l3::spectrogram<FrontEnd> const transform;
  std::span<float, FrontEnd::output::size> const picture(out);
  for (auto _ : state) {
    transform(samples, picture);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK_TEMPLATE(sound_to_picture, l3::paper_front_end)->Unit(benchmark::kMicrosecond);
BENCHMARK_TEMPLATE(sound_to_picture, l3::coarse_front_end)->Unit(benchmark::kMicrosecond);

using frame = l3::image<224, 224, 3>;
constexpr std::size_t width = 455, height = 256;

std::vector<std::uint8_t> picture() {
  l3::generator g(1, l3::stream::user, 0, 1);
  std::vector<std::uint8_t> x(width * height * 3);
  for (auto& v : x) v = static_cast<std::uint8_t>(g());
  return x;
}

void training_image(benchmark::State& state) {
  auto const pixels = picture();
  std::vector<float> out(frame::size);
  l3::image_jitter jitter = l3::draw_image_jitter<frame>(width, height, {1, l3::stream::image, 0, 0});
  jitter.mirrored = state.range(0) != 0;
  for (auto _ : state) {
    l3::augment_image<frame>({pixels, width, height}, jitter, std::span<float, frame::size>(out));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(training_image)->ArgName("mirrored")->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);

void evaluation_image(benchmark::State& state) {
  auto const pixels = picture();
  std::vector<float> out(frame::size);
  for (auto _ : state) {
    l3::centre_image<frame>({pixels, width, height}, std::span<float, frame::size>(out));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(evaluation_image)->Unit(benchmark::kMicrosecond);

}  // namespace
