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

/// Trains a trunk_classifier and its softmax_head, one batch at a time. All memory is taken at construction.
///
/// Frozen, the trunk stays as it is (running averages too) and only the layers above it learn.
template <class Network>
class classifier_trainer {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using trunk = typename Network::trunk;
  using top = typename Network::top;

  static constexpr footprint features = per_item<scalar>(trunk::output::size);
  static constexpr footprint hidden = per_item<scalar>(Network::hidden::size);
  /// Alive from forward to backward, gradients between the parts, and the scratch that they share.
  static constexpr footprint plan = trunk::template kept<B> + top::template kept<B> + features + hidden +
                                    either(trunk::template scratch<B>, top::template scratch<B>);
  static constexpr footprint frozen_plan = trunk::template prepared<B> + features + top::template kept<B> + hidden +
                                           either(trunk::template infer_scratch<B>, top::template scratch<B>);

  classifier_trainer(context<B>& on, Network& net, softmax_head<B>& head, training_settings const& settings,
                     bool frozen)
      : on_(on),
        net_(net),
        head_(head),
        settings_(settings),
        frozen_(frozen),
        memory_((frozen ? frozen_plan : plan).bytes(settings.batch, on.threads())),
        gradients_(Network::parameter_room * sizeof(scalar)),
        optimizer_(adam_settings{.weight_decay = settings.weight_decay, .decoupled = settings.decoupled_decay}),
        rate_{settings.learning_rate, settings.warm_up_steps} {}

  /// One step on a batch of at most settings.batch items; labels count classes from 0. A frozen trunk must not have
  /// changed since the first step.
  ///
  /// Errors  numeric_error if loss or gradients are not finite: everything is then as it was before the step.
  ///         shape_error if the counts do not fit. setting_error: a label that is no class.
  step_report step(batch_view<scalar const, typename Network::input> items, std::span<std::int32_t const> labels) {
    require_same_count("training batch: labels", items.count, labels.size());
    if (items.count == 0 || items.count > settings_.batch)
      throw shape_error(
          {"training batch", "1 to " + std::to_string(settings_.batch) + " items", std::to_string(items.count)});
    head_.require_labels(labels);
    step_report report;
    report.step = optimizer_.steps() + 1;
    if (!frozen_) averages_.keep(net_);
    carver space(memory_.data(), items.count, on_.threads());
    std::byte *trunk_kept = nullptr, *prepared = nullptr;
    scalar* frozen_features = nullptr;
    if (frozen_) {
      prepared = space.template take<std::byte>(trunk::template prepared<B>);
      frozen_features = space.template take<scalar>(features);
    } else {
      trunk_kept = space.template take<std::byte>(trunk::template kept<B>);
    }
    std::byte* const top_kept = space.template take<std::byte>(top::template kept<B>);
    scalar* const dfeatures = frozen_ ? nullptr : space.template take<scalar>(features);
    scalar* const dhidden = space.template take<scalar>(hidden);
    pass<B> const p{on_, items.count, space.rest()};
    scalar* const params = net_.data();
    scalar* const gradients = reinterpret_cast<scalar*>(gradients_.data());

    scalar const* x = frozen_features;
    if (frozen_) {
      if (!std::exchange(is_prepared_, true)) trunk::prepare(on_, params, prepared);
      trunk::infer_prepared(p, params, prepared, items.data, frozen_features);
    } else {
      x = trunk::forward(p, params, items.data, trunk_kept);
      net_.batches_tracked(net_.batches_tracked() + 1);
    }
    scalar const* const h = top::forward(p, params + Network::top_offset, x, top_kept);
    class_score const score = head_.forward(on_, h, labels);
    report.score = {score.loss, score.accuracy};
    if (!std::isfinite(score.loss)) refuse(report.step, "loss", std::to_string(score.loss));
    head_.backward(on_, items.count, h, dhidden);
    top::backward(p, params + Network::top_offset, x, top_kept, dhidden, dfeatures, gradients + Network::top_offset);
    if (!frozen_)
      trunk::backward(p, params, items.data, trunk_kept, dfeatures, static_cast<scalar*>(nullptr), gradients);
    if (!head_.finite(on_) || !all_finite(on_, Network::parameter_room, gradients))
      refuse(report.step, "gradients", "infinite values or values that are not numbers");
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
  arena memory_, gradients_;
  adam<Network> optimizer_;
  warm_up rate_;
  running_averages<Network> averages_;
};

}  // namespace l3::inline L3_ISA
