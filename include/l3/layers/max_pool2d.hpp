/// @file  include/l3/layers/max_pool2d.hpp: max pooling, in windows or over the whole picture, and the shape it leaves.
#pragma once
#include <l3/kernels/kernels.hpp>
#include <l3/layers/layer.hpp>

namespace l3::inline L3_ISA {

/// Window and step in pixels, named where they are used: `max_pool<pool{.window = {2, 2}}>`.
struct pool {
  extent2 window{2, 2};
  extent2 stride = window;  ///< default: tiles side by side
  friend constexpr bool operator==(pool const&, pool const&) = default;
};

/// Each side becomes floor((side - window) / stride) + 1; lines left over are dropped.
template <image_shape In, pool P>
using pooled = image<(In::height - P.window.height) / P.stride.height + 1,
                     (In::width - P.window.width) / P.stride.width + 1, In::channels>;

namespace detail {
/// What both pools share: they differ in the type of their output only.
template <image_shape In, item_shape Out, pool P>
struct pooling {
  static_assert(P.window.height * P.window.width <= 1 << 24,
                "l3::max_pool: windows of at most 2^24 pixels, for a float counts them");
  using input = In;
  using output = Out;
  static constexpr pool window = P;
  static constexpr auto parameters = no_parameters;
  static constexpr double flops = static_cast<double>(Out::size * P.window.height * P.window.width);
  template <backend B>
  static constexpr footprint kept{};
  template <backend B>
  static constexpr footprint scratch{};
  static constexpr pool_dims dims(std::size_t items) {
    return {items, In::height, In::width, In::channels, P.window, P.stride};
  }

  template <backend B>
  static void infer(pass<B> const& p, scalar_of<B> const*, value_of<B> const* x, value_of<B>* y) {
    max_pool_forward(p.on, dims(p.items), x, y);
  }
  template <backend B>
  static void forward(pass<B> const& p, scalar_of<B> const* params, value_of<B> const* x, value_of<B>* y, std::byte*) {
    infer(p, params, x, y);
  }
  template <backend B>
  static void backward(pass<B> const& p, scalar_of<B> const*, value_of<B> const* x, value_of<B> const*, std::byte*,
                       value_of<B> const* dy, value_of<B>* dx, scalar_of<B>*) {
    if (dx != nullptr) max_pool_backward(p.on, dims(p.items), x, dy, dx);
  }
};
template <class In>
concept can_pool = image_shape<In>;
template <item_shape In, pool P>
constexpr bool check_pool() {
  static_assert(can_pool<In>, "l3::max_pool: the input is not an image");
  if constexpr (can_pool<In>) {
    static_assert(P.stride.height > 0 && P.stride.width > 0, "l3::max_pool: the stride is zero");
    static_assert(within<std::size_t{1}, P.window.height, In::height>,
                  "l3::max_pool: window empty or taller than the image");
    static_assert(within<std::size_t{1}, P.window.width, In::width>,
                  "l3::max_pool: window empty or wider than the image");
  }
  return true;
}
}  // namespace detail

/// Keeps the largest value of each window, channel by channel. No parameters. Of equal largest pixels the first takes
/// the whole gradient.
///
/// Shapes  x (N, In), y (N, pooled<In, P>).
/// Errors  compile time: input not an image, zero stride, window empty or larger than the image.
/// Source  Arandjelović & Zisserman (ICCV 2017), figure 2.
template <item_shape In, pool P>
requires(detail::check_pool<In, P>()) struct max_pool2d : detail::pooling<In, pooled<In, P>, P> {
  static constexpr char const* name = "max_pool";
};

/// Keeps the largest value of each channel over the whole picture: what is left says what was seen or heard, not where.
///
/// Shapes  x (N, In), y (N, features<C>).
/// Source  Arandjelović & Zisserman (ICCV 2017), section 3.1 ("pool4").
template <item_shape In>
requires(detail::check_pool<In, pool{{1, 1}, {1, 1}}>()) struct global_max_pool2d
    : detail::pooling<In, features<In::channels>, pool{{In::height, In::width}, {In::height, In::width}}> {
  static constexpr char const* name = "global_max_pool";
};

/// Spec of max pooling; 2x2 side by side by default.
template <pool P = pool{}>
struct max_pool {
  template <item_shape In>
  using bind = max_pool2d<In, P>;
};

/// Spec of the pool over the whole picture.
struct global_max_pool {
  template <item_shape In>
  using bind = global_max_pool2d<In>;
};

}  // namespace l3::inline L3_ISA
