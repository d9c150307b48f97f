/// @file  include/l3/train/softmax_head.hpp: the last layer of a classifier, with as many units as there are classes: a
/// dense layer, softmax, cross-entropy and its own Adam.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <l3/core/memory.hpp>
#include <l3/core/random.hpp>
#include <l3/kernels/kernels.hpp>
#include <span>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// How well a batch was classified. Chance is a loss of ln(classes).
struct class_score {
  double loss = 0;
  double accuracy = 0;
};

/// The last layer's weights and biases, and the optimizer's averages of their gradients. All memory is taken at
/// construction.
///
/// Shapes  W (classes, inputs), b (classes).
template <class Scalar>
class softmax_weights {
 public:
  /// Errors  setting_error: fewer than two classes.
  softmax_weights(std::size_t inputs, std::size_t classes)
      : inputs_(inputs), classes_(classes), values_(3 * room() * sizeof(Scalar)) {
    if (classes < 2) throw setting_error({"classes", "at least two", std::to_string(classes)});
  }

  std::size_t inputs() const { return inputs_; }
  std::size_t classes() const { return classes_; }
  dense_dims dims(std::size_t rows) const { return {rows, inputs_, classes_}; }
  std::span<Scalar> weights() { return {at(0), classes_ * inputs_}; }
  std::span<Scalar> biases() { return {at(0) + bias_offset(), classes_}; }
  std::span<Scalar const> weights() const { return {at(0), classes_ * inputs_}; }
  std::span<Scalar const> biases() const { return {at(0) + bias_offset(), classes_}; }
  /// Weights, then (rounded up to whole cache lines) biases; averages of the gradients and of their squares, likewise.
  std::span<Scalar> values() { return {at(0), room()}; }
  std::span<Scalar> first_moments() { return {at(1), room()}; }
  std::span<Scalar> second_moments() { return {at(2), room()}; }
  std::size_t bias_offset() const { return round_up(classes_ * inputs_, alignment / sizeof(float)); }
  std::size_t room() const { return bias_offset() + round_up(classes_, alignment / sizeof(float)); }

  /// Weights normal with deviation sqrt(2 / inputs), biases 0, moments 0. `place` keeps heads of one seed apart.
  void initialise(std::uint64_t seed, std::uint64_t place) {
    std::fill_n(at(0), 3 * room(), Scalar{0});
    double const deviation = std::sqrt(2.0 / static_cast<double>(inputs_));
    auto const w = weights();
    for (std::size_t i = 0; i != w.size(); ++i)
      w[i] = static_cast<Scalar>(deviation *
                                 generator(seed, stream::weights, place, static_cast<std::uint32_t>(i)).normal());
  }

  /// Throws setting_error for a label that is no class.
  void require_labels(std::span<std::int32_t const> labels) const {
    for (auto const label : labels)
      if (label < 0 || static_cast<std::size_t>(label) >= classes_)
        throw setting_error({"label", "0 to " + std::to_string(classes_ - 1), std::to_string(label)});
  }

 private:
  Scalar* at(std::size_t which) { return reinterpret_cast<Scalar*>(values_.data()) + which * room(); }
  Scalar const* at(std::size_t which) const { return reinterpret_cast<Scalar const*>(values_.data()) + which * room(); }

  std::size_t inputs_, classes_;
  arena values_;
};

/// Scores = W x + b, trained by the mean cross-entropy of their softmax. The number of classes is known at run time.
/// All memory is taken at construction.
///
/// Shapes  x (rows, inputs), scores (rows, classes).
/// Source  torch.nn.Linear, torch.nn.functional.cross_entropy, torch.optim.Adam.
template <backend B>
class softmax_head : public softmax_weights<scalar_of<B>> {
 public:
  using scalar = scalar_of<B>;
  using base = softmax_weights<scalar>;
  using base::bias_offset;
  using base::dims;

  /// Errors  setting_error: fewer than two classes.
  softmax_head(context<B>& on, std::size_t inputs, std::size_t classes, std::size_t most_rows)
      : base(inputs, classes),
        most_rows_(most_rows),
        gradients_(this->room() * sizeof(scalar)),
        scores_(most_rows * classes),
        dscores_(most_rows * classes),
        shares_(most_rows),
        scratch_(std::max(scratch_size<B>::dense(dims(0)).bytes(most_rows, on.threads()),
                          scratch_size<B>::channels(classes, 1).bytes(most_rows, on.threads()))) {}

  /// Of the last backward, laid out as the values.
  std::span<scalar const> gradients() const {
    return {reinterpret_cast<scalar const*>(gradients_.data()), this->room()};
  }

  /// Scores of rows.
  void scores(context<B>& on, std::size_t rows, scalar const* x, scalar* out) {
    dense_forward(on, dims(rows), x, this->weights().data(), this->biases().data(), out, scratch_.data());
  }

  /// Throws shape_error if there is no room for so many rows, setting_error for a label that is no class.
  void require_labels(std::span<std::int32_t const> labels) const {
    if (labels.empty() || labels.size() > most_rows_)
      throw shape_error({"rows of a classifier", "1 to " + std::to_string(most_rows_), std::to_string(labels.size())});
    base::require_labels(labels);
  }
  /// Loss of a batch, kept for `backward`. Errors: as require_labels.
  class_score forward(context<B>& on, scalar const* x, std::span<std::int32_t const> labels) {
    require_labels(labels);
    scores(on, labels.size(), x, scores_.data());
    std::fill_n(shares_.begin(), labels.size(), static_cast<scalar>(1.0 / static_cast<double>(labels.size())));
    class_score score;
    score.loss = softmax_cross_entropy(on, labels.size(), this->classes(), scores_.data(), labels.data(),
                                       shares_.data(), dscores_.data());
    for (std::size_t row = 0; row != labels.size(); ++row) {
      scalar const* const s = scores_.data() + row * this->classes();
      score.accuracy += std::max_element(s, s + this->classes()) - s == labels[row];
    }
    score.accuracy /= static_cast<double>(labels.size());
    return score;
  }
  /// Gradients of the last forward's weights and, unless null, of its rows.
  void backward(context<B>& on, std::size_t rows, scalar const* x, scalar* dx) {
    dense_backward_weights(on, dims(rows), x, dscores_.data(), dw(), scratch_.data());
    channel_sums(on, rows, this->classes(), dscores_.data(), dw() + bias_offset(), scratch_.data());
    if (dx != nullptr)
      dense_backward_data(on, dims(rows), dscores_.data(), this->weights().data(), dx, scratch_.data());
  }
  bool finite(context<B>& on) {
    return all_finite(on, this->weights().size(), dw()) && all_finite(on, this->classes(), dw() + bias_offset());
  }
  /// One step of Adam on them; weight decay touches the weights alone.
  void step(context<B>& on, adam_settings settings) {
    scalar *const w = this->values().data(), *const m = this->first_moments().data();
    scalar* const v = this->second_moments().data();
    adam_update(on, settings, this->weights().size(), dw(), w, m, v);
    settings.weight_decay = 0;
    std::size_t const b = bias_offset();
    adam_update(on, settings, this->classes(), dw() + b, w + b, m + b, v + b);
  }

 private:
  scalar* dw() { return reinterpret_cast<scalar*>(gradients_.data()); }

  std::size_t most_rows_;
  arena gradients_;
  std::vector<scalar> scores_, dscores_, shares_;
  arena scratch_;
};

}  // namespace l3::inline L3_ISA
