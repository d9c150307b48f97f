/// @file  tests/files/npz_test.cpp: NumPy's bytes, member by member. (python_readers_test.cpp asks NumPy itself.)
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <l3/files/npz.hpp>

#include "../support/catch.hpp"
#include "scratch.hpp"

using namespace l3_test;

namespace {

/// numpy.save of matrix() as 3 x 5; `check_with_python.py golden` prints it.
std::string golden_npy() {
  constexpr char start[] = "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }";
  std::string bytes(start, sizeof start - 1);
  bytes.append(127 - bytes.size(), ' ') += '\n';
  auto const values = matrix();
  return bytes.append(reinterpret_cast<char const*>(values.data()), 60);
}

std::string write_example(std::filesystem::path const& path) {
  l3::npz_writer npz(path);
  npz.add("embedding", {3, 5}, matrix());
  npz.add("timestamps", {3}, std::vector<double>{0.0, 0.1, 0.2});
  npz.commit();
  return content(path);
}

}  // namespace

TEST_CASE("write_npy writes NumPy's bytes") {
  scratch const here;
  l3::write_npy<float>(here / "m.npy", {3, 5}, matrix());
  CHECK(content(here / "m.npy") == golden_npy());
}

TEST_CASE("npy headers spell shapes as Python does and align values") {
  auto const header = [](std::vector<std::size_t> const& shape) { return l3::detail::npy_header<double>(shape); };
  CHECK_THAT(header({}), Contains("'descr': '<f8'") && Contains("'shape': (), }"));
  CHECK_THAT(header({3}), Contains("'shape': (3,), }"));
  CHECK_THAT(header({0, 512}), Contains("'shape': (0, 512), }"));
  for (std::size_t rank = 0; rank < 64; ++rank) {
    auto const text = header(std::vector<std::size_t>(rank, 12345));
    CHECK(text.size() % 64 == 0);
    CHECK(text.back() == '\n');
    CHECK(static_cast<unsigned char>(text[8]) + 256u * static_cast<unsigned char>(text[9]) + 10 == text.size());
  }
  CHECK_THROWS_AS(header(std::vector<std::size_t>(40'000, 1)), l3::shape_error);
}

TEST_CASE("npz_writer stores its members whole, with ZIP64 sizes and no time of day") {
  scratch const here;
  auto const zip = write_example(here / "a.npz");
  CHECK(zip.starts_with("PK\x03\x04"));
  CHECK_THAT(zip, Contains("embedding.npy") && Contains("timestamps.npy") && Contains(golden_npy()));
  CHECK_THAT(zip, Contains("PK\x06\x06") && Contains("PK\x06\x07"));   // ZIP64 end of the directory
  CHECK(std::memcmp(zip.data() + 10, "\0\0\x21\0", 4) == 0);           // 1980-01-01 00:00
  CHECK(zip.substr(zip.size() - 22, 4) == std::string("PK\x05\x06"));  // nothing after the end
  CHECK(here.files() == 1);

  ::setenv("TZ", "Asia/Tokyo", 1);
  ::tzset();
  CHECK(write_example(here / "b.npz") == zip);
  ::unsetenv("TZ");
  ::tzset();
}

TEST_CASE("npz_rows gives the same archive as an array in memory") {
  scratch const here;
  l3::npz_writer plain(here / "plain.npz");
  floats const large(600'000, 0.5f);  // more than one piece
  plain.add("embedding", {3, 5}, matrix());
  plain.add("large", {200'000, 3}, large);
  plain.add("empty", {0, 7}, floats{});
  plain.commit();

  l3::npz_rows<float> rows(here / "rows.npz", 5), many(here / "rows.npz", 3), none(here / "rows.npz", 7);
  CHECK(here.files() == 1);  // they have no name that could stay
  auto const values = matrix();
  rows.append(std::span(values).first(5));
  rows.append(std::span(values).subspan(5));
  for (std::size_t i = 0; i < large.size(); i += 3000) many.append(std::span(large).subspan(i, 3000));
  CHECK(many.count() == 200'000);
  l3::npz_writer spooled(here / "rows.npz");
  spooled.add("embedding", rows);
  spooled.add("large", many);
  spooled.add("empty", none);
  spooled.commit();
  CHECK(content(here / "rows.npz") == content(here / "plain.npz"));
}

TEST_CASE("npz_writer refuses wrong shapes and names") {
  scratch const here;
  l3::npz_writer npz(here / "a.npz");
  auto const values = matrix();
  npz.add("embedding", {3, 5}, values);
  CHECK_THROWS_AS(npz.add("embedding", {3, 5}, values), l3::setting_error);
  CHECK_THROWS_AS(npz.add("", {3, 5}, values), l3::setting_error);
  CHECK_THROWS_AS(npz.add("../up", {3, 5}, values), l3::setting_error);
  CHECK_THROWS_AS(npz.add("\xc3\xa9", {3, 5}, values), l3::setting_error);
  CHECK_THROWS_AS(npz.add("x", {5, 5}, values), l3::shape_error);
  CHECK_THROWS_AS(npz.add("x", {std::size_t{1} << 63, 2}, floats{}), l3::shape_error);
  l3::npz_rows<float> rows(here / "a.npz", 5);
  CHECK_THROWS_AS(rows.append(std::span(values).first(4)), l3::shape_error);
}

TEST_CASE("npz_writer without commit, or on a full disk, leaves the old file alone") {
  scratch const here;
  auto const path = put(here / "a.npz", "old content");
  { l3::npz_writer(path).add("embedding", {3, 5}, matrix()); }
  CHECK(content(path) == "old content");
  {
    full_disk const full(100'000);
    l3::npz_writer npz(path);
    CHECK_THROWS_WITH(npz.add("large", {100'000}, floats(100'000)), Contains(path.string()) && Contains("too large"));
    CHECK_THROWS_AS(npz.commit(), l3::file_error);
    l3::npz_rows<float> rows(path, 100'000);
    CHECK_THROWS_WITH(rows.append(floats(100'000)), Contains(path.string()));
  }
  CHECK(content(path) == "old content");
  CHECK(here.files() == 1);
  CHECK_THROWS_AS(l3::npz_writer(here / "none/a.npz"), l3::file_error);
  CHECK_THROWS_AS(l3::npz_rows<float>(here / "none/a.npz", 5), l3::file_error);
}
