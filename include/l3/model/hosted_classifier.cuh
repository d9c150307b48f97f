/// @file  include/l3/model/hosted_classifier.cuh: a classifier in use on a GPU, for items and scores that lie in the
/// machine's memory.
#pragma once
#include <l3/core/cuda.cuh>
#include <l3/kernels/kernels.hpp>
#include <l3/model/classifier.hpp>
#include <span>
#include <string>

namespace l3::inline L3_ISA {

/// `classifier_inference` and the last layer, whose number of classes is known at run time; every call waits for its
/// results. All memory is taken at construction.
///
/// Errors  as classifier_inference; device_error.
template <class Network>
class hosted_classifier {
 public:
  using B = typename Network::backend_type;
  using value = value_of<B>;
  using input = typename Network::input;
  using hidden = typename Network::hidden;

  /// Room for batches of up to `items`; takes the weights as they are now, of the last layer (classes, hidden) and
  /// (classes).
  hosted_classifier(context<B>& on, Network const& net, std::span<float const> weights, std::span<float const> biases,
                    std::size_t items)
      : on_(on),
        classes_(biases.size()),
        inner_(on, net, items),
        floats_(per_item<float>(input::size).bytes(items, 1)),
        values_((per_item<value>(input::size) + per_item<value>(hidden::size)).bytes(items, 1)),
        head_((hidden::size + 1) * classes_ * sizeof(float)),
        scores_(items * classes_ * sizeof(float)) {
    take_last_layer(weights, biases);
  }
  /// Takes the weights as they are now.
  void refresh(Network const& net, std::span<float const> weights, std::span<float const> biases) {
    inner_.refresh(net);
    take_last_layer(weights, biases);
  }
  /// Scores (count, classes) of items.
  void scores(batch_view<float const, input> x, std::span<float> out) {
    require_same_count("classifier: scores for the items", x.count * classes_, out.size());
    auto* const items = reinterpret_cast<value*>(values_.data());
    auto* const h = items + per_item<value>(input::size).bytes(x.count, 1) / sizeof(value);
    auto* const found = reinterpret_cast<float*>(scores_.data());
    inner_.require_room(x.count);
    upload(on_, x.size(), x.data, reinterpret_cast<float*>(floats_.data()));
    convert(on_, x.size(), reinterpret_cast<float const*>(floats_.data()), items);
    inner_.hidden({items, x.count}, {h, x.count});
    dense_forward(on_, {x.count, hidden::size, classes_}, static_cast<value const*>(h), weights_at(),
                  weights_at() + hidden::size * classes_, found, nullptr);
    download(on_, out.size(), static_cast<float const*>(found), out.data());
  }

 private:
  void take_last_layer(std::span<float const> weights, std::span<float const> biases) {
    upload(on_, weights.size(), weights.data(), weights_at());
    upload(on_, biases.size(), biases.data(), weights_at() + weights.size());
    on_.stream().wait();
  }
  float* weights_at() { return reinterpret_cast<float*>(head_.data()); }

  context<B>& on_;
  std::size_t classes_;
  classifier_inference<Network> inner_;
  device_block floats_, values_, head_, scores_;
};

}  // namespace l3::inline L3_ISA
