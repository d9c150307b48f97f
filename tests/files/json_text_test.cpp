/// @file  tests/files/json_text_test.cpp: names of any bytes, in JSON.
#include <l3/core/text.hpp>
#include <l3/files/json_text.hpp>

#include "../support/catch.hpp"

using json = nlohmann::ordered_json;

TEST_CASE("what counts as UTF-8 is what the JSON library takes for it") {
  auto const taken = [](std::string const& text) {
    try {
      return (void)json(text).dump(), true;
    } catch (json::type_error const&) {
      return false;
    }
  };
  std::size_t differ = 0, good = 0;
  auto const compare = [&](std::string const& text) {
    bool const is = l3::is_utf8(text);
    good += is ? 1 : 0;
    differ += is != taken(text) ? 1 : 0;
  };
  // Every text of at most three bytes of these, where rules change, then every first byte before every second one.
  constexpr unsigned char edges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                                     0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
  auto const letters = [](auto... bytes) { return std::string{static_cast<char>(bytes)...}; };
  for (auto const a : edges) {
    compare(letters(a));
    for (auto const b : edges) {
      compare(letters(a, b));
      for (auto const c : edges) {
        compare(letters(a, b, c));
        compare(letters(a, b, c, 0xBF));
        compare(letters('x', a, b, c, 0x80, 'y'));
      }
    }
  }
  for (unsigned a = 0; a != 256; ++a)
    for (unsigned b = 0; b != 256; ++b) {
      compare(letters(a, b));
      compare(letters(a, b, 0x80));
      compare(letters(a, b, 0xBF, 0xBF));
    }
  CHECK(differ == 0);
  CHECK(good > 10'000);
  CHECK(l3::is_utf8(""));
}

TEST_CASE("names that are not UTF-8 stay apart in JSON") {
  json const good{{"b", {1, "\xc3\xbc"}}, {"a", nullptr}};
  CHECK(l3::json_text(good) == good.dump());
  CHECK(l3::json_text(good, 2) == good.dump(2));
  json const bad{{"z \xe9", {{"y", {1.5, "\xe8", json::array(), true}}}}, {"a", "\xc3\xbc"}};
  CHECK(l3::json_text(bad) == "{\"z \\\\xe9\":{\"y\":[1.5,\"\\\\xe8\",[],true]},\"a\":\"\xc3\xbc\"}");
  CHECK(json::parse(l3::json_text(bad, 2)) == json::parse(l3::json_text(bad)));
}

TEST_CASE("JSON of strangers is read or refused, however deep its nests are") {
  CHECK(l3::parse_json<json>(R"({"b": [1, {"c": 2}], "a": 3})", "x").dump() == R"({"b":[1,{"c":2}],"a":3})");
  auto const nest = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(l3::parse_json(nest(64), "x").is_array());
  for (std::size_t const depth : {65, 66, 100'000})
    CHECK_THROWS_WITH(l3::parse_json(nest(depth), "x"), Catch::Contains("nests of at most 64"));
  CHECK_THROWS_WITH(l3::parse_json("{\"a\": \x1b", "some.json"),
                    Catch::Contains("some.json: expected JSON, found '{\"a\": \\x1b'"));
  CHECK_THROWS_AS(l3::parse_json("", "x"), l3::format_error);
}
