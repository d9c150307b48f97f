/// @file  bench/eval/svm_bench.cpp: support vector machines on features like those of an audio probe, beside
/// liblinear's (one thread), which must reach the same objective before anything is timed.
#include <l3/eval/linear_svm.hpp>

#include "../kernels/kernel_bench.hpp"
#ifdef L3_HAS_LIBLINEAR
#include <linear.h>
#endif

namespace {
using namespace l3;
using namespace l3::bench;

struct features {
  std::size_t rows, width, classes;
  std::vector<float> x;
  std::vector<std::int32_t> labels;

  /// Rows scattered around a mean for each class, as z-scores are.
  features(std::size_t n, std::size_t d, std::size_t k) : rows(n), width(d), classes(k), x(n * d), labels(n) {
    for (std::size_t r = 0; r != rows; ++r) {
      labels[r] = static_cast<std::int32_t>(r % classes);
      generator mean(1, stream::user, 0, static_cast<std::uint32_t>(labels[r]));
      generator noise(1, stream::user, 1, static_cast<std::uint32_t>(r));
      for (std::size_t c = 0; c != width; ++c)
        x[r * width + c] = static_cast<float>(0.1 * mean.normal() + noise.normal());
    }
  }
};

constexpr double cost = 1e-3, tolerance = 0.01;

template <class Weight>
double objective(features const& f, Weight&& weight) {
  double sum = 0;
  for (std::size_t c = 0; c != f.classes; ++c) {
    for (std::size_t k = 0; k <= f.width; ++k) sum += weight(c, k) * weight(c, k) / 2;
    for (std::size_t r = 0; r != f.rows; ++r) {
      double score = weight(c, f.width);
      for (std::size_t k = 0; k != f.width; ++k) score += weight(c, k) * static_cast<double>(f.x[r * f.width + k]);
      double const short_of = std::max(0.0, 1 - (f.labels[r] == static_cast<std::int32_t>(c) ? score : -score));
      sum += cost * short_of * short_of;
    }
  }
  return sum;
}

linear_svm ours(features const& f, std::size_t threads) {
  thread_team team(threads);
  return linear_svm(team, f.x, f.width, f.labels, f.classes, {.cost = cost, .tolerance = tolerance});
}

#ifdef L3_HAS_LIBLINEAR
/// liblinear's machines, its rows made once.
class judge {
 public:
  explicit judge(features const& f) : f_(f), labels_(f.labels.begin(), f.labels.end()), nodes_(f.rows * (f.width + 2)) {
    for (std::size_t r = 0; r != f.rows; ++r) {
      ::feature_node* const row = nodes_.data() + r * (f.width + 2);
      rows_.push_back(row);
      for (std::size_t k = 0; k != f.width; ++k)
        row[k] = {static_cast<int>(k + 1), static_cast<double>(f.x[r * f.width + k])};
      row[f.width] = {static_cast<int>(f.width + 1), 1};
      row[f.width + 1] = {-1, 0};
    }
    ::set_print_string_function([](char const*) {});
  }
  ~judge() { ::free_and_destroy_model(&model_); }
  judge(judge const&) = delete;
  judge& operator=(judge const&) = delete;

  void train() {
    ::free_and_destroy_model(&model_);
    ::problem p{};
    p.l = static_cast<int>(f_.rows), p.n = static_cast<int>(f_.width + 1), p.bias = 1;
    p.y = labels_.data(), p.x = rows_.data();
    ::parameter s{};
    s.solver_type = L2R_L2LOSS_SVC_DUAL, s.C = cost, s.eps = tolerance;
    model_ = ::train(&p, &s);
  }
  double weight(std::size_t c, std::size_t k) const {
    std::size_t place = 0;
    while (model_->label[place] != static_cast<int>(c)) ++place;
    return model_->w[k * f_.classes + place];
  }

 private:
  features const& f_;
  std::vector<double> labels_;
  std::vector<::feature_node> nodes_;
  std::vector<::feature_node*> rows_;
  ::model* model_ = nullptr;
};
#endif

void add_set(std::string const& name, std::size_t rows, std::size_t width, std::size_t classes) {
  for (std::size_t threads : {std::size_t{1}, thread_team().size()})
    benchmark::RegisterBenchmark(("l3/" + name + "/threads:" + std::to_string(threads)).c_str(),
                                 [=](benchmark::State& state) {
                                   features const f(rows, width, classes);
                                   for (auto _ : state) state.counters["passes"] = double(ours(f, threads).epochs());
                                 })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
#ifdef L3_HAS_LIBLINEAR
  benchmark::RegisterBenchmark(
      ("liblinear/" + name).c_str(),
      [=](benchmark::State& state) {
        features const f(rows, width, classes);
        judge theirs(f);
        theirs.train();
        auto const svm = ours(f, 0);
        double const a = objective(
            f, [&](std::size_t c, std::size_t k) { return double(k == width ? svm.bias(c) : svm.weights(c)[k]); });
        double const b = objective(f, [&](std::size_t c, std::size_t k) { return theirs.weight(c, k); });
        if (std::abs(a - b) > 2e-3 * b) {
          std::cerr << name << ": expected liblinear's objective " << b << ", found " << a << '\n';
          std::exit(1);
        }
        for (auto _ : state) theirs.train();
      })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
#endif
}
}  // namespace

int main(int argc, char** argv) {
  add_set("small", 1000, 256, 10);
  add_set("esc50_fifth", 3600, 1536, 50);
  return run(argc, argv);
}
