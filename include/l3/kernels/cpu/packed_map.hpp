/// @file  include/l3/kernels/cpu/packed_map.hpp: maps of bf16 as convolutions in matrix registers read them, where one
/// layer of inference may leave them for the next.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/kernels/cpu/amx.hpp>
#include <l3/kernels/cpu/simd.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// Where the values of one picture are: 32 channels of a pixel side by side, pixels with a border of zeros row after
/// row, rows of even number apart from those of odd number. With the border, row r is row r + 1 and column c column c
/// + 1.
///
/// Shapes  [channel block][number of row % 2][number of row / 2][column][32 channels].
struct packed_map {
  std::size_t height, width, channels;

  constexpr std::size_t blocks() const { return parts_of(channels, matrix_depth); }
  constexpr std::size_t across() const { return round_up(width + 2, 2); }  ///< even, as windows are
  constexpr std::size_t pairs() const { return parts_of(height, 2); }      ///< of rows, the last one may be half a pair
  constexpr std::size_t row() const { return across() * matrix_depth; }    ///< values from a row to the next but one
  constexpr std::size_t odd() const { return (pairs() + 1) * row(); }      ///< from the even rows to the odd ones
  /// From a channel block to the next. The last tile reads behind its rows; and a multiple of many lines would put all
  /// of a pixel's blocks into the same set of a cache.
  constexpr std::size_t plane() const { return ((2 * odd() / matrix_depth + matrix_rows + 2) | 1) * matrix_depth; }
  constexpr std::size_t size() const { return blocks() * plane(); }
  /// Of a pixel's first block, row and column counted with the border.
  constexpr std::size_t at(std::size_t r, std::size_t c) const {
    return r % 2 * odd() + r / 2 * row() + c * matrix_depth;
  }
};

/// Writes the borders of a batch of packed maps.
inline void clear_borders(thread_team& team, std::size_t batch, packed_map const& map, bfloat16* to) {
  team.run(batch * map.blocks(), [&](std::size_t task, std::size_t) {
    bfloat16* const plane = to + task / map.blocks() * map.size() + task % map.blocks() * map.plane();
    for (std::size_t const r : {std::size_t{0}, map.height + 1})
      std::fill_n(plane + map.at(r, 0), map.row(), bfloat16{});
    for (std::size_t r = 1; r <= map.height; ++r)
      for (std::size_t const c : {std::size_t{0}, map.width + 1})
        std::fill_n(plane + map.at(r, c), matrix_depth, bfloat16{});
  });
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
