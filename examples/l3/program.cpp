// Common options, messages, progress and signals of the program.
#include "program.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <l3/files/atomic_file.hpp>

#include "backend_choice.hpp"

namespace l3::program {

void common_options::add_to(CLI::App& command) {
  command.add_flag("--json", as_json, "Print one JSON document on standard output, all else on standard error");
  command.add_flag("--quiet", quiet, "Print results and errors only");
  command.add_option("--threads", threads, "Threads for the work; 0: one for each core")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024).description(""));
}
std::string command_path(CLI::App const& command) {
  std::string path = command.get_name();
  for (CLI::App const* above = command.get_parent(); above != nullptr && above->get_parent() != nullptr;
       above = above->get_parent())
    path = above->get_name() + " " + path;
  return path;
}
void add_workers(CLI::App& command, std::size_t& workers, char const* what) {
  command.add_option("--workers", workers, text("Threads that read %s; 0: as --threads", what))
      ->capture_default_str()
      ->check(CLI::Range(0, 4096).description(""));
}
CLI::Option* comma_list(CLI::Option* option) { return option->delimiter(',')->allow_extra_args(false); }
void add_clip_seconds(CLI::App& command, double& seconds, char const* use) {
  command.add_option("--clip-seconds", seconds, text("%s the first this many seconds of a video; 0: all", use))
      ->capture_default_str()
      ->check(zero_or_more)
      ->check(CLI::Validator(
          [](std::string& value) {
            double const x = std::strtod(value.c_str(), nullptr);
            return x == 0 || x >= sound_seconds ? "" : "expected 0, or a second and more, found " + value;
          },
          ""));
}
void common_options::say(std::string const& line) const {
  if (!quiet) (as_json ? std::cerr : std::cout) << printable(line) << std::endl;
}
void common_options::answer(std::string const& line) const {
  if (!quiet || !as_json) (as_json ? std::cerr : std::cout) << printable(line) << std::endl;
}
void common_options::warn(std::string const& line) const {
  char const* const over_progress = isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";
  if (!quiet) std::cerr << over_progress << "l3: warning: " << printable(line, true) << std::endl;
}
exit_code common_options::ended(std::size_t made, std::size_t refused, std::string const& why) const {
  if (made == 0) std::cerr << "l3: nothing came of it: " << printable(why) << std::endl;
  return made == 0 ? failed : refused != 0 ? some_refused : done;
}
void common_options::print(json const& document) const {
  if (as_json) std::cout << json_text(document, 2) << std::endl;
}

namespace {
CLI::Validator number(char const* name, char const* expected, bool zero) {
  return {[=](std::string& value) -> std::string {
            char* end = nullptr;
            double const x = std::strtod(value.c_str(), &end);
            bool const fits = !value.empty() && *end == 0 && std::isfinite(x) && (zero ? x >= 0 : x > 0);
            return fits ? "" : std::string("expected ") + expected + ", found " + value;
          },
          name};
}
}  // namespace
CLI::Validator const above_zero = number("POSITIVE", "a number above 0", false);
CLI::Validator const zero_or_more = number("NONNEGATIVE", "a number, 0 or above", true);
CLI::Validator const even(
    [](std::string& value) {
      return (value.back() - '0') % 2 == 0 ? "" : "expected an even number, half of which correspond, found " + value;
    },
    "");

void backend_choice::add_to(CLI::App& command) {
  command.add_option("--backend", name, "What computes: cpu; cuda, an NVIDIA GPU, where l3 was built with it")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command
      .add_option("--precision", precision,
                  "Arithmetic of the convolutions' products, in bf16 also of the maps that training keeps: on cpu fp32 "
                  "(default), or bf16 with AVX512_BF16; on cuda bf16 (default), tf32 or fp32")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16"}));
}

void opening_options::add_to(CLI::App& command) {
  command.add_option("--draws-per-opening", draws, "Draws for which a video is opened once; 1: each opens its own")
      ->check(CLI::Range(1, 32).description(""))
      ->capture_default_str();
  command.add_option("--reservoir", videos, "Videos that draws of shared openings come from, at least")
      ->check(CLI::Range(1, 65536).description(""))
      ->capture_default_str();
  command.add_option("--keep-open", mebibytes, "MiB of videos that stay open for the draws to come; 0: none do")
      ->check(CLI::Range(0, 1 << 20).description(""))
      ->capture_default_str();
}

namespace {
std::atomic<int> stop_signal{0};
std::atomic<bool> signal_is_answered{true};
std::atomic<std::int64_t> same_signal_for{0}, signalled_at{0};  // nanoseconds
extern "C" void take_signal(int number) {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  std::int64_t const now = std::int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
  if (stop_signal != 0) {  // a second one ends the program at once
    if (now - signalled_at < same_signal_for) return;
    std::signal(number, SIG_DFL);
    std::raise(number);
    return;
  }
  signalled_at = now;
  stop_signal = number;
  constexpr char message[] = "\nl3: finishing what is begun; once more ends it at once\n";
  if (signal_is_answered) [[maybe_unused]]
    auto const told = ::write(STDERR_FILENO, message, sizeof message - 1);
}
}  // namespace

interruption::interruption(bool speaks, std::chrono::milliseconds same_for) {
  stop_signal = 0, signal_is_answered = speaks, same_signal_for = std::chrono::nanoseconds(same_for).count();
  for (int const number : {SIGINT, SIGTERM}) std::signal(number, take_signal);
  struct ::sigaction now {};
  ::sigaction(SIGHUP, nullptr, &now);
  hangs_up_ = now.sa_handler != SIG_IGN;  // or it is run by nohup
  if (hangs_up_) std::signal(SIGHUP, take_signal);
}
interruption::~interruption() {
  for (int const number : {SIGINT, SIGTERM}) std::signal(number, SIG_DFL);
  if (hangs_up_) std::signal(SIGHUP, SIG_DFL);
}
int interruption::signal() { return stop_signal; }
void stop_if_signalled() {
  if (int const by = interruption::signal()) throw interrupted{by};
}
work interruptible(work all) {
  return [all = std::move(all)] {
    try {
      return all();
    } catch (interrupted const& by) {
      return 128 + by.signal;
    }
  };
}

progress::progress(common_options const& options, std::string unit, double total, double done)
    : options_(options),
      unit_(std::move(unit)),
      total_(total),
      first_(done),
      done_(done),
      start_(std::chrono::steady_clock::now()),
      drawn_(start_),
      terminal_(isatty(STDERR_FILENO) == 1) {}
progress::~progress() { finish(); }
double progress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}
void progress::update(double done, std::string const& remark) {
  done_ = done, remark_ = remark, dirty_ = true;
  auto const now = std::chrono::steady_clock::now();
  if (now - drawn_ < std::chrono::milliseconds(terminal_ ? 100 : 10000)) return;
  drawn_ = now;
  draw(false);
}
void progress::finish() {
  if (dirty_) draw(true);
  dirty_ = false;
}
void progress::draw(bool last) {
  if (options_.quiet) return;
  double const elapsed = seconds(), rate = elapsed > 0 ? (done_ - first_) / elapsed : 0;
  std::string line;
  if (terminal_) {
    int const width = 24, filled = total_ > 0 ? static_cast<int>(width * std::min(1.0, done_ / total_)) : 0;
    line = "\r\033[K[" + std::string(static_cast<std::size_t>(filled), '#') +
           std::string(static_cast<std::size_t>(width - filled), '.') + "] ";
  }
  line += short_number(done_) + "/" + short_number(total_) + " " + unit_ + ", " + short_number(rate) + "/s, " +
          (last ? (done_ < total_ ? "after " : "took ") + short_time(elapsed)
                : "ETA " + (rate > 0 ? short_time((total_ - done_) / rate) : "-"));
  if (!remark_.empty()) line += ", " + printable(remark_);
  if (!terminal_ || last) line += '\n';
  std::cerr << line << std::flush;
}

std::string text(char const* format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int const size = std::vsnprintf(nullptr, 0, format, arguments);
  va_end(arguments);
  std::string out(static_cast<std::size_t>(std::max(size, 0)), ' ');
  std::vsnprintf(out.data(), out.size() + 1, format, again);
  va_end(again);
  return out;
}
std::string printable(std::string const& line, bool one_line) {
  std::string shown;
  unsigned char before = 0;
  for (char const c : line) {
    auto const byte = static_cast<unsigned char>(c);
    bool const steers = before == 0xC2 && byte >= 0x80 && byte < 0xA0;  // U+0080 to U+009F
    if ((byte < 0x20 && (one_line || c != '\n') && c != '\t') || byte == 0x7f || steers)
      shown += detail::spelt(byte);
    else
      shown += c;
    before = byte;
  }
  return shown;
}
json json_if_any(std::string_view text) {
  try {
    return parse_json<json>(text, "");
  } catch (format_error const&) {
    return {};
  }
}
void for_each_piece(std::filesystem::path const& file, std::function<void(std::string_view)> const& f) {
  auto const from = detail::open_to_read(file);
  std::error_code unknown;
  std::uint64_t const size = std::filesystem::file_size(file, unknown);
  if (unknown) throw file_error({file.string(), "a file that can be read", unknown.message()});
  std::string some(std::min<std::uint64_t>(size, 1 << 18), '\0');
  for (std::uint64_t at = 0; at != size; at += some.size()) {
    some.resize(std::min<std::uint64_t>(some.size(), size - at));
    detail::read_at(from, file, at, std::as_writable_bytes(std::span(some)));
    f(some);
  }
}
std::uint64_t fingerprint_of(std::filesystem::path const& file, std::uint64_t hash) {
  for_each_piece(file, [&](std::string_view piece) { hash = fingerprint(piece, hash); });
  return hash;
}
std::string hex(std::uint64_t print) { return text("%016llx", static_cast<unsigned long long>(print)); }

std::string short_number(double value) {
  for (auto const& [unit, name] : {std::pair{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}})
    if (std::abs(value) >= unit) {
      double const scale = unit == 1e4 ? 1e3 : unit;
      return text(value / scale >= 100 ? "%.0f%s" : "%.1f%s", value / scale, name);
    }
  return text(value >= 100 || value == std::floor(value) ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
}
std::string short_time(double seconds) {
  auto const s = static_cast<long>(std::lround(seconds));
  if (s >= 3600) return text("%ld h %02ld min", s / 3600, s / 60 % 60);
  if (s >= 60) return text("%ld min %02ld s", s / 60, s % 60);
  return seconds < 9.95 ? text("%.1f s", seconds) : text("%ld s", s);
}

void make_folder(std::filesystem::path const& folder) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem) throw file_error({folder.string(), "a folder that can be made", problem.message()});
}
void make_folder_of(std::filesystem::path const& file) {
  if (file.has_parent_path()) make_folder(file.parent_path());
}
void append_text(std::filesystem::path const& file, std::string const& lines, bool synced) {
  detail::file_descriptor const to(::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0666));
  // In one piece, where there is room: another process may append, too.
  if (!to.is_open() || !detail::write_all(to, std::as_bytes(std::span(lines))) || (synced && ::fsync(to.get()) != 0))
    detail::throw_errno(file, "room for another line");
}
std::string first_bytes(std::filesystem::path const& file, std::size_t most) {
  auto const from = detail::open_to_read(file);
  std::string bytes(std::min<std::uintmax_t>(most, std::filesystem::file_size(file)), '\0');
  detail::read_at(from, file, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}
void write_json(std::filesystem::path const& file, json const& document) {
  write_file(file, json_text(document, 2) + "\n");
}

}  // namespace l3::program
