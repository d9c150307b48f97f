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

/// Trains the fusion head alone: the features come from both subnetworks in inference mode. All memory is taken at
/// construction. The subnetworks must not change after the first step.
///
/// Source  Arandjelović & Zisserman (ICCV 2017), section 4.1: "supervised pretraining".
template <class Network>
class fusion_trainer {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using value = value_of<B>;
  using fusion = typename Network::fusion;

  static constexpr footprint features = per_item<scalar>(Network::embedding::size);
  static constexpr footprint hidden = fusion::template hidden_values<B>;
  static constexpr footprint plan =
      features + features + features + features + hidden + hidden + hidden + hidden + fusion::template scratch<B>;

  fusion_trainer(context<B>& on, Network& net, training_settings const& settings)
      : on_(on),
        net_(net),
        settings_(settings),
        trunks_(on, net, settings.batch),
        memory_(plan.bytes(settings.batch, on.threads())),
        gradients_(Network::parameter_room * sizeof(scalar)),
        logits_(fusion::pairs(settings.batch, settings.which).rows()),
        dlogits_(fusion::pairs(settings.batch, settings.which).rows()),
        loss_(fusion::pairs(settings.batch, settings.which).rows()),
        optimizer_(adam_settings{.weight_decay = settings.weight_decay, .decoupled = settings.decoupled_decay}),
        rate_{settings.learning_rate, settings.warm_up_steps} {}

  /// As trainer::step.
  step_report step(batch_view<value const, typename Network::frame> frames,
                   batch_view<value const, typename Network::sound> sounds, std::span<std::int32_t const> labels) {
    require_same_count("training batch: sounds for the frames", frames.count, sounds.count);
    if (settings_.which == pairing::paper) {
      require_same_count("training batch: labels", frames.count, labels.size());
      require_labels(labels);
    }
    carver space(memory_.data(), frames.count, on_.threads());
    auto const take = [&](footprint of) { return space.template take<scalar>(of); };
    scalar *const v = take(features), *const a = take(features), *const dv = take(features), *const da = take(features);
    scalar *const u = take(hidden), *const t = take(hidden), *const du = take(hidden), *const dt = take(hidden);
    pass<B> const p{on_, frames.count, space.rest()};
    if (!std::exchange(is_prepared_, true)) trunks_.refresh(net_);
    trunks_.embed_frames(frames, {v, frames.count});
    trunks_.embed_sounds(sounds, {a, sounds.count});
    scalar const* const params = net_.data() + Network::fusion_offset;
    scalar* const gradients = reinterpret_cast<scalar*>(gradients_.data());
    pair_dims const pairs = fusion::pairs(frames.count, settings_.which);
    fusion::halves(p, params, v, a, u, t);
    fusion::scores(p, pairs, params, u, t, logits_.data());
    step_report report;
    report.score = loss_(on_, settings_.which, frames.count, labels, logits_.data(), dlogits_.data());
    report.step = optimizer_.steps() + 1;
    auto const refuse = [&](char const* what, std::string const& found) {
      throw numeric_error({"training step " + std::to_string(report.step) + ", " + what, "finite numbers", found});
    };
    if (!std::isfinite(report.score.loss)) refuse("loss", std::to_string(report.score.loss));
    fusion::scores_backward(p, pairs, params, u, t, dlogits_.data(), du, dt, gradients + Network::fusion_offset);
    fusion::halves_backward(p, params, v, a, du, dt, dv, da, gradients + Network::fusion_offset);
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
  inference<Network> trunks_;
  arena memory_, gradients_;
  tensor<scalar, l3::features<2>> logits_, dlogits_;
  pair_loss<B> loss_;
  adam<Network> optimizer_;
  warm_up rate_;
  bool is_prepared_ = false;
};

}  // namespace l3::inline L3_ISA
