/// @file  include/l3/kernels/reference.hpp: every operation, forward and backward, as plain loops: contract, textbook
/// and judge of the fast backends.
///
/// All tensors are packed, channels fastest (NHWC); weights lie as in PyTorch: convolution (out, in, 3, 3), dense
/// (out, in). Inputs and outputs do not overlap. Outputs are overwritten, never added to. `scratch` points to the bytes
/// that `scratch_size<B>` asks for. Kernels throw nothing. A SIMD backend inherits the plain loop of whatever it does
/// not do itself; a device backend inherits nothing.
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/kernels/dims.hpp>
#include <vector>

namespace l3::inline L3_ISA {

namespace detail {
template <class>
inline constexpr bool runs_on_host = false;
template <class S>
inline constexpr bool runs_on_host<reference<S>> = true;
#if !defined(__CUDACC__)  // which leaves SIMD out: a unit must not take plain loops for what others know as SIMD
template <class A, class P>
inline constexpr bool runs_on_host<simd<A, P>> = true;
#endif
}  // namespace detail

/// Backends whose tensors the processor can read.
template <class B>
concept host_backend = backend<B> && detail::runs_on_host<B>;
/// Backends that have these loops alone. Where a SIMD backend takes several types of values, an argument that is merely
/// convertible to a pointer must not end in a plain loop.
template <class B>
concept plain_backend = host_backend<B> && std::same_as<B, reference<scalar_of<B>>>;

/// Scratch memory that a backend's kernels need, and the size of prepared weights; `batch` in the sizes is ignored, a
/// footprint knows it. Plain loops: none.
template <backend B>
struct scratch_size {
  static constexpr footprint conv2d_forward(conv_dims) { return {}; }
  static constexpr footprint conv2d_infer(conv_dims) { return {}; }
  static constexpr footprint conv2d_backward(conv_dims) { return {}; }  ///< for either of the two gradients
  /// channel_sums, moments, batch norm, of items of so many rows.
  static constexpr footprint channels(std::size_t /*channels*/, std::size_t /*pixels*/) { return {}; }
  static constexpr footprint dense(dense_dims) { return {}; }
  static constexpr footprint pairs(pair_dims) { return {}; }  ///< backward; here `batch` still unknown, so per item
  /// Not scratch: what conv2d_prepare writes, and whether conv2d_infer can pool.
  static constexpr footprint conv2d_prepared(conv_dims d) { return fixed<scalar_of<B>>(d.out * d.in * 9); }
  static constexpr bool conv2d_pools(conv_dims) { return true; }
  /// Of conv2d_infer's input as a packed map, nothing where it reads none; and whether it can write one.
  static constexpr footprint conv2d_packed(conv_dims) { return {}; }
  static constexpr bool conv2d_packs(conv_dims) { return false; }
  /// Whether training computes a convolution of these sizes again rather than keep its output (conv2d_thin_...).
  static constexpr bool conv2d_is_thin(conv_dims) { return false; }
  static constexpr footprint conv2d_thin(conv_dims) { return {}; }
  static constexpr footprint conv2d_thin_kept(conv_dims) { return {}; }
  /// How a convolution of these sizes is computed, for people to read.
  static constexpr char const* conv2d_algorithm(conv_dims) { return "plain loops"; }
};

/// @name Convolution
/// @{

namespace detail {
/// sum over r, s, c of x[n, i+r-1, j+s-1, c] * w[o,c,r,s], zeros outside the image.
template <class S>
S convolved(conv_dims const& d, S const* x, S const* w, std::size_t n, std::size_t i, std::size_t j, std::size_t o) {
  S sum = 0;
  for (std::size_t r = 0; r < 3; ++r)
    for (std::size_t s = 0; s < 3; ++s) {
      if (i + r < 1 || i + r > d.height || j + s < 1 || j + s > d.width) continue;
      S const* const pixel = x + ((n * d.height + i + r - 1) * d.width + j + s - 1) * d.in;
      for (std::size_t c = 0; c < d.in; ++c) sum += pixel[c] * w[((o * d.in + c) * 3 + r) * 3 + s];
    }
  return sum;
}
}  // namespace detail

/// y[n,i,j,o] = bias[o] + sum over r, s, c of x[n, i+r-1, j+s-1, c] * w[o,c,r,s], zeros outside the image; bias may be
/// null.
template <plain_backend B>
void conv2d_forward(context<B>&, conv_dims const& d, scalar_of<B> const* x, scalar_of<B> const* w,
                    scalar_of<B> const* bias, scalar_of<B>* y, std::byte* /*scratch*/) {
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t i = 0; i < d.height; ++i)
      for (std::size_t j = 0; j < d.width; ++j)
        for (std::size_t o = 0; o < d.out; ++o) {
          auto const sum = detail::convolved(d, x, w, n, i, j, o);
          *y++ = bias != nullptr ? sum + bias[o] : sum;
        }
}

/// Weights in the form that conv2d_infer reads, each output channel's multiplied by scale[o] unless null: for weights
/// that many calls share.
template <host_backend B>
void conv2d_prepare(context<B>&, conv_dims const& d, scalar_of<B> const* w, scalar_of<B> const* scale,
                    std::byte* prepared) {
  auto* const to = reinterpret_cast<scalar_of<B>*>(prepared);
  for (std::size_t o = 0; o < d.out; ++o)
    for (std::size_t k = o * d.in * 9; k < (o + 1) * d.in * 9; ++k) to[k] = scale != nullptr ? w[k] * scale[o] : w[k];
}

/// The convolution with weights from conv2d_prepare, and what follows it.
template <host_backend B>
void conv2d_infer(context<B>&, conv_dims const& d, scalar_of<B> const* x, std::byte const* prepared,
                  epilogue<scalar_of<B>> const& then, scalar_of<B>* y, std::byte* /*scratch*/, packing = {}) {
  using S = scalar_of<B>;
  auto const value = [&](std::size_t n, std::size_t i, std::size_t j, std::size_t o) {
    S sum = detail::convolved(d, x, reinterpret_cast<S const*>(prepared), n, i, j, o);
    if (then.shift != nullptr) sum += then.shift[o];
    return then.relu ? std::max(sum, S{0}) : sum;
  };
  std::size_t const side = then.pool ? 2 : 1;
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t i = 0; i < d.height / side; ++i)
      for (std::size_t j = 0; j < d.width / side; ++j)
        for (std::size_t o = 0; o < d.out; ++o) {
          S best = value(n, i * side, j * side, o);
          for (std::size_t k = 1; k < side * side; ++k)
            best = std::max(best, value(n, i * side + k / side, j * side + k % side, o));
          *y++ = best;
        }
}

/// dx[n,i,j,c] = sum over r, s, o of dy[n, i-r+1, j-s+1, o] * w[o,c,r,s].
template <plain_backend B>
void conv2d_backward_data(context<B>&, conv_dims const& d, scalar_of<B> const* dy, scalar_of<B> const* w,
                          scalar_of<B>* dx, std::byte* /*scratch*/) {
  std::fill_n(dx, d.rows() * d.in, scalar_of<B>{0});
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t i = 0; i < d.height; ++i)
      for (std::size_t j = 0; j < d.width; ++j, dx += d.in)
        for (std::size_t r = 0; r < 3; ++r)
          for (std::size_t s = 0; s < 3; ++s) {
            if (i + 1 < r || i + 1 - r >= d.height || j + 1 < s || j + 1 - s >= d.width) continue;
            auto const* const pixel = dy + ((n * d.height + i + 1 - r) * d.width + j + 1 - s) * d.out;
            for (std::size_t o = 0; o < d.out; ++o)
              for (std::size_t c = 0; c < d.in; ++c) dx[c] += pixel[o] * w[((o * d.in + c) * 3 + r) * 3 + s];
          }
}

/// dw[o,c,r,s] = sum over n, i, j of dy[n,i,j,o] * x[n, i+r-1, j+s-1, c].
template <plain_backend B>
void conv2d_backward_weights(context<B>&, conv_dims const& d, scalar_of<B> const* x, scalar_of<B> const* dy,
                             scalar_of<B>* dw, std::byte* /*scratch*/) {
  std::fill_n(dw, d.out * d.in * 9, scalar_of<B>{0});
  for (std::size_t o = 0; o < d.out; ++o)
    for (std::size_t n = 0; n < d.batch; ++n)
      for (std::size_t i = 0; i < d.height; ++i)
        for (std::size_t j = 0; j < d.width; ++j)
          for (std::size_t r = 0; r < 3; ++r)
            for (std::size_t s = 0; s < 3; ++s) {
              if (i + r < 1 || i + r > d.height || j + s < 1 || j + s > d.width) continue;
              auto const gradient = dy[((n * d.height + i) * d.width + j) * d.out + o];
              auto const* const pixel = x + ((n * d.height + i + r - 1) * d.width + j + s - 1) * d.in;
              for (std::size_t c = 0; c < d.in; ++c) dw[((o * d.in + c) * 3 + r) * 3 + s] += gradient * pixel[c];
            }
}
/// @}

/// @name Sums over all rows, one for each channel
/// @{

/// sums[c] = sum over rows of x[row,c]: the gradient of a bias.
template <plain_backend B>
void channel_sums(context<B>&, std::size_t rows, std::size_t channels, scalar_of<B> const* x, scalar_of<B>* sums,
                  std::byte* /*scratch*/) {
  std::fill_n(sums, channels, scalar_of<B>{0});
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t c = 0; c < channels; ++c) sums[c] += x[row * channels + c];
}

/// mean[c] and variance[c] (biased: divided by `rows`) of x[row,c].
template <plain_backend B>
void channel_moments(context<B>&, std::size_t rows, std::size_t channels, scalar_of<B> const* x, scalar_of<B>* mean,
                     scalar_of<B>* variance, std::byte* /*scratch*/) {
  for (std::size_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (std::size_t row = 0; row < rows; ++row) sum += static_cast<double>(x[row * channels + c]);
    double const centre = sum / static_cast<double>(rows);
    for (std::size_t row = 0; row < rows; ++row) {
      double const off = static_cast<double>(x[row * channels + c]) - centre;
      squares += off * off;
    }
    mean[c] = static_cast<scalar_of<B>>(centre);
    variance[c] = static_cast<scalar_of<B>>(squares / static_cast<double>(rows));
  }
}
/// @}

/// conv2d_forward and the moments of what it writes: for backends that take them on the way. x and y hold what B's
/// conv2d_forward takes; `scratch` is that of either.
template <host_backend B, class X, class Y>
void conv2d_forward_moments(context<B>& on, conv_dims const& d, X const* x, scalar_of<B> const* w,
                            scalar_of<B> const* bias, Y* y, scalar_of<B>* mean, scalar_of<B>* variance,
                            std::byte* scratch) {
  conv2d_forward(on, d, x, w, bias, y, scratch);
  channel_moments(on, d.rows(), d.out, y, mean, variance, scratch);
}

/// @name Batch norm
/// gamma * (x - mean) / sqrt(variance + epsilon) + beta, written as x * scale + shift.
/// Source  Ioffe & Szegedy (2015); running averages as torch.nn.BatchNorm2d: (1 - momentum) * old + momentum * new,
/// with the unbiased variance.
/// @{

/// Training: coefficients from the batch's own moments; the running averages take a step. All arrays: one value a
/// channel.
template <host_backend B>
void batch_norm_train_coefficients(context<B>&, std::size_t rows, std::size_t channels, double epsilon, double momentum,
                                   scalar_of<B> const* mean, scalar_of<B> const* variance, scalar_of<B> const* gamma,
                                   scalar_of<B> const* beta, scalar_of<B>* running_mean, scalar_of<B>* running_variance,
                                   scalar_of<B>* scale, scalar_of<B>* shift, scalar_of<B>* inverse_std) {
  using S = scalar_of<B>;
  double const unbias = rows > 1 ? static_cast<double>(rows) / static_cast<double>(rows - 1) : 1.0;
  for (std::size_t c = 0; c < channels; ++c) {
    inverse_std[c] = static_cast<S>(1.0 / std::sqrt(static_cast<double>(variance[c]) + epsilon));
    scale[c] = gamma[c] * inverse_std[c];
    shift[c] = beta[c] - mean[c] * scale[c];
    running_mean[c] += static_cast<S>(momentum) * (mean[c] - running_mean[c]);
    running_variance[c] += static_cast<S>(momentum) * (static_cast<S>(unbias) * variance[c] - running_variance[c]);
  }
}

/// Inference: coefficients from the running averages, for x or, with `bias`, for a convolution's sums before it.
template <host_backend B>
void batch_norm_eval_coefficients(context<B>&, std::size_t channels, double epsilon, scalar_of<B> const* running_mean,
                                  scalar_of<B> const* running_variance, scalar_of<B> const* gamma,
                                  scalar_of<B> const* beta, scalar_of<B> const* bias, scalar_of<B>* scale,
                                  scalar_of<B>* shift) {
  using S = scalar_of<B>;
  for (std::size_t c = 0; c < channels; ++c) {
    scale[c] = gamma[c] * static_cast<S>(1.0 / std::sqrt(static_cast<double>(running_variance[c]) + epsilon));
    shift[c] = beta[c] - (bias != nullptr ? running_mean[c] - bias[c] : running_mean[c]) * scale[c];
  }
}

/// y[n,i,j,c] = max over the window of max(x * scale[c] + shift[c], 0) (without `relu`: of x * scale[c] + shift[c]).
template <plain_backend B>
void affine_pool_forward(context<B>&, pool_dims const& d, scalar_of<B> const* x, scalar_of<B> const* scale,
                         scalar_of<B> const* shift, bool relu, scalar_of<B>* y) {
  using S = scalar_of<B>;
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t i = 0; i < d.out_height(); ++i)
      for (std::size_t j = 0; j < d.out_width(); ++j)
        for (std::size_t c = 0; c < d.channels; ++c) {
          bool first = true;
          S best = 0;
          for (std::size_t r = 0; r < d.window.height; ++r)
            for (std::size_t s = 0; s < d.window.width; ++s) {
              std::size_t const pixel = (n * d.height + i * d.stride.height + r) * d.width + j * d.stride.width + s;
              S const value = x[pixel * d.channels + c] * scale[c] + shift[c];
              if (first || value > best) best = value;
              first = false;
            }
          *y++ = relu ? std::max(best, S{0}) : best;
        }
}

/// Backward of y = pool(relu(batch_norm(x))) in training: dx, dgamma, dbeta from dy (the pooled gradient). The first of
/// a window's equal largest values takes its gradient; where the rectified value is 0 none passes.
///
/// With g the gradient at batch norm's output and h = (x - mean) * inverse_std:
/// dbeta = sum g, dgamma = sum g h, dx = gamma * inverse_std * (g - dbeta / rows - h * dgamma / rows); where the
/// moments are those of several processes, the two means of dx are the mean of everyone's: so dx belongs to the mean of
/// their losses as everyone's own dgamma and dbeta do.
template <plain_backend B>
void batch_norm_relu_pool_backward(context<B>& on, pool_dims const& d, scalar_of<B> const* x,
                                   norm_state<scalar_of<B>> const& norm, bool relu, scalar_of<B> const* dy,
                                   scalar_of<B>* dx, scalar_of<B>* dgamma, scalar_of<B>* dbeta,
                                   std::byte* /*scratch*/) {
  using S = scalar_of<B>;
  std::size_t const channels = d.channels, rows = d.rows();
  std::fill_n(dx, rows * channels, S{0});  // holds g until the sums are known
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t i = 0; i < d.out_height(); ++i)
      for (std::size_t j = 0; j < d.out_width(); ++j)
        for (std::size_t c = 0; c < channels; ++c, ++dy) {
          S const scale = norm.gamma[c] * norm.inverse_std[c];
          S const shift = norm.beta[c] - norm.mean[c] * scale;
          std::size_t winner = 0;
          bool first = true;
          S best = 0;
          for (std::size_t r = 0; r < d.window.height; ++r)
            for (std::size_t s = 0; s < d.window.width; ++s) {
              std::size_t const at =
                  ((n * d.height + i * d.stride.height + r) * d.width + j * d.stride.width + s) * channels + c;
              S const value = x[at] * scale + shift;
              if (first || value > best) best = value, winner = at;
              first = false;
            }
          if (!relu || best > 0) dx[winner] += *dy;
        }
  for (std::size_t c = 0; c < channels; ++c) {
    double sum = 0, product = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      double const g = static_cast<double>(dx[row * channels + c]);
      sum += g;
      product += g * static_cast<double>((x[row * channels + c] - norm.mean[c]) * norm.inverse_std[c]);
    }
    dbeta[c] = static_cast<S>(sum);
    dgamma[c] = static_cast<S>(product);
    double means[] = {sum / static_cast<double>(rows), product / static_cast<double>(rows)};
    if (process_group* const group = on.norm_group()) group->mean_now(means);
    S const mean_g = static_cast<S>(means[0]), mean_gh = static_cast<S>(means[1]);
    for (std::size_t row = 0; row < rows; ++row) {
      S const h = (x[row * channels + c] - norm.mean[c]) * norm.inverse_std[c];
      S& g = dx[row * channels + c];
      g = norm.gamma[c] * norm.inverse_std[c] * (g - mean_g - h * mean_gh);
    }
  }
}
/// @}

/// @name Rectifier and pooling on their own
/// @{

/// y = max(x, 0).
template <host_backend B>
void relu_forward(context<B>&, std::size_t count, scalar_of<B> const* x, scalar_of<B>* y) {
  for (std::size_t k = 0; k < count; ++k) y[k] = std::max(x[k], scalar_of<B>{0});
}

/// dx = dy where y > 0, else 0. y is the rectified value.
template <host_backend B>
void relu_backward(context<B>&, std::size_t count, scalar_of<B> const* y, scalar_of<B> const* dy, scalar_of<B>* dx) {
  for (std::size_t k = 0; k < count; ++k) dx[k] = y[k] > 0 ? dy[k] : scalar_of<B>{0};
}

/// y[n,i,j,c] = max over r, s inside the window of x[n, i*stride + r, j*stride + s, c].
template <host_backend B>
void max_pool_forward(context<B>&, pool_dims const& d, scalar_of<B> const* x, scalar_of<B>* y) {
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t i = 0; i < d.out_height(); ++i)
      for (std::size_t j = 0; j < d.out_width(); ++j)
        for (std::size_t c = 0; c < d.channels; ++c) {
          auto const at = [&](std::size_t r, std::size_t s) {
            return x[((n * d.height + i * d.stride.height + r) * d.width + j * d.stride.width + s) * d.channels + c];
          };
          auto best = at(0, 0);
          for (std::size_t r = 0; r < d.window.height; ++r)
            for (std::size_t s = 0; s < d.window.width; ++s) best = std::max(best, at(r, s));
          *y++ = best;
        }
}

/// dx: each window's dy goes to the first of its largest pixels; windows that overlap add up.
template <host_backend B>
void max_pool_backward(context<B>&, pool_dims const& d, scalar_of<B> const* x, scalar_of<B> const* dy,
                       scalar_of<B>* dx) {
  std::fill_n(dx, d.rows() * d.channels, scalar_of<B>{0});
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t i = 0; i < d.out_height(); ++i)
      for (std::size_t j = 0; j < d.out_width(); ++j)
        for (std::size_t c = 0; c < d.channels; ++c) {
          auto const at = [&](std::size_t r, std::size_t s) {
            return ((n * d.height + i * d.stride.height + r) * d.width + j * d.stride.width + s) * d.channels + c;
          };
          std::size_t best = at(0, 0);
          for (std::size_t r = 0; r < d.window.height; ++r)
            for (std::size_t s = 0; s < d.window.width; ++s)
              if (x[at(r, s)] > x[best]) best = at(r, s);
          dx[best] += *dy++;
        }
}
/// @}

/// @name Dense layer
/// @{

/// y[n,o] = bias[o] + sum over k of x[n,k] * w[o,k]; no bias when null.
template <host_backend B>
void dense_forward(context<B>&, dense_dims const& d, scalar_of<B> const* x, scalar_of<B> const* w,
                   scalar_of<B> const* bias, scalar_of<B>* y, std::byte* /*scratch*/) {
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t o = 0; o < d.out; ++o) {
      scalar_of<B> sum = 0;
      for (std::size_t k = 0; k < d.in; ++k) sum += x[n * d.in + k] * w[o * d.weight_stride + k];
      y[n * d.out + o] = bias != nullptr ? sum + bias[o] : sum;
    }
}

/// dx[n,k] = sum over o of dy[n,o] * w[o,k].
template <host_backend B>
void dense_backward_data(context<B>&, dense_dims const& d, scalar_of<B> const* dy, scalar_of<B> const* w,
                         scalar_of<B>* dx, std::byte* /*scratch*/) {
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t k = 0; k < d.in; ++k) {
      scalar_of<B> sum = 0;
      for (std::size_t o = 0; o < d.out; ++o) sum += dy[n * d.out + o] * w[o * d.weight_stride + k];
      dx[n * d.in + k] = sum;
    }
}

/// dw[o,k] = sum over n of dy[n,o] * x[n,k]. (The bias' gradient is channel_sums of dy.)
template <host_backend B>
void dense_backward_weights(context<B>&, dense_dims const& d, scalar_of<B> const* x, scalar_of<B> const* dy,
                            scalar_of<B>* dw, std::byte* /*scratch*/) {
  for (std::size_t o = 0; o < d.out; ++o)
    for (std::size_t k = 0; k < d.in; ++k) {
      scalar_of<B> sum = 0;
      for (std::size_t n = 0; n < d.batch; ++n) sum += dy[n * d.out + o] * x[n * d.in + k];
      dw[o * d.weight_stride + k] = sum;
    }
}
/// @}

/// @name Fusion of pairs
/// The head concat -> dense(hidden) -> ReLU -> dense(classes) on pairs of frame i and sound j. Its first layer is a sum
/// of a visual half u[i] = Wv v[i] and an audio half t[j] = Wa a[j], so all pairs of a batch cost hardly more than the
/// batch.
/// @{

/// logits[row] = w2 relu(u[i] + t[j] + b1) + b2 for every row's pair (i, j). u (batch, hidden), t (sounds, hidden); w2
/// (classes, hidden).
template <host_backend B>
void pair_scores_forward(context<B>&, pair_dims const& d, scalar_of<B> const* u, scalar_of<B> const* t,
                         scalar_of<B> const* b1, scalar_of<B> const* w2, scalar_of<B> const* b2, scalar_of<B>* logits) {
  using S = scalar_of<B>;
  for (std::size_t row = 0; row < d.rows(); ++row)
    for (std::size_t o = 0; o < d.classes; ++o) {
      S sum = 0;
      for (std::size_t h = 0; h < d.hidden; ++h)
        sum += w2[o * d.hidden + h] *
               std::max(u[d.frame(row) * d.hidden + h] + t[d.sound(row) * d.hidden + h] + b1[h], S{0});
      logits[row * d.classes + o] = sum + b2[o];
    }
}

/// Gradients of pair_scores_forward from dlogits: du (batch, hidden), dt (sounds, hidden), db1 (hidden), dw2, db2.
template <host_backend B>
void pair_scores_backward(context<B>&, pair_dims const& d, scalar_of<B> const* u, scalar_of<B> const* t,
                          scalar_of<B> const* b1, scalar_of<B> const* w2, scalar_of<B> const* dlogits, scalar_of<B>* du,
                          scalar_of<B>* dt, scalar_of<B>* db1, scalar_of<B>* dw2, scalar_of<B>* db2,
                          std::byte* /*scratch*/) {
  using S = scalar_of<B>;
  std::fill_n(du, d.batch * d.hidden, S{0});
  std::fill_n(dt, d.sounds() * d.hidden, S{0});
  std::fill_n(db1, d.hidden, S{0});
  std::fill_n(dw2, d.classes * d.hidden, S{0});
  std::fill_n(db2, d.classes, S{0});
  for (std::size_t row = 0; row < d.rows(); ++row) {
    S const* const dl = dlogits + row * d.classes;
    for (std::size_t o = 0; o < d.classes; ++o) db2[o] += dl[o];
    for (std::size_t h = 0; h < d.hidden; ++h) {
      S const value = u[d.frame(row) * d.hidden + h] + t[d.sound(row) * d.hidden + h] + b1[h];
      if (!(value > 0)) continue;
      S g = 0;
      for (std::size_t o = 0; o < d.classes; ++o) {
        dw2[o * d.hidden + h] += dl[o] * value;
        g += dl[o] * w2[o * d.hidden + h];
      }
      du[d.frame(row) * d.hidden + h] += g;
      dt[d.sound(row) * d.hidden + h] += g;
      db1[h] += g;
    }
  }
}
/// @}

/// @name Loss and optimizer
/// @{

/// Returns the sum over rows of weight[row] * -log softmax(logits[row])[label[row]], and its gradient in dlogits when
/// not null. Sums run in double and in row order.
template <host_backend B>
double softmax_cross_entropy(context<B>&, std::size_t rows, std::size_t classes, scalar_of<B> const* logits,
                             std::int32_t const* labels, scalar_of<B> const* weights, scalar_of<B>* dlogits) {
  using S = scalar_of<B>;
  double loss = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    S const* const x = logits + row * classes;
    S const largest = *std::max_element(x, x + classes);
    S total = 0;
    for (std::size_t o = 0; o < classes; ++o) total += std::exp(x[o] - largest);
    auto const label = static_cast<std::size_t>(labels[row]);
    // Said in words, for a compiler that may fuse the two would do so in one of a loop's copies and not in another.
    loss =
        std::fma(static_cast<double>(weights[row]), static_cast<double>(std::log(total) - (x[label] - largest)), loss);
    if (dlogits == nullptr) continue;
    for (std::size_t o = 0; o < classes; ++o)
      dlogits[row * classes + o] = weights[row] * (std::exp(x[o] - largest) / total - (o == label ? S{1} : S{0}));
  }
  return loss;
}

/// y = (y + x) factor: one more summand of a mean.
template <host_backend B>
void add_and_scale(context<B>&, std::size_t count, scalar_of<B> const* x, scalar_of<B> factor, scalar_of<B>* y) {
  for (std::size_t k = 0; k < count; ++k) y[k] = (y[k] + x[k]) * factor;
}

/// One step of Adam on `count` weights: w, first and second moments m and v, from gradients g.
template <host_backend B>
void adam_update(context<B>&, adam_settings const& a, std::size_t count, scalar_of<B> const* g, scalar_of<B>* w,
                 scalar_of<B>* m, scalar_of<B>* v) {
  using S = scalar_of<B>;
  auto const steps = static_cast<double>(a.step);
  S const step_size = static_cast<S>(a.learning_rate / (1.0 - std::pow(a.beta1, steps)));
  S const root = static_cast<S>(1.0 / std::sqrt(1.0 - std::pow(a.beta2, steps)));
  S const b1 = static_cast<S>(a.beta1), b2 = static_cast<S>(a.beta2), eps = static_cast<S>(a.epsilon);
  S const rest1 = static_cast<S>(1.0 - a.beta1), rest2 = static_cast<S>(1.0 - a.beta2);
  S const l2 = a.decoupled ? S{0} : static_cast<S>(a.weight_decay);
  S const keep = a.decoupled ? static_cast<S>(1.0 - a.learning_rate * a.weight_decay) : S{1};
  for (std::size_t k = 0; k < count; ++k) {
    S const grad = g[k] + l2 * w[k];
    m[k] = b1 * m[k] + rest1 * grad;
    v[k] = b2 * v[k] + rest2 * grad * grad;
    w[k] = keep * w[k] - step_size * m[k] / (std::sqrt(v[k]) * root + eps);
  }
}

/// True when none of `count` values is infinite or not a number.
template <host_backend B>
bool all_finite(context<B>&, std::size_t count, scalar_of<B> const* x) {
  scalar_of<B> sum = 0;  // 0 * x is 0 for every finite x and NaN for the others; the loop has no branch
  for (std::size_t k = 0; k < count; ++k) sum += x[k] * scalar_of<B>{0};
  return sum == 0;
}
/// @}

}  // namespace l3::inline L3_ISA
