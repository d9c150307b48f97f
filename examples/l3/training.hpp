/// @file  examples/l3/training.hpp: the loop that all trainings share: batches, log, validation, checkpoints, going on
/// after an interruption. What is taught is a `lesson`.
#pragma once
#include <l3/train/softmax_head.hpp>
#include <memory>
#include <string>

#include "crew.hpp"
#include "engine.hpp"
#include "evaluate.hpp"
#include "training_options.hpp"

namespace l3::program {

/// What is taught to which network.
class lesson {
 public:
  virtual ~lesson() = default;
  virtual model_facts const& facts() const = 0;
  virtual std::string title() const = 0;   ///< "tiny (621k learned numbers)"
  virtual std::string chance() const = 0;  ///< "loss 0.693, accuracy 0.5"
  virtual pairing which() const = 0;
  /// Initial weights, and memory for training and for validation on so many pairs at a time. `resumes`: a checkpoint is
  /// loaded next, so nothing needs be read to begin with.
  virtual void prepare(std::uint64_t seed, training_settings const&, std::size_t valid_batch, bool resumes,
                       process_group* group) = 0;
  /// Steps that are finished.
  virtual std::uint64_t steps() const = 0;
  /// See engine: where that is more than one, a step may be begun before the one before is finished.
  virtual std::size_t most_in_flight() const = 0;
  virtual std::size_t in_flight() const = 0;
  virtual bool takes_raw() const = 0;
  virtual void begin(feed_batch const&) = 0;
  virtual step_report finish() = 0;
  /// None: a signal came, here or at another process.
  virtual std::optional<class_score> validate(fixed_pairs&, std::uint64_t seed) = 0;
  /// A number that tells these weights from others.
  virtual std::uint64_t print() const { return 0; }
  virtual void save(std::filesystem::path const&, checkpoint_facts const&) = 0;
  virtual void load(std::filesystem::path const&) = 0;
};

/// Makes the lesson once settings are final (those of the run that is gone on with), and may add settings that the data
/// decides: a run that is gone on with must have the same.
using lesson_maker = std::function<std::unique_ptr<lesson>(training_options const&, extra_settings&,
                                                           collection const& train, collection const& valid)>;

/// How a training ended.
struct training_end {
  int code = done;
  json result;  ///< the document of --json
  std::filesystem::path best, last;
};

/// Trains. Options of `command` that were given must agree with those of a run that is gone on with, except --lr, a
/// higher --pairs, and --batch and --accumulate as long as the draws of a step stay the same.
///
/// With a crew each process trains on its part of every batch; the first one writes and speaks, and the folder of the
/// run must be the same for all.
///
/// Errors  setting_error, file_error, format_error, media_error, numeric_error, group_error. What was learned since the
///         last save is saved if that can be done (not by GPUs of which one is gone), but not what led to numbers that
///         are not finite.
training_end run_training(CLI::App& command, training_options o, extra_settings extra, lesson_maker const& make,
                          crew& all);

}  // namespace l3::program
