/// @file  include/l3/kernels/cuda/spectrogram.cuh: seconds of sound -> the pictures that the audio subnetwork looks at,
/// on a GPU: data/spectrogram.hpp's numbers.
#pragma once
#include <cstddef>
#include <l3/core/front_end.hpp>
#include <l3/kernels/cuda/vector.cuh>
#include <l3/kernels/spectrum.hpp>
#include <memory>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// Of a transform of `Size` real values, `Window` of which are not zero.
template <std::size_t Size, std::size_t Window>
struct spectrum_tables {
  float2 roots[Size - Size / 4];  ///< e^(-2 pi i k / Size)
  float window[Window];           ///< periodic Hann
  spectrum_tables() {
    for (std::size_t k = 0; k < Size - Size / 4; ++k) {
      auto const [re, im] = root_of_unity(k, Size);
      roots[k] = {re, im};
    }
    for (std::size_t n = 0; n < Window; ++n) window[n] = hann_value(n, Window);
  }
};

__device__ inline float2 turned(float2 z, float2 by) {
  return {fmaf(z.x, by.x, z.y * -by.y), fmaf(z.x, by.y, z.y * by.x)};
}

/// A column of a picture for each warp of a block.
inline constexpr int spectrum_columns = 8;

template <class F>
struct spectrum_room {
  float2 values[spectrum_columns][F::fft / 2];
  float levels[spectrum_columns][F::bins];  ///< an odd number of floats: columns begin in different banks
};

/// As real_fft (kernels/fft.hpp), a warp for each transform: even samples are real parts and odd ones imaginary parts
/// of half as many complex numbers; radix 4, decimation in frequency, in place.
template <class F, class T>
__global__ __launch_bounds__(32 * spectrum_columns) void log_spectra(float const* sounds, float const* volumes,
                                                                     spectrum_tables<F::fft, F::window> const* tables,
                                                                     T* out) {
  constexpr int half = F::fft / 2, rows = F::output::height, columns = F::output::width;
  constexpr int pooled = F::bins_pooled * F::frames_pooled;
  auto& room = *shared_memory<spectrum_room<F>>();
  int const warp = static_cast<int>(threadIdx.x) >> 5, lane = static_cast<int>(threadIdx.x) & 31;
  constexpr unsigned item_blocks = (columns + spectrum_columns - 1) / spectrum_columns;
  unsigned const item = blockIdx.x / item_blocks;
  int const first = static_cast<int>(blockIdx.x % item_blocks) * spectrum_columns, column = first + warp;
  float2* const z = room.values[warp];
  float* const level = room.levels[warp];
  float const volume = volumes[item];
  float2 const* const roots = tables->roots;
  auto const rank = [](int k) {  // its base-4 digits reversed
    int place = 0;
#pragma unroll
    for (int digit = 1; digit < half; digit *= 4) place = 4 * place + k / digit % 4;
    return place;
  };
  if (column < columns) {
    for (int part = 0; part < static_cast<int>(F::frames_pooled); ++part) {
      float const* const samples = sounds + std::size_t{item} * F::samples +
                                   (static_cast<std::size_t>(column) * F::frames_pooled + part) * F::hop;
      for (int n = lane; n < half; n += 32) {
        float2 x{0, 0};
        if (2 * n < static_cast<int>(F::window)) {
          x = *reinterpret_cast<float2 const*>(samples + 2 * n);
          x.x = x.x * volume * tables->window[2 * n], x.y = x.y * volume * tables->window[2 * n + 1];
        }
        z[n] = x;
      }
      __syncwarp();
#pragma unroll
      for (int length = half; length >= 4; length /= 4) {
        int const quarter = length / 4, step = static_cast<int>(F::fft) / length;
        for (int b = lane; b < half / 4; b += 32) {
          int const j = b % quarter, at = b / quarter * length + j;
          float2 const x0 = z[at], x1 = z[at + quarter], x2 = z[at + 2 * quarter], x3 = z[at + 3 * quarter];
          float2 const a{x0.x + x2.x, x0.y + x2.y}, d{x0.x - x2.x, x0.y - x2.y};
          float2 const c{x1.x + x3.x, x1.y + x3.y}, e{x1.x - x3.x, x1.y - x3.y};
          z[at] = {a.x + c.x, a.y + c.y};
          z[at + quarter] = turned({d.x + e.y, d.y - e.x}, roots[j * step]);
          z[at + 2 * quarter] = turned({a.x - c.x, a.y - c.y}, roots[2 * j * step]);
          z[at + 3 * quarter] = turned({d.x - e.y, d.y + e.x}, roots[3 * j * step]);
        }
        __syncwarp();
      }
      // The transforms of the even and of the odd samples, and from them that of all.
      auto const keep = [&](int k, float re, float im) {
        float const power = fmaf(im, im, re * re);
        if (pooled == 1)
          level[k] = power;  // the logarithm of a square is twice as large
        else
          level[k] = (part > 0 ? level[k] : 0.0f) + sqrtf(power);
      };
      for (int k = lane; k <= half / 2; k += 32) {
        float2 const a = z[rank(k)], b = z[rank((half - k) % half)];
        if (k == 0) {
          keep(0, a.x + a.y, 0), keep(half, a.x - a.y, 0);
          continue;
        }
        float2 const even{0.5f * (a.x + b.x), 0.5f * (a.y - b.y)};
        float2 const odd = turned({0.5f * (a.y + b.y), 0.5f * (b.x - a.x)}, roots[k]);
        keep(k, even.x + odd.x, even.y + odd.y);
        if (k != half / 2) keep(half - k, even.x - odd.x, odd.y - even.y);
      }
      __syncwarp();  // the next frame overwrites what was read
    }
  }
  __syncthreads();
  for (int k = static_cast<int>(threadIdx.x); k < rows * spectrum_columns; k += 32 * spectrum_columns) {
    int const row = k / spectrum_columns, c = k % spectrum_columns;
    if (first + c >= columns) continue;
    float sum = 0;
#pragma unroll
    for (int b = 0; b < static_cast<int>(F::bins_pooled); ++b)
      sum += room.levels[c][row * static_cast<int>(F::bins_pooled) + b];
    out[(std::size_t{item} * rows + static_cast<std::size_t>(row)) * columns + static_cast<std::size_t>(first + c)] =
        T(picture_value<F>(sum));
  }
}

}  // namespace detail::gpu

/// Computes the log-magnitude spectrograms of seconds of sound on a GPU; its tables lie there.
///
/// A call puts its work into the context's stream and returns; the object must outlive that work.
///
/// Shapes  sounds (N, F::samples), volumes (N), out (N, F::output); all in the GPU's memory.
/// Units   as spectrogram; samples are multiplied by their sound's volume first.
/// Numbers as spectrogram: the same transform, in another order of rounding.
/// Errors  device_error.
template <log_front_end F, class P>
class gpu_spectrogram {
  using tables = detail::gpu::spectrum_tables<F::fft, F::window>;

 public:
  explicit gpu_spectrogram(context<cuda<P>>& on) : tables_(sizeof(tables)) {
    auto const made = std::make_unique<tables>();
    upload(on, 1, made.get(), reinterpret_cast<tables*>(tables_.data()));
  }
  void operator()(context<cuda<P>>& on, std::size_t count, float const* sounds, float const* volumes,
                  value_of<cuda<P>>* out) const {
    static_assert(F::hop % 2 == 0 && F::window % 2 == 0 && F::samples % 2 == 0,
                  "l3::gpu_spectrogram: samples are read two at a time");
    static_assert(F::fft == 512 || F::fft == 128 || F::fft == 2048,
                  "l3::gpu_spectrogram: the transform's size is not twice a power of four");
    detail::gpu::launch(
        on.stream(), detail::gpu::log_spectra<F, value_of<cuda<P>>>,
        dim3(detail::gpu::blocks_for(F::output::width, detail::gpu::spectrum_columns) * detail::gpu::narrow(count)),
        32 * detail::gpu::spectrum_columns, sizeof(detail::gpu::spectrum_room<F>), sounds, volumes,
        reinterpret_cast<tables const*>(tables_.data()), out);
  }

 private:
  device_block tables_;
};

}  // namespace l3::inline L3_ISA
