/// @file  include/l3/kernels/cuda/warpgroup_rows.cuh: does this GPU read operands that begin in the midst of a pattern
/// as warpgroups.cuh says? PTX leaves it open, and the kernels whose taps all read the same rows rest on it: so the GPU
/// is asked, once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <l3/core/bfloat16.hpp>
#include <l3/kernels/cuda/warpgroups.cuh>
#include <type_traits>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// The rows of the operands below, and of the products of either kind the columns.
inline constexpr std::size_t left_rows = 64, right_rows = 272;
template <bool Across>
inline constexpr std::size_t product_columns = Across ? 192 : 256;  // as many as the kernels have

/// c (64, 256) = a (64, 64) b^T, of whose 272 rows of 64 it takes those from `first` on. Across, c (64, 192) = a^T b,
/// three times beside each other, with the rows from `first` on, from first + 1 on and from first + 2 on. The sum of
/// these for all `first` in [begin, end); `more` is added to the right operand's descriptor. Of one warpgroup.
template <bool Across>
__global__ __launch_bounds__(128) void products_of_rows(int begin, int end, std::uint64_t more, bfloat16 const* a,
                                                        bfloat16 const* b, float* c) {
  if constexpr (warpgroup_code) {
    constexpr int columns = static_cast<int>(product_columns<Across>);
    int const thread = static_cast<int>(threadIdx.x), lane = thread & 31;
    swizzled_tile<left_rows> const left{swizzled_memory()};
    swizzled_tile<right_rows> const right{left.base + left_rows * 128};
    for (int k = thread; k < static_cast<int>(left_rows + right_rows) * 8; k += 128) {
      int const row = k / 8, chunk = k % 8, down = row - static_cast<int>(left_rows);
      copy_async(down < 0 ? left.at(row, chunk) : right.at(down, chunk),
                 down < 0 ? a + k * 8 : b + (down * 8 + chunk) * 8, true);
    }
    commit_copies();
    wait_copies<0>();
    show_to_groups();
    __syncthreads();
    float sums[1][columns / 8][4] = {};
    for (int first = begin; first < end; ++first) {
      hold(sums);
      begin_group_products();
      for (int at = 0; at < 8; at += 2) {
        if constexpr (Across)
          multiply_groups<true>(sums[0], left.across(0, at * 8), right.shifted(first + at * 8) + more);
        else
          multiply_groups<false>(sums[0], left.straight(0, at), right.straight(first, at) + more);
      }
      commit_group_products();
      wait_group_products<0>();
      hold(sums);
    }
    for (int n = 0; n < columns / 8; ++n)
      for (int k = 0; k < 4; ++k)
        c[(thread / 32 * 16 + lane / 4 + k / 2 * 8) * columns + 8 * n + lane % 4 * 2 + k % 2] = sums[0][n][k];
  }
}
template <bool Across>
void launch_products_of_rows(cudaStream_t in, int begin, int end, std::uint64_t more, bfloat16 const* a,
                             bfloat16 const* b, float* c) {
  launch(in, products_of_rows<Across>, dim3(1), 128, (left_rows + right_rows) * 128 + swizzle_bytes, begin, end, more,
         a, b, c);
}
/// A value of what that should be, for one `first`.
template <bool Across>
double product_of_rows(std::size_t first, bfloat16 const* a, bfloat16 const* b, std::size_t i, std::size_t j) {
  double sum = 0;
  for (std::size_t k = 0; k != 64; ++k)
    sum += Across ? float(a[k * 64 + i]) * float(b[(k + first + j / 64) * 64 + j % 64])
                  : float(a[i * 64 + k]) * float(b[(j + first) * 64 + k]);
  return sum;
}

/// Whether it does, from each of a pattern's rows. May be called while the work of another stream is recorded.
inline bool reads_rows_anywhere() {
  constexpr std::size_t as = left_rows * 64, bs = right_rows * 64;
  constexpr std::size_t straight = left_rows * product_columns<false>, across = left_rows * product_columns<true>;
  pinned_block const memory((straight + across) * sizeof(float) + (as + bs) * sizeof(bfloat16));
  auto* const c = reinterpret_cast<float*>(memory.data());
  auto* const a = reinterpret_cast<bfloat16*>(c + straight + across);
  // Integers, of whose products and sums nothing is rounded.
  for (std::size_t k = 0; k != as + bs; ++k)
    a[k] = bfloat16(static_cast<float>(static_cast<int>((k * 2654435761u >> 13) % 5) - 2));
  bfloat16 const* const b = a + as;
  gpu_stream const in;
  constexpr int begin = 1, end = 8;
  launch_products_of_rows<false>(in, begin, end, 0, a, b, c);
  launch_products_of_rows<true>(in, begin, end, 0, a, b, c + straight);
  in.wait();
  auto const agrees = [&]<bool Across>(std::bool_constant<Across>, float const* found) {
    for (std::size_t i = 0; i != left_rows; ++i)
      for (std::size_t j = 0; j != product_columns<Across>; ++j) {
        double sum = 0;
        for (std::size_t first = begin; first != end; ++first) sum += product_of_rows<Across>(first, a, b, i, j);
        if (double(found[i * product_columns<Across> + j]) != sum) return false;
      }
    return true;
  };
  return agrees(std::false_type{}, c) && agrees(std::true_type{}, c + straight);
}

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
