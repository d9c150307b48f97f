/// @file  bench/kernels/batch_norm_bench.cpp: moments, and batch norm with rectifier and pooling, forward and backward.
/// Bytes count each tensor once for every time the algorithm must see it: the backward pass reads x and dy twice.
#include "kernel_bench.hpp"

namespace {
using namespace l3;
using namespace l3::bench;

struct layer {
  char const* name;
  pool_dims d;
};
layer const layers[] = {
    {"vision1_1", {4, 224, 224, 64, {1, 1}, {1, 1}}},     {"vision1_2_pool", {4, 224, 224, 64, {2, 2}, {2, 2}}},
    {"vision3_1", {4, 56, 56, 256, {1, 1}, {1, 1}}},      {"vision4_2_global", {4, 28, 28, 512, {28, 28}, {28, 28}}},
    {"audio1_2_pool", {4, 257, 199, 64, {2, 2}, {2, 2}}}, {"tiny_audio1_1", {64, 64, 99, 16, {1, 1}, {1, 1}}},
    {"tiny_vision4_1", {64, 6, 6, 128, {1, 1}, {1, 1}}},
};

/// One layer's tensors, and its kernels on any host backend.
struct setting {
  pool_dims d;
  std::size_t c = d.channels, in = d.rows() * c, out = d.batch * d.out_height() * d.out_width() * c;
  buffer x{in, 1}, y{out, 2}, dy{out, 3}, dx{in, 4}, gamma{c, 5}, beta{c, 6}, mean{c, 7}, variance{c, 8}, dgamma{c, 9},
      dbeta{c, 10};
  arena scratch;
  setting(pool_dims const& dims, std::size_t threads)
      : d(dims),
        scratch(scratch_size<cpu>::channels(dims.channels, dims.height * dims.width).bytes(dims.batch, threads)) {}

  template <class B>
  void moments(context<B>& on) {
    channel_moments(on, d.rows(), c, x.data(), mean, variance, scratch.data());
  }
  template <class B>
  void forward(context<B>& on) {
    affine_pool_forward(on, d, x.data(), gamma, beta, true, y.data());
  }
  template <class B>
  void backward(context<B>& on) {
    for (std::size_t k = 0; k < c; ++k) variance[k] = 1.5f;
    batch_norm_relu_pool_backward(on, d, x.data(), {mean, variance, gamma, beta}, true, dy.data(), dx.data(), dgamma,
                                  dbeta, scratch.data());
  }
};

void check(layer const& l) {
  auto d = l.d;
  d.batch = 2;
  context<cpu> on;
  context<reference<float>> judge;
  setting found(d, on.threads()), expected(d, on.threads());
  found.moments(on), expected.moments(judge);
  require_equal("channel_moments", found.variance, expected.variance, found.c);
  found.forward(on), expected.forward(judge);
  require_equal("affine_pool_forward", found.y, expected.y, found.out);
  found.backward(on), expected.backward(judge);
  require_equal("batch_norm_relu_pool_backward", found.dx, expected.dx, found.in);
  require_equal("batch_norm_relu_pool_backward (gamma)", found.dgamma, expected.dgamma, found.c);
}

void add_layer(layer const& l) {
  auto const time = [&](std::string const& kernel, double reads_x, double passes_y, auto call) {
    add(kernel + '/' + l.name, [=](benchmark::State& state, context<cpu>& on) {
      setting s(l.d, on.threads());
      work const w{.bytes = 4.0 * (reads_x * static_cast<double>(s.in) + passes_y * static_cast<double>(s.out))};
      time_kernel(state, on, w, [&](auto& c) { call(s, c); });
    });
  };
  time("channel_moments", 1, 0, [](setting& s, context<cpu>& on) { s.moments(on); });
  time("affine_pool_forward", 1, 1, [](setting& s, context<cpu>& on) { s.forward(on); });
  time("batch_norm_relu_pool_backward", 3, 2, [](setting& s, context<cpu>& on) { s.backward(on); });
}
}  // namespace

int main(int argc, char** argv) {
  for (auto const& l : layers) check(l), add_layer(l);
  return run(argc, argv);
}
