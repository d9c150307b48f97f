#include <l3/layers/sequential.hpp>
#include <vector>

#include "../support/catch.hpp"
#include "../support/kernel_inputs.hpp"
#include "../support/micro.hpp"

using namespace l3;

// 7 x 10: odd and unequal, so that swapped axes and dropped lines show.
using seven_by_ten = image<7, 10, 3>;
template <class... Specs>
struct both {
  using fused = sequential<seven_by_ten, Specs...>;
  using plain = unfused_sequential<seven_by_ten, Specs...>;
};
using block =
    both<named<"conv1", conv3x3<5>>, named<"bn1", batch_norm<>>, relu, max_pool<>, named<"conv2", conv3x3<6, true>>,
         named<"bn2", batch_norm<>>, relu, named<"conv3", conv3x3<4>>, named<"bn3", batch_norm<>>,
         named<"conv4", conv3x3<4>>, named<"bn4", batch_norm<>>, relu, global_max_pool, named<"fc", dense<3>>, relu>;
using fused_block = block::fused;
using plain_block = block::plain;

static_assert(fused_block::length == 6);  // four convolution blocks, dense, relu
static_assert(plain_block::length == 15);
static_assert(std::same_as<fused_block::output, features<3>>);
static_assert(fused_block::parameters.size() == plain_block::parameters.size());
static_assert(
    std::same_as<sequential<image<257, 199, 64>, max_pool<>>::output, image<128, 99, 64>>);  // odd: last line goes
static_assert(std::same_as<sequential<image<9, 7, 13>, max_pool<pool{{3, 2}, {2, 1}}>>::output, image<4, 6, 13>>);
static_assert(sequential<image<4, 6, 2>, conv3x3<8>>::flops == 2.0 * 9 * 2 * 8 * 4 * 6);
static_assert(sequential<image<4, 6, 2>, expect<image<4, 6, 2>>, conv3x3<8>, expect<image<4, 6, 8>>>::length == 1);

template <class B, class Chain>
struct runner {
  using S = scalar_of<B>;
  context<B> on;
  std::size_t n;
  tensor<S, features<1>> params{Chain::parameter_room}, gradients{Chain::parameter_room};
  arena kept{Chain::template kept<B>.bytes(n, on.threads())},
      scratch{Chain::template scratch<B>.bytes(n, on.threads())};
  tensor<S, typename Chain::input> x, dx;
  tensor<S, typename Chain::output> dy;

  explicit runner(std::size_t items, std::size_t threads = 1)
      : on(threads),
        n(items),
        x(uniform_batch<S, typename Chain::input>(items, 11)),
        dx(items),
        dy(uniform_batch<S, typename Chain::output>(items, 12)) {
    std::uint32_t index = 0;
    for (parameter const& p : Chain::parameters)
      for (std::size_t k = 0; k < p.count(); ++k) {
        double const u = generator(13, stream::user, 0, index++).uniform(-1, 1);
        params.data()[p.offset + k] =
            static_cast<S>(p.kind == role::spread || p.kind == role::gain ? 1.5 + 0.5 * u : 0.5 * u);
      }
  }
  pass<B> at() { return {on, n, scratch.data()}; }
  std::vector<S> forward() {
    S const* const y = Chain::forward(at(), params.data(), x.data(), kept.data());
    return {y, y + n * Chain::output::size};
  }
  void backward() {
    Chain::backward(at(), params.data(), x.data(), kept.data(), dy.data(), dx.data(), gradients.data());
  }
  std::vector<S> infer() {
    tensor<S, typename Chain::output> y(n);
    Chain::infer(at(), params.data(), x.data(), y.data());
    return {y.values().begin(), y.values().end()};
  }
  std::vector<S> infer_prepared() {
    tensor<S, typename Chain::output> y(n);
    arena prepared(Chain::template prepared<B>.fixed);
    Chain::prepare(on, params.data(), prepared.data());
    arena just_enough(Chain::template infer_scratch<B>.bytes(n, on.threads()));
    Chain::infer_prepared(pass<B>{on, n, just_enough.data()}, params.data(), prepared.data(), x.data(), y.data());
    return {y.values().begin(), y.values().end()};
  }
  /// dy . y, whose gradients backward gives. Running averages are put back: a finite difference must not move them.
  double objective() {
    std::vector<S> const before(params.values().begin(), params.values().end());
    auto const y = forward();
    std::copy(before.begin(), before.end(), params.data());
    double sum = 0;
    for (std::size_t k = 0; k < y.size(); ++k) sum += static_cast<double>(y[k]) * static_cast<double>(dy.data()[k]);
    return sum;
  }
};

template <class A, class C>
void close(A const& a, C const& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  double most = 0, scale = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    most = std::max(most, std::abs(static_cast<double>(a[k]) - static_cast<double>(b[k])));
    scale = std::max(scale, std::abs(static_cast<double>(b[k])));
  }
  CHECK(most <= tolerance * std::max(scale, 1e-3));
}

TEMPLATE_TEST_CASE("a fused chain gives what its layers give one by one", "", reference<double>, reference<float>,
                   cpu) {
  runner<TestType, fused_block> fused(3);
  runner<reference<double>, plain_block> plain(3);
  double const tolerance = std::is_same_v<TestType, reference<double>> ? 1e-12 : 2e-5;
  close(fused.infer(), plain.infer(), tolerance);
  CHECK(fused.infer_prepared() == fused.infer());
  close(fused.forward(), plain.forward(), tolerance);
  fused.backward(), plain.backward();
  close(fused.dx.values(), plain.dx.values(), 10 * tolerance);
  for (parameter const& p : fused_block::parameters) {
    INFO(p.name.view());
    using values = std::span<scalar_of<TestType> const>;
    std::size_t const at = p.offset;
    bool const learned = p.learned();
    auto const* const a = learned ? fused.gradients.data() : fused.params.data();
    auto const* const b = learned ? plain.gradients.data() : plain.params.data();
    parameter const& twin = *std::find_if(plain_block::parameters.begin(), plain_block::parameters.end(),
                                          [&](parameter const& q) { return q.name == p.name; });
    CHECK(twin.offset == at);
    // A bias before batch norm has no effect: its gradient is rounding alone.
    if (p.name == label("conv2.bias")) continue;
    close(values(a + at, p.count()), std::span<double const>(b + twin.offset, p.count()), 20 * tolerance);
  }
}

TEST_CASE("a chain's gradients are what finite differences find") {
  runner<reference<double>, fused_block> r(3);
  r.objective();
  r.backward();
  double const step = 1e-6;
  auto const slope = [&](double& value) {
    double const old = value;
    value = old + step;
    double const up = r.objective();
    value = old - step;
    double const down = r.objective();
    value = old;
    return (up - down) / (2 * step);
  };
  for (parameter const& p : fused_block::parameters) {
    if (!p.learned()) continue;
    INFO(p.name.view());
    for (std::size_t k = 0; k < p.count(); k += 1 + p.count() / 7) {
      std::size_t const at = p.offset + k;
      CHECK(slope(r.params.data()[at]) == Approx(r.gradients.data()[at]).epsilon(1e-5).margin(1e-7));
    }
  }
  for (std::size_t k = 0; k < r.x.values().size(); k += 23)
    CHECK(slope(r.x.data()[k]) == Approx(r.dx.data()[k]).epsilon(1e-5).margin(1e-7));
}

namespace {
using l3::test::best_products;
using wide_specs = both<conv3x3<32>, batch_norm<>, relu, max_pool<>, conv3x3<48>, batch_norm<>, relu, conv3x3<16>,
                        batch_norm<>, relu, global_max_pool, dense<3>>;
using wide_block = wide_specs::fused;

// What training stores from layer to layer: bfloat16 between fused convolutions alone, and where products are bf16.
using emulated = simd<arch::avx512, bf16>;
static_assert(std::same_as<wide_block::trained_value<emulated, 0>, bfloat16>);
static_assert(std::same_as<wide_block::trained_value<emulated, 1>, bfloat16>);
static_assert(std::same_as<wide_block::trained_value<emulated, 2>, float>);  // which dense reads
static_assert(std::same_as<wide_block::trained_value<emulated, 3>, float>);
static_assert(std::same_as<wide_block::trained_value<cpu, 0>, float>);
static_assert(std::same_as<wide_specs::plain::trained_value<emulated, 0>, float>);

/// The length of the difference as a part of the expected length: a pool's winner that rounding changes moves a
/// gradient from one pixel to another.
template <class A, class C>
double length_apart(A const& found, C const& expected) {
  double apart = 0, length = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    double const e = static_cast<double>(expected[k]);
    apart += std::pow(static_cast<double>(found[k]) - e, 2), length += e * e;
  }
  return std::sqrt(apart / length);
}
}  // namespace

namespace {
template <class Chain, class Judge>
void check_trained(double near, double near_backward) {
  constexpr std::size_t items = 8;
  runner<best_products, Chain> found(items, 2);
  runner<reference<double>, Judge> judge(items);
  CHECK(length_apart(found.forward(), judge.forward()) < near);
  found.backward(), judge.backward();
  CHECK(length_apart(found.dx.values(), judge.dx.values()) < near_backward);
  for (parameter const& p : Chain::parameters) {
    if (!p.learned()) continue;
    INFO(p.name.view());
    CHECK(length_apart(std::span(found.gradients.data() + p.offset, p.count()),
                       std::span(judge.gradients.data() + p.offset, p.count())) < near_backward);
  }
  runner<best_products, Chain> alone(items);  // on one thread
  alone.forward(), alone.backward();
  auto const bits = found.gradients.values();
  CHECK(std::equal(bits.begin(), bits.end(), alone.gradients.values().begin()));
}
}  // namespace

TEST_CASE("a chain trained with bf16 products and maps gives about what layers in double do") {
  using smooth = both<conv3x3<32>, batch_norm<>, conv3x3<48>, batch_norm<>, conv3x3<16>, batch_norm<>>;
  bool const rounds = multiplies<arch::best, bf16>;
  check_trained<smooth::fused, smooth::plain>(rounds ? 0.03 : 1e-5, rounds ? 0.1 : 1e-4);
  // Rectifiers and pools switch where rounding decides.
  check_trained<wide_block, wide_specs::plain>(rounds ? 0.03 : 1e-5, rounds ? 0.4 : 1e-4);
}

TEST_CASE("a null gradient of the input is not written and the rest is the same") {
  runner<cpu, fused_block> with(2), without(2);
  with.forward(), without.forward();
  with.backward();
  float* const nobody = nullptr;
  fused_block::backward(without.at(), without.params.data(), without.x.data(), without.kept.data(), without.dy.data(),
                        nobody, without.gradients.data());
  CHECK(std::equal(with.gradients.values().begin(), with.gradients.values().end(), without.gradients.values().begin()));
}

TEMPLATE_TEST_CASE("a batch of nothing changes nothing", "", reference<float>, cpu) {
  runner<TestType, fused_block> r(2);
  std::vector<float> const before(r.params.values().begin(), r.params.values().end());
  r.n = 0;
  r.forward();
  CHECK(std::equal(before.begin(), before.end(), r.params.data()));
}

TEST_CASE("unnamed layers are numbered, chains add nothing to names, blocks do") {
  using net = sequential<image<8, 8, 1>, named<"a", chain<chain<conv3x3<2>, relu>, named<"last", conv3x3<3>>>>,
                         global_max_pool, dense<4>>;
  std::vector<std::string> names;
  for (parameter const& p : net::parameters) names.emplace_back(p.name.view());
  CHECK(names == std::vector<std::string>{"a.0.weight", "a.last.weight", "2.weight", "2.bias"});
}
