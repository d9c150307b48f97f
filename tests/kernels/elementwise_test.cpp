#include <l3/kernels/kernels.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

template <class B>
auto adam(context<B>& on, adam_settings const& a, std::size_t count) {
  using S = scalar_of<B>;
  auto const g = normal<S>(count, 1);
  auto w = normal<S>(count, 2), m = normal<S>(count, 3), v = normal<S>(count, 4);
  for (auto& one : v) one = one * one;
  adam_update(on, a, count, g.data(), w.data(), m.data(), v.data());
  return std::array{w, m, v};
}
std::size_t const counts[] = {1, 15, 33, 1000, 40001};
}  // namespace

TEMPLATE_LIST_TEST_CASE("relu agrees exactly with the plain loop and keeps what is not a number", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<float>> judge(1);
  for (auto const count : counts) {
    auto x = normal(count, 1);
    for (std::size_t k = 0; k < count; k += 7) x[k] = 0;
    auto const dy = normal(count, 2);
    output<float> y(count), expected(count), dx(count), expected_dx(count);
    relu_forward(on, count, x.data(), y);
    relu_forward(judge, count, x.data(), expected);
    CHECK(y.values() == expected.values());
    relu_backward(on, count, y.data(), dy.data(), dx);
    relu_backward(judge, count, y.data(), dy.data(), expected_dx);
    CHECK(dx.values() == expected_dx.values());
  }
  std::vector<float> const x(33, std::numeric_limits<float>::quiet_NaN());
  std::vector<float> y(33, 0.0f);
  relu_forward(on, x.size(), x.data(), y.data());
  CHECK(std::all_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }));
}

TEMPLATE_LIST_TEST_CASE("adam_update agrees with the plain loop in double", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const count : counts)
    for (bool decoupled : {false, true})
      for (std::uint64_t step : {1, 1000}) {
        CAPTURE(count, decoupled, step);
        adam_settings const a{.learning_rate = 0.01, .weight_decay = 0.1, .decoupled = decoupled, .step = step};
        auto const found = adam(on, a, count);
        auto const expected = adam(judge, a, count);
        for (std::size_t k = 0; k < 3; ++k) CHECK(distance(found[k], expected[k]) < 1e-6);
      }
}

TEMPLATE_LIST_TEST_CASE("adam_update gives the same bits on any number of threads", "", fast_backends) {
  check_same_bits<TestType>([&](auto& on) { return adam(on, {.weight_decay = 1e-5, .step = 3}, 100003); });
}

TEMPLATE_LIST_TEST_CASE("one value that is not finite is found wherever it is", "", kernel_backends) {
  context<TestType> on(2);
  using limits = std::numeric_limits<float>;
  CHECK(all_finite(on, 0, static_cast<float const*>(nullptr)));
  for (auto const count : counts) {
    auto x = normal(count, 1, 0, 1e37);
    x[count / 2] = limits::max(), x[count / 3] = -limits::denorm_min(), x[0] = -0.0f;
    CHECK(all_finite(on, count, x.data()));
    for (std::size_t k = 0; k<count; k += count> 1000 ? 997 : 1)
      for (float const bad : {limits::infinity(), -limits::infinity(), limits::quiet_NaN()}) {
        float const good = std::exchange(x[k], bad);
        CHECK_FALSE(all_finite(on, count, x.data()));
        x[k] = good;
      }
  }
}
