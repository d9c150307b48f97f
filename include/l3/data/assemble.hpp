/// @file  include/l3/data/assemble.hpp: a picture and a second of sound -> an item of a batch: made ready by the
/// processor, or cut out for a GPU that does the rest.
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/random.hpp>
#include <l3/core/shape.hpp>
#include <l3/data/augment.hpp>
#include <l3/data/batch.hpp>
#include <l3/data/spectrogram.hpp>
#include <optional>
#include <span>
#include <string>

namespace l3::inline L3_ISA {

/// Items as the network takes them. Of a form a loader needs `batch_type`, a batch_notes made of a number of items, and
/// an object for each worker that puts halves of draws where they belong: changed by chance with random numbers, as
/// evaluation sees them without.
///
/// Model   as for loader.
template <class Model>
class as_values {
 public:
  using frame_shape = typename Model::frame;
  using sound_shape = typename Model::front_end::output;
  using batch_type = av_batch<frame_shape, sound_shape>;

  /// Errors  shape_error when the picture is smaller than a frame.
  void put_frame(batch_type& b, std::size_t item, rgb_view picture, std::optional<generator> random) const {
    auto const out = b.frames.view()[item];
    if (random)
      augment_image<frame_shape>(picture, *random, out);
    else
      centre_image<frame_shape>(picture, out);
  }
  /// Changes the samples. Errors  shape_error for another number of them.
  void put_sound(batch_type& b, std::size_t item, std::span<float> samples, std::optional<generator> random) const {
    if (random) augment_sound(samples, *random);
    to_spectrum_(samples, b.sounds.view()[item]);
  }

 private:
  spectrogram<typename Model::front_end> to_spectrum_;
};

/// Items for a GPU to finish. The same random numbers make the same image and the same sound of them.
template <class Model>
class as_bytes {
 public:
  using frame_shape = typename Model::frame;
  static constexpr std::size_t samples = Model::front_end::samples;
  using batch_type = raw_batch<frame_shape, samples>;

  /// Errors  shape_error when the picture is smaller than a frame.
  void put_frame(batch_type& b, std::size_t item, rgb_view picture, std::optional<generator> random) const {
    image_jitter const jitter = random ? draw_image_jitter<frame_shape>(picture.width, picture.height, *random)
                                       : centre_crop<frame_shape>(picture.width, picture.height);
    crop_image<frame_shape>(picture, jitter, b.crops.view()[item]);
    b.jitters[item] = jitter;
  }
  /// Errors  shape_error for another number of samples.
  void put_sound(batch_type& b, std::size_t item, std::span<float const> sound, std::optional<generator> random) const {
    if (sound.size() != samples)
      throw shape_error({"a second of sound", std::to_string(samples) + " samples", std::to_string(sound.size())});
    std::copy(sound.begin(), sound.end(), b.seconds.view()[item].begin());
    b.volumes[item] = random ? draw_volume(*random) : 1.0f;
  }
};

}  // namespace l3::inline L3_ISA
