/// @file  include/l3/data/reservoir.hpp: which draws share the opening of a video; pure functions of (seed, step).
/// Knows no file.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/random.hpp>
#include <numeric>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// A stock of draws that batches take from: each opening of a video gives `draws` draws, to as many batches.
///
/// There are `lanes` openings at a time, in lanes that are renewed by turns. A cycle is as many batches as use every
/// lane once, in a random order of the lanes; so no two draws of a batch are of one opening, and an opening's draws are
/// spread over as many cycles as it has draws. Videos are opened in a random order of the whole list that is drawn anew
/// for each epoch; no video is opened twice among any `lanes` openings in a row, so a batch has no video twice.
///
/// Distribution  each draw is, by itself, what it is without a reservoir: a uniform video, a moment of it as
///               draw_moment has it, independent of the others' moments. Every video is drawn `draws` times an epoch,
///               exactly (but in the first epoch, whose first `lanes` openings count as begun before). What differs:
///               draws of one opening come within `draws` cycles.
/// Cost          O(lanes) for a step, from any step on.
/// Memory        twice `lanes` numbers.
/// Threads       one at a time: what an epoch begins with is remembered.
class reservoir {
 public:
  /// Which draw of which opening. Openings are counted in the order in which they begin.
  struct place {
    std::uint64_t opening = 0;
    std::uint32_t draw = 0;
    friend bool operator==(place const&, place const&) = default;
  };

  /// `least` is rounded up to lanes that divide into batches and into those renewed in a cycle.
  ///
  /// Errors  setting_error: neither of `batch` and `draws` divides the other (the lanes would be many more than asked
  ///         for); the list has less than three videos for each lane.
  reservoir(std::uint64_t seed, std::size_t batch, std::size_t clips, std::size_t draws, std::size_t least)
      : seed_(seed), batch_(batch), clips_(clips), draws_(draws), lanes_(lanes_for(batch, draws, least)) {
    if (batch % draws != 0 && draws % batch != 0)
      throw setting_error(complaint{"draws that share an opening",
                                    "a divisor or a multiple of the batch size, " + std::to_string(batch),
                                    std::to_string(draws)});
    if (clips_ < 3 * lanes_)
      throw setting_error(complaint{"draws that share openings",
                                    "at least " + std::to_string(3 * lanes_) + " videos (three for each of " +
                                        std::to_string(lanes_) + " in stock), or a smaller reservoir",
                                    std::to_string(clips_)});
    while ((std::uint64_t{1} << 2 * half_bits_) < clips_) ++half_bits_;
  }

  static std::size_t lanes_for(std::size_t batch, std::size_t draws, std::size_t least) {
    auto const step = std::max(batch, draws);
    return (std::max(least, batch) + step - 1) / step * step;
  }

  std::size_t lanes() const { return lanes_; }

  /// The places of a batch's draws, in their order.
  std::vector<place> batch(std::uint64_t step) const {
    auto const batches = lanes_ / batch_;
    std::uint64_t const cycle = step / batches;
    auto const first = static_cast<std::size_t>(step % batches) * batch_;
    std::vector<std::uint32_t> order(lanes_);
    std::iota(order.begin(), order.end(), 0u);
    generator random(seed_, stream::openings, 2 * cycle, 0);
    for (std::size_t i = 0; i < first + batch_; ++i)  // Fisher-Yates, as far as it is needed
      std::swap(order[i], order[i + random.below(static_cast<std::uint32_t>(lanes_ - i))]);
    std::vector<place> places;
    for (std::size_t i = first; i < first + batch_; ++i) places.push_back(of_lane(order[i], cycle));
    return places;
  }

  /// The video of an opening: its place in the list.
  std::uint32_t clip(std::uint64_t opening) const {
    std::uint64_t const epoch = opening / clips_, position = opening % clips_;
    if (epoch == 0 || position >= 2 * lanes_) return shuffled(epoch, position);
    if (epoch != begun_epoch_) begin(epoch);
    return beginning_[static_cast<std::size_t>(position)];
  }

 private:
  /// Lane `l` begins an opening in every cycle c with (c + l) % draws = 0; the very first ones have begun before.
  place of_lane(std::uint32_t lane, std::uint64_t cycle) const {
    std::uint64_t const age = cycle + lane % draws_, number = age / draws_;
    // That opening began in cycle number * draws - lane % draws, which is counted from 1 - draws.
    std::uint64_t const begun = number * draws_ + (draws_ - 1) - lane % draws_;
    return {begun * (lanes_ / draws_) + lane / draws_, static_cast<std::uint32_t>(age % draws_)};
  }

  /// Position in an epoch -> place in the list, a permutation: a Feistel network over the next power of four, gone
  /// through until it hits the list.
  std::uint32_t shuffled(std::uint64_t epoch, std::uint64_t position) const {
    std::uint64_t const mask = (std::uint64_t{1} << half_bits_) - 1;
    do {
      std::uint64_t left = position >> half_bits_, right = position & mask;
      for (std::uint32_t round = 0; round < 6; ++round) {
        auto const mixed = generator(seed_, stream::openings, 2 * epoch + 1, static_cast<std::uint32_t>(right),
                                     static_cast<std::uint16_t>(round))();
        left = std::exchange(right, (left ^ mixed) & mask);
      }
      position = left << half_bits_ | right;
    } while (position >= clips_);
    return static_cast<std::uint32_t>(position);
  }

  /// An epoch's first videos: those that the last openings of the one before may still have open go a little back.
  void begin(std::uint64_t epoch) const {
    std::unordered_set<std::uint32_t> open;
    for (std::size_t k = 0; k < lanes_; ++k) open.insert(shuffled(epoch - 1, clips_ - 1 - k));
    beginning_.resize(2 * lanes_);
    for (std::size_t k = 0; k < beginning_.size(); ++k) beginning_[k] = shuffled(epoch, k);
    std::size_t other = lanes_;
    for (std::size_t k = 0; k < lanes_; ++k) {
      if (!open.contains(beginning_[k])) continue;
      while (open.contains(beginning_[other])) ++other;  // there are enough: only `lanes` are open
      std::swap(beginning_[k], beginning_[other++]);
    }
    begun_epoch_ = epoch;
  }

  std::uint64_t seed_;
  std::size_t batch_, clips_, draws_, lanes_;
  unsigned half_bits_ = 1;
  mutable std::uint64_t begun_epoch_ = 0;  ///< of `beginning_`
  mutable std::vector<std::uint32_t> beginning_;
};

}  // namespace l3::inline L3_ISA
