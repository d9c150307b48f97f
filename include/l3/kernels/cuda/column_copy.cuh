/// @file  include/l3/kernels/cuda/column_copy.cuh: columns of pictures to columns of other pictures, on a GPU.
#pragma once
#include <l3/kernels/column_copy.hpp>
#include <l3/kernels/cuda/vector.cuh>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// A thread copies V neighbours of a row.
template <class T, int V>
__global__ __launch_bounds__(256) void copy_rows(column_copy const c, unsigned chunks, std::size_t threads, T const* x,
                                                 T* y) {
  std::size_t const at = std::size_t{blockIdx.x} * 256 + threadIdx.x;
  if (at >= threads) return;
  std::size_t const line = at / chunks, k = line / c.height, r = line - k * c.height;
  std::size_t const offset = (at - line * chunks) * V;
  T const* const from = x + (c.source(k, r) + offset);
  T* const to = y + (c.target(k, r) + offset);
  if constexpr (V > 1)
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<uint4 const*>(from);
  else
    *to = *from;
}

}  // namespace detail::gpu

template <class P, class T>
void copy_columns(context<cuda<P>>& on, column_copy const& c, T const* x, T* y) {
  detail::gpu::by_vector<T>(c.channels, [&]<int V>() {
    std::size_t const chunks = c.columns * c.channels / V, threads = c.count * c.height * chunks;
    if (threads > 0)
      detail::gpu::launch(on.stream(), detail::gpu::copy_rows<T, V>, dim3(detail::gpu::blocks_for(threads, 256)), 256,
                          0, c, detail::gpu::narrow(chunks), threads, x, y);
  });
}

}  // namespace l3::inline L3_ISA
