/// @file  include/l3/kernels/cpu/winograd_weight_gradient.hpp: the weight gradient of a convolution by Winograd's
/// F(3x3,4x4): the output gradient's tiles filter the input's tiles.
///
/// Groups of tiles follow one another; all threads share a group. Each position's products are summed over a group's
/// tiles in registers, and the groups' sums are added in order, by whoever takes that position and panel: no number of
/// threads changes a bit.
#pragma once
#include <l3/kernels/cpu/conv_winograd.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// Sums, over a group's tiles, the products of a few input channels and two registers of output channels, and adds them
/// to `sums`, which the first group overwrites.
template <class V, class P, std::size_t Channels>
void run_outer_tile(typename products<V, P>::value const* x, typename products<V, P>::value const* dy,
                    std::size_t dy_half, std::size_t tiles, bool first, float* sums) {
  using product = products<V, P>;
  constexpr std::size_t lanes = width<V>, depth = product::depth, step = winograd_block * depth;
  V sum[Channels][2];  // every loop over it is unrolled, or compilers would keep it in memory
#pragma GCC unroll 8
  for (std::size_t m = 0; m < Channels; ++m) sum[m][0] = sum[m][1] = V(0.0f);
  for (std::size_t t = 0; t < tiles; t += depth, x += step, dy += step) {
    auto const g0 = product::load(dy), g1 = product::load(dy + dy_half);
#pragma GCC unroll 8
    for (std::size_t m = 0; m < Channels; ++m) {
      auto const value = product::all(x + m * depth);
      sum[m][0] = product::add(value, g0, sum[m][0]);
      sum[m][1] = product::add(value, g1, sum[m][1]);
    }
  }
#pragma GCC unroll 8
  for (std::size_t m = 0; m < Channels; ++m)
    for (std::size_t h = 0; h < 2; ++h) {
      float* const to = sums + (2 * m + h) * lanes;
      put(to, first ? sum[m][h] : load<V>(to) + sum[m][h]);
    }
}

/// Sizes of a Winograd weight gradient.
template <class A, class P>
struct winograd_gradient_plan {
  using W = winograd<4>;
  using product = products<lanes<A>, P>;
  static_assert(product::exist, "l3::simd: bf16 products need a build for a processor with AVX512_BF16");
  using value = typename product::value;
  static constexpr std::size_t depth = product::depth;
  using layout = winograd_points<W, value, depth>;
  static constexpr std::size_t outputs = conv_tile<A>::outputs, block = layout::block;
  static constexpr std::size_t group_bytes = 12 << 20;
  static constexpr std::size_t fewest_tiles = 192;  // of a group: its sums are read and written once a group
  static constexpr std::size_t most_tiles = 1024;   // of a group, hence of one float sum: longer ones lose digits

  std::size_t in, out, height, width;

  constexpr std::size_t panels() const { return parts_of(out, outputs); }
  constexpr std::size_t blocks() const { return parts_of(in, block); }
  static constexpr bool matrices = has_matrix_products<A, P>;
  static constexpr std::size_t step = matrices ? matrix_depth : depth;  ///< tiles multiplied at once
  static_assert(fewest_tiles % step == 0 && most_tiles % step == 0);
  constexpr std::size_t group() const {
    std::size_t const channels = round_up(in, block) + round_up(out, block);
    std::size_t const fit = group_bytes / (W::positions * sizeof(value) * channels);
    return std::clamp(fit / step * step, fewest_tiles, most_tiles);
  }
  constexpr layout x_points() const { return {in, group()}; }
  /// Whole panels: one of 32 outputs is two channel blocks, one of 16 is one, one of 8 half of one.
  constexpr layout dy_points() const { return {round_up(out, outputs), group()}; }
  /// Sums: [position][panel][channel][output].
  constexpr std::size_t panel_sums() const { return blocks() * block * outputs; }
  constexpr std::size_t position_sums() const { return panels() * panel_sums() + position_gap<float>; }

  constexpr footprint input() const { return fixed<value>(x_points().size()); }
  constexpr footprint gradient() const { return fixed<value>(dy_points().size()); }
  constexpr footprint sums() const { return fixed<float>(W::positions * position_sums()); }
  constexpr footprint patch() const { return per_thread<float>(patch_size<W, depth>(std::max(in, out))); }
  constexpr footprint scratch() const { return input() + gradient() + sums() + patch(); }
};

#if L3_AMX
/// Makes the transformed tiles of a group what matrix registers take: zeros up to a multiple of 32 tiles, and of the
/// input 32 tiles of a channel side by side.
template <class A, class P>
void arrange_matrices(thread_team& team, winograd_gradient_plan<A, P> const& plan, std::size_t tiles, bfloat16* xs,
                      bfloat16* dys) {
  constexpr std::size_t block = winograd_block, chunk = block * matrix_depth;
  auto const x_points = plan.x_points(), dy_points = plan.dy_points();
  std::size_t const x_blocks = x_points.blocks(), blocks = x_blocks + dy_points.blocks();
  std::size_t const end = round_up(tiles, matrix_depth) * block, filled = round_up(tiles, 2) * block;
  team.run(winograd_gradient_plan<A, P>::W::positions * blocks, [&](std::size_t task, std::size_t) {
    std::size_t const position = task / blocks, b = task % blocks;
    bfloat16* const plane = b < x_blocks ? xs + position * x_points.position() + b * x_points.plane()
                                         : dys + position * dy_points.position() + (b - x_blocks) * dy_points.plane();
    std::fill(plane + filled, plane + end, bfloat16{});
    if (b < x_blocks)
      for (std::size_t k = 0; k < end; k += chunk) exchange_axes(plane + k);
  });
}
#endif

/// dw of a convolution.
template <class A, class P, class X, class Y>
void run_weight_gradient(thread_team& team, winograd_gradient_plan<A, P> const& plan, std::size_t batch, X const* x,
                         Y const* dy, float* dw, std::byte* scratch) {
  using V = lanes<A>;
  using W = typename winograd_gradient_plan<A, P>::W;
  using value = typename winograd_gradient_plan<A, P>::value;
  constexpr std::size_t outputs = conv_tile<A>::outputs, block = winograd_block;
  constexpr std::size_t depth = winograd_gradient_plan<A, P>::depth;
  constexpr std::size_t most = conv_tile<A>::many_registers ? 8 : 6, runs = parts_of(block, most);
  carver pieces(scratch, batch, team.size());
  value* const xs = pieces.take<value>(plan.input());
  value* const dys = pieces.take<value>(plan.gradient());
  float* const sums = pieces.take<float>(plan.sums());
  float* const patches = pieces.take<float>(plan.patch());

  winograd_grid<W> const grid{batch, plan.height, plan.width};
  auto const x_points = plan.x_points(), dy_points = plan.dy_points();
  std::size_t const groups = parts_of(grid.count(), plan.group());
  if (groups == 0) return void(std::fill_n(dw, plan.out * plan.in * 9, 0.0f));
  for (std::size_t g = 0; g < groups; ++g) {
    auto const tiles = part_of(grid.count(), groups, g);
    std::size_t const steps = parts_of(tiles.size(), depth), chunks = parts_of(steps, 8 / depth);
    team.run(2 * chunks, [&](std::size_t task, std::size_t slot) {
      auto const mine = part_of(steps, chunks, task / 2);
      std::size_t const first = mine.begin * depth;
      index_range const these{tiles.begin + first, std::min(tiles.begin + mine.end * depth, tiles.end)};
      float* const patch = share_of(slot, patches, plan.patch());
      if (task % 2 == 0)
        transform_tiles<V, W::reach>(grid, these, plan.in, x, x_points, first, patch, xs);
      else
        transform_tiles<V, W::tile>(grid, these, plan.out, dy, dy_points, first, patch, dys);
    });
#if L3_AMX
    if constexpr (winograd_gradient_plan<A, P>::matrices)
      if (matrix_products_work()) {
        arrange_matrices(team, plan, tiles.size(), xs, dys);
        std::size_t const steps_of_32 = parts_of(tiles.size(), matrix_depth);
        team.run(W::positions * plan.panels(), [&](std::size_t task, std::size_t) {
          matrix_registers const registers;
          std::size_t const position = task / plan.panels(), p = task % plan.panels();
          value const* const y0 = dys + position * dy_points.position() + 2 * p * dy_points.plane();
          float* const to = sums + position * plan.position_sums() + p * plan.panel_sums();
          for (std::size_t b = 0; b < plan.blocks(); b += 2) {
            value const* const x0 = xs + position * x_points.position() + b * x_points.plane();
            add_matrix_products(x0, b + 1 < plan.blocks() ? x0 + x_points.plane() : nullptr, y0, y0 + dy_points.plane(),
                                steps_of_32, g == 0, to + b * block * outputs);
          }
        });
        continue;
      }
#endif
    team.run(W::positions * plan.panels(), [&](std::size_t task, std::size_t) {
      std::size_t const position = task / plan.panels(), p = task % plan.panels();
      value const* const here =
          dys + position * dy_points.position() + p * outputs / block * dy_points.plane() + p * outputs % block * depth;
      std::size_t const half = width<V> < block ? width<V> * depth : dy_points.plane();
      float* to = sums + position * plan.position_sums() + p * plan.panel_sums();
      for (std::size_t b = 0; b < plan.blocks(); ++b) {
        value const* const from = xs + position * x_points.position() + b * x_points.plane();
        [&]<std::size_t... R>(std::index_sequence<R...>) {
          ((run_outer_tile<V, P, part_of(block, runs, R).size()>(from + part_of(block, runs, R).begin * depth, here,
                                                                 half, tiles.size(), g == 0,
                                                                 to + part_of(block, runs, R).begin * outputs)),
           ...);
        }
        (std::make_index_sequence<runs>{});
        to += block * outputs;
      }
    });
  }

  team.run(plan.panels() * plan.blocks(), [&](std::size_t task, std::size_t) {
    std::size_t const p = task / plan.blocks(), b = task % plan.blocks();
    for (std::size_t c = b * block; c < std::min((b + 1) * block, plan.in); ++c) {
      float const* const from = sums + p * plan.panel_sums() + c * outputs;
      float taps[9][outputs];
      each_register<V>(outputs, [&]<class T>(std::size_t o) {
        points_to_tile<W, T, 3>(
            [&](std::size_t position) { return load<T>(from + position * plan.position_sums() + o); },
            [&](std::size_t i, std::size_t j, T const& v) { put(taps[i * 3 + j] + o, v); });
      });
      for (std::size_t o = 0; o < std::min(outputs, plan.out - p * outputs); ++o)
        for (std::size_t tap = 0; tap < 9; ++tap) dw[((p * outputs + o) * plan.in + c) * 9 + tap] = taps[tap][o];
    }
  });
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
