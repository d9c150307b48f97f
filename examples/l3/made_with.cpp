// What the outputs in a folder were made of, and with.
#include "made_with.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <l3/version.hpp>
#include <utility>

namespace l3::program {
namespace {

std::string line(json const& of) { return json_text(of) + '\n'; }

}  // namespace

file_state file_state::of(std::filesystem::path const& file) {
  file_state s{as_utf8(file.string())};
  struct ::stat now {};
  if (::stat(file.c_str(), &now) != 0) return s;
  s.bytes = static_cast<std::uint64_t>(now.st_size);
  s.modified = std::int64_t{now.st_mtim.tv_sec} * 1'000'000'000 + now.st_mtim.tv_nsec;
  return s;
}

void file_state::look_inside(std::filesystem::path const& path) {
  std::error_code unknown;
  if (!std::filesystem::is_regular_file(path, unknown)) return;  // a pipe would wait for whoever writes to it
  try {
    content = hex(fingerprint_of(path, fingerprint(std::to_string(bytes))));
  } catch (file_error const&) {  // whoever reads all of it says so
    content.clear();
  }
}

made_with::made_with(std::filesystem::path folder, json settings)
    : file_(std::move(folder) / "l3-embed.jsonl"),
      settings_(std::move(settings)),
      key_(hex(fingerprint(settings_.dump()))) {
  if (!std::filesystem::exists(file_)) return;
  constexpr std::size_t most = std::size_t{64} << 20;
  std::string begun;  // a line whose end may be on its way
  for_each_piece(file_, [&](std::string_view piece) {
    std::size_t const whole = piece.rfind('\n') + 1;
    begun += piece.substr(0, whole == 0 ? piece.size() : whole);
    if (begun.size() > most) throw format_error({file_.string(), "lines of at most 64 MiB", "a longer one"});
    if (whole == 0) return;
    read(begun, false);
    read_to_ += begun.size();
    begun = piece.substr(whole);
  });
}

void made_with::read(std::string_view lines, bool by_other) {
  for (std::size_t begin = 0, end; (end = lines.find('\n', begin)) != lines.npos; begin = end + 1) try {
      json const read = json_if_any(lines.substr(begin, end - begin));
      auto const key = read.at("key").get<std::string>();
      if (!read.contains("output")) {
        if (read.at("settings").is_object()) settings_of_[key] = read["settings"];
        continue;
      }
      origin from{key, {}, read.value("begun", false), by_other};
      if (read.contains("input")) {
        json const& input = read["input"];
        from.input = {input.at("file"), input.at("bytes"), input.at("modified"), input.value("content", "")};
      }
      outputs_[read["output"].get<std::string>()] = std::move(from);
    } catch (json::exception const&) {  // torn, or not ours
    }
}

void made_with::refuse(std::string const& output, origin const& found, file_state const& wanted) const {
  std::string const what = (file_.parent_path() / output).string() + (found.by_other ? "" : ", which exists");
  std::string const else_do = found.by_other ? "" : ", --overwrite, or another --out";
  auto const refuse = [&](std::string const& expected, std::string const& instead) {
    throw setting_error({what, "one made " + expected + else_do,
                         "one made " + instead + (found.by_other ? " by another process meanwhile" : "")});
  };
  if (found.key == key_)
    refuse("of " + wanted.file, found.input.file == wanted.file ? "of another state of it" : "of " + found.input.file);
  auto const settings = settings_of_.find(found.key);
  json const before = settings == settings_of_.end() ? json::object() : settings->second;
  for (auto const& [name, value] : settings_.items())
    if (json const old = before.value(name, json()); old != value)
      refuse("with " + name + ' ' + value.dump(), "with " + old.dump());
  refuse("with the same settings", "with others");
  std::abort();
}

bool made_with::knows(std::string const& output) const { return outputs_.contains(as_utf8(output)); }

bool made_with::is_current(std::string const& output, std::filesystem::path const& input) const {
  auto const found = outputs_.find(as_utf8(output));
  if (found == outputs_.end()) return true;
  origin const& from = found->second;
  file_state now = file_state::of(input);
  bool same = from.input.file.empty() || from.input.untouched(now);
  if (!same && from.input.bytes == now.bytes) {
    if (looked_at_.untouched(now))  // for a video's other output
      now = looked_at_;
    else
      now.look_inside(input), looked_at_ = now;
    same = from.input.same_content(now);
  }
  if (from.key != key_ || (!same && from.input.file != now.file)) refuse(output, from, now);
  return same && !from.begun;
}

void made_with::note(std::string const& output, file_state const& input, bool begun) {
  std::lock_guard const lock(mutex_);
  auto const fail = [&] { detail::throw_errno(file_, "room for another line"); };
  detail::file_descriptor const to(::open(file_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
  if (!to.is_open()) fail();
  ::flock(to.get(), LOCK_EX);  // as long as `to` is open; a file system without locks does without
  struct ::stat now {};
  if (::fstat(to.get(), &now) != 0) fail();
  if (!S_ISREG(now.st_mode)) throw file_error({file_.string(), "a file", "a pipe or a device"});
  std::string lines(std::max(static_cast<std::uint64_t>(now.st_size), read_to_) - read_to_, '\0');
  detail::read_at(to, file_, read_to_, std::as_writable_bytes(std::span(lines)));
  read(lines, true);
  if (auto const found = outputs_.find(as_utf8(output)); found != outputs_.end() && found->second.by_other) {
    origin const& from = found->second;
    if (from.key != key_ || !from.input.same_content(input)) refuse(output, from, input);
  }
  std::string more;
  char last = '\n';
  if (now.st_size > 0)
    detail::read_at(to, file_, static_cast<std::uint64_t>(now.st_size) - 1,
                    std::as_writable_bytes(std::span(&last, 1)));
  if (last != '\n') more = '\n';  // behind a torn one
  if (!std::exchange(said_settings_, true))
    more += line({{"key", key_}, {"version", L3_VERSION}, {"settings", settings_}});
  json about{
      {"key", key_},
      {"output", as_utf8(output)},
      {"input",
       {{"file", input.file}, {"bytes", input.bytes}, {"modified", input.modified}, {"content", input.content}}}};
  if (begun) about["begun"] = true;
  more += line(about);
  // Where an output is replaced, this is to be known first, also after a power cut.
  bool const replaces = begun && std::filesystem::exists(file_.parent_path() / output);
  if (!detail::write_all(to, std::as_bytes(std::span(more))) || (replaces && ::fsync(to.get()) != 0)) fail();
  read_to_ = static_cast<std::uint64_t>(now.st_size) + more.size();
}

}  // namespace l3::program
