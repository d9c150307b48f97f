/// @file  tests/files/safetensors_test.cpp: the reference's bytes both ways, and files made to do harm.
#include <cmath>
#include <cstring>
#include <l3/files/safetensors.hpp>
#include <limits>

#include "../support/catch.hpp"
#include "scratch.hpp"

using namespace l3_test;

namespace {

/// A file with this header and this many zero bytes of data.
std::string file_of(std::string_view header, std::size_t data_bytes) {
  std::uint64_t const size = header.size();
  std::string bytes(reinterpret_cast<char const*>(&size), sizeof size);
  return bytes.append(header).append(data_bytes, '\0');
}

/// A file written by the reference writer; `check_with_python.py golden` prints it.
std::string golden() {
  auto bytes = file_of(R"({"__metadata__":{"k":"v"},"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                       R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]}}  )",
                       0);
  constexpr char data[] = "\x07\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40\0\0\xc0\x40";
  return bytes.append(data, sizeof data - 1);
}

}  // namespace

TEST_CASE("safetensors_file reads what the reference wrote") {
  scratch const here;
  auto const file = l3::safetensors_file::open(put(here / "golden", golden()));
  CHECK(file.metadata() == std::map<std::string, std::string>{{"k", "v"}});
  CHECK(file.metadata("k") == "v");
  CHECK(file.tensors().size() == 2);
  CHECK(file.contains("w"));
  CHECK_FALSE(file.contains("W"));
  CHECK(file.read_int64("n") == 7);
  floats w(6);
  file.read("w", w, {2, 3});
  CHECK(w == floats{1, 2, 3, 4, 5, 6});
  CHECK(file.entry("w").dtype == "F32");
  CHECK(file.read_bytes("n").size() == 8);
}

TEST_CASE("safetensors_writer writes the reference's bytes") {
  scratch const here;
  floats const w{1, 2, 3, 4, 5, 6};
  std::vector<std::int64_t> const n{7};
  l3::safetensors_writer writer;
  writer.add("w", {2, 3}, w);
  writer.add("n", {}, n);
  writer.metadata("k", "v");
  writer.write(here / "ours");
  CHECK(content(here / "ours") == golden());
  CHECK(here.files() == 1);
}

TEST_CASE("safetensors keep every bit of every type") {
  scratch const here;
  constexpr auto inf = std::numeric_limits<float>::infinity();
  floats const odd{-0.0f, inf, -inf, std::numeric_limits<float>::denorm_min(), 3.5f};
  std::vector<double> const doubles{0.1, -1e300};
  std::vector<std::int64_t> const whole{std::numeric_limits<std::int64_t>::min(), -1};
  float const nan = std::nanf("0x1234");
  l3::safetensors_writer writer;
  writer.add("odd", {5, 1}, odd);
  writer.add("doubles", {2}, doubles);
  writer.add("whole", {1, 2}, whole);
  writer.add("none", {3, 0}, floats{});
  writer.add("nan \"quoted\"\n\xc3\xa9", {}, std::span(&nan, 1));
  writer.metadata("settings", R"({"lr": 1e-5})");
  writer.metadata("", "");
  writer.write(here / "file");

  auto const file = l3::safetensors_file::open(here / "file");
  floats odd_back(5);
  file.read("odd", odd_back, {5, 1});
  CHECK(std::memcmp(odd_back.data(), odd.data(), 20) == 0);
  std::vector<double> doubles_back(2);
  file.read("doubles", doubles_back, {2});
  CHECK(doubles_back == doubles);
  std::vector<std::int64_t> whole_back(2);
  file.read("whole", whole_back, {1, 2});
  CHECK(whole_back == whole);
  file.read("none", std::span<float>(), {3, 0});
  float nan_back = 0;
  file.read("nan \"quoted\"\n\xc3\xa9", std::span(&nan_back, 1), {});
  CHECK(std::memcmp(&nan_back, &nan, 4) == 0);
  CHECK(file.metadata().size() == 2);
  CHECK(file.metadata("settings") == R"({"lr": 1e-5})");
  for (auto const& [name, entry] : file.tensors())  // aligned in a mapped file
    CHECK(entry.begin % (entry.dtype == "F32" ? 4 : 8) == 0);
}

TEST_CASE("safetensors_writer does not depend on the order of its calls and may write nothing") {
  scratch const here;
  floats const a{1}, b{2};
  l3::safetensors_writer first, second, none;
  first.add("a", {1}, a);
  first.add("b", {1}, b);
  first.metadata("x", "1");
  first.metadata("y", "2");
  second.metadata("y", "2");
  second.metadata("x", "1");
  second.add("b", {1}, b);
  second.add("a", {1}, a);
  first.write(here / "first");
  second.write(here / "second");
  CHECK(content(here / "first") == content(here / "second"));
  none.write(here / "none");
  CHECK(content(here / "none") == file_of("{}      ", 0));
  CHECK(l3::safetensors_file::open(here / "none").tensors().empty());
}

TEST_CASE("safetensors_file says what differs: file, tensor, expected, found") {
  scratch const here;
  auto const path = put(here / "golden", golden());
  auto const file = l3::safetensors_file::open(path);
  floats w(6);
  std::vector<double> d(6);
  CHECK_THROWS_WITH(file.read("w", w, {3, 2}), path.string() + ": tensor w: expected F32 [3, 2], found F32 [2, 3]");
  CHECK_THROWS_WITH(file.read("w", d, {2, 3}), path.string() + ": tensor w: expected F64 [2, 3], found F32 [2, 3]");
  CHECK_THROWS_WITH(file.read("v", w, {2, 3}), path.string() + ": expected a tensor named v, found none");
  CHECK_THROWS_AS(file.read("w", std::span(w).first(5), {2, 3}), l3::shape_error);
  CHECK_THROWS_AS(file.read_int64("w"), l3::format_error);
  CHECK_THROWS_AS(file.metadata("l3.model"), l3::format_error);
  std::filesystem::resize_file(path, golden().size() - 1);  // changed behind our back
  CHECK_THROWS_AS(file.read("w", w, {2, 3}), l3::file_error);
}

TEST_CASE("safetensors_file refuses broken and hostile files") {
  scratch const here;
  auto const refused = [&](std::string const& bytes, std::string const& reason) {
    auto const path = put(here / "hostile", bytes);
    CAPTURE(reason);
    CHECK_THROWS_AS(l3::safetensors_file::open(path), l3::format_error);
    CHECK_THROWS_WITH(l3::safetensors_file::open(path), Contains(path.string()) && Contains(reason));
  };
  auto const header_refused = [&](std::string const& header, std::size_t data, std::string const& reason) {
    CAPTURE(header.substr(0, 200));
    refused(file_of(header, data), reason);
  };
  auto const tensor = [](std::string const& dtype, std::string const& shape, std::string const& offsets) {
    return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + '}';
  };
  auto const one = tensor("F32", "[1]", "[0,4]");

  SECTION("sizes that lie") {
    refused("", "a file of 0 bytes");
    refused("1234567", "a file of 7 bytes");
    std::uint64_t const huge = std::uint64_t{1} << 60, largest = ~std::uint64_t{0};
    refused(std::string(reinterpret_cast<char const*>(&huge), 8) + "{}", "at most 2 bytes");
    refused(std::string(reinterpret_cast<char const*>(&largest), 8) + "{}", "found 18446744073709551615");
    for (std::size_t cut = 1; cut < golden().size(); ++cut)
      CHECK_THROWS_AS(l3::safetensors_file::open(put(here / "cut", golden().substr(0, cut))), l3::format_error);
    refused(golden() + '\0', "32 bytes of tensors");
    header_refused("", 0, "starts with '{'");
    CHECK_THROWS_AS(l3::safetensors_file::open(here.path()), l3::format_error);
    CHECK_THROWS_AS(l3::safetensors_file::open("/dev/zero"), l3::format_error);
    CHECK_THROWS_AS(l3::safetensors_file::open(here / "none"), l3::file_error);
  }
  SECTION("a header over 100 MB") {
    auto const path = put(here / "sparse", std::string("\x01\xe1\xf5\x05\0\0\0\0{", 9));  // 100,000,001 bytes
    std::filesystem::resize_file(path, 200'000'000);
    CHECK_THROWS_WITH(l3::safetensors_file::open(path), Contains("at most 100000000 bytes, found 100000001"));
  }
  SECTION("not JSON, or not only JSON") {
    header_refused("[]", 0, "starts with '{'");
    header_refused(" {}", 0, "starts with '{'");
    header_refused("{", 0, "valid JSON");
    header_refused("{} {}", 0, "valid JSON");
    header_refused("{}x", 0, "valid JSON");
    header_refused(std::string("{}\0garbage", 10), 0, "valid JSON");
    header_refused("{\"a\xff\":" + one + '}', 4, "UTF-8");
    header_refused("{\"__metadata__\":{\"k\":\"\xc3\x28\"}}", 0, "UTF-8");
    header_refused("{\"a\":{\"dtype\":\"F32\",}}", 0, "valid JSON");
  }
  SECTION("nesting") {
    std::string bomb = "{\"a\":";
    bomb += std::string(1'000'000, '[');
    header_refused(bomb, 0, "an array");
    std::string objects;
    for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
    header_refused(objects, 0, "an object");
    header_refused(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, "an array");
    header_refused(R"({"a":{"dtype":{},"shape":[1],"data_offsets":[0,4]}})", 4, "an object");
    header_refused(R"({"__metadata__":{"a":{"b":"c"}}})", 0, "an object");
  }
  SECTION("other types than the format's") {
    header_refused(R"({"a":1})", 0, "an object for 'a'");
    header_refused(R"({"a":null})", 0, "an object for 'a'");
    header_refused(R"({"__metadata__":"text"})", 0, "an object for '__metadata__'");
    header_refused(R"({"__metadata__":{"step":5}})", 0, "a string for 'step'");
    header_refused(R"({"a":{"dtype":5,"shape":[1],"data_offsets":[0,4]}})", 4, "a number");
    header_refused(R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4, "a number");
    header_refused(R"({"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}})", 4, "true or false");
  }
  SECTION("fields missing, unknown, or twice") {
    header_refused(R"({"a":{"dtype":"F32","shape":[1]}})", 4, "found fewer");
    header_refused(R"({"a":{}})", 0, "found fewer");
    header_refused(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "once each");
    header_refused(R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4, "once each");
    header_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":""}})", 4, "once each");
    header_refused("{\"a\":" + one + ",\"a\":" + one + '}', 4, "two named 'a'");
    header_refused(R"({"__metadata__":{"k":"1","k":"2"}})", 0, "two named 'k'");
    header_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "one '__metadata__'");
  }
  SECTION("dtypes and shapes") {
    header_refused("{\"a\":" + tensor("F31", "[1]", "[0,4]") + '}', 4, "'F31'");
    header_refused("{\"a\":" + tensor("f32", "[1]", "[0,4]") + '}', 4, "a dtype of the format");
    header_refused("{\"a\":" + tensor("F32", "[-1]", "[0,4]") + '}', 4, "the negative number -1");
    header_refused("{\"a\":" + tensor("F32", "[1.0]", "[0,4]") + '}', 4, "whole numbers");
    header_refused("{\"a\":" + tensor("F32", "[1e0]", "[0,4]") + '}', 4, "whole numbers");
    header_refused("{\"a\":" + tensor("F32", "[99999999999999999999]", "[0,4]") + '}', 4, "whole numbers");
    header_refused("{\"a\":" + tensor("F32", "[4294967296,4294967296]", "[0,0]") + '}', 0,
                   "a size that can be counted");
    header_refused("{\"a\":" + tensor("F64", "[2305843009213693952]", "[0,0]") + '}', 0, "a size that can be counted");
    header_refused("{\"a\":" + tensor("F32", "[2]", "[0,4]") + '}', 4, "8 bytes for tensor 'a' of F32 [2]");
    std::string rank = "1";
    for (int i = 0; i < 64; ++i) rank += ",1";
    header_refused("{\"a\":" + tensor("F32", '[' + rank + ']', "[0,4]") + '}', 4, "at most 64 dimensions");
  }
  SECTION("offsets") {
    header_refused("{\"a\":" + tensor("F32", "[1]", "[4]") + '}', 4, "two data_offsets");
    header_refused("{\"a\":" + tensor("F32", "[1]", "[0,4,8]") + '}', 4, "two data_offsets");
    header_refused("{\"a\":" + tensor("F32", "[1]", "[4,0]") + '}', 4, "bytes 4 to 0");
    header_refused("{\"a\":" + tensor("F32", "[1]", "[-4,0]") + '}', 4, "the negative number -4");
    header_refused("{\"a\":" + one + '}', 3, "found 3");
    header_refused("{\"a\":" + one + '}', 5, "found 5");
    header_refused("{\"a\":" + one + ",\"b\":" + one + '}', 4, "tensor 'b' to begin at byte 4, found 0");
    header_refused("{\"a\":" + one + ",\"b\":" + tensor("F32", "[1]", "[2,6]") + '}', 6, "begin at byte 4, found 2");
    header_refused("{\"a\":" + one + ",\"b\":" + tensor("F32", "[1]", "[8,12]") + '}', 12, "begin at byte 4, found 8");
    header_refused("{\"a\":" + tensor("F32", "[1]", "[4,8]") + '}', 8, "begin at byte 0, found 4");
    header_refused("{\"a\":" + tensor("U8", "[18446744073709551615]", "[0,18446744073709551615]") + '}', 4, "found 4");
  }
  SECTION("a million names") {
    std::string header = R"({"__metadata__":{"0":"")";
    for (int i = 1; i <= 1'000'000; ++i) header += ",\"" + std::to_string(i) + "\":\"\"";
    header_refused(header + "}}", 0, "at most 1000000 tensors");
  }
  SECTION("names that would steer a terminal are shown harmless") {
    header_refused(R"({"\u001b[2Jx":7})", 0, "'\\x1b[2Jx'");
  }
}

TEST_CASE("safetensors_file accepts what the format allows beyond l3's own files") {
  scratch const here;
  auto const header =  // any order, empty tensors anywhere, zero times huge, spaces, other types
      R"({ "z" : {"shape":[1],"data_offsets":[0,2],"dtype":"BF16"} ,"a":{"dtype":"U8","shape":[3],"data_offsets":[2,5]},)"
      R"("e":{"dtype":"F32","shape":[0,1000000000000],"data_offsets":[2,2]}, "__metadata__":{"\u00e9":"\n"}}   )";
  auto const file = l3::safetensors_file::open(put(here / "file", file_of(header, 5)));
  CHECK(file.tensors().size() == 3);
  CHECK(file.entry("a").begin == 2);
  CHECK(file.read_bytes("a").size() == 3);
  CHECK(file.read_bytes("e").empty());
  CHECK(file.metadata("\xc3\xa9") == "\n");
}

TEST_CASE("safetensors_writer refuses what would not be read back") {
  scratch const here;
  floats const values(6);
  l3::safetensors_writer writer;
  writer.add("w", {6}, values);
  CHECK_THROWS_AS(writer.add("w", {6}, values), l3::setting_error);
  CHECK_THROWS_AS(writer.add("__metadata__", {6}, values), l3::setting_error);
  CHECK_THROWS_AS(writer.add("\xff", {6}, values), l3::setting_error);
  CHECK_THROWS_AS(writer.add("x", {2, 4}, values), l3::shape_error);
  CHECK_THROWS_AS(writer.add("x", std::vector<std::size_t>(65, 1), std::span(values).first(1)), l3::shape_error);
  CHECK_THROWS_AS(writer.metadata("\xff", ""), l3::setting_error);
  CHECK_THROWS_AS(writer.metadata("k", "\xff"), l3::setting_error);
  writer.write(here / "file");  // none of the refused left a trace
  CHECK(l3::safetensors_file::open(here / "file").tensors().size() == 1);
  CHECK(l3::safetensors_file::open(here / "file").metadata().empty());
}

TEST_CASE("safetensors_writer on a full disk keeps the last checkpoint") {
  scratch const here;
  auto const path = put(here / "last.safetensors", golden());
  floats const values(100'000);
  l3::safetensors_writer writer;
  writer.add("w", {100'000}, values);
  {
    full_disk const full(200'000);
    CHECK_THROWS_AS(writer.write(path), l3::file_error);
  }
  CHECK(content(path) == golden());
  CHECK(here.files() == 1);
  writer.write(path);
  CHECK(l3::safetensors_file::open(path).contains("w"));
}
