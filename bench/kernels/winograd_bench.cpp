/// @file  bench/kernels/winograd_bench.cpp: where the time of the paper's convolutions goes in inference, batch 1: the
/// transform of the inputs, the products, the transform of the outputs with bias and rectifier, as run_convolution runs
/// them. `ms` is the best whole run's, shares are of all threads' time in it; `of_peak` compares the products with
/// multiply-adds in registers. And, where a build has matrix registers, those that bf16 takes instead, as a whole.
#include "conv_layers.hpp"
#include "kernel_bench.hpp"

namespace {
using namespace l3;
using namespace l3::bench;
using namespace l3::detail;

/// One convolution that can tell its phases' times.
template <class P, std::size_t Tile>
class phases {
 public:
  phases(conv_dims const& dims, std::size_t threads)
      : d(dims),
        team(threads),
        plan{d.in, d.out, d.height, d.width},
        x(d.rows() * d.in, 1),
        y(d.rows() * d.out, 2),
        shift(d.out, 4),
        taps(d.out * d.in * 9, 3),
        prepared(plan.weights().bytes(0, 0)),
        scratch(plan.scratch().bytes(d.batch, threads)) {
    prepare_weights(team, plan, false, taps, nullptr, weights());
  }

  /// Seconds of inputs, products and outputs, of all threads together.
  std::array<double, 3> run() {
    std::vector<std::array<double, 3>> spent(team.size());
    run_convolution(team, plan, d.batch, x.data(), weights(), {.shift = shift, .relu = true}, y.data(), scratch.data(),
                    [&](winograd_phase phase, std::size_t slot, auto&& f) {
                      spent[slot][static_cast<std::size_t>(phase)] += seconds(f);
                    });
    std::array<double, 3> sum{};
    for (auto const& one : spent)
      for (std::size_t k = 0; k < 3; ++k) sum[k] += one[k];
    return sum;
  }
  /// Stops the program unless this gives what the library's forward pass gives.
  void check() {
    context<simd<arch::best, P>> on;
    arena space(scratch_size<simd<arch::best, P>>::conv2d_forward(d).bytes(d.batch, on.threads()));
    buffer expected(d.rows() * d.out);
    conv2d_forward(on, d, x.data(), taps, shift, expected.data(), space.data());
    for (std::size_t k = 0; k < d.rows() * d.out; ++k) expected.data()[k] = std::max(expected.data()[k], 0.0f);
    run();
    require_equal("a convolution in phases", y.data(), expected.data(), d.rows() * d.out);
  }
  double product_flops() const {
    using W = winograd<Tile>;
    winograd_grid<W> const grid{d.batch, d.height, d.width};
    return 2.0 * static_cast<double>(W::positions * grid.count() * d.in * d.out);
  }

 private:
  using plan_type = winograd_plan<arch::best, P, Tile>;
  auto* weights() { return reinterpret_cast<typename plan_type::value*>(prepared.data()); }

  conv_dims d;
  thread_team team;
  plan_type plan;
  buffer x, y, shift, taps;
  arena prepared, scratch;
};

template <class P, std::size_t Tile>
void add_phases(conv_layer const& l) {
  for (std::size_t threads : {std::size_t{1}, thread_team().size()})
    benchmark::RegisterBenchmark(
        (std::string(P::name) + "/F" + std::to_string(Tile) + "/" + l.name + "/threads:" + std::to_string(threads))
            .c_str(),
        [=](benchmark::State& state) {
          phases<P, Tile> work(l.d, threads);
          work.check();
          double best = 1e9;              // seconds of a whole run
          std::array<double, 3> spent{};  // in it, by all threads
          for (auto _ : state) {
            std::array<double, 3> now{};
            if (double const time = seconds([&] { now = work.run(); }); time < best) best = time, spent = now;
          }
          double const all = spent[0] + spent[1] + spent[2], cores = static_cast<double>(threads);
          state.counters["ms"] = best * 1e3;
          state.counters["GFLOP/s"] = l.d.flops() / best * 1e-9;  // the textbook's count
          state.counters["inputs"] = spent[0] / all;
          state.counters["products"] = spent[1] / all;
          state.counters["outputs"] = spent[2] / all;
          state.counters["of_peak"] = work.product_flops() / spent[1] * cores / peak_products<P>(threads);
        })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
}

/// A convolution in matrix registers, of and to floats or packed maps.
template <class P>
void add_matrices(conv_layer const& l) {
  using B = simd<arch::best, P>;
  for (bool const packed : {false, true})
    benchmark::RegisterBenchmark(
        (std::string("bf16/matrices/") + l.name + (packed ? "/packed" : "/floats")).c_str(),
        [=](benchmark::State& state) {
          context<B> on;
          conv_dims const& d = l.d;
          std::size_t const room = scratch_size<B>::conv2d_packed(exchanged(d)).bytes(d.batch, 0) / sizeof(float);
          buffer x(std::max(d.rows() * d.in, scratch_size<B>::conv2d_packed(d).bytes(d.batch, 0) / sizeof(float)), 1);
          buffer y(std::max(d.rows() * d.out, room), 2), taps(d.out * d.in * 9, 3), shift(d.out, 4);
          arena weights(scratch_size<B>::conv2d_prepared(d).bytes(0, 0));
          arena scratch(scratch_size<B>::conv2d_infer(d).bytes(d.batch, on.threads()));
          conv2d_prepare(on, d, taps, nullptr, weights.data());
          double best = 1e9;
          for (auto _ : state)
            best = std::min(best, seconds([&] {
                              conv2d_infer(on, d, x, weights.data(), {.shift = shift, .relu = true}, y, scratch.data(),
                                           {packed, packed});
                            }));
          state.counters["ms"] = best * 1e3;
          state.counters["GFLOP/s"] = d.flops() / best * 1e-9;
          state.counters["of_peak"] = d.flops() / best / peak_products<P>(on.threads());
        })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
}
}  // namespace

int main(int argc, char** argv) {
  for (auto const& l : paper_layers) {
    if (l.d.in <= 3) continue;  // the first ones are direct
    add_phases<fp32, 4>(l);
    add_phases<fp32, 6>(l);
    if constexpr (has_matrix_products<arch::best, bf16>)
      if (matrices_pay<arch::best, bf16>(l.d)) {
        add_matrices<bf16>(l);
        continue;
      }
    if constexpr (multiplies<arch::best, bf16>) add_phases<bf16, 4>(l);
  }
  return run(argc, argv);
}
