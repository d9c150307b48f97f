/// @file  bench/kernels/conv2d_bench.cpp: the three passes of the networks' convolutions, and the one of inference with
/// prepared weights, bias, rectifier and (where sides are even) pooling; results are checked, then timed.
#include <cmath>
#include <cstdlib>
#include <iostream>

#include "conv_layers.hpp"
#include "kernel_bench.hpp"

namespace {
using namespace l3;
using namespace l3::bench;

constexpr conv_layer tiny_layers[] = {
    {"tiny_vision1_1", {64, 48, 48, 3, 16}},  {"tiny_vision1_2", {64, 48, 48, 16, 16}},
    {"tiny_vision2_2", {64, 24, 24, 32, 32}}, {"tiny_vision3_2", {64, 12, 12, 64, 64}},
    {"tiny_vision4_2", {64, 6, 6, 128, 128}}, {"tiny_audio1_1", {64, 64, 99, 1, 16}},
    {"tiny_audio1_2", {64, 64, 99, 16, 16}},  {"tiny_audio2_2", {64, 32, 49, 32, 32}},
    {"tiny_audio3_2", {64, 16, 24, 64, 64}},  {"tiny_audio4_2", {64, 8, 12, 128, 128}},
};

/// Everything one layer needs.
struct setting {
  conv_dims d;
  buffer x{d.rows() * d.in, 1}, y{d.rows() * d.out, 2}, w{d.out * d.in * 9, 3};
  buffer shift{d.out, 4};
  epilogue<float> then{.shift = shift, .relu = true, .pool = pools()};
  arena scratch, prepared;
  setting(conv_dims const& dims, context<cpu>& on)
      : d(dims),
        scratch(either(either(scratch_size<cpu>::conv2d_forward(d), scratch_size<cpu>::conv2d_backward(d)),
                       scratch_size<cpu>::conv2d_infer(d))
                    .bytes(d.batch, on.threads())),
        prepared(scratch_size<cpu>::conv2d_prepared(d).bytes(0, 0)) {
    conv2d_prepare(on, d, w, nullptr, prepared.data());
  }
  bool pools() const { return d.height % 2 == 0 && d.width % 2 == 0 && scratch_size<cpu>::conv2d_pools(d); }
  /// Values of inference's output.
  std::size_t inferred() const { return d.rows() * d.out / (pools() ? 4 : 1); }
  void infer(context<cpu>& on) { conv2d_infer(on, d, x, prepared.data(), then, y, scratch.data()); }
  work effort() const { return {d.flops(), 4.0 * static_cast<double>(d.rows() * (d.in + d.out) + d.out * d.in * 9)}; }
};

/// A few values of each pass against sums in double.
void check(conv_dims const& d) {
  context<cpu> on;
  setting s(d, on);
  buffer out(std::max({d.rows() * d.in, d.rows() * d.out, d.out * d.in * 9}));
  auto const inside = [&](std::size_t i, std::size_t r, std::size_t size) { return i + r >= 1 && i + r <= size; };
  auto const fail = [&](char const* pass, double found, double expected) {
    if (std::abs(found - expected) < 1e-3 * (1 + std::abs(expected))) return;
    std::cerr << "conv2d " << pass << ' ' << d.height << 'x' << d.width << 'x' << d.in << "->" << d.out << ": expected "
              << expected << ", found " << found << '\n';
    std::exit(1);
  };
  generator draw(7, stream::user, 0, 0);
  auto const any = [&](std::size_t n) { return static_cast<std::size_t>(draw.below(static_cast<std::uint32_t>(n))); };
  struct spot {
    std::size_t n, i, j, o, c, r, s;
  };
  std::vector<spot> spots(20);
  for (auto& p : spots) p = {any(d.batch), any(d.height), any(d.width), any(d.out), any(d.in), any(3), any(3)};
  auto const x = [&](std::size_t n, std::size_t i, std::size_t j, std::size_t c) -> double {
    return s.x[((n * d.height + i) * d.width + j) * d.in + c];
  };
  auto const y = [&](std::size_t n, std::size_t i, std::size_t j, std::size_t o) -> double {
    return s.y[((n * d.height + i) * d.width + j) * d.out + o];
  };
  auto const w = [&](std::size_t o, std::size_t c, std::size_t tap) -> double { return s.w[(o * d.in + c) * 9 + tap]; };

  conv2d_forward(on, d, s.x.data(), s.w, nullptr, out.data(), s.scratch.data());
  for (auto const& p : spots) {
    double sum = 0;
    for (std::size_t tap = 0; tap < 9; ++tap)
      if (inside(p.i, tap / 3, d.height) && inside(p.j, tap % 3, d.width))
        for (std::size_t c = 0; c < d.in; ++c) sum += x(p.n, p.i + tap / 3 - 1, p.j + tap % 3 - 1, c) * w(p.o, c, tap);
    fail("forward", out[((p.n * d.height + p.i) * d.width + p.j) * d.out + p.o], sum);
  }
  // Inference against the forward pass that was just judged.
  std::vector<float> expected(s.inferred(), 0.0f);
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t i = 0; i < d.height; ++i)
      for (std::size_t j = 0; j < d.width; ++j)
        for (std::size_t o = 0; o < d.out; ++o) {
          std::size_t const half = s.pools() ? 2 : 1;
          float& most = expected[((n * (d.height / half) + i / half) * (d.width / half) + j / half) * d.out + o];
          most = std::max(most, out[((n * d.height + i) * d.width + j) * d.out + o] + s.shift[o]);
        }
  setting inference(d, on);
  inference.infer(on);
  require_equal("conv2d_infer", inference.y, expected.data(), expected.size());
  conv2d_backward_data(on, d, s.y.data(), s.w, out.data(), s.scratch.data());
  for (auto const& p : spots) {
    double sum = 0;
    for (std::size_t tap = 0; tap < 9; ++tap)
      if (inside(p.i, tap / 3, d.height) && inside(p.j, tap % 3, d.width))
        for (std::size_t o = 0; o < d.out; ++o)
          sum += y(p.n, p.i + tap / 3 - 1, p.j + tap % 3 - 1, o) * w(o, p.c, 8 - tap);
    fail("data gradient", out[((p.n * d.height + p.i) * d.width + p.j) * d.in + p.c], sum);
  }
  conv2d_backward_weights(on, d, s.x.data(), s.y.data(), out, s.scratch.data());
  for (auto const& p : spots) {
    double sum = 0;
    for (std::size_t n = 0; n < d.batch; ++n)
      for (std::size_t i = 0; i < d.height; ++i)
        for (std::size_t j = 0; j < d.width; ++j)
          if (inside(i, p.r, d.height) && inside(j, p.s, d.width))
            sum += y(n, i, j, p.o) * x(n, i + p.r - 1, j + p.s - 1, p.c);
    fail("weight gradient", out[(p.o * d.in + p.c) * 9 + p.r * 3 + p.s], sum);
  }
}

void add_layer(conv_layer const& l) {
  auto d = l.d;
  d.batch = std::min<std::size_t>(d.batch, 3);
  check(d);
  std::string const name = l.name;
  add("conv2d_forward/" + name, [=](benchmark::State& state, context<cpu>& on) {
    setting s(l.d, on);
    time_kernel(state, on, s.effort(),
                [&](auto& c) { conv2d_forward(c, s.d, s.x.data(), s.w, nullptr, s.y.data(), s.scratch.data()); });
  });
  add("conv2d_infer/" + name, [=](benchmark::State& state, context<cpu>& on) {
    setting s(l.d, on);
    work effort = s.effort();
    effort.bytes -= 4.0 * static_cast<double>(s.d.rows() * s.d.out - s.inferred());
    time_kernel(state, on, effort, [&](auto& c) { s.infer(c); });
  });
  add("conv2d_backward_data/" + name, [=](benchmark::State& state, context<cpu>& on) {
    setting s(l.d, on);
    time_kernel(state, on, s.effort(),
                [&](auto& c) { conv2d_backward_data(c, s.d, s.y.data(), s.w, s.x.data(), s.scratch.data()); });
  });
  add("conv2d_backward_weights/" + name, [=](benchmark::State& state, context<cpu>& on) {
    setting s(l.d, on);
    time_kernel(state, on, s.effort(),
                [&](auto& c) { conv2d_backward_weights(c, s.d, s.x.data(), s.y.data(), s.w, s.scratch.data()); });
  });
}
}  // namespace

int main(int argc, char** argv) {
  for (auto const& l : paper_layers) add_layer(l);
  for (auto const& l : tiny_layers) add_layer(l);
  return run(argc, argv);
}
