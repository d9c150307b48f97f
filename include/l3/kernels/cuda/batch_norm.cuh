/// @file  include/l3/kernels/cuda/batch_norm.cuh: batch norm, rectifier and max pooling as one pass forward and two
/// backward, on a GPU.
///
/// Backward, the first pass takes the sums and the second one writes the gradient; both find out again, from x, where
/// each window's gradient goes, which costs less than to have kept it. A thread keeps the coefficients of its channels
/// and goes over many pixels.
#pragma once
#include <algorithm>
#include <l3/core/memory.hpp>
#include <l3/kernels/cuda/pool2d.cuh>
#include <l3/kernels/cuda/row_sums.cuh>
#include <l3/kernels/dims.hpp>
#include <utility>

namespace l3::inline L3_ISA {
namespace detail::gpu {

template <class = void>
__global__ void train_coefficients(unsigned channels, double unbias, double epsilon, float momentum, float const* mean,
                                   float const* variance, float const* gamma, float const* beta, float* running_mean,
                                   float* running_variance, float* scale, float* shift, float* inverse_std) {
  unsigned const c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  inverse_std[c] = static_cast<float>(1.0 / sqrt(static_cast<double>(variance[c]) + epsilon));
  scale[c] = gamma[c] * inverse_std[c];
  shift[c] = beta[c] - mean[c] * scale[c];
  running_mean[c] += momentum * (mean[c] - running_mean[c]);
  running_variance[c] += momentum * (static_cast<float>(unbias) * variance[c] - running_variance[c]);
}
template <class = void>
__global__ void eval_coefficients(unsigned channels, double epsilon, float const* running_mean,
                                  float const* running_variance, float const* gamma, float const* beta,
                                  float const* bias, float* scale, float* shift) {
  unsigned const c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  scale[c] = gamma[c] * static_cast<float>(1.0 / sqrt(static_cast<double>(running_variance[c]) + epsilon));
  shift[c] = beta[c] - (bias != nullptr ? running_mean[c] - bias[c] : running_mean[c]) * scale[c];
}

/// Two arrays of a value for each channel, one behind the other.
template <class = void>
__global__ void put_together(unsigned channels, float const* a, float const* b, float* to) {
  unsigned const c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c < channels) to[c] = a[c], to[channels + c] = b[c];
}
/// `all` is (processes, 2, channels): the moments of everyone's rows, of which each has as many.
template <class = void>
__global__ void moments_of_all(unsigned channels, unsigned processes, float const* all, float* mean, float* variance) {
  unsigned const c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  double first = 0, second = 0;
  for (unsigned r = 0; r < processes; ++r) {
    double const m = all[2 * r * channels + c];
    first += m, second += all[(2 * r + 1) * channels + c] + m * m;
  }
  first /= processes, second = second / processes - first * first;
  mean[c] = static_cast<float>(first), variance[c] = static_cast<float>(second > 0 ? second : 0);
}
/// The same: the means over the processes.
template <class = void>
__global__ void means_of_all(unsigned channels, unsigned processes, float const* all, float* a, float* b) {
  unsigned const c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  double sum[2] = {};
  for (unsigned r = 0; r < processes; ++r)
    sum[0] += all[2 * r * channels + c], sum[1] += all[(2 * r + 1) * channels + c];
  a[c] = static_cast<float>(sum[0] / processes), b[c] = static_cast<float>(sum[1] / processes);
}
/// Everyone's a and b: (processes, 2, channels), behind two values for each channel that are to be all processes'.
template <class P>
float* everyones(context<cuda<P>>& on, std::size_t channels, float const* a, float const* b) {
  float *const mine = on.norm_room(), *const all = mine + 4 * channels;
  launch(on.stream(), put_together<>, dim3(blocks_for(channels, 128)), 128, 0, narrow(channels), a, b, mine);
  on.norm_group()->gather(mine, all, 2 * channels * sizeof(float), on.stream());
  return all;
}
/// The sums that batch norm's gradient is made of: this process's own or, with a group, the means over the processes.
template <class P>
std::pair<float const*, float const*> sums_of_all(context<cuda<P>>& on, std::size_t channels, float const* dgamma,
                                                  float const* dbeta) {
  if (on.norm_group() == nullptr) return {dgamma, dbeta};
  float *const all = everyones(on, channels, dgamma, dbeta), *const joint = all - 2 * channels;
  launch(on.stream(), means_of_all<>, dim3(blocks_for(channels, 128)), 128, 0, narrow(channels),
         narrow(on.norm_group()->size()), all, joint, joint + channels);
  return {joint, joint + channels};
}

/// Cells of Side x Side pixels side by side cover the picture, the last ones in part. A whole cell is a window.
struct cell_job {
  int height, width, channels, out_height, out_width;
  unsigned cells;
  divider by_width, by_height;  ///< of pictures in cells
  unsigned lanes;

  cell_job(pool_dims const& d, std::size_t side, bool whole_alone, unsigned share)
      : height(static_cast<int>(d.height)),
        width(static_cast<int>(d.width)),
        channels(static_cast<int>(d.channels)),
        out_height(static_cast<int>(d.height / side)),
        out_width(static_cast<int>(d.width / side)),
        lanes(share) {
    std::size_t const more = whole_alone ? 0 : side - 1;
    std::size_t const lines = (d.height + more) / side, columns = (d.width + more) / side;
    cells = narrow(d.batch * lines * columns);
    by_width = divider(columns), by_height = divider(lines);
  }
};
/// One cell: its first pixel, which of its pixels are there, and its window's place among those of all items.
template <int Side>
struct cell_place {
  unsigned pixel, window;
  bool right, below;  ///< there is a second column, a second line

  __device__ cell_place(cell_job const& job, unsigned cell) {
    if constexpr (Side == 1) {
      pixel = window = cell, right = below = true;
    } else {
      unsigned const line = job.by_width.quotient(cell), item = job.by_height.quotient(line);
      auto const j = static_cast<int>(cell - line * job.by_width.by);
      auto const i = static_cast<int>(line - item * job.by_height.by);
      pixel = (item * static_cast<unsigned>(job.height) + static_cast<unsigned>(Side * i)) *
                  static_cast<unsigned>(job.width) +
              static_cast<unsigned>(Side * j);
      window = (item * static_cast<unsigned>(job.out_height) + static_cast<unsigned>(i)) *
                   static_cast<unsigned>(job.out_width) +
               static_cast<unsigned>(j);
      right = j < job.out_width, below = i < job.out_height;
    }
  }
  __device__ bool whole() const { return right && below; }
  __device__ bool has(int k) const { return (k % Side == 0 || right) && (k / Side == 0 || below); }
  /// Pixel k of the cell, line by line.
  __device__ std::size_t at(cell_job const& job, int k) const {
    return (std::size_t{pixel} + static_cast<unsigned>(k / Side * job.width + k % Side)) *
           static_cast<unsigned>(job.channels);
  }
};
/// Cells that a thread visits one after the other in the passes without sums.
inline constexpr unsigned cells_in_a_row = 8;

template <class T, int V, int Side>
__global__ __launch_bounds__(256) void normalise(cell_job const job, T const* x, float const* scale, float const* shift,
                                                 bool relu, T* y) {
  unsigned const lane = threadIdx.x % job.lanes, part = threadIdx.x / job.lanes, parts = 256 / job.lanes;
  unsigned const c = (blockIdx.y * job.lanes + lane) * V;
  if (c >= static_cast<unsigned>(job.channels)) return;
  affine<V> norm;
  norm.load(scale, shift, c, relu);
  for (unsigned k = 0; k < cells_in_a_row; ++k) {
    unsigned const cell = (blockIdx.x * cells_in_a_row + k) * parts + part;
    if (cell >= job.cells) return;
    cell_place<Side> const place(job, cell);
    values<T, V> in[Side * Side], best;
#pragma unroll
    for (int p = 0; p < Side * Side; ++p) in[p].load(x + place.at(job, p) + c);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      best.v[e] = norm.before_relu(in[0].v[e], e);
#pragma unroll
      for (int p = 1; p < Side * Side; ++p) {
        float const value = norm.before_relu(in[p].v[e], e);
        if (value > best.v[e] || value != value) best.v[e] = value;
      }
      best.v[e] = norm.rectified(best.v[e]);
    }
    best.store(y + std::size_t{place.window} * static_cast<unsigned>(job.channels) + c);
  }
}

/// What the backward passes need of a channel.
template <int V>
struct backward_state {
  affine<V> norm;
  float mean[V], inverse_std[V];

  __device__ void load(norm_state<float> const& state, unsigned c, bool relu) {
    norm.relu = relu;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      mean[k] = state.mean[c + k], inverse_std[k] = state.inverse_std[c + k];
      norm.scale[k] = state.gamma[c + k] * inverse_std[k];
      norm.shift[k] = state.beta[c + k] - mean[k] * norm.scale[k];
    }
  }
  /// The pixel of a cell that takes the gradient, -1 if none does.
  template <class T, int Pixels>
  __device__ int winner(values<T, V> const (&x)[Pixels], int k) const {
    float best = norm.before_relu(x[0].v[k], k);
    int first = 0;
#pragma unroll
    for (int p = 1; p < Pixels; ++p) {
      float const value = norm.before_relu(x[p].v[k], k);
      if (value > best) best = value, first = p;
    }
    return norm.relu && !(best > 0) ? -1 : first;
  }
};

template <class T, int V, int Side>
__global__ __launch_bounds__(256) void norm_gradient_sums(cell_job const job, T const* x, norm_state<float> const state,
                                                          bool relu, T const* dy, double* tiles) {
  unsigned const lane = threadIdx.x % job.lanes, part = threadIdx.x / job.lanes, parts = 256 / job.lanes;
  auto const channels = static_cast<unsigned>(job.channels);
  unsigned const c = (blockIdx.y * job.lanes + lane) * V;
  unsigned const begin = blockIdx.x * static_cast<unsigned>(row_tile);
  unsigned const end = std::min(begin + static_cast<unsigned>(row_tile), job.cells);
  float sum[2][V] = {};
  if (c < channels) {
    backward_state<V> at;
    at.load(state, c, relu);
    for (unsigned cell = begin + part; cell < end; cell += parts) {
      cell_place<Side> const place(job, cell);
      if (!place.whole()) continue;
      values<T, V> in[Side * Side], g;
#pragma unroll
      for (int p = 0; p < Side * Side; ++p) in[p].load(x + place.at(job, p) + c);
      g.load(dy + std::size_t{place.window} * channels + c);
#pragma unroll
      for (int e = 0; e < V; ++e) {
        int const to = at.winner(in, e);
        float value = in[0].v[e];
#pragma unroll
        for (int p = 1; p < Side * Side; ++p) value = to == p ? in[p].v[e] : value;
        float const gradient = to >= 0 ? g.v[e] : 0.0f;
        sum[0][e] += gradient;
        sum[1][e] = fmaf(gradient, (value - at.mean[e]) * at.inverse_std[e], sum[1][e]);
      }
    }
  }
  write_tile(sum, job.lanes, channels, tiles);
}
struct keep_gradients {
  float *dgamma, *dbeta;
  __device__ void operator()(unsigned c, double const (&sum)[2]) const {
    dbeta[c] = static_cast<float>(sum[0]), dgamma[c] = static_cast<float>(sum[1]);
  }
};

/// The gradient at batch norm's input, from that at its output and the sums of all `rows` pixels.
template <int V>
struct input_gradient : backward_state<V> {
  float mean_g[V], slope[V];

  __device__ void load(norm_state<float> const& state, unsigned c, bool relu, float const* dgamma, float const* dbeta,
                       float rows) {
    backward_state<V>::load(state, c, relu);
#pragma unroll
    for (int k = 0; k < V; ++k) mean_g[k] = dbeta[c + k] / rows, slope[k] = dgamma[c + k] / rows * this->inverse_std[k];
  }
  __device__ float operator()(float g, float x, int k) const {
    return this->norm.scale[k] * (g - mean_g[k] - (x - this->mean[k]) * slope[k]);
  }
};

/// dx and dy may be one.
template <class T, int V, int Side>
__global__ __launch_bounds__(256) void norm_gradient(cell_job const job, T const* x, norm_state<float> const state,
                                                     bool relu, T const* dy, float const* dgamma, float const* dbeta,
                                                     float rows, T* dx) {
  unsigned const lane = threadIdx.x % job.lanes, part = threadIdx.x / job.lanes, parts = 256 / job.lanes;
  auto const channels = static_cast<unsigned>(job.channels);
  unsigned const c = (blockIdx.y * job.lanes + lane) * V;
  if (c >= channels) return;
  input_gradient<V> at;
  at.load(state, c, relu, dgamma, dbeta, rows);
  for (unsigned k = 0; k < cells_in_a_row; ++k) {
    unsigned const cell = (blockIdx.x * cells_in_a_row + k) * parts + part;
    if (cell >= job.cells) return;
    cell_place<Side> const place(job, cell);
    values<T, V> in[Side * Side], g;
#pragma unroll
    for (int p = 0; p < Side * Side; ++p)
      if (place.has(p)) in[p].load(x + place.at(job, p) + c);
    if (place.whole()) g.load(dy + std::size_t{place.window} * channels + c);
    int to[V];
#pragma unroll
    for (int e = 0; e < V; ++e) to[e] = place.whole() ? at.winner(in, e) : -1;
#pragma unroll
    for (int p = 0; p < Side * Side; ++p) {
      if (!place.has(p)) continue;
      values<T, V> out;
#pragma unroll
      for (int e = 0; e < V; ++e) out.v[e] = at(to[e] == p ? g.v[e] : 0.0f, in[p].v[e], e);
      out.store(dx + place.at(job, p) + c);
    }
  }
}

template <int Side, class T, int V>
void affine_pool(cudaStream_t in, pool_dims const& d, T const* x, float const* scale, float const* shift, bool relu,
                 T* y) {
  row_share const share(d.channels, V);
  cell_job const job(d, Side, true, share.lanes);
  dim3 const grid(blocks_for(job.cells, 256 / share.lanes * cells_in_a_row), share.groups);
  launch(in, normalise<T, V, Side>, grid, 256, 0, job, x, scale, shift, relu, y);
}
template <int Side, class T, int V, class P>
void norm_backward(context<cuda<P>>& on, pool_dims const& d, T const* x, norm_state<float> const& norm, bool relu,
                   T const* dy, T* dx, float* dgamma, float* dbeta, double* tiles) {
  cudaStream_t const in = on.stream();
  row_share const share(d.channels, V);
  cell_job const job(d, Side, false, share.lanes);
  std::size_t const count = row_tiles(job.cells);
  launch(in, norm_gradient_sums<T, V, Side>, dim3(narrow(count), share.groups), 256, 256 * 2 * V * sizeof(float), job,
         x, norm, relu, dy, tiles);
  finish_sums<2>(in, tiles, count, d.channels, keep_gradients{dgamma, dbeta});
  auto const [of_gamma, of_beta] = sums_of_all(on, d.channels, dgamma, dbeta);
  dim3 const grid(blocks_for(job.cells, 256 / share.lanes * cells_in_a_row), share.groups);
  launch(in, norm_gradient<T, V, Side>, grid, 256, 0, job, x, norm, relu, dy, of_gamma, of_beta,
         static_cast<float>(d.rows()), dx);
}

/// Behind a window that is the whole picture one pixel of an item takes a channel's gradient: which one, and batch
/// norm's sums for the item, as tile blockIdx.y. A block finds those of 8 vectors of channels; `winners` has -1 where
/// the rectifier stops even the largest.
template <class T, int V>
__global__ __launch_bounds__(256) void find_winners(unsigned pixels, unsigned channels, T const* x,
                                                    norm_state<float> const state, bool relu, T const* dy, int* winners,
                                                    double* tiles) {
  float* const largest = shared_memory<float>();  // (V, 256)
  int* const places = reinterpret_cast<int*>(largest + 256 * V);
  unsigned const lane = threadIdx.x % 8, part = threadIdx.x / 8, c = (blockIdx.x * 8 + lane) * V;
  T const* const from = x + std::size_t{blockIdx.y} * pixels * channels;
  float best[V];
  int first[V];
#pragma unroll
  for (int k = 0; k < V; ++k) best[k] = as_float(0xFF800000u), first[k] = -1;
  if (c < channels) {
    backward_state<V> at;
    at.load(state, c, relu);
    for (unsigned p = part; p < pixels; p += 32) {
      values<T, V> in;
      in.load(from + std::size_t{p} * channels + c);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        float const value = at.norm.before_relu(in.v[k], k);
        if (first[k] < 0 || value > best[k]) best[k] = value, first[k] = static_cast<int>(p);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < V; ++k) largest[k * 256 + threadIdx.x] = best[k], places[k * 256 + threadIdx.x] = first[k];
  __syncthreads();
  unsigned const k = threadIdx.x / 8, mine = (blockIdx.x * 8 + lane) * V + k;
  if (k >= V || mine >= channels) return;
  float most = largest[k * 256 + lane];
  int winner = places[k * 256 + lane];
  for (unsigned other = 1; other < 32; ++other) {
    float const value = largest[k * 256 + other * 8 + lane];
    int const p = places[k * 256 + other * 8 + lane];
    if (p >= 0 && (value > most || (value == most && p < winner))) most = value, winner = p;
  }
  if (relu && !(most > 0)) winner = -1;
  std::size_t const at = std::size_t{blockIdx.y} * channels + mine;
  winners[at] = winner;
  double* const sums = tiles + std::size_t{blockIdx.y} * 2 * channels + mine;
  float const gradient = winner < 0 ? 0.0f : to_float(dy[at]);
  float const value = winner < 0 ? 0.0f : to_float(from[std::size_t{static_cast<unsigned>(winner)} * channels + mine]);
  sums[0] = gradient;
  sums[channels] = winner < 0 ? 0.0f : gradient * ((value - state.mean[mine]) * state.inverse_std[mine]);
}
/// The gradient at batch norm's input of these.
template <class T, int V>
__global__ __launch_bounds__(256) void winners_gradient(divider by_pixels, unsigned rows, unsigned channels,
                                                        unsigned lanes, T const* x, norm_state<float> const state,
                                                        T const* dy, int const* winners, float const* dgamma,
                                                        float const* dbeta, T* dx) {
  unsigned const lane = threadIdx.x % lanes, part = threadIdx.x / lanes, parts = 256 / lanes;
  unsigned const c = (blockIdx.y * lanes + lane) * V;
  if (c >= channels) return;
  input_gradient<V> at;
  at.load(state, c, false, dgamma, dbeta, static_cast<float>(rows));
  for (unsigned k = 0; k < cells_in_a_row; ++k) {
    unsigned const row = (blockIdx.x * cells_in_a_row + k) * parts + part;
    if (row >= rows) return;
    unsigned const item = by_pixels.quotient(row), pixel = row - item * by_pixels.by;
    std::size_t const place = std::size_t{item} * channels + c;
    values<T, V> in, g, out;
    in.load(x + std::size_t{row} * channels + c), g.load(dy + place);
#pragma unroll
    for (int e = 0; e < V; ++e)
      out.v[e] = at(winners[place + e] == static_cast<int>(pixel) ? g.v[e] : 0.0f, in.v[e], e);
    out.store(dx + std::size_t{row} * channels + c);
  }
}
template <class T, int V, class P>
void whole_backward(context<cuda<P>>& on, pool_dims const& d, T const* x, norm_state<float> const& norm, bool relu,
                    T const* dy, T* dx, float* dgamma, float* dbeta, int* winners, double* tiles) {
  cudaStream_t const in = on.stream();
  unsigned const pixels = narrow(d.height * d.width), channels = narrow(d.channels);
  launch(in, find_winners<T, V>, dim3(blocks_for(d.channels, 8 * V), narrow(d.batch)), 256,
         256 * V * (sizeof(float) + sizeof(int)), pixels, channels, x, norm, relu, dy, winners, tiles);
  finish_sums<2>(in, tiles, d.batch, d.channels, keep_gradients{dgamma, dbeta});
  auto const [of_gamma, of_beta] = sums_of_all(on, d.channels, dgamma, dbeta);
  row_share const share(d.channels, V);
  dim3 const grid(blocks_for(d.rows(), 256 / share.lanes * cells_in_a_row), share.groups);
  launch(in, winners_gradient<T, V>, grid, 256, 0, divider(d.height * d.width), narrow(d.rows()), channels, share.lanes,
         x, norm, dy, winners, of_gamma, of_beta, dx);
}

constexpr bool pools_nothing(pool_dims const& d) { return d.window == extent2{1, 1} && d.stride == extent2{1, 1}; }
constexpr bool pools_2x2(pool_dims const& d) { return d.window == extent2{2, 2} && d.stride == extent2{2, 2}; }
/// (A grid has no more lines than that.)
constexpr bool pools_all(pool_dims const& d) {
  return d.window.height == d.height && d.window.width == d.width && d.batch <= 65535;
}

template <class = void>
__global__ void state_coefficients(unsigned channels, norm_state<float> const state, float* scale, float* shift) {
  unsigned const c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  scale[c] = state.gamma[c] * state.inverse_std[c];
  shift[c] = state.beta[c] - state.mean[c] * scale[c];
}

}  // namespace detail::gpu

/// Moments of a batch become those of the batches of all processes, see context::norm_over.
template <class P>
void batch_norm_join_moments(context<cuda<P>>& on, std::size_t channels, float* mean, float* variance) {
  using namespace detail::gpu;
  float const* const all = everyones(on, channels, mean, variance);
  launch(on.stream(), moments_of_all<>, dim3(blocks_for(channels, 128)), 128, 0, narrow(channels),
         narrow(on.norm_group()->size()), all, mean, variance);
}

template <class P>
void batch_norm_train_coefficients(context<cuda<P>>& on, std::size_t rows, std::size_t channels, double epsilon,
                                   double momentum, float const* mean, float const* variance, float const* gamma,
                                   float const* beta, float* running_mean, float* running_variance, float* scale,
                                   float* shift, float* inverse_std) {
  double const unbias = rows > 1 ? static_cast<double>(rows) / static_cast<double>(rows - 1) : 1.0;
  detail::gpu::launch(on.stream(), detail::gpu::train_coefficients<>, dim3(detail::gpu::blocks_for(channels, 128)), 128,
                      0, detail::gpu::narrow(channels), unbias, epsilon, static_cast<float>(momentum), mean, variance,
                      gamma, beta, running_mean, running_variance, scale, shift, inverse_std);
}
template <class P>
void batch_norm_eval_coefficients(context<cuda<P>>& on, std::size_t channels, double epsilon, float const* running_mean,
                                  float const* running_variance, float const* gamma, float const* beta,
                                  float const* bias, float* scale, float* shift) {
  detail::gpu::launch(on.stream(), detail::gpu::eval_coefficients<>, dim3(detail::gpu::blocks_for(channels, 128)), 128,
                      0, detail::gpu::narrow(channels), epsilon, running_mean, running_variance, gamma, beta, bias,
                      scale, shift);
}

template <class P>
void affine_pool_forward(context<cuda<P>>& on, pool_dims const& d, value_of<cuda<P>> const* x, float const* scale,
                         float const* shift, bool relu, value_of<cuda<P>>* y) {
  using T = value_of<cuda<P>>;
  detail::gpu::by_vector<T>(d.channels, [&]<int V>() {
    if (detail::gpu::pools_nothing(d))
      detail::gpu::affine_pool<1, T, V>(on.stream(), d, x, scale, shift, relu, y);
    else if (detail::gpu::pools_2x2(d))
      detail::gpu::affine_pool<2, T, V>(on.stream(), d, x, scale, shift, relu, y);
    else
      detail::gpu::launch_pool<T, V>(on.stream(), d, x, scale, shift, relu, y);
  });
}

template <class P>
void batch_norm_relu_pool_backward(context<cuda<P>>& on, pool_dims const& d, value_of<cuda<P>> const* x,
                                   norm_state<float> const& norm, bool relu, value_of<cuda<P>> const* dy,
                                   value_of<cuda<P>>* dx, float* dgamma, float* dbeta, std::byte* scratch) {
  using T = value_of<cuda<P>>;
  std::size_t const row = round_up(d.channels, alignment / sizeof(float));
  auto* const scale = reinterpret_cast<float*>(scratch);
  float* const shift = scale + row;
  auto* const winners = reinterpret_cast<int*>(shift + row);
  auto* const tiles = reinterpret_cast<double*>(winners + d.batch * row);
  bool const nothing = detail::gpu::pools_nothing(d), small = detail::gpu::pools_2x2(d);
  if (!nothing && detail::gpu::pools_all(d))
    return detail::gpu::by_vector<T>(d.channels, [&]<int V>() {
      detail::gpu::whole_backward<T, V>(on, d, x, norm, relu, dy, dx, dgamma, dbeta, winners, tiles);
    });
  if (!nothing && !small) {  // dx holds the gradient at batch norm's output first
    detail::gpu::launch(on.stream(), detail::gpu::state_coefficients<>, dim3(detail::gpu::blocks_for(d.channels, 128)),
                        128, 0, detail::gpu::narrow(d.channels), norm, scale, shift);
    detail::gpu::pool_backward(on.stream(), d, x, scale, shift, relu, dy, dx);
    relu = false, dy = dx;
  }
  detail::gpu::by_vector<T>(d.channels, [&]<int V>() {
    if (small)
      detail::gpu::norm_backward<2, T, V>(on, d, x, norm, relu, dy, dx, dgamma, dbeta, tiles);
    else
      detail::gpu::norm_backward<1, T, V>(on, d, x, norm, relu, dy, dx, dgamma, dbeta, tiles);
  });
}

}  // namespace l3::inline L3_ISA
