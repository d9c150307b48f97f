// l3 search: ranks, judged by embeddings and the head's weights as a user could.
#include <cmath>
#include <cstring>
#include <vector>

#include "../support/catch.hpp"
#include "run_program.hpp"

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

fs::path data() { return made_up_videos() / "train.csv"; }
// Short, so that rows fill more than one of the blocks in which they are scored.
std::string const hop = "--hop 0.05 ";
std::string network() { return "--checkpoint " + quoted(made_up_run() / "best.safetensors"); }
outcome search(std::string const& what, fs::path const& query, std::string const& more = "") {
  return l3("search " + what + " " + quoted(query) + "--in " + quoted(data()) + network() + hop + "--json --out " +
            quoted(scratch() / "search") + more);
}
/// The only query's results.
json results_of(outcome const& r) {
  INFO(r.err);
  REQUIRE(r.code == 0);
  json const all = json::parse(r.out);
  REQUIRE(all.at("queries").size() == 1);
  return all.at("queries")[0].at("results");
}
fs::path a_video() {
  std::istringstream lines(content(data()));
  std::string line;
  std::getline(lines, line), std::getline(lines, line);
  return made_up_videos() / line.substr(0, line.find(','));
}

std::vector<float> floats(std::string const& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}
using rows = std::vector<std::vector<double>>;
/// Rows of videos' pictures or sounds by name, as `l3 embed` gives them: "train/00001-image".
std::map<std::string, rows> embedded(fs::path const& folder_or_video) {
  fs::path const out = scratch() / "search rows";
  fs::remove_all(out);
  outcome const r =
      l3("embed video " + quoted(folder_or_video) + network() + hop + "--format json --json --out " + quoted(out));
  INFO(r.err);
  REQUIRE(r.code == 0);
  json const report = json::parse(r.out);
  std::map<std::string, rows> all;
  for (json const& made : report.at("outputs")) {
    fs::path const file = made.at("output").get<std::string>();
    all[file.stem().string()] = json::parse(content(file)).at("embedding").get<rows>();
  }
  return all;
}
/// The video's rows of one sense.
rows of(std::map<std::string, rows> const& all, fs::path const& video, std::string const& what) {
  return all.at(video.stem().string() + "_" + what);
}
/// The place of the largest of what `f` gives for rows of both.
template <class F>
std::pair<double, std::vector<double>> best_of(rows const& asked, rows const& there, F const& f) {
  std::vector<double> each;
  for (auto const& row : there) {
    double best = -1e9;
    for (auto const& q : asked) best = std::max(best, f(q, row));
    each.push_back(best);
  }
  return {*std::max_element(each.begin(), each.end()), each};
}

}  // namespace

TEST_CASE("a picture finds sounds, and a sound pictures, by the head's own judgement of the rows that fit best") {
  auto const weights = tensors_in(made_up_run() / "best.safetensors");
  auto const fc1 = floats(weights.at("fusion.fc1.weight")), b1 = floats(weights.at("fusion.fc1.bias")),
             fc2 = floats(weights.at("fusion.fc2.weight")), b2 = floats(weights.at("fusion.fc2.bias"));
  std::size_t const hidden = b1.size(), d = fc1.size() / hidden / 2;
  auto const probability = [&](std::vector<double> const& v, std::vector<double> const& a) {
    double logits[2] = {static_cast<double>(b2[0]), static_cast<double>(b2[1])};
    for (std::size_t h = 0; h != hidden; ++h) {
      double sum = static_cast<double>(b1[h]);
      for (std::size_t k = 0; k != d; ++k)
        sum += static_cast<double>(fc1[2 * d * h + k]) * v[k] + static_cast<double>(fc1[2 * d * h + d + k]) * a[k];
      for (std::size_t c = 0; c != 2 && sum > 0; ++c) logits[c] += static_cast<double>(fc2[hidden * c + h]) * sum;
    }
    return 1 / (1 + std::exp(logits[0] - logits[1]));
  };
  fs::path const query = a_video();
  auto const all_rows = embedded(query.parent_path());
  for (std::string const what : {"audio", "image"}) {
    INFO(what);
    rows const& asked = of(all_rows, query, what == "audio" ? "image" : "audio");
    auto const fits = [&](std::vector<double> const& q, std::vector<double> const& row) {
      return what == "audio" ? probability(q, row) : probability(row, q);
    };
    json const found = results_of(search(what, query, "--top 1000 --threads 1"));
    REQUIRE(found.size() == 20);  // all but the query
    double lowest = 1, highest = 0;
    for (std::size_t k = 0; k != found.size(); ++k) {
      fs::path const file = made_up_videos() / found[k].at("file").get<std::string>();
      CHECK_FALSE(fs::equivalent(file, query));
      auto const [best, each] = best_of(asked, of(all_rows, file, what), fits);
      double const score = found[k].at("score");
      CHECK(std::abs(score - best) < 1e-5);
      auto const row = static_cast<std::size_t>(std::lround(found[k].at("seconds").get<double>() / 0.05));
      CHECK(std::abs(each.at(row) - best) < 1e-5);
      if (k > 0) CHECK(score <= found[k - 1].at("score").get<double>());
      lowest = std::min(lowest, score), highest = std::max(highest, score);
    }
    CHECK(highest - lowest > 1e-3);  // or these could be anything
    json const three = results_of(search(what, query, "--top 3 --threads 3"));
    CHECK(json(found.begin(), found.begin() + 3) == three);
  }
}

TEST_CASE("what is like a query is found by the same sense, by the cosine of z-scores") {
  fs::path const copy = scratch() / ("copy" + a_video().extension().string()), link = scratch() / "link.mp4";
  fs::copy_file(a_video(), copy, fs::copy_options::overwrite_existing);
  fs::remove(link), fs::create_symlink(a_video(), link);
  auto const all_rows = embedded(a_video().parent_path());
  for (std::string const what : {"audio", "image"}) {
    INFO(what);
    json const found = results_of(search(what, copy, "--top 1000 --by " + what));
    REQUIRE(found.size() == 21);
    CHECK(fs::equivalent(made_up_videos() / found[0].at("file").get<std::string>(), a_video()));
    CHECK(std::abs(found[0].at("score").get<double>() - 1) < 1e-5);
    std::vector<double> mean, deviation;
    double n = 0;
    for (json const& f : found)  // the collection's
      for (auto const& row : of(all_rows, f.at("file").get<std::string>(), what)) {
        mean.resize(row.size()), deviation.resize(row.size()), ++n;
        for (std::size_t k = 0; k != row.size(); ++k) mean[k] += row[k], deviation[k] += row[k] * row[k];
      }
    for (std::size_t k = 0; k != mean.size(); ++k)
      mean[k] /= n, deviation[k] = std::sqrt(std::max(0.0, deviation[k] / n - mean[k] * mean[k]));
    auto const cosine = [&](std::vector<double> const& q, std::vector<double> const& row) {
      double product = 0, a = 0, b = 0;
      for (std::size_t k = 0; k != row.size(); ++k) {
        double const by = deviation[k] > 1e-6 * std::abs(mean[k]) ? 1 / deviation[k] : 1;
        double const x = (q[k] - mean[k]) * by, y = (row[k] - mean[k]) * by;
        product += x * y, a += x * x, b += y * y;
      }
      return product / std::sqrt(a * b);
    };
    for (std::size_t k = 0; k < found.size(); k += 5)
      CHECK(std::abs(found[k].at("score").get<double>() -
                     best_of(of(all_rows, a_video(), what), of(all_rows, found[k].at("file").get<std::string>(), what),
                             cosine)
                         .first) < 1e-3);
    CHECK(results_of(search(what, link, "--top 1000 --by " + what)).size() == 20);  // its own file is left out
  }
}

TEST_CASE("queries of both senses are answered together, in pictures' own terms too") {
  fs::path const pictures = scratch() / "pictures in videos";
  fs::create_directories(pictures);
  for (int k = 0; k != 3; ++k) {
    std::ofstream out(pictures / (std::to_string(k) + ".ppm"), std::ios::binary);
    out << "P6\n64 64\n255\n";
    for (int p = 0; p != 64 * 64 * 3; ++p) out.put(static_cast<char>(p * (k + 1) * 37 % 251));
  }
  fs::copy_file(a_video(), pictures / "video.mp4");
  std::ofstream(pictures / "torn.png") << "no picture";
  fs::path const picture = pictures / "1.ppm";
  outcome const r = l3("search image " + quoted(a_video()) + quoted(picture) + "--in " + quoted(pictures) + network() +
                       "--json --out " + quoted(scratch() / "search both"));
  INFO(r.err);
  REQUIRE(r.code == 3);
  json const answer = json::parse(r.out);
  CHECK(answer.at("files") == 4);
  CHECK(answer.at("refused")[0].at("file") == "torn.png");
  json const &by_sound = answer.at("queries")[0], &by_picture = answer.at("queries")[1];
  CHECK(by_sound.at("by") == "audio");
  CHECK(by_sound.at("results").size() == 4);
  CHECK(by_picture.at("by") == "image");
  CHECK(by_picture.at("results").size() == 3);
  for (json const& f : by_sound.at("results")) CHECK(f.at("seconds").is_null() == (f.at("file") != "video.mp4"));
  // A name is one line, whatever it holds.
  fs::path const odd = scratch() / "odd names";
  fs::create_directories(odd);
  fs::copy_file(picture, odd / "0.ppm");
  fs::copy_file(picture, odd / "a\nline.ppm");
  outcome const lines = l3("search image " + quoted(odd / "a\nline.ppm") + "--in " + quoted(odd) + network() +
                           "--out " + quoted(scratch() / "search odd"));
  INFO(lines.err);
  CHECK(lines.code == 0);
  CHECK_THAT(lines.out, Contains("a\\x0aline.ppm, by its image:") && !Contains("a\nline"));
  CHECK_THAT(lines.out, Contains("  0.ppm"));
}

TEST_CASE("queries that cannot be answered are said") {
  fs::path const broken = scratch() / "broken.png";
  std::ofstream(broken) << "no picture";
  outcome const one = search("audio", broken);
  CHECK(one.code == 1);  // it was the only one
  CHECK_THAT(one.err, Contains("broken.png"));
  CHECK(json::parse(one.out).at("queries")[0].at("results").empty());
  CHECK_THAT(json::parse(one.out).at("queries")[0].at("refused").get<std::string>(), Contains("broken.png"));
  for (auto const& [query, more, code, says] : std::vector<std::tuple<fs::path, std::string, int, std::string>>{
           {a_video(), "--layer conv4_2", 2, "pool4"},
           {a_video(), "--pool grid", 2, "pool4"},
           {scratch() / "photo.heic", "", 2, "photo.heic"},
           {a_video(), "--top 0", 2, "--top"},
           {a_video(), "--by smell", 2, "--by"},
           {a_video(), "--in " + quoted(scratch() / "search"), 1, "of the kind"}}) {
    INFO(more);
    std::string const in = more.starts_with("--in") ? more : "--in " + quoted(data()) + more;
    outcome const r =
        l3("search audio " + quoted(query) + in + " " + network() + "--out " + quoted(scratch() / "search"));
    CHECK(r.code == code);
    CHECK_THAT(r.err, Contains(says));
  }
}
