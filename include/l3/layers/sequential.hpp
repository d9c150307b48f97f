/// @file  include/l3/layers/sequential.hpp: a chain of layers: computes every shape, fuses neighbours, plans the
/// memory.
#pragma once
#include <l3/layers/batch_norm.hpp>
#include <l3/layers/conv2d.hpp>
#include <l3/layers/dense.hpp>
#include <l3/layers/fuse.hpp>
#include <l3/layers/max_pool2d.hpp>
#include <l3/layers/relu.hpp>
#include <tuple>
#include <utility>

namespace l3::inline L3_ISA {

/// Gives a spec, or a whole `chain`, its place in the names of the parameters: `named<"conv1", conv3x3<64>>`.
template <label Name, class Spec>
struct named {};

/// Specs one after the other, to be written once and used as one; adds nothing to the names.
template <class... Specs>
struct chain {};

/// Passes nothing and costs nothing: states the shape that arrives here, and compiles only if it does.
template <item_shape Shape>
struct expect {};

namespace detail {
template <class Arrives, class Wanted>
concept arrives_as = std::same_as<Arrives, Wanted>;

constexpr label numbered(std::size_t n) {
  char text[8] = {};
  std::size_t end = 0;
  for (std::size_t unit = 1000; unit > 0; unit /= 10)
    if (n >= unit || unit == 1) text[end++] = static_cast<char>('0' + n / unit % 10);
  return label(text);
}

template <class A, class B>
struct concatenate;
template <class... A, class... B>
struct concatenate<node_list<A...>, node_list<B...>> {
  using type = node_list<A..., B...>;
};

template <class Spec, class In>
concept binds = requires {
  typename Spec::template bind<In>;
};

// Binds specs to the shapes that reach them. Unnamed layers are numbered by place, as in torch.nn.Sequential.
template <label Prefix, std::size_t Place, class In, class... Specs>
struct bind_chain {
  using nodes = node_list<>;
  using output = In;
};
template <label Prefix, std::size_t Place, class In, class Spec, class... Rest>
struct bind_chain<Prefix, Place, In, Spec, Rest...> {
  static_assert(binds<Spec, In>, "l3::sequential: one of the links is no spec of a layer, or takes no such shape");
  using layer = typename Spec::template bind<In>;
  using rest = bind_chain<Prefix, Place + 1, typename layer::output, Rest...>;
  using nodes = typename concatenate<node_list<bound<Prefix / numbered(Place), layer>>, typename rest::nodes>::type;
  using output = typename rest::output;
};
template <label Prefix, std::size_t Place, class In, label Name, class Spec, class... Rest>
struct bind_chain<Prefix, Place, In, named<Name, Spec>, Rest...> {
  static_assert(
      binds<Spec, In>,
      "l3::named: no spec of a layer that takes such a shape, and no chain; to name a name, put it in a chain");
  using layer = typename Spec::template bind<In>;
  using rest = bind_chain<Prefix, Place + 1, typename layer::output, Rest...>;
  using nodes = typename concatenate<node_list<bound<Prefix / Name, layer>>, typename rest::nodes>::type;
  using output = typename rest::output;
};
template <label Prefix, std::size_t Place, class In, label Name, class... Inner, class... Rest>
struct bind_chain<Prefix, Place, In, named<Name, chain<Inner...>>, Rest...> {
  using first = bind_chain<Prefix / Name, 0, In, Inner...>;
  using rest = bind_chain<Prefix, Place + 1, typename first::output, Rest...>;
  using nodes = typename concatenate<typename first::nodes, typename rest::nodes>::type;
  using output = typename rest::output;
};
template <label Prefix, std::size_t Place, class In, class... Inner, class... Rest>
struct bind_chain<Prefix, Place, In, chain<Inner...>, Rest...> : bind_chain<Prefix, Place, In, Inner..., Rest...> {};
template <label Prefix, std::size_t Place, class In, class Shape, class... Rest>
struct bind_chain<Prefix, Place, In, expect<Shape>, Rest...> : bind_chain<Prefix, Place, In, Rest...> {
  static_assert(arrives_as<In, Shape>, "l3::expect: another shape arrives here than the one stated");
};

template <class L, class B>
constexpr footprint prepared_size() {
  if constexpr (prepares<L, B>) {
    constexpr footprint size = L::template prepared<B>;
    static_assert(size.per_item == 0 && size.per_thread == 0,
                  "l3::sequential: what a layer prepares depends neither on the batch nor on the threads");
    return size;
  } else {
    return {};
  }
}
template <class L, class B>
constexpr footprint prepared_scratch() {
  if constexpr (prepares<L, B>)
    return L::template infer_scratch<B>;
  else
    return L::template scratch<B>;
}

/// Room for what L leaves for Next in inference as a packed map; nothing where they do not pass one.
template <class L, class Next, class B>
constexpr footprint packed_between() {
  if constexpr (requires {
                  L::template packs_output<B>;
                  Next::template packed_input<B>;
                })
    return L::template packs_output<B> ? Next::template packed_input<B> : footprint{};
  else
    return {};
}

/// Whether training passes `kept_of<B>` from L to Next, rather than `value_of<B>`.
template <class L, class Next>
inline constexpr bool pass_kept = requires {
  requires L::trains_on_kept;
  requires Next::trains_on_kept;
};

struct do_nothing {
  void operator()(std::size_t, std::size_t) const {}
};

template <class List>
struct chain_of_nodes {
  static_assert(sizeof(List) == 0, "l3::sequential: a network needs at least one layer");
};
template <class... Nodes>
requires(sizeof...(Nodes) > 0) struct chain_of_nodes<node_list<Nodes...>> {
  static constexpr std::size_t length = sizeof...(Nodes);
  template <std::size_t I>
  using node = std::tuple_element_t<I, std::tuple<Nodes...>>;
  template <std::size_t I>
  using layer_at = typename node<I>::layer;
  using input = typename layer_at<0>::input;
  using output = typename layer_at<length - 1>::output;

  static constexpr auto parameters = lay_out([] {
    std::array<parameter, (Nodes::parameters.size() + ... + 0)> all{};
    auto* next = all.data();
    ((next = std::copy(Nodes::parameters.begin(), Nodes::parameters.end(), next)), ...);
    return all;
  }());
  static constexpr std::size_t parameter_room = room_of(parameters);
  static constexpr double flops = (Nodes::layer::flops + ...);

  template <std::size_t I>
  static constexpr std::size_t parameters_before = [] {
    std::size_t room = 0;
    [&]<std::size_t... K>(std::index_sequence<K...>) { ((room += room_of(node<K>::parameters)), ...); }
    (std::make_index_sequence<I>{});
    return room;
  }();

  template <class B, std::size_t I>
  static constexpr footprint values_out = per_item<value_of<B>>(layer_at<I>::output::size);
  /// What layer I's output is stored as in training.
  template <class B, std::size_t I>
  using trained_value =
      std::conditional_t<pass_kept<layer_at<I>, layer_at<std::min(I + 1, length - 1)>> && I + 1 < length, kept_of<B>,
                         value_of<B>>;
  template <class B, std::size_t I>
  static constexpr footprint trained_values = per_item<trained_value<B, I>>(layer_at<I>::output::size);
  template <class B, std::size_t I>
  static constexpr footprint kept_before = [] {
    footprint sum;
    [&]<std::size_t... K>(std::index_sequence<K...>) {
      ((sum = sum + trained_values<B, K> + layer_at<K>::template kept<B>), ...);
    }
    (std::make_index_sequence<I>{});
    return sum;
  }();
  /// Of layer I's input in inference as a packed map; nothing where it is none.
  template <class B, std::size_t I>
  static constexpr footprint packed_into = [] {
    if constexpr (I > 0 && I < length)
      return packed_between<layer_at<I - 1>, layer_at<I>, B>();
    else
      return footprint{};
  }();
  /// Room for the values of any of the layers 0, 2, 4, ... or 1, 3, 5, ...
  template <class B, std::size_t Parity>
  static constexpr footprint largest_values = [] {
    footprint most;
    [&]<std::size_t... K>(std::index_sequence<K...>) {
      ((most = K % 2 == Parity ? either(most, either(values_out<B, K>, packed_into<B, K + 1>)) : most), ...);
    }
    (std::make_index_sequence<length>{});
    return most;
  }();
  template <class B, std::size_t I>
  static constexpr footprint prepared_before = [] {
    footprint sum;
    [&]<std::size_t... K>(std::index_sequence<K...>) { ((sum = sum + prepared_size<layer_at<K>, B>()), ...); }
    (std::make_index_sequence<I>{});
    return sum;
  }();
  template <class B>
  static constexpr footprint layer_scratch = [] {
    footprint most;
    ((most = either(most, Nodes::layer::template scratch<B>)), ...);
    return most;
  }();

  template <class B>
  static constexpr footprint layer_infer_scratch = [] {
    footprint most;
    ((most = either(most, prepared_scratch<typename Nodes::layer, B>())), ...);
    return most;
  }();

  /// Alive from forward to backward: every layer's output and what it keeps.
  template <backend B>
  static constexpr footprint kept = kept_before<B, length>;
  /// Two buffers to pass values, or their gradients, from layer to layer: those of layer k lie in slot k % 2.
  template <class B>
  static constexpr footprint slots = largest_values<B, 0> + largest_values<B, 1>;
  /// Alive inside one call: the slots and the layers' own scratch.
  template <backend B>
  static constexpr footprint scratch = slots<B> + layer_scratch<B>;

  template <backend B>
  struct workspace {
    static_assert(
        (layer_like<typename Nodes::layer, B> && ...),
        "l3::sequential: a link is no layer on this backend: it lacks a name, flops, kept, scratch, infer, forward or "
        "backward (see the concept l3::layer)");
    static_assert(sizeof(kept_of<B>) <= sizeof(value_of<B>), "l3::sequential: slots have room for values");
    value_of<B>* slot[2];
    pass<B> inner;
    explicit workspace(pass<B> const& p) : slot{}, inner{p.on, p.items, nullptr} {
      carver space = p.carve();
      slot[0] = space.template take<value_of<B>>(largest_values<B, 0>);
      slot[1] = space.template take<value_of<B>>(largest_values<B, 1>);
      inner.scratch = space.rest();
    }
  };

  /// What the layers make of the parameters once, for many calls of `infer_prepared`.
  template <backend B>
  static constexpr footprint prepared = prepared_before<B, length>;
  /// Scratch of `infer_prepared`, which needs less than training.
  template <backend B>
  static constexpr footprint infer_scratch = slots<B> + layer_infer_scratch<B>;
  template <backend B>
  static void prepare(context<B>& on, scalar_of<B> const* params, std::byte* to) {
    each([&]<std::size_t I>() {
      if constexpr (prepares<layer_at<I>, B>)
        layer_at<I>::prepare(on, params + parameters_before<I>, to + prepared_before<B, I>.fixed);
    });
  }

  /// Running averages, nothing kept.
  template <backend B>
  static void infer(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y) {
    workspace<B> const work(p);
    each([&]<std::size_t I>() {
      value_of<B>* const out = I + 1 == length ? y : work.slot[I % 2];
      layer_at<I>::infer(work.inner, params + parameters_before<I>, std::exchange(x, out), out);
    });
  }
  /// The same with the parameters that `prepare` was given, and what it made of them.
  template <backend B>
  static void infer_prepared(pass<B> const& p, scalar_of<B> const* params, std::byte const* from, value_of<B> const* x,
                             value_of<B>* y) {
    workspace<B> const work(p);
    each([&]<std::size_t I>() {
      value_of<B>* const out = I + 1 == length ? y : work.slot[I % 2];
      constexpr packing how{packed_into<B, I> != footprint{}, packed_into<B, I + 1> != footprint{}};
      if constexpr (how.x || how.y)
        layer_at<I>::infer_prepared(work.inner, from + prepared_before<B, I>.fixed, std::exchange(x, out), out, how);
      else if constexpr (prepares<layer_at<I>, B>)
        layer_at<I>::infer_prepared(work.inner, from + prepared_before<B, I>.fixed, std::exchange(x, out), out);
      else
        layer_at<I>::infer(work.inner, params + parameters_before<I>, std::exchange(x, out), out);
    });
  }

  /// Training pass; returns the output, which lies in `memory`, a block of `kept<B>`.
  template <backend B>
  static value_of<B> const* forward(pass<B> const& p, scalar_of<B>* params, value_of<B> const* x, std::byte* memory) {
    workspace<B> const work(p);
    each([&]<std::size_t I>() {
      layer_at<I>::forward(work.inner, params + parameters_before<I>, input_of<B, I>(p, x, memory),
                           values<B, I>(p, memory), kept_at<B, I>(p, memory));
    });
    return values<B, length - 1>(p, memory);
  }

  /// Gradients of the parameters and, unless null, of the input, from those of the output. Calls done(begin, end) as
  /// soon as those of the parameters [begin, end) are complete: layer for layer, the last one first.
  template <backend B, class Done = do_nothing>
  static void backward(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, std::byte* memory,
                       value_of<B> const* dy, value_of<B>* dx, scalar_of<B>* gradients, Done&& done = {}) {
    workspace<B> const work(p);
    each([&]<std::size_t Step>() {
      constexpr std::size_t I = length - 1 - Step;
      auto const* const of_output = [&] {
        if constexpr (I + 1 == length)
          return dy;
        else
          return gradient_in_slot<B, I>(work);
      }();
      auto* const of_input = [&] {
        if constexpr (I == 0)
          return dx;
        else
          return gradient_in_slot<B, I - 1>(work);
      }();
      layer_at<I>::backward(work.inner, params + parameters_before<I>, input_of<B, I>(p, x, memory),
                            values<B, I>(p, memory), kept_at<B, I>(p, memory), of_output, of_input,
                            gradients + parameters_before<I>);
      if constexpr (parameters_before<I> != parameters_before<I + 1>)
        done(parameters_before<I>, parameters_before<I + 1>);
    });
  }

 private:
  /// f.operator()<0>(), f.operator()<1>(), ... for all layers.
  template <class F>
  static void each(F&& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (f.template operator()<I>(), ...); }
    (std::make_index_sequence<length>{});
  }
  template <class B, std::size_t I>
  static trained_value<B, I>* values(pass<B> const& p, std::byte* memory) {
    return reinterpret_cast<trained_value<B, I>*>(memory + kept_before<B, I>.bytes(p.items, p.on.threads()));
  }
  template <class B, std::size_t I>
  static std::byte* kept_at(pass<B> const& p, std::byte* memory) {
    return memory + (kept_before<B, I> + trained_values<B, I>).bytes(p.items, p.on.threads());
  }
  /// Layer I's input in training, x being the network's.
  template <class B, std::size_t I>
  static auto const* input_of(pass<B> const& p, value_of<B> const* x, std::byte* memory) {
    if constexpr (I == 0)
      return x;
    else
      return values<B, I - 1>(p, memory);
  }
  /// The gradient of layer I's output.
  template <class B, std::size_t I>
  static trained_value<B, I>* gradient_in_slot(workspace<B> const& work) {
    return reinterpret_cast<trained_value<B, I>*>(work.slot[I % 2]);
  }
};
}  // namespace detail

/// A network of Specs on items of shape Input, neighbours fused where that is known to be faster.
///
/// `input`, `output`, `parameters` (names, shapes, offsets), `flops` (one item forward), `kept` and `scratch` (memory
/// as a formula of batch and threads) are constants; `infer`, `forward` and `backward` run it, and `prepare` and
/// `infer_prepared`, in the manner of `layer`. Errors  compile time, from the layer that a wrong shape reaches.
template <item_shape Input, class... Specs>
using sequential = detail::chain_of_nodes<fuse_nodes<typename detail::bind_chain<label{}, 0, Input, Specs...>::nodes>>;

/// The same network layer by layer: what `sequential` is judged by.
template <item_shape Input, class... Specs>
using unfused_sequential = detail::chain_of_nodes<typename detail::bind_chain<label{}, 0, Input, Specs...>::nodes>;

}  // namespace l3::inline L3_ISA
