#include <l3/core/random.hpp>
#include <set>
#include <vector>

#include "../support/catch.hpp"

using l3::generator;
using l3::stream;

TEST_CASE("philox gives the known answers of Random123") {
  using words = std::array<std::uint32_t, 4>;
  CHECK(l3::philox4x32({0, 0, 0, 0}, {0, 0}) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(l3::philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(l3::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("every part of a draw's name changes the draw") {
  auto const first = [](generator g) { return g(); };
  std::set<std::uint32_t> const values{first({1, stream::clip, 0, 0}),          first({2, stream::clip, 0, 0}),
                                       first({1ull << 32, stream::clip, 0, 0}), first({1, stream::moment, 0, 0}),
                                       first({1, stream::clip, 1, 0}),          first({1, stream::clip, 1ull << 33, 0}),
                                       first({1, stream::clip, 0, 1}),          first({1, stream::clip, 0, 0, 1})};
  CHECK(values.size() == 8);
  generator a(7, stream::clip, 3, 4), b(7, stream::clip, 3, 4);
  for (int k = 0; k < 20; ++k) CHECK(a() == b());
}

TEST_CASE("uniform and below(n) are fair") {
  std::vector<int> tenths(10), sevenths(7);
  generator g(3, stream::user, 0, 0);
  int const n = 70000;
  for (int k = 0; k < n; ++k) {
    double const u = g.uniform();
    REQUIRE((u >= 0 && u < 1));
    ++tenths[static_cast<std::size_t>(u * 10)];
    ++sevenths[g.below(7)];
  }
  auto const chi_square = [&](std::vector<int> const& counts) {
    double const expected = static_cast<double>(n) / static_cast<double>(counts.size());
    double sum = 0;
    for (int const c : counts) sum += (c - expected) * (c - expected) / expected;
    return sum;
  };
  CHECK(chi_square(tenths) < 27.9);    // 99.9 % of chi-square with 9 degrees of freedom
  CHECK(chi_square(sevenths) < 22.5);  // 6 degrees
}

TEST_CASE("normal has mean 0, variance 1 and the right tails") {
  double sum = 0, squares = 0;
  int beyond_two = 0;
  int const n = 100000;
  for (int k = 0; k < n; ++k) {
    double const x = generator(5, stream::weights, 0, static_cast<std::uint32_t>(k)).normal();
    sum += x, squares += x * x, beyond_two += std::abs(x) > 2;
  }
  CHECK(std::abs(sum / n) < 0.012);
  CHECK(squares / n == Approx(1).margin(0.02));
  CHECK(beyond_two / static_cast<double>(n) == Approx(0.0455).margin(0.003));
}
