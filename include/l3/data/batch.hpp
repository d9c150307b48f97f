/// @file  include/l3/data/batch.hpp: what a network takes in one step, as values or as what they are made from; knows
/// nothing of FFmpeg.
#pragma once
#include <cstddef>
#include <cstdint>
#include <l3/core/jitter.hpp>
#include <l3/core/shape.hpp>
#include <l3/core/tensor.hpp>
#include <span>
#include <vector>

namespace l3::inline L3_ISA {

/// What a batch of frame-sound pairs says of itself: labels, and where each half came from. All memory is taken at
/// construction; whoever fills the batch sets `count` and the first `count` items of everything.
///
/// Shapes  all (N).
/// Units   times in seconds on the clip's own clock; clips count in the list that the batch was drawn from.
struct batch_notes {
  batch_notes() = default;
  /// Room for `capacity` items, and none in it yet.
  explicit batch_notes(std::size_t capacity)
      : labels(capacity), frame_clips(capacity), sound_clips(capacity), frame_times(capacity), sound_starts(capacity) {}

  std::span<std::int32_t const> label_view() const { return {labels.data(), count}; }

  std::vector<std::int32_t> labels;        ///< 1: frame and second of one moment; 0: of two videos
  std::vector<std::uint32_t> frame_clips;  ///< the video each frame is from
  std::vector<std::uint32_t> sound_clips;  ///< the video each second is from
  std::vector<double> frame_times;
  std::vector<double> sound_starts;
  std::size_t count = 0;
  std::uint64_t step = 0;  ///< which batch of the run this is
};

/// A batch of frame-sound pairs.
///
/// Shapes  frames (N, Frame), sounds (N, Sound).
template <image_shape Frame, image_shape Sound>
struct av_batch : batch_notes {
  av_batch() = default;
  explicit av_batch(std::size_t capacity) : batch_notes(capacity), frames(capacity), sounds(capacity) {}

  batch_view<float const, Frame> frame_view() const { return frames.view().slice(0, count); }
  batch_view<float const, Sound> sound_view() const { return sounds.view().slice(0, count); }

  tensor<float, Frame> frames;
  tensor<float, Sound> sounds;
};

/// Borrowed items of a raw_batch.
///
/// Shapes  all (N); crops (N, Frame), seconds (N, Samples).
template <image_shape Frame, std::size_t Samples>
struct raw_view {
  batch_view<std::uint8_t const, Frame> crops;
  batch_view<float const, features<Samples>> seconds;
  std::span<image_jitter const> jitters;
  std::span<float const> volumes;
  std::size_t count() const { return crops.count; }
};

/// A batch of frame-sound pairs as bytes of pictures and samples of sound, and what is still to be done to them: a GPU
/// does that in passing, and a third of the bytes travels.
///
/// Shapes  crops (N, Frame), seconds (N, Samples); jitters and volumes (N).
/// Units   crops 0 to 255, cut out already and not yet mirrored; seconds of full scale 1, to be multiplied by volumes.
template <image_shape Frame, std::size_t Samples>
struct raw_batch : batch_notes {
  raw_batch() = default;
  explicit raw_batch(std::size_t capacity)
      : batch_notes(capacity), crops(capacity), seconds(capacity), jitters(capacity), volumes(capacity) {}

  raw_view<Frame, Samples> view() const {
    return {
        crops.view().slice(0, count), seconds.view().slice(0, count), {jitters.data(), count}, {volumes.data(), count}};
  }

  tensor<std::uint8_t, Frame> crops;
  tensor<float, features<Samples>> seconds;
  std::vector<image_jitter> jitters;
  std::vector<float> volumes;
};

}  // namespace l3::inline L3_ISA
