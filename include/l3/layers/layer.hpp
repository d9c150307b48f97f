/// @file  include/l3/layers/layer.hpp: what a layer is: a type that maps an input shape to an output shape, with
/// constant parameters, FLOPs and memory, and static functions that run it. Own layers offer the same
/// (examples/own_layer.cpp).
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <l3/core/backend.hpp>
#include <l3/core/context.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/shape.hpp>
#include <span>
#include <string_view>

namespace l3::inline L3_ISA {

/// A short text, of at most 63 characters, that can be a template argument and can be joined to others at compile time.
struct label {
  static constexpr std::size_t capacity = 64;
  char text[capacity] = {};

  /// `label{{'b', 'n', '1', ...}}`: how nvcc's generated code spells template arguments.
  struct characters {
    char at[capacity];
  };
  constexpr explicit label(characters const& from) {
    for (std::size_t k = 0; k != capacity; ++k) text[k] = from.at[k];
  }
  constexpr label() = default;
  constexpr label(char const* from) {  // NOLINT: names are written as plain literals
    for (std::size_t k = 0; from[k] != 0; ++k) put(k, from[k]);
  }
  constexpr std::string_view view() const {
    std::size_t size = 0;
    while (size != capacity && text[size] != 0) ++size;
    return {text, size};
  }
  constexpr bool empty() const { return text[0] == 0; }
  /// "a" / "b" is "a.b"; an empty side adds no dot.
  friend constexpr label operator/(label const& a, label const& b) {
    if (a.empty()) return b;
    if (b.empty()) return a;
    label joined = a;
    std::size_t end = a.view().size();
    joined.put(end++, '.');
    for (char const c : b.view()) joined.put(end++, c);
    return joined;
  }
  friend constexpr bool operator==(label const&, label const&) = default;

 private:
  constexpr void put(std::size_t at, char c) {
    if (at + 1 >= capacity) a_name_of_layers_has_at_most_63_characters();
    text[at] = c;
  }
  /// (Not constexpr: where names are made at compile time, this one is in the compiler's error.)
  static void a_name_of_layers_has_at_most_63_characters() {
    throw setting_error({"name of a layer", "at most 63 characters", "more"});
  }
};

/// How the optimizer and the initialisation treat a parameter.
enum class role : std::uint8_t {
  weight,  ///< learned, decays; starts He normal
  gain,    ///< learned, no decay; starts at 1
  bias,    ///< learned, no decay; starts at 0
  mean,    ///< running average of means, not learned; starts at 0
  spread   ///< running average of variances, not learned; starts at 1
};

/// One named parameter tensor, as a PyTorch state_dict would hold it.
struct parameter {
  label name;
  role kind = role::weight;
  std::array<std::size_t, 4> dims{1, 1, 1, 1};
  std::size_t rank = 1;
  std::size_t offset = 0;  ///< values from the start of the owner's block of parameters

  constexpr std::size_t count() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  constexpr std::size_t fan_in() const { return dims[1] * dims[2] * dims[3]; }
  constexpr bool learned() const { return kind != role::mean && kind != role::spread; }
  /// Values kept free for it, so that each tensor starts on a cache line.
  constexpr std::size_t room() const { return round_up(count(), alignment / sizeof(float)); }
  constexpr std::span<std::size_t const> shape() const { return {dims.data(), rank}; }
};

/// Lays parameters out one after the other.
template <std::size_t K>
constexpr std::array<parameter, K> lay_out(std::array<parameter, K> list) {
  std::size_t offset = 0;
  for (parameter& p : list) {
    p.offset = offset;
    offset += p.room();
  }
  return list;
}
/// Values that a laid-out list takes up.
template <std::size_t K>
constexpr std::size_t room_of(std::array<parameter, K> const& list) {
  std::size_t room = 0;
  for (parameter const& p : list) room += p.room();
  return room;
}
/// Whether each has a name of its own, as files want it.
template <std::size_t K>
constexpr bool names_differ(std::array<parameter, K> const& list) {
  for (std::size_t a = 0; a != K; ++a)
    for (std::size_t b = 0; b != a; ++b)
      if (list[a].name == list[b].name) return false;
  return true;
}
/// Two laid-out lists behind each other, the names of each below a prefix.
template <std::size_t K, std::size_t M>
constexpr std::array<parameter, K + M> join(label const& first_prefix, std::array<parameter, K> const& first,
                                            label const& second_prefix, std::array<parameter, M> const& second) {
  std::array<parameter, K + M> all{};
  for (std::size_t k = 0; k != K; ++k) all[k] = first[k], all[k].name = first_prefix / first[k].name;
  for (std::size_t k = 0; k != M; ++k) all[K + k] = second[k], all[K + k].name = second_prefix / second[k].name;
  return lay_out(all);
}

/// A list without parameters.
inline constexpr std::array<parameter, 0> no_parameters{};

/// What a running layer has at hand: threads, the number of items, and scratch memory of the size it asked for.
template <backend B>
struct pass {
  context<B>& on;
  std::size_t items;
  std::byte* scratch;

  /// Cuts `scratch` in pieces.
  carver carve() const { return {scratch, items, on.threads()}; }
};

/// A layer bound to its input shape. All functions are static, take packed values and overwrite their outputs:
///
///   infer(pass, params, x, y)                                 running averages, nothing kept
///   forward(pass, params, x, y, kept)                         training: batch statistics, `kept` is for backward
///   backward(pass, params, x, y, kept, dy, dx, gradients)     dx is null where nobody needs it
///
/// A layer may also offer what it makes of its parameters once, for many calls of inference to share:
///
///   prepare(on, params, prepared)                             `prepared<B>` bytes, fixed
///   infer_prepared(pass, prepared, x, y)                      as infer, with `infer_scratch<B>` for scratch
///
/// One whose `trains_on_kept` is true takes values and gradients of `kept_of<B>`, too, in forward and backward: two
/// such neighbours in a chain pass them.
///
/// `params` and `gradients` point to the layer's block, laid out as `parameters` says; `kept` to `kept<B>` bytes that
/// live from forward to backward. Parameters and their gradients are `scalar_of<B>`, all else `value_of<B>`. FLOPs are
/// those of one item's forward pass.
///
/// Several layers fused are run the same way; their parameters are those of each.
template <class L, class B>
concept layer_like = backend<B> && item_shape<typename L::input> && item_shape<typename L::output> &&
    requires(pass<B> const& p, scalar_of<B>* w, scalar_of<B> const* params, value_of<B>* v, value_of<B> const* c,
             std::byte* kept) {
  { L::name } -> std::convertible_to<char const*>;
  { L::flops } -> std::convertible_to<double>;
  { L::template kept<B> } -> std::convertible_to<footprint>;
  { L::template scratch<B> } -> std::convertible_to<footprint>;
  L::infer(p, params, c, v);
  L::forward(p, w, c, v, kept);
  L::backward(p, params, c, c, kept, c, v, w);
};
/// A layer that says itself what its parameters are.
template <class L, class B>
concept layer = layer_like<L, B> && requires {
  { L::parameters.size() } -> std::convertible_to<std::size_t>;
};

/// A layer that prepares its parameters for inference.
template <class L, class B>
concept prepares = requires(pass<B> const& p, context<B>& on, scalar_of<B> const* params, value_of<B>* v,
                            value_of<B> const* c, std::byte* to) {
  { L::template prepared<B> } -> std::convertible_to<footprint>;
  { L::template infer_scratch<B> } -> std::convertible_to<footprint>;
  L::prepare(on, params, to);
  L::infer_prepared(p, to, c, v);
};

}  // namespace l3::inline L3_ISA
