/// @file  include/l3/layers/dense.hpp: the fully connected layer.
#pragma once
#include <l3/kernels/kernels.hpp>
#include <l3/layers/layer.hpp>

namespace l3::inline L3_ISA {

/// y = W x + b.
///
/// Shapes  x (N, features<D>), y (N, features<Units>); weight (Units, D), bias (Units).
/// Errors  compile time: input not features, no units.
/// Source  torch.nn.Linear.
template <item_shape In, std::size_t Units>
struct fully_connected {
  static_assert(feature_shape<In>, "l3::dense: the input is an image; put global_max_pool before dense");
  static_assert(within<std::size_t{1}, Units, std::size_t{1} << 24>, "l3::dense: units must be 1 to 16777216");

  using input = In;
  using output = features<Units>;
  static constexpr char const* name = "dense";
  static constexpr auto parameters = lay_out(std::array{parameter{"weight", role::weight, {Units, In::size, 1, 1}, 2},
                                                        parameter{"bias", role::bias, {Units, 1, 1, 1}, 1}});
  static constexpr double flops = 2.0 * Units * In::size;
  static constexpr dense_dims dims(std::size_t items) { return {items, In::size, Units}; }

  template <backend B>
  static constexpr footprint kept{};
  template <backend B>
  static constexpr footprint scratch = either(scratch_size<B>::dense(dims(0)), scratch_size<B>::channels(Units, 1));

  template <backend B>
  static void infer(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y) {
    dense_forward(p.on, dims(p.items), x, params, params + parameters[1].offset, y, p.scratch);
  }
  template <backend B>
  static void forward(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y, std::byte*) {
    infer(p, params, x, y);
  }
  template <backend B>
  static void backward(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B> const*,
                       std::byte*, value_of<B> const* dy, value_of<B>* dx, scalar_of<B>* gradients) {
    dense_backward_weights(p.on, dims(p.items), x, dy, gradients, p.scratch);
    channel_sums(p.on, p.items, Units, dy, gradients + parameters[1].offset, p.scratch);
    if (dx != nullptr) dense_backward_data(p.on, dims(p.items), dy, params, dx, p.scratch);
  }
};

/// Spec of a fully connected layer.
template <std::size_t Units>
struct dense {
  template <item_shape In>
  using bind = fully_connected<In, Units>;
};

}  // namespace l3::inline L3_ISA
