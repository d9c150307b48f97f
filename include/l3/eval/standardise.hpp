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
      : standardiser(dimensions, [&](auto&& visit) {
          for (auto const row : which) {
            if ((std::size_t{row} + 1) * dimensions > rows.size())
              throw shape_error({"rows to standardise by", "rows below " + std::to_string(rows.size() / dimensions),
                                 std::to_string(row)});
            visit(rows.data() + std::size_t{row} * dimensions);
          }
        }) {}

  /// From rows wherever they are: `each(visit)` calls visit(pointer) for every row, and is called twice.
  ///
  /// Errors  as above.
  template <class Each>
  standardiser(std::size_t dimensions, Each&& each) : mean_(dimensions), inverse_(dimensions) {
    std::vector<double> sum(dimensions), square(dimensions);
    double n = 0;
    each([&](float const* x) {
      ++n;
      for (std::size_t k = 0; k != dimensions; ++k) sum[k] += static_cast<double>(x[k]);
    });
    if (n == 0 || dimensions == 0)
      throw shape_error({"rows to standardise by", "at least one", n == 0 ? "none" : "rows without values"});
    for (double& s : sum) s /= n;
    each([&](float const* x) {  // twice through: nothing cancels
      for (std::size_t k = 0; k != dimensions; ++k) {
        double const off = static_cast<double>(x[k]) - sum[k];
        square[k] += off * off;
      }
    });
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
