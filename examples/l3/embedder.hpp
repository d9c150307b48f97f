/// @file  examples/l3/embedder.hpp: sounds and pictures of files -> rows of features, in constant memory.
#pragma once
#include <deque>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "engine.hpp"
#include "feed.hpp"
#include "item_reader.hpp"

namespace l3::program {

/// What is made of which files.
struct embedder_settings {
  bool frames = false, sounds = false;  ///< what will be asked for
  feature which;
  std::size_t hop = sound_rate;  ///< samples at 48 kHz from one row to the next
  std::size_t batch = 32;        ///< rows computed at a time, where sounds do not share work
  bool repeats = false;          ///< a sound shorter than a second is filled up with itself, not with silence
  bool centred = false;          ///< seconds around each moment, not those that the sound fills
  std::size_t workers = 0;       ///< threads that read files meanwhile; zero: one a core
};

/// Takes what is made of files: of each kind in the order of the jobs; one kind may be ahead of the other.
class row_sink {
 public:
  virtual ~row_sink() = default;
  /// A job's file is about to be opened. From a thread that reads, before anything else of the job.
  virtual void opening([[maybe_unused]] std::size_t job) {}
  /// Whole rows.
  virtual void rows(std::size_t job, modality what, std::span<float const> some) = 0;
  /// There are no more. If the outcome is a refusal, those that came are void.
  virtual void end(std::size_t job, modality what, reading_outcome const& outcome) = 0;
};

/// Embeds file after file, while threads read the next ones. Whole files, however long; rows of different files are
/// computed together, and the features do not depend on `batch`.
class embedder {
 public:
  /// Takes the engine's memory for inference. Errors: setting_error: no network for what will be asked for.
  embedder(feature_engine& net, model_input const& input, embedder_settings const& settings);

  /// Seconds that overlap share the work on what they have in common.
  bool shares() const { return rules_.windows > 0; }
  std::size_t hop() const { return rules_.hop; }  ///< samples at 48 kHz
  double hop_seconds() const { return static_cast<double>(rules_.hop) / sound_rate; }
  std::size_t width(modality what) const { return net_.width_of(what, settings_.which); }

  /// Row k of a sound covers [k hop, k hop + 1 s); seconds that the sound does not fill are left out (a delay of a
  /// tenth of a second is none), at the beginning, so that the first row may be another than 0, and at the end; but
  /// there is always one row. Centred ones cover half a second to each side of k hop, until one holds the sound's end,
  /// with silence where there is no sound. Row k of pictures is the frame on display at k hop seconds, of aligned ones
  /// in the middle of the sound's. A still picture gives one. When `go_on` says no, what has been read is computed yet.
  /// Once for an embedder.
  ///
  /// Errors  numeric_error: a feature that is not finite; what the sink throws. Files that cannot be read are refused.
  void run(std::span<reading_job const> jobs, row_sink& to, std::function<bool()> const& go_on);

 private:
  /// Items of one kind that wait to be computed together, and whose they are.
  struct waiting {
    struct share {
      std::size_t job, rows;
      std::optional<reading_outcome> end;
    };
    std::vector<std::byte> items;
    std::size_t count = 0;
    std::vector<share> shares;
  };
  /// Items being computed: their number, and whose they are.
  struct computing {
    modality what;
    std::size_t count;
    std::vector<waiting::share> shares;
  };
  void add(reading_piece const& piece, row_sink& to);
  void end(reading_piece const& piece, row_sink& to);
  void compute(modality what, row_sink& to);
  /// Makes room to begin something; and what is to be done when it has begun.
  void before_begin(row_sink& to) { finish(net_.most_in_flight() - 1, to); }
  void begun(computing&& one, row_sink& to);
  void finish(std::size_t still_computed, row_sink& to);
  std::size_t size_of(modality what) const { return item_bytes(input_, what, rules_.raw); }
  std::size_t batch_of(modality what) const {
    return what == modality::sound && shares() && !rules_.raw ? 1 : settings_.batch;
  }

  feature_engine& net_;
  model_input const& input_;
  embedder_settings settings_;
  reading_rules rules_;
  waiting frames_, sounds_;
  std::span<reading_job const> jobs_;
  std::deque<computing> begun_;
  std::vector<float> outputs_;
};

/// The part of a network by its name on the command line: pool1, pool2, pool3, conv4_2, pool4; none: conv4_2 where a
/// grid is asked for or the network goes no further, else pool4. Errors  setting_error: another name, a layer that the
/// network does not have, or a grid of pool4, of which nothing is left to pool.
feature feature_named(std::string const& layer, std::string const& pool, model_facts const& of);
/// Option --hop, in samples at 48 kHz. Errors  setting_error: less than one, or a million seconds and more.
std::size_t hop_samples(double seconds);
/// Whether a file's ending says that it is of a kind to embed: "audio", "image" or "video".
bool suits_embedding(std::filesystem::path const& file, std::string const& kind);
/// "conv4_2, grid".
std::string name_of(feature which);

}  // namespace l3::program
