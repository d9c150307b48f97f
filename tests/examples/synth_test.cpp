#include "l3/synth.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <complex>
#include <cstdlib>
#include <iostream>
#include <l3/core/context.hpp>
#include <map>
#include <numbers>
#include <set>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "files/scratch.hpp"

namespace {

using namespace l3::program;
using namespace l3::program::synth;
namespace fs = std::filesystem;

using features = std::vector<double>;

/// What can be known of a video without looking or listening, and what a look and a listen give.
struct video_facts {
  int label = 0;
  features colours;     ///< means of red, green, blue; mean and deviation of brightness
  features loudness;    ///< root mean square and peak, decibels
  features file;        ///< bytes
  features silhouette;  ///< 24 x 24 around the instrument, 1 where the pixel is nearer to its brightness
  features spectrum;    ///< mean and deviation over time of 64 bands, decibels
};

double luma(std::uint8_t const* p) { return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]; }

features colour_facts(std::vector<std::uint8_t> const& rgb) {
  features f(5);
  auto const n = static_cast<double>(rgb.size() / 3);
  for (std::size_t p = 0; p < rgb.size(); p += 3) {
    for (std::size_t c = 0; c < 3; ++c) f[c] += rgb[p + c] / n;
    f[3] += luma(&rgb[p]) / n;
    f[4] += luma(&rgb[p]) * luma(&rgb[p]) / n;
  }
  f[4] = std::sqrt(f[4] - f[3] * f[3]);
  return f;
}

features silhouette_of(std::vector<std::uint8_t> const& rgb, look const& seen) {
  features f;
  for (int row = 0; row < 24; ++row)
    for (int col = 0; col < 24; ++col) {
      auto const side = seen.mirrored ? -1 : 1;
      auto const x = static_cast<int>(std::lround(width / 2 + seen.x + side * (col - 11.5) * seen.radius / 8));
      auto const y = static_cast<int>(std::lround(height / 2 + seen.y + (row - 11.5) * seen.radius / 8));
      bool const in = x >= 0 && y >= 0 && x < width && y < height;
      auto const here = in ? luma(&rgb[static_cast<std::size_t>(3 * (y * width + x))]) / 255 : seen.back_luma;
      f.push_back(std::abs(here - seen.luma) < std::abs(here - seen.back_luma) ? 1 : 0);
    }
  return f;
}

features spectrum_of(std::vector<float> const& sound) {
  constexpr std::size_t n = 128;
  static auto const waves = [] {
    std::vector<std::complex<float>> w;
    for (std::size_t k = 0; k < n / 2; ++k)
      for (std::size_t i = 0; i < n; ++i)
        w.push_back(std::polar(static_cast<float>(1 - std::cos(2 * std::numbers::pi * static_cast<double>(i) / n)),
                               -static_cast<float>(2 * std::numbers::pi * static_cast<double>(k * i % n) / n)));
    return w;
  }();
  features f(n);
  double frames = 0;
  for (std::size_t at = 0; at + n <= sound.size(); at += 2 * n, ++frames)
    for (std::size_t k = 0; k < n / 2; ++k) {
      std::complex<float> sum = 0;
      for (std::size_t i = 0; i < n; ++i) sum += sound[at + i] * waves[k * n + i];
      auto const decibels = 10 * std::log10(double{std::norm(sum)} + 1e-7);
      f[k] += decibels;
      f[n / 2 + k] += decibels * decibels;
    }
  double mean = 0;
  for (std::size_t k = 0; k < n / 2; ++k) {
    f[k] /= frames;
    f[n / 2 + k] = std::sqrt(std::max(f[n / 2 + k] / frames - f[k] * f[k], 0.0));
    mean += f[k] / (n / 2);
  }
  for (std::size_t k = 0; k < n / 2; ++k) f[k] -= mean;  // loudness is no timbre
  return f;
}

std::vector<video_facts> facts_of(synth_options const& o) {
  auto const plans = make_plans(o);
  std::vector<video_facts> all(plans.size());
  l3::thread_team(o.threads).run(plans.size(), [&](std::size_t v, std::size_t) {
    auto& mine = all[v];
    mine.label = plans[v].picture;
    l3::media_writer writer(format_of(o, v));
    std::vector<std::uint8_t> last;
    auto const facts = make_video(
        o, plans[v], v,
        [&](std::vector<std::uint8_t> const& rgb) {
          writer.add_frame(rgb);
          last = rgb;
        },
        [&](std::vector<float> const& sound) {
          writer.add_sound(sound);
          float peak = 0;
          for (float const s : sound) peak = std::max(peak, std::abs(s));
          mine.loudness = {20 * std::log10(rms(sound)), 20 * std::log10(double{peak})};
          mine.spectrum = spectrum_of(sound);
        });
    mine.colours = colour_facts(last);
    mine.silhouette = silhouette_of(last, facts.seen);
    mine.file = {static_cast<double>(writer.finish().size())};
  });
  return all;
}

/// Share of the second half whose nearest class mean, measured on the first half in standard deviations, is their own.
template <class Get>
double nearest_centroid(std::vector<video_facts> const& all, int labels, Get get) {
  auto const half = all.size() / 2;
  auto const width_of = get(all[0]).size();
  features mean(width_of), deviation(width_of);
  for (auto const& v : all)
    for (std::size_t i = 0; i < width_of; ++i) mean[i] += get(v)[i] / static_cast<double>(all.size());
  for (auto const& v : all)
    for (std::size_t i = 0; i < width_of; ++i)
      deviation[i] += std::pow(get(v)[i] - mean[i], 2) / static_cast<double>(all.size());
  std::vector<features> centroid(static_cast<std::size_t>(labels), features(width_of));
  std::vector<double> count(static_cast<std::size_t>(labels));
  for (std::size_t v = 0; v < half; ++v) {
    auto const label = static_cast<std::size_t>(all[v].label);
    ++count[label];
    for (std::size_t i = 0; i < width_of; ++i) centroid[label][i] += get(all[v])[i];
  }
  std::size_t hits = 0;
  for (auto v = half; v < all.size(); ++v) {
    std::pair<double, int> best{1e300, -1};
    for (int c = 0; c < labels; ++c) {
      double distance = 0;
      for (std::size_t i = 0; i < width_of; ++i) {
        auto const middle = centroid[static_cast<std::size_t>(c)][i] / count[static_cast<std::size_t>(c)];
        distance += std::pow(get(all[v])[i] - middle, 2) / std::max(deviation[i], 1e-9);
      }
      best = std::min(best, {distance, c});
    }
    hits += best.second == all[v].label;
  }
  return static_cast<double>(hits) / static_cast<double>(all.size() - half);
}

std::map<std::string, std::string> files_in(fs::path const& folder) {
  std::map<std::string, std::string> found;
  for (auto const& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) found[fs::relative(entry.path(), folder).string()] = l3_test::content(entry.path());
  return found;
}

synth_options few(fs::path out) { return {.out = std::move(out), .videos = 8, .seconds = 1, .seed = 5, .classes = 3}; }

}  // namespace

TEST_CASE("a class shows in shape and timbre and in nothing else", "[synth]") {
  constexpr int labels = 10;
  auto const all = facts_of({.videos = 400, .seconds = 1, .seed = 11, .classes = labels});
  auto const together = [](video_facts const& v) {
    auto f = v.colours;
    f.insert(f.end(), v.loudness.begin(), v.loudness.end());
    f.insert(f.end(), v.file.begin(), v.file.end());
    return f;
  };
  auto const chance = 1.0 / labels, deviation = std::sqrt(chance * (1 - chance) / 200);
  CHECK(nearest_centroid(all, labels, [](video_facts const& v) { return v.colours; }) < chance + 3 * deviation);
  CHECK(nearest_centroid(all, labels, [](video_facts const& v) { return v.loudness; }) < chance + 3 * deviation);
  CHECK(nearest_centroid(all, labels, [](video_facts const& v) { return v.file; }) < chance + 3 * deviation);
  CHECK(nearest_centroid(all, labels, together) < chance + 3 * deviation);
  CHECK(nearest_centroid(all, labels, [](video_facts const& v) { return v.silhouette; }) > 0.8);
  CHECK(nearest_centroid(all, labels, [](video_facts const& v) { return v.spectrum; }) > 0.8);
}

TEST_CASE("the same seed gives the same files on any number of threads", "[synth]") {
  l3_test::scratch const folder;
  auto o = few(folder / "one");
  o.threads = 1;
  std::size_t calls = 0;
  auto const report = write_synth(o, [&](std::size_t done, std::size_t total) {
    CHECK(done == ++calls);
    CHECK(total == 8);
  });
  CHECK(calls == 8);
  CHECK(report.videos == std::array<std::size_t, 3>{4, 2, 2});
  CHECK(report.seconds == 1);
  auto const one = files_in(o.out);
  CHECK(one.size() == 8 + 5);

  o.out = folder / "two";
  o.threads = 2;
  write_synth(o);
  CHECK(one == files_in(o.out));

  o.out = folder / "other";
  o.seed = 6;
  write_synth(o);
  CHECK(one.at("videos/00000.mp4") != files_in(o.out).at("videos/00000.mp4"));
}

TEST_CASE("the lists name every file once and share out classes, colours and tunings", "[synth]") {
  l3_test::scratch const folder;
  auto o = few(folder / "set");
  o.videos = 30;
  o.level = l3::program::synth::level::hard;
  write_synth(o);
  std::set<std::string> seen;
  std::map<std::string, std::string> part_of;
  for (std::string const part : {"train", "valid", "test"}) {
    auto const list = l3::read_csv(o.out / (part + ".csv"));
    CHECK(list.header == std::vector<std::string>{"path", "label"});
    CHECK(list.rows.size() == (part == "train" ? 21 : part == "valid" ? 3 : 6));
    std::map<std::string, std::size_t> per_label;
    for (auto const& row : list.rows) {
      CHECK(seen.insert(row[0]).second);
      CHECK(fs::file_size(o.out / row[0]) > 1000);
      part_of[row[0]] = part;
      ++per_label[row[1]];
    }
    CHECK(per_label.size() == 3);
    for (auto const& [label, count] : per_label) CHECK(count == list.rows.size() / 3);
  }
  auto const sources = l3::read_csv(o.out / "sources.csv");
  REQUIRE(sources.rows.size() == 30);
  for (auto const& row : sources.rows) {
    auto const part = part_of.at(row[0]);
    CHECK(row[sources.column("part")] == part);
    for (auto const* column : {"tuning_cell", "colour_cell"}) {
      auto const digit = row[sources.column(column)].back();
      CHECK((digit <= '6' ? "train" : digit == '7' ? "valid" : "test") == part);
    }
  }
}

TEST_CASE("made videos are H.264 and AAC of the length asked for", "[synth]") {
  if (std::system("ffprobe -version >/dev/null 2>&1") != 0) {
    std::cout << "SKIPPED: no ffprobe program\n";
    return;
  }
  l3_test::scratch const folder;
  auto o = few(folder / "set");
  o.seconds = 1.5;
  write_synth(o);
  for (int v = 0; v < 8; ++v) {
    auto const probed = folder / "probed";
    REQUIRE(std::system(("ffprobe -v error -show_entries stream=codec_name,duration,sample_rate,channels -of csv=p=0 " +
                         (o.out / file_name(static_cast<std::size_t>(v))).string() + " > " + probed.string())
                            .c_str()) == 0);
    CHECK(l3_test::content(probed) == "h264,1.500000\naac,48000,1,1.500000\n");
  }
}

TEST_CASE("every timbre keeps to the voice's loudness and is never silent for long", "[synth]") {
  for (auto const how : {l3::program::synth::level::easy, l3::program::synth::level::hard})
    for (int c = 0; c < classes; ++c)
      for (std::size_t v = 0; v < 3; ++v) {
        synth_options const o{.seconds = 3, .seed = 3, .level = how};
        auto const number = v + 3 * static_cast<std::size_t>(c);
        std::vector<float> sound;
        auto const facts = make_video(
            o, {part::test, c, c}, number, [](auto const&) {}, [&](std::vector<float> const& s) { sound = s; });
        CAPTURE(timbres[static_cast<std::size_t>(c)].name, v);
        CHECK(sound.size() == 3 * 48000);
        CHECK(rms(sound) == Approx(facts.heard.rms).epsilon(0.1));
        float peak = 0;
        for (float const s : sound) peak = std::max(peak, std::abs(s));
        CHECK(peak == Approx(facts.heard.peak).epsilon(1e-3));
        int quiet = 0, longest = 0;
        for (std::size_t at = 0; at + 480 <= sound.size(); at += 480) {
          bool const silent = rms(std::span(sound).subspan(at, 480)) < 0.003 * facts.heard.rms;
          longest = std::max(longest, quiet = silent ? quiet + 1 : 0);
        }
        CHECK(longest * 0.01 < 0.25);
      }
}

TEST_CASE("silhouettes of all classes cover equal areas", "[synth]") {
  for (int c = 0; c < classes; ++c) {
    auto const scale = mask_of(c).scale(20);
    double area = 0;
    for (double x = -60; x < 60; x += 0.5)
      for (double y = -60; y < 60; y += 0.5) area += 0.25 * mask_of(c).at(x / scale, y / scale);
    CAPTURE(shape_names[static_cast<std::size_t>(c)]);
    CHECK(area == Approx(std::numbers::pi * 400).epsilon(0.02));
  }
}

TEST_CASE("independent classes agree no more often than by chance", "[synth]") {
  synth_options o{.videos = 4000, .seed = 2, .classes = 4};
  o.independent = true;
  int agree = 0;
  for (auto const& p : make_plans(o)) agree += p.picture == p.sound;
  CHECK(std::abs(agree - 1000) < 4 * std::sqrt(4000 * 0.25 * 0.75));
  o.independent = false;
  for (auto const& p : make_plans(o)) CHECK(p.picture == p.sound);
}

TEST_CASE("nothing is written where it must not be", "[synth]") {
  l3_test::scratch const folder;
  auto o = few(folder / "set");
  for (auto const& wrong : {synth_options{.videos = 5}, synth_options{.seconds = 0.5}, synth_options{.seconds = 601},
                            synth_options{.classes = 1}, synth_options{.classes = 17}}) {
    auto asked = wrong;
    asked.out = o.out;
    CHECK_THROWS_AS(write_synth(asked), l3::setting_error);
    CHECK(!fs::exists(o.out));
  }
  fs::create_directory(o.out);
  l3_test::put(o.out / "mine.txt", "keep");
  CHECK_THROWS_AS(write_synth(o), l3::setting_error);
  CHECK_THROWS_WITH(write_synth(o), Contains("expected an empty folder or a new one"));
  fs::create_directory(o.out / "videos");
  l3_test::put(o.out / "videos" / "00999.mp4", "of an older, larger set");
  l3_test::put(o.out / "videos" / "holiday.mp4", "keep");
  o.overwrite = true;
  CHECK_THROWS_WITH(write_synth(o), Contains("00999.mp4: expected a data set of l3 synth"));  // nothing says so
  CHECK(l3_test::content(o.out / "videos" / "00999.mp4") == "of an older, larger set");
  l3_test::put(o.out / "README.txt", std::string(readme_begins) + "seed 1");
  write_synth(o);
  CHECK(l3_test::content(o.out / "mine.txt") == "keep");
  CHECK(fs::exists(o.out / "videos" / "holiday.mp4"));
  CHECK(!fs::exists(o.out / "videos" / "00999.mp4"));

  o.out = folder / "set" / "mine.txt";
  CHECK_THROWS_AS(write_synth(o), l3::file_error);
}

TEST_CASE("of a set that could not be finished nothing is left", "[synth]") {
  l3_test::scratch const folder;
  auto const stop = [](std::size_t done, std::size_t) {
    if (done == 3) throw std::runtime_error("stop");
  };
  auto o = few(folder / "stopped" / "set");
  CHECK_THROWS_WITH(write_synth(o, stop), "stop");
  CHECK(fs::exists(folder / "stopped"));
  CHECK(!fs::exists(o.out));
  std::atomic<int> frames = 0;  // also in the midst of a video
  CHECK_THROWS_WITH(write_synth(o, {},
                                [&] {
                                  if (++frames == 7) throw std::runtime_error("frame 7");
                                }),
                    "frame 7");
  CHECK(!fs::exists(o.out));
  write_synth(o);
  l3_test::put(o.out / "videos" / "holiday.mp4", "keep");
  o.overwrite = true;
  CHECK_THROWS_WITH(write_synth(o, stop), "stop");
  CHECK(files_in(o.out) == std::map<std::string, std::string>{{"videos/holiday.mp4", "keep"}});
  o.out = folder / "full";
  {
    l3_test::full_disk const full(5000);
    CHECK_THROWS_AS(write_synth(o), l3::file_error);
  }
  CHECK(!fs::exists(o.out));
}
