// Supervised subnetworks, and a fusion head that learns alone.
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <l3/train/classifier_checkpoint.hpp>
#include <l3/train/classifier_trainer.hpp>
#include <l3/train/fusion_trainer.hpp>
#include <limits>

#include "../support/catch.hpp"
#include "../support/micro.hpp"

using namespace l3;

namespace {

struct other_ears : micro {
  struct front_end : micro::front_end {
    static constexpr char const* name = "other";
  };
};

constexpr std::size_t classes = 5, items = 6;
std::vector<std::int32_t> const item_labels{0, 3, 4, 1, 2, 3};
constexpr training_settings class_settings{.batch = items, .learning_rate = 3e-3, .warm_up_steps = 3};

template <class B, class Side>
struct class_session {
  using network = trunk_classifier<B, Side>;
  using scalar = scalar_of<B>;
  context<B> on;
  network net;
  softmax_head<B> head;
  classifier_trainer<network> t;
  tensor<scalar, typename network::input> batch = uniform_batch<scalar, typename network::input>(items, 3);

  explicit class_session(std::size_t threads, bool frozen = false, training_settings const& s = class_settings)
      : on(threads),
        head(on, network::hidden::size, classes, items),
        t((net.initialise(1), head.initialise(1, 99), on), net, head, s, frozen) {}
  step_report step() { return t.step(batch.view(), item_labels); }
  std::vector<scalar> values() const {
    std::vector<scalar> all(net.data(), net.data() + network::parameter_room);
    all.insert(all.end(), head.weights().begin(), head.weights().end());
    all.insert(all.end(), head.biases().begin(), head.biases().end());
    return all;
  }
};

using network = l3_network<cpu, micro>;

std::filesystem::path class_file(char const* name) {
  return std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + name);
}

/// A step that moves nothing, so that the loss is a function of the weights.
constexpr training_settings standing{.batch = items, .learning_rate = 0, .warm_up_steps = 0, .weight_decay = 0};

/// Compares gradients with finite differences at some weights.
template <class Loss>
void check_gradient(double* values, double const* gradients, std::size_t count, Loss&& loss) {
  std::vector<double> const found(gradients, gradients + count);
  for (std::size_t k = 0; k < count; k += std::max<std::size_t>(1, count / 9)) {
    double const kept = values[k], step = 1e-7;
    values[k] = kept + step;
    double const above = loss();
    values[k] = kept - step;
    double const below = loss();
    values[k] = kept;
    CHECK(found[k] == Approx((above - below) / (2 * step)).margin(1e-6).epsilon(3e-4));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("a classifier has the gradients that finite differences find", "", vision_of<micro>,
                   audio_of<micro>) {
  using classifier = trunk_classifier<reference<double>, TestType>;
  context<reference<double>> on(1);
  classifier net;
  net.initialise(4);
  softmax_head<reference<double>> head(on, classifier::hidden::size, classes, items);
  head.initialise(4, 7);
  classifier_trainer<classifier> t(on, net, head, standing, false);
  auto const batch = uniform_batch<double, typename classifier::input>(items, 5);
  auto const loss = [&] { return t.step(batch.view(), item_labels).score.loss; };
  loss();
  for (parameter const& p : classifier::parameters) {
    if (!p.learned()) continue;
    CAPTURE(std::string(p.name.view()));
    loss();
    check_gradient(net.data() + p.offset, t.gradients() + p.offset, p.count(), loss);
  }
  loss();
  check_gradient(head.weights().data(), head.gradients().data(), head.weights().size(), loss);
  loss();
  check_gradient(head.biases().data(), head.gradients().data() + head.bias_offset(), classes, loss);
}

TEST_CASE("a fusion head that learns alone has the gradients that finite differences find") {
  using double_network = l3_network<reference<double>, micro>;
  context<reference<double>> on(1);
  double_network net;
  net.initialise(4);
  training_settings s = standing;
  for (pairing const which : {pairing::all, pairing::paper}) {
    s.which = which;
    fusion_trainer<double_network> t(on, net, s);
    auto const frames = uniform_batch<double, double_network::frame>(items, 5);
    auto const sounds = uniform_batch<double, double_network::sound>(items, 6);
    std::vector<std::int32_t> const match{1, 0, 1, 0, 0, 1};
    auto const loss = [&] { return t.step(frames.view(), sounds.view(), match).score.loss; };
    for (parameter const& p : double_network::parameters) {
      if (!p.name.view().starts_with("fusion")) continue;
      CAPTURE(std::string(p.name.view()));
      loss();
      check_gradient(net.data() + p.offset, t.gradients() + p.offset, p.count(), loss);
    }
  }
}

TEMPLATE_TEST_CASE("a classifier learns a batch, to the same bits on any number of threads", "", vision_of<micro>,
                   audio_of<micro>) {
  using one_session = class_session<cpu, TestType>;
  one_session s(1), many(3);
  s.step(), many.step();
  step_report last;
  for (int k = 0; k < 60; ++k) last = s.step(), many.step();
  CHECK(last.score.loss < 0.1);
  CHECK(last.score.accuracy == 1);
  CHECK(last.step == 61);
  CHECK(s.values() == many.values());
  // In use it says what it has learned.
  classifier_inference<typename one_session::network> use(s.on, s.net, items);
  tensor<float, typename one_session::network::hidden> hidden(items);
  use.hidden(s.batch.view(), hidden.view());
  std::vector<float> scores(items * classes);
  s.head.scores(s.on, items, hidden.data(), scores.data());
  std::size_t right = 0;
  for (std::size_t k = 0; k != items; ++k) {
    auto const row = scores.begin() + static_cast<std::ptrdiff_t>(k * classes);
    right += std::max_element(row, row + classes) - row == item_labels[k];
  }
  CHECK(right >= 5);
}

TEST_CASE("a classifier's pass takes no more than it has room for") {
  class_session<cpu, vision_of<micro>> s(1);
  using classifier = decltype(s)::network;
  classifier_training<classifier> pass(s.on, items - 1, false);
  CHECK_THROWS_AS(pass.forward(s.net.data(), s.batch.view()), shape_error);
}

TEST_CASE("a frozen subnetwork stays as it is and the layers above it learn") {
  class_session<cpu, vision_of<micro>> s(2, true);
  using classifier = decltype(s)::network;
  auto const before = s.values();
  double const first = s.step().score.loss;
  double last = first;
  for (int k = 0; k < 200; ++k) last = s.step().score.loss;
  CHECK(last < 0.5 * first);
  auto const after = s.values();
  CHECK(std::memcmp(before.data(), after.data(), classifier::top_offset * sizeof(float)) == 0);
  CHECK(std::memcmp(before.data() + classifier::top_offset, after.data() + classifier::top_offset,
                    (before.size() - classifier::top_offset) * sizeof(float)) != 0);
  CHECK(s.net.batches_tracked() == 0);
}

TEST_CASE("a fusion head learns alone") {
  context<cpu> on(2);
  ::network net, before;
  net.initialise(1), before.initialise(1);
  training_settings s = class_settings;
  s.learning_rate = 1e-3;
  fusion_trainer<::network> t(on, net, s);
  auto const frames = uniform_batch<float, ::network::frame>(items, 5);
  auto const sounds = uniform_batch<float, ::network::sound>(items, 6);
  double const first = t.step(frames.view(), sounds.view(), {}).score.loss;
  double last = first;
  for (int k = 0; k < 300; ++k) last = t.step(frames.view(), sounds.view(), {}).score.loss;
  CHECK(last < 0.9 * first);
  CHECK(std::memcmp(net.data(), before.data(), ::network::fusion_offset * sizeof(float)) == 0);
  CHECK(net.batches_tracked() == 0);
}

TEST_CASE("where not a whole network learns, a step is of one batch that is neither empty nor too large") {
  context<cpu> on(1);
  ::network net;
  net.initialise(1);
  training_settings s = class_settings;
  fusion_trainer<::network> t(on, net, s);
  for (std::size_t const count : {std::size_t{0}, s.batch + 1}) {
    auto const frames = uniform_batch<float, ::network::frame>(count, 5);
    auto const sounds = uniform_batch<float, ::network::sound>(count, 6);
    CHECK_THROWS_WITH(t.step(frames.view(), sounds.view(), {}), Contains("1 to " + std::to_string(s.batch)));
  }
  CHECK(t.steps() == 0);
  s.parts = 2;
  CHECK_THROWS_WITH(fusion_trainer<::network>(on, net, s), Contains("expected one"));
  CHECK_THROWS_WITH((class_session<cpu, vision_of<micro>>(1, false, s)), Contains("expected one"));
}

TEST_CASE("where not a whole network learns, it must have values all the same") {
  context<cpu> on(1);
  ::network net;
  fusion_trainer<::network> t(on, net, class_settings);
  auto const frames = uniform_batch<float, ::network::frame>(items, 5);
  auto const sounds = uniform_batch<float, ::network::sound>(items, 6);
  CHECK_THROWS_WITH(t.step(frames.view(), sounds.view(), {}), Contains("zeros alone"));
  net.initialise(1);
  CHECK(t.step(frames.view(), sounds.view(), {}).step == 1);
  class_session<cpu, vision_of<micro>> c(1);
  std::fill_n(c.net.data(), decltype(c)::network::parameter_room, 0.0f);
  CHECK_THROWS_WITH(c.step(), Contains("zeros alone"));
}

TEST_CASE("a classifier's step that is not finite leaves everything as it was") {
  class_session<cpu, audio_of<micro>> s(1), untouched(1);
  s.step(), untouched.step();
  float& value = s.batch.data()[77];
  float const kept = std::exchange(value, std::numeric_limits<float>::infinity());
  CHECK_THROWS_WITH(s.step(), Contains("step 2") && Contains("finite"));
  CHECK(s.values() == untouched.values());
  value = 1e20f;
  CHECK_THROWS_WITH(s.step(), Contains("step 2, running averages"));
  value = kept;
  CHECK(s.values() == untouched.values());
  std::vector<std::int32_t> const beyond{0, 1, 2, 3, 4, 5};
  CHECK_THROWS_AS(s.t.step(s.batch.view(), beyond), setting_error);
  CHECK_THROWS_AS(s.t.step(s.batch.view().slice(0, 4), item_labels), shape_error);
  s.step(), untouched.step();
  CHECK(s.values() == untouched.values());
}

TEST_CASE("a classifier goes on from its checkpoint with the same bits") {
  auto const file = class_file("classifier.safetensors");
  class_session<cpu, vision_of<micro>> whole(2), first(2), second(2);
  using classifier = decltype(whole)::network;
  for (int k = 0; k < 5; ++k) whole.step();
  for (int k = 0; k < 2; ++k) first.step();
  save_classifier(file, first.net, first.head, &first.t.optimizer(), {.step = 2, .settings = R"({"classes":[]})"});
  CHECK(classes_of_checkpoint(file) == classes);
  CHECK(load_classifier(file, second.net, second.head, &second.t.optimizer()).step == 2);
  for (int k = 0; k < 3; ++k) second.step();
  CHECK(whole.values() == second.values());
  CHECK(whole.net.batches_tracked() == second.net.batches_tracked());

  // Its subnetwork goes into an L3-Net, and from there into another classifier.
  ::network both;
  both.initialise(8);
  load_parameters(file, both, "vision");
  CHECK(std::memcmp(both.data(), first.net.data(), classifier::top_offset * sizeof(float)) == 0);
  auto const l3net = class_file("l3net.safetensors");
  save_checkpoint<::network>(l3net, both, nullptr, {});
  class_session<cpu, vision_of<micro>> third(1);
  load_parameters(l3net, third.net, "vision");
  CHECK(std::memcmp(third.net.data(), first.net.data(), classifier::top_offset * sizeof(float)) == 0);

  // What sees may have heard through another front end; what hears may not.
  l3_network<cpu, other_ears> hears_otherwise;
  hears_otherwise.initialise(9);
  load_parameters(l3net, hears_otherwise, "vision");
  CHECK(std::memcmp(hears_otherwise.data(), first.net.data(), classifier::top_offset * sizeof(float)) == 0);
  CHECK_THROWS_WITH(load_parameters(l3net, hears_otherwise, "audio"), Contains("front end other"));

  // What does not fit is refused, and nothing changes.
  auto const before = third.values();
  CHECK_THROWS_AS(load_classifier(l3net, third.net, third.head, nullptr), format_error);
  CHECK_THROWS_WITH(classes_of_checkpoint(l3net), Contains("classifier"));
  auto const claims = class_file("claims.safetensors");  // more classes than it has numbers for
  for (std::size_t const rows : {0, 2, 3}) {
    std::vector<float> const biases(3), weights(rows * 4);
    safetensors_writer some;
    some.metadata("l3.model", rows == 3 ? "tiny vision classes=300" : "tiny vision classes=3");
    some.add("classifier.fc2.bias", {biases.size()}, std::span<float const>(biases));
    if (rows > 0) some.add("classifier.fc2.weight", {rows, 4}, std::span<float const>(weights));
    some.write(claims);
    CHECK_THROWS_WITH(classes_of_checkpoint(claims), Contains("classifier"));
  }
  class_session<cpu, audio_of<micro>> other(1);
  CHECK_THROWS_WITH(load_parameters(file, other.net, "audio"), Contains("subnetwork audio"));
  softmax_head<cpu> wider(third.on, classifier::hidden::size, classes + 1, items);
  CHECK_THROWS_WITH(load_classifier(file, third.net, wider, nullptr), Contains("classes=6"));
  CHECK(third.values() == before);
  std::filesystem::remove(file);
  std::filesystem::remove(l3net);
}
