/// @file  include/l3/kernels/cuda/conv_direct.cuh: convolution of many channels in bf16 whose nine taps read the same
/// pixels in shared memory, on a Hopper GPU.
///
/// Behind every row of a picture think a pixel of zeros, and behind every picture a row of them. In that order a
/// neighbour is always the same distance away, and what lies outside of a picture is one of those zeros. So a tile is
/// so many pixels in a row; with as many around it as a neighbour can be away it lies in shared memory once for each
/// block of 64 channels, and a tap reads it from another row on. What comes out where there are only zeros is dropped.
/// Wide pictures are cut into upright strips, so that a row of pixels above and below a tile has room.
///
/// Where windows of 2 x 2 are pooled, such a row has the pixels of every other row of a picture, and a second one those
/// below them; where it takes two of zeros to have an even number, windows begin at even places. A tile is so many of
/// the one and as many of the other; a tap above or below is in the other one.
///
/// The product is that of the weights, whose rows are output channels, with the pixels: 64 channels with 512 pixels, of
/// which each of two warpgroups has half. There are as many blocks as multiprocessors, and each goes from tile to tile:
/// while products are made, a third warpgroup moves in the pixels of the next block of channels or of the next tile,
/// and the first two put out the values of the tile before. (When those who multiply did all of that, the matrix units
/// of an H200 waited for a third to a half of the time.) conv2d.cuh has the other way, which copies a tile's pixels
/// once for each tap.
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
inline constexpr int direct_staged = 16 * 32;          ///< bytes of a warp, on the way out: 16 channels of 16 pixels
inline constexpr std::size_t most_shared = 227 << 10;  ///< that a block may have on Hopper

/// Pixels that a tile reads, where one above is `pitch` away, in lines of so many `rows`: whole patterns of the
/// exchange of chunks. Of two rows, where windows are pooled, half of them are of the upper one, from the pixel in
/// front of the tile on, and half of the lower one, from `pitch` pixels before that on.
constexpr std::size_t direct_halo(std::size_t pitch, std::size_t rows) {
  return round_up(direct_tile + 2 * pitch + 2 * rows, std::size_t{8});
}
/// Bytes of shared memory: weights; what eight warps put out; where the pixels of two tiles come from, or what
/// warpgroups hand each other; and the pixels of two blocks of channels.
inline constexpr int direct_tables = 2 * direct_tile * static_cast<int>(sizeof(int));
static_assert(direct_tables >= 8 * direct_staged);
inline constexpr std::size_t direct_rest =
    swizzle_bytes + direct_stages * direct_weights + 8 * direct_staged + direct_tables;
constexpr std::size_t direct_shared(std::size_t pitch, std::size_t rows) {
  return direct_rest + 2 * direct_halo(pitch, rows) * direct_rows::row_bytes;
}
inline constexpr int direct_most_halo = (most_shared - direct_rest) / (2 * direct_rows::row_bytes);

/// How pictures are laid out in lines of one row, or of two where windows are pooled: then windows begin at even
/// positions. The strips of a picture are pictures of their own, with a neighbour's pixels on either side; where there
/// is but one, a column of zeros behind it serves both sides.
struct direct_layout {
  std::size_t rows = 1;                                      ///< of pixels in a line
  std::size_t strips = 1, width = 0, border = 0, pitch = 0;  ///< strips of a picture; pixels in a row of one
  std::size_t lines = 0;                                     ///< of a strip: the last one ends with a row of zeros
  std::size_t positions = 0;                                 ///< of all lines, each as many as a row has pixels
};
/// With the fewest strips for which `shared`, bytes of shared memory for a pitch, is no more than there are.
template <class Shared>
constexpr direct_layout layout_of(conv_dims const& d, std::size_t rows, Shared const& shared) {
  direct_layout is{.rows = rows};
  for (is.strips = 1;; ++is.strips) {
    is.width = (d.width + is.strips - 1) / is.strips, is.border = is.strips > 1 ? 1 : 0;
    if (is.strips > 1) is.width = round_up(is.width, rows);
    is.pitch = round_up(is.width + 1 + is.border, rows);
    if (shared(is.pitch) <= most_shared) break;
  }
  is.lines = d.height / rows + 1;
  is.positions = d.batch * is.strips * is.lines * is.pitch;
  return is;
}
constexpr direct_layout layout_of(conv_dims const& d, bool pool = false) {
  std::size_t const rows = pool ? 2 : 1;
  return layout_of(d, rows, [rows](std::size_t pitch) { return direct_shared(pitch, rows); });
}

/// The same as kernels want it.
struct picture_row {
  int height = 0, width = 0, strip_width = 0, border = 0;
  int rows = 1, pitch = 0;
  unsigned positions = 0;
  divider by_pitch{}, by_lines{}, by_strips{};

  picture_row() = default;
  picture_row(conv_dims const& d, direct_layout const& is)
      : height(static_cast<int>(d.height)),
        width(static_cast<int>(d.width)),
        strip_width(static_cast<int>(is.width)),
        border(static_cast<int>(is.border)),
        rows(static_cast<int>(is.rows)),
        pitch(static_cast<int>(is.pitch)),
        positions(narrow(is.positions)),
        by_pitch(is.pitch),
        by_lines(is.lines),
        by_strips(is.strips) {}

  /// What lies at a position, in row `row` of its line: twice its pixel, and 1 more where that is wanted and not only a
  /// strip's neighbour; -2 where there are zeros.
  __device__ __forceinline__ int source_of(int position, int row = 0) const {
    place const at(*this, position);
    int const i = at.line * rows + row;
    if (!at.inside || i >= height || at.j < 0 || at.j >= width) return -2;
    int const pixel = (at.item * height + i) * width + at.j;
    return 2 * pixel + (at.wanted ? 1 : 0);
  }
  /// Which window of 2 x 2, of all pictures', begins at an even position, or -1.
  __device__ __forceinline__ int window_of(int position) const {
    place const at(*this, position);
    if (!at.inside || !at.wanted || at.line >= height / 2 || at.j + 1 >= width) return -1;
    return (at.item * (height / 2) + at.line) * (width / 2) + at.j / 2;
  }

 private:
  /// A column of a line of a picture. The column in front of a strip lies at the end of the line before.
  struct place {
    int item = 0, line = 0, j = 0;
    bool inside, wanted = false;  ///< of all positions; of the strip's own columns

    __device__ __forceinline__ place(picture_row const& of, int position) {
      auto const at = static_cast<unsigned>(position + of.border);
      inside = at < of.positions;  // nor in front of the first one
      if (!inside) return;
      unsigned const all = of.by_pitch.quotient(at), strip = of.by_lines.quotient(all);
      unsigned const picture = of.by_strips.quotient(strip);
      int const column = static_cast<int>(at - all * of.by_pitch.by) - of.border;
      item = static_cast<int>(picture), line = static_cast<int>(all - strip * of.by_lines.by);
      j = static_cast<int>(strip - picture * of.by_strips.by) * of.strip_width + column;
      wanted = column >= 0 && column < of.strip_width;
    }
  };
};

/// Whether there are whole blocks of channels for it.
template <class P>
constexpr bool conv_can_be_direct(std::size_t in, std::size_t out) {
  return std::is_same_v<P, bf16> && in % direct_block == 0 && out % direct_block == 0;
}
/// Whether forward and data gradient are done so: with more channels the other way has been measured to be faster
/// (docs/performance.md), but not where it has to pool, which is slow there.
template <class P>
constexpr bool conv_is_direct(std::size_t in, std::size_t out, bool pool = false) {
  return conv_can_be_direct<P>(in, out) && (pool || std::max(in, out) < 256);
}
/// Rows of sums that it writes: one for each warpgroup's pixels.
constexpr std::size_t direct_sum_rows(conv_dims const& d) { return row_tiles(layout_of(d).positions, direct_group); }

struct direct_job {
  bfloat16 const* x = nullptr;
  bfloat16 const* w = nullptr;  ///< rows of output channels; of each block of 64 input channels tap after tap
  bfloat16* y = nullptr;
  float const* shift = nullptr;  ///< as in conv_job, and so are the next three
  double* sums = nullptr;        ///< (null where windows are pooled)
  bool relu = false, pool = false;
  picture_row pictures{};
  int in = 0, out = 0, halo = 0;  ///< see direct_halo
  unsigned tiles = 0, sum_rows = 0;
  divider by_channels{};  ///< blocks of output channels, whose tiles follow each other: they read the same pixels
};

/// A block's threads: two warpgroups multiply, each `direct_group` pixels; behind them one moves pixels and weights in.
/// Registers of a thread: products' sums take 128, and values that go out up to 64. A block begins with as many for
/// each.
inline constexpr int direct_multipliers = 256, direct_movers = 128, direct_threads = direct_multipliers + direct_movers;
template <bool Pool>
struct direct_registers {
  static constexpr int multiplier = Pool ? 224 : 232, mover = Pool ? 56 : 40;
  static_assert(multiplier * direct_multipliers + mover * direct_movers <=
                65536 / direct_threads / 8 * 8 * direct_threads);
};

/// A block's shared memory, and what follows from a job's sizes.
struct direct_place {
  char* pixels;   ///< two buffers, used by turns
  char* weights;  ///< of `direct_stages` steps
  char* staging;  ///< `direct_staged` bytes for each warp
  int* tables;    ///< two, used by turns: what source_of says of a tile's pixels
  char* handed;   ///< in their place where windows are pooled: `direct_staged` bytes of each warp for the other group
  int blocks;     ///< of input channels

  __device__ explicit direct_place(direct_job const& job)
      : pixels(swizzled_memory()),
        weights(pixels + 2 * job.halo * direct_rows::row_bytes),
        staging(weights + direct_stages * direct_weights),
        tables(reinterpret_cast<int*>(staging + direct_multipliers / 32 * direct_staged)),
        handed(reinterpret_cast<char*>(tables)),
        blocks(job.in / direct_block) {}
};
__device__ inline int first_channel(direct_job const& job, unsigned tile) {
  return static_cast<int>(tile - job.by_channels.quotient(tile) * job.by_channels.by) * direct_block;
}
template <bool Pool>
__device__ inline int first_position(direct_job const& job, unsigned tile) {
  return static_cast<int>(job.by_channels.quotient(tile)) * (Pool ? direct_group : direct_tile);
}

// A step is a tap of a block of channels. All threads meet before each one; then
// - its weights and pixels are there, since the movers have waited for them in front of the barrier: what they copied
//   at least `ahead` steps back;
// - all products but those of the last step have been made, since the multipliers have waited for them: the weights of
//   the step before it can be overwritten, and from a block's second step on the pixels of the block before.
inline constexpr int direct_ahead = direct_stages - 1 - direct_pending;

/// Steps in which a tile's values go out, while the next one's products are made.
inline constexpr int direct_pieces = 8;

/// What the third warpgroup does. The eight threads of a row share the work of finding out where pixels come from.
template <bool Pool>
__device__ __forceinline__ void move_direct_tiles(direct_job const& job, direct_place const& at) {
  constexpr int row_bytes = direct_rows::row_bytes, together = direct_movers / 8;  // rows that all copy at a time
  // Steps of a block in which the next one's pixels are copied: in the last one they would be there too late.
  constexpr int first_copy = 1, end_copies = 10 - direct_ahead, copies = end_copies - first_copy;
  constexpr int most_passes = (direct_most_halo + together - 1) / together, sources = (most_passes + 7) / 8;
  constexpr int share = (most_passes + copies - 1) / copies;  // passes over `together` rows in a step
  static_assert(8 * sources * together >= direct_most_halo);
  int const thread = static_cast<int>(threadIdx.x) - direct_multipliers;
  int const chunk = thread % 8, row = thread / 8;

  int const rows_left = job.halo - row;

  int mine[sources];    // pixels that passes 8 k + chunk copy; -1 for zeros
  unsigned wanted = 0;  // a bit for each
  auto const find = [&](unsigned tile) {
    int const first = first_position<Pool>(job, tile) - job.pictures.pitch - 1;
    wanted = 0;
#pragma unroll
    for (int k = 0; k < sources; ++k) {
      int const number = (8 * k + chunk) * together + row;
      bool const upper = Pool && number < job.halo / 2;
      int const position = first + number + (!Pool ? 0 : upper ? job.pictures.pitch : -job.halo / 2);
      int const source = job.pictures.source_of(position, Pool && !upper ? 1 : 0);
      mine[k] = source >> 1, wanted |= static_cast<unsigned>(source & 1) << k;
    }
  };
  auto const tell = [&](int* table) {
    if constexpr (!Pool) {
#pragma unroll
      for (int k = 0; k < sources; ++k) {
        int const pixel = (8 * k + chunk) * together + row - job.pictures.pitch - 1;
        if (pixel >= 0 && pixel < direct_tile) table[pixel] = 2 * mine[k] + static_cast<int>(wanted >> k & 1);
      }
    }
  };
  auto const copy_pixels = [&](char* to, char const* from, int pass) {
    int const pixel = __shfl_sync(0xFFFFFFFFu, mine[pass / 8], pass % 8, 8);
    copy_async_some(to + pass * together * row_bytes,  // (rows a multiple of 8 apart have their chunks in one order)
                    from + std::uint64_t{static_cast<unsigned>(std::max(pixel, 0))} * static_cast<unsigned>(2 * job.in),
                    pixel, rows_left - pass * together);
  };
  // A step's weights, in the order of steps.
  unsigned weights_tile = blockIdx.x;
  int weights_step = 0;
  unsigned const weights_row = 2 * 9 * static_cast<unsigned>(job.in);  // in bytes, as all that follows
  char const* weights_from = nullptr;
  auto const copy_weights = [&](unsigned stage) {
    if (weights_tile >= job.tiles) return;
    if (weights_step == 0)
      weights_from = reinterpret_cast<char const*>(job.w) + chunk * 16 +
                     std::uint64_t{static_cast<unsigned>(first_channel(job, weights_tile) + row)} * weights_row;
    char* const to = direct_rows{at.weights + stage * direct_weights}.at(row, chunk);
#pragma unroll
    for (int k = 0; k < direct_block; k += together)
      copy_async(to + k * row_bytes, weights_from + k * weights_row, true);
    weights_from += row_bytes;
    if (++weights_step == 9 * at.blocks) weights_step = 0, weights_tile += gridDim.x;
  };
  char const* const first_pixel = reinterpret_cast<char const*>(job.x) + chunk * 16;

  find(blockIdx.x);
  tell(at.tables);
#pragma unroll
  for (int pass = 0; pass < most_passes; ++pass) copy_pixels(direct_rows{at.pixels}.at(row, chunk), first_pixel, pass);
#pragma unroll
  for (unsigned k = 0; k < direct_ahead; ++k) copy_weights(k), commit_copies();

  unsigned stage = 0, buffer = 0, turn = 0;  // of the weights, the pixels and the tables
  for (unsigned tile = blockIdx.x; tile < job.tiles; tile += gridDim.x, turn ^= 1)
    for (int block = 0; block < at.blocks; ++block, buffer ^= 1) {
      bool const last = block + 1 == at.blocks, more = !last || tile + gridDim.x < job.tiles;
      char* const to = direct_rows{at.pixels + (buffer ^ 1) * job.halo * row_bytes}.at(row, chunk);
      char const* const from = added_up(first_pixel + (last ? 0 : block + 1) * row_bytes);
#pragma unroll
      for (int tap = 0; tap < 9; ++tap, stage = (stage + 1) % direct_stages) {
        wait_copies<direct_ahead - 1>();
        show_to_groups();
        __syncthreads();
        copy_weights((stage + direct_ahead) % direct_stages);
        if (more) {
          if (last && tap == 0) find(tile + gridDim.x);
          if (tap >= first_copy && tap < end_copies) {
#pragma unroll
            for (int k = 0; k < share; ++k)
              if ((tap - first_copy) * share + k < most_passes) copy_pixels(to, from, (tap - first_copy) * share + k);
          }
          // By now the tile before has gone out, and nobody reads its table any more.
          if (last && tap == 8) tell(at.tables + (turn ^ 1) * direct_tile);
        }
        commit_copies();
      }
    }
  wait_copies<0>();
  if constexpr (Pool)
    for (int piece = 0; piece < direct_pieces; ++piece) __syncthreads();
}

/// What the first two do. A tile's values go out while the products of the next one are made: in eight pieces of 32
/// pixels, each by the warp that has them.
///
/// Where windows are pooled, the first warpgroup has their upper halves and the second one the lower halves. Of two
/// pieces, a warp hands over in the first one its halves of 16 windows that the other warpgroup is to put out, and in
/// the second one puts out 16 whose other halves it was handed.
template <bool Pool>
__device__ __forceinline__ void multiply_direct_tiles(direct_job const& job, direct_place const& at) {
  constexpr int row_bytes = direct_rows::row_bytes, blocks_of_8 = direct_group / 8, pieces = direct_pieces;
  static_assert(pieces * 32 == direct_group && pieces % 2 == 0);
  int const thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5, g = lane >> 2, t = lane & 3;
  int const group = __shfl_sync(0xFFFFFFFFu, warp / 4, 0);  // so that the compiler knows that lanes agree
  int const group_pixel = group * direct_group, warp_channel = warp % 4 * 16;

  // Values as they will be read, of two channels, 8 apart: two of each 8 pixels; or windows t and 4 + t of each 8.
  unsigned pairs[Pool ? blocks_of_8 / 2 : blocks_of_8][2];
  float sum[2][2] = {}, square[2][2] = {};  // of the two channels, of the first and the second pixels of pairs
  // Staged rows are 32 bytes of a pixel. Of every other four the halves are exchanged: they lie in different banks.
  char* const staging = at.staging + warp * direct_staged;
  auto const staged = [&](int pixel, int half) { return staging + pixel * 32 + ((pixel >> 2 & 1) ^ half) * 16; };
  char* const store_at = staged(lane / 16 * 8 + (Pool ? lane % 8 / 2 + lane % 2 * 4 : lane % 8), lane / 8 % 2);
  char const* const load_at = staged(lane / 2, lane % 2);
  // Of 16 pixels or windows; a lane's is number `to` of all, unless that is negative.
  auto const put_out_four = [&](unsigned const(&four)[4], int to, int channel) {
    store_matrices_transposed(store_at, four);
    __syncwarp();
    uint4 const values = *reinterpret_cast<uint4 const*>(load_at);
    if (to >= 0)
      *reinterpret_cast<uint4*>(job.y + std::uint64_t{static_cast<unsigned>(to)} * static_cast<unsigned>(job.out) +
                                (channel + lane % 2 * 8)) = values;
    __syncwarp();
  };
  auto const put_out = [&](int piece, unsigned tile, [[maybe_unused]] int const* table) {
    int const channel = first_channel(job, tile) + warp_channel;
    if constexpr (Pool) {
      int const first = piece / 2 * 2;  // of `pairs`; the other warpgroup's `pieces` further on
      unsigned mine[4], other[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        unsigned const upper = pairs[first + k / 2][k % 2], lower = pairs[pieces + first + k / 2][k % 2];
        mine[k] = group == 0 ? upper : lower, other[k] = group == 0 ? lower : upper;
      }
      if (piece % 2 == 0) {
        *reinterpret_cast<uint4*>(at.handed + warp * direct_staged + lane * 16) = {other[0], other[1], other[2],
                                                                                   other[3]};
        return;
      }
      uint4 const handed = *reinterpret_cast<uint4 const*>(at.handed + (warp ^ 4) * direct_staged + lane * 16);
      int const window = 8 * (pieces * group + first) + lane / 2;
      put_out_four({larger_of_each(mine[0], handed.x), larger_of_each(mine[1], handed.y),
                    larger_of_each(mine[2], handed.z), larger_of_each(mine[3], handed.w)},
                   job.pictures.window_of(first_position<Pool>(job, tile) + 2 * window), channel);
    } else {
      int const* const targets = table + group_pixel + 32 * piece;
      if (job.sums != nullptr) {
        // (Not on the matrix units, where it would wait behind the products that are going on.)
        unsigned const wanted = __ballot_sync(0xFFFFFFFFu, (targets[lane] & 1) != 0) >> 2 * t;
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          unsigned const two = wanted >> 8 * n & 3, mask = (two * 0x8001u & 0x10001u) * 0xFFFFu;
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            unsigned const pair = pairs[4 * piece + n][h] & mask;
            float const x[2] = {as_float(pair << 16), as_float(pair & 0xFFFF0000u)};
#pragma unroll
            for (int e = 0; e < 2; ++e) sum[h][e] += x[e], square[h][e] = fmaf(x[e], x[e], square[h][e]);
          }
        }
      }
#pragma unroll
      for (int n = 4 * piece; n < 4 * piece + 4; n += 2) {
        int const to = targets[8 * (n - 4 * piece) + lane / 2];
        put_out_four({pairs[n][0], pairs[n][1], pairs[n + 1][0], pairs[n + 1][1]}, (to & 1) != 0 ? to >> 1 : -1,
                     channel);
      }
      if (piece + 1 == pieces && job.sums != nullptr) {
        unsigned const sum_row = 2 * job.by_channels.quotient(tile) + static_cast<unsigned>(group);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float const values = sum_over(3, sum[h][0] + sum[h][1]), squares = sum_over(3, square[h][0] + square[h][1]);
          double* const to = job.sums + std::size_t{sum_row} * 2 * job.out + channel + g + 8 * h;
          if (t == 0 && sum_row < job.sum_rows) to[0] = values, to[job.out] = squares;
          sum[h][0] = sum[h][1] = square[h][0] = square[h][1] = 0;
        }
        __syncwarp();
      }
    }
  };
  // The row of shared memory where a tap of the warpgroup's first pixel lies. Of pooled lines there are the row above,
  // in lower rows' half, the two of the line itself, and the one below.
  auto const first_row = [&](int tap) {
    int const down = Pool ? group + tap / 3 : tap / 3;
    int const line = Pool ? (down % 2 == 0 ? job.halo / 2 : 0) + down / 2 * job.pictures.pitch
                          : group_pixel + down * job.pictures.pitch;
    return line + tap % 3;
  };

  unsigned stage = 0, buffer = 0, turn = 0;  // as the movers'
  for (unsigned tile = blockIdx.x; tile < job.tiles; tile += gridDim.x, turn ^= 1) {
    float sums[1][blocks_of_8][4] = {};
    hold(sums);
    float shift[2] = {};
    if (job.shift != nullptr) {
      int const mine = first_channel(job, tile) + warp_channel + g;
      shift[0] = job.shift[mine], shift[1] = job.shift[mine + 8];
    }
    for (int block = 0; block < at.blocks; ++block, buffer ^= 1) {
      bool const going_out = block == 0 && tile != blockIdx.x;
#pragma unroll
      for (int tap = 0; tap < 9; ++tap, stage = (stage + 1) % direct_stages) {
        __syncthreads();
        direct_rows const left{at.weights + stage * direct_weights};
        direct_rows const right{at.pixels + buffer * job.halo * row_bytes};
        int const from = first_row(tap);
        begin_group_products();
#pragma unroll
        for (int term = 0; term < 8; term += 2)
          multiply_groups<false>(sums[0], left.straight(0, term), right.straight(from, term));
        commit_group_products();
        static_assert(pieces <= 8);  // in the last step movers overwrite the table
        if (going_out && tap < pieces) put_out(tap, tile - gridDim.x, at.tables + (turn ^ 1) * direct_tile);
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
      for (int h = 0; h < 2; ++h) {
        float const(&x)[4] = sums[0][n], (&next)[4] = sums[0][n ^ 1];
        if constexpr (!Pool)
          pairs[n][h] = packed(x[2 * h], x[2 * h + 1]);
        else if (n % 2 == 0)
          pairs[n / 2][h] = packed(larger(x[2 * h], x[2 * h + 1]), larger(next[2 * h], next[2 * h + 1]));
      }
    if (tile + gridDim.x < job.tiles) continue;
#pragma unroll
    for (int piece = 0; piece < pieces; ++piece) {
      if constexpr (Pool) __syncthreads();
      put_out(piece, tile, at.tables + turn * direct_tile);
    }
  }
}

template <bool Pool>
__device__ __forceinline__ void convolve_direct_tiles(direct_job const& job) {
  direct_place const at(job);
  if (__shfl_sync(0xFFFFFFFFu, threadIdx.x, 0) < direct_multipliers) {
    more_registers<direct_registers<Pool>::multiplier>();
    multiply_direct_tiles<Pool>(job, at);
  } else {
    fewer_registers<direct_registers<Pool>::mover>();
    move_direct_tiles<Pool>(job, at);
  }
}

/// (Empty in code that cannot do it, and not run there.)
template <bool Pool>
__global__ __launch_bounds__(direct_threads, 1) void convolve_direct(direct_job const job) {
  if constexpr (warpgroup_code) convolve_direct_tiles<Pool>(job);
}

/// Fills in the rest of `job` and runs it. Returns how many rows of sums there are.
template <class P>
std::size_t run_direct(context<cuda<P>>& on, conv_dims const& d, direct_job job) {
  direct_layout const is = layout_of(d, job.pool);
  if (is.positions == 0) return 0;
  job.pictures = picture_row(d, is);
  job.in = static_cast<int>(d.in), job.out = static_cast<int>(d.out),
  job.sum_rows = job.pool ? 0 : narrow(direct_sum_rows(d));
  job.halo = static_cast<int>(direct_halo(is.pitch, is.rows));
  job.by_channels = divider(d.out / direct_block);
  job.tiles = blocks_for(is.positions, direct_tile / is.rows) * job.by_channels.by;
  // All there is: what a kernel may have belongs to the kernel, and is not to become less than an earlier launch needs.
  launch(on.stream(), job.pool ? convolve_direct<true> : convolve_direct<false>,
         dim3(std::min(job.tiles, on.most_blocks())), direct_threads, most_shared, job);
  return job.sum_rows;
}

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
