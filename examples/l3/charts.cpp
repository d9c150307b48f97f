// Results as drawings.
#include "charts.hpp"

#include <algorithm>
#include <l3/files/csv.hpp>

#include "program.hpp"

namespace l3::program {

std::string escaped(std::string const& text) {
  std::string out;
  for (char const c : as_utf8(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return out;
}

std::string confusion_chart(confusion_matrix const& counts, std::vector<std::string> const& classes) {
  std::size_t const n = classes.size(), cell = n <= 20 ? 30 : n <= 60 ? 16 : 8;
  std::size_t longest = 0;
  for (std::string const& c : classes) longest = std::max(longest, c.size());
  bool const named = n <= 60;
  std::size_t const margin = 24 + (named ? 7 * std::min<std::size_t>(longest, 28) : 0), side = margin + n * cell + 12;
  auto const shown = [](std::string const& name) {
    return escaped(name.size() <= 28 ? name : std::string(detail::beginning_of(name, 27)) + "\u2026");
  };
  std::string svg = text(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %zu %zu\" width=\"%zu\" height=\"%zu\" "
      "font-family=\"sans-serif\" font-size=\"%d\" role=\"img\">\n"
      "<title>Which classes are taken for which: rows are classes, columns what they were taken for"
      "</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
      side, side, side, side, cell >= 16 ? 11 : 6);
  for (std::size_t i = 0; i != n; ++i) {
    std::size_t const of_class = counts.of_class(i);
    auto const total = static_cast<double>(std::max<std::size_t>(1, of_class));
    if (named) {
      svg += text("<text x=\"%zu\" y=\"%zu\" text-anchor=\"end\">%s</text>\n", margin - 6,
                  margin + i * cell + cell / 2 + 4, shown(classes[i]).c_str());
      svg += text("<text transform=\"translate(%zu %zu) rotate(-90)\">%s</text>\n", margin + i * cell + cell / 2 + 4,
                  margin - 6, shown(classes[i]).c_str());
    }
    for (std::size_t j = 0; j != n; ++j) {
      if (!named && counts.at(i, j) == 0) continue;  // so many classes have a million cells, nearly all of them empty
      double const share = static_cast<double>(counts.at(i, j)) / total;
      auto const between = [&](int from, int to) { return static_cast<int>(from + (to - from) * share); };
      svg += text(
          "<rect x=\"%zu\" y=\"%zu\" width=\"%zu\" height=\"%zu\" fill=\"#%02x%02x%02x\" stroke=\"#ddd\" "
          "stroke-width=\".5\"><title>%s taken for %s: %zu of %zu</title></rect>\n",
          margin + j * cell, margin + i * cell, cell, cell, between(255, 8), between(255, 48), between(255, 107),
          shown(classes[i]).c_str(), shown(classes[j]).c_str(), counts.at(i, j), of_class);
      if (cell == 30 && counts.at(i, j) > 0)
        svg += text("<text x=\"%zu\" y=\"%zu\" text-anchor=\"middle\" fill=\"%s\" pointer-events=\"none\">%zu</text>\n",
                    margin + j * cell + cell / 2, margin + i * cell + cell / 2 + 4, share > 0.5 ? "#fff" : "#222",
                    counts.at(i, j));
    }
  }
  return svg + "</svg>\n";
}

std::string confusion_table(confusion_matrix const& counts, std::vector<std::string> const& classes) {
  std::vector<std::string> cells{"class \\ taken for"};
  cells.insert(cells.end(), classes.begin(), classes.end());
  std::string table = csv_row(cells);
  for (std::size_t i = 0; i != classes.size(); ++i) {
    cells = {classes[i]};
    for (std::size_t j = 0; j != classes.size(); ++j) cells.push_back(std::to_string(counts.at(i, j)));
    table += csv_row(cells);
  }
  return table;
}

}  // namespace l3::program
