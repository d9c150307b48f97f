#include <algorithm>
#include <l3/model/network.hpp>
#include <l3/train/trainer.hpp>
#include <set>

#include "../support/catch.hpp"
#include "../support/golden.hpp"
#include "../support/micro.hpp"

using namespace l3;

// Sizes of the paper's network; the parameter count agrees with PyTorch's for the same layers.
using full = l3_network<reference<float>, paper>;
static_assert(std::same_as<full::vision::output, features<512>>);
static_assert(full::learned == 9'504'898);
static_assert(full::parameters.size() == 2 * 4 * 2 * 5 + 4);
static_assert(std::same_as<inference<full>::vision_map::output, image<28, 28, 512>>);
static_assert(std::same_as<inference<full>::audio_map::output, image<32, 24, 512>>);
static_assert(full::flops > 40.5e9 && full::flops < 41.5e9);
static_assert(std::same_as<l3_network<reference<float>, tiny>::embedding, features<128>>);

namespace {

safetensors_file golden() {
  return safetensors_file::open(std::string(L3_SOURCE_DIR) + "/tests/golden/micro_net.safetensors");
}

template <class S>
void check_close(std::span<S const> ours, std::vector<float> const& theirs, double tolerance) {
  REQUIRE(ours.size() == theirs.size());
  double most = 0, scale = 1e-4;
  for (std::size_t k = 0; k < theirs.size(); ++k) {
    most = std::max(most, std::abs(static_cast<double>(ours[k]) - static_cast<double>(theirs[k])));
    scale = std::max(scale, std::abs(static_cast<double>(theirs[k])));
  }
  CHECK(most <= tolerance * scale);
}

template <class B>
struct parity {
  using S = scalar_of<B>;
  using network = l3_network<B, micro>;
  safetensors_file file = golden();
  context<B> on{2};
  network net;
  tensor<S, typename network::frame> frames{4};
  tensor<S, typename network::sound> sounds{4};
  std::vector<std::int32_t> labels;

  parity() {
    for (std::size_t k = 0; k < network::parameters.size(); ++k) {
      auto const init = golden_values(file, "init." + std::string(network::parameters[k].name.view()));
      std::copy(init.begin(), init.end(), net.values(k).begin());
    }
    auto const f = golden_values(file, "frames"), s = golden_values(file, "sounds");
    std::copy(f.begin(), f.end(), frames.data());
    std::copy(s.begin(), s.end(), sounds.data());
    std::vector<std::int64_t> wide(4);
    file.read("labels", wide, {4});
    labels.assign(wide.begin(), wide.end());
  }
};

}  // namespace

TEMPLATE_TEST_CASE("three steps of training are PyTorch's", "", reference<double>, reference<float>, cpu) {
  using S = scalar_of<TestType>;
  bool const exact = std::is_same_v<S, double>;
  for (pairing const which : {pairing::paper, pairing::all}) {
    std::string const prefix = which == pairing::paper ? "paper." : "all.";
    parity<TestType> p;
    using network = typename parity<TestType>::network;
    trainer<network> t(p.on, p.net, {.which = which, .batch = 4, .learning_rate = 1e-3, .warm_up_steps = 0});
    auto const losses = golden_values(p.file, prefix + "loss");
    for (std::size_t step = 0; step < 3; ++step) {
      step_report const report = t.step(p.frames.view(), p.sounds.view(), p.labels);
      // Adam divides by the gradient's size: where that is rounding alone, later steps differ.
      CHECK(report.score.loss == Approx(losses[step]).epsilon(exact ? 1e-6 : step == 0 ? 1e-5 : 1e-3));
      if (step > 0) continue;
      for (parameter const& q : network::parameters) {
        if (!q.learned()) continue;
        INFO(prefix << q.name.view());
        check_close(std::span<S const>(t.gradients() + q.offset, q.count()),
                    golden_values(p.file, prefix + "grad." + std::string(q.name.view())), exact ? 1e-5 : 1e-4);
      }
    }
    CHECK(p.net.batches_tracked() == 3);
    for (std::size_t k = 0; k < network::parameters.size(); ++k) {
      std::string const name = prefix + "after3." + std::string(network::parameters[k].name.view());
      if (!p.file.contains(name)) continue;
      INFO(name);
      check_close(std::span<S const>(p.net.values(k)), golden_values(p.file, name), exact ? 1e-5 : 2e-2);
    }
    if (which != pairing::paper) continue;
    inference<network> use(p.on, p.net, 4);
    tensor<S, features<2>> logits(4);
    use.score(p.frames.view(), p.sounds.view(), logits.view());
    check_close(std::span<S const>(logits.values()), golden_values(p.file, "paper.eval_logits"), exact ? 1e-4 : 2e-2);
  }
}

TEST_CASE("the losses of fifty steps are PyTorch's, in double") {
  // In float no two programs agree for long: Adam divides by the gradient's size, and where that is rounding alone,
  // rounding becomes a whole step (tests/parity/curve.py).
  using network = parity<reference<double>>::network;
  for (pairing const which : {pairing::paper, pairing::all}) {
    parity<reference<double>> p;
    trainer<network> t(p.on, p.net, {.which = which, .batch = 4, .learning_rate = 1e-3, .warm_up_steps = 0});
    auto const losses = golden_values(p.file, which == pairing::paper ? "paper.curve" : "all.curve");
    REQUIRE(losses.size() == 50);
    for (float const loss : losses) {
      auto const sounds = p.sounds.values();  // frame k with sound (k + step) % 4
      std::rotate(sounds.begin(), sounds.begin() + network::sound::size, sounds.end());
      step_report const report = t.step(p.frames.view(), p.sounds.view(), p.labels);
      INFO("step " << report.step);
      CHECK(report.score.loss == Approx(loss).epsilon(1e-6));
    }
  }
}

TEMPLATE_TEST_CASE("scores in training are PyTorch's", "", reference<double>, reference<float>, cpu) {
  using S = scalar_of<TestType>;
  for (pairing const which : {pairing::paper, pairing::all}) {
    parity<TestType> p;
    training<typename parity<TestType>::network> pass(p.on, 4, which);
    auto const logits = pass.forward(p.net.data(), p.frames.view(), p.sounds.view());
    check_close(logits.values(), golden_values(p.file, which == pairing::paper ? "paper.logits" : "all.logits"),
                std::is_same_v<S, double> ? 1e-6 : 5e-5);
  }
}

TEST_CASE("the gradient of all pairs is the sum over the pairs computed one by one") {
  parity<reference<double>> p;
  using B = reference<double>;
  using network = l3_network<B, micro>;
  std::size_t const n = 3;
  auto const run = [&](auto pairs_of_batch) {
    // One backward pass of the whole grid, or of a single pair of it: weights of the other rows are zero.
    training<network> pass(p.on, n, pairing::all);
    network net;
    net.copy_from(p.net);
    auto const logits = pass.forward(net.data(), p.frames.view().slice(0, n), p.sounds.view().slice(0, n));
    std::vector<std::int32_t> labels;
    std::vector<double> weights;
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        labels.push_back(i == j);
        weights.push_back(pairs_of_batch(i, j) ? (i == j ? 0.5 / n : 0.5 / (n * (n - 1))) : 0.0);
      }
    softmax_cross_entropy(p.on, n * n, 2, logits.data, labels.data(), weights.data(), pass.dlogits());
    pass.backward(net.data());
    return std::vector<double>(pass.gradients(), pass.gradients() + network::parameter_room);
  };
  auto const whole = run([](auto...) { return true; });
  std::vector<double> sum(whole.size());
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      auto const one = run([&](std::size_t a, std::size_t b) { return a == i && b == j; });
      for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += one[k];
    }
  for (std::size_t k = 0; k < sum.size(); ++k) REQUIRE(sum[k] == Approx(whole[k]).epsilon(1e-9).margin(1e-12));
}

TEST_CASE("initial weights are He normal and follow the seed") {
  l3_network<cpu, tiny> a, b, c;
  a.initialise(1), b.initialise(1), c.initialise(2);
  CHECK(std::equal(a.data(), a.data() + a.parameter_room, b.data()));
  for (std::size_t k = 0; k < a.parameters.size(); ++k) {
    parameter const& p = a.parameters[k];
    INFO(p.name.view());
    auto const v = a.values(k);
    if (p.kind != role::weight) {
      float const start = p.kind == role::gain || p.kind == role::spread ? 1.0f : 0.0f;
      CHECK(std::all_of(v.begin(), v.end(), [&](float x) { return x == start; }));
      continue;
    }
    CHECK_FALSE(std::equal(v.begin(), v.end(), c.values(k).begin()));
    if (v.size() < 1000) continue;
    double squares = 0;
    for (float const x : v) squares += static_cast<double>(x) * static_cast<double>(x);
    double const expected = 2.0 / static_cast<double>(p.fan_in()), n = static_cast<double>(v.size());
    CHECK(squares / n == Approx(expected).epsilon(5 * std::sqrt(2 / n)));
  }
}

namespace {
/// An untrained network at work, and a batch for it.
template <std::size_t Items>
struct in_use {
  using network = l3_network<cpu, micro>;
  context<cpu> on{2};
  network net = [] {
    network made;
    made.initialise(3);
    return made;
  }();
  inference<network> use{on, net, Items};
  tensor<float, network::frame> frames = uniform_batch<float, network::frame>(Items, 1);
  tensor<float, network::sound> sounds = uniform_batch<float, network::sound>(Items, 2);
};
}  // namespace

TEST_CASE("inference keeps the weights it took until it takes others") {
  in_use<2> t;
  auto& [on, net, use, frames, sounds] = t;
  using network = in_use<2>::network;
  auto const answers = [&](inference<network>& ask) {
    tensor<float, network::embedding> v(2), a(2);
    tensor<float, inference<network>::vision_map::output> vision_map(2);
    tensor<float, inference<network>::audio_map::output> audio_map(2);
    tensor<float, features<2>> logits(2);
    ask.embed_frames(t.frames.view(), v.view());
    ask.embed_sounds(t.sounds.view(), a.view());
    ask.map_frames(t.frames.view(), vision_map.view());
    ask.map_sounds(t.sounds.view(), audio_map.view());
    ask.score(t.frames.view(), t.sounds.view(), logits.view());
    std::vector<float> all;
    auto const add = [&](auto const& values) { all.insert(all.end(), values.begin(), values.end()); };
    add(v.values()), add(a.values()), add(vision_map.values()), add(audio_map.values()), add(logits.values());
    return all;
  };
  auto const before = answers(use);
  net.initialise(4);
  CHECK(answers(use) == before);
  use.refresh(net);
  inference<network> anew(on, net, 2);
  CHECK(answers(use) == answers(anew));
  CHECK(answers(use) != before);
}

TEST_CASE("batch size and neighbours do not change an embedding's bits") {
  in_use<5> t;
  auto& [on, net, use, frames, sounds] = t;
  using network = in_use<5>::network;
  tensor<float, network::embedding> together(5), alone(1);
  use.embed_frames(frames.view(), together.view());
  for (std::size_t k = 0; k < 5; ++k) {
    use.embed_frames(frames.view().slice(k, 1), alone.view());
    CHECK(std::equal(alone.values().begin(), alone.values().end(), together.view()[k].begin()));
  }
  use.embed_sounds(sounds.view(), together.view());
  for (std::size_t k = 0; k < 5; ++k) {
    use.embed_sounds(sounds.view().slice(k, 1), alone.view());
    CHECK(std::equal(alone.values().begin(), alone.values().end(), together.view()[k].begin()));
  }
  CHECK_THROWS_AS(
      use.embed_frames(uniform_batch<float, network::frame>(6, 1).view(), tensor<float, network::embedding>(6).view()),
      shape_error);
}

TEST_CASE("the largest value of a map, rectified, is its global pool") {
  using network = l3_network<cpu, micro>;
  context<cpu> on(1);
  network net;
  net.initialise(3);
  inference<network> use(on, net, 2);
  auto const sounds = uniform_batch<float, network::sound>(2, 2);
  tensor<float, network::embedding> pooled(2);
  tensor<float, inference<network>::audio_map::output> map(2);
  use.embed_sounds(sounds.view(), pooled.view());
  use.map_sounds(sounds.view(), map.view());
  using shape = inference<network>::audio_map::output;
  bool some_negative = false;
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t c = 0; c < shape::channels; ++c) {
      float best = 0;
      for (std::size_t pixel = 0; pixel < shape::pixels; ++pixel) {
        float const v = map.view()[n][pixel * shape::channels + c];
        best = std::max(best, v), some_negative |= v < 0;
      }
      CHECK(pooled.view()[n][c] == Approx(best).margin(1e-5));
    }
  CHECK(some_negative);  // the map is from before the ReLU
}
