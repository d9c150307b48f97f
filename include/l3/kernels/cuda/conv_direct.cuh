/// @file  include/l3/kernels/cuda/conv_direct.cuh: convolution of many channels in bf16 whose nine taps read the same
/// pixels in shared memory, on a Hopper GPU.
///
/// Behind every row of a picture think a pixel of zeros, and behind every picture a row of them. In that order a
/// neighbour is always the same distance away, and what lies outside of a picture is one of those zeros. So a tile is
/// so many pixels in a row; with as many around it as a neighbour can be away it lies in shared memory once for each
/// block of 64 channels, and a tap reads it from another row on. What comes out where there are only zeros is dropped.
/// Wide pictures are cut into upright strips, so that a row of pixels above and below a tile has room.
///
/// The product is that of the weights, whose rows are output channels, with the pixels: 64 channels with 512 pixels, of
/// which each of two warpgroups has half. There are as many blocks as multiprocessors, and each goes from tile to tile:
/// while products are made, the pixels of the next block of channels or of the next tile are on their way in, and the
/// values of the tile before on their way out. conv2d.cuh has the other way, which copies a tile's pixels once for each
/// tap.
#pragma once
#include <algorithm>
#include <l3/kernels/cuda/row_sums.cuh>
#include <l3/kernels/cuda/vector.cuh>
#include <l3/kernels/cuda/warpgroup_rows.cuh>
#include <l3/kernels/cuda/warpgroups.cuh>
#include <l3/kernels/dims.hpp>
#include <type_traits>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// Channels of a block of them, in or out: a row of shared memory. Pixels of a warpgroup, and of a tile.
inline constexpr int direct_block = 64, direct_group = 256, direct_tile = 2 * direct_group;
inline constexpr int direct_stages = 4,
                     direct_pending = 1;  ///< steps whose weights have room; whose products may go on
using direct_rows = swizzled_tile<8>;     ///< (or any other number of rows of 128 bytes)
inline constexpr int direct_weights = direct_block * direct_rows::row_bytes;  ///< bytes of a step
inline constexpr std::size_t most_shared = 227 << 10;                         ///< that a block may have on Hopper

/// Pixels that a tile reads, where one above is `pitch` away: whole patterns of the exchange of chunks.
constexpr std::size_t direct_halo(std::size_t pitch) { return round_up(direct_tile + 2 * pitch + 2, std::size_t{8}); }
/// Bytes of shared memory: pixels of two blocks of channels, weights, and where the pixels of two tiles come from.
constexpr std::size_t direct_shared(std::size_t pitch) {
  return swizzle_bytes + 2 * direct_halo(pitch) * (direct_rows::row_bytes + sizeof(int)) +
         direct_stages * direct_weights;
}

/// How pictures are laid out in a row. The strips of one are pictures of their own, with a neighbour's pixels on either
/// side; where there is but one, a column of zeros behind it serves both sides.
struct direct_layout {
  std::size_t strips = 1, width = 0, border = 0, pitch = 0;  ///< strips of a picture; pixels in a row of one
  std::size_t positions = 0;                                 ///< all pixels, with those of zeros
};
/// With the fewest strips for which `shared`, bytes of shared memory for a pitch, is no more than there are.
template <class Shared>
constexpr direct_layout layout_of(conv_dims const& d, Shared const& shared) {
  direct_layout is;
  for (is.strips = 1;; ++is.strips) {
    is.width = (d.width + is.strips - 1) / is.strips, is.border = is.strips > 1 ? 1 : 0;
    is.pitch = is.width + 1 + is.border;
    if (shared(is.pitch) <= most_shared) break;
  }
  is.positions = d.batch * is.strips * (d.height + 1) * is.pitch;
  return is;
}
constexpr direct_layout layout_of(conv_dims const& d) { return layout_of(d, direct_shared); }

/// The same as kernels want it.
struct picture_row {
  int height = 0, width = 0, strip_width = 0, border = 0, pitch = 0;
  unsigned positions = 0;
  divider by_pitch{}, by_lines{}, by_strips{};  ///< of a picture's lines there is one of zeros

  picture_row() = default;
  picture_row(conv_dims const& d, direct_layout const& is)
      : height(static_cast<int>(d.height)),
        width(static_cast<int>(d.width)),
        strip_width(static_cast<int>(is.width)),
        border(static_cast<int>(is.border)),
        pitch(static_cast<int>(is.pitch)),
        positions(narrow(is.positions)),
        by_pitch(is.pitch),
        by_lines(d.height + 1),
        by_strips(is.strips) {}

  /// What lies at a position: twice its pixel, and 1 more where that is wanted and not only a strip's neighbour; -2
  /// where there are zeros.
  __device__ int source_of(int position) const {
    auto const at = static_cast<unsigned>(position);
    if (at >= positions) return -2;  // in front of the first one, too
    unsigned const line = by_pitch.quotient(at), strip = by_lines.quotient(line), item = by_strips.quotient(strip);
    int const column = static_cast<int>(at - line * by_pitch.by) - border;
    int const i = static_cast<int>(line - strip * by_lines.by);
    int const j = static_cast<int>(strip - item * by_strips.by) * strip_width + column;
    if (i >= height || j < 0 || j >= width) return -2;
    int const pixel = (static_cast<int>(item) * height + i) * width + j;
    return 2 * pixel + (column >= 0 && column < strip_width ? 1 : 0);
  }
};

/// Whether there are whole blocks of channels for it.
template <class P>
constexpr bool conv_can_be_direct(std::size_t in, std::size_t out) {
  return std::is_same_v<P, bf16> && in % direct_block == 0 && out % direct_block == 0;
}
/// Whether forward and data gradient are done so: with more channels the other way has been measured to be faster
/// (docs/performance.md).
template <class P>
constexpr bool conv_is_direct(std::size_t in, std::size_t out) {
  return conv_can_be_direct<P>(in, out) && std::max(in, out) < 256;
}
/// Rows of sums that it writes: one for each warpgroup's pixels.
constexpr std::size_t direct_sum_rows(conv_dims const& d) { return row_tiles(layout_of(d).positions, direct_group); }

struct direct_job {
  bfloat16 const* x = nullptr;
  bfloat16 const* w = nullptr;  ///< rows of output channels; of each block of 64 input channels tap after tap
  bfloat16* y = nullptr;
  float const* shift = nullptr;  ///< as in conv_job, and so are the next two
  double* sums = nullptr;
  bool relu = false;
  picture_row pictures{};
  int in = 0, out = 0, halo = 0;  ///< see direct_halo
  unsigned tiles = 0, sum_rows = 0;
  divider by_channels{};  ///< blocks of output channels, whose tiles follow each other: they read the same pixels
};

__device__ __forceinline__ void convolve_direct_tiles(direct_job const& job) {
  constexpr int row_bytes = direct_rows::row_bytes, stages = direct_stages, ahead = stages - 1 - direct_pending;
  constexpr int end_copies = 10 - ahead;  // what is copied in this step of a block is there too late for the next block
  constexpr int blocks_of_8 = direct_group / 8, together = 256 / 8;  // rows that all threads copy at a time
  char* const pixels = swizzled_memory();                            // two buffers, used by turns
  char* const weights = pixels + 2 * job.halo * row_bytes;
  int* const tables = reinterpret_cast<int*>(weights + stages * direct_weights);  // the same
  int const thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  int const group = __shfl_sync(0xFFFFFFFFu, warp / 4, 0);  // so that the compiler knows that lanes agree
  int const group_pixel = group * direct_group;
  int const chunk = thread % 8, row = thread / 8, blocks = job.in / direct_block;

  auto const pixel_tile = [&](unsigned tile) { return job.by_channels.quotient(tile); };
  auto const first_channel = [&](unsigned tile) {
    return static_cast<int>(tile - pixel_tile(tile) * job.by_channels.by) * direct_block;
  };
  auto const fill = [&](int* table, unsigned tile) {
    int const first = static_cast<int>(pixel_tile(tile)) * direct_tile - job.pictures.pitch - 1;
    for (int k = thread; k < job.halo; k += 256) table[k] = job.pictures.source_of(first + k);
  };
  // Rows from `begin` on of a block of channels.
  auto const copy_pixels = [&](char* to, int const* table, int block, int begin, int end) {
    for (int k = begin + row; k < std::min(end, job.halo); k += together) {
      std::ptrdiff_t const pixel = table[k] >> 1;
      copy_async(direct_rows{to}.at(k, chunk), job.x + (pixel * job.in + block * direct_block + chunk * 8), pixel >= 0);
    }
  };
  // A step's weights, in the order of steps.
  unsigned weights_tile = blockIdx.x;
  int weights_step = 0;
  auto const copy_weights = [&](unsigned weights_stage) {
    if (weights_tile >= job.tiles) return;
    direct_rows const to{weights + weights_stage * direct_weights};
    bfloat16 const* const from = job.w + (static_cast<std::ptrdiff_t>(first_channel(weights_tile) + row) * 9 * job.in +
                                          weights_step * direct_block + chunk * 8);
#pragma unroll
    for (int k = 0; k < direct_block; k += together)  // (rows a multiple of 8 apart have their chunks in one order)
      copy_async(to.at(row, chunk) + k * row_bytes, from + static_cast<std::ptrdiff_t>(k) * 9 * job.in, true);
    if (++weights_step == 9 * blocks) weights_step = 0, weights_tile += gridDim.x;
  };

  fill(tables, blockIdx.x);
  __syncthreads();
  copy_pixels(pixels, tables, 0, 0, job.halo);
#pragma unroll
  for (unsigned k = 0; k < ahead; ++k) copy_weights(k), commit_copies();

  // What goes out of a tile, while the products of the next one are made: in two pieces, with a barrier between them.
  unsigned pairs[blocks_of_8][2];   // values as they will be read: of two channels, 8 apart, two of each 8 pixels
  float sum[2] = {}, mean[2] = {};  // of the channels
  int const g = lane >> 2, t = lane & 3;
  auto const put_out = [&](int piece, unsigned tile, int const* table, char* staging) {
    int const channel = first_channel(tile);
    int const* const wanted = table + job.pictures.pitch + 1 + group_pixel;  // of this warpgroup's pixels: bit 0
    unsigned const sum_row = 2 * pixel_tile(tile) + static_cast<unsigned>(group);
    if (job.sums != nullptr && sum_row < job.sum_rows) {
      int count = 0;
      float part[2][2] = {};  // of the first and the second pixels of pairs
      // Calls f for each wanted value: with its channel, where it is added up, and itself.
      auto const each = [&](auto const& f) {
#pragma unroll
        for (int k = 0; k < direct_group / 32; ++k) {
          unsigned const all = __ballot_sync(0xFFFFFFFFu, (wanted[32 * k + lane] & 1) != 0);  // a bit for each pixel
          unsigned const mine = all >> 2 * t;
          count += __popc(all);
#pragma unroll
          for (int n = 0; n < 4; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e)
              if ((mine >> (8 * n + e) & 1) != 0) {
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                  unsigned const pair = pairs[4 * k + n][h];
                  f(h, part[h][e], as_float(e == 0 ? pair << 16 : pair & 0xFFFF0000u));
                }
              }
        }
      };
      if (piece == 0) {
        each([&](int, float& to, float x) { to += x; });
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          sum[h] = sum_over(3, part[h][0] + part[h][1]);
          mean[h] = count > 0 ? sum[h] / static_cast<float>(count) : 0.0f;
        }
      } else {  // about the warp's own mean, so that nothing cancels
        each([&](int h, float& to, float x) { to = fmaf(x - mean[h], x - mean[h], to); });
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float const squares = sum_over(3, part[h][0] + part[h][1]);
          double const total = sum[h], about = mean[h];
          double* const to = job.sums + std::size_t{sum_row} * 2 * job.out + channel + warp % 4 * 16 + g + 8 * h;
          if (t == 0) to[0] = total, to[job.out] = squares + about * (2 * total - count * about);
        }
      }
    }
    // By way of shared memory, so that whole rows go out.
    direct_rows const staged{staging + group_pixel * row_bytes};
    if (piece == 0) {
      char* const place = staged.at(lane / 16 * 8 + lane % 8, warp % 4 * 2 + lane / 8 % 2);  // in two blocks of pixels
#pragma unroll
      for (int n = 0; n < blocks_of_8; n += 2)
        store_matrices_transposed(place + n * 8 * row_bytes,
                                  {pairs[n][0], pairs[n][1], pairs[n + 1][0], pairs[n + 1][1]});
    } else {
#pragma unroll 4  // (there are no registers for more at once)
      for (int k = 0; k < direct_group; k += 16) {
        int const to = wanted[row % 16 + k];
        if ((to & 1) != 0)
          *reinterpret_cast<uint4*>(job.y + (static_cast<std::ptrdiff_t>(to >> 1) * job.out + channel + chunk * 8)) =
              *reinterpret_cast<uint4 const*>(staged.at(row % 16 + k, chunk));
      }
    }
  };

  unsigned stage = 0, buffer = 0, turn = 0;  // of the weights, the pixels and the tables
  for (unsigned tile = blockIdx.x; tile < job.tiles; tile += gridDim.x, turn ^= 1) {
    int* const table = tables + turn * job.halo;
    int* const other_table = tables + (turn ^ 1) * job.halo;  // of the tile before, and then of the next one
    float sums[1][blocks_of_8][4] = {};
    hold(sums);
    float shift[2] = {};
    if (job.shift != nullptr) {
      int const mine = first_channel(tile) + warp % 4 * 16 + g;
      shift[0] = job.shift[mine], shift[1] = job.shift[mine + 8];
    }
    for (int block = 0; block < blocks; ++block, buffer ^= 1) {
      bool const last = block + 1 == blocks, more = !last || tile + gridDim.x < job.tiles;
      bool const going_out = block == 0 && tile != blockIdx.x;
      int const first_copy = block == 0 ? 3 : 1, copies = end_copies - first_copy;
      int const share = (job.halo + copies * together - 1) / (copies * together) * together;
      char* const other_pixels = pixels + (buffer ^ 1) * job.halo * row_bytes;
      for (int tap = 0; tap < 9; ++tap, stage = (stage + 1) % stages) {
        // A step: a tap of a block of channels. Each commits one group of copies: the weights of the step `ahead` and,
        // from step first_copy on and before end_copies, a share of the next block's pixels.
        wait_copies<ahead - 1>();
        show_to_groups();
        __syncthreads();
        // What steps at least `ahead` back copied is there: this step's weights, and the pixels too, as none are copied
        // from end_copies on. And all products but those of the last step have been made, in both
        // warpgroups, since each thread waited for them in front of the barrier: the weights of the step before it can
        // be overwritten, and from a block's second step on the pixels of the block before. Behind a tile's last block
        // all have been waited for, so that its pixels' place is free from the next one's first step on. There the tile
        // goes out in steps 0 and 1, and its table can be overwritten in step 2.
        direct_rows const left{weights + stage * direct_weights};
        direct_rows const right{pixels + buffer * job.halo * row_bytes};
        int const from = group_pixel + tap / 3 * job.pictures.pitch + tap % 3;
        begin_group_products();
#pragma unroll
        for (int at = 0; at < 8; at += 2)
          multiply_groups<false>(sums[0], left.straight(0, at), right.straight(from, at));
        commit_group_products();
        copy_weights((stage + ahead) % stages);
        if (more) {
          if (last && tap == first_copy - 1) fill(other_table, tile + gridDim.x);  // read behind the next barrier
          if (tap >= first_copy && tap < end_copies)
            copy_pixels(other_pixels, last ? other_table : table, last ? 0 : block + 1, (tap - first_copy) * share,
                        (tap - first_copy + 1) * share);
        }
        commit_copies();
        if (going_out && tap < 2) put_out(tap, tile - gridDim.x, other_table, other_pixels);
        wait_group_products<direct_pending>();
      }
    }
    wait_group_products<0>();
    hold(sums);

    // What follows the products.
    if (job.shift != nullptr) {
#pragma unroll
      for (int n = 0; n < blocks_of_8; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[0][n][k] += shift[k / 2];
    }
    if (job.relu) {
#pragma unroll
      for (int n = 0; n < blocks_of_8; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[0][n][k] = sums[0][n][k] <= 0 ? 0 : sums[0][n][k];  // not-a-number stays
    }
#pragma unroll
    for (int n = 0; n < blocks_of_8; ++n)
#pragma unroll
      for (int h = 0; h < 2; ++h) pairs[n][h] = packed(sums[0][n][2 * h], sums[0][n][2 * h + 1]);
    if (tile + gridDim.x < job.tiles) continue;
    for (int piece = 0; piece < 2; ++piece) {
      __syncthreads();
      put_out(piece, tile, table, pixels + (buffer ^ 1) * job.halo * row_bytes);
    }
  }
  wait_copies<0>();
}

/// (Empty in code that cannot do it, and not run there.)
template <class = void>
__global__ __launch_bounds__(256, 1) void convolve_direct(direct_job const job) {
  if constexpr (warpgroup_code) convolve_direct_tiles(job);
}

/// Fills in the rest of `job` and runs it. Returns how many rows of sums there are.
template <class P>
std::size_t run_direct(context<cuda<P>>& on, conv_dims const& d, direct_job job) {
  direct_layout const is = layout_of(d);
  if (is.positions == 0) return 0;
  job.pictures = picture_row(d, is);
  job.in = static_cast<int>(d.in), job.out = static_cast<int>(d.out), job.sum_rows = narrow(direct_sum_rows(d));
  job.halo = static_cast<int>(direct_halo(is.pitch));
  job.by_channels = divider(d.out / direct_block);
  job.tiles = blocks_for(is.positions, direct_tile) * job.by_channels.by;
  // All there is: what a kernel may have belongs to the kernel, and is not to become less than an earlier launch needs.
  launch(on.stream(), convolve_direct<>, dim3(std::min(job.tiles, on.most_blocks())), 256, most_shared, job);
  return job.sum_rows;
}

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
