/// @file  include/l3/kernels/cpu/elementwise.hpp: operations on one number after the other: rectifier, sums,
/// Adam, and whether all are numbers.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// Numbers of one task.
inline constexpr std::size_t element_chunk = 16384;

/// Calls `f.operator()<T>(k)` over [0, count) on all threads, in registers and the rest in floats.
template <class V, class F>
void each_element(thread_team& team, std::size_t count, F&& f) {
  team.run(parts_of(count, element_chunk), [&](std::size_t task, std::size_t) {
    std::size_t const first = task * element_chunk;
    each_register<V>(std::min(element_chunk, count - first),
                     [&]<class T>(std::size_t k) { f.template operator()<T>(first + k); });
  });
}

}  // namespace detail

template <class A, class P>
void relu_forward(context<simd<A, P>>& on, std::size_t count, float const* x, float* y) {
  using namespace detail;
  each_element<lanes<A>>(on.team(), count, [&]<class T>(std::size_t k) { put(y + k, rectified(load<T>(x + k))); });
}

template <class A, class P>
void relu_backward(context<simd<A, P>>& on, std::size_t count, float const* y, float const* dy, float* dx) {
  using namespace detail;
  each_element<lanes<A>>(on.team(), count, [&]<class T>(std::size_t k) {
    put(dx + k, pick(load<T>(y + k) > T(0.0f), load<T>(dy + k), T(0.0f)));
  });
}

template <class A, class P>
void add_and_scale(context<simd<A, P>>& on, std::size_t count, float const* x, float factor, float* y) {
  using namespace detail;
  each_element<lanes<A>>(on.team(), count,
                         [&]<class T>(std::size_t k) { put(y + k, (load<T>(y + k) + load<T>(x + k)) * T(factor)); });
}

template <class A, class P>
void adam_update(context<simd<A, P>>& on, adam_settings const& a, std::size_t count, float const* g, float* w, float* m,
                 float* v) {
  using namespace detail;
  auto const steps = static_cast<double>(a.step);
  auto const step_size = static_cast<float>(a.learning_rate / (1.0 - std::pow(a.beta1, steps)));
  auto const undo_bias = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(a.beta2, steps)));
  auto const b1 = static_cast<float>(a.beta1), b2 = static_cast<float>(a.beta2), eps = static_cast<float>(a.epsilon);
  auto const rest1 = static_cast<float>(1.0 - a.beta1), rest2 = static_cast<float>(1.0 - a.beta2);
  float const l2 = a.decoupled ? 0.0f : static_cast<float>(a.weight_decay);
  float const keep = a.decoupled ? static_cast<float>(1.0 - a.learning_rate * a.weight_decay) : 1.0f;
  each_element<lanes<A>>(on.team(), count, [&]<class T>(std::size_t k) {
    T const weight = load<T>(w + k), gradient = fused(T(l2), weight, load<T>(g + k));
    T const first = fused(T(b1), load<T>(m + k), T(rest1) * gradient);
    T const second = fused(T(b2), load<T>(v + k), T(rest2) * gradient * gradient);
    put(m + k, first);
    put(v + k, second);
    put(w + k, T(keep) * weight - T(step_size) * first / fused(root(second), T(undo_bias), T(eps)));
  });
}

template <class A, class P>
bool all_finite(context<simd<A, P>>& on, std::size_t count, float const* x) {
  using namespace detail;
  using V = lanes<A>;
  constexpr std::size_t sums = 4;   // at a time, or each would wait for the one before
  std::atomic<bool> finite = true;  // 0 * x is 0 for every finite x, and not a number for the others
  on.team().run(parts_of(count, element_chunk), [&](std::size_t task, std::size_t) {
    std::size_t const end = std::min(count, (task + 1) * element_chunk);
    std::size_t k = task * element_chunk;
    V sum[sums];
    for (V& s : sum) s = V(0.0f);
    for (; k + sums * width<V> <= end; k += sums * width<V>)
#pragma GCC unroll 4
      for (std::size_t s = 0; s < sums; ++s) sum[s] = fused(load<V>(x + k + s * width<V>), V(0.0f), sum[s]);
    float all[width<V>], rest = 0;
    put(all, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (float const one : all) rest += one;
    for (; k < end; ++k) rest += x[k] * 0.0f;
    if (!(rest == 0.0f)) finite = false;
  });
  return finite;
}

}  // namespace l3::inline L3_ISA
