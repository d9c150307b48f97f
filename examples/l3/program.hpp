/// @file  examples/l3/program.hpp: what all subcommands share: common options, messages, interruption.
#pragma once
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <l3/core/error.hpp>
#include <l3/core/fingerprint.hpp>
#include <l3/core/text.hpp>
#include <l3/files/json_text.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace l3::program {

using json = nlohmann::ordered_json;

/// Exit codes; 129, 130 and 143 say that a signal ended the work, which was then left in order.
enum exit_code : int { done = 0, failed = 1, usage = 2, some_refused = 3 };

/// As parse_json; null where that would throw.
json json_if_any(std::string_view text);

/// Checks of options that are numbers: finite, and above 0 or not below it.
extern CLI::Validator const above_zero, zero_or_more, even;

/// Options that every subcommand takes.
struct common_options {
  bool as_json = false;     ///< one JSON document on standard output, all else on standard error
  bool quiet = false;       ///< no progress, no remarks; errors are still said
  std::size_t threads = 0;  ///< zero: one a core
  /// Threads that read, of so many wanted; zero: as many as compute.
  std::size_t readers(std::size_t wanted) const { return wanted != 0 ? wanted : threads; }

  void add_to(CLI::App& command);
  /// A remark for people: standard output, or standard error when that belongs to JSON; nothing when quiet.
  void say(std::string const& line) const;
  /// A line of what was asked for: as a remark, but also when quiet, unless JSON says it then.
  void answer(std::string const& line) const;
  /// A warning: always standard error, unless quiet.
  void warn(std::string const& line) const;
  /// The result of the work, for scripts.
  void print(json const& document) const;
  /// How work on many inputs ends: where nothing came of them it has failed, and says why, also when quiet.
  exit_code ended(std::size_t made, std::size_t refused, std::string const& why) const;
};

/// The words that call a command, behind the program's name: "baseline trunk".
std::string command_path(CLI::App const& command);

/// Option --workers: threads that read, see common_options::readers.
void add_workers(CLI::App& command, std::size_t& workers, char const* what = "videos");
/// An option that takes a list in one word, so that no word behind it becomes part of it: --drop silent,static videos.
CLI::Option* comma_list(CLI::Option* option);
/// Option --clip-seconds.
void add_clip_seconds(CLI::App& command, double& seconds, char const* use = "Use only");

/// How a command that trains opens its videos: options --draws-per-opening, --reservoir and --keep-open.
struct opening_options {
  std::size_t draws = 1, videos = 64, mebibytes = 512;
  void add_to(CLI::App& command);
  /// Into loader_options.
  void set(auto& reading) const {
    reading.draws_per_opening = draws, reading.reservoir_videos = videos, reading.open_bytes = mebibytes << 20;
  }
};

/// A subcommand registers its options and returns its work, which returns an exit code.
using work = std::function<int()>;
work add_synth(CLI::App& command);
work add_index(CLI::App& command);
work add_pack(CLI::App& command);
work add_train(CLI::App& command);
work add_eval(CLI::App& command);
work add_embed(CLI::App& command);
work add_import(CLI::App& command);
work add_export(CLI::App& command);
work add_baseline(CLI::App& command);
work add_probe(CLI::App& command);
work add_distance(CLI::App& command);
work add_search(CLI::App& command);
work add_inspect(CLI::App& command);
work add_report(CLI::App& command);
work add_info(CLI::App& command);
work add_bench(CLI::App& command);

/// Watches SIGINT, SIGTERM and SIGHUP (not under nohup) while it lives: the first one sets a flag that the work looks
/// at; a second one kills.
class interruption {
 public:
  /// `speaks`: the first signal is answered with a line on standard error. A second one within `same_for` is taken for
  /// the first, come by another way: `timeout` sends it to the program and to its group; a scheduler, too through
  /// mpirun.
  explicit interruption(bool speaks = true, std::chrono::milliseconds same_for = std::chrono::milliseconds(500));
  ~interruption();
  interruption(interruption const&) = delete;
  interruption& operator=(interruption const&) = delete;
  /// 0, or the signal that asks to stop.
  static int signal();

 private:
  bool hangs_up_ = false;
};
/// Is thrown where a signal came and nothing can be kept.
struct interrupted {
  int signal;
};
/// Throws it, if a signal has come.
void stop_if_signalled();
/// The work, which then ends with the exit code for it.
work interruptible(work all);

/// A line that is drawn anew on a terminal, with rate and ETA; elsewhere a plain line every few seconds.
class progress {
 public:
  /// `total` units of `unit` ("pairs"), of which `done` are behind us.
  progress(common_options const& options, std::string unit, double total, double done = 0);
  ~progress();
  progress(progress const&) = delete;
  progress& operator=(progress const&) = delete;
  /// `remark` follows the bar: "loss 0.69".
  void update(double done, std::string const& remark);
  /// Leaves the last state on the screen and starts a new line.
  void finish();
  double seconds() const;

 private:
  void draw(bool last);
  common_options const& options_;
  std::string unit_, remark_;
  double total_, first_, done_;
  std::chrono::steady_clock::time_point start_, drawn_;
  bool terminal_, dirty_ = false;
};

/// Folder of results, made if it is not there. Errors: file_error.
void make_folder(std::filesystem::path const& folder);
/// The folder that a file is to be in, likewise.
void make_folder_of(std::filesystem::path const& file);
/// Appends lines to a file, made if it is not there. `synced`: they are on the disk when this returns; a crash may tear
/// the last one. Errors: file_error.
void append_text(std::filesystem::path const& file, std::string const& lines, bool synced = true);
/// So many bytes of a file's beginning, or all. Errors: file_error.
std::string first_bytes(std::filesystem::path const& file, std::size_t most);
/// A document as a file, whole or not at all. Names that are not UTF-8 stand in it as as_utf8 has them.
void write_json(std::filesystem::path const& file, json const& document);

/// A line without characters that would steer a terminal: names of files may hold any. `one_line`: and without the ends
/// of lines.
std::string printable(std::string const& line, bool one_line = false);

/// Calls f with all of a file, a piece at a time, however large it is. Errors: file_error.
void for_each_piece(std::filesystem::path const& file, std::function<void(std::string_view)> const& f);
/// Fingerprint of all of a file: which weights they are. Errors: file_error.
std::uint64_t fingerprint_of(std::filesystem::path const& file, std::uint64_t hash = fingerprint(""));
/// A fingerprint's 16 hexadecimal digits.
std::string hex(std::uint64_t print);

/// 12345678 as "12.3M", 0.5 as "0.50": three digits and a unit.
std::string short_number(double value);
/// "1 h 02 min", "3 min 20 s", "12 s".
std::string short_time(double seconds);
/// printf into a string.
std::string text(char const* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace l3::program
