/// @file  include/l3/train/pair_steps.cuh: steps of training on a GPU whose batches are frames and seconds of sound.
#pragma once
#include <cstdint>
#include <l3/data/batch.hpp>
#include <l3/train/gpu_steps.cuh>
#include <span>
#include <string>

namespace l3::inline L3_ISA {

/// How a batch of frames and sounds comes to `Trainer`, which derives from this: as values, or as bytes of pictures and
/// samples of sound that the GPU makes values of in passing. Trainer's `gradients_of(batch)` puts forward, loss and
/// backward into the stream and returns where the gradients are.
template <class Network, class Trainer>
class pair_steps : public gpu_steps<Network> {
  using base = gpu_steps<Network>;
  using frame = typename Network::frame;
  using sound = typename Network::sound;

 public:
  using typename base::B;
  using typename base::value;
  using frames_in = gpu_frames<B, frame>;
  using sounds_in = gpu_sounds<B, typename Network::config::front_end>;
  using frames_view = typename frames_in::values_view;
  using sounds_view = typename sounds_in::values_view;
  /// Samples of a second of sound; 0 where the front end is none that a GPU computes, and batches come as values.
  static constexpr std::size_t samples = sounds_in::samples;
  using raw_items = raw_view<frame, samples>;

  /// A batch on its way; and two of these, and what is made of one.
  static constexpr footprint sent = frames_in::sent + sounds_in::sent + per_item<std::int32_t>(1);
  static constexpr footprint input_plan = sent + sent + frames_in::made + sounds_in::made;

  /// Begins a step on settings.parts batches, one behind the other. The values are the machine's, and may be changed as
  /// soon as this returns.
  ///
  /// Errors  shape_error if the counts do not fit. setting_error: a label is neither 0 nor 1; a third step; a network
  ///         without values, as `adopt` found it.
  void begin(frames_view frames, sounds_view sounds, std::span<std::int32_t const> labels) {
    require_same_count("training batch: sounds for the frames", frames.count, sounds.count);
    begin(false, frames.count, frames, sounds, labels);
  }
  /// Of bytes and samples; these too may be changed as soon as this returns.
  ///
  /// Shapes  as raw_view. Errors  as above.
  void begin(raw_items const& items, std::span<std::int32_t const> labels) requires(samples > 0) {
    typename frames_in::raw_view const frames{items.crops, items.jitters};
    typename sounds_in::raw_view const sounds{items.seconds, items.volumes};
    require_same_count("training batch: seconds for the frames", frames.count(), sounds.count());
    frames.check(), sounds.check();
    begin(true, frames.count(), frames, sounds, labels);
  }
  /// Begins a step and finishes it.
  step_report step(frames_view frames, sounds_view sounds, std::span<std::int32_t const> labels) {
    begin(frames, sounds, labels);
    return this->finish();
  }
  step_report step(raw_items const& items, std::span<std::int32_t const> labels) requires(samples > 0) {
    begin(items, labels);
    return this->finish();
  }

 protected:
  /// A batch as the network takes it.
  struct batch {
    batch_view<value const, frame> frames;
    batch_view<value const, sound> sounds;
    std::int32_t const* labels;  ///< with pairing::paper
  };

  using base::on_;
  using base::settings_;

  pair_steps(context<B>& on, Network& net, training_settings const& settings, gpu_group* group,
             std::size_t learned_from)
      : base(on, net, settings, sent.bytes(settings.parts * settings.batch, 1), group, learned_from),
        frames_(on, settings.parts * settings.batch),
        sounds_(on, settings.parts * settings.batch) {}

 private:
  void begin(bool raw, std::size_t count, auto const& frames, auto const& sounds,
             std::span<std::int32_t const> labels) {
    std::size_t const most = settings_.parts * settings_.batch;
    if (count == 0 || count % settings_.parts != 0 || count > most)
      throw shape_error(
          {"training batch",
           "up to " + std::to_string(most) + " items, as many in each of " + std::to_string(settings_.parts) + " parts",
           std::to_string(count) + " items"});
    if (settings_.which == pairing::paper) {
      require_same_count("training batch: labels", count, labels.size());
      require_labels(labels);
    } else {
      labels = {};
    }
    struct places {
      typename frames_in::place frames;
      typename sounds_in::place sounds;
      std::int32_t const* labels;
    };
    this->begin_step(
        count, raw,
        [&](gpu_parcel& p) {
          places at{};
          at.frames = frames_in::put(p, frames), at.sounds = sounds_in::put(p, sounds), at.labels = p.put(labels);
          return at;
        },
        [&](places const& at) {
          batch const b{frames_.make(on_, at.frames, count), sounds_.make(on_, at.sounds, count), at.labels};
          return static_cast<Trainer*>(this)->gradients_of(b);
        });
  }

  frames_in frames_;
  sounds_in sounds_;
};

}  // namespace l3::inline L3_ISA
