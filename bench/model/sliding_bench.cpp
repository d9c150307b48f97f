// Overlapping seconds through the audio subnetwork: one by one, and with what they share computed once. Items are
// windows.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <l3/core/random.hpp>
#include <l3/model/sliding.hpp>
#include <vector>

namespace {

template <class Config>
struct at_work {
  using network = l3::l3_network<l3::cpu, Config>;
  using sound = typename network::sound;
  using feature = typename network::embedding;
  static constexpr std::size_t batch = 16;
  l3::context<l3::cpu> on;
  network net;
  l3::inference<network> use;
  explicit at_work(std::size_t threads) : on(threads), use((net.initialise(1), on), net, batch) {}
  std::vector<float> noise(std::size_t columns) const {
    std::vector<float> x(sound::height * columns);
    l3::generator g(1, l3::stream::user, 0, 0);
    for (float& v : x) v = static_cast<float>(g.uniform(-1, 1));
    return x;
  }
};

template <class Config>
void alone(benchmark::State& state) {
  using work = at_work<Config>;
  work w(static_cast<std::size_t>(state.range(0)));
  auto const x = w.noise(work::batch * work::sound::width);
  l3::tensor<float, typename work::feature> out(work::batch);
  for (auto _ : state) w.use.embed_sounds({x.data(), work::batch}, out.view());
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * work::batch));
}

template <class Config>
void sliding(benchmark::State& state) {
  using work = at_work<Config>;
  using sound = typename work::sound;
  work w(static_cast<std::size_t>(state.range(0)));
  auto const hop = static_cast<std::size_t>(state.range(1));
  std::size_t const windows = std::min<std::size_t>(12 * sound::width / hop, 128);
  l3::sliding_sounds<typename work::network> together(w.on, w.use, hop, windows);
  std::size_t const columns = together.columns(windows);
  auto const x = w.noise(columns);
  l3::tensor<float, typename work::feature> out(windows), expected(1);
  together.embed(x.data(), out.view());
  l3::tensor<float, sound> last(1);
  for (std::size_t r = 0; r < sound::height; ++r)
    std::copy_n(x.data() + (r + 1) * columns - sound::width, sound::width, last.data() + r * sound::width);
  w.use.embed_sounds(last.view(), expected.view());
  for (std::size_t d = 0; d < work::feature::size; ++d)
    if (!(std::abs(out.view()[windows - 1][d] - expected.data()[d]) <= 1e-4f * (1 + std::abs(expected.data()[d]))))
      return state.SkipWithError("the last window differs from the same second alone");
  for (auto _ : state) together.embed(x.data(), out.view());
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(windows));
  state.counters["cost"] = l3::sliding_sounds<typename work::network>::cost(hop);  // expected from FLOPs
}

BENCHMARK_TEMPLATE(alone, l3::paper)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_TEMPLATE(sliding, l3::paper)
    ->ArgNames({"threads", "hop"})
    ->ArgsProduct({{1, 2}, {20, 40, 100}})  // 0.1, 0.2 and 0.5 s
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_TEMPLATE(alone, l3::tiny)->ArgName("threads")->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_TEMPLATE(sliding, l3::tiny)
    ->ArgNames({"threads", "hop"})
    ->ArgsProduct({{2}, {10, 20, 50}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
