#include <algorithm>
#include <cstring>
#include <l3/model/config.hpp>
#include <l3/model/network.hpp>
#include <l3/train/trainer.cuh>
#include <limits>

#include "../support/device.hpp"
#include "../support/golden.hpp"
#include "../support/micro.hpp"
#if defined(L3_WITH_NCCL)
#include <l3/processes/nccl_group.cuh>
#include <thread>

#include "../support/thread_group.hpp"
#endif

namespace {
using namespace l3;
using namespace l3::test;

/// Wide enough for whole vectors of channels and for the matrix units' tiles.
struct mini {
  static constexpr char const* name = "mini";
  using frame = image<24, 32, 3>;
  static constexpr std::size_t frame_side = 32;
  struct front_end {
    static constexpr char const* name = "mini";
    using output = image<17, 33, 1>;
  };
  static constexpr std::size_t width = 8;
  static constexpr std::size_t hidden = 32;
};

/// The same with first layers wide enough to be computed again rather than kept.
struct thin : mini {
  static constexpr char const* name = "thin";
  static constexpr std::size_t width = 16;
};
static_assert(l3_network<cuda<bf16>, thin>::vision::node<0>::layer::thin<cuda<bf16>> &&
              l3_network<cuda<bf16>, thin>::audio::node<0>::layer::thin<cuda<bf16>>);

// Its plan, too: only first layers have room for sums of that kind.
static_assert(l3_network<cuda<bf16>, paper>::vision::scratch<cuda<bf16>>.fixed < (std::size_t{256} << 20));

/// The same with a front end that a GPU computes.
struct hearing : mini {
  static constexpr char const* name = "hearing";
  using front_end = coarse_front_end;
};

/// A batch that is the same for the same seed.
template <class Network>
struct batch_of {
  tensor<float, typename Network::frame> frames;
  tensor<float, typename Network::sound> sounds;
  std::vector<std::int32_t> labels;
  batch_of(std::size_t items, std::uint64_t seed)
      : frames(uniform_batch<float, typename Network::frame>(items, 2 * seed)),
        sounds(uniform_batch<float, typename Network::sound>(items, 2 * seed + 1)) {
    for (std::size_t k = 0; k < items; ++k) labels.push_back(k % 4 == 0 || k % 4 == 3 ? 1 : 0);
  }
};

/// The same items once more behind them.
template <class Network>
batch_of<Network> twice_of(batch_of<Network> const& once) {
  std::size_t const items = once.labels.size();
  batch_of<Network> twice(2 * items, 1);
  for (std::size_t k = 0; k != 2; ++k) {
    std::copy_n(once.frames.data(), once.frames.values().size(), twice.frames.data() + k * once.frames.values().size());
    std::copy_n(once.sounds.data(), once.sounds.values().size(), twice.sounds.data() + k * once.sounds.values().size());
    std::copy_n(once.labels.data(), items, twice.labels.data() + items * k);
  }
  return twice;
}

template <class Trainer, class Batch>
step_report take(Trainer& t, Batch const& b) {
  return t.step(b.frames.view(), b.sounds.view(), b.labels);
}

template <class B, class Config>
struct session {
  using network = l3_network<B, Config>;
  context<B> on{1};
  network net;
  trainer<network> t;
  explicit session(training_settings const& s) : t((net.initialise(7), on), net, s) {}
  batch_of<network> batch(std::uint64_t seed) const { return {t.settings().batch * t.settings().parts, seed}; }
  step_report step(std::uint64_t seed) { return take(t, batch(seed)); }
  std::vector<float> gradients() {
    std::vector<float> g(network::parameter_room);
    if constexpr (host_backend<B>)
      g.assign(t.gradients(), t.gradients() + g.size());
    else
      download(on, g.size(), t.gradients(), g.data());
    return g;
  }
  std::vector<float> weights() {
    if constexpr (!host_backend<B>) t.fetch();
    return {net.data(), net.data() + network::parameter_room};
  }
};

/// Largest difference of two tensors of parameters, as a part of the largest value.
template <class Network, class Check>
void each_parameter(std::vector<float> const& a, std::vector<float> const& b, bool learned, Check&& check) {
  for (parameter const& p : Network::parameters) {
    if (p.learned() != learned) continue;
    INFO(p.name.view());
    auto const part = [&](std::vector<float> const& v) {
      return std::vector<float>(v.begin() + static_cast<std::ptrdiff_t>(p.offset),
                                v.begin() + static_cast<std::ptrdiff_t>(p.offset + p.count()));
    };
    check(apart(part(a), in_double(part(b))));
  }
}

/// Two processes, or more, with the same draws, as one of them sees them.
class twins final : public gpu_group {
 public:
  explicit twins(std::size_t count = 2) : count_(count) {}
  std::size_t rank() const override { return 0; }
  std::size_t size() const override { return count_; }
  void mean(float* values, std::size_t count, float factor, cudaStream_t in) override {
    add(in, count, values, factor * static_cast<float>(count_) / 2, values);
    ++means;
  }
  void gather(void const* mine, void* all, std::size_t bytes, cudaStream_t in) override {
    for (std::size_t r = 0; r != count_; ++r)
      cuda_check(cudaMemcpyAsync(static_cast<char*>(all) + r * bytes, mine, bytes, cudaMemcpyDeviceToDevice, in),
                 "gathering");
  }
  void sum_parts(float const* parts, float* mine, std::size_t count, cudaStream_t in) override {
    // What another one has for our sounds is what we have for its.
    cuda_check(cudaMemcpyAsync(mine, parts, count * sizeof(float), cudaMemcpyDeviceToDevice, in), "summing");
    for (std::size_t r = 1; r != count_; ++r) add(in, count, parts + r * count, 1.0f, mine);
  }
  void check() override {
    if (gone) throw group_error({"the other GPU", "an answer", "none"});
  }
  void abandon() override { ++abandoned; }
  int means = 0, abandoned = 0;
  bool gone = false;

 private:
  static void add(cudaStream_t in, std::size_t count, float const* x, float factor, float* y) {
    detail::gpu::launch(in, detail::gpu::add_and_scale_each<>, dim3(detail::gpu::blocks_for(count, 256)), 256, 0, count,
                        x, factor, y);
  }
  std::size_t count_;
};

constexpr training_settings settings_of(pairing which, std::size_t parts = 1, bool across = true) {
  return {
      .which = which, .batch = 4, .parts = parts, .across_workers = across, .learning_rate = 3e-3, .warm_up_steps = 3};
}

using one_step_settings = std::pair<pairing, std::pair<std::size_t, bool>>;
constexpr one_step_settings ways[] = {{pairing::all, {1, true}},
                                      {pairing::paper, {1, true}},
                                      {pairing::all, {3, true}},
                                      {pairing::all, {3, false}},
                                      {pairing::paper, {2, true}}};
}  // namespace

TEST_CASE("three steps of training on a GPU are PyTorch's") {
  if (!has_gpu()) return;
  char const* const named = std::getenv("L3_SOURCE");  // where the program was brought from elsewhere
  auto const file = safetensors_file::open(std::string(named != nullptr ? named : L3_SOURCE_DIR) +
                                           "/tests/golden/micro_net.safetensors");
  using network = l3_network<cuda<fp32>, micro>;
  for (pairing const which : {pairing::paper, pairing::all}) {
    std::string const prefix = which == pairing::paper ? "paper." : "all.";
    context<cuda<fp32>> on;
    network net;
    for (std::size_t k = 0; k < network::parameters.size(); ++k) {
      auto const init = golden_values(file, "init." + std::string(network::parameters[k].name.view()));
      std::copy(init.begin(), init.end(), net.values(k).begin());
    }
    tensor<float, network::frame> frames(4);
    tensor<float, network::sound> sounds(4);
    auto const f = golden_values(file, "frames"), s = golden_values(file, "sounds");
    std::copy(f.begin(), f.end(), frames.data());
    std::copy(s.begin(), s.end(), sounds.data());
    std::vector<std::int64_t> wide(4);
    file.read("labels", wide, {4});
    std::vector<std::int32_t> const labels(wide.begin(), wide.end());
    trainer<network> t(on, net, {.which = which, .batch = 4, .learning_rate = 1e-3, .warm_up_steps = 0});
    auto const losses = golden_values(file, prefix + "loss");
    for (std::size_t step = 0; step < 3; ++step) {
      step_report const report = t.step(frames.view(), sounds.view(), labels);
      CHECK(report.score.loss == Approx(losses[step]).epsilon(step == 0 ? 1e-5 : 1e-3));
      if (step > 0) continue;
      std::vector<float> g(network::parameter_room);
      download(on, g.size(), t.gradients(), g.data());
      for (parameter const& p : network::parameters) {
        if (!p.learned()) continue;
        INFO(prefix << p.name.view());
        auto const begin = g.begin() + static_cast<std::ptrdiff_t>(p.offset);
        CHECK(apart({begin, begin + static_cast<std::ptrdiff_t>(p.count())},
                    in_double(golden_values(file, prefix + "grad." + std::string(p.name.view())))) < 1e-4);
      }
    }
    t.fetch();
    CHECK(net.batches_tracked() == 3);
    for (std::size_t k = 0; k < network::parameters.size(); ++k) {
      std::string const name = prefix + "after3." + std::string(network::parameters[k].name.view());
      if (!file.contains(name)) continue;
      INFO(name);
      auto const v = net.values(k);
      CHECK(apart({v.begin(), v.end()}, in_double(golden_values(file, name))) < 2e-2);
    }
  }
}

TEST_CASE("a step on a GPU in fp32 is the processor's") {
  if (!has_gpu()) return;
  for (auto const& [which, how] : ways) {
    CAPTURE(which == pairing::all, how.first, how.second);
    session<cuda<fp32>, mini> gpu(settings_of(which, how.first, how.second));
    session<reference<float>, mini> host(settings_of(which, how.first, how.second));
    step_report const a = gpu.step(1), b = host.step(1);
    CHECK(a.score.loss == Approx(b.score.loss).epsilon(1e-5));
    CHECK(a.score.accuracy == b.score.accuracy);
    CHECK((a.step == b.step && a.pairs == b.pairs && a.learning_rate == b.learning_rate));
    using network = l3_network<cuda<fp32>, mini>;
    each_parameter<network>(gpu.gradients(), host.gradients(), true, [](double off) { CHECK(off < 1e-4); });
    each_parameter<network>(gpu.weights(), host.weights(), false, [](double off) { CHECK(off < 1e-5); });
    CHECK(gpu.net.batches_tracked() == 1);
  }
}

TEST_CASE("a step of two GPUs is that of two parts of one process") {
  if (!has_gpu()) return;
  using network = l3_network<cuda<fp32>, mini>;
  for (auto const& [which, across] : std::initializer_list<std::pair<pairing, bool>>{
           {pairing::all, true}, {pairing::all, false}, {pairing::paper, false}}) {
    CAPTURE(which == pairing::all, across);
#if !defined(__CUDACC__)
    emulated::order = 1 - emulated::order;  // messages as early as can be, or as late
#endif
    context<cuda<fp32>> on;
    twins group;
    network net;
    net.initialise(7);
    trainer<network> t(on, net, settings_of(which, 1, across), &group);
    session<reference<float>, mini> host(settings_of(which, 2, across));
    batch_of<network> const once(4, 1);
    batch_of<network> const twice = twice_of<network>(once);
    for (std::uint64_t step = 1; step <= 2; ++step) {
      step_report const a = take(t, once), b = take(host.t, twice);
      CHECK(a.score.loss == Approx(b.score.loss).epsilon(step == 1 ? 1e-5 : 1e-3));
      CHECK((a.step == step && a.pairs == b.pairs));
      if (step > 1) continue;
      CHECK(group.means >= 3);  // the fusion head, then each subnetwork
      std::vector<float> g(network::parameter_room);
      download(on, g.size(), t.gradients(), g.data());
      each_parameter<network>(g, host.gradients(), true, [](double off) { CHECK(off < 1e-4); });
      t.fetch();
      each_parameter<network>({net.data(), net.data() + network::parameter_room}, host.weights(), false,
                              [](double off) { CHECK(off < 1e-5); });
    }
    batch_of<network> bad(4, 2);
    bad.frames.data()[99] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH(take(t, bad), Contains("step 3") && Contains("at process 0"));
  }
#if !defined(__CUDACC__)
  emulated::order = 0;
#endif
}

TEST_CASE("a step's report counts every GPU, however many there are") {
  if (!has_gpu()) return;
  using network = l3_network<cuda<fp32>, mini>;
  session<cuda<fp32>, mini> alone(settings_of(pairing::paper));
  step_report const b = alone.step(1);
  for (std::size_t const count : {1u, 3u, 6u}) {
    CAPTURE(count);
    context<cuda<fp32>> on;
    twins group(count);
    network net;
    net.initialise(7);
    trainer<network> t(on, net, settings_of(pairing::paper), &group);
    step_report const a = take(t, alone.batch(1));
    CHECK(a.score.loss == Approx(b.score.loss).epsilon(1e-6));
    CHECK(a.score.accuracy == b.score.accuracy);
    CHECK(a.pairs == count * b.pairs);
  }
}

TEST_CASE("a step whose other GPU is gone is not waited for, and what it leaves is not taken for learned") {
  if (!has_gpu()) return;
  using network = l3_network<cuda<fp32>, mini>;
  session<cuda<fp32>, mini> alone(settings_of(pairing::paper));
  context<cuda<fp32>> on;
  twins group;
  network net;
  net.initialise(7);
  trainer<network> t(on, net, settings_of(pairing::paper), &group);
  take(t, alone.batch(1));
  t.fetch();
  std::vector<float> const learned(net.data(), net.data() + network::parameter_room);
  auto const next = alone.batch(2);
  t.begin(next.frames.view(), next.sounds.view(), next.labels);
  group.gone = true;
  for (int k = 0; k != 2; ++k) CHECK_THROWS_AS(t.finish(), group_error);
  CHECK((t.in_flight() == 1 && group.abandoned > 0));
  CHECK_THROWS_AS(t.fetch(), setting_error);
  CHECK(std::equal(learned.begin(), learned.end(), net.data()));
}

TEST_CASE("a step of two GPUs with one batch norm is that of one with both batches") {
  if (!has_gpu()) return;
  using network = l3_network<cuda<fp32>, mini>;
  training_settings together = settings_of(pairing::paper), whole = together;
  together.sync_batch_norm = true, whole.batch *= 2;
  context<cuda<fp32>> on;
  twins group;
  network net;
  net.initialise(7);
  trainer<network> t(on, net, together, &group);
  session<reference<float>, mini> host(whole);
  batch_of<network> const once(4, 1);
  batch_of<network> const twice = twice_of<network>(once);
  step_report const a = take(t, once), b = take(host.t, twice);
  CHECK(on.norm_group() == nullptr);
  CHECK(a.score.loss == Approx(b.score.loss).epsilon(1e-5));
  std::vector<float> g(network::parameter_room);
  download(on, g.size(), t.gradients(), g.data());
  each_parameter<network>(g, host.gradients(), true, [](double off) { CHECK(off < 1e-4); });
  t.fetch();
  // What shows that both batches were seen: the running variance counts their rows.
  each_parameter<network>({net.data(), net.data() + network::parameter_room}, host.weights(), false,
                          [](double off) { CHECK(off < 1e-6); });
  auto parts = together;
  parts.parts = 2;
  CHECK_THROWS_AS(trainer<network>(on, net, parts, &group), setting_error);
}

TEMPLATE_TEST_CASE("a step on a GPU with products of few digits is close to the processor's", "",
                   (std::pair<tf32, mini>), (std::pair<bf16, mini>), (std::pair<bf16, thin>)) {
  if (!has_gpu()) return;
  using precision = typename TestType::first_type;
  using config = typename TestType::second_type;
  session<cuda<precision>, config> gpu(settings_of(pairing::all));
  session<reference<float>, config> host(settings_of(pairing::all));
  step_report const a = gpu.step(1), b = host.step(1);
  CHECK(a.score.loss == Approx(b.score.loss).epsilon(std::is_same_v<precision, bf16> ? 2e-2 : 2e-3));
  // Gradients of a batch of four at random weights: noise of the precision, many layers deep.
  auto const found = gpu.gradients(), expected = host.gradients();
  double same = 0, found_size = 0, expected_size = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    same += static_cast<double>(found[k]) * expected[k];
    found_size += static_cast<double>(found[k]) * found[k],
        expected_size += static_cast<double>(expected[k]) * expected[k];
  }
  CHECK(same / std::sqrt(found_size * expected_size) > (std::is_same_v<precision, bf16> ? 0.85 : 0.99));
}

TEST_CASE("training on a GPU learns to tell a batch apart") {
  if (!has_gpu()) return;
  session<cuda<bf16>, micro> s(settings_of(pairing::all));
  double const before = s.step(0).score.loss;
  step_report last;
  for (int k = 0; k < 15; ++k) last = s.step(0);
  CHECK(last.score.loss < 0.7 * before);
  CHECK(last.score.accuracy > 0.75);
  CHECK((last.step == 16 && last.pairs == 64));
}

TEMPLATE_TEST_CASE("training on a GPU gives the same bits again, begun ahead or not, and when it goes on", "", fp32,
                   bf16) {
  if (!has_gpu()) return;
  using network = l3_network<cuda<TestType>, mini>;
  session<cuda<TestType>, mini> whole(settings_of(pairing::all)), ahead(settings_of(pairing::all));
  for (std::uint64_t k = 0; k < 4; ++k) whole.step(k);
  std::vector<std::uint64_t> steps;
  for (std::uint64_t k = 0; k < 4; ++k) {
    if (ahead.t.in_flight() == 2) steps.push_back(ahead.t.finish().step);
    auto const b = ahead.batch(k);
    ahead.t.begin(b.frames.view(), b.sounds.view(), b.labels);
  }
  while (ahead.t.in_flight() > 0) steps.push_back(ahead.t.finish().step);
  CHECK(steps == std::vector<std::uint64_t>{1, 2, 3, 4});
  CHECK(whole.weights() == ahead.weights());

  session<cuda<TestType>, mini> first(settings_of(pairing::all)), second(settings_of(pairing::all));
  first.step(0), first.step(1);
  first.t.fetch();
  second.net.copy_from(first.net);
  std::copy_n(first.t.optimizer().first(), 2 * network::parameter_room, second.t.optimizer().first());
  second.t.optimizer().steps(2);
  second.t.adopt();
  second.step(2), second.step(3);
  CHECK(whole.weights() == second.weights());
#if !defined(__CUDACC__)
  // The order of threads between barriers decides nothing.
  emulated::order = 1;
  session<cuda<TestType>, mini> other(settings_of(pairing::all));
  for (std::uint64_t k = 0; k < 4; ++k) other.step(k);
  emulated::order = 0;
  CHECK(whole.weights() == other.weights());
#endif
}

TEST_CASE("a GPU learns the same from bytes and samples as from what it makes of them") {
  if (!has_gpu()) return;
  using B = cuda<bf16>;
  using network = l3_network<B, hearing>;
  using frame = hearing::frame;
  constexpr std::size_t items = 2;
  raw_batch<frame, hearing::front_end::samples> raw(items);
  raw.count = items;
  std::fill(raw.labels.begin(), raw.labels.end(), 1);
  std::uint32_t k = 0;
  for (auto& x : raw.crops.values()) x = static_cast<std::uint8_t>(generator(1, stream::user, 0, k++).below(256));
  for (auto& x : raw.seconds.values()) x = static_cast<float>(generator(1, stream::user, 1, k++).uniform(-1, 1));
  raw.jitters = {{.saturation = 0.6f}, {.mirrored = true, .brightness = 9}};
  raw.volumes = {1.05f, 0.9f};
  auto settings = settings_of(pairing::all);
  settings.batch = items;

  session<B, hearing> bytes(settings), values(settings);
  // What it makes of them, by way of the machine's memory.
  copied<std::uint8_t> const crops(values.on, raw.crops.values());
  copied<float> const seconds(values.on, raw.seconds.values()), volumes(values.on, raw.volumes);
  copied<image_jitter> const jitters(values.on, raw.jitters);
  on_device<value_of<B>> frames(items * frame::size), sounds(items * network::sound::size);
  augment_images<frame>(values.on, items, crops, jitters, frames);
  gpu_spectrogram<hearing::front_end, bf16> const ear(values.on);
  ear(values.on, items, seconds, volumes, sounds);
  auto const f = frames.values(values.on), s = sounds.values(values.on);
  using frames_view = trainer<network>::frames_view;
  using sounds_view = trainer<network>::sounds_view;
  for (int step = 0; step != 3; ++step) {
    // In one of them the form changes on the way: a slot's step is recorded anew.
    step_report const a = step == 2 ? bytes.t.step(frames_view(f.data(), items), sounds_view(s.data(), items), {})
                                    : bytes.t.step(raw.view(), {});
    step_report const b = values.t.step(frames_view(f.data(), items), sounds_view(s.data(), items), {});
    CHECK(a.score.loss == b.score.loss);
  }
  CHECK(bytes.weights() == values.weights());
  struct {
    raw_batch<frame, hearing::front_end::samples> const& batch;
    auto const* next() { return &batch; }
  } source{raw};
  int steps = 0;
  train(bytes.t, source, 5, [&](step_report const& report, step_timing const&) {
    values.t.step(frames_view(f.data(), items), sounds_view(s.data(), items), {});
    return report.step == static_cast<std::uint64_t>(4 + steps++);
  });
  CHECK(steps == 2);
  CHECK(bytes.weights() == values.weights());
  auto lacking = raw.view();
  lacking.volumes = lacking.volumes.first(1);
  CHECK_THROWS_AS(bytes.t.begin(lacking, {}), shape_error);
  lacking = raw.view();
  lacking.jitters = lacking.jitters.first(1);
  CHECK_THROWS_AS(bytes.t.begin(lacking, {}), shape_error);
  lacking = raw.view();
  lacking.seconds.count = 1;
  CHECK_THROWS_AS(bytes.t.begin(lacking, {}), shape_error);
}

TEST_CASE("a step on a GPU that is not finite leaves everything as it was and says which step") {
  if (!has_gpu()) return;
  session<cuda<bf16>, mini> s(settings_of(pairing::all)), untouched(settings_of(pairing::all));
  s.step(0), untouched.step(0);
  auto bad = s.batch(1);
  bad.frames.data()[1234] = std::numeric_limits<float>::quiet_NaN();
  auto const good = s.batch(2);
  s.t.begin(bad.frames.view(), bad.sounds.view(), bad.labels);
  s.t.begin(good.frames.view(), good.sounds.view(), good.labels);  // is without effect
  CHECK_THROWS_WITH(s.t.finish(), Contains("step 2") && Contains("finite"));
  CHECK(s.t.in_flight() == 0);
  CHECK(s.t.steps() == 1);
  CHECK(s.weights() == untouched.weights());
  CHECK(s.net.batches_tracked() == 1);
  bad.frames.data()[1234] = 1e20f;  // normalised it is harmless, but its square is in the running variance
  CHECK_THROWS_WITH((s.t.begin(bad.frames.view(), bad.sounds.view(), bad.labels), s.t.finish()),
                    Contains("step 2") && Contains("running averages"));
  CHECK(s.weights() == untouched.weights());
  s.step(3), untouched.step(3);
  CHECK(s.weights() == untouched.weights());
}

TEST_CASE("training on a GPU refuses what does not fit") {
  if (!has_gpu()) return;
  session<cuda<bf16>, mini> s(settings_of(pairing::paper));
  auto const b = s.batch(0);
  CHECK_THROWS_AS(s.t.begin(b.frames.view(), b.sounds.view().slice(0, 3), b.labels), shape_error);
  CHECK_THROWS_AS(s.t.begin(b.frames.view(), b.sounds.view(), {}), shape_error);
  std::vector<std::int32_t> const signs{1, -1, 1, -1};
  CHECK_THROWS_AS(s.t.begin(b.frames.view(), b.sounds.view(), signs), setting_error);
  CHECK_THROWS_AS(s.t.finish(), setting_error);
  for (int k = 0; k != 2; ++k) s.t.begin(b.frames.view(), b.sounds.view(), b.labels);
  CHECK_THROWS_AS(s.t.begin(b.frames.view(), b.sounds.view(), b.labels), setting_error);
  CHECK_THROWS_AS(s.t.fetch(), setting_error);
  CHECK((s.t.finish().step == 1 && s.t.finish().step == 2));

  l3_network<cuda<bf16>, mini> blank;
  trainer late(s.on, blank, settings_of(pairing::paper));
  CHECK_THROWS_AS(late.begin(b.frames.view(), b.sounds.view(), b.labels), setting_error);
  blank.initialise(1);
  CHECK_THROWS_WITH(late.begin(b.frames.view(), b.sounds.view(), b.labels), Contains("adopt()"));
  late.adopt();
  late.begin(b.frames.view(), b.sounds.view(), b.labels);
  CHECK(late.finish().step == 1);
}

TEST_CASE("batches of other sizes in between change nothing") {
  if (!has_gpu()) return;
  using network = l3_network<cuda<bf16>, mini>;
  auto const settings = settings_of(pairing::paper);
  session<cuda<bf16>, mini> s(settings), first(settings), second(settings);
  auto const b = s.batch(0);
  auto const half = [&](auto& to) {
    return to.t.step(b.frames.view().slice(0, 2), b.sounds.view().slice(0, 2), std::span(b.labels).first(2)).step;
  };
  for (std::uint64_t step : {1u, 2u}) CHECK(half(s) == step);
  for (std::uint64_t step : {3u, 4u}) CHECK(s.step(0).step == step);  // in the places of those before
  half(first), half(first);
  first.t.fetch();
  second.net.copy_from(first.net);
  std::copy_n(first.t.optimizer().first(), 2 * network::parameter_room, second.t.optimizer().first());
  second.t.optimizer().steps(2);
  second.t.adopt();
  second.step(0), second.step(0);
  CHECK(s.weights() == second.weights());
}

TEMPLATE_TEST_CASE("inference on a GPU is the processor's", "", fp32, tf32, bf16) {
  if (!has_gpu()) return;
  using B = cuda<TestType>;
  using T = value_of<B>;
  using network = l3_network<B, mini>;
  using plain_network = l3_network<reference<float>, mini>;
  double const tolerance = std::is_same_v<TestType, fp32> ? 2e-5 : std::is_same_v<TestType, tf32> ? 5e-3 : 5e-2;
  context<B> on;
  context<reference<float>> host(1);
  network net;
  plain_network plain;
  plain.initialise(5);
  trainer<plain_network> t(host, plain, settings_of(pairing::all));  // running averages of some training
  batch_of<plain_network> const b(4, 3);
  for (int k = 0; k < 3; ++k) take(t, b);
  std::copy_n(plain.data(), plain_network::parameter_room, net.data());
  inference<network> user(on, net, 4);
  inference<plain_network> expected(host, plain, 4);
  auto const check = [&]<class In, class Out>(batch_view<float const, In> in, Out, auto&& ours, auto&& theirs) {
    on_device<T> x({in.data, in.data + in.size()});
    std::vector<float> y(in.count * Out::size);
    theirs(in, batch_view<float, Out>(y.data(), in.count));
    auto const found = both_orders([&] {
      on_device<T> out(in.count * Out::size);
      ours(batch_view<T const, In>(x.data(), in.count), batch_view<T, Out>(out.data(), in.count));
      return out.values(on);
    });
    CHECK(apart(found, in_double(y)) < tolerance);
  };
  check(
      b.frames.view(), typename network::embedding{}, [&](auto x, auto y) { user.embed_frames(x, y); },
      [&](auto x, auto y) { expected.embed_frames(x, y); });
  check(
      b.sounds.view(), typename network::embedding{}, [&](auto x, auto y) { user.embed_sounds(x, y); },
      [&](auto x, auto y) { expected.embed_sounds(x, y); });
  check(
      b.frames.view(), typename inference<plain_network>::vision_map::output{},
      [&](auto x, auto y) { user.map_frames(x, y); }, [&](auto x, auto y) { expected.map_frames(x, y); });
  check(
      b.sounds.view(), typename inference<plain_network>::audio_map::output{},
      [&](auto x, auto y) { user.map_sounds(x, y); }, [&](auto x, auto y) { expected.map_sounds(x, y); });
  on_device<T> frames({b.frames.values().begin(), b.frames.values().end()}),
      sounds({b.sounds.values().begin(), b.sounds.values().end()});
  on_device<float> logits(8);
  user.score({frames.data(), 4}, {sounds.data(), 4}, {logits.data(), 4});
  tensor<float, features<2>> scores(4);
  expected.score(b.frames.view(), b.sounds.view(), scores.view());
  CHECK(apart(logits.values(on), in_double({scores.values().begin(), scores.values().end()})) < 2 * tolerance);
}

#if defined(L3_WITH_NCCL)
TEST_CASE("NCCL: a group of one GPU changes nothing, and two processes do not share a GPU") {
  if (!has_gpu()) return;
  using network = l3_network<cuda<fp32>, mini>;
  session<cuda<fp32>, mini> alone(settings_of(pairing::all));
  context<cuda<fp32>> on;
  thread_group::shared one(1);
  thread_group processes(one, 0);
  nccl_group group(processes);
  network net;
  net.initialise(7);
  trainer<network> t(on, net, settings_of(pairing::all), &group);
  for (std::uint64_t k = 0; k < 3; ++k) CHECK(take(t, alone.batch(k)).score.loss == alone.step(k).score.loss);
  t.fetch();
  CHECK(alone.weights() == std::vector<float>(net.data(), net.data() + network::parameter_room));

  thread_group::shared two(2);
  std::vector<std::string> said(2);
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank != 2; ++rank)
      threads.emplace_back([&, rank] {
        thread_group mine(two, rank);
        try {
          nccl_group refused(mine);
        } catch (setting_error const& e) {
          said[rank] = e.what();
        }
      });
  }
  for (std::string const& each : said) CHECK_THAT(each, Contains("one for each"));
}
#endif

#if !defined(__CUDACC__)
TEST_CASE("a machine without a GPU, and one with too little memory, are told so") {
  emulated::devices = 0;
  CHECK_THROWS_WITH(context<cuda<bf16>>(), Contains("NVIDIA GPU") && Contains("no CUDA-capable device"));
  emulated::devices = 1;
  emulated::has_code = false;
  CHECK_THROWS_WITH(context<cuda<bf16>>(), Contains("no code") && Contains("8.0"));
  emulated::has_code = true;
  context<cuda<bf16>> on;
  std::size_t const memory = std::exchange(emulated::memory, emulated::taken + (std::size_t{1} << 20));
  CHECK_THROWS_WITH(device_block(std::size_t{2} << 20), Contains("2 MiB more") && Contains("1 MiB left"));
  // What nobody can count is not nothing.
  CHECK_THROWS_AS(device_block(std::numeric_limits<std::size_t>::max()), device_memory_error);
  CHECK_THROWS_AS(detail::gpu::narrow(std::size_t{1} << 31), shape_error);
  emulated::memory = memory;
  CHECK_THROWS_AS(context<cuda<bf16>>(0, 3), device_error);
  CHECK_THROWS_WITH(on.products("many"), Contains("warp, warpgroup or direct") && Contains("many"));
  ::setenv("L3_CUDA_PRODUCTS", "warp", 1);
  emulated::capability = 9;
  CHECK(context<cuda<bf16>>().products() == std::string("warp"));
  ::unsetenv("L3_CUDA_PRODUCTS");
  CHECK(context<cuda<bf16>>().products() == std::string("direct"));
  emulated::capability = 8;
}
#endif
