/// @file  include/l3/kernels/cpu/row_sums.hpp: sums over very many rows, fast, accurate, and the same for any number of
/// threads.
///
/// Rows are cut into a fixed number of parts, parts into chunks that fit in the first cache, or in the second where
/// rows are long. A chunk is summed in float registers, chunks are added up in double within their part, parts in
/// double in their order.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/core/memory.hpp>
#include <l3/kernels/cpu/simd.hpp>

namespace l3::inline L3_ISA {
namespace detail {

inline constexpr std::size_t most_row_parts = 64;
inline constexpr std::size_t row_chunk_bytes = 24 << 10;

/// Room for two sums for each part and channel.
constexpr footprint row_sums_scratch(std::size_t channels) { return fixed<double>(most_row_parts * 2 * channels); }

/// How `units` (rows, or groups of rows that belong together) of `unit_floats` are cut.
struct row_parts {
  std::size_t units, chunk, count;
  /// `least` units make a chunk however long they are: adding up a chunk's sums in double has its cost.
  constexpr row_parts(std::size_t all, std::size_t unit_floats, std::size_t least = 64)
      : units(all),
        chunk(std::clamp<std::size_t>(row_chunk_bytes / sizeof(float) / unit_floats, least, 512)),
        count(std::clamp<std::size_t>(all / std::max<std::size_t>(chunk / 4, 1), 1, most_row_parts)) {}

  /// Calls f(part, chunk range) for all chunks; those of one part in order, on one thread.
  template <class F>
  void each_chunk(thread_team& team, F&& f) const {
    team.run(count, [&](std::size_t part, std::size_t) {
      auto const mine = part_of(units, count, part);
      for (std::size_t at = mine.begin; at < mine.end; at += chunk)
        f(part, index_range{at, std::min(at + chunk, mine.end)});
    });
  }
  /// Adds every part's `values` sums, in the order of the parts, to those of the first.
  void add_up(std::size_t values, double* totals) const {
    for (std::size_t part = 1; part < count; ++part)
      for (std::size_t k = 0; k < values; ++k) totals[k] += totals[part * values + k];
  }
};

/// How many registers hold 64 floats, at most eight. Walking down the rows of a chunk with as many, neighbouring cache
/// lines arrive one after the other, for which memory is twice as fast as for one of every four.
template <class V>
inline constexpr std::size_t registers_of_64 = std::clamp<std::size_t>(64 / width<V>, 1, 8);

/// totals += the lanes of v.
template <class T>
L3_INLINE void add_lanes(T const& v, double* totals) {
  float part[width<T>];
  put(part, v);
  for (std::size_t k = 0; k < width<T>; ++k) totals[k] += static_cast<double>(part[k]);
}

}  // namespace detail

/// Sums over rows; the contract is in reference.hpp. x may be stored as bfloat16.
template <class A, class P, class X>
void channel_sums(context<simd<A, P>>& on, std::size_t rows, std::size_t channels, X const* x, float* sums,
                  std::byte* scratch) {
  using namespace detail;
  auto* const totals = reinterpret_cast<double*>(scratch);  // [part][channel]
  row_parts const parts(rows, channels);
  std::fill_n(totals, parts.count * channels, 0.0);
  parts.each_chunk(on.team(), [&](std::size_t part, index_range chunk) {
    each_registers<lanes<A>, registers_of_64<lanes<A>>>(channels, [&]<class T, std::size_t K>(std::size_t c) {
      T sum[K];
      for (auto& one : sum) one = T(0.0f);
      for (std::size_t row = chunk.begin; row < chunk.end; ++row)
        for (std::size_t k = 0; k < K; ++k) sum[k] = sum[k] + load<T>(x + row * channels + c + k * width<T>);
      for (std::size_t k = 0; k < K; ++k) add_lanes(sum[k], totals + part * channels + c + k * width<T>);
    });
  });
  parts.add_up(channels, totals);
  for (std::size_t c = 0; c < channels; ++c) sums[c] = static_cast<float>(totals[c]);
}

/// Squares are summed about a mean, so that nothing cancels however far from zero it is: in a part's first chunk about
/// that chunk's own, for which it is read twice, later about that of the chunks before. Where the chunk's own is
/// another, what cancels is less than what joining adds for the distance. Source  pairs of moments are joined as in
/// Chan, Golub & LeVeque (1979).
template <class A, class P, class X>
void channel_moments(context<simd<A, P>>& on, std::size_t rows, std::size_t channels, X const* x, float* mean,
                     float* variance, std::byte* scratch) {
  using namespace detail;
  auto* const totals = reinterpret_cast<double*>(scratch);  // [part][mean, squares][channel]
  row_parts const parts(rows, channels);
  // `share` is n / (n_before + n) of the moments that join
  auto const join = [](double n_before, double share, double mean_of_n, double squares_of_n, double& m,
                       double& squares) {
    double const apart = mean_of_n - m;
    m += apart * share;
    squares += squares_of_n + apart * apart * n_before * share;
  };
  std::fill_n(totals, parts.count * 2 * channels, 0.0);
  parts.each_chunk(on.team(), [&](std::size_t part, index_range chunk) {
    auto const n = static_cast<double>(chunk.size());
    auto const before = static_cast<double>(chunk.begin - part_of(rows, parts.count, part).begin);
    double const share = n / (before + n), each_row = 1.0 / n;
    double* const m = totals + part * 2 * channels;
    each_registers<lanes<A>, registers_of_64<lanes<A>>>(channels, [&]<class T, std::size_t K>(std::size_t c) {
      auto const value = [&](std::size_t row, std::size_t k) { return load<T>(x + row * channels + c + k * width<T>); };
      T centre[K], sum[K], square[K];
      float middle[K * width<T>], s[K * width<T>], q[K * width<T>];
      for (std::size_t k = 0; k < K * width<T>; ++k) middle[k] = static_cast<float>(m[c + k]);
      for (std::size_t k = 0; k < K; ++k) centre[k] = load<T>(middle + k * width<T>), sum[k] = square[k] = T(0.0f);
      if (before == 0) {
        for (std::size_t row = chunk.begin; row < chunk.end; ++row)
          for (std::size_t k = 0; k < K; ++k) centre[k] = centre[k] + value(row, k);
        for (auto& one : centre) one = one * T(static_cast<float>(each_row));
      }
      for (std::size_t row = chunk.begin; row < chunk.end; ++row)
        for (std::size_t k = 0; k < K; ++k) {
          T const off = value(row, k) - centre[k];
          sum[k] = sum[k] + off;
          square[k] = fused(off, off, square[k]);
        }
      for (std::size_t k = 0; k < K; ++k) {
        put(middle + k * width<T>, centre[k]);
        put(s + k * width<T>, sum[k]);
        put(q + k * width<T>, square[k]);
      }
      for (std::size_t k = 0; k < K * width<T>; ++k) {
        double const off = static_cast<double>(s[k]) * each_row;
        join(before, share, static_cast<double>(middle[k]) + off, static_cast<double>(q[k]) - off * off * n, m[c + k],
             m[channels + c + k]);
      }
    });
  });
  for (std::size_t part = 1; part < parts.count; ++part) {
    auto const range = part_of(rows, parts.count, part);
    double const* const t = totals + part * 2 * channels;
    double const share = static_cast<double>(range.size()) / static_cast<double>(range.end);
    for (std::size_t c = 0; c < channels; ++c)
      join(static_cast<double>(range.begin), share, t[c], t[channels + c], totals[c], totals[channels + c]);
  }
  for (std::size_t c = 0; c < channels; ++c) {
    mean[c] = static_cast<float>(totals[c]);
    variance[c] = static_cast<float>(std::max(totals[channels + c], 0.0) / static_cast<double>(rows));
  }
}

}  // namespace l3::inline L3_ISA
