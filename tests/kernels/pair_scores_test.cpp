#include <l3/kernels/kernels.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

/// logits; du, dt, db1, dw2, db2
template <class B>
std::array<std::vector<scalar_of<B>>, 6> results(context<B>& on, pair_dims const& d) {
  using S = scalar_of<B>;
  auto const u = normal<S>(d.batch * d.hidden, 1), t = normal<S>(d.sounds() * d.hidden, 2), b1 = normal<S>(d.hidden, 3),
             w2 = normal<S>(d.classes * d.hidden, 4), b2 = normal<S>(d.classes, 5),
             dlogits = normal<S>(d.rows() * d.classes, 6);
  output<S> logits(d.rows() * d.classes), du(u.size()), dt(t.size()), db1(d.hidden), dw2(w2.size()), db2(d.classes);
  pair_scores_forward(on, d, u.data(), t.data(), b1.data(), w2.data(), b2.data(), logits);
  scratch_memory scratch(scratch_size<B>::pairs(d), d.batch, on.threads());
  pair_scores_backward(on, d, u.data(), t.data(), b1.data(), w2.data(), dlogits.data(), du, dt, db1, dw2, db2, scratch);
  return {logits.values(), du.values(), dt.values(), db1.values(), dw2.values(), db2.values()};
}

pair_dims const pair_sizes[] = {{1, 128, 2, pairing::all},   {1, 128, 2, pairing::paper}, {7, 128, 2, pairing::all},
                                {9, 33, 2, pairing::paper},  {5, 17, 3, pairing::all},    {3, 1, 1, pairing::all},
                                {64, 24, 5, pairing::paper}, {33, 40, 2, pairing::all},   {3, 40, 2, pairing::all, 10},
                                {1, 33, 2, pairing::all, 1}};
}  // namespace

TEMPLATE_LIST_TEST_CASE("pair_scores agrees with the plain loops in double", "", kernel_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const& d : pair_sizes) {
    CAPTURE(d.batch, d.sounds(), d.hidden, d.classes, d.which == pairing::all);
    auto const found = results(on, d);
    auto const expected = results(judge, d);
    for (std::size_t k = 0; k < found.size(); ++k) {
      CAPTURE(k);
      CHECK(distance(found[k], expected[k]) < 5e-6);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("pair_scores gives the same bits on any number of threads", "", fast_backends) {
  for (auto const& d : pair_sizes) check_same_bits<TestType>([&](auto& on) { return results(on, d); });
}
