/// @file  include/l3/train/classifier_trainer.hpp: supervised training of one subnetwork, whole or its top alone.
#pragma once
#include <cmath>
#include <cstdint>
#include <l3/model/classifier.hpp>
#include <l3/train/optimizer.hpp>
#include <l3/train/running_averages.hpp>
#include <l3/train/softmax_head.hpp>
#include <l3/train/trainer.hpp>
#include <span>
#include <string>
#include <utility>

namespace l3::inline L3_ISA {

/// Trains a trunk_classifier and its softmax_head, one batch at a time. All memory is taken at construction. It refers
/// to its context, the network and the head, which have to live longer.
///
/// Frozen, the trunk stays as it is (running averages too) and only the layers above it learn.
template <class Network>
class classifier_trainer {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;

  /// Errors  setting_error: as require_one_part. shape_error: a head for rows of another size.
  classifier_trainer(context<B>& on, Network& net, softmax_head<B>& head, training_settings const& settings,
                     bool frozen)
      : on_(on),
        net_(net),
        head_(head),
        settings_(require_one_part(settings)),
        frozen_(frozen),
        pass_(on, settings.batch, frozen),
        gradients_(Network::parameter_room * sizeof(scalar)),
        optimizer_(adam_settings{.weight_decay = settings.weight_decay, .decoupled = settings.decoupled_decay}),
        rate_{settings.learning_rate, settings.warm_up_steps} {
    if (head.inputs() != Network::hidden::size)
      throw shape_error({"head of a classifier",
                         std::to_string(Network::hidden::size) + " inputs, the network's hidden",
                         std::to_string(head.inputs())});
  }

  /// One step on a batch of at most settings.batch items; labels count classes from 0. A frozen trunk must not have
  /// changed since the first step.
  ///
  /// Errors  numeric_error if loss, gradients or running averages are not finite: everything is then as before.
  ///         shape_error if the counts do not fit. setting_error: a label that is no class, or the network was never
  ///         given values.
  step_report step(batch_view<scalar const, typename Network::input> items, std::span<std::int32_t const> labels) {
    require_same_count("training batch: labels", items.count, labels.size());
    if (items.count == 0 || items.count > settings_.batch)
      throw shape_error(
          {"training batch", "1 to " + std::to_string(settings_.batch) + " items", std::to_string(items.count)});
    head_.require_labels(labels);
    if (optimizer_.steps() == 0) require_initial_values(net_);
    step_report report;
    report.step = optimizer_.steps() + 1;
    scalar* const params = net_.data();
    scalar* const gradients = reinterpret_cast<scalar*>(gradients_.data());
    if (frozen_) {
      if (!std::exchange(is_prepared_, true)) pass_.prepare(params);
    } else {
      averages_.keep(net_);
      net_.batches_tracked(net_.batches_tracked() + 1);
    }
    scalar const* const h = pass_.forward(params, items);
    class_score const score = head_.forward(on_, h, labels);
    report.score = {score.loss, score.accuracy};
    if (!std::isfinite(score.loss)) refuse(report.step, "loss", std::to_string(score.loss));
    head_.backward(on_, items.count, h, pass_.dhidden());
    pass_.backward(params, gradients);
    if (!head_.finite(on_) || !all_finite(on_, Network::parameter_room, gradients))
      refuse(report.step, "gradients", "infinite values or values that are not numbers");
    if (!frozen_ && !averages_.finite(net_))
      refuse(report.step, "running averages", "infinite values or values that are not numbers");
    report.learning_rate = rate_.at(report.step);
    optimizer_.step(on_, net_, gradients, report.learning_rate, frozen_ ? Network::top_offset : 0);
    adam_settings last = optimizer_.settings();
    last.learning_rate = report.learning_rate, last.step = report.step;
    head_.step(on_, last);
    report.pairs = report.step * settings_.batch;
    return report;
  }

  adam<Network>& optimizer() { return optimizer_; }
  adam<Network> const& optimizer() const { return optimizer_; }
  std::uint64_t steps() const { return optimizer_.steps(); }
  /// Gradients of the last step, laid out as Network::parameters; zeros of what is frozen.
  scalar const* gradients() const { return reinterpret_cast<scalar const*>(gradients_.data()); }

 private:
  [[noreturn]] void refuse(std::uint64_t step, char const* what, std::string const& found) {
    if (!frozen_) averages_.give_back(net_);
    throw numeric_error({"training step " + std::to_string(step) + ", " + what, "finite numbers", found});
  }

  context<B>& on_;
  Network& net_;
  softmax_head<B>& head_;
  training_settings settings_;
  bool frozen_, is_prepared_ = false;
  classifier_training<Network> pass_;
  arena gradients_;
  adam<Network> optimizer_;
  warm_up rate_;
  running_averages<Network> averages_;
};

}  // namespace l3::inline L3_ISA
