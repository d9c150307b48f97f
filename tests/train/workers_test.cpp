#include <array>
#include <cstring>
#include <l3/train/trainer.hpp>
#include <memory>
#include <thread>

#include "../support/catch.hpp"
#include "../support/micro.hpp"
#include "../support/thread_group.hpp"

using namespace l3;

namespace {

using network = l3_network<cpu, micro>;
constexpr std::size_t batch = 4, steps = 3;

/// The draws of all workers in a step, one behind the other.
template <class S>
struct global_batch {
  tensor<S, network::frame> frames;
  tensor<S, network::sound> sounds;
  std::vector<std::int32_t> labels;
  global_batch(std::size_t items, std::uint64_t step)
      : frames(uniform_batch<S, network::frame>(items, 2 * step)),
        sounds(uniform_batch<S, network::sound>(items, 2 * step + 1)) {
    for (std::size_t k = 0; k != items; ++k) labels.push_back(k % 4 == 0 || k % 4 == 3 ? 1 : 0);
  }
};

struct learned {
  std::vector<float> weights;
  std::vector<double> losses, accuracies;
  std::int64_t tracked = 0;
  friend bool operator==(learned const&, learned const&) = default;
};

/// `processes` threads that take `parts` batches each.
std::vector<learned> train_together(std::size_t processes, training_settings settings) {
  thread_group::shared s(processes);
  std::vector<learned> results(processes);
  std::vector<std::jthread> threads;
  for (std::size_t rank = 0; rank != processes; ++rank)
    threads.emplace_back([&, rank] {
      context<cpu> on(1);
      network net;
      net.initialise(7);
      std::optional<thread_group> group;
      if (processes > 1) group.emplace(s, rank);
      trainer<network> t(on, net, settings, group ? &*group : nullptr);
      for (std::size_t step = 0; step != steps; ++step) {
        std::size_t const own = settings.parts * batch;
        global_batch<float> const all(processes * own, step);
        step_report const r = t.step(all.frames.view().slice(rank * own, own), all.sounds.view().slice(rank * own, own),
                                     std::span(all.labels).subspan(rank * own, own));
        results[rank].losses.push_back(r.score.loss), results[rank].accuracies.push_back(r.score.accuracy);
        if (r.pairs != (step + 1) * processes * own) results[rank].losses.back() = -1;
      }
      results[rank].weights.assign(net.data(), net.data() + network::parameter_room);
      results[rank].tracked = net.batches_tracked();
      // The way of the gradients begins before backward has ended: the fusion head's, then each subnetwork's.
      if (group && (group->most_begun != 3 || group->pokes == 0)) results[rank].tracked = -1;
    });
  threads.clear();
  return results;
}

constexpr training_settings settings_of(pairing which, bool across, std::size_t parts) {
  return {.which = which,
          .batch = batch,
          .parts = parts,
          .across_workers = across,
          .learning_rate = 3e-3,
          .warm_up_steps = 2};
}

}  // namespace

TEST_CASE("four processes learn what four parts of one process learn, to the bit") {
  for (auto const& [which, across] : {std::pair{pairing::paper, false}, {pairing::all, false}, {pairing::all, true}}) {
    CAPTURE(which == pairing::all, across);
    learned const alone = train_together(1, settings_of(which, across, 4)).front();
    CHECK(alone.tracked == steps);
    for (learned const& each : train_together(4, settings_of(which, across, 1))) CHECK(each == alone);
    // Sums of two and two are other sums, of the same numbers.
    auto const halves = train_together(2, settings_of(which, across, 2));
    CHECK(halves[0] == halves[1]);
    // Adam divides rounding by rounding where a gradient is nearly 0, but hardly anywhere else.
    std::size_t apart = 0;
    for (std::size_t k = 0; k != alone.weights.size(); ++k)
      apart += std::abs(halves[0].weights[k] - alone.weights[k]) > 1e-4f ? 1 : 0;
    CAPTURE(apart, alone.weights.size());
    CHECK(apart < alone.weights.size() / 50);
    for (std::size_t k = 0; k != steps; ++k) CHECK(halves[0].losses[k] == Approx(alone.losses[k]).epsilon(1e-3));
  }
}

TEST_CASE("a step that is given up between its parts leaves everything as it was") {
  static int parts_left = 0;
  struct enough {};
  global_batch<float> const all(4 * batch, 0);
  for (bool const across : {false, true}) {
    CAPTURE(across);
    auto settings = settings_of(pairing::all, across, 4);
    context<cpu> on(2);
    network kept, other;
    kept.initialise(7), other.initialise(7);
    trainer<network> left_alone(on, kept, settings);
    settings.between_parts = [] {
      if (parts_left-- == 0) throw enough{};
    };
    trainer<network> given_up(on, other, settings);
    // Where frames meet all sounds, all parts go forward twice.
    for (int const asked : across ? std::vector{0, 2, 3, 6} : std::vector{0, 2}) {
      parts_left = asked;
      CHECK_THROWS_AS(given_up.step(all.frames.view(), all.sounds.view(), {}), enough);
      CHECK(given_up.steps() == 0);
      CHECK(other.batches_tracked() == 0);
      CHECK(std::equal(kept.data(), kept.data() + network::parameter_room, other.data()));
    }
    parts_left = 100;
    CHECK(given_up.step(all.frames.view(), all.sounds.view(), {}).score.loss ==
          left_alone.step(all.frames.view(), all.sounds.view(), {}).score.loss);
    CHECK(parts_left == 100 - (across ? 7 : 3));
    CHECK(std::equal(kept.data(), kept.data() + network::parameter_room, other.data()));
  }
}

TEST_CASE("workers with the same batch step as one of them would") {
  context<cpu> on(2);
  network first, second;
  first.initialise(7), second.initialise(7);
  global_batch<float> const one(batch, 0);
  auto const repeated = [&](auto const& t) {
    std::remove_cvref_t<decltype(t)> all(3 * batch);
    for (std::size_t k = 0; k != 3 * batch; ++k)
      std::copy(t.view()[k % batch].begin(), t.view()[k % batch].end(), all.view()[k].begin());
    return all;
  };
  auto const frames = repeated(one.frames);
  auto const sounds = repeated(one.sounds);
  trainer<network> alone(on, first, settings_of(pairing::all, false, 1));
  trainer<network> three(on, second, settings_of(pairing::all, false, 3));
  step_report const a = alone.step(one.frames.view(), one.sounds.view(), {});
  step_report const b = three.step(frames.view(), sounds.view(), {});
  CHECK(a.score.loss == Approx(b.score.loss).epsilon(1e-12));
  CHECK(a.score.accuracy == b.score.accuracy);
  for (parameter const& p : network::parameters)
    for (std::size_t k = p.offset; p.learned() && k != p.offset + p.count(); ++k)
      REQUIRE(three.gradients()[k] == Approx(alone.gradients()[k]).epsilon(1e-5).margin(1e-9));
}

TEST_CASE("gradients of frames that meet the sounds of other workers are those that finite differences find") {
  using B = reference<double>;
  using judge = l3_network<B, micro>;
  context<B> on(1);
  judge net;
  net.initialise(3);
  global_batch<double> const all(6, 1);
  training_settings settings = settings_of(pairing::all, true, 2);
  settings.batch = 3;
  auto const after = [&](judge const& from) {
    auto copy = std::make_unique<judge>();
    copy->copy_from(from);
    auto t = std::make_unique<trainer<judge>>(on, *copy, settings);
    double const loss = t->step(all.frames.view(), all.sounds.view(), {}).score.loss;
    return std::pair(loss, std::vector<double>(t->gradients(), t->gradients() + judge::parameter_room));
  };
  auto const gradient = after(net).second;
  for (std::size_t k = 0; k != judge::parameters.size(); ++k) {
    parameter const& p = judge::parameters[k];
    if (!p.learned()) continue;
    INFO(p.name.view());
    std::size_t const place = p.offset + p.count() / 2;
    double const value = net.data()[place], h = 1e-7 * std::max(1.0, std::abs(value));
    net.data()[place] = value + h;
    double const up = after(net).first;
    net.data()[place] = value - h;
    double const down = after(net).first;
    net.data()[place] = value;
    CHECK(gradient[place] == Approx((up - down) / (2 * h)).epsilon(2e-4).margin(1e-7));
  }
}

TEST_CASE("a loss that is not finite at one worker stops all, and nothing has changed") {
  auto const settings = GENERATE(settings_of(pairing::paper, false, 1), settings_of(pairing::all, true, 1));
  constexpr std::size_t processes = 3;
  thread_group::shared s(processes);
  std::vector<std::string> said(processes);
  std::vector<char> same(processes);
  std::vector<std::jthread> threads;
  for (std::size_t rank = 0; rank != processes; ++rank)
    threads.emplace_back([&, rank] {
      context<cpu> on(1);
      network net, before;
      net.initialise(7), before.copy_from(net);
      thread_group group(s, rank);
      trainer<network> t(on, net, settings, &group);
      global_batch<float> all(processes * batch, 0);
      if (rank == 1) all.frames.view()[batch][0] = NAN;
      try {
        t.step(all.frames.view().slice(rank * batch, batch), all.sounds.view().slice(rank * batch, batch),
               std::span(all.labels).subspan(rank * batch, batch));
      } catch (numeric_error const& e) {
        said[rank] = e.what();
      }
      same[rank] = std::memcmp(net.data(), before.data(), network::parameter_room * sizeof(float)) == 0;
    });
  threads.clear();
  for (std::size_t rank = 0; rank != processes; ++rank) {
    CHECK_THAT(said[rank], Contains("training step 1, loss") && Contains("at process 1"));
    CHECK(same[rank]);
  }
}

TEST_CASE("with batch norm over all processes, two learn from halves of a batch what one learns from it") {
  for (pairing const which : {pairing::all, pairing::paper}) {
    CAPTURE(which == pairing::all);
    global_batch<float> const all(2 * batch, 3);
    auto settings = settings_of(which, true, 1);
    settings.sync_batch_norm = true;
    thread_group::shared s(2);
    std::vector<std::vector<float>> gradients(3), weights(3);
    std::array<bool, 3> given_back{};
    auto const step = [&](std::size_t place, process_group* group, std::size_t first, std::size_t count) {
      context<cpu> on(1);
      network net;
      net.initialise(7);
      auto own = settings;
      own.batch = count;
      trainer<network> t(on, net, own, group);
      t.step(all.frames.view().slice(first, count), all.sounds.view().slice(first, count),
             std::span(all.labels).subspan(first, count));
      gradients[place].assign(t.gradients(), t.gradients() + network::parameter_room);
      weights[place].assign(net.data(), net.data() + network::parameter_room);
      given_back[place] = on.norm_group() == nullptr;
    };
    {
      std::vector<std::jthread> threads;
      for (std::size_t rank = 0; rank != 2; ++rank)
        threads.emplace_back([&, rank] {
          thread_group group(s, rank);
          step(rank, &group, rank * batch, batch);
        });
    }
    step(2, nullptr, 0, 2 * batch);
    CHECK(given_back == std::array{true, true, true});
    CHECK(gradients[0] == gradients[1]);
    CHECK(weights[0] == weights[1]);
    for (parameter const& p : network::parameters) {
      INFO(p.name.view());
      auto const& of = p.learned() ? gradients : weights;  // running averages are weights
      double most = 0, apart = 0;
      for (std::size_t k = p.offset; k != p.offset + p.count(); ++k) {
        most = std::max(most, static_cast<double>(std::abs(of[2][k])));
        apart = std::max(apart, static_cast<double>(std::abs(of[0][k] - of[2][k])));
      }
      // Where batch norm follows, a bias has no gradient but rounding.
      CHECK(apart <= 2e-4 * most + 2e-7);
    }
  }
}

TEST_CASE("batch norm over all processes needs one batch for each") {
  context<cpu> on(1);
  network net;
  net.initialise(7);
  auto settings = settings_of(pairing::all, true, 2);
  settings.sync_batch_norm = true;
  CHECK_THROWS_WITH(trainer<network>(on, net, settings), Contains("one part for each"));
}

TEST_CASE("batches that do not divide into parts are refused") {
  context<cpu> on(1);
  network net;
  net.initialise(7);
  trainer<network> t(on, net, settings_of(pairing::all, true, 2));
  global_batch<float> const odd(7, 0);
  CHECK_THROWS_AS(t.step(odd.frames.view(), odd.sounds.view(), {}), shape_error);
}
