// Supervised subnetworks, and a fusion head that learns alone, on a GPU.
#include <cstring>
#include <l3/model/classifier.hpp>
#include <l3/model/hosted_classifier.cuh>
#include <l3/model/hosted_inference.cuh>
#include <l3/train/classifier_checkpoint.hpp>
#include <l3/train/classifier_trainer.cuh>
#include <l3/train/fusion_trainer.cuh>

#include "../support/device.hpp"
#include "../support/micro.hpp"

namespace {
using namespace l3;
using namespace l3::test;

constexpr std::size_t class_count = 5, class_items = 6;
std::vector<std::int32_t> const class_labels{0, 3, 4, 1, 1, 3};
constexpr training_settings class_settings{
    .batch = class_items, .learning_rate = 3e-3, .warm_up_steps = 3, .weight_decay = 0.5};

/// As micro, with a front end that a GPU computes.
struct hearing_micro : micro {
  static constexpr char const* name = "hearing micro";
  using front_end = coarse_front_end;
};

/// A classifier and its trainer, on a processor or on a GPU.
template <class B, class Side>
struct class_session {
  static constexpr bool on_host = host_backend<B>;
  using network = trunk_classifier<B, Side>;
  using last_layer = std::conditional_t<on_host, softmax_head<B>, softmax_weights<float>>;
  context<B> on{1};
  network net;
  last_layer head;
  classifier_trainer<network> t;
  tensor<float, typename network::input> batch = uniform_batch<float, typename network::input>(class_items, 3);

  static last_layer make_head(context<B>& where) {
    if constexpr (on_host)
      return {where, network::hidden::size, class_count, class_items};
    else
      return {network::hidden::size, class_count};
  }
  explicit class_session(bool frozen = false, training_settings const& s = class_settings)
      : head(make_head(on)), t((net.initialise(1), head.initialise(1, 99), on), net, head, s, frozen) {}
  step_report step() { return t.step(batch.view(), class_labels); }
  /// The network's, then the last layer's.
  std::vector<float> values() {
    if constexpr (!on_host) t.fetch();
    std::vector<float> all(net.data(), net.data() + network::parameter_room);
    all.insert(all.end(), head.values().begin(), head.values().end());
    return all;
  }
  std::vector<float> gradients() {
    std::vector<float> g(network::parameter_room + head.room());
    if constexpr (on_host) {
      std::copy_n(t.gradients(), network::parameter_room, g.begin());
      std::copy_n(head.gradients().begin(), head.room(), g.begin() + network::parameter_room);
    } else {
      download(on, g.size(), t.gradients(), g.data());
    }
    return g;
  }
};

double largest_apart(std::vector<float> const& a, std::vector<float> const& b) { return apart(a, in_double(b)); }

/// Each of a classifier's tensors of a gradient.
template <class Session>
void check_tensors(Session const& s, std::vector<float> const& found, std::vector<float> const& expected,
                   double tolerance) {
  using network = typename Session::network;
  auto const check = [&](std::size_t begin, std::size_t count) {
    auto const part = [&](std::vector<float> const& v) {
      return std::vector<float>(v.begin() + static_cast<std::ptrdiff_t>(begin),
                                v.begin() + static_cast<std::ptrdiff_t>(begin + count));
    };
    CHECK(largest_apart(part(found), part(expected)) < tolerance);
  };
  for (parameter const& p : network::parameters) {
    if (!p.learned()) continue;
    INFO(p.name.view());
    check(p.offset, p.count());
  }
  check(network::parameter_room, s.head.weights().size());
  check(network::parameter_room + s.head.bias_offset(), class_count);
}

/// What is made of the same bytes and samples by way of the machine's memory.
template <class B>
struct raw_pairs {
  using frame = hearing_micro::frame;
  using network = l3_network<B, hearing_micro>;
  using sound = typename network::sound;
  raw_batch<frame, hearing_micro::front_end::samples> raw{class_items};
  std::vector<float> frames, sounds;
  explicit raw_pairs(context<B>& on) {
    raw.count = class_items;
    std::uint32_t k = 0;
    for (auto& x : raw.crops.values()) x = static_cast<std::uint8_t>(generator(1, stream::user, 0, k++).below(256));
    for (auto& x : raw.seconds.values()) x = static_cast<float>(generator(1, stream::user, 1, k++).uniform(-1, 1));
    // With their type named: nvcc (13.0 to 13.5) forgets the members' names where what is assigned to depends on <B>.
    raw.jitters[1] = image_jitter{.saturation = 0.6f};
    raw.jitters[2] = image_jitter{.mirrored = true, .brightness = 9};
    for (std::size_t i = 0; i != class_items; ++i) raw.volumes[i] = 0.9f + 0.03f * static_cast<float>(i);
    copied<std::uint8_t> const crops(on, raw.crops.values());
    copied<float> const seconds(on, raw.seconds.values()), volumes(on, raw.volumes);
    copied<image_jitter> const jitters(on, raw.jitters);
    on_device<value_of<B>> made_frames(class_items * frame::size), made_sounds(class_items * sound::size);
    augment_images<frame>(on, class_items, crops, jitters, made_frames);
    gpu_spectrogram<hearing_micro::front_end, typename B::precision> const ear(on);
    ear(on, class_items, seconds, volumes, made_sounds);
    frames = made_frames.values(on), sounds = made_sounds.values(on);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("a classifier's step on a GPU in fp32 is the processor's", "", vision_of<micro>, audio_of<micro>) {
  if (!has_gpu()) return;
  for (bool const frozen : {false, true}) {
    CAPTURE(frozen);
    class_session<cuda<fp32>, TestType> gpu(frozen);
    class_session<reference<float>, TestType> host(frozen);
    for (std::uint64_t step = 1; step <= 3; ++step) {
      step_report const a = gpu.step(), b = host.step();
      CHECK(a.score.loss == Approx(b.score.loss).epsilon(step == 1 ? 1e-5 : 1e-3));
      CHECK((a.step == step && a.pairs == b.pairs && a.learning_rate == b.learning_rate));
      if (step > 1) continue;
      CHECK(a.score.accuracy == Approx(b.score.accuracy));
      check_tensors(gpu, gpu.gradients(), host.gradients(), 1e-4);
    }
    gpu.t.fetch();
    CHECK(gpu.net.batches_tracked() == host.net.batches_tracked());
    auto const first = gpu.t.optimizer().first(), expected = host.t.optimizer().first();
    using network = typename decltype(gpu)::network;
    for (parameter const& p : network::parameters) {
      if (!p.learned()) continue;
      INFO(p.name.view());
      CHECK(largest_apart({first + p.offset, first + p.offset + p.count()},
                          {expected + p.offset, expected + p.offset + p.count()}) < 2e-2);
    }
    auto const w = gpu.values();
    class_session<reference<float>, TestType> const untouched(frozen);
    bool const same = std::memcmp(w.data(), untouched.net.data(), network::top_offset * sizeof(float)) == 0;
    CHECK(same == frozen);
  }
}

TEST_CASE("a classifier on a GPU learns a batch, and says in use what it learned") {
  if (!has_gpu()) return;
  using session = class_session<cuda<bf16>, audio_of<micro>>;
  training_settings fast = class_settings;
  fast.learning_rate = 1e-2;
  session s(false, fast);
  double const before = s.step().score.loss;
  step_report last;
  for (int k = 0; k < 15; ++k) last = s.step();
  CHECK(last.score.loss < 0.3 * before);
  CHECK(last.score.accuracy > 0.8);
  s.t.fetch();
  hosted_classifier<session::network> user(s.on, s.net, s.head.weights(), s.head.biases(), class_items);
  std::vector<float> scores(class_items * class_count), again(scores);
  user.scores(s.batch.view(), scores);
  user.refresh(s.net, s.head.weights(), s.head.biases());
  user.scores(s.batch.view(), again);
  CHECK(scores == again);
  // The same by the plain loops.
  context<reference<float>> host(1);
  using judge = trunk_classifier<reference<float>, audio_of<micro>>;
  judge net;
  std::copy_n(s.net.data(), judge::parameter_room, net.data());
  softmax_head<reference<float>> head(host, judge::hidden::size, class_count, class_items);
  std::copy(s.head.values().begin(), s.head.values().end(), head.values().begin());
  classifier_inference<judge> plain(host, net, class_items);
  tensor<float, judge::hidden> hidden(class_items);
  plain.hidden(s.batch.view(), hidden.view());
  std::vector<float> expected(class_items * class_count);
  head.scores(host, class_items, hidden.data(), expected.data());
  CHECK(largest_apart(scores, expected) < 5e-2);
  CHECK_THROWS_AS(user.scores(uniform_batch<float, session::network::input>(class_items + 1, 1).view(), scores),
                  shape_error);
}

TEST_CASE("a classifier on a GPU gives the same bits begun ahead, and from its checkpoint on") {
  if (!has_gpu()) return;
  using session = class_session<cuda<bf16>, audio_of<micro>>;
  session whole, ahead, first, second;
  for (int k = 0; k < 4; ++k) whole.step();
  std::vector<std::uint64_t> steps;
  for (int k = 0; k < 4; ++k) {
    if (ahead.t.in_flight() == 2) steps.push_back(ahead.t.finish().step);
    ahead.t.begin(ahead.batch.view(), class_labels);
  }
  while (ahead.t.in_flight() > 0) steps.push_back(ahead.t.finish().step);
  CHECK(steps == std::vector<std::uint64_t>{1, 2, 3, 4});
  CHECK(whole.values() == ahead.values());

  auto const file = std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + "on_gpu.safetensors");
  first.step(), first.step();
  first.t.fetch();
  save_classifier(file, first.net, first.head, &first.t.optimizer(), {.step = 2, .settings = R"({"classes":[]})"});
  load_classifier(file, second.net, second.head, &second.t.optimizer());
  second.t.adopt();
  second.step(), second.step();
  CHECK(whole.values() == second.values());
  // A processor goes on from there too.
  class_session<reference<float>, audio_of<micro>> host;
  CHECK(load_classifier(file, host.net, host.head, &host.t.optimizer()).step == 2);
  CHECK(host.step().step == 3);
  std::filesystem::remove(file);
}

TEST_CASE("a classifier's step on a GPU that is not finite leaves everything as it was") {
  if (!has_gpu()) return;
  class_session<cuda<bf16>, audio_of<micro>> s, untouched;
  s.step(), untouched.step();
  float const kept = std::exchange(s.batch.data()[77], std::numeric_limits<float>::infinity());
  CHECK_THROWS_WITH(s.step(), Contains("step 2") && Contains("finite"));
  s.batch.data()[77] = kept;
  CHECK(s.values() == untouched.values());
  CHECK(s.net.batches_tracked() == 1);
  std::vector<std::int32_t> const beyond{0, 1, 2, 3, 4, 5};
  CHECK_THROWS_AS(s.t.step(s.batch.view(), beyond), setting_error);
  CHECK_THROWS_AS(s.t.step(s.batch.view().slice(0, 4), class_labels), shape_error);
  s.step(), untouched.step();
  CHECK(s.values() == untouched.values());
}

TEST_CASE("a fusion head's step alone on a GPU in fp32 is the processor's") {
  if (!has_gpu()) return;
  using B = cuda<fp32>;
  using network = l3_network<B, micro>;
  using judge = l3_network<reference<float>, micro>;
  auto const frames = uniform_batch<float, network::frame>(class_items, 5);
  auto const sounds = uniform_batch<float, network::sound>(class_items, 6);
  std::vector<std::int32_t> const match{1, 0, 1, 0, 0, 1};
  for (pairing const which : {pairing::all, pairing::paper}) {
    CAPTURE(which == pairing::all);
    training_settings s = class_settings;
    s.which = which;
    context<B> on;
    context<reference<float>> host(1);
    network net, before;
    judge plain;
    net.initialise(3), before.initialise(3), plain.initialise(3);
    fusion_trainer<network> t(on, net, s);
    fusion_trainer<judge> expected(host, plain, s);
    for (std::uint64_t step = 1; step <= 3; ++step) {
      step_report const a = t.step(frames.view(), sounds.view(), match);
      step_report const b = expected.step(frames.view(), sounds.view(), match);
      CHECK(a.score.loss == Approx(b.score.loss).epsilon(step == 1 ? 1e-5 : 1e-3));
      CHECK(a.score.accuracy == Approx(b.score.accuracy));
      CHECK((a.step == step && a.pairs == b.pairs && a.learning_rate == b.learning_rate));
      if (step > 1) continue;
      std::vector<float> g(network::parameter_room);
      download(on, g.size(), t.gradients(), g.data());
      for (parameter const& p : network::parameters) {
        if (p.offset < network::fusion_offset) continue;
        INFO(p.name.view());
        auto const part = [&](float const* all) {
          return std::vector<float>(all + p.offset, all + p.offset + p.count());
        };
        CHECK(largest_apart(part(g.data()), part(expected.gradients())) < 1e-4);
      }
    }
    t.fetch();
    CHECK(std::memcmp(net.data(), before.data(), network::fusion_offset * sizeof(float)) == 0);
    CHECK(std::memcmp(net.data() + network::fusion_offset, before.data() + network::fusion_offset, 64) != 0);
    CHECK(net.batches_tracked() == 0);
    for (std::size_t k = 0; k != network::fusion_offset; ++k)  // as a processor leaves them
      if (t.optimizer().first()[k] != 0 || t.optimizer().second()[k] != 0) FAIL("averages of what stays: " << k);
  }
}

TEST_CASE("the baselines learn the same on a GPU from bytes and samples as from what it makes of them") {
  if (!has_gpu()) return;
  using B = cuda<bf16>;
  class_session<B, vision_of<hearing_micro>> seen, seen_values;
  class_session<B, audio_of<hearing_micro>> heard, heard_values;
  raw_pairs<B> const from(seen.on);
  auto const all = from.raw.view();
  using frames_view = batch_view<float const, hearing_micro::frame>;
  using sounds_view = batch_view<float const, hearing_micro::front_end::output>;
  CHECK(seen.t.step({all.crops, all.jitters}, class_labels).score.loss ==
        seen_values.t.step(frames_view(from.frames.data(), class_items), class_labels).score.loss);
  CHECK(heard.t.step({all.seconds, all.volumes}, class_labels).score.loss ==
        heard_values.t.step(sounds_view(from.sounds.data(), class_items), class_labels).score.loss);
  CHECK(seen.values() == seen_values.values());
  CHECK(heard.values() == heard_values.values());
  CHECK_THROWS_AS(seen.t.begin({all.crops, all.jitters.first(2)}, class_labels), shape_error);
  CHECK_THROWS_AS(heard.t.begin({all.seconds, all.volumes.first(2)}, class_labels), shape_error);

  using network = l3_network<B, hearing_micro>;
  context<B> on;
  network a, b;
  a.initialise(2), b.initialise(2);
  fusion_trainer<network> t(on, a, class_settings), values(on, b, class_settings);
  CHECK(t.step(all, {}).score.loss ==
        values.step(frames_view(from.frames.data(), class_items), sounds_view(from.sounds.data(), class_items), {})
            .score.loss);
  t.fetch(), values.fetch();
  CHECK(std::memcmp(a.data(), b.data(), network::parameter_room * sizeof(float)) == 0);
}
