/// @file  include/l3/kernels/cpu/conv_direct.hpp: direct convolution as a matrix product over strips; forward, and the
/// data gradient, which is a convolution with the weights turned by 180 degrees and their channels exchanged.
///
/// A register tile holds the sums of a few neighbouring pixels times two registers of output channels (a *panel*). Each
/// step adds one input channel of one tap: as many broadcasts as pixels, two loads of weights. Three taps of a row and
/// their channels lie one after the other in a strip, so the inner loop is one run over 3 * block floats. Weights are
/// packed in the order they are used. A pass of the tiles of a strip uses as much of a panel as stays in the first
/// cache; sums wait in between.
#pragma once
#include <array>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/kernels/cpu/conv_strip.hpp>
#include <limits>
#include <utility>

namespace l3::inline L3_ISA {
namespace detail {

/// What one register tile reads and writes.
template <class Y>
struct direct_tile {
  float const* x;      ///< the tile's first pixel's upper left neighbour in the strip
  std::size_t row;     ///< floats from a row of the strip to the next
  std::size_t plane;   ///< floats from a channel block to the next
  std::size_t blocks;  ///< channel blocks of this pass
  float const* w;      ///< packed weights of this pass
  float* sums;         ///< [pixel][outputs]; not used when this pass is the first and the last
  bool first, last;    ///< pass
  float const* shift;  ///< [outputs]
  bool relu;
  Y* y;                  ///< the tile's first pixel
  std::size_t y_stride;  ///< values from a pixel to the next
  std::size_t outputs;   ///< channels that exist: at most two registers
  bool past;             ///< y goes past the caches
};

template <class V, class Y, std::size_t Pixels, std::size_t Block>
void run_direct_tile(direct_tile<Y> const& t) {
  constexpr std::size_t lanes = width<V>;
  V sum[Pixels][2];  // every loop over it is unrolled, or compilers would keep it in memory
#pragma GCC unroll 14
  for (std::size_t m = 0; m < Pixels; ++m)
    for (std::size_t h = 0; h < 2; ++h) sum[m][h] = t.first ? V(0.0f) : load<V>(t.sums + (2 * m + h) * lanes);
  float const* w = t.w;
  for (std::size_t b = 0; b < t.blocks; ++b)
    for (std::size_t r = 0; r < 3; ++r) {
      float const* x = t.x + b * t.plane + r * t.row;
      for (std::size_t k = 0; k < 3 * Block; ++k, ++x, w += 2 * lanes) {
        V const w0 = load<V>(w), w1 = load<V>(w + lanes);
#pragma GCC unroll 14
        for (std::size_t m = 0; m < Pixels; ++m) {
          V const value(x[m * Block]);
          sum[m][0] = fused(value, w0, sum[m][0]);
          sum[m][1] = fused(value, w1, sum[m][1]);
        }
      }
    }
  if (!t.last) {
#pragma GCC unroll 14
    for (std::size_t m = 0; m < Pixels; ++m)
      for (std::size_t h = 0; h < 2; ++h) put(t.sums + (2 * m + h) * lanes, sum[m][h]);
    return;
  }
  V const low = t.relu ? V(0.0f) : V(-std::numeric_limits<float>::infinity());
  Y edge[2 * lanes];
#pragma GCC unroll 14
  for (std::size_t m = 0; m < Pixels; ++m) {
    Y* const y = t.y + m * t.y_stride;
    bool const whole = t.outputs == 2 * lanes;
    for (std::size_t h = 0; h < 2; ++h) sum[m][h] = larger(low, sum[m][h] + load<V>(t.shift + h * lanes));
    put_row(whole ? y : edge, sum[m], whole && t.past);
    if (!whole) std::copy_n(edge, t.outputs, y);
  }
}

/// run_direct_tile for 1, 2, ... pixels.
template <class A, class Y, std::size_t Block>
inline constexpr auto direct_tiles = []<std::size_t... P>(std::index_sequence<P...>) {
  return std::array{&run_direct_tile<lanes<A>, Y, P + 1, Block>...};
}
(std::make_index_sequence<conv_tile<A>::pixels>{});

/// Sizes of a direct convolution from `in` to `out` channels.
template <class A>
struct direct_plan {
  using value = float;  ///< of prepared weights
  static constexpr bool knows_packed_maps = false;
  static constexpr std::size_t l1 = 18 << 10;   // bytes of weights a pass may use of the first cache
  static constexpr std::size_t l2 = 384 << 10;  // bytes of the second cache for a strip

  std::size_t in, out, height, width;

  constexpr std::size_t block() const { return channel_block(in); }
  constexpr std::size_t blocks() const { return parts_of(in, block()); }
  constexpr std::size_t panels() const { return parts_of(out, conv_tile<A>::outputs); }
  /// Floats of one channel block of one panel.
  constexpr std::size_t block_weights() const { return 9 * block() * conv_tile<A>::outputs; }
  constexpr std::size_t blocks_a_pass() const {
    return std::min(blocks(), std::max<std::size_t>(1, l1 / sizeof(float) / block_weights()));
  }
  constexpr strip_size strip() const {
    return plan_strip(height, width, 64, 1024, l2 / sizeof(float) / (blocks() * block()));
  }
  constexpr footprint weights() const { return fixed<float>(panels() * blocks() * block_weights()); }
  constexpr footprint input() const { return per_thread<float>(strip().padded() * blocks() * block()); }
  constexpr footprint sums() const { return per_thread<float>(strip().pixels() * conv_tile<A>::outputs); }
  constexpr footprint scratch() const { return input() + sums(); }
};

/// Packs weights as [panel][channel block][tap][channel][output], zeros where channels are missing. `turned`: for the
/// data gradient.
template <class A>
void prepare_weights(thread_team& team, direct_plan<A> const& plan, bool turned, float const* w, float const* scale,
                     float* to) {
  constexpr std::size_t outputs = conv_tile<A>::outputs;
  std::size_t const block = plan.block(), blocks = plan.blocks();
  team.run(plan.panels() * blocks, [&](std::size_t task, std::size_t) {
    std::size_t const p = task / blocks, b = task % blocks;
    float* const dest = to + task * plan.block_weights();
    for (std::size_t o = 0; o < outputs; ++o)
      for (std::size_t c = 0; c < block; ++c) {
        std::size_t const output = p * outputs + o, input = b * block + c;
        bool const exists = output < plan.out && input < plan.in;
        float const* const from = w + (turned ? input * plan.out + output : output * plan.in + input) * 9;
        float const times = exists && scale != nullptr ? scale[output] : 1.0f;
        for (std::size_t tap = 0; tap < 9; ++tap)
          dest[(tap * block + c) * outputs + o] = exists ? times * from[turned ? 8 - tap : tap] : 0.0f;
      }
  });
}

/// y = epilogue(conv(x, w)).
template <class A, class X, class Y>
void run_convolution(thread_team& team, direct_plan<A> const& plan, std::size_t batch, X const* x, float const* weights,
                     epilogue<float> const& then, Y* y, std::byte* scratch) {
  using V = lanes<A>;
  constexpr std::size_t outputs = conv_tile<A>::outputs, most = conv_tile<A>::pixels;
  carver pieces(scratch, batch, team.size());
  float* const inputs = pieces.take<float>(plan.input());
  float* const waiting = pieces.take<float>(plan.sums());

  std::size_t const block = plan.block(), blocks = plan.blocks();
  auto const& tiles = block == 1 ? direct_tiles<A, Y, 1> : block == 3 ? direct_tiles<A, Y, 3> : direct_tiles<A, Y, 16>;

  // Small batches: smaller strips, so that every thread gets its share. No sum changes by that.
  strip_grid grid{batch, plan.height, plan.width, plan.strip()};
  while (grid.count() < 6 * team.size() && team.size() > 1) {
    if (grid.size.items > 1)
      grid.size.items /= 2;
    else if (grid.size.rows > 1)
      grid.size.rows = (grid.size.rows + 1) / 2;
    else
      break;
  }
  team.run(grid.count(), [&](std::size_t task, std::size_t slot) {
    auto const at = grid[task];
    float* const strip = share_of(slot, inputs, plan.input());
    pack_input<V>(grid, at, plan.in, block, {0, blocks}, x, strip);
    direct_tile<Y> t{};
    t.row = (at.size.cols + 2) * block;
    t.plane = at.size.padded() * block;
    t.relu = then.relu;
    t.y_stride = plan.out;
    t.past = passes_caches(y, batch * plan.height * plan.width, plan.out);
    // A row's tiles differ by at most one pixel: no tile is so small that the multipliers wait for the sums.
    std::size_t const across = parts_of(at.size.cols, most);
    std::size_t const small = at.size.cols / across, large = at.size.cols % across;

    for (std::size_t p = 0; p < plan.panels(); ++p) {
      float shift[outputs];
      t.outputs = std::min(outputs, plan.out - p * outputs);
      for (std::size_t o = 0; o < outputs; ++o)
        shift[o] = then.shift != nullptr && o < t.outputs ? then.shift[p * outputs + o] : 0.0f;
      t.shift = shift;
      for (std::size_t b = 0; b < blocks; b += plan.blocks_a_pass()) {
        t.blocks = std::min(plan.blocks_a_pass(), blocks - b);
        t.first = b == 0, t.last = b + t.blocks == blocks;
        t.w = weights + (p * blocks + b) * plan.block_weights();
        t.sums = share_of(slot, waiting, plan.sums());
        for (std::size_t n = 0; n < at.size.items; ++n)
          for (std::size_t r = 0; r < at.size.rows; ++r) {
            t.x = strip + b * t.plane + (n * (at.size.rows + 2) + r) * t.row;
            t.y = y + (((at.item + n) * plan.height + at.row + r) * plan.width + at.col) * plan.out + p * outputs;
            for (std::size_t k = 0; k < across; ++k) {
              std::size_t const pixels = small + (k < large ? 1 : 0);
              tiles[pixels - 1](t);
              t.x += pixels * block;
              t.y += pixels * plan.out;
              t.sums += pixels * outputs;
            }
          }
      }
    }
    settle();
  });
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
