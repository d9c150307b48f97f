/// @file  examples/l3/page.hpp: one HTML page that needs nothing else: pictures, drawings and sounds are in it.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace l3::program {

/// What every page begins with.
inline constexpr std::string_view html_begins = "<!doctype html>";

/// Sections one after the other, with links to each at the top. It shows itself light or dark as the reader's system
/// is, from a phone's width on, and asks no network and no script for anything (its own policy forbids both).
class page {
 public:
  explicit page(std::string title) : title_(std::move(title)) {}
  void section(std::string const& title, std::string const& content);
  std::string html() const;

 private:
  std::string title_, links_, sections_;
  std::size_t count_ = 0;
};

/// Elements of a page. Text is escaped here; what is named html already is.
std::string html_table(std::string const& caption, std::vector<std::string> const& header,
                       std::vector<std::vector<std::string>> const& rows);
std::string html_details(std::string const& summary, std::string const& html);
/// Something that may be wider than the screen, and then scrolls by itself.
std::string html_wide(std::string const& label, std::string const& html);
/// A PNG or SVG, and a WAV. Errors: file_error; format_error if it is something else.
std::string html_picture(std::filesystem::path const& file, std::string const& says);
std::string html_sound(std::filesystem::path const& wav, std::string const& says);

/// A line of a chart: by its place solid, dashed or dotted, each in a colour of its own.
struct chart_line {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< x ascending, from 0 on
};
/// Nothing where no line has points, or their values go beyond 1e15.
std::string html_chart(std::string const& title, std::string const& x_axis, std::vector<chart_line> const& lines);

}  // namespace l3::program
