/// @file  include/l3/eval/metrics.hpp: how often a network tells pairs that correspond from pairs that do not.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <l3/core/pairing.hpp>
#include <l3/core/random.hpp>
#include <map>
#include <span>
#include <vector>

namespace l3::inline L3_ISA {

/// Correspondence on a set of pairs. Chance: accuracy 0.5, loss 0.693.
struct correspondence {
  std::size_t pairs = 0;
  double accuracy = 0;
  std::array<double, 2> interval{};  ///< 95 %, by bootstrap over videos: pairs of one video are not independent
  double loss = 0;
  std::array<std::array<std::size_t, 2>, 2> confusion{};  ///< [label][prediction]; 1 corresponds
};

/// Collects scored pairs and sums them up.
class correspondence_meter {
 public:
  /// Adds pairs: logits (count, 2), labels, and a number that names the frame's video.
  ///
  /// Errors  shape_error if the counts do not fit. setting_error: a label is neither 0 nor 1.
  void add(std::span<float const> logits, std::span<std::int32_t const> labels, std::span<std::uint32_t const> videos) {
    if (logits.size() != 2 * labels.size() || videos.size() != labels.size())
      throw shape_error({"scored pairs",
                         "two logits and one video for each of " + std::to_string(labels.size()) + " labels",
                         std::to_string(logits.size()) + " logits and " + std::to_string(videos.size()) + " videos"});
    require_labels(labels);
    for (std::size_t k = 0; k < labels.size(); ++k) {
      auto const label = static_cast<std::size_t>(labels[k]);
      double const margin = static_cast<double>(logits[2 * k + label]) - static_cast<double>(logits[2 * k + 1 - label]);
      loss_ += margin > 0 ? std::log1p(std::exp(-margin)) : std::log1p(std::exp(margin)) - margin;
      bool const right = margin > 0;  // a tie is a miss
      ++confusion_[label][right ? label : 1 - label];
      counts& of = by_video_[videos[k]];
      of.total += 1;
      of.right += right;
    }
  }

  /// The result; the same `seed` gives the same interval. Without resamples that is the accuracy alone.
  correspondence result(std::uint64_t seed, std::uint32_t resamples = 2000) const {
    correspondence r;
    r.confusion = confusion_;
    std::size_t right = confusion_[0][0] + confusion_[1][1];
    r.pairs = right + confusion_[0][1] + confusion_[1][0];
    if (r.pairs == 0) return r;
    r.accuracy = static_cast<double>(right) / static_cast<double>(r.pairs);
    r.loss = loss_ / static_cast<double>(r.pairs);
    r.interval = resamples > 0 ? bootstrap(seed, resamples) : std::array{r.accuracy, r.accuracy};
    return r;
  }

 private:
  struct counts {
    std::uint32_t total = 0, right = 0;
  };
  std::array<double, 2> bootstrap(std::uint64_t seed, std::uint32_t resamples) const {
    std::vector<counts> videos;
    for (auto const& [name, each] : by_video_) videos.push_back(each);
    std::vector<double> shares(resamples);
    for (std::uint32_t s = 0; s < resamples; ++s) {
      std::uint64_t total = 0, right = 0;
      for (std::uint32_t k = 0; k < videos.size(); ++k) {
        counts const c =
            videos[generator(seed, stream::bootstrap, s, k).below(static_cast<std::uint32_t>(videos.size()))];
        total += c.total, right += c.right;
      }
      shares[s] = static_cast<double>(right) / static_cast<double>(total);
    }
    std::sort(shares.begin(), shares.end());
    auto const at = [&](double p) { return shares[static_cast<std::size_t>(p * static_cast<double>(resamples - 1))]; };
    return {at(0.025), at(0.975)};
  }

  std::map<std::uint32_t, counts> by_video_;
  std::array<std::array<std::size_t, 2>, 2> confusion_{};
  double loss_ = 0;
};

}  // namespace l3::inline L3_ISA
