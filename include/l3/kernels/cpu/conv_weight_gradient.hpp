/// @file  include/l3/kernels/cpu/conv_weight_gradient.hpp: the weight gradient of a convolution, a matrix product whose
/// long side is the pixels.
///
/// A register tile holds the sums of three taps of a row times a few input channels times two registers of output
/// channels; it runs over the pixels of a strip small enough that both its input block and its gradient panel stay in
/// the first cache. Strips are dealt to a fixed number of parts, which depends on sizes alone; each part adds its
/// strips in order, and the parts are added in order: the same bits for any number of threads.
#pragma once
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/kernels/cpu/conv_strip.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// What one register tile of the weight gradient reads and writes.
struct gradient_tile {
  float const* x;   ///< first channel, upper left neighbour of the strip's first pixel, already moved by the tap's row
  std::size_t row;  ///< floats from a row of the input strip to the next
  std::size_t gap;  ///< floats from a picture of the input strip to the next
  std::size_t column;  ///< floats from a pixel to the next. The tile knows it too, but a compiler that can tell that
                       ///< tap s of a pixel is tap s-1 of the next keeps both and runs out of registers
  float const* dy;     ///< one panel of the gradient strip
  strip_size size;
  float* sums;  ///< [tap in row][channel of block][outputs]
  bool first;   ///< overwrite the sums
};

template <class V, std::size_t Block, std::size_t Channels>
void run_gradient_tile(gradient_tile const& t) {
  constexpr std::size_t lanes = width<V>;
  V sum[3 * Channels][2];  // every loop over it is unrolled, or compilers would keep it in memory
#pragma GCC unroll 12
  for (std::size_t m = 0; m < 3 * Channels; ++m) sum[m][0] = sum[m][1] = V(0.0f);
  float const* dy = t.dy;
  std::size_t const column = t.column;
  for (std::size_t n = 0; n < t.size.items; ++n)
    for (std::size_t r = 0; r < t.size.rows; ++r) {
      float const* x = t.x + n * t.gap + r * t.row;
      for (std::size_t j = 0; j < t.size.cols; ++j, x += Block, dy += 2 * lanes) {
        V const g0 = load<V>(dy), g1 = load<V>(dy + lanes);
#pragma GCC unroll 12
        for (std::size_t m = 0; m < 3 * Channels; ++m) {
          V const value(x[m / Channels * column + m % Channels]);
          sum[m][0] = fused(value, g0, sum[m][0]);
          sum[m][1] = fused(value, g1, sum[m][1]);
        }
      }
    }
#pragma GCC unroll 12
  for (std::size_t m = 0; m < 3 * Channels; ++m)
    for (std::size_t h = 0; h < 2; ++h) {
      float* const to = t.sums + (m / Channels * Block + m % Channels) * 2 * lanes + h * lanes;
      put(to, t.first ? sum[m][h] : load<V>(to) + sum[m][h]);
    }
}

/// Sizes of a weight gradient.
template <class A>
struct gradient_plan {
  static constexpr std::size_t l1 = 26 << 10;          // bytes of the first cache for an input block and a panel
  static constexpr std::size_t tasks = 32;             // enough for a machine's cores, few enough to add up quickly
  static constexpr std::size_t most_parts = 32 << 20;  // bytes of all partial sums
  static constexpr std::size_t group = 128;            // channels a task takes on each side

  std::size_t in, out, height, width;

  static constexpr std::size_t outputs = conv_tile<A>::outputs;
  constexpr std::size_t block() const { return channel_block(in); }
  constexpr std::size_t blocks() const { return parts_of(in, block()); }
  constexpr std::size_t panels() const { return parts_of(out, outputs); }
  constexpr std::size_t block_groups() const { return parts_of(blocks() * block(), group); }
  constexpr std::size_t panel_groups() const { return parts_of(panels() * outputs, group); }
  /// Floats of one part: [panel][channel block][tap][channel][output].
  constexpr std::size_t part_size() const { return panels() * blocks() * 9 * block() * outputs; }
  constexpr std::size_t parts() const {
    std::size_t const wanted = parts_of(tasks, block_groups() * panel_groups());
    return std::max<std::size_t>(1, std::min(wanted, most_parts / sizeof(float) / part_size()));
  }
  constexpr strip_size strip() const {
    // per output pixel one panel of the gradient and, borders included, about 1.4 input pixels
    std::size_t const bytes = (outputs * 5 + 16 * 7) * sizeof(float) / 5;
    return plan_strip(height, width, 32, std::max<std::size_t>(l1 / bytes, 32), l1 / (16 * sizeof(float)));
  }
  constexpr footprint sums() const { return fixed<float>(parts() * part_size()); }
  constexpr footprint input() const {
    return per_thread<float>(strip().padded() * parts_of(blocks(), block_groups()) * block());
  }
  constexpr footprint gradient() const {
    return per_thread<float>(strip().pixels() * parts_of(panels(), panel_groups()) * outputs);
  }
  constexpr footprint scratch() const { return sums() + input() + gradient(); }
};

/// One strip's share of dw for some channel blocks and panels.
template <class A, std::size_t Block>
void add_strip(gradient_plan<A> const& plan, strip_size const& size, index_range blocks, index_range panels, bool first,
               float const* x, float const* dy, float* sums) {
  constexpr std::size_t outputs = conv_tile<A>::outputs;
  constexpr std::size_t channels = Block == 16 ? conv_tile<A>::taps_channels : 1;
  std::size_t const row = (size.cols + 2) * Block;
  for (std::size_t b = blocks.begin; b < blocks.end; ++b, x += size.padded() * Block) {
    std::size_t const valid = std::min(Block, plan.in - b * Block);
    for (std::size_t p = panels.begin; p < panels.end; ++p)
      for (std::size_t r = 0; r < 3; ++r)
        for (std::size_t c = 0; c < valid; c += channels)
          run_gradient_tile<lanes<A>, Block, channels>(
              {.x = x + r * row + c,
               .row = row,
               .gap = (size.rows + 2) * row,
               .column = plan.block(),  // is Block, but see gradient_tile
               .dy = dy + (p - panels.begin) * size.pixels() * outputs,
               .size = size,
               .sums = sums + (((p * plan.blocks() + b) * 3 + r) * 3 * Block + c) * outputs,
               .first = first});
  }
}

/// dw of a convolution.
template <class A, class X, class Y>
void run_weight_gradient(thread_team& team, gradient_plan<A> const& plan, std::size_t batch, X const* x, Y const* dy,
                         float* dw, std::byte* scratch) {
  using V = lanes<A>;
  constexpr std::size_t outputs = conv_tile<A>::outputs;
  carver pieces(scratch, batch, team.size());
  float* const sums = pieces.take<float>(plan.sums());
  float* const inputs = pieces.take<float>(plan.input());
  float* const gradients = pieces.take<float>(plan.gradient());

  std::size_t const block = plan.block(), blocks = plan.blocks(), panels = plan.panels();
  std::size_t const groups = plan.block_groups() * plan.panel_groups();
  strip_grid const grid{batch, plan.height, plan.width, plan.strip()};
  if (grid.count() == 0) return void(std::fill_n(dw, plan.out * plan.in * 9, 0.0f));
  // A part of few strips would cost more to add up than it spreads.
  std::size_t const parts = std::max<std::size_t>(1, std::min(plan.parts(), grid.count() / 4));
  auto const add = block == 1 ? add_strip<A, 1> : block == 3 ? add_strip<A, 3> : add_strip<A, 16>;

  team.run(parts * groups, [&](std::size_t task, std::size_t slot) {
    std::size_t const part = task / groups, group = task % groups;
    auto const my_blocks = part_of(blocks, plan.block_groups(), group / plan.panel_groups());
    auto const my_panels = part_of(panels, plan.panel_groups(), group % plan.panel_groups());
    float* const input = share_of(slot, inputs, plan.input());
    float* const gradient = share_of(slot, gradients, plan.gradient());
    auto const strips = part_of(grid.count(), parts, part);
    for (std::size_t k = strips.begin; k < strips.end; ++k) {
      auto const at = grid[k];
      pack_input<V>(grid, at, plan.in, block, my_blocks, x, input);
      pack_output<V>(grid, at, plan.out, outputs, my_panels, dy, gradient);
      add(plan, at.size, my_blocks, my_panels, k == strips.begin, input, gradient, sums + part * plan.part_size());
    }
  });

  team.run(panels * blocks, [&](std::size_t task, std::size_t) {
    std::size_t const p = task / blocks, b = task % blocks;
    float const* const from = sums + task * 9 * block * outputs;
    for (std::size_t c = 0; c < std::min(block, plan.in - b * block); ++c)
      for (std::size_t tap = 0; tap < 9; ++tap) {
        float sum[outputs];
        for (std::size_t h = 0; h < outputs; h += width<V>) {
          float const* const here = from + (tap * block + c) * outputs + h;
          V s = load<V>(here);
          for (std::size_t q = 1; q < parts; ++q) s = s + load<V>(here + q * plan.part_size());
          put(sum + h, s);
        }
        for (std::size_t o = 0; o < std::min(outputs, plan.out - p * outputs); ++o)
          dw[((p * outputs + o) * plan.in + b * block + c) * 9 + tap] = sum[o];
      }
  });
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
