/// @file  include/l3/kernels/column_copy.hpp: columns of pictures to columns of other pictures.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/context.hpp>
#include <l3/kernels/reference.hpp>

namespace l3::inline L3_ISA {

/// Where pictures lie, in pixels: one every `item`, its rows `row` apart.
///
/// Or windows of one long picture that begin `hop` columns apart, which 2x2 pools have halved `halvings` times since.
/// A pool pairs columns from where a window begins. So from the first halving on that the hop does not divide into
/// evenly, number `splits_at`, there are two pictures of each, one of pairs from column 0 and one of pairs from column
/// 1 on: the *phases*, one every `item`.
struct picture_places {
  std::size_t item, row;
  std::size_t hop = 0, halvings = 0, splits_at = 0;
  std::size_t first = 0;  ///< of the pictures or windows: those before are passed over

  /// The first pixel of picture or window k.
  constexpr std::size_t start(std::size_t k) const {
    k += first;
    if (hop == 0) return k * item;
    std::size_t const column = k * hop;
    std::size_t const phases = halvings > splits_at ? std::size_t{1} << (halvings - splits_at) : 1;
    return (column >> splits_at) % phases * item + (column >> halvings);
  }
};

/// Columns [from_column, + columns) of `count` pictures become columns [to_column, + columns) of others.
struct column_copy {
  std::size_t count, height, channels;
  picture_places from;
  std::size_t from_column;
  picture_places to;
  std::size_t to_column, columns;

  /// The first of the values in row r of picture k, which are neighbours.
  constexpr std::size_t source(std::size_t k, std::size_t r) const {
    return (from.start(k) + r * from.row + from_column) * channels;
  }
  constexpr std::size_t target(std::size_t k, std::size_t r) const {
    return (to.start(k) + r * to.row + to_column) * channels;
  }
};

template <host_backend B, class T>
void copy_columns(context<B>& on, column_copy const& c, T const* x, T* y) {
  if (c.columns == 0) return;
  on.team().run(c.count, [&](std::size_t k, std::size_t) {
    for (std::size_t r = 0; r < c.height; ++r)
      std::copy_n(x + c.source(k, r), c.columns * c.channels, y + c.target(k, r));
  });
}

}  // namespace l3::inline L3_ISA
