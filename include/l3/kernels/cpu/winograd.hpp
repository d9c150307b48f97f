/// @file  include/l3/kernels/cpu/winograd.hpp: the transforms of Winograd's minimal filtering, F(4x4,3x3) and
/// F(6x6,3x3), and of the weight gradient, F(3x3,4x4).
///
/// The six (or eight) numbers of a row are seen as a polynomial's values at as many points: 0, infinity, and pairs +-p.
/// There a convolution is a product, number by number: 36 products give 16 outputs of 9 taps each, a quarter of the
/// textbook's; 64 give 36, a fifth. Both directions of the gradient need the points of the same inputs, so forward and
/// weight gradient share `picture_to_points`. What belongs to p and to -p is the sum and the difference of an even and
/// an odd part.
///
/// A tile's outputs are sums over all its inputs, with terms that cancel: what is not a number reaches outputs of its
/// tile that the textbook's sum would not, and an infinity becomes not a number.
///
/// Source  Lavin & Gray (2016), Fast Algorithms for Convolutional Neural Networks; Toom-Cook for the matrices. Points
///         were chosen by their error against double: 0.65 and 1.5 make half the error of the usual 1 and 2, because
///         the sums' terms are of like size; among triples, 0.5, 1 and 2 were best.
#pragma once
#include <array>
#include <cstddef>
#include <l3/kernels/cpu/simd.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// Channels that lie together when transformed.
inline constexpr std::size_t winograd_block = 16;

/// Tiles of Tile x Tile outputs.
template <std::size_t Tile>
struct winograd {
  static_assert(Tile == 4 || Tile == 6);
  static constexpr std::size_t tile = Tile;
  static constexpr std::size_t reach = tile + 2;           ///< inputs on a side, and points
  static constexpr std::size_t positions = reach * reach;  ///< products
  static constexpr std::size_t pairs = tile / 2;           ///< of points p and -p
  static constexpr auto points = [] {
    if constexpr (Tile == 4)
      return std::array{0.65f, 1.5f};
    else
      return std::array{0.5f, 1.0f, 2.0f};
  }();

  /// p^n of a pair.
  static constexpr float power(std::size_t pair, std::size_t n) {
    float r = 1;
    for (std::size_t k = 0; k < n; ++k) r *= points[pair];
    return r;
  }
  /// Coefficients of the product of x^2 - p^2 over the pairs but one: of 1, x^2, x^4, ...
  static constexpr std::array<float, pairs + 1> product_without(std::size_t pair) {
    std::array<float, pairs + 1> r{1};
    for (std::size_t k = 0; k < pairs; ++k) {
      if (k == pair) continue;
      for (std::size_t n = pairs; n > 0; --n) r[n] = r[n - 1] - power(k, 2) * r[n];
      r[0] *= -power(k, 2);
    }
    return r;
  }
  static constexpr auto product_of_all = product_without(pairs);
  static constexpr auto products_of_others = [] {
    std::array<std::array<float, pairs + 1>, pairs> r{};
    for (std::size_t k = 0; k < pairs; ++k) r[k] = product_without(k);
    return r;
  }();
  /// 1 / product of the distances to the other points, infinity excepted: of 0, and of a pair's points.
  static constexpr float at_zero = 1 / product_of_all[0];
  static constexpr auto at_pair = [] {
    std::array<float, pairs> r{};
    for (std::size_t k = 0; k < pairs; ++k) {
      float distances = 2 * power(k, 2);
      for (std::size_t other = 0; other < pairs; ++other)
        if (other != k) distances *= power(k, 2) - power(other, 2);
      r[k] = 1 / distances;
    }
    return r;
  }();
};

/// Numbers of a picture's row, `from(k)`, at the points, `to(k, value)`: 0, the pairs, infinity.
template <class W, class T, class From, class To>
L3_INLINE void picture_to_points(From&& from, To&& to) {
  constexpr std::size_t pairs = W::pairs, last = W::reach - 1;
  T d[W::reach];
#pragma GCC unroll 8
  for (std::size_t k = 0; k <= last; ++k) d[k] = from(k);
  T zero = d[last - 1], infinity = d[last];
  for (std::size_t k = pairs; k-- > 0;) {
    zero = fused(T(W::product_of_all[k]), d[2 * k], zero);
    infinity = fused(T(W::product_of_all[k]), d[2 * k + 1], infinity);
  }
  to(0, zero);
#pragma GCC unroll 4
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    T even = d[last - 1], odd = d[last - 2];
    for (std::size_t k = pairs - 1; k-- > 0;) {
      even = fused(T(W::products_of_others[pair][k]), d[2 * k + 2], even);
      odd = fused(T(W::products_of_others[pair][k]), d[2 * k + 1], odd);
    }
    to(1 + 2 * pair, fused(T(W::points[pair]), odd, even));
    to(2 + 2 * pair, fused(T(-W::points[pair]), odd, even));
  }
  to(last, infinity);
}

/// `Taps` filter taps at the points: 3 of a weight, or 4 of an output gradient, which filters in the weight gradient.
template <class W, class T, std::size_t Taps, class From, class To>
L3_INLINE void filter_to_points(From&& from, To&& to) {
  static_assert(Taps == 3 || Taps == 4);
  T g[Taps];
#pragma GCC unroll 4
  for (std::size_t k = 0; k < Taps; ++k) g[k] = from(k);
  to(0, g[0] * T(W::at_zero));
#pragma GCC unroll 4
  for (std::size_t pair = 0; pair < W::pairs; ++pair) {
    T const square(W::power(pair, 2)), weight(W::at_pair[pair]);
    T const even = fused(square, g[2], g[0]) * weight;
    T odd = g[1];
    if constexpr (Taps == 4) odd = fused(square, g[3], odd);
    to(1 + 2 * pair, fused(T(W::points[pair] * W::at_pair[pair]), odd, even));
    to(2 + 2 * pair, fused(T(-W::points[pair] * W::at_pair[pair]), odd, even));
  }
  to(W::reach - 1, g[Taps - 1]);
}

/// Products at the points back to `Outputs` numbers of a row: a tile's outputs, or 3 taps of a weight gradient.
template <class W, class T, std::size_t Outputs, class From, class To>
L3_INLINE void points_to_outputs(From&& from, To&& to) {
  static_assert(Outputs == 3 || Outputs == W::tile);
  constexpr std::size_t pairs = W::pairs;
  T parts[2][pairs];  // even and odd
#pragma GCC unroll 4
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    T const plus = from(1 + 2 * pair), minus = from(2 + 2 * pair);
    parts[0][pair] = plus + minus;
    parts[1][pair] = plus - minus;
  }
  T first = from(0);
#pragma GCC unroll 4
  for (std::size_t pair = 0; pair < pairs; ++pair) first = first + parts[0][pair];
  to(0, first);
#pragma GCC unroll 8
  for (std::size_t k = 1; k < Outputs; ++k) {
    T const factor(W::power(pairs - 1, k)), part = parts[k % 2][pairs - 1];
    T sum = Outputs == W::tile && k == Outputs - 1 ? fused(factor, part, from(W::reach - 1)) : factor * part;
    for (std::size_t pair = pairs - 1; pair-- > 0;) sum = fused(T(W::power(pair, k)), parts[k % 2][pair], sum);
    to(k, Outputs == 3 && k == 2 ? sum + from(W::reach - 1) : sum);
  }
}

/// The two-dimensional transforms: first down the columns, then along the rows. `from(row, column)`; positions are
/// numbered row by row.
template <class W, class T, class From, class To>
L3_INLINE void tile_to_points(From&& from, To&& to) {
  T half[W::reach][W::reach];
#pragma GCC unroll 8
  for (std::size_t j = 0; j < W::reach; ++j)
    picture_to_points<W, T>([&](std::size_t i) { return from(i, j); },
                            [&](std::size_t i, T const& v) { half[i][j] = v; });
#pragma GCC unroll 8
  for (std::size_t i = 0; i < W::reach; ++i)
    picture_to_points<W, T>([&](std::size_t j) { return half[i][j]; },
                            [&](std::size_t j, T const& v) { to(i * W::reach + j, v); });
}
template <class W, class T, std::size_t Taps, class From, class To>
L3_INLINE void taps_to_points(From&& from, To&& to) {
  T half[W::reach][Taps];
#pragma GCC unroll 8
  for (std::size_t j = 0; j < Taps; ++j)
    filter_to_points<W, T, Taps>([&](std::size_t i) { return from(i, j); },
                                 [&](std::size_t i, T const& v) { half[i][j] = v; });
#pragma GCC unroll 8
  for (std::size_t i = 0; i < W::reach; ++i)
    filter_to_points<W, T, Taps>([&](std::size_t j) { return half[i][j]; },
                                 [&](std::size_t j, T const& v) { to(i * W::reach + j, v); });
}
/// `from(position)`; to(row, column, value).
template <class W, class T, std::size_t Outputs, class From, class To>
L3_INLINE void points_to_tile(From&& from, To&& to) {
  T half[Outputs][W::reach];
#pragma GCC unroll 8
  for (std::size_t j = 0; j < W::reach; ++j)
    points_to_outputs<W, T, Outputs>([&](std::size_t i) { return from(i * W::reach + j); },
                                     [&](std::size_t i, T const& v) { half[i][j] = v; });
#pragma GCC unroll 8
  for (std::size_t i = 0; i < Outputs; ++i)
    points_to_outputs<W, T, Outputs>([&](std::size_t j) { return half[i][j]; },
                                     [&](std::size_t j, T const& v) { to(i, j, v); });
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
