/// @file  include/l3/model/weights.hpp: the weights of a network, and those that training begins with.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <l3/core/random.hpp>
#include <l3/core/tensor.hpp>
#include <l3/layers/layer.hpp>
#include <span>

namespace l3::inline L3_ISA {

/// Fills parameters laid out from `values` on: weights He-normal, gains 1, biases 0, running averages (0, 1). The same
/// seed gives the same weights.
///
/// Source  He et al. (2015): standard deviation sqrt(2 / fan_in).
template <class S>
void initialise_parameters(std::span<parameter const> parameters, S* values, std::uint64_t seed) {
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    parameter const& p = parameters[k];
    S* const at = values + p.offset;
    if (p.kind != role::weight) {
      std::fill_n(at, p.count(), p.kind == role::gain || p.kind == role::spread ? S{1} : S{0});
      continue;
    }
    double const deviation = std::sqrt(2.0 / static_cast<double>(p.fan_in()));
    for (std::size_t i = 0; i < p.count(); ++i)
      at[i] = static_cast<S>(deviation * generator(seed, stream::weights, k, static_cast<std::uint32_t>(i)).normal());
  }
}

/// What a network's `parameters` name, one after the other: zeros until `initialise`, `copy_from` or a checkpoint gives
/// them values. Copyable only on purpose.
template <class Network, class Scalar>
class network_weights {
 public:
  using network = Network;
  using scalar = Scalar;

  network_weights() : memory_(Network::parameter_room * sizeof(scalar)) {}

  /// See initialise_parameters.
  void initialise(std::uint64_t seed) {
    initialise_parameters<scalar>(Network::parameters, data(), seed);
    batches_tracked_ = 0;
  }
  void copy_from(network_weights const& other) {
    std::copy_n(other.data(), Network::parameter_room, data());
    batches_tracked_ = other.batches_tracked_;
  }

  /// All values, laid out as `parameters` says.
  scalar* data() { return reinterpret_cast<scalar*>(memory_.data()); }
  scalar const* data() const { return reinterpret_cast<scalar const*>(memory_.data()); }
  /// The values of parameters[k].
  std::span<scalar> values(std::size_t k) {
    return {data() + Network::parameters[k].offset, Network::parameters[k].count()};
  }
  std::span<scalar const> values(std::size_t k) const {
    return {data() + Network::parameters[k].offset, Network::parameters[k].count()};
  }

  /// Whether all are zero still.
  bool is_blank() const {
    return std::all_of(data(), data() + Network::parameter_room, [](scalar value) { return value == 0; });
  }

  /// Training passes that went into the running averages (PyTorch's num_batches_tracked).
  std::int64_t batches_tracked() const { return batches_tracked_; }
  void batches_tracked(std::int64_t count) { batches_tracked_ = count; }

 private:
  arena memory_;
  std::int64_t batches_tracked_ = 0;
};

/// Throws setting_error if nobody gave a network values: from zeros nothing is learned, and it looks like chance.
template <class Network>
void require_initial_values(Network const& net) {
  if (net.is_blank())
    throw setting_error(
        {"a network to train", "values: initialise(seed), copy_from or load_checkpoint", "zeros alone"});
}

}  // namespace l3::inline L3_ISA
