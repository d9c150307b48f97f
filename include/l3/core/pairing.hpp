/// @file  include/l3/core/pairing.hpp: which frames of a batch meet which seconds of sound.
#pragma once
#include <cstdint>
#include <l3/core/config.hpp>

namespace l3::inline L3_ISA {

/// How a batch of frames and sounds becomes pairs.
enum class pairing : std::uint8_t {
  paper,  ///< frame k with sound k: half of the items from one draw, half from draws of two different videos
  all,    ///< every frame with every sound, row i N + j for frame i and sound j; only those of one draw correspond
};

}  // namespace l3::inline L3_ISA
