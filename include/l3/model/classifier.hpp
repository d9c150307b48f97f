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

/// The memory and the way of a classifier's training pass: forward keeps what backward needs. All memory is taken at
/// construction.
///
/// Frozen, the subnetwork stays as it is, running averages too, and only the layers above it have gradients.
template <class Network>
class classifier_training {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using value = value_of<B>;
  using trunk = typename Network::trunk;
  using top = typename Network::top;

  static constexpr footprint features = per_item<value>(trunk::output::size);
  static constexpr footprint hidden = per_item<value>(Network::hidden::size);
  /// Alive from forward to backward, gradients between the parts, and the scratch that they share.
  static constexpr footprint plan = trunk::template kept<B> + top::template kept<B> + features + hidden +
                                    either(trunk::template scratch<B>, top::template scratch<B>);
  static constexpr footprint frozen_plan = trunk::template prepared<B> + features + top::template kept<B> + hidden +
                                           either(trunk::template infer_scratch<B>, top::template scratch<B>);

  /// Room for batches of up to `items`.
  classifier_training(context<B>& on, std::size_t items, bool frozen)
      : on_(on), frozen_(frozen), room_(items), memory_((frozen ? frozen_plan : plan).bytes(items, on.threads())) {}

  /// Of a frozen subnetwork: takes its weights as they are now.
  void prepare(scalar const* params) {
    if (frozen_) trunk::prepare(on_, params, memory_.data());
  }
  /// What the last layer gets of a batch. `params` are the network's, where the backend's kernels find them. Errors:
  /// shape_error: more items than there is room for.
  value const* forward(scalar* params, batch_view<value const, typename Network::input> items) {
    if (items.count > room_)
      throw shape_error(
          {"classifier batch", "at most " + std::to_string(room_) + " items", std::to_string(items.count)});
    items_ = items;
    places const at(*this);
    if (frozen_) {
      trunk::infer_prepared(at.inner, params, at.trunk, items.data, at.features);
      x_ = at.features;
    } else {
      x_ = trunk::forward(at.inner, params, items.data, at.trunk);
    }
    return top::forward(at.inner, params + Network::top_offset, x_, at.top);
  }
  /// Where the gradient of the last forward's goes.
  value* dhidden() const { return places(*this).dhidden; }
  /// Gradients of the parameters, those of a frozen subnetwork aside, for the batch of the last forward.
  void backward(scalar const* params, scalar* gradients) {
    places const at(*this);
    value* const nobody = nullptr;
    top::backward(at.inner, params + Network::top_offset, x_, at.top, at.dhidden, frozen_ ? nobody : at.features,
                  gradients + Network::top_offset);
    if (!frozen_) trunk::backward(at.inner, params, items_.data, at.trunk, at.features, nobody, gradients);
  }

 private:
  struct places {
    std::byte *trunk, *top;  ///< what they keep; of a frozen subnetwork its weights, prepared
    value* features;         ///< of a frozen subnetwork; else their gradient
    value* dhidden;
    pass<B> inner;
    explicit places(classifier_training const& of)
        : trunk(nullptr), top(nullptr), features(nullptr), dhidden(nullptr), inner{of.on_, of.items_.count, nullptr} {
      carver space(of.memory_.data(), of.items_.count, of.on_.threads());
      trunk = space.template take<std::byte>(of.frozen_ ? classifier_training::trunk::template prepared<B>
                                                        : classifier_training::trunk::template kept<B>);
      top = space.template take<std::byte>(classifier_training::top::template kept<B>);
      features = space.template take<value>(classifier_training::features);
      dhidden = space.template take<value>(classifier_training::hidden);
      inner.scratch = space.rest();
    }
  };

  context<B>& on_;
  bool frozen_;
  std::size_t room_;
  memory_on<B> memory_;
  batch_view<value const, typename Network::input> items_;
  value const* x_ = nullptr;
};

/// A classifier in use: the weights prepared, and memory for batches of up to `items`. One thread at a time.
template <class Network>
class classifier_inference {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using value = value_of<B>;
  using trunk = typename Network::trunk;
  using top = typename Network::top;

  static constexpr footprint features = per_item<value>(trunk::output::size);
  static constexpr footprint plan = trunk::template prepared<B> + fixed<scalar>(Network::parameter_room) + features +
                                    either(trunk::template infer_scratch<B>, top::template scratch<B>);

  classifier_inference(context<B>& on, Network const& net, std::size_t items)
      : on_(on), items_(items), memory_(plan.bytes(items, on.threads())) {
    refresh(net);
  }
  /// Takes the network's weights as they are now.
  void refresh(Network const& net) {
    places const at(*this, 0);
    upload(on_, Network::parameter_room, net.data(), at.params);
    trunk::prepare(on_, at.params, at.prepared);
  }
  /// What the last layer gets. Errors: shape_error: more items than there is room for.
  void hidden(batch_view<value const, typename Network::input> x, batch_view<value, typename Network::hidden> y) {
    require_same_count("classifier: outputs for the inputs", x.count, y.count);
    require_room(x.count);
    places const at(*this, x.count);
    pass<B> const p{on_, x.count, at.rest};
    trunk::infer_prepared(p, at.params, at.prepared, x.data, at.features);
    top::infer(p, at.params + Network::top_offset, at.features, y.data);
  }
  /// Throws shape_error if there is no room for so many.
  void require_room(std::size_t items) const {
    if (items > items_)
      throw shape_error({"classifier batch", "at most " + std::to_string(items_) + " items", std::to_string(items)});
  }

 private:
  struct places {
    std::byte* prepared;
    scalar* params;
    value* features;
    std::byte* rest;
    places(classifier_inference const& t, std::size_t items) {
      carver space(t.memory_.data(), items, t.on_.threads());
      prepared = space.template take<std::byte>(trunk::template prepared<B>);
      params = space.template take<scalar>(fixed<scalar>(Network::parameter_room));
      features = space.template take<value>(classifier_inference::features);
      rest = space.rest();
    }
  };

  context<B>& on_;
  std::size_t items_;
  memory_on<B> memory_;
};

}  // namespace l3::inline L3_ISA
