/// @file  include/l3/kernels/cpu/conv2d.hpp: which algorithm a convolution takes on a processor.
///
/// Every algorithm offers a plan (constexpr sizes and scratch) and a function; another one is one more header and one
/// more branch here and in scratch.hpp.
#pragma once
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/kernels/cpu/conv_direct.hpp>
#include <l3/kernels/cpu/conv_weight_gradient.hpp>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {

template <class A, class P>
void conv2d_forward(context<simd<A, P>>& on, conv_dims const& d, float const* x, float const* w,
                    epilogue<float> const& then, float* y, std::byte* scratch) {
  detail::direct_plan<A> const plan{d.in, d.out, d.height, d.width};
  detail::direct_convolution(on.team(), plan, d.batch, false, x, w, then, y, scratch);
}

template <class A, class P>
void conv2d_backward_data(context<simd<A, P>>& on, conv_dims const& d, float const* dy, float const* w, float* dx,
                          std::byte* scratch) {
  detail::direct_plan<A> const plan{d.out, d.in, d.height, d.width};
  detail::direct_convolution(on.team(), plan, d.batch, true, dy, w, {}, dx, scratch);
}

template <class A, class P>
void conv2d_backward_weights(context<simd<A, P>>& on, conv_dims const& d, float const* x, float const* dy, float* dw,
                             std::byte* scratch) {
  detail::gradient_plan<A> const plan{d.in, d.out, d.height, d.width};
  detail::direct_weight_gradient(on.team(), plan, d.batch, x, dy, dw, scratch);
}

}  // namespace l3::inline L3_ISA
