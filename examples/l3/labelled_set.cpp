// The data sets of the transfer protocols, as they are laid out.
#include "labelled_set.hpp"

#include <algorithm>
#include <l3/data/clip_index.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/packed_clips.hpp>
#include <l3/eval/folds.hpp>
#include <l3/files/csv.hpp>
#include <map>
#include <optional>
#include <set>

#include "program.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

/// A file before its class and group have numbers.
struct row {
  fs::path file;
  std::string name, label, fold, group;
};

std::string const& filled(csv_table const& table, std::size_t row, std::size_t column) {
  std::string const& cell = table.rows[row][column];
  if (cell.empty())
    throw format_error({table.where(row), "a cell in column '" + table.header[column] + "'", "an empty one"});
  return cell;
}

/// Numbers for the different texts, in sorted order.
std::map<std::string, std::uint32_t> numbered(std::vector<row> const& rows, std::string row::*text) {
  std::map<std::string, std::uint32_t> numbers;
  for (row const& r : rows) numbers.emplace(r.*text, 0);
  std::uint32_t next = 0;
  for (auto& [key, number] : numbers) number = next++;
  return numbers;
}

/// The names of folds, in sorted order; where all are numbers, in theirs.
std::vector<std::string> folds_of(std::vector<row> const& rows) {
  std::vector<std::string> folds;
  for (auto const& [fold, number] : numbered(rows, &row::fold)) folds.push_back(fold);
  if (std::all_of(folds.begin(), folds.end(), [](std::string const& f) {
        return std::all_of(f.begin(), f.end(), [](unsigned char c) { return std::isdigit(c); });
      }))
    std::stable_sort(folds.begin(), folds.end(), [](auto const& a, auto const& b) { return a.size() < b.size(); });
  return folds;
}

/// `fewest_classes`: 2, or 1 where classes do not matter.
labelled_set made(std::string name, fs::path const& source, std::vector<row> const& rows,
                  std::size_t fewest_classes = 2) {
  auto const classes = numbered(rows, &row::label), groups = numbered(rows, &row::group);
  if (classes.size() < fewest_classes)
    throw format_error(
        {source.string(),
         fewest_classes == 1 ? "at least one file of the kind that is wanted" : "files of at least two classes",
         rows.empty() ? "none" : "all of class '" + rows.front().label + "'"});
  labelled_set set;
  set.name = std::move(name);
  for (auto const& [text, number] : classes) set.classes.push_back(text);
  set.folds = folds_of(rows);
  std::map<std::string, std::uint32_t> folds;
  for (std::string const& fold : set.folds) folds.emplace(fold, static_cast<std::uint32_t>(folds.size()));
  std::set<fs::path> seen;
  for (row const& r : rows) {
    if (!seen.insert(r.file.lexically_normal()).second)
      throw format_error({source.string(), "each file once", r.name + " twice"});
    set.files.push_back(
        {r.file, r.name, static_cast<std::int32_t>(classes.at(r.label)), folds.at(r.fold),
         r.group.empty() ? static_cast<std::uint32_t>(groups.size() + set.files.size()) : groups.at(r.group)});
  }
  return set;
}

/// Errors  format_error: a file in two folds, by whatever names.
void require_apart(labelled_set const& set, std::string const& source) {
  std::map<fs::path, std::size_t> known;
  for (std::size_t k = 0; k != set.files.size(); ++k) {
    auto const [earlier, is_new] = known.try_emplace(detail::real_path(set.files[k].file), k);
    if (labelled_file const& other = set.files[earlier->second]; other.fold != set.files[k].fold)
      throw format_error({source, "a file to learn from or to test on, not both",
                          other.name + ", which is " + set.files[k].name + ", too"});
  }
}

void test_every_fold(labelled_set& set, fs::path const& source) {
  if (set.folds.size() < 2) throw format_error({source.string(), "at least two folds", "one"});
  require_apart(set, source.string());
  for (std::uint32_t f = 0; f != set.folds.size(); ++f) set.tests.push_back(f);
}

}  // namespace

std::uint64_t labelled_set::print() const {
  std::uint64_t of_all = fingerprint(std::to_string(files.size()));
  for (labelled_file const& f : files)
    for (std::string const& each : {f.name, classes[static_cast<std::size_t>(f.label)], folds[f.fold]})
      of_all = fingerprint({each.c_str(), each.size() + 1}, of_all);
  return of_all;
}

std::vector<std::string> files_of_both(labelled_set const& a, labelled_set const& b) {
  std::set<fs::path> of_a;
  for (labelled_file const& f : a.files) of_a.insert(detail::real_path(f.file));
  std::vector<std::string> both;
  for (labelled_file const& f : b.files)
    if (of_a.contains(detail::real_path(f.file))) both.push_back(f.name);
  return both;
}

namespace {

/// One of DCASE's two lists.
void append_scenes(std::vector<row>& rows, fs::path const& source, fs::path const& audio, file_filter const& wanted,
                   std::string const& fold) {
  if (fs::is_directory(source)) {
    for (fs::path const& file : files_below(source, wanted)) {
      std::string label = file.stem().string();
      label.erase(std::find_if(label.rbegin(), label.rend(), [](unsigned char c) { return !std::isdigit(c); }).base(),
                  label.end());
      if (label.empty())
        throw format_error({file.string(), "a name of a class and a number, like bus01.wav", "a number alone"});
      rows.push_back({file, file.filename().string(), label, fold, ""});
    }
    return;
  }
  csv_table const table = read_csv(source);
  std::size_t const name = table.column("filename"), label = table.column("scene_label");
  auto const place = table.column_if_any("identifier");
  fs::path below = audio.empty() ? source.parent_path() : audio;
  if (audio.empty() && !table.rows.empty() && !fs::exists(below / table.rows.front()[name]) &&
      fs::exists(fs::absolute(below).parent_path() / table.rows.front()[name]))
    below = fs::absolute(below).parent_path();
  for (std::size_t k = 0; k != table.rows.size(); ++k)
    rows.push_back({below / filled(table, k, name), table.rows[k][name], filled(table, k, label), fold,
                    place ? table.rows[k][*place] : std::string()});
}

/// The usable videos of an index; nothing, where `source` is none.
std::optional<clip_list> indexed(fs::path const& source) {
  if (packed_clips::is_packed(source))
    throw setting_error({source.string(), "a folder, a table or an index of files", "a packed collection"});
  if (fs::is_directory(source) || !is_sql_database(source)) return {};
  return clip_index(source).usable();
}

std::vector<row> rows_of_folders(fs::path const& folder, file_filter const& wanted) {
  std::vector<row> rows;
  for (fs::path const& file : files_below(folder, wanted)) {
    fs::path const inside = file.lexically_relative(folder);
    if (!inside.has_parent_path())
      throw format_error({folder.string(), "a folder for each class", inside.string() + " beside them"});
    rows.push_back({file, inside.generic_string(), inside.begin()->string(), "", ""});
  }
  return rows;
}

}  // namespace

labelled_set read_files(fs::path const& source, file_filter const& wanted) {
  std::vector<row> rows;
  if (auto const videos = indexed(source)) {
    for (std::size_t k = 0; k != videos->size(); ++k)
      rows.push_back({videos->file(k), std::string(videos->name(k)), "", "", ""});
  } else if (fs::is_directory(source)) {
    for (fs::path const& file : files_below(source, wanted))
      rows.push_back({file, file.lexically_relative(source).generic_string(), "", "", ""});
  } else {
    csv_table const table = read_csv(source);
    std::size_t const path = table.column("path");
    for (std::size_t k = 0; k != table.rows.size(); ++k)
      rows.push_back({source.parent_path() / filled(table, k, path), table.rows[k][path], "", "", ""});
  }
  return made("files", source, rows, 1);
}

labelled_set read_class_folders(fs::path const& folder, file_filter const& wanted,
                                std::vector<std::string> const* classes) {
  if (!fs::is_directory(folder)) throw file_error({folder.string(), "a folder with a folder for each class", "none"});
  auto const rows = rows_of_folders(folder, wanted);
  labelled_set set = made("images", folder, rows, classes == nullptr ? 2 : 1);
  if (classes == nullptr) return set;
  for (std::size_t k = 0; k != rows.size(); ++k) {
    auto const place = std::lower_bound(classes->begin(), classes->end(), rows[k].label);
    if (place == classes->end() || *place != rows[k].label)
      throw format_error({folder.string(), "the classes that are learned", "'" + rows[k].label + "' too"});
    set.files[k].label = static_cast<std::int32_t>(place - classes->begin());
  }
  set.classes = *classes;
  return set;
}

labelled_set read_esc50(fs::path const& meta, fs::path const& audio, bool only_esc10) {
  csv_table const table = read_csv(meta);
  std::size_t const name = table.column("filename"), fold = table.column("fold"), label = table.column("category");
  auto const source = table.column_if_any("src_file");
  std::optional<std::size_t> const esc10 = only_esc10 ? std::optional(table.column("esc10")) : std::nullopt;
  std::vector<row> rows;
  for (std::size_t k = 0; k != table.rows.size(); ++k) {
    if (esc10 && table.rows[k][*esc10] != "True") continue;
    rows.push_back({audio / filled(table, k, name), table.rows[k][name], filled(table, k, label),
                    filled(table, k, fold), source ? table.rows[k][*source] : std::string()});
  }
  labelled_set set = made(only_esc10 ? "esc10" : "esc50", meta, rows);
  test_every_fold(set, meta);
  return set;
}

labelled_set read_dcase(fs::path const& train, fs::path const& test, fs::path const& audio, file_filter const& wanted) {
  std::vector<row> rows;
  append_scenes(rows, train, audio, wanted, "1 train");
  if (rows.empty()) throw format_error({train.string(), "sound files to train on", "none"});
  std::size_t const trained_on = rows.size();
  append_scenes(rows, test, audio, wanted, "2 test");
  if (rows.size() == trained_on) throw format_error({test.string(), "sound files to test on", "none"});
  labelled_set set = made("dcase", train, rows);
  set.folds = {"train", "test"};
  set.tests = {1};
  require_apart(set, test.string());
  return set;
}

labelled_set read_classes(fs::path const& source, file_filter const& wanted, std::uint32_t folds, std::uint64_t seed,
                          std::string const& group_column) {
  std::vector<row> rows;
  bool has_folds = false;
  auto const videos = indexed(source);
  if (bool const is_folder = fs::is_directory(source); !group_column.empty() && (videos || is_folder))
    throw setting_error({"--group", "a table with a column '" + group_column + "'",
                         (is_folder ? "a folder, " : "an index, ") + source.string()});
  if (videos) {
    for (std::size_t k = 0; k != videos->size(); ++k) {
      if (videos->label(k).empty())
        throw format_error({source.string(), "a label for each video", "none for " + std::string(videos->name(k))});
      rows.push_back({videos->file(k), std::string(videos->name(k)), videos->label(k), "", ""});
    }
  } else if (fs::is_directory(source)) {
    rows = rows_of_folders(source, wanted);
  } else {
    csv_table const table = read_csv(source);
    std::size_t const path = table.column("path"), label = table.column("label");
    auto const fold = group_column.empty() ? table.column_if_any("fold") : std::nullopt;
    auto const group = group_column.empty() ? std::nullopt : std::optional(table.column(group_column));
    has_folds = fold.has_value();
    for (std::size_t k = 0; k != table.rows.size(); ++k)
      rows.push_back({source.parent_path() / filled(table, k, path), table.rows[k][path], filled(table, k, label),
                      fold ? filled(table, k, *fold) : std::string(),
                      group ? filled(table, k, *group) : std::string()});
  }
  labelled_set set = made("folder", source, rows);
  if (group_column.empty()) {
    std::map<fs::path, std::uint32_t> of_file;
    for (labelled_file& f : set.files) f.group = of_file.try_emplace(detail::real_path(f.file), f.group).first->second;
  }
  if (folds == 0) return set;
  if (!has_folds) {
    std::vector<std::int32_t> labels;
    std::vector<std::uint32_t> groups;
    for (labelled_file const& f : set.files) labels.push_back(f.label), groups.push_back(f.group);
    auto const dealt = stratified_folds(labels, groups, folds, seed);
    for (std::size_t k = 0; k != dealt.size(); ++k) set.files[k].fold = dealt[k];
    set.folds.clear();
    for (std::uint32_t f = 0; f != folds; ++f) set.folds.push_back(std::to_string(f + 1));
  }
  test_every_fold(set, source);
  return set;
}

}  // namespace l3::program
