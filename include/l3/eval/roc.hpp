/// @file  include/l3/eval/roc.hpp: how well a score tells two kinds apart, whatever the threshold.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// A score, and whether what it was given to is of the kind that should score high.
struct scored {
  double score = 0;
  bool positive = false;
};

/// Where a threshold puts a classifier that says yes to scores of at least `threshold`.
struct roc_point {
  double threshold = 0;
  double false_positives = 0;  ///< share of the negatives that score so high
  double true_positives = 0;   ///< share of the positives
  /// Mean of the shares of positives and of negatives that are told right.
  double balanced_accuracy() const { return (true_positives + 1 - false_positives) / 2; }
};

/// The receiver operating characteristic: from (0, 0), a threshold above all scores, to (1, 1); one point for each
/// different score.
///
/// Errors  setting_error: a score that is not a number, no positive or no negative.
/// Source  Fawcett, "An introduction to ROC analysis" (2006), algorithm 1; as sklearn.metrics.roc_curve.
inline std::vector<roc_point> roc_curve(std::span<scored const> pairs) {
  std::vector<scored> sorted(pairs.begin(), pairs.end());
  double positives = 0, negatives = 0;
  for (scored const& each : sorted) {
    if (std::isnan(each.score)) throw setting_error({"scores of pairs", "numbers", "one that is none"});
    (each.positive ? positives : negatives) += 1;
  }
  if (positives == 0 || negatives == 0)
    throw setting_error({"scores of pairs", "positives and negatives",
                         std::to_string(static_cast<std::size_t>(positives)) + " positives and " +
                             std::to_string(static_cast<std::size_t>(negatives)) + " negatives"});
  std::stable_sort(sorted.begin(), sorted.end(), [](scored const& a, scored const& b) { return a.score > b.score; });
  std::vector<roc_point> curve{{std::numeric_limits<double>::infinity(), 0, 0}};
  double true_positives = 0, false_positives = 0;
  for (std::size_t k = 0; k != sorted.size(); ++k) {
    (sorted[k].positive ? true_positives : false_positives) += 1;
    if (k + 1 == sorted.size() || sorted[k + 1].score != sorted[k].score)
      curve.push_back({sorted[k].score, false_positives / negatives, true_positives / positives});
  }
  return curve;
}

/// Area below the curve: how often a positive scores above a negative, a tie counting half. Chance: 0.5.
inline double roc_area(std::span<roc_point const> curve) {
  double area = 0;
  for (std::size_t k = 1; k < curve.size(); ++k)
    area += (curve[k].false_positives - curve[k - 1].false_positives) *
            (curve[k].true_positives + curve[k - 1].true_positives) / 2;
  return area;
}

/// The point of highest balanced accuracy; of several the one with the highest threshold.
inline roc_point best_point(std::span<roc_point const> curve) {
  return *std::max_element(curve.begin(), curve.end(), [](roc_point const& a, roc_point const& b) {
    return a.balanced_accuracy() < b.balanced_accuracy();
  });
}

/// At most `points` of the curve, the ends among them, evenly spread: to be drawn.
inline std::vector<roc_point> thinned(std::span<roc_point const> curve, std::size_t points) {
  if (curve.size() <= points || points < 2) return {curve.begin(), curve.end()};
  std::vector<roc_point> few;
  for (std::size_t k = 0; k != points; ++k) few.push_back(curve[k * (curve.size() - 1) / (points - 1)]);
  return few;
}

}  // namespace l3::inline L3_ISA
