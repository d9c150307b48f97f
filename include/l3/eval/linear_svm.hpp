/// @file  include/l3/eval/linear_svm.hpp: linear support vector machines on dense features, one for each class against
/// all others.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/context.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/random.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// How the machines are trained.
struct svm_settings {
  double cost = 1;          ///< C: what a violated margin costs beside the length of the weights
  double tolerance = 0.01;  ///< of the projected gradient: liblinear's -e
  std::size_t most_epochs = 1000;
  std::uint64_t seed = 0;  ///< of the order in which rows are visited
};

namespace detail {

/// Sixteen machines at most, trained side by side, so that what is read of a row serves all of them.
///
/// Weights lie [feature][machine]; behind the last feature that of the bias, whose feature is always 1.
template <class V>
class svm_block {
 public:
  static constexpr std::size_t machines = 16;

  svm_block(std::span<float const> rows, std::size_t dimensions, std::span<std::int32_t const> labels,
            std::int32_t first_class, std::size_t used)
      : rows_(rows), dimensions_(dimensions), labels_(labels), first_(first_class), used_(used) {
    weights_.resize((dimensions + 1) * machines);
  }

  /// Returns the epochs it took, or nothing if they were not enough.
  std::size_t train(svm_settings const& s, std::span<double const> squares) {
    std::size_t const n = labels_.size();
    double const diagonal = 0.5 / s.cost;
    std::vector<double> alpha(n * machines);
    std::vector<std::uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    for (std::size_t epoch = 0; epoch != s.most_epochs; ++epoch) {
      shuffle(order, s.seed, stream::user, epoch);
      std::array<double, machines> highest, lowest;
      highest.fill(-std::numeric_limits<double>::infinity());
      lowest.fill(std::numeric_limits<double>::infinity());
      for (auto const row : order) {
        float const* const x = rows_.data() + row * dimensions_;
        alignas(alignment) float score[machines];
        alignas(alignment) float move[machines] = {};
        scores(x, score);
        bool moves = false;
        for (std::size_t m = 0; m != used_; ++m) {
          double& a = alpha[row * machines + m];
          double const y = labels_[row] == first_ + static_cast<std::int32_t>(m) ? 1 : -1;
          double const gradient = y * static_cast<double>(score[m]) - 1 + diagonal * a;
          double const projected = a > 0 ? gradient : std::min(gradient, 0.0);
          highest[m] = std::max(highest[m], projected), lowest[m] = std::min(lowest[m], projected);
          if (std::abs(projected) < 1e-12) continue;
          double const next = std::max(a - gradient / (squares[row] + diagonal), 0.0);
          move[m] = static_cast<float>((next - a) * y);
          a = next;
          moves = true;
        }
        if (moves) add(x, move);
      }
      bool settled = true;
      for (std::size_t m = 0; m != used_; ++m) settled = settled && highest[m] - lowest[m] <= s.tolerance;
      if (settled) return epoch + 1;
    }
    return 0;
  }

  float weight(std::size_t machine, std::size_t feature) const { return weights_[feature * machines + machine]; }

 private:
  static constexpr std::size_t registers = machines / width<V>;
  static constexpr std::size_t steps = registers >= 4 ? 1 : 4 / registers;  ///< features whose sums go on side by side

  void scores(float const* x, float* out) const {
    V sum[steps][registers];
    for (auto& each : sum)
      for (V& s : each) s = V(0.0f);
    float const* w = weights_.data();
    std::size_t k = 0;
    for (; k + steps <= dimensions_; k += steps)
      for (std::size_t u = 0; u != steps; ++u, w += machines)
        for (std::size_t r = 0; r != registers; ++r)
          sum[u][r] = fused(V(x[k + u]), load<V>(w + r * width<V>), sum[u][r]);
    for (; k != dimensions_; ++k, w += machines)
      for (std::size_t r = 0; r != registers; ++r) sum[0][r] = fused(V(x[k]), load<V>(w + r * width<V>), sum[0][r]);
    for (std::size_t r = 0; r != registers; ++r) {
      V all = load<V>(w + r * width<V>);  // the bias
      for (std::size_t u = 0; u != steps; ++u) all = all + sum[u][r];
      put(out + r * width<V>, all);
    }
  }
  void add(float const* x, float const* move) {
    V by[registers];
    for (std::size_t r = 0; r != registers; ++r) by[r] = load<V>(move + r * width<V>);
    float* w = weights_.data();
    for (std::size_t k = 0; k != dimensions_; ++k, w += machines)
      for (std::size_t r = 0; r != registers; ++r)
        put(w + r * width<V>, fused(V(x[k]), by[r], load<V>(w + r * width<V>)));
    for (std::size_t r = 0; r != registers; ++r) put(w + r * width<V>, by[r] + load<V>(w + r * width<V>));
  }

  std::span<float const> rows_;
  std::size_t dimensions_;
  std::span<std::int32_t const> labels_;
  std::int32_t first_;
  std::size_t used_;
  std::vector<float> weights_;
};

}  // namespace detail

/// One linear machine for each class. Each minimises |w|^2 / 2 + C sum max(0, 1 - y w.x)^2 over weights and bias, y
/// being 1 for rows of its class and -1 for all others: what liblinear's solver 1 and sklearn's LinearSVC minimise.
/// Dual coordinate descent in float, machines in groups of sixteen that share the reading of the rows; on dense
/// features some 15 times as fast as one machine after the other (docs/transfer.md).
///
/// The same bits for any number of threads.
/// Source  Hsieh et al., "A dual coordinate descent method for large-scale linear SVM" (ICML 2008).
class linear_svm {
 public:
  /// Trains on rows of `dimensions` values, labels 0 to classes - 1.
  ///
  /// Errors  shape_error: counts that do not fit. setting_error: fewer than two classes, a class without a row, a label
  ///         that is no class, cost or tolerance not above 0. numeric_error: a value that is not finite.
  linear_svm(thread_team& team, std::span<float const> rows, std::size_t dimensions,
             std::span<std::int32_t const> labels, std::size_t classes, svm_settings const& settings = {})
      : dimensions_(dimensions), weights_(classes * dimensions), biases_(classes) {
    require_valid(rows, labels, settings);
    std::vector<double> squares(labels.size());
    for (std::size_t row = 0; row != labels.size(); ++row)
      for (float const x : rows.subspan(row * dimensions, dimensions))
        squares[row] += static_cast<double>(x) * static_cast<double>(x);
    for (double& s : squares) {
      if (!std::isfinite(s)) throw numeric_error({"rows of a support vector machine", "finite values", "others"});
      s += 1;  // the bias's feature
    }
    using block = detail::svm_block<detail::lanes<arch::best>>;
    std::size_t const blocks = detail::parts_of(classes, block::machines);
    std::vector<std::size_t> epochs(blocks);
    team.run(blocks, [&](std::size_t b, std::size_t) {
      std::size_t const first = b * block::machines, used = std::min(block::machines, classes - first);
      block machines(rows, dimensions, labels, static_cast<std::int32_t>(first), used);
      epochs[b] = machines.train(settings, squares);
      for (std::size_t m = 0; m != used; ++m) {
        for (std::size_t k = 0; k != dimensions; ++k) weights_[(first + m) * dimensions + k] = machines.weight(m, k);
        biases_[first + m] = machines.weight(m, dimensions);
      }
    });
    converged_ = std::find(epochs.begin(), epochs.end(), std::size_t{0}) == epochs.end();
    epochs_ = converged_ ? *std::max_element(epochs.begin(), epochs.end()) : settings.most_epochs;
  }

  std::size_t classes() const { return biases_.size(); }
  std::size_t dimensions() const { return dimensions_; }
  std::span<float const> weights(std::size_t c) const {
    return std::span(weights_).subspan(c * dimensions_, dimensions_);
  }
  float bias(std::size_t c) const { return biases_[c]; }
  /// Whether the tolerance was met, and after how many passes over the rows.
  bool converged() const { return converged_; }
  std::size_t epochs() const { return epochs_; }

  /// Adds each machine's score of a row to `sums`.
  void add_scores(float const* row, std::span<double> sums) const {
    for (std::size_t c = 0; c != biases_.size(); ++c) {
      float const* const w = weights_.data() + c * dimensions_;
      auto sum = static_cast<double>(biases_[c]);
      for (std::size_t k = 0; k != dimensions_; ++k) sum += static_cast<double>(row[k]) * static_cast<double>(w[k]);
      sums[c] += sum;
    }
  }

 private:
  void require_valid(std::span<float const> rows, std::span<std::int32_t const> labels,
                     svm_settings const& settings) const {
    if (rows.size() != labels.size() * dimensions_)
      throw shape_error(
          {"rows of a support vector machine",
           std::to_string(dimensions_) + " values for each of " + std::to_string(labels.size()) + " labels",
           std::to_string(rows.size())});
    auto const classes = static_cast<std::int32_t>(biases_.size());
    if (classes < 2) throw setting_error({"classes of a support vector machine", "at least two", "one at most"});
    std::vector<bool> seen(biases_.size());
    for (auto const label : labels) {
      if (label < 0 || label >= classes)
        throw setting_error(
            {"label of a support vector machine", "0 to " + std::to_string(classes - 1), std::to_string(label)});
      seen[static_cast<std::size_t>(label)] = true;
    }
    if (auto const gap = std::find(seen.begin(), seen.end(), false); gap != seen.end())
      throw setting_error(
          {"class " + std::to_string(gap - seen.begin()) + " of a support vector machine", "rows to train on", "none"});
    if (!(settings.cost > 0 && settings.tolerance > 0))
      throw setting_error({"cost and tolerance of a support vector machine", "numbers above 0",
                           std::to_string(settings.cost) + " and " + std::to_string(settings.tolerance)});
  }

  std::size_t dimensions_;
  std::vector<float> weights_, biases_;
  bool converged_ = false;
  std::size_t epochs_ = 0;
};

}  // namespace l3::inline L3_ISA
