// The Fréchet distance, judged by SciPy's (tests/golden/make_eval_golden.py) and by what is known of it.
#include <fstream>
#include <l3/eval/frechet.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "../support/catch.hpp"

namespace {
using namespace l3;
using nlohmann::json;

/// Files of `each` rows.
struct collection_of_rows {
  std::size_t width;
  std::vector<float> values;
  std::vector<std::int64_t> first{0};

  collection_of_rows(std::size_t width_, std::vector<float> values_, std::size_t each = 1)
      : width(width_), values(std::move(values_)) {
    auto const rows = static_cast<std::int64_t>(values.size() / width);
    while (first.back() < rows) first.push_back(std::min(rows, first.back() + static_cast<std::int64_t>(each)));
  }
  grouped_rows grouped() const { return {values, width, first}; }
  normal_fit fit() const {
    std::vector<std::uint32_t> all(first.size() - 1);
    std::iota(all.begin(), all.end(), 0u);
    return fit_normal(grouped(), all);
  }
};

/// Rows of files that have something of their own: a centre each, and rows around it.
collection_of_rows alike_in_files(std::uint64_t seed, std::size_t files, std::size_t each, std::size_t width,
                                  double shift) {
  std::vector<float> values;
  for (std::uint32_t f = 0; f != files; ++f) {
    generator of_file(seed, stream::user, 0, f);
    std::vector<double> centre(width);
    for (double& c : centre) c = of_file.normal() + shift;
    for (std::uint32_t r = 0; r != each; ++r) {
      generator of_row(seed, stream::user, 1 + r, f);
      for (double const c : centre) values.push_back(static_cast<float>(c + 0.4 * of_row.normal()));
    }
  }
  return {width, std::move(values), each};
}

collection_of_rows drawn(std::uint64_t seed, std::size_t rows, std::size_t width) {
  return alike_in_files(seed, rows, 1, width, 0);
}
collection_of_rows changed(collection_of_rows rows, float factor, float shift) {
  for (float& x : rows.values) x = factor * x + shift;
  return rows;
}
double spread(normal_fit const& fit) { return fit.factor.squaredNorm(); }

}  // namespace

TEST_CASE("the Frechet distance of tested from trained rows is SciPy's") {
  json const golden = json::parse(std::ifstream(L3_SOURCE_DIR "/tests/golden/eval.json"));
  for (json const& set : golden.at("sets")) {
    INFO(set["name"]);
    auto const tested = set["test"].get<std::set<std::size_t>>();
    std::vector<float> test, train;
    std::size_t const width = set["rows"][0].size();
    for (std::size_t k = 0; k != set["rows"].size(); ++k)
      for (json const& x : set["rows"][k]) (tested.contains(k) ? test : train).push_back(x.get<float>());
    normal_fit const a = collection_of_rows(width, test).fit(), b = collection_of_rows(width, train).fit();
    double const expected = set.at("frechet").get<double>();
    CHECK(std::abs(frechet_distance(a, b) - expected) < 1e-5 * expected);
    CHECK(std::abs(frechet_distance(b, a) - expected) < 1e-5 * expected);
  }
}

TEST_CASE("a fit is the rows' mean and covariance, however many there are and however far from zero") {
  for (std::size_t const rows : {2u, 5u, 12u, 13u, 40u, 200u}) {  // fewer than a block, a block, several
    collection_of_rows const of = changed(drawn(1, rows, 4), 1, 100);
    normal_fit const fit = of.fit();
    Eigen::MatrixXd all(static_cast<Eigen::Index>(rows), 4);
    for (std::size_t r = 0; r != rows; ++r)
      for (std::size_t k = 0; k != 4; ++k)
        all(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(k)) = static_cast<double>(of.values[4 * r + k]);
    Eigen::VectorXd const mean = all.colwise().mean();
    Eigen::MatrixXd const apart = all.rowwise() - mean.transpose();
    Eigen::MatrixXd const covariance = apart.transpose() * apart / static_cast<double>(rows - 1);
    CHECK(fit.rows == rows);
    CHECK((fit.mean - mean).norm() < 1e-12 * mean.norm());
    CHECK((fit.factor.transpose() * fit.factor - covariance).norm() < 1e-12 * covariance.norm());
  }
}

TEST_CASE("what is known of the distance holds, with fewer rows than numbers too") {
  for (std::size_t const rows : {5u, 40u, 500u}) {
    INFO(rows << " rows of 40 numbers");
    collection_of_rows const of = drawn(2, rows, 40);
    normal_fit const fit = of.fit();
    CHECK(frechet_distance(fit, fit) < 1e-11 * spread(fit));
    // Moved by 3 along each axis; twice as wide.
    CHECK(std::abs(frechet_distance(fit, changed(of, 1, 3).fit()) - 40 * 9) < 1e-4);
    double const wider = frechet_distance(fit, changed(of, 2, 0).fit()),
                 expected = spread(fit) + fit.mean.squaredNorm();
    CHECK(std::abs(wider - expected) < 1e-9 * expected);
    // Units are the square of the rows'.
    collection_of_rows const other = drawn(3, 300, 40);
    double const apart = frechet_distance(fit, other.fit());
    CHECK(apart > 0);
    for (float const factor : {0x1p-60f, 0x1p40f}) {
      double const scaled = frechet_distance(changed(of, factor, 0).fit(), changed(other, factor, 0).fit());
      CHECK(std::abs(scaled / (static_cast<double>(factor) * static_cast<double>(factor)) - apart) < 1e-9 * apart);
    }
  }
  collection_of_rows const still(3, std::vector<float>(30, 7.0f)), elsewhere(3, std::vector<float>(30, 9.0f));
  CHECK(std::abs(frechet_distance(still.fit(), elsewhere.fit()) - 12) < 1e-12);
}

TEST_CASE("with whole files halved most of the bias of few files goes, whatever number of threads counts") {
  constexpr std::size_t width = 16;
  double const shift = 0.1, truth = width * shift * shift;
  double bias = 0, left = 0;
  for (std::uint64_t seed = 0; seed != 6; ++seed) {
    auto const a = alike_in_files(100 + seed, 60, 8, width, shift), b = alike_in_files(200 + seed, 90, 8, width, 0);
    thread_team one(1), three(3);
    collection_distance const apart = frechet_of_collections(one, a.grouped(), b.grouped(), 4, seed);
    collection_distance const again = frechet_of_collections(three, a.grouped(), b.grouped(), 4, seed);
    REQUIRE(apart.endless.has_value());
    CHECK(apart.distance == frechet_distance(a.fit(), b.fit()));
    CHECK(again.distance == apart.distance);
    CHECK(again.endless == apart.endless);
    CHECK(again.halves_deviation == apart.halves_deviation);
    CHECK(frechet_of_collections(one, a.grouped(), b.grouped(), 4, seed + 1).halves != apart.halves);
    bias += (apart.distance - truth) / 6, left += (*apart.endless - truth) / 6;
  }
  INFO("true " << truth << ", bias " << bias << ", left " << left);
  CHECK(bias > truth);
  CHECK(std::abs(left) < bias / 4);
}

TEST_CASE("with fewer files than numbers in a row some of the bias goes") {
  auto const a = alike_in_files(1, 40, 8, 64, 0), b = alike_in_files(2, 40, 8, 64, 0);  // 0 apart
  thread_team team;
  collection_distance const apart = frechet_of_collections(team, a.grouped(), b.grouped(), 4, 0);
  CHECK(apart.halves < 2 * apart.distance);  // so the estimate stays above the truth,
  CHECK(apart.halves > apart.distance);      // and below the distance
  CHECK(apart.endless == 2 * apart.distance - apart.halves);
}

TEST_CASE("files without rows do not count, and few files are not halved") {
  collection_of_rows many = drawn(5, fewest_to_halve, 3), few = drawn(6, fewest_to_halve - 1, 3);
  thread_team team(1);
  CHECK(frechet_of_collections(team, many.grouped(), many.grouped(), 1, 0).endless.has_value());
  CHECK_FALSE(frechet_of_collections(team, many.grouped(), many.grouped(), 0, 0).endless.has_value());
  CHECK_FALSE(frechet_of_collections(team, many.grouped(), few.grouped(), 1, 0).endless.has_value());
  double const before = frechet_of_collections(team, few.grouped(), many.grouped(), 1, 0).distance;
  few.first.insert(few.first.begin() + 3, few.first[3]);  // a file that was refused
  collection_distance const after = frechet_of_collections(team, few.grouped(), many.grouped(), 1, 0);
  CHECK(after.distance == before);
  CHECK_FALSE(after.endless.has_value());
}

TEST_CASE("rows that cannot be fitted or compared are said") {
  CHECK_THROWS_AS(drawn(1, 1, 3).fit(), shape_error);
  CHECK_THROWS_AS(frechet_distance(drawn(1, 5, 3).fit(), drawn(1, 5, 4).fit()), shape_error);
  for (float const bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    collection_of_rows rows = drawn(1, 5, 3);
    rows.values[7] = bad;
    CHECK_THROWS_AS(rows.fit(), numeric_error);
  }
}
