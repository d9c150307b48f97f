/// @file  include/l3/model/classifier.hpp: one subnetwork with a classifier on top: the supervised baselines' networks.
#pragma once
#include <l3/core/tensor.hpp>
#include <l3/layers/dense.hpp>
#include <l3/layers/relu.hpp>
#include <l3/layers/sequential.hpp>
#include <l3/model/config.hpp>
#include <l3/model/subnet.hpp>
#include <l3/model/weights.hpp>
#include <span>

namespace l3::inline L3_ISA {

/// The two kinds of items, by the name of the subnetwork that takes them.
template <network_config Config>
struct vision_of {
  static constexpr label name = "vision";
  using config = Config;
  using input = typename Config::frame;
};
template <network_config Config>
struct audio_of {
  static constexpr label name = "audio";
  using config = Config;
  using input = typename Config::front_end::output;
};

/// A subnetwork, a dense layer and a rectifier: all of a classifier but its last layer, which has as many units as
/// there are classes (train/softmax_head.hpp).
///
/// Shapes  items (N, Side::input), hidden (N, features<Config::hidden>); parameters are named `vision.block1...` or
///         `audio.block1...`, as an L³-Net's, then `classifier.fc1...`.
/// Source  Arandjelović & Zisserman (ICCV 2017), section 4.1: two dense layers, 512 x 128 and 128 x classes.
template <backend B, class Side>
class trunk_classifier : public network_weights<trunk_classifier<B, Side>, scalar_of<B>> {
 public:
  using backend_type = B;
  using side = Side;
  using config = typename Side::config;
  using input = typename Side::input;
  using trunk = subnet<input, config::width>;
  using top = sequential<typename trunk::output, named<"fc1", dense<config::hidden>>, relu>;
  using hidden = typename top::output;

  static constexpr auto parameters = join(Side::name, trunk::parameters, "classifier", top::parameters);
  static constexpr std::size_t parameter_room = room_of(parameters);
  static constexpr std::size_t top_offset = trunk::parameter_room;
};

/// A classifier in use: the weights prepared, and memory for batches of up to `items`.
template <class Network>
class classifier_inference {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using trunk = typename Network::trunk;
  using top = typename Network::top;

  static constexpr footprint features = per_item<scalar>(trunk::output::size);
  static constexpr footprint plan = trunk::template prepared<B> + fixed<scalar>(Network::parameter_room) + features +
                                    either(trunk::template infer_scratch<B>, top::template scratch<B>);

  classifier_inference(context<B>& on, Network const& net, std::size_t items)
      : on_(on), items_(items), memory_(plan.bytes(items, on.threads())) {
    refresh(net);
  }
  /// Takes the network's weights as they are now.
  void refresh(Network const& net) {
    places const at(*this, 0);
    std::copy_n(net.data(), Network::parameter_room, at.params);
    trunk::prepare(on_, at.params, at.prepared);
  }
  /// "pool4" of items. Errors: shape_error: more of them than there is room for.
  void embed(batch_view<scalar const, typename Network::input> x, batch_view<scalar, typename trunk::output> y) {
    require_room(x.count, y.count);
    places const at(*this, x.count);
    trunk::infer_prepared(pass<B>{on_, x.count, at.rest}, at.params, at.prepared, x.data, y.data);
  }
  /// What the last layer gets.
  void hidden(batch_view<scalar const, typename Network::input> x, batch_view<scalar, typename Network::hidden> y) {
    require_room(x.count, y.count);
    places const at(*this, x.count);
    pass<B> const p{on_, x.count, at.rest};
    trunk::infer_prepared(p, at.params, at.prepared, x.data, at.features);
    top::infer(p, at.params + Network::top_offset, at.features, y.data);
  }

 private:
  void require_room(std::size_t in, std::size_t out) const {
    require_same_count("classifier: outputs for the inputs", in, out);
    if (in > items_)
      throw shape_error({"classifier batch", "at most " + std::to_string(items_) + " items", std::to_string(in)});
  }
  struct places {
    std::byte* prepared;
    scalar *params, *features;
    std::byte* rest;
    places(classifier_inference const& t, std::size_t items) {
      carver space(t.memory_.data(), items, t.on_.threads());
      prepared = space.template take<std::byte>(trunk::template prepared<B>);
      params = space.template take<scalar>(fixed<scalar>(Network::parameter_room));
      features = space.template take<scalar>(classifier_inference::features);
      rest = space.rest();
    }
  };

  context<B>& on_;
  std::size_t items_;
  arena memory_;
};

}  // namespace l3::inline L3_ISA
