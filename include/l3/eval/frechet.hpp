/// @file  include/l3/eval/frechet.hpp: how far apart two collections are: the Fréchet distance of their embeddings.
///
/// Of sounds it is the Fréchet audio distance, by which generated music and speech are judged. Source  Heusel et al.,
/// "GANs trained by a two time-scale update rule" (NIPS 2017); Kilgour et al., "Fréchet audio distance" (Interspeech
/// 2019).
#pragma once
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/context.hpp>
#include <l3/core/error.hpp>
#include <l3/core/random.hpp>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// The embeddings of some files: rows [first[k], first[k + 1]) of `values` (rows, width) are those of file k.
struct grouped_rows {
  std::span<float const> values;
  std::size_t width;
  std::span<std::int64_t const> first;  ///< one more than there are files

  std::size_t files() const { return first.size() - 1; }
  bool has_rows(std::size_t file) const { return first[file] < first[file + 1]; }
};

/// The normal distribution that fits some rows.
struct normal_fit {
  std::size_t rows = 0;
  Eigen::VectorXd mean;
  /// Of the covariance (its sums divided by rows - 1), which is factor^T factor: (the smaller of rows and width,
  /// width).
  Eigen::MatrixXd factor;
};

/// Fits the rows of `files`. The factor is made of the rows themselves, a few at a time, without their covariance,
/// whose digits would be halved; fewer rows than numbers in each are as good as many.
///
/// Errors  shape_error: fewer than two rows. numeric_error: a value that is not finite.
inline normal_fit fit_normal(grouped_rows const& all, std::span<std::uint32_t const> files) {
  using row = Eigen::Map<Eigen::VectorXf const>;
  auto const d = static_cast<Eigen::Index>(all.width);
  std::vector<float const*> rows;
  for (auto const file : files)
    for (auto r = all.first[file]; r != all.first[file + 1]; ++r)
      rows.push_back(all.values.data() + static_cast<std::size_t>(r) * all.width);
  if (rows.size() < 2 || d == 0)
    throw shape_error({"rows to fit a normal distribution to", "at least two", std::to_string(rows.size())});
  auto const n = static_cast<Eigen::Index>(rows.size());
  normal_fit fit{rows.size(), Eigen::VectorXd::Zero(d), {}};
  for (float const* const x : rows) fit.mean += row(x, d).cast<double>() / static_cast<double>(n);
  // The factor so far, and below it the rows that come to it.
  Eigen::Index const block = std::min(n, 3 * d), so_far = n <= d ? 0 : d;
  Eigen::MatrixXd stack = Eigen::MatrixXd::Zero(so_far + block, d);
  for (Eigen::Index done = 0; done != n;) {
    auto const taken = std::min(block, n - done);
    for (Eigen::Index k = 0; k != taken; ++k, ++done)
      stack.row(so_far + k) = (row(rows[static_cast<std::size_t>(done)], d).cast<double>() - fit.mean).transpose() /
                              std::sqrt(static_cast<double>(n - 1));
    if (so_far == 0) break;  // all of them are a factor, and no larger than one of `width` rows
    Eigen::Ref<Eigen::MatrixXd> part = stack.topRows(d + taken);
    Eigen::HouseholderQR<Eigen::Ref<Eigen::MatrixXd>> const in_place(part);
    part.topRows(d).triangularView<Eigen::StrictlyLower>().setZero();
  }
  fit.factor = stack.topRows(std::min(n, d));
  if (!fit.mean.allFinite() || !fit.factor.allFinite())
    throw numeric_error({"rows to fit a normal distribution to", "finite values", "others"});
  return fit;
}

/// |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)) of the covariances A and B.
///
/// The trace of that root is the sum of the singular values of factor_a factor_b^T: no root of a matrix is taken, which
/// for covariances without full rank may be complex or not there. Never negative.
///
/// Errors  shape_error: rows of different widths. numeric_error: values so large that there are no singular values.
inline double frechet_distance(normal_fit const& a, normal_fit const& b) {
  if (a.mean.size() != b.mean.size())
    throw shape_error({"rows to compare", "rows of " + std::to_string(a.mean.size()) + " numbers",
                       "rows of " + std::to_string(b.mean.size())});
  // Each singular value of M is an eigenvalue, with both signs, of the symmetric [0 M^T; M 0]: exact to 1e-16 of the
  // largest, where M M^T, which squares them, gives half the digits; and Eigen's SVD compiles for ten seconds.
  Eigen::Index const of_a = a.factor.rows(), of_b = b.factor.rows();
  Eigen::MatrixXd both = Eigen::MatrixXd::Zero(of_a + of_b, of_a + of_b);
  both.bottomLeftCorner(of_a, of_b) = a.factor * b.factor.transpose();
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const solved(both, Eigen::EigenvaluesOnly);  // reads below alone
  if (solved.info() != Eigen::Success) throw numeric_error({"covariances", "singular values of their product", "none"});
  return std::max(0.0, (a.mean - b.mean).squaredNorm() + a.factor.squaredNorm() + b.factor.squaredNorm() -
                           solved.eigenvalues().cwiseAbs().sum());
}

/// How far apart two collections are.
struct collection_distance {
  double distance = 0;
  /// What it would be with endlessly many such files: see frechet_of_collections. Nothing where there are too few.
  /// Below 0 where there is no distance that could be told.
  std::optional<double> endless{};
  double halves = 0;            ///< the mean distance of halves
  double halves_deviation = 0;  ///< the standard deviation of theirs, not of `endless`
};

/// Files of a collection that can be halved.
inline constexpr std::size_t fewest_to_halve = 16;

/// The Fréchet distance of two collections that share no file, and an estimate with less of its bias.
///
/// The fewer files there are the larger the distance comes out, even of collections of one kind: a mean and a
/// covariance of few files are those files' own. With more files than numbers in a row this bias goes as one over their
/// number: it is twice as large for halves of both, and what is left without it is twice the whole's distance less the
/// halves'. With fewer it grows less than that, and a part of it stays. Whole files go to a half, for rows of one file
/// are alike: with rows drawn by lot most of the bias would stay.
///
/// Takes `halvings` random halvings, each of two distances; 0, or fewer than `fewest_to_halve` files: no estimate.
/// Source  Chong & Forsyth, "Effectively unbiased FID and Inception score" (CVPR 2020), who draw rows of one collection
/// and fit a line.
///
/// Errors  those of fit_normal and frechet_distance.
inline collection_distance frechet_of_collections(thread_team& team, grouped_rows const& a, grouped_rows const& b,
                                                  std::size_t halvings, std::uint64_t seed) {
  auto const in_use = [](grouped_rows const& side) {
    std::vector<std::uint32_t> files;
    for (std::size_t k = 0; k != side.files(); ++k)
      if (side.has_rows(k)) files.push_back(static_cast<std::uint32_t>(k));
    return files;
  };
  std::pair const files(in_use(a), in_use(b));
  // In an order of this halving's own the first half is one part and the rest the other.
  auto const half_of = [&](std::vector<std::uint32_t> all, std::uint64_t halving, bool second) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> order;
    for (auto const file : all) order.emplace_back(generator(seed, stream::bootstrap, halving, file)(), file);
    std::sort(order.begin(), order.end());
    std::transform(order.begin(), order.end(), all.begin(), [](auto const& each) { return each.second; });
    auto const middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
    return second ? std::vector(middle, all.end()) : std::vector(all.begin(), middle);
  };
  bool const halves = std::min(files.first.size(), files.second.size()) >= fewest_to_halve;
  std::vector<double> distances(1 + (halves ? 2 * halvings : 0));
  auto const one = [&](std::size_t task, std::size_t) {
    if (task == 0) {
      distances[0] = frechet_distance(fit_normal(a, files.first), fit_normal(b, files.second));
      return;
    }
    std::uint64_t const halving = (task - 1) / 2;
    bool const second = task % 2 == 0;
    distances[task] = frechet_distance(fit_normal(a, half_of(files.first, 2 * halving, second)),
                                       fit_normal(b, half_of(files.second, 2 * halving + 1, second)));
  };
  constexpr std::size_t narrow = 1024;  // a distance takes some ten matrices of width by width: 8 MB each
  if (a.width <= narrow)
    team.run(distances.size(), one);
  else
    for (std::size_t task = 0; task != distances.size(); ++task) one(task, 0);
  collection_distance result{.distance = distances.front()};
  if (distances.size() == 1) return result;
  auto const n = static_cast<double>(distances.size() - 1);
  result.halves = std::accumulate(distances.begin() + 1, distances.end(), 0.0) / n;
  double square = 0;
  for (auto d = distances.begin() + 1; d != distances.end(); ++d) square += (*d - result.halves) * (*d - result.halves);
  result.halves_deviation = std::sqrt(square / (n - 1));
  result.endless = 2 * result.distance - result.halves;
  return result;
}

}  // namespace l3::inline L3_ISA
