// Features of two files tell whether they go together.
#include "matching.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <functional>
#include <l3/eval/standardise.hpp>
#include <limits>
#include <numeric>

namespace l3::program {
namespace {

using values = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Rows of so many values, where they are.
Eigen::Map<values const> matrix_of(std::span<float const> x, std::size_t width) {
  auto const w = static_cast<Eigen::Index>(width);
  return {x.data(), static_cast<Eigen::Index>(x.size()) / w, w};
}

/// Scores a collection's rows on all threads.
class row_judge : public judge {
 protected:
  explicit row_judge(thread_team& team) : team_(team) {}
  /// scores[r] = f(r).
  template <class F>
  void for_each_row(std::span<float> scores, F const& f) const {
    constexpr std::size_t some = 256;
    team_.run((scores.size() + some - 1) / some, [&](std::size_t task, std::size_t) {
      for (std::size_t r = task * some; r != std::min(scores.size(), (task + 1) * some); ++r)
        scores[r] = f(static_cast<Eigen::Index>(r));
    });
  }

 private:
  thread_team& team_;
};

class likeness_judge final : public row_judge {
 public:
  likeness_judge(thread_team& team, feature_rows const& all)
      : row_judge(team), rows_(matrix_of(all.values, all.width)), scale_(all.width, [&](auto&& visit) {
          for (Eigen::Index r = 0; r != rows_.rows(); ++r) visit(rows_.row(r).data());
        }) {
    for (Eigen::Index r = 0; r != rows_.rows(); ++r) {
      scale_(rows_.row(r).data(), rows_.row(r).data());
      rows_.row(r).normalize();
    }
  }
  void operator()(std::span<float const> query, std::span<float> scores) const override {
    Eigen::VectorXf q(rows_.cols());
    scale_(query.data(), q.data());
    q.normalize();
    for_each_row(scores, [&](Eigen::Index r) { return rows_.row(r).dot(q); });
  }

 private:
  values rows_;
  standardiser scale_;
};

/// The head is dense, ReLU, dense on both features one behind the other (model/fusion.hpp). What a row brings to the
/// hidden layer is computed once, so that a pair costs a sum and a product of that layer's width.
class head_judge final : public row_judge {
 public:
  head_judge(thread_team& team, engine& net, modality searched, feature_rows const& all) : row_judge(team) {
    auto const tensor = [&](std::string const& name, std::size_t width) {
      for (tensor_row const& t : net.facts().tensors)
        if (t.name == "fusion." + name)
          return matrix_of(net.weights().subspan(t.offset, std::accumulate(t.shape.begin(), t.shape.end(),
                                                                           std::size_t{1}, std::multiplies<>())),
                           width);
      throw format_error({"the network's head", "fusion." + name, "none"});
    };
    auto const first = tensor("fc1.weight", 2 * all.width),
               second = tensor("fc2.weight", static_cast<std::size_t>(first.rows()));
    auto const d = static_cast<Eigen::Index>(all.width);
    bool const by_picture = searched == modality::sound;
    query_ = by_picture ? first.leftCols(d) : first.rightCols(d);
    rows_ = matrix_of(all.values, all.width) * (by_picture ? first.rightCols(d) : first.leftCols(d)).transpose();
    rows_.rowwise() += tensor("fc1.bias", static_cast<std::size_t>(first.rows())).row(0);
    last_ = second.row(1) - second.row(0);
    auto const biases = tensor("fc2.bias", 2);
    bias_ = biases(0, 1) - biases(0, 0);
  }
  void operator()(std::span<float const> query, std::span<float> scores) const override {
    Eigen::RowVectorXf const q = matrix_of(query, query.size()) * query_.transpose();
    for_each_row(scores, [&](Eigen::Index r) { return bias_ + (rows_.row(r) + q).cwiseMax(0.0f).dot(last_); });
  }

 private:
  values query_, rows_;  ///< (hidden, features) and (rows, hidden)
  Eigen::RowVectorXf last_;
  float bias_ = 0;
};

}  // namespace

std::unique_ptr<judge const> make_judge(thread_team& team, chosen_network const& network, modality query,
                                        modality searched, feature_rows const& all) {
  if (query == searched) return std::make_unique<likeness_judge>(team, all);
  return std::make_unique<head_judge>(team, *network.l3, searched, all);
}
char const* score_name(modality query, modality searched) {
  return query == searched ? "cosine of z-scores" : "probability that they belong together";
}

std::vector<finding> best_of_files(judge const& by, feature_rows const& asked, std::size_t query,
                                   feature_rows const& rows) {
  std::vector<float> best(rows.count(), -std::numeric_limits<float>::infinity()), scores(rows.count());
  for (std::size_t r = asked.begin(query); r != asked.end(query); ++r) {
    by(asked.row(r), scores);
    for (float const s : scores)
      if (!std::isfinite(s)) throw numeric_error({"scores of files", "finite numbers", std::to_string(s)});
    std::transform(best.begin(), best.end(), scores.begin(), best.begin(),
                   [](float a, float b) { return std::max(a, b); });
  }
  std::vector<finding> all;
  for (std::size_t k = 0; k + 1 != rows.first.size(); ++k) {
    if (rows.begin(k) == rows.end(k)) continue;
    auto const at = [&](std::size_t row) { return best.begin() + static_cast<std::ptrdiff_t>(row); };
    auto const place = std::max_element(at(rows.begin(k)), at(rows.end(k)));
    all.push_back({k, static_cast<std::size_t>(place - at(rows.begin(k))), *place});
  }
  return all;
}

}  // namespace l3::program
