/// @file  tests/core/text_test.cpp: texts of others, as JSON and messages can show them.
#include <cstddef>
#include <l3/core/text.hpp>
#include <string>

#include "../support/catch.hpp"

TEST_CASE("excerpt shows text from a file without its control bytes") {
  CHECK(l3::detail::excerpt("a\x1b[31m\nb\x7f") == "'a\\x1b[31m\\x0ab\\x7f'");
  CHECK(l3::detail::excerpt(std::string(1000, 'x')) == "'" + std::string(80, 'x') + "...'");
  // A letter of several bytes stays whole or is left out.
  CHECK(l3::detail::excerpt(std::string(79, 'x') + "\u03c9") == "'" + std::string(79, 'x') + "...'");
  CHECK(l3::detail::excerpt(std::string(78, 'x') + "\u03c9") == "'" + std::string(78, 'x') + "\u03c9'");
  CHECK(l3::detail::beginning_of(std::string(9, '\x80'), 5).size() <= 5);
}

TEST_CASE("names that are not UTF-8 stay apart") {
  CHECK(l3::as_utf8("gr\xc3\xbc\xc3\x9f.mp4") == "gr\xc3\xbc\xc3\x9f.mp4");
  CHECK(l3::as_utf8("la\xe9tin.mp4") == "la\\xe9tin.mp4");
  CHECK(l3::as_utf8("la\xe8tin.mp4") == "la\\xe8tin.mp4");
  CHECK(l3::as_utf8("\xc3\xbc\xff\n") == "\\xc3\\xbc\\xff\n");  // all of it, or none
  CHECK(l3::as_utf8("") == "");
}
