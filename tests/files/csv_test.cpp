/// @file  tests/files/csv_test.cpp: lists as people and programs write them, and errors that name the line.
#include <l3/files/csv.hpp>

#include "../support/catch.hpp"
#include "scratch.hpp"

using namespace l3_test;
using row = std::vector<std::string>;

TEST_CASE("parse_csv reads a list") {
  auto const table = l3::parse_csv("path,label\nclips/a.mp4,dog\nb.mp4,\n", "train.csv");
  CHECK(table.header == row{"path", "label"});
  CHECK(table.rows == std::vector<row>{{"clips/a.mp4", "dog"}, {"b.mp4", ""}});
  CHECK(table.column("label") == 1);
  CHECK(table.where(1) == "train.csv:3");
  CHECK_THROWS_WITH(table.column("Label"), "train.csv:1: expected a column named 'Label', found columns 'path,label'");
}

TEST_CASE("parse_csv takes the same table from every way of writing it") {
  std::vector<row> const rows{{"a,b", "say \"hi\""}, {"c", "two\nlines"}};
  auto const text = GENERATE(as<std::string>(), "p,l\n\"a,b\",\"say \"\"hi\"\"\"\nc,\"two\nlines\"\n",
                             "p,l\r\n\"a,b\",\"say \"\"hi\"\"\"\r\nc,\"two\nlines\"\r\n",      // CRLF
                             "p,l\n\"a,b\",\"say \"\"hi\"\"\"\nc,\"two\nlines\"",              // no last line end
                             "\xef\xbb\xbfp,l\n\"a,b\",\"say \"\"hi\"\"\"\nc,\"two\nlines\"",  // byte order mark
                             "\n\np,l\r\n\n\"a,b\",\"say \"\"hi\"\"\"\n\r\n\nc,\"two\nlines\"\n\n",
                             "\"p\",\"l\"\n\"a,b\",\"say \"\"hi\"\"\"\n\"c\",\"two\nlines\"\n");
  auto const table = l3::parse_csv(text, "");
  CHECK(table.header == row{"p", "l"});
  CHECK(table.rows == rows);
}

TEST_CASE("parse_csv keeps what is not its business") {
  auto const table = l3::parse_csv("path\n# no comment\n  spaces  \n\xff\xfe latin\n\"\"\n", "");
  CHECK(table.rows == std::vector<row>{{"# no comment"}, {"  spaces  "}, {"\xff\xfe latin"}, {""}});
}

TEST_CASE("parse_csv counts lines over quoted line ends and blank lines") {
  auto const table = l3::parse_csv("a,b\r\n\r\n\"1\r\n2\",x\r\ny,z\r\n", "f");
  CHECK(table.rows == std::vector<row>{{"1\r\n2", "x"}, {"y", "z"}});
  CHECK(table.lines == std::vector<std::size_t>{3, 5});
}

TEST_CASE("parse_csv refuses with file and line") {
  auto const refused = [](std::string const& text, std::string const& message) {
    CAPTURE(text.substr(0, 100));
    CHECK_THROWS_AS(l3::parse_csv(text, "f"), l3::format_error);
    CHECK_THROWS_WITH(l3::parse_csv(text, "f"), Contains(message));
  };
  refused("", "f:1: expected a header row");
  refused("\n\n", "a header row");
  refused("\xef\xbb\xbf", "a header row");
  refused("a,b,a\n", "f:1: expected columns with different names, found two named 'a'");
  refused("a,b\n1,2\n3\n", "f:3: expected 2 cells, as in the header, found 1");
  refused("a,b\n\n\n1,2,3\n", "f:4: expected 2 cells, as in the header, found 3");
  refused("a,b\n1,2,\n", "found 3");
  refused("a\nx\"y\"\n", "f:2: expected a cell with a quote to be quoted as a whole, found 'x\"'");
  refused("a\n\"x\"y\n", "f:2: expected a comma or the end of the line after a cell, found 'y");
  refused("a\n1\n\"open\nmore\n", "a closing quote for the row of line 3, found the file's end");
  refused("a\rb\r", "f:1: expected a comma or the end of the line after a cell, found '\\x0db\\x0d'");
  refused("a\n1\r2\n", "f:2: expected a comma or the end of the line");
  refused(std::string("a\nb\0c\n", 6), "f:2: expected text");
  refused(std::string("\xff\xfe"
                      "a\0,\0",
                      6),
          "UTF-16");
  refused("a\n\"" + std::string(2'000'000, 'x') + "\"\n", "rows of at most 1 MiB");
  refused("a\n\"open" + std::string(2'000'000, '\n'), "f:2: expected rows of at most 1 MiB");
  refused("a\n" + std::string(2'000'000, ','), "rows of at most 1 MiB");
}

TEST_CASE("csv_row is read back as it was") {
  std::vector<row> const rows{{"plain", "with space"},  {"a,b", "q\"q"}, {"line\nend", "c\r\nd"}, {"", ""},
                              {"\xef\xbb\xbf", "\xff"}, {"\"", "\"\""},  {" lead", "trail "},     {"#", "'"}};
  std::string text;
  for (auto const& each : rows) text += l3::csv_row(each);
  CHECK(text.starts_with("plain,with space\n\"a,b\",\"q\"\"q\"\n"));
  auto const table = l3::parse_csv("x,y\n" + text, "");
  CHECK(table.rows == rows);
  for (auto const& cell : {"", "x", "\xef\xbb\xbfy"}) CHECK(l3::parse_csv(l3::csv_row({cell}), "").header == row{cell});
}

TEST_CASE("read_csv reads a file within a limit") {
  scratch const here;
  auto const path = put(here / "list.csv", "path,label\nx.mp4,1\n");
  CHECK(l3::read_csv(path).rows == std::vector<row>{{"x.mp4", "1"}});
  CHECK_THROWS_WITH(l3::read_csv(path, 10), Contains(path.string()) && Contains("at most 10 bytes"));
  CHECK_THROWS_WITH(l3::read_csv(here / "none.csv"), Contains("none.csv") && Contains("No such file"));
  CHECK_THROWS_WITH(l3::read_csv(put(here / "bad.csv", "a\n1,2\n")), Contains("bad.csv:2:"));
}
