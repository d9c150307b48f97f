#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <l3/train/checkpoint.hpp>
#include <l3/train/trainer.hpp>
#include <limits>
#include <new>

#include "../support/catch.hpp"
#include "../support/micro.hpp"

using namespace l3;

namespace {
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};
}  // namespace

// Sanitizers bring their own operators, and pair them strictly.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS
// Not inlined: g++ would pair the library's own `new` with our `free` and warn.
__attribute__((noinline)) void* operator new(std::size_t size) {
  if (counting) ++allocations;
  if (void* const p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* p) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace {

using network = l3_network<cpu, micro>;
constexpr training_settings usual{.which = pairing::all, .batch = 6, .learning_rate = 3e-3, .warm_up_steps = 3};

struct session {
  context<cpu> on;
  network net;
  trainer<network> t;
  explicit session(std::size_t threads, training_settings const& s = usual)
      : on(threads), t((net.initialise(1), on), net, s) {}
  step_report step(std::uint64_t seed) {
    auto const frames = uniform_batch<float, network::frame>(6, 2 * seed);
    auto const sounds = uniform_batch<float, network::sound>(6, 2 * seed + 1);
    return t.step(frames.view(), sounds.view(), std::vector<std::int32_t>{1, 0, 1, 0, 1, 0});
  }
};

bool same_bits(network const& a, network const& b) {
  return std::memcmp(a.data(), b.data(), network::parameter_room * sizeof(float)) == 0;
}

std::filesystem::path scratch_file(char const* name) {
  return std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + name);
}

}  // namespace

TEST_CASE("1, 2, 3 and 8 threads train to the same bits") {
  for (pairing const which : {pairing::all, pairing::paper}) {
    training_settings s = usual;
    s.which = which;
    session one(1, s);
    for (std::uint64_t k = 0; k < 4; ++k) one.step(k);
    for (std::size_t const threads : {2, 3, 8}) {
      session many(threads, s);
      for (std::uint64_t k = 0; k < 4; ++k) many.step(k);
      CHECK(same_bits(one.net, many.net));
    }
  }
}

TEST_CASE("a run resumed from a checkpoint ends with the same bits") {
  auto const file = scratch_file("resume.safetensors");
  session whole(2), first(2), second(2);
  for (std::uint64_t k = 0; k < 5; ++k) whole.step(k);
  for (std::uint64_t k = 0; k < 2; ++k) first.step(k);
  save_checkpoint(file, first.net, &first.t.optimizer(), {.step = 99, .seed = 7, .settings = R"({"a":1})"});
  checkpoint_facts const facts = load_checkpoint(file, second.net, &second.t.optimizer());
  CHECK((facts.step == 2 && facts.seed == 7 && facts.settings == R"({"a":1})"));
  CHECK(second.t.steps() == 2);
  for (std::uint64_t k = 2; k < 5; ++k) second.step(k);
  CHECK(same_bits(whole.net, second.net));
  CHECK(whole.net.batches_tracked() == second.net.batches_tracked());
  std::filesystem::remove(file);
}

TEST_CASE("a network learns to tell a batch apart") {
  session s(2);
  double const before = s.step(0).score.loss;
  step_report last;
  for (int k = 0; k < 60; ++k) last = s.step(0);
  CHECK(last.score.loss < 0.2 * before);
  CHECK(last.score.accuracy == 1);
  CHECK((last.step == 61 && last.pairs == 366));
}

TEST_CASE("the learning rate rises to its value and stays") {
  session s(1);
  std::vector<double> rates;
  for (int k = 0; k < 5; ++k) rates.push_back(s.step(0).learning_rate);
  CHECK(rates[0] == Approx(1e-3));
  CHECK(rates[1] == Approx(2e-3));
  for (std::size_t const k : {2u, 3u, 4u}) CHECK(rates[k] == 3e-3);
}

TEST_CASE("a step that is not finite leaves everything as it was and says which step") {
  session s(2), untouched(2);
  s.step(0), untouched.step(0);
  auto frames = uniform_batch<float, network::frame>(6, 5);
  frames.data()[1234] = std::numeric_limits<float>::quiet_NaN();
  auto const sounds = uniform_batch<float, network::sound>(6, 6);
  CHECK_THROWS_WITH(s.t.step(frames.view(), sounds.view(), {}), Contains("step 2") && Contains("finite"));
  CHECK(same_bits(s.net, untouched.net));
  CHECK(s.net.batches_tracked() == 1);
  CHECK(s.t.steps() == 1);
  frames.data()[1234] = 1e20f;  // normalised it is harmless, but its square is in the running variance
  CHECK_THROWS_WITH(s.t.step(frames.view(), sounds.view(), {}), Contains("step 2, running averages"));
  CHECK(same_bits(s.net, untouched.net));
  s.step(1), untouched.step(1);
  CHECK(same_bits(s.net, untouched.net));
}

TEST_CASE("settings out of their range are refused") {
  for (double const rate : {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    training_settings wrong = usual;
    wrong.learning_rate = rate;
    CHECK_THROWS_WITH(session(1, wrong), Contains("learning rate"));
    wrong = usual;
    wrong.weight_decay = rate;
    CHECK_THROWS_WITH(session(1, wrong), Contains("weight decay"));
  }
}

TEST_CASE("batches that do not fit are refused") {
  session s(1);
  auto const frames = uniform_batch<float, network::frame>(7, 1);
  auto const sounds = uniform_batch<float, network::sound>(7, 2);
  CHECK_THROWS_AS(s.t.step(frames.view(), sounds.view(), {}), shape_error);
  CHECK_THROWS_AS(s.t.step(frames.view().slice(0, 5), sounds.view().slice(0, 4), {}), shape_error);
  training_settings in_pairs = usual;
  in_pairs.which = pairing::paper;
  session p(1, in_pairs), untouched(1, in_pairs);
  std::vector<std::int32_t> const signs{1, -1, 1, -1, 1, -1};
  CHECK_THROWS_AS(p.t.step(frames.view().slice(0, 6), sounds.view().slice(0, 6), signs), setting_error);
  CHECK(same_bits(p.net, untouched.net));
}

TEST_CASE("a network that was given no values is not trained: it would look like chance for ever") {
  context<cpu> on(1);
  network net;
  trainer<network> t(on, net, usual);
  auto const frames = uniform_batch<float, network::frame>(6, 1);
  auto const sounds = uniform_batch<float, network::sound>(6, 2);
  CHECK_THROWS_AS(t.step(frames.view(), sounds.view(), {}), setting_error);
  CHECK_THROWS_WITH(t.step(frames.view(), sounds.view(), {}), Contains("initialise") && Contains("zeros alone"));
  net.initialise(1);
  CHECK(t.step(frames.view(), sounds.view(), {}).step == 1);
}

TEST_CASE("a step allocates nothing") {
#ifndef COUNTS_ALLOCATIONS
  std::puts("SKIPPED: allocations are not counted under a sanitizer");
  return;
#endif
  session s(1);  // on several threads oneTBB's own pools grow for a while
  auto const frames = uniform_batch<float, network::frame>(6, 1);
  auto const sounds = uniform_batch<float, network::sound>(6, 2);
  s.t.step(frames.view(), sounds.view(), {});
  allocations = 0, counting = true;
  s.t.step(frames.view(), sounds.view(), {});
  counting = false;
  CHECK(allocations == 0);
}

TEST_CASE("train() runs a source to the last step and can be stopped") {
  struct batch {
    tensor<float, network::frame> frames = uniform_batch<float, network::frame>(6, 1);
    tensor<float, network::sound> sounds = uniform_batch<float, network::sound>(6, 2);
    auto frame_view() const { return frames.view(); }
    auto sound_view() const { return sounds.view(); }
    std::vector<std::int32_t> labels{};
    std::span<std::int32_t const> label_view() const { return labels; }
  };
  struct source {
    batch one;
    batch const* next() { return &one; }
  } made_up;
  session s(1);
  std::vector<std::uint64_t> steps;
  train(s.t, made_up, 4, [&](step_report const& r, step_timing const& cost) {
    CHECK(cost.seconds >= cost.wait_seconds);
    steps.push_back(r.step);
    return r.step != 3;
  });
  CHECK(steps == std::vector<std::uint64_t>{1, 2, 3});
  train(s.t, made_up, 5, {});
  CHECK(s.t.steps() == 5);
  // What a sampler of pairs hands out is nothing for a trainer that pairs all.
  made_up.one.labels = {1, 0, 1, 0, 1, 0};
  CHECK_THROWS_WITH(train(s.t, made_up, 6, {}), Contains("pairing::all") && Contains("paper"));
  CHECK(s.t.steps() == 5);

  struct by_value {
    batch next() { return {}; }
  };
  STATIC_REQUIRE(value_source<source, network>);
  STATIC_REQUIRE_FALSE(value_source<by_value, network>);
}
