/// @file  tests/data/resize_test.cpp: pictures of another size, against Pillow's.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <l3/data/resize.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "../support/catch.hpp"

namespace {
/// As tests/golden/make_resize_golden.py makes it.
l3::rgb_frame made(std::size_t width, std::size_t height) {
  l3::rgb_frame p{width, height, std::vector<std::uint8_t>(3 * width * height), 0};
  std::uint32_t state = 1;
  for (std::size_t k = 0; k != p.pixels.size(); ++k) {
    state = 1664525 * state + 1013904223;
    p.pixels[k] = static_cast<std::uint8_t>(k % 7 != 0 ? state >> 24 : 255 * (state >> 31));
  }
  return p;
}
}  // namespace

TEST_CASE("pictures of another size are Pillow's, bit for bit") {
  std::ifstream file(L3_SOURCE_DIR "/tests/golden/resize.csv");
  std::string line;
  std::getline(file, line);
  REQUIRE(line == "width,height,new_width,new_height,bytes");
  l3::picture_resizer resize;
  int rows = 0;
  for (; std::getline(file, line); ++rows) {
    std::size_t from[2], to[2];
    char comma;
    std::string hex;
    std::istringstream in(line);
    REQUIRE(in >> from[0] >> comma >> from[1] >> comma >> to[0] >> comma >> to[1] >> comma >> hex);
    CAPTURE(from[0], from[1], to[0], to[1]);
    std::vector<std::uint8_t> expected;
    for (std::size_t k = 0; k + 1 < hex.size(); k += 2)
      expected.push_back(static_cast<std::uint8_t>(std::strtoul(hex.substr(k, 2).c_str(), nullptr, 16)));
    for (int again = 0; again != 2; ++again) {  // with the tables as they are
      auto picture = made(from[0], from[1]);
      resize(picture, std::min(to[0], to[1]), 1000, "x");
      CHECK((picture.width == to[0] && picture.height == to[1]));
      CHECK(picture.pixels == expected);
    }
  }
  CHECK(rows == 9);
}

TEST_CASE("a picture keeps its size where it fits, and none becomes larger than allowed") {
  l3::picture_resizer resize;
  auto picture = made(9, 5);
  auto const before = picture.pixels;
  resize(picture, 5, 45, "x");
  CHECK(picture.pixels == before);
  resize(picture, 0, 45, "x");
  CHECK(picture.pixels == before);
  CHECK_THROWS_AS(resize(picture, 6, 45, "x"), l3::media_error);
  CHECK(picture.pixels == before);
}
