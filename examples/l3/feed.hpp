/// @file  examples/l3/feed.hpp: batches and single inputs for a model chosen at run time: the loader's templates behind
/// plain spans, as engine.hpp is for the network's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <l3/data/collection.hpp>
#include <l3/data/loader.hpp>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "program.hpp"

namespace l3::program {

/// One batch, valid until the next is asked for: as values, or as what they are made from (see raw_batch).
struct feed_batch {
  std::size_t count = 0;
  std::span<float const> frames{}, sounds{};
  std::span<std::int32_t const> labels{};        ///< 1 corresponds
  std::span<std::uint32_t const> frame_clips{};  ///< which video each frame is from
  std::span<std::uint32_t const> sound_clips{};  ///< and each second
  std::span<double const> frame_times{}, sound_starts{};
  std::span<std::uint8_t const> crops{};  ///< instead of frames and sounds: these
  std::span<float const> seconds{};
  std::span<image_jitter const> jitters{};
  std::span<float const> volumes{};
};

/// Batches in order.
class feed {
 public:
  virtual ~feed() = default;
  virtual feed_batch next() = 0;
  virtual loader_report const& report() const = 0;
};

/// What one model eats. Any number of threads may use it.
class model_input {
 public:
  virtual ~model_input() = default;
  virtual std::size_t frame_side() const = 0;  ///< smallest side of the pictures that `picture` takes
  virtual std::size_t frame_size() const = 0;  ///< floats of one frame
  virtual std::size_t sound_size() const = 0;  ///< floats of one second's picture
  /// Bytes of one of each: as values, or as what these are made from, for an engine that takes_raw().
  std::size_t frame_bytes(bool raw) const { return frame_size() * (raw ? 1 : sizeof(float)); }
  std::size_t sound_bytes(bool raw) const { return (raw ? sound_rate : sound_size()) * sizeof(float); }
  /// Centre crop of an RGB frame.
  virtual void picture(rgb_frame const& from, std::span<float> out) const = 0;
  /// The same crop as bytes.
  virtual void crop(rgb_frame const& from, std::span<std::uint8_t> out) const = 0;
  /// A crop at a random place, mirrored half of the time, colours as they are.
  virtual void random_view(rgb_frame const& from, generator random, std::span<float> out) const = 0;
  /// Front end on one second of mono sound at 48 kHz.
  virtual void spectrum(std::span<float const> samples, std::span<float> out) const = 0;
  /// Samples from one column of that picture to the next; 0: a column depends on the whole second.
  virtual std::size_t column_samples() const = 0;
  /// Front end on a longer sound, whose columns stand alone.
  virtual void long_spectrum(std::span<float const> samples, std::span<float> out) const = 0;
  virtual std::size_t sound_columns() const = 0;  ///< of one second's picture
  /// Batches of training, without end, or the fixed pairs of evaluation, then a batch of count 0; as options say.
  /// `raw`: not as values, for an engine that takes_raw().
  virtual std::unique_ptr<feed> open(collection const& data, loader_options options, bool raw = false) const = 0;
};

/// A collection as `option` names it. Errors: as open_collection; setting_error: videos, where this build reads packed
/// collections alone.
collection open_data(std::string const& option, std::string const& name);

/// Warns of videos that are in it by several names: a pair of two videos may be one of those. `prints`: see
/// prints_of_files.
void tell_of_links(common_options const& says, std::string const& option, collection const& data,
                   std::span<std::uint64_t const> prints);

/// A picture of a collection's video, its smallest side `side` (0: as it is), and a second of its sound: what a batch
/// has crops and spectra of. Errors: as those of clip_reader and packed_clips.
rgb_frame picture_of(collection const& from, std::uint32_t clip, double time, std::size_t side,
                     decode_limits const& limits);
std::vector<float> second_of(collection const& from, std::uint32_t clip, double start, decode_limits const& limits);

/// The input of a model by name: paper, small, tiny, or one of OpenL3's, which give no batches. Errors: setting_error.
std::unique_ptr<model_input> make_input(std::string const& model);

}  // namespace l3::program
