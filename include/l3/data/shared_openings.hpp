/// @file  include/l3/data/shared_openings.hpp: videos that several draws share, from the first one asked for until the
/// last one has been used.
#pragma once
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/data/draw_reader.hpp>
#include <l3/data/reservoir.hpp>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// The openings of a reservoir that are on their way. Of the draws that share one, the first to come has all of them
/// decoded; those that come meanwhile wait, and are taken along when it is done. Nobody ever stands still for that.
/// Whoever shares it among threads locks it.
///
/// Waiting  what names a draw that waits.
template <class Waiting>
class shared_openings {
 public:
  /// A video opened for several draws.
  struct opening {
    std::uint32_t first = 0;      ///< its draws before this one are not asked for
    std::vector<kept_draw> kept;  ///< from `first` on; each is used once
    std::size_t left = 0;         ///< of them, not yet used
    bool ready = false;
    std::vector<Waiting> waiting;  ///< draws that came before it was ready
    kept_draw& of(reservoir::place const& place) { return kept[place.draw - first]; }
  };
  /// What a draw finds.
  struct share {
    std::shared_ptr<opening> from;  ///< none: it waits
    bool opens = false;             ///< it is this draw's to fill `kept`, and to say that it is `opened`
  };

  /// `draws` share each opening.
  explicit shared_openings(std::size_t draws) : draws_(draws) {}

  /// To be called in the order of the draws, so that the first to come is the first that is asked for.
  share join(reservoir::place const& place, Waiting draw) {
    auto& known = openings_[place.opening];
    bool const opens = !known;
    if (opens) {
      known = std::make_shared<opening>();
      known->first = place.draw;
      known->left = draws_ - place.draw;
      known->kept.resize(known->left);
    } else if (!known->ready) {
      known->waiting.push_back(std::move(draw));
      return {};
    }
    return {known, opens};
  }
  /// All that `kept` is to hold is there. Returns who has waited for it.
  std::vector<Waiting> opened(opening& of) {
    of.ready = true;
    return std::exchange(of.waiting, {});
  }
  /// The draw at this place has been used.
  void used(reservoir::place const& place, opening& of) {
    if (--of.left == 0) openings_.erase(place.opening);
  }

 private:
  std::size_t draws_;
  std::unordered_map<std::uint64_t, std::shared_ptr<opening>> openings_;
};

}  // namespace l3::inline L3_ISA
