/// @file  tests/files/event_file_test.cpp: files of events, byte for byte those that TensorBoard writes.
#include <l3/files/event_file.hpp>

#include "../support/catch.hpp"
#include "scratch.hpp"

using namespace l3_test;

namespace {
std::string hex_of(std::string const& bytes) {
  std::string digits;
  for (char const c : bytes)
    for (int const half : {static_cast<unsigned char>(c) / 16, static_cast<unsigned char>(c) % 16})
      digits += "0123456789abcdef"[half];
  return digits;
}
}  // namespace

TEST_CASE("sums of records are CRC-32C") {
  CHECK(l3::detail::crc32c("") == 0);
  CHECK(l3::detail::crc32c(std::string(32, '\0')) == 0x8A9136AA);  // RFC 3720, B.4
  CHECK(l3::detail::crc32c(std::string(32, '\xff')) == 0x62A8AB43);
  CHECK(l3::detail::crc32c("123456789") == 0xE3069283);
}

// The numbers are what `check_with_python.py golden_events` prints.
TEST_CASE("event files are those that TensorBoard writes") {
  using values = std::vector<l3::event_value>;
  scratch const here;
  auto const first = here / "first", second = here / "second";
  {
    l3::event_file one(first, 1, 1.5);
    one.add(10, values{{"loss/train", 0.75}}, 2.5);
    one.add(20, values{{"loss/train", 0.5}, {"learning_rate", 1e-3}}, 3.5);
    one.add(30, values{{"loss/train", 8}}, 4.5);
    l3::event_file two(second, 20, 1.5);
    two.add(20, values{{"loss/train", 0.5}}, 5.5);
    two.add(30, values{{"loss/train", 0.25}}, 6.5);
  }
  CHECK(hex_of(content(first)) ==
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
        "0f000000000000006d532b0909000000000000f83f10013a0208012967c289"
        "200000000000000029eda950090000000000000440100a2a130a110a0a6c6f73732f747261696e150000403fbd28263d"
        "36000000000000004f578cef090000000000000c4010142a290a110a0a6c6f73732f747261696e150000003f0a140a0d"
        "6c6561726e696e675f72617465156f12833a1a901890"
        "200000000000000029eda950090000000000001240101e2a130a110a0a6c6f73732f747261696e1500000041ff1731b1");
  CHECK(hex_of(content(second)) ==
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
        "0f000000000000006d532b0909000000000000f83f10143a02080194bd2429"
        "200000000000000029eda95009000000000000164010142a130a110a0a6c6f73732f747261696e150000003fd02cc9b0"
        "200000000000000029eda950090000000000001a40101e2a130a110a0a6c6f73732f747261696e150000803efa57c021");
}

TEST_CASE("an event file replaces none, and tells of a full disk") {
  scratch const here;
  CHECK_THROWS_AS(l3::event_file(put(here / "old", "kept"), 1), l3::file_error);
  CHECK(content(here / "old") == "kept");
  l3::event_file events(here / "full", 1);
  full_disk const full(100);
  std::vector<l3::event_value> const values(9, {"loss/train", 1});
  CHECK_THROWS_AS(events.add(1, values), l3::file_error);
}
