#include <l3/layers/sequential.hpp>
#include <l3/model/chain_inference.hpp>
#include <l3/model/subnet.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

/// Convolutions in matrix registers pass each other packed maps.
constexpr bool packs = detail::has_matrix_products<arch::best, bf16> && multiplies<arch::best, bf16>;

/// Maps passed on as floats, each layer for itself; and prepared, as networks in use run.
template <class Chain>
void check_same(std::size_t items) {
  context<best_products> on(2);
  auto const x = normal(items * Chain::input::size, 1), weights = normal(Chain::parameter_room, 2, 0.1, 0.3);
  auto params = weights;
  for (parameter const& p : Chain::parameters)
    if (p.kind == role::spread)
      for (std::size_t k = 0; k < p.count(); ++k) params[p.offset + k] = 1 + std::abs(weights[p.offset + k]);
  output<float> plain(items * Chain::output::size), prepared(items * Chain::output::size);
  scratch_memory scratch(Chain::template scratch<best_products>, items, on.threads());
  Chain::infer(pass<best_products>{on, items, scratch}, params.data(), x.data(), plain);
  chain_inference<Chain, best_products> net(on, params.data(), items);
  for (int again = 0; again < 2; ++again) {  // its memory holds what the first call left
    net({x.data(), items}, {prepared, items});
    CHECK(prepared.values() == plain.values());
  }
}
}  // namespace

TEST_CASE("a chain passes packed maps on where convolutions read them") {
  using whole = subnet<image<24, 24, 3>, 16>;
  static_assert((whole::packed_into<best_products, 1> != footprint{}) == packs);
  static_assert((whole::packed_into<best_products, 7> != footprint{}) == packs);
  static_assert(whole::packed_into<best_products, 0> == footprint{} &&
                whole::packed_into<best_products, 8> == footprint{});
  using mixed =
      sequential<image<9, 11, 40>, conv3x3<24>, batch_norm<>, relu, max_pool<>, relu, conv3x3<16>, batch_norm<>>;
  // Too many channels for it between those that read and write packed maps.
  using many = sequential<image<9, 9, 16>, conv3x3<300>, batch_norm<>, relu, conv3x3<300>, batch_norm<>, relu,
                          conv3x3<16>, batch_norm<>>;
  static_assert(many::packed_into<best_products, 1> == footprint{} &&
                many::packed_into<best_products, 2> == footprint{});
  static_assert(mixed::packed_into<best_products, 1> == footprint{}, "what stands between reads floats");
}

TEST_CASE("packed maps change no bit of what a chain gives") {
  check_same<subnet<image<24, 24, 3>, 16>>(3);
  check_same<conv4_2<image<65, 51, 1>, 16>>(2);  // odd heights and widths
  check_same<
      sequential<image<9, 11, 40>, conv3x3<24>, batch_norm<>, relu, max_pool<>, relu, conv3x3<16>, batch_norm<>>>(2);
}
