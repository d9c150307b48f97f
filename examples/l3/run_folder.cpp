// The folder of one training.
#include "run_folder.hpp"

#include <algorithm>
#include <chrono>
#include <l3/files/csv.hpp>
#include <sstream>

namespace l3::program {
namespace {

constexpr char const* log_header =
    "step,pairs,loss,accuracy,valid_loss,valid_accuracy,learning_rate,pairs_per_second,loader_wait,"
    "batches_ready,open_ms,picture_ms,sound_ms,assemble_ms\n";

json config_of(std::filesystem::path const& folder, std::string const& option) {
  std::filesystem::path const file = folder / "config.json";
  if (!std::filesystem::exists(file))
    throw setting_error({option + folder.string(), "the folder of a run", "no config.json in it"});
  try {
    json const config = json::parse(read_file(file, 1 << 20));
    if (!config.is_object()) throw format_error({file.string(), "a JSON object", config.type_name()});
    return config;
  } catch (json::exception const& e) {
    throw format_error({file.string(), "JSON", e.what()});
  }
}

/// Errors: setting_error: a name that is not UTF-8.
std::string text_of(json const& config) {
  for (auto const& [name, value] : config.items()) try {
      (void)value.dump();
    } catch (json::type_error const&) {
      throw setting_error({"--" + name, "a name in UTF-8, to be kept in config.json", json_text(value)});
    }
  return config.dump(2) + "\n";
}

}  // namespace

run_folder run_folder::create(std::filesystem::path folder, json const& config) {
  run_folder run(std::move(folder));
  (void)text_of(config);  // or refused, before anything is made
  make_folder(run.folder_);
  run.lock();
  if (std::filesystem::exists(run.folder_ / "config.json"))
    throw setting_error({"--out " + run.folder_.string(),
                         "a folder without a run in it, or --resume to go on with that run",
                         "the config.json of a run"});
  write_text(run.folder_ / "log.csv", log_header);
  run.write_config(config);
  return run;
}

run_folder run_folder::open(std::filesystem::path folder, bool to_write) {
  run_folder run(std::move(folder));
  run.config_ = config_of(run.folder_, "--resume, --out ");
  if (!to_write) return run;
  run.lock();
  detail::remove_leftovers(run.folder_, std::chrono::hours(1));
  // A line torn by a crash must not have the next refusal glued to it.
  std::string whole_lines;
  for (refusal const& r : run.refused()) whole_lines += refusal_line(r);
  if (std::filesystem::exists(run.folder_ / "refused.jsonl")) write_text(run.folder_ / "refused.jsonl", whole_lines);
  return run;
}

void run_folder::lock() {
  lock_ = file_lock::of_folder(folder_);
  if (lock_.is_taken())
    throw setting_error({"--out " + folder_.string(), "a run that no process trains", "another process at work on it"});
}

void run_folder::write_config(json const& config) {
  config_ = config;
  write_text(folder_ / "config.json", text_of(config));
}

void run_folder::cut_log(std::uint64_t step) {
  std::istringstream in(read_file(folder_ / "log.csv", std::size_t{1} << 32));
  std::string kept = log_header, line;
  std::getline(in, line);
  while (std::getline(in, line) && !in.eof()) {  // a last line without its break is torn
    if (line.empty() || line.find_first_not_of("0123456789") == 0) continue;
    if (std::stoull(line) > step) continue;
    auto const commas = [](std::string_view text) { return std::count(text.begin(), text.end(), ','); };
    auto const missing = std::max<std::ptrdiff_t>(0, commas(log_header) - commas(line));  // an older version's row
    kept += line + std::string(static_cast<std::size_t>(missing), ',') + '\n';
  }
  write_text(folder_ / "log.csv", kept);
  if (!std::filesystem::exists(folder_ / "processes.csv")) return;
  std::istringstream processes(read_file(folder_ / "processes.csv", std::size_t{1} << 32));
  for (kept.clear(); std::getline(processes, line) && !processes.eof();)
    if (line.starts_with("step") || std::strtoull(line.c_str(), nullptr, 10) <= step) kept += line + '\n';
  write_text(folder_ / "processes.csv", kept);
}

void run_folder::append(log_row const& r) {
  std::string const validation = r.valid_loss < 0 ? "," : text("%.6f,%.6f", r.valid_loss, r.valid_accuracy);
  append_text(
      folder_ / "log.csv",
      text("%llu,%llu,%.9g,%.6f,%s,%.9g,%.1f,%.4f,%.1f,%.2f,%.2f,%.2f,%.2f\n", static_cast<unsigned long long>(r.step),
           static_cast<unsigned long long>(r.pairs), r.loss, r.accuracy, validation.c_str(), r.learning_rate,
           r.pairs_per_second, r.wait_share, r.batches_ready, r.open_ms, r.picture_ms, r.sound_ms, r.assemble_ms));
  if (!events_) return;
  std::vector<event_value> values{{"loss/train", r.loss},
                                  {"accuracy/train", r.accuracy},
                                  {"learning_rate", r.learning_rate},
                                  {"speed/pairs_per_second", r.pairs_per_second},
                                  {"speed/loader_wait", r.wait_share},
                                  {"speed/batches_ready", r.batches_ready},
                                  {"speed/open_ms", r.open_ms},
                                  {"speed/picture_ms", r.picture_ms},
                                  {"speed/sound_ms", r.sound_ms},
                                  {"speed/assemble_ms", r.assemble_ms}};
  if (r.valid_loss >= 0)
    values.insert(values.end(), {{"loss/valid", r.valid_loss}, {"accuracy/valid", r.valid_accuracy}});
  events_->add(r.step, values);
}

void run_folder::begin_events(std::uint64_t done) {
  std::string const name = text("events.out.tfevents.%010llu", static_cast<unsigned long long>(done));
  std::filesystem::path file = folder_ / (name + ".l3");
  // One that went on from the same step and saved nothing may still be shown.
  for (int again = 2; std::filesystem::exists(file); ++again) file = folder_ / text("%s.l3.%03d", name.c_str(), again);
  events_.emplace(file, done + 1);
}

bool run_folder::has_progress() const {
  return std::filesystem::exists(best()) || !read_csv(folder_ / "log.csv").rows.empty();
}

double run_folder::best_accuracy() const {
  double best = -1;
  csv_table const log = read_csv(folder_ / "log.csv");
  std::size_t const column = log.column("valid_accuracy");
  for (auto const& row : log.rows)
    if (!row[column].empty()) best = std::max(best, std::strtod(row[column].c_str(), nullptr));
  return best;
}

void run_folder::append_refusal(std::string const& line) { append_text(folder_ / "refused.jsonl", line); }

void run_folder::append_processes(std::string const& rows) {
  std::filesystem::path const file = folder_ / "processes.csv";
  append_text(file, (std::filesystem::exists(file) ? "" : "step,process,step_ms,loader_wait\n") + rows);
}

run_record read_run(std::filesystem::path const& folder) {
  std::filesystem::path const log = folder / "log.csv";
  std::string rows = std::filesystem::exists(log) ? read_file(log, std::size_t{1} << 30) : std::string(log_header);
  rows.resize(rows.rfind('\n') + 1);
  return {config_of(folder, ""), parse_csv(rows, log.string()), read_refusals(folder / "refused.jsonl")};
}

}  // namespace l3::program
