/// @file  include/l3/train/trainer.hpp: batch, forward, loss, backward, optimizer; and the loop around it.
#pragma once
#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <l3/model/network.hpp>
#include <l3/train/loss.hpp>
#include <l3/train/optimizer.hpp>
#include <l3/train/running_averages.hpp>
#include <span>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// What changes the numbers of a training.
struct training_settings {
  pairing which = pairing::all;
  std::size_t batch = 64;  ///< draws a step
  double learning_rate = 1e-3;
  std::uint64_t warm_up_steps = 100;
  double weight_decay = 1e-5;
  bool decoupled_decay = false;  ///< AdamW instead of Adam
};

/// What one step did.
struct step_report {
  std::uint64_t step = 0;   ///< counts from 1
  std::uint64_t pairs = 0;  ///< draws seen so far
  pair_score score;
  double learning_rate = 0;
};

/// Trains a network one batch at a time. All memory is taken at construction; a step allocates nothing.
template <class Network>
class trainer {
 public:
  using network_type = Network;
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;

  trainer(context<B>& on, Network& net, training_settings const& settings)
      : net_(net),
        settings_(settings),
        pass_(on, settings.batch, settings.which),
        loss_(Network::fusion::pairs(settings.batch, settings.which).rows()),
        optimizer_(adam_settings{.weight_decay = settings.weight_decay, .decoupled = settings.decoupled_decay}),
        rate_{settings.learning_rate, settings.warm_up_steps} {}

  /// One step on a batch of settings.batch draws. `labels` (1 corresponds) matter with pairing::paper only.
  ///
  /// Errors  numeric_error if loss or gradients are not finite: the network and the optimizer are then as they were
  ///         before the step. shape_error if the counts do not fit. setting_error: a label is neither 0 nor 1.
  step_report step(batch_view<scalar const, typename Network::frame> frames,
                   batch_view<scalar const, typename Network::sound> sounds, std::span<std::int32_t const> labels) {
    if (settings_.which == pairing::paper) {
      require_same_count("training batch: labels", frames.count, labels.size());
      require_labels(labels);
    }
    averages_.keep(net_);
    auto const logits = pass_.forward(net_, frames, sounds);
    step_report report;
    report.score = loss_(pass_.on(), settings_.which, frames.count, labels, logits.data, pass_.dlogits());
    report.step = optimizer_.steps() + 1;
    if (!std::isfinite(report.score.loss)) refuse(report.step, "loss", std::to_string(report.score.loss));
    pass_.backward(net_);
    if (!all_finite(pass_.on(), Network::parameter_room, pass_.gradients()))
      refuse(report.step, "gradients", "infinite values or values that are not numbers");
    report.learning_rate = rate_.at(report.step);
    optimizer_.step(pass_.on(), net_, pass_.gradients(), report.learning_rate);
    report.pairs = report.step * settings_.batch;
    return report;
  }

  Network& network() { return net_; }
  Network const& network() const { return net_; }
  adam<Network>& optimizer() { return optimizer_; }
  adam<Network> const& optimizer() const { return optimizer_; }
  training_settings const& settings() const { return settings_; }
  std::uint64_t steps() const { return optimizer_.steps(); }
  /// Gradients of the last step, laid out as Network::parameters.
  scalar const* gradients() { return pass_.gradients(); }

 private:
  [[noreturn]] void refuse(std::uint64_t step, char const* what, std::string const& found) {
    averages_.give_back(net_);
    throw numeric_error({"training step " + std::to_string(step) + ", " + what, "finite numbers", found});
  }

  Network& net_;
  training_settings settings_;
  training<Network> pass_;
  pair_loss<B> loss_;
  adam<Network> optimizer_;
  warm_up rate_;
  running_averages<Network> averages_;
};

/// Anything that hands out batches: `next()` gives a pointer to one that looks like `av_batch`, or null at the end.
template <class Source, class Network>
concept batch_source = requires(Source& source) {
  {
    source.next()->frame_view()
    } -> std::convertible_to<batch_view<typename Network::scalar const, typename Network::frame>>;
  {
    source.next()->sound_view()
    } -> std::convertible_to<batch_view<typename Network::scalar const, typename Network::sound>>;
  { source.next()->label_view() } -> std::convertible_to<std::span<std::int32_t const>>;
};

/// What one step cost, beside what it did.
struct step_timing {
  double seconds = 0;       ///< the whole step
  double wait_seconds = 0;  ///< of which waiting for the batch
};

/// Steps until `last_step` is done or `after_step`, called behind every step, returns false.
template <class Network, batch_source<Network> Source>
void train(trainer<Network>& on, Source& source, std::uint64_t last_step,
           std::function<bool(step_report const&, step_timing const&)> const& after_step) {
  using clock = std::chrono::steady_clock;
  auto const seconds = [](clock::duration d) { return std::chrono::duration<double>(d).count(); };
  while (on.steps() < last_step) {
    auto const start = clock::now();
    auto const* const batch = source.next();
    if (batch == nullptr) return;
    auto const got = clock::now();
    step_report const report = on.step(batch->frame_view(), batch->sound_view(), batch->label_view());
    if (!after_step(report, {seconds(clock::now() - start), seconds(got - start)})) return;
  }
}

}  // namespace l3::inline L3_ISA
