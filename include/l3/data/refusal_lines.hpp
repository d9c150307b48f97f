/// @file  include/l3/data/refusal_lines.hpp: refusals as a file keeps them, refused.jsonl: a line of JSON each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/text.hpp>
#include <l3/data/refusal.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/json_text.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace l3::inline L3_ISA {

/// A refusal as one line of a `refused.jsonl`, with its line end. A name that is not UTF-8 is as `as_utf8` has it.
inline std::string refusal_line(refusal const& r) {
  return json_text(nlohmann::ordered_json{
             {"file", r.file}, {"why", r.why}, {"step", r.step}, {"scope", r.whole_file ? "file" : "moment"}}) +
         '\n';
}

/// The refusals of such lines. A last one without its end, left by a run that was killed while it wrote, does not
/// count.
///
/// Errors  format_error, with `name` and the line: not such a record.
inline std::vector<refusal> parse_refusals(std::string_view text, std::string const& name) {
  std::vector<refusal> refusals;
  std::size_t number = 0;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
    ++number;
    auto const line = text.substr(begin, end - begin);
    try {
      auto const record = parse_json(line, name);
      auto const scope = record.at("scope").get<std::string>();
      if (scope != "file" && scope != "moment") throw format_error("scope");
      refusals.push_back({record.at("file").get<std::string>(), record.at("why").get<std::string>(),
                          record.at("step").get<std::uint64_t>(), scope == "file"});
    } catch (std::exception const&) {
      throw format_error(complaint{name + ':' + std::to_string(number),
                                   R"({"file": text, "why": text, "step": number, "scope": "file" or "moment"})",
                                   detail::excerpt(line)});
    }
  }
  return refusals;
}
/// Those that a run has kept: none if there is no such file. Errors: file_error: cannot be read; as parse_refusals.
inline std::vector<refusal> read_refusals(std::filesystem::path const& file) {
  if (!std::filesystem::exists(file)) return {};
  return parse_refusals(read_file(file, std::size_t{1} << 30), file.string());
}

}  // namespace l3::inline L3_ISA
