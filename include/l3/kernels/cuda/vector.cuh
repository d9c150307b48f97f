/// @file  include/l3/kernels/cuda/vector.cuh: neighbouring values that one thread reads and writes at once, sums over
/// the lanes of a warp, and division by numbers that are known beforehand.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <l3/core/bfloat16.hpp>
#include <l3/core/config.hpp>
#include <l3/core/cuda.cuh>
#include <l3/core/error.hpp>
#include <l3/kernels/cuda/instructions.cuh>
#include <string>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// Values in 16 bytes, the widest access there is.
template <class T>
inline constexpr int vector_size = 16 / sizeof(T);

L3_HOST_DEVICE inline float to_float(float x) { return x; }
L3_HOST_DEVICE inline float to_float(bfloat16 x) { return static_cast<float>(x); }

/// V neighbouring values as floats: one, or a whole vector from an aligned place.
template <class T, int V>
struct values {
  float v[V];

  __device__ void load(T const* from) {
    if constexpr (V == 1) {
      v[0] = to_float(*from);
    } else if constexpr (std::is_same_v<T, float>) {
      float4 const x = *reinterpret_cast<float4 const*>(from);
      v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
    } else {
      uint4 const x = *reinterpret_cast<uint4 const*>(from);
      unsigned const words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) v[2 * k] = as_float(words[k] << 16), v[2 * k + 1] = as_float(words[k] & 0xFFFF0000u);
    }
  }
  __device__ void store(T* to) const {
    if constexpr (V == 1) {
      *to = T(v[0]);
    } else if constexpr (std::is_same_v<T, float>) {
      *reinterpret_cast<float4*>(to) = float4{v[0], v[1], v[2], v[3]};
    } else {
      *reinterpret_cast<uint4*>(to) =
          uint4{packed(v[0], v[1]), packed(v[2], v[3]), packed(v[4], v[5]), packed(v[6], v[7])};
    }
  }
  /// As a value that was stored and read again.
  __device__ void round() {
#pragma unroll
    for (float& x : v) x = to_float(T(x));
  }
};

/// Calls f.operator()<V>() with whole vectors, or single values where channels are no multiple of one.
template <class T, class F>
void by_vector(std::size_t channels, F&& f) {
  if (channels % vector_size<T> == 0)
    f.template operator()<vector_size<T>>();
  else
    f.template operator()<1>();
}

/// Two neighbours as they will be read again, and stored at once.
template <class T>
__device__ inline void round_pair(float& a, float& b) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    unsigned const both = packed(a, b);
    a = as_float(both << 16), b = as_float(both & 0xFFFF0000u);
  }
}
template <class T>
__device__ inline void store_pair(T* to, float a, float b) {
  if constexpr (std::is_same_v<T, bfloat16>)
    *reinterpret_cast<unsigned*>(to) = packed(a, b);
  else
    *reinterpret_cast<float2*>(to) = float2{a, b};
}

/// The larger one; what is not a number stays.
__device__ inline float larger(float a, float b) { return b > a || b != b ? b : a; }
/// Of two pairs of bfloat16, as `packed` makes them, the larger one in each place.
__device__ inline unsigned larger_of_each(unsigned a, unsigned b) {
  unsigned const upper = 0xFFFF0000u;
  return as_bits(larger(as_float(a & upper), as_float(b & upper))) |
         as_bits(larger(as_float(a << 16), as_float(b << 16))) >> 16;
}

/// The sum over lanes that differ in the bits of `mask` alone, in all of them.
__device__ inline float sum_over(unsigned mask, float x) {
#pragma unroll
  for (int bit = 1; bit < 32; bit *= 2)
    if ((mask & static_cast<unsigned>(bit)) != 0) x += __shfl_xor_sync(0xFFFFFFFFu, x, bit);
  return x;
}

/// N values' sums over the eight lanes that differ in bits 4, 8 and 16 alone, added up as sum_over does it, with a
/// third of the exchanges: each bit halves what a lane goes on with. x[0] becomes the sum of value
/// folded_value<N>(lane).
template <int N, int Bit = 4>
__device__ inline void fold(float (&x)[N]) {
  if constexpr (N == 1) {
#pragma unroll
    for (int bit = Bit; bit < 32; bit *= 2) x[0] += __shfl_xor_sync(0xFFFFFFFFu, x[0], bit);
  } else {
    static_assert(N % 2 == 0 && Bit < 32);
    bool const upper = (threadIdx.x & Bit) != 0;
    float half[N / 2];
#pragma unroll
    for (int k = 0; k < N / 2; ++k) {
      float const other = __shfl_xor_sync(0xFFFFFFFFu, upper ? x[k] : x[k + N / 2], Bit);
      half[k] = (upper ? x[k + N / 2] : x[k]) + other;
    }
    fold<N / 2, 2 * Bit>(half);
    x[0] = half[0];
  }
}
template <int N>
__device__ inline int folded_value(int lane) {
  int value = 0;
#pragma unroll
  for (int bit = 4, n = N / 2; n > 0; bit *= 2, n /= 2) value += (lane & bit) != 0 ? n : 0;
  return value;
}
/// The way back: all lanes get all N values from those that have them.
template <int N, int Bit = 4>
__device__ inline void unfold(float (&x)[N]) {
  if constexpr (N > 1) {
    bool const upper = (threadIdx.x & Bit) != 0;
    float half[N / 2] = {x[0]};
    unfold<N / 2, 2 * Bit>(half);
#pragma unroll
    for (int k = 0; k < N / 2; ++k) {
      float const other = __shfl_xor_sync(0xFFFFFFFFu, half[k], Bit);
      x[k] = upper ? other : half[k], x[k + N / 2] = upper ? half[k] : other;
    }
  }
}

/// Division of numbers below 2^31 by one that the host knows.
struct divider {
  unsigned by = 1, factor = 0, shift = 0;

  divider() = default;
  explicit divider(std::size_t d) : by(static_cast<unsigned>(d)) {
    while ((std::uint64_t{1} << shift) < d) ++shift;
    factor = static_cast<unsigned>(((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - d)) / d + 1);
  }
  __device__ unsigned quotient(unsigned n) const { return (__umulhi(n, factor) + n) >> shift; }
};

/// Kernels' numbers are 32 bits wide, dividers take 31. Errors: shape_error: larger.
inline unsigned narrow(std::size_t n) {
  if (n >> 31 != 0) throw shape_error({"a batch on the GPU", "at most 2^31 - 1 of anything", std::to_string(n)});
  return static_cast<unsigned>(n);
}
inline unsigned blocks_for(std::size_t n, std::size_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
