/// @file  tests/support/golden.hpp: numbers that other programs computed.
#pragma once
#include <l3/files/safetensors.hpp>
#include <string>
#include <vector>

/// All values of a tensor.
inline std::vector<float> golden_values(l3::safetensors_file const& file, std::string const& name) {
  l3::tensor_entry const& entry = file.tensors().at(name);
  std::size_t count = 1;
  for (std::size_t const side : entry.shape) count *= side;
  std::vector<float> out(count);
  file.read(name, out, entry.shape);
  return out;
}
