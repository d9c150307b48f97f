/// @file  include/l3/train/optimizer.hpp: Adam with weight decay, and the learning rate's warm-up.
#pragma once
#include <algorithm>
#include <cstdint>
#include <l3/core/memory.hpp>
#include <l3/kernels/kernels.hpp>
#include <l3/layers/layer.hpp>

namespace l3::inline L3_ISA {

/// Rises in a straight line from rate / steps in step 1 to `rate` in step `steps`, then stays.
struct warm_up {
  double rate = 1e-3;
  std::uint64_t steps = 0;
  double at(std::uint64_t step) const {
    return step >= steps ? rate : rate * static_cast<double>(step) / static_cast<double>(steps);
  }
};

/// Adam over all learned parameters of a network; weight decay touches role::weight only. Running averages are left
/// alone. Source  torch.optim.Adam, AdamW.
template <class Network>
class adam {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;

  explicit adam(adam_settings settings = {.weight_decay = 1e-5})
      : settings_(settings), moments_(2 * Network::parameter_room * sizeof(scalar)) {}

  /// One step with the given learning rate on gradients laid out as Network::parameters. Parameters before `from` stay
  /// as they are.
  void step(context<B>& on, Network& net, scalar const* gradients, double learning_rate, std::size_t from = 0) {
    adam_settings a = settings_;
    a.learning_rate = learning_rate;
    a.step = ++steps_;
    for (parameter const& p : Network::parameters) {
      if (!p.learned() || p.offset < from) continue;
      a.weight_decay = p.kind == role::weight ? settings_.weight_decay : 0.0;
      adam_update(on, a, p.count(), gradients + p.offset, net.data() + p.offset, first() + p.offset,
                  second() + p.offset);
    }
  }

  adam_settings const& settings() const { return settings_; }
  std::uint64_t steps() const { return steps_; }
  void steps(std::uint64_t done) { steps_ = done; }
  /// Averages of the gradients (PyTorch's exp_avg) and of their squares (exp_avg_sq), laid out as Network::parameters.
  scalar* first() { return reinterpret_cast<scalar*>(moments_.data()); }
  scalar* second() { return first() + Network::parameter_room; }
  scalar const* first() const { return reinterpret_cast<scalar const*>(moments_.data()); }
  scalar const* second() const { return first() + Network::parameter_room; }

 private:
  adam_settings settings_;
  std::uint64_t steps_ = 0;
  arena moments_;
};

}  // namespace l3::inline L3_ISA
