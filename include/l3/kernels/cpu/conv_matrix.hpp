/// @file  include/l3/kernels/cpu/conv_matrix.hpp: direct convolution with bf16 products in matrix registers.
///
/// Input lies as a packed map: left so by the layer before, or copied strip by strip. In it 16 pixels that follow one
/// another are a matrix register wherever they begin, a tap is an offset, and a map's rows form one run without edges:
/// sums of the border are formed in vain at the end of each row. 16 pixels of a row, the 16 below them, and 32 outputs
/// take all eight registers; a sum is formed in one of them, channel block by block and tap by tap, whatever the strip
/// and the thread, and a tile holds whole 2x2 windows.
///
/// What else there is to do needs no matrix registers: sums to outputs, the next strip's input, the next weights. Each
/// thread does it in small pieces between the steps of the products, whose unit works on meanwhile.
///
/// A network's first layer has so few channels that all nine taps fit into one row of a register. There, what is copied
/// is each pixel's whole neighbourhood, and one step is all of a sum.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/amx.hpp>
#include <l3/kernels/cpu/conv_strip.hpp>
#include <l3/kernels/cpu/packed_map.hpp>
#include <l3/kernels/dims.hpp>
#include <limits>
#include <type_traits>
#include <utility>

namespace l3::inline L3_ISA {
namespace detail {

/// Columns of a strip at most.
inline constexpr std::size_t matrix_strip_cols = 64;
/// Room for three rows of a strip's input of 3 channels.
inline constexpr std::size_t row_room = 3 * round_up(3 * (matrix_strip_cols + 2), matrix_depth);

/// Whether all factors of a sum from `in` channels fit into a row of a register.
constexpr bool is_one_step(std::size_t in) { return 9 * in <= matrix_depth; }

/// Rows of each picture of a strip, with its border, in whole pairs.
constexpr std::size_t padded_rows(strip_size const& s) { return round_up(s.rows + 2, 2); }

/// Sizes of a convolution in matrix registers from `in` to `out` channels, tap by tap; or with `Side` 1 of one step.
template <class A, std::size_t Side = 3>
struct matrix_plan {
  using value = bfloat16;
  static constexpr bool knows_packed_maps = true;
  static constexpr std::size_t taps = Side * Side;  ///< steps of a channel block
  static constexpr std::size_t outputs = 2 * matrix_rows;
  static constexpr std::size_t strip_bytes = 512 << 10;  // of the second cache, which holds two strips and the weights
  static constexpr std::size_t strip_pixels = 1024;
  static constexpr std::size_t tile_sums = 2 * matrix_rows * outputs;

  std::size_t in, out, height, width;

  constexpr std::size_t blocks() const { return parts_of(in, matrix_depth); }
  constexpr std::size_t panels() const { return parts_of(out, outputs); }
  /// Of a panel: [channel block][tap][half of the outputs][pair of channels][output][channel of the pair], or, of one
  /// step, [half of the outputs][pair of factors][output][factor of the pair], with factors [tap][channel].
  constexpr std::size_t panel_weights() const { return blocks() * taps * matrix_depth * outputs; }
  /// The largest strip that is copied. Rows and columns are even where pictures are cut.
  constexpr strip_size strip() const {
    std::size_t const most = strip_bytes / sizeof(value) / (blocks() * matrix_depth);
    strip_size s = plan_strip(height, width, matrix_strip_cols, strip_pixels, most);
    if (s.cols < width) s.cols += s.cols % 2;
    if (s.rows < height) s.rows = std::max<std::size_t>(s.rows / 2 * 2, 2);
    return s;
  }
  /// A strip as a packed map: pictures below each other, each with its border.
  static constexpr packed_map stacked(strip_size const& s, std::size_t channels) {
    return {s.items * padded_rows(s) - 2, s.cols, channels};
  }
  /// Strips for a number of threads: of those no larger than strip(), or of whole rows of one picture where x is
  /// packed, the ones that are done first. No sum changes by that.
  constexpr strip_grid strips(std::size_t batch, std::size_t wanted_width, bool packed, std::size_t threads) const {
    strip_grid grid{batch, height, wanted_width, strip()};
    if (packed) grid.size = {1, std::max<std::size_t>(strip_pixels / width / 2 * 2, 2), width}, grid.width = width;
    if (grid.size.items > 1 && batch != 0) {  // whole pictures
      std::size_t const count = round_up(parts_of(batch, grid.size.items), threads);
      grid.size.items = std::max<std::size_t>(1, parts_of(batch, count));
      if (batch >= threads) return grid;
    }
    std::size_t least = std::numeric_limits<std::size_t>::max(), best = 0;
    std::size_t const fewest = parts_of(height, grid.size.rows);
    std::size_t const most = std::max(fewest, std::min(parts_of(height, 2), 8 * threads));
    for (std::size_t down = fewest; down <= most; ++down) {
      std::size_t const rows = round_up(parts_of(height, down), 2);
      std::size_t const count = batch * grid.across() * parts_of(height, rows);
      // A strip costs about a row more than it has.
      std::size_t const time = parts_of(count, threads) * (rows + 1);
      if (time < least) least = time, best = rows;
    }
    grid.size.rows = std::min(best, height);
    return grid;
  }

  constexpr footprint weights() const { return fixed<value>(panels() * panel_weights()); }
  constexpr std::size_t strip_room() const { return stacked(strip(), in).size() + (Side == 1 ? row_room : 0); }
  /// Two strips: one is worked on while the other is made.
  constexpr footprint input() const { return per_thread<value>(2 * strip_room()); }
  /// Sums of two tiles, and a register.
  static constexpr footprint sums() { return per_thread<float>(2 * tile_sums + matrix_rows * matrix_rows); }
  constexpr footprint shift() const { return fixed<float>(panels() * outputs); }
  constexpr footprint scratch() const { return input() + sums() + shift(); }
};

/// Packs weights, each output's times its scale unless null; zeros where channels are missing. `turned`: for the data
/// gradient.
template <class A, std::size_t Side>
void prepare_weights(thread_team& team, matrix_plan<A, Side> const& plan, bool turned, float const* w,
                     float const* scale, bfloat16* to) {
  std::size_t const blocks = plan.blocks();
  team.run(plan.panels() * blocks, [&](std::size_t task, std::size_t) {
    std::size_t const p = task / blocks, b = task % blocks;
    constexpr std::size_t outputs = matrix_plan<A>::outputs;
    // Factors k and k + 1 of a step, to all outputs.
    auto const put_factors = [&](std::size_t step, std::size_t k, float const* first, float const* second) {
      for (std::size_t o = 0; o < outputs; o += width<lanes<A>>)
        put_pairs(to + (task * plan.taps + step) * matrix_depth * outputs +
                      o / matrix_rows * matrix_rows * matrix_depth + (k / 2 * matrix_rows + o % matrix_rows) * 2,
                  load<lanes<A>>(first + o), load<lanes<A>>(second + o));
    };
    auto const copy = [&](std::size_t channel, float(&taps)[9][outputs]) {
      copy_taps(w, plan.in, plan.out, turned, scale, channel, p * outputs, taps);
    };
    if constexpr (Side == 1) {
      float factors[matrix_depth][outputs] = {};
      for (std::size_t c = 0; c < plan.in; ++c) {
        float taps[9][outputs];
        copy(c, taps);
        for (std::size_t tap = 0; tap < 9; ++tap) std::copy_n(taps[tap], outputs, factors[tap * plan.in + c]);
      }
      for (std::size_t k = 0; k < matrix_depth; k += 2) put_factors(0, k, factors[k], factors[k + 1]);
    } else {
      for (std::size_t c = 0; c < matrix_depth; c += 2) {
        float taps[2][9][outputs];
        for (std::size_t term = 0; term < 2; ++term) copy(b * matrix_depth + c + term, taps[term]);
        for (std::size_t tap = 0; tap < 9; ++tap) put_factors(tap, c, taps[0][tap], taps[1][tap]);
      }
    }
  });
}

/// A strip's input on its way to a packed map. A step copies up to 16 pixels of a row and 32 channels.
template <class V>
class strip_copy {
 public:
  strip_copy() = default;
  /// `x` is the whole batch of pictures, `height` x `width`; `map` is where they are stacked.
  strip_copy(strip_grid::place const& at, packed_map const& map, std::size_t height, std::size_t width, float const* x,
             bfloat16* to)
      : at_(at), map_(map), height_(height), width_(width), x_(x), to_(to) {
    left_ = 2 * (map_.pairs() + 1) * parts_of(map_.across(), segment) * map_.blocks();
  }
  std::size_t left() const { return left_; }
  L3_INLINE void step() {
    std::size_t const end = std::min(col_ + segment, map_.across());
    // Pixels of the segment inside the picture: [first, last).
    bool const exists = at_.row + row_ >= 1 && at_.row + row_ <= height_;
    std::size_t const last = exists ? std::clamp(width_ + 1 - at_.col, col_, end) : col_;
    std::size_t const first = std::min(at_.col + col_ == 0 ? col_ + 1 : col_, last);
    std::size_t const channels = map_.channels;
    bfloat16* const row = to_ + channel_ / matrix_depth * map_.plane() + map_.at(stacked_, 0);
    std::fill(row + col_ * matrix_depth, row + first * matrix_depth, bfloat16{});
    std::fill(row + last * matrix_depth, row + end * matrix_depth, bfloat16{});
    if (first != last) {
      float const* from =
          x_ + (((at_.item + item_) * height_ + at_.row + row_ - 1) * width_ + at_.col + first - 1) * channels +
          channel_;
      bfloat16* to = row + first * matrix_depth;
      if (channel_ + matrix_depth <= channels)
        for (std::size_t k = first; k < last; ++k, from += channels, to += matrix_depth)
          for (std::size_t c = 0; c < matrix_depth; c += 2 * width<V>)
            put_both(to + c, load<V>(from + c), load<V>(from + c + width<V>));
      else
        for (std::size_t k = first; k < last; ++k, from += channels, to += matrix_depth)
          for (std::size_t c = 0; c < matrix_depth; ++c)
            to[c] = channel_ + c < channels ? rounded(from[c]) : bfloat16{};
    }
    --left_;
    if ((col_ = end) < map_.across()) return;
    col_ = 0;
    if ((channel_ += matrix_depth) < channels) return;
    channel_ = 0;
    ++stacked_;
    if (++row_ == padded_rows(at_.size)) row_ = 0, ++item_;
  }

 private:
  static constexpr std::size_t segment = 16;
  strip_grid::place at_{};
  packed_map map_{};
  std::size_t height_ = 0, width_ = 0;
  float const* x_ = nullptr;
  bfloat16* to_ = nullptr;
  std::size_t left_ = 0, stacked_ = 0, item_ = 0, row_ = 0, channel_ = 0, col_ = 0;
};

/// The same for one step: to each pixel its neighbourhood, [tap][channel], and zeros up to 32. A step does up to 16
/// pixels of a row. The map's last columns, and the last rows of each picture, are not written: sums that nobody wants
/// are made of them.
template <class V>
class patch_copy {
 public:
  patch_copy() = default;
  /// Uses `row_room` values behind the map.
  patch_copy(strip_grid::place const& at, packed_map const& map, std::size_t height, std::size_t width, float const* x,
             bfloat16* to)
      : at_(at), map_(map), height_(height), width_(width), x_(x), to_(to), rows_(to + map.size()) {
    left_ = at_.size.items * at_.size.rows * parts_of(at_.size.cols, segment);
  }
  std::size_t left() const { return left_; }
  L3_INLINE void step() {
    std::size_t const channels = map_.channels;
    // Rows are rounded well before they are read, but for the first ones.
    if (col_ == 0)
      for (std::size_t r = row_ == 0 ? 0 : 2; r < 3; ++r) round_row(row_ + r);
    bfloat16* const to = to_ + map_.at(item_ * padded_rows(at_.size) + row_, col_);
    channels == 1 ? write<1>(to) : channels == 2 ? write<2>(to) : write<3>(to);
    --left_;
    if ((col_ += segment) < at_.size.cols) return;
    col_ = 0;
    if (++row_ == at_.size.rows) row_ = 0, ++item_;
  }

 private:
  static constexpr std::size_t segment = 16, row_values = row_room / 3;

  /// Row `row` of the strip's input, counted with the border.
  L3_INLINE void round_row(std::size_t row) const {
    std::size_t const channels = map_.channels, line = at_.row + row;
    std::size_t const first = at_.col == 0 ? channels : 0, end = (at_.size.cols + 2) * channels;
    std::size_t const last = line >= 1 && line <= height_ ? std::min(end, (width_ + 1 - at_.col) * channels) : first;
    bfloat16* to = rows_ + row % 3 * row_values;
    std::fill(to, to + first, bfloat16{});
    std::fill(to + last, to + end, bfloat16{});
    if (last == first) return;
    std::size_t const count = last - first;
    float const* const from =
        x_ + (((at_.item + item_) * height_ + line - 1) * width_ + at_.col) * channels + first - channels;
    to += first;
    constexpr std::size_t both = 2 * width<V>;
    if (count < both)
      for (std::size_t k = 0; k < count; ++k) to[k] = rounded(from[k]);
    else  // the last ones may overlap
      for (std::size_t k = 0; k < count; k += both) {
        std::size_t const here = std::min(k, count - both);
        put_both(to + here, load<V>(from + here), load<V>(from + here + width<V>));
      }
  }
  template <std::size_t Channels>
  L3_INLINE void write(bfloat16* to) const {
    bfloat16 const* rows[3];
    for (std::size_t r = 0; r < 3; ++r) rows[r] = rows_ + (row_ + r) % 3 * row_values + col_ * Channels;
    std::size_t const pixels = std::min(segment, at_.size.cols - col_);
    for (std::size_t k = 0; k < pixels; ++k, to += matrix_depth) {
#pragma GCC unroll 3
      for (std::size_t r = 0; r < 3; ++r)
        std::memcpy(to + r * 3 * Channels, rows[r] + k * Channels, 3 * Channels * sizeof(bfloat16));
      std::fill_n(to + 9 * Channels, matrix_depth - 9 * Channels, bfloat16{});
    }
  }

  strip_grid::place at_{};
  packed_map map_{};
  std::size_t height_ = 0, width_ = 0;
  float const* x_ = nullptr;
  bfloat16 *to_ = nullptr, *rows_ = nullptr;
  std::size_t left_ = 0, item_ = 0, row_ = 0, col_ = 0;
};

/// Where a convolution's results go: to floats, channels innermost, or to the packed maps of the batch, one for each
/// item, for the next convolution.
struct matrix_output {
  packed_map map;  ///< sizes after pooling
  bool pool, packed;
  float low;           ///< 0 to rectify, or -infinity
  bool past;           ///< floats go past the caches
  float const* shift;  ///< of whole panels
  float* y;
};

/// A tile's sums on their way to outputs. A step writes the pixels of up to 8 columns.
template <class V>
class tile_output {
 public:
  tile_output() = default;
  /// Tile `first` of a strip of `cols` columns, panel `panel`.
  tile_output(matrix_output const& to, strip_grid::place const& at, std::size_t across, std::size_t first,
              std::size_t panel, float const* sums)
      : to_(&to), at_(at), across_(across), next_(first), end_(first + matrix_rows), panel_(panel), sums_(sums) {}
  std::size_t left() const { return (end_ - next_) / segment; }
  L3_INLINE void step() {
    std::size_t const end = next_ + segment;
    while (next_ < end) {
      std::size_t const line = next_ / across_, col = next_ % across_, stop = std::min(end, (line + 1) * across_);
      std::size_t const lines = padded_rows(at_.size) / 2;  // of a picture, in pairs of rows, with its border
      std::size_t const place = line / lines, item = at_.item + place, pair = line % lines;
      std::size_t const cols = std::min(stop - next_, std::max(col, at_.size.cols) - col);
      std::size_t const below_it = at_.size.rows - std::min(at_.size.rows, 2 * pair);
      std::size_t const rows = place < at_.size.items ? std::min<std::size_t>(2, below_it) : 0;
      if (to_->pool) {
        if (rows == 2) write<true>(item, 1, at_.row / 2 + pair, (at_.col + col) / 2, cols / 2);
      } else {
        write<false>(item, rows, at_.row + 2 * pair, at_.col + col, cols);
      }
      sums_ += (stop - next_) * outputs;
      next_ = stop;
    }
  }

 private:
  static constexpr std::size_t segment = 8, outputs = 2 * matrix_rows, below = matrix_rows * outputs;

  template <bool Pool, class T>
  static L3_INLINE T result(float const* sum, T const& shift, T const& low) {
    T v = load<T>(sum);
    if constexpr (Pool)
      v = larger(larger(v, load<T>(sum + outputs)), larger(load<T>(sum + below), load<T>(sum + below + outputs)));
    return larger(low, v + shift);
  }
  template <bool Pool>
  L3_INLINE void write(std::size_t item, std::size_t rows, std::size_t row, std::size_t col, std::size_t cols) const {
    constexpr std::size_t step = (Pool ? 2 : 1) * outputs;
    packed_map const& map = to_->map;
    std::size_t const first = panel_ * outputs, channels = map.channels;
    float const* const shift = to_->shift + first;
    for (std::size_t r = 0; r < rows; ++r) {
      float const* const sums = sums_ + r * below;
      if (to_->packed) {
        bfloat16* const to = reinterpret_cast<bfloat16*>(to_->y) + item * map.size() + panel_ * map.plane() +
                             map.at(row + r + 1, col + 1);
        for (std::size_t h = 0; h < outputs; h += 2 * width<V>) {
          V const low(to_->low), s0 = load<V>(shift + h), s1 = load<V>(shift + h + width<V>);
          for (std::size_t k = 0; k < cols; ++k)
            put_both(to + k * matrix_depth + h, result<Pool>(sums + k * step + h, s0, low),
                     result<Pool>(sums + k * step + h + width<V>, s1, low));
        }
      } else {
        float* const to = to_->y + ((item * map.height + row + r) * map.width + col) * channels + first;
        each_register<V>(std::min(outputs, channels - first), [&]<class T>(std::size_t o) {
          T const low(to_->low), s = load<T>(shift + o);
          for (std::size_t k = 0; k < cols; ++k)
            put(to + k * channels + o, result<Pool>(sums + k * step + o, s, low), to_->past);
        });
      }
    }
  }

  matrix_output const* to_ = nullptr;
  strip_grid::place at_{};
  std::size_t across_ = 1, next_ = 0, end_ = 0, panel_ = 0;
  float const* sums_ = nullptr;
};

/// Does all steps of a chore.
template <class Chore>
void finish(Chore& chore) {
  while (chore.left() != 0) chore.step();
}
/// Does a chore's steps evenly over a number of calls.
template <class Chore>
class paced {
 public:
  paced(Chore& chore, std::size_t calls) : chore_(chore), steps_(chore.left()), calls_(calls) {}
  L3_INLINE void operator()() {
    for (debt_ += steps_; debt_ >= calls_; debt_ -= calls_)
      if (chore_.left() != 0) chore_.step();
  }

 private:
  Chore& chore_;
  std::size_t steps_, calls_, debt_ = 0;
};

/// Fetches a panel's weights to the second cache, 8 lines a step.
class weight_fetch {
 public:
  weight_fetch(bfloat16 const* weights, std::size_t count) : next_(weights), left_(count / step_values) {}
  std::size_t left() const { return left_; }
  L3_INLINE void step() {
    constexpr std::size_t line = alignment / sizeof(bfloat16);
    for (std::size_t k = 0; k < step_values; k += line) prefetch(next_ + k);
    next_ += step_values;
    --left_;
  }

 private:
  static constexpr std::size_t step_values = 8 * alignment / sizeof(bfloat16);
  bfloat16 const* next_;
  std::size_t left_;
};

#if L3_AMX
/// Sums of 16 pixels, the 16 below them, and 32 outputs. Calls `between` Side times a channel block.
///
/// Shapes  x a packed map from the first pixel on; sums [row][pixel][output]; idle: room for a register.
template <std::size_t Side, class Between>
L3_INLINE void run_matrix_tile(bfloat16 const* x, packed_map const& map, bfloat16 const* w, float* sums, float* idle,
                               Between&& between) {
  constexpr std::size_t line = 64, half = matrix_rows * matrix_depth, outputs = 2 * matrix_rows;
  std::size_t const blocks = map.blocks(), plane = map.plane(), odd = map.odd(), row = map.row();
  memory_is_read();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::size_t b = 0; b < blocks; ++b, x += plane, w += 2 * Side * Side * half) {
    // In long sums no register is stored for some two thousand cycles, and the first store after so many takes a
    // thousand, as if what stores had been switched off.
    if (b % 2 == 1) _tile_stored(7, idle, line);
    bfloat16 const* const rows[4] = {x, x + odd, x + row, x + odd + row};
    auto const add = [&]<std::size_t Tap>() {
      constexpr std::size_t r = Tap / Side, c = Tap % Side;
      _tile_loadd(4, rows[r] + c * matrix_depth, line);
      _tile_loadd(6, w + 2 * Tap * half, line);
      _tile_loadd(7, w + (2 * Tap + 1) * half, line);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, rows[r + 1] + c * matrix_depth, line);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      if constexpr (c + 1 == Side) between();
    };
    [&]<std::size_t... Tap>(std::index_sequence<Tap...>) { (add.template operator()<Tap>(), ...); }
    (std::make_index_sequence<Side * Side>{});
  }
  float* const below = sums + matrix_rows * outputs;
  _tile_stored(0, sums, 2 * line);
  _tile_stored(1, sums + matrix_rows, 2 * line);
  _tile_stored(2, below, 2 * line);
  _tile_stored(3, below + matrix_rows, 2 * line);
}
#endif
/// The same without matrix registers.
template <class V, std::size_t Side, class Between>
void run_lane_tile(bfloat16 const* x, packed_map const& map, bfloat16 const* w, float* sums, Between&& between) {
  using product = products<V, bf16>;
  constexpr std::size_t pixels = 8, lanes = width<V>, outputs = 2 * matrix_rows, half = matrix_rows * matrix_depth;
  std::size_t const rows[4] = {0, map.odd(), map.row(), map.odd() + map.row()};
  for (std::size_t k = 0; k < 2 * matrix_rows; k += pixels)
    for (std::size_t h = 0; h < outputs; h += lanes) {
      V sum[pixels];
      for (V& one : sum) one = V(0.0f);
      bfloat16 const* from = x + k % matrix_rows * matrix_depth;
      bfloat16 const* weights = w + h / matrix_rows * half + h % matrix_rows * product::depth;
      for (std::size_t b = 0; b < map.blocks(); ++b, from += map.plane())
        for (std::size_t tap = 0; tap < Side * Side; ++tap, weights += 2 * half)
          for (std::size_t c = 0; c < matrix_depth; c += product::depth) {
            auto const factors = product::load(weights + c * matrix_rows);
            bfloat16 const* const pixel = from + rows[tap / Side + k / matrix_rows] + tap % Side * matrix_depth + c;
            for (std::size_t m = 0; m < pixels; ++m)
              sum[m] = product::add(product::all(pixel + m * matrix_depth), factors, sum[m]);
          }
      for (std::size_t m = 0; m < pixels; ++m) put(sums + (k + m) * outputs + h, sum[m]);
    }
  for (std::size_t call = 0; call < Side * map.blocks(); ++call) between();
}

/// y = epilogue(conv(x, w)); x (but of one step) and y are packed maps, one for each item, where `how` says so.
template <class A, std::size_t Side>
void run_convolution(thread_team& team, matrix_plan<A, Side> const& plan, std::size_t batch, float const* x,
                     bfloat16 const* weights, epilogue<float> const& then, float* y, std::byte* scratch,
                     packing how = {}) {
  using V = lanes<A>;
  using input_copy = std::conditional_t<Side == 1, patch_copy<V>, strip_copy<V>>;
  carver pieces(scratch, batch, team.size());
  bfloat16* const inputs = pieces.take<bfloat16>(plan.input());
  float* const all_sums = pieces.take<float>(plan.sums());
  float* const shift = pieces.take<float>(plan.shift());
  std::size_t const side = then.pool ? 2 : 1;  // no window reaches an odd last line
  std::size_t const height = plan.height / side, width = plan.width / side, panels = plan.panels();
  std::fill_n(shift, panels * plan.outputs, 0.0f);
  if (then.shift != nullptr) std::copy_n(then.shift, plan.out, shift);
  matrix_output const to{{height, width, plan.out},
                         then.pool,
                         how.y,
                         then.relu ? 0.0f : -std::numeric_limits<float>::infinity(),
                         !how.y && passes_caches(y, batch * height * width, plan.out),
                         shift,
                         y};
  if (how.y) clear_borders(team, batch, to.map, reinterpret_cast<bfloat16*>(y));

  strip_grid const grid = plan.strips(batch, std::min(width * side, then.wanted_columns), how.x, team.size());
  // A task makes the input of its next strip while it works on one: few tasks where there are few strips.
  std::size_t const threads = team.size();
  std::size_t const tasks = std::min((grid.count() < 8 * threads ? 1 : 4) * threads, grid.count());
  team.run(tasks, [&](std::size_t task, std::size_t slot) {
    auto const own = part_of(grid.count(), tasks, task);
    bfloat16* const room = share_of(slot, inputs, plan.input());
    bfloat16* const strips[2] = {room, room + plan.strip_room()};
    float* const sums = share_of(slot, all_sums, plan.sums());
    [[maybe_unused]] float* const idle = sums + 2 * plan.tile_sums;
    [[maybe_unused]] matrix_scope<A, bf16> const registers;

    auto const copy_of = [&](std::size_t strip, std::size_t which) {
      if (strip >= own.end || how.x) return input_copy();
      return input_copy(grid[strip], matrix_plan<A>::stacked(grid[strip].size, plan.in), plan.height, plan.width, x,
                        strips[which]);
    };
    std::size_t turn = 0, filled = 0;
    input_copy copy = copy_of(own.begin, turn);
    finish(copy);
    tile_output<V> output;  // of the tile before
    for (std::size_t strip = own.begin; strip < own.end; ++strip, turn ^= 1) {
      auto const at = grid[strip];
      copy = copy_of(strip + 1, turn ^ 1);
      packed_map map = matrix_plan<A>::stacked(at.size, plan.in);
      bfloat16 const* from = strips[turn];
      if (how.x) {
        map = {plan.height, plan.width, plan.in};
        from = reinterpret_cast<bfloat16 const*>(x) + at.item * map.size() + map.at(at.row, 0);
      }
      std::size_t const tiles =
          parts_of((at.size.items * padded_rows(at.size) / 2 - 1) * map.across() - 2, matrix_rows);
      std::size_t const calls = Side * map.blocks();  // of `between`, for a tile
      paced copies(copy, panels * tiles * calls);
      for (std::size_t p = 0; p < panels; ++p) {
        bfloat16 const* const w = weights + p * plan.panel_weights();
        weight_fetch fetch(p + 1 < panels ? w + plan.panel_weights() : weights, plan.panel_weights());
        paced fetches(fetch, tiles * calls);
        for (std::size_t k = 0; k < tiles; ++k, filled ^= 1) {
          float* const tile = sums + filled * plan.tile_sums;
          // The first calls come before the sums of the tile before are there: who reads them then waits.
          std::size_t const early = std::min<std::size_t>(3, calls - 1);
          std::size_t call = 0;
          paced outputs(output, calls - early);
          auto const between = [&] {
            if (++call > early) outputs();
            copies();
            fetches();
          };
          bfloat16 const* const first = from + k * matrix_rows * matrix_depth;
#if L3_AMX
          if (matrix_products_work())
            run_matrix_tile<Side>(first, map, w, tile, idle, between);
          else
#endif
            run_lane_tile<V, Side>(first, map, w, tile, between);
          finish(output);
          output = tile_output<V>(to, at, map.across(), k * matrix_rows, p, tile);
        }
      }
      finish(copy);
    }
    finish(output);
    settle();
  });
}

}  // namespace detail
}  // namespace l3::inline L3_ISA
