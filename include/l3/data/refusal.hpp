/// @file  include/l3/data/refusal.hpp: videos that could not be used, and why.
#pragma once
#include <cstdint>
#include <l3/core/config.hpp>
#include <string>

namespace l3::inline L3_ISA {

/// A video that could not be used: all of it, or the moment that was drawn first.
struct refusal {
  std::string file;  ///< clip::name
  std::string why;
  std::uint64_t step = 0;  ///< the batch that met it
  bool whole_file = true;  ///< false: other moments may be good
  friend bool operator==(refusal const&, refusal const&) = default;
};

/// A refusal as a warning.
inline std::string refusal_warning(refusal const& r) {
  return (r.whole_file ? "refused " : "passed over a moment of ") + r.why;
}

}  // namespace l3::inline L3_ISA
