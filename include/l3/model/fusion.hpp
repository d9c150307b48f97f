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
/// Shapes  v, a (N, features<D>), logits (rows, 2): row k is pair (k, k), or with pairing::all row i S + j is pair
///         (i, j); fc1.weight (Hidden, 2 D), fc1.bias, fc2.weight (2, Hidden), fc2.bias. Logit 1: they correspond.
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
  /// Frames with their own sounds; with pairing::all perhaps with others behind those.
  static constexpr pair_dims pairs(std::size_t items, pairing which, std::size_t other_sounds = 0) {
    return {items, Hidden, classes, which, other_sounds};
  }

  template <backend B>
  static constexpr footprint hidden_values = per_item<scalar_of<B>>(Hidden);
  /// Both halves of the hidden layer: alive from `halves` to `scores_backward`.
  template <backend B>
  static constexpr footprint kept = hidden_values<B> + hidden_values<B>;
  template <backend B>
  static constexpr footprint scratch = either(scratch_size<B>::dense(half(0)),
                                              scratch_size<B>::pairs(pairs(0, pairing::all, 0)));

  /// u and t, the parts of the hidden layer that pictures and sounds make on their own.
  template <backend B>
  static void halves(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* v, value_of<B> const* a,
                     scalar_of<B>* u, scalar_of<B>* t) {
    scalar_of<B> const* const none = nullptr;
    dense_forward(p.on, half(p.items), v, params, none, u, p.scratch);
    dense_forward(p.on, half(p.items), a, params + D, none, t, p.scratch);
  }
  /// logits of the pairs that `d` tells of frames u with sounds t.
  template <backend B>
  static void scores(pass<B> const& p, pair_dims const& d, scalar_of<B> const* params, scalar_of<B> const* u,
                     scalar_of<B> const* t, scalar_of<B>* logits) {
    pair_scores_forward(p.on, d, u, t, at<1>(params), at<2>(params), at<3>(params), logits);
  }
  /// du, dt and the gradients of all parameters but fc1.weight, from dlogits.
  template <backend B>
  static void scores_backward(pass<B> const& p, pair_dims const& d, scalar_of<B> const* params, scalar_of<B> const* u,
                              scalar_of<B> const* t, scalar_of<B> const* dlogits, scalar_of<B>* du, scalar_of<B>* dt,
                              scalar_of<B>* gradients) {
    pair_scores_backward(p.on, d, u, t, at<1>(params), at<2>(params), dlogits, du, dt, at<1>(gradients),
                         at<2>(gradients), at<3>(gradients), p.scratch);
  }
  /// All of it for frames with their own sounds; `hidden` has room for `kept`.
  template <backend B>
  static void forward(pass<B> const& p, pairing which, scalar_of<B> const* params, value_of<B> const* v,
                      value_of<B> const* a, scalar_of<B>* logits, std::byte* hidden) {
    carver space(hidden, p.items, p.on.threads());
    auto* const u = space.template take<scalar_of<B>>(hidden_values<B>);
    auto* const t = space.template take<scalar_of<B>>(hidden_values<B>);
    halves(p, params, v, a, u, t);
    scores(p, pairs(p.items, which), params, u, t, logits);
  }
  /// Gradients of fc1.weight, v and a, from du and dt.
  template <backend B>
  static void halves_backward(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* v, value_of<B> const* a,
                              scalar_of<B> const* du, scalar_of<B> const* dt, value_of<B>* dv, value_of<B>* da,
                              scalar_of<B>* gradients) {
    dense_backward_weights(p.on, half(p.items), v, du, gradients, p.scratch);
    dense_backward_weights(p.on, half(p.items), a, dt, gradients + D, p.scratch);
    dense_backward_data(p.on, half(p.items), du, params, dv, p.scratch);
    dense_backward_data(p.on, half(p.items), dt, params + D, da, p.scratch);
  }

 private:
  template <std::size_t Which, class S>
  static S* at(S* params) {
    return params + parameters[Which].offset;
  }
};

}  // namespace l3::inline L3_ISA
