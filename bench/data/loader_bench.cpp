// What a draw costs, stage by stage, and how many the loader hands out a second: on real files, in random order.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <l3/data/loader.hpp>
#include <l3/data/video_files.hpp>
#include <l3/model/config.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

/// L3_BENCH_CLIPS: a folder, CSV or list of videos; else the shared data set, else none.
l3::clip_list const& clips() {
  static l3::clip_list const list = [] {
    char const* const chosen = std::getenv("L3_BENCH_CLIPS");
    char const* const shared = std::getenv("L3_SHARED_DATA");
    std::filesystem::path const data = shared ? shared : L3_SOURCE_DIR "/../shared/data";
    std::filesystem::path const source = chosen ? chosen : data / "av-digits/train.csv";
    if (!chosen && !std::filesystem::exists(source)) return l3::clip_list();
    return l3::read_clips(source);
  }();
  return list;
}

double seconds_of(::clockid_t clock) {
  std::timespec t{};
  ::clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
double thread_seconds() { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }
double processor_seconds() { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }  ///< of all threads

/// Processor time of one draw on one thread: counters in milliseconds a draw.
template <class Model>
void draw_stages(benchmark::State& state) {
  if (clips().empty()) return state.SkipWithError("SKIPPED: no videos; name some in L3_BENCH_CLIPS");
  l3::spectrogram<typename Model::front_end> const to_spectrum;
  std::vector<float> samples(48000), picture(Model::frame::size), spectrum(Model::front_end::output::size);
  char const* const names[] = {"open_ms", "frame_ms", "sound_ms", "image_ms", "spectrum_ms"};
  double spent[5] = {};
  std::uint32_t index = 0;
  for (auto _ : state) {
    l3::generator random(1, l3::stream::user, 0, index++);
    auto const& file = clips()[random.below(static_cast<std::uint32_t>(clips().size()))].file;
    double clock = thread_seconds();
    auto const lap = [&](double& total) {
      double const now = thread_seconds();
      total += now - std::exchange(clock, now);
    };
    l3::clip_reader reader(file);
    lap(spent[0]);
    auto const both = reader.facts().both().value();
    auto const at = l3::draw_moment(random, both.begin, both.end);
    auto const frame = reader.frame(at.frame_time, Model::frame_side);
    lap(spent[1]);
    reader.sound(at.sound_start, samples);
    lap(spent[2]);
    l3::augment_image<typename Model::frame>(frame, random, std::span<float, Model::frame::size>(picture));
    lap(spent[3]);
    to_spectrum(samples, std::span<float, Model::front_end::output::size>(spectrum));
    lap(spent[4]);
  }
  for (int i = 0; i != 5; ++i)
    state.counters[names[i]] = benchmark::Counter(spent[i] * 1e3, benchmark::Counter::kAvgIterations);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_TEMPLATE(draw_stages, l3::paper)->Unit(benchmark::kMillisecond);
BENCHMARK_TEMPLATE(draw_stages, l3::tiny)->Unit(benchmark::kMillisecond);

template <class Model>
l3::loader_options options(std::size_t workers) {
  return {.seed = 1,
          .batch = std::min<std::size_t>(Model::batch, clips().size()),
          .pairs = l3::pairing::all,
          .workers = workers};
}

/// A wrong answer is not worth timing: one and two workers must give the same.
template <class Model>
void check() {
  auto settings = options<Model>(1);
  settings.ahead = 1;
  l3::loader<Model> one(clips(), settings);
  settings.workers = 2;
  l3::loader<Model> two(clips(), settings);
  for (int i = 0; i != 2; ++i) {
    auto const &a = *one.next(), &b = *two.next();
    if (!std::ranges::equal(a.frame_view().values(), b.frame_view().values()) ||
        !std::ranges::equal(a.sound_view().values(), b.sound_view().values()))
      throw std::runtime_error("one and two workers give different batches");
  }
}

/// Pairs a second when nobody uses them: what the loader can feed.
template <class Model>
void loader(benchmark::State& state) {
  if (clips().empty()) return state.SkipWithError("SKIPPED: no videos; name some in L3_BENCH_CLIPS");
  check<Model>();
  auto const settings = options<Model>(static_cast<std::size_t>(state.range(0)));
  l3::loader<Model> source(clips(), settings);
  for (std::size_t i = 0; i != settings.ahead; ++i) source.next();  // batches made before the clock runs
  auto const busy_before = processor_seconds();
  for (auto _ : state) benchmark::DoNotOptimize(source.next());
  auto const pairs = static_cast<std::int64_t>(settings.batch) * state.iterations();
  state.SetItemsProcessed(pairs);
  // Says what a core can do also when others use the machine.
  state.counters["per_core_s"] = static_cast<double>(pairs) / (processor_seconds() - busy_before);
  struct ::rusage use {};
  ::getrusage(RUSAGE_SELF, &use);
  state.counters["first_batch_s"] = source.report().first_seconds;
  state.counters["peak_mib"] =  // of the process so far
      static_cast<double>(use.ru_maxrss) / 1024;
  state.counters["refused"] = static_cast<double>(source.report().refused_files);
}
BENCHMARK_TEMPLATE(loader, l3::tiny)->ArgName("workers")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_TEMPLATE(loader, l3::paper)->ArgName("workers")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
