/// @file  include/l3/layers/batch_norm.hpp: batch normalisation, one mean and variance a channel.
#pragma once
#include <algorithm>
#include <array>
#include <l3/kernels/kernels.hpp>
#include <l3/layers/layer.hpp>
#include <utility>

namespace l3::inline L3_ISA {

/// Settings of batch norm; PyTorch's meaning of momentum and PyTorch's defaults.
struct norm_settings {
  double epsilon = 1e-5;
  double momentum = 0.1;
};

/// The values a training pass keeps for its backward pass, one of each a channel.
template <class S>
struct norm_kept {
  S *mean, *inverse_std, *scale, *shift, *variance;
  static constexpr std::size_t arrays = 5;

  static constexpr footprint size(std::size_t channels) {
    return fixed<S>(arrays * round_up(channels, alignment / sizeof(S)));
  }
  norm_kept(std::byte* kept, std::size_t channels) {
    S* next = reinterpret_cast<S*>(kept);
    for (S** array : {&mean, &inverse_std, &scale, &shift, &variance})
      *array = std::exchange(next, next + round_up(channels, alignment / sizeof(S)));
  }
};

/// y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, per channel. In training mean and (biased) variance are
/// those of the batch (with `context::norm_over`: of the batches of all processes) and the running averages take a
/// step; in inference the running averages are used.
///
/// Shapes  x, y (N, In); weight, bias, running_mean, running_var (C).
/// Source  Ioffe & Szegedy (2015); torch.nn.BatchNorm2d.
template <item_shape In, norm_settings Settings>
struct batch_normalisation {
  using input = In;
  using output = In;
  static constexpr char const* name = "batch_norm";
  static constexpr std::size_t channels = In::channels;
  static constexpr auto parameters = lay_out(std::array{
      parameter{"weight", role::gain, {channels, 1, 1, 1}, 1}, parameter{"bias", role::bias, {channels, 1, 1, 1}, 1},
      parameter{"running_mean", role::mean, {channels, 1, 1, 1}, 1},
      parameter{"running_var", role::spread, {channels, 1, 1, 1}, 1}});
  static constexpr double flops = 2.0 * In::size;
  static constexpr pool_dims dims(std::size_t items) { return {items, In::height, In::width, channels, {}, {}}; }

  template <backend B>
  static constexpr footprint kept = norm_kept<scalar_of<B>>::size(channels);
  template <backend B>
  static constexpr footprint scratch = scratch_size<B>::channels(channels, In::pixels) +
                                       fixed<scalar_of<B>>(2 * round_up(channels, alignment / sizeof(float)));

  /// Running averages as scale and shift, into two arrays of `channels`: of x or, with `bias`, of what lacks that bias.
  template <backend B>
  static void folded(context<B>& on, scalar_of<B> const* params, scalar_of<B> const* bias, scalar_of<B>* scale,
                     scalar_of<B>* shift) {
    batch_norm_eval_coefficients(on, channels, Settings.epsilon, at<2>(params), at<3>(params), at<0>(params),
                                 at<1>(params), bias, scale, shift);
  }
  /// Coefficients from the moments in `k`, and the step of the running averages.
  template <backend B>
  static void settle(pass<B> const& p, scalar_of<B>* params, norm_kept<scalar_of<B>> const& k) {
    std::size_t rows = p.items * In::pixels;
    if (auto* const group = p.on.norm_group()) {
      if constexpr (host_backend<B>)
        join_moments(*group, k);
      else
        batch_norm_join_moments(p.on, channels, k.mean, k.variance);
      rows *= group->size();
    }
    if (rows == 0) return;  // of nothing there is no mean
    batch_norm_train_coefficients(p.on, rows, channels, Settings.epsilon, Settings.momentum, k.mean, k.variance,
                                  at<0>(params), at<1>(params), at<2>(params), at<3>(params), k.scale, k.shift,
                                  k.inverse_std);
  }
  /// What the backward kernels need.
  template <class S>
  static norm_state<S> state(S const* params, norm_kept<S> const& k) {
    return {k.mean, k.inverse_std, at<0>(params), at<1>(params)};
  }

  template <backend B>
  static void infer(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y) {
    auto* const scale = reinterpret_cast<scalar_of<B>*>(p.scratch);
    auto* const shift = scale + round_up(channels, alignment / sizeof(float));
    folded(p.on, params, nullptr, scale, shift);
    affine_pool_forward(p.on, dims(p.items), x, scale, shift, false, y);
  }
  template <backend B>
  static void forward(pass<B> const& p, scalar_of<B>* params, value_of<B> const* x, value_of<B>* y,
                      std::byte* kept_bytes) {
    norm_kept<scalar_of<B>> const k(kept_bytes, channels);
    channel_moments(p.on, p.items * In::pixels, channels, x, k.mean, k.variance, p.scratch);
    settle(p, params, k);
    affine_pool_forward(p.on, dims(p.items), x, k.scale, k.shift, false, y);
  }
  template <backend B>
  static void backward(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B> const*,
                       std::byte* kept_bytes, value_of<B> const* dy, value_of<B>* dx, scalar_of<B>* gradients) {
    norm_kept<scalar_of<B>> const k(kept_bytes, channels);
    batch_norm_relu_pool_backward(p.on, dims(p.items), x, state<scalar_of<B>>(params, k), false, dy, dx,
                                  at<0>(gradients), at<1>(gradients), p.scratch);
  }

  /// The moments of all processes' rows, of which each has as many.
  template <class S>
  static void join_moments(process_group& group, norm_kept<S> const& k) {
    std::array<double, 2 * channels> of;  // means, and means of squares
    for (std::size_t c = 0; c != channels; ++c) {
      auto const mean = static_cast<double>(k.mean[c]);
      of[c] = mean, of[channels + c] = static_cast<double>(k.variance[c]) + mean * mean;
    }
    group.mean_now(of);
    for (std::size_t c = 0; c != channels; ++c) {
      k.mean[c] = static_cast<S>(of[c]);
      k.variance[c] = static_cast<S>(std::max(0.0, of[channels + c] - of[c] * of[c]));
    }
  }

  /// Parameter `Which` of the block.
  template <std::size_t Which, class S>
  static S* at(S* params) {
    return params + parameters[Which].offset;
  }
};

/// Spec of batch norm.
template <norm_settings Settings = norm_settings{}>
struct batch_norm {
  template <item_shape In>
  using bind = batch_normalisation<In, Settings>;
};

}  // namespace l3::inline L3_ISA
