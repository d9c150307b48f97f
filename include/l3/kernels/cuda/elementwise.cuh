/// @file  include/l3/kernels/cuda/elementwise.cuh: the rectifier on its own, Adam, and whether numbers are finite, on a
/// GPU.
#pragma once
#include <algorithm>
#include <cmath>
#include <l3/kernels/cuda/vector.cuh>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail::gpu {

template <class T>
__global__ void rectify(std::size_t count, T const* x, T* y) {
  std::size_t const k = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < count) y[k] = to_float(x[k]) <= 0 ? T(0.0f) : x[k];
}
template <class T>
__global__ void rectify_back(std::size_t count, T const* y, T const* dy, T* dx) {
  std::size_t const k = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < count) dx[k] = to_float(y[k]) > 0 ? dy[k] : T(0.0f);
}
template <class T, class U>
__global__ void convert(std::size_t count, T const* from, U* to) {
  std::size_t const k = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < count) to[k] = U(to_float(from[k]));
}
template <class = void>
__global__ void add_and_scale_each(std::size_t count, float const* x, float factor, float* y) {
  std::size_t const k = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < count) y[k] = (y[k] + x[k]) * factor;
}

/// What a step of Adam multiplies by, computed once for all weights.
struct adam_factors {
  float step_size, root, beta1, beta2, rest1, rest2, epsilon, l2, keep;

  adam_factors() = default;
  explicit adam_factors(adam_settings const& a)
      : step_size(static_cast<float>(a.learning_rate / (1.0 - std::pow(a.beta1, static_cast<double>(a.step))))),
        root(static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(a.beta2, static_cast<double>(a.step))))),
        beta1(static_cast<float>(a.beta1)),
        beta2(static_cast<float>(a.beta2)),
        rest1(static_cast<float>(1.0 - a.beta1)),
        rest2(static_cast<float>(1.0 - a.beta2)),
        epsilon(static_cast<float>(a.epsilon)),
        l2(a.decoupled ? 0.0f : static_cast<float>(a.weight_decay)),
        keep(a.decoupled ? static_cast<float>(1.0 - a.learning_rate * a.weight_decay) : 1.0f) {}

  __device__ void apply(float g, float& w, float& m, float& v, bool decays) const {
    float const gradient = decays ? fmaf(l2, w, g) : g;
    m = beta1 * m + rest1 * gradient;
    v = beta2 * v + rest2 * gradient * gradient;
    w = (decays ? keep : 1.0f) * w - step_size * m / (sqrtf(v) * root + epsilon);
  }
};

template <class = void>
__global__ void adam_each(adam_factors const factors, std::size_t count, float const* g, float* w, float* m, float* v) {
  std::size_t const k = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < count) factors.apply(g[k], w[k], m[k], v[k], true);
}

/// Sets `flag` to 1 if a value is infinite or not a number. Whoever finds one writes the same.
template <class T>
__global__ void note_unless_finite(std::size_t count, T const* x, int* flag) {
  bool found = false;
  for (std::size_t k = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; k < count;
       k += std::size_t{gridDim.x} * blockDim.x)
    found |= !(x[k] - x[k] == 0);
  if (found) *flag = 1;
}
template <class T>
void check_finite(cudaStream_t in, std::size_t count, T const* x, int* flag) {
  launch(in, note_unless_finite<T>, dim3(std::min(blocks_for(count, 1024), 1056u)), 256, 0, count, x, flag);
}

}  // namespace detail::gpu

template <class P>
void relu_forward(context<cuda<P>>& on, std::size_t count, value_of<cuda<P>> const* x, value_of<cuda<P>>* y) {
  detail::gpu::launch(on.stream(), detail::gpu::rectify<value_of<cuda<P>>>, dim3(detail::gpu::blocks_for(count, 256)),
                      256, 0, count, x, y);
}
template <class P>
void relu_backward(context<cuda<P>>& on, std::size_t count, value_of<cuda<P>> const* y, value_of<cuda<P>> const* dy,
                   value_of<cuda<P>>* dx) {
  detail::gpu::launch(on.stream(), detail::gpu::rectify_back<value_of<cuda<P>>>,
                      dim3(detail::gpu::blocks_for(count, 256)), 256, 0, count, y, dy, dx);
}
/// Values of another type.
template <class P, class T, class U>
void convert(context<cuda<P>>& on, std::size_t count, T const* from, U* to) {
  detail::gpu::launch(on.stream(), detail::gpu::convert<T, U>, dim3(detail::gpu::blocks_for(count, 256)), 256, 0, count,
                      from, to);
}
template <class P>
void add_and_scale(context<cuda<P>>& on, std::size_t count, float const* x, float factor, float* y) {
  detail::gpu::launch(on.stream(), detail::gpu::add_and_scale_each<>, dim3(detail::gpu::blocks_for(count, 256)), 256, 0,
                      count, x, factor, y);
}
template <class P>
void adam_update(context<cuda<P>>& on, adam_settings const& a, std::size_t count, float const* g, float* w, float* m,
                 float* v) {
  detail::gpu::launch(on.stream(), detail::gpu::adam_each<>, dim3(detail::gpu::blocks_for(count, 256)), 256, 0,
                      detail::gpu::adam_factors(a), count, g, w, m, v);
}
/// Waits for the answer: training asks on the device instead.
template <class P>
bool all_finite(context<cuda<P>>& on, std::size_t count, float const* x) {
  device_block flag(sizeof(int));
  int answer = 0;
  detail::gpu::check_finite(on.stream(), count, x, reinterpret_cast<int*>(flag.data()));
  download(on, 1, reinterpret_cast<int const*>(flag.data()), &answer);
  return answer == 0;
}

}  // namespace l3::inline L3_ISA
