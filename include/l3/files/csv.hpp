/// @file  include/l3/files/csv.hpp: tables of text, such as `path,label` lists and training logs.
///
/// Source  RFC 4180, with these choices: the first row names the columns; lines end in LF or CRLF; a UTF-8 byte order
///         mark and blank lines are skipped; there are no comments; spaces belong to the cell; bytes need not be UTF-8,
///         because file names need not; where the first line has tabs and no comma, tabs stand for commas.
#pragma once
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <l3/core/error.hpp>
#include <l3/core/text.hpp>
#include <l3/files/atomic_file.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// A table as it was read; every row has as many cells as the header.
struct csv_table {
  std::string source;  ///< the file's name, for messages
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> lines;  ///< line of the file where each row begins, from 1

  /// Index of a column, if there is one of this name.
  std::optional<std::size_t> column_if_any(std::string_view name) const {
    auto const found = std::find(header.begin(), header.end(), name);
    if (found == header.end()) return std::nullopt;
    return static_cast<std::size_t>(found - header.begin());
  }
  /// Index of a column. Errors  format_error naming the columns there are.
  std::size_t column(std::string_view name) const {
    if (auto const found = column_if_any(name)) return *found;
    std::string names;
    for (auto const& each : header) names += (names.empty() ? "" : ",") + each;
    throw format_error(
        complaint{source + ":1", "a column named '" + std::string(name) + "'", "columns " + detail::excerpt(names)});
  }

  /// "file:line" of a row, for messages about its cells.
  std::string where(std::size_t row) const { return source + ':' + std::to_string(lines.at(row)); }
};

namespace detail {

inline constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
inline std::string_view without_byte_order_mark(std::string_view text) {
  return text.starts_with(byte_order_mark) ? text.substr(byte_order_mark.size()) : text;
}
inline constexpr std::size_t csv_row_limit = std::size_t{1} << 20;  ///< an unclosed quote must not swallow the file

/// Walks through the text of a CSV file, row by row.
class csv_parser {
 public:
  csv_parser(std::string_view text, std::string source)
      : text_(without_byte_order_mark(text)), source_(std::move(source)) {
    if (auto const zero = text_.find('\0'); zero != text_.npos) {
      pass(zero);
      refuse("text (UTF-8, not UTF-16)", "a zero byte");
    }
    auto const first_line = text_.substr(0, text_.find('\n'));
    if (first_line.find('\t') != text_.npos && first_line.find(',') == text_.npos) comma_ = "\t", ends_ = "\t\r\n\"";
  }

  /// Puts the next row that is not blank into `row`; false if there is none.
  bool next(std::vector<std::string>& row) {
    while (take_line_end()) {
    }
    if (ended()) return false;
    row.clear();
    row_begin_ = at_;
    row_line_ = line_;
    do row.push_back(cell());
    while (take(comma_));
    if (!ended() && !take_line_end())
      refuse(std::string(comma_ == "," ? "a comma" : "a tab") + " or the end of the line after a cell",
             excerpt(text_.substr(at_, 10)));
    return true;
  }

  /// Line where the last row began, from 1.
  std::size_t row_line() const { return row_line_; }

  [[noreturn]] void refuse(std::string expected, std::string found) const {
    throw format_error(complaint{source_ + ':' + std::to_string(line_), std::move(expected), std::move(found)});
  }

 private:
  bool ended() const { return at_ == text_.size(); }

  /// Moves on to `position` and returns what lies between, counting lines.
  std::string_view pass(std::size_t position) {
    auto const passed = text_.substr(at_, position - at_);
    line_ += static_cast<std::size_t>(std::count(passed.begin(), passed.end(), '\n'));
    at_ = position;
    return passed;
  }
  bool take(std::string_view token) {
    bool const is_next = text_.substr(at_).starts_with(token);
    if (is_next) pass(at_ + token.size());
    return is_next;
  }
  bool take_line_end() { return take("\n") || take("\r\n"); }

  /// The text up to one of `ends`, or up to the end of the file.
  std::string_view take_until(char const* ends) {
    auto const end = std::min(text_.find_first_of(ends, at_), text_.size());
    if (end - row_begin_ > csv_row_limit) refuse("rows of at most 1 MiB", "a longer one (is a quote left open?)");
    return pass(end);
  }

  std::string cell() {
    if (!take("\"")) {
      std::string plain(take_until(ends_));
      if (!ended() && text_[at_] == '"') refuse("a cell with a quote to be quoted as a whole", excerpt(plain + '"'));
      return plain;
    }
    std::string quoted;
    for (;;) {
      quoted += take_until("\"");
      if (!take("\"")) refuse("a closing quote for the row of line " + std::to_string(row_line_), "the file's end");
      if (!take("\"")) return quoted;
      quoted += '"';
    }
  }

  std::string_view text_;
  std::string source_;
  std::string_view comma_ = ",";
  char const* ends_ = ",\r\n\"";  ///< of a cell
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t row_begin_ = 0;
  std::size_t row_line_ = 1;
};

}  // namespace detail

/// Reads a table from text; `source` names it in messages.
///
/// Errors  format_error with `source:line`: no header, a repeated column, a row that is wider or narrower than the
///         header, a misplaced quote, a row of more than 1 MiB, a zero byte.
inline csv_table parse_csv(std::string_view text, std::string const& source) {
  detail::csv_parser parser(text, source);
  csv_table table;
  table.source = source;
  if (!parser.next(table.header)) parser.refuse("a header row that names the columns", "no text");
  auto const row_refused = [&](std::string expected, std::string found) {
    throw format_error(
        complaint{source + ':' + std::to_string(parser.row_line()), std::move(expected), std::move(found)});
  };
  auto sorted = table.header;
  std::sort(sorted.begin(), sorted.end());
  if (auto const twin = std::adjacent_find(sorted.begin(), sorted.end()); twin != sorted.end())
    row_refused("columns with different names", "two named " + detail::excerpt(*twin));

  for (std::vector<std::string> row; parser.next(row);) {
    if (row.size() != table.header.size())
      row_refused(std::to_string(table.header.size()) + " cells, as in the header", std::to_string(row.size()));
    table.rows.push_back(row);
    table.lines.push_back(parser.row_line());
  }
  return table;
}

/// Reads a table from a file, or from a pipe. Errors  as parse_csv; file_error if it cannot be read or is larger than
/// max_bytes.
inline csv_table read_csv(std::filesystem::path const& path, std::size_t max_bytes = std::size_t{1} << 32) {
  return parse_csv(read_stream(path, max_bytes), path.string());
}

/// One row of a CSV file with its line end, quoted where needed, so that it is read back as it was.
inline std::string csv_row(std::vector<std::string> const& cells) {
  std::string line;
  for (auto const& cell : cells) {
    if (&cell != &cells.front()) line += ',';
    bool const plain = cell.find_first_of(",\"\r\n") == cell.npos && !cell.starts_with(detail::byte_order_mark) &&
                       !(cells.size() == 1 && cell.empty());  // alone on its line, it would be a blank one
    if (plain) {
      line += cell;
      continue;
    }
    line += '"';
    for (char const c : cell) line += c == '"' ? std::string("\"\"") : std::string(1, c);
    line += '"';
  }
  return line + '\n';
}

}  // namespace l3::inline L3_ISA
