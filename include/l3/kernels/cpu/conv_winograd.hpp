/// @file  include/l3/kernels/cpu/conv_winograd.hpp: convolution by Winograd's F(4x4,3x3) or F(6x6,3x3); forward, and
/// the data gradient, which is a convolution with the weights turned by 180 degrees and their channels exchanged.
///
/// A group of tiles goes through three phases: its input is transformed to 36 or 64 positions, a matrix product at each
/// position sums over the input channels, and the sums are transformed to outputs. Small groups run all three on one
/// thread, near whose core they stay; where the weights are larger than the caches, all threads share one group, so
/// that the weights stream from memory once a group. A product's sum is formed in one register, in the order of the
/// channels: neither schedule nor thread changes a bit.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/amx.hpp>
#include <l3/kernels/cpu/conv_strip.hpp>
#include <l3/kernels/cpu/winograd.hpp>
#include <l3/kernels/dims.hpp>
#include <limits>
#include <utility>

namespace l3::inline L3_ISA {
namespace detail {

/// The tiles that cover a batch, numbered picture by picture and row by row; with `rows` and `cols`, only that many
/// outputs of each picture.
template <class W>
struct winograd_grid {
  std::size_t batch, height, width;
  std::size_t rows = height, cols = width;

  constexpr std::size_t across() const { return parts_of(cols, W::tile); }
  constexpr std::size_t per_item() const { return parts_of(rows, W::tile) * across(); }
  constexpr std::size_t count() const { return batch * per_item(); }

  struct place {
    std::size_t item, row, col;  ///< first output pixel
    std::size_t rows, cols;      ///< outputs wanted
  };
  constexpr place operator[](std::size_t k) const {
    std::size_t const item = k / per_item(), row = k % per_item() / across() * W::tile, col = k % across() * W::tile;
    return {item, row, col, std::min(W::tile, rows - row), std::min(W::tile, cols - col)};
  }
};

/// A square of pixels, channels innermost.
template <class X>
struct pixel_square {
  X const* first;
  std::size_t row, column;  ///< values to the next
};

/// The Side x Side pixels whose upper left one lies `Border` above and left of a tile: where they are, or copied with
/// zeros for what lies outside the picture to `patch`.
template <std::size_t Side, std::size_t Border, class W, class X>
pixel_square<X> tile_pixels(winograd_grid<W> const& grid, typename winograd_grid<W>::place const& at,
                            std::size_t channels, X const* x, X* patch) {
  X const* const picture = x + at.item * grid.height * grid.width * channels;
  std::size_t const row_end = at.row + Side, col_end = at.col + Side;
  if (at.row >= Border && at.col >= Border && row_end <= grid.height + Border && col_end <= grid.width + Border)
    return {picture + ((at.row - Border) * grid.width + at.col - Border) * channels, grid.width * channels, channels};
  X* to = patch;
  for (std::size_t i = at.row; i < row_end; ++i)
    for (std::size_t j = at.col; j < col_end; ++j, to += channels)
      if (i >= Border && i < grid.height + Border && j >= Border && j < grid.width + Border)
        std::copy_n(picture + ((i - Border) * grid.width + j - Border) * channels, channels, to);
      else
        std::fill_n(to, channels, X{});
  return {patch, Side * channels, channels};
}

/// Values between positions that lie a multiple of many cache lines apart, or all stores of a tile would fall into
/// the same set of the first cache.
template <class Value>
inline constexpr std::size_t position_gap = alignment / sizeof(Value);

/// Transformed tiles as factors of a product that sums over channels (Depth 1), or over tiles, Depth of them side by
/// side: [position][channel block][tile / Depth][channel in block][tile % Depth].
template <class W, class Value, std::size_t Depth, std::size_t Block = winograd_block>
struct winograd_points {
  static constexpr std::size_t block = Block;
  std::size_t channels, room;  ///< tiles that fit, a multiple of Depth

  constexpr std::size_t blocks() const { return parts_of(channels, block); }
  constexpr std::size_t plane() const { return room * block; }  ///< from a channel block to the next
  constexpr std::size_t position() const { return blocks() * plane() + position_gap<Value>; }
  constexpr std::size_t size() const { return W::positions * position(); }
};

/// Writes what one step of a product multiplies: `make(k, keep)` gives the values of the step's term k to
/// keep(position, value), and `at(position)` is where they lie.
template <class W, class T, std::size_t Depth, class Make, class At>
L3_INLINE void put_terms(Make&& make, At&& at) {
  static_assert(Depth == 1 || Depth == 2);
  if constexpr (Depth == 1) {
    make(0, [&](std::size_t position, T const& v) { put(at(position), v); });
  } else {
    T even[W::positions];
    make(0, [&](std::size_t position, T const& v) { even[position] = v; });
    make(1, [&](std::size_t position, T const& v) { put_pairs(at(position), even[position], v); });
  }
}

/// Values of the patches that transform_tiles needs.
template <class W, std::size_t Depth>
constexpr std::size_t patch_size(std::size_t channels) {
  return Depth * W::positions * channels;
}

/// Transforms tiles `tiles` of x to places [first, ...) of `to`, `first` a multiple of Depth; zeros in what channels
/// `points` has more than x, and in the tiles missing to a multiple of Depth. Side W::reach: a convolution's input;
/// W::tile: an output gradient.
template <class V, std::size_t Side, class W, class X, class Value, std::size_t Depth, std::size_t Block>
void transform_tiles(winograd_grid<W> const& grid, index_range tiles, std::size_t channels, X const* x,
                     winograd_points<W, Value, Depth, Block> const& points, std::size_t first, float* room, Value* to) {
  constexpr std::size_t block = Block, border = Side == W::reach ? 1 : 0;
  X* const patches = reinterpret_cast<X*>(room);
  for (std::size_t k = tiles.begin; k < tiles.end; k += Depth) {
    pixel_square<X> from[Depth];
    for (std::size_t term = 0; term < Depth; ++term) {
      X* const patch = patches + term * patch_size<W, 1>(channels);
      if (k + term < tiles.end) {
        from[term] = tile_pixels<Side, border>(grid, grid[k + term], channels, x, patch);
      } else {
        std::fill_n(patch, channels, X{});
        from[term] = {patch, 0, 0};
      }
    }
    Value* const tile = to + (first + k - tiles.begin) * block;
    each_register<V>(channels, [&]<class T>(std::size_t c) {
      Value* const here = tile + c / block * points.plane() + c % block * Depth;
      if (c % (64 / sizeof(X)) == 0)  // the pixels of the next tiles, to the right, that these do not share
        for (auto const& square : from)
          for (std::size_t i = 0; i < Side; ++i)
            for (std::size_t j = Side - W::tile; j < Side; ++j)
              prefetch(square.first + i * square.row + (j + Depth * W::tile) * square.column + c);
      put_terms<W, T, Depth>(
          [&](std::size_t term, auto const& keep) {
            auto const pixel = [&](std::size_t i, std::size_t j) {
              return load<T>(from[term].first + i * from[term].row + j * from[term].column + c);
            };
            if constexpr (Side == W::reach)
              tile_to_points<W, T>(pixel, keep);
            else
              taps_to_points<W, T, Side>(pixel, keep);
          },
          [&](std::size_t position) { return here + position * points.position(); });
    });
    for (std::size_t c = channels; c < points.blocks() * block; ++c)
      for (std::size_t position = 0; position < W::positions; ++position)
        std::fill_n(tile + c / block * points.plane() + c % block * Depth + position * points.position(), Depth,
                    Value{});
  }
}

/// Sums over all channel blocks for a few tiles times two registers of output channels. On the way, as many bytes as
/// half of w has are fetched from `ahead`.
template <class V, class P, std::size_t Block, std::size_t Tiles>
void run_product_tile(typename products<V, P>::value const* x, std::size_t plane, std::size_t blocks,
                      typename products<V, P>::value const* w, typename products<V, P>::value const* ahead, float* y,
                      std::size_t y_step) {
  using product = products<V, P>;
  constexpr std::size_t lanes = width<V>, block = Block, depth = product::depth;
  V sum[Tiles][2];  // every loop over it is unrolled, or compilers would keep it in memory
#pragma GCC unroll 14
  for (std::size_t m = 0; m < Tiles; ++m) sum[m][0] = sum[m][1] = V(0.0f);
  for (std::size_t b = 0; b < blocks; ++b, x += plane)
    for (std::size_t k = 0; k < block; k += depth, w += 2 * lanes * depth, ahead += lanes * depth) {
      prefetch(ahead);
      auto const w0 = product::load(w), w1 = product::load(w + lanes * depth);
#pragma GCC unroll 14
      for (std::size_t m = 0; m < Tiles; ++m) {
        auto const value = product::all(x + m * block + k);
        sum[m][0] = product::add(value, w0, sum[m][0]);
        sum[m][1] = product::add(value, w1, sum[m][1]);
      }
    }
#pragma GCC unroll 14
  for (std::size_t m = 0; m < Tiles; ++m) {
    put(y + m * y_step, sum[m][0]);
    put(y + m * y_step + lanes, sum[m][1]);
  }
}

/// run_product_tile for 1, 2, ... tiles.
template <class A, class P, std::size_t Block>
inline constexpr auto product_tiles = []<std::size_t... T>(std::index_sequence<T...>) {
  return std::array{&run_product_tile<lanes<A>, P, Block, T + 1>...};
}
(std::make_index_sequence<conv_tile<A>::pixels>{});

/// Sizes of a Winograd convolution from `in` to `out` channels.
template <class A, class P, std::size_t Tile>
struct winograd_plan {
  using W = winograd<Tile>;
  using product = products<lanes<A>, P>;
  static_assert(product::exist, "l3::simd: bf16 products need a build for a processor with AVX512_BF16");
  using value = typename product::value;
  static constexpr bool knows_packed_maps = false;
  static constexpr bool matrices = has_matrix_products<A, P>;
  using layout = winograd_points<W, value, 1, matrices ? matrix_depth : winograd_block>;
  static constexpr std::size_t run = matrices ? 2 * matrix_rows : conv_tile<A>::pixels;  ///< tiles multiplied at once
  static constexpr std::size_t outputs = conv_tile<A>::outputs;
  static constexpr std::size_t own_group_bytes = 512 << 10;    // of a group that one thread works on alone
  static constexpr std::size_t shared_group_bytes = 16 << 20;  // of a group that all threads share
  static constexpr std::size_t cached_weight_bytes = matrices ? 2 << 20 : 10 << 20;  // of weights that stay in a cache

  std::size_t in, out, height, width;

  constexpr std::size_t panels() const { return parts_of(out, outputs); }
  constexpr std::size_t blocks() const { return parts_of(in, layout::block); }
  /// Values of a panel's weights at one position: [channel / depth][output][channel % depth].
  constexpr std::size_t panel_weights() const { return blocks() * layout::block * outputs; }
  /// From a position's weights to the next's.
  constexpr std::size_t position_weights() const { return panels() * panel_weights() + position_gap<value>; }
  constexpr std::size_t weight_count() const { return W::positions * position_weights(); }
  constexpr bool shares() const { return weight_count() * sizeof(value) > cached_weight_bytes; }
  constexpr std::size_t group() const {
    std::size_t const tile = W::positions * (sizeof(value) * blocks() * layout::block + sizeof(float) * sum_step());
    return std::max<std::size_t>(1, (shares() ? shared_group_bytes : own_group_bytes) / tile / run) * run;
  }
  /// How many groups work on so many tiles: threads that work alone have smaller ones in small batches, so that every
  /// thread gets its share.
  constexpr std::size_t groups(std::size_t tiles, std::size_t threads) const {
    std::size_t const full = parts_of(tiles, group());
    if (shares() || threads == 1) return full;
    return std::max(full, std::min(4 * threads, parts_of(tiles, matrices ? run : 2 * run)));
  }
  /// Floats from a tile's sums to the next tile's, at one position.
  constexpr std::size_t sum_step() const { return panels() * outputs; }
  constexpr std::size_t sum_position() const { return group() * sum_step() + position_gap<float>; }
  constexpr layout points() const { return {in, group()}; }

  constexpr footprint weights() const { return fixed<value>(weight_count()); }
  constexpr footprint input() const { return room<value>(points().size()); }
  constexpr footprint sums() const { return room<float>(W::positions * sum_position()); }
  constexpr footprint patch() const { return per_thread<float>(patch_size<W, 1>(in)); }
  constexpr footprint scratch() const { return input() + sums() + patch(); }

 private:
  template <class T>
  constexpr footprint room(std::size_t count) const {
    return shares() ? fixed<T>(count) : per_thread<T>(count);
  }
};

/// Transforms weights, each output's times its scale unless null, to [position][panel][channel / depth][output]
/// [channel % depth], zeros where channels are missing. `turned`: for the data gradient.
template <class A, class P, std::size_t Tile>
void prepare_weights(thread_team& team, winograd_plan<A, P, Tile> const& plan, bool turned, float const* w,
                     float const* scale, typename winograd_plan<A, P, Tile>::value* to) {
  using W = winograd<Tile>;
  constexpr std::size_t outputs = conv_tile<A>::outputs, block = winograd_plan<A, P, Tile>::layout::block;
  constexpr std::size_t depth = winograd_plan<A, P, Tile>::product::depth;
  team.run(plan.panels() * plan.blocks(), [&](std::size_t task, std::size_t) {
    std::size_t const p = task / plan.blocks(), b = task % plan.blocks();
    for (std::size_t c = b * block; c < (b + 1) * block; c += depth) {
      float taps[depth][9][outputs];
      for (std::size_t term = 0; term < depth; ++term)
        copy_taps(w, plan.in, plan.out, turned, scale, c + term, p * outputs, taps[term]);
      auto* const dest = to + p * plan.panel_weights() + c * outputs;
      each_register<lanes<A>>(outputs, [&]<class T>(std::size_t o) {
        put_terms<W, T, depth>(
            [&](std::size_t term, auto const& keep) {
              taps_to_points<W, T, 3>([&](std::size_t i, std::size_t j) { return load<T>(taps[term][i * 3 + j] + o); },
                                      keep);
            },
            [&](std::size_t position) { return dest + position * plan.position_weights() + o * depth; });
      });
    }
  });
}

/// Sums of the first `tiles` tiles of a group at one position and panel.
template <class A, class P, std::size_t Tile>
void multiply_tiles(winograd_plan<A, P, Tile> const& plan, std::size_t tiles, std::size_t position, std::size_t panel,
                    typename winograd_plan<A, P, Tile>::value const* points,
                    typename winograd_plan<A, P, Tile>::value const* weights, float* sums) {
  using plan_type = winograd_plan<A, P, Tile>;
  constexpr std::size_t outputs = plan_type::outputs, block = plan_type::layout::block;
  auto const layout = plan.points();
  auto const* x = points + position * layout.position();
  auto const* const w = weights + position * plan.position_weights() + panel * plan.panel_weights();
  float* y = sums + position * plan.sum_position() + panel * outputs;
#if L3_AMX
  if constexpr (plan_type::matrices)  // the room is whole runs: what lies behind the last tile is multiplied in vain
    if (matrix_products_work())
      return multiply_matrices(x, layout.plane(), plan.blocks(), w, y, plan.sum_step(), tiles);
#endif
  // Runs differ by at most one tile: none is so small that the multipliers wait for the sums.
  std::size_t const runs = parts_of(tiles, conv_tile<A>::pixels);
  for (std::size_t k = 0; k < runs; ++k) {
    std::size_t const count = part_of(tiles, runs, k).size();
    // The next panel of weights, half at a time. (Behind the last one lies nothing that a fetch could harm.)
    auto const* const ahead = w + plan.panel_weights() + k % 2 * plan.panel_weights() / 2;
    product_tiles<A, P, block>[count - 1](x, layout.plane(), plan.blocks(), w, ahead, y, plan.sum_step());
    x += count * block;
    y += count * plan.sum_step();
  }
}

/// Outputs of tiles `tiles`, whose sums are at places [first, ...) of the group. A tile's corner is even, so its 2x2
/// windows lie inside it.
template <bool Pool, class A, class P, std::size_t Tile, class Y>
void transform_outputs(winograd_plan<A, P, Tile> const& plan, winograd_grid<winograd<Tile>> const& grid,
                       index_range tiles, std::size_t first, float const* sums, epilogue<float> const& then, Y* y) {
  using W = winograd<Tile>;
  constexpr std::size_t side = Pool ? 2 : 1;
  std::size_t const rows = grid.height / side, cols = grid.width / side;
  bool const past = passes_caches(y, grid.batch * rows * cols, plan.out);
  for (std::size_t k = tiles.begin; k < tiles.end; ++k) {
    auto const at = grid[k];
    float const* const from = sums + (first + k - tiles.begin) * plan.sum_step();
    Y* const to = y + ((at.item * rows + at.row / side) * cols + at.col / side) * plan.out;
    each_registers<lanes<A>, registers_of_line<Y>>(plan.out, [&]<class T, std::size_t K>(std::size_t first_output) {
      T outputs[Tile / side][Tile / side][K];
      for (std::size_t m = 0; m < K; ++m) {
        std::size_t const o = first_output + m * width<T>;
        if (!past && o % (64 / sizeof(Y)) == 0)  // where the next tile's outputs go
          for (std::size_t i = 0; i < at.rows / side; ++i)
            for (std::size_t j = 0; j < W::tile / side; ++j)
              prefetch<true>(to + (i * cols + j + W::tile / side) * plan.out + o);
        T const shift = then.shift != nullptr ? load<T>(then.shift + o) : T(0.0f);
        T const low(then.relu ? 0.0f : -std::numeric_limits<float>::infinity());
        auto const from_position = [&](std::size_t position) {
          return load<T>(from + position * plan.sum_position() + o);
        };
        auto const keep = [&](std::size_t i, std::size_t j, T const& sum) {
          outputs[i][j][m] = larger(low, sum + shift);
          if (m + 1 == K && i < at.rows / side && j < at.cols / side)
            put_row(to + (i * cols + j) * plan.out + first_output, outputs[i][j], past);
        };
        if constexpr (Pool) {  // the largest before shift and rectifier is the largest after them
          T sums_of[Tile][Tile];
          points_to_tile<W, T, Tile>(from_position,
                                     [&](std::size_t i, std::size_t j, T const& sum) { sums_of[i][j] = sum; });
          for (std::size_t i = 0; i < Tile; i += 2)
            for (std::size_t j = 0; j < Tile; j += 2)
              keep(i / 2, j / 2,
                   larger(larger(sums_of[i][j], sums_of[i][j + 1]), larger(sums_of[i + 1][j], sums_of[i + 1][j + 1])));
        } else {
          points_to_tile<W, T, Tile>(from_position, keep);
        }
      }
    });
  }
  settle();
}

enum class winograd_phase { inputs, products, outputs };

/// Runs a phase of a convolution and does nothing else. A benchmark times it instead.
struct unwatched {
  template <class F>
  L3_INLINE void operator()(winograd_phase, std::size_t /*slot*/, F&& phase) const {
    phase();
  }
};

/// y = epilogue(conv(x, w)). Each phase of each task runs through `watch`.
template <class A, class P, std::size_t Tile, class X, class Y, class Watch = unwatched>
void run_convolution(thread_team& team, winograd_plan<A, P, Tile> const& plan, std::size_t batch, X const* x,
                     typename winograd_plan<A, P, Tile>::value const* weights, epilogue<float> const& then, Y* y,
                     std::byte* scratch, Watch const& watch = {}) {
  using V = lanes<A>;
  using W = winograd<Tile>;
  using value = typename winograd_plan<A, P, Tile>::value;
  carver pieces(scratch, batch, team.size());
  value* const all_points = pieces.take<value>(plan.input());
  float* const all_sums = pieces.take<float>(plan.sums());
  float* const patches = pieces.take<float>(plan.patch());

  std::size_t const side = then.pool ? 2 : 1;  // no window reaches an odd last line
  winograd_grid<W> const grid{batch, plan.height, plan.width, plan.height / side * side,
                              std::min(plan.width / side * side, then.wanted_columns)};
  std::size_t const panels = plan.panels();
  std::size_t const groups = plan.groups(grid.count(), team.size());
  auto const outputs = then.pool ? transform_outputs<true, A, P, Tile, Y> : transform_outputs<false, A, P, Tile, Y>;
  if (!plan.shares()) {
    team.run(groups, [&](std::size_t task, std::size_t slot) {
      auto const tiles = part_of(grid.count(), groups, task);
      value* const points = share_of(slot, all_points, plan.input());
      float* const sums = share_of(slot, all_sums, plan.sums());
      watch(winograd_phase::inputs, slot, [&] {
        transform_tiles<V, W::reach>(grid, tiles, plan.in, x, plan.points(), 0, share_of(slot, patches, plan.patch()),
                                     points);
      });
      watch(winograd_phase::products, slot, [&] {
        [[maybe_unused]] matrix_scope<A, P> const registers;
        for (std::size_t position = 0; position < W::positions; ++position)
          for (std::size_t p = 0; p < panels; ++p)
            multiply_tiles(plan, tiles.size(), position, p, points, weights, sums);
      });
      watch(winograd_phase::outputs, slot, [&] { outputs(plan, grid, tiles, 0, sums, then, y); });
    });
    return;
  }
  constexpr std::size_t chunk = 4;  // tiles or panels of a task
  for (std::size_t g = 0; g < groups; ++g) {
    auto const tiles = part_of(grid.count(), groups, g);
    std::size_t const chunks = parts_of(tiles.size(), chunk), panel_chunks = parts_of(panels, chunk);
    team.run(chunks, [&](std::size_t task, std::size_t slot) {
      auto const mine = part_of(tiles.size(), chunks, task);
      watch(winograd_phase::inputs, slot, [&] {
        transform_tiles<V, W::reach>(grid, {tiles.begin + mine.begin, tiles.begin + mine.end}, plan.in, x,
                                     plan.points(), mine.begin, share_of(slot, patches, plan.patch()), all_points);
      });
    });
    team.run(W::positions * panel_chunks, [&](std::size_t task, std::size_t slot) {
      auto const mine = part_of(panels, panel_chunks, task % panel_chunks);
      watch(winograd_phase::products, slot, [&] {
        [[maybe_unused]] matrix_scope<A, P> const registers;
        for (std::size_t p = mine.begin; p < mine.end; ++p)
          multiply_tiles(plan, tiles.size(), task / panel_chunks, p, all_points, weights, all_sums);
      });
    });
    team.run(chunks, [&](std::size_t task, std::size_t slot) {
      auto const mine = part_of(tiles.size(), chunks, task);
      watch(winograd_phase::outputs, slot, [&] {
        outputs(plan, grid, {tiles.begin + mine.begin, tiles.begin + mine.end}, mine.begin, all_sums, then, y);
      });
    });
  }
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
