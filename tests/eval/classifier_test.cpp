// Classifiers and clusterings, judged by scikit-learn's numbers (tests/golden/make_eval_golden.py) and liblinear.
#include <fstream>
#include <l3/eval/clustering.hpp>
#include <l3/eval/colour_map.hpp>
#include <l3/eval/confusion.hpp>
#include <l3/eval/folds.hpp>
#include <l3/eval/linear_svm.hpp>
#include <l3/eval/ranking.hpp>
#include <l3/eval/roc.hpp>
#include <l3/eval/standardise.hpp>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#if __has_include(<linear.h>) && defined(L3_HAS_LIBLINEAR)
#include <linear.h>
#endif

#include "../support/catch.hpp"

namespace {
using namespace l3;
using nlohmann::json;

json const& golden() {
  static json const numbers = json::parse(std::ifstream(L3_SOURCE_DIR "/tests/golden/eval.json"));
  return numbers;
}

/// One of scikit-learn's sets, z-scored by its training rows.
struct sample_set {
  std::size_t width, classes;
  std::vector<float> all, train, test;
  std::vector<std::int32_t> labels, train_labels, test_labels;
  std::vector<std::uint32_t> trained;
  explicit sample_set(json const& from) : width(from["rows"][0].size()), classes(from["clusters"]) {
    from["labels"].get_to(labels);
    for (json const& row : from["rows"])
      for (json const& x : row) all.push_back(x.get<float>());
    std::set<std::uint32_t> const tested = from["test"].get<std::set<std::uint32_t>>();
    for (std::uint32_t k = 0; k != labels.size(); ++k)
      if (!tested.contains(k)) trained.push_back(k);
    standardiser const scale(all, width, trained);
    for (std::uint32_t k = 0; k != labels.size(); ++k) {
      std::vector<float> row(width);
      scale(all.data() + k * width, row.data());
      auto& to = tested.contains(k) ? test : train;
      to.insert(to.end(), row.begin(), row.end());
      (tested.contains(k) ? test_labels : train_labels).push_back(labels[k]);
    }
  }
  double accuracy(linear_svm const& svm) const {
    std::size_t right = 0;
    for (std::size_t k = 0; k != test_labels.size(); ++k) {
      std::vector<double> scores(classes);
      svm.add_scores(test.data() + k * width, scores);
      right += std::max_element(scores.begin(), scores.end()) - scores.begin() == test_labels[k];
    }
    return static_cast<double>(right) / static_cast<double>(test_labels.size());
  }
  /// What the machines minimise.
  template <class Weight>
  double objective(double cost, Weight&& weight) const {  // weight(class, width) is the bias
    double sum = 0;
    for (std::size_t c = 0; c != classes; ++c) {
      for (std::size_t k = 0; k <= width; ++k) sum += weight(c, k) * weight(c, k) / 2;
      for (std::size_t r = 0; r != train_labels.size(); ++r) {
        double f = weight(c, width);
        for (std::size_t k = 0; k != width; ++k) f += weight(c, k) * static_cast<double>(train[r * width + k]);
        double const short_of = std::max(0.0, 1 - (train_labels[r] == static_cast<std::int32_t>(c) ? f : -f));
        sum += cost * short_of * short_of;
      }
    }
    return sum;
  }
  double objective(double cost, linear_svm const& svm) const {
    return objective(cost, [&](std::size_t c, std::size_t k) {
      return static_cast<double>(k == width ? svm.bias(c) : svm.weights(c)[k]);
    });
  }
};
}  // namespace

TEST_CASE("z-scores are scikit-learn's") {
  for (json const& from : golden()["sets"]) {
    sample_set const set(from);
    standardiser const scale(set.all, set.width, set.trained);
    std::vector<float> row(set.width);
    scale(set.all.data(), row.data());
    for (std::size_t k = 0; k != set.width; ++k) {
      double const mean = from["mean"][k], spread = from["scale"][k];
      CHECK(static_cast<double>(row[k]) == Approx((static_cast<double>(set.all[k]) - mean) / spread).margin(1e-5));
    }
  }
  // A constant in float32 that is none in binary, and a value that is no number.
  std::vector<float> rows{0.1f, 1, 0.1f, 2, 0.1f, 3};
  std::vector<std::uint32_t> const which{0, 1, 2}, none;
  standardiser const scale(rows, 2, which);
  CHECK(scale.constant() == 1);
  std::vector<float> out(2);
  scale(rows.data(), out.data());
  CHECK(out[0] == 0);
  CHECK(out[1] == Approx(-std::sqrt(1.5)));
  CHECK_THROWS_AS(standardiser(rows, 2, none), shape_error);
  rows[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(standardiser(rows, 2, which), numeric_error);
}

TEST_CASE("support vector machines reach scikit-learn's objective and accuracy") {
  for (json const& from : golden()["sets"]) {
    sample_set const set(from);
    for (json const& judge : from["svms"]) {
      double const cost = judge["cost"];
      CAPTURE(from["name"].get<std::string>(), cost);
      thread_team team(2);
      linear_svm const svm(team, set.train, set.width, set.train_labels, set.classes,
                           {.cost = cost, .tolerance = 1e-3, .most_epochs = 20000});
      CHECK(svm.converged());
      CHECK(set.objective(cost, svm) == Approx(judge["objective"].get<double>()).epsilon(1e-3));
      CHECK(set.accuracy(svm) == Approx(judge["accuracy"].get<double>()).margin(0.01));
    }
  }
}

#ifdef L3_HAS_LIBLINEAR
TEST_CASE("support vector machines agree with liblinear") {
  for (json const& from : golden()["sets"]) {
    sample_set const set(from);
    double const cost = 0.1;
    std::vector<std::vector<feature_node>> nodes;
    std::vector<feature_node*> rows;
    std::vector<double> labels(set.train_labels.begin(), set.train_labels.end());
    for (std::size_t r = 0; r != set.train_labels.size(); ++r) {
      nodes.emplace_back();
      for (std::size_t k = 0; k != set.width; ++k)
        nodes.back().push_back({static_cast<int>(k + 1), static_cast<double>(set.train[r * set.width + k])});
      nodes.back().push_back({static_cast<int>(set.width + 1), 1});
      nodes.back().push_back({-1, 0});
    }
    for (auto& row : nodes) rows.push_back(row.data());
    ::problem p{};
    p.l = static_cast<int>(rows.size()), p.n = static_cast<int>(set.width + 1), p.bias = 1;
    p.y = labels.data(), p.x = rows.data();
    ::parameter s{};
    s.solver_type = L2R_L2LOSS_SVC_DUAL, s.C = cost, s.eps = 1e-4;
    set_print_string_function([](char const*) {});
    ::model* const judge = ::train(&p, &s);
    thread_team team(2);
    linear_svm const svm(team, set.train, set.width, set.train_labels, set.classes,
                         {.cost = cost, .tolerance = 1e-4, .most_epochs = 20000});
    double const liblinear = set.objective(cost, [&](std::size_t c, std::size_t k) {
      std::size_t place = 0;
      while (judge->label[place] != static_cast<int>(c)) ++place;
      return judge->w[k * set.classes + place];
    });
    CAPTURE(from["name"].get<std::string>());
    CHECK(set.objective(cost, svm) == Approx(liblinear).epsilon(1e-4));
    ::model* freed = judge;
    free_and_destroy_model(&freed);
  }
}
#endif

TEST_CASE("support vector machines of many classes are the same bits on any number of threads") {
  constexpr std::size_t classes = 37, width = 21, rows = 300;
  std::vector<float> x(rows * width);
  std::vector<std::int32_t> labels(rows);
  for (std::size_t r = 0; r != rows; ++r) {
    labels[r] = static_cast<std::int32_t>(r % classes);
    generator random(5, stream::user, r, 0);
    for (std::size_t k = 0; k != width; ++k)
      x[r * width + k] = static_cast<float>(random.normal() + (k == r % width ? 2.0 : 0.0));
  }
  auto const trained = [&](std::size_t threads) {
    thread_team team(threads);
    linear_svm const svm(team, x, width, labels, classes, {.cost = 0.01});
    std::vector<float> all;
    for (std::size_t c = 0; c != classes; ++c) {
      all.insert(all.end(), svm.weights(c).begin(), svm.weights(c).end());
      all.push_back(svm.bias(c));
    }
    return all;
  };
  auto const one = trained(1);
  CHECK(one == trained(2));
  CHECK(one == trained(5));
}

TEST_CASE("machines that cannot be trained say why") {
  thread_team team(1);
  std::vector<float> const x{1, 2, 3, 4};
  std::vector<std::int32_t> const labels{0, 1}, one_kind{0, 0}, beyond{0, 2};
  CHECK_THROWS_AS(linear_svm(team, x, 3, labels, 2), shape_error);
  CHECK_THROWS_WITH(linear_svm(team, x, 2, one_kind, 2), Contains("class 1"));
  CHECK_THROWS_AS(linear_svm(team, x, 2, beyond, 2), setting_error);
  CHECK_THROWS_AS(linear_svm(team, x, 2, one_kind, 1), setting_error);
  CHECK_THROWS_AS(linear_svm(team, x, 2, labels, 2, {.cost = 0}), setting_error);
  CHECK_FALSE(linear_svm(team, x, 2, labels, 2, {.cost = 1e6, .tolerance = 1e-9, .most_epochs = 2}).converged());
}

TEST_CASE("rankings are judged as scikit-learn judges them, ties included") {
  for (json const& given : golden()["rankings"]) {
    std::vector<scored> things;
    for (std::size_t k = 0; k != given["scores"].size(); ++k)
      things.push_back({given["scores"][k], given["labels"][k] == 1});
    for (auto const& [top, value] : given["ndcg"].items()) {
      CAPTURE(things.size(), top);
      CHECK(ndcg(things, std::stoul(top)) == Approx(value.get<double>()).epsilon(1e-12));
    }
  }
  std::vector<scored> const best{{2, true}, {1, true}, {0, false}}, worst{{0, false}, {1, false}, {-1, true}};
  CHECK(ndcg(best, 3) == Approx(1));
  CHECK(ndcg(worst, 2) == 0);
  CHECK(ndcg(worst, 3) == Approx(0.5));  // 1 / log2(4)
  CHECK_THROWS_AS(ndcg({}, 3), setting_error);
  CHECK_THROWS_AS(ndcg(best, 0), setting_error);
  std::vector<scored> const none{{1, false}}, unclear{{std::nan(""), true}};
  CHECK_THROWS_AS(ndcg(none, 1), setting_error);
  CHECK_THROWS_AS(ndcg(unclear, 1), setting_error);
}

TEST_CASE("the area under the curve is scikit-learn's, ties and all") {
  json const& from = golden()["roc"];
  std::vector<scored> pairs;
  for (std::size_t k = 0; k != from["scores"].size(); ++k) pairs.push_back({from["scores"][k], from["labels"][k] == 1});
  auto const curve = roc_curve(pairs);
  CHECK(roc_area(curve) == Approx(from["auc"].get<double>()).epsilon(1e-12));
  CHECK(curve.front().true_positives == 0);
  CHECK(curve.back().true_positives == 1);
  CHECK(curve.back().false_positives == 1);
  auto const few = thinned(curve, 5);
  CHECK(few.size() == 5);
  CHECK(few.back().false_positives == 1);
}

TEST_CASE("the best threshold tells positives from negatives where they can be told") {
  std::vector<scored> const pairs{{0.9, true}, {0.8, true}, {0.3, false}, {0.8, true}, {0.1, false}};
  auto const best = best_point(roc_curve(pairs));
  CHECK(best.threshold == 0.8);
  CHECK(best.balanced_accuracy() == 1);
  std::vector<scored> const one_kind{{0.9, true}}, not_numbers{{std::nan(""), true}, {1, false}};
  CHECK_THROWS_AS(roc_curve(one_kind), setting_error);
  CHECK_THROWS_AS(roc_curve(not_numbers), setting_error);
}

TEST_CASE("mutual information is scikit-learn's, adjusted and not") {
  for (json const& from : golden()["clusterings"]) {
    auto const a = from["a"].get<std::vector<std::int32_t>>(), b = from["b"].get<std::vector<std::int32_t>>();
    agreement const found = compare_clusterings(a, b), other_way = compare_clusterings(b, a);
    CHECK(found.nmi == Approx(from["nmi"].get<double>()).margin(1e-9));
    CHECK(found.ami == Approx(from["ami"].get<double>()).margin(1e-9));
    CHECK(found.ami == Approx(other_way.ami).margin(1e-9));
  }
  std::vector<std::int32_t> const none, one{0};
  CHECK_THROWS_AS(compare_clusterings(none, none), shape_error);
  CHECK_THROWS_AS(compare_clusterings(one, none), shape_error);
}

TEST_CASE("k-means is as tight as scikit-learn's, on any number of threads") {
  for (json const& from : golden()["sets"]) {
    sample_set const set(from);
    std::vector<std::uint32_t> every(set.labels.size());
    std::iota(every.begin(), every.end(), 0u);
    standardiser const scale(set.all, set.width, every);
    std::vector<float> rows(set.all.size());
    for (std::size_t k = 0; k != every.size(); ++k) scale(set.all.data() + k * set.width, rows.data() + k * set.width);
    context<cpu> two(2), one(1);
    kmeans_settings const settings{.clusters = set.classes, .starts = 50, .seed = 7};
    auto const found = kmeans(two, std::span<float const>(rows), set.width, settings);
    CAPTURE(from["name"].get<std::string>());
    CHECK(found.inertia < 1.005 * from["inertia"].get<double>());
    CHECK(found.cluster == kmeans(one, std::span<float const>(rows), set.width, settings).cluster);
    context<reference<float>> plain(1);
    CHECK(kmeans(plain, std::span<float const>(rows), set.width, settings).inertia ==
          Approx(found.inertia).epsilon(0.01));
  }
  context<cpu> on(1);
  std::vector<float> const two_rows{1, 2};
  CHECK_THROWS_AS(kmeans(on, std::span<float const>(two_rows), 1, {.clusters = 3}), setting_error);
  CHECK_THROWS_AS(kmeans(on, std::span<float const>(two_rows), 1, {.clusters = 0}), setting_error);
  CHECK_THROWS_WITH(kmeans(on, std::span<float const>(two_rows), 1, {.clusters = 1, .starts = 0}),
                    Contains("starts and rounds of k-means: expected at least 1"));
  CHECK_THROWS_AS(kmeans(on, std::span<float const>(two_rows), two_rows.size() + 1, {.clusters = 1}), shape_error);
  std::vector<float> const odd{0, std::numeric_limits<float>::quiet_NaN()};
  CHECK_THROWS_AS(kmeans(on, std::span<float const>(odd), 1, {.clusters = 1}), numeric_error);
  std::vector<std::int32_t> const noise{0, -1}, sorted{0, 1};
  CHECK_THROWS_AS(compare_clusterings(noise, sorted), shape_error);
  std::vector<float> const same(12, 1.0f);  // nothing to tell apart: still an answer
  CHECK(kmeans(on, std::span<float const>(same), 2, {.clusters = 3}).inertia == 0);
  // Far from the origin, too: two heaps of steps of 1/64, which a float holds there.
  for (float const offset : {0.0f, 1e3f, 1e5f}) {
    std::vector<float> heaps;
    double exact = 0;
    for (int k = 0; k != 64; ++k) {
      float const around = static_cast<float>(k % 8 - 4) / 64 + 0.5f / 64;
      exact += static_cast<double>(around) * static_cast<double>(around);
      heaps.push_back(offset + around + (k % 2 == 0 ? -1.0f : 1.0f));
    }
    auto const told = kmeans(on, std::span<float const>(heaps), 1, {.clusters = 2});
    for (std::size_t k = 2; k != heaps.size(); ++k) CHECK(told.cluster[k] == told.cluster[k % 2]);
    CHECK(told.cluster[0] != told.cluster[1]);
    CHECK(told.inertia > 0);
    CHECK(told.inertia < 1.01 * exact);
  }
}

TEST_CASE("folds are of one size, hold every class and keep groups together") {
  std::vector<std::int32_t> labels;
  std::vector<std::uint32_t> groups;
  for (std::uint32_t k = 0; k != 120; ++k)
    labels.push_back(static_cast<std::int32_t>(k % 4)), groups.push_back(k / 8 * 4 + k % 4);
  auto const check = [&](std::vector<std::uint32_t> const& fold_of) {
    for (std::uint32_t f = 0; f != 5; ++f)
      for (std::int32_t c = 0; c != 4; ++c) {
        std::size_t count = 0;
        for (std::size_t k = 0; k != labels.size(); ++k) count += fold_of[k] == f && labels[k] == c;
        CHECK(count == 6);
      }
  };
  auto const alone = stratified_folds(labels, {}, 5, 1), grouped = stratified_folds(labels, groups, 5, 1);
  check(alone);
  check(grouped);
  for (std::size_t k = 0; k != labels.size(); ++k)
    for (std::size_t m = 0; m != k; ++m)
      if (groups[k] == groups[m]) CHECK(grouped[k] == grouped[m]);
  CHECK(alone == stratified_folds(labels, {}, 5, 1));
  CHECK(alone != stratified_folds(labels, {}, 5, 2));
  std::vector<std::int32_t> const few{0, 1};
  CHECK_THROWS_AS(stratified_folds(few, {}, 3, 1), setting_error);
  CHECK_THROWS_AS(stratified_folds(labels, std::vector<std::uint32_t>{1, 2, 3}, 2, 1), shape_error);
  CHECK_THROWS_AS(stratified_folds(few, {}, 1, 1), setting_error);
}

TEST_CASE("confusion counts what was taken for what") {
  confusion_matrix m(3), other(3);
  m.add(0, 0), m.add(0, 1), m.add(2, 2), other.add(1, 1);
  m.add(other);
  CHECK(m.at(0, 1) == 1);
  CHECK(m.of_class(0) == 2);
  CHECK(m.of_class(1) == 1);
  CHECK(m.at(2, 2) == 1);
}

TEST_CASE("the colour map's lightness rises evenly") {
  // CIE lightness of sRGB, by the standard's own formula.
  auto const lightness = [](std::array<std::uint8_t, 3> const& c) {
    auto const linear = [](std::uint8_t v) {
      double const x = v / 255.0;
      return x <= 0.04045 ? x / 12.92 : std::pow((x + 0.055) / 1.055, 2.4);
    };
    double const y = 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
    return y > 216.0 / 24389 ? 116 * std::cbrt(y) - 16 : 24389.0 / 27 * y;
  };
  double const low = lightness(perceptual_colour(0)), high = lightness(perceptual_colour(1));
  CHECK(high - low > 70);
  for (int k = 1; k <= 32; ++k) {
    double const step = lightness(perceptual_colour(k / 32.0)) - lightness(perceptual_colour((k - 1) / 32.0));
    CHECK(step > 0.4 * (high - low) / 32);
    CHECK(step < 1.8 * (high - low) / 32);
  }
  CHECK(perceptual_colour(-1) == perceptual_colour(0));
  CHECK(perceptual_colour(2) == perceptual_colour(1));
  CHECK(perceptual_colour(std::nan("")) == perceptual_colour(0));
}
