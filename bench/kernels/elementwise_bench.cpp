/// @file  bench/kernels/elementwise_bench.cpp: passes over single numbers: Adam, rectifier, pooling, sums over rows,
/// the loss.
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
  relu_backward(on, count, w, g, m);
  relu_backward(judge, count, w, g, m2);
  require_equal("relu_backward", m, m2, count);

  std::size_t const values = picture.rows() * picture.channels;
  buffer x(values, 5), y(values / 4), y2(values / 4), dy(values / 4, 6), dx(values), dx2(values);
  max_pool_forward(on, picture, x, y);
  max_pool_forward(judge, picture, x, y2);
  require_equal("max_pool_forward", y, y2, values / 4);
  max_pool_backward(on, picture, x, dy, dx);
  max_pool_backward(judge, picture, x, dy, dx2);
  require_equal("max_pool_backward", dx, dx2, values);
  arena scratch(scratch_size<cpu>::channels(picture.channels, picture.rows()).bytes(1, on.threads()));
  channel_sums(on, picture.rows(), picture.channels, x.data(), y, scratch.data());
  channel_sums(judge, picture.rows(), picture.channels, x, y2, nullptr);
  require_equal("channel_sums", y, y2, picture.channels);
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
    arena scratch(scratch_size<cpu>::channels(picture.channels, picture.rows()).bytes(1, on.threads()));
    time_kernel(state, on, {.bytes = 4.0 * values},
                [&](auto& c) { channel_sums(c, picture.rows(), picture.channels, x.data(), sums, scratch.data()); });
  });
  add("all_finite/paper", [](benchmark::State& state, context<cpu>& on) {
    buffer g(weights);
    time_kernel(state, on, {.bytes = 4.0 * weights},
                [&](auto& c) { benchmark::DoNotOptimize(all_finite(c, weights, g)); });
  });
  add("softmax_cross_entropy/all_64", [](benchmark::State& state, context<cpu>& on) {
    constexpr std::size_t rows = 64 * 64;
    buffer logits(2 * rows), dlogits(2 * rows), share(rows);
    std::vector<std::int32_t> const labels(rows, 1);
    time_kernel(state, on, {.bytes = 4.0 * 6 * rows}, [&](auto& c) {
      benchmark::DoNotOptimize(softmax_cross_entropy(c, rows, 2, logits, labels.data(), share, dlogits));
    });
  });
}
}  // namespace

int main(int argc, char** argv) {
  check();
  add_all();
  return run(argc, argv);
}
