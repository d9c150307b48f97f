// Folders of results: what may be replaced in them.
#include "results_folder.hpp"

#include <regex>
#include <utility>
#include <vector>

namespace l3::program {

namespace fs = std::filesystem;

results_folder::results_folder(fs::path folder, std::string kind, std::initializer_list<char const*> others,
                               std::string stem)
    : folder_(std::move(folder)), kind_(std::move(kind)), stem_(std::move(stem)) {
  make_folder(folder_);
  lock_ = file_lock::of_name(file("result.json").string() + ".lock");
  if (lock_.is_taken())
    throw setting_error(
        {"--out " + folder_.string(), "a folder that no process writes to", "another process at work on it"});
  std::string const expected = "a folder without other results than of kind \"" + kind_ + '"';
  for (fs::path const& known : {folder_ / "result.json", file("result.json")}) {
    if (!fs::exists(known)) continue;
    json const old = json_if_any(read_file(known, std::size_t{1} << 30));
    std::string const found = old.is_object() && old.contains("kind") ? old["kind"].dump() : "no kind";
    if (found != json(kind_).dump())
      throw setting_error({"--out " + folder_.string(), expected, "a " + known.filename().string() + " of " + found});
  }
  if (fs::exists(file("result.json"))) return;
  for (char const* const name : others)
    if (fs::exists(file(name)))
      throw setting_error({"--out " + folder_.string(), expected,
                           "a " + stem_ + name + " of somebody else's (there is no " + stem_ + "result.json)"});
}

void results_folder::begin() const { write_json(file("result.json"), {{"kind", kind_}, {"unfinished", true}}); }

void remove_files(fs::path const& folder, std::string const& names) {
  std::regex const wanted(names);
  std::vector<fs::path> found;
  try {
    if (!fs::exists(folder)) return;
    for (auto const& each : fs::directory_iterator(folder))
      if (each.is_regular_file() && std::regex_match(each.path().filename().string(), wanted))
        found.push_back(each.path());
    for (fs::path const& each : found) fs::remove(each);
  } catch (fs::filesystem_error const& failure) {
    throw file_error({failure.path1().string(), "a file that can be replaced", failure.code().message()});
  }
}

}  // namespace l3::program
