/// @file  examples/l3/training_log.hpp: what a training writes behind its steps: rows, and files that were refused.
#pragma once
#include <l3/data/loader_report.hpp>
#include <l3/data/refusal.hpp>
#include <l3/train/softmax_head.hpp>
#include <l3/train/trainer.hpp>
#include <set>
#include <string>
#include <vector>

#include "crew.hpp"
#include "program.hpp"
#include "run_folder.hpp"

namespace l3::program {

/// What the processes of a training tell each other behind every step.
struct step_state {
  double seconds = 0, wait = 0;
  std::uint64_t print = 0;  ///< of the weights, now and then
  std::int32_t signal = 0;
  std::uint32_t refusals = 0;  ///< since the step before
  std::uint64_t late = 0;      ///< 1: a checkpoint is due; what the first process says counts
};

/// Files that training, or validation, could not use: each is written and warned of once, by the first process.
class refusal_log {
 public:
  /// With those that the run knows of. All processes call it. Errors: file_error, format_error, group_error.
  refusal_log(run_folder& run, crew& all, common_options const& says, bool in_validation);
  std::vector<refusal> const& known() const { return known_; }

  /// One that this process could not use.
  void add(refusal const& r) { new_.push_back(r); }
  std::uint32_t not_written() const { return static_cast<std::uint32_t>(new_.size()); }
  /// Writes those of all processes; all of them call it. Errors: file_error, group_error.
  void write() { write(all_.gather(take())); }
  /// Writes this process's. Errors: file_error.
  void write_own() {
    if (all_.is_first() && !new_.empty()) write({take()});
  }
  /// Those refused as a whole, and those of which some moments were.
  std::size_t count() const { return written_.size() - damaged_; }
  std::size_t damaged() const { return damaged_; }

 private:
  std::string take();
  void write(std::vector<std::string> const& of_all);

  run_folder& run_;
  crew& all_;
  common_options const& says_;
  bool in_validation_;
  std::vector<refusal> known_;     ///< when this began
  std::vector<refusal> new_;       ///< not yet written
  std::set<std::string> written_;  ///< names
  std::size_t damaged_ = 0;        ///< of them
};

/// Gathers rows of log.csv, each the mean over some steps, and of processes.csv. The first process writes them.
class training_log {
 public:
  /// `draws`: of all processes in a step.
  training_log(run_folder& run, crew& all, common_options const& says, std::size_t draws);

  /// A step of this process, and how it and the others fared.
  void add(step_report const& step, double seconds, double wait);
  void add(std::size_t rank, step_state const& of_one);
  void add(class_score const& validation);
  bool has_validation() const { return row_.valid_loss >= 0; }
  /// Of the time since the row before, how much was spent waiting for batches.
  double wait_share() const { return wait_ / seconds_; }
  /// Writes the row, if there are steps for one. `now`: what the loader says. Errors: file_error.
  void end_row(loader_report const& now);

 private:
  run_folder& run_;
  crew& all_;
  common_options const& says_;
  std::size_t draws_;
  log_row row_;
  std::uint64_t steps_ = 0;  ///< of the row
  double seconds_ = 0, wait_ = 0;
  loader_report read_;               ///< when the row began
  std::vector<step_state> of_each_;  ///< of the row, by process
};

}  // namespace l3::program
