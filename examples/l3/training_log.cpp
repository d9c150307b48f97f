// Rows and refusals of a training.
#include "training_log.hpp"

#include <l3/data/refusal_lines.hpp>
#include <l3/files/csv.hpp>
#include <utility>

namespace l3::program {

training_log::training_log(run_folder& run, crew& all, common_options const& says, std::size_t draws)
    : run_(run), all_(all), says_(says), draws_(draws), of_each_(all.size()) {}

void training_log::add(step_report const& step, double seconds, double wait) {
  row_.step = step.step, row_.pairs = step.pairs, row_.learning_rate = step.learning_rate;
  row_.loss += step.score.loss, row_.accuracy += step.score.accuracy;
  seconds_ += seconds, wait_ += wait;
  ++steps_;
}
void training_log::add(std::size_t rank, step_state const& of_one) {
  of_each_[rank].seconds += of_one.seconds, of_each_[rank].wait += of_one.wait;
}
void training_log::add(class_score const& validation) {
  row_.valid_loss = validation.loss, row_.valid_accuracy = validation.accuracy;
}

void training_log::end_row(loader_report const& now) {
  if (steps_ == 0) return;
  // Taken out before anything is written: an error must not have it written again.
  log_row row = std::exchange(row_, {});
  auto const each = std::exchange(of_each_, std::vector<step_state>(all_.size()));
  double const seconds = std::exchange(seconds_, 0), wait = std::exchange(wait_, 0);
  std::uint64_t const steps = std::exchange(steps_, 0);
  auto const n = static_cast<double>(steps);
  row.loss /= n, row.accuracy /= n;
  row.pairs_per_second = static_cast<double>(steps * draws_) / seconds, row.wait_share = wait / seconds;
  auto const since_then = now - read_;
  auto const draw = since_then.stages.milliseconds_a_draw();
  row.batches_ready = since_then.mean_ready(), row.open_ms = draw.open, row.picture_ms = draw.picture;
  row.sound_ms = draw.sound, row.assemble_ms = draw.assemble;
  read_ = now;
  if (!all_.is_first()) return;
  run_.append(row, says_);
  if (all_.size() == 1) return;
  std::string rows;
  for (std::size_t rank = 0; rank != each.size(); ++rank) {
    step_state const& r = each[rank];
    rows += csv_row({std::to_string(row.step), all_.name(rank), text("%.1f", 1000 * r.seconds / n),
                     text("%.4f", r.seconds > 0 ? r.wait / r.seconds : 0)});
  }
  run_.append_processes(rows);
}

refusal_log::refusal_log(run_folder& run, crew& all, common_options const& says, bool in_validation)
    : run_(run), all_(all), says_(says), in_validation_(in_validation) {
  std::string lines;  // of the run that the first process sees: another may find something else by that name
  if (all.is_first())
    for (refusal const& r : run.refused(in_validation)) lines += refusal_line(r);
  known_ = parse_refusals(all.gather(lines).front(), run_folder::refusals_name(in_validation));
  for (refusal const& r : known_) damaged_ += written_.insert(r.file).second && !r.whole_file;
}
std::string refusal_log::take() {
  std::string lines;
  for (refusal const& r : new_) lines += refusal_line(r);
  new_.clear();
  return lines;
}
void refusal_log::write(std::vector<std::string> const& of_all) {
  for (std::string const& each : of_all)
    for (refusal const& r : parse_refusals(each, "refusals")) {
      if (!written_.insert(r.file).second) continue;
      damaged_ += !r.whole_file;
      if (all_.is_first()) run_.append_refusal(refusal_line(r), in_validation_);
      says_.warn((in_validation_ ? "validation: " : "") + refusal_warning(r));
    }
}

}  // namespace l3::program
