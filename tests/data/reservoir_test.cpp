/// @file  tests/data/reservoir_test.cpp: every draw of every opening once, no video twice at a time, all videos alike,
/// from any step on.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <l3/data/reservoir.hpp>
#include <l3/data/sample.hpp>
#include <map>
#include <set>
#include <vector>

#include "../support/catch.hpp"

TEST_CASE("a reservoir uses every draw of every opening once, in different batches, and no lane idles") {
  for (auto const& [batch, draws, least] :
       {std::array<std::size_t, 3>{16, 8, 64}, {4, 2, 1}, {64, 8, 64}, {6, 3, 10}, {4, 8, 10}}) {
    INFO(batch << ' ' << draws << ' ' << least);
    l3::reservoir const stock(5, batch, 1000, draws, least);
    auto const lanes = stock.lanes();
    CHECK(lanes >= std::max(least, batch));
    CHECK(lanes % batch == 0);
    CHECK(lanes % draws == 0);
    std::size_t const cycles = 40, batches = cycles * lanes / batch;
    std::map<std::uint64_t, std::vector<std::uint64_t>> steps_of;  // the cycles in which an opening's draws come
    std::map<std::uint64_t, std::set<std::uint32_t>> draws_of;
    bool apart = true;
    for (std::uint64_t step = 0; step < batches; ++step) {
      std::set<std::uint64_t> openings;
      std::set<std::uint32_t> clips;
      for (auto const& p : stock.batch(step)) {
        openings.insert(p.opening);
        clips.insert(stock.clip(p.opening));
        steps_of[p.opening].push_back(step * batch / lanes);
        draws_of[p.opening].insert(p.draw);
      }
      apart = apart && openings.size() == batch && clips.size() == batch;
    }
    CHECK(apart);
    std::size_t whole = 0;
    for (auto const& [opening, cycles_used] : steps_of) {
      auto const& used = draws_of[opening];
      bool const once = used.size() == cycles_used.size();
      bool const in_a_row = cycles_used.back() - cycles_used.front() + 1 == cycles_used.size();
      if (!once || !in_a_row || *used.rbegin() >= draws) FAIL("opening " << opening);
      whole += used.size() == draws ? 1 : 0;
    }
    // Those at either end of the run are cut off.
    CHECK(whole >= cycles * lanes / draws - 2 * lanes);
    CHECK(steps_of.rbegin()->first == steps_of.size() - 1);  // counted without gaps
  }
}

TEST_CASE("openings take every video once an epoch, in another order each, and none twice at a time") {
  for (std::size_t const clips : {192, 193, 1000, 1025}) {
    l3::reservoir const stock(3, 16, clips, 8, 64);
    std::vector<std::uint32_t> order;
    for (std::uint64_t n = 0; n < 20 * clips; ++n) order.push_back(stock.clip(n));
    for (std::size_t e = 0; e < 20; ++e) {
      std::set<std::uint32_t> const epoch(order.begin() + static_cast<std::ptrdiff_t>(e * clips),
                                          order.begin() + static_cast<std::ptrdiff_t>((e + 1) * clips));
      CHECK(epoch.size() == clips);
      CHECK(*epoch.rbegin() == clips - 1);
    }
    std::size_t twice = 0;
    std::map<std::uint32_t, std::size_t> last;
    for (std::size_t n = 0; n < order.size(); ++n) {
      if (auto const seen = last.find(order[n]); seen != last.end()) twice += n - seen->second < stock.lanes() ? 1 : 0;
      last[order[n]] = n;
    }
    CHECK(twice == 0);
    // Where a video stands in an epoch has nothing to do with where it stood in the one before: the correlation of
    // 19 epochs' places has the standard deviation 1 / sqrt(19 n). But of the share f that was last, f are not first.
    double sum = 0, squares = 0;
    auto const half = static_cast<double>(clips) / 2,
               f = static_cast<double>(stock.lanes()) / static_cast<double>(clips);
    std::vector<double> place(clips);
    for (std::size_t e = 0; e < 20; ++e) {
      std::vector<double> now(clips);
      for (std::size_t p = 0; p < clips; ++p) now[order[e * clips + p]] = static_cast<double>(p) - half;
      if (e > 0)
        for (std::size_t v = 0; v < clips; ++v) sum += now[v] * place[v], squares += now[v] * now[v];
      place = now;
    }
    CHECK(std::abs(sum / squares) < 5 / std::sqrt(19.0 * static_cast<double>(clips)) + 2.5 * f * f);
  }
  CHECK_THROWS_WITH(l3::reservoir(1, 16, 191, 8, 64), Contains("at least 192 videos") && Contains("found 191"));
  CHECK_THROWS_WITH(l3::reservoir(1, 16, 9999, 6, 64), Contains("a divisor or a multiple of the batch size, 16"));
}

TEST_CASE("a step of a reservoir is the same whatever was asked before") {
  l3::reservoir const walked(9, 16, 300, 8, 64), fresh(9, 16, 300, 8, 64), other(10, 16, 300, 8, 64);
  for (std::uint64_t step = 0; step < 3000; ++step) {
    auto const places = walked.batch(step);
    for (auto const& p : places) (void)walked.clip(p.opening);
    if (step % 977 != 0) continue;
    l3::reservoir const jumped(9, 16, 300, 8, 64);
    CHECK(jumped.batch(step) == places);
    for (auto const& p : places) CHECK(jumped.clip(p.opening) == walked.clip(p.opening));
    CHECK(other.batch(step) != places);
  }
  CHECK(fresh.batch(1u << 30).size() == 16);
}

TEST_CASE("draws of a reservoir are those of its openings, and what is drawn again is not") {
  l3::reservoir const stock(4, 8, 300, 4, 8);
  l3::batch_request request{.seed = 4, .step = 11, .count = 8, .clips = 300, .shared = &stock};
  for (auto const pairs : {l3::pairing::all, l3::pairing::paper}) {
    request.pairs = pairs;
    l3::batch_sampler sampler(request);
    REQUIRE(sampler.draws().size() == 8);
    auto const places = stock.batch(11);
    for (auto const& d : sampler.draws()) {
      CHECK(sampler.is_shared(d));
      CHECK(sampler.place_of(d) == places[d.index]);
      CHECK(d.clip == stock.clip(places[d.index].opening));
    }
    auto const before = sampler.draws()[2];
    auto moment = sampler.moment_numbers(before);
    for (std::size_t d = 0; d < 8; ++d)
      if (d != 2) sampler.settle(d);
    REQUIRE(sampler.redraw(2, true));
    auto const again = sampler.draws()[2];
    CHECK_FALSE(sampler.is_shared(again));
    CHECK(again.clip != before.clip);
    for (std::size_t d = 0; d < 8; ++d)
      if (d != 2 && pairs == l3::pairing::all) CHECK(sampler.draws()[d].clip != again.clip);
    CHECK(sampler.moment_numbers(again)() != moment());
  }
  request.pairs = l3::pairing::paper;
  request.count = 6;
  CHECK_THROWS_WITH(l3::batch_sampler(request), Contains("a multiple of four"));
}
