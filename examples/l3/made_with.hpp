/// @file  examples/l3/made_with.hpp: what the outputs in a folder were made of, and with.
#pragma once
#include <cstdint>
#include <filesystem>
#include <l3/files/atomic_file.hpp>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "program.hpp"

namespace l3::program {

/// A file as it was.
struct file_state {
  std::string file{};  ///< its name
  std::uint64_t bytes = 0;
  std::int64_t modified = 0;  ///< nanoseconds since 1970
  std::string content{};      ///< a fingerprint; empty: not known
  /// As it is now, without its content; zeros where there is none.
  static file_state of(std::filesystem::path const& file);
  void look_inside(std::filesystem::path const& file);
  /// Names and times may be others, and the content the same.
  bool same_content(file_state const& other) const {
    return bytes == other.bytes && content == other.content && !content.empty();
  }
  bool untouched(file_state const& other) const {
    return file == other.file && bytes == other.bytes && modified == other.modified;
  }
};

/// A note in the folder, `l3-embed.jsonl`, that only grows: a line for each choice of settings, and behind it two for
/// each output: before it is written, and when it is there. Several processes may write to it at a time; a line that a
/// crash has torn does not count. Outputs are known by their names in the folder.
class made_with {
 public:
  /// Reads the note, if there is one. `settings`: of what is going to be made. Errors: file_error.
  made_with(std::filesystem::path folder, json settings);

  /// Whether an output that exists is what these settings make of `input`, as far as is known. If not, it is what they
  /// have made of an earlier state of the same file, or were about to. Errors: setting_error: it was made with other
  /// settings, or of another file.
  bool is_current(std::string const& output, std::filesystem::path const& input) const;
  /// Whether it is known of an output what it was made of, and with.
  bool knows(std::string const& output) const;
  /// Notes an output that is about to be written, or is there now. From any thread. Errors: file_error; setting_error:
  /// meanwhile another process has made it with other settings, or of another file.
  void begin(std::string const& output, file_state const& input) { note(output, input, true); }
  void end(std::string const& output, file_state const& input) { note(output, input, false); }

 private:
  struct origin {
    std::string key{};
    file_state input{};     ///< no file: not noted
    bool begun = false;     ///< and perhaps not ended
    bool by_other = false;  ///< another process noted it since this one began
  };
  void read(std::string_view lines, bool by_other);
  void note(std::string const& output, file_state const& input, bool begun);
  [[noreturn]] void refuse(std::string const& output, origin const& found, file_state const& wanted) const;

  std::filesystem::path file_;
  json settings_;
  std::string key_;  ///< of the settings
  std::unordered_map<std::string, json> settings_of_;
  std::unordered_map<std::string, origin> outputs_;
  mutable file_state looked_at_;  ///< last, by is_current
  std::mutex mutex_;
  std::uint64_t read_to_ = 0;  ///< of the note
  bool said_settings_ = false;
};

}  // namespace l3::program
