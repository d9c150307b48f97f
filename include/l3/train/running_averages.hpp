/// @file  include/l3/train/running_averages.hpp: batch norm's running averages, kept aside while a forward pass moves
/// them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <l3/layers/layer.hpp>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// The running averages of a network, kept aside. A forward pass moves them before its loss can be judged.
template <class Network>
class running_averages {
 public:
  using scalar = typename Network::scalar;
  running_averages() {
    for (parameter const& p : Network::parameters)
      if (!p.learned()) kept_.resize(kept_.size() + p.count());
  }
  void keep(Network& net) {
    batches_ = net.batches_tracked();
    each(net, [](scalar const* now, scalar* kept, std::size_t n) { std::copy_n(now, n, kept); });
  }
  void give_back(Network& net) {
    net.batches_tracked(batches_);
    each(net, [](scalar* now, scalar const* kept, std::size_t n) { std::copy_n(kept, n, now); });
  }

  static bool finite(Network const& net) {
    for (parameter const& p : Network::parameters)
      if (!p.learned() && !std::all_of(net.data() + p.offset, net.data() + p.offset + p.count(),
                                       [](scalar x) { return std::isfinite(x); }))
        return false;
    return true;
  }

  /// Puts the network's running averages among [begin, end) of `values`, which are laid out as Network::parameters.
  static void put(Network const& net, scalar* values, std::size_t begin, std::size_t end) {
    for (parameter const& p : Network::parameters)
      if (!p.learned() && p.offset >= begin && p.offset < end)
        std::copy_n(net.data() + p.offset, p.count(), values + p.offset);
  }
  /// Gives the network those of `values` in place of a forward pass's.
  void take(Network& net, scalar const* values) {
    net.batches_tracked(batches_ + 1);
    for (parameter const& p : Network::parameters)
      if (!p.learned()) std::copy_n(values + p.offset, p.count(), net.data() + p.offset);
  }

 private:
  template <class Move>
  void each(Network& net, Move move) {
    scalar* kept = kept_.data();
    for (parameter const& p : Network::parameters)
      if (!p.learned()) move(net.data() + p.offset, std::exchange(kept, kept + p.count()), p.count());
  }
  std::vector<scalar> kept_;
  std::int64_t batches_ = 0;
};

}  // namespace l3::inline L3_ISA
