/// @file  include/l3/core/text.hpp: texts of others, which may be any bytes, as JSON and messages can show them.
#pragma once
#include <cstddef>
#include <l3/core/config.hpp>
#include <string>
#include <string_view>

namespace l3::inline L3_ISA {

namespace detail {

/// A byte as text: "\xe9".
inline std::string spelt(unsigned char byte) {
  constexpr char digits[] = "0123456789abcdef";
  return {'\\', 'x', digits[byte / 16], digits[byte % 16]};
}

/// The beginning of a text, of at most so many bytes; a letter of UTF-8 that has no room as a whole is left out.
inline std::string_view beginning_of(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t end = most;
  while (end != 0 && most - end != 3 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

/// Text from a file as an error message may show it: quoted, short, without bytes that would steer a terminal.
inline std::string excerpt(std::string_view text) {
  constexpr std::size_t most = 80;
  std::string shown = "'";
  for (char const c : beginning_of(text, most)) {
    auto const byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f)
      shown += c;
    else
      shown += spelt(byte);
  }
  return shown + (text.size() > most ? "...'" : "'");
}

}  // namespace detail

/// Whether a text is well-formed UTF-8: no letter cut short or written longer than it need be, no surrogates.
///
/// Source  The Unicode Standard 15.0, table 3-7.
inline bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i != text.size();) {
    auto const first = static_cast<unsigned char>(text[i++]);
    if (first < 0x80) continue;
    if (first < 0xC2 || first > 0xF4) return false;
    std::size_t const more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    if (text.size() - i < more) return false;
    // After some first bytes, less than the usual is left for the second one.
    unsigned char least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    for (std::size_t const end = i + more; i != end; ++i, least = 0x80, most = 0xBF)
      if (auto const byte = static_cast<unsigned char>(text[i]); byte < least || byte > most) return false;
  }
  return true;
}

/// A name as JSON can hold it: one that is not UTF-8 with each of its bytes beyond ASCII written out, `\xe9`. (Names of
/// files may be any bytes; the usual replacement by U+FFFD makes one name of many. Here only who writes `\xe9` into a
/// name letter by letter gets two alike.)
inline std::string as_utf8(std::string const& name) {
  if (is_utf8(name)) return name;
  std::string ascii;
  for (char const c : name) {
    auto const byte = static_cast<unsigned char>(c);
    if (byte < 0x80)
      ascii += c;
    else
      ascii += detail::spelt(byte);
  }
  return ascii;
}

}  // namespace l3::inline L3_ISA
