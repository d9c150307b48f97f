/// @file  include/l3/kernels/cuda/scratch.cuh: scratch memory of the GPU's kernels.
#pragma once
#include <l3/core/memory.hpp>
#include <l3/kernels/cuda/batch_norm.cuh>
#include <l3/kernels/cuda/conv2d.cuh>
#include <l3/kernels/cuda/conv_thin.cuh>
#include <l3/kernels/cuda/conv_weight_gradient.cuh>
#include <l3/kernels/cuda/pair_scores.cuh>
#include <l3/kernels/dims.hpp>
#include <l3/kernels/reference.hpp>

namespace l3::inline L3_ISA {

template <class P>
struct scratch_size<cuda<P>> {
  static constexpr footprint conv2d_forward(conv_dims d) {
    return detail::gpu::conv_weights<P>(d.in, d.out) + detail::gpu::conv_sums_room<P>(d);
  }
  static constexpr footprint conv2d_infer(conv_dims) { return {}; }
  static constexpr footprint conv2d_backward(conv_dims d) {
    return either(detail::gpu::conv_weights<P>(d.out, d.in), detail::gpu::conv_gradient_room<P>(d));
  }
  static constexpr footprint conv2d_prepared(conv_dims d) { return detail::gpu::conv_weights<P>(d.in, d.out); }
  static constexpr bool conv2d_pools(conv_dims) { return true; }
  static constexpr footprint conv2d_packed(conv_dims) { return {}; }
  static constexpr bool conv2d_packs(conv_dims) { return false; }
  static constexpr bool conv2d_is_thin(conv_dims d) { return detail::gpu::conv_is_thin<P>(d.in, d.out); }
  static constexpr footprint conv2d_thin(conv_dims d) { return detail::gpu::thin_sums_room(d); }
  static constexpr footprint conv2d_thin_kept(conv_dims d) { return detail::gpu::thin_kept_room(d); }
  static constexpr char const* conv2d_algorithm(conv_dims d) {
    return conv2d_is_thin(d)         ? "implicit matrix product on matrix units, computed again where it is needed"
           : std::is_same_v<P, fp32> ? "implicit matrix product"
           : detail::gpu::conv_in_vectors<P>(d.in) ? "implicit matrix product on matrix units"
                                                   : "implicit matrix product on matrix units, gathered value by value";
  }
  static constexpr footprint channels(std::size_t channels, std::size_t pixels) {
    std::size_t const row = round_up(channels, alignment / sizeof(float));
    return fixed<float>(row) + fixed<float>(row) + per_item<int>(row) + detail::gpu::sums_room(2, pixels, channels);
  }
  static constexpr footprint dense(dense_dims) { return {}; }
  static constexpr footprint pairs(pair_dims d) { return detail::gpu::pair_room(d); }
};

}  // namespace l3::inline L3_ISA
