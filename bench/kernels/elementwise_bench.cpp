/// @file  bench/kernels/elementwise_bench.cpp: passes over single numbers: Adam, rectifier, pooling, sums over rows.
#include "kernel_bench.hpp"

namespace {
using namespace l3;
using namespace l3::bench;

constexpr std::size_t weights = 9'600'000;  // about the paper's network
constexpr pool_dims picture{4, 112, 112, 128, {2, 2}, {2, 2}};

void check() {
  context<cpu> on;
  context<reference<float>> judge;
  constexpr std::size_t count = 100'003;
  buffer g(count, 1), w(count, 2), m(count, 3), v(count, 4), w2(count, 2), m2(count, 3), v2(count, 4);
  for (std::size_t k = 0; k < count; ++k) v[k] = v2[k] = std::abs(v[k]);
  adam_update(on, {}, count, g, w, m, v);
  adam_update(judge, {}, count, g, w2, m2, v2);
  require_equal("adam_update", w, w2, count);
  relu_forward(on, count, g, w);
  relu_forward(judge, count, g, w2);
  require_equal("relu_forward", w, w2, count);
}

void add_all() {
  add("adam_update/paper", [](benchmark::State& state, context<cpu>& on) {
    buffer g(weights, 1), w(weights, 2), m(weights, 3), v(weights, 4);
    for (std::size_t k = 0; k < weights; ++k) v[k] = std::abs(v[k]);
    time_kernel(state, on, {.bytes = 7.0 * 4 * weights}, [&](auto& c) { adam_update(c, {}, weights, g, w, m, v); });
  });
  std::size_t const count = picture.rows() * picture.channels;
  auto const values = static_cast<double>(count);
  add("relu_forward/112x112x128", [=](benchmark::State& state, context<cpu>& on) {
    buffer x(count), y(count);
    time_kernel(state, on, {.bytes = 8.0 * values}, [&](auto& c) { relu_forward(c, count, x, y); });
  });
  add("relu_backward/112x112x128", [=](benchmark::State& state, context<cpu>& on) {
    buffer y(count), dy(count), dx(count);
    time_kernel(state, on, {.bytes = 12.0 * values}, [&](auto& c) { relu_backward(c, count, y, dy, dx); });
  });
  add("max_pool_forward/112x112x128", [=](benchmark::State& state, context<cpu>& on) {
    buffer x(count), y(count / 4);
    time_kernel(state, on, {.bytes = 5.0 * values}, [&](auto& c) { max_pool_forward(c, picture, x, y); });
  });
  add("max_pool_backward/112x112x128", [=](benchmark::State& state, context<cpu>& on) {
    buffer x(count), dy(count / 4), dx(count);
    time_kernel(state, on, {.bytes = 9.0 * values}, [&](auto& c) { max_pool_backward(c, picture, x, dy, dx); });
  });
  add("channel_sums/112x112x128", [=](benchmark::State& state, context<cpu>& on) {
    buffer x(count), sums(picture.channels);
    arena scratch(scratch_size<cpu>::channels(picture.channels).bytes(1, on.threads()));
    time_kernel(state, on, {.bytes = 4.0 * values},
                [&](auto& c) { channel_sums(c, picture.rows(), picture.channels, x, sums, scratch.data()); });
  });
}
}  // namespace

int main(int argc, char** argv) {
  check();
  add_all();
  return run(argc, argv);
}
