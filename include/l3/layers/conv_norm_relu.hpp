/// @file  include/l3/layers/conv_norm_relu.hpp: convolution, batch norm, rectifier and pooling as one node.
#pragma once
#include <l3/layers/batch_norm.hpp>
#include <l3/layers/conv2d.hpp>
#include <l3/layers/max_pool2d.hpp>

namespace l3::inline L3_ISA {

/// What `sequential` makes of conv3x3, batch_norm, relu and, if one follows, max_pool or global_max_pool. The same
/// numbers as layer after layer, with fewer passes over memory: in training the convolution's output is read once more
/// to normalise, rectify and pool it; in inference batch norm and rectifier ride on the convolution.
///
/// Shapes  x (N, Conv::input), y (N, Pool::output); the parameters are those of Conv, then those of Norm.
/// Kept    the convolution's output and the batch's moments.
template <class Conv, class Norm, class Pool>
struct conv_norm_relu_node {
  using input = typename Conv::input;
  using output = typename Pool::output;
  using conv_output = typename Conv::output;
  static constexpr char const* name = "conv3x3+batch_norm+relu";
  static constexpr bool pools = Pool::window != pool{{1, 1}, {1, 1}};
  static constexpr std::size_t channels = conv_output::channels;
  static constexpr std::size_t norm_offset = room_of(Conv::parameters);
  static constexpr double flops = Conv::flops + 4.0 * conv_output::size;
  static constexpr pool_dims dims(std::size_t items) {
    return {items, conv_output::height, conv_output::width, channels, Pool::window.window, Pool::window.stride};
  }

  template <class S>
  static constexpr footprint conv_values = per_item<S>(conv_output::size);
  template <class S>
  static constexpr footprint channel_values = fixed<S>(round_up(channels, alignment / sizeof(S)));

  template <backend B>
  static constexpr footprint kept = conv_values<scalar_of<B>> + Norm::template kept<B>;
  template <backend B>
  static constexpr footprint scratch = either(conv_values<scalar_of<B>> + either(Conv::template scratch<B>,
                                                                                 scratch_size<B>::channels(channels)),
                                              channel_values<scalar_of<B>> + channel_values<scalar_of<B>> +
                                                  (pools || Conv::has_bias ? conv_values<scalar_of<B>> : footprint{}) +
                                                  Conv::template scratch<B>);

  template <backend B>
  static void infer(pass<B> const& p, scalar_of<B> const* params, scalar_of<B> const* x, scalar_of<B>* y) {
    using S = scalar_of<B>;
    carver scratch_space = p.carve();
    S* const scale = scratch_space.take<S>(channel_values<S>);
    S* const shift = scratch_space.take<S>(channel_values<S>);
    Norm::folded(p.on, params + norm_offset, scale, shift);
    epilogue<S> const then{.scale = scale, .shift = shift, .relu = true};
    if constexpr (Conv::has_bias) {
      S* const full = scratch_space.take<S>(conv_values<S>);
      conv2d_forward(p.on, Conv::dims(p.items), x, params, Conv::own_epilogue(params), full, scratch_space.rest());
      affine_pool_forward(p.on, dims(p.items), full, scale, shift, true, y);
    } else if constexpr (pools) {
      S* const full = scratch_space.take<S>(conv_values<S>);
      conv2d_forward(p.on, Conv::dims(p.items), x, params, then, full, scratch_space.rest());
      max_pool_forward(p.on, dims(p.items), full, y);
    } else {
      conv2d_forward(p.on, Conv::dims(p.items), x, params, then, y, scratch_space.rest());
    }
  }

  template <backend B>
  static void forward(pass<B> const& p, scalar_of<B>* params, scalar_of<B> const* x, scalar_of<B>* y,
                      std::byte* kept_bytes) {
    using S = scalar_of<B>;
    carver keep(kept_bytes, p.items, p.on.threads());
    S* const z = keep.take<S>(conv_values<S>);
    norm_kept<S> const k(keep.rest(), channels);
    conv2d_forward(p.on, Conv::dims(p.items), x, params, Conv::own_epilogue(static_cast<S const*>(params)), z,
                   p.scratch);
    Norm::measure(p, params + norm_offset, z, k);
    affine_pool_forward(p.on, dims(p.items), z, k.scale, k.shift, true, y);
  }

  template <backend B>
  static void backward(pass<B> const& p, scalar_of<B> const* params, scalar_of<B> const* x, scalar_of<B> const*,
                       std::byte* kept_bytes, scalar_of<B> const* dy, scalar_of<B>* dx, scalar_of<B>* gradients) {
    using S = scalar_of<B>;
    carver keep(kept_bytes, p.items, p.on.threads());
    S const* const z = keep.take<S>(conv_values<S>);
    norm_kept<S> const k(keep.rest(), channels);
    carver scratch_space = p.carve();
    S* const dz = scratch_space.take<S>(conv_values<S>);
    std::byte* const rest = scratch_space.rest();
    batch_norm_relu_pool_backward(p.on, dims(p.items), z, Norm::template state<S>(params + norm_offset, k), true, dy,
                                  dz, Norm::template at<0>(gradients + norm_offset),
                                  Norm::template at<1>(gradients + norm_offset), rest);
    Conv::backward(pass<B>{p.on, p.items, rest}, params, x, z, nullptr, dz, dx, gradients);
  }

  /// The block's parameters under the names that its layers have in the network.
  static constexpr auto named(label const& conv, label const& norm) {
    return join(conv, Conv::parameters, norm, Norm::parameters);
  }
};

}  // namespace l3::inline L3_ISA
