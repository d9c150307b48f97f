/// @file  include/l3/kernels/cuda/pool2d.cuh: max pooling on a GPU, on its own or behind batch norm and rectifier.
#pragma once
#include <l3/kernels/cuda/vector.cuh>
#include <l3/kernels/dims.hpp>
#include <l3/kernels/region_pool.hpp>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// Batch norm as scale and shift of V channels, and the rectifier.
template <int V>
struct affine {
  float scale[V], shift[V];
  bool relu;

  /// Without scales nothing changes but what the rectifier does.
  __device__ void load(float const* scales, float const* shifts, unsigned c, bool rectifies) {
#pragma unroll
    for (int k = 0; k < V; ++k)
      scale[k] = scales != nullptr ? scales[c + k] : 1, shift[k] = scales != nullptr ? shifts[c + k] : 0;
    relu = rectifies;
  }
  __device__ float before_relu(float x, int k) const { return fmaf(x, scale[k], shift[k]); }
  __device__ float rectified(float x) const { return relu && x <= 0 ? 0 : x; }
};

/// A window's first pixel, counted over all items, and its size.
struct pixel_window {
  unsigned first;
  int height, width;
};

struct pool_job {
  int height, width, channels;
  int window_height, window_width, stride_height, stride_width, out_height, out_width;
  unsigned outputs;  ///< windows of all items
  divider by_out_width, by_out_height, by_width, by_height;

  explicit pool_job(pool_dims const& d)
      : height(static_cast<int>(d.height)),
        width(static_cast<int>(d.width)),
        channels(static_cast<int>(d.channels)),
        window_height(static_cast<int>(d.window.height)),
        window_width(static_cast<int>(d.window.width)),
        stride_height(static_cast<int>(d.stride.height)),
        stride_width(static_cast<int>(d.stride.width)),
        out_height(static_cast<int>(d.out_height())),
        out_width(static_cast<int>(d.out_width())),
        outputs(narrow(d.batch * d.out_height() * d.out_width())),
        by_out_width(d.out_width()),
        by_out_height(d.out_height()),
        by_width(d.width),
        by_height(d.height) {}
  __device__ pixel_window window(unsigned number) const {
    unsigned const line = by_out_width.quotient(number), item = by_out_height.quotient(line);
    unsigned const j = number - line * by_out_width.by, i = line - item * by_out_height.by;
    return {(item * by_height.by + i * static_cast<unsigned>(stride_height)) * by_width.by +
                j * static_cast<unsigned>(stride_width),
            window_height, window_width};
  }
};

/// Regions as windows.
struct region_job {
  unsigned height, rows, columns;
  int width, channels;
  unsigned outputs;  ///< regions of all items
  divider by_rows, by_columns;

  explicit region_job(region_dims const& d)
      : height(narrow(d.height)),
        rows(narrow(d.grid.height)),
        columns(narrow(d.grid.width)),
        width(static_cast<int>(d.width)),
        channels(static_cast<int>(d.channels)),
        outputs(narrow(d.regions())),
        by_rows(d.grid.height),
        by_columns(d.grid.width) {}
  __device__ pixel_window window(unsigned number) const {
    unsigned const line = by_columns.quotient(number), item = by_rows.quotient(line);
    unsigned const j = number - line * columns, i = line - item * rows, across = static_cast<unsigned>(width);
    unsigned const top = i * height / rows, bottom = ((i + 1) * height + rows - 1) / rows;
    unsigned const left = j * across / columns, right = ((j + 1) * across + columns - 1) / columns;
    return {(item * height + top) * across + left, static_cast<int>(bottom - top), static_cast<int>(right - left)};
  }
};

/// The largest value of each window. `Lanes` threads share a window's pixels, each takes V channels.
template <class T, int V, int Lanes, class Job, class Out>
__global__ __launch_bounds__(256) void pool_windows(Job const job, T const* x, float const* scale, float const* shift,
                                                    bool relu, Out* y) {
  float* const shared = shared_memory<float>();
  constexpr unsigned places = 256 / Lanes;  // of windows' channels in a block
  unsigned const place = threadIdx.x % places, part = threadIdx.x / places;
  unsigned const chunks = static_cast<unsigned>(job.channels) / V;
  std::size_t const at = std::size_t{blockIdx.x} * places + place;
  bool const valid = at < std::size_t{job.outputs} * chunks;
  auto const number = valid ? static_cast<unsigned>(at / chunks) : 0;
  pixel_window const window = job.window(number);
  unsigned const c = valid ? static_cast<unsigned>(at % chunks) * V : 0;
  affine<V> norm;
  norm.load(scale, shift, c, relu);
  values<T, V> best;
#pragma unroll
  for (int k = 0; k < V; ++k) best.v[k] = as_float(0xFF800000u);  // minus infinity
  T const* const first = x + (std::size_t{window.first} * job.channels + c);
  int const pixels = window.height * window.width;
  for (int p = static_cast<int>(part); p < pixels; p += Lanes) {
    int const r = p / window.width, s = p - r * window.width;
    values<T, V> v;
    v.load(first + (static_cast<std::ptrdiff_t>(r) * job.width + s) * job.channels);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      float const value = norm.before_relu(v.v[k], k);
      if (value > best.v[k] || value != value) best.v[k] = value;
    }
  }
  if constexpr (Lanes > 1) {
#pragma unroll
    for (int k = 0; k < V; ++k) {
      __syncthreads();
      shared[threadIdx.x] = best.v[k];
      __syncthreads();
      if (part == 0)
        for (unsigned other = 1; other < Lanes; ++other) {
          float const value = shared[other * places + place];
          if (value > best.v[k] || value != value) best.v[k] = value;
        }
    }
  }
  if (part != 0 || !valid) return;
#pragma unroll
  for (int k = 0; k < V; ++k) best.v[k] = norm.rectified(best.v[k]);
  Out* const to = y + (std::size_t{number} * job.channels + c);
  if constexpr (std::is_same_v<T, Out>) {
    best.store(to);
  } else {
#pragma unroll
    for (int k = 0; k < V; ++k) to[k] = best.v[k];
  }
}

/// `pixels`: of a window.
template <class T, int V, class Job, class Out>
void launch_windows(cudaStream_t in, Job const& job, std::size_t pixels, T const* x, float const* scale,
                    float const* shift, bool relu, Out* y) {
  std::size_t const threads = std::size_t{job.outputs} * (static_cast<std::size_t>(job.channels) / V);
  if (pixels >= 64)
    launch(in, pool_windows<T, V, 32, Job, Out>, dim3(blocks_for(threads, 8)), 256, 256 * sizeof(float), job, x, scale,
           shift, relu, y);
  else
    launch(in, pool_windows<T, V, 1, Job, Out>, dim3(blocks_for(threads, 256)), 256, 0, job, x, scale, shift, relu, y);
}
template <class T, int V>
void launch_pool(cudaStream_t in, pool_dims const& d, T const* x, float const* scale, float const* shift, bool relu,
                 T* y) {
  launch_windows<T, V>(in, pool_job(d), d.window.height * d.window.width, x, scale, shift, relu, y);
}
/// y = pool(relu(x scale + shift)).
template <class T>
void pool_forward(cudaStream_t in, pool_dims const& d, T const* x, float const* scale, float const* shift, bool relu,
                  T* y) {
  by_vector<T>(d.channels, [&]<int V>() { launch_pool<T, V>(in, d, x, scale, shift, relu, y); });
}

/// dx: what each pixel gets of the windows it is in and is the first of the largest of. A thread's pixel asks all of
/// them, so nothing is added up by two threads.
template <class T>
__global__ __launch_bounds__(256) void route_to_pixels(pool_job const job, unsigned pixels, T const* x,
                                                       float const* scale, float const* shift, bool relu, T const* dy,
                                                       T* dx) {
  std::size_t const at = std::size_t{blockIdx.x} * 256 + threadIdx.x;
  auto const channels = static_cast<unsigned>(job.channels);
  if (at >= std::size_t{pixels} * channels) return;
  auto const pixel = static_cast<unsigned>(at / channels), c = static_cast<unsigned>(at % channels);
  unsigned const line = job.by_width.quotient(pixel), item = job.by_height.quotient(line);
  int const j = static_cast<int>(pixel - line * job.by_width.by), i = static_cast<int>(line - item * job.by_height.by);
  affine<1> norm;
  norm.load(scale, shift, c, relu);
  float const mine = norm.before_relu(to_float(x[at]), 0);
  float sum = 0;
  if (norm.rectified(mine) != 0 || !relu) {
    // Windows whose first line is above[0, window) lines up.
    for (int a = (i < job.window_height ? 0 : (i - job.window_height) / job.stride_height + 1);
         a < job.out_height && a * job.stride_height <= i; ++a)
      for (int b = (j < job.window_width ? 0 : (j - job.window_width) / job.stride_width + 1);
           b < job.out_width && b * job.stride_width <= j; ++b) {
        std::size_t const first =
            (std::size_t{item} * job.height + a * job.stride_height) * job.width + b * job.stride_width;
        int const my_place = (i - a * job.stride_height) * job.window_width + j - b * job.stride_width;
        bool wins = true;
        for (int p = 0; wins && p < job.window_height * job.window_width; ++p) {
          int const r = p / job.window_width, s = p - r * job.window_width;
          float const other = norm.before_relu(to_float(x[(first + r * job.width + s) * channels + c]), 0);
          wins = p < my_place ? mine > other : !(other > mine);
        }
        if (wins) sum += to_float(dy[((std::size_t{item} * job.out_height + a) * job.out_width + b) * channels + c]);
      }
  }
  dx[at] = T(sum);
}

/// The same of a window that is the whole picture: a block finds the winners of 8 channels.
template <class T>
__global__ __launch_bounds__(256) void route_to_winner(unsigned pixels, unsigned channels, T const* x,
                                                       float const* scale, float const* shift, bool relu, T const* dy,
                                                       T* dx) {
  float* const largest = shared_memory<float>();
  auto* const winners = reinterpret_cast<unsigned*>(largest + 256);
  unsigned const lane = threadIdx.x % 8, part = threadIdx.x / 8, c = blockIdx.x * 8 + lane;
  T const* const from = x + std::size_t{blockIdx.y} * pixels * channels;
  T* const to = dx + std::size_t{blockIdx.y} * pixels * channels;
  affine<1> norm;
  norm.load(scale, shift, c < channels ? c : 0, relu);
  float best = as_float(0xFF800000u);
  unsigned winner = pixels;
  if (c < channels)
    for (unsigned p = part; p < pixels; p += 32) {
      float const value = norm.before_relu(to_float(from[std::size_t{p} * channels + c]), 0);
      if (winner == pixels || value > best) best = value, winner = p;
      to[std::size_t{p} * channels + c] = T(0.0f);
    }
  largest[threadIdx.x] = best, winners[threadIdx.x] = winner;
  __syncthreads();
  if (part != 0 || c >= channels) return;
  for (unsigned other = 1; other < 32; ++other) {
    float const value = largest[other * 8 + lane];
    unsigned const p = winners[other * 8 + lane];
    if (p < pixels && (value > best || (value == best && p < winner))) best = value, winner = p;
  }
  if (!relu || best > 0) to[std::size_t{winner} * channels + c] = dy[std::size_t{blockIdx.y} * channels + c];
}

template <class T>
void pool_backward(cudaStream_t in, pool_dims const& d, T const* x, float const* scale, float const* shift, bool relu,
                   T const* dy, T* dx) {
  if (d.window.height == d.height && d.window.width == d.width && d.rows() > d.batch && d.batch <= 65535)
    launch(in, route_to_winner<T>, dim3(blocks_for(d.channels, 8), narrow(d.batch)), 256, 512 * sizeof(float),
           narrow(d.height * d.width), narrow(d.channels), x, scale, shift, relu, dy, dx);
  else
    launch(in, route_to_pixels<T>, dim3(blocks_for(d.rows() * d.channels, 256)), 256, 0, pool_job(d), narrow(d.rows()),
           x, scale, shift, relu, dy, dx);
}

}  // namespace detail::gpu

template <class P>
void max_pool_forward(context<cuda<P>>& on, pool_dims const& d, value_of<cuda<P>> const* x, value_of<cuda<P>>* y) {
  detail::gpu::pool_forward(on.stream(), d, x, nullptr, nullptr, false, y);
}
/// pool_regions of the machine's memory (kernels/region_pool.hpp) on a GPU.
template <class P>
void pool_regions(context<cuda<P>>& on, region_dims const& d, value_of<cuda<P>> const* x, float* y) {
  using T = value_of<cuda<P>>;
  std::size_t const pixels = d.height * d.width / (d.grid.height * d.grid.width);  // about
  detail::gpu::by_vector<T>(d.channels, [&]<int V>() {
    detail::gpu::launch_windows<T, V>(on.stream(), detail::gpu::region_job(d), pixels, x, nullptr, nullptr, false, y);
  });
}
template <class P>
void max_pool_backward(context<cuda<P>>& on, pool_dims const& d, value_of<cuda<P>> const* x,
                       value_of<cuda<P>> const* dy, value_of<cuda<P>>* dx) {
  detail::gpu::pool_backward(on.stream(), d, x, nullptr, nullptr, false, dy, dx);
}

}  // namespace l3::inline L3_ISA
