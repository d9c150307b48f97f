#include <l3/kernels/kernels.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

struct norm_inputs {
  pool_dims d;
  std::vector<float> x, dy, gamma, beta, mean, inverse_std;
  norm_inputs(pool_dims const& dims, bool with_ties)
      : d(dims),
        x(normal(d.rows() * d.channels, 1)),
        dy(normal(d.batch * d.out_height() * d.out_width() * d.channels, 2)),
        gamma(normal(d.channels, 3)),  // both signs: a negative scale makes the smallest pixel win
        beta(normal(d.channels, 4)),
        mean(normal(d.channels, 5)),
        inverse_std(normal(d.channels, 6)) {
    for (auto& s : inverse_std) s = 0.5f + std::abs(s);
    if (!with_ties) return;
    // Quarters everywhere, so that affine maps are exact in float and windows are full of equal values.
    for (auto* values : {&x, &gamma, &beta, &mean, &inverse_std})
      for (auto& v : *values) v = std::round(v * 2) / 4;
  }
};

template <class B>
std::vector<scalar_of<B>> forward(context<B>& on, norm_inputs const& in, bool relu) {
  using S = scalar_of<B>;
  std::vector<S> const x(in.x.begin(), in.x.end()), scale(in.gamma.begin(), in.gamma.end()),
      shift(in.beta.begin(), in.beta.end());
  output<S> y(in.dy.size());
  affine_pool_forward(on, in.d, x.data(), scale.data(), shift.data(), relu, y.data());
  return y.values();
}

template <class B>
std::array<std::vector<scalar_of<B>>, 3> backward(context<B>& on, norm_inputs const& in, bool relu) {
  using S = scalar_of<B>;
  auto const as = [](std::vector<float> const& v) { return std::vector<S>(v.begin(), v.end()); };
  auto const x = as(in.x), dy = as(in.dy), mean = as(in.mean), inverse_std = as(in.inverse_std), gamma = as(in.gamma),
             beta = as(in.beta);
  output<S> dx(x.size()), dgamma(in.d.channels), dbeta(in.d.channels);
  scratch_memory scratch(scratch_size<B>::channels(in.d.channels, in.d.height * in.d.width), in.d.batch, on.threads());
  batch_norm_relu_pool_backward(on, in.d, x.data(), {mean.data(), inverse_std.data(), gamma.data(), beta.data()}, relu,
                                dy.data(), dx.data(), dgamma, dbeta, scratch);
  return {dx.values(), dgamma.values(), dbeta.values()};
}

// No pooling, the paper's pooling with odd sides, the global maximum, overlapping and odd windows.
pool_dims const norm_sizes[] = {
    {2, 5, 7, 16, {1, 1}, {1, 1}},  {1, 1, 1, 1, {1, 1}, {1, 1}},    {3, 9, 1, 33, {1, 1}, {1, 1}},
    {2, 6, 8, 16, {2, 2}, {2, 2}},  {2, 7, 9, 24, {2, 2}, {2, 2}},   {1, 3, 2, 5, {2, 2}, {2, 2}},
    {3, 2, 3, 64, {2, 2}, {2, 2}},  {1, 40, 51, 17, {2, 2}, {2, 2}}, {3, 5, 4, 33, {5, 4}, {5, 4}},
    {1, 17, 9, 1, {17, 9}, {1, 1}}, {2, 9, 7, 13, {3, 2}, {2, 1}},   {1, 6, 6, 3, {2, 2}, {1, 1}},
    {2, 8, 9, 19, {2, 3}, {3, 4}},  {1, 60, 50, 40, {1, 1}, {1, 1}}, {2, 5, 5, 8, {1, 1}, {2, 2}},
};
}  // namespace

TEMPLATE_LIST_TEST_CASE("affine_pool_forward agrees with the plain loop in double", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const& d : norm_sizes)
    for (bool relu : {false, true}) {
      CAPTURE(d.batch, d.height, d.width, d.channels, d.window.height, d.window.width, relu);
      norm_inputs const in(d, false);
      CHECK(distance(forward(on, in, relu), forward(judge, in, relu)) < 1e-6);
    }
}

TEMPLATE_LIST_TEST_CASE("batch_norm_relu_pool_backward agrees with the plain loop in double", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const& d : norm_sizes)
    for (bool relu : {false, true})
      for (bool ties : {false, true}) {
        CAPTURE(d.batch, d.height, d.width, d.channels, d.window.height, d.window.width, relu, ties);
        norm_inputs const in(d, ties);
        auto const found = backward(on, in, relu);
        auto const expected = backward(judge, in, relu);
        CHECK(distance(found[0], expected[0]) < 5e-6);
        CHECK(distance(found[1], expected[1]) < 5e-6);
        CHECK(distance(found[2], expected[2]) < 5e-6);
      }
}

TEMPLATE_LIST_TEST_CASE("batch norm's passes give the same bits on any number of threads", "", fast_backends) {
  for (auto const& d : norm_sizes) {
    CAPTURE(d.batch, d.height, d.width, d.channels, d.window.height, d.window.width);
    norm_inputs const in(d, false);
    check_same_bits<TestType>([&](auto& on) { return forward(on, in, true); });
    check_same_bits<TestType>([&](auto& on) { return backward(on, in, true); });
  }
}

// More than 32 MiB are stored past the caches.
TEMPLATE_LIST_TEST_CASE("batch norm's passes over maps larger than the caches agree with the plain loops", "",
                        fast_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (std::size_t const side : {1, 2}) {
    norm_inputs const in({2, 263, 255, 64, {side, side}, {side, side}}, false);
    REQUIRE(in.x.size() * sizeof(float) > (std::size_t{32} << 20));
    CHECK(distance(forward(on, in, true), forward(judge, in, true)) < 1e-6);
    CHECK(distance(backward(on, in, true)[0], backward(judge, in, true)[0]) < 1e-5);
    std::vector<float> const aligned = forward(on, in, true);
    output<float> y(in.dy.size() + 1);  // off by a float, where no whole lines fit
    affine_pool_forward(on, in.d, in.x.data(), in.gamma.data(), in.beta.data(), true, y.data() + 1);
    CHECK(std::equal(aligned.begin(), aligned.end(), y.data() + 1));
  }
}

namespace {
/// Maps stored as bfloat16, y and dy as Y, give what floats of the same values give, but for rounding of what is
/// written so.
template <class B, class Y>
void check_stored(norm_inputs in, bool relu) {
  CAPTURE(in.d.batch, in.d.height, in.d.width, in.d.channels, in.d.window.height, in.d.window.width, relu);
  context<B> on(2);
  auto const x = stored(in.x);
  in.x = restored(x), in.dy = restored(stored(in.dy));
  std::vector<Y> dy;
  for (float const g : in.dy) dy.push_back(static_cast<Y>(g));
  output<Y> y(dy.size());
  affine_pool_forward(on, in.d, x.data(), in.gamma.data(), in.beta.data(), relu, y.data());
  if constexpr (std::same_as<Y, float>)
    CHECK(distance(y.values(), widened(forward(on, in, relu))) < 1e-6);
  else
    CHECK(rounds_to(forward(on, in, relu), y.values()));

  output<bfloat16> dx(x.size());
  output<float> dgamma(in.d.channels), dbeta(in.d.channels);
  scratch_memory scratch(scratch_size<B>::channels(in.d.channels, in.d.height * in.d.width), in.d.batch, on.threads());
  batch_norm_relu_pool_backward(on, in.d, x.data(),
                                {in.mean.data(), in.inverse_std.data(), in.gamma.data(), in.beta.data()}, relu,
                                dy.data(), dx.data(), dgamma, dbeta, scratch);
  auto const expected = backward(on, in, relu);
  // Of other windows, dx holds sums of dy on the way.
  bool const at_once = detail::is_square_tiling(in.d, 1) || detail::is_square_tiling(in.d, 2);
  if (at_once)
    CHECK(rounds_to(expected[0], dx.values()));
  else
    CHECK(distance(restored(dx.values()), widened(expected[0])) < 5.0 / 256);
  CHECK(distance(dgamma.values(), widened(expected[1])) < (at_once ? 5e-6 : 1.0 / 128));
  CHECK(distance(dbeta.values(), widened(expected[2])) < (at_once ? 5e-6 : 1.0 / 128));
}
}  // namespace

TEMPLATE_LIST_TEST_CASE("batch norm's passes read and write bfloat16", "", fast_backends) {
  for (auto const& d : norm_sizes)
    for (bool relu : {false, true}) {
      check_stored<TestType, bfloat16>(norm_inputs(d, false), relu);
      check_stored<TestType, float>(norm_inputs(d, false), relu);  // as a network's last block
    }
#if defined(__AVX512BF16__)  // without these instructions none goes past the caches
  for (std::size_t const side : {1, 2})
    check_stored<TestType, bfloat16>(norm_inputs({3, 301, 307, 64, {side, side}, {side, side}}, false), true);
#endif
}
