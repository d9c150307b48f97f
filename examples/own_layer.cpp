// A layer of one's own, in a network, with the proof that its gradient is right. The layer is a rectifier that lets
// negative values through with a slope, one slope a channel, which it learns (He et al. 2015: PReLU). l3 knows nothing
// of it: a layer is any type that offers what the concept `l3::layer` asks for.
#include <cmath>
#include <iostream>
#include <l3/l3net.hpp>
#include <numeric>
#include <vector>

// 1. The layer, bound to the shape of its input. Values are packed, channels innermost; outputs are overwritten.
template <l3::item_shape In>
struct learned_rectifier {
  using input = In;
  using output = In;
  static constexpr char const* name = "learned_rectifier";
  static constexpr auto parameters =  // learned, starts at 0, weight decay leaves it alone
      l3::lay_out(std::array{l3::parameter{"slope", l3::role::bias, {In::channels, 1, 1, 1}, 1}});
  static constexpr double flops = 2.0 * In::size;  // one item forward
  template <l3::backend B>
  static constexpr l3::footprint kept{};  // memory from forward to backward: none, x is there anyway
  template <l3::backend B>
  static constexpr l3::footprint scratch{};

  template <l3::host_backend B, class S = l3::scalar_of<B>>
  static void infer(l3::pass<B> const& p, S const* slope, S const* x, S* y) {
    p.on.team().run(p.items, [&](std::size_t item, std::size_t) {  // a task for each item: they write apart
      for (std::size_t k = item * In::size; k < (item + 1) * In::size; ++k)
        y[k] = x[k] > 0 ? x[k] : slope[k % In::channels] * x[k];
    });
  }
  template <l3::host_backend B, class S = l3::scalar_of<B>>
  static void forward(l3::pass<B> const& p, S const* slope, S const* x, S* y, std::byte*) {
    infer(p, slope, x, y);
  }
  template <l3::host_backend B, class S = l3::scalar_of<B>>
  static void backward(l3::pass<B> const& p, S const* slope, S const* x, S const*, std::byte*, S const* dy, S* dx,
                       S* dslope) {
    std::fill_n(dslope, In::channels, S{0});
    for (std::size_t k = 0; k < p.items * In::size; ++k) {  // one order, so the same sum for any number of threads
      if (!(x[k] > 0)) dslope[k % In::channels] += dy[k] * x[k];
      if (dx != nullptr) dx[k] = x[k] > 0 ? dy[k] : slope[k % In::channels] * dy[k];
    }
  }
};

// 2. Its spec: what is written in a network, before any shape is known.
struct learned_relu {
  template <l3::item_shape In>
  using bind = learned_rectifier<In>;
};

// 3. A network with it. The compiler says here if something is missing.
using picture = l3::image<5, 6, 3>;
using net = l3::sequential<picture, l3::conv3x3<4>, learned_relu, l3::global_max_pool, l3::dense<8>,
                           l3::named<"last_rectifier", learned_relu>, l3::dense<2>>;
using judge = l3::reference<double>;  // plain loops in double: where derivatives are checked
static_assert(l3::layer<learned_rectifier<picture>, judge> && l3::layer<learned_rectifier<picture>, l3::cpu>);
static_assert(std::same_as<net::output, l3::features<2>>);

// 4. The derivative of a weighted sum of the outputs, as backward has it and as differences of that sum.
int main() try {
  l3::require_processor();
  constexpr std::size_t items = 4;
  l3::context<judge> threads;
  l3::arena scratch(net::scratch<judge>.bytes(items, threads.threads()));
  l3::arena kept(net::kept<judge>.bytes(items, threads.threads()));
  l3::pass<judge> const pass{threads, items, scratch.data()};
  l3::generator random(1, l3::stream::user, 0, 0);
  auto const normal = [&](std::size_t count) {
    std::vector<double> values(count);
    for (double& v : values) v = random.normal();
    return values;
  };
  auto weights = normal(net::parameter_room), x = normal(items * picture::size), y = normal(items * 2);
  auto const share = y;  // of each output in the sum
  std::vector<double> dweights(weights.size()), dx(x.size());
  net::forward(pass, weights.data(), x.data(), kept.data());
  net::backward(pass, weights.data(), x.data(), kept.data(), share.data(), dx.data(), dweights.data());

  auto const sum = [&] {
    net::infer(pass, weights.data(), x.data(), y.data());
    return std::inner_product(y.begin(), y.end(), share.begin(), 0.0);
  };
  double worst = 0;
  auto const compare = [&](std::vector<double>& values, std::vector<double> const& gradient) {
    for (std::size_t k = 0; k < values.size(); ++k) {
      double const before = std::exchange(values[k], values[k] + 1e-6), up = sum();
      values[k] = before - 1e-6;
      double const down = sum();
      values[k] = before;
      worst = std::max(worst, std::abs((up - down) / 2e-6 - gradient[k]));
    }
  };
  compare(weights, dweights), compare(x, dx);
  std::cout << "Derivatives and differences differ by at most " << worst << '\n';
  return worst < 1e-6 ? 0 : 1;
} catch (std::exception const& e) {
  std::cerr << "own_layer: " << e.what() << '\n';
  return 1;
}
