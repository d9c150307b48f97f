/// @file  include/l3/model/hosted_inference.cuh: a network in use on a GPU, for pictures, sounds and results that lie
/// in the machine's memory.
#pragma once
#include <algorithm>
#include <concepts>
#include <l3/core/cuda.cuh>
#include <l3/kernels/kernels.hpp>
#include <l3/model/gpu_batch.cuh>
#include <l3/model/gpu_requests.cuh>
#include <l3/model/network.hpp>
#include <span>
#include <string>
#include <utility>

namespace l3::inline L3_ISA {

/// `inference` with the machine's memory on both sides. Pictures come as values or, a quarter of the bytes, as crops;
/// sounds as values or as samples, see gpu_frames and gpu_sounds. Results are floats.
///
/// What begins with `begin_` returns when its inputs are copied, and `finish` waits for the results of what was begun
/// first; while one batch is computed the next one can be on its way. All else waits, and is not for when something is
/// in flight.
///
/// Errors  as inference and gpu_requests; device_error. Memory  of the GPU, at construction; more for maps and results
///         when they are first asked for.
template <class Network>
class hosted_inference {
 public:
  using B = typename Network::backend_type;
  using value = value_of<B>;
  using scalar = float;
  using inner = inference<Network>;
  using frames_in = gpu_frames<B, typename Network::frame>;
  using sounds_in = gpu_sounds<B, typename Network::config::front_end>;
  using vision_map = typename inner::vision_map;
  using audio_map = typename inner::audio_map;
  template <std::size_t Blocks>
  using vision_blocks = typename inner::template vision_blocks<Blocks>;
  template <std::size_t Blocks>
  using audio_blocks = typename inner::template audio_blocks<Blocks>;
  using embedding = typename Network::embedding;
  template <class Shape>
  using from = batch_view<float const, Shape>;
  template <class Shape>
  using to = batch_view<float, Shape>;
  /// Frames, or sounds, in one of their forms.
  template <class Items, class In>
  static constexpr bool is_of =
      std::convertible_to<Items const&, typename In::values_view> || std::same_as<Items, typename In::raw_view>;

  /// Frames and sounds on their way, of two batches, and as the network takes them; and features.
  static constexpr footprint sent = frames_in::sent + sounds_in::sent;
  static constexpr footprint features = per_item<value>(embedding::size);
  static constexpr footprint plan = inner::plan + sent + sent + frames_in::made + sounds_in::made + features + features;
  static_assert((per_item<float>(embedding::size) + per_item<float>(embedding::size)).per_item <= sent.per_item,
                "l3::hosted_inference: features are sent by way of the room for frames and sounds");

  /// Room for batches of up to `items`. Maps whose regions are asked for are made in about `map_bytes`, some at a time.
  hosted_inference(context<B>& on, Network const& net, std::size_t items, std::size_t map_bytes = std::size_t{64} << 20)
      : on_(on),
        items_(items),
        map_bytes_(map_bytes),
        inner_(on, net, items),
        frames_(on, items),
        sounds_(on, items),
        features_((features + features).bytes(items, 1)),
        requests_(on, sent.bytes(items, 1)) {}
  void refresh(Network const& net) { inner_.refresh(net); }

  /// The inference on the GPU, and the way of all requests: for who has more to ask (hosted_sliding).
  inner const& inside() const { return inner_; }
  gpu_requests<B>& requests() { return requests_; }

  static constexpr std::size_t most_in_flight = gpu_requests<B>::most;
  std::size_t in_flight() const { return requests_.in_flight(); }
  void finish(std::span<float> out) { requests_.finish(out); }
  /// "pool4" of frames or of sounds, in any of their forms; (N, embedding).
  template <class Items>
  void begin_embed(Items const& x) {
    std::size_t const n = counted(x);
    requests_.begin(n * embedding::size, putting(x), embedding_of(x, n));
  }
  /// What is left of maps when the largest value of each region is taken (see region_dims); (N, grid.height,
  /// grid.width, Map::channels). `make(net, x, y)` has `net`, the inference on the GPU, make maps y of values x.
  template <image_shape Map, class Items, class Make>
  void begin_regions(Items const& x, extent2 grid, Make const& make) {
    std::size_t const n = counted(x), width = grid.height * grid.width * Map::channels;
    requests_.begin(n * width, putting(x), [&](auto const& place, float* out) {
      in_pieces<Map>(input(x).make(on_, place, n), make, [&](std::size_t first, batch_view<value const, Map> maps) {
        pool_regions(on_, {maps.count, Map::height, Map::width, Map::channels, grid}, maps.data, out + first * width);
      });
    });
  }

  template <class Frames>
  requires is_of<Frames, frames_in>
  void embed_frames(Frames const& x, to<embedding> y) { embed(x, y); }
  template <class Sounds>
  requires is_of<Sounds, sounds_in>
  void embed_sounds(Sounds const& x, to<embedding> y) { embed(x, y); }
  void map_frames(from<typename Network::frame> x, to<typename vision_map::output> y) {
    map(x, y, [](inner& net, auto in, auto out) { net.map_frames(in, out); });
  }
  void map_sounds(from<typename Network::sound> x, to<typename audio_map::output> y) {
    map(x, y, [](inner& net, auto in, auto out) { net.map_sounds(in, out); });
  }
  /// Of frames and sounds in any of their forms.
  template <class Frames, class Sounds>
  void score(Frames const& f, Sounds const& s, to<l3::features<2>> logits) {
    std::size_t const n = counted(f);
    require_same_count("pairs to score: sounds for the frames", n, counted(s));
    requests_.ask(
        logits.values(), [&](gpu_parcel& in) { return std::pair(frames_.put(in, f), sounds_.put(in, s)); },
        [&](auto const& places, float* out) {
          inner_.score(frames_.make(on_, places.first, n), sounds_.make(on_, places.second, n), {out, logits.count});
        });
  }
  void score_features(from<embedding> v, from<embedding> a, to<l3::features<2>> logits) {
    require_room(std::max(v.count, a.count));
    auto* const at = reinterpret_cast<value*>(features_.data());
    batch_view<value, embedding> const dv(at, v.count), da(at + features.bytes(items_, 1) / sizeof(value), a.count);
    requests_.ask(
        logits.values(), [&](gpu_parcel& in) { return std::pair(in.put(v.values()), in.put(a.values())); },
        [&](auto const& places, float* out) {
          convert(on_, v.size(), places.first, dv.data);
          convert(on_, a.size(), places.second, da.data);
          inner_.score_features(dv, da, {out, logits.count});
        });
  }

 private:
  frames_in& input(typename frames_in::values_view const&) { return frames_; }
  frames_in& input(typename frames_in::raw_view const&) { return frames_; }
  sounds_in& input(typename sounds_in::values_view const&) { return sounds_; }
  sounds_in& input(typename sounds_in::raw_view const&) { return sounds_; }
  void require_room(std::size_t count) const {
    if (count > items_)
      throw shape_error({"inference batch", "at most " + std::to_string(items_) + " items", std::to_string(count)});
  }
  /// How many there are, which have to be no more than there is room for.
  template <class Items>
  std::size_t counted(Items const& x) const {
    std::size_t const count = count_of(x);
    require_room(count);
    return count;
  }
  template <class Items>
  auto putting(Items const& x) {
    return [this, &x](gpu_parcel& in) { return input(x).put(in, x); };
  }
  template <class Items>
  auto embedding_of(Items const& x, std::size_t n) {
    return [this, &x, n](auto const& place, float* out) {
      batch_view<value, embedding> const y(reinterpret_cast<value*>(features_.data()), n);
      embed_made(input(x).make(on_, place, n), y);
      convert(on_, y.size(), static_cast<value const*>(y.data), out);
    };
  }
  void embed_made(batch_view<value const, typename Network::frame> x, batch_view<value, embedding> y) {
    inner_.embed_frames(x, y);
  }
  void embed_made(batch_view<value const, typename Network::sound> x, batch_view<value, embedding> y) {
    inner_.embed_sounds(x, y);
  }
  template <class Items>
  void embed(Items const& x, to<embedding> y) {
    std::size_t const n = counted(x);
    require_same_count("inference: outputs for the inputs", n, y.count);
    requests_.ask(y.values(), putting(x), embedding_of(x, n));
  }
  template <class Items, class Map, class Make>
  void map(Items const& x, to<Map> y, Make const& make) {
    std::size_t const n = counted(x);
    require_same_count("inference: outputs for the inputs", n, y.count);
    requests_.ask(y.values(), putting(x), [&](auto const& place, float* out) {
      in_pieces<Map>(input(x).make(on_, place, n), make, [&](std::size_t first, batch_view<value const, Map> maps) {
        convert(on_, maps.size(), maps.data, out + first * Map::size);
      });
    });
  }
  /// Calls use(first, maps) with the maps of items [first, first + maps.count), some at a time.
  template <class Map, class Shape, class Make, class Use>
  void in_pieces(batch_view<value const, Shape> in, Make const& make, Use const& use) {
    std::size_t const together = std::max<std::size_t>(1, map_bytes_ / (Map::size * sizeof(value)));
    for (std::size_t first = 0; first < in.count; first += together) {
      std::size_t const count = std::min(together, in.count - first);
      batch_view<value, Map> const maps(room_for_maps<Map>(count), count);
      make(inner_, in.slice(first, count), maps);
      use(first, batch_view<value const, Map>(maps.data, count));
    }
  }
  template <class Map>
  value* room_for_maps(std::size_t count) {
    grow(on_, maps_, count * Map::size * sizeof(value));
    return reinterpret_cast<value*>(maps_.data());
  }

  context<B>& on_;
  std::size_t items_, map_bytes_;
  inner inner_;
  frames_in frames_;
  sounds_in sounds_;
  device_block features_, maps_;
  gpu_requests<B> requests_;
};

}  // namespace l3::inline L3_ISA
