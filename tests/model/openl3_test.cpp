#include <l3/core/context.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/model/chain_inference.hpp>
#include <l3/model/openl3.hpp>
#include <l3/train/openl3_checkpoint.hpp>

#include "../files/scratch.hpp"
#include "../support/catch.hpp"
#include "../support/golden.hpp"

namespace {
using namespace l3;

// All of these are what tests/golden/make_openl3_golden.py says in Python.

double made_up(std::uint64_t i, std::uint64_t k) {
  auto x = static_cast<std::uint32_t>(i + 0x9E3779B9 * (k + 1));
  x = (x ^ (x >> 16)) * 0x7FEB352D;
  x = (x ^ (x >> 15)) * 0x846CA68B;
  return static_cast<double>(x ^ (x >> 16)) / 4294967296.0 - 0.5;
}

template <class Chain>
network_weights<Chain, float> made_up_weights() {
  constexpr bool picture = Chain::input::channels == 3;
  network_weights<Chain, float> weights;
  for (std::size_t k = 0; k != Chain::parameters.size(); ++k) {
    parameter const& p = Chain::parameters[k];
    bool const first = !picture && p.name.view().starts_with("bn0");
    bool const of_norm = p.name.view().find("bn") != std::string_view::npos;
    for (std::size_t i = 0; float& v : weights.values(k)) {
      double const u = made_up(i++, k);
      v = static_cast<float>(p.kind == role::weight   ? u * std::sqrt(24 / static_cast<double>(p.fan_in()))
                             : p.kind == role::spread ? u + (first ? 500 : 1.2)
                             : p.kind == role::mean   ? u - (first ? 40 : 0)
                             : p.kind == role::gain   ? 0.4 + 2 * u
                             : of_norm                ? 0.4 * u
                                                      : u);
    }
  }
  return weights;
}

template <class Chain>
std::vector<float> embedding_of(network_weights<Chain, float> const& weights) {
  constexpr bool picture = Chain::input::channels == 3;
  tensor<float, typename Chain::input> x(1);
  for (std::size_t i = 0; float& v : x.values()) {
    double const u = made_up(i++, 1000);
    v = static_cast<float>(picture ? 2 * u : 80 * u - 40);
  }
  tensor<float, typename Chain::output> y(1);
  context<cpu> on;
  chain_inference<Chain> net(on, weights.data(), 1);
  net(x, y);
  return {y.values().begin(), y.values().end()};
}

/// Every `step`th value is the golden's, to 1e-5 of the largest.
template <class Chain>
void check_golden(std::string const& name, std::size_t step) {
  auto const file = safetensors_file::open(L3_SOURCE_DIR "/tests/golden/openl3.safetensors");
  auto const golden = golden_values(file, name);
  auto const found = embedding_of(made_up_weights<Chain>());
  REQUIRE(found.size() == golden.size() * step);
  double largest = 0, worst = 0;
  for (std::size_t k = 0; k != golden.size(); ++k) {
    largest = std::max(largest, std::abs(double{golden[k]}));
    worst = std::max(worst, std::abs(double{found[k * step]} - double{golden[k]}));
  }
  CAPTURE(name, worst, largest);
  CHECK(worst < 1e-5 * largest);
}

static_assert(std::same_as<openl3_audio<openl3_linear>::output, image<4, 3, 512>>);
static_assert(std::same_as<openl3_audio<openl3_mel128>::output, image<4, 3, 512>>);
static_assert(std::same_as<openl3_audio<openl3_04_mel256, 512>::output, image<1, 1, 512>>);
// Of pictures of one size the network is one, whatever made them.
static_assert(std::same_as<openl3_audio<openl3_04_librosa_mel256>, openl3_audio<openl3_mel256>>);
static_assert(std::same_as<openl3_image<>::output, image<4, 4, 512>>);
static_assert(std::same_as<openl3_image_map::output, image<28, 28, 512>>);
static_assert(std::ranges::equal(
    openl3_audio<openl3_mel128, 512>::parameters, openl3_audio_map<openl3_linear>::parameters, {},
    [](parameter const& p) { return p.count(); }, [](parameter const& p) { return p.count(); }));
}  // namespace

TEST_CASE("OpenL3's audio networks give PyTorch's embeddings, of every front end and both sizes") {
  check_golden<openl3_audio<openl3_linear, 512>>("linear.512", 1);
  check_golden<openl3_audio<openl3_linear>>("linear.grid", 8);
  check_golden<openl3_audio<openl3_mel128, 512>>("mel128.512", 1);
  check_golden<openl3_audio<openl3_mel128>>("mel128.grid", 8);
  check_golden<openl3_audio<openl3_mel256, 512>>("mel256.512", 1);
  check_golden<openl3_audio<openl3_04_mel256>>("mel256.grid", 8);
}
TEST_CASE("OpenL3's image network gives PyTorch's embeddings, ReLU before batch norm where it has that") {
  check_golden<openl3_image<512>>("image.512", 1);
  check_golden<openl3_image<>>("image.grid", 8);
}
