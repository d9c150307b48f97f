/// @file  include/l3/kernels/cpu/winograd.hpp: the transforms of Winograd's minimal filtering with tiles of 4x4
/// outputs, F(4x4,3x3), and of its weight gradient, F(3x3,4x4).
///
/// Six numbers of a row are seen as a polynomial's values at six points: 0, +-a, +-b and infinity. There a convolution
/// is a product, number by number: 36 products give 16 outputs of 9 taps each, a quarter of the textbook's. Both
/// directions need six points of the same six inputs, so forward and weight gradient share `picture_to_points`.
///
/// A tile's 4x4 outputs are sums over its 6x6 inputs, with terms that cancel: what is not a number reaches outputs of
/// its tiles that the textbook's sum would not, and an infinity becomes not a number.
///
/// Source  Lavin & Gray (2016), Fast Algorithms for Convolutional Neural Networks; Toom-Cook for the matrices. The
///         points 0.65 and 1.5 keep the sums' terms of like size: half the rounding error of the usual 1 and 2.
#pragma once
#include <cstddef>
#include <l3/kernels/cpu/simd.hpp>

namespace l3::inline L3_ISA {
namespace detail {

struct winograd {
  static constexpr std::size_t tile = 4;                   ///< outputs on a side
  static constexpr std::size_t reach = tile + 2;           ///< inputs on a side
  static constexpr std::size_t positions = reach * reach;  ///< products
  static constexpr std::size_t channel_block = 16;         ///< channels that lie together when transformed
  static constexpr float a = 0.65f, b = 1.5f;              ///< points, beside 0 and infinity
  static constexpr float a2 = a * a, b2 = b * b;
  static constexpr float at_zero = 1 / (a2 * b2);  ///< 1 / product of the distances to the other points
  static constexpr float at_a = 1 / (2 * a2 * (a2 - b2));
  static constexpr float at_b = 1 / (2 * b2 * (b2 - a2));
};

/// Six numbers of a picture's row, `from(k)`, at the six points, `to(k, value)`.
template <class T, class From, class To>
L3_INLINE void picture_to_points(From&& from, To&& to) {
  using w = winograd;
  T const d1 = from(1), d2 = from(2), d3 = from(3), d4 = from(4);
  T const both(-(w::a2 + w::b2)), product(w::a2 * w::b2);
  to(0, fused(product, from(0), fused(both, d2, d4)));
  T const even_a = fused(T(-w::b2), d2, d4), odd_a = fused(T(-w::b2), d1, d3);
  to(1, fused(T(w::a), odd_a, even_a));
  to(2, fused(T(-w::a), odd_a, even_a));
  T const even_b = fused(T(-w::a2), d2, d4), odd_b = fused(T(-w::a2), d1, d3);
  to(3, fused(T(w::b), odd_b, even_b));
  to(4, fused(T(-w::b), odd_b, even_b));
  to(5, fused(product, d1, fused(both, d3, from(5))));
}

/// `Taps` filter taps at the six points: 3 of a weight, or 4 of an output gradient, which filters in the weight
/// gradient.
template <class T, std::size_t Taps, class From, class To>
L3_INLINE void filter_to_points(From&& from, To&& to) {
  static_assert(Taps == 3 || Taps == 4);
  using w = winograd;
  T const g0 = from(0), g2 = from(2);
  T odd_a = from(1), odd_b = odd_a;
  if constexpr (Taps == 4) {
    T const g3 = from(3);
    odd_a = fused(T(w::a2), g3, odd_a);
    odd_b = fused(T(w::b2), g3, odd_b);
    to(5, g3);
  } else {
    to(5, g2);
  }
  to(0, g0 * T(w::at_zero));
  T const even_a = fused(T(w::a2), g2, g0) * T(w::at_a);
  to(1, fused(T(w::a * w::at_a), odd_a, even_a));
  to(2, fused(T(-w::a * w::at_a), odd_a, even_a));
  T const even_b = fused(T(w::b2), g2, g0) * T(w::at_b);
  to(3, fused(T(w::b * w::at_b), odd_b, even_b));
  to(4, fused(T(-w::b * w::at_b), odd_b, even_b));
}

/// Products at the six points back to `Outputs` numbers of a row: 4 outputs, or 3 taps of a weight gradient.
template <class T, std::size_t Outputs, class From, class To>
L3_INLINE void points_to_outputs(From&& from, To&& to) {
  static_assert(Outputs == 3 || Outputs == 4);
  using w = winograd;
  T const m1 = from(1), m2 = from(2), m3 = from(3), m4 = from(4);
  T const even_a = m1 + m2, odd_a = m1 - m2, even_b = m3 + m4, odd_b = m3 - m4;
  to(0, from(0) + even_a + even_b);
  to(1, fused(T(w::a), odd_a, T(w::b) * odd_b));
  T const third = fused(T(w::a2), even_a, T(w::b2) * even_b);
  if constexpr (Outputs == 3) {
    to(2, third + from(5));
  } else {
    to(2, third);
    to(3, fused(T(w::a * w::a2), odd_a, fused(T(w::b * w::b2), odd_b, from(5))));
  }
}

/// The two-dimensional transforms: first down the columns, then along the rows. `from(row, column)`; positions are
/// numbered row by row.
template <class T, class From, class To>
L3_INLINE void tile_to_points(From&& from, To&& to) {
  T half[winograd::reach][winograd::reach];
  for (std::size_t j = 0; j < winograd::reach; ++j)
    picture_to_points<T>([&](std::size_t i) { return from(i, j); }, [&](std::size_t i, T const& v) { half[i][j] = v; });
  for (std::size_t i = 0; i < winograd::reach; ++i)
    picture_to_points<T>([&](std::size_t j) { return half[i][j]; },
                         [&](std::size_t j, T const& v) { to(i * winograd::reach + j, v); });
}
template <class T, std::size_t Taps, class From, class To>
L3_INLINE void taps_to_points(From&& from, To&& to) {
  T half[winograd::reach][Taps];
  for (std::size_t j = 0; j < Taps; ++j)
    filter_to_points<T, Taps>([&](std::size_t i) { return from(i, j); },
                              [&](std::size_t i, T const& v) { half[i][j] = v; });
  for (std::size_t i = 0; i < winograd::reach; ++i)
    filter_to_points<T, Taps>([&](std::size_t j) { return half[i][j]; },
                              [&](std::size_t j, T const& v) { to(i * winograd::reach + j, v); });
}
/// `from(position)`; to(row, column, value).
template <class T, std::size_t Outputs, class From, class To>
L3_INLINE void points_to_tile(From&& from, To&& to) {
  T half[Outputs][winograd::reach];
  for (std::size_t j = 0; j < winograd::reach; ++j)
    points_to_outputs<T, Outputs>([&](std::size_t i) { return from(i * winograd::reach + j); },
                                  [&](std::size_t i, T const& v) { half[i][j] = v; });
  for (std::size_t i = 0; i < Outputs; ++i)
    points_to_outputs<T, Outputs>([&](std::size_t j) { return half[i][j]; },
                                  [&](std::size_t j, T const& v) { to(i, j, v); });
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
