// One HTML page with everything in it.
#include "page.hpp"

#include <algorithm>
#include <cmath>
#include <l3/files/atomic_file.hpp>
#include <l3/version.hpp>

#include "charts.hpp"
#include "program.hpp"

namespace l3::program {
namespace {

constexpr char const* style = R"(
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--dim:#57606a;--line:#d0d7de;--c0:#0b5cad;--c1:#b3440b;--c2:#57606a}
@media(prefers-color-scheme:dark){:root{--back:#14171c;--text:#e6e9ee;--dim:#9aa4b1;--line:#39414d;--c0:#6cb2f7;--c1:#f2a264;--c2:#9aa4b1}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:68rem;margin:0 auto;padding:0 1rem}
h1{margin:1.2rem 0 .4rem}
h2{margin-top:2.2rem;border-bottom:1px solid var(--line)}
a{color:var(--c0)}
a:focus-visible,summary:focus-visible,audio:focus-visible,.wide:focus-visible{outline:3px solid var(--c1);outline-offset:2px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1rem;padding:0;list-style:none}
table{border-collapse:collapse;margin:.6rem 0;overflow-wrap:normal}
caption{text-align:left;color:var(--dim)}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;font-variant-numeric:tabular-nums}
tbody th{font-weight:inherit}
.wide{overflow-x:auto}
.wide img{max-width:max(100%,44rem)}
figure{margin:1rem 0}
figcaption,footer{color:var(--dim)}
summary{cursor:pointer;padding:.3rem 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:0 1.5rem}
.chart{width:100%;max-width:38rem;height:auto}
.chart text{fill:currentColor;font:13px system-ui,sans-serif}
.chart path{fill:none}
@media(max-width:30rem){.chart text{font-size:18px}}
.grid{stroke:var(--line)}
.c0,.c1,.c2{stroke-width:2}
.c0{stroke:var(--c0)}
.c1{stroke:var(--c1);stroke-dasharray:7 4}
.c2{stroke:var(--c2);stroke-dasharray:2 4}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:1rem;padding:0;list-style:none}
.cards li{border:1px solid var(--line);border-radius:.4rem;padding:.6rem}
img{max-width:100%;height:auto}
.cards img{width:100%}
audio{width:100%;max-width:22rem;display:block;margin:.4rem 0}
)";

std::string base64(std::string const& bytes) {
  constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t k = 0; k < bytes.size(); k += 3) {
    std::uint32_t three = 0;
    for (std::size_t i = 0; i != 3; ++i)
      three = three << 8 | (k + i < bytes.size() ? static_cast<unsigned char>(bytes[k + i]) : 0u);
    for (std::size_t i = 0; i != 4; ++i) out += k + i > bytes.size() ? '=' : digits[three >> (18 - 6 * i) & 63];
  }
  return out;
}

/// A file inside the page. Errors: format_error if it does not begin as its kind does.
std::string data_url(std::string const& type, std::filesystem::path const& file, std::string const& begins) {
  static std::size_t left = std::size_t{1} << 30;  // for all of the page: results may name a file any number of times
  std::string const bytes = read_file(file, std::size_t{64} << 20);
  if (bytes.size() > left)
    throw format_error({file.string(), "at most 1 GiB of pictures and sounds on a page", "more"});
  left -= bytes.size();
  if (!bytes.starts_with(begins)) throw format_error({file.string(), "a file of type " + type, "another"});
  return "data:" + type + ";base64," + base64(bytes);
}

/// The smallest of 1, 2 and 5 times a power of ten that divides a length into at most five parts.
double tick_of(double length) {
  double const power = std::pow(10, std::floor(std::log10(length / 5)));
  for (double const times : {1.0, 2.0, 5.0})
    if (length / (times * power) <= 5) return times * power;
  return 10 * power;
}

}  // namespace

void page::section(std::string const& title, std::string const& content) {
  std::string const id = text("section-%zu", ++count_);
  links_ += "<li><a href=\"#" + id + "\">" + escaped(title) + "</a></li>\n";
  sections_ += "<section id=\"" + id + "\">\n<h2>" + escaped(title) + "</h2>\n" + content + "</section>\n";
}

std::string page::html() const {
  return std::string(html_begins) +
         "\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; media-src data:; "
         "style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'\">\n"
         "<link rel=\"icon\" href=\"data:,\">\n<title>" +
         escaped(title_) + "</title>\n<style>" + style +
         "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">To the results</a>\n<header>\n<h1>" +
         escaped(title_) + "</h1>\n<nav aria-label=\"Sections\"><ul>\n" + links_ +
         "</ul></nav>\n</header>\n<main id=\"main\">\n" + sections_ +
         "</main>\n<footer><p>Made by l3 " L3_VERSION "</p></footer>\n</body>\n</html>\n";
}

std::string html_table(std::string const& caption, std::vector<std::string> const& header,
                       std::vector<std::vector<std::string>> const& rows) {
  std::string html = "<table>\n<caption>" + escaped(caption) + "</caption>\n<thead><tr>";
  for (auto const& name : header) html += "<th scope=\"col\">" + escaped(name) + "</th>";
  html += "</tr></thead>\n<tbody>\n";
  for (auto const& row : rows) {
    html += "<tr><th scope=\"row\">" + escaped(row.front()) + "</th>";
    for (std::size_t k = 1; k < row.size(); ++k) html += "<td>" + escaped(row[k]) + "</td>";
    html += "</tr>\n";
  }
  return html_wide(caption, html + "</tbody>\n</table>");
}

std::string html_details(std::string const& summary, std::string const& html) {
  return "<details><summary>" + escaped(summary) + "</summary>\n" + html + "</details>\n";
}

std::string html_wide(std::string const& label, std::string const& html) {
  return "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"" + escaped(label) + "\">\n" + html +
         "</div>\n";
}

std::string html_picture(std::filesystem::path const& file, std::string const& says) {
  std::string const url = file.extension() == ".svg" ? data_url("image/svg+xml", file, "<svg ")
                                                     : data_url("image/png", file, "\x89PNG\r\n");
  return "<img alt=\"" + escaped(says) + "\" src=\"" + url + "\">\n";
}

std::string html_sound(std::filesystem::path const& wav, std::string const& says) {
  return "<audio controls aria-label=\"" + escaped(says) + "\" src=\"" + data_url("audio/wav", wav, "RIFF") +
         "\"></audio>\n";
}

std::string html_chart(std::string const& title, std::string const& x_axis, std::vector<chart_line> const& lines) {
  constexpr double width = 480, height = 280, left = 48, right = 14, top = 10, bottom = 44;
  double x_most = 0, low = INFINITY, high = -INFINITY;
  for (auto const& line : lines)
    for (auto const& [x, y] : line.points)
      if (std::isfinite(x) && std::isfinite(y))
        x_most = std::max(x_most, x), low = std::min(low, y), high = std::max(high, y);
  if (!(low <= high) || !(x_most > 1e-9) || x_most > 1e15 || low < -1e15 || high > 1e15) return {};
  // A line that does not rise or fall stands in the middle of something.
  double const step = tick_of(std::max(high - low, 1e-6 * std::max(1.0, std::abs(high)))), x_step = tick_of(x_most);
  low = std::floor(low / step) * step;
  auto const ticks = std::max(1L, std::lround(std::ceil((high - low) / step - 1e-9))),
             x_ticks = std::lround(std::floor(x_most / x_step + 1e-9));
  high = low + static_cast<double>(ticks) * step;
  auto const px = [&](double x) { return left + x / x_most * (width - left - right); };
  auto const py = [&](double y) { return top + (high - y) / (high - low) * (height - top - bottom); };
  std::string svg = text("<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", width,
                         height, escaped(title).c_str());
  for (long k = 0; k <= ticks; ++k) {
    double const y = low + static_cast<double>(k) * step;
    svg +=
        text("<path class=\"grid\" d=\"M%.0f %.1fH%.0f\"/><text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
             left, py(y), width - right, left - 6, py(y) + 4, std::abs(y) < step / 2 ? 0 : y);
  }
  for (long k = 0; k <= x_ticks; ++k) {
    double const x = static_cast<double>(k) * x_step;
    svg += text("<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n", px(x), height - bottom + 18,
                x >= 1000 ? short_number(x).c_str() : text("%g", x).c_str());
  }
  svg += text("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n", (left + width - right) / 2, height - 6,
              escaped(x_axis).c_str());
  std::string legend;
  for (std::size_t k = 0; k != lines.size(); ++k) {
    auto const& points = lines[k].points;
    if (points.empty()) continue;
    std::string path;
    // No more points than pixels, and the last one whatever their number.
    std::size_t const stride = std::max<std::size_t>(1, points.size() / 400);
    auto const add = [&](std::pair<double, double> const& p) {
      if (std::isfinite(p.first) && std::isfinite(p.second))
        path += text("%c%.1f %.1f", path.empty() ? 'M' : 'L', px(p.first), py(p.second));
    };
    for (std::size_t i = 0; i + 1 < points.size(); i += stride) add(points[i]);
    add(points.back());
    svg += text("<path class=\"c%zu\" d=\"%s\"/>\n", k % 3, path.c_str());
    legend +=
        text(" <svg width=\"30\" height=\"10\" aria-hidden=\"true\"><path class=\"c%zu\" d=\"M0 6H30\"/></svg> %s",
             k % 3, escaped(lines[k].name).c_str());
  }
  return "<figure>\n<figcaption>" + escaped(title) + (lines.size() > 1 ? ":" + legend : std::string()) +
         "</figcaption>\n" + svg + "</svg>\n</figure>\n";
}

}  // namespace l3::program
