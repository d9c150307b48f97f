/// @file  tests/data/sample_test.cpp: draws have the distributions that the design states, labels are balanced, and
/// nothing but the correspondence tells them apart.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <l3/data/sample.hpp>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "../support/catch.hpp"

namespace {

/// What an item of a batch is made of.
struct item {
  std::uint32_t frame_clip = l3::nowhere, sound_clip = l3::nowhere;
  double frame_time = 0, sound_start = 0;
  std::int32_t label = -1;
  friend bool operator==(item const&, item const&) = default;
};

/// Clips of very different lengths, so that places near an end are common.
double length_of(std::uint32_t clip) { return std::array{1.0, 1.3, 2.0, 3.7, 10.0}[clip % 5]; }

/// The batch as a loader would make it, each clip beginning at 0.25 s of its clock.
std::vector<item> items_of(l3::batch_sampler const& sampler) {
  std::vector<item> items(sampler.request().count);
  for (auto const& d : sampler.draws()) {
    auto const at = l3::draw_moment(sampler.moment_numbers(d), 0.25, 0.25 + length_of(d.clip));
    if (d.frame_item != l3::nowhere) {
      REQUIRE(items.at(d.frame_item).frame_clip == l3::nowhere);  // no item gets two frames
      items[d.frame_item].frame_clip = d.clip;
      items[d.frame_item].frame_time = at.frame_time;
    }
    if (d.sound_item != l3::nowhere) {
      REQUIRE(items.at(d.sound_item).sound_clip == l3::nowhere);
      items[d.sound_item].sound_clip = d.clip;
      items[d.sound_item].sound_start = at.sound_start;
    }
  }
  for (std::uint32_t i = 0; i != items.size(); ++i) {
    REQUIRE(items[i].frame_clip != l3::nowhere);  // and each gets both halves
    REQUIRE(items[i].sound_clip != l3::nowhere);
    items[i].label = sampler.label(i);
  }
  return items;
}

std::vector<item> many_items(std::uint32_t batches, l3::batch_request request) {
  std::vector<item> items;
  for (request.step = 0; request.step != batches; ++request.step)
    for (auto const& each : items_of(l3::batch_sampler(request))) items.push_back(each);
  return items;
}

double chi_square(std::vector<double> const& observed, double expected) {
  return std::accumulate(observed.begin(), observed.end(), 0.0,
                         [&](double sum, double n) { return sum + (n - expected) * (n - expected) / expected; });
}
/// The value that chi-square exceeds once in a thousand times (Wilson and Hilferty's approximation).
double chi_square_limit(double degrees) {
  double const c = 2 / (9 * degrees);
  return degrees * std::pow(1 - c + 3.0902 * std::sqrt(c), 3);
}

/// Kolmogorov and Smirnov's distance of a sample from a distribution, in units that exceed 1.95 once in a thousand
/// times.
template <class Distribution>
double distance_from(std::vector<double> sample, Distribution const& share_below) {
  std::sort(sample.begin(), sample.end());
  double const n = static_cast<double>(sample.size());
  double most = 0;
  for (std::size_t i = 0; i != sample.size(); ++i) {
    double const below = share_below(sample[i]), k = static_cast<double>(i);
    most = std::max({most, below - k / n, (k + 1) / n - below});
  }
  return most * std::sqrt(n);
}
/// The same for two samples.
double distance_between(std::vector<double> a, std::vector<double> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  double const n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  double most = 0;
  for (std::size_t i = 0, j = 0; i != a.size() && j != b.size();) {
    double const here = std::min(a[i], b[j]);
    while (i != a.size() && a[i] == here) ++i;
    while (j != b.size() && b[j] == here) ++j;
    most = std::max(most, std::abs(static_cast<double>(i) / n - static_cast<double>(j) / m));
  }
  return most * std::sqrt(n * m / (n + m));
}
constexpr double one_in_a_thousand = 1.95;

}  // namespace

TEST_CASE("a moment: frame uniform over the clip, second uniform over those that contain it") {
  constexpr double begin = 0.5, length = 4;
  std::vector<double> frames, starts, places;
  for (std::uint32_t i = 0; i != 20000; ++i) {
    auto const [frame, start] = l3::draw_moment(l3::generator(3, l3::stream::moment, 0, i), begin, begin + length);
    REQUIRE((begin <= frame && frame <= begin + length));
    REQUIRE((begin <= start && start + 1 <= begin + length));
    REQUIRE((start <= frame && frame <= start + 1));
    frames.push_back(frame - begin);
    starts.push_back(start - begin);
    if (frame - begin > 1 && frame - begin < length - 1) places.push_back(frame - start);
  }
  CHECK(distance_from(frames, [](double t) { return t / length; }) < one_in_a_thousand);
  CHECK(distance_from(places, [](double p) { return p; }) < one_in_a_thousand);
  // Start s < 1 can come from frames t in (s, 1), each with t seconds of choice, and from those in (1, s + 1):
  // density (-ln s + s) / length; 1 / length in the middle; the same mirrored at the end.
  auto const head = [](double s) { return s - (s > 0 ? s * std::log(s) : 0) + s * s / 2; };
  auto const share = [&](double s) {
    if (s < 1) return head(s) / length;
    return s < 2 ? (1.5 + s - 1) / length : 1 - head(3 - s) / length;
  };
  CHECK(distance_from(starts, share) < one_in_a_thousand);
  CHECK(distance_from(starts, [](double s) { return s / (length - 1); }) > 2 * one_in_a_thousand);  // it is not uniform

  auto const whole = l3::draw_moment(l3::generator(3, l3::stream::moment, 0, 0), 2, 3);
  CHECK(whole.sound_start == 2);  // a clip of one second leaves no choice
}

TEST_CASE("pairing paper: as many positives as negatives in every batch, negatives from two videos") {
  for (std::uint32_t const count : {2u, 4u, 6u, 16u, 18u, 62u})
    for (std::uint32_t const clips : {2u, 3u, 50u})
      for (auto const& batch :
           {many_items(1, {.seed = 5, .pairs = l3::pairing::paper, .count = count, .clips = clips})}) {
        CHECK(std::count_if(batch.begin(), batch.end(), [](item const& i) { return i.label == 1; }) == count / 2);
        for (auto const& each : batch) {
          CHECK((each.frame_clip == each.sound_clip) == (each.label == 1));
          CHECK((each.frame_clip < clips && each.sound_clip < clips));
          if (each.label == 1) CHECK((each.sound_start <= each.frame_time && each.frame_time <= each.sound_start + 1));
        }
      }
}

TEST_CASE("pairing paper: no half alone tells the label") {
  constexpr std::uint32_t clips = 10;
  auto const items = many_items(1500, {.seed = 11, .pairs = l3::pairing::paper, .count = 16, .clips = clips});
  std::array<std::vector<double>, 2> frame_times, sound_starts, frame_ends, sound_ends;
  std::array<std::vector<double>, 2> frame_clips{std::vector<double>(clips), std::vector<double>(clips)};
  auto sound_clips = frame_clips;
  for (auto const& each : items) {
    auto const label = static_cast<std::size_t>(each.label);
    frame_times[label].push_back(each.frame_time);
    sound_starts[label].push_back(each.sound_start);
    frame_ends[label].push_back(0.25 + length_of(each.frame_clip) - each.frame_time);
    sound_ends[label].push_back(0.25 + length_of(each.sound_clip) - each.sound_start);
    frame_clips[label][each.frame_clip] += 1;
    sound_clips[label][each.sound_clip] += 1;
  }
  // Times from the start and from the end of the clip, over clips of 1 to 10 s.
  CHECK(distance_between(frame_times[0], frame_times[1]) < one_in_a_thousand);
  CHECK(distance_between(sound_starts[0], sound_starts[1]) < one_in_a_thousand);
  CHECK(distance_between(frame_ends[0], frame_ends[1]) < one_in_a_thousand);
  CHECK(distance_between(sound_ends[0], sound_ends[1]) < one_in_a_thousand);
  for (auto const& per_label : {frame_clips, sound_clips})
    for (auto const& counts : per_label)
      CHECK(chi_square(counts, static_cast<double>(items.size()) / 2 / clips) < chi_square_limit(clips - 1));

  SECTION("and the test would find a second drawn without its frame") {
    std::vector<double> naive;
    for (std::uint32_t i = 0; i != items.size() / 2; ++i) {
      l3::generator random(12, l3::stream::user, 0, i);
      double const length = length_of(random.below(clips));
      naive.push_back(random.uniform(0.25, 0.25 + length - 1));
    }
    CHECK(distance_between(naive, sound_starts[1]) > 2 * one_in_a_thousand);
  }
}

TEST_CASE("pairing all: every clip of a batch is another one, and all clips are as likely") {
  constexpr std::uint32_t clips = 12, count = 5, batches = 4000;
  std::vector<double> anywhere(clips), last_place(clips), neighbours(clips * clips);
  for (std::uint32_t step = 0; step != batches; ++step) {
    auto const batch = items_of(
        l3::batch_sampler({.seed = 3, .pairs = l3::pairing::all, .step = step, .count = count, .clips = clips}));
    std::set<std::uint32_t> different;
    for (auto const& each : batch) {
      REQUIRE((each.frame_clip == each.sound_clip && each.label == 1));
      different.insert(each.frame_clip);
      anywhere[each.frame_clip] += 1;
    }
    REQUIRE(different.size() == count);
    last_place[batch.back().frame_clip] += 1;
    neighbours[batch[0].frame_clip * clips + batch[1].frame_clip] += 1;
  }
  // Without replacement the variance of a count is smaller by (1 - count / clips).
  CHECK(chi_square(anywhere, batches * count / double{clips}) / (1 - count / double{clips}) <
        chi_square_limit(clips - 1));
  CHECK(chi_square(last_place, batches / double{clips}) < chi_square_limit(clips - 1));
  double const of_pairs = chi_square(neighbours, batches / double{clips * (clips - 1)}) -
                          clips * batches / double{clips * (clips - 1)};  // the diagonal is empty
  CHECK(of_pairs < chi_square_limit(clips * (clips - 1) - 1));

  auto const everything = items_of(l3::batch_sampler({.seed = 3, .count = clips, .clips = clips}));
  std::set<std::uint32_t> different;
  for (auto const& each : everything) different.insert(each.frame_clip);
  CHECK(different.size() == clips);
}

TEST_CASE("a batch is a function of its request") {
  l3::batch_request const request{.seed = 9, .pairs = l3::pairing::paper, .step = 4, .count = 16, .clips = 1000};
  auto const items = items_of(l3::batch_sampler(request));
  CHECK(items == items_of(l3::batch_sampler(request)));
  auto other = request;
  other.step = 5;
  CHECK(items != items_of(l3::batch_sampler(other)));
  other = request;
  other.seed = 10;
  CHECK(items != items_of(l3::batch_sampler(other)));
}

TEST_CASE("pairs for evaluation are the same whatever the batch size") {
  constexpr std::uint32_t pairs = 60;
  auto const evaluate = [](std::uint32_t batch, std::uint64_t seed) {
    std::vector<item> items;
    for (std::uint32_t first = 0; first < pairs; first += batch) {
      auto const part = items_of(l3::batch_sampler({.seed = seed,
                                                    .pairs = l3::pairing::paper,
                                                    .evaluation = true,
                                                    .step = first / batch,
                                                    .first = first,
                                                    .count = std::min(batch, pairs - first),
                                                    .clips = 7}));
      CHECK(2 * std::accumulate(part.begin(), part.end(), std::size_t{0},
                                [](std::size_t n, item const& i) { return n + static_cast<std::size_t>(i.label); }) ==
            part.size());
      items.insert(items.end(), part.begin(), part.end());
    }
    return items;
  };
  auto const whole = evaluate(pairs, 1);
  CHECK(whole.size() == pairs);
  for (auto const batch : {2u, 4u, 6u, 16u, 22u}) CHECK(evaluate(batch, 1) == whole);
  CHECK(evaluate(pairs, 2) != whole);
}

TEST_CASE("parts of a batch are what the whole batch has there") {
  for (auto const pairs : {l3::pairing::all, l3::pairing::paper})
    for (std::uint64_t step = 0; step != 50; ++step) {
      auto const whole =
          items_of(l3::batch_sampler({.seed = 9, .pairs = pairs, .step = step, .count = 24, .clips = 31}));
      for (std::uint32_t const size : {2u, 4u, 6u, 8u, 12u})
        for (std::uint32_t first = 0; first != 24; first += size) {
          auto const part = items_of(l3::batch_sampler(
              {.seed = 9, .pairs = pairs, .step = step, .first = first, .count = size, .whole = 24, .clips = 31}));
          REQUIRE(std::equal(part.begin(), part.end(), whole.begin() + first));
        }
    }
}

TEST_CASE("draws again, pairing paper: uniform over what can be used, and never the partner's clip") {
  constexpr std::uint32_t clips = 6;
  auto const usable = [](std::uint32_t clip) { return clip != 2 && clip != 5; };
  std::map<std::int32_t, std::vector<double>> frames, sounds;
  for (auto* counts : {&frames, &sounds}) (*counts)[0] = (*counts)[1] = std::vector<double>(clips);
  for (std::uint64_t step = 0; step != 2000; ++step) {
    l3::batch_sampler sampler({.seed = 21, .pairs = l3::pairing::paper, .step = step, .count = 8, .clips = clips});
    auto const draws = sampler.draws();
    std::vector<std::size_t> refused;
    for (std::size_t d = 0; d != draws.size(); ++d) usable(draws[d].clip) ? sampler.settle(d) : refused.push_back(d);
    for (auto const d : refused) {
      while (!usable(draws[d].clip)) REQUIRE(sampler.redraw(d, true));
      sampler.settle(d);
    }
    for (auto const& each : items_of(sampler)) {
      REQUIRE((usable(each.frame_clip) && usable(each.sound_clip)));
      REQUIRE((each.frame_clip == each.sound_clip) == (each.label == 1));
      frames[each.label][each.frame_clip] += 1;
      sounds[each.label][each.sound_clip] += 1;
    }
  }
  for (auto counts : {frames[0], frames[1], sounds[0], sounds[1]}) {
    std::erase(counts, 0);
    CHECK(counts.size() == 4);
    CHECK(chi_square(counts, 2000 * 4 / 4.0) < chi_square_limit(3));
  }
}

TEST_CASE("draws again, pairing all: clips stay different until none is left") {
  constexpr std::uint32_t clips = 8;
  SECTION("refused files are replaced by unused clips") {
    for (std::uint64_t step = 0; step != 200; ++step) {
      l3::batch_sampler sampler({.seed = 2, .step = step, .count = 6, .clips = clips});
      auto const usable = [](std::uint32_t clip) { return clip >= 2; };  // as many as the batch needs
      std::vector<std::size_t> refused;
      for (std::size_t d = 0; d != 6; ++d) usable(sampler.draws()[d].clip) ? sampler.settle(d) : refused.push_back(d);
      for (auto const d : refused) {
        while (!usable(sampler.draws()[d].clip)) REQUIRE(sampler.redraw(d, true));
        sampler.settle(d);
      }
      std::set<std::uint32_t> different;
      for (auto const& d : sampler.draws()) different.insert(d.clip);
      REQUIRE(different.size() == 6);
      REQUIRE(*different.begin() == 2);
    }
  }
  SECTION("a clip with one bad moment has another chance when the others are used up") {
    l3::batch_sampler sampler({.seed = 2, .count = clips, .clips = clips});
    for (std::size_t d = 1; d != clips; ++d) sampler.settle(d);
    auto const before = sampler.draws()[0];
    auto const numbers_before = sampler.moment_numbers(before)();
    REQUIRE(sampler.redraw(0, false));
    CHECK(sampler.draws()[0].clip == before.clip);
    CHECK(sampler.moment_numbers(sampler.draws()[0])() != numbers_before);
    CHECK_FALSE(sampler.redraw(0, true));
  }
}

TEST_CASE("batches that cannot be drawn are refused with the reason") {
  auto const draw = [](l3::batch_request const& r) { l3::batch_sampler s(r); };
  CHECK_THROWS_WITH(draw({.count = 9, .clips = 8}), Contains("at most the number of videos, 8") && Contains("found 9"));
  CHECK_THROWS_WITH(draw({.count = 1, .clips = 8}), Contains("at least two items"));
  CHECK_THROWS_WITH(draw({.count = 2, .clips = 1}), Contains("list of videos"));
  CHECK_THROWS_WITH(draw({.pairs = l3::pairing::paper, .count = 7, .clips = 8}),
                    Contains("even") && Contains("found 7"));
  CHECK_THROWS_WITH(draw({.pairs = l3::pairing::all, .evaluation = true, .count = 4, .clips = 8}), Contains("paper"));
  CHECK_THROWS_AS(draw({.pairs = l3::pairing::paper, .evaluation = true, .first = 1, .count = 4, .clips = 8}),
                  l3::setting_error);
}
