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
  /// With a folder that all files lie below, names are relative to it, whichever files there are (but for those of one
  /// folder that differ in their ending alone); none: as above.
  explicit output_names(std::filesystem::path const& root = {});

  /// A file as it is given, or as it is found below a folder that is given. One that is not there moves no other's
  /// name.
  ///
  /// Errors  setting_error: it is not below the root.
  void add(std::filesystem::path const& file);
  void add(std::filesystem::path const& file, std::filesystem::path const& below);
  /// In the order in which they were added, each once.
  std::vector<named_file> list() const;

 private:
  struct given {
    std::filesystem::path file;  ///< absolute, as it is to be opened: ".." may be behind a link
    bool is_there;
  };
  std::vector<given> files_;
  std::filesystem::path common_;
  bool rooted_;
};

}  // namespace l3::program
