/// @file  include/l3/layers/fuse.hpp: neighbours in a list of layers that become one node.
#pragma once
#include <l3/layers/conv_norm.hpp>
#include <l3/layers/relu.hpp>

namespace l3::inline L3_ISA {

/// A layer with its place in the network's names: its parameters are called `Name.weight` and so on.
template <label Name, class Layer>
struct bound {
  using layer = Layer;
  static constexpr label name = Name;
  static constexpr auto parameters = join(Name, Layer::parameters, label{}, no_parameters);
};

/// A convolution and a batch norm (both `bound`) that run as one node and keep their names.
template <class Node, class ConvBound, class NormBound>
struct fused_layers {
  using layer = Node;
  static constexpr label name = ConvBound::name;
  static constexpr auto parameters = Node::named(ConvBound::name, NormBound::name);
};

/// An ordered list of nodes.
template <class... Nodes>
struct node_list {};

namespace detail {
template <class First, class List>
struct prepend;
template <class First, class... Rest>
struct prepend<First, node_list<Rest...>> {
  using type = node_list<First, Rest...>;
};

template <class List>
struct fuse {  // nothing left, or one node that starts no pattern
  using type = List;
};
template <class First, class... Rest>
struct fuse<node_list<First, Rest...>> : prepend<First, typename fuse<node_list<Rest...>>::type> {};

template <class>
inline constexpr bool is_conv = false;
template <class In, std::size_t Filters, bool Bias>
inline constexpr bool is_conv<conv2d<In, Filters, Bias>> = true;
template <class>
inline constexpr bool is_norm = false;
template <class In, norm_settings S>
inline constexpr bool is_norm<batch_normalisation<In, S>> = true;
template <class>
inline constexpr bool is_relu = false;
template <class In>
inline constexpr bool is_relu<rectifier<In>> = true;
template <class>
inline constexpr bool is_pool = false;
template <class In, pool P>
inline constexpr bool is_pool<max_pool2d<In, P>> = true;
template <class In>
inline constexpr bool is_pool<global_max_pool2d<In>> = true;

template <class C, class N>
concept conv_norm = is_conv<typename C::layer> && is_norm<typename N::layer>;

/// Stands where no pool follows.
template <class Shape>
struct no_pool {
  using output = Shape;
  static constexpr pool window{{1, 1}, {1, 1}};
};

// conv3x3, batch_norm
template <class C, class N, class... Rest>
requires conv_norm<C, N>
struct fuse<node_list<C, N, Rest...>> {
  using node = conv_norm_node<typename C::layer, typename N::layer, false, no_pool<typename N::layer::output>>;
  using type = typename prepend<fused_layers<node, C, N>, typename fuse<node_list<Rest...>>::type>::type;
};
// conv3x3, batch_norm, relu
template <class C, class N, class R, class... Rest>
requires(conv_norm<C, N>&& is_relu<typename R::layer>) struct fuse<node_list<C, N, R, Rest...>> {
  using node = conv_norm_node<typename C::layer, typename N::layer, true, no_pool<typename R::layer::output>>;
  using type = typename prepend<fused_layers<node, C, N>, typename fuse<node_list<Rest...>>::type>::type;
};
// conv3x3, batch_norm, relu, and max_pool or global_max_pool
template <class C, class N, class R, class P, class... Rest>
requires(conv_norm<C, N>&& is_relu<typename R::layer>&&
             is_pool<typename P::layer>) struct fuse<node_list<C, N, R, P, Rest...>> {
  using node = conv_norm_node<typename C::layer, typename N::layer, true, typename P::layer>;
  using type = typename prepend<fused_layers<node, C, N>, typename fuse<node_list<Rest...>>::type>::type;
};
}  // namespace detail

/// The list with every conv3x3-batch_norm(-relu(-pool)) as one node.
template <class List>
using fuse_nodes = typename detail::fuse<List>::type;

}  // namespace l3::inline L3_ISA
