/// @file  include/l3/files/json_text.hpp: JSON of names, which need not be UTF-8; and JSON that strangers may have
/// written.
#pragma once
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/text.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace l3::inline L3_ISA {

namespace detail {
template <class Json>
Json in_utf8(Json const& document) {
  if (document.is_string()) return as_utf8(document.template get_ref<std::string const&>());
  if (!document.is_structured()) return document;
  Json same = document.is_array() ? Json::array() : Json::object();
  for (auto const& [key, value] : document.items())
    if (document.is_array())
      same.push_back(in_utf8(value));
    else
      same[as_utf8(key)] = in_utf8(value);
  return same;
}
}  // namespace detail

/// A document of nlohmann's as text, each of its strings as `as_utf8` has it; on one line, or with this indent.
template <class Json>
std::string json_text(Json const& document, int indent = -1) {
  try {
    return document.dump(indent);
  } catch (nlohmann::json::type_error const&) {
    return detail::in_utf8(document).dump(indent);
  }
}

/// A document. Nests are of at most 64: deeper ones would use up the stack where they are copied or written.
///
/// Errors  format_error naming `source`: no JSON, or nests too deep.
template <class Json = nlohmann::json>
Json parse_json(std::string_view text, std::string const& source) {
  auto const not_too_deep = [&](int depth, typename Json::parse_event_t event, Json&) {
    using is = typename Json::parse_event_t;
    if (depth + (event == is::array_start || event == is::object_start ? 1 : 0) > 64)
      throw format_error(complaint{source, "JSON with nests of at most 64", "deeper ones"});
    return true;
  };
  try {
    return Json::parse(text, not_too_deep);
  } catch (nlohmann::json::exception const&) {
    throw format_error(complaint{source, "JSON", detail::excerpt(text)});
  }
}

}  // namespace l3::inline L3_ISA
