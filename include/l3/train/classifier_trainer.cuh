/// @file  include/l3/train/classifier_trainer.cuh: supervised training of one subnetwork on a GPU.
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <l3/model/gpu_batch.cuh>
#include <l3/train/classifier_trainer.hpp>
#include <l3/train/gpu_steps.cuh>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace l3::inline L3_ISA {

/// Trains a trunk_classifier and its last layer on a GPU; how steps are begun and finished, gpu_steps says. Numbers and
/// settings as in classifier_trainer on processors; an item whose two best scores are the same counts as told wrong.
///
/// Memory  of the GPU: `plan` (frozen: `frozen_plan`) for a batch; weights, gradients and averages (4 times the
///         parameters).
template <class Network>
requires gpu_backend<typename Network::backend_type>
class classifier_trainer<Network> : public gpu_steps<Network> {
  using base = gpu_steps<Network>;

 public:
  using typename base::B;
  using typename base::value;
  using pass_type = classifier_training<Network>;
  /// Pictures, or sounds.
  using input = gpu_items<Network>;
  using values_view = typename input::values_view;
  using raw_items = typename input::raw_view;

  /// A batch on its way; and all that grows with the batch.
  static constexpr footprint sent = input::sent + per_item<std::int32_t>(1);
  static constexpr footprint plan = pass_type::plan + sent + sent + input::made;
  static constexpr footprint frozen_plan = pass_type::frozen_plan + sent + sent + input::made;

  /// `head` outlives the trainer.
  classifier_trainer(context<B>& on, Network& net, softmax_weights<float>& head, training_settings const& settings,
                     bool frozen)
      : base(on, net, settings, sent.bytes(settings.batch, 1), nullptr, frozen ? Network::top_offset : 0,
             companion_of(head)),
        head_(head),
        pass_(on, settings.batch, frozen),
        input_(on, settings.batch),
        gradients_(this->room() * sizeof(float)),
        scores_(2 * settings.batch * head.classes() * sizeof(float)),
        scratch_(std::max(detail::gpu::score_room(settings.batch),
                          scratch_size<B>::channels(head.classes(), 1).bytes(settings.batch, 1))) {
    require_one_part(settings);
    adopt();
  }
  ~classifier_trainer() { this->drain(); }

  /// Begins a step on a batch of at most settings.batch items; labels count classes from 0. All may be changed as soon
  /// as this returns.
  ///
  /// Errors  shape_error if the counts do not fit. setting_error: a label that is no class; a third step; a network
  ///         without values, as `adopt` found it.
  void begin(values_view items, std::span<std::int32_t const> labels) { begin(false, items.count, items, labels); }
  /// Of bytes, or of samples.
  void begin(raw_items const& items, std::span<std::int32_t const> labels) requires input::takes_raw {
    items.check();
    begin(true, items.count(), items, labels);
  }
  /// Begins a step and finishes it.
  step_report step(values_view items, std::span<std::int32_t const> labels) {
    begin(items, labels);
    return this->finish();
  }
  step_report step(raw_items const& items, std::span<std::int32_t const> labels) requires input::takes_raw {
    begin(items, labels);
    return this->finish();
  }

  /// Goes on from the network, its last layer and the optimizer as they are now.
  void adopt() {
    base::adopt();
    pass_.prepare(this->weights());
  }
  /// Gradients of the last step, laid out as Network::parameters and then as softmax_weights::values; in the GPU's
  /// memory.
  float* gradients() { return reinterpret_cast<float*>(gradients_.data()); }

 private:
  using base::on_;
  using base::settings_;

  static typename base::companion companion_of(softmax_weights<float>& head) {
    using detail::gpu::line_role;
    typename base::companion more{head.values().data(), head.first_moments().data(), head.second_moments().data()};
    more.roles.assign(head.room() / detail::gpu::line_values, line_role::learned);
    std::fill_n(more.roles.begin(), head.bias_offset() / detail::gpu::line_values, line_role::decays);
    return more;
  }

  void begin(bool raw, std::size_t count, auto const& items, std::span<std::int32_t const> labels) {
    require_same_count("training batch: labels", count, labels.size());
    if (count == 0 || count > settings_.batch)
      throw shape_error(
          {"training batch", "1 to " + std::to_string(settings_.batch) + " items", std::to_string(count)});
    head_.require_labels(labels);
    struct batch {
      typename input::place items;
      std::int32_t const* labels;
    };
    this->begin_step(
        count, raw,
        [&](gpu_parcel& p) {
          auto const place = input::put(p, items);
          return batch{place, p.put(labels)};
        },
        [&](batch const& b) { return gradients_of(b.items, b.labels, count); });
  }

  /// Forward, loss and backward of a step, into the stream.
  float const* gradients_of(typename input::place const& from, std::int32_t const* labels, std::size_t count) {
    std::size_t const classes = head_.classes();
    dense_dims const last = head_.dims(count);
    float *const params = this->weights(), *const head = params + Network::parameter_room;
    float* const dhead = gradients() + Network::parameter_room;
    auto* const scores = reinterpret_cast<float*>(scores_.data());
    float* const dscores = scores + settings_.batch * classes;
    value const* const h = pass_.forward(params, input_.make(on_, from, count));
    dense_forward(on_, last, h, head, head + head_.bias_offset(), scores, scratch_.data());
    float const share = 1.0f / static_cast<float>(count);
    detail::gpu::score_rows(on_.stream(), {.labels = labels, .own = share, .other = share, .all_alike = true}, count,
                            classes, scores, dscores, this->result()->tally, false, scratch_.data());
    dense_backward_weights(on_, last, h, static_cast<float const*>(dscores), dhead, scratch_.data());
    channel_sums(on_, count, classes, static_cast<float const*>(dscores), dhead + head_.bias_offset(), scratch_.data());
    dense_backward_data(on_, last, static_cast<float const*>(dscores), head, pass_.dhidden(), scratch_.data());
    pass_.backward(params, gradients());
    return gradients();
  }

  softmax_weights<float>& head_;
  pass_type pass_;
  input input_;
  device_block gradients_, scores_, scratch_;
};

/// (The guide that the first template's constructor gives names its own kind of last layer.)
template <class Network>
requires gpu_backend<typename Network::backend_type> classifier_trainer(context<typename Network::backend_type>&,
                                                                        Network&, softmax_weights<float>&,
                                                                        training_settings const&, bool)
->classifier_trainer<Network>;

}  // namespace l3::inline L3_ISA
