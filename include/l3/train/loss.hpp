/// @file  include/l3/train/loss.hpp: softmax cross-entropy over the pairs of a batch.
#pragma once
#include <cstdint>
#include <l3/kernels/kernels.hpp>
#include <span>
#include <vector>

namespace l3::inline L3_ISA {

/// How well a batch was told apart. Chance is a loss of ln 2 = 0.693 and an accuracy of 0.5.
struct pair_score {
  double loss = 0;
  double accuracy = 0;  ///< mean of the shares of positives and of negatives that were told right
};

/// The loss of audio-visual correspondence.
///
/// pairing::paper: the mean of -log softmax(logits)[label] over the batch's pairs.
/// pairing::all: half the mean over the N positives (frame i with sound i) plus half the mean over the N (N - 1)
/// negatives (frame i with sound j): both labels weigh the same, as in the paper's balanced batches. Source
/// Arandjelović & Zisserman (ICCV 2017), section 3.
template <backend B>
class pair_loss {
 public:
  using scalar = scalar_of<B>;
  explicit pair_loss(std::size_t max_rows) { labels_.reserve(max_rows), weights_.reserve(max_rows); }

  /// Loss and accuracy of (rows, 2) logits of `count` items; their gradient goes to `dlogits`.
  /// With pairing::paper `labels` has an entry an item (1 corresponds); with pairing::all it is not read.
  pair_score operator()(context<B>& on, pairing which, std::size_t count, std::span<std::int32_t const> labels,
                        scalar const* logits, scalar* dlogits) {
    prepare(which, count, labels);
    pair_score score;
    score.loss = softmax_cross_entropy(on, labels_.size(), 2, logits, labels_.data(), weights_.data(), dlogits);
    std::size_t right[2] = {0, 0}, total[2] = {0, 0};
    for (std::size_t row = 0; row < labels_.size(); ++row) {
      auto const label = static_cast<std::size_t>(labels_[row]);
      ++total[label];
      right[label] += logits[2 * row + label] > logits[2 * row + 1 - label];
    }
    int kinds = 0;
    for (int label : {0, 1})
      if (total[label] > 0) {
        score.accuracy += static_cast<double>(right[label]) / static_cast<double>(total[label]);
        ++kinds;
      }
    score.accuracy /= kinds;
    return score;
  }

 private:
  void prepare(pairing which, std::size_t count, std::span<std::int32_t const> labels) {
    auto const n = static_cast<double>(count);
    if (which == pairing::paper) {
      labels_.assign(labels.begin(), labels.end());
      weights_.assign(count, static_cast<scalar>(1 / n));
      return;
    }
    labels_.assign(count * count, 0);
    weights_.assign(count * count, static_cast<scalar>(count > 1 ? 0.5 / (n * (n - 1)) : 0.0));
    for (std::size_t k = 0; k < count; ++k)
      labels_[k * count + k] = 1, weights_[k * count + k] = static_cast<scalar>(0.5 / n);
  }
  std::vector<std::int32_t> labels_;
  std::vector<scalar> weights_;
};

}  // namespace l3::inline L3_ISA
