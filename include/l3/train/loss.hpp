/// @file  include/l3/train/loss.hpp: softmax cross-entropy over the pairs of a batch.
#pragma once
#include <array>
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

/// What several batches were told apart like, added up.
struct pair_tally {
  double loss = 0;  ///< sum of the batches'
  std::uint64_t batches = 0;
  std::array<std::uint64_t, 2> right{}, total{};  ///< pairs of each label

  pair_tally& operator+=(pair_tally const& other) {
    loss += other.loss, batches += other.batches;
    for (std::size_t label : {0u, 1u}) right[label] += other.right[label], total[label] += other.total[label];
    return *this;
  }
  pair_score score() const {
    pair_score s{.loss = loss / static_cast<double>(batches)};
    int kinds = 0;
    for (std::size_t label : {0u, 1u})
      if (total[label] > 0) {
        s.accuracy += static_cast<double>(right[label]) / static_cast<double>(total[label]);
        ++kinds;
      }
    s.accuracy /= kinds;
    return s;
  }
};

/// What a pair counts for in the loss of a batch: one that corresponds, and one that does not.
struct pair_weights {
  double own, other;
  explicit constexpr pair_weights(pair_dims const& d) {
    auto const n = static_cast<double>(d.batch), others = static_cast<double>(d.sounds()) - 1;
    if (d.which == pairing::paper)
      own = other = 1 / n;
    else
      own = 0.5 / n, other = others > 0 ? 0.5 / (n * others) : 0;
  }
};

/// The loss of audio-visual correspondence.
///
/// pairing::paper: the mean of -log softmax(logits)[label] over the batch's pairs.
/// pairing::all: half the mean over the N positives (frame i with sound i) plus half the mean over the N (N - 1)
/// negatives (frame i with sound j): both labels weigh the same, as in the paper's balanced batches. Source
/// Arandjelović & Zisserman (ICCV 2017), section 3.
///
/// Of a batch whose frames meet the sounds of W batches of its size, the rows of its own frames weigh so much that the
/// mean over the W batches is the loss of all frames with all sounds.
template <backend B>
class pair_loss {
 public:
  using scalar = scalar_of<B>;
  explicit pair_loss(std::size_t max_rows) { labels_.reserve(max_rows), weights_.reserve(max_rows); }

  /// Loss and accuracy of (rows, 2) logits of `count` items; their gradient goes to `dlogits`.
  /// With pairing::paper `labels` has an entry an item (1 corresponds); with pairing::all it is not read.
  pair_score operator()(context<B>& on, pairing which, std::size_t count, std::span<std::int32_t const> labels,
                        scalar const* logits, scalar* dlogits) {
    return tally(on, {count, 0, 2, which}, 0, labels, logits, dlogits).score();
  }
  /// The same for frames with more sounds than their own; the first frame's own one is sound `first`.
  pair_tally tally(context<B>& on, pair_dims const& d, std::size_t first, std::span<std::int32_t const> labels,
                   scalar const* logits, scalar* dlogits) {
    prepare(d, first, labels);
    pair_tally result{.batches = 1};
    result.loss = softmax_cross_entropy(on, labels_.size(), 2, logits, labels_.data(), weights_.data(), dlogits);
    for (std::size_t row = 0; row < labels_.size(); ++row) {
      auto const label = static_cast<std::size_t>(labels_[row]);
      ++result.total[label];
      result.right[label] += logits[2 * row + label] > logits[2 * row + 1 - label];
    }
    return result;
  }

 private:
  void prepare(pair_dims const& d, std::size_t first, std::span<std::int32_t const> labels) {
    pair_weights const weigh(d);
    weights_.assign(d.rows(), static_cast<scalar>(weigh.other));
    if (d.which == pairing::paper) return labels_.assign(labels.begin(), labels.end());
    labels_.assign(d.rows(), 0);
    for (std::size_t k = 0; k < d.batch; ++k) {
      std::size_t const own = k * d.sounds() + first + k;
      labels_[own] = 1, weights_[own] = static_cast<scalar>(weigh.own);
    }
  }
  std::vector<std::int32_t> labels_;
  std::vector<scalar> weights_;
};

}  // namespace l3::inline L3_ISA
