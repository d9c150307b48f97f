/// @file  tests/support/device.hpp: kernels on a GPU from tests: values there and back, memory that betrays misuse.
/// Compiled by a CUDA compiler the tests run on a GPU, and without one are skipped; compiled as C++, on
/// tests/support/cuda_emulation, forwards and backwards.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <l3/core/cuda.cuh>
#include <l3/core/random.hpp>
#include <l3/kernels/kernels.hpp>
#include <limits>
#include <span>
#include <vector>

#include "catch.hpp"

namespace l3::test {

/// Whether there is something to run on. Says why not.
inline bool has_gpu() {
  try {
    open_gpu();
    return true;
  } catch (device_error const& e) {
    std::printf("SKIPPED: %s\n", e.what());
    return false;
  }
}

/// Runs f() twice, on an emulated GPU with the threads in the other order: a missing barrier shows as another result.
/// Returns the first one.
template <class F>
auto both_orders(F const& f) {
#if defined(__CUDACC__)
  auto const first = f(), second = f();
#else
  emulated::order = 0;
  auto const first = f();
  emulated::order = 1;
  auto const second = f();
  emulated::order = 0;
#endif
  REQUIRE(first.size() == second.size());
  for (std::size_t k = 0; k < first.size(); ++k) {
    bool const same = first[k] == second[k] || (std::isnan(first[k]) && std::isnan(second[k]));
    if (!same) FAIL("value " << k << " depends on the order of threads: " << first[k] << ", " << second[k]);
  }
  return first;
}

/// Floats as the values of a backend, and back.
template <class T>
T narrowed(double x) {
  return T(static_cast<float>(x));
}

/// Values on the device, between borders that must stay untouched. T is float, double, int or bfloat16.
template <class T>
class on_device {
 public:
  /// Not-a-numbers, which nobody has written yet.
  explicit on_device(std::size_t count) : count_(count), block_((count + 2 * border) * sizeof(T)) {
    cuda_check(cudaMemset(block_.data(), 0xFF, block_.size()), "filling");
    cuda_check(cudaStreamSynchronize(nullptr), "filling");
  }
  explicit on_device(std::vector<float> const& values) : on_device(values.size()) {
    std::vector<T> const as(values.begin(), values.end());
    copy(as.data());
  }
  T* data() { return reinterpret_cast<T*>(block_.data()) + border; }
  operator T*() { return data(); }
  template <class P>
  std::vector<float> values(context<cuda<P>>& on) {
    check(on);
    std::vector<T> all(count_);
    download(on, count_, data(), all.data());
    return {all.begin(), all.end()};
  }
  /// That nobody wrote beside them.
  template <class P>
  void check(context<cuda<P>>& on) {
    unsigned char beside[2][border * sizeof(T)];
    download(on, sizeof beside[0], reinterpret_cast<unsigned char const*>(data() - border), beside[0]);
    download(on, sizeof beside[1], reinterpret_cast<unsigned char const*>(data() + count_), beside[1]);
    for (auto const& each : beside)
      if (!std::all_of(each, each + sizeof each, [](unsigned char b) { return b == 0xFF; }))
        FAIL("a kernel wrote outside");
  }

 private:
  static constexpr std::size_t border = 64;
  void copy(T const* from) {
    cuda_check(cudaMemcpyAsync(data(), from, count_ * sizeof(T), cudaMemcpyHostToDevice, nullptr), "sending");
    cuda_check(cudaStreamSynchronize(nullptr), "sending");
  }
  std::size_t count_;
  device_block block_;
};

/// A copy of any values in the device's memory.
template <class T>
class copied {
 public:
  template <class P>
  copied(context<cuda<P>>& on, std::span<T const> values) : block_(values.size_bytes()) {
    upload(on, values.size(), values.data(), reinterpret_cast<T*>(block_.data()));
  }
  operator T const*() const { return reinterpret_cast<T const*>(block_.data()); }

 private:
  device_block block_;
};

/// Scratch of exactly the size asked for, full of not-a-numbers, between borders.
class device_scratch {
 public:
  device_scratch(footprint size, std::size_t items) : memory_(size.bytes(items, 1)) {}
  operator std::byte*() { return reinterpret_cast<std::byte*>(memory_.data()); }
  template <class P>
  void check(context<cuda<P>>& on) {
    memory_.check(on);
  }

 private:
  on_device<unsigned char> memory_;
};

/// Standard normal values that T holds exactly.
template <class T>
std::vector<float> normal_of(std::size_t count, std::uint64_t seed, double mean = 0, double deviation = 1) {
  std::vector<float> values(count);
  for (std::size_t k = 0; k < count; ++k) {
    generator draw(seed, stream::user, k / 65536, static_cast<std::uint32_t>(k % 65536));
    values[k] = static_cast<float>(narrowed<T>(mean + deviation * draw.normal()));
  }
  return values;
}
inline std::vector<double> in_double(std::vector<float> const& x) { return {x.begin(), x.end()}; }

/// The largest difference, as a part of the largest expected value.
inline double apart(std::vector<float> const& found, std::vector<double> const& expected) {
  REQUIRE(found.size() == expected.size());
  double largest = 1e-30, most = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    double const off = std::abs(static_cast<double>(found[k]) - expected[k]);
    if (!(off < std::numeric_limits<double>::infinity())) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(expected[k]));
    most = std::max(most, off);
  }
  return most / largest;
}

/// What kernels gave, one behind the other.
inline std::vector<float> joined(std::initializer_list<std::vector<float>> parts) {
  std::vector<float> all;
  for (auto const& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}
/// Part `which` of what `joined` joined.
inline std::vector<float> part_of(std::vector<float> const& all, std::vector<std::size_t> const& lengths,
                                  std::size_t which) {
  std::size_t begin = 0;
  for (std::size_t k = 0; k < which; ++k) begin += lengths[k];
  return {all.begin() + static_cast<std::ptrdiff_t>(begin),
          all.begin() + static_cast<std::ptrdiff_t>(begin + lengths[which])};
}
inline void check_parts(std::vector<float> const& all, std::vector<std::vector<double>> const& expected,
                        std::vector<double> const& tolerance) {
  std::vector<std::size_t> lengths;
  for (auto const& e : expected) lengths.push_back(e.size());
  for (std::size_t k = 0; k < expected.size(); ++k) {
    CAPTURE(k);
    CHECK(apart(part_of(all, lengths, k), expected[k]) < tolerance[k]);
  }
}

}  // namespace l3::test
