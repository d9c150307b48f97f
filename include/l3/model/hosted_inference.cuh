/// @file  include/l3/model/hosted_inference.cuh: a network in use on a GPU, for pictures, sounds and results that lie
/// in the machine's memory.
#pragma once
#include <algorithm>
#include <l3/core/cuda.cuh>
#include <l3/kernels/kernels.hpp>
#include <l3/model/network.hpp>

namespace l3::inline L3_ISA {

/// `inference` with floats of the machine's memory on both sides; every call waits for its results.
///
/// Errors  as inference; device_error. Memory  of the GPU, at construction; more for maps when they are first asked
/// for.
template <class Network>
class hosted_inference {
 public:
  using B = typename Network::backend_type;
  using value = value_of<B>;
  using scalar = float;
  using inner = inference<Network>;
  using vision_map = typename inner::vision_map;
  using audio_map = typename inner::audio_map;
  template <std::size_t Blocks>
  using vision_blocks = typename inner::template vision_blocks<Blocks>;
  template <std::size_t Blocks>
  using audio_blocks = typename inner::template audio_blocks<Blocks>;
  template <class Shape>
  using from = batch_view<float const, Shape>;
  template <class Shape>
  using to = batch_view<float, Shape>;

  /// A frame and a sound, as floats and as values.
  static constexpr footprint input = per_item<float>(std::max(Network::frame::size, Network::sound::size)) +
                                     per_item<value>(Network::frame::size) + per_item<value>(Network::sound::size);
  static constexpr footprint plan = inner::plan + input;
  static_assert(std::min(Network::frame::size, Network::sound::size) >= Network::embedding::size,
                "l3::hosted_inference: features are scored by way of the room for frames and sounds");

  hosted_inference(context<B>& on, Network const& net, std::size_t items)
      : on_(on), items_(items), inner_(on, net, items), input_(input.bytes(items, 1)) {}
  void refresh(Network const& net) { inner_.refresh(net); }

  void embed_frames(from<typename Network::frame> x, to<typename Network::embedding> y) {
    run(x, frames(), y, [&](auto in, auto out) { inner_.embed_frames(in, out); });
  }
  void embed_sounds(from<typename Network::sound> x, to<typename Network::embedding> y) {
    run(x, sounds(), y, [&](auto in, auto out) { inner_.embed_sounds(in, out); });
  }
  void map_frames(from<typename Network::frame> x, to<typename vision_map::output> y) {
    run(x, frames(), y, [&](auto in, auto out) { inner_.map_frames(in, out); });
  }
  void map_sounds(from<typename Network::sound> x, to<typename audio_map::output> y) {
    run(x, sounds(), y, [&](auto in, auto out) { inner_.map_sounds(in, out); });
  }
  template <std::size_t Blocks>
  void pool_frames(from<typename Network::frame> x, to<typename vision_blocks<Blocks>::output> y) {
    run(x, frames(), y, [&](auto in, auto out) { inner_.template pool_frames<Blocks>(in, out); });
  }
  template <std::size_t Blocks>
  void pool_sounds(from<typename Network::sound> x, to<typename audio_blocks<Blocks>::output> y) {
    run(x, sounds(), y, [&](auto in, auto out) { inner_.template pool_sounds<Blocks>(in, out); });
  }
  void score(from<typename Network::frame> f, from<typename Network::sound> s, to<features<2>> logits) {
    auto const v = send(f, frames());
    auto const a = send(s, sounds());
    scored(logits, [&](auto out) { inner_.score(v, a, out); });
  }
  void score_features(from<typename Network::embedding> v, from<typename Network::embedding> a,
                      to<features<2>> logits) {
    auto const dv = send(v, frames());
    auto const da = send(a, sounds());
    scored(logits, [&](auto out) { inner_.score_features(dv, da, out); });
  }
  std::size_t room() const { return items_; }

 private:
  float* floats() { return reinterpret_cast<float*>(input_.data()); }
  value* frames() {
    return reinterpret_cast<value*>(
        input_.data() + per_item<float>(std::max(Network::frame::size, Network::sound::size)).bytes(items_, 1));
  }
  value* sounds() { return frames() + per_item<value>(Network::frame::size).bytes(items_, 1) / sizeof(value); }

  /// The values at `at`, in the backend's type.
  template <class Shape>
  batch_view<value const, Shape> send(from<Shape> x, value* at) {
    if (x.count > items_)
      throw shape_error({"inference batch", "at most " + std::to_string(items_) + " items", std::to_string(x.count)});
    upload(on_, x.size(), x.data, floats());
    convert(on_, x.size(), static_cast<float const*>(floats()), at);
    return {at, x.count};
  }
  /// Room for `bytes` of results, and as many behind them.
  std::byte* results(std::size_t bytes) {
    std::size_t const size = round_up(bytes, alignment);
    if (results_.size() < 2 * size) results_ = device_block(), results_ = device_block(2 * size);
    return results_.data();
  }
  template <class In, class Out, class F>
  void run(from<In> x, value* at, to<Out> y, F&& f) {
    auto const in = send(x, at);
    std::size_t const bytes = y.size() * sizeof(float);
    auto* const out = reinterpret_cast<value*>(results(bytes));
    auto* const as_floats = reinterpret_cast<float*>(results_.data() + round_up(bytes, alignment));
    f(in, batch_view<value, Out>(out, y.count));
    convert(on_, y.size(), static_cast<value const*>(out), as_floats);
    download(on_, y.size(), static_cast<float const*>(as_floats), y.data);
  }
  template <class F>
  void scored(to<features<2>> logits, F&& f) {
    auto* const out = reinterpret_cast<float*>(results(logits.size() * sizeof(float)));
    f(to<features<2>>(out, logits.count));
    download(on_, logits.size(), static_cast<float const*>(out), logits.data);
  }

  context<B>& on_;
  std::size_t items_;
  inner inner_;
  device_block input_, results_;
};

}  // namespace l3::inline L3_ISA
