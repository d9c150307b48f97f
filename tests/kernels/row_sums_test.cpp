#include <l3/kernels/kernels.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

template <class B>
std::vector<scalar_of<B>> sums(context<B>& on, std::size_t rows, std::size_t channels,
                               std::vector<scalar_of<B>> const& x) {
  output<scalar_of<B>> s(channels);
  scratch_memory scratch(scratch_size<B>::channels(channels, rows), 1, on.threads());
  channel_sums(on, rows, channels, x.data(), s, scratch);
  return s.values();
}
template <class B>
std::array<std::vector<scalar_of<B>>, 2> moments(context<B>& on, std::size_t rows, std::size_t channels,
                                                 std::vector<scalar_of<B>> const& x) {
  output<scalar_of<B>> mean(channels), variance(channels);
  scratch_memory scratch(scratch_size<B>::channels(channels, rows), 1, on.threads());
  channel_moments(on, rows, channels, x.data(), mean, variance, scratch);
  return {mean.values(), variance.values()};
}

struct row_size {
  std::size_t rows, channels;
};
row_size const row_sizes[] = {{1, 1},   {1, 17},    {2, 3},     {7, 5},     {1000, 1}, {333, 16},
                              {97, 33}, {5000, 24}, {4099, 64}, {1201, 96}, {3, 512},  {40, 512}};
}  // namespace

TEMPLATE_LIST_TEST_CASE("channel_sums agrees with the plain loop in double", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const [rows, channels] : row_sizes) {
    CAPTURE(rows, channels);
    auto const x = normal(rows * channels, 1, 0.5);
    CHECK(distance(sums(on, rows, channels, x), sums(judge, rows, channels, widened(x))) < 5e-6);
  }
}

TEMPLATE_LIST_TEST_CASE("channel_moments agrees with the plain loop in double", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const [rows, channels] : row_sizes) {
    CAPTURE(rows, channels);
    auto const x = normal(rows * channels, 1, 0.5);
    auto const found = moments(on, rows, channels, x);
    auto const expected = moments(judge, rows, channels, widened(x));
    CHECK(distance(found[0], expected[0]) < 1e-6);
    CHECK(distance(found[1], expected[1]) < 1e-6);
  }
}

TEMPLATE_LIST_TEST_CASE("channel_sums and channel_moments read bfloat16", "", fast_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const [rows, channels] : row_sizes) {
    CAPTURE(rows, channels);
    auto const x = stored(normal(rows * channels, 1, 0.5));
    auto const same = widened(restored(x));
    output<float> sum(channels), mean(channels), variance(channels);
    scratch_memory scratch(scratch_size<TestType>::channels(channels, rows), 1, on.threads());
    channel_sums(on, rows, channels, x.data(), sum, scratch);
    channel_moments(on, rows, channels, x.data(), mean, variance, scratch);
    auto const expected = moments(judge, rows, channels, same);
    CHECK(distance(sum.values(), sums(judge, rows, channels, same)) < 5e-6);
    CHECK(distance(mean.values(), expected[0]) < 1e-6);
    CHECK(distance(variance.values(), expected[1]) < 1e-6);
  }
}

TEMPLATE_LIST_TEST_CASE("channel_moments is accurate when the mean is far from zero", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (double mean : {1e3, -1e4, 1e5}) {  // standard deviations
    CAPTURE(mean);
    auto const x = normal(6000 * 17, 1, mean);
    auto const found = moments(on, 6000, 17, x);
    auto const expected = moments(judge, 6000, 17, widened(x));
    CHECK(distance(found[0], expected[0]) < 1e-7);
    CHECK(distance(found[1], expected[1]) < 2e-6);
  }
}

TEMPLATE_LIST_TEST_CASE("channel_moments is accurate when a chunk starts with an outlier", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  auto x = normal(6000 * 16, 1);
  for (std::size_t c = 0; c < 16; ++c) x[c] = 1e4f;
  auto const found = moments(on, 6000, 16, x);
  auto const expected = moments(judge, 6000, 16, widened(x));
  CHECK(distance(found[0], expected[0]) < 1e-5);
  CHECK(distance(found[1], expected[1]) < 1e-5);
}

TEMPLATE_LIST_TEST_CASE("channel_moments is accurate when the level changes on the way", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  constexpr std::size_t rows = 120'000, channels = 16;  // several chunks in each part
  for (double jump : {1.0, 30.0, 1e3, 1e5}) {           // standard deviations
    for (std::size_t every : {700u, 5000u, 50'000u}) {
      CAPTURE(jump, every);
      auto x = normal(rows * channels, 1);
      for (std::size_t k = 0; k < x.size(); ++k) x[k] += static_cast<float>(jump * double(k / channels / every % 3));
      auto const found = moments(on, rows, channels, x);
      auto const expected = moments(judge, rows, channels, widened(x));
      CHECK(distance(found[0], expected[0]) < 1e-6);
      CHECK(distance(found[1], expected[1]) < 1e-6);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("channel_moments of equal rows has variance zero", "", kernel_backends) {
  context<TestType> on(2);
  for (std::size_t rows : {1000u, 100'000u}) {
    auto const found = moments(on, rows, 3, std::vector<float>(3 * rows, 0.1f));
    CHECK(found[0] == std::vector<float>(3, 0.1f));
    CHECK(found[1] == std::vector<float>(3, 0.0f));
  }
}

TEMPLATE_LIST_TEST_CASE("sums over rows are the same bits on any number of threads", "", fast_backends) {
  for (auto const [rows, channels] : row_sizes) {
    auto const x = normal(rows * channels, 1, 3);
    auto const r = rows, c = channels;
    check_same_bits<TestType>([&](auto& on) { return sums(on, r, c, x); });
    check_same_bits<TestType>([&](auto& on) { return moments(on, r, c, x); });
  }
}
