/// @file  include/l3/kernels/cuda/conv2d.cuh: convolution forward and its data gradient as products of matrices, on the
/// matrix units of a GPU.
///
/// Rows of the left matrix are pixels, and their 3 x 3 neighbourhood in all channels lies along the sum: 9 in terms,
/// tap by tap. It is never made: a block copies the pieces it is about to multiply to shared memory, a few steps ahead,
/// where a border's are zeros. Rows of the right matrix are output channels, packed so beforehand. The data gradient is
/// the same with the output's gradient for input and the weights turned around.
#pragma once
#include <algorithm>
#include <l3/core/memory.hpp>
#include <l3/kernels/cuda/conv_direct.cuh>
#include <l3/kernels/cuda/conv_thin.cuh>
#include <l3/kernels/cuda/neighbours.cuh>
#include <l3/kernels/cuda/products.cuh>
#include <l3/kernels/cuda/row_sums.cuh>
#include <l3/kernels/cuda/warpgroups.cuh>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// A block's tile: 8 warps, 4 x 2, of so many blocks of 16 rows and 8 columns each, and how many steps of the sum have
/// room beside each other. Two blocks fit on a multiprocessor of a Hopper GPU; one on every GPU from Ampere on.
template <int RowBlocks, int ColumnBlocks, int Stages>
struct conv_tile {
  static constexpr bool by_groups = false;
  static constexpr int row_warps = 4, row_blocks = RowBlocks, column_blocks = ColumnBlocks;
  static constexpr int warp_step = 16 * RowBlocks, block_step = 16;  ///< rows to the next warp, and to its next block
  static constexpr int rows = 64 * RowBlocks, columns = 16 * ColumnBlocks;
  static constexpr int stages = Stages, pending = 0, blocks = 2;
};
using wide_conv_tile = conv_tile<2, 8, 3>;    // 128 x 128
using middle_conv_tile = conv_tile<4, 4, 2>;  // 256 x 64
using narrow_conv_tile = conv_tile<4, 2, 2>;  // 256 x 32
inline constexpr int conv_threads = 256;

/// The same for two warpgroups, which have all columns of 64 rows each, and of as many again in every further block of
/// rows. The products of so many steps may be `pending` while the next ones are begun, and so many blocks are to fit on
/// a multiprocessor: where there is but one, nobody else's products fill the time around a barrier.
template <int RowBlocks, int Columns, int Stages, int Pending, int Blocks>
struct conv_group_tile {
  static constexpr bool by_groups = true;
  static constexpr int row_warps = 8, row_blocks = RowBlocks, column_blocks = Columns / 8;
  static constexpr int warp_step = 16, block_step = 128;
  static constexpr int rows = 128 * RowBlocks, columns = Columns;
  static constexpr int stages = Stages, pending = Pending, blocks = Blocks;
};
using wide_conv_group_tile = conv_group_tile<1, 256, 4, 1, 1>;    // 128 x 256
using middle_conv_group_tile = conv_group_tile<1, 128, 3, 0, 2>;  // 128 x 128
using narrow_conv_group_tile = conv_group_tile<2, 64, 2, 0, 2>;   // 256 x 64

/// Calls f with the tile for so many output channels, multiplied by warpgroups or by warps. The ordinary units have no
/// registers for more than the least.
template <class P, class F>
constexpr auto with_conv_tile(bool groups, std::size_t in, std::size_t out, F&& f) {
  if constexpr (std::is_same_v<P, bf16>)
    if (groups && out > 32 && in % vector_size<value_of<cuda<P>>> == 0) {
      if (out % wide_conv_group_tile::columns == 0) return f(wide_conv_group_tile{});
      if (out > narrow_conv_group_tile::columns) return f(middle_conv_group_tile{});
      return f(narrow_conv_group_tile{});
    }
  if constexpr (!std::is_same_v<P, fp32>) {
    if (out > 64 && in % vector_size<value_of<cuda<P>>> == 0) return f(wide_conv_tile{});
    if (out > 32) return f(middle_conv_tile{});
  }
  return f(narrow_conv_tile{});
}
/// Rows of its tiles.
template <class P>
constexpr std::size_t conv_rows(bool groups, std::size_t in, std::size_t out) {
  return with_conv_tile<P>(groups, in, out, [](auto tile) { return static_cast<std::size_t>(tile.rows); });
}

/// Room for the sums of all tiles, whoever multiplies.
template <class P>
constexpr footprint conv_sums_room(conv_dims const& d) {
  std::size_t const rows = std::min(conv_rows<P>(false, d.in, d.out), conv_rows<P>(true, d.in, d.out));
  footprint const room = sums_room(2, d.height * d.width, d.out, rows);
  if (!conv_is_direct<P>(d.in, d.out)) return room;
  // Its rows are of all items together, and so not more than these.
  std::size_t const direct = direct_sum_rows({1, d.height, d.width, d.in, d.out});
  return either(room, sums_room(2, direct, d.out, 1));
}

/// Channels that whole vectors hold are copied so; of others, as the first layers have, one value at a time, and fewer
/// of them at a time.
template <class P>
constexpr bool conv_in_vectors(std::size_t in) {
  return in % vector_size<value_of<cuda<P>>> == 0;
}
template <bool Vector>
inline constexpr int conv_chunks = Vector ? 8 : 4;

/// Where in a sum of 9 x `channels` terms number `term` stands: all taps of one block of channels come before those of
/// the next, where the channels are whole blocks, so that what a tap reads of a picture is still in the first cache
/// when its neighbour in the row wants it. A tap of 9 or more is none.
struct term_place {
  unsigned tap, channel;
};
L3_HOST_DEVICE inline term_place place_of_term(unsigned term, unsigned channels, unsigned block) {
  if (channels % block != 0) return {term / channels, term % channels};
  unsigned const line = term / block;
  return {channels * 9 <= term ? 9 : line % 9, line / 9 * block + term % block};
}

/// Terms of a sum, with zeros behind them to make whole steps.
template <class P>
constexpr std::size_t conv_terms(std::size_t in) {
  constexpr std::size_t v = vector_size<value_of<cuda<P>>>;
  return round_up(9 * in, v * (conv_in_vectors<P>(in) ? conv_chunks<true> : conv_chunks<false>));
}
template <class P>
constexpr footprint conv_weights(std::size_t in, std::size_t out) {
  return fixed<value_of<cuda<P>>>(out * conv_terms<P>(in));
}

/// Weights (out, in, 3, 3) as rows of conv_terms; `turned`, as the data gradient needs them, a row is an input channel
/// and the taps run backwards.
template <class T>
__global__ void pack_weights(float const* w, float const* scale, T* to, unsigned rows, unsigned channels,
                             unsigned terms, bool turned) {
  unsigned const at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= rows * terms) return;
  unsigned const row = at / terms;
  auto const [tap, c] = place_of_term(at % terms, channels, vector_size<T> * conv_chunks<true>);
  float value = 0;
  if (tap < 9) {
    unsigned const o = turned ? c : row, i = turned ? row : c, in = turned ? rows : channels;
    value = w[(std::size_t{o} * in + i) * 9 + (turned ? 8 - tap : tap)];
    if (scale != nullptr) value *= scale[o];
  }
  to[at] = T(value);
}

template <class T>
struct conv_job {
  T const* x = nullptr;
  T const* w = nullptr;
  T* y = nullptr;
  float const* shift = nullptr;  ///< bias, or what folded batch norm leaves; may be null
  double* sums = nullptr;        ///< null, or where the sums of each tile's rows go, and those of their squares
  bool relu = false;
  bool pool = false;  ///< 2 x 2; rows are then the pixels of one window after the other
  int height = 0, width = 0, in = 0, out = 0, terms = 0;
  unsigned rows = 0;                ///< pixels, or four times the windows
  divider by_width{}, by_height{};  ///< of pictures, or of their windows
  divider by_in{};
  unsigned column_tiles = 0;
};

/// The pixel that row `m` of the left matrix is about, and which of its neighbours are inside the picture.
template <class T>
__device__ inline void locate(conv_job<T> const& job, unsigned m, unsigned& pixel, unsigned& inside) {
  pixel = 0, inside = 0;
  if (m >= job.rows) return;
  unsigned const cell = job.pool ? m >> 2 : m;
  unsigned const line = job.by_width.quotient(cell), item = job.by_height.quotient(line);
  int j = static_cast<int>(cell - line * job.by_width.by), i = static_cast<int>(line - item * job.by_height.by);
  if (job.pool) i = 2 * i + static_cast<int>((m >> 1) & 1), j = 2 * j + static_cast<int>(m & 1);
  pixel = (item * static_cast<unsigned>(job.height) + static_cast<unsigned>(i)) * static_cast<unsigned>(job.width) +
          static_cast<unsigned>(j);
  inside = inside_bits(i, j, job.height, job.width);
}

/// How a tile's operands lie in shared memory.
template <bool Groups, int Rows, int Chunks>
using conv_pieces = std::conditional_t<Groups, swizzled_tile<Rows>, tile<Chunks>>;
template <class Tile>
__device__ inline char* conv_memory() {
  if constexpr (Tile::by_groups)
    return swizzled_memory();
  else
    return shared_memory<char>();
}

template <class P, class Tile, bool Vector>
__device__ __forceinline__ void convolve_tile(conv_job<value_of<cuda<P>>> const& job) {
  using T = value_of<cuda<P>>;
  using product = products<P>;
  constexpr int chunks = conv_chunks<Vector>, v = vector_size<T>, stages = Tile::stages;
  constexpr int RowBlocks = Tile::row_blocks, Blocks = Tile::column_blocks, columns = Tile::columns;
  constexpr int stage_bytes = (Tile::rows + columns) * 16 * chunks;
  constexpr int rows_apart = conv_threads / chunks, my_rows = Tile::rows / rows_apart;
  static_assert(rows_apart % 8 == 0);
  constexpr int ahead = stages - 1 - Tile::pending;
  using left_tile = conv_pieces<Tile::by_groups, Tile::rows, chunks>;
  using right_tile = conv_pieces<Tile::by_groups, columns, chunks>;
  char* const shared = conv_memory<Tile>();
  int const thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  int const group = __shfl_sync(0xFFFFFFFFu, warp / 4, 0);  // so that the compiler knows that lanes agree
  int const warp_row = (warp & (Tile::row_warps - 1)) * Tile::warp_step;
  int const warp_column = warp / Tile::row_warps * 8 * Blocks;
  unsigned const row_block = blockIdx.x / job.column_tiles;
  unsigned const first_row = row_block * Tile::rows;
  int const first_column = static_cast<int>(blockIdx.x - row_block * job.column_tiles) * columns;

  int const chunk = thread % chunks;
  unsigned pixel[my_rows], inside[my_rows];
#pragma unroll
  for (int k = 0; k < my_rows; ++k)
    locate(job, first_row + static_cast<unsigned>(thread / chunks + k * rows_apart), pixel[k], inside[k]);

  // Where in the sum this thread's next chunk lies: tap, and channel in it.
  int tap = 0, channel = chunk * v;
  bool const by_blocks = job.in % (chunks * v) == 0;  // a step is a tap of a block: see place_of_term
  while (Vector && channel >= job.in) channel -= job.in, ++tap;
  int const steps = job.terms / (chunks * v);
  auto const copy = [&](int step) {
    char* const stage = shared + (step % stages) * stage_bytes;
    left_tile const left{stage};
    right_tile const right{stage + Tile::rows * 16 * chunks};
    if constexpr (Vector) {
      int const offset = ((tap / 3 - 1) * job.width + tap % 3 - 1) * job.in + channel;
#pragma unroll
      for (int k = 0; k < my_rows; ++k) {
        bool const valid = ((inside[k] >> tap) & 1) != 0;  // of a tenth tap none is
        T const* const from = job.x + (static_cast<std::ptrdiff_t>(pixel[k]) * job.in + offset);
        // Other taps want it too. (Rows a multiple of 8 apart have their chunks in the same order.)
        copy_async_kept(left.at(thread / chunks, chunk) + k * rows_apart * left_tile::row_bytes, from, valid);
      }
      if (by_blocks) {
        if (++tap == 9) tap = 0, channel += chunks * v;
      } else {
        channel += chunks * v;
        while (channel >= job.in) channel -= job.in, ++tap;
      }
    } else {
#pragma unroll
      for (int k = 0; k < my_rows; ++k) {
        values<T, v> vector;
#pragma unroll
        for (int e = 0; e < v; ++e) {
          auto const term = static_cast<unsigned>((step * chunks + chunk) * v + e), t = job.by_in.quotient(term);
          bool const valid = t < 9 && ((inside[k] >> t) & 1) != 0;
          int const shift = (static_cast<int>(t) / 3 - 1) * job.width + static_cast<int>(t) % 3 - 1;
          vector.v[e] = valid ? to_float(job.x[(static_cast<std::ptrdiff_t>(pixel[k]) + shift) * job.in +
                                               static_cast<int>(term - t * job.by_in.by)])
                              : 0.0f;
        }
        vector.store(reinterpret_cast<T*>(left.at(thread / chunks + k * rows_apart, chunk)));
      }
    }
#pragma unroll
    for (int k = 0; k < (columns + rows_apart - 1) / rows_apart; ++k) {
      int const row = thread / chunks + k * rows_apart;
      if (columns % rows_apart != 0 && row >= columns) continue;
      bool const valid = first_column + row < job.out;
      T const* const from =
          job.w + (static_cast<std::ptrdiff_t>(first_column + row) * job.terms + (step * chunks + chunk) * v);
      copy_async(right.at(thread / chunks, chunk) + k * rows_apart * right_tile::row_bytes, from, valid);
    }
  };

  float sums[RowBlocks][Blocks][4] = {};
#pragma unroll
  for (int step = 0; step < ahead; ++step) {
    if (step < steps) copy(step);
    commit_copies();
  }
  if constexpr (Tile::by_groups) hold(sums);
  for (int step = 0; step < steps; ++step) {
    wait_copies<ahead - 1>();
    if constexpr (Tile::by_groups) show_to_groups();
    __syncthreads();  // this step's values are there, and those whose place is taken next have been used
    auto const copy_ahead = [&] {
      if (step + ahead < steps) copy(step + ahead);
      commit_copies();
    };
    char* const stage = shared + (step % stages) * stage_bytes;
    left_tile const left{stage};
    right_tile const right{stage + Tile::rows * 16 * chunks};
    if constexpr (Tile::by_groups) {
      begin_group_products();
#pragma unroll
      for (int at = 0; at < chunks; at += product::chunks)
#pragma unroll
        for (int r = 0; r < RowBlocks; ++r)
          multiply_groups<false>(sums[r], left.straight(Tile::block_step * r + group * 64, at), right.straight(0, at));
      commit_group_products();
      // Copies for step + ahead take the place of step - pending - 1. Its products have been made, in both warpgroups:
      // at the end of the step before, and so before the barrier above, each thread waited until only those of the last
      // `pending` steps were left. This step's go on meanwhile.
      copy_ahead();
      wait_group_products<Tile::pending>();
    } else {
      copy_ahead();
#pragma unroll
      for (int at = 0; at < chunks; at += product::chunks) {
        typename product::a a[RowBlocks];
#pragma unroll
        for (int r = 0; r < RowBlocks; ++r) product::load(a[r], left, warp_row + 16 * r, at);
#pragma unroll
        for (int pair = 0; pair < Blocks / 2; ++pair) {
          typename product::b b[2];
          product::load(b, right, warp_column + 16 * pair, at);
#pragma unroll
          for (int r = 0; r < RowBlocks; ++r)
#pragma unroll
            for (int half = 0; half < 2; ++half) product::multiply(sums[r][2 * pair + half], a[r], b[half]);
        }
      }
    }
  }
  if constexpr (Tile::by_groups) {
    wait_group_products<0>();
    hold(sums);
  }
  wait_copies<0>();
  __syncthreads();

  // What follows the products, and the values as they will be read.
  int const g = lane >> 2, t = lane & 3;
  unsigned const my_row = first_row + static_cast<unsigned>(warp_row + g);
  auto const row_after = [](int r) { return static_cast<unsigned>(r / 2 * Tile::block_step + r % 2 * 8); };
#pragma unroll
  for (int n = 0; n < Blocks; ++n) {
    int const column = first_column + warp_column + 8 * n + 2 * t;
    float const shift[2] = {job.shift != nullptr && column < job.out ? job.shift[column] : 0.0f,
                            job.shift != nullptr && column + 1 < job.out ? job.shift[column + 1] : 0.0f};
#pragma unroll
    for (int r = 0; r < RowBlocks; ++r)
#pragma unroll
      for (int h = 0; h < 4; h += 2) {
        float &a = sums[r][n][h], &b = sums[r][n][h + 1];
        a += shift[0], b += shift[1];
        if (job.relu) a = a <= 0 ? 0 : a, b = b <= 0 ? 0 : b;  // not-a-number stays
        round_pair<T>(a, b);
      }
  }

  if (job.sums != nullptr) {
    // About the warp's own mean, so that nothing cancels.
    float* const moments = reinterpret_cast<float*>(shared);  // (row_warps, columns, 3)
    auto const rows_of = [&](int of) {
      int there = 0;
#pragma unroll
      for (int r = 0; r < RowBlocks; ++r) {
        int const left =
            static_cast<int>(job.rows) - static_cast<int>(first_row) - of * Tile::warp_step - r * Tile::block_step;
        there += left < 0 ? 0 : left > 16 ? 16 : left;
      }
      return there;
    };
    int const count = rows_of(warp & (Tile::row_warps - 1));
    float const share = count > 0 ? 1 / static_cast<float>(count) : 0.0f;
    constexpr int taken = Blocks < 4 ? Blocks : 4, values = 2 * taken;
    int const mine = folded_value<values>(lane);
#pragma unroll
    for (int n = 0; n < Blocks; n += taken) {
      float mean[values] = {}, off[values] = {}, squares[values] = {};
#pragma unroll
      for (int k = 0; k < values; ++k)
#pragma unroll
        for (int r = 0; r < 2 * RowBlocks; ++r)
          if (my_row + row_after(r) < job.rows) mean[k] += sums[r / 2][n + k / 2][2 * (r % 2) + k % 2];
      fold(mean);
      float const my_mean = mean[0] *= share;
      unfold(mean);
#pragma unroll
      for (int k = 0; k < values; ++k)
#pragma unroll
        for (int r = 0; r < 2 * RowBlocks; ++r)
          if (my_row + row_after(r) < job.rows) {
            float const d = sums[r / 2][n + k / 2][2 * (r % 2) + k % 2] - mean[k];
            off[k] += d, squares[k] = fmaf(d, d, squares[k]);
          }
      fold(off), fold(squares);
      float* const to =
          moments +
          ((warp & (Tile::row_warps - 1)) * columns + warp_column + 8 * (n + mine / 2) + 2 * t + mine % 2) * 3;
      if (g < values) to[0] = my_mean, to[1] = off[0], to[2] = squares[0];
    }
    __syncthreads();
    if (thread < columns && first_column + thread < job.out) {
      double sum = 0, squares = 0;
      for (int w = 0; w < Tile::row_warps; ++w) {
        double const n = rows_of(w);
        float const* const of = moments + (w * columns + thread) * 3;
        double const mean = of[0], off = of[1];
        sum += n * mean + off, squares += n * mean * mean + 2 * mean * off + of[2];
      }
      double* const to = job.sums + std::size_t{row_block} * 2 * job.out + first_column + thread;
      to[0] = sum, to[job.out] = squares;
    }
    __syncthreads();
  }

  if (job.pool) {  // rows g = 4 k to 4 k + 3 are a window
#pragma unroll
    for (int r = 0; r < RowBlocks; ++r)
#pragma unroll
      for (int n = 0; n < Blocks; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          float& x = sums[r][n][k];
          for (int bit = 4; bit <= 8; bit *= 2) x = larger(x, __shfl_xor_sync(0xFFFFFFFFu, x, bit));
        }
  }
  unsigned const rows = job.pool ? job.rows / 4 : job.rows;
  if (job.out % v != 0) {
#pragma unroll
    for (int r = 0; r < 2 * RowBlocks; ++r)
#pragma unroll
      for (int n = 0; n < Blocks; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          unsigned const m = my_row + row_after(r), row = job.pool ? m / 4 : m;
          int const column = first_column + warp_column + 8 * n + 2 * t + e;
          if (row < rows && column < job.out && !(job.pool && (g & 3) != 0))
            job.y[std::size_t{row} * job.out + column] = T(sums[r / 2][n][2 * (r % 2) + e]);
        }
    return;
  }
  // By way of shared memory, so that whole rows go out.
  constexpr int row_values = 8 * Blocks + v, row_chunks = 8 * Blocks / v;
  T* const staged = reinterpret_cast<T*>(shared) + warp * 16 * row_values;
#pragma unroll
  for (int r = 0; r < RowBlocks; ++r) {
#pragma unroll
    for (int n = 0; n < Blocks; ++n)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        int const row = g + 8 * h;
        if (!job.pool || (g & 3) == 0)
          store_pair(staged + (job.pool ? row / 4 : row) * row_values + 8 * n + 2 * t, sums[r][n][2 * h],
                     sums[r][n][2 * h + 1]);
      }
    __syncwarp();
    unsigned const base = (first_row + static_cast<unsigned>(warp_row + Tile::block_step * r)) / (job.pool ? 4 : 1);
    for (int k = lane; k < (job.pool ? 4 : 16) * row_chunks; k += 32) {
      unsigned const row = base + static_cast<unsigned>(k / row_chunks);
      int const column = first_column + warp_column + k % row_chunks * v;
      if (row < rows && column < job.out)
        *reinterpret_cast<uint4*>(job.y + (std::size_t{row} * job.out + column)) =
            *reinterpret_cast<uint4 const*>(staged + (k / row_chunks) * row_values + k % row_chunks * v);
    }
    __syncwarp();
  }
}

/// (Empty in code that cannot do it, and not run there.)
template <class P, class Tile, bool Vector>
__global__ __launch_bounds__(conv_threads, std::is_same_v<P, fp32>
                                               ? 1
                                               : Tile::blocks) void convolve(conv_job<value_of<cuda<P>>> const job) {
  if constexpr (!Tile::by_groups || warpgroup_code) convolve_tile<P, Tile, Vector>(job);
}

template <class P, class Tile, bool Vector>
void launch_convolve(cudaStream_t in, conv_job<value_of<cuda<P>>> job) {
  constexpr std::size_t shared =
      Tile::stages * (Tile::rows + Tile::columns) * 16 * conv_chunks<Vector> + (Tile::by_groups ? swizzle_bytes : 0);
  job.column_tiles = blocks_for(static_cast<std::size_t>(job.out), Tile::columns);
  launch(in, convolve<P, Tile, Vector>, dim3(blocks_for(job.rows, Tile::rows) * job.column_tiles), conv_threads, shared,
         job);
}

/// Fills in the rest of `job` and runs it. Returns how many rows of sums there are.
template <class P>
std::size_t run_convolution(context<cuda<P>>& on, conv_dims const& d, conv_job<value_of<cuda<P>>> job) {
  if constexpr (std::is_same_v<P, bf16>)
    if (conv_is_direct<P>(d.in, d.out, job.pool) && on.direct(reads_rows_anywhere))
      return run_direct(on, d,
                        {.x = job.x,
                         .w = job.w,
                         .y = job.y,
                         .shift = job.shift,
                         .sums = job.sums,
                         .relu = job.relu,
                         .pool = job.pool});
  std::size_t const side = job.pool ? 2 : 1;
  job.height = static_cast<int>(d.height), job.width = static_cast<int>(d.width);
  job.in = static_cast<int>(d.in), job.out = static_cast<int>(d.out), job.terms = static_cast<int>(conv_terms<P>(d.in));
  job.rows = narrow(d.batch * (d.height / side) * (d.width / side) * side * side);
  if (job.rows == 0) return 0;
  job.by_height = divider(d.height / side), job.by_width = divider(d.width / side), job.by_in = divider(d.in);
  with_conv_tile<P>(on.warpgroups(), d.in, d.out, [&]<class Tile>(Tile) {
    if (conv_in_vectors<P>(d.in)) return launch_convolve<P, Tile, true>(on.stream(), job);
    if constexpr (!Tile::by_groups && !std::is_same_v<Tile, wide_conv_tile>)
      launch_convolve<P, Tile, false>(on.stream(), job);
  });
  return row_tiles(job.rows, conv_rows<P>(on.warpgroups(), d.in, d.out));
}

template <class P>
void pack(cudaStream_t in, std::size_t rows, std::size_t channels, float const* w, float const* scale,
          value_of<cuda<P>>* to, bool turned) {
  std::size_t const terms = conv_terms<P>(channels);
  launch(in, pack_weights<value_of<cuda<P>>>, dim3(blocks_for(rows * terms, 256)), 256, 0, w, scale, to, narrow(rows),
         narrow(channels), narrow(terms), turned);
}

}  // namespace detail::gpu

template <class P>
void conv2d_forward(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, float const* w,
                    float const* bias, value_of<cuda<P>>* y, std::byte* scratch) {
  auto* const packed = reinterpret_cast<value_of<cuda<P>>*>(scratch);
  detail::gpu::pack<P>(on.stream(), d.out, d.in, w, nullptr, packed, false);
  detail::gpu::run_convolution<P>(on, d, {.x = x, .w = packed, .y = y, .shift = bias});
}

/// The moments are taken from the values while they are in registers.
template <class P>
void conv2d_forward_moments(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, float const* w,
                            float const* bias, value_of<cuda<P>>* y, float* mean, float* variance, std::byte* scratch) {
  carver space(scratch, d.batch, 1);
  auto* const packed = space.take<value_of<cuda<P>>>(detail::gpu::conv_weights<P>(d.in, d.out));
  auto* const sums = reinterpret_cast<double*>(space.rest());
  detail::gpu::pack<P>(on.stream(), d.out, d.in, w, nullptr, packed, false);
  std::size_t const tiles =
      detail::gpu::run_convolution<P>(on, d, {.x = x, .w = packed, .y = y, .shift = bias, .sums = sums});
  detail::gpu::finish_sums<2>(on.stream(), sums, tiles, d.out,
                              detail::gpu::keep_moments{mean, variance, static_cast<double>(d.rows())});
}

template <class P>
void conv2d_prepare(context<cuda<P>>& on, conv_dims const& d, float const* w, float const* scale, std::byte* prepared) {
  detail::gpu::pack<P>(on.stream(), d.out, d.in, w, scale, reinterpret_cast<value_of<cuda<P>>*>(prepared), false);
}

template <class P>
void conv2d_infer(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, std::byte const* prepared,
                  epilogue<float> const& then, value_of<cuda<P>>* y, std::byte* /*scratch*/, packing = {}) {
  auto const* const w = reinterpret_cast<value_of<cuda<P>> const*>(prepared);
  if constexpr (std::is_same_v<P, bf16>)
    if (detail::gpu::conv_is_thin<P>(d.in, d.out) && !then.pool) {
      static_assert(detail::gpu::conv_terms<P>(1) == detail::gpu::thin_terms &&
                    detail::gpu::conv_terms<P>(3) == detail::gpu::thin_terms);
      return detail::gpu::run_thin(on, d, {.x = x, .packed = w}, nullptr, then.shift, then.relu, y);
    }
  detail::gpu::run_convolution<P>(on, d,
                                  {.x = x, .w = w, .y = y, .shift = then.shift, .relu = then.relu, .pool = then.pool});
}

template <class P>
void conv2d_backward_data(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* dy, float const* w,
                          value_of<cuda<P>>* dx, std::byte* scratch) {
  auto* const packed = reinterpret_cast<value_of<cuda<P>>*>(scratch);
  detail::gpu::pack<P>(on.stream(), d.in, d.out, w, nullptr, packed, true);
  detail::gpu::run_convolution<P>(on, {d.batch, d.height, d.width, d.out, d.in}, {.x = dy, .w = packed, .y = dx});
}

}  // namespace l3::inline L3_ISA
