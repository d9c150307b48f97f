#include <cmath>
#include <l3/train/loss.hpp>

#include "../support/catch.hpp"

using namespace l3;

TEST_CASE("scores without knowledge cost ln 2, whichever the pairing") {
  context<cpu> on(1);
  std::vector<float> const logits(32, 0.0f);
  std::vector<float> gradient(32);
  pair_loss<cpu> loss(16);
  CHECK(loss(on, pairing::all, 4, {}, logits.data(), gradient.data()).loss == Approx(std::log(2.0)));
  std::vector<std::int32_t> const labels{1, 0, 0, 1};
  CHECK(loss(on, pairing::paper, 4, labels, logits.data(), gradient.data()).loss == Approx(std::log(2.0)));
}

TEST_CASE("both labels weigh the same, however many pairs they have") {
  context<cpu> on(1);
  pair_loss<cpu> loss(9);
  std::vector<float> gradient(18), yes(18);
  for (std::size_t row = 0; row < 9; ++row) yes[2 * row + 1] = 10;  // says "they correspond" to everything
  pair_score const all = loss(on, pairing::all, 3, {}, yes.data(), gradient.data());
  CHECK(all.accuracy == 0.5);
  CHECK(all.loss == Approx(5).epsilon(1e-3));
  float sum = 0;
  for (std::size_t row = 0; row < 9; ++row) sum += gradient[2 * row + 1];
  CHECK(sum == Approx(0.5).epsilon(1e-3));  // of the negatives alone
}

TEST_CASE("right answers of the diagonal and of the rest make an accuracy of 1") {
  context<cpu> on(1);
  pair_loss<cpu> loss(9);
  std::vector<float> gradient(18), logits(18);
  for (std::size_t row = 0; row < 9; ++row) logits[2 * row + (row % 4 == 0)] = 3;
  CHECK(loss(on, pairing::all, 3, {}, logits.data(), gradient.data()).accuracy == 1);
}
