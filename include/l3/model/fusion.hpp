/// @file  include/l3/model/fusion.hpp: the head that decides whether a frame and a second of sound belong together.
#pragma once
#include <l3/kernels/kernels.hpp>
#include <l3/layers/layer.hpp>

namespace l3::inline L3_ISA {

/// concat(v, a) -> dense(Hidden) -> ReLU -> dense(2), on pairs of a batch.
///
/// The joined vector is never made: the first layer's product is the sum of a product with the picture's half and one
/// with the sound's half of its weights, so scoring every frame with every sound costs little more than scoring pairs.
///
/// Shapes  v, a (N, features<D>), logits (rows, 2): row k is pair (k, k), or with pairing::all row i N + j is pair (i,
/// j);
///         fc1.weight (Hidden, 2 D), fc1.bias, fc2.weight (2, Hidden), fc2.bias. Logit 1: they correspond.
/// Source  Arandjelović & Zisserman (ICCV 2017), section 3.1.
template <std::size_t D, std::size_t Hidden>
struct pair_fusion {
  static constexpr std::size_t classes = 2;
  static constexpr auto parameters =
      lay_out(std::array{parameter{"fc1.weight", role::weight, {Hidden, 2 * D, 1, 1}, 2},
                         parameter{"fc1.bias", role::bias, {Hidden, 1, 1, 1}, 1},
                         parameter{"fc2.weight", role::weight, {classes, Hidden, 1, 1}, 2},
                         parameter{"fc2.bias", role::bias, {classes, 1, 1, 1}, 1}});
  static constexpr double flops = 2.0 * Hidden * (2 * D + classes);
  static constexpr dense_dims half(std::size_t items) { return {items, D, Hidden, 2 * D}; }
  static constexpr pair_dims pairs(std::size_t items, pairing which) { return {items, Hidden, classes, which}; }

  template <backend B>
  static constexpr footprint hidden_values = per_item<scalar_of<B>>(Hidden);
  /// Alive from forward to backward: both halves of the hidden layer.
  template <backend B>
  static constexpr footprint kept = hidden_values<B> + hidden_values<B>;
  template <backend B>
  static constexpr footprint scratch = hidden_values<B> + hidden_values<B> +
                                       either(scratch_size<B>::dense(half(0)),
                                              scratch_size<B>::pairs(pairs(0, pairing::all)));

  /// logits from features; `kept_bytes` serves backward, or is scratch in inference.
  template <backend B>
  static void forward(pass<B> const& p, pairing which, scalar_of<B> const* params, scalar_of<B> const* v,
                      scalar_of<B> const* a, scalar_of<B>* logits, std::byte* kept_bytes) {
    auto const [u, t] = halves(p, kept_bytes);
    scalar_of<B> const* const w1 = params;
    dense_forward(p.on, half(p.items), v, w1, static_cast<scalar_of<B> const*>(nullptr), u, p.scratch);
    dense_forward(p.on, half(p.items), a, w1 + D, static_cast<scalar_of<B> const*>(nullptr), t, p.scratch);
    pair_scores_forward(p.on, pairs(p.items, which), u, t, at<1>(params), at<2>(params), at<3>(params), logits);
  }

  /// Gradients of parameters, v and a, from dlogits.
  template <backend B>
  static void backward(pass<B> const& p, pairing which, scalar_of<B> const* params, scalar_of<B> const* v,
                       scalar_of<B> const* a, std::byte* kept_bytes, scalar_of<B> const* dlogits, scalar_of<B>* dv,
                       scalar_of<B>* da, scalar_of<B>* gradients) {
    auto const [u, t] = halves(p, kept_bytes);
    auto const [du, dt] = halves(p, p.scratch);
    std::byte* const rest = p.scratch + kept<B>.bytes(p.items, p.on.threads());
    pair_scores_backward(p.on, pairs(p.items, which), u, t, at<1>(params), at<2>(params), dlogits, du, dt,
                         at<1>(gradients), at<2>(gradients), at<3>(gradients), rest);
    dense_backward_weights(p.on, half(p.items), v, du, gradients, rest);
    dense_backward_weights(p.on, half(p.items), a, dt, gradients + D, rest);
    dense_backward_data(p.on, half(p.items), du, params, dv, rest);
    dense_backward_data(p.on, half(p.items), dt, params + D, da, rest);
  }

 private:
  template <std::size_t Which, class S>
  static S* at(S* params) {
    return params + parameters[Which].offset;
  }
  template <class B>
  static std::array<scalar_of<B>*, 2> halves(pass<B> const& p, std::byte* memory) {
    carver space(memory, p.items, p.on.threads());
    auto* const first = space.template take<scalar_of<B>>(hidden_values<B>);
    return {first, space.template take<scalar_of<B>>(hidden_values<B>)};
  }
};

}  // namespace l3::inline L3_ISA
