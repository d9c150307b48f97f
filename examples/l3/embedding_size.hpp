/// @file  examples/l3/embedding_size.hpp: options --pool and --size, two ways to say which embedding of a network.
#pragma once
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <l3/core/error.hpp>
#include <string>
#include <vector>

namespace l3::program {

struct embedding_size {
  std::string pool;      ///< global or grid; empty: as `size` says, or global
  std::size_t size = 0;  ///< zero: as `pool` says

  void add_to(CLI::App& command) {
    command
        .add_option("--pool", pool,
                    "global: the largest value of each filter (default); grid: of each filter and region")
        ->check(CLI::IsMember({"global", "grid"}));
    command.add_option("--size", size, "Another way to choose --pool: the number of values (paper: 512, 6144, 8192)")
        ->check(CLI::PositiveNumber);
  }
  /// Whether it is that of a grid's regions, where a global one has so many values, and one of a grid, of any kind that
  /// is asked for, one of these numbers. Errors  setting_error: another size, or not the pool's.
  bool grid(std::size_t global, std::vector<std::size_t> const& grids) const {
    bool const of_grid = std::find(grids.begin(), grids.end(), size) != grids.end();
    bool const wanted = pool.empty() ? of_grid : pool == "grid";
    if (size != 0 && (wanted ? !of_grid : size != global)) {
      std::string sizes;
      for (std::size_t const s : grids) sizes += (sizes.empty() ? "" : " or ") + std::to_string(s);
      std::string expected = std::to_string(global) + " (global) or " + sizes + " (grid)";
      if (!pool.empty()) expected = (wanted ? sizes : std::to_string(global)) + " with --pool " + pool;
      throw setting_error({"--size", expected, std::to_string(size)});
    }
    return wanted;
  }
};

}  // namespace l3::program
