/// @file  examples/l3/pool_maps.hpp: what is left of the maps that a network makes of many items.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/tensor.hpp>
#include <l3/kernels/region_pool.hpp>
#include <vector>

namespace l3::program {

/// The largest value of each channel, in each cell of `grid`, of the map that `make(items, maps)` makes of each item.
///
/// Shapes  out (items.count, grid, Map::channels).
/// Memory  maps are large: `room` grows to so many as 64 MiB hold, and items are taken so many at a time.
template <image_shape Map, class Items, class Make>
void pool_maps(Items const& items, extent2 grid, std::vector<float>& room, float* out, Make&& make) {
  constexpr std::size_t together = std::max<std::size_t>(1, (std::size_t{64} << 20) / (Map::size * sizeof(float)));
  room.resize(std::max(room.size(), std::min(together, items.count) * Map::size));
  for (std::size_t first = 0; first < items.count; first += together) {
    std::size_t const n = std::min(together, items.count - first);
    make(items.slice(first, n), batch_view<float, Map>(room.data(), n));
    region_dims const regions{n, Map::height, Map::width, Map::channels, grid};
    pool_regions(regions, room.data(), out);
    out += regions.regions() * Map::channels;
  }
}

}  // namespace l3::program
