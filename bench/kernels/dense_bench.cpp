/// @file  bench/kernels/dense_bench.cpp: the fusion head: dense layers and the scores of all pairs.
#include "kernel_bench.hpp"

namespace {
using namespace l3;
using namespace l3::bench;

struct layer {
  char const* name;
  dense_dims d;
};
layer const layers[] = {{"fusion_half", {64, 512, 128, 1024}},
                        {"tiny_half", {64, 128, 128, 256}},
                        {"trunk_34", {64, 128, 34}},
                        {"imagenet_probe", {64, 8192, 1000}},
                        {"one_row", {1, 512, 128, 1024}}};

struct dense_setting {
  dense_dims d;
  buffer x{d.batch * d.in, 1}, w{d.out * d.weight_stride, 2}, bias{d.out, 3}, y{d.batch * d.out, 4};
  work effort() const {
    return {.flops = 2.0 * static_cast<double>(d.batch * d.in * d.out),
            .bytes = 4.0 * static_cast<double>(d.batch * (d.in + d.out) + d.in * d.out)};
  }
};

struct pair_setting {
  pair_dims d;
  buffer u{d.batch * d.hidden, 1}, t{d.batch * d.hidden, 2}, b1{d.hidden, 3}, w2{d.classes * d.hidden, 4},
      b2{d.classes, 5}, logits{d.rows() * d.classes, 6}, du{d.batch * d.hidden}, dt{d.batch * d.hidden}, db1{d.hidden},
      dw2{d.classes * d.hidden}, db2{d.classes};
  arena scratch{scratch_size<cpu>::pairs(d).bytes(d.batch, 1)};
  /// `gradients`: the backward pass has three products of the forward one's size, and writes what that one read.
  work effort(bool gradients) const {
    double const read = static_cast<double>(2 * d.batch * d.hidden + d.classes * d.hidden);
    return {.flops = (gradients ? 6.0 : 2.0) * static_cast<double>(d.rows() * d.hidden * d.classes),
            .bytes = 4.0 * ((gradients ? 2.0 : 1.0) * read + static_cast<double>(d.rows() * d.classes))};
  }

  template <class B>
  void forward(context<B>& on) {
    pair_scores_forward(on, d, u, t, b1, w2, b2, logits);
  }
  template <class B>
  void backward(context<B>& on) {
    pair_scores_backward(on, d, u, t, b1, w2, logits, du, dt, db1, dw2, db2, scratch.data());
  }
};

void check() {
  context<cpu> on;
  context<reference<float>> judge;
  for (auto const& l : layers) {
    dense_setting found{l.d}, expected{l.d};
    dense_forward(on, l.d, found.x, found.w, found.bias, found.y, nullptr);
    dense_forward(judge, l.d, expected.x, expected.w, expected.bias, expected.y, nullptr);
    require_equal("dense_forward", found.y, expected.y, l.d.batch * l.d.out);
    dense_backward_data(on, l.d, found.y, found.w, found.x, nullptr);
    dense_backward_data(judge, l.d, found.y, expected.w, expected.x, nullptr);
    require_equal("dense_backward_data", found.x, expected.x, l.d.batch * l.d.in);
  }
  pair_setting found{{64, 128, 2, pairing::all}}, expected{found.d};
  found.forward(on), expected.forward(judge);
  require_equal("pair_scores_forward", found.logits, expected.logits, found.d.rows() * found.d.classes);
  found.backward(on), expected.backward(judge);
  require_equal("pair_scores_backward", found.dt, expected.dt, found.d.batch * found.d.hidden);
  require_equal("pair_scores_backward (w2)", found.dw2, expected.dw2, found.d.classes * found.d.hidden);
}

void add_all() {
  for (auto const& l : layers) {
    auto const time = [&](std::string const& kernel, auto call) {
      add(kernel + '/' + l.name, [=](benchmark::State& state, context<cpu>& on) {
        dense_setting s{l.d};
        time_kernel(state, on, s.effort(), [&](auto& c) { call(s, c); });
      });
    };
    time("dense_forward",
         [](dense_setting& s, context<cpu>& on) { dense_forward(on, s.d, s.x, s.w, s.bias, s.y, nullptr); });
    time("dense_backward_data",
         [](dense_setting& s, context<cpu>& on) { dense_backward_data(on, s.d, s.y, s.w, s.x, nullptr); });
    time("dense_backward_weights",
         [](dense_setting& s, context<cpu>& on) { dense_backward_weights(on, s.d, s.x, s.y, s.w, nullptr); });
  }
  for (std::size_t batch : {16, 64, 256}) {
    pair_dims const d{batch, 128, 2, pairing::all};
    auto const name = "/all_" + std::to_string(batch);
    add("pair_scores_forward" + name, [=](benchmark::State& state, context<cpu>& on) {
      pair_setting s{d};
      time_kernel(state, on, s.effort(false), [&](auto& c) { s.forward(c); });
    });
    add("pair_scores_backward" + name, [=](benchmark::State& state, context<cpu>& on) {
      pair_setting s{d};
      time_kernel(state, on, s.effort(true), [&](auto& c) { s.backward(c); });
    });
  }
}
}  // namespace

int main(int argc, char** argv) {
  check();
  add_all();
  return run(argc, argv);
}
