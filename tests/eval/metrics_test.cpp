#include <l3/eval/metrics.hpp>

#include "../support/catch.hpp"

using namespace l3;

TEST_CASE("accuracy, loss and confusion of pairs computed by hand") {
  correspondence_meter meter;
  std::vector<float> const logits{0, 2, 2, 0, 0, 2, 1, 1};
  std::vector<std::int32_t> const labels{1, 1, 0, 1};
  std::vector<std::uint32_t> const videos{0, 0xFFFFFFFF, 0xFFFFFFFF, 2};  // any names will do
  meter.add(std::span(logits).first(4), std::span(labels).first(2), std::span(videos).first(2));
  meter.add(std::span(logits).last(4), std::span(labels).last(2), std::span(videos).last(2));
  correspondence const r = meter.result(1);
  CHECK(r.pairs == 4);
  CHECK(r.accuracy == 0.25);  // a tie is a miss
  CHECK(r.confusion[1][1] == 1);
  CHECK(r.confusion[1][0] == 2);
  CHECK(r.confusion[0][1] == 1);
  double const near = std::log1p(std::exp(-2.0));
  CHECK(r.loss == Approx((near + (near + 2) + (near + 2) + std::log(2.0)) / 4));
  CHECK((r.interval[0] <= r.accuracy && r.accuracy <= r.interval[1]));
  CHECK(meter.result(1, 0).interval == std::array{0.25, 0.25});
  std::vector<std::int32_t> const signs{1, -1, 1, 1};
  CHECK_THROWS_AS(meter.add(logits, signs, videos), setting_error);
  CHECK_THROWS_AS(meter.add(std::span(logits).first(6), labels, videos), shape_error);
  CHECK(meter.result(1).pairs == 4);
}

TEST_CASE("the interval widens when pairs of a video go together") {
  auto const interval = [](std::uint32_t pairs_per_video) {
    correspondence_meter meter;
    for (std::uint32_t k = 0; k < 2000; ++k) {
      // All pairs of a video are right, or all wrong; 80 % of the videos are right.
      bool const right = k / pairs_per_video % 5 != 0;
      std::vector<float> const logits{0, right ? 1.0f : -1.0f};
      std::vector<std::int32_t> const label{1};
      std::vector<std::uint32_t> const video{k / pairs_per_video};
      meter.add(logits, label, video);
    }
    auto const r = meter.result(3);
    CHECK(r.accuracy == Approx(0.8));
    return r.interval[1] - r.interval[0];
  };
  // Binomial: 2 x 1.96 sqrt(0.8 x 0.2 / n), with n the number of independent things.
  CHECK(interval(1) == Approx(2 * 1.96 * std::sqrt(0.16 / 2000)).epsilon(0.15));
  CHECK(interval(20) == Approx(2 * 1.96 * std::sqrt(0.16 / 100)).epsilon(0.15));
}

TEST_CASE("nothing scored gives nothing, not a division by zero") {
  correspondence const r = correspondence_meter().result(1);
  CHECK(r.pairs == 0);
  CHECK(r.accuracy == 0);
}
