/// @file  include/l3/train/loss.cuh: the loss of audio-visual correspondence on a GPU.
#pragma once
#include <l3/core/cuda.cuh>
#include <l3/train/loss.hpp>

namespace l3::inline L3_ISA {

/// As pair_loss; loss and counts stay on the GPU, in the columns of a tally (kernels/cuda/pair_scores.cuh).
class gpu_pair_loss {
 public:
  /// Room for so many scored pairs.
  explicit gpu_pair_loss(std::size_t most_rows) : scratch_(detail::gpu::score_room(most_rows)) {}
  /// For frames whose first one's own sound is number `first`; labels are read with pairing::paper alone. `adds`: to
  /// the tally that is there.
  void operator()(cudaStream_t in, pair_dims const& d, std::size_t first, std::int32_t const* labels,
                  float const* logits, float* dlogits, double* tally, bool adds = false) const {
    auto const [own, other] = pair_weights(d);
    detail::gpu::row_labels const of{.labels = d.which == pairing::paper ? labels : nullptr,
                                     .sounds = detail::gpu::narrow(d.sounds()),
                                     .first = detail::gpu::narrow(first),
                                     .own = static_cast<float>(own),
                                     .other = static_cast<float>(other)};
    detail::gpu::score_rows(in, of, d.rows(), d.classes, logits, dlogits, tally, adds, scratch_.data());
  }

 private:
  device_block scratch_;
};

}  // namespace l3::inline L3_ISA
