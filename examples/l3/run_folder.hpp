/// @file  examples/l3/run_folder.hpp: the folder of one training: config.json, log.csv, refusals and checkpoints.
#pragma once
#include <filesystem>
#include <functional>
#include <l3/data/refusal_lines.hpp>
#include <l3/files/csv.hpp>
#include <l3/files/event_file.hpp>
#include <l3/files/file_lock.hpp>
#include <l3/train/softmax_head.hpp>
#include <optional>
#include <string>
#include <vector>

#include "program.hpp"

namespace l3::program {

/// One row of log.csv. Means over the steps since the row before; validation columns stay empty where none was made.
struct log_row {
  std::uint64_t step = 0, pairs = 0;
  double loss = 0, accuracy = 0;
  double valid_loss = -1, valid_accuracy = -1;  ///< negative: none
  double learning_rate = 0, pairs_per_second = 0, wait_share = 0;
  double batches_ready = 0;                                           ///< in stock when one was asked for
  double open_ms = 0, picture_ms = 0, sound_ms = 0, assemble_ms = 0;  ///< of a worker, for one draw
};

/// The files of a run. What may be missing after a crash is never what a resumed run needs: rows and refusals are
/// written before the checkpoint that counts on them, and rows behind the checkpoint are cut off when it resumes. One
/// process at a time writes to it, where the file system knows locks.
class run_folder {
 public:
  /// A new run. Errors: setting_error if `folder` already holds one, or another process trains in it; file_error.
  static run_folder create(std::filesystem::path folder, json const& config);
  /// An old one, to go on with, or only to look at. Errors: setting_error if it holds none, or another process trains
  /// in it; file_error, format_error.
  static run_folder open(std::filesystem::path folder, bool to_write = true);

  std::filesystem::path const& folder() const { return folder_; }
  std::filesystem::path last() const { return folder_ / "last.safetensors"; }
  std::filesystem::path best() const { return folder_ / "best.safetensors"; }
  json const& config() const { return config_; }
  void write_config(json const& config);

  /// It has learned: there was a last checkpoint, even if it is gone.
  bool has_progress() const;
  /// Drops the log's rows behind `step`.
  void cut_log(std::uint64_t step);
  /// Errors: file_error. What cannot be shown by TensorBoard any more is said, and no error.
  void append(log_row const& row, common_options const& says);
  /// From here on rows also go to a file for TensorBoard, another one each time. It begins with the last row of the log
  /// or, if it is the first, with all of them. `done`: steps behind us; none: older ones go. Errors: file_error.
  void begin_events(std::uint64_t done);
  /// What the log tells of validations, up to this step.
  struct validations {
    std::optional<class_score> best, last;
    bool lacks_last;  ///< its last row is of this step, and without one
  };
  validations validated(std::uint64_t step) const;
  /// Gives one to the last row. Errors: file_error.
  void add_validation(std::uint64_t step, class_score const& score, common_options const& says);

  /// A line that refusal_line made: of training, or of validation.
  void append_refusal(std::string const& line, bool in_validation = false);
  /// Rows of processes.csv: how each of several fared since the rows before.
  void append_processes(std::string const& rows);
  std::vector<refusal> refused(bool in_validation = false) const {
    return read_refusals(folder_ / refusals_name(in_validation));
  }
  static constexpr char const* refusals_name(bool in_validation) {
    return in_validation ? "refused-validation.jsonl" : "refused.jsonl";
  }

 private:
  explicit run_folder(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void lock();
  /// Shows something to TensorBoard, if there is a file for it and as long as it can be written.
  void show(std::function<void()> const& what, common_options const& says);
  /// Rows of a log, from `first` on. Errors: file_error.
  void show(csv_table const& log, std::size_t first);
  std::filesystem::path folder_;
  file_lock lock_;
  json config_;
  std::optional<event_file> events_;
};

/// A validation as the log holds it, in six digits; and which of two such is the better: the more accurate one, of
/// equals the one with the smaller loss.
class_score as_logged(class_score const& score);
bool is_better(class_score const& a, std::optional<class_score> const& b);

/// A file of settings: what config.json is. Errors: file_error, format_error.
json read_config(std::filesystem::path const& file);

/// What a run has kept, read while it may be going on: a last row that is not whole yet does not count.
struct run_record {
  json config;
  csv_table log;
  std::vector<refusal> refused, refused_in_validation;
};
/// Errors: setting_error if `folder` holds no run; file_error, format_error.
run_record read_run(std::filesystem::path const& folder);

}  // namespace l3::program
