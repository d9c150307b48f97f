/// @file  tests/support/micro.hpp: a network small enough to check in double precision, and batches for it.
#pragma once
#include <l3/core/random.hpp>
#include <l3/core/tensor.hpp>
#include <l3/model/network.hpp>

/// The network of tests/golden/micro_net.safetensors: unequal and odd sides, so that swapped axes show.
struct micro {
  static constexpr char const* name = "micro";
  using frame = l3::image<32, 48, 3>;
  static constexpr std::size_t frame_side = 48;
  struct front_end {
    static constexpr char const* name = "micro";
    using output = l3::image<40, 33, 1>;
  };
  static constexpr std::size_t width = 4;
  static constexpr std::size_t hidden = 16;
};

/// Values uniform in [-1, 1); the same for the same seed.
template <class T, class Shape>
l3::tensor<T, Shape> uniform_batch(std::size_t count, std::uint64_t seed) {
  l3::tensor<T, Shape> batch(count);
  std::uint32_t index = 0;
  for (T& value : batch.values())
    value = static_cast<T>(l3::generator(seed, l3::stream::user, 0, index++).uniform(-1, 1));
  return batch;
}
