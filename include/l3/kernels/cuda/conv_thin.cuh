/// @file  include/l3/kernels/cuda/conv_thin.cuh: a convolution of few channels with its batch norm and rectifier, on a
/// GPU in bf16: what it gives is never written, for computing it again should cost less than reading it.
///
/// Forward, one pass over the input takes the moments and a second one writes what the rectifier leaves. Backward, one
/// takes batch norm's sums and one the weights' gradient; the gradient at the convolution's output lives in registers
/// alone. All passes compute the output by the same products, so they agree on which values the rectifier stopped.
///
/// A warp multiplies the weights, (channels, 9 in) with zeros up to whole products, by the neighbourhoods of 8 pixels
/// at a time, which its lanes gather. So a lane holds channels l / 4 and l / 4 + 8 of each 16, of pixels 2 (l % 4) and
/// the next one of each 8: just how the weights' gradient, a sum over pixels, wants the output's gradient for its left
/// operand.
#pragma once
#include <algorithm>
#include <l3/core/memory.hpp>
#include <l3/kernels/cuda/batch_norm.cuh>
#include <l3/kernels/cuda/conv2d.cuh>
#include <l3/kernels/cuda/products.cuh>
#include <l3/kernels/cuda/row_sums.cuh>
#include <l3/kernels/dims.hpp>
#include <type_traits>

namespace l3::inline L3_ISA {
namespace detail::gpu {

inline constexpr int thin_warps = 8;
inline constexpr std::size_t thin_unit = 16 * thin_warps;  ///< pixels that a block takes at a time
inline constexpr std::size_t most_thin_blocks = 528;

/// Channels in, and blocks of 16 channels out.
template <int In, int Blocks>
struct thin_sizes {
  static constexpr int in = In, blocks = Blocks, channels = 16 * Blocks, terms = 9 * In;
  static constexpr int depths = (terms + 15) / 16;  ///< products that a sum takes
  // What a lane has of 8 pixels: terms, two to a register; outputs; and of 16 pixels: the output's gradient.
  using neighbours = unsigned[2 * depths];
  using outputs = float[blocks][4];
  using gradients = unsigned[4 * blocks];
};
/// Whether there are such kernels for these sizes.
template <class P>
constexpr bool conv_is_thin(std::size_t in, std::size_t out) {
  return std::is_same_v<P, bf16> && (in == 1 || in == 3) && (out == 16 || out == 32 || out == 64);
}
template <class F>
void with_thin_sizes(conv_dims const& d, F&& f) {
  auto const of = [&]<int In>() {
    d.out == 64 ? f(thin_sizes<In, 4>{}) : d.out == 32 ? f(thin_sizes<In, 2>{}) : f(thin_sizes<In, 1>{});
  };
  d.in == 1 ? of.template operator()<1>() : of.template operator()<3>();
}
/// Sums of all blocks, and of their groups: two for each channel, or one for each weight.
constexpr footprint thin_sums_room(conv_dims const& d) {
  return fixed<double>((most_thin_blocks + sum_groups) * std::max<std::size_t>(2, 9 * d.in) * d.out);
}
/// Launches `kernel` on so many blocks that share the pixels, all of one round, and returns how many these are.
template <class... Parameters, class... Arguments>
std::size_t launch_thin(cudaStream_t in, conv_dims const& d, gpu_facts const& gpu, void (*kernel)(Parameters...),
                        std::size_t shared, Arguments&&... arguments) {
  std::size_t const at_once =
      static_cast<std::size_t>(gpu.multiprocessors) * resident_blocks(kernel, 32 * thin_warps, shared);
  std::size_t const count = std::min({(d.rows() + thin_unit - 1) / thin_unit, at_once, most_thin_blocks});
  launch(in, kernel, dim3(narrow(count)), 32 * thin_warps, shared, arguments...);
  return count;
}

struct thin_job {
  bfloat16 const* x = nullptr;
  float const* w = nullptr;  ///< (out, in, 3, 3)
  int height = 0, width = 0;
  unsigned rows = 0;  ///< pixels
  divider by_width{}, by_height{};

  thin_job(conv_dims const& d, bfloat16 const* input, float const* weights)
      : x(input),
        w(weights),
        height(static_cast<int>(d.height)),
        width(static_cast<int>(d.width)),
        rows(narrow(d.rows())),
        by_width(d.width),
        by_height(d.height) {}
};

/// What a warp keeps to compute outputs of 16 pixels at a time.
template <class Sizes>
struct thin_product {
  static constexpr int depths = Sizes::depths, blocks = Sizes::blocks;
  unsigned weights[blocks][depths][4];
  int offset[depths][4];       ///< of the lane's terms in x, from its pixel's first channel
  unsigned within[depths][4];  ///< their tap as a bit; none beyond the last term
  int lane, g, t;

  __device__ explicit thin_product(thin_job const& job) {
    lane = static_cast<int>(threadIdx.x) & 31, g = lane >> 2, t = lane & 3;
    auto const weight = [&](int channel, int term) {
      int const tap = term / Sizes::in, c = term % Sizes::in;
      return tap < 9 ? job.w[(channel * Sizes::in + c) * 9 + tap] : 0.0f;
    };
#pragma unroll
    for (int s = 0; s < depths; ++s) {
#pragma unroll
      for (int m = 0; m < blocks; ++m)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          int const channel = 16 * m + g + 8 * (k & 1), term = 16 * s + 8 * (k >> 1) + 2 * t;
          weights[m][s][k] = packed(weight(channel, term), weight(channel, term + 1));
        }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        int const term = 16 * s + 8 * (k >> 1) + 2 * t + (k & 1), tap = term / Sizes::in;
        offset[s][k] = ((tap / 3 - 1) * job.width + tap % 3 - 1) * Sizes::in + term % Sizes::in;
        within[s][k] = tap < 9 ? 1u << tap : 0;
      }
    }
  }
  /// Outputs of 8 pixels from `first` on, and their neighbourhoods as a right operand: registers of 8 terms each.
  __device__ void compute(thin_job const& job, unsigned first, typename Sizes::neighbours& terms,
                          typename Sizes::outputs& z) const {
    unsigned const pixel = first + static_cast<unsigned>(g);
    unsigned const inside = pixel < job.rows ? neighbours_inside(job, pixel) : 0;
    auto const* const at = reinterpret_cast<std::uint16_t const*>(job.x) + std::size_t{pixel} * Sizes::in;
#pragma unroll
    for (int s = 0; s < depths; ++s)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        unsigned bits[2];
#pragma unroll
        for (int k = 0; k < 2; ++k)
          bits[k] = (inside & within[s][2 * half + k]) != 0 ? at[offset[s][2 * half + k]] : 0u;
        terms[2 * s + half] = bits[0] | bits[1] << 16;
      }
    __syncwarp();  // the products are the warp's, whose lanes may come here one by one
#pragma unroll
    for (int m = 0; m < blocks; ++m) {
#pragma unroll
      for (float& v : z[m]) v = 0;
#pragma unroll
      for (int s = 0; s < depths; ++s) multiply_bf16(z[m], weights[m][s], terms[2 * s], terms[2 * s + 1]);
    }
  }
};

/// The block's pixels.
struct thin_range {
  unsigned begin, end;
  __device__ explicit thin_range(thin_job const& job) {
    std::uint64_t const units = (job.rows + thin_unit - 1) / thin_unit;
    begin = static_cast<unsigned>(units * blockIdx.x / gridDim.x * thin_unit);
    end = std::min(static_cast<unsigned>(units * (blockIdx.x + 1) / gridDim.x * thin_unit), job.rows);
  }
};
/// Calls f(first pixel) for each 16 of them that are this warp's.
template <class F>
__device__ inline void each_thin_step(thin_range const& pixels, F&& f) {
  for (unsigned first = pixels.begin + 16 * (threadIdx.x >> 5); first < pixels.end; first += thin_unit) f(first);
}

/// Sums that each lane has of its channels, added up over the block, in double: (2, channels) of tile blockIdx.x.
template <class Sizes, int Blocks>
__device__ inline void write_thin_sums(double (&sum)[2][Blocks][2], double* tiles) {
  auto* const shared = shared_memory<double>();  // (warps, 2, channels)
  int const lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
#pragma unroll
  for (int s = 0; s < 2; ++s)
#pragma unroll
    for (int m = 0; m < Blocks; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        double& x = sum[s][m][h];
        x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
        x += __shfl_xor_sync(0xFFFFFFFFu, x, 2);
        if ((lane & 3) == 0) shared[(warp * 2 + s) * Sizes::channels + 16 * m + 8 * h + (lane >> 2)] = x;
      }
  __syncthreads();
  for (int k = static_cast<int>(threadIdx.x); k < 2 * Sizes::channels; k += 32 * thin_warps) {
    double total = 0;
    for (int w = 0; w < thin_warps; ++w) total += shared[w * 2 * Sizes::channels + k];
    tiles[std::size_t{blockIdx.x} * 2 * Sizes::channels + static_cast<std::size_t>(k)] = total;
  }
}
template <class Sizes>
inline constexpr std::size_t thin_sums_bytes = thin_warps * 2 * Sizes::channels * sizeof(double);

template <class Sizes>
__global__ __launch_bounds__(32 * thin_warps) void thin_moments(thin_job const job, double* tiles) {
  constexpr int blocks = Sizes::blocks;
  thin_product<Sizes> const product(job);
  // About the first value that the lane meets of a channel, so that little cancels.
  float pivot[blocks][2] = {}, off[blocks][2] = {}, squares[blocks][2] = {};
  int count = 0;
  each_thin_step(thin_range(job), [&](unsigned first) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      typename Sizes::neighbours terms;
      typename Sizes::outputs z;
      product.compute(job, first + static_cast<unsigned>(8 * half), terms, z);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        if (first + static_cast<unsigned>(8 * half + 2 * product.t + k) >= job.rows) continue;
        ++count;
#pragma unroll
        for (int m = 0; m < blocks; ++m)
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            float const value = z[m][2 * h + k];
            if (half == 0 && k == 0 && count == 1) pivot[m][h] = value;
            float const d = value - pivot[m][h];
            off[m][h] += d, squares[m][h] = fmaf(d, d, squares[m][h]);
          }
      }
    }
  });
  double sum[2][blocks][2];
#pragma unroll
  for (int m = 0; m < blocks; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      double const p = pivot[m][h], d = off[m][h], n = count;
      sum[0][m][h] = n * p + d, sum[1][m][h] = n * p * p + 2 * p * d + squares[m][h];
    }
  write_thin_sums<Sizes>(sum, tiles);
}

/// relu(z scale + shift).
template <class Sizes>
__global__ __launch_bounds__(32 * thin_warps) void thin_forward(thin_job const job, float const* scale,
                                                                float const* shift, bool relu, bfloat16* y) {
  constexpr int blocks = Sizes::blocks, chunks = 2 * blocks;
  thin_product<Sizes> const product(job);
  tile<chunks> const staged{shared_memory<char>() + (threadIdx.x >> 5) * 16 * 16 * chunks};
  float factor[blocks][2], term[blocks][2];
#pragma unroll
  for (int m = 0; m < blocks; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h)
      factor[m][h] = scale[16 * m + 8 * h + product.g], term[m][h] = shift[16 * m + 8 * h + product.g];
  each_thin_step(thin_range(job), [&](unsigned first) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      typename Sizes::neighbours terms;
      typename Sizes::outputs z;
      product.compute(job, first + static_cast<unsigned>(8 * half), terms, z);
#pragma unroll
      for (int m = 0; m < blocks; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float out[2];
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            float const v = fmaf(z[m][2 * h + k], factor[m][h], term[m][h]);
            out[k] = relu && v <= 0 ? 0 : v;  // not-a-number stays
          }
          // Two pixels of a channel become two channels of a pixel.
          unsigned const channels = transposed_matrix(packed(out[0], out[1]));
          *reinterpret_cast<unsigned*>(staged.at(8 * half + product.g, 2 * m + h) + 4 * product.t) = channels;
        }
    }
    __syncwarp();
    for (int k = product.lane; k < 16 * chunks; k += 32) {
      unsigned const pixel = first + static_cast<unsigned>(k / chunks);
      if (pixel < job.rows)
        *reinterpret_cast<uint4*>(y + std::size_t{pixel} * Sizes::channels + k % chunks * 8) =
            *reinterpret_cast<uint4 const*>(staged.at(k / chunks, k % chunks));
    }
    __syncwarp();
  });
}

/// Copies of the output's gradient for 16 pixels, two of them on their way at a time; a warp's own.
template <class Sizes>
struct thin_gradients {
  static constexpr int chunks = 2 * Sizes::blocks, bytes = 16 * 16 * chunks;
  char* base;
  __device__ thin_gradients() : base(shared_memory<char>() + (threadIdx.x >> 5) * 2 * bytes) {}
  __device__ tile<chunks> stage(unsigned number) const { return {base + (number & 1) * bytes}; }
  /// Zeros from pixel `end` on.
  __device__ void copy(unsigned end, bfloat16 const* dy, unsigned first, unsigned number) const {
    for (int k = static_cast<int>(threadIdx.x) & 31; k < 16 * chunks; k += 32) {
      unsigned const pixel = first + static_cast<unsigned>(k / chunks);
      copy_async(stage(number).at(k / chunks, k % chunks), dy + std::size_t{pixel} * Sizes::channels + k % chunks * 8,
                 pixel < end);
    }
    commit_copies();
  }
  /// As outputs lie in the lanes' registers: of 8 channels two pixels each, by half of the pixels and 8 channels.
  __device__ void load(unsigned number, typename Sizes::gradients& g) const {
    int const lane = static_cast<int>(threadIdx.x) & 31;
#pragma unroll
    for (int q = 0; q < 2 * chunks; q += 4) {
      int const matrix = q + (lane >> 3);
      unsigned four[4];
      load_matrices_transposed(four, stage(number).at(matrix / chunks * 8 + (lane & 7), matrix % chunks));
#pragma unroll
      for (int k = 0; k < 4; ++k) g[q + k] = four[k];
    }
  }
};
/// Calls f(first pixel, gradients, as thin_gradients loads them) for each 16 of the block's pixels that are this
/// warp's.
template <class Sizes, class F>
__device__ inline void each_thin_gradient(thin_job const& job, bfloat16 const* dy, F&& f) {
  thin_gradients<Sizes> const from;
  thin_range const pixels(job);
  unsigned number = 0;
  from.copy(pixels.end, dy, pixels.begin + 16 * (threadIdx.x >> 5), 0);
  each_thin_step(pixels, [&](unsigned first) {
    from.copy(pixels.end, dy, first + static_cast<unsigned>(thin_unit), number + 1);
    wait_copies<1>();
    __syncwarp();
    typename Sizes::gradients g;
    from.load(number, g);
    f(first, g);
    ++number;
    __syncwarp();  // before its place is taken
  });
  wait_copies<0>();
}

/// Which gradients the rectifier behind batch norm lets through, for a lane's channels.
template <class Sizes>
struct thin_rectifier {
  bool relu;
  float scale[Sizes::blocks][2], shift[Sizes::blocks][2];
  __device__ thin_rectifier(thin_product<Sizes> const& product, norm_state<float> const& state, bool rectifies)
      : relu(rectifies) {
#pragma unroll
    for (int m = 0; m < Sizes::blocks; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        int const c = 16 * m + 8 * h + product.g;
        scale[m][h] = state.gamma[c] * state.inverse_std[c];
        shift[m][h] = state.beta[c] - state.mean[c] * scale[m][h];
      }
  }
  /// Of outputs z of channel (m, h), two pixels of half `half`; the gradients are thin_gradients'.
  __device__ void pass(typename Sizes::gradients const& g, typename Sizes::outputs const& z, int half, int m, int h,
                       float (&passed)[2]) const {
    unsigned const both = g[2 * Sizes::blocks * half + 2 * m + h];  // zeros beyond the last pixel
    float const gradient[2] = {as_float(both << 16), as_float(both & 0xFFFF0000u)};
#pragma unroll
    for (int k = 0; k < 2; ++k)
      passed[k] = relu && !(fmaf(z[m][2 * h + k], scale[m][h], shift[m][h]) > 0) ? 0.0f : gradient[k];
  }
};

/// Sums over pixels of the gradient behind the rectifier, and of that times the normalised output.
template <class Sizes>
__global__ __launch_bounds__(32 * thin_warps) void thin_gradient_sums(thin_job const job, norm_state<float> const state,
                                                                      bool relu, bfloat16 const* dy, double* tiles) {
  constexpr int blocks = Sizes::blocks;
  thin_product<Sizes> const product(job);
  thin_rectifier<Sizes> const rectifier(product, state, relu);
  float mean[blocks][2], sums[2][blocks][2] = {};
#pragma unroll
  for (int m = 0; m < blocks; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) mean[m][h] = state.mean[16 * m + 8 * h + product.g];
  each_thin_gradient<Sizes>(job, dy, [&](unsigned first, typename Sizes::gradients const& g) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      typename Sizes::neighbours terms;
      typename Sizes::outputs z;
      product.compute(job, first + static_cast<unsigned>(8 * half), terms, z);
#pragma unroll
      for (int m = 0; m < blocks; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float passed[2];
          rectifier.pass(g, z, half, m, h, passed);
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            sums[0][m][h] += passed[k];
            sums[1][m][h] = fmaf(passed[k], z[m][2 * h + k] - mean[m][h], sums[1][m][h]);
          }
        }
    }
  });
  __syncthreads();  // the same shared memory
  double wide[2][blocks][2];
#pragma unroll
  for (int m = 0; m < blocks; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      wide[0][m][h] = sums[0][m][h];
      wide[1][m][h] = static_cast<double>(sums[1][m][h]) * state.inverse_std[16 * m + 8 * h + product.g];
    }
  write_thin_sums<Sizes>(wide, tiles);
}

/// From a channel to the next where a block adds up its warps' sums: rows begin in different banks.
template <class Sizes>
inline constexpr int thin_weights_apart = 16 * Sizes::depths + 8;

/// The weights' gradient of a block's pixels: (channels, terms) of tile blockIdx.x.
template <class Sizes>
__global__ __launch_bounds__(32 * thin_warps) void thin_weight_gradient(thin_job const job,
                                                                        norm_state<float> const state, bool relu,
                                                                        bfloat16 const* dy, float const* dgamma,
                                                                        float const* dbeta, double* tiles) {
  constexpr int blocks = Sizes::blocks, depths = Sizes::depths;
  thin_product<Sizes> const product(job);
  thin_rectifier<Sizes> const rectifier(product, state, relu);
  // The gradient before batch norm is scale g + base - slope z.
  float base[blocks][2], slope[blocks][2];
#pragma unroll
  for (int m = 0; m < blocks; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int const c = 16 * m + 8 * h + product.g;
      float const rows = static_cast<float>(job.rows), scale = rectifier.scale[m][h];
      slope[m][h] = scale * (dgamma[c] / rows * state.inverse_std[c]);
      base[m][h] = fmaf(slope[m][h], state.mean[c], -scale * (dbeta[c] / rows));
    }
  float sums[blocks][2 * depths][4] = {};
  each_thin_gradient<Sizes>(job, dy, [&](unsigned first, typename Sizes::gradients const& g) {
    typename Sizes::neighbours terms[2];
    unsigned dz[blocks][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      typename Sizes::outputs z;
      product.compute(job, first + static_cast<unsigned>(8 * half), terms[half], z);
#pragma unroll
      for (int m = 0; m < blocks; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float out[2];
          rectifier.pass(g, z, half, m, h, out);
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            bool const there = first + static_cast<unsigned>(8 * half + 2 * product.t + k) < job.rows;
            float const others = fmaf(-slope[m][h], z[m][2 * h + k], base[m][h]);
            out[k] = there ? fmaf(rectifier.scale[m][h], out[k], others) : 0.0f;
          }
          dz[m][2 * half + h] = packed(out[0], out[1]);
        }
    }
#pragma unroll
    for (int n = 0; n < 2 * depths; ++n) {
      unsigned const pixels[2] = {transposed_matrix(terms[0][n]), transposed_matrix(terms[1][n])};
#pragma unroll
      for (int m = 0; m < blocks; ++m) multiply_bf16(sums[m][n], dz[m], pixels[0], pixels[1]);
    }
  });
  // One warp after the other adds what it has.
  constexpr int apart = thin_weights_apart<Sizes>;
  auto* const shared = shared_memory<float>();  // (channels, apart)
  for (unsigned w = 0; w < thin_warps; ++w) {
    __syncthreads();
    if (threadIdx.x >> 5 != w) continue;
#pragma unroll
    for (int m = 0; m < blocks; ++m)
#pragma unroll
      for (int n = 0; n < 2 * depths; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          float& to = shared[(16 * m + product.g + 8 * (k >> 1)) * apart + 8 * n + 2 * product.t + (k & 1)];
          to = w == 0 ? sums[m][n][k] : to + sums[m][n][k];
        }
  }
  __syncthreads();
  constexpr int size = Sizes::channels * Sizes::terms;
  for (int k = static_cast<int>(threadIdx.x); k < size; k += 32 * thin_warps)
    tiles[std::size_t{blockIdx.x} * size + static_cast<std::size_t>(k)] =
        static_cast<double>(shared[k / Sizes::terms * apart + k % Sizes::terms]);
}
/// (out, 9, in) -> (out, in, 3, 3).
struct keep_thin_weights {
  float* dw;
  unsigned in;
  __device__ void operator()(unsigned at, double const (&sum)[1]) const {
    unsigned const o = at / (9 * in), term = at % (9 * in);
    dw[(o * in + term % in) * 9 + term / in] = static_cast<float>(sum[0]);
  }
};

}  // namespace detail::gpu

/// The moments of a convolution of few channels, whose output is not kept. Scratch of conv2d_thin.
///
/// Shapes  x (N, H, W, in), w (out, in, 3, 3), mean and variance (out).
template <class P>
void conv2d_thin_moments(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, float const* w,
                         float* mean, float* variance, std::byte* scratch) {
  namespace gpu = detail::gpu;
  auto* const tiles = reinterpret_cast<double*>(scratch);
  std::size_t count = 0;
  gpu::with_thin_sizes(d, [&]<class Sizes>(Sizes) {
    count = gpu::launch_thin(on.stream(), d, on.gpu(), gpu::thin_moments<Sizes>, gpu::thin_sums_bytes<Sizes>,
                             gpu::thin_job(d, x, w), tiles);
  });
  gpu::finish_sums<2>(on.stream(), tiles, count, d.out,
                      gpu::keep_moments{mean, variance, static_cast<double>(d.rows())});
}
/// Its output again, times scale plus shift, and rectified if so wished.
///
/// Shapes  y (N, H, W, out), scale and shift (out).
template <class P>
void conv2d_thin_forward(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, float const* w,
                         float const* scale, float const* shift, bool relu, value_of<cuda<P>>* y) {
  namespace gpu = detail::gpu;
  gpu::with_thin_sizes(d, [&]<class Sizes>(Sizes) {
    gpu::launch_thin(on.stream(), d, on.gpu(), gpu::thin_forward<Sizes>, gpu::thin_warps * 16 * 2 * Sizes::channels,
                     gpu::thin_job(d, x, w), scale, shift, relu, y);
  });
}
/// The gradients of its weights and of batch norm's. Scratch of conv2d_thin.
///
/// Shapes  dy (N, H, W, out), dw (out, in, 3, 3), dgamma and dbeta (out).
template <class P>
void conv2d_thin_backward(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, float const* w,
                          norm_state<float> const& norm, bool relu, value_of<cuda<P>> const* dy, float* dw,
                          float* dgamma, float* dbeta, std::byte* scratch) {
  namespace gpu = detail::gpu;
  auto* const tiles = reinterpret_cast<double*>(scratch);
  std::size_t count = 0;
  gpu::with_thin_sizes(d, [&]<class Sizes>(Sizes) {
    constexpr std::size_t staged = gpu::thin_warps * 2 * gpu::thin_gradients<Sizes>::bytes;
    constexpr std::size_t own = Sizes::channels * gpu::thin_weights_apart<Sizes> * sizeof(float);
    gpu::thin_job const job(d, x, w);
    count = gpu::launch_thin(on.stream(), d, on.gpu(), gpu::thin_gradient_sums<Sizes>,
                             std::max(staged, gpu::thin_sums_bytes<Sizes>), job, norm, relu, dy, tiles);
    gpu::finish_sums<2>(on.stream(), tiles, count, d.out, gpu::keep_gradients{dgamma, dbeta});
    auto const [of_gamma, of_beta] = gpu::sums_of_all(on, d.out, dgamma, dbeta);
    count = gpu::launch_thin(on.stream(), d, on.gpu(), gpu::thin_weight_gradient<Sizes>, std::max(staged, own), job,
                             norm, relu, dy, of_gamma, of_beta, tiles);
  });
  gpu::finish_sums<1>(on.stream(), tiles, count, d.out * 9 * d.in, gpu::keep_thin_weights{dw, gpu::narrow(d.in)});
}

}  // namespace l3::inline L3_ISA
