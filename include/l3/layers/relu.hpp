/// @file  include/l3/layers/relu.hpp: the rectifier.
#pragma once
#include <l3/kernels/kernels.hpp>
#include <l3/layers/layer.hpp>

namespace l3::inline L3_ISA {

/// y = max(x, 0), value by value. The gradient at 0 is 0, as in PyTorch.
///
/// Shapes  x, y (N, In). No parameters.
template <item_shape In>
struct rectifier {
  using input = In;
  using output = In;
  static constexpr char const* name = "relu";
  static constexpr auto parameters = no_parameters;
  static constexpr double flops = In::size;
  template <backend B>
  static constexpr footprint kept{};
  template <backend B>
  static constexpr footprint scratch{};

  template <backend B>
  static void infer(pass<B> const& p, scalar_of<B> const*, value_of<B> const* x, value_of<B>* y) {
    relu_forward(p.on, p.items * In::size, x, y);
  }
  template <backend B>
  static void forward(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y, std::byte*) {
    infer(p, params, x, y);
  }
  template <backend B>
  static void backward(pass<B> const& p, scalar_of<B> const*, value_of<B> const*, value_of<B> const* y, std::byte*,
                       value_of<B> const* dy, value_of<B>* dx, scalar_of<B>*) {
    if (dx != nullptr) relu_backward(p.on, p.items * In::size, y, dy, dx);
  }
};

/// Spec of the rectifier.
struct relu {
  template <item_shape In>
  using bind = rectifier<In>;
};

}  // namespace l3::inline L3_ISA
