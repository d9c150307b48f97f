/// @file  include/l3/kernels/cuda/products.cuh: how a warp multiplies tiles that lie in shared memory, in each
/// precision.
///
/// A tile is rows of 16-byte chunks. Chunks of a row are exchanged in a way that depends on the row, so that the eight
/// rows which the matrix units read at a time lie in different banks.
///
/// A warp's product is cut into blocks of 16 rows x 8 columns. Lane l holds of each the columns 2 (l % 4) and the next
/// one, of row l / 4 (sums 0 and 1) and of row l / 4 + 8 (2 and 3), in every precision.
#pragma once
#include <l3/core/backend.hpp>
#include <l3/kernels/cuda/instructions.cuh>
#include <l3/kernels/cuda/vector.cuh>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// Rows of `Chunks` chunks.
template <int Chunks>
struct tile {
  static_assert(Chunks % 8 == 0 || Chunks == 4 || Chunks == 2);
  static constexpr int row_bytes = 16 * Chunks, piece_bytes = 128;  ///< to the next row, and to the next 8 chunks
  char* base;

  __device__ char* at(int row, int chunk) const {
    int const turn = Chunks % 8 == 0 ? ((row << 1) & 6) | ((row >> 2) & 1)
                     : Chunks == 4   ? (row >> 1) & 3
                                     : (row >> 2) & 1;
    return base + row * row_bytes + (chunk ^ turn) * 16;
  }
  /// Value `column` of a row.
  template <class T>
  __device__ T& value(int row, int column) const {
    constexpr int v = vector_size<T>;
    return reinterpret_cast<T*>(at(row, column / v))[column % v];
  }
};

/// Factors and their products. Operands come from tiles whose rows run along the sum ("straight"), or across it.
///
///   depth     summands of one product, `chunks` chunks of a straight row
///   a, b      a lane's part of 16 rows of the left, and of 8 columns of the right operand
///   load...   a from row or column `first` on, b for two neighbouring blocks of columns; of the sum's terms from chunk
///             `chunk` (straight) or row `term` (across) on
template <class P>
struct products;

template <>
struct products<bf16> {
  using value = bfloat16;
  static constexpr int depth = 16, chunks = 2;
  struct a {
    unsigned r[4];
  };
  struct b {
    unsigned r[2];
  };

  template <int C>
  __device__ static void load(a& x, tile<C> const& from, int first, int chunk) {
    int const l = static_cast<int>(threadIdx.x) & 31;
    load_matrices(x.r, from.at(first + (l & 15), chunk + (l >> 4)));
  }
  template <int C>
  __device__ static void load(b (&x)[2], tile<C> const& from, int first, int chunk) {
    int const l = static_cast<int>(threadIdx.x) & 31;
    unsigned r[4];
    load_matrices(r, from.at(first + (l & 7) + ((l >> 4) << 3), chunk + ((l >> 3) & 1)));
    x[0] = {{r[0], r[1]}}, x[1] = {{r[2], r[3]}};
  }
  template <int C>
  __device__ static void load_across(a& x, tile<C> const& from, int first, int term) {
    int const l = static_cast<int>(threadIdx.x) & 31;
    load_matrices_transposed(x.r, from.at(term + (l & 7) + ((l >> 4) << 3), first / 8 + ((l >> 3) & 1)));
  }
  template <int C>
  __device__ static void load_across(b (&x)[2], tile<C> const& from, int first, int term) {
    int const l = static_cast<int>(threadIdx.x) & 31;
    unsigned r[4];
    load_matrices_transposed(r, from.at(term + (l & 15), first / 8 + (l >> 4)));
    x[0] = {{r[0], r[1]}}, x[1] = {{r[2], r[3]}};
  }
  __device__ static void multiply(float (&c)[4], a const& x, b const& y) { multiply_bf16(c, x.r, y.r[0], y.r[1]); }
};

template <>
struct products<tf32> {
  using value = float;
  static constexpr int depth = 8, chunks = 2;
  using a = products<bf16>::a;
  using b = products<bf16>::b;

  template <int C>
  __device__ static void load(a& x, tile<C> const& from, int first, int chunk) {
    products<bf16>::load(x, from, first, chunk);  // 8 rows of 16 bytes are 4 floats of each here
    rounded(x.r);
  }
  template <int C>
  __device__ static void load(b (&x)[2], tile<C> const& from, int first, int chunk) {
    products<bf16>::load(x, from, first, chunk);
    rounded(x[0].r), rounded(x[1].r);
  }
  template <int C>
  __device__ static void load_across(a& x, tile<C> const& from, int first, int term) {
    int const l = static_cast<int>(threadIdx.x) & 31, g = l >> 2, t = l & 3;
#pragma unroll
    for (int k = 0; k < 4; ++k)
      x.r[k] = round_to_tf32(from.template value<float>(term + t + 4 * (k >> 1), first + g + 8 * (k & 1)));
  }
  template <int C>
  __device__ static void load_across(b (&x)[2], tile<C> const& from, int first, int term) {
    int const l = static_cast<int>(threadIdx.x) & 31, g = l >> 2, t = l & 3;
#pragma unroll
    for (int block = 0; block < 2; ++block)
#pragma unroll
      for (int k = 0; k < 2; ++k)
        x[block].r[k] = round_to_tf32(from.template value<float>(term + t + 4 * k, first + g + 8 * block));
  }
  __device__ static void multiply(float (&c)[4], a const& x, b const& y) { multiply_tf32(c, x.r, y.r[0], y.r[1]); }

 private:
  template <int N>
  __device__ static void rounded(unsigned (&r)[N]) {
#pragma unroll
    for (unsigned& x : r) x = round_to_tf32(as_float(x));
  }
};

/// On the ordinary units.
template <>
struct products<fp32> {
  using value = float;
  static constexpr int depth = 4, chunks = 1;
  struct a {
    float r[2][4];  ///< rows l / 4 and l / 4 + 8
  };
  struct b {
    float r[2][4];  ///< columns 2 (l % 4) and the next one
  };

  template <int C>
  __device__ static void load(a& x, tile<C> const& from, int first, int chunk) {
    int const g = (static_cast<int>(threadIdx.x) & 31) >> 2;
    row(x.r[0], from, first + g, chunk), row(x.r[1], from, first + g + 8, chunk);
  }
  template <int C>
  __device__ static void load(b (&x)[2], tile<C> const& from, int first, int chunk) {
    int const t = static_cast<int>(threadIdx.x) & 3;
#pragma unroll
    for (int block = 0; block < 2; ++block)
#pragma unroll
      for (int k = 0; k < 2; ++k) row(x[block].r[k], from, first + 8 * block + 2 * t + k, chunk);
  }
  template <int C>
  __device__ static void load_across(a& x, tile<C> const& from, int first, int term) {
    int const g = (static_cast<int>(threadIdx.x) & 31) >> 2;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int k = 0; k < 4; ++k) x.r[half][k] = from.template value<float>(term + k, first + g + 8 * half);
  }
  template <int C>
  __device__ static void load_across(b (&x)[2], tile<C> const& from, int first, int term) {
    int const t = static_cast<int>(threadIdx.x) & 3;
#pragma unroll
    for (int block = 0; block < 2; ++block)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int k = 0; k < 4; ++k)
          x[block].r[half][k] = from.template value<float>(term + k, first + 8 * block + 2 * t + half);
  }
  __device__ static void multiply(float (&c)[4], a const& x, b const& y) {
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int s = 0; s < 4; ++s) c[s] = fmaf(x.r[s >> 1][k], y.r[s & 1][k], c[s]);
  }

 private:
  template <int C>
  __device__ static void row(float (&to)[4], tile<C> const& from, int r, int chunk) {
    values<float, 4> v;
    v.load(reinterpret_cast<float const*>(from.at(r, chunk)));
#pragma unroll
    for (int k = 0; k < 4; ++k) to[k] = v.v[k];
  }
};

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
