/// @file  include/l3/data/sample.hpp: which moments of which videos make a batch, and how they are paired; pure
/// functions of (seed, step, index, attempt). Knows no file.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/pairing.hpp>
#include <l3/core/random.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/reservoir.hpp>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// A frame and a second of sound of one clip, in seconds on the clip's clock.
struct moment {
  double frame_time = 0;
  double sound_start = 0;
};

/// Draws a moment: the frame uniform over the time [begin, end] that picture and sound both cover, the second uniform
/// over those inside it that contain the frame. Needs end - begin >= sound_seconds.
///
/// A second drawn without its frame would not do for negatives: near the ends of a clip fewer seconds contain the
/// frame, so start times alone would tell the labels apart.
constexpr moment draw_moment(generator random, double begin, double end) {
  double const frame = random.uniform(begin, end);
  double const start = random.uniform(std::max(begin, frame - sound_seconds), std::min(frame, end - sound_seconds));
  return {frame, start};
}

/// In place of an item: the half is not used.
inline constexpr std::uint32_t nowhere = 0xFFFFFFFF;

/// One draw of a batch: a moment of one video. Its frame and its second may go to different items.
struct draw {
  std::uint32_t index = 0;             ///< names its random numbers inside the step
  std::uint16_t attempt = 0;           ///< how often it was refused and drawn again
  std::uint32_t clip = 0;              ///< place in the list of clips
  std::uint32_t frame_item = nowhere;  ///< item of the batch that gets the frame
  std::uint32_t sound_item = nowhere;  ///< item of the batch that gets the second
};

/// Names a batch; the same request gives the same draws everywhere.
struct batch_request {
  std::uint64_t seed = 0;
  pairing pairs = pairing::all;
  /// Fixed pairs for evaluation instead of ever new ones: pair k is a function of (seed, k), whatever the batch size.
  bool evaluation = false;
  std::uint64_t step = 0;  ///< in training: which batch
  /// The first item, with pairing::paper an even number: in evaluation of all pairs; in training of a batch that is
  /// shared out.
  std::uint32_t first = 0;
  std::uint32_t count = 0;   ///< items
  std::uint32_t whole = 0;   ///< in training: items of the batch that these are a part of; 0: they are all of it
  std::uint32_t worker = 0;  ///< in training: items of each worker that takes a share of the batch; 0: there is one
  std::uint32_t clips = 0;   ///< length of the list of clips
  /// In training: the stock that the draws come from, instead of an opening for each; must outlive the sampler.
  reservoir const* shared = nullptr;
};

/// The draws of one batch, and what is drawn instead of a refused one.
///
/// Pairing `paper` works on groups of four draws and four items, labels 1 0 0 1. Every item gets the frame of its own
/// draw; items 0 and 3 its second as well, items 1 and 2 each other's, and those two draws are of different videos. So
/// every draw gives one frame and one second, none is decoded in vain, and a draw refused for its sound is lost for
/// frames too: what either half looks like says nothing about the label.
///
/// Pairing `all` takes the clips in a random order of the whole list (Fisher-Yates, only as far as needed), item k the
/// k-th.
///
/// Drawing again: when all draws were tried once, the refused ones are redrawn one after the other in their order,
/// until each is settled. `paper`: uniform over the list again, less the clip of a settled partner. `all`: uniform over
/// the list again, less the clips that other draws began with, those in use and the files that were refused as a whole.
/// Nothing of it depends on time or on who does the work.
///
/// A part of a batch (`first`, `count` of `whole`) has the draws that the whole batch has there. No worker sees what
/// another refuses and draws again, so it is left to chance whether two of them replace refused clips by the same one.
///
/// With a reservoir the first attempt of a draw is a place in it, clip and moment; what is drawn again is as above.
class batch_sampler {
 public:
  /// Attempts are counted in 16 bits.
  static constexpr std::uint16_t most_attempts = 0xFFFF;

  /// Errors  setting_error: see require_valid.
  explicit batch_sampler(batch_request const& request) : request_(request) {
    require_valid(request);
    if (request.shared) places_ = request.shared->batch(request.step);
    if (request.pairs == pairing::all) {
      for (std::uint32_t item = 0; item != request.count; ++item)
        draws_.push_back({.index = request.first + item, .frame_item = item, .sound_item = item});
      if (request.shared)
        for (auto& each : draws_) each.clip = shared_clip(each);
      else
        place_in_order();
      for (auto const& each : draws_) began_.insert(each.clip), begun_with_.push_back(each.clip);
    } else {
      place_groups();
    }
    settled_.assign(draws_.size(), false);
    taken_.resize(request.worker == 0 ? 1 : draws_.size() / request.worker + 1);
  }

  /// Throws setting_error, saying why, when no such batch can be drawn.
  static void require_valid(batch_request const& r) {
    auto const require = [](bool good, char const* what, std::string expected, std::string found) {
      if (!good) throw setting_error(complaint{what, std::move(expected), std::move(found)});
    };
    auto const count = std::to_string(r.count);
    require(r.clips >= 2, "list of videos", "at least two", std::to_string(r.clips));
    require(r.count >= 2, "batch size", "at least two items", count);
    require(r.evaluation || r.whole != 0 || r.first == 0, "part of a batch", "the size of the whole one", "none");
    require(r.whole == 0 || r.first + r.count <= r.whole, "part of a batch",
            "items of the whole one, " + std::to_string(r.whole), std::to_string(r.first + r.count));
    require(r.worker == 0 || r.count % r.worker == 0, "batch size",
            "a multiple of a worker's, " + std::to_string(r.worker), count);
    require(r.whole == 0 || r.whole == r.count || !r.shared, "part of a batch", "draws that share no openings",
            "draws that do");
    if (r.pairs == pairing::all) {
      require(!r.evaluation, "evaluation", "pairing `paper`: as many positives as negatives", "pairing `all`");
      require(std::max(r.count, r.whole) <= r.clips, "batch size",
              "at most the number of videos, " + std::to_string(r.clips) + " (pairing `all` takes no video twice)",
              std::to_string(std::max(r.count, r.whole)));
    } else {
      require(r.count % 2 == 0, "batch size", "an even number, for half of the pairs are negative", count);
      require(r.first % 2 == 0, "first pair", "an even number", std::to_string(r.first));
      require(!r.shared || r.count % 4 == 0, "batch size", "a multiple of four where draws share openings", count);
    }
  }

  batch_request const& request() const { return request_; }
  std::span<draw const> draws() const { return draws_; }

  /// 1 where the item's frame and second are of one moment.
  std::int32_t label(std::uint32_t item) const {
    return request_.pairs == pairing::all || !crossed(request_.first + item) ? 1 : 0;
  }

  /// Whether the draw is one of an opening that it shares with others.
  bool is_shared(draw const& d) const { return request_.shared && d.attempt == 0; }
  /// Its place then.
  reservoir::place const& place_of(draw const& d) const { return places_[d.index]; }

  /// Random numbers for the draw's moment, for its image and for its sound.
  generator moment_numbers(draw const& d) const {
    return is_shared(d) ? moment_numbers(place_of(d)) : numbers(stream::moment, d);
  }
  generator moment_numbers(reservoir::place const& p) const {
    return {request_.seed, stream::moment, p.opening, p.draw};
  }
  generator image_numbers(draw const& d) const { return numbers(stream::image, d); }
  generator sound_numbers(draw const& d) const { return numbers(stream::sound, d); }

  /// Draw `d` will be used.
  void settle(std::size_t d) {
    settled_[d] = true;
    taken(d).insert(draws_[d].clip);
  }

  /// Draw `d` was refused: puts the next attempt in its place. To be called only after `settle` for every draw that was
  /// accepted at first, and for one draw after the other, in order, until it is settled.
  ///
  /// `whole_file` says that no moment of the clip can be used. Returns false when there is nothing left to draw.
  bool redraw(std::size_t d, bool whole_file) {
    draw& again = draws_[d];
    if (again.attempt == most_attempts) return false;
    ++again.attempt;
    if (request_.pairs == pairing::paper) {
      std::size_t const partner = again.index % 4 == 1 ? d + 1 : d - 1;
      bool const bound = crossed(again.index) && settled_[partner];
      again.clip = bound ? other_clip(again, draws_[partner].clip) : any_clip(again);
      return true;
    }
    if (whole_file) taken(d).insert(again.clip);
    generator random = numbers(stream::clip, again);
    std::uint32_t candidate = 0;
    // By chance while that is likely to hit; then whatever is left.
    for (std::uint32_t tried = 0; tried != request_.clips + 64; ++tried) {
      candidate = tried < 64 ? random.below(request_.clips) : (candidate + 1) % request_.clips;
      if (taken(d).contains(candidate) || (began_.contains(candidate) && candidate != begun_with_[d])) continue;
      again.clip = candidate;
      return true;
    }
    return false;
  }

 private:
  /// Items 1 and 2 of each four exchange their sounds.
  static constexpr bool crossed(std::uint32_t index) { return index % 4 == 1 || index % 4 == 2; }

  void place_groups() {
    auto const item = [&](std::uint32_t index) {
      return index >= request_.first && index - request_.first < request_.count ? index - request_.first : nowhere;
    };
    std::uint32_t const end = request_.first + request_.count;
    for (std::uint32_t index = request_.first / 4 * 4; index < end + 2; ++index) {
      // Half a group at an edge of the batch: of draws 1 and 2 one gives only its frame and one only its second.
      draw d{.index = index, .frame_item = item(index), .sound_item = item(crossed(index) ? index ^ 3 : index)};
      if (d.frame_item == nowhere && d.sound_item == nowhere) continue;
      d.clip = request_.shared ? shared_clip(d) : index % 4 == 2 ? other_clip(d, draws_.back().clip) : any_clip(d);
      draws_.push_back(d);
    }
  }

  /// In evaluation the step separates what is drawn, so that one stream holds it all.
  generator numbers(stream which, draw const& d) const {
    return request_.evaluation
               ? generator(request_.seed, stream::evaluation, static_cast<std::uint64_t>(which), d.index, d.attempt)
               : generator(request_.seed, which, request_.step, d.index, d.attempt);
  }

  std::uint32_t shared_clip(draw const& d) const { return request_.shared->clip(places_[d.index].opening); }
  std::uint32_t any_clip(draw const& d) const { return numbers(stream::clip, d).below(request_.clips); }
  std::uint32_t other_clip(draw const& d, std::uint32_t excluded) const {
    std::uint32_t const clip = numbers(stream::clip, d).below(request_.clips - 1);
    return clip + (clip >= excluded ? 1 : 0);
  }

  /// The first clips of the step's random order, one for each item of the whole batch. Of the shuffled list 0, 1, 2,
  /// ... only the places that have changed are stored.
  void place_in_order() {
    std::unordered_map<std::uint32_t, std::uint32_t> moved;
    auto const value_at = [&](std::uint32_t place) {
      auto const found = moved.find(place);
      return found == moved.end() ? place : found->second;
    };
    std::uint32_t const whole = std::max(request_.whole, request_.count);
    for (std::uint32_t here = 0; here != whole; ++here) {
      std::uint32_t const there =
          here + generator(request_.seed, stream::clip, request_.step, here).below(request_.clips - here);
      std::uint32_t const clip = value_at(there);
      moved[there] = value_at(here);
      moved.erase(here);
      began_.insert(clip);
      if (here >= request_.first && here - request_.first < request_.count) draws_[here - request_.first].clip = clip;
    }
  }

  std::unordered_set<std::uint32_t>& taken(std::size_t d) {
    return taken_[request_.worker == 0 ? 0 : d / request_.worker];
  }

  batch_request request_;
  std::vector<reservoir::place> places_;  ///< by the draws' index
  std::vector<draw> draws_;
  std::vector<bool> settled_;
  std::vector<std::unordered_set<std::uint32_t>> taken_;  ///< of each worker: clips in use, and files of no use
  std::unordered_set<std::uint32_t> began_;               ///< pairing `all`: the whole batch's first draws
  std::vector<std::uint32_t> begun_with_;                 ///< those of this part, by draw
};

}  // namespace l3::inline L3_ISA
