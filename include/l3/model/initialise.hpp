/// @file  include/l3/model/initialise.hpp: the weights that training begins with.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <l3/core/random.hpp>
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

}  // namespace l3::inline L3_ISA
