/// @file  include/l3/kernels/cuda/dense.cuh: dense products on a GPU. They are small beside the convolutions: one
/// kernel, in float, for all three.
#pragma once
#include <l3/kernels/cuda/vector.cuh>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// A matrix that lies anywhere: value (row, column) is at row * down + column * across.
template <class T>
struct strided {
  T* at;
  std::size_t down, across;
  __device__ T& operator()(unsigned row, unsigned column) const { return at[row * down + column * across]; }
};

/// c(i, j) = bias[j] + sum over k of a(i, k) b(k, j), in the order of k. A block makes 16 x 16 of them.
template <class A, class B, class C>
__global__ __launch_bounds__(256) void multiply_small(strided<A const> a, strided<B const> b, float const* bias,
                                                      strided<C> c, unsigned rows, unsigned columns, unsigned terms) {
  float(*const left)[17] = shared_memory<float[17]>();
  float(*const right)[17] = left + 16;
  unsigned const x = threadIdx.x % 16, y = threadIdx.x / 16;
  unsigned const row = blockIdx.y * 16 + y, column = blockIdx.x * 16 + x;
  float sum = 0;
  for (unsigned first = 0; first < terms; first += 16) {
    // Threads of a warp read neighbours, whichever way a matrix lies.
    unsigned const ai = a.across == 1 ? y : x, ak = a.across == 1 ? x : y;
    unsigned const bk = b.across == 1 ? y : x, bj = b.across == 1 ? x : y;
    unsigned const i = blockIdx.y * 16 + ai, j = blockIdx.x * 16 + bj;
    left[ai][ak] = i < rows && first + ak < terms ? to_float(a(i, first + ak)) : 0.0f;
    right[bk][bj] = j < columns && first + bk < terms ? to_float(b(first + bk, j)) : 0.0f;
    __syncthreads();
#pragma unroll
    for (unsigned k = 0; k < 16; ++k) sum = fmaf(left[y][k], right[k][x], sum);
    __syncthreads();
  }
  if (row < rows && column < columns) c(row, column) = C(bias != nullptr ? sum + bias[column] : sum);
}
template <class A, class B, class C>
void launch_small(cudaStream_t in, strided<A const> a, strided<B const> b, float const* bias, strided<C> c,
                  std::size_t rows, std::size_t columns, std::size_t terms) {
  launch(in, multiply_small<A, B, C>, dim3(blocks_for(columns, 16), blocks_for(rows, 16)), 256,
         2 * 16 * 17 * sizeof(float), a, b, bias, c, narrow(rows), narrow(columns), narrow(terms));
}

}  // namespace detail::gpu

template <class P, class X, class Y>
void dense_forward(context<cuda<P>>& on, dense_dims const& d, X const* x, float const* w, float const* bias, Y* y,
                   std::byte* /*scratch*/) {
  using detail::gpu::strided;
  detail::gpu::launch_small(on.stream(), strided<X const>{x, d.in, 1}, strided<float const>{w, 1, d.weight_stride},
                            bias, strided<Y>{y, d.out, 1}, d.batch, d.out, d.in);
}
template <class P, class X, class Y>
void dense_backward_data(context<cuda<P>>& on, dense_dims const& d, Y const* dy, float const* w, X* dx,
                         std::byte* /*scratch*/) {
  using detail::gpu::strided;
  detail::gpu::launch_small(on.stream(), strided<Y const>{dy, d.out, 1}, strided<float const>{w, d.weight_stride, 1},
                            nullptr, strided<X>{dx, d.in, 1}, d.batch, d.in, d.out);
}
template <class P, class X, class Y>
void dense_backward_weights(context<cuda<P>>& on, dense_dims const& d, X const* x, Y const* dy, float* dw,
                            std::byte* /*scratch*/) {
  using detail::gpu::strided;
  detail::gpu::launch_small(on.stream(), strided<Y const>{dy, 1, d.out}, strided<X const>{x, d.in, 1}, nullptr,
                            strided<float>{dw, d.weight_stride, 1}, d.out, d.in, d.batch);
}

}  // namespace l3::inline L3_ISA
