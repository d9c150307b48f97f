/// @file  include/l3/model/sliding.hpp: sounds that overlap: what neighbouring seconds share is computed once.
///
/// Far from a window's ends a convolution's map holds the same numbers in every window over the same sound: only near
/// its ends does a window see its own border of zeros. So each convolution runs once over the whole spectrogram, and
/// once more over the two *edges* of each window, narrow pictures of the columns that differ. A 2x2 pool pairs columns
/// from where its window begins: where some windows begin at odd columns, it makes two maps of each, one from column 0
/// and one from column 1. Those are the *phases*.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <l3/core/tensor.hpp>
#include <l3/kernels/kernels.hpp>
#include <l3/model/network.hpp>
#include <numeric>
#include <string>
#include <utility>

namespace l3::inline L3_ISA {

namespace detail {

/// One convolution, and the 2x2 pool that may follow it, at the ends of windows of `width` columns.
struct edge_step {
  struct sides {
    std::size_t left, right;
  };
  std::size_t width;
  bool pools;
  sides own;      ///< so many columns at a window's left and right are its own where they arrive
  sides leaves;   ///< and where they leave
  sides picture;  ///< widths of the pictures that these are computed from
  sides result;   ///< widths of what comes of them: the left one's own columns are its first, the right one's its last

  constexpr edge_step(std::size_t window, sides arrives, bool halves)
      : width(window), pools(halves), own(arrives), leaves{own.left + 1, own.right + 1}, picture{}, result{} {
    // Each picture has a column or two more inwards, whose own results are wrong for want of a neighbour.
    if (!pools) {
      picture = result = {leaves.left + 1, leaves.right + 1};
    } else {  // both begin at an even column of the window
      leaves = {(leaves.left + 1) / 2, width / 2 - (width - std::min(width, leaves.right)) / 2};
      picture = {2 * leaves.left + 1, 2 * leaves.right + 2 + width % 2};
      result = {picture.left / 2, picture.right / 2};
    }
  }
  constexpr std::size_t out_width() const { return pools ? width / 2 : width; }
  /// Something is left to share between the edges.
  constexpr bool fits() const {
    return picture.left + own.right <= width && picture.right + own.left <= width &&
           leaves.left + leaves.right < out_width();
  }
};

template <class>
inline constexpr bool is_conv_norm_node = false;
template <class C, class N, bool R, class P>
inline constexpr bool is_conv_norm_node<conv_norm_node<C, N, R, P>> = true;

inline constexpr pool halving{{2, 2}, {2, 2}};

/// Of each node of a chain. The last node's pool, which may be over the whole picture, is not looked at.
template <class Chain>
inline constexpr auto edge_steps = []<std::size_t... I>(std::index_sequence<I...>) {
  static_assert((is_conv_norm_node<typename Chain::template layer_at<I>> && ...),
                "l3::sliding_sounds: every node must be a convolution with batch norm");
  static_assert(((Chain::template layer_at<I>::pooling == halving || Chain::template layer_at<I>::whole ||
                  I + 1 == Chain::length) &&
                 ...),
                "l3::sliding_sounds: every pool but the last must be of 2x2");
  edge_step::sides own{0, 0};
  auto const next = [&own](std::size_t width, bool pools) {
    edge_step const step(width, own, pools);
    own = step.leaves;
    return step;
  };
  return std::array{next(Chain::template layer_at<I>::input::width,
                         I + 1 < Chain::length && Chain::template layer_at<I>::pooling == halving)...};
}
(std::make_index_sequence<Chain::length>{});

}  // namespace detail

/// The audio subnetwork on windows of one long sound that begin `hop` columns of its spectrogram apart. All memory is
/// taken at construction. The weights are those of an `inference`, which must live as long.
///
/// Convolutions share while that saves work; the deepest ones, whose maps are narrow, may be left to each window alone.
///
/// The results are those of `inference::embed_sounds` and `map_sounds` to rounding (with bf16 products to theirs, some
/// per cent of the largest), and do not depend on the number of threads. Values that are not finite reach neighbouring
/// windows too. On a GPU everything lies in its memory, and calls put their work into the context's stream.
///
/// Shapes  spectrogram (F, columns(windows), 1), features (windows, Network::embedding), maps (windows,
///         inference::audio_map::output).
/// Threads  one at a time.
/// Errors  shape_error: a hop of zero, no windows or more than there is room for.
template <class Network>
class sliding_sounds {
  using audio = typename Network::audio;
  static constexpr std::size_t length = audio::length;
  static constexpr auto steps = detail::edge_steps<audio>;

 public:
  using user = inference<Network>;
  using B = typename user::B;
  using value = value_of<B>;
  using audio_map = typename user::audio_map;

  /// FLOPs of a window among many that are `hop` columns apart, as a part of those of a window alone: at 1 there is
  /// nothing to gain.
  static constexpr double cost(std::size_t hop) { return plan(hop).cost; }

  /// Room for up to `windows` at a time. Sharing works among those: many are better than few.
  sliding_sounds(context<B>& on, user const& net, std::size_t hop, std::size_t windows)
      : on_(on), net_(net), hop_(hop), windows_(windows), shared_(plan(hop).shared) {
    if (hop == 0) throw shape_error({"sliding_sounds", "a hop of at least one column", "0"});
    if (windows == 0) throw shape_error({"sliding_sounds", "at least one window", "0"});
    walk(windows, [&]<std::size_t I>(level const& at) {
      using node = typename audio::template layer_at<I>;
      using out = typename node::conv_output;
      constexpr std::size_t column = std::max(node::input::height * node::input::channels, out::height * out::channels);
      map_[I % 2] = either(map_[I % 2], fixed<value>(at.phases * at.columns * out::height * out::channels /
                                                     (at.pools ? at.splits ? 2 : 4 : 1)));
      edge_ = either(edge_, fixed<value>(windows * std::max(at.picture.left, at.picture.right) * column));
      // The pool of a second phase reads one pixel past the end.
      if (at.splits)
        unpooled_ = either(unpooled_, fixed<value>((at.phases * out::height * at.columns + 1) * out::channels));
    });
    // Of fewer windows too: narrower maps are cut otherwise, and may need more.
    for (std::size_t count = 1; count <= windows; ++count)
      walk(count, [&]<std::size_t I>(level const& at) {
        using node = typename audio::template layer_at<I>;
        auto const region = [&](std::size_t items, std::size_t width, bool pools) {
          auto const size = node::template region_scratch<B>({node::input::height, width}, windows_of(pools));
          scratch_ = either(scratch_, {.fixed = size.bytes(items, on.threads())});
        };
        region(count, at.picture.left, at.pools);
        region(count, at.picture.right, at.pools);
        region(at.phases, at.columns, at.pools && !at.splits);
      });
    alone_ = per_item<value>(audio_map::output::size);
    each([&]<std::size_t I>() {
      using node = typename audio::template layer_at<I>;
      if (I < shared_) return;
      alone_ = either(alone_, either(per_item<value>(node::input::size), audio::template packed_into<B, I>));
      scratch_ = either(scratch_, {.fixed = node::template infer_scratch<B>.bytes(slice, on.threads())});
    });
    memory_ = memory_on<B>((map_[0] + map_[1] + unpooled_ + edge_ + edge_ + edge_ + alone_ + alone_ + scratch_)
                               .bytes(slice, on.threads()));
  }

  /// Columns of the spectrogram that hold so many windows.
  std::size_t columns(std::size_t windows) const { return (windows - 1) * hop_ + audio::input::width; }
  /// Throws shape_error if there is no room for so many windows, or there are none.
  void require_room(std::size_t windows) const {
    if (windows == 0 || windows > windows_)
      throw shape_error({"sliding_sounds", "1 to " + std::to_string(windows_) + " windows", std::to_string(windows)});
  }

  /// "pool4" of windows.
  void embed(value const* spectrogram, batch_view<value, typename Network::embedding> out) {
    run<audio>(spectrogram, out.count, out.data);
  }
  /// The last convolution's map of windows, after batch norm and before ReLU.
  void map(value const* spectrogram, batch_view<value, typename audio_map::output> out) {
    run<audio_map>(spectrogram, out.count, out.data);
  }

 private:
  static constexpr std::size_t slice = 16;  ///< windows that go on alone at a time

  /// How many nodes share, and what a window then costs.
  struct choice {
    std::size_t shared = 0;
    double cost = 1;
  };
  static constexpr choice plan(std::size_t hop) {
    choice best;
    double cost = 1;
    std::size_t stride = 1;
    bool fits = true;
    each([&]<std::size_t I>() {
      detail::edge_step const& step = steps[I];
      if (!(fits = fits && step.fits())) return;
      std::size_t const fresh = hop / std::gcd(hop, stride);  // columns, of all phases together, that are new
      double const part =
          static_cast<double>(fresh + step.picture.left + step.picture.right) / static_cast<double>(step.width);
      cost += (part - 1) * audio::template layer_at<I>::flops / audio::flops;
      if (cost < best.cost) best = {I + 1, cost};
      if (step.pools) stride *= 2;
    });
    return best;
  }

  /// The step of one node, and what the spectrogram has become where it begins.
  struct level : detail::edge_step {
    std::size_t phases, columns;
    bool splits;  ///< its pool makes two phases of each
  };

  /// f.operator()<I>() for all nodes.
  template <class F>
  static constexpr void each(F&& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (f.template operator()<I>(), ...); }
    (std::make_index_sequence<length>{});
  }
  static constexpr pool windows_of(bool pools) { return pools ? detail::halving : pool{{1, 1}}; }

  /// f.operator()<I>(level) for the nodes that share.
  template <class F>
  void walk(std::size_t windows, F&& f) const {
    std::size_t phases = 1, stride = 1, wide = columns(windows);
    each([&]<std::size_t I>() {
      if (I >= shared_) return;
      bool const splits = steps[I].pools && hop_ % (2 * stride) != 0;
      f.template operator()<I>(level{steps[I], phases, wide, splits});
      if (!steps[I].pools) return;
      stride *= 2, wide /= 2;
      if (splits) phases *= 2;
    });
  }

  /// Columns [from_column, + n) of `count` pictures to columns [to_column, + n) of others.
  template <image_shape Shape>
  void copy(std::size_t count, value const* x, picture_places const& from, std::size_t from_column, value* y,
            picture_places const& to, std::size_t to_column, std::size_t n) {
    copy_columns(on_, {count, Shape::height, Shape::channels, from, from_column, to, to_column, n}, x, y);
  }

  /// What a node leaves for the next: the map of all of the sound, and of each window its own columns.
  struct shared_map {
    value const* all;
    std::size_t columns, halvings;
    value *left, *right;
    detail::edge_step::sides width, own;  ///< of the pictures `left` and `right`, and their own columns
  };
  template <image_shape Shape>
  static picture_places of_width(std::size_t width) {
    return {Shape::height * width, width};
  }
  /// Where the windows from `first` on are in the map of all of the sound.
  template <image_shape Shape>
  picture_places windows_in(shared_map const& from, std::size_t first) const {
    return {Shape::height * from.columns,
            from.columns,
            hop_,
            from.halvings,
            static_cast<std::size_t>(std::countr_zero(hop_)),
            first};
  }
  /// Windows [first, first + n), put together.
  template <image_shape Shape>
  void assemble(shared_map const& from, std::size_t first, std::size_t n, value* to) {
    auto const [own_left, own_right] = from.own;
    auto const left = of_width<Shape>(from.width.left), right = of_width<Shape>(from.width.right),
               whole = of_width<Shape>(Shape::width);
    copy<Shape>(n, from.left + first * left.item * Shape::channels, left, 0, to, whole, 0, own_left);
    copy<Shape>(n, from.all, windows_in<Shape>(from, first), own_left, to, whole, own_left,
                Shape::width - own_left - own_right);
    copy<Shape>(n, from.right + first * right.item * Shape::channels, right, from.width.right - own_right, to, whole,
                Shape::width - own_right, own_right);
  }

  template <class Chain>
  void run(value const* spectrogram, std::size_t count, value* y) {
    require_room(count);
    carver space(memory_.data(), slice, on_.threads());
    value* const map[2] = {space.template take<value>(map_[0]), space.template take<value>(map_[1])};
    value* const unpooled = space.template take<value>(unpooled_);
    value* const edge = space.template take<value>(edge_);
    shared_map now{spectrogram, columns(count), 0, {}, {}, {}, {}};
    now.left = space.template take<value>(edge_);
    now.right = space.template take<value>(edge_);
    value* const slot[2] = {space.template take<value>(alone_), space.template take<value>(alone_)};
    std::byte* const scratch = space.rest();
    auto const weights_of = [&]<std::size_t I>() {
      return net_.audio_weights() + Chain::template prepared_before<B, I>.fixed;
    };

    walk(count, [&]<std::size_t I>(level const& at) {
      using node = typename Chain::template layer_at<I>;
      using in = typename node::input;
      using out = typename node::conv_output;
      auto const convolve = [&](std::size_t items, std::size_t width, std::size_t wanted, bool pools, value const* x,
                                value* to) {
        node::infer_region(pass<B>{on_, items, scratch}, {in::height, width}, windows_of(pools),
                           weights_of.template operator()<I>(), x, to, wanted);
      };
      // The edges: a window's own columns, and inwards from there what it shares.
      auto const windows = windows_in<in>(now, 0);
      std::size_t const l = at.picture.left, r = at.picture.right;
      copy<in>(count, now.left, of_width<in>(now.width.left), 0, edge, of_width<in>(l), 0, at.own.left);
      copy<in>(count, now.all, windows, at.own.left, edge, of_width<in>(l), at.own.left, l - at.own.left);
      convolve(count, l, l - 1, at.pools, edge, now.left);
      copy<in>(count, now.all, windows, at.width - r, edge, of_width<in>(r), 0, r - at.own.right);
      copy<in>(count, now.right, of_width<in>(now.width.right), now.width.right - at.own.right, edge, of_width<in>(r),
               r - at.own.right, at.own.right);
      convolve(count, r, r, at.pools, edge, now.right);
      // All of the sound.
      value* const next = map[I % 2];
      if (!at.splits) {
        convolve(at.phases, at.columns, at.columns, at.pools, now.all, next);
      } else {
        pool_dims const dims{at.phases, in::height, at.columns, out::channels, {2, 2}, {2, 2}};
        convolve(at.phases, at.columns, at.columns, false, now.all, unpooled);
        max_pool_forward(on_, dims, unpooled, next);
        // From column 1 on: where the width is even a row's last pair is of two rows, the very last one reaches past
        // the map. No window looks there, but a Winograd tile may, and what it adds cancels to rounding only: so it is
        // always the same.
        clear(on_, out::channels, unpooled + dims.rows() * out::channels);
        max_pool_forward(on_, dims, unpooled + out::channels,
                         next + at.phases * dims.out_height() * dims.out_width() * out::channels);
      }
      now.all = next;
      now.width = at.result, now.own = at.leaves;
      if (!at.pools) return;
      now.columns /= 2, ++now.halvings;
    });

    // From here on each window alone.
    for (std::size_t first = 0; first < count; first += slice) {
      std::size_t const n = std::min(slice, count - first);
      value* const to = y + first * Chain::output::size;
      pass<B> const p{on_, n, scratch};
      value const* x = nullptr;
      each([&]<std::size_t I>() {
        using node = typename Chain::template layer_at<I>;
        using in = typename node::input;
        if (I < shared_) return;
        if (I == shared_) {
          assemble<in>(now, first, n, slot[(I + 1) % 2]);
          x = slot[(I + 1) % 2];
        }
        value* const out = I + 1 == length ? to : slot[I % 2];
        packing const how{I != shared_ && Chain::template packed_into<B, I> != footprint{},
                          Chain::template packed_into<B, I + 1> != footprint{}};
        node::infer_prepared(p, weights_of.template operator()<I>(), std::exchange(x, out), out, how);
      });
      if (shared_ < length) continue;
      using last = typename Chain::template layer_at<length - 1>;
      using map_shape = typename last::conv_output;
      assemble<map_shape>(now, first, n, last::whole ? to : slot[0]);
      if constexpr (!last::whole) max_pool_forward(on_, last::dims(n), slot[0], to);
    }
  }

  context<B>& on_;
  user const& net_;
  std::size_t hop_, windows_, shared_;
  footprint map_[2];  // node k's map lies in slot k % 2
  footprint unpooled_, edge_, alone_, scratch_;
  memory_on<B> memory_;
};

}  // namespace l3::inline L3_ISA
