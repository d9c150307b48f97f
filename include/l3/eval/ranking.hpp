/// @file  include/l3/eval/ranking.hpp: how near the top of a ranking stands what was looked for.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/eval/roc.hpp>
#include <span>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// Normalised discounted cumulative gain of the first `top` things by falling score: a positive at place n counts
/// 1 / log2(1 + n), over what it would be with all positives in front; 1 is best. Of equal scores every order counts as
/// much, so that scores which are all the same give what chance gives.
///
/// Errors  setting_error: no thing, no positive, none at the top, or a score that is not a number.
/// Source  Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002); as
///         sklearn.metrics.ndcg_score.
inline double ndcg(std::span<scored const> things, std::size_t top) {
  std::vector<scored> sorted(things.begin(), things.end());
  std::size_t positives = 0;
  for (scored const& each : sorted) {
    if (std::isnan(each.score)) throw setting_error({"scores of a ranking", "numbers", "one that is none"});
    positives += each.positive;
  }
  if (positives == 0 || top == 0)
    throw setting_error({"a ranking", "one positive or more, and places that count",
                         std::to_string(positives) + " and " + std::to_string(top)});
  std::sort(sorted.begin(), sorted.end(), [](scored const& a, scored const& b) { return a.score > b.score; });
  top = std::min(top, sorted.size());
  auto const counts = [](std::size_t place) { return 1 / std::log2(static_cast<double>(place) + 2); };  // from 0 on
  double found = 0, best = 0;
  for (std::size_t begin = 0, end; begin < top; begin = end) {
    std::size_t among = 0;
    for (end = begin; end != sorted.size() && sorted[end].score == sorted[begin].score; ++end)
      among += sorted[end].positive;
    double places = 0;
    for (std::size_t k = begin; k != std::min(end, top); ++k) places += counts(k);
    found += places * static_cast<double>(among) / static_cast<double>(end - begin);
  }
  for (std::size_t k = 0; k != std::min(positives, top); ++k) best += counts(k);
  return found / best;
}

}  // namespace l3::inline L3_ISA
