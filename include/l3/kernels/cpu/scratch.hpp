/// @file  include/l3/kernels/cpu/scratch.hpp: scratch memory of the SIMD kernels.
#pragma once
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/batch_norm.hpp>
#include <l3/kernels/cpu/conv2d.hpp>
#include <l3/kernels/cpu/pair_scores.hpp>
#include <l3/kernels/dims.hpp>
#include <l3/kernels/reference.hpp>

namespace l3::inline L3_ISA {

template <class A, class P>
struct scratch_size<simd<A, P>> {
  static constexpr footprint conv2d_forward(conv_dims d) {
    return detail::conv2d_weights<training, A, P>(d) + detail::conv2d_scratch<training, A, P>(d);
  }
  static constexpr footprint conv2d_infer(conv_dims d) { return detail::conv2d_scratch<inference, A, P>(d); }
  static constexpr footprint conv2d_backward(conv_dims d) {
    return either(conv2d_forward(detail::exchanged(d)), detail::conv2d_gradient_scratch<A, P>(d));
  }
  static constexpr footprint conv2d_prepared(conv_dims d) { return detail::conv2d_weights<inference, A, P>(d); }
  static constexpr bool conv2d_pools(conv_dims d) { return detail::winograd_pays(d) || conv2d_packs(d); }
  static constexpr footprint conv2d_packed(conv_dims d) {
    return conv2d_packs(d) && !detail::is_one_step(d.in)
               ? per_item<bfloat16>(detail::packed_map{d.height, d.width, d.in}.size())
               : footprint{};
  }
  static constexpr bool conv2d_packs(conv_dims d) { return detail::matrices_pay<A, P>(d); }
  static constexpr bool conv2d_is_thin(conv_dims) { return false; }
  static constexpr footprint conv2d_thin(conv_dims) { return {}; }
  static constexpr footprint conv2d_thin_kept(conv_dims) { return {}; }
  static constexpr char const* conv2d_algorithm(conv_dims d) {
    bool const matrices = detail::matrices_pay<A, P>(d);
    if (!detail::winograd_pays(d)) return matrices ? "direct, in inference in matrix registers" : "direct";
    return matrices                        ? "Winograd F(4x4,3x3), in inference direct, in matrix registers"
           : detail::large_tiles_pay<P>(d) ? "Winograd F(4x4,3x3), in inference F(6x6,3x3)"
                                           : "Winograd F(4x4,3x3)";
  }
  static constexpr footprint channels(std::size_t channels, std::size_t /*pixels*/) {
    return detail::batch_norm_scratch(channels);
  }
  static constexpr footprint dense(dense_dims) { return {}; }
  static constexpr footprint pairs(pair_dims d) { return detail::pair_share(d); }

 private:
  static constexpr auto training = detail::conv_use::training, inference = detail::conv_use::inference;
};

}  // namespace l3::inline L3_ISA
