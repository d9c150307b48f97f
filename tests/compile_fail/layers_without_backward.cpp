// expect: a link is no layer on this backend
#include <l3/core/backend.hpp>
#include <l3/kernels/reference.hpp>
#include <l3/layers/sequential.hpp>
#include <vector>

/// Twice its input.
struct doubled {
  using input = l3::features<4>;
  using output = input;
  static constexpr char const* name = "doubled";
  static constexpr auto parameters = l3::no_parameters;
  static constexpr double flops = 4;
  template <class B>
  static constexpr l3::footprint kept{};
  template <class B>
  static constexpr l3::footprint scratch{};
  template <class B>
  static void infer(l3::pass<B> const& p, l3::scalar_of<B> const*, l3::value_of<B> const* x, l3::value_of<B>* y) {
    for (std::size_t k = 0; k != 4 * p.items; ++k) y[k] = x[k] + x[k];
  }
  template <class B>
  static void forward(l3::pass<B> const& p, l3::scalar_of<B>*, l3::value_of<B> const* x, l3::value_of<B>* y,
                      std::byte*) {
    infer<B>(p, nullptr, x, y);
  }
#ifndef L3_BROKEN
  template <class B>
  static void backward(l3::pass<B> const& p, l3::scalar_of<B> const*, l3::value_of<B> const*, l3::value_of<B> const*,
                       std::byte const*, l3::value_of<B> const* dy, l3::value_of<B>* dx, l3::scalar_of<B>*) {
    if (dx != nullptr) infer<B>(p, nullptr, dy, dx);
  }
#endif
};
struct twice {
  template <class In>
  using bind = doubled;
};

int main() {
  using B = l3::reference<float>;
  using net = l3::sequential<l3::features<4>, l3::relu, twice>;
  l3::context<B> on;
  std::vector<std::byte> memory(net::scratch<B>.bytes(1, 1) + 64);
  float const x[4] = {1, 2, 3, 4};
  float y[4] = {};
  net::infer(l3::pass<B>{on, 1, memory.data()}, nullptr, x, y);
  return y[0] == 2 ? 0 : 1;
}
