// What is made of files gets names that tell these apart.
#include "output_names.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace l3::program {

namespace fs = std::filesystem;

void output_names::add(fs::path const& file, fs::path const& below) {
  files_.push_back(fs::absolute(file));
  fs::path folder = fs::absolute(below).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // it ended in a slash
  if (common_.empty()) common_ = folder;
  while (!common_.empty() && common_ != common_.root_path()) {
    if (std::mismatch(common_.begin(), common_.end(), folder.begin(), folder.end()).first == common_.end()) break;
    common_ = common_.parent_path();
  }
}

std::vector<named_file> output_names::list() const {
  std::vector<named_file> all;
  std::map<fs::path, int> uses;
  std::set<fs::path> seen;
  for (fs::path const& file : files_) {
    fs::path const normal = file.lexically_normal();
    if (!seen.insert(normal).second) continue;
    fs::path const relative = normal.lexically_relative(common_);
    all.push_back({file, relative});
    ++uses[fs::path(relative).replace_extension()];
    ++uses[relative];
  }
  for (named_file& each : all)
    if (fs::path const stem = fs::path(each.name).replace_extension(); uses[stem] == 1) each.name = stem;
  return all;
}

}  // namespace l3::program
