/// @file  include/l3/kernels/cpu/pair_scores.hpp: the fusion head over pairs, a frame's (or a sound's) pairs at a time.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// A frame's share of the gradients of the last layer: dw2 (classes, hidden) and db2 (classes).
constexpr footprint pair_share(pair_dims const& d) { return per_item<float>(d.classes * d.hidden + d.classes); }

/// The sounds that frame i meets, and the frames that sound j meets.
constexpr index_range sounds_of_frame(pair_dims const& d, std::size_t i) {
  return d.which == pairing::all ? index_range{0, d.sounds()} : index_range{i, i + 1};
}
constexpr index_range frames_of_sound(pair_dims const& d, std::size_t j) {
  return d.which == pairing::all ? index_range{0, d.batch} : index_range{j, j + 1};
}
/// The row of frame i's pair with sound j.
constexpr std::size_t pair_row(pair_dims const& d, std::size_t i, std::size_t j) {
  return d.which == pairing::all ? i * d.sounds() + j : i;
}

/// dl . w2[., h]: the gradient that reaches the hidden layer.
template <class T>
L3_INLINE T through_scores(pair_dims const& d, float const* dl, float const* w2, std::size_t h) {
  T g(0.0f);
  for (std::size_t o = 0; o < d.classes; ++o) g = fused(T(dl[o]), load<T>(w2 + o * d.hidden + h), g);
  return g;
}

}  // namespace detail

template <class A, class P>
void pair_scores_forward(context<simd<A, P>>& on, pair_dims const& d, float const* u, float const* t, float const* b1,
                         float const* w2, float const* b2, float* logits) {
  using namespace detail;
  on.team().run(d.batch, [&](std::size_t i, std::size_t) {
    auto const others = sounds_of_frame(d, i);
    for (std::size_t j = others.begin; j < others.end; ++j)
      for (std::size_t o = 0; o < d.classes; ++o) {
        lanes<A> sums(0.0f);
        float rest = 0;
        each_register<lanes<A>>(d.hidden, [&]<class T>(std::size_t h) {
          T const value = load<T>(u + i * d.hidden + h) + load<T>(t + j * d.hidden + h) + load<T>(b1 + h);
          auto const add = [&](T& sum) { sum = fused(load<T>(w2 + o * d.hidden + h), rectified(value), sum); };
          if constexpr (std::same_as<T, float>)
            add(rest);
          else
            add(sums);
        });
        logits[pair_row(d, i, j) * d.classes + o] = total(sums) + rest + b2[o];
      }
  });
}

template <class A, class P>
void pair_scores_backward(context<simd<A, P>>& on, pair_dims const& d, float const* u, float const* t, float const* b1,
                          float const* w2, float const* dlogits, float* du, float* dt, float* db1, float* dw2,
                          float* db2, std::byte* scratch) {
  using namespace detail;
  auto* const shares = reinterpret_cast<float*>(scratch);
  std::size_t const share_size = pair_share(d).per_item / sizeof(float);

  on.team().run(d.batch, [&](std::size_t i, std::size_t) {  // a frame and its sounds
    auto const others = sounds_of_frame(d, i);
    float* const share = shares + i * share_size;
    each_register<lanes<A>>(d.hidden, [&]<class T>(std::size_t h) {
      T const own = load<T>(u + i * d.hidden + h), bias = load<T>(b1 + h), zero(0.0f);
      T sum = zero;
      for (std::size_t j = others.begin; j < others.end; ++j) {
        T const value = own + load<T>(t + j * d.hidden + h) + bias;
        sum = sum + pick(value > zero, through_scores<T>(d, dlogits + pair_row(d, i, j) * d.classes, w2, h), zero);
      }
      put(du + i * d.hidden + h, sum);
      for (std::size_t o = 0; o < d.classes; ++o) {
        T weight = zero;
        for (std::size_t j = others.begin; j < others.end; ++j) {
          T const value = own + load<T>(t + j * d.hidden + h) + bias;
          weight = fused(T(dlogits[pair_row(d, i, j) * d.classes + o]), rectified(value), weight);
        }
        put(share + o * d.hidden + h, weight);
      }
    });
    for (std::size_t o = 0; o < d.classes; ++o) {
      float sum = 0;
      for (std::size_t j = others.begin; j < others.end; ++j) sum += dlogits[pair_row(d, i, j) * d.classes + o];
      share[d.classes * d.hidden + o] = sum;
    }
  });

  on.team().run(d.sounds(), [&](std::size_t j, std::size_t) {  // a sound and its frames
    auto const others = frames_of_sound(d, j);
    each_register<lanes<A>>(d.hidden, [&]<class T>(std::size_t h) {
      T const own = load<T>(t + j * d.hidden + h), bias = load<T>(b1 + h), zero(0.0f);
      T sum = zero;
      for (std::size_t i = others.begin; i < others.end; ++i) {
        T const value = load<T>(u + i * d.hidden + h) + own + bias;
        sum = sum + pick(value > zero, through_scores<T>(d, dlogits + pair_row(d, i, j) * d.classes, w2, h), zero);
      }
      put(dt + j * d.hidden + h, sum);
    });
  });

  auto const add_up = [&](std::size_t count, float const* from, std::size_t stride, float* to) {
    each_register<lanes<A>>(count, [&]<class T>(std::size_t k) {
      T sum(0.0f);
      for (std::size_t i = 0; i < d.batch; ++i) sum = sum + load<T>(from + i * stride + k);
      put(to + k, sum);
    });
  };
  add_up(d.hidden, du, d.hidden, db1);
  add_up(d.classes * d.hidden, shares, share_size, dw2);
  add_up(d.classes, shares + d.classes * d.hidden, share_size, db2);
}

}  // namespace l3::inline L3_ISA
