/// @file  include/l3/model/gpu_requests.cuh: work for a GPU whose inputs and results lie in the machine's memory: one
/// is sent while another is computed.
#pragma once
#include <array>
#include <cstring>
#include <l3/core/cuda.cuh>
#include <l3/core/error.hpp>
#include <l3/model/gpu_batch.cuh>
#include <span>
#include <string>
#include <utility>

namespace l3::inline L3_ISA {

/// Requests, whose results come as floats and are fetched in the order in which they were begun.
///
/// Errors  device_error.
template <backend B>
class gpu_requests {
 public:
  static constexpr std::size_t most = 2;

  /// Inputs take at most `bytes`.
  gpu_requests(context<B>& on, std::size_t bytes) : on_(on) { reserve(bytes); }
  ~gpu_requests() { drain(); }

  /// Room for inputs of so many bytes too. Errors  setting_error: something is in flight.
  void reserve(std::size_t bytes) {
    if (bytes <= room_) return;
    if (in_flight() > 0) throw setting_error({"more room for requests to a GPU", "none in flight", "one"});
    std::array<gpu_parcel, most> parcels;
    for (gpu_parcel& p : parcels) p = gpu_parcel(bytes);
    for (std::size_t k = 0; k < most; ++k) slots_[k].parcel = std::move(parcels[k]);
    room_ = bytes;
  }
  std::size_t in_flight() const { return begun_ - finished_; }
  /// Begins a request: `put` copies its inputs into a gpu_parcel and returns where they will lie on the GPU, and
  /// `work`, called with that and with where `results` floats go there, puts what makes these into the stream. The
  /// inputs may be changed as soon as this returns.
  ///
  /// Errors  setting_error: as many as there can be have been begun already.
  template <class Put, class Work>
  void begin(std::size_t results, Put&& put, Work&& work) {
    if (in_flight() == most)
      throw setting_error({"requests to a GPU", std::to_string(most) + " begun at most", "one more"});
    slot& s = slots_[begun_ % most];
    s.parcel.clear();
    auto const inputs = put(s.parcel);
    s.parcel.send(copies_);
    s.sent.record(copies_);
    s.sent.hold(on_.stream());
    std::size_t const bytes = results * sizeof(float);
    try {
      if (s.here.size() < bytes) {
        s.there = {}, s.here = {};
        device_block there(bytes);
        s.here = pinned_block(bytes), s.there = std::move(there);
      }
      work(inputs, reinterpret_cast<float*>(s.there.data()));
    } catch (...) {
      drain();  // the slot is free again
      throw;
    }
    if (bytes > 0)
      cuda_check(cudaMemcpyAsync(s.here.data(), s.there.data(), bytes, cudaMemcpyDeviceToHost, on_.stream()),
                 "fetching results");
    s.done.record(on_.stream());
    s.bytes = bytes;
    ++begun_;
  }
  /// Waits for the request begun first and fetches its results.
  ///
  /// Errors  setting_error: there is none. shape_error: it has another number of results.
  void finish(std::span<float> out) {
    if (in_flight() == 0) throw setting_error({"results of a GPU", "a request begun before", "none"});
    slot& s = slots_[finished_ % most];
    require_same_count("results of a GPU", s.bytes / sizeof(float), out.size());
    s.done.wait();
    if (s.bytes > 0) std::memcpy(out.data(), s.here.data(), s.bytes);
    ++finished_;
  }
  /// A request alone, begun and finished. Errors  setting_error: others are in flight, whose turn it is.
  template <class Put, class Work>
  void ask(std::span<float> out, Put&& put, Work&& work) {
    if (in_flight() > 0)
      throw setting_error({"a request to a GPU that waits for its results", "none begun before", "one"});
    begin(out.size(), put, work);
    finish(out);
  }

 private:
  struct slot {
    gpu_parcel parcel;
    device_block there;
    pinned_block here;
    std::size_t bytes = 0;
    gpu_event sent, done;
  };

  void drain() const {
    cudaStreamSynchronize(copies_);
    cudaStreamSynchronize(on_.stream());
  }

  context<B>& on_;
  gpu_stream copies_;
  std::array<slot, most> slots_;
  std::size_t begun_ = 0, finished_ = 0, room_ = 0;
};

}  // namespace l3::inline L3_ISA
