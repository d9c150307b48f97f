/// @file  include/l3/kernels/cuda/row_sums.cuh: sums over all rows, a value a channel, on a GPU.
///
/// Rows are cut into tiles; whoever reads a tile writes its sums, in double, as (tiles, Sums, channels). They are added
/// up in two steps of a fixed order, which their number alone decides.
#pragma once
#include <algorithm>
#include <l3/core/memory.hpp>
#include <l3/kernels/cuda/vector.cuh>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail::gpu {

inline constexpr std::size_t row_tile = 256;   ///< rows in a tile, unless whoever reads them has other tiles
inline constexpr std::size_t sum_groups = 64;  ///< what tiles are added up to before the last step

constexpr std::size_t row_tiles(std::size_t rows, std::size_t each = row_tile) { return (rows + each - 1) / each; }
/// Room for the sums of all tiles of items of `pixels` rows, and for the groups.
constexpr footprint sums_room(std::size_t sums, std::size_t pixels, std::size_t channels, std::size_t each = row_tile) {
  return per_item<double>(row_tiles(pixels, each) * sums * channels) + fixed<double>(sum_groups * sums * channels);
}
/// The same for any number of rows.
constexpr std::size_t sums_bytes(std::size_t sums, std::size_t rows, std::size_t channels) {
  return (row_tiles(rows) + sum_groups) * sums * channels * sizeof(double);
}

/// The sums of part blockIdx.y of `tiles` tiles: 32 columns to a block, 8 threads to a column.
template <class = void>
__global__ __launch_bounds__(256) void add_tiles(double const* tiles, unsigned count, unsigned columns,
                                                 double* groups) {
  double* const shared = shared_memory<double>();
  unsigned const lane = threadIdx.x % 32, part = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
  unsigned const begin = static_cast<unsigned>(std::uint64_t{count} * blockIdx.y / gridDim.y);
  unsigned const end = static_cast<unsigned>(std::uint64_t{count} * (blockIdx.y + 1) / gridDim.y);
  double sum = 0;
  if (column < columns)
    for (unsigned t = begin + part; t < end; t += 8) sum += tiles[std::size_t{t} * columns + column];
  shared[part * 32 + lane] = sum;
  __syncthreads();
  if (part != 0 || column >= columns) return;
  for (unsigned p = 1; p < 8; ++p) sum += shared[p * 32 + lane];
  groups[std::size_t{blockIdx.y} * columns + column] = sum;
}

/// Hands each channel's totals over `count` (tiles, Sums, channels) to `finish`.
template <int Sums, class Finish>
__global__ __launch_bounds__(256) void add_groups(double const* groups, unsigned count, unsigned channels,
                                                  Finish finish) {
  double* const shared = shared_memory<double>();
  unsigned const lane = threadIdx.x % 32, part = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
  double sum[Sums] = {};
  if (c < channels)
    for (unsigned t = part; t < count; t += 8)
      for (int s = 0; s < Sums; ++s) sum[s] += groups[(std::size_t{t} * Sums + s) * channels + c];
  for (int s = 0; s < Sums; ++s) shared[(s * 8 + part) * 32 + lane] = sum[s];
  __syncthreads();
  if (part != 0 || c >= channels) return;
  for (unsigned p = 1; p < 8; ++p)
    for (int s = 0; s < Sums; ++s) sum[s] += shared[(s * 8 + p) * 32 + lane];
  finish(c, sum);
}

/// Adds up (count, Sums, channels) at `tiles`, behind which there is room for the groups.
template <int Sums, class Finish>
void finish_sums(cudaStream_t in, double* tiles, std::size_t count, std::size_t channels, Finish const& finish) {
  if (count > sum_groups) {
    double* const groups = tiles + count * Sums * channels;
    launch(in, add_tiles<>, dim3(blocks_for(Sums * channels, 32), narrow(sum_groups)), 256, 256 * sizeof(double), tiles,
           narrow(count), narrow(Sums * channels), groups);
    tiles = groups, count = sum_groups;
  }
  launch(in, add_groups<Sums, Finish>, dim3(blocks_for(channels, 32)), 256, 256 * Sums * sizeof(double), tiles,
         narrow(count), narrow(channels), finish);
}

/// How 256 threads share a tile out: `lanes` of them take V neighbouring channels of a row each, the others other rows.
struct row_share {
  unsigned lanes, groups;
  row_share(std::size_t channels, int v) {
    std::size_t const chunks = (channels + v - 1) / v;
    for (lanes = 1; lanes < 32 && lanes < chunks; lanes *= 2) {
    }
    groups = blocks_for(chunks, lanes);
  }
};

/// Adds up what the threads of a block have of its tile, row_share's way, part after part. Shared memory: Sums V 256 of
/// S.
template <int Sums, int V, class S>
__device__ void write_tile(S const (&sum)[Sums][V], unsigned lanes, unsigned channels, double* tiles) {
  S* const shared = shared_memory<S>();
  unsigned const parts = 256 / lanes;
#pragma unroll
  for (int s = 0; s < Sums; ++s)
#pragma unroll
    for (int k = 0; k < V; ++k) shared[(s * V + k) * 256 + threadIdx.x] = sum[s][k];
  __syncthreads();
  for (unsigned at = threadIdx.x; at < Sums * V * lanes; at += 256) {
    unsigned const which = at / lanes, s = which / V, column = (blockIdx.y * lanes + at % lanes) * V + which % V;
    if (column >= channels) continue;
    double total = 0;
    for (unsigned p = 0; p < parts; ++p) total += shared[which * 256 + p * lanes + at % lanes];
    tiles[(std::size_t{blockIdx.x} * Sums + s) * channels + column] = total;
  }
}

/// Sums, and with Sums = 2 those of the squares, of a tile's rows.
template <int Sums, class T, int V>
__global__ __launch_bounds__(256) void sum_rows(T const* x, unsigned rows, unsigned channels, unsigned lanes,
                                                double* tiles) {
  unsigned const lane = threadIdx.x % lanes, part = threadIdx.x / lanes, parts = 256 / lanes;
  unsigned const c = (blockIdx.y * lanes + lane) * V, begin = blockIdx.x * static_cast<unsigned>(row_tile);
  unsigned const end = std::min(begin + static_cast<unsigned>(row_tile), rows);
  double sum[Sums][V] = {};
  if (c < channels)
    for (unsigned row = begin + part; row < end; row += parts) {
      values<T, V> v;
      v.load(x + std::size_t{row} * channels + c);
      for (int k = 0; k < V; ++k) {
        auto const value = static_cast<double>(v.v[k]);
        sum[0][k] += value;
        if constexpr (Sums == 2) sum[1][k] += value * value;
      }
    }
  write_tile(sum, lanes, channels, tiles);
}

template <int Sums, class T, class Finish>
void sum_all_rows(cudaStream_t in, std::size_t rows, std::size_t channels, T const* x, std::byte* scratch,
                  Finish const& finish) {
  auto* const tiles = reinterpret_cast<double*>(scratch);
  bool const vector = channels % vector_size<T> == 0;
  row_share const share(channels, vector ? vector_size<T> : 1);
  dim3 const grid(narrow(row_tiles(rows)), share.groups);
  launch(in, vector ? sum_rows<Sums, T, vector_size<T>> : sum_rows<Sums, T, 1>, grid, 256,
         256 * Sums * (vector ? vector_size<T> : 1) * sizeof(double), x, narrow(rows), narrow(channels), share.lanes,
         tiles);
  finish_sums<Sums>(in, tiles, row_tiles(rows), channels, finish);
}

struct keep_sum {
  float* to;
  __device__ void operator()(unsigned c, double const (&sum)[1]) const { to[c] = static_cast<float>(sum[0]); }
};
struct keep_moments {
  float *mean, *variance;
  double rows;
  __device__ void operator()(unsigned c, double const (&sum)[2]) const {
    double const m = sum[0] / rows, v = sum[1] / rows - m * m;
    mean[c] = static_cast<float>(m);
    variance[c] = static_cast<float>(v > 0 ? v : 0);
  }
};

}  // namespace detail::gpu

template <class P, class T>
void channel_sums(context<cuda<P>>& on, std::size_t rows, std::size_t channels, T const* x, float* sums,
                  std::byte* scratch) {
  detail::gpu::sum_all_rows<1>(on.stream(), rows, channels, x, scratch, detail::gpu::keep_sum{sums});
}

template <class P>
void channel_moments(context<cuda<P>>& on, std::size_t rows, std::size_t channels, value_of<cuda<P>> const* x,
                     float* mean, float* variance, std::byte* scratch) {
  detail::gpu::sum_all_rows<2>(on.stream(), rows, channels, x, scratch,
                               detail::gpu::keep_moments{mean, variance, static_cast<double>(rows)});
}

}  // namespace l3::inline L3_ISA
