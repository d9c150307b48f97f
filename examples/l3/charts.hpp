/// @file  examples/l3/charts.hpp: results as drawings (SVG).
#pragma once
#include <l3/eval/confusion.hpp>
#include <string>
#include <vector>

namespace l3::program {

/// Rows are classes, columns what they were taken for; the darker, the larger a row's share.
std::string confusion_chart(confusion_matrix const& counts, std::vector<std::string> const& classes);
/// The same as a table: a row for each class.
std::string confusion_table(confusion_matrix const& counts, std::vector<std::string> const& classes);

/// Text that may stand in XML and HTML. One that is not UTF-8 is as as_utf8 has it.
std::string escaped(std::string const& text);

}  // namespace l3::program
