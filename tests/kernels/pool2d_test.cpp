#include <l3/kernels/kernels.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

template <class B>
std::vector<scalar_of<B>> forward(context<B>& on, pool_dims const& d, std::vector<scalar_of<B>> const& x) {
  output<scalar_of<B>> y(d.batch * d.out_height() * d.out_width() * d.channels);
  max_pool_forward(on, d, x.data(), y);
  return y.values();
}
template <class B>
std::vector<scalar_of<B>> backward(context<B>& on, pool_dims const& d, std::vector<scalar_of<B>> const& x,
                                   std::vector<scalar_of<B>> const& dy) {
  output<scalar_of<B>> dx(x.size());
  max_pool_backward(on, d, x.data(), dy.data(), dx);
  return dx.values();
}

pool_dims const pool_sizes[] = {
    {2, 6, 8, 16, {2, 2}, {2, 2}},   {2, 7, 9, 24, {2, 2}, {2, 2}}, {1, 3, 2, 5, {2, 2}, {2, 2}},
    {3, 5, 4, 33, {5, 4}, {5, 4}},   {2, 9, 7, 13, {3, 2}, {2, 1}}, {1, 6, 6, 3, {2, 2}, {1, 1}},
    {2, 8, 9, 19, {2, 3}, {3, 4}},   {1, 1, 1, 1, {1, 1}, {1, 1}},  {1, 33, 24, 17, {33, 24}, {1, 1}},
    {2, 32, 40, 64, {2, 2}, {2, 2}},
};
}  // namespace

TEMPLATE_LIST_TEST_CASE("max_pool forward and backward agree exactly with the plain loops", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<float>> judge(1);
  for (auto const& d : pool_sizes)
    for (bool ties : {false, true}) {
      CAPTURE(d.height, d.width, d.channels, d.window.height, d.window.width, ties);
      auto x = normal(d.rows() * d.channels, 1);
      if (ties)
        for (auto& v : x) v = std::round(v);
      auto const y = forward(on, d, x);
      CHECK(y == forward(judge, d, x));
      auto const dy = normal(y.size(), 2);
      CHECK(backward(on, d, x, dy) == backward(judge, d, x, dy));
    }
}

TEMPLATE_LIST_TEST_CASE("max_pool gives a tie's gradient to the first pixel", "", kernel_backends) {
  context<TestType> on(1);
  CHECK(backward(on, {1, 2, 2, 1, {2, 2}, {2, 2}}, std::vector<float>{7, 7, 7, 7}, {3}) ==
        std::vector<float>{3, 0, 0, 0});
}

TEMPLATE_LIST_TEST_CASE("max_pool gives the same bits on any number of threads", "", fast_backends) {
  for (auto const& d : pool_sizes) {
    auto const x = normal(d.rows() * d.channels, 1);
    auto const dy = normal(d.batch * d.out_height() * d.out_width() * d.channels, 2);
    check_same_bits<TestType>([&](auto& on) { return forward(on, d, x); });
    check_same_bits<TestType>([&](auto& on) { return backward(on, d, x, dy); });
  }
}
