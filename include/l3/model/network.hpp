/// @file  include/l3/model/network.hpp: the L³-Net: two subnetworks and a fusion head, in training and in use.
#pragma once
#include <concepts>
#include <l3/core/tensor.hpp>
#include <l3/model/config.hpp>
#include <l3/model/fusion.hpp>
#include <l3/model/subnet.hpp>
#include <l3/model/weights.hpp>
#include <span>

namespace l3::inline L3_ISA {

/// The weights of an L³-Net and the types that run it. Running it changes nothing, so any number of `inference` objects
/// may share one (each has transformed weights of its own, see there).
///
/// Shapes  frames (N, Config::frame), sounds (N, Config::front_end::output); features<8 width> each; logits (N, 2).
template <backend B, network_config Config = paper>
class l3_network : public network_weights<l3_network<B, Config>, scalar_of<B>> {
 public:
  using backend_type = B;
  using config = Config;
  using frame = typename Config::frame;
  using sound = typename Config::front_end::output;
  using vision = subnet<frame, Config::width>;
  using audio = subnet<sound, Config::width>;
  using embedding = typename vision::output;
  using fusion = pair_fusion<embedding::size, Config::hidden>;
  static_assert(std::same_as<typename vision::output, typename audio::output>);

  /// Every parameter, named as in a PyTorch state_dict.
  static constexpr auto parameters =
      join({}, join("vision", vision::parameters, "audio", audio::parameters), "fusion", fusion::parameters);
  static constexpr std::size_t parameter_room = room_of(parameters);
  static constexpr std::size_t vision_offset = 0;
  static constexpr std::size_t audio_offset = vision::parameter_room;
  static constexpr std::size_t fusion_offset = audio_offset + audio::parameter_room;
  /// Learned numbers.
  static constexpr std::size_t learned = [] {
    std::size_t count = 0;
    for (parameter const& p : parameters) count += p.learned() ? p.count() : 0;
    return count;
  }();
  /// FLOPs of one pair's forward pass.
  static constexpr double flops = vision::flops + audio::flops + fusion::flops;
};

/// Called by a backward pass when the gradients of the parameters [begin, end) are complete: for one layer after the
/// other, the last one first, and all the parameters of a subnetwork or of the fusion head in one falling row.
template <class F>
concept gradient_listener = std::invocable<F, std::size_t, std::size_t>;

/// The memory and the way of a training pass: forward keeps what backward needs. All memory is taken at construction.
///
/// `forward` and `backward` are the whole way, for a batch on its own. Where frames meet the sounds of other batches
/// too, `forward_halves` and `backward_halves` are the way up to where they meet and back from there.
template <class Network>
class training {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using value = value_of<B>;
  using vision = typename Network::vision;
  using audio = typename Network::audio;
  using fusion = typename Network::fusion;

  /// Alive from forward to backward, the gradients of the features and of the hidden layer's halves, and the scratch
  /// that all parts share. The scores of the pairs come on top: their number is the batch or its square.
  static constexpr footprint features = per_item<value>(Network::embedding::size);
  static constexpr footprint hidden = fusion::template hidden_values<B>;
  static constexpr footprint kept = vision::template kept<B> + audio::template kept<B> + fusion::template kept<B>;
  static constexpr footprint scratch =
      either(either(vision::template scratch<B>, audio::template scratch<B>), fusion::template scratch<B>);
  static constexpr footprint plan = kept + features + features + hidden + hidden + scratch;

  /// Room for batches of up to `items`.
  training(context<B>& on, std::size_t items, pairing which)
      : on_(on),
        items_(items),
        which_(which),
        memory_(plan.bytes(items, on.threads())),
        gradients_(Network::parameter_room * sizeof(scalar)),
        logits_(fusion::pairs(items, which).rows() * 2 * sizeof(scalar)),
        dlogits_(fusion::pairs(items, which).rows() * 2 * sizeof(scalar)) {}

  /// Training-mode scores of the batch's pairs. `params` are the network's, where the backend's kernels find them; its
  /// running averages move. Errors: shape_error if counts differ or exceed the room.
  batch_view<scalar const, l3::features<2>> forward(scalar* params,
                                                    batch_view<value const, typename Network::frame> frames,
                                                    batch_view<value const, typename Network::sound> sounds) {
    forward_halves(params, frames, sounds);
    auto* const logits = reinterpret_cast<scalar*>(logits_.data());
    fusion::scores(at(), pairs(), params + Network::fusion_offset, u(), t(), logits);
    return {logits, rows()};
  }
  /// Gradients of all parameters from `dlogits()`, for the batch of the last forward.
  void backward(scalar const* params) {
    backward(params, [](std::size_t, std::size_t) {});
  }
  void backward(scalar const* params, gradient_listener auto&& done) {
    places const p(*this);
    fusion::scores_backward(at(), pairs(), params + Network::fusion_offset, p.u, p.t, dlogits(), p.du, p.dt,
                            gradients() + Network::fusion_offset);
    backward_halves(params, p.du, p.dt, done);
  }

  /// The first half of `forward`: up to u and t.
  void forward_halves(scalar* params, batch_view<value const, typename Network::frame> frames,
                      batch_view<value const, typename Network::sound> sounds) {
    require_same_count("training batch: sounds for the frames", frames.count, sounds.count);
    if (frames.count > items_ || frames.count == 0)
      throw shape_error({"training batch", "1 to " + std::to_string(items_) + " items", std::to_string(frames.count)});
    frames_ = frames, sounds_ = sounds;
    places const p(*this);
    v_ = vision::forward(at(), params + Network::vision_offset, frames.data, p.vision);
    a_ = audio::forward(at(), params + Network::audio_offset, sounds.data, p.audio);
    fusion::halves(at(), params + Network::fusion_offset, v_, a_, p.u, p.t);
  }
  /// What pictures and sounds give to the fusion head's hidden layer, (items, Config::hidden) each.
  scalar const* u() const { return places(*this).u; }
  scalar const* t() const { return places(*this).t; }
  /// The second half of `backward`: from du and dt on. The fusion head's other gradients are in their place already.
  void backward_halves(scalar const* params, scalar const* du, scalar const* dt, gradient_listener auto&& done) {
    places const p(*this);
    scalar* const g = gradients();
    fusion::halves_backward(at(), params + Network::fusion_offset, v_, a_, du, dt, p.dv, p.da,
                            g + Network::fusion_offset);
    done(Network::fusion_offset, Network::parameter_room);
    value* const nobody = nullptr;  // pictures and sounds need no gradient
    vision::backward(at(), params + Network::vision_offset, frames_.data, p.vision, p.dv, nobody,
                     g + Network::vision_offset, [&](std::size_t begin, std::size_t end) {
                       done(Network::vision_offset + begin, Network::vision_offset + end);
                     });
    audio::backward(
        at(), params + Network::audio_offset, sounds_.data, p.audio, p.da, nobody, g + Network::audio_offset,
        [&](std::size_t begin, std::size_t end) { done(Network::audio_offset + begin, Network::audio_offset + end); });
  }

  /// Scored pairs of a full batch, and of the current one.
  std::size_t most_rows() const { return fusion::pairs(items_, which_).rows(); }
  std::size_t rows() const { return pairs().rows(); }
  /// For kernels that run between the halves, on the current batch.
  pass<B> at() { return {on_, frames_.count, places(*this).scratch}; }
  context<B>& on() { return on_; }
  /// Where the loss writes the gradient of the scores, (rows, 2).
  scalar* dlogits() { return reinterpret_cast<scalar*>(dlogits_.data()); }
  /// Gradients, laid out as Network::parameters.
  scalar* gradients() { return reinterpret_cast<scalar*>(gradients_.data()); }

 private:
  struct places {
    std::byte *vision, *audio;
    value *dv, *da;
    scalar *u, *t, *du, *dt;
    std::byte* scratch;
    explicit places(training const& of) {
      carver space(of.memory_.data(), of.frames_.count, of.on_.threads());
      vision = space.template take<std::byte>(training::vision::template kept<B>);
      audio = space.template take<std::byte>(training::audio::template kept<B>);
      u = space.template take<scalar>(hidden), t = space.template take<scalar>(hidden);
      dv = space.template take<value>(features), da = space.template take<value>(features);
      du = space.template take<scalar>(hidden), dt = space.template take<scalar>(hidden);
      scratch = space.rest();
    }
  };
  pair_dims pairs() const { return fusion::pairs(frames_.count, which_); }

  context<B>& on_;
  std::size_t items_;
  pairing which_;
  memory_on<B> memory_, gradients_, logits_, dlogits_;
  batch_view<value const, typename Network::frame> frames_;
  batch_view<value const, typename Network::sound> sounds_;
  value const* v_ = nullptr;
  value const* a_ = nullptr;
};

/// A trained network in use: scores of pairs and features of pictures and sounds. All memory is taken at construction,
/// and the weights as they are then, transformed for the kernels; `refresh` takes them again. The context has to live
/// longer, the network need not.
///
/// Memory  `plan`; of that `weights`, for `paper` on a processor 0.2 GB. A subnetwork alone takes half of it:
///         chain_inference<Network::audio>(on, net.data() + Network::audio_offset, items).
/// Threads  one at a time; any number of these may share a network and a context.
template <class Network>
class inference {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using value = value_of<B>;
  using fusion = typename Network::fusion;
  static constexpr std::size_t width = Network::config::width;
  using vision_map = conv4_2<typename Network::frame, width>;
  using audio_map = conv4_2_before_relu<typename Network::sound, width>;
  template <std::size_t Blocks>
  using vision_blocks = first_blocks<typename Network::frame, width, Blocks>;
  template <std::size_t Blocks>
  using audio_blocks = first_blocks<typename Network::sound, width, Blocks>;
  static_assert(vision_map::parameter_room == Network::vision::parameter_room);
  static_assert(audio_map::parameter_room == Network::audio::parameter_room);
  static_assert(vision_map::template prepared<B> == Network::vision::template prepared<B>);
  static_assert(audio_map::template prepared<B> == Network::audio::template prepared<B>);
  // What goes through fewer blocks finds enough room.
  static_assert(either(vision_blocks<3>::template infer_scratch<B>, Network::vision::template infer_scratch<B>) ==
                Network::vision::template infer_scratch<B>);
  static_assert(either(audio_blocks<3>::template infer_scratch<B>, Network::audio::template infer_scratch<B>) ==
                Network::audio::template infer_scratch<B>);

  static constexpr footprint features = per_item<value>(Network::embedding::size);
  /// The weights: transformed, and as they are for layers that use them so.
  static constexpr footprint weights = Network::vision::template prepared<B> + Network::audio::template prepared<B> +
                                       fixed<scalar>(Network::parameter_room);
  static constexpr footprint plan =
      weights + features + features +
      either(either(either(Network::vision::template infer_scratch<B>, Network::audio::template infer_scratch<B>),
                    either(vision_map::template infer_scratch<B>, audio_map::template infer_scratch<B>)),
             fusion::template kept<B> + fusion::template scratch<B>);

  /// Room for batches of up to `items`.
  inference(context<B>& on, Network const& net, std::size_t items)
      : on_(on), items_(items), memory_(plan.bytes(items, on.threads())) {
    refresh(net);
  }
  /// Takes the network's weights as they are now.
  void refresh(Network const& net) {
    places const at(*this);
    upload(on_, Network::parameter_room, net.data(), at.params);
    Network::vision::prepare(on_, at.params + Network::vision_offset, at.vision);
    Network::audio::prepare(on_, at.params + Network::audio_offset, at.audio);
  }

  /// "pool4" of pictures. Errors: shape_error if counts differ or exceed the room, as in all that follow.
  void embed_frames(batch_view<value const, typename Network::frame> frames,
                    batch_view<value, typename Network::embedding> out) {
    run<typename Network::vision>(Network::vision_offset, places(*this).vision, frames, out);
  }
  /// "pool4" of sounds.
  void embed_sounds(batch_view<value const, typename Network::sound> sounds,
                    batch_view<value, typename Network::embedding> out) {
    run<typename Network::audio>(Network::audio_offset, places(*this).audio, sounds, out);
  }
  /// The last convolution's map of pictures, after ReLU.
  void map_frames(batch_view<value const, typename Network::frame> frames,
                  batch_view<value, typename vision_map::output> out) {
    run<vision_map>(Network::vision_offset, places(*this).vision, frames, out);
  }
  /// The last convolution's map of sounds, after batch norm and before ReLU.
  void map_sounds(batch_view<value const, typename Network::sound> sounds,
                  batch_view<value, typename audio_map::output> out) {
    run<audio_map>(Network::audio_offset, places(*this).audio, sounds, out);
  }
  /// The map that the first blocks leave of pictures, and of sounds: "pool1" to "pool3".
  template <std::size_t Blocks>
  void pool_frames(batch_view<value const, typename Network::frame> frames,
                   batch_view<value, typename vision_blocks<Blocks>::output> out) {
    run<vision_blocks<Blocks>>(Network::vision_offset, places(*this).vision, frames, out);
  }
  template <std::size_t Blocks>
  void pool_sounds(batch_view<value const, typename Network::sound> sounds,
                   batch_view<value, typename audio_blocks<Blocks>::output> out) {
    run<audio_blocks<Blocks>>(Network::audio_offset, places(*this).audio, sounds, out);
  }
  /// Scores of frame k with sound k.
  void score(batch_view<value const, typename Network::frame> frames,
             batch_view<value const, typename Network::sound> sounds, batch_view<scalar, l3::features<2>> logits) {
    require_same_count("pairs to score: sounds for the frames", frames.count, sounds.count);
    require_same_count("pairs to score: logits", frames.count, logits.count);
    check(frames.count);
    places const at(*this);
    carver space(at.rest, frames.count, on_.threads());
    auto* const v = space.template take<value>(features);
    auto* const a = space.template take<value>(features);
    pass<B> p{on_, frames.count, space.rest()};
    Network::vision::infer_prepared(p, at.params + Network::vision_offset, at.vision, frames.data, v);
    Network::audio::infer_prepared(p, at.params + Network::audio_offset, at.audio, sounds.data, a);
    auto* const hidden = space.template take<std::byte>(fusion::template kept<B>);
    p.scratch = space.rest();
    fusion::forward(p, pairing::paper, at.params + Network::fusion_offset, v, a, logits.data, hidden);
  }

  /// Scores of features k of pictures with features k of sounds.
  void score_features(batch_view<value const, typename Network::embedding> v,
                      batch_view<value const, typename Network::embedding> a,
                      batch_view<scalar, l3::features<2>> logits) {
    require_same_count("features to score: sounds for the frames", v.count, a.count);
    require_same_count("features to score: logits", v.count, logits.count);
    check(v.count);
    places const at(*this);
    carver space(at.rest, v.count, on_.threads());
    auto* const hidden = space.template take<std::byte>(fusion::template kept<B>);
    fusion::forward(pass<B>{on_, v.count, space.rest()}, pairing::paper, at.params + Network::fusion_offset, v.data,
                    a.data, logits.data, hidden);
  }

  /// What `Network::audio::infer_prepared` reads.
  std::byte const* audio_weights() const { return places(*this).audio; }

 private:
  void check(std::size_t count) const {
    if (count > items_)
      throw shape_error({"inference batch", "at most " + std::to_string(items_) + " items", std::to_string(count)});
  }
  template <class Chain>
  void run(std::size_t offset, std::byte const* prepared, batch_view<value const, typename Chain::input> x,
           batch_view<value, typename Chain::output> y) {
    require_same_count("inference: outputs for the inputs", x.count, y.count);
    check(x.count);
    places const at(*this);
    Chain::infer_prepared(pass<B>{on_, x.count, at.rest}, at.params + offset, prepared, x.data, y.data);
  }
  struct places {
    std::byte *vision, *audio;
    scalar* params;
    std::byte* rest;
    explicit places(inference const& t) {
      carver space(t.memory_.data(), 0, 0);
      vision = space.template take<std::byte>(Network::vision::template prepared<B>);
      audio = space.template take<std::byte>(Network::audio::template prepared<B>);
      params = space.template take<scalar>(fixed<scalar>(Network::parameter_room));
      rest = space.rest();
    }
  };

  context<B>& on_;
  std::size_t items_;
  memory_on<B> memory_;
};

}  // namespace l3::inline L3_ISA
