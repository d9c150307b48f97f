/// @file  bench/peak.hpp: what this machine can do at most, measured in the same run as the kernels: multiply-adds in
/// registers, and bytes to and from memory.
#pragma once
#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/amx.hpp>
#include <l3/kernels/cpu/simd.hpp>

namespace l3::bench {

/// Seconds that f() takes.
template <class F>
double seconds(F&& f) {
  auto const start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The shortest of several runs: on a shared machine the others measure the neighbours.
template <class F>
double best_seconds(std::size_t runs, F&& f) {
  double best = seconds(f);
  for (std::size_t k = 1; k < runs; ++k) best = std::min(best, seconds(f));
  return best;
}

#if L3_AMX
/// The same of matrix registers.
inline double measure_matrix_flops(thread_team& team) {
  constexpr std::size_t steps = 1'000'000;
  double const time = best_seconds(10, [&] {
    team.run(team.size(), [&](std::size_t, std::size_t) {
      detail::matrix_registers const registers;
      alignas(alignment) bfloat16 factors[512];  // no zeros: with those the processor runs cooler, and faster
      for (std::size_t k = 0; k < 512; ++k) factors[k] = bfloat16(static_cast<float>(k % 7) - 3.5f);
      detail::memory_is_read();
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      _tile_loadd(4, factors, 64);
      _tile_loadd(5, factors, 64);
      _tile_loadd(6, factors, 64);
      _tile_loadd(7, factors, 64);
      for (std::size_t step = 0; step < steps; ++step) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    });
  });
  return 4.0 * static_cast<double>(team.size() * steps * 2 * 16 * 16 * 32) / time;
}
#endif

/// Floating point operations a second of independent multiply-adds in registers, factors in precision P.
template <class P>
double measure_flops(thread_team& team) {
#if L3_AMX
  if constexpr (detail::has_matrix_products<arch::best, P>)
    if (detail::matrix_products_work()) return measure_matrix_flops(team);
#endif
  using V = detail::lanes<arch::best>;
  using product = detail::products<V, P>;
  constexpr std::size_t chains = 12, steps = 2'000'000;  // enough chains to hide a multiply-add's latency
  arena results(team.size() * chains * sizeof(V));
  double const time = best_seconds(10, [&] {
    team.run(team.size(), [&](std::size_t task, std::size_t) {
      V sum[chains];
      for (std::size_t k = 0; k < chains; ++k) sum[k] = V(static_cast<float>(k));
      typename product::value numbers[product::depth * detail::width<V>];
      for (auto& one : numbers) {
        if constexpr (std::same_as<P, fp32>)
          one = 0.9999f;
        else
          one = detail::rounded(0.9999f);
      }
      auto const factor = product::load(numbers);
      for (std::size_t step = 0; step < steps; ++step)
#pragma GCC unroll 12
        for (std::size_t k = 0; k < chains; ++k) {
          if constexpr (std::same_as<P, fp32>)  // the sum a factor: else a product of constants need not be formed anew
            sum[k] = product::add(sum[k], factor, factor);
          else
            sum[k] = product::add(factor, factor, sum[k]);
        }
      auto* const to = reinterpret_cast<float*>(results.data()) + task * chains * detail::width<V>;
      for (std::size_t k = 0; k < chains; ++k) detail::put(to + k * detail::width<V>, sum[k]);
    });
  });
  return 2.0 * static_cast<double>(team.size() * chains * steps * product::depth * detail::width<V>) / time;
}

/// Bytes a second of a = b + s * c over arrays that no cache holds (two read, one written).
inline double measure_bandwidth(thread_team& team) {
  constexpr std::size_t count = std::size_t{24} << 20, piece = std::size_t{1} << 18;
  arena memory(3 * count * sizeof(float));
  auto* const a = reinterpret_cast<float*>(memory.data());
  double const time = best_seconds(10, [&] {
    team.run(count / piece, [&](std::size_t task, std::size_t) {
      float* L3_RESTRICT const to = a + task * piece;
      float const* L3_RESTRICT const b = to + count;
      float const* L3_RESTRICT const c = to + 2 * count;
      for (std::size_t k = 0; k < piece; ++k) to[k] = b[k] + 0.5f * c[k];
    });
  });
  return 3.0 * static_cast<double>(count * sizeof(float)) / time;
}

/// Floating point operations a second in precision P, measured once for each number of threads.
template <class P>
double peak_products(std::size_t threads) {
  static std::array<double, 257> known{};
  auto& flops = known.at(std::min<std::size_t>(threads, 256));
  if (flops == 0) {
    thread_team team(threads);
    flops = measure_flops<P>(team);
  }
  return flops;
}

struct machine_peak {
  double flops;      ///< a second
  double bandwidth;  ///< bytes a second
};

/// Measured once for each number of threads.
inline machine_peak const& peak(std::size_t threads) {
  static std::array<machine_peak, 257> known{};
  auto& p = known.at(std::min<std::size_t>(threads, 256));
  if (p.flops == 0) {
    thread_team team(threads);
    p = {peak_products<fp32>(threads), measure_bandwidth(team)};
  }
  return p;
}

}  // namespace l3::bench
