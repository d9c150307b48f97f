/// @file  bench/kernels/kernel_bench.hpp: timing of one kernel: best of many runs, beside what the machine can do.
#pragma once
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/random.hpp>
#include <l3/kernels/kernels.hpp>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../peak.hpp"

namespace l3::bench {

/// Work of one call.
struct work {
  double flops = 0;
  double bytes = 0;  ///< inputs read once, outputs written once
};

/// Memory for one tensor, aligned, filled with numbers between -1 and 1.
class buffer {
 public:
  explicit buffer(std::size_t count, std::uint64_t seed = 1) : block_(count * sizeof(float)) {
    generator draw(seed, stream::user, 0, 0);
    for (std::size_t k = 0; k < count; ++k) data()[k] = static_cast<float>(draw.uniform(-1, 1));
  }
  float* data() { return reinterpret_cast<float*>(block_.data()); }
  operator float*() { return data(); }

 private:
  arena block_;
};

/// Stops the program if two results differ by more than 1e-4 of the largest value: no timing of wrong numbers.
inline void require_equal(std::string const& what, float const* found, float const* expected, std::size_t count) {
  float largest = 0, apart = 0;
  for (std::size_t k = 0; k < count; ++k) {
    largest = std::max(largest, std::abs(expected[k]));
    apart = std::max(apart, std::abs(found[k] - expected[k]));
    if (std::isnan(found[k])) apart = std::numeric_limits<float>::infinity();
  }
  if (apart <= 1e-4f * largest) return;
  std::cerr << what << ": expected what the plain loop computes, found a difference of " << apart << '\n';
  std::exit(1);
}

/// Times `call(context)` and counts: GFLOP/s and GB/s of the best run and their share of the measured peak.
template <class F>
void time_kernel(benchmark::State& state, context<cpu>& on, work const& w, F&& call) {
  call(on);  // warm: pages, caches, threads
  double best = std::numeric_limits<double>::max();
  for (auto _ : state) best = std::min(best, seconds([&] { call(on); }));
  auto const& most = peak(on.threads());
  state.counters["best_ms"] = best * 1e3;
  if (w.flops > 0) {
    state.counters["GFLOP/s"] = w.flops / best * 1e-9;
    // of the textbook's count: above 1 where an algorithm needs fewer
    state.counters["of_flops"] = w.flops / best / most.flops;
  }
  if (w.bytes > 0) {
    state.counters["GB/s"] = w.bytes / best * 1e-9;
    state.counters["of_bandwidth"] = w.bytes / best / most.bandwidth;
  }
}

/// Registers one benchmark, for one thread and for all.
template <class F>
void add(std::string const& name, F const& body) {
  for (std::size_t threads : {std::size_t{1}, thread_team().size()})
    benchmark::RegisterBenchmark((name + "/threads:" + std::to_string(threads)).c_str(),
                                 [=](benchmark::State& state) {
                                   context<cpu> on(threads);
                                   body(state, on);
                                 })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
}

/// main of a kernel benchmark: the measured peaks go into the context that Google Benchmark prints.
inline int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("instruction set", arch::best::name);
  for (std::size_t threads : {std::size_t{1}, thread_team().size()}) {
    auto const& most = peak(threads);
    auto const name = "peak of " + std::to_string(threads) + " thread(s)";
    benchmark::AddCustomContext(
        name, std::to_string(most.flops * 1e-9) + " GFLOP/s, " + std::to_string(most.bandwidth * 1e-9) + " GB/s");
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace l3::bench
