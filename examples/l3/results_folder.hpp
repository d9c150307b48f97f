/// @file  examples/l3/results_folder.hpp: the folder that a command's results of one kind go to.
#pragma once
#include <filesystem>
#include <initializer_list>
#include <l3/files/file_lock.hpp>
#include <string>

#include "program.hpp"

namespace l3::program {

/// Holds `result.json`, which says of what kind the results are, and files beside it. Results replace older ones of
/// their kind, and nothing else; one process at a time makes them. From `begin` to `end` result.json says that they are
/// unfinished, for other files may be of older ones.
class results_folder {
 public:
  /// Made if it is not there. `others`: files that are written beside result.json; `stem`: what all names begin with.
  ///
  /// Errors  setting_error: there are results of another kind, or such files and no results, or another process makes
  ///         some. file_error.
  results_folder(std::filesystem::path folder, std::string kind, std::initializer_list<char const*> others = {},
                 std::string stem = "");

  std::filesystem::path file(std::string const& name) const { return folder_ / (stem_ + name); }
  void begin() const;
  /// Writes the result, behind all other files.
  void end(json const& result) const { write_json(file("result.json"), result); }

 private:
  std::filesystem::path folder_;
  std::string kind_, stem_;
  file_lock lock_;
};

/// Removes the files of a folder whose names match, as far as there are any. Errors: file_error.
void remove_files(std::filesystem::path const& folder, std::string const& names);

}  // namespace l3::program
