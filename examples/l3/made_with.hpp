/// @file  examples/l3/made_with.hpp: what the outputs in a folder were made with.
#pragma once
#include <filesystem>
#include <mutex>
#include <string>
#include <unordered_map>

#include "program.hpp"

namespace l3::program {

/// A note in the folder, `l3-embed.jsonl`, that only grows: a line for each choice of settings, and one for each output
/// behind it. Several processes may write to it at a time; a line that a crash has torn does not count.
class made_with {
 public:
  /// Reads the note, if there is one. `settings`: of what is going to be made. Errors: file_error.
  made_with(std::filesystem::path folder, json settings);

  /// Throws setting_error if an output, by its name in the folder, is known to be made with other settings.
  void require_same(std::string const& output) const;
  /// Notes an output that is there now. From any thread. Errors: file_error.
  void note(std::string const& output);

 private:
  std::filesystem::path file_;
  json settings_;
  std::string key_;  ///< of the settings
  std::unordered_map<std::string, json> settings_of_;
  std::unordered_map<std::string, std::string> others_;  ///< outputs made with other settings, and the key of those
  std::mutex mutex_;
  bool begun_ = false, is_torn_ = false;
};

}  // namespace l3::program
