/// @file  include/l3/train/running_averages.hpp: undoes what a forward pass does to batch norm's running averages, if
/// its loss turns out to be none.
#pragma once
#include <algorithm>
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
