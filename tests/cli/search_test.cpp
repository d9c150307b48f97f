// l3 search: ranks, judged by embeddings and the head's weights as a user could.
#include <cmath>
#include <cstring>

#include "../support/catch.hpp"
#include "run_program.hpp"

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

fs::path data() { return made_up_videos() / "train.csv"; }
std::string network() { return "--checkpoint " + quoted(made_up_run() / "best.safetensors"); }
outcome search(std::string const& what, fs::path const& query, std::string const& more = "") {
  return l3("search " + what + " " + quoted(query) + "--in " + quoted(data()) + network() + "--json --out " +
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
/// Rows of a video's pictures or sounds, as `l3 embed` gives them.
rows embedded(fs::path const& video, std::string const& what) {
  fs::path const out = scratch() / "search rows";
  outcome const r = l3("embed video " + quoted(video) + network() +
                       "--hop 0.5 --format json --overwrite --json --out " + quoted(out));
  INFO(r.err);
  REQUIRE(r.code == 0);
  json const report = json::parse(r.out);
  for (json const& made : report.at("outputs"))
    if (fs::path const file = made.at("output").get<std::string>(); file.string().find(what) != std::string::npos)
      return json::parse(content(file)).at("embedding").get<rows>();
  FAIL("no embeddings of " << what);
  return {};
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
  for (std::string const what : {"audio", "image"}) {
    INFO(what);
    rows const asked = embedded(query, what == "audio" ? "image" : "audio");
    json const found = results_of(search(what, query, "--top 3"));
    REQUIRE(found.size() == 3);
    for (json const& f : found) {
      fs::path const file = made_up_videos() / f.at("file").get<std::string>();
      CHECK_FALSE(fs::equivalent(file, query));
      rows const there = embedded(file, what);
      double best = 0, seconds = -1;
      for (std::size_t t = 0; t != there.size(); ++t)
        for (auto const& q : asked) {
          double const p = what == "audio" ? probability(q, there[t]) : probability(there[t], q);
          if (p > best) best = p, seconds = 0.5 * static_cast<double>(t);
        }
      CHECK(std::abs(f.at("score").get<double>() - best) < 1e-5);
      CHECK(f.at("seconds") == seconds);
    }
    CHECK(found[0].at("score") >= found[1].at("score"));
    CHECK(found[1].at("score") >= found[2].at("score"));
    // All of them, and whoever counts.
    json const all = results_of(search(what, query, "--top 1000 --threads 1"));
    CHECK(all.size() == 20);  // but the query
    CHECK(json(all.begin(), all.begin() + 3) == found);
  }
}

TEST_CASE("what is like a query is found by the same sense, wherever its copy is") {
  fs::path const copy = scratch() / ("copy" + a_video().extension().string());
  fs::copy_file(a_video(), copy, fs::copy_options::overwrite_existing);
  for (std::string const what : {"audio", "image"}) {
    json const found = results_of(search(what, copy, "--by " + what));
    REQUIRE(found.size() == 10);
    CHECK(fs::equivalent(made_up_videos() / found[0].at("file").get<std::string>(), a_video()));
    CHECK(std::abs(found[0].at("score").get<double>() - 1) < 1e-5);
    CHECK(found[1].at("score").get<double>() < 1 - 1e-5);
    CHECK(found[9].at("score").get<double>() >= -1 - 1e-5);
  }
}

TEST_CASE("queries that cannot be answered are said") {
  fs::path const broken = scratch() / "broken.png";
  std::ofstream(broken) << "no picture";
  outcome const one = search("audio", broken);
  CHECK(one.code == 3);
  CHECK_THAT(one.err, Contains("broken.png"));
  CHECK(json::parse(one.out).at("queries")[0].at("results").empty());
  for (auto const& [query, more, code, says] : std::vector<std::tuple<fs::path, std::string, int, std::string>>{
           {a_video(), "--layer conv4_2", 2, "pool4"},
           {a_video(), "--top 0", 2, "--top"},
           {a_video(), "--by smell", 2, "--by"},
           {a_video(), "--in " + quoted(scratch() / "search"), 1, "of the kind"}}) {
    INFO(more);
    std::string const in = more.starts_with("--in") ? more : "--in " + quoted(data()) + more;
    outcome const r = l3("search audio " + quoted(query) + in + network() + " --out " + quoted(scratch() / "search"));
    CHECK(r.code == code);
    CHECK_THAT(r.err, Contains(says));
  }
}
