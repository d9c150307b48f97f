#include <l3/model/sliding.hpp>

#include "../support/catch.hpp"
#include "../support/kernel_inputs.hpp"
#include "support/micro.hpp"

using namespace l3;

namespace {

/// Widths of windows that are odd before every pool, as the paper's, and few filters.
template <std::size_t Height, std::size_t Width, std::size_t Filters>
struct narrow {
  static constexpr char const* name = "narrow";
  using frame = image<16, 16, 3>;
  static constexpr std::size_t frame_side = 16;
  struct front_end {
    static constexpr char const* name = "narrow";
    using output = image<Height, Width, 1>;
  };
  static constexpr std::size_t width = Filters;
  static constexpr std::size_t hidden = 4;
};

/// Largest difference between windows of one sound computed together and one by one, features and maps, relative to
/// the largest value.
template <class B, class Config>
double strays(std::size_t hop, std::size_t windows, std::size_t room, std::size_t threads = 2) {
  using network = l3_network<B, Config>;
  using user = inference<network>;
  using S = scalar_of<B>;
  using sound = typename network::sound;
  context<B> on(threads);
  network net;
  net.initialise(3);
  for (std::size_t k = 0; k < network::parameters.size(); ++k)  // batch norms that do something
    if (network::parameters[k].kind == role::bias || network::parameters[k].kind == role::mean)
      for (std::size_t i = 0; S & v : net.values(k)) v = static_cast<S>(0.1 * std::sin(static_cast<double>(++i)));
  user const alone_net(on, net, 1);
  user alone(on, net, 1);
  sliding_sounds<network> together(on, alone_net, hop, room);
  std::size_t const columns = together.columns(windows);
  std::vector<S> whole(sound::height * columns);
  for (std::size_t k = 0; k < whole.size(); ++k)
    whole[k] = static_cast<S>(generator(1, stream::user, 0, static_cast<std::uint32_t>(k)).uniform(-1, 1));
  tensor<S, typename network::embedding> features(windows), feature(1);
  tensor<S, typename user::audio_map::output> maps(windows), map(1);
  together.embed(whole.data(), features.view());
  together.map(whole.data(), maps.view());
  double largest = 0, difference = 0;
  auto const compare = [&](auto const& expected, auto const& found) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
      difference = std::max(difference, std::abs(static_cast<double>(expected[i]) - static_cast<double>(found[i])));
    }
  };
  tensor<S, sound> window(1);
  for (std::size_t k = 0; k < windows; ++k) {
    for (std::size_t r = 0; r < sound::height; ++r)
      std::copy_n(whole.data() + r * columns + k * hop, sound::width, window.data() + r * sound::width);
    alone.embed_sounds(window.view(), feature.view());
    alone.map_sounds(window.view(), map.view());
    compare(feature.values(), features.view()[k]);
    compare(map.values(), maps.view()[k]);
  }
  REQUIRE(largest > 0.01);
  return difference / largest;
}

using paper_width = narrow<21, 199, 2>;   // 199, 99, 49, 24
using coarse_width = narrow<64, 99, 16>;  // 99, 49, 24, 12
using even_width = narrow<16, 128, 3>;    // 128, 64, 32, 16

}  // namespace

TEST_CASE("windows that share their common columns get what each alone would get") {
  for (std::size_t const hop : {1, 2, 3, 4, 5, 8, 20, 30, 100, 250}) {
    INFO("hop " << hop);
    CHECK(strays<reference<double>, paper_width>(hop, 10, 10) < 1e-12);
    CHECK(strays<reference<double>, even_width>(hop, 19, 20) < 1e-12);
    CHECK(strays<cpu, paper_width>(hop, 10, 13) < 1e-5);
    CHECK(strays<cpu, coarse_width>(hop, 10, 10) < 1e-5);
  }
  CHECK(strays<cpu, coarse_width>(10, 1, 1) < 1e-5);
  CHECK(strays<cpu, coarse_width>(10, 1, 5) < 1e-5);
}

TEST_CASE("windows share with products in bf16, too: to the bit where no sum depends on where a window begins") {
  using B = l3::test::best_products;
  constexpr bool exact = detail::has_matrix_products<arch::best, bf16> && multiplies<arch::best, bf16>;
  constexpr double tolerance = exact ? 0 : 0.03;  // of Winograd's transforms, whose tiles begin elsewhere
  for (std::size_t const hop : {1, 4, 8, 30, 100}) {
    INFO("hop " << hop);
    CHECK(strays<B, coarse_width>(hop, 10, 10) <= tolerance);
    CHECK(strays<B, narrow<24, 64, 20>>(hop, 19, 20) <= tolerance);
  }
}

TEST_CASE("the paper's network can share, and saves most of the work at a hop of a tenth of a second") {
  using at_paper = sliding_sounds<l3_network<cpu, paper>>;
  STATIC_REQUIRE(at_paper::cost(20) < 0.35);
  STATIC_REQUIRE(at_paper::cost(40) < 0.45);
  STATIC_REQUIRE(at_paper::cost(100) < 0.8);
  STATIC_REQUIRE(at_paper::cost(199) == 1);
  STATIC_REQUIRE(at_paper::cost(400) == 1);
}

TEST_CASE("shared windows are the same bits for any number of threads, and too many are refused") {
  using network = l3_network<cpu, coarse_width>;
  network net;
  net.initialise(5);
  std::vector<float> first;
  for (std::size_t const threads : {1, 2, 3, 8}) {
    context<cpu> on(threads);
    inference<network> const use(on, net, 1);
    sliding_sounds<network> together(on, use, 7, 20);
    auto const sound = uniform_batch<float, image<64, 7 * 19 + 99, 1>>(1, 4);
    tensor<float, network::embedding> out(20);
    together.embed(sound.data(), out.view());
    std::vector<float> const values(out.values().begin(), out.values().end());
    if (first.empty()) first = values;
    CHECK(values == first);
    tensor<float, network::embedding> shorter(12), again(12);  // what another call left behind does not matter
    auto const other = uniform_batch<float, image<64, 7 * 11 + 99, 1>>(1, 6);
    together.embed(other.data(), again.view());
    together.embed(sound.data(), out.view());
    together.embed(other.data(), shorter.view());
    CHECK(std::equal(shorter.values().begin(), shorter.values().end(), again.values().begin()));
    CHECK(std::equal(first.begin(), first.end(), out.values().begin()));
    tensor<float, network::embedding> more(21);
    CHECK_THROWS_AS(together.embed(sound.data(), more.view()), shape_error);
    CHECK_THROWS_AS(together.embed(sound.data(), {out.data(), 0}), shape_error);
    CHECK_THROWS_AS((sliding_sounds<network>(on, use, 0, 3)), shape_error);
  }
}
