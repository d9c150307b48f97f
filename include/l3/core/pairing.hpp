/// @file  include/l3/core/pairing.hpp: which frames of a batch meet which seconds of sound.
#pragma once
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <span>

namespace l3::inline L3_ISA {

/// How a batch of frames and sounds becomes pairs.
enum class pairing : std::uint8_t {
  paper,  ///< frame k with sound k: half of the items from one draw, half from draws of two different videos
  all,    ///< every frame with every sound, row i N + j for frame i and sound j; only those of one draw correspond
};

/// Errors  setting_error if a label is neither 1 (corresponds) nor 0.
inline void require_labels(std::span<std::int32_t const> labels) {
  for (std::size_t k = 0; k < labels.size(); ++k)
    if (labels[k] != 0 && labels[k] != 1)
      throw setting_error({"label " + std::to_string(k), "0 or 1", std::to_string(labels[k])});
}

}  // namespace l3::inline L3_ISA
