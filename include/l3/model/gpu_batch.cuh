/// @file  include/l3/model/gpu_batch.cuh: how a batch gets to a GPU, and becomes there what a network takes.
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <l3/core/cuda.cuh>
#include <l3/core/front_end.hpp>
#include <l3/core/jitter.hpp>
#include <l3/core/tensor.hpp>
#include <l3/kernels/kernels.hpp>
#include <l3/model/classifier.hpp>
#include <span>
#include <type_traits>

namespace l3::inline L3_ISA {

/// A batch on its way to a GPU, in one transfer.
class gpu_parcel {
 public:
  gpu_parcel() = default;
  /// Room for so many bytes, each piece rounded up to a multiple of `alignment`.
  explicit gpu_parcel(std::size_t bytes) : here_(std::max(bytes, round_up(bytes, alignment))), there_(here_.size()) {}
  void clear() { size_ = 0; }
  /// Puts a copy in, and says where on the GPU it will lie: in the same place if as much was put in before it.
  template <class T>
  T const* put(std::span<T const> values) {
    if (!values.empty()) std::memcpy(here_.data() + size_, values.data(), values.size_bytes());
    auto const* const place = reinterpret_cast<T const*>(there_.data() + size_);
    size_ += round_up(values.size_bytes(), alignment);
    return place;
  }
  void send(cudaStream_t in) const {
    cuda_check(cudaMemcpyAsync(there_.data(), here_.data(), size_, cudaMemcpyHostToDevice, in), "sending a batch");
  }

 private:
  pinned_block here_;
  device_block there_;
  std::size_t size_ = 0;
};

/// A batch's pictures. They come as values or, a quarter of the bytes, as crops and what chance does to them.
template <backend B, image_shape Frame>
class gpu_frames {
 public:
  using value = value_of<B>;
  using values_view = batch_view<float const, Frame>;
  struct raw_view {
    batch_view<std::uint8_t const, Frame> crops;
    std::span<image_jitter const> jitters;
    std::size_t count() const { return crops.count; }
    /// Throws shape_error unless there is as much of everything.
    void check() const { require_same_count("batch: jitters for the frames", count(), jitters.size()); }
  };
  static constexpr bool takes_raw = true;
  /// On the way, and as the network takes them.
  static constexpr footprint sent = per_item<float>(Frame::size) + per_item<image_jitter>(1);
  static constexpr footprint made = per_item<value>(Frame::size);

  gpu_frames(context<B>&, std::size_t items) : values_(made.bytes(items, 1)) {}

  /// Where they lie on the GPU.
  struct place {
    float const* values = nullptr;  ///< or, if null:
    std::uint8_t const* crops = nullptr;
    image_jitter const* jitters = nullptr;
  };
  /// Puts them into a parcel.
  static place put(gpu_parcel& in, values_view x) { return {.values = in.put(x.values())}; }
  static place put(gpu_parcel& in, raw_view const& x) {
    return {.crops = in.put(x.crops.values()), .jitters = in.put(x.jitters)};
  }
  /// Makes them what the network takes.
  batch_view<value const, Frame> make(context<B>& on, place const& from, std::size_t count) {
    auto* const to = reinterpret_cast<value*>(values_.data());
    if (from.values != nullptr)
      convert(on, count * Frame::size, from.values, to);
    else
      augment_images<Frame>(on, count, from.crops, from.jitters, to);
    return {to, count};
  }

 private:
  device_block values_;
};

namespace detail::gpu {
/// What makes a network's sounds of samples, where a GPU knows how; and how many of these there are.
template <backend B, class FrontEnd>
struct ear {
  static constexpr std::size_t samples = 0;
  explicit ear(context<B>&) {}
};
template <backend B, log_front_end FrontEnd>
struct ear<B, FrontEnd> : gpu_spectrogram<FrontEnd, typename B::precision> {
  using gpu_spectrogram<FrontEnd, typename B::precision>::gpu_spectrogram;
  static constexpr std::size_t samples = FrontEnd::samples;
};
}  // namespace detail::gpu

/// A batch's sounds. They come as values or, where the front end is one that a GPU computes, as samples and volumes.
template <backend B, class FrontEnd>
class gpu_sounds {
 public:
  using value = value_of<B>;
  using sound = typename FrontEnd::output;
  using values_view = batch_view<float const, sound>;
  /// Samples of a second; 0 where they come as values alone.
  static constexpr std::size_t samples = detail::gpu::ear<B, FrontEnd>::samples;
  static constexpr bool takes_raw = samples > 0;
  struct raw_view {
    batch_view<float const, features<std::max<std::size_t>(samples, 1)>> seconds;
    std::span<float const> volumes;
    std::size_t count() const { return seconds.count; }
    /// Throws shape_error unless there is as much of everything.
    void check() const { require_same_count("batch: volumes for the seconds", count(), volumes.size()); }
  };
  /// On the way, and as the network takes them.
  static constexpr footprint sent = per_item<float>(std::max(sound::size, samples)) + per_item<float>(1);
  static constexpr footprint made = per_item<value>(sound::size);

  gpu_sounds(context<B>& on, std::size_t items) : ear_(on), values_(made.bytes(items, 1)) {}

  /// Where they lie on the GPU.
  struct place {
    float const* values = nullptr;  ///< or, if null:
    float const* seconds = nullptr;
    float const* volumes = nullptr;
  };
  /// Puts them into a parcel.
  static place put(gpu_parcel& in, values_view x) { return {.values = in.put(x.values())}; }
  static place put(gpu_parcel& in, raw_view const& x) {
    return {.seconds = in.put(x.seconds.values()), .volumes = in.put(x.volumes)};
  }
  /// Makes them what the network takes.
  batch_view<value const, sound> make(context<B>& on, place const& from, std::size_t count) {
    auto* const to = reinterpret_cast<value*>(values_.data());
    if (from.values != nullptr) {
      convert(on, count * sound::size, from.values, to);
    } else if constexpr (takes_raw) {
      ear_(on, count, from.seconds, from.volumes, to);
    }
    return {to, count};
  }

 private:
  [[no_unique_address]] detail::gpu::ear<B, FrontEnd> ear_;
  device_block values_;
};

/// How the items of a trunk_classifier get to a GPU: as pictures or as sounds.
template <class Network>
using gpu_items = std::conditional_t<std::same_as<typename Network::side, vision_of<typename Network::config>>,
                                     gpu_frames<typename Network::backend_type, typename Network::config::frame>,
                                     gpu_sounds<typename Network::backend_type, typename Network::config::front_end>>;

/// How many items there are, in any of their forms. Errors: shape_error unless there is as much of everything.
template <class Items>
std::size_t count_of(Items const& x) {
  if constexpr (requires { x.check(); })
    return x.check(), x.count();
  else
    return x.count;
}

}  // namespace l3::inline L3_ISA
