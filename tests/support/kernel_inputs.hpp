/// @file  tests/support/kernel_inputs.hpp: made-up inputs, memory that betrays misuse, and comparisons for kernel
/// tests.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/random.hpp>
#include <l3/kernels/kernels.hpp>
#include <limits>
#include <map>
#include <tuple>
#include <type_traits>
#include <vector>

#include "catch.hpp"

namespace l3::test {

/// Plain loops in float and the fast backend of this build; where that is the portable one, the register tiles of
/// AVX-512 too, emulated: so their geometry is tested on every machine.
using wide = simd<arch::avx512>;
template <class... Others>
using backends_with = std::conditional_t<std::same_as<cpu, simd<arch::generic>>, std::tuple<Others..., cpu, wide>,
                                         std::tuple<Others..., cpu>>;
using kernel_backends = backends_with<reference<float>>;
using fast_backends = backends_with<>;

/// Products in bf16 where this build has them.
using best_products = std::conditional_t<multiplies<arch::best, bf16>, simd<arch::best, bf16>, cpu>;

/// Standard normal floats, held as doubles if asked. Values differ with the seed and the index only; long ones repeat
/// themselves, after a prime number that no rows are apart.
template <class S = float>
std::vector<S> normal(std::size_t count, std::uint64_t seed, double mean = 0, double deviation = 1) {
  constexpr std::size_t period = 2'000'003;
  static std::map<std::uint64_t, std::vector<double>> made;  // tests ask for the same ones again and again
  std::vector<double>& known = made[seed];
  while (known.size() < std::min(count, period)) {
    generator draw(seed, stream::user, 0, static_cast<std::uint32_t>(known.size() / 4096));
    for (int k = 0; k < 4096; ++k) known.push_back(draw.normal());
  }
  std::vector<S> values(count);
  for (std::size_t k = 0; k < count; ++k) {
    values[k] = k < period ? static_cast<S>(static_cast<float>(mean + deviation * known[k])) : values[k - period];
  }
  return values;
}
template <class S>
std::vector<double> widened(std::vector<S> const& values) {
  return {values.begin(), values.end()};
}

/// Values as training with bf16 products stores them, and what they then are.
inline std::vector<bfloat16> stored(std::vector<float> const& values) {
  std::vector<bfloat16> all;
  for (float const v : values) all.push_back(detail::rounded(v));
  return all;
}
inline std::vector<float> restored(std::vector<bfloat16> const& values) {
  std::vector<float> all;
  for (bfloat16 const v : values) all.push_back(static_cast<float>(v));
  return all;
}

/// An output: not-a-number until written, aligned as in an arena, with a border that must stay untouched.
template <class S>
class output {
 public:
  explicit output(std::size_t count) : count_(count), block_((count + 2 * border) * sizeof(S)) {
    std::fill_n(first(), count + 2 * border, static_cast<S>(std::numeric_limits<float>::quiet_NaN()));
  }
  S* data() { return first() + border; }
  operator S*() { return data(); }
  std::vector<S> values() const {
    S const* const all = first();
    for (std::size_t k = 0; k < border; ++k)
      for (S const outside : {all[k], all[count_ + 2 * border - 1 - k]})
        if (!std::isnan(static_cast<float>(outside))) FAIL("a kernel wrote outside");
    return {all + border, all + border + count_};
  }

 private:
  static constexpr std::size_t border = 32;
  S* first() const { return reinterpret_cast<S*>(block_.data()); }
  std::size_t count_;
  arena block_;
};

/// Scratch of exactly the size asked for, full of not-a-numbers, with a border that must stay untouched.
class scratch_memory {
 public:
  scratch_memory(footprint size, std::size_t items, std::size_t threads)
      : bytes_(size.bytes(items, threads)), block_(bytes_ + 2 * alignment) {
    std::fill_n(block_.data(), block_.size(), filling);
  }
  ~scratch_memory() {
    bool intact = true;
    for (std::size_t k = 0; k < alignment; ++k)
      intact &= block_.data()[k] == filling && block_.data()[alignment + bytes_ + k] == filling;
    CHECK(intact);
  }
  scratch_memory(scratch_memory const&) = delete;
  scratch_memory& operator=(scratch_memory const&) = delete;
  operator std::byte*() { return block_.data() + alignment; }

 private:
  static constexpr std::byte filling{0xFF};
  std::size_t bytes_;
  arena block_;
};

/// The largest difference, as a part of the largest expected value.
template <class S>
double distance(std::vector<S> const& found, std::vector<double> const& expected) {
  REQUIRE(found.size() == expected.size());
  double largest = 0, apart = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    double const off = std::abs(static_cast<double>(found[k]) - expected[k]);
    if (std::isnan(off)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(expected[k]));
    apart = std::max(apart, off);
  }
  return apart == 0 ? 0 : apart / std::max(largest, 1e-30);
}

/// Whether stored values are the nearest to exact ones that may differ by a float's rounding.
inline bool rounds_to(std::vector<float> const& exact, std::vector<bfloat16> const& found) {
  double largest = 0;
  for (float const e : exact) largest = std::max(largest, std::abs(static_cast<double>(e)));
  bool all = exact.size() == found.size();
  for (std::size_t k = 0; all && k < exact.size(); ++k) {
    auto const e = static_cast<double>(exact[k]), f = static_cast<double>(static_cast<float>(found[k]));
    all = std::abs(f - e) <= std::abs(e) / 256 + 1e-6 * largest;
  }
  return all;
}

/// Results as one vector, to compare and to print.
template <class S>
std::vector<S> joined(std::initializer_list<std::vector<S>> parts) {
  std::vector<S> all;
  for (auto const& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

/// Runs f(context) with 1, 2, 3 and 8 threads: all results must be the same bits.
template <class B, class F>
void check_same_bits(F const& f) {
  context<B> alone(1);
  auto const expected = f(alone);
  for (std::size_t threads : {2, 3, 8}) {
    context<B> several(threads);
    for (int again = 0; again < 2; ++again) {
      CAPTURE(threads, again);
      CHECK(f(several) == expected);
    }
  }
}

}  // namespace l3::test
