/// @file  include/l3/kernels/cpu/conv_strip.hpp: how convolutions cut pictures and channels, and copy the cuts to where
/// a processor core can work on them without waiting.
///
/// A *strip* is a rectangle of output pixels (of one picture, or of several small ones). Its input, one pixel more on
/// every side, is copied into a thread's own memory as [channel block][picture][row][column][channel in block], zeros
/// outside the picture: no borders to test in the inner loop, neighbours in memory wherever the picture lay.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// Sizes of the register tiles.
template <class A>
struct conv_tile {
  static constexpr bool many_registers = std::same_as<A, arch::avx512>;  // 32 instead of 16
  static constexpr std::size_t outputs = 2 * width<lanes<A>>;            ///< output channels: two registers
  static constexpr std::size_t pixels = many_registers ? 14 : 6;         ///< times two registers of sums
  static constexpr std::size_t taps_channels = many_registers ? 4 : 2;   ///< weight gradient: times three taps
};

/// Channels that lie together in a strip: 16 (a cache line), or all of them in a network's first layer.
constexpr std::size_t channel_block(std::size_t channels) { return channels == 1 ? 1 : channels <= 3 ? 3 : 16; }

/// The taps of one input channel to the outputs from `first` on, each times its output's scale unless null; zeros where
/// channels are missing. w [out][in][9], or `turned`, for the data gradient, [in][out][9] with the taps from the last
/// on.
template <std::size_t Outputs>
void copy_taps(float const* w, std::size_t in, std::size_t out, bool turned, float const* scale, std::size_t input,
               std::size_t first, float (&taps)[9][Outputs]) {
  for (std::size_t o = 0; o < Outputs; ++o) {
    std::size_t const output = first + o;
    bool const exists = output < out && input < in;
    float const* const from = exists ? w + (turned ? input * out + output : output * in + input) * 9 : w;
    float const times = exists && scale != nullptr ? scale[output] : 1.0f;
    for (std::size_t tap = 0; tap < 9; ++tap) taps[tap][o] = exists ? times * from[turned ? 8 - tap : tap] : 0.0f;
  }
}

/// Output pixels of a strip.
struct strip_size {
  std::size_t items, rows, cols;
  constexpr std::size_t pixels() const { return items * rows * cols; }
  /// Input pixels: with a border.
  constexpr std::size_t padded() const { return items * (rows + 2) * (cols + 2); }
};

/// The largest strip within `max_pixels` output pixels and `max_padded` input pixels; at least one row.
constexpr strip_size plan_strip(std::size_t height, std::size_t width, std::size_t max_cols, std::size_t max_pixels,
                                std::size_t max_padded) {
  std::size_t const cols = parts_of(width, parts_of(width, max_cols));
  std::size_t const rows_by_input = std::max<std::size_t>(max_padded / (cols + 2), 3) - 2;
  std::size_t const rows = std::min({height, rows_by_input, std::max<std::size_t>(max_pixels / cols, 1)});
  strip_size strip{1, rows, cols};
  if (rows == height && cols == width)
    strip.items = std::max<std::size_t>(1, std::min(max_pixels / strip.pixels(), max_padded / strip.padded()));
  return strip;
}

/// The strips that cover a batch of pictures.
struct strip_grid {
  std::size_t batch, height, width;
  strip_size size;

  constexpr std::size_t across() const { return parts_of(width, size.cols); }
  constexpr std::size_t down() const { return parts_of(height, size.rows); }
  constexpr std::size_t count() const { return parts_of(batch, size.items) * down() * across(); }

  struct place {
    std::size_t item, row, col;  ///< first
    strip_size size;             ///< smaller at the edges
  };
  constexpr place operator[](std::size_t k) const {
    std::size_t const item = k / (down() * across()) * size.items;
    std::size_t const row = k / across() % down() * size.rows, col = k % across() * size.cols;
    return {item,
            row,
            col,
            {std::min(size.items, batch - item), std::min(size.rows, height - row), std::min(size.cols, width - col)}};
  }
};

/// `count` values, as floats, of which only the first `valid` exist.
template <class V, class X>
L3_INLINE void copy_padded(X const* from, std::size_t valid, std::size_t count, float* to) {
  if (valid == count && count % width<V> == 0) {
    for (std::size_t k = 0; k < count; k += width<V>) put(to + k, load<V>(from + k));
    return;
  }
  for (std::size_t k = 0; k < count; ++k) to[k] = k < valid ? load<float>(from + k) : 0.0f;
}

/// Copies the input of a strip: blocks [first, last) of `block` channels. x is the whole batch.
template <class V, class X>
void pack_input(strip_grid const& grid, strip_grid::place const& at, std::size_t channels, std::size_t block,
                index_range blocks, X const* x, float* to) {
  for (std::size_t b = blocks.begin; b < blocks.end; ++b) {
    std::size_t const valid = std::min(block, channels - b * block);
    for (std::size_t n = 0; n < at.size.items; ++n)
      for (std::size_t r = 0; r < at.size.rows + 2; ++r) {
        if (at.row + r < 1 || at.row + r > grid.height) {
          to = std::fill_n(to, (at.size.cols + 2) * block, 0.0f);
          continue;
        }
        std::size_t const skip = at.col == 0 ? 1 : 0;  // columns outside the picture
        std::size_t const last = std::min(at.size.cols + 2, grid.width + 1 - at.col);
        X const* from = x +
                        (((at.item + n) * grid.height + at.row + r - 1) * grid.width + at.col + skip - 1) * channels +
                        b * block;
        to = std::fill_n(to, skip * block, 0.0f);
        if (channels == block) {
          std::size_t const count = (last - skip) * block;
          if constexpr (std::same_as<X, float>)
            std::memcpy(to, from, count * sizeof(float));
          else
            each_register<V>(count, [&]<class T>(std::size_t k) { put(to + k, load<T>(from + k)); });
          to += count;
        } else {
          for (std::size_t j = skip; j < last; ++j, from += channels, to += block)
            copy_padded<V>(from, valid, block, to);
        }
        to = std::fill_n(to, (at.size.cols + 2 - last) * block, 0.0f);
      }
  }
}

/// Copies a strip's output pixels as [panel][picture][row][column][outputs].
template <class V, class Y>
void pack_output(strip_grid const& grid, strip_grid::place const& at, std::size_t channels, std::size_t outputs,
                 index_range panels, Y const* y, float* to) {
  for (std::size_t p = panels.begin; p < panels.end; ++p) {
    std::size_t const valid = std::min(outputs, channels - p * outputs);
    for (std::size_t n = 0; n < at.size.items; ++n)
      for (std::size_t r = 0; r < at.size.rows; ++r) {
        Y const* from = y + (((at.item + n) * grid.height + at.row + r) * grid.width + at.col) * channels + p * outputs;
        for (std::size_t j = 0; j < at.size.cols; ++j, from += channels, to += outputs)
          copy_padded<V>(from, valid, outputs, to);
      }
  }
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
