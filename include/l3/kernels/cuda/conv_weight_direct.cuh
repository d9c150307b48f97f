/// @file  include/l3/kernels/cuda/conv_weight_direct.cuh: the weight gradient of a convolution of many channels in bf16
/// whose nine taps read the same pixels in shared memory, on a Hopper GPU.
///
/// Pictures lie in a row with zeros between them as in conv_direct.cuh, and the sum runs along that row: a product's
/// left rows are 64 output channels of dy, its columns 64 input channels of x in all nine taps, and each of three
/// warpgroups has the three taps of a row of the kernel. Of x a block keeps so many positions as lie between the first
/// tap and the last one: a step brings in those behind them, in a ring, so that everything is copied once. A tap reads
/// its terms from another row of it on, and the three of a warpgroup are one product of 192 columns, as they are a row
/// apart. Where there are zeros dy has zeros too, so that only pixels count that there are.
///
/// (What is not finite stays in its channel, but reaches all nine taps of it: one for which a border's pixel has only
/// zeros outside of the picture multiplies it by them.)
///
/// By count, in bytes of shared memory for a clock of the matrix units, of 128 that there are: products read 85, and
/// copies write 14, which the second cache has to give. Three taps of 128 x 128 channels, for which there are registers
/// too, would write 21; and with a product of 64 columns for each tap, products alone would read 128.
#pragma once
#include <algorithm>
#include <l3/kernels/cuda/conv_direct.cuh>
#include <l3/kernels/cuda/vector.cuh>
#include <l3/kernels/cuda/warpgroups.cuh>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// Parts that the `steps` of a sum are best cut into, of at most so many: rounds of blocks, of which there are so many
/// at once and one for each part of a tile, each as long as its steps and what a part costs to write and to add up,
/// which is about that of `part_cost` steps.
constexpr std::size_t best_parts(std::size_t steps, std::size_t most, std::size_t tiles, std::size_t at_once,
                                 std::size_t part_cost) {
  std::size_t best = 1, least = ~std::size_t{0};
  for (std::size_t parts = 1; parts <= most; ++parts) {
    std::size_t const rounds = (tiles * parts + at_once - 1) / at_once;
    std::size_t const cost = rounds * ((steps + parts - 1) / parts + part_cost);
    if (cost < least) least = cost, best = parts;
  }
  return best;
}

/// A warpgroup for each row of taps. Positions of a step, steps that have room, and whose products may go on.
inline constexpr int weight_threads = 3 * 128, weight_step = 96, weight_stages = 4, weight_pending = 1;
/// Rows of pixels that lie behind the ring's end once more: the 16 terms of a product and of the two taps beside it may
/// begin with its last row.
inline constexpr int weight_again = 16 + 2 - 1;

/// Rows behind these that nobody reads: compute-sanitizer reported products' reads where the ring ended with the block's
/// memory, and seems to take an operand for one piece, of 48 rows.
inline constexpr int weight_margin = 3 * 16 - weight_again;

/// Rows of the ring: those of all steps that have room, and what lies around one.
constexpr std::size_t weight_ring(std::size_t pitch) { return weight_stages * weight_step + 2 * pitch + 2; }
constexpr std::size_t weight_shared(std::size_t pitch) {
  return swizzle_bytes + (weight_stages * weight_step + weight_ring(pitch) + weight_again + weight_margin) *
                             direct_rows::row_bytes;
}
constexpr std::size_t weight_tiles(conv_dims const& d) { return d.out / direct_block * (d.in / direct_block); }
/// Parts that positions may be cut into: so many that a large GPU's multiprocessors have work twice.
constexpr std::size_t most_weight_parts(conv_dims const& d) {
  constexpr std::size_t multiprocessors = 132;
  return std::max<std::size_t>(1, 2 * multiprocessors / weight_tiles(d));
}

struct weight_job {
  bfloat16 const* x = nullptr;
  bfloat16 const* dy = nullptr;
  float* parts = nullptr;  ///< as of gradient_job
  picture_row pictures{};
  int in = 0, out = 0, ring = 0, steps = 0;  ///< of a part; those beyond the last position have zeros
  unsigned pieces = 0;                       ///< tiles of all parts
  divider by_tiles{}, by_in{};               ///< tiles of a part, which read the same pixels; blocks of input channels
};

__device__ __forceinline__ void convolve_weights_direct_tiles(weight_job const& job) {
  constexpr int row_bytes = direct_rows::row_bytes, step = weight_step, stages = weight_stages;
  constexpr int ahead = stages - 1 - weight_pending, together = weight_threads / 8;  // rows that all copy at a time
  static_assert(step == 2 * together);
  direct_rows const gradients{swizzled_memory()};  // of so many steps
  direct_rows const pixels{gradients.base + stages * step * row_bytes};
  int const thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  int const group = __shfl_sync(0xFFFFFFFFu, warp / 4, 0);  // so that the compiler knows that lanes agree
  int const chunk = thread % 8, row = thread / 8;
  int const above = job.pictures.pitch + 1;  // how far away the first tap is, and the last one
  auto const in_ring = [&](int at) { return at < job.ring ? at : at - job.ring; };

  for (unsigned piece = blockIdx.x; piece < job.pieces; piece += gridDim.x) {
    unsigned const part = job.by_tiles.quotient(piece), tile = piece - part * job.by_tiles.by;
    unsigned const out_block = job.by_in.quotient(tile), in_block = tile - out_block * job.by_in.by;
    int const first = static_cast<int>(part) * job.steps * step;
    bfloat16 const* const x = job.x + (in_block * direct_block + static_cast<unsigned>(chunk) * 8);
    bfloat16 const* const dy = job.dy + (out_block * direct_block + static_cast<unsigned>(chunk) * 8);

    auto const copy_pixel = [&](int to, int source) {
      bfloat16 const* const from = x + static_cast<std::ptrdiff_t>(source >> 1) * job.in;
      copy_async(pixels.at(to, chunk), from, source >= 0);
      if (to < weight_again) copy_async(pixels.at(to + job.ring, chunk), from, source >= 0);
    };
    int filled = 2 * above;  // where in the ring the next step's last tap begins
    // A step's gradients, and the pixels that no step before it has read.
    auto const copy = [&](int number) {
      direct_rows const to{gradients.base + number % stages * step * row_bytes};
      // The lanes of a row find out together where its two pixels and two gradients come from.
      int const mine =
          job.pictures.source_of(first + number * step + row + chunk % 2 * together + (chunk & 2 ? 0 : above));
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        copy_pixel(in_ring(filled + row + k * together), __shfl_sync(0xFFFFFFFFu, mine, (lane & 24) + k));
        int const source = __shfl_sync(0xFFFFFFFFu, mine, (lane & 24) + 2 + k);
        copy_async(to.at(row, chunk) + k * together * row_bytes,  // (a multiple of 8 rows apart)
                   dy + static_cast<std::ptrdiff_t>(source >> 1) * job.out, (source & 1) != 0);
      }
      filled = in_ring(filled + step);
    };

    for (int k = row; k < 2 * above; k += together) copy_pixel(k, job.pictures.source_of(first - above + k));
#pragma unroll
    for (int number = 0; number < ahead; ++number) {
      if (number < job.steps) copy(number);
      commit_copies();
    }
    float sums[1][24][4] = {};
    hold(sums);
    int begin = group * job.pictures.pitch;  // where in the ring this warpgroup's first tap is
    for (int number = 0; number < job.steps; ++number, begin = in_ring(begin + step)) {
      wait_copies<ahead - 1>();
      show_to_groups();
      __syncthreads();
      // This step's rows are there, and of the ring all between its first tap and its last one. All products but those
      // of the last step have been made, in all warpgroups, since each thread waited for them in front of the barrier:
      // what only steps before it have read can be overwritten.
      direct_rows const left{gradients.base + number % stages * step * row_bytes};
      begin_group_products();
#pragma unroll
      for (int term = 0; term < step; term += 16)
        multiply_groups<true>(sums[0], left.across(0, term), pixels.shifted(in_ring(begin + term)));
      commit_group_products();
      if (number + ahead < job.steps) copy(number + ahead);
      commit_copies();
      wait_group_products<weight_pending>();
    }
    wait_copies<0>();
    wait_group_products<0>();
    hold(sums);

    int const o = static_cast<int>(out_block) * direct_block + warp % 4 * 16 + (lane >> 2);
    int const column = (static_cast<int>(in_block) * 9 + group * 3) * direct_block + 2 * (lane & 3);
    float* const to = job.parts + ((std::size_t{part} * job.out + o) * 9 * job.in + column);
#pragma unroll
    for (int n = 0; n < 24; ++n)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        store_pair(to + (h * 8 * 9 * job.in + 8 * n), sums[0][n][2 * h], sums[0][n][2 * h + 1]);
    __syncthreads();  // nobody reads any more what the next piece overwrites
  }
}

/// (Empty in code that cannot do it, and not run there.)
template <class = void>
__global__ __launch_bounds__(weight_threads, 1) void convolve_weights_direct(weight_job const job) {
  if constexpr (warpgroup_code) convolve_weights_direct_tiles(job);
}

/// Runs it; `parts` has room for most_weight_parts of (out, 9 in). Returns how many there are.
template <class P>
std::size_t run_weights_direct(context<cuda<P>>& on, conv_dims const& d, bfloat16 const* x, bfloat16 const* dy,
                               float* parts) {
  direct_layout const is = layout_of(d, 1, weight_shared);
  std::size_t const steps = (is.positions + weight_step - 1) / weight_step, tiles = weight_tiles(d);
  std::size_t const most = std::clamp<std::size_t>(steps / 8, 1, most_weight_parts(d));
  std::size_t const count = best_parts(steps, most, tiles, static_cast<std::size_t>(on.gpu().multiprocessors), 8);
  weight_job const job{.x = x,
                       .dy = dy,
                       .parts = parts,
                       .pictures = picture_row(d, is),
                       .in = static_cast<int>(d.in),
                       .out = static_cast<int>(d.out),
                       .ring = static_cast<int>(weight_ring(is.pitch)),
                       .steps = static_cast<int>((steps + count - 1) / count),
                       .pieces = narrow(count * tiles),
                       .by_tiles = divider(tiles),
                       .by_in = divider(d.in / direct_block)};
  launch(on.stream(), convolve_weights_direct<>, dim3(std::min(job.pieces, on.most_blocks())), weight_threads,
         most_shared, job);
  return count;
}

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
