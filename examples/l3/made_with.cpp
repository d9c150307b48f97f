// What the outputs in a folder were made with.
#include "made_with.hpp"

#include <l3/files/atomic_file.hpp>
#include <l3/version.hpp>
#include <sstream>
#include <utility>

namespace l3::program {

made_with::made_with(std::filesystem::path folder, json settings)
    : file_(std::move(folder) / "l3-embed.jsonl"),
      settings_(std::move(settings)),
      key_(text("%016llx", static_cast<unsigned long long>(fingerprint(settings_.dump())))) {
  if (!std::filesystem::exists(file_)) return;
  std::istringstream in(read_file(file_, std::size_t{1} << 32));
  for (std::string line; std::getline(in, line);) {
    is_torn_ = in.eof();
    json const read = json::parse(line, nullptr, false);
    auto const string_at = [&](char const* name) {
      return read.is_object() && read.contains(name) && read[name].is_string() ? read[name].get<std::string>() : "";
    };
    std::string const key = string_at("key"), output = string_at("output");
    if (key.empty()) continue;
    if (output.empty())
      settings_of_[key] = read.value("settings", json::object());
    else if (key == key_)
      others_.erase(output);
    else
      others_[output] = key;
  }
}

void made_with::require_same(std::string const& output) const {
  auto const found = others_.find(output);
  if (found == others_.end()) return;
  auto const settings = settings_of_.find(found->second);
  json const before = settings == settings_of_.end() ? json::object() : settings->second;
  std::string const what = (file_.parent_path() / output).string() + ", which exists";
  for (auto const& [name, value] : settings_.items())
    if (json const old = before.value(name, json()); old != value)
      throw setting_error({what, "one made with " + name + ' ' + value.dump() + ", --overwrite, or another --out",
                           "one made with " + old.dump()});
  throw setting_error({what, "one made with the same settings, --overwrite, or another --out", "one made with others"});
}

void made_with::note(std::string const& output) {
  auto const line = [](json const& of) { return of.dump(-1, ' ', false, json::error_handler_t::replace) + '\n'; };
  std::lock_guard const lock(mutex_);
  std::string lines = std::exchange(is_torn_, false) ? "\n" : "";
  if (!std::exchange(begun_, true)) lines += line({{"key", key_}, {"version", L3_VERSION}, {"settings", settings_}});
  append_text(file_, lines + line({{"key", key_}, {"output", output}}), false);
}

}  // namespace l3::program
