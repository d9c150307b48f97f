/// @file  examples/l3/embedder.hpp: sounds and pictures of files -> rows of features, in constant memory.
#pragma once
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "engine.hpp"
#include "feed.hpp"

namespace l3::program {

/// Takes whole rows, in order.
using row_sink = std::function<void(std::span<float const>)>;

/// What is made of which files.
struct embedder_settings {
  bool frames = false, sounds = false;  ///< what will be asked for
  feature which;
  std::size_t hop = sound_rate;  ///< samples at 48 kHz from one row to the next
  std::size_t batch = 32;        ///< rows computed at a time, where sounds do not share work
  bool repeats = false;          ///< a sound shorter than a second is filled up with itself, not with silence
};

/// What was met in a sound.
struct sound_outcome {
  std::size_t rows = 0;
  bool is_short = false;   ///< shorter than one second
  bool is_silent = false;  ///< nowhere louder than half a step of 16 bits
};

/// Embeds file after file. Whole files, however long; the features do not depend on `batch`.
///
/// Errors  of `sounds` and `frames`: file_error; media_error: no such stream, or damage; numeric_error: a feature that
///         is not finite; what the sink throws. Rows may have been handed out before.
class embedder {
 public:
  /// Takes the engine's memory for inference.
  embedder(engine& net, model_input const& input, embedder_settings const& settings);

  /// Seconds that overlap share the work on what they have in common.
  bool shares() const { return windows_ > 0; }
  double hop_seconds() const { return static_cast<double>(settings_.hop) / sound_rate; }
  std::size_t width(modality what) const { return net_.width_of(what, settings_.which); }

  /// Row k covers [k hop, k hop + 1 s); seconds that the sound does not fill to the end are left out, but there is
  /// always one row.
  sound_outcome sounds(std::filesystem::path const& file, row_sink const& rows);
  /// Row k is the frame on display at first + k hop seconds; `count` rows, or 0: until the end. A still picture gives
  /// one. Returns the number of rows.
  std::size_t frames(std::filesystem::path const& file, row_sink const& rows, double first = 0, std::size_t count = 0);

 private:
  class reading;
  void alone(reading& source, row_sink const& rows);
  void together(reading& source, row_sink const& rows);
  void flush(modality what, std::size_t n, row_sink const& rows);
  void keep(std::size_t values, row_sink const& rows);

  engine& net_;
  model_input const& input_;
  embedder_settings settings_;
  std::size_t windows_ = 0;  ///< embedded at a time where they share
  decode_limits limits_;
  std::vector<float> inputs_, outputs_, spectrum_;
};

/// The part of a network by its name on the command line: pool1, pool2, pool3, conv4_2, pool4; none: conv4_2 where a
/// grid is asked for, else pool4. Errors  setting_error: another name, or a grid of pool4, of which nothing is left to
/// pool.
feature feature_named(std::string const& layer, std::string const& pool);
/// Whether a file's ending says that it is of a kind to embed: "audio", "image" or "video".
bool suits_embedding(std::filesystem::path const& file, std::string const& kind);
/// "conv4_2, grid".
std::string name_of(feature which);

}  // namespace l3::program
