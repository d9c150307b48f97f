/// @file  include/l3/layers/conv_norm.hpp: convolution, batch norm, rectifier and pooling as one node.
#pragma once
#include <l3/layers/batch_norm.hpp>
#include <l3/layers/conv2d.hpp>
#include <l3/layers/max_pool2d.hpp>

namespace l3::inline L3_ISA {

/// What `sequential` makes of conv3x3, batch_norm and, if they follow, relu and behind it max_pool or global_max_pool.
/// The same numbers as layer after layer, with fewer passes over memory. In training the convolution's output is read
/// once more to normalise, rectify and pool it. In inference batch norm is folded into the weights, and rectifier and
/// 2x2 pools ride on the convolution; where the next node reads packed maps, it writes them.
///
/// Shapes    x (N, Conv::input), y (N, Pool::output); the parameters are those of Conv, then those of Norm. In training
///           x and y may be `kept_of<B>`.
/// Kept      the convolution's output as `kept_of<B>`, unless a backend computes it again where it is needed, and the
///           batch's moments.
/// Prepared  the convolution's weights times batch norm's scale, and batch norm's shift.
template <class Conv, class Norm, bool Rectifies, class Pool>
struct conv_norm_node {
  using input = typename Conv::input;
  using output = typename Pool::output;
  using conv_output = typename Conv::output;
  static constexpr pool pooling = Pool::window;
  static constexpr bool whole = pooling == pool{{1, 1}, {1, 1}};  ///< no pool
  static constexpr char const* name = !Rectifies              ? "conv3x3+batch_norm"
                                      : whole                 ? "conv3x3+batch_norm+relu"
                                      : feature_shape<output> ? "conv3x3+batch_norm+relu+global_max_pool"
                                                              : "conv3x3+batch_norm+relu+max_pool";
  static constexpr bool trains_on_kept = true;  ///< see layer.hpp
  static constexpr std::size_t channels = conv_output::channels;
  static constexpr std::size_t norm_offset = room_of(Conv::parameters);
  static constexpr double flops = Conv::flops + 4.0 * conv_output::size;
  static constexpr pool_dims dims(std::size_t items) {
    return {items, conv_output::height, conv_output::width, channels, Pool::window.window, Pool::window.stride};
  }

  static constexpr conv_dims region(std::size_t items, extent2 size) {
    conv_dims dims = Conv::dims(items);
    dims.height = size.height, dims.width = size.width;
    return dims;
  }
  /// The pool is none, or can ride on the convolution.
  template <backend B>
  static constexpr bool rides(pool const& pools) {
    return pools == pool{{1, 1}, {1, 1}} ||
           (pools == pool{{2, 2}, {2, 2}} && scratch_size<B>::conv2d_pools(Conv::dims(0)));
  }
  /// Scratch of infer_region.
  template <backend B>
  static constexpr footprint region_scratch(extent2 size, pool const& pools) {
    return scratch_size<B>::conv2d_infer(region(0, size)) +
           (rides<B>(pools) ? footprint{} : per_item<value_of<B>>(size.height * size.width * channels));
  }

  /// Its input in inference as a packed map, nothing where it reads none.
  template <backend B>
  static constexpr footprint packed_input = scratch_size<B>::conv2d_packed(Conv::dims(0));
  template <backend B>
  static constexpr bool packs_output = rides<B>(pooling) && scratch_size<B>::conv2d_packs(Conv::dims(0));

  /// How the convolution is computed, for people to read.
  template <backend B>
  static constexpr char const* algorithm = scratch_size<B>::conv2d_algorithm(Conv::dims(1));

  template <class S>
  static constexpr footprint conv_values = per_item<S>(conv_output::size);
  template <class S>
  static constexpr footprint channel_values = fixed<S>(round_up(channels, alignment / sizeof(S)));

  /// The convolution's output is computed again rather than kept.
  template <backend B>
  static constexpr bool thin = (whole && Conv::parameters.size() == 1 &&
                                scratch_size<B>::conv2d_is_thin(Conv::dims(0)));
  template <backend B>
  static constexpr footprint thin_kept = scratch_size<B>::conv2d_thin_kept(Conv::dims(0));
  template <backend B>
  static constexpr footprint kept = Norm::template kept<B> + (thin<B> ? thin_kept<B> : conv_values<kept_of<B>>);
  template <backend B>
  static constexpr footprint conv_weights = scratch_size<B>::conv2d_prepared(Conv::dims(0));
  template <backend B>
  static constexpr footprint prepared = conv_weights<B> + channel_values<scalar_of<B>> + channel_values<scalar_of<B>>;
  template <backend B>
  static constexpr footprint infer_scratch = region_scratch<B>({input::height, input::width}, pooling);
  template <backend B>
  static constexpr footprint scratch = either(
      prepared<B> + infer_scratch<B>,
      conv_values<kept_of<B>> +
          either(either(Conv::template scratch<B>, thin<B> ? scratch_size<B>::conv2d_thin(Conv::dims(0)) : footprint{}),
                 scratch_size<B>::channels(channels, conv_output::pixels)));

  template <backend B>
  static void prepare(context<B>& on, scalar_of<B> const* params, std::byte* to) {
    using S = scalar_of<B>;
    carver pieces(to, 0, 0);
    std::byte* const weights = pieces.take<std::byte>(conv_weights<B>);
    S* const shift = pieces.take<S>(channel_values<S>);
    S* const scale = pieces.take<S>(channel_values<S>);
    Norm::folded(on, params + norm_offset, Conv::bias_of(params), scale, shift);
    conv2d_prepare(on, Conv::dims(0), params, scale, weights);
  }
  template <backend B>
  static void infer_prepared(pass<B> const& p, std::byte const* from, value_of<B> const* x, value_of<B>* y,
                             packing how = {}) {
    infer_region(p, {input::height, input::width}, pooling, from, x, y, epilogue<scalar_of<B>>{}.wanted_columns, how);
  }
  /// infer_prepared on pictures of another size, with another pool or, if its window is one pixel, none; only the first
  /// `wanted` columns of the convolution count.
  template <backend B>
  static void infer_region(pass<B> const& p, extent2 size, pool const& pools, std::byte const* from,
                           value_of<B> const* x, value_of<B>* y,
                           std::size_t wanted = epilogue<scalar_of<B>>{}.wanted_columns, packing how = {}) {
    using S = scalar_of<B>;
    auto const* const shift = reinterpret_cast<S const*>(from + conv_weights<B>.bytes(0, 0));
    conv_dims const conv = region(p.items, size);
    epilogue<S> then{
        .shift = shift, .relu = Rectifies, .pool = pools != pool{{1, 1}, {1, 1}}, .wanted_columns = wanted};
    if (rides<B>(pools)) return conv2d_infer(p.on, conv, x, from, then, y, p.scratch, how);
    then.pool = false;
    carver pieces = p.carve();
    auto* const map = pieces.take<value_of<B>>(per_item<value_of<B>>(size.height * size.width * channels));
    conv2d_infer(p.on, conv, x, from, then, map, pieces.rest(), packing{.x = how.x});
    max_pool_forward(p.on, pool_dims{p.items, size.height, size.width, channels, pools.window, pools.stride}, map, y);
  }
  template <backend B>
  static void infer(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y) {
    carver pieces = p.carve();
    std::byte* const weights = pieces.take<std::byte>(prepared<B>);
    prepare(p.on, params, weights);
    infer_prepared(pass<B>{p.on, p.items, pieces.rest()}, weights, x, y);
  }

  template <backend B, class X, class Y>
  static void forward(pass<B> const& p, scalar_of<B>* params, X const* x, Y* y, std::byte* kept_bytes) {
    carver keep(kept_bytes, p.items, p.on.threads());
    if constexpr (thin<B>) {
      auto* const of_input = keep.take<std::byte>(thin_kept<B>);
      norm_kept<scalar_of<B>> const k(keep.rest(), channels);
      conv2d_thin_moments(p.on, Conv::dims(p.items), x, params, k.mean, k.variance, of_input, p.scratch);
      Norm::settle(p, params + norm_offset, k);
      conv2d_thin_forward(p.on, Conv::dims(p.items), x, params, k.scale, k.shift, Rectifies, y);
      return;
    }
    auto* const z = keep.take<kept_of<B>>(conv_values<kept_of<B>>);
    norm_kept<scalar_of<B>> const k(keep.rest(), channels);
    conv2d_forward_moments(p.on, Conv::dims(p.items), x, params, Conv::bias_of(params), z, k.mean, k.variance,
                           p.scratch);
    Norm::settle(p, params + norm_offset, k);
    affine_pool_forward(p.on, dims(p.items), z, k.scale, k.shift, Rectifies, y);
  }

  template <backend B, class X, class Y>
  static void backward(pass<B> const& p, scalar_of<B> const* params, X const* x, Y const*, std::byte* kept_bytes,
                       Y const* dy, X* dx, scalar_of<B>* gradients) {
    using S = scalar_of<B>;
    carver keep(kept_bytes, p.items, p.on.threads());
    kept_of<B> const* z = nullptr;
    std::byte const* of_input = nullptr;
    if constexpr (thin<B>)
      of_input = keep.take<std::byte>(thin_kept<B>);
    else
      z = keep.take<kept_of<B>>(conv_values<kept_of<B>>);
    norm_kept<S> const k(keep.rest(), channels);
    auto const state = Norm::template state<S>(params + norm_offset, k);
    S* const dgamma = Norm::template at<0>(gradients + norm_offset);
    S* const dbeta = Norm::template at<1>(gradients + norm_offset);
    carver scratch_space = p.carve();
    auto* const dz = scratch_space.take<kept_of<B>>(conv_values<kept_of<B>>);
    std::byte* const rest = scratch_space.rest();
    if constexpr (thin<B>) {
      if (dx == nullptr)  // the first layer, as these are
        return conv2d_thin_backward(p.on, Conv::dims(p.items), x, params, state, Rectifies, dy, gradients, dgamma,
                                    dbeta, of_input, rest);
      conv2d_forward(p.on, Conv::dims(p.items), x, params, nullptr, dz, rest);  // rounded, unlike in forward
      z = dz;
    }
    batch_norm_relu_pool_backward(p.on, dims(p.items), z, state, Rectifies, dy, dz, dgamma, dbeta, rest);
    Conv::backward(pass<B>{p.on, p.items, rest}, params, x, z, nullptr, dz, dx, gradients);
  }

  /// The block's parameters under the names that its layers have in the network.
  static constexpr auto named(label const& conv, label const& norm) {
    return join(conv, Conv::parameters, norm, Norm::parameters);
  }
};

}  // namespace l3::inline L3_ISA
