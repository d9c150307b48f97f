/// @file  include/l3/data/batch.hpp: frames, spectra and labels that a network takes in one step; knows nothing of
/// FFmpeg.
#pragma once
#include <cstddef>
#include <cstdint>
#include <l3/core/shape.hpp>
#include <l3/core/tensor.hpp>
#include <span>
#include <vector>

namespace l3::inline L3_ISA {

/// A batch of frame-sound pairs, with where each half came from. All memory is taken at construction; whoever fills the
/// batch sets `count` and the first `count` items of everything.
///
/// Shapes  frames (N, Frame), sounds (N, Sound); labels, clips and times (N).
/// Units   times in seconds on the clip's own clock; clips count in the list that the batch was drawn from.
template <image_shape Frame, image_shape Sound>
struct av_batch {
  using frame_shape = Frame;
  using sound_shape = Sound;

  av_batch() = default;
  /// Room for `capacity` items, and none in it yet.
  explicit av_batch(std::size_t capacity)
      : frames(capacity),
        sounds(capacity),
        labels(capacity),
        frame_clips(capacity),
        sound_clips(capacity),
        frame_times(capacity),
        sound_starts(capacity) {}

  std::size_t capacity() const { return labels.size(); }
  batch_view<float const, Frame> frame_view() const { return frames.view().slice(0, count); }
  batch_view<float const, Sound> sound_view() const { return sounds.view().slice(0, count); }
  std::span<std::int32_t const> label_view() const { return {labels.data(), count}; }

  tensor<float, Frame> frames;
  tensor<float, Sound> sounds;
  std::vector<std::int32_t> labels;        ///< 1: frame and second of one moment; 0: of two videos
  std::vector<std::uint32_t> frame_clips;  ///< the video each frame is from
  std::vector<std::uint32_t> sound_clips;  ///< the video each second is from
  std::vector<double> frame_times;
  std::vector<double> sound_starts;
  std::size_t count = 0;
  std::uint64_t step = 0;  ///< which batch of the run this is
};

}  // namespace l3::inline L3_ISA
