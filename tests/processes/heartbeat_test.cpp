#include <array>
#include <atomic>
#include <chrono>
#include <l3/processes/heartbeat.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../support/catch.hpp"
#include "../support/thread_group.hpp"

using namespace l3;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t processes = 3;
constexpr heartbeat_settings quick{.interval = 20ms, .patience = 2s, .grace = 5s};

/// Threads with a heartbeat each; `f` is what each does, and what is left in `of` lives until all have done it.
template <class F>
void together(F&& f, std::array<heartbeat_settings, processes> const& settings = {quick, quick, quick}) {
  thread_group::shared s(processes);
  std::array<std::unique_ptr<heartbeat>, processes> beats;
  std::vector<std::jthread> threads;
  for (std::size_t rank = 0; rank != processes; ++rank)
    threads.emplace_back([&, rank] {
      thread_group group(s, rank);
      beats[rank] = std::make_unique<heartbeat>(
          group, settings[rank], [](auto&&...) {}, [] {});
      f(rank, beats[rank]);
      s.meet.arrive_and_wait();
      beats[rank].reset();
    });
}

/// What `check` says once it says something; empty after `most`.
std::string said_by(heartbeat const& beat, std::chrono::milliseconds most = 5s) {
  for (auto const end = std::chrono::steady_clock::now() + most; std::chrono::steady_clock::now() < end;) try {
      beat.check();
      std::this_thread::sleep_for(5ms);
    } catch (group_error const& e) {
      return e.what();
    }
  return "";
}

}  // namespace

TEST_CASE("processes that live do not miss each other, nor one that has said goodbye") {
  std::array<std::string, processes> said;
  together([&](std::size_t rank, std::unique_ptr<heartbeat>& beat) {
    if (rank == 2) return beat.reset();
    said[rank] = said_by(*beat, 300ms);
  });
  CHECK(said == std::array<std::string, processes>{});
}

TEST_CASE("why one process ends, all hear") {
  std::array<std::string, processes> said;
  std::string ended;
  together([&](std::size_t rank, std::unique_ptr<heartbeat>& beat) {
    if (rank == 1) ended = beat->end_all("process 1: no\nmemory");
    said[rank] = said_by(*beat);
  });
  CHECK(ended == "process 1: no memory");
  for (std::string const& each : said) CHECK(each == ended);
}

TEST_CASE("a process that is silent for too long is gone, and all are told which") {
  std::array<std::string, processes> said;
  // The first does not wait long for signs of life, which the last gives rarely.
  heartbeat_settings impatient = quick, silent = quick;
  impatient.patience = 1s, silent.interval = 1h;
  together([&](std::size_t rank, std::unique_ptr<heartbeat>& beat) { said[rank] = said_by(*beat); },
           {impatient, quick, silent});
  for (std::string const& each : said) CHECK(each == "process 2 has not answered for 1 s");
}

TEST_CASE("a program that does not end in time is ended") {
  thread_group::shared s(2);
  std::array<std::atomic<bool>, 2> told{}, ended{};
  std::vector<std::jthread> threads;
  for (std::size_t rank = 0; rank != 2; ++rank)
    threads.emplace_back([&, rank] {
      thread_group group(s, rank);
      heartbeat_settings settings = quick;
      settings.grace = 200ms;
      heartbeat beat(
          group, settings, [&](std::string const& why, bool lost) { told[rank] = why == "enough" && !lost; },
          [&] { ended[rank] = true; });
      if (rank == 1) beat.end_all("enough");
      for (int k = 0; k != 500 && !ended[rank]; ++k) std::this_thread::sleep_for(10ms);
      s.meet.arrive_and_wait();
    });
  threads.clear();
  for (std::size_t rank = 0; rank != 2; ++rank) {
    CHECK(told[rank]);
    CHECK(ended[rank]);
  }
}
