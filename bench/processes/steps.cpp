// Training steps of processes that mpirun has started: each for itself, and together. For overlap.py, which starts it:
//   bench_processes_steps MODEL BATCH STEPS ROUNDS paper|worker|all OUT
// Each process writes OUT.RANK.json: seconds of every step alone and together, seconds of exchanging the gradients with
// nothing else to do, and what the last step together did when.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <l3/core/random.hpp>
#include <l3/processes/mpi_group.hpp>
#include <l3/train/trainer.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;  // one clock for all processes of a machine
double now() { return std::chrono::duration<double>(clock_type::now().time_since_epoch()).count(); }

/// A group that notes when it is called, and for how long.
class watched_group final : public l3::process_group {
 public:
  explicit watched_group(l3::mpi_group& of) : of_(of) {}
  std::size_t rank() const override { return of_.rank(); }
  std::size_t size() const override { return of_.size(); }
  void gather(std::span<std::byte const> mine, std::span<std::byte> all) override {
    span const here(*this, "gather");
    of_.gather(mine, all);
  }
  void sum_parts(std::span<float const> parts, std::span<float> mine) override {
    span const here(*this, "sum");
    of_.sum_parts(parts, mine);
  }
  void begin_mean(std::span<float> values, float factor) override {
    span const here(*this, "begin");
    buckets.push_back({values.size(), now(), 0});
    of_.begin_mean(values, factor);
  }
  void poke() override {
    span const here(*this, "poke");
    of_.poke();
    note_ends(of_.finished());
  }
  void finish_sums() override {
    span const here(*this, "finish");
    of_.finish_sums();
    note_ends(buckets.size());
  }
  void forget() { calls.clear(), buckets.clear(), ended_ = 0; }

  struct call {
    char const* what;
    double begin, end;
  };
  struct bucket {
    std::size_t numbers;
    double begin, end;
  };
  std::vector<call> calls;
  std::vector<bucket> buckets;

 private:
  struct span {
    span(watched_group& group, char const* what) : of(group), name(what) {}
    ~span() { of.calls.push_back({name, begin, now()}); }
    watched_group& of;
    char const* name;
    double begin = now();
  };
  void note_ends(std::size_t finished) {
    for (; ended_ < finished; ++ended_) buckets[ended_].end = now();
  }
  l3::mpi_group& of_;
  std::size_t ended_ = 0;
};

template <class Config>
void run(l3::training_settings settings, int steps, int rounds, std::string const& out) {
  using network = l3::l3_network<l3::cpu, Config>;
  l3::mpi_group group(MPI_COMM_WORLD);
  watched_group watched(group);
  l3::context<l3::cpu> on(1);
  auto const first = std::make_unique<network>(), second = std::make_unique<network>();
  first->initialise(1), second->initialise(1);
  l3::tensor<float, typename network::frame> frames(settings.batch);
  l3::tensor<float, typename network::sound> sounds(settings.batch);
  std::vector<std::int32_t> labels;
  l3::generator draw(1, l3::stream::user, group.rank(), 0);
  for (std::size_t k = 0; k != settings.batch; ++k) {
    for (float& x : frames.view()[k]) x = static_cast<float>(draw.uniform(-1, 1));
    for (float& x : sounds.view()[k]) x = static_cast<float>(draw.uniform(-1, 1));
    labels.push_back(static_cast<std::int32_t>(k % 2));
  }
  l3::trainer<network> alone(on, *first, settings), together(on, *second, settings, &watched);
  auto const meet = [&] {
    std::byte nothing{};
    std::vector<std::byte> all(group.size());
    group.gather({&nothing, 1}, all);
  };
  auto const time_of = [&](l3::trainer<network>& t) {
    watched.forget();
    double const begin = now();
    t.step(frames.view(), sounds.view(), labels);
    return now() - begin;
  };
  nlohmann::json report{
      {"alone", nlohmann::json::array()}, {"together", nlohmann::json::array()}, {"exchange", nlohmann::json::array()}};
  time_of(alone), time_of(together);
  std::vector<float> gradients(network::parameter_room);
  double began = 0;
  for (int round = 0; round != rounds; ++round) {
    meet();
    for (int k = 0; k != steps; ++k) report["alone"].push_back(time_of(alone));
    meet();
    for (int k = 0; k != steps; ++k) began = now(), report["together"].push_back(time_of(together));
  }
  for (auto const& c : watched.calls) report["calls"].push_back({c.what, c.begin - began, c.end - began});
  for (auto const& b : watched.buckets) report["buckets"].push_back({b.numbers, b.begin - began, b.end - began});
  report["began"] = began;
  for (int k = 0; k != 5; ++k) {
    meet();
    double const begin = now();
    group.begin_mean(gradients, 1);
    group.finish_sums();
    report["exchange"].push_back(now() - begin);
  }
  report["numbers"] = network::parameter_room;
  std::ofstream(out + "." + std::to_string(group.rank()) + ".json") << report;
}

}  // namespace

int main(int count, char** words) {
  if (count != 7) {
    std::fprintf(stderr, "usage: mpirun ... %s MODEL BATCH STEPS ROUNDS paper|worker|all OUT\n", words[0]);
    return 2;
  }
  int given = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
  std::string const model = words[1], pairs = words[5];
  l3::training_settings const settings{.which = pairs == "paper" ? l3::pairing::paper : l3::pairing::all,
                                       .batch = static_cast<std::size_t>(std::atoi(words[2])),
                                       .across_workers = pairs == "all"};
  auto const with = [&](auto config) {
    run<decltype(config)>(settings, std::atoi(words[3]), std::atoi(words[4]), words[6]);
  };
  if (model == "tiny")
    with(l3::tiny{});
  else if (model == "small")
    with(l3::small{});
  else
    with(l3::paper{});
  MPI_Finalize();
}
