#include <l3/kernels/kernels.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

struct dense_inputs {
  dense_dims d;
  std::vector<float> x, w, bias, dy;
  explicit dense_inputs(dense_dims const& dims)
      : d(dims),
        x(normal(d.batch * d.in, 1)),
        w(normal(d.out * d.weight_stride, 2)),
        bias(normal(d.out, 3)),
        dy(normal(d.batch * d.out, 4)) {}
};

/// y with and without bias, dx, dw (the part of each row that the layer does not use stays not-a-number: left out).
template <class B>
std::array<std::vector<scalar_of<B>>, 4> results(context<B>& on, dense_inputs const& in) {
  using S = scalar_of<B>;
  auto const& d = in.d;
  auto const as = [](std::vector<float> const& v) { return std::vector<S>(v.begin(), v.end()); };
  auto const x = as(in.x), w = as(in.w), bias = as(in.bias), dy = as(in.dy);
  output<S> y(d.batch * d.out), unbiased(d.batch * d.out), dx(d.batch * d.in), dw(d.out * d.weight_stride);
  scratch_memory scratch(scratch_size<B>::dense(d), d.batch, on.threads());
  dense_forward(on, d, x.data(), w.data(), bias.data(), y, scratch);
  dense_forward(on, d, x.data(), w.data(), static_cast<S const*>(nullptr), unbiased, scratch);
  dense_backward_data(on, d, dy.data(), w.data(), dx, scratch);
  dense_backward_weights(on, d, x.data(), dy.data(), dw, scratch);
  std::vector<S> used;
  auto const all = dw.values();
  bool touched = false;
  for (std::size_t o = 0; o < d.out; ++o)
    for (std::size_t k = 0; k < d.weight_stride; ++k)
      if (k < d.in)
        used.push_back(all[o * d.weight_stride + k]);
      else
        touched |= !std::isnan(all[o * d.weight_stride + k]);
  CHECK(!touched);
  return {y.values(), unbiased.values(), dx.values(), used};
}

dense_dims const dense_sizes[] = {{1, 1, 1},      {0, 5, 3},  {150, 40, 300},       {1, 512, 128},
                                  {4, 16, 2},     {5, 33, 7}, {64, 512, 128, 1024}, {16, 17, 34, 20},
                                  {3, 1000, 131}, {7, 3, 50}, {130, 24, 5},         {9, 500, 33}};
}  // namespace

TEMPLATE_LIST_TEST_CASE("dense products agree with the plain loops in double", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const& d : dense_sizes) {
    CAPTURE(d.batch, d.in, d.out, d.weight_stride);
    dense_inputs const in(d);
    auto const found = results(on, in);
    auto const expected = results(judge, in);
    for (std::size_t k = 0; k < found.size(); ++k) {
      CAPTURE(k);
      CHECK(distance(found[k], expected[k]) < 2e-6);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("dense products are the same bits on any number of threads", "", fast_backends) {
  for (auto const& d : dense_sizes) {
    dense_inputs const in(d);
    if (d.in == d.weight_stride) check_same_bits<TestType>([&](auto& on) { return results(on, in); });
  }
}
