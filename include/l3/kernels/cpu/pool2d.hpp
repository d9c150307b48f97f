/// @file  include/l3/kernels/cpu/pool2d.hpp: max pooling: the window loop that batch norm's fused passes use too.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// The windows of a batch, as the kernels walk over them: one output row after the other.
struct window_walk {
  pool_dims const& d;

  std::size_t out_rows() const { return d.batch * d.out_height(); }
  /// Output rows that make a task of a reasonable size.
  std::size_t rows_a_task() const {
    std::size_t const floats = d.stride.height * d.width * d.channels;
    return std::max<std::size_t>(1, (std::size_t{64} << 10) / sizeof(float) / std::max<std::size_t>(floats, 1));
  }
  /// First pixel of window (row, col); rows count through the batch.
  std::size_t corner(std::size_t row, std::size_t col) const {
    std::size_t const n = row / d.out_height(), i = row % d.out_height();
    return ((n * d.height + i * d.stride.height) * d.width + col * d.stride.width) * d.channels;
  }
  /// Calls f(window's corner, index in y) for all windows, on all threads.
  template <class F>
  void each(thread_team& team, F&& f) const {
    std::size_t const step = rows_a_task(), cols = d.out_width();
    team.run(parts_of(out_rows(), step), [&](std::size_t task, std::size_t) {
      for (std::size_t row = task * step; row < std::min((task + 1) * step, out_rows()); ++row)
        for (std::size_t col = 0; col < cols; ++col) f(corner(row, col), (row * cols + col) * d.channels);
      settle();  // f may have stored past the caches
    });
  }
  /// Calls f(offset) for the pixels of a window in row order.
  template <class F>
  L3_INLINE void inside(F&& f) const {
    for (std::size_t r = 0; r < d.window.height; ++r)
      for (std::size_t s = 0; s < d.window.width; ++s) f((r * d.width + s) * d.channels);
  }
};

constexpr bool is_square_tiling(pool_dims const& d, std::size_t side) {
  return d.window == extent2{side, side} && d.stride == d.window;
}

/// Four pixels' values of a 2x2 window (of side 1: one) and who is the largest.
template <class T, std::size_t Side>
struct small_window {
  T x[Side * Side];
  T best;
  decltype(T(0.0f) > T(0.0f)) wins[Side * Side];  ///< [k]: larger than all before; [0] is not used

  template <class X>
  L3_INLINE small_window(X const* corner, std::size_t row, std::size_t col, T const& scale, T const& shift) {
    for (std::size_t k = 0; k < Side * Side; ++k) {
      x[k] = load<T>(corner + k / Side * row + k % Side * col);
      T const value = fused(x[k], scale, shift);
      if (k == 0) {
        best = value;
      } else {
        wins[k] = value > best;
        best = larger(value, best);
      }
    }
  }
  L3_INLINE T winner() const {
    T w = x[0];
    for (std::size_t k = 1; k < Side * Side; ++k) w = pick(wins[k], x[k], w);
    return w;
  }
  /// g for the winner, 0 for the others.
  L3_INLINE void deal(T const& g, T (&to)[Side * Side]) const {
    T left = g;
    for (std::size_t k = Side * Side; k-- > 1;) {
      to[k] = pick(wins[k], left, T(0.0f));
      left = pick(wins[k], T(0.0f), left);
    }
    to[0] = left;
  }
};

/// Gives dy of every window to the first of its largest pixels: dx, zeroed here, receives g. `value(T, x, c)` is what
/// is compared; with `positive`, a window whose largest value is not above zero gives nothing. Windows may overlap,
/// pictures do not, so pictures are the tasks.
template <class V, class X, class Y, class F>
void scatter_to_winners(thread_team& team, pool_dims const& d, X const* x, bool positive, Y const* dy, X* dx,
                        F const& value) {
  window_walk const walk{d};
  team.run(d.batch, [&](std::size_t n, std::size_t) {
    std::size_t const item = d.height * d.width * d.channels;
    std::fill_n(dx + n * item, item, X{});
    for (std::size_t row = n * d.out_height(); row < (n + 1) * d.out_height(); ++row)
      for (std::size_t col = 0; col < d.out_width(); ++col) {
        std::size_t const corner = walk.corner(row, col);
        Y const* const g = dy + (row * d.out_width() + col) * d.channels;
        each_register<V>(d.channels, [&]<class T>(std::size_t c) {
          // The winner's number in its window is kept as a float: exact up to 2^24 pixels.
          T best = value.template operator()<T>(load<T>(x + corner + c), c), winner(0.0f), number(0.0f);
          walk.inside([&](std::size_t offset) {
            T const v = value.template operator()<T>(load<T>(x + corner + offset + c), c);
            auto const wins = v > best;
            winner = pick(wins, number, winner);
            best = pick(wins, v, best);
            number = number + T(1.0f);
          });
          float at[width<T>], largest[width<T>];
          put(at, winner);
          put(largest, best);
          for (std::size_t k = 0; k < width<T>; ++k) {
            if (positive && !(largest[k] > 0)) continue;
            auto const pixel = static_cast<std::size_t>(at[k]);
            std::size_t const r = pixel / d.window.width, s = pixel % d.window.width;
            X* const to = dx + corner + (r * d.width + s) * d.channels + c + k;
            put(to, load<float>(to) + load<float>(g + c + k));
          }
        });
      }
  });
}

/// dx of 2x2 windows side by side: every pixel is written once.
template <class V>
void square_pool_backward(thread_team& team, pool_dims const& d, float const* x, float const* dy, float* dx) {
  std::size_t const channels = d.channels, row = d.width * channels, lines = parts_of(d.height, 2);
  team.run(d.batch * lines, [&](std::size_t task, std::size_t) {
    std::size_t const n = task / lines, i = task % lines, first = (n * d.height + i * 2) * row;
    if (i == d.out_height()) return void(std::fill_n(dx + first, row, 0.0f));  // the odd line no window reaches
    float const* from = dy + (n * d.out_height() + i) * d.out_width() * channels;
    for (std::size_t j = 0; j < d.out_width(); ++j, from += channels)
      each_register<V>(channels, [&]<class T>(std::size_t c) {
        std::size_t const corner = first + j * 2 * channels + c;
        T share[4];
        small_window<T, 2>(x + corner, row, channels, T(1.0f), T(0.0f)).deal(load<T>(from + c), share);
        for (std::size_t q = 0; q < 4; ++q) put(dx + corner + q / 2 * row + q % 2 * channels, share[q]);
      });
    if (d.width % 2 != 0)
      for (std::size_t r = 1; r <= 2; ++r) std::fill_n(dx + first + r * row - channels, channels, 0.0f);
  });
}

}  // namespace detail

template <class A, class P>
void max_pool_forward(context<simd<A, P>>& on, pool_dims const& d, float const* x, float* y) {
  using namespace detail;
  window_walk const walk{d};
  walk.each(on.team(), [&](std::size_t corner, std::size_t out) {
    each_register<lanes<A>>(d.channels, [&]<class T>(std::size_t c) {
      T best = load<T>(x + corner + c);
      walk.inside([&](std::size_t offset) { best = larger(load<T>(x + corner + offset + c), best); });
      put(y + out + c, best);
    });
  });
}

template <class A, class P>
void max_pool_backward(context<simd<A, P>>& on, pool_dims const& d, float const* x, float const* dy, float* dx) {
  using namespace detail;
  using V = lanes<A>;
  if (is_square_tiling(d, 2)) return square_pool_backward<V>(on.team(), d, x, dy, dx);
  scatter_to_winners<V>(on.team(), d, x, false, dy, dx, []<class T>(T const& v, std::size_t) { return v; });
}

}  // namespace l3::inline L3_ISA
