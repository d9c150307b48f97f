/// @file  bench/kernels/winograd_bench.cpp: where the time of the paper's convolutions goes in inference, batch 1: the
/// transform of the inputs, the products, the transform of the outputs with bias and rectifier, each timed on its own
/// in the loops of run_convolution. Times are the threads' means; `of_peak` compares the products with multiply-adds in
/// registers.
#include "kernel_bench.hpp"

namespace {
using namespace l3;
using namespace l3::bench;
using namespace l3::detail;

struct layer {
  char const* name;
  conv_dims d;
};

layer const layers[] = {
    {"vision1_2", {1, 224, 224, 64, 64}}, {"vision2_1", {1, 112, 112, 64, 128}}, {"vision2_2", {1, 112, 112, 128, 128}},
    {"vision3_1", {1, 56, 56, 128, 256}}, {"vision3_2", {1, 56, 56, 256, 256}},  {"vision4_1", {1, 28, 28, 256, 512}},
    {"vision4_2", {1, 28, 28, 512, 512}}, {"audio1_2", {1, 257, 199, 64, 64}},   {"audio2_1", {1, 128, 99, 64, 128}},
    {"audio2_2", {1, 128, 99, 128, 128}}, {"audio3_1", {1, 64, 49, 128, 256}},   {"audio3_2", {1, 64, 49, 256, 256}},
    {"audio4_1", {1, 32, 24, 256, 512}},  {"audio4_2", {1, 32, 24, 512, 512}},
};

/// The phases of one convolution, as functions of a group and of the thread's slot.
template <class P, std::size_t Tile>
class phases {
 public:
  using W = winograd<Tile>;
  using plan_type = winograd_plan<arch::best, P, Tile>;
  using value = typename plan_type::value;

  phases(conv_dims const& d, std::size_t threads)
      : team(threads),
        plan{d.in, d.out, d.height, d.width},
        grid{d.batch, d.height, d.width},
        x(d.rows() * d.in, 1),
        y(d.rows() * d.out, 2),
        shift(d.out, 4),
        taps(d.out * d.in * 9, 3),
        prepared(plan.weights().bytes(0, 0)),
        scratch(plan.scratch().bytes(d.batch, threads)) {
    prepare_weights(team, plan, false, taps, nullptr, weights());
    carver pieces(scratch.data(), d.batch, threads);
    points = pieces.take<value>(plan.input());
    sums = pieces.take<float>(plan.sums());
    patches = pieces.take<float>(plan.patch());
  }

  /// Seconds of each phase, of all threads together.
  std::array<double, 3> run() {
    std::vector<std::array<double, 3>> spent(team.size());
    auto const groups = plan.groups(grid.count(), team.size());
    auto const tiles = [&](std::size_t g) { return part_of(grid.count(), groups, g); };
    if (!plan.shares()) {
      team.run(groups, [&](std::size_t g, std::size_t slot) {
        spent[slot][0] += seconds([&] { in(tiles(g), 0, slot); });
        spent[slot][1] += seconds([&] {
          for (std::size_t position = 0; position < W::positions; ++position)
            for (std::size_t p = 0; p < plan.panels(); ++p) multiply(tiles(g).size(), position, p, slot);
        });
        spent[slot][2] += seconds([&] { out(tiles(g), 0, slot); });
      });
    } else {
      constexpr std::size_t chunk = 4;
      for (std::size_t g = 0; g < groups; ++g) {
        auto const each_chunk = [&](std::size_t phase, auto&& f) {
          std::size_t const chunks = parts_of(tiles(g).size(), chunk);
          team.run(chunks, [&](std::size_t task, std::size_t slot) {
            auto const mine = part_of(tiles(g).size(), chunks, task);
            spent[slot][phase] += seconds([&] {
              f(index_range{tiles(g).begin + mine.begin, tiles(g).begin + mine.end}, mine.begin, slot);
            });
          });
        };
        each_chunk(0, [&](auto... at) { in(at...); });
        std::size_t const chunks = parts_of(plan.panels(), chunk);
        team.run(W::positions * chunks, [&](std::size_t task, std::size_t slot) {
          auto const mine = part_of(plan.panels(), chunks, task % chunks);
          spent[slot][1] += seconds([&] {
            for (std::size_t p = mine.begin; p < mine.end; ++p) multiply(tiles(g).size(), task / chunks, p, slot);
          });
        });
        each_chunk(2, [&](auto... at) { out(at...); });
      }
    }
    std::array<double, 3> sum{};
    for (auto const& one : spent)
      for (std::size_t k = 0; k < 3; ++k) sum[k] += one[k];
    return sum;
  }
  /// Stops the program unless the phases together give what the library's convolution gives.
  void check(conv_dims const& d) {
    context<simd<arch::best, P>> on;
    arena space(scratch_size<simd<arch::best, P>>::conv2d_forward(d).bytes(d.batch, on.threads()));
    buffer expected(d.rows() * d.out);
    conv2d_forward(on, d, x, taps, shift, expected, space.data());
    for (std::size_t k = 0; k < d.rows() * d.out; ++k) expected.data()[k] = std::max(expected.data()[k], 0.0f);
    run();
    require_equal("phases of a convolution", y.data(), expected.data(), d.rows() * d.out);
  }
  double product_flops() const { return 2.0 * static_cast<double>(W::positions * grid.count() * plan.in * plan.out); }

 private:
  value* weights() { return reinterpret_cast<value*>(prepared.data()); }
  value* points_of(std::size_t slot) { return plan.shares() ? points : share_of(slot, points, plan.input()); }
  float* sums_of(std::size_t slot) { return plan.shares() ? sums : share_of(slot, sums, plan.sums()); }
  void in(index_range tiles, std::size_t first, std::size_t slot) {
    transform_tiles<lanes<arch::best>, W::reach>(grid, tiles, plan.in, x, plan.points(), first,
                                                 share_of(slot, patches, plan.patch()), points_of(slot));
  }
  void multiply(std::size_t tiles, std::size_t position, std::size_t panel, std::size_t slot) {
    multiply_tiles(plan, tiles, position, panel, points_of(slot), weights(), sums_of(slot));
  }
  void out(index_range tiles, std::size_t first, std::size_t slot) {
    transform_outputs<false>(plan, grid, tiles, first, sums_of(slot), {.shift = shift, .relu = true}, y);
  }

  thread_team team;
  plan_type plan;
  winograd_grid<W> grid;
  buffer x, y, shift, taps;
  arena prepared, scratch;
  value* points;
  float* sums;
  float* patches;
};

template <class P, std::size_t Tile>
void add_phases(layer const& l) {
  for (std::size_t threads : {std::size_t{1}, thread_team().size()})
    benchmark::RegisterBenchmark(
        (std::string(P::name) + "/F" + std::to_string(Tile) + "/" + l.name + "/threads:" + std::to_string(threads))
            .c_str(),
        [=](benchmark::State& state) {
          phases<P, Tile> work(l.d, threads);
          work.check(l.d);
          std::array<double, 3> best{1e9, 1e9, 1e9};
          for (auto _ : state) {
            auto const spent = work.run();
            for (std::size_t k = 0; k < 3; ++k) best[k] = std::min(best[k], spent[k]);
          }
          double const all = best[0] + best[1] + best[2], cores = static_cast<double>(threads);
          state.counters["ms"] = all / cores * 1e3;
          state.counters["GFLOP/s"] = l.d.flops() / all * cores * 1e-9;  // the textbook's count
          state.counters["inputs"] = best[0] / all;
          state.counters["products"] = best[1] / all;
          state.counters["outputs"] = best[2] / all;
          state.counters["of_peak"] = work.product_flops() / best[1] * cores / peak_products<P>(threads);
        })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
}
}  // namespace

int main(int argc, char** argv) {
  for (auto const& l : layers) {
    add_phases<fp32, 4>(l);
    add_phases<fp32, 6>(l);
    if constexpr (multiplies<arch::best, bf16>) add_phases<bf16, 4>(l);
  }
  return run(argc, argv);
}
