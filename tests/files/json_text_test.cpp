/// @file  tests/files/json_text_test.cpp: names of any bytes, in JSON.
#include <l3/files/json_text.hpp>

#include "../support/catch.hpp"

using json = nlohmann::ordered_json;

TEST_CASE("names that are not UTF-8 stay apart in JSON") {
  CHECK(l3::as_utf8("gr\xc3\xbc\xc3\x9f.mp4") == "gr\xc3\xbc\xc3\x9f.mp4");
  CHECK(l3::as_utf8("la\xe9tin.mp4") == "la\\xe9tin.mp4");
  CHECK(l3::as_utf8("la\xe8tin.mp4") == "la\\xe8tin.mp4");
  CHECK(l3::as_utf8("\xc3\xbc\xff\n") == "\\xc3\\xbc\\xff\n");  // all of it, or none
  CHECK(l3::as_utf8("") == "");

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
