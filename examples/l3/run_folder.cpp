// The folder of one training.
#include "run_folder.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <l3/files/csv.hpp>
#include <set>
#include <sstream>
#include <utility>

namespace l3::program {
namespace {

constexpr char const* log_header =
    "step,pairs,loss,accuracy,valid_loss,valid_accuracy,learning_rate,pairs_per_second,loader_wait,"
    "batches_ready,open_ms,picture_ms,sound_ms,assemble_ms\n";

constexpr std::size_t most_log_bytes = std::size_t{1} << 32;

/// Of a row of a log, or of its first cell; one that is damaged, too, has some.
std::uint64_t step_of(std::string const& row) { return std::strtoull(row.c_str(), nullptr, 10); }

/// Columns of the log, and the charts that TensorBoard makes of them.
constexpr std::pair<char const*, char const*> charts[] = {{"loss", "loss/train"},
                                                          {"accuracy", "accuracy/train"},
                                                          {"valid_loss", "loss/valid"},
                                                          {"valid_accuracy", "accuracy/valid"},
                                                          {"learning_rate", "learning_rate"},
                                                          {"pairs_per_second", "speed/pairs_per_second"},
                                                          {"loader_wait", "speed/loader_wait"},
                                                          {"batches_ready", "speed/batches_ready"},
                                                          {"open_ms", "speed/open_ms"},
                                                          {"picture_ms", "speed/picture_ms"},
                                                          {"sound_ms", "speed/sound_ms"},
                                                          {"assemble_ms", "speed/assemble_ms"}};
constexpr char const* events_name = "events.out.tfevents.";  // and a number of six digits

csv_table log_of(std::filesystem::path const& folder) {
  std::filesystem::path const file = folder / "log.csv";
  return parse_csv(read_file(file, most_log_bytes), file.string());
}

json config_of(std::filesystem::path const& folder, std::string const& option) {
  std::filesystem::path const file = folder / "config.json";
  if (!std::filesystem::exists(file))
    throw setting_error({option + folder.string(), "the folder of a run", "no config.json in it"});
  return read_config(file);
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

json read_config(std::filesystem::path const& file) {
  json const config = parse_json<json>(read_file(file, 1 << 20), file.string());
  if (!config.is_object()) throw format_error({file.string(), "a JSON object", config.type_name()});
  return config;
}

run_folder run_folder::create(std::filesystem::path folder, json const& config) {
  run_folder run(std::move(folder));
  (void)text_of(config);  // or refused, before anything is made
  make_folder(run.folder_);
  run.lock();
  if (std::filesystem::exists(run.folder_ / "config.json"))
    throw setting_error({"--out " + run.folder_.string(),
                         "a folder without a run in it, or --resume to go on with that run",
                         "the config.json of a run"});
  auto const refuse = [&](std::filesystem::path const& file) {
    throw setting_error({"--out " + run.folder_.string(), "a folder without a run in it, or what is left of one",
                         file.filename().string() + ", and no config.json"});
  };
  for (auto const& file : {run.last(), run.best()})
    if (std::filesystem::is_regular_file(file)) refuse(file);
  if (auto const log = run.folder_ / "log.csv";
      std::filesystem::exists(log) && read_file(log, most_log_bytes) != log_header)
    refuse(log);
  write_file(run.folder_ / "log.csv", log_header);
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
  for (bool const in_validation : {false, true}) {
    auto const file = run.folder_ / refusals_name(in_validation);
    std::string whole_lines;
    for (refusal const& r : run.refused(in_validation)) whole_lines += refusal_line(r);
    if (std::filesystem::exists(file)) write_file(file, whole_lines);
  }
  return run;
}

void run_folder::lock() {
  lock_ = file_lock::of_folder(folder_);
  if (lock_.is_taken())
    throw setting_error({"--out " + folder_.string(), "a run that no process trains", "another process at work on it"});
}

void run_folder::write_config(json const& config) {
  config_ = config;
  write_file(folder_ / "config.json", text_of(config));
}

void run_folder::cut_log(std::uint64_t step) {
  std::istringstream in(read_file(folder_ / "log.csv", most_log_bytes));
  std::string kept = log_header, line;
  std::getline(in, line);
  while (std::getline(in, line) && !in.eof()) {  // a last line without its break is torn
    if (line.empty() || line.find_first_not_of("0123456789") == 0) continue;
    if (step_of(line) > step) continue;
    auto const commas = [](std::string_view text) { return std::count(text.begin(), text.end(), ','); };
    auto const missing = std::max<std::ptrdiff_t>(0, commas(log_header) - commas(line));  // an older version's row
    kept += line + std::string(static_cast<std::size_t>(missing), ',') + '\n';
  }
  write_file(folder_ / "log.csv", kept);
  if (!std::filesystem::exists(folder_ / "processes.csv")) return;
  std::istringstream processes(read_file(folder_ / "processes.csv", most_log_bytes));
  for (kept.clear(); std::getline(processes, line) && !processes.eof();)
    if (line.starts_with("step") || step_of(line) <= step) kept += line + '\n';
  write_file(folder_ / "processes.csv", kept);
}

void run_folder::append(log_row const& r, common_options const& says) {
  std::string const validation = r.valid_loss < 0 ? "," : text("%.6f,%.6f", r.valid_loss, r.valid_accuracy);
  std::string const row =
      text("%llu,%llu,%.9g,%.6f,%s,%.9g,%.1f,%.4f,%.1f,%.2f,%.2f,%.2f,%.2f\n", static_cast<unsigned long long>(r.step),
           static_cast<unsigned long long>(r.pairs), r.loss, r.accuracy, validation.c_str(), r.learning_rate,
           r.pairs_per_second, r.wait_share, r.batches_ready, r.open_ms, r.picture_ms, r.sound_ms, r.assemble_ms);
  append_text(folder_ / "log.csv", row);
  show([&] { show(parse_csv(log_header + row, "log.csv"), 0); }, says);
}

void run_folder::show(std::function<void()> const& what, common_options const& says) {
  if (!events_) return;
  try {
    what();
  } catch (file_error const& e) {
    events_.reset();
    says.warn(std::string(e.what()) + "; TensorBoard is shown no more of this run until it is gone on with");
  }
}

void run_folder::show(csv_table const& log, std::size_t first) {
  for (std::size_t k = first; k < log.rows.size(); ++k) {
    std::vector<event_value> values;
    for (auto const& [column, tag] : charts)
      if (std::string const& cell = log.rows[k][log.column(column)]; !cell.empty())
        values.push_back({tag, std::strtod(cell.c_str(), nullptr)});
    events_->add(step_of(log.rows[k][0]), values);
  }
}

void run_folder::begin_events(std::uint64_t done) {
  std::set<std::string> older;
  for (auto const& each : std::filesystem::directory_iterator(folder_))
    if (std::string const name = each.path().filename().string();
        name.starts_with(events_name) && name.ends_with(".l3"))
      older.insert(name);
  if (done == 0)
    for (std::string const& name : std::exchange(older, {})) std::filesystem::remove(folder_ / name);
  std::uint64_t const number =
      older.empty() ? 0 : 1 + std::strtoull(older.rbegin()->c_str() + std::strlen(events_name), nullptr, 10);
  csv_table const log = log_of(folder_);
  std::size_t const first = older.empty() || log.rows.empty() ? 0 : log.rows.size() - 1;
  events_.emplace(folder_ / text("%s%06llu.l3", events_name, static_cast<unsigned long long>(number)),
                  log.rows.empty() ? done + 1 : step_of(log.rows[first][0]));
  show(log, first);
}

bool run_folder::has_progress() const { return std::filesystem::exists(best()) || !log_of(folder_).rows.empty(); }

class_score as_logged(class_score const& score) {
  auto const digits = [](double value) { return std::strtod(text("%.6f", value).c_str(), nullptr); };
  return {digits(score.loss), digits(score.accuracy)};
}
bool is_better(class_score const& a, std::optional<class_score> const& b) {
  return !b || a.accuracy > b->accuracy || (a.accuracy == b->accuracy && a.loss < b->loss);
}

run_folder::validations run_folder::validated(std::uint64_t step) const {
  std::optional<class_score> best, last;
  bool lacks_last = false;
  csv_table const log = log_of(folder_);
  std::size_t const loss = log.column("valid_loss"), accuracy = log.column("valid_accuracy");
  for (auto const& row : log.rows) {
    lacks_last = row[accuracy].empty() && step_of(row[0]) == step;
    if (row[accuracy].empty()) continue;
    class_score const one{std::strtod(row[loss].c_str(), nullptr), std::strtod(row[accuracy].c_str(), nullptr)};
    if (is_better(one, best)) best = one;
    last = one;
  }
  return {best, last, lacks_last};
}

void run_folder::add_validation(std::uint64_t step, class_score const& score, common_options const& says) {
  csv_table log = log_of(folder_);
  log.rows.back()[log.column("valid_loss")] = text("%.6f", score.loss);
  log.rows.back()[log.column("valid_accuracy")] = text("%.6f", score.accuracy);
  std::string rows = log_header;
  for (auto const& row : log.rows) rows += csv_row(row);
  write_file(folder_ / "log.csv", rows);
  class_score const logged = as_logged(score);
  std::vector<event_value> const values{{"loss/valid", logged.loss}, {"accuracy/valid", logged.accuracy}};
  show([&] { events_->add(step, values); }, says);
}

void run_folder::append_refusal(std::string const& line, bool in_validation) {
  append_text(folder_ / refusals_name(in_validation), line);
}

void run_folder::append_processes(std::string const& rows) {
  std::filesystem::path const file = folder_ / "processes.csv";
  append_text(file, (std::filesystem::exists(file) ? "" : "step,process,step_ms,loader_wait\n") + rows);
}

run_record read_run(std::filesystem::path const& folder) {
  std::filesystem::path const log = folder / "log.csv";
  std::string rows = std::filesystem::exists(log) ? read_file(log, most_log_bytes) : std::string(log_header);
  rows.resize(rows.rfind('\n') + 1);
  return {config_of(folder, ""), parse_csv(rows, log.string()),
          read_refusals(folder / run_folder::refusals_name(false)),
          read_refusals(folder / run_folder::refusals_name(true))};
}

}  // namespace l3::program
