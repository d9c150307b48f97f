/// @file  include/l3/kernels/cuda/conv_thin.cuh: a convolution of few channels with its batch norm and rectifier, on a
/// GPU in bf16: what it gives is never written, for computing it again should cost less than reading it.
///
/// What a pixel's neighbourhood p, of 9 or 27 numbers, adds to sums is linear or quadratic in p where no rectifier
/// stands in between. So forward, one pass over the input takes the sums of p p^T, which say the moments of all
/// channels, and a second one writes what the rectifier leaves. Backward there is one: it computes the output z = w p
/// again to see which gradients g the rectifier lets through, and takes the sums of g p^T. Of these the sums of g z
/// follow, which batch norm's gradients are made of, and with those of p p^T the weights' gradient,
///   dw = scale (sum g p^T - mean g sum p^T - slope sum (z - mean z) p^T),  sum z p^T = w sum p p^T.
/// A one behind the last number of p brings the sums of p and of g with them.
///
/// A warp multiplies the weights, (channels, 9 in) with zeros up to whole products, by the neighbourhoods of 8 pixels
/// at a time, which its lanes gather. So a lane holds channels l / 4 and l / 4 + 8 of each 16, of pixels 2 (l % 4) and
/// the next one of each 8: just how a sum over pixels wants the output's gradient for its left operand.
#pragma once
#include <algorithm>
#include <l3/core/memory.hpp>
#include <l3/kernels/cuda/batch_norm.cuh>
#include <l3/kernels/cuda/neighbours.cuh>
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
  static constexpr int columns = terms + 1;           ///< of sums: terms, and the one behind them
  static constexpr int depths = (columns + 15) / 16;  ///< products that a sum over terms takes
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
/// Sums of all blocks, of their groups, and of all.
constexpr footprint thin_sums_room(conv_dims const& d) {
  std::size_t const columns = 9 * d.in + 1;
  return fixed<double>((most_thin_blocks + sum_groups + 1) * std::max(d.out, columns) * columns);
}
/// What forward leaves for backward: the sums of p p^T.
constexpr footprint thin_kept_room(conv_dims const& d) { return fixed<double>((9 * d.in + 1) * (9 * d.in + 1)); }
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

/// What a kernel reads: weights (out, in, 3, 3), or as conv2d_prepare leaves them, in rows of so many terms.
inline constexpr int thin_terms = 32;
struct thin_input {
  bfloat16 const* x = nullptr;
  float const* w = nullptr;
  bfloat16 const* packed = nullptr;
};
struct thin_job : thin_input {
  int height = 0, width = 0;
  unsigned rows = 0;  ///< pixels
  divider by_width{}, by_height{};

  thin_job(conv_dims const& d, thin_input const& from)
      : thin_input(from),
        height(static_cast<int>(d.height)),
        width(static_cast<int>(d.width)),
        rows(narrow(d.rows())),
        by_width(d.width),
        by_height(d.height) {}
};

template <class Sizes>
__device__ inline float thin_weight(float const* w, int channel, int term) {
  return w[(channel * Sizes::in + term % Sizes::in) * 9 + term / Sizes::in];
}
/// As products take it.
template <class Sizes>
__device__ inline double thin_factor(float const* w, int channel, int term) {
  return double{as_float(packed(thin_weight<Sizes>(w, channel, term), 0.0f) << 16)};
}

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
      return term < Sizes::terms ? thin_weight<Sizes>(job.w, channel, term) : 0.0f;
    };
    static_assert(16 * depths <= thin_terms);
    auto const two_weights = [&](int channel, int term) {
      if (job.w == nullptr) return *reinterpret_cast<unsigned const*>(job.packed + channel * thin_terms + term);
      return packed(weight(channel, term), weight(channel, term + 1));
    };
#pragma unroll
    for (int s = 0; s < depths; ++s) {
#pragma unroll
      for (int m = 0; m < blocks; ++m)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          int const channel = 16 * m + g + 8 * (k & 1), term = 16 * s + 8 * (k >> 1) + 2 * t;
          weights[m][s][k] = two_weights(channel, term);
        }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        int const term = 16 * s + 8 * (k >> 1) + 2 * t + (k & 1), tap = term / Sizes::in;
        offset[s][k] = ((tap / 3 - 1) * job.width + tap % 3 - 1) * Sizes::in + term % Sizes::in;
        within[s][k] = tap < 9 ? 1u << tap : 0;
      }
    }
  }
  /// Neighbourhoods of 8 pixels from `first` on as a right operand: registers of 8 terms each.
  __device__ void gather(thin_job const& job, unsigned first, typename Sizes::neighbours& terms) const {
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
    __syncwarp();  // what follows is the warp's, whose lanes may come here one by one
  }
  /// Outputs of these pixels.
  __device__ void multiply(typename Sizes::neighbours const& terms, typename Sizes::outputs& z) const {
#pragma unroll
    for (int m = 0; m < blocks; ++m) {
#pragma unroll
      for (float& v : z[m]) v = 0;
#pragma unroll
      for (int s = 0; s < depths; ++s) multiply_bf16(z[m], weights[m][s], terms[2 * s], terms[2 * s + 1]);
    }
  }
  /// For a sum over pixels: registers of 8 terms each, with the one behind the last term.
  __device__ void turn(thin_job const& job, unsigned first, typename Sizes::neighbours& terms) const {
    static_assert(Sizes::terms % 2 == 1);
    if (t == Sizes::terms % 8 / 2 && first + static_cast<unsigned>(g) < job.rows)
      terms[Sizes::terms / 8] |= 0x3F800000u;
    __syncwarp();
#pragma unroll
    for (unsigned& each : terms) each = transposed_matrix(each);
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

/// From a row to the next where a block adds up its warps' sums; and its bytes.
template <int ColumnBlocks>
inline constexpr int thin_apart = 8 * ColumnBlocks + 4;
template <int RowBlocks, int ColumnBlocks>
inline constexpr std::size_t thin_sums_bytes = 16 * RowBlocks * thin_apart<ColumnBlocks> * sizeof(double);

/// Sums of products that the warps have, added up over the block, in double: (rows, columns) of tile blockIdx.x.
template <int RowBlocks, int ColumnBlocks>
__device__ inline void write_thin_sums(float const (&sums)[RowBlocks][ColumnBlocks][4], int rows, int columns,
                                       double* tiles) {
  constexpr int apart = thin_apart<ColumnBlocks>;
  auto* const shared = shared_memory<double>();  // (rows, apart)
  int const lane = static_cast<int>(threadIdx.x) & 31;
  // One warp after the other adds what it has.
  for (unsigned w = 0; w < thin_warps; ++w) {
    __syncthreads();
    if (threadIdx.x >> 5 != w) continue;
#pragma unroll
    for (int m = 0; m < RowBlocks; ++m)
#pragma unroll
      for (int n = 0; n < ColumnBlocks; ++n)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          double& to = shared[(16 * m + (lane >> 2) + 8 * (k >> 1)) * apart + 8 * n + 2 * (lane & 3) + (k & 1)];
          to = w == 0 ? double{sums[m][n][k]} : to + double{sums[m][n][k]};
        }
  }
  __syncthreads();
  int const size = rows * columns;
  for (int k = static_cast<int>(threadIdx.x); k < size; k += 32 * thin_warps)
    tiles[std::size_t{blockIdx.x} * size + k] = shared[k / columns * apart + k % columns];
}
struct keep_total {
  double* to;
  __device__ void operator()(unsigned at, double const (&sum)[1]) const { to[at] = sum[0]; }
};

/// The sums of p p^T, (columns, columns).
template <class Sizes>
__global__ __launch_bounds__(32 * thin_warps) void thin_second_moments(thin_job const job, double* tiles) {
  constexpr int depths = Sizes::depths;
  thin_product<Sizes> const product(job);
  float sums[depths][2 * depths][4] = {};
  each_thin_step(thin_range(job), [&](unsigned first) {
    typename Sizes::neighbours terms[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      product.gather(job, first + static_cast<unsigned>(8 * half), terms[half]);
      product.turn(job, first + static_cast<unsigned>(8 * half), terms[half]);
    }
#pragma unroll
    for (int m = 0; m < depths; ++m) {
      unsigned const left[4] = {terms[0][2 * m], terms[0][2 * m + 1], terms[1][2 * m], terms[1][2 * m + 1]};
#pragma unroll
      for (int n = 0; n < 2 * depths; ++n) {
        // Each begins anew: the matrix units cut off what ordinary additions round.
        float part[4] = {};
        multiply_bf16(part, left, terms[0][n], terms[1][n]);
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[m][n][k] += part[k];
      }
    }
  });
  write_thin_sums(sums, Sizes::columns, Sizes::columns, tiles);
}
/// A channel's moments, of which w^T (sum p p^T) w is the second one. A warp for each channel.
template <class Sizes>
__global__ void thin_moments(thin_job const job, double const* seconds, float* mean, float* variance) {
  static_assert(Sizes::terms <= 32);
  int const channel = static_cast<int>(blockIdx.x), lane = static_cast<int>(threadIdx.x);
  auto const weight = [&](int term) { return thin_factor<Sizes>(job.w, channel, term); };
  double first = 0, second = 0;
  if (lane < Sizes::terms) {
    for (int k = 0; k < Sizes::terms; ++k) second += weight(k) * seconds[lane * Sizes::columns + k];
    second *= weight(lane), first = weight(lane) * seconds[lane * Sizes::columns + Sizes::terms];
  }
  __syncwarp();
  for (int bit = 1; bit < 32; bit *= 2)
    first += __shfl_xor_sync(0xFFFFFFFFu, first, bit), second += __shfl_xor_sync(0xFFFFFFFFu, second, bit);
  if (lane == 0) keep_moments{mean, variance, double(job.rows)}(blockIdx.x, {first, second});
}

/// relu(z scale + shift); without scales or shifts nothing is multiplied or added.
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
    for (int h = 0; h < 2; ++h) {
      int const c = 16 * m + 8 * h + product.g;
      factor[m][h] = scale != nullptr ? scale[c] : 1.0f, term[m][h] = shift != nullptr ? shift[c] : 0.0f;
    }
  each_thin_step(thin_range(job), [&](unsigned first) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      typename Sizes::neighbours terms;
      typename Sizes::outputs z;
      product.gather(job, first + static_cast<unsigned>(8 * half), terms);
      product.multiply(terms, z);
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
  /// Of outputs z of channel (m, h), two pixels of half `half`, packed; the gradients are thin_gradients'.
  __device__ unsigned pass(typename Sizes::gradients const& g, typename Sizes::outputs const& z, int half, int m,
                           int h) const {
    unsigned const both = g[2 * Sizes::blocks * half + 2 * m + h];  // zeros beyond the last pixel
    auto const lets = [&](int k) { return !relu || fmaf(z[m][2 * h + k], scale[m][h], shift[m][h]) > 0; };
    return both & ((lets(0) ? 0xFFFFu : 0u) | (lets(1) ? 0xFFFF0000u : 0u));
  }
};

/// The sums of g p^T, (channels, columns), where g is the gradient behind the rectifier, rounded to begin with: that
/// the matrix units cut off its sums' last digits is less.
template <class Sizes>
__global__ __launch_bounds__(32 * thin_warps) void thin_gradient_sums(thin_job const job, norm_state<float> const state,
                                                                      bool relu, bfloat16 const* dy, double* tiles) {
  constexpr int blocks = Sizes::blocks, depths = Sizes::depths;
  thin_product<Sizes> const product(job);
  thin_rectifier<Sizes> const rectifier(product, state, relu);
  float sums[blocks][2 * depths][4] = {};
  each_thin_gradient<Sizes>(job, dy, [&](unsigned first, typename Sizes::gradients const& g) {
    typename Sizes::neighbours terms[2];
    unsigned passed[blocks][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      typename Sizes::outputs z;
      product.gather(job, first + static_cast<unsigned>(8 * half), terms[half]);
      product.multiply(terms[half], z);
#pragma unroll
      for (int m = 0; m < blocks; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) passed[m][2 * half + h] = rectifier.pass(g, z, half, m, h);
      product.turn(job, first + static_cast<unsigned>(8 * half), terms[half]);
    }
#pragma unroll
    for (int n = 0; n < 2 * depths; ++n)
#pragma unroll
      for (int m = 0; m < blocks; ++m) multiply_bf16(sums[m][n], passed[m], terms[0][n], terms[1][n]);
  });
  write_thin_sums(sums, Sizes::channels, Sizes::columns, tiles);
}
/// Batch norm's gradients: sums of g, and of g times the normalised output.
template <class Sizes>
__global__ void thin_norm_gradients(thin_job const job, norm_state<float> const state, double const* sums,
                                    float* dgamma, float* dbeta) {
  int const c = static_cast<int>(threadIdx.x);
  if (c >= Sizes::channels) return;
  double const* const mine = sums + c * Sizes::columns;
  double products = 0;
  for (int k = 0; k < Sizes::terms; ++k) products += thin_factor<Sizes>(job.w, c, k) * mine[k];
  dbeta[c] = static_cast<float>(mine[Sizes::terms]);
  dgamma[c] = static_cast<float>((products - state.mean[c] * mine[Sizes::terms]) * state.inverse_std[c]);
}
/// The gradient of one weight, blockIdx.x's channel's.
template <class Sizes>
__global__ void thin_weight_gradient(thin_job const job, norm_state<float> const state, double const* seconds,
                                     double const* sums, float const* dgamma, float const* dbeta, float* dw) {
  int const c = static_cast<int>(blockIdx.x), term = static_cast<int>(threadIdx.x);
  if (term >= Sizes::terms) return;
  double z = 0;  // the sum of the outputs times the term, and then of what they are off their mean
  for (int k = 0; k < Sizes::terms; ++k) z += thin_factor<Sizes>(job.w, c, k) * seconds[k * Sizes::columns + term];
  double const all = seconds[Sizes::terms * Sizes::columns + term], rows = job.rows, inverse = state.inverse_std[c];
  z -= state.mean[c] * all;
  double const before = sums[c * Sizes::columns + term] - dbeta[c] / rows * all - dgamma[c] / rows * inverse * z;
  dw[(c * Sizes::in + term % Sizes::in) * 9 + term / Sizes::in] = static_cast<float>(state.gamma[c] * inverse * before);
}

template <class P>
void run_thin(context<cuda<P>>& on, conv_dims const& d, thin_input const& from, float const* scale, float const* shift,
              bool relu, value_of<cuda<P>>* y) {
  with_thin_sizes(d, [&]<class Sizes>(Sizes) {
    launch_thin(on.stream(), d, on.gpu(), thin_forward<Sizes>, thin_warps * 16 * 2 * Sizes::channels, thin_job(d, from),
                scale, shift, relu, y);
  });
}

}  // namespace detail::gpu

/// The moments of a convolution of few channels, whose output is not kept; what backward wants of the input goes to
/// `kept`, which conv2d_thin_kept says the size of. Scratch of conv2d_thin.
///
/// Shapes  x (N, H, W, in), w (out, in, 3, 3), mean and variance (out).
template <class P>
void conv2d_thin_moments(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, float const* w,
                         float* mean, float* variance, std::byte* kept, std::byte* scratch) {
  namespace gpu = detail::gpu;
  auto* const tiles = reinterpret_cast<double*>(scratch);
  auto* const seconds = reinterpret_cast<double*>(kept);
  gpu::with_thin_sizes(d, [&]<class Sizes>(Sizes) {
    constexpr std::size_t own = gpu::thin_sums_bytes<Sizes::depths, 2 * Sizes::depths>;
    gpu::thin_job const job(d, {.x = x, .w = w});
    std::size_t const count = gpu::launch_thin(
        on.stream(), d, on.gpu(), gpu::thin_second_moments<gpu::thin_sizes<Sizes::in, 1>>, own, job, tiles);
    gpu::finish_sums<1>(on.stream(), tiles, count, Sizes::columns * Sizes::columns, gpu::keep_total{seconds});
    gpu::launch(on.stream(), gpu::thin_moments<Sizes>, dim3(Sizes::channels), 32, 0, job, seconds, mean, variance);
  });
}
/// Its output again, times scale plus shift, and rectified if so wished.
///
/// Shapes  y (N, H, W, out), scale and shift (out).
template <class P>
void conv2d_thin_forward(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, float const* w,
                         float const* scale, float const* shift, bool relu, value_of<cuda<P>>* y) {
  detail::gpu::run_thin(on, d, {.x = x, .w = w}, scale, shift, relu, y);
}
/// The gradients of its weights and of batch norm's. Scratch of conv2d_thin.
///
/// Shapes  dy (N, H, W, out), dw (out, in, 3, 3), dgamma and dbeta (out).
template <class P>
void conv2d_thin_backward(context<cuda<P>>& on, conv_dims const& d, value_of<cuda<P>> const* x, float const* w,
                          norm_state<float> const& norm, bool relu, value_of<cuda<P>> const* dy, float* dw,
                          float* dgamma, float* dbeta, std::byte const* kept, std::byte* scratch) {
  namespace gpu = detail::gpu;
  auto const* const seconds = reinterpret_cast<double const*>(kept);
  auto* const sums = reinterpret_cast<double*>(scratch);
  gpu::with_thin_sizes(d, [&]<class Sizes>(Sizes) {
    constexpr std::size_t staged = gpu::thin_warps * 2 * gpu::thin_gradients<Sizes>::bytes;
    constexpr std::size_t own = gpu::thin_sums_bytes<Sizes::blocks, 2 * Sizes::depths>;
    constexpr std::size_t size = Sizes::channels * Sizes::columns;
    gpu::thin_job const job(d, {.x = x, .w = w});
    double* const tiles = sums + size;
    std::size_t const count = gpu::launch_thin(on.stream(), d, on.gpu(), gpu::thin_gradient_sums<Sizes>,
                                               std::max(staged, own), job, norm, relu, dy, tiles);
    gpu::finish_sums<1>(on.stream(), tiles, count, size, gpu::keep_total{sums});
    gpu::launch(on.stream(), gpu::thin_norm_gradients<Sizes>, dim3(1), 64, 0, job, norm, sums, dgamma, dbeta);
    auto const [of_gamma, of_beta] = gpu::sums_of_all(on, d.out, dgamma, dbeta);
    gpu::launch(on.stream(), gpu::thin_weight_gradient<Sizes>, dim3(Sizes::channels), 32, 0, job, norm, seconds, sums,
                of_gamma, of_beta, dw);
  });
}

}  // namespace l3::inline L3_ISA
