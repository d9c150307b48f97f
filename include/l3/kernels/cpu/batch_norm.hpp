/// @file  include/l3/kernels/cpu/batch_norm.hpp: batch norm, rectifier and max pooling as one pass forward and two
/// backward.
///
/// These passes are bound by memory, so each reads and writes a picture once. The windows of the paper's network (none,
/// 2x2 side by side) have their own loops; any other window, the global one included, goes through dx once more.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/pool2d.hpp>
#include <l3/kernels/cpu/row_sums.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// Room for the sums of the backward pass and the coefficients made from them.
constexpr footprint batch_norm_scratch(std::size_t channels) {
  return row_sums_scratch(channels) + fixed<float>(4 * channels);
}

/// Coefficients of the last pass: dx = scale * g + slope * (x - mean) + offset.
struct norm_gradient {
  float* scale;   ///< gamma * inverse_std
  float* shift;   ///< beta - mean * scale
  float* slope;   ///< -scale * inverse_std * (sum of g h) / rows
  float* offset;  ///< -scale * (sum of g) / rows
};

/// dgamma, dbeta and the coefficients from the parts' sums of g and of g * (x - mean), which are lost.
inline void finish_norm_sums(process_group* group, row_parts const& parts, std::size_t rows, std::size_t channels,
                             double* totals, norm_state<float> const& norm, float* dgamma, float* dbeta,
                             norm_gradient const& to) {
  parts.add_up(2 * channels, totals);
  for (std::size_t c = 0; c < channels; ++c) {
    double const sum = totals[c], product = totals[channels + c] * static_cast<double>(norm.inverse_std[c]);
    dbeta[c] = static_cast<float>(sum);
    dgamma[c] = static_cast<float>(product);
    totals[c] = sum / static_cast<double>(rows), totals[channels + c] = product / static_cast<double>(rows);
  }
  if (group != nullptr) group->mean_now({totals, 2 * channels});
  for (std::size_t c = 0; c < channels; ++c) {
    to.slope[c] = -to.scale[c] * norm.inverse_std[c] * static_cast<float>(totals[channels + c]);
    to.offset[c] = -to.scale[c] * static_cast<float>(totals[c]);
  }
}

/// Windows of Side x Side side by side (Side 1: none).
template <std::size_t Side, class V, class X, class Y>
void square_norm_backward(thread_team& team, process_group* group, pool_dims const& d, X const* x,
                          norm_state<float> const& norm, bool relu, Y const* dy, X* dx, float* dgamma, float* dbeta,
                          double* totals, norm_gradient const& k) {
  std::size_t const channels = d.channels, row = d.width * channels;
  std::size_t const down = d.out_height(), across = d.out_width();
  window_walk const walk{d};

  row_parts const parts(d.batch * down, Side * row, 1 + 64 / d.width);
  std::fill_n(totals, parts.count * 2 * channels, 0.0);
  parts.each_chunk(team, [&](std::size_t part, index_range chunk) {
    double* const sums = totals + part * 2 * channels;
    each_registers<V, registers_of_64<V>>(channels, [&]<class T, std::size_t K>(std::size_t c) {
      T scale[K], shift[K], mean[K], sum[K], product[K];
      for (std::size_t m = 0; m < K; ++m) {
        std::size_t const at = c + m * width<T>;
        scale[m] = load<T>(k.scale + at), shift[m] = load<T>(k.shift + at), mean[m] = load<T>(norm.mean + at);
        sum[m] = product[m] = T(0.0f);
      }
      for (std::size_t i = chunk.begin; i < chunk.end; ++i) {
        X const* corner = x + walk.corner(i, 0) + c;
        Y const* from = dy + i * across * channels + c;
        for (std::size_t j = 0; j < across; ++j, corner += Side * channels, from += channels)
          for (std::size_t m = 0; m < K; ++m) {
            small_window<T, Side> const window(corner + m * width<T>, row, channels, scale[m], shift[m]);
            T g = load<T>(from + m * width<T>);
            if (relu) g = pick(window.best > T(0.0f), g, T(0.0f));
            sum[m] = sum[m] + g;
            product[m] = fused(g, window.winner() - mean[m], product[m]);
          }
      }
      for (std::size_t m = 0; m < K; ++m) {
        add_lanes(sum[m], sums + c + m * width<T>);
        add_lanes(product[m], sums + channels + c + m * width<T>);
      }
    });
  });
  finish_norm_sums(group, parts, d.rows(), channels, totals, norm, dgamma, dbeta, k);

  bool const past = passes_caches(dx, d.rows(), channels);
  // Rows of windows, and after them the line that no window reaches where a side is odd.
  std::size_t const lines = parts_of(d.height, Side);
  team.run(d.batch * lines, [&](std::size_t task, std::size_t) {
    std::size_t const n = task / lines, i = task % lines;
    std::size_t const covered = i < down ? across : 0;
    std::size_t const first = (n * d.height + i * Side) * row;
    Y const* from = dy + (n * down + i) * across * channels;
    auto const gradient = [&]<class T>(T const& value, T const& g, std::size_t c) {
      T const rest = fused(value - load<T>(norm.mean + c), load<T>(k.slope + c), load<T>(k.offset + c));
      return fused(load<T>(k.scale + c), g, rest);
    };
    for (std::size_t j = 0; j < covered; ++j, from += channels) {
      std::size_t const corner = first + j * Side * channels;
      each_registers<V, registers_of_line<X>>(channels, [&]<class T, std::size_t K>(std::size_t first_channel) {
        T made[Side * Side][K];
        for (std::size_t m = 0; m < K; ++m) {
          std::size_t const c = first_channel + m * width<T>;
          small_window<T, Side> const window(x + corner + c, row, channels, load<T>(k.scale + c), load<T>(k.shift + c));
          T g = load<T>(from + c);
          if (relu) g = pick(window.best > T(0.0f), g, T(0.0f));
          T share[Side * Side];
          window.deal(g, share);
          for (std::size_t q = 0; q < Side * Side; ++q) made[q][m] = gradient(window.x[q], share[q], c);
        }
        for (std::size_t q = 0; q < Side * Side; ++q)
          put_row(dx + corner + q / Side * row + q % Side * channels + first_channel, made[q], past);
      });
    }
    for (std::size_t r = 0; r < std::min(Side, d.height - i * Side); ++r)
      for (std::size_t j = covered * Side; j < d.width; ++j) {
        std::size_t const pixel = first + r * row + j * channels;
        each_registers<V, registers_of_line<X>>(channels, [&]<class T, std::size_t K>(std::size_t c) {
          T made[K];
          for (std::size_t m = 0; m < K; ++m) {
            std::size_t const at = c + m * width<T>;
            made[m] = gradient(load<T>(x + pixel + at), T(0.0f), at);
          }
          put_row(dx + pixel + c, made, past);
        });
      }
    settle();
  });
}

/// Any windows: dx holds g until the sums are known.
template <class V, class X, class Y>
void general_norm_backward(thread_team& team, process_group* group, pool_dims const& d, X const* x,
                           norm_state<float> const& norm, bool relu, Y const* dy, X* dx, float* dgamma, float* dbeta,
                           double* totals, norm_gradient const& k) {
  std::size_t const channels = d.channels;
  scatter_to_winners<V>(team, d, x, relu, dy, dx, [&]<class T>(T const& v, std::size_t c) {
    return fused(v, load<T>(k.scale + c), load<T>(k.shift + c));
  });
  row_parts const parts(d.rows(), channels);
  std::fill_n(totals, parts.count * 2 * channels, 0.0);
  parts.each_chunk(team, [&](std::size_t part, index_range chunk) {
    double* const sums = totals + part * 2 * channels;
    each_registers<V, registers_of_64<V>>(channels, [&]<class T, std::size_t K>(std::size_t c) {
      T mean[K], sum[K], product[K];
      for (std::size_t m = 0; m < K; ++m) {
        mean[m] = load<T>(norm.mean + c + m * width<T>);
        sum[m] = product[m] = T(0.0f);
      }
      for (std::size_t row = chunk.begin; row < chunk.end; ++row)
        for (std::size_t m = 0; m < K; ++m) {
          std::size_t const at = row * channels + c + m * width<T>;
          T const g = load<T>(dx + at);
          sum[m] = sum[m] + g;
          product[m] = fused(g, load<T>(x + at) - mean[m], product[m]);
        }
      for (std::size_t m = 0; m < K; ++m) {
        add_lanes(sum[m], sums + c + m * width<T>);
        add_lanes(product[m], sums + channels + c + m * width<T>);
      }
    });
  });
  finish_norm_sums(group, parts, d.rows(), channels, totals, norm, dgamma, dbeta, k);
  parts.each_chunk(team, [&](std::size_t, index_range chunk) {
    for (std::size_t pixel = chunk.begin * channels; pixel < chunk.end * channels; pixel += channels)
      each_register<V>(channels, [&]<class T>(std::size_t c) {
        T const off = load<T>(x + pixel + c) - load<T>(norm.mean + c);
        T const rest = fused(off, load<T>(k.slope + c), load<T>(k.offset + c));
        put(dx + pixel + c, fused(load<T>(k.scale + c), load<T>(dx + pixel + c), rest));
      });
  });
}

/// Forward over windows of Side x Side side by side.
template <std::size_t Side, class V, class X, class Y>
void square_affine_pool(thread_team& team, pool_dims const& d, X const* x, float const* scale, float const* shift,
                        bool relu, Y* y) {
  std::size_t const row = d.width * d.channels;
  window_walk const walk{d};
  bool const past = passes_caches(y, walk.out_rows() * d.out_width(), d.channels);
  walk.each(team, [&](std::size_t corner, std::size_t out) {
    each_registers<V, registers_of_line<Y>>(d.channels, [&]<class T, std::size_t K>(std::size_t first) {
      T best[K];
      for (std::size_t m = 0; m < K; ++m) {
        std::size_t const c = first + m * width<T>;
        best[m] = small_window<T, Side>(x + corner + c, row, d.channels, load<T>(scale + c), load<T>(shift + c)).best;
        if (relu) best[m] = rectified(best[m]);
      }
      put_row(y + out + first, best, past);
    });
  });
}

}  // namespace detail

/// x and y, and their gradients, may be stored as bfloat16.
template <class A, class P, class X, class Y>
void affine_pool_forward(context<simd<A, P>>& on, pool_dims const& d, X const* x, float const* scale,
                         float const* shift, bool relu, Y* y) {
  using namespace detail;
  using V = lanes<A>;
  if (is_square_tiling(d, 1)) return square_affine_pool<1, V>(on.team(), d, x, scale, shift, relu, y);
  if (is_square_tiling(d, 2)) return square_affine_pool<2, V>(on.team(), d, x, scale, shift, relu, y);
  window_walk const walk{d};
  walk.each(on.team(), [&](std::size_t corner, std::size_t out) {
    each_register<V>(d.channels, [&]<class T>(std::size_t c) {
      T const a = load<T>(scale + c), b = load<T>(shift + c);
      T best = fused(load<T>(x + corner + c), a, b);
      walk.inside([&](std::size_t offset) { best = larger(fused(load<T>(x + corner + offset + c), a, b), best); });
      put(y + out + c, relu ? rectified(best) : best);
    });
  });
}

template <class A, class P, class X, class Y>
void batch_norm_relu_pool_backward(context<simd<A, P>>& on, pool_dims const& d, X const* x,
                                   norm_state<float> const& norm, bool relu, Y const* dy, X* dx, float* dgamma,
                                   float* dbeta, std::byte* scratch) {
  using namespace detail;
  using V = lanes<A>;
  carver pieces(scratch, 0, 0);
  auto* const totals = pieces.take<double>(row_sums_scratch(d.channels));
  auto* const coefficients = pieces.take<float>(fixed<float>(4 * d.channels));
  norm_gradient const k{coefficients, coefficients + d.channels, coefficients + 2 * d.channels,
                        coefficients + 3 * d.channels};
  for (std::size_t c = 0; c < d.channels; ++c) {
    k.scale[c] = norm.gamma[c] * norm.inverse_std[c];
    k.shift[c] = norm.beta[c] - norm.mean[c] * k.scale[c];
  }
  auto const run = is_square_tiling(d, 1)   ? square_norm_backward<1, V, X, Y>
                   : is_square_tiling(d, 2) ? square_norm_backward<2, V, X, Y>
                                            : general_norm_backward<V, X, Y>;
  run(on.team(), on.norm_group(), d, x, norm, relu, dy, dx, dgamma, dbeta, totals, k);
}

}  // namespace l3::inline L3_ISA
