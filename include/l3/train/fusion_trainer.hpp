/// @file  include/l3/train/fusion_trainer.hpp: audio-visual correspondence on subnetworks that stay as they are: the
/// "pretraining" baseline.
#pragma once
#include <cmath>
#include <cstdint>
#include <l3/model/network.hpp>
#include <l3/train/loss.hpp>
#include <l3/train/optimizer.hpp>
#include <l3/train/trainer.hpp>
#include <span>
#include <string>
#include <utility>

namespace l3::inline L3_ISA {

/// The memory and the way of a training pass of the fusion head alone: the features come from both subnetworks in
/// inference mode. All memory is taken at construction.
template <class Network>
class fusion_training {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using value = value_of<B>;
  using fusion = typename Network::fusion;

  static constexpr footprint features = per_item<value>(Network::embedding::size);
  static constexpr footprint hidden = fusion::template hidden_values<B>;
  static constexpr footprint plan =
      features + features + features + features + hidden + hidden + hidden + hidden + fusion::template scratch<B>;

  /// Room for batches of up to `items`; takes the subnetworks' weights as they are now.
  fusion_training(context<B>& on, Network const& net, std::size_t items, pairing which)
      : on_(on),
        which_(which),
        trunks_(on, net, items),
        memory_(plan.bytes(items, on.threads())),
        logits_(most_rows(items, which) * 2 * sizeof(scalar)),
        dlogits_(most_rows(items, which) * 2 * sizeof(scalar)) {}
  /// Takes them anew.
  void refresh(Network const& net) { trunks_.refresh(net); }

  static std::size_t most_rows(std::size_t items, pairing which) { return fusion::pairs(items, which).rows(); }
  /// Scores (rows, 2) of the batch's pairs. `params` are the fusion head's, where the backend's kernels find them.
  scalar const* forward(scalar const* params, batch_view<value const, typename Network::frame> frames,
                        batch_view<value const, typename Network::sound> sounds) {
    count_ = frames.count;
    places const at(*this);
    trunks_.embed_frames(frames, {at.v, count_});
    trunks_.embed_sounds(sounds, {at.a, count_});
    fusion::halves(at.inner, params, at.v, at.a, at.u, at.t);
    auto* const logits = reinterpret_cast<scalar*>(logits_.data());
    fusion::scores(at.inner, pairs(), params, at.u, at.t, logits);
    return logits;
  }
  pair_dims pairs() const { return fusion::pairs(count_, which_); }
  /// Where the loss writes the gradient of the scores.
  scalar* dlogits() { return reinterpret_cast<scalar*>(dlogits_.data()); }
  /// Gradients of the fusion head's parameters.
  void backward(scalar const* params, scalar* gradients) {
    places const at(*this);
    fusion::scores_backward(at.inner, pairs(), params, at.u, at.t, dlogits(), at.du, at.dt, gradients);
    fusion::halves_backward(at.inner, params, at.v, at.a, at.du, at.dt, at.dv, at.da, gradients);
  }

 private:
  struct places {
    value *v, *a, *dv, *da;
    scalar *u, *t, *du, *dt;
    pass<B> inner;
    explicit places(fusion_training const& of) : inner{of.on_, of.count_, nullptr} {
      carver space(of.memory_.data(), of.count_, of.on_.threads());
      for (value** each : {&v, &a, &dv, &da}) *each = space.template take<value>(features);
      for (scalar** each : {&u, &t, &du, &dt}) *each = space.template take<scalar>(hidden);
      inner.scratch = space.rest();
    }
  };

  context<B>& on_;
  pairing which_;
  std::size_t count_ = 0;
  inference<Network> trunks_;
  memory_on<B> memory_, logits_, dlogits_;
};

/// Trains the fusion head alone. All memory is taken at construction. The subnetworks must not change after the first
/// step.
///
/// Source  Arandjelović & Zisserman (ICCV 2017), section 4.1: "supervised pretraining".
template <class Network>
class fusion_trainer {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using value = value_of<B>;

  /// Errors  setting_error: as require_one_part.
  fusion_trainer(context<B>& on, Network& net, training_settings const& settings)
      : on_(on),
        net_(net),
        settings_(require_one_part(settings)),
        pass_(on, net, settings.batch, settings.which),
        loss_(pass_.most_rows(settings.batch, settings.which)),
        gradients_(Network::parameter_room * sizeof(scalar)),
        optimizer_(adam_settings{.weight_decay = settings.weight_decay, .decoupled = settings.decoupled_decay}),
        rate_{settings.learning_rate, settings.warm_up_steps} {}

  /// One step on a batch of at most settings.batch items.
  ///
  /// Errors  As trainer::step; but running averages take no part.
  step_report step(batch_view<value const, typename Network::frame> frames,
                   batch_view<value const, typename Network::sound> sounds, std::span<std::int32_t const> labels) {
    require_same_count("training batch: sounds for the frames", frames.count, sounds.count);
    if (frames.count == 0 || frames.count > settings_.batch)
      throw shape_error(
          {"training batch", "1 to " + std::to_string(settings_.batch) + " items", std::to_string(frames.count)});
    if (settings_.which == pairing::paper) {
      require_same_count("training batch: labels", frames.count, labels.size());
      require_labels(labels);
    }
    if (optimizer_.steps() == 0) require_initial_values(net_);
    if (!std::exchange(is_prepared_, true)) pass_.refresh(net_);
    scalar const* const params = net_.data() + Network::fusion_offset;
    scalar* const gradients = reinterpret_cast<scalar*>(gradients_.data());
    scalar const* const logits = pass_.forward(params, frames, sounds);
    step_report report;
    report.score = loss_(on_, settings_.which, frames.count, labels, logits, pass_.dlogits());
    report.step = optimizer_.steps() + 1;
    auto const refuse = [&](char const* what, std::string const& found) {
      throw numeric_error({"training step " + std::to_string(report.step) + ", " + what, "finite numbers", found});
    };
    if (!std::isfinite(report.score.loss)) refuse("loss", std::to_string(report.score.loss));
    pass_.backward(params, gradients + Network::fusion_offset);
    if (!all_finite(on_, Network::parameter_room - Network::fusion_offset, gradients + Network::fusion_offset))
      refuse("gradients", "infinite values or values that are not numbers");
    report.learning_rate = rate_.at(report.step);
    optimizer_.step(on_, net_, gradients, report.learning_rate, Network::fusion_offset);
    report.pairs = report.step * settings_.batch;
    return report;
  }

  adam<Network>& optimizer() { return optimizer_; }
  adam<Network> const& optimizer() const { return optimizer_; }
  std::uint64_t steps() const { return optimizer_.steps(); }
  /// Gradients of the last step, laid out as Network::parameters; of the fusion head alone.
  scalar const* gradients() const { return reinterpret_cast<scalar const*>(gradients_.data()); }

 private:
  context<B>& on_;
  Network& net_;
  training_settings settings_;
  fusion_training<Network> pass_;
  pair_loss<B> loss_;
  arena gradients_;
  adam<Network> optimizer_;
  warm_up rate_;
  bool is_prepared_ = false;
};

}  // namespace l3::inline L3_ISA
