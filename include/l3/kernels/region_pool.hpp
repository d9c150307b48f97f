/// @file  include/l3/kernels/region_pool.hpp: the largest values of a map's regions: features for other tasks.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/shape.hpp>
#include <l3/kernels/dims.hpp>
#include <limits>

namespace l3::inline L3_ISA {

/// A grid laid over maps: region i of n along a side of length L covers [floor(i L / n), ceil((i + 1) L / n)), which is
/// the paper's (section 4.2) equal kernel and stride wherever the side divides evenly; else neighbours share a line.
struct region_dims {
  std::size_t batch, height, width, channels;
  extent2 grid;  ///< regions down and across
  static constexpr std::size_t begin(std::size_t i, std::size_t n, std::size_t length) { return i * length / n; }
  static constexpr std::size_t end(std::size_t i, std::size_t n, std::size_t length) {
    return ((i + 1) * length + n - 1) / n;
  }
  constexpr std::size_t regions() const { return batch * grid.height * grid.width; }
};

/// The largest value of each channel in each region, in the machine's memory. Not-a-numbers are larger than all.
///
/// Shapes  x (batch, height, width, channels), y (batch, grid.height, grid.width, channels).
inline void pool_regions(region_dims const& d, float const* x, float* y) {
  for (std::size_t n = 0; n < d.batch; ++n, x += d.height * d.width * d.channels)
    for (std::size_t i = 0; i < d.grid.height; ++i)
      for (std::size_t j = 0; j < d.grid.width; ++j, y += d.channels) {
        std::fill_n(y, d.channels, -std::numeric_limits<float>::infinity());
        for (std::size_t r = d.begin(i, d.grid.height, d.height); r < d.end(i, d.grid.height, d.height); ++r)
          for (std::size_t s = d.begin(j, d.grid.width, d.width); s < d.end(j, d.grid.width, d.width); ++s) {
            float const* const values = x + (r * d.width + s) * d.channels;
            for (std::size_t c = 0; c < d.channels; ++c)
              y[c] = values[c] > y[c] || values[c] != values[c] ? values[c] : y[c];
          }
      }
}

}  // namespace l3::inline L3_ISA
