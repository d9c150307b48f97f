/// @file  include/l3/kernels/cuda/augment.cuh: crops of pictures, as bytes -> frames as a network takes them, on a GPU:
/// data/augment.hpp's mirror and colours.
#pragma once
#include <cstddef>
#include <cstdint>
#include <l3/core/jitter.hpp>
#include <l3/core/shape.hpp>
#include <l3/kernels/cuda/vector.cuh>

namespace l3::inline L3_ISA {
namespace detail::gpu {

__device__ inline float clamped_colour(float x) { return x < 0 ? 0.0f : x > 255 ? 255.0f : x; }

/// A thread makes a pixel of three colours.
template <class T>
__global__ __launch_bounds__(256) void augment_pixels(std::uint8_t const* crops, image_jitter const* jitters,
                                                      unsigned width, unsigned pixels, unsigned item_blocks, T* out) {
  unsigned const number = blockIdx.x / item_blocks, at = blockIdx.x % item_blocks * 256 + threadIdx.x;
  if (at >= pixels) return;
  image_jitter const& jitter = jitters[number];
  std::size_t const item = std::size_t{number} * pixels;
  unsigned const column = at % width, from = jitter.mirrored ? at - column + (width - 1 - column) : at;
  float colour[3];
#pragma unroll
  for (int c = 0; c < 3; ++c) colour[c] = crops[(item + from) * 3 + static_cast<unsigned>(c)];
#pragma unroll
  for (int turn = 0; turn < 2; ++turn) {
    if (jitter.saturation_first == (turn == 0)) {
      if (jitter.saturation == 1) continue;
      float const grey = fmaf(0.114f, colour[2], fmaf(0.587f, colour[1], 0.299f * colour[0]));
#pragma unroll
      for (float& x : colour) x = clamped_colour(fmaf(jitter.saturation, x - grey, grey));
    } else {
#pragma unroll
      for (float& x : colour) x = clamped_colour(x + jitter.brightness);
    }
  }
#pragma unroll
  for (int c = 0; c < 3; ++c) out[(item + at) * 3 + static_cast<unsigned>(c)] = T((2 * colour[c] - 255) / 255);
}

}  // namespace detail::gpu

/// Frames from crops, mirrored and with other colours as `jitters` say; where a crop lay in its picture does not matter
/// any more. All in the GPU's memory.
///
/// Shapes  crops and out (N, Out), NHWC; jitters (N).
/// Errors  device_error.
/// Units   out within [-1, 1]. Without jitter 2 x / 255 - 1, correctly rounded; with it within 1e-6 of augment_image.
template <image_shape Out, class P>
void augment_images(context<cuda<P>>& on, std::size_t count, std::uint8_t const* crops, image_jitter const* jitters,
                    value_of<cuda<P>>* out) {
  static_assert(Out::channels == 3, "l3::augment_images: pictures have three colours");
  unsigned const item_blocks = detail::gpu::blocks_for(Out::pixels, 256);
  detail::gpu::launch(on.stream(), detail::gpu::augment_pixels<value_of<cuda<P>>>,
                      dim3(item_blocks * detail::gpu::narrow(count)), 256, 0, crops, jitters,
                      detail::gpu::narrow(Out::width), detail::gpu::narrow(Out::pixels), item_blocks, out);
}

}  // namespace l3::inline L3_ISA
