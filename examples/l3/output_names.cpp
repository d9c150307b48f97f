// What is made of files gets names that tell these apart.
#include "output_names.hpp"

#include <algorithm>
#include <l3/core/error.hpp>
#include <map>
#include <set>

namespace l3::program {

namespace fs = std::filesystem;

namespace {
fs::path whole_folder(fs::path const& given) {
  fs::path const folder = fs::absolute(given).lexically_normal();
  return folder.has_filename() ? folder : folder.parent_path();  // it ended in a slash
}
bool is_below(fs::path const& folder, fs::path const& top) {
  return std::mismatch(top.begin(), top.end(), folder.begin(), folder.end()).first == top.end();
}
}  // namespace

output_names::output_names(fs::path const& root)
    : common_(root.empty() ? root : whole_folder(root)), rooted_(!root.empty()) {}

void output_names::add(fs::path const& file) {
  std::error_code unknown;  // whoever opens it says so
  if (!rooted_ && fs::status(file, unknown).type() == fs::file_type::not_found)
    files_.push_back({fs::absolute(file), false});
  else
    add(file, fs::absolute(file).parent_path());
}
void output_names::add(fs::path const& file, fs::path const& below) {
  files_.push_back({fs::absolute(file), true});
  fs::path const folder = whole_folder(below);
  if (rooted_ && !is_below(folder, common_))
    throw setting_error({"--root " + common_.string(), "a folder that all files lie below", file.string()});
  if (common_.empty()) common_ = folder;
  while (common_ != common_.root_path() && !is_below(folder, common_)) common_ = common_.parent_path();
}

std::vector<named_file> output_names::list() const {
  std::vector<named_file> all;
  std::map<fs::path, int> uses;
  std::set<fs::path> seen;
  for (auto const& [file, is_there] : files_) {
    fs::path const normal = file.lexically_normal();
    if (!seen.insert(normal).second) continue;
    fs::path const relative = is_there ? normal.lexically_relative(common_) : normal.relative_path();
    all.push_back({file, relative});
    if (!is_there) continue;
    ++uses[fs::path(relative).replace_extension()];
    ++uses[relative];
  }
  for (named_file& each : all)
    if (fs::path const stem = fs::path(each.name).replace_extension(); uses[stem] == 1) each.name = stem;
  return all;
}

}  // namespace l3::program
