/// @file  include/l3/eval/clustering.hpp: do features fall into the classes by themselves? k-means, and how far a
/// clustering agrees with labels.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/context.hpp>
#include <l3/core/error.hpp>
#include <l3/core/random.hpp>
#include <l3/kernels/kernels.hpp>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// How k-means goes about it.
struct kmeans_settings {
  std::size_t clusters = 8;
  std::size_t starts = 10;  ///< of which the tightest result is kept
  std::size_t most_rounds = 300;
  std::uint64_t seed = 0;
};

/// A clustering of rows.
struct kmeans_result {
  std::vector<std::int32_t> cluster;  ///< of each row
  double inertia = 0;                 ///< sum of the squared distances to the clusters' means
};

namespace detail {

/// One run of k-means on `n` rows of `d` values.
template <backend B>
class kmeans_run {
 public:
  kmeans_run(context<B>& on, std::span<float const> rows, std::size_t d, std::size_t clusters)
      : on_(on),
        rows_(rows),
        n_(rows.size() / d),
        d_(d),
        k_(clusters),
        means_(clusters * d),
        shifts_(clusters),
        scores_(n_ * clusters),
        scratch_(scratch_size<B>::dense({n_, d, clusters}).bytes(n_, on.threads())) {}

  kmeans_result run(std::uint64_t seed, std::uint64_t start, std::size_t most_rounds) {
    spread_out(seed, start);
    kmeans_result result{std::vector<std::int32_t>(n_, -1), 0};
    for (std::size_t round = 0; round != most_rounds; ++round)
      if (!assign(result.cluster))
        break;
      else
        move_means(result.cluster);
    std::vector<double> apart(n_);
    on_.team().run(n_, [&](std::size_t i, std::size_t) {
      apart[i] = distance(row(i), means_.data() + static_cast<std::size_t>(result.cluster[i]) * d_);
    });
    result.inertia = std::accumulate(apart.begin(), apart.end(), 0.0);
    return result;
  }

 private:
  float const* row(std::size_t i) const { return rows_.data() + i * d_; }
  /// Squared; to the origin if b is null.
  double distance(float const* a, float const* b) const {
    double sum = 0;
    for (std::size_t k = 0; k != d_; ++k) {
      double const difference = static_cast<double>(a[k]) - (b != nullptr ? static_cast<double>(b[k]) : 0);
      sum += difference * difference;
    }
    return sum;
  }

  /// k-means++: each next mean is a row drawn with a chance in proportion to its squared distance to the nearest one.
  void spread_out(std::uint64_t seed, std::uint64_t start) {
    std::vector<double> nearest(n_, std::numeric_limits<double>::infinity());
    for (std::size_t c = 0; c != k_; ++c) {
      generator random(seed, stream::user, start, static_cast<std::uint32_t>(c));
      std::size_t chosen = random.below(static_cast<std::uint32_t>(n_));
      if (c > 0) {
        double total = 0;
        for (double const each : nearest) total += each;
        double left = random.uniform() * total;
        for (std::size_t i = 0; i != n_ && total > 0; ++i)
          if (chosen = i; (left -= nearest[i]) < 0) break;
      }
      std::copy_n(row(chosen), d_, means_.data() + c * d_);
      on_.team().run(n_, [&](std::size_t i, std::size_t) {
        nearest[i] = std::min(nearest[i], distance(row(i), means_.data() + c * d_));
      });
    }
  }
  /// The nearest mean for each row: the one with the largest x.m - |m|^2 / 2. False: nothing has changed.
  bool assign(std::vector<std::int32_t>& cluster) {
    for (std::size_t c = 0; c != k_; ++c)
      shifts_[c] = static_cast<float>(-distance(means_.data() + c * d_, nullptr) / 2);
    dense_forward(on_, dense_dims{n_, d_, k_}, rows_.data(), means_.data(), shifts_.data(), scores_.data(),
                  scratch_.data());
    bool changed = false;
    for (std::size_t i = 0; i != n_; ++i) {
      float const* const s = scores_.data() + i * k_;
      auto const best = std::max_element(s, s + k_) - s;
      changed |= std::exchange(cluster[i], static_cast<std::int32_t>(best)) != best;
    }
    return changed;
  }
  void move_means(std::vector<std::int32_t> const& cluster) {
    std::vector<std::size_t> size(k_);
    for (auto const c : cluster) ++size[static_cast<std::size_t>(c)];
    on_.team().run(k_, [&](std::size_t c, std::size_t) {
      if (size[c] == 0) return;  // stays where it is
      std::vector<double> sum(d_);
      for (std::size_t i = 0; i != n_; ++i)
        if (cluster[i] == static_cast<std::int32_t>(c))
          for (std::size_t k = 0; k != d_; ++k) sum[k] += static_cast<double>(row(i)[k]);
      for (std::size_t k = 0; k != d_; ++k)
        means_[c * d_ + k] = static_cast<float>(sum[k] / static_cast<double>(size[c]));
    });
  }

  context<B>& on_;
  std::span<float const> rows_;
  std::size_t n_, d_, k_;
  std::vector<float> means_, shifts_, scores_;
  arena scratch_;
};

}  // namespace detail

/// Clusters rows of `dimensions` values. The same bits for any number of threads.
///
/// Errors  setting_error: no cluster, or more of them than rows; no start or round. shape_error: not whole rows.
///         numeric_error: values that are not finite.
/// Source  Lloyd (1982); Arthur & Vassilvitskii, "k-means++" (2007).
template <backend B>
kmeans_result kmeans(context<B>& on, std::span<float const> rows, std::size_t dimensions,
                     kmeans_settings const& settings) {
  std::size_t const n = dimensions == 0 ? 0 : rows.size() / dimensions;
  if (n * dimensions != rows.size())
    throw shape_error({"rows of k-means", "whole rows of " + std::to_string(dimensions) + " values",
                       std::to_string(rows.size()) + " values"});
  if (settings.clusters == 0 || settings.clusters > n)
    throw setting_error(
        {"clusters of k-means", "1 to the number of rows, " + std::to_string(n), std::to_string(settings.clusters)});
  if (settings.starts == 0 || settings.most_rounds == 0)
    throw setting_error({"starts and rounds of k-means", "at least 1 each", "0"});
  if (!std::all_of(rows.begin(), rows.end(), [](float x) { return std::isfinite(x); }))
    throw numeric_error({"rows of k-means", "finite numbers", "others"});
  // Around their mean: far from the origin, products of rows would leave nothing of what tells them apart.
  std::vector<double> mean(dimensions);
  for (std::size_t k = 0; k != rows.size(); ++k) mean[k % dimensions] += static_cast<double>(rows[k]);
  std::vector<float> centred(rows.size());
  for (std::size_t k = 0; k != rows.size(); ++k)
    centred[k] = static_cast<float>(static_cast<double>(rows[k]) - mean[k % dimensions] / static_cast<double>(n));
  detail::kmeans_run<B> runs(on, centred, dimensions, settings.clusters);
  kmeans_result best;
  for (std::size_t start = 0; start != settings.starts; ++start) {
    auto result = runs.run(settings.seed, start, settings.most_rounds);
    if (start == 0 || result.inertia < best.inertia) best = std::move(result);
  }
  return best;
}

/// How far two ways to sort the same things agree.
struct agreement {
  double nmi = 0;  ///< normalised mutual information: 1 where they are the same; above 0 by chance, the more the
                   ///< more clusters there are
  double ami = 0;  ///< adjusted for chance: 0 on average where they have nothing to do with each other, 1 the same
};

/// Compares clusters with labels; both count from 0. Normalised by the mean of the two entropies.
///
/// Errors  shape_error: not as many of one as of the other, or none; a number below 0.
/// Source  Vinh, Epps & Bailey, "Information theoretic measures for clusterings comparison" (2010); as
///         sklearn.metrics.normalized_mutual_info_score and adjusted_mutual_info_score.
inline agreement compare_clusterings(std::span<std::int32_t const> a, std::span<std::int32_t const> b) {
  if (a.size() != b.size() || a.empty())
    throw shape_error({"clusterings to compare", "as many of one as of the other, at least one",
                       std::to_string(a.size()) + " and " + std::to_string(b.size())});
  auto const kinds = [](std::span<std::int32_t const> v) {
    if (std::int32_t const least = *std::min_element(v.begin(), v.end()); least < 0)
      throw shape_error({"clusterings to compare", "numbers from 0 on", std::to_string(least)});
    return static_cast<std::size_t>(*std::max_element(v.begin(), v.end())) + 1;
  };
  std::size_t const rows = kinds(a), columns = kinds(b);
  std::vector<double> joint(rows * columns), of_a(rows), of_b(columns);
  for (std::size_t k = 0; k != a.size(); ++k) {
    auto const i = static_cast<std::size_t>(a[k]), j = static_cast<std::size_t>(b[k]);
    ++joint[i * columns + j], ++of_a[i], ++of_b[j];
  }
  auto const n = static_cast<double>(a.size());
  auto const entropy = [n](std::vector<double> const& counts) {
    double h = 0;
    for (double const c : counts)
      if (c > 0) h -= c / n * std::log(c / n);
    return h;
  };
  double mutual = 0, expected = 0;
  // Given the sizes, a cell's count is hypergeometric if the two have nothing to do with each other.
  auto const log_factorial = [](double x) { return std::lgamma(x + 1); };
  for (std::size_t i = 0; i != rows; ++i)
    for (std::size_t j = 0; j != columns; ++j) {
      double const p = of_a[i], q = of_b[j], both = joint[i * columns + j];
      if (both > 0) mutual += both / n * std::log(n * both / (p * q));
      if (p == 0 || q == 0) continue;
      double const always =
          log_factorial(p) + log_factorial(q) + log_factorial(n - p) + log_factorial(n - q) - log_factorial(n);
      for (double m = std::max(1.0, p + q - n); m <= std::min(p, q); ++m)
        expected += m / n * std::log(n * m / (p * q)) *
                    std::exp(always - log_factorial(m) - log_factorial(p - m) - log_factorial(q - m) -
                             log_factorial(n - p - q + m));
    }
  double const mean = (entropy(of_a) + entropy(of_b)) / 2;
  if (mean == 0) return {1, 1};  // one cluster, one class
  double const room = mean - expected;
  return {std::max(0.0, mutual / mean), std::abs(room) < 1e-15 ? 0 : (mutual - expected) / room};
}

}  // namespace l3::inline L3_ISA
