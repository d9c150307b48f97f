/// @file  include/l3/kernels/cpu/conv2d.hpp: which algorithm a convolution takes on a processor.
///
/// Every algorithm offers a plan (constexpr sizes and scratch) and a function; another one is one more header and one
/// more branch here.
#pragma once
#include <concepts>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/kernels/cpu/conv_direct.hpp>
#include <l3/kernels/cpu/conv_matrix.hpp>
#include <l3/kernels/cpu/conv_weight_gradient.hpp>
#include <l3/kernels/cpu/conv_winograd.hpp>
#include <l3/kernels/cpu/winograd_weight_gradient.hpp>
#include <l3/kernels/dims.hpp>
#include <utility>

namespace l3::inline L3_ISA {
namespace detail {

/// Winograd's transforms are paid for each input and each output channel, the multiplications they save for each pair:
/// a network's first layer is quicker without.
constexpr bool winograd_pays(conv_dims const& d) { return d.in >= 16 && d.out >= 16; }

template <class Plan>
constexpr Plan plan_for(conv_dims const& d) {
  return {d.in, d.out, d.height, d.width};
}
/// f(plan) of the algorithm for these sizes.
template <class Winograd, class Direct, class F>
constexpr auto with_plan(conv_dims const& d, F&& f) {
  return winograd_pays(d) ? f(plan_for<Winograd>(d)) : f(plan_for<Direct>(d));
}
/// What a convolution is for: training wants the small error of small tiles, in forward and data gradient.
enum class conv_use { training, inference };
/// Whether inference takes no transforms, for matrix registers are here: a product costs so little there that passing
/// packed maps on saves more. Not where channels are so many that Winograd's transforms are few: there, from a few
/// items on, a quarter of the products is quicker again. A network's first layer is of one step. Training takes no
/// packed maps, and no more of matrix registers than Winograd's products.
template <class A, class P>
constexpr bool matrices_pay(conv_dims const& d) {
  return has_matrix_products<A, P> && d.out >= 16 && (winograd_pays(d) ? d.in * d.out <= 256 * 256 : is_one_step(d.in));
}
/// Whether inference takes tiles of 6x6: a fifth fewer products than with 4x4, at four times the rounding error, too
/// much on top of bf16's. The sizes were measured (bench/kernels/winograd_bench.cpp; Zen 4, 1 MiB of second cache):
/// with more channels, groups of such tiles grow out of it, and more weights stream from memory.
template <class P>
constexpr bool large_tiles_pay(conv_dims const& d) {
  return std::same_as<P, fp32> && winograd_pays(d) && d.in <= 128 && d.out <= 256;
}
template <conv_use Use, class A, class P, class F>
constexpr auto with_convolution(conv_dims const& d, F&& f) {
  if constexpr (Use == conv_use::inference && std::same_as<P, fp32>)  // spare the compiler what bf16 never takes
    if (large_tiles_pay<P>(d)) return f(plan_for<winograd_plan<A, P, 6>>(d));
  if constexpr (Use == conv_use::inference && has_matrix_products<A, P>)
    if (matrices_pay<A, P>(d))
      return is_one_step(d.in) ? f(plan_for<matrix_plan<A, 1>>(d)) : f(plan_for<matrix_plan<A>>(d));
  return with_plan<winograd_plan<A, P, 4>, direct_plan<A>>(d, f);
}
/// Weights as the algorithm reads them.
template <conv_use Use, class A, class P>
constexpr footprint conv2d_weights(conv_dims const& d) {
  return with_convolution<Use, A, P>(d, [](auto const& plan) { return plan.weights(); });
}
template <conv_use Use, class A, class P>
constexpr footprint conv2d_scratch(conv_dims const& d) {
  return with_convolution<Use, A, P>(d, [](auto const& plan) { return plan.scratch(); });
}
template <class A, class P>
constexpr footprint conv2d_gradient_scratch(conv_dims const& d) {
  return with_plan<winograd_gradient_plan<A, P>, gradient_plan<A>>(d, [](auto const& plan) { return plan.scratch(); });
}
/// Sizes of the convolution that gives the data gradient.
constexpr conv_dims exchanged(conv_dims d) {
  std::swap(d.in, d.out);
  return d;
}
/// `turned`: for the data gradient.
template <conv_use Use, class A, class P>
void prepare(context<simd<A, P>>& on, conv_dims const& d, bool turned, float const* w, float const* scale,
             std::byte* to) {
  with_convolution<Use, A, P>(d, [&]<class Plan>(Plan const& plan) {
    prepare_weights(on.team(), plan, turned, w, scale, reinterpret_cast<typename Plan::value*>(to));
  });
}
template <conv_use Use, class A, class P, class X, class Y>
void convolve(context<simd<A, P>>& on, conv_dims const& d, X const* x, std::byte const* prepared,
              epilogue<float> const& then, Y* y, std::byte* scratch, packing how = {}) {
  with_convolution<Use, A, P>(d, [&]<class Plan>(Plan const& plan) {
    auto const* const weights = reinterpret_cast<typename Plan::value const*>(prepared);
    if constexpr (Plan::knows_packed_maps)
      run_convolution(on.team(), plan, d.batch, x, weights, then, y, scratch, how);
    else
      run_convolution(on.team(), plan, d.batch, x, weights, then, y, scratch);
  });
}
/// Prepares the weights in scratch first.
template <class A, class P, class X, class Y>
void convolve_once(context<simd<A, P>>& on, conv_dims const& d, bool turned, X const* x, float const* w,
                   float const* bias, Y* y, std::byte* scratch) {
  constexpr auto use = conv_use::training;
  carver pieces(scratch, d.batch, on.threads());
  std::byte* const prepared = pieces.take<std::byte>(conv2d_weights<use, A, P>(d));
  prepare<use>(on, d, turned, w, nullptr, prepared);
  convolve<use>(on, d, x, prepared, {.shift = bias}, y, pieces.rest());
}

}  // namespace detail

/// x and y, and their gradients, may be stored as bfloat16.
template <class A, class P, class X, class Y>
void conv2d_forward(context<simd<A, P>>& on, conv_dims const& d, X const* x, float const* w, float const* bias, Y* y,
                    std::byte* scratch) {
  detail::convolve_once(on, d, false, x, w, bias, y, scratch);
}

template <class A, class P>
void conv2d_prepare(context<simd<A, P>>& on, conv_dims const& d, float const* w, float const* scale,
                    std::byte* prepared) {
  detail::prepare<detail::conv_use::inference>(on, d, false, w, scale, prepared);
}

template <class A, class P>
void conv2d_infer(context<simd<A, P>>& on, conv_dims const& d, float const* x, std::byte const* prepared,
                  epilogue<float> const& then, float* y, std::byte* scratch, packing how = {}) {
  detail::convolve<detail::conv_use::inference>(on, d, x, prepared, then, y, scratch, how);
}

template <class A, class P, class X, class Y>
void conv2d_backward_data(context<simd<A, P>>& on, conv_dims const& d, Y const* dy, float const* w, X* dx,
                          std::byte* scratch) {
  detail::convolve_once(on, detail::exchanged(d), true, dy, w, nullptr, dx, scratch);
}

template <class A, class P, class X, class Y>
void conv2d_backward_weights(context<simd<A, P>>& on, conv_dims const& d, X const* x, Y const* dy, float* dw,
                             std::byte* scratch) {
  using namespace detail;
  with_plan<winograd_gradient_plan<A, P>, gradient_plan<A>>(
      d, [&](auto const& plan) { run_weight_gradient(on.team(), plan, d.batch, x, dy, dw, scratch); });
}

}  // namespace l3::inline L3_ISA
