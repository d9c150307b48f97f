/// @file  include/l3/kernels/cpu/dense.hpp: the dense layer's three products, by register tiles straight from the
/// packed tensors.
///
/// Dense layers are less than a ten-thousandth of the network's work, so nothing is repacked. Every sum runs in one
/// order whatever tile it falls in.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// y[n,o] = bias[o] + x[n] . w[o] for Rows rows and Cols outputs.
template <class V, std::size_t Rows, std::size_t Cols>
void dot_tile(dense_dims const& d, float const* x, float const* w, float const* bias, float* y) {
  V sum[Rows][Cols];
  for (auto& row : sum)
    for (auto& s : row) s = V(0.0f);
  std::size_t k = 0;
  for (; k + width<V> <= d.in; k += width<V>) {
    V value[Rows];
    for (std::size_t n = 0; n < Rows; ++n) value[n] = load<V>(x + n * d.in + k);
    for (std::size_t o = 0; o < Cols; ++o) {
      V const weight = load<V>(w + o * d.weight_stride + k);
      for (std::size_t n = 0; n < Rows; ++n) sum[n][o] = fused(value[n], weight, sum[n][o]);
    }
  }
  for (std::size_t n = 0; n < Rows; ++n)
    for (std::size_t o = 0; o < Cols; ++o) {
      float s = total(sum[n][o]);
      for (std::size_t rest = k; rest < d.in; ++rest) s += x[n * d.in + rest] * w[o * d.weight_stride + rest];
      y[n * d.out + o] = bias != nullptr ? s + bias[o] : s;
    }
}

/// c[i, k] = sum over j of a[i * a_row + j * a_col] * b[j * b_row + k], k in registers.
struct outer_product {
  std::size_t rows, inner, cols;
  float const* a;
  std::size_t a_row, a_col;
  float const* b;
  std::size_t b_row;
  float* c;
  std::size_t c_row;
};

/// Adds the terms of `inner` to rows [i, i + Rows) and Cols registers from column k on.
template <class T, std::size_t Rows, std::size_t Cols>
L3_INLINE void outer_tile(outer_product const& p, std::size_t i, std::size_t k, index_range inner) {
  T sum[Rows][Cols];
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t h = 0; h < Cols; ++h)
      sum[r][h] = inner.begin == 0 ? T(0.0f) : load<T>(p.c + (i + r) * p.c_row + k + h * width<T>);
  for (std::size_t j = inner.begin; j < inner.end; ++j) {
    T b[Cols];
    for (std::size_t h = 0; h < Cols; ++h) b[h] = load<T>(p.b + j * p.b_row + k + h * width<T>);
    for (std::size_t r = 0; r < Rows; ++r) {
      T const a(p.a[(i + r) * p.a_row + j * p.a_col]);
      for (std::size_t h = 0; h < Cols; ++h) sum[r][h] = fused(a, b[h], sum[r][h]);
    }
  }
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t h = 0; h < Cols; ++h) put(p.c + (i + r) * p.c_row + k + h * width<T>, sum[r][h]);
}

template <class V, std::size_t Rows>
void outer_rows(outer_product const& p, std::size_t i, index_range cols, index_range inner) {
  std::size_t k = cols.begin;
  for (; k + 3 * width<V> <= cols.end; k += 3 * width<V>) outer_tile<V, Rows, 3>(p, i, k, inner);
  for (; k + width<V> <= cols.end; k += width<V>) outer_tile<V, Rows, 1>(p, i, k, inner);
  for (; k < cols.end; ++k) outer_tile<float, Rows, 1>(p, i, k, inner);
}

/// A task is a strip of columns; a block of b that fits in the first cache meets all rows before the next one comes.
template <class V>
void multiply(thread_team& team, outer_product const& p) {
  constexpr std::size_t rows = 4, cols = 6 * width<V>, block = 128;
  team.run(parts_of(p.cols, cols), [&](std::size_t task, std::size_t) {
    index_range const strip{task * cols, std::min((task + 1) * cols, p.cols)};
    std::size_t j = 0;
    do {  // once at least: a sum of nothing is zero
      index_range const inner{j, std::min(j + block, p.inner)};
      std::size_t i = 0;
      for (; i + rows <= p.rows; i += rows) outer_rows<V, rows>(p, i, strip, inner);
      for (; i < p.rows; ++i) outer_rows<V, 1>(p, i, strip, inner);
    } while ((j += block) < p.inner);
  });
}

}  // namespace detail

template <class A, class P>
void dense_forward(context<simd<A, P>>& on, dense_dims const& d, float const* x, float const* w, float const* bias,
                   float* y, std::byte* /*scratch*/) {
  using namespace detail;
  using V = lanes<A>;
  constexpr std::size_t rows = 4, cols = 2, panel = 16, group = 64;  // a task: 16 outputs of 64 rows
  std::size_t const across = parts_of(d.out, panel);
  on.team().run(parts_of(d.batch, group) * across, [&](std::size_t task, std::size_t) {
    index_range const outputs{task % across * panel, std::min((task % across + 1) * panel, d.out)};
    std::size_t const last = std::min((task / across + 1) * group, d.batch);
    auto const tile = [&]<std::size_t Rows, std::size_t Cols>(std::size_t n, std::size_t o) {
      dot_tile<V, Rows, Cols>(d, x + n * d.in, w + o * d.weight_stride, bias != nullptr ? bias + o : nullptr,
                              y + n * d.out + o);
    };
    for (std::size_t n = task / across * group; n < last; n += rows)
      for (std::size_t o = outputs.begin; o < outputs.end; o += cols) {
        if (n + rows <= last && o + cols <= outputs.end) {
          tile.template operator()<rows, cols>(n, o);
          continue;
        }
        for (std::size_t row = n; row < std::min(n + rows, last); ++row)
          for (std::size_t output = o; output < std::min(o + cols, outputs.end); ++output)
            tile.template operator()<1, 1>(row, output);
      }
  });
}

template <class A, class P>
void dense_backward_data(context<simd<A, P>>& on, dense_dims const& d, float const* dy, float const* w, float* dx,
                         std::byte* /*scratch*/) {
  detail::multiply<detail::lanes<A>>(on.team(), {d.batch, d.out, d.in, dy, d.out, 1, w, d.weight_stride, dx, d.in});
}

template <class A, class P>
void dense_backward_weights(context<simd<A, P>>& on, dense_dims const& d, float const* x, float const* dy, float* dw,
                            std::byte* /*scratch*/) {
  detail::multiply<detail::lanes<A>>(on.team(), {d.out, d.batch, d.in, dy, 1, d.out, x, d.in, dw, d.weight_stride});
}

}  // namespace l3::inline L3_ISA
