/// @file  include/l3/eval/standardise.hpp: features to mean 0 and standard deviation 1, as a linear classifier wants
/// them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <span>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// Z-scores by the mean and the deviation of training rows. A feature that is the same in all of them becomes 0 there,
/// and its plain difference elsewhere.
///
/// Source  sklearn.preprocessing.StandardScaler (biased variance, deviation 0 replaced by 1).
class standardiser {
 public:
  /// From rows `which` of `rows`, which has `dimensions` values a row.
  ///
  /// Errors  shape_error: no rows, or a row that is not there. numeric_error: a value that is not finite.
  standardiser(std::span<float const> rows, std::size_t dimensions, std::span<std::uint32_t const> which)
      : mean_(dimensions), inverse_(dimensions) {
    if (which.empty() || dimensions == 0)
      throw shape_error({"rows to standardise by", "at least one", which.empty() ? "none" : "rows without values"});
    for (auto const row : which)
      if ((std::size_t{row} + 1) * dimensions > rows.size())
        throw shape_error(
            {"rows to standardise by", "rows below " + std::to_string(rows.size() / dimensions), std::to_string(row)});
    auto const n = static_cast<double>(which.size());
    std::vector<double> sum(dimensions), square(dimensions);
    auto const each = [&](auto&& f) {
      for (auto const row : which) {
        float const* const x = rows.data() + std::size_t{row} * dimensions;
        for (std::size_t k = 0; k != dimensions; ++k) f(k, static_cast<double>(x[k]));
      }
    };
    each([&](std::size_t k, double x) { sum[k] += x; });
    for (double& s : sum) s /= n;
    each([&](std::size_t k, double x) { square[k] += (x - sum[k]) * (x - sum[k]); });  // twice through: nothing cancels
    for (std::size_t k = 0; k != dimensions; ++k) {
      if (!std::isfinite(square[k])) throw numeric_error({"feature " + std::to_string(k), "finite values", "others"});
      double const deviation = std::sqrt(square[k] / n);
      // What rounding leaves of a constant is no spread.
      bool const same = deviation <= 1e-6 * std::abs(sum[k]) || deviation < 1e-30;
      constant_ += same ? 1 : 0;
      mean_[k] = static_cast<float>(sum[k]);
      inverse_[k] = same ? 1.0f : static_cast<float>(1 / deviation);
    }
  }

  std::size_t dimensions() const { return mean_.size(); }
  /// Features that are the same in all training rows.
  std::size_t constant() const { return constant_; }

  /// One row; `out` may be `row`.
  void operator()(float const* row, float* out) const {
    for (std::size_t k = 0; k != mean_.size(); ++k) out[k] = (row[k] - mean_[k]) * inverse_[k];
  }

 private:
  std::vector<float> mean_, inverse_;
  std::size_t constant_ = 0;
};

}  // namespace l3::inline L3_ISA
