/// @file  tests/core/more_threads_test.cpp: threads beyond one a core add up, and go again.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/core/more_threads.hpp>
#include <thread>

#include "../support/catch.hpp"

namespace {
std::size_t allowed() { return tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism); }
}  // namespace

TEST_CASE("threads beyond one a core add up while they are wanted") {
  std::size_t const before = allowed();
  auto const cores = static_cast<std::size_t>(tbb::info::default_concurrency());
  {
    l3::more_threads const few(2);
    CHECK(allowed() == cores + 2);
    {
      l3::more_threads const none(0), many(5);
      CHECK(allowed() == cores + 7);
      tbb::global_control const own(tbb::global_control::max_allowed_parallelism, 1);
      CHECK(allowed() == 1);
    }
    CHECK(allowed() == cores + 2);
  }
  CHECK(allowed() == before);
  CHECK(l3::more_threads::beyond_cores(cores) == 0);
  CHECK(l3::more_threads::beyond_cores(cores + 3) == 3);
}

TEST_CASE("two teams that are larger than the processor run on all their threads") {
  auto const cores = static_cast<std::size_t>(tbb::info::default_concurrency());
  l3::thread_team first(cores + 1), second(cores + 3);
  for (l3::thread_team* team : {&first, &second}) {
    // Tasks that wait for one another end only if all are at work at once.
    std::atomic<std::size_t> here = 0;
    std::atomic<bool> all = true;
    team->run(team->size(), [&](std::size_t, std::size_t) {
      ++here;
      auto const end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (here < team->size() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
      if (here < team->size()) all = false;
    });
    CHECK(all);
  }
}
