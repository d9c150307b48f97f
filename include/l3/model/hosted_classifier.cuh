/// @file  include/l3/model/hosted_classifier.cuh: a classifier in use on a GPU, for items and scores that lie in the
/// machine's memory.
#pragma once
#include <l3/core/cuda.cuh>
#include <l3/kernels/kernels.hpp>
#include <l3/model/classifier.hpp>
#include <l3/model/gpu_batch.cuh>
#include <l3/model/gpu_requests.cuh>
#include <span>

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
  using hidden = typename Network::hidden;
  using items_in = gpu_items<Network>;

  /// Room for batches of up to `items`; takes the weights as they are now, of the last layer (classes, hidden) and
  /// (classes).
  hosted_classifier(context<B>& on, Network const& net, std::span<float const> weights, std::span<float const> biases,
                    std::size_t items)
      : on_(on),
        classes_(biases.size()),
        inner_(on, net, items),
        items_(on, items),
        hidden_(per_item<value>(hidden::size).bytes(items, 1)),
        head_((hidden::size + 1) * classes_ * sizeof(float)),
        requests_(on, items_in::sent.bytes(items, 1)) {
    take_last_layer(weights, biases);
  }
  /// Takes the weights as they are now.
  void refresh(Network const& net, std::span<float const> weights, std::span<float const> biases) {
    inner_.refresh(net);
    take_last_layer(weights, biases);
  }
  /// Scores (count, classes) of items: values, or bytes or samples (see gpu_frames, gpu_sounds).
  template <class Items>
  void scores(Items const& x, std::span<float> out) {
    std::size_t const count = count_of(x);
    require_same_count("classifier: scores for the items", count * classes_, out.size());
    inner_.require_room(count);
    requests_.ask(
        out, [&](gpu_parcel& in) { return items_in::put(in, x); },
        [&](auto const& place, float* found) {
          auto* const h = reinterpret_cast<value*>(hidden_.data());
          inner_.hidden(items_.make(on_, place, count), {h, count});
          dense_forward(on_, {count, hidden::size, classes_}, static_cast<value const*>(h), weights_at(),
                        weights_at() + hidden::size * classes_, found, nullptr);
        });
  }

 private:
  void take_last_layer(std::span<float const> weights, std::span<float const> biases) {
    upload(on_, weights.size(), weights.data(), weights_at());
    upload(on_, biases.size(), biases.data(), weights_at() + weights.size());
  }
  float* weights_at() { return reinterpret_cast<float*>(head_.data()); }

  context<B>& on_;
  std::size_t classes_;
  classifier_inference<Network> inner_;
  items_in items_;
  device_block hidden_, head_;
  gpu_requests<B> requests_;
};

}  // namespace l3::inline L3_ISA
