/// @file  include/l3/model/hosted_sliding.cuh: sounds that overlap on a GPU, for spectrograms and results that lie in
/// the machine's memory.
#pragma once
#include <l3/core/cuda.cuh>
#include <l3/kernels/kernels.hpp>
#include <l3/model/hosted_inference.cuh>
#include <l3/model/sliding.hpp>
#include <span>

namespace l3::inline L3_ISA {

/// `sliding_sounds` by way of a `hosted_inference`, which must live as long: its `finish` fetches what is begun here,
/// in the order of all that was begun.
///
/// Errors  as sliding_sounds and gpu_requests; shape_error: a spectrogram of another size; device_error. Memory  of the
///         GPU, at construction; more for maps when they are first asked for.
template <class Network>
class hosted_sliding {
  using together = sliding_sounds<Network>;
  using map = typename together::audio_map::output;
  static constexpr std::size_t rows = Network::sound::height;

 public:
  using B = typename Network::backend_type;
  using value = value_of<B>;
  using embedding = typename Network::embedding;

  /// As sliding_sounds. Where requests have to grow for it, nothing may be in flight.
  hosted_sliding(context<B>& on, hosted_inference<Network>& net, std::size_t hop, std::size_t windows)
      : on_(on),
        net_(net),
        together_(on, net.inside(), hop, windows),
        spectrum_(rows * together_.columns(windows) * sizeof(value)),
        features_(windows * embedding::size * sizeof(value)) {
    net.requests().reserve(rows * together_.columns(windows) * sizeof(float));
  }
  ~hosted_sliding() { cudaStreamSynchronize(on_.stream()); }  // for what is in flight
  static constexpr double cost(std::size_t hop) { return together::cost(hop); }

  /// Begins "pool4" of the windows of one spectrogram (F, columns(windows)); (windows, embedding).
  void begin_embed(std::span<float const> spectrogram, std::size_t windows) {
    check(spectrogram, windows);
    begin(spectrogram, windows, embedding::size, [this, windows](value const* x, float* out) {
      auto* const y = reinterpret_cast<value*>(features_.data());
      together_.embed(x, {y, windows});
      convert(on_, windows * embedding::size, static_cast<value const*>(y), out);
    });
  }
  /// What is left of their maps when the largest value of each region is taken (see region_dims).
  void begin_regions(std::span<float const> spectrogram, std::size_t windows, extent2 grid) {
    check(spectrogram, windows);
    grow(on_, maps_, windows * map::size * sizeof(value));
    begin(
        spectrogram, windows, grid.height * grid.width * map::channels,
        [this, windows, grid](value const* x, float* out) {
          auto* const y = reinterpret_cast<value*>(maps_.data());
          together_.map(x, {y, windows});
          pool_regions(on_, {windows, map::height, map::width, map::channels, grid}, static_cast<value const*>(y), out);
        });
  }

 private:
  void check(std::span<float const> spectrogram, std::size_t windows) const {
    together_.require_room(windows);
    require_same_count("windows of a sound: values of the spectrogram", rows * together_.columns(windows),
                       spectrogram.size());
  }
  template <class Work>
  void begin(std::span<float const> spectrogram, std::size_t windows, std::size_t width, Work const& work) {
    net_.requests().begin(
        windows * width, [&](gpu_parcel& in) { return in.put(spectrogram); },
        [&](float const* sent, float* out) {
          auto* const x = reinterpret_cast<value*>(spectrum_.data());
          convert(on_, spectrogram.size(), sent, x);
          work(x, out);
        });
  }

  context<B>& on_;
  hosted_inference<Network>& net_;
  together together_;
  device_block spectrum_, features_, maps_;
};

}  // namespace l3::inline L3_ISA
