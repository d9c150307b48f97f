/// @file  examples/l3/training_options.hpp: the settings of a training: from the command line, or from the run that is
/// gone on with.
#pragma once
#include <optional>
#include <string>

#include "engine.hpp"
#include "feed.hpp"
#include "program.hpp"
#include "run_folder.hpp"

namespace l3::program {

/// Settings that every training has; config.json keeps those that change what is learned or written.
struct training_options : common_options {
  std::string train, valid, out, model = "small", dump;
  backend_choice on;
  std::size_t batch = 0, workers = 0, accumulate = 1;
  std::uint32_t valid_pairs = 1000;
  std::uint64_t pairs = 200'000, seed = 0, valid_every = 0, save_every = 0, warm_up = 100, log_every = 10;
  double learning_rate = 0, weight_decay = 1e-5, seconds = 10, save_minutes = 30;
  opening_options opening;
  bool resume = false, tensorboard = false;
  std::string again;  ///< the command that goes on with the run; empty: `command --out OUT --resume`

  void add_to(CLI::App& command);
};

/// The settings of one kind of training beside those that all have: option's name and value, as config.json keeps
/// them.
using extra_settings = json;

/// What follows from the settings once data and network are known.
struct training_plan {
  std::size_t own = 0, together = 0;  ///< draws in a step: of this process, and of all
  std::size_t valid_batch = 0;
  std::uint64_t last_step = 0;
  std::string workers;  ///< " (of all workers 256)", if there are several
  json config;          ///< config.json
  json settings;  ///< what a checkpoint keeps: only what changes the numbers, so that equal trainings give equal files
};

/// Takes the settings of an old run; an option given now must agree, except that more pairs may be asked for, another
/// learning rate, batches that add up to as many draws a step, the same videos elsewhere (which the caller looks at),
/// and what changes when something is written, not what is learned. Errors: setting_error, format_error.
void take_config(CLI::App& command, training_options& o, extra_settings& extra, run_folder const& run);
/// Takes what the data decides from a run that is gone on with, where it cannot be looked at any more; what can must be
/// as it was. Errors: setting_error.
void keep_extra(extra_settings& extra, run_folder const& run);
/// Puts defaults into `o`, and sees to it that all of it fits together. `run`: the one that is gone on with.
/// Errors: setting_error, format_error.
training_plan plan_training(training_options& o, extra_settings const& extra, std::optional<run_folder> const& run,
                            model_facts const& facts, pairing which, std::size_t videos, std::size_t processes);
/// The last checkpoint is of a run with these settings, not of another that was copied here? Errors: format_error,
/// file_error.
void require_own(run_folder const& run, json const& settings, std::uint64_t seed);

}  // namespace l3::program
