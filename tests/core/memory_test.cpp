#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/tensor.hpp>
#include <limits>
#include <numeric>
#include <vector>

#include "../support/catch.hpp"

TEST_CASE("footprints add up, share, and keep every piece on a cache line") {
  constexpr l3::footprint a = l3::per_item<float>(3), b = l3::fixed<double>(9), c = l3::per_thread<float>(17);
  static_assert(a == l3::footprint{.per_item = 64});
  static_assert((a + b + c).bytes(5, 2) == 5 * 64 + 128 + 2 * 128);
  static_assert(l3::either(a + b, c).bytes(1, 1) == 64 + 128 + 128);
  l3::arena const block((a + b).bytes(3, 1));
  l3::carver pieces(block.data(), 3, 1);
  auto* const first = pieces.take<float>(a);
  auto* const second = pieces.take<double>(b);
  CHECK(reinterpret_cast<std::byte*>(second) - reinterpret_cast<std::byte*>(first) == 3 * 64);
  CHECK(reinterpret_cast<std::uintptr_t>(second) % l3::alignment == 0);
  CHECK(pieces.rest() - block.data() == static_cast<std::ptrdiff_t>(block.size()));
}

TEST_CASE("counts beyond what numbers can say give no memory, and no threads") {
  std::size_t const none_minus_one = std::size_t{0} - 1;
  constexpr l3::footprint a = l3::per_item<float>(3);
  static_assert(a.bytes(std::size_t{1} << 60, 1) == std::numeric_limits<std::size_t>::max());
  CHECK_THROWS_AS(l3::arena(none_minus_one), std::bad_alloc);
  CHECK_THROWS_AS((l3::tensor<float, l3::features<4>>(none_minus_one)), std::bad_alloc);
  CHECK_THROWS_AS((l3::tensor<float, l3::image<8, 8, 64>>(std::size_t{1} << 50)), std::bad_alloc);
  CHECK_THROWS_AS(l3::thread_team(none_minus_one), l3::setting_error);
  CHECK_THROWS_AS(l3::thread_team((std::size_t{1} << 32) + 1), l3::setting_error);
}

TEST_CASE("an arena starts as zeros, also a large one") {
  l3::arena const block((std::size_t{1} << 22) + 1);
  CHECK(std::all_of(block.data(), block.data() + block.size(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST_CASE("a view shares its tensor's values and slices by item") {
  l3::tensor<int, l3::image<2, 3, 1>> t(4);
  std::iota(t.values().begin(), t.values().end(), 0);
  auto const middle = t.view().slice(1, 2);
  CHECK(middle.count == 2);
  CHECK(middle[1][0] == 12);
  l3::batch_view<int const, l3::image<2, 3, 1>> const read = t.view();
  CHECK(read.data == t.data());
  CHECK_THROWS_AS(l3::require_same_count("here", 3, 4), l3::shape_error);
}

TEST_CASE("a team runs every task once, and tasks at the same time have different slots") {
  for (std::size_t const threads : {1, 2, 3, 8}) {
    l3::thread_team team(threads);
    REQUIRE(team.size() == threads);
    std::vector<int> runs(1000), busy(threads);
    std::atomic<bool> clash = false;
    team.run(runs.size(), [&](std::size_t task, std::size_t slot) {
      if (busy[slot]++ != 0) clash = true;
      ++runs[task];
      --busy[slot];
    });
    CHECK(std::all_of(runs.begin(), runs.end(), [](int r) { return r == 1; }));
    CHECK_FALSE(clash);
  }
}

TEST_CASE("a task that has its team work for it is left by no other task meanwhile") {
  l3::thread_team team(4);
  std::vector<int> busy(team.size());
  std::atomic<bool> clash = false;
  for (int time = 0; time != 200; ++time)
    team.run(64, [&](std::size_t, std::size_t slot) {
      if (busy[slot]++ != 0) clash = true;
      std::atomic<int> sum = 0;
      team.run(16, [&](std::size_t task, std::size_t) {
        for (int k = 0; k != 200; ++k) sum.fetch_add(static_cast<int>(task), std::memory_order_relaxed);
      });
      if (sum != 200 * 120) clash = true;
      --busy[slot];
    });
  CHECK_FALSE(clash);
}
