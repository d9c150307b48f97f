/// @file  examples/l3/output_names.hpp: what is made of files gets names that tell these apart.
#pragma once
#include <filesystem>
#include <vector>

namespace l3::program {

/// A file, and where what is made of it goes: relative to the folder of all outputs and without ending.
struct named_file {
  std::filesystem::path file, name;
};

/// Names files below the deepest folder that holds them all, so that the outputs mirror the input. Two files that
/// differ in their ending alone keep it in the name, and so does one whose name would be another's.
class output_names {
 public:
  /// A file as it is given, or as it is found below a folder that is given.
  void add(std::filesystem::path const& file) { add(file, std::filesystem::absolute(file).parent_path()); }
  void add(std::filesystem::path const& file, std::filesystem::path const& below);
  /// In the order in which they were added, each once.
  std::vector<named_file> list() const;

 private:
  std::vector<std::filesystem::path> files_;  ///< absolute, as they are to be opened: ".." may be behind a link
  std::filesystem::path common_;
};

}  // namespace l3::program
