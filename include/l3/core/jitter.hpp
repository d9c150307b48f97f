/// @file  include/l3/core/jitter.hpp: what chance does to a frame on its way into a network, as numbers, so that the
/// processor and a GPU can both do it.
#pragma once
#include <cstddef>
#include <l3/core/config.hpp>

namespace l3::inline L3_ISA {

/// One choice of everything that is random about a training image. As it stands it changes nothing.
struct image_jitter {
  std::size_t top = 0, left = 0;  ///< first pixel of the crop
  bool mirrored = false;          ///< left and right exchanged
  float brightness = 0;           ///< added to every colour, which is 0 to 255
  float saturation = 1;           ///< 0 makes grey, 1 changes nothing
  bool saturation_first = false;  ///< each of the two clamps, so their order shows
};

}  // namespace l3::inline L3_ISA
