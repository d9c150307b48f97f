/// @file  include/l3/kernels/cuda/conv_weight_gradient.cuh: a convolution's weight gradient as a product of matrices,
/// on the matrix units of a GPU.
///
/// Rows are output channels, columns are the terms of conv2d.cuh's sums (so that the taps of a block of channels, which
/// read the same pixels, are neighbours), and all pixels lie along the sum. The sum is cut into parts, so that there is
/// work for every multiprocessor; how many, the sizes and the number of multiprocessors decide. Each part writes its
/// own sums, and a second kernel adds them up in order. Where there are whole blocks of channels, parts are made on a
/// Hopper GPU as conv_weight_direct.cuh says.
#pragma once
#include <algorithm>
#include <l3/core/memory.hpp>
#include <l3/kernels/cuda/conv2d.cuh>
#include <l3/kernels/cuda/conv_weight_direct.cuh>
#include <l3/kernels/cuda/neighbours.cuh>
#include <l3/kernels/cuda/products.cuh>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// A block's tile: warps along rows and columns, and each one's blocks of 16 rows and of 8 columns.
template <int WarpRows, int WarpColumns, int RowBlocks, int ColumnBlocks>
struct gradient_tile {
  static_assert(WarpRows * WarpColumns == 8);
  static constexpr bool by_groups = false;
  static constexpr int warp_rows = WarpRows, row_blocks = RowBlocks, column_blocks = ColumnBlocks;
  static constexpr int rows = WarpRows * RowBlocks * 16, columns = WarpColumns * ColumnBlocks * 8;
  static constexpr int stages = 3, pending = 0, blocks = 2;
};
using large_gradient_tile = gradient_tile<2, 4, 4, 4>;   // 128 x 128
using medium_gradient_tile = gradient_tile<2, 4, 2, 6>;  // 64 x 192: three taps of 64 channels
using small_gradient_tile = gradient_tile<4, 2, 1, 2>;   // 64 x 32

/// The same for two warpgroups of 64 rows and all columns each: one above the other or, with `RowGroups` = 1, both of
/// the same place, with half of each step's pixels. The rest is as conv_group_tile says.
template <int RowGroups, int Columns, int Stages, int Pending, int Blocks>
struct gradient_group_tile {
  static constexpr bool by_groups = true;
  static constexpr int depth_groups = 2 / RowGroups;
  static constexpr int warp_rows = 4 * RowGroups, row_blocks = 1, column_blocks = Columns / 8;
  static constexpr int rows = 64 * RowGroups, columns = Columns;
  static constexpr int stages = Stages, pending = Pending, blocks = Blocks;
};
using large_gradient_group_tile = gradient_group_tile<2, 256, 4, 1, 1>;   // 128 x 256
using medium_gradient_group_tile = gradient_group_tile<2, 128, 3, 0, 2>;  // 128 x 128
using small_gradient_group_tile = gradient_group_tile<1, 192, 3, 0, 2>;   // 64 x 192: three taps of 64 channels

/// Pixels copied at a time.
template <class T>
inline constexpr int gradient_step = sizeof(T) == 2 ? 64 : 32;

/// Which operands are copied in whole vectors: the output's gradient, the input.
template <bool Left, bool Right>
struct gradient_copies {
  static constexpr bool left = Left, right = Right;
};

/// Calls f with the tile and the ways of copying for these sizes, multiplied by warpgroups or by warps.
template <class P, class F>
constexpr auto with_gradient_tile(bool groups, conv_dims const& d, F&& f) {
  bool const left = conv_in_vectors<P>(d.out), right = conv_in_vectors<P>(d.in);
  if constexpr (std::is_same_v<P, bf16>)
    if (groups && left && right && d.out > 32 && d.in > 16) {
      if (d.out > 64 && 9 * d.in % large_gradient_group_tile::columns == 0)
        return f(large_gradient_group_tile{}, gradient_copies<true, true>{});
      if (d.out > 64) return f(medium_gradient_group_tile{}, gradient_copies<true, true>{});
      return f(small_gradient_group_tile{}, gradient_copies<true, true>{});
    }
  if constexpr (!std::is_same_v<P, fp32>) {
    if (left && right && d.out > 64) return f(large_gradient_tile{}, gradient_copies<true, true>{});
    if (left && right && d.out > 32 && d.in > 16) return f(medium_gradient_tile{}, gradient_copies<true, true>{});
  }
  if (left && right) return f(small_gradient_tile{}, gradient_copies<true, true>{});
  if (left) return f(small_gradient_tile{}, gradient_copies<true, false>{});
  return f(small_gradient_tile{}, gradient_copies<false, false>{});
}

template <class Tile>
constexpr std::size_t gradient_tiles(conv_dims const& d, Tile) {
  return ((d.out + Tile::rows - 1) / Tile::rows) * ((9 * d.in + Tile::columns - 1) / Tile::columns);
}
/// Parts that the pixels may be cut into: so many that a large GPU's multiprocessors have work for four times.
template <class P>
constexpr std::size_t most_gradient_parts(bool groups, conv_dims const& d) {
  constexpr std::size_t multiprocessors = 132;
  return with_gradient_tile<P>(groups, d, [&](auto tile, auto) {
    return std::max<std::size_t>(1, 4 * multiprocessors * tile.blocks / gradient_tiles(d, tile));
  });
}
/// Parts that `steps` are best cut into.
template <class P>
std::size_t gradient_parts(bool groups, conv_dims const& d, std::size_t steps, std::size_t multiprocessors) {
  std::size_t const most = std::clamp<std::size_t>(steps / 8, 1, most_gradient_parts<P>(groups, d));
  return with_gradient_tile<P>(groups, d, [&](auto tile, auto) {
    return best_parts(steps, most, gradient_tiles(d, tile), multiprocessors * tile.blocks, 16);
  });
}
/// Room for the parts, whoever multiplies.
template <class P>
constexpr footprint conv_gradient_room(conv_dims const& d) {
  std::size_t const direct = conv_can_be_direct<P>(d.in, d.out) ? most_weight_parts(d) : 0;
  std::size_t const most = std::max({most_gradient_parts<P>(false, d), most_gradient_parts<P>(true, d), direct});
  return fixed<float>(most * d.out * 9 * d.in);
}

/// Channels whose taps stand beside each other.
inline constexpr unsigned gradient_block = 64;

template <class T>
struct gradient_job {
  T const* x = nullptr;
  T const* dy = nullptr;
  float* parts = nullptr;  ///< (parts, out, 9 in)
  int height = 0, width = 0, in = 0, out = 0;
  unsigned pixels = 0, part_steps = 0;
  divider by_width{}, by_height{}, by_in{};
};

template <class P, class Tile, class Copies>
__device__ __forceinline__ void convolve_gradient_tile(gradient_job<value_of<cuda<P>>> const& job) {
  using T = value_of<cuda<P>>;
  using product = products<P>;
  constexpr int v = vector_size<T>, step = gradient_step<T>, stages = Tile::stages, ahead = stages - 1 - Tile::pending;
  constexpr int left_chunks = Tile::rows / v, right_chunks = Tile::columns / v;
  constexpr int stage_bytes = step * (left_chunks + right_chunks) * 16;
  using left_tile = conv_pieces<Tile::by_groups, step, left_chunks>;
  using right_tile = conv_pieces<Tile::by_groups, step, right_chunks>;
  char* const shared = conv_memory<Tile>();
  int const thread = static_cast<int>(threadIdx.x), warp = thread >> 5;
  int const warp_row = warp % Tile::warp_rows * Tile::row_blocks * 16;
  int const warp_column = Tile::by_groups ? 0 : warp / Tile::warp_rows * Tile::column_blocks * 8;
  int const first_row = static_cast<int>(blockIdx.y) * Tile::rows;
  int const first_column = static_cast<int>(blockIdx.x) * Tile::columns;
  unsigned const first_pixel = blockIdx.z * job.part_steps * step;
  unsigned const steps_left = first_pixel < job.pixels ? (job.pixels - first_pixel + step - 1) / step : 0;
  int const steps = static_cast<int>(steps_left < job.part_steps ? steps_left : job.part_steps);

  // A thread copies the same chunks of every row that it copies of.
  constexpr int left_lanes = left_chunks < 8 ? left_chunks : 8, right_lanes = right_chunks < 8 ? right_chunks : 8;
  constexpr int my_right = right_chunks / right_lanes;
  int offset[my_right];       // of each chunk's columns, from the pixel's own first channel
  unsigned within[my_right];  // their tap as a bit; none beyond the last column
#pragma unroll
  for (int c = 0; c < my_right; ++c) {
    int const column = first_column + (thread % right_lanes + c * right_lanes) * v;
    auto const at = place_of_term(static_cast<unsigned>(column), static_cast<unsigned>(job.in), gradient_block);
    auto const tap = static_cast<int>(at.tap);
    offset[c] = ((tap / 3 - 1) * job.width + tap % 3 - 1) * job.in + static_cast<int>(at.channel);
    within[c] = tap < 9 ? 1u << tap : 0;
  }
  auto const copy = [&](int number) {
    char* const stage = shared + (number % stages) * stage_bytes;
    left_tile const left{stage};
    right_tile const right{stage + step * left_chunks * 16};
    // Rows a multiple of 8 apart have their chunks in the same order.
    static_assert(256 / left_lanes % 8 == 0 && 256 / right_lanes % 8 == 0);
    char* const left_begin = left.at(thread / left_lanes, thread % left_lanes);
    char* const right_begin = right.at(thread / right_lanes, thread % right_lanes);
    unsigned const begin = first_pixel + static_cast<unsigned>(number * step);
#pragma unroll
    for (int pass = 0; pass < (step * left_lanes + 255) / 256; ++pass) {
      int const row = thread / left_lanes + pass * (256 / left_lanes);
      if (step * left_lanes % 256 != 0 && row >= step) continue;
      unsigned const p = begin + static_cast<unsigned>(row);
#pragma unroll
      for (int c = 0; c < left_chunks / left_lanes; ++c) {
        int const chunk = thread % left_lanes + c * left_lanes, o = first_row + chunk * v;
        T const* const from = job.dy + (std::size_t{p} * job.out + o);
        if constexpr (Copies::left) {
          copy_async(left_begin + pass * (256 / left_lanes) * left_tile::row_bytes + c * left_tile::piece_bytes, from,
                     p < job.pixels && o < job.out);
        } else {
          values<T, v> vector;
#pragma unroll
          for (int e = 0; e < v; ++e) vector.v[e] = p < job.pixels && o + e < job.out ? to_float(from[e]) : 0.0f;
          vector.store(reinterpret_cast<T*>(left.at(row, chunk)));
        }
      }
    }
#pragma unroll
    for (int pass = 0; pass < (step * right_lanes + 255) / 256; ++pass) {
      int const row = thread / right_lanes + pass * (256 / right_lanes);
      if (step * right_lanes % 256 != 0 && row >= step) continue;
      unsigned const p = begin + static_cast<unsigned>(row);
      unsigned const inside = p < job.pixels ? neighbours_inside(job, p) : 0;
#pragma unroll
      for (int c = 0; c < my_right; ++c) {
        int const chunk = thread % right_lanes + c * right_lanes;
        if constexpr (Copies::right) {
          T const* const from = job.x + (static_cast<std::ptrdiff_t>(p) * job.in + offset[c]);
          copy_async_kept(
              right_begin + pass * (256 / right_lanes) * right_tile::row_bytes + c * right_tile::piece_bytes, from,
              (inside & within[c]) != 0);
        } else {
          values<T, v> vector;
#pragma unroll
          for (int e = 0; e < v; ++e) {
            int const column = first_column + chunk * v + e;
            auto const tap = static_cast<int>(job.by_in.quotient(static_cast<unsigned>(column)));
            int const shift = (tap / 3 - 1) * job.width + tap % 3 - 1;
            bool const valid = tap < 9 && ((inside >> tap) & 1) != 0;
            vector.v[e] =
                valid ? to_float(job.x[(static_cast<std::ptrdiff_t>(p) + shift) * job.in + (column - tap * job.in)])
                      : 0.0f;
          }
          vector.store(reinterpret_cast<T*>(right.at(row, chunk)));
        }
      }
    }
  };

  float sums[Tile::row_blocks][Tile::column_blocks][4] = {};
#pragma unroll
  for (int number = 0; number < ahead; ++number) {
    if (number < steps) copy(number);
    commit_copies();
  }
  if constexpr (Tile::by_groups) hold(sums);
  for (int number = 0; number < steps; ++number) {
    wait_copies<ahead - 1>();
    if constexpr (Tile::by_groups) show_to_groups();
    __syncthreads();
    auto const copy_ahead = [&] {
      if (number + ahead < steps) copy(number + ahead);
      commit_copies();
    };
    char* const stage = shared + (number % stages) * stage_bytes;
    left_tile const left{stage};
    right_tile const right{stage + step * left_chunks * 16};
    if constexpr (Tile::by_groups) {
      constexpr int mine = step / Tile::depth_groups;
      int const group = __shfl_sync(0xFFFFFFFFu, warp / 4, 0);  // so that the compiler knows that lanes agree
      int const first_term = Tile::depth_groups == 1 ? 0 : group * mine;
      begin_group_products();
#pragma unroll
      for (int term = 0; term < mine; term += product::depth)
        multiply_groups<true>(sums[0], left.across(Tile::depth_groups == 1 ? group * 64 : 0, first_term + term),
                              right.across(0, first_term + term));
      commit_group_products();
      copy_ahead();
      wait_group_products<Tile::pending>();  // as in convolve_tile
    } else {
      copy_ahead();
#pragma unroll
      for (int term = 0; term < step; term += product::depth) {
        typename product::a a[Tile::row_blocks];
#pragma unroll
        for (int r = 0; r < Tile::row_blocks; ++r) product::load_across(a[r], left, warp_row + 16 * r, term);
#pragma unroll
        for (int pair = 0; pair < Tile::column_blocks / 2; ++pair) {
          typename product::b b[2];
          product::load_across(b, right, warp_column + 16 * pair, term);
#pragma unroll
          for (int r = 0; r < Tile::row_blocks; ++r)
#pragma unroll
            for (int half = 0; half < 2; ++half) product::multiply(sums[r][2 * pair + half], a[r], b[half]);
        }
      }
    }
  }
  wait_copies<0>();
  if constexpr (Tile::by_groups) {
    wait_group_products<0>();
    hold(sums);
    if constexpr (Tile::depth_groups == 2) {  // the first warpgroup adds what the second one has
      auto* const other = reinterpret_cast<float*>(shared) + thread % 128;
      __syncthreads();
#pragma unroll
      for (int n = 0; n < Tile::column_blocks; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k)
          if (thread >= 128) other[(4 * n + k) * 128] = sums[0][n][k];
      __syncthreads();
      if (thread >= 128) return;
#pragma unroll
      for (int n = 0; n < Tile::column_blocks; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[0][n][k] += other[(4 * n + k) * 128];
    }
  }

  int const lane = thread & 31, g = lane >> 2, t = lane & 3, columns = 9 * job.in;
#pragma unroll
  for (int r = 0; r < Tile::row_blocks; ++r)
#pragma unroll
    for (int n = 0; n < Tile::column_blocks; ++n)
#pragma unroll
      for (int k = 0; k < 4; k += 2) {
        int const o = first_row + warp_row + 16 * r + g + 8 * (k / 2);
        int const column = first_column + warp_column + 8 * n + 2 * t;
        if (o >= job.out || column >= columns) continue;
        float* const to = job.parts + (std::size_t{blockIdx.z} * job.out + o) * columns + column;
        if constexpr (Copies::right) {  // then there is an even number of columns
          store_pair(to, sums[r][n][k], sums[r][n][k + 1]);
        } else {
          to[0] = sums[r][n][k];
          if (column + 1 < columns) to[1] = sums[r][n][k + 1];
        }
      }
}

/// (Empty in code that cannot do it, and not run there.)
template <class P, class Tile, class Copies>
__global__ __launch_bounds__(256, std::is_same_v<P, bf16>
                                      ? Tile::blocks
                                      : 1) void convolve_gradient(gradient_job<value_of<cuda<P>>> const job) {
  if constexpr (!Tile::by_groups || warpgroup_code) convolve_gradient_tile<P, Tile, Copies>(job);
}

/// dw (out, in, 3, 3) from the parts (parts, out, 9 in).
template <class = void>
__global__ void add_gradient_parts(float const* parts, unsigned count, unsigned out, unsigned in, float* dw) {
  unsigned const at = blockIdx.x * blockDim.x + threadIdx.x, size = out * 9 * in;
  if (at >= size) return;
  float sum = 0;
#pragma unroll 8  // (that many are on their way at once)
  for (unsigned part = 0; part < count; ++part) sum += parts[std::size_t{part} * size + at];
  auto const [tap, c] = place_of_term(at % (9 * in), in, gradient_block);
  dw[(std::size_t{at / (9 * in)} * in + c) * 9 + tap] = sum;
}

/// Writes the parts of dw, and returns how many there are.
template <class P>
std::size_t run_gradient(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x,
                         value_of<cuda<P>> const* dy, float* to) {
  using T = value_of<cuda<P>>;
  if constexpr (std::is_same_v<P, bf16>)
    if (conv_can_be_direct<P>(d.in, d.out) && on.direct(reads_rows_anywhere))
      return run_weights_direct(on, d, x, dy, to);
  constexpr std::size_t step = gradient_step<T>;
  std::size_t const steps = (d.rows() + step - 1) / step;
  std::size_t const wanted =
      gradient_parts<P>(on.warpgroups(), d, steps, static_cast<std::size_t>(on.gpu().multiprocessors));
  std::size_t const part_steps = (steps + wanted - 1) / wanted, parts = (steps + part_steps - 1) / part_steps;
  gradient_job<T> const job{.x = x,
                            .dy = dy,
                            .parts = to,
                            .height = static_cast<int>(d.height),
                            .width = static_cast<int>(d.width),
                            .in = static_cast<int>(d.in),
                            .out = static_cast<int>(d.out),
                            .pixels = narrow(d.rows()),
                            .part_steps = narrow(part_steps),
                            .by_width = divider(d.width),
                            .by_height = divider(d.height),
                            .by_in = divider(d.in)};
  return with_gradient_tile<P>(on.warpgroups(), d, [&]<class Tile, class Copies>(Tile, Copies) {
    dim3 const grid(blocks_for(9 * d.in, Tile::columns), blocks_for(d.out, Tile::rows), narrow(parts));
    constexpr std::size_t shared =
        Tile::stages * step * (Tile::rows + Tile::columns) * sizeof(T) + (Tile::by_groups ? swizzle_bytes : 0);
    launch(on.stream(), convolve_gradient<P, Tile, Copies>, grid, 256, shared, job);
    return parts;
  });
}

}  // namespace detail::gpu

template <class P>
void conv2d_backward_weights(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x,
                             value_of<cuda<P>> const* dy, float* dw, std::byte* scratch) {
  auto* const parts = reinterpret_cast<float*>(scratch);
  std::size_t const count = detail::gpu::run_gradient(on, d, x, dy, parts);
  detail::gpu::launch(on.stream(), detail::gpu::add_gradient_parts<>,
                      dim3(detail::gpu::blocks_for(d.out * 9 * d.in, 256)), 256, 0, parts, detail::gpu::narrow(count),
                      detail::gpu::narrow(d.out), detail::gpu::narrow(d.in), dw);
}

}  // namespace l3::inline L3_ISA
