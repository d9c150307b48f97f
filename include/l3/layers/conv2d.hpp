/// @file  include/l3/layers/conv2d.hpp: 3x3 convolution, stride 1, a border of zeros: the picture keeps its size.
#pragma once
#include <l3/kernels/kernels.hpp>
#include <l3/layers/layer.hpp>

namespace l3::inline L3_ISA {

/// Every output channel is a weighted sum of the 3x3 neighbourhood in all input channels.
///
/// Shapes  x (N, In), y (N, image<H, W, Filters>); weight (Filters, C, 3, 3), bias (Filters) if Bias.
/// Errors  compile time: input not an image, no filters.
/// Source  Arandjelović & Zisserman (ICCV 2017), figure 2; torch.nn.Conv2d(C, Filters, 3, padding=1).
template <item_shape In, std::size_t Filters, bool Bias>
struct conv2d {
  static_assert(image_shape<In>, "l3::conv3x3: the input is not an image; convolutions come before global_max_pool");
  static_assert(within<std::size_t{1}, Filters, std::size_t{65536}>, "l3::conv3x3: filters must be 1 to 65536");

  using input = In;
  using output = image<In::height, In::width, Filters>;
  static constexpr char const* name = "conv3x3";
  static constexpr parameter weight{"weight", role::weight, {Filters, In::channels, 3, 3}, 4};
  static constexpr auto parameters = [] {
    if constexpr (Bias)
      return lay_out(std::array{weight, parameter{"bias", role::bias, {Filters, 1, 1, 1}, 1}});
    else
      return lay_out(std::array{weight});
  }();
  static constexpr conv_dims dims(std::size_t items) { return {items, In::height, In::width, In::channels, Filters}; }
  static constexpr double flops = dims(1).flops();

  template <backend B>
  static constexpr footprint kept{};
  template <backend B>
  static constexpr footprint scratch = either(either(scratch_size<B>::conv2d_forward(dims(0)),
                                                     scratch_size<B>::conv2d_backward(dims(0))),
                                              Bias ? scratch_size<B>::channels(Filters, In::pixels) : footprint{});

  template <backend B>
  static void infer(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y) {
    conv2d_forward(p.on, dims(p.items), x, params, bias_of(params), y, p.scratch);
  }
  template <backend B>
  static void forward(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y, std::byte*) {
    infer(p, params, x, y);
  }
  /// Values and gradients may be `kept_of<B>`.
  template <backend B, class X, class Y>
  static void backward(pass<B> const& p, scalar_of<B> const* params, X const* x, Y const*, std::byte*, Y const* dy,
                       X* dx, scalar_of<B>* gradients) {
    conv2d_backward_weights(p.on, dims(p.items), x, dy, gradients, p.scratch);
    if constexpr (Bias) channel_sums(p.on, dims(p.items).rows(), Filters, dy, bias_of(gradients), p.scratch);
    if (dx != nullptr) conv2d_backward_data(p.on, dims(p.items), dy, params, dx, p.scratch);
  }

  /// The bias, null if there is none.
  template <class S>
  static S* bias_of(S* params) {
    if constexpr (Bias)
      return params + parameters[1].offset;
    else
      return nullptr;
  }
};

/// Spec of a 3x3 convolution; `bias` off as in the paper's configuration (a batch norm follows and would cancel it).
template <std::size_t Filters, bool Bias = false>
struct conv3x3 {
  template <item_shape In>
  using bind = conv2d<In, Filters, Bias>;
};

}  // namespace l3::inline L3_ISA
