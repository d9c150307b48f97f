/// @file  include/l3/train/fusion_trainer.cuh: audio-visual correspondence on subnetworks that stay as they are, on a
/// GPU.
#pragma once
#include <l3/train/fusion_trainer.hpp>
#include <l3/train/loss.cuh>
#include <l3/train/pair_steps.cuh>

namespace l3::inline L3_ISA {

/// Trains the fusion head alone on a GPU, as fusion_trainer does on processors; how steps are begun and finished,
/// pair_steps and gpu_steps say.
///
/// Memory  of the GPU: `plan` for a batch; weights, gradients and averages (4 times the parameters), and the scores of
///         the pairs on top.
template <class Network>
requires gpu_backend<typename Network::backend_type>
class fusion_trainer<Network> : public pair_steps<Network, fusion_trainer<Network>> {
  using base = pair_steps<Network, fusion_trainer<Network>>;
  friend base;

 public:
  using typename base::B;
  using pass_type = fusion_training<Network>;
  static constexpr footprint plan = pass_type::plan + inference<Network>::plan + base::input_plan;

  fusion_trainer(context<B>& on, Network& net, training_settings const& settings)
      : base(on, net, settings, nullptr, Network::fusion_offset),
        pass_(on, net, settings.batch, settings.which),
        loss_(pass_.most_rows(settings.batch, settings.which)),
        gradients_(Network::parameter_room * sizeof(float)) {
    require_one_part(settings);
    base::adopt();  // (the pass has taken the subnetworks' weights)
  }
  ~fusion_trainer() { this->drain(); }

  /// Goes on from the network and the optimizer as they are now.
  void adopt() {
    base::adopt();
    pass_.refresh(this->network());
    on_.stream().wait();
  }
  /// Gradients of the last step, laid out as Network::parameters, of the fusion head alone; in the GPU's memory.
  float* gradients() { return reinterpret_cast<float*>(gradients_.data()); }

 private:
  using base::on_;

  /// Forward, loss and backward of a step, into the stream.
  float const* gradients_of(typename base::batch const& b) {
    float const* const params = this->weights() + Network::fusion_offset;
    float const* const logits = pass_.forward(params, b.frames, b.sounds);
    loss_(on_.stream(), pass_.pairs(), 0, b.labels, logits, pass_.dlogits(), this->result()->tally);
    pass_.backward(params, gradients() + Network::fusion_offset);
    return gradients();
  }

  pass_type pass_;
  gpu_pair_loss loss_;
  device_block gradients_;
};

}  // namespace l3::inline L3_ISA
