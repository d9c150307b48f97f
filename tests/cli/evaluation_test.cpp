/// @file  tests/cli/evaluation_test.cpp: l3 eval, probe and baseline as a user meets them.
#include <cmath>
#include <map>
#include <set>

#include "../support/catch.hpp"
#include "run_program.hpp"

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::string checkpoint() { return "--checkpoint " + quoted(made_up_run() / "best.safetensors"); }

/// Videos of two classes.
fs::path const& two_classes() {
  static fs::path const folder = [] {
    fs::path const at = scratch() / "two_classes";
    if (l3("synth " + at.string() + " --videos 30 --classes 2 --seconds 2 --seed 4 --quiet").code != 0) std::abort();
    return at;
  }();
  return folder;
}

/// Rows (path, label) of its training list.
std::vector<std::pair<std::string, std::string>> labelled() {
  std::istringstream lines(content(two_classes() / "train.csv"));
  std::vector<std::pair<std::string, std::string>> rows;
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) rows.emplace_back(line.substr(0, line.find(',')), line.substr(line.find(',') + 1));
  return rows;
}

/// A table of these files, each row made by `row(k, path, label)`, beside the videos.
template <class Row>
fs::path table(char const* name, std::string const& header, Row&& row) {
  fs::path const file = two_classes() / name;
  std::ofstream out(file);
  out << header << '\n';
  auto const rows = labelled();
  for (std::size_t k = 0; k != rows.size(); ++k) out << row(k, rows[k].first, rows[k].second) << '\n';
  return file;
}

std::string from_base64(std::string const& letters) {
  std::string const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0, held = 0;
  for (char const letter : letters) {
    if (letter == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(digits.find(letter));
    if ((held += 6) >= 8) bytes += static_cast<char>(bits >> (held -= 8));
  }
  return bytes;
}

/// One bit in the middle of a file.
void damage(fs::path const& file) {
  std::string bytes = content(file);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  std::ofstream(file, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("eval ranks pairs, names classes and shows its mistakes") {
  fs::path const out = scratch() / "eval";
  outcome const r = l3("eval --pairs 64 --mistakes 6 --json " + checkpoint() + "--data " +
                       quoted(two_classes() / "train.csv") + "--out " + quoted(out));
  INFO(r.err);
  REQUIRE(r.code == 0);
  json const result = json::parse(r.out);
  CHECK((result.at("auc") >= 0 && result.at("auc") <= 1));
  CHECK(result.at("classes").size() == 2);
  std::size_t pairs = 0;
  for (json const& c : result.at("classes"))
    pairs += c.at("positives").get<std::size_t>() + c.at("negatives_other_class").get<std::size_t>() +
             c.at("negatives_same_class").get<std::size_t>();
  CHECK(pairs == 64);
  CHECK(json::parse(content(out / "result.json")) == result);
  std::string const table = content(out / "pairs.csv");
  CHECK(std::count(table.begin(), table.end(), '\n') == 65);
  REQUIRE(result.at("mistakes").size() > 0);  // it learned for a moment only
  for (json const& m : result.at("mistakes")) {
    CHECK_THAT(content(out / m.at("picture").get<std::string>()), StartsWith("\x89PNG\r\n"));
    std::string const wav = content(out / m.at("sound").get<std::string>());
    CHECK(wav.size() == 44 + 2 * 48000);
    CHECK_THAT(wav, StartsWith("RIFF") && Contains("WAVEfmt "));
    bool const said_yes = m.at("said") == "correspond";
    CHECK((m.at("score") > 0) == said_yes);
    CHECK((m.at("frame_of") == m.at("sound_of")) == !said_yes);
  }
  std::set<std::string> videos;
  std::istringstream rows(table);
  std::string frame, time, sound, rest;
  std::getline(rows, rest);
  while (std::getline(rows, frame, ',') && std::getline(rows, time, ',') && std::getline(rows, sound, ',') &&
         std::getline(rows, rest))
    videos.insert({frame, sound});
  CHECK(result.at("videos") == videos.size());
}

TEST_CASE("results replace those of their kind, and nothing else") {
  fs::path const at = scratch() / "kept", list = at / "pairs.csv";
  fs::create_directories(at / "mistakes");
  std::string const eval = "eval --pairs 32 --quiet --json " + checkpoint() + "--out " + quoted(at) + "--data ";
  std::ofstream(at / "mistakes/mine.txt") << "notes";
  std::ofstream(at / "mistakes/01-missed.wav") << "old";
  std::ofstream(list) << "path\n" << two_classes().string() << "/videos/00000.mp4\n";
  std::string const mine = content(list);
  outcome const over = l3(eval + quoted(two_classes() / "train.csv"));
  CHECK(over.code == 2);
  CHECK_THAT(over.err, Contains("kept: expected a folder without other results than of kind \"avc\"") &&
                           Contains("a pairs.csv of somebody else's"));
  CHECK(content(list) == mine);
  fs::remove(list);
  for (int twice = 0; twice != 2; ++twice) {
    outcome const made = l3(eval + quoted(two_classes() / "train.csv"));
    INFO(made.err);
    REQUIRE(made.code == 0);
    CHECK(content(at / "result.json") == made.out);
    CHECK(content(at / "mistakes/mine.txt") == "notes");
    CHECK((!fs::exists(at / "mistakes/01-missed.wav") || content(at / "mistakes/01-missed.wav") != "old"));
  }
  {
    held const by_another(at / "result.json.lock");
    outcome const both = l3(eval + quoted(two_classes() / "train.csv"));
    CHECK(both.code == 2);
    CHECK_THAT(both.err, Contains("another process at work"));
  }
  // Cut off while it writes, they are no results.
  std::ofstream(at / "result.json") << R"({"kind": "avc", "unfinished": true})";
  outcome const page =
      l3("report " + quoted(made_up_run()) + "--add " + quoted(at) + "--out " + quoted(at / "page.html"));
  CHECK(page.code == 3);
  CHECK_THAT(page.err, Contains("result.json: expected finished results"));
  CHECK(l3(eval + quoted(two_classes() / "train.csv")).code == 0);

  // Features are kept in files that are features, and in folders that are theirs.
  fs::path const own = at / "features.safetensors", pictures = at / "pictures";
  fs::copy_file(made_up_run() / "best.safetensors", own);
  std::string const weights = content(own);
  outcome const probe = l3("probe folder " + quoted(two_classes() / "train.csv") + "--checkpoint " + quoted(own) +
                           "--folds 2 --out " + quoted(at / "."));
  CHECK(probe.code == 2);
  fs::create_directories(at / "probe");
  fs::rename(own, at / "probe/features.safetensors");
  outcome const again = l3("probe folder " + quoted(two_classes() / "train.csv") + "--checkpoint " +
                           quoted(at / "probe/features.safetensors") + "--folds 2 --out " + quoted(at / "probe"));
  CHECK(again.code == 2);
  CHECK_THAT(again.err, Contains("features.safetensors: expected features kept by an earlier run, or none"));
  CHECK(content(at / "probe/features.safetensors") == weights);
  for (char const* label : {"red", "blue"}) {
    fs::create_directories(pictures / "train" / label), fs::create_directories(pictures / "val" / label);
    for (char const* part : {"train", "val"})
      REQUIRE(std::system(("ffmpeg -v error -y -f lavfi -i color=" + std::string(label) + ":s=64x48 -frames:v 1 " +
                           quoted(pictures / part / label / "a.png"))
                              .c_str()) == 0);
  }
  std::ofstream(pictures / "train/key.json") << "{}";
  outcome const linear = l3("probe imagenet --train " + quoted(pictures / "train") + "--val " +
                            quoted(pictures / "val") + "--random-weights --model tiny --out " + quoted(pictures));
  CHECK(linear.code == 2);
  CHECK_THAT(linear.err, Contains("pictures/train: expected features kept by an earlier run, or nothing"));
  CHECK(content(pictures / "train/key.json") == "{}");
}

TEST_CASE("one file under two names is no two videos, and is not learned from and tested on") {
  fs::path const at = scratch() / "names";
  fs::create_directories(at / "all"), fs::create_directories(at / "train"), fs::create_directories(at / "test");
  auto const files = labelled();
  std::string folds = "path,label,fold\n";
  for (std::size_t k = 0; k != 6; ++k) {
    std::string const name = files[k].first.substr(files[k].first.rfind('/') + 1);
    fs::copy_file(two_classes() / files[k].first, at / "all" / name);
    fs::create_symlink("../all/" + name,
                       at / "train" / (std::string(k % 2 ? "bus" : "tube") + std::to_string(k) + ".wav"));
    fs::create_symlink(name, at / "all" / ("z" + name));
    folds += "all/" + name + ",c" + std::to_string(k % 2) + ',' + std::to_string(10 - k / 2) + '\n';
  }
  outcome const judged = l3("eval --pairs 40 " + checkpoint() + "--data " + quoted(at / "all"));
  CHECK(judged.code == 0);
  CHECK_THAT(judged.err, Contains("--data: 6 of 12 videos are others of them by another name (links), z"));
  outcome const trained = l3("train --model tiny --batch 4 --pairs 4 --valid-pairs 4 --train " + quoted(at / "all") +
                             "--valid " + quoted(two_classes() / "valid.csv") + "--out " + quoted(at / "run"));
  CHECK(trained.code == 0);
  CHECK_THAT(trained.err, Contains("--train: 6 of 12 videos") && !Contains("--valid:"));
  // Validation reached through links alone, file by file.
  std::ofstream(at / "links.csv") << "path\nall/z" << files[0].first.substr(files[0].first.rfind('/') + 1) << "\n"
                                  << two_classes().string() << '/' << files[8].first << '\n';
  std::ofstream(at / "originals.csv") << "path\nall/" << files[0].first.substr(files[0].first.rfind('/') + 1)
                                      << "\nall/" << files[1].first.substr(files[1].first.rfind('/') + 1) << '\n';
  CHECK_THAT(l3("train --model tiny --batch 2 --pairs 2 --valid-pairs 4 --train " + quoted(at / "originals.csv") +
                "--valid " + quoted(at / "links.csv") + "--out " + quoted(at / "run2"))
                 .err,
             Contains("1 of the 2 validation videos are trained on too"));

  fs::remove(at / "test"), fs::create_directory_symlink("train", at / "test");
  outcome const scenes = l3("probe dcase --train " + quoted(at / "train") + "--test " + quoted(at / "test") +
                            checkpoint() + "--out " + quoted(at / "scenes"));
  CHECK(scenes.code == 1);
  CHECK_THAT(scenes.err, Contains("a file to learn from or to test on, not both"));

  std::ofstream(at / "folds.csv") << folds;
  outcome const apart =
      l3("probe folder " + quoted(at / "folds.csv") + "--json " + checkpoint() + "--out " + quoted(at / "folds"));
  INFO(apart.err);
  REQUIRE(apart.code == 0);
  json const tested = json::parse(apart.out).at("folds");
  REQUIRE(tested.size() == 3);
  for (std::size_t k : {0u, 1u, 2u}) CHECK(tested[k].at("fold") == std::to_string(8 + k));  // not 10, 8, 9
  std::ofstream(at / "folds.csv", std::ios::app)
      << "all/z" << files[0].first.substr(files[0].first.rfind('/') + 1) << ",c0,8\n";
  outcome const twice = l3("probe folder " + quoted(at / "folds.csv") + checkpoint() + "--out " + quoted(at / "folds"));
  CHECK(twice.code == 1);
  CHECK_THAT(twice.err, Contains("not both"));
}

TEST_CASE("a probe of one's own sounds: folds, results, features kept, files that are missing") {
  fs::path const list = table("mine.csv", "path,label",
                              [](std::size_t, auto const& path, auto const& label) { return path + ',' + label; });
  std::ofstream(list, std::ios::app) << "videos/missing.mp4," << labelled().front().second << '\n';
  fs::path const out = scratch() / "probe";
  std::string const command =
      "probe folder " + quoted(list) + "--folds 3 --json " + checkpoint() + "--out " + quoted(out);
  outcome const first = l3(command);
  INFO(first.err);
  REQUIRE(first.code == 3);
  json const a = json::parse(first.out);
  CHECK(a.at("folds").size() == 3);
  CHECK(a.at("width") == 1536);
  CHECK(a.at("rows") == 3 * (labelled().size()));  // 2 s, every 0.5 s
  CHECK(a.at("refused").size() == 1);
  CHECK(a.at("files") == labelled().size());
  CHECK_THAT(first.err, Contains("missing.mp4"));
  CHECK((a.at("accuracy") > 0.3 && a.at("accuracy") <= 1));
  std::size_t tested = 0;
  for (json const& f : a.at("folds")) tested += f.at("test").get<std::size_t>();
  CHECK(tested == labelled().size());
  CHECK(json::parse(content(out / "result.json")) == a);
  CHECK_THAT(content(out / "confusion.svg"), StartsWith("<svg") && Contains("</svg>"));
  std::string const predictions = content(out / "predictions.csv");
  CHECK(std::count(predictions.begin(), predictions.end(), '\n') == std::ptrdiff_t(labelled().size() + 1));

  json const again = json::parse(l3(command + " --threads 1").out);
  CHECK(again.at("features_from_cache") == true);
  CHECK(again.at("refused") == a.at("refused"));
  CHECK(again.at("folds") == a.at("folds"));
  damage(out / "features.safetensors");
  json const mended = json::parse(l3(command).out);
  CHECK(mended.at("features_from_cache") == false);
  CHECK(mended.at("folds") == a.at("folds"));
  json const other = json::parse(l3(command + " --pool global").out);  // other features: made anew
  CHECK(other.at("features_from_cache") == false);
  CHECK(other.at("width") == 128);
  CHECK(other.at("layer") == "pool4, global");
  CHECK(json::parse(l3(command + " --layer pool2").out).at("width") == 12 * 32);
  json const random =
      json::parse(l3("probe folder " + quoted(list) + "--folds 3 --json --random-weights --model tiny --seed 3 --out " +
                     quoted(scratch() / "random"))
                      .out);
  CHECK(random.at("trained") == false);
}

TEST_CASE("a class of two files is kept out of the fold by which --cost is chosen") {
  fs::path const rare = table("rare.csv", "path,label,fold", [](std::size_t k, auto const& path, auto const& label) {
    return path + ',' + (k == 1 || k == 2 ? "rare" : label) + ',' + std::to_string(k % 3);
  });
  outcome const r = l3("probe folder " + quoted(rare) + checkpoint() + "--json --out " + quoted(scratch() / "rare"));
  INFO(r.err);
  REQUIRE(r.code == 0);
  CHECK(json::parse(r.out).at("folds").size() == 3);
}

TEST_CASE("features: what was refused is tried again, and files of another folder are others") {
  fs::path const here = scratch() / "stems" / "here", there = scratch() / "stems" / "there";
  for (std::size_t k = 0; k != 4; ++k)
    for (auto const& [folder, video] : {std::pair{here, k}, {there, k + 4}}) {
      fs::create_directories(folder);
      fs::path const wav = folder / ("stem" + std::to_string(k) + ".wav");
      REQUIRE(std::system(("ffmpeg -v error -y -i " + quoted(two_classes() / labelled()[video].first) +
                           "-map_metadata -1 -t 1.5 -ac 1 " + quoted(wav))
                              .c_str()) == 0);
      fs::last_write_time(wav, fs::last_write_time(here / "stem0.wav"));
    }
  auto const time = fs::last_write_time(here / "stem0.wav");
  REQUIRE(fs::file_size(here / "stem0.wav") == fs::file_size(there / "stem0.wav"));
  auto const distance = [&](fs::path const& of, char const* out) {
    return l3("distance audio " + quoted(of) + "--reference " + quoted(here) + checkpoint() + "--json --out " +
              quoted(scratch() / out));
  };
  std::string const whole = content(here / "stem2.wav");
  auto const put = [&](std::string const& bytes) {
    std::ofstream(here / "stem2.wav", std::ios::binary) << bytes;
    fs::last_write_time(here / "stem2.wav", time);
  };
  put(std::string(whole.size(), 'x'));
  outcome const first = distance(here, "stems1");
  INFO(first.err);
  REQUIRE(first.code == 3);
  CHECK(json::parse(first.out).at("of").at("files") == 3);
  CHECK(distance(here, "stems1").code == 3);
  put(whole);
  outcome const mended = distance(here, "stems1");
  CHECK(mended.code == 0);
  json const of = json::parse(mended.out).at("of"), fresh = json::parse(distance(here, "stems2").out).at("of");
  CHECK(of.at("files") == 4);
  CHECK(of.at("rows") == fresh.at("rows"));
  CHECK(json::parse(mended.out).at("distance").get<double>() < 1e-9);
  outcome const others = distance(there, "stems1");
  CHECK(others.code == 0);
  CHECK(json::parse(others.out).at("distance").get<double>() > 1e-3);
}

TEST_CASE("ESC-50's layout: labels with commas, quotes and long words, folds as given") {
  std::map<std::string, std::string> named;
  std::string word = "ab";
  for (int k = 0; k < 20; ++k) word += "\u03c9";
  fs::path const meta = table("esc50.csv", "filename,fold,target,category,esc10,src_file,take",
                              [&](std::size_t k, auto const& path, auto const& label) {
                                named.emplace(label, named.empty() ? R"("rain, ""heavy""")" : word);
                                return path + ',' + std::to_string(k % 3 + 1) + ",0," + named[label] + ",True,1000,A";
                              });
  fs::path const out = scratch() / "esc50";
  outcome const r = l3("probe esc50 --meta " + quoted(meta) + "--audio " + quoted(two_classes()) +
                       "--json --cost 0.001 " + checkpoint() + "--out " + quoted(out));
  INFO(r.err);
  REQUIRE(r.code == 0);
  json const result = json::parse(r.out);
  CHECK(result.at("set") == "esc50");
  CHECK(result.at("paper").at("ours") == 79.3);
  CHECK(result.at("folds").size() == 3);
  for (json const& f : result.at("folds")) CHECK(f.at("cost") == 0.001);
  CHECK(result.at("classes").at(1).at("class") == "rain, \"heavy\"");
  CHECK_THAT(content(out / "confusion.csv"), Contains(R"("rain, ""heavy""")"));
  CHECK_THAT(content(out / "confusion.svg"), Contains("rain, &quot;heavy&quot;"));
  // Cut to 27 bytes or less, between letters.
  CHECK_THAT(content(out / "confusion.svg"), Contains('>' + word.substr(0, 26) + "\u2026<"));
}

TEST_CASE("DCASE's layouts: tables with tabs, and files named after their scene") {
  std::string both[2] = {"filename\tscene_label\tidentifier\n", "filename\tscene_label\tidentifier\n"};
  auto const rows = labelled();
  fs::path const train = scratch() / "scenes", test = scratch() / "scenes_test";
  fs::create_directories(train), fs::create_directories(test);
  for (std::size_t k = 0; k != rows.size(); ++k) {
    both[k % 2] += rows[k].first + '\t' + rows[k].second + "\tplace" + std::to_string(k / 4) + '\n';
    std::string const name = (rows[k].second == rows[0].second ? "bus" : "tubestation") + std::to_string(k) + ".wav";
    fs::copy_file(two_classes() / rows[k].first, (k % 2 == 0 ? train : test) / name);
  }
  fs::copy_file(two_classes() / rows[0].first, train / "bus900.ogg");  // by its ending, sound too
  fs::create_directories(two_classes() / "evaluation_setup");
  std::ofstream(two_classes() / "evaluation_setup/fold1_train.csv") << both[0];
  std::ofstream(two_classes() / "evaluation_setup/fold1_evaluate.csv") << both[1];
  auto const run = [&](fs::path const& a, fs::path const& b, char const* out) {
    outcome const r = l3("probe dcase --train " + quoted(a) + "--test " + quoted(b) + "--json " + checkpoint() +
                         "--out " + quoted(scratch() / out));
    INFO(r.err);
    REQUIRE(r.code == 0);
    return json::parse(r.out);
  };
  json const tau = run(two_classes() / "evaluation_setup/fold1_train.csv",
                       two_classes() / "evaluation_setup/fold1_evaluate.csv", "tau");
  json const scenes = run(train, test, "d2013");
  CHECK(tau.at("folds").size() == 1);
  CHECK(tau.at("folds")[0].at("test") == rows.size() / 2);
  CHECK(scenes.at("classes").at(0).at("class") == "bus");
  CHECK(scenes.at("files").get<std::size_t>() == rows.size() + 1);
  // Its table of confusions would stay beside another kind of result.
  outcome const mixed = l3("probe cluster audio " + quoted(two_classes() / "train.csv") + checkpoint() + "--out " +
                           quoted(scratch() / "d2013"));
  CHECK(mixed.code == 2);
  CHECK_THAT(mixed.err, Contains("d2013: expected a folder without other results than of kind \"cluster\""));
  CHECK(scenes.at("accuracy").get<double>() == Approx(tau.at("accuracy").get<double>()).margin(0.2));
}

TEST_CASE("retrieval is what l3 search finds, held against the classes") {
  fs::path const data = two_classes() / "train.csv", out = scratch() / "retrieval";
  std::string const with = checkpoint() + "--hop 1 --json ";
  outcome const made = l3("probe retrieval " + quoted(data) + with + "--top 5 --out " + quoted(out));
  INFO(made.err);
  REQUIRE(made.code == 0);
  json const r = json::parse(made.out);
  auto const videos = labelled();
  std::map<std::string, std::string> const labels(videos.begin(), videos.end());
  CHECK(r.at("videos") == videos.size());
  CHECK(r.at("left_out") == 0);
  REQUIRE(r.at("directions").size() == 4);
  std::vector<std::map<std::string, std::string>> queries;  // cells by the names of columns
  {
    std::istringstream lines(content(out / "queries.csv"));
    std::vector<std::string> names;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream cells(line + ',');
      std::vector<std::string> row;
      for (std::string cell; std::getline(cells, cell, ',');) row.push_back(cell);
      if (names.empty())
        names = row;
      else
        for (auto& to = queries.emplace_back(); std::string const& name : names) to.emplace(name, row.at(to.size()));
    }
  }
  CHECK(queries.size() == 4 * videos.size());
  for (json const& d : r.at("directions")) {
    std::string const by = d.at("by"), finds = d.at("finds");
    CAPTURE(by, finds);
    double ndcg = 0, chance = 0, first = 0;
    std::string asked;
    for (auto const& row : queries) {
      if (row.at("by") != by || row.at("finds") != finds) continue;
      ndcg += std::stod(row.at("ndcg")) / static_cast<double>(videos.size());
      chance += std::stod(row.at("chance")) / static_cast<double>(videos.size());
      CHECK(labels.at(row.at("file")) == row.at("class"));
      CHECK(row.at("place").empty() == (by == finds));
      if (by != finds) first += std::stod(row.at("place")) == 1;
      if (!asked.empty()) continue;
      // The first one's ranking again, by the other command.
      asked = row.at("file");
      json const found = json::parse(l3("search " + finds + " " + quoted(two_classes() / asked) + "--by " + by +
                                        " --in " + quoted(data) + with + "--top 5 --out " + quoted(out / "search"))
                                         .out);
      double gain = 0, best = 0, place = 2;
      for (json const& one : found.at("queries")[0].at("results")) {
        best += 1 / std::log2(place);
        if (labels.at(one.at("file")) == row.at("class")) gain += 1 / std::log2(place);
        ++place;
      }
      CHECK(place == 7);
      CHECK(std::stod(row.at("ndcg")) == Approx(gain / best).margin(1e-6));
      if (by != finds) {  // a copy finds the original, too
        fs::path const copy = scratch() / "a copy.mp4";
        fs::copy_file(two_classes() / asked, copy, fs::copy_options::overwrite_existing);
        json const all = json::parse(l3("search " + finds + " " + quoted(copy) + "--by " + by + " --in " +
                                        quoted(data) + with + "--top 1000 --out " + quoted(out / "search"))
                                         .out)
                             .at("queries")[0]
                             .at("results");
        REQUIRE(all.size() == videos.size());
        CHECK(all.at(std::stoul(row.at("place")) - 1).at("file") == asked);
      }
      // Half of the videos are of its class, of which it is one itself.
      CHECK(std::stod(row.at("chance")) == Approx(0.5).margin(0.06));
    }
    CHECK(d.at("ndcg").get<double>() == Approx(ndcg).margin(1e-6));
    CHECK(d.at("chance").get<double>() == Approx(chance).margin(1e-6));
    REQUIRE(d.at("itself").is_null() == (by == finds));
    if (by == finds) continue;
    CHECK(d.at("itself").at("first_1").get<double>() == Approx(first / static_cast<double>(videos.size())));
    CHECK(d.at("itself").at("first_10") >= d.at("itself").at("first_5"));
    CHECK((d.at("itself").at("median_place") >= 1 && d.at("itself").at("median_place") <= videos.size()));
  }
  // Of other layers there is no judgement across senses; a class of one video has nothing to find.
  fs::path const lone = table("lone.csv", "path,label", [](std::size_t k, auto const& path, auto const& label) {
    return path + ',' + (k == 0 ? "lone" : label);
  });
  outcome const grid =
      l3("probe retrieval " + quoted(lone) + with + "--pool grid --out " + quoted(scratch() / "retrieval of grids"));
  INFO(grid.err);
  CHECK(grid.code == 0);
  CHECK(json::parse(grid.out).at("directions").size() == 2);
  CHECK(json::parse(grid.out).at("left_out") == 1);
  CHECK_THAT(grid.err, Contains("--layer pool4"));

  // With a link to each of them besides, all is as before, and no video finds itself.
  fs::path const linked = scratch() / "linked.csv";
  std::string rows = "path,label\n";
  for (auto const& [name, label] : videos) {
    fs::path const link = scratch() / ("link" + std::to_string(rows.size()) + ".mp4");
    fs::create_symlink(two_classes() / name, link);
    rows += (two_classes() / name).string() + ',' + label + '\n' + link.string() + ',' + label + '\n';
  }
  std::ofstream(linked) << rows;
  auto const nearest = [&](fs::path const& set, char const* kept) {
    outcome const of = l3("probe retrieval " + quoted(set) + with + "--top 1 --out " + quoted(scratch() / kept));
    INFO(of.err);
    REQUIRE(of.code == 0);
    return json::parse(of.out);
  };
  json const single = nearest(data, "nearest"), twice = nearest(linked, "nearest of two names");
  CHECK(twice.at("videos") == 2 * videos.size());
  CHECK(single.at("directions")[0].at("ndcg") < 1);  // as it would be if each found itself
  for (std::size_t k = 0; k != 4; ++k) {
    json const &a = single.at("directions")[k], &b = twice.at("directions")[k];
    CAPTURE(a);
    CHECK(b.at("ndcg").get<double>() == Approx(a.at("ndcg").get<double>()).margin(1e-6));
    if (a.at("itself").is_null()) continue;
    // Each of the others has two places.
    CHECK(b.at("itself").at("median_place") == 2 * a.at("itself").at("median_place").get<double>() - 1);
  }
  // Nor is it learned from by one name and tested by the other.
  REQUIRE(
      l3("probe folder " + quoted(linked) + "--folds 3 --cost 0.01 " + with + "--out " + quoted(scratch() / "dealt"))
          .code == 0);
  std::map<fs::path, std::set<std::string>> fold_of;
  std::istringstream dealt(content(scratch() / "dealt/predictions.csv"));
  std::size_t tested = 0;
  for (std::string line; std::getline(dealt, line);) {
    std::size_t const comma = line.find(',');
    if (!fs::exists(line.substr(0, comma))) continue;  // the header
    fold_of[fs::canonical(line.substr(0, comma))].insert(line.substr(comma + 1, line.find(',', comma + 1) - comma - 1));
    ++tested;
  }
  CHECK(tested == 2 * videos.size());
  CHECK(fold_of.size() == videos.size());
  CHECK(std::ranges::all_of(fold_of, [](auto const& f) { return f.second.size() == 1; }));

  // Files that cannot be read take no part; without two classes there is nothing to tell.
  fs::path const some = table("some videos.csv", "path,label", [](std::size_t k, auto const& path, auto const& label) {
    return (k == 0 ? "gone.mp4" : path) + ',' + label;
  });
  for (char const* how : {"read", "kept"}) {
    INFO(how);
    outcome const part = l3("probe retrieval " + quoted(some) + with + "--out " + quoted(scratch() / "some found"));
    CHECK(part.code == 3);
    json const of = json::parse(part.out);
    CHECK(of.at("videos") == videos.size() - 1);
    REQUIRE(of.at("refused").size() == 1);
    CHECK(of.at("refused")[0].at("file") == "gone.mp4");
  }
  fs::path const none = table("no videos.csv", "path,label", [](std::size_t k, auto const&, auto const& label) {
    return std::to_string(k) + ".mp4," + label;
  });
  outcome const nothing = l3("probe retrieval " + quoted(none) + with + "--out " + quoted(scratch() / "none found"));
  CHECK(nothing.code == 1);
  CHECK_THAT(nothing.err, Contains("no videos.csv") && Contains("two classes at least"));

  // The page has a row for each direction.
  REQUIRE(
      l3("report " + quoted(scratch() / "retrieval") + "--out " + quoted(scratch() / "pages/retrieval.html")).code ==
      0);
  CHECK_THAT(content(scratch() / "pages/retrieval.html"),
             Contains("Pictures that find sounds") && Contains("Sounds that find pictures") && Contains("nDCG@5"));
}

TEST_CASE("clusters of sounds and of pictures are compared with the classes") {
  for (char const* what : {"audio", "image"}) {
    json const r = json::parse(l3("probe cluster " + std::string(what) + " " + quoted(two_classes() / "train.csv") +
                                  "--hop 1 --json " + checkpoint() + "--out " + quoted(scratch() / "cluster" / what))
                                   .out);
    CHECK(r.at("clusters") == 2);
    CHECK(r.at("layer") == "pool4, global");
    CHECK((r.at("nmi") >= 0 && r.at("nmi") <= 1));
    CHECK((r.at("ami") > -0.5 && r.at("ami") <= r.at("nmi").get<double>() + 1e-9));
  }
}

TEST_CASE("how far apart collections are: result, features kept, files that are missing") {
  fs::path const all = table("all.csv", "path", [](std::size_t, auto const& path, auto const&) { return path; });
  fs::path const some = table("some.csv", "path", [](std::size_t k, auto const& path, auto const&) {
    return k == 3 ? std::string("none.mp4") : k % 2 == 0 ? path : "";
  });
  {  // without the empty lines
    std::string lines = content(some);
    for (std::size_t at; (at = lines.find("\n\n")) != lines.npos;) lines.erase(at, 1);
    std::ofstream(some) << lines;
  }
  fs::path const out = scratch() / "distance";
  auto const distance = [&](fs::path const& data, std::string const& more = "") {
    return l3("distance audio " + quoted(data) + "--reference " + quoted(all) + checkpoint() + "--json --out " +
              quoted(out) + more);
  };
  outcome const same = distance(all);
  INFO(same.err);
  REQUIRE(same.code == 0);
  CHECK_THAT(same.err, Contains("of both collections"));
  json const none = json::parse(same.out);
  CHECK(none == json::parse(content(out / "result.json")));
  CHECK(none.at("distance").get<double>() < 1e-9);
  CHECK(none.at("of").at("files") == labelled().size());
  CHECK(none.at("reference").at("rows") == none.at("of").at("rows"));
  CHECK(none.at("width") == 128);
  CHECK(none.at("hop") == 0.5);
  REQUIRE(labelled().size() >= 16);
  CHECK(none.at("endless").get<double>() < 0);  // nothing is apart but the halves

  outcome const part = distance(some, "--threads 1");
  INFO(part.err);
  CHECK(part.code == 3);
  CHECK_THAT(part.err, Contains("none.mp4") && Contains("rows of features from") && Contains("fewer than a row has"));
  json const half = json::parse(part.out);
  CHECK(half.at("distance").get<double>() > 1e-9);
  CHECK(half.at("of").at("refused").size() == 1);
  CHECK(half.at("endless").is_null());  // of so few
  // Links in a circle are refused like other files that cannot be opened.
  fs::path const circle = scratch() / "circle";
  fs::create_directories(circle);
  fs::create_symlink("self.mp4", circle / "self.mp4");
  fs::create_symlink(fs::absolute(made_up_videos() / "videos"), circle / "videos");
  outcome const round = distance(circle);
  CHECK(round.code == 3);
  CHECK(json::parse(round.out).at("of").at("refused").at(0).at("file") == "self.mp4");
  // An index is a list of files; a packed collection is none.
  fs::path const index = scratch() / "all.l3index", packed = scratch() / "packed for distance";
  REQUIRE(l3("index " + quoted(all) + "--quiet --out " + quoted(index)).code == 0);
  CHECK(json::parse(distance(index).out).at("distance").get<double>() < 1e-9);
  REQUIRE(l3("pack " + quoted(index) + "--quiet --out " + quoted(packed)).code == 0);
  outcome const no_files = distance(packed);
  CHECK(no_files.code == 2);
  CHECK_THAT(no_files.err, Contains("a packed collection"));
  fs::path const other = made_up_videos() / "train.csv";
  json const one = json::parse(distance(other, "--threads 1").out);
  CHECK(one == json::parse(distance(other, "--threads 2").out));
  CHECK(one.at("endless") == 2 * one.at("distance").get<double>() - one.at("halves").get<double>());
  CHECK(json::parse(distance(other, "--halvings 0").out).at("endless").is_null());

  for (auto const& [arguments, code, says] : std::vector<std::tuple<std::string, int, std::string>>{
           {"distance audio " + quoted(some) + checkpoint() + "--out " + quoted(out), 2, "--reference"},
           {"distance image " + quoted(all.parent_path()) + "--reference " + quoted(all) + checkpoint() + "--out " +
                quoted(out),
            1, "of the kind"},
           {"distance audio " + quoted(scratch() / "nowhere") + "--reference " + quoted(all) + checkpoint() + "--out " +
                quoted(out),
            1, "nowhere"}}) {
    INFO(arguments);
    outcome const bad = l3(arguments);
    CHECK(bad.code == code);
    CHECK_THAT(bad.err, Contains(says));
  }
}

TEST_CASE("what cannot be probed is said") {
  fs::path const one_class =
      table("one.csv", "path,label", [](std::size_t, auto const& path, auto const&) { return path + ",same"; });
  fs::path const alone = table("alone.csv", "path,label,fold", [](std::size_t k, auto const& path, auto const& label) {
    return path + ',' + (k == 0 ? "rare" : label) + ',' + std::to_string(k % 2);
  });
  fs::path const blank = table("blank.csv", "path,label", [](std::size_t k, auto const& path, auto const& label) {
    return path + ',' + (k == 2 ? "" : label);
  });
  std::string const rest = checkpoint() + "--out " + quoted(scratch() / "bad");
  for (auto const& [arguments, code, says] : std::vector<std::tuple<std::string, int, std::string>>{
           {"probe folder " + quoted(one_class) + rest, 1, "at least two classes"},
           {"probe folder " + quoted(alone) + rest, 1, "rare"},
           {"probe folder " + quoted(blank) + rest, 1, "blank.csv:4"},
           {"probe folder " + quoted(two_classes() / "train.csv") + "--group speaker " + rest, 1, "speaker"},
           {"probe folder " + quoted(two_classes() / "train.csv") + "--folds 1 " + rest, 2, "--folds"},
           {"probe folder " + quoted(two_classes() / "train.csv") + "--layer pool4 " + rest, 2, "--pool"},
           {"probe folder " + quoted(two_classes() / "train.csv") + "--out x", 2, "--checkpoint"},
           {"probe folder " + quoted(two_classes() / "train.csv") + "--model paper " + rest, 2, "--model"},
           {"probe esc50 --meta " + quoted(one_class) + "--audio . " + rest, 1, "filename"},
           {"probe", 2, "subcommand"}}) {
    INFO(arguments);
    outcome const r = l3(arguments);
    CHECK(r.code == code);
    CHECK_THAT(r.err + r.out, Contains(says));
  }
}

TEST_CASE("baselines: classifiers, both ways to use them, the paper's table, and going on") {
  fs::path const d = two_classes(), out = scratch() / "baselines";
  std::string const data = "--train " + quoted(d / "train.csv") + "--valid " + quoted(d / "valid.csv") +
                           "--valid-pairs 8 --model tiny --batch 4 --seed 5 --quiet ";
  std::string const command = "baseline all " + data + "--pairs 16 --test " + quoted(d / "test.csv") +
                              "--test-pairs 16 --json " + checkpoint() + "--out " + quoted(out);
  outcome const r = l3(command);
  INFO(r.err);
  REQUIRE(r.code == 0);
  json const table = json::parse(r.out);
  REQUIRE(table.at("rows").size() == 5);
  CHECK(table.at("rows")[0].at("accuracy") == 0.5);
  CHECK(table.at("rows")[4].at("name") == "L3-Net, audio-visual correspondence");
  CHECK(json::parse(content(out / "vision/config.json")).at("classes").size() == 2);
  // Again: nothing is left to do, and it says the same.
  CHECK(json::parse(l3(command).out) == table);

  // With more draws the classifiers go on, and the head that stood on the old ones begins anew.
  std::string more = command;
  more.replace(more.find("--pairs 16"), 10, "--pairs 24");
  auto const classifiers = [&] {
    return content(out / "vision/best.safetensors") + content(out / "audio/best.safetensors");
  };
  std::string const before = classifiers();
  CHECK(l3(more).code == 0);
  CHECK(fs::exists(out / "pretrain.old/config.json") == (classifiers() != before));
  CHECK(json::parse(content(out / "pretrain/config.json")).at("pairs") == 24);

  fs::path const trained = out / "vision/last.safetensors";
  std::string const both = "--vision " + quoted(trained) + "--audio " + quoted(out / "audio/last.safetensors");
  json const direct = json::parse(l3("baseline direct " + both + "--valid " + quoted(d / "valid.csv") + "--test " +
                                     quoted(d / "test.csv") + "--valid-pairs 16 --pairs 16 --json")
                                      .out);
  CHECK(direct.at("test").at("pairs") == 16);
  CHECK(direct.at("valid").at("accuracy") >= 0.5);  // the threshold was chosen there
  // The pretrained one is an L3-Net like any other.
  CHECK(l3("eval --pairs 16 --quiet --checkpoint " + quoted(out / "pretrain/last.safetensors") + "--data " +
           quoted(d / "test.csv"))
            .code == 0);

  // Interrupted or not, the same bytes; and fine-tuning, frozen and not.
  std::string const whole = (scratch() / "whole").string(), part = (scratch() / "part").string();
  std::string of_any = data;
  of_any.erase(of_any.find("--model tiny "), 13);  // the checkpoint says so
  std::string const trunk = "baseline trunk audio " + of_any + "--init " + quoted(made_up_run() / "best.safetensors");
  REQUIRE(l3(trunk + "--pairs 24 --out " + whole).code == 0);
  REQUIRE(l3(trunk + "--pairs 12 --out " + part).code == 0);
  REQUIRE(l3("baseline trunk audio --resume --pairs 24 --quiet --out " + part).code == 0);
  CHECK(content(whole + "/last.safetensors") == content(part + "/last.safetensors"));
  json const told = json::parse(l3("info --json " + part + "/last.safetensors").out);
  CHECK(told.at("classes") == 2);
  CHECK_THAT(told.at("model").get<std::string>(), Contains("tiny") && Contains("audio"));
  outcome const other = l3("baseline trunk vision --resume --pairs 32 --out " + part);
  CHECK(other.code == 2);
  CHECK_THAT(other.err, Contains("what") && Contains("audio"));
  CHECK(l3(trunk + "--freeze --pairs 8 --out " + (scratch() / "frozen").string()).code == 0);

  // A head on the subnetworks of an L3-Net, whose model it then has.
  fs::path const l3net = made_up_run() / "best.safetensors", head = scratch() / "head";
  REQUIRE(l3("baseline pretrain " + of_any + "--pairs 8 --vision " + quoted(l3net) + "--audio " + quoted(l3net) +
             "--out " + quoted(head))
              .code == 0);
  CHECK_THAT(json::parse(l3("info --json " + quoted(head / "last.safetensors")).out).at("model").get<std::string>(),
             Contains("tiny"));

  for (auto const& [arguments, code, says] : std::vector<std::tuple<std::string, int, std::string>>{
           {"baseline trunk audio " + data + "--freeze --out " + quoted(scratch() / "b1"), 2, "--init"},
           {"baseline trunk audio " + data + "--init " + quoted(trained) + "--out " + quoted(scratch() / "b2"), 1,
            "subnetwork audio"},
           {"train " + data + "--init " + quoted(trained) + "--out " + quoted(scratch() / "b5"), 1, "classes=2"},
           {"baseline trunk audio --train " + quoted(d / "videos") + "--valid " + quoted(d / "valid.csv") + "--out " +
                quoted(scratch() / "b3"),
            1, "label"},
           {"baseline direct --vision " + quoted(made_up_run() / "best.safetensors") + "--audio " + quoted(trained) +
                "--valid " + quoted(d / "valid.csv") + "--test " + quoted(d / "test.csv"),
            1, "baseline trunk"},
           {"baseline pretrain " + data + "--out " + quoted(scratch() / "b4"), 2, "--vision"},
           {"baseline pretrain --model small " + of_any + "--vision " + quoted(trained) + "--audio " + quoted(trained) +
                "--out " + quoted(scratch() / "b6"),
            2, "--model with --vision: expected tiny"}}) {
    INFO(arguments);
    outcome const bad = l3(arguments);
    CHECK(bad.code == code);
    CHECK_THAT(bad.err + bad.out, Contains(says));
  }
}

TEST_CASE("embeddings can be reduced to one row, aligned, and read from other layers") {
  fs::path const out = scratch() / "reduced", video = two_classes() / labelled().front().first;
  auto const embed = [&](std::string const& options) {
    outcome const r = l3("embed " + options + checkpoint() + "--format json --json --overwrite --out " + quoted(out));
    INFO(r.err);
    REQUIRE(r.code == 0);
    std::vector<json> made;
    json const report = json::parse(r.out);
    for (json const& o : report.at("outputs")) made.push_back(json::parse(content(o.at("output").get<std::string>())));
    return made;
  };
  auto const rows = embed("audio " + quoted(video) + "--hop 0.25 ").at(0).at("embedding");
  auto const mean = embed("audio " + quoted(video) + "--hop 0.25 --reduce mean ").at(0);
  auto const most = embed("audio " + quoted(video) + "--hop 0.25 --reduce max ").at(0);
  REQUIRE(mean.at("embedding").size() == 1);
  CHECK_FALSE(mean.contains("timestamps"));
  for (std::size_t k = 0; k != rows[0].size(); ++k) {
    double sum = 0, largest = -1e30;
    for (json const& row : rows) sum += row[k].get<double>(), largest = std::max(largest, row[k].get<double>());
    CHECK(mean.at("embedding")[0][k].get<double>() == Approx(sum / double(rows.size())).margin(1e-6));
    CHECK(most.at("embedding")[0][k].get<double>() == Approx(largest).margin(1e-6));
  }
  auto const together = embed("video " + quoted(video) + "--hop 0.25 --align ");
  REQUIRE(together.size() == 2);
  CHECK(together[0].at("embedding").size() == together[1].at("embedding").size());
  CHECK(together[0].at("timestamps") == together[1].at("timestamps"));
  auto const apart = embed("video " + quoted(video) + "--hop 0.25 ");
  CHECK(together[1].at("embedding")[0] == apart[1].at("embedding")[2]);  // the picture at half a second
  CHECK(embed("audio " + quoted(video) + "--layer pool3 --pool grid --hop 1 ").at(0).at("embedding")[0].size() ==
        12 * 64);
  CHECK(embed("image " + quoted(video) + "--layer conv4_2 --pool global ").at(0).at("embedding")[0].size() == 128);
  CHECK(l3("embed audio " + quoted(video) + "--align " + checkpoint() + "--out " + quoted(out)).code == 2);
}

TEST_CASE("a sound of three hours takes no more memory than one of five minutes", "[slow]") {
  auto const peak = [](std::size_t minutes) {
    fs::path const file = scratch() / (std::to_string(minutes) + ".wav");
    REQUIRE(std::system(("ffmpeg -v error -f lavfi -i anoisesrc=r=8000:a=0.5:seed=1:d=" + std::to_string(60 * minutes) +
                         " -ac 1 " + file.string())
                            .c_str()) == 0);
    outcome const r =
        l3("embed audio " + quoted(file) + checkpoint() + "--hop 1 --json --out " + quoted(scratch() / "long"));
    INFO(r.err);
    REQUIRE(r.code == 0);
    CHECK(json::parse(r.out).at("outputs")[0].at("rows") == 60 * minutes);
    fs::remove(file);
    return r.peak_mebibytes;
  };
  double const first = peak(5), long_one = peak(180);
  INFO(first << " MiB, " << long_one << " MiB");
  CHECK(first > 20);
  CHECK(long_one < first + 32);  // as samples it is 1980 MiB, as rows 5
}

TEST_CASE("pictures of every kind are told apart by one linear layer, broken ones counted") {
  fs::path const at = scratch() / "pictures";
  auto const draw = [&](std::string const& part, std::string const& label, std::string const& name,
                        std::string const& format, std::string const& size = "64:48") {
    fs::create_directories(at / part / label);
    std::string const noise = ",noise=alls=40:all_seed=" + std::to_string(name.size() * 7 + label.size());
    REQUIRE(std::system(("ffmpeg -v error -y -f lavfi -i color=" + label + ":s=64x48" + noise + ",scale=" + size +
                         " -frames:v 1 " + format + " " + (at / part / label / name).string())
                            .c_str()) == 0);
  };
  for (char const* label : {"red", "blue"}) {
    for (int k = 0; k < 6; ++k) draw("train", label, std::string(std::size_t(k + 1), 'a') + ".png", "-pix_fmt rgb24");
    draw("val", label, "palette.png", "-pix_fmt pal8");
    draw("val", label, "deep.png", "-pix_fmt rgb48be");
    draw("val", label, "alpha.png", "-pix_fmt rgba");
    draw("val", label, "lossy.jpg", "-pix_fmt yuvj420p");
    draw("val", label, "pixel.png", "-pix_fmt rgb24", "1:1");
  }
  fs::copy_file(L3_SOURCE_DIR "/tests/cli/cmyk.jpg", at / "val/red/cmyk.jpg");
  std::ofstream(at / "train/red/broken.png", std::ios::binary) << 'x' << content(at / "train/red/a.png").substr(1);
  draw("train", "red", "grey.png", "-pix_fmt gray");
  std::string const command = "probe imagenet --train " + quoted(at / "train") + "--val " + quoted(at / "val") +
                              "--random-weights --model tiny --epochs 20 --json --out " + quoted(at / "out");
  outcome const first = l3(command);
  INFO(first.err);
  REQUIRE(first.code == 3);
  json const r = json::parse(first.out);
  CHECK(r.at("tested") == 11);
  CHECK(r.at("refused").size() == 1);
  CHECK_THAT(r.at("refused")[0].get<std::string>(), Contains("broken.png"));
  CHECK(r.at("width") == 16 * 128);
  CHECK(r.at("top1") >= 0.9);
  CHECK(r.at("top5") == 1);
  json const again = json::parse(l3(command + " --threads 1 --batch 5").out);
  CHECK(again.at("top1") == r.at("top1"));
  CHECK(content(at / "out/confusion.csv").size() > 10);
  std::string const features = content(at / "out/train/000000.npy");
  damage(at / "out/train/000000.npy");
  CHECK(content(at / "out/train/000000.npy") != features);
  CHECK(l3(command).code == 3);
  CHECK(content(at / "out/train/000000.npy") == features);
  // A picture that could not be read is tried again: its size and time need not tell that it can be now.
  outcome const tried = l3(command);
  CHECK(tried.code == 3);
  CHECK_THAT(tried.err, Contains("refused " + (at / "train/red/broken.png").string() + ": "));
  auto const time = fs::last_write_time(at / "train/red/broken.png");
  std::ofstream(at / "train/red/broken.png", std::ios::binary) << content(at / "train/red/a.png");
  fs::last_write_time(at / "train/red/broken.png", time);
  CHECK(l3(command).code == 0);
  {
    held const by_another(at / "out/train");
    outcome const busy = l3(command + " --shots 1");
    CHECK(busy.code == 2);
    CHECK_THAT(busy.err, Contains("out/train") && Contains("another process at work"));
  }
  {  // who reads them lets others read the same
    held const by_another(at / "out/train", true);
    CHECK(l3(command + " --shots 1").code == 0);
    CHECK(l3(command + " --shots 1 --layer pool2").code == 2);
  }
  json const few = json::parse(l3(command + " --shots 2 --draws 3").out);
  CHECK(few.at("draws").size() == 3);
  CHECK(few.at("deviation").is_number());
  CHECK(json::parse(l3(command + " --shots 2 --draws 1").out).at("deviation").is_null());
  CHECK(few.at("top1") >= 0.6);
  CHECK_THAT(l3(command + " --shots 50").err, Contains("50 pictures of class"));
  fs::create_directories(at / "val/green");
  fs::copy_file(at / "val/red/alpha.png", at / "val/green/alpha.png");
  outcome const other = l3(command);
  CHECK(other.code == 1);
  CHECK_THAT(other.err, Contains("green"));
  fs::remove_all(at / "val/green");
  fs::remove(at / "val/red/alpha.png");
  fs::create_symlink(at / "train/red/a.png", at / "val/red/alpha.png");
  outcome const learned = l3(command);
  CHECK(learned.code == 1);
  CHECK_THAT(learned.err, Contains("--val") && Contains("red/alpha.png"));
}

TEST_CASE("inspect shows units over a collection and over single files, as pictures and as numbers") {
  fs::path const out = scratch() / "inspect", video = two_classes() / labelled().front().first;
  auto const is_png = [](fs::path const& file) { return content(file).starts_with("\x89PNG\r\n"); };
  outcome const r = l3("inspect units " + quoted(two_classes() / "train.csv") +
                       "--moments 40 --count 2 --top 3 --side 96 --json " + checkpoint() + "--out " + quoted(out));
  INFO(r.err);
  REQUIRE(r.code == 0);
  json const units = json::parse(r.out).at("units");
  REQUIRE(units.size() == 4);  // two of each subnetwork
  for (json const& u : units) {
    CHECK(is_png(out / u.at("picture").get<std::string>()));
    CHECK(u.at("items").size() == 3);
    CHECK(u.at("items")[0].at("activation") >= u.at("items")[1].at("activation"));
    CHECK(u.at("items")[0].at("video") != u.at("items")[1].at("video"));
    std::string const stem = out / fs::path(u.at("picture").get<std::string>()).stem();
    CHECK_THAT(content(stem + ".npz"), Contains("heat.npy") && Contains("activation.npy"));
    if (u.at("what") == "audio") CHECK(content(stem + "-1.wav").size() == 44 + 96000);
  }
  // Of units that were shown before nothing stays beside others.
  REQUIRE(l3("inspect units " + quoted(two_classes() / "train.csv") +
             "--what vision --moments 40 --count 1 --top 1 --side 96 --quiet " + checkpoint() + "--out " + quoted(out))
              .code == 0);
  CHECK(std::ranges::count_if(fs::directory_iterator(out), [](auto const& each) {
          return each.path().filename().string().find("-unit-") != std::string::npos;
        }) == 2);  // a picture and its numbers
  // A video that can be drawn from, but is too wide to be shown, is passed over and told.
  fs::path const few = scratch() / "to inspect", shown = scratch() / "inspected";
  fs::create_directories(few);
  fs::copy_file(video, few / "good.mp4");
  REQUIRE(
      std::system(("ffmpeg -v error -y -f lavfi -i testsrc=s=2000x4:r=10:d=2 -f lavfi -i sine=d=2 -pix_fmt yuv420p " +
                   quoted(few / "wide.mp4"))
                      .c_str()) == 0);
  outcome const wide =
      l3("inspect units " + quoted(few) + "--moments 20 --count 1 --json " + checkpoint() + "--out " + quoted(shown));
  CHECK(wide.code == 3);
  json const told = json::parse(wide.out);
  REQUIRE(told.at("refused").size() == 1);
  CHECK(told.at("refused")[0].at("file") == "wide.mp4");
  for (json const& u : told.at("units")) CHECK(u.at("items").size() == 1);
  for (char const* what : {"heatmap", "spectrogram", "correspondence"}) {
    outcome const one = l3("inspect " + std::string(what) + " " + quoted(video) + "--time 0.7 --json " + checkpoint() +
                           (std::string(what) == "correspondence" ? "" : "--units 3,5 ") + "--out " + quoted(out));
    INFO(one.err);
    REQUIRE(one.code == 0);
    json const made = json::parse(one.out).at("files").at(0);
    CHECK(is_png(made.at("picture").get<std::string>()));
    outcome const late =
        l3("inspect " + std::string(what) + " " + quoted(video) + "--time 99 " + checkpoint() + "--out " + quoted(out));
    CHECK(late.code == 1);  // nothing was drawn
    CHECK_THAT(late.err, Contains("--time before its"));
  }
  // Files of one name, and moments of one file, do not take each other's place.
  fs::path const namesakes = scratch() / "namesakes";
  for (char const* below : {"a", "b"}) {
    fs::create_directories(namesakes / below);
    fs::copy_file(video, namesakes / below / "x.mp4", fs::copy_options::overwrite_existing);
  }
  for (std::string const at : {"0", "0.5"}) {
    outcome const both = l3("inspect heatmap " + quoted(namesakes / "a/x.mp4") + quoted(namesakes / "b/x.mp4") +
                            "--units 3,5 --time " + at + " --json " + checkpoint() + "--out " + quoted(namesakes));
    REQUIRE(both.code == 0);
    for (std::size_t k : {0u, 1u})
      CHECK(json::parse(both.out).at("files").at(k).at("picture") ==
            (namesakes / (k == 0 ? "a" : "b") / (at == "0" ? "x.heatmap.png" : "x-0.5s.heatmap.png")).string());
  }
  CHECK_THAT(content(namesakes / "b/x.heatmap.npz"), Contains("unit.npy") && Contains("time.npy"));
  CHECK(fs::exists(namesakes / "a/x.heatmap.png"));
  CHECK(l3("inspect heatmap " + quoted(video) + "--units 128 " + checkpoint() + "--out " + quoted(out)).code == 2);
  outcome const some = l3("inspect heatmap missing.png " + quoted(namesakes) + quoted(video) + "--json " +
                          checkpoint() + "--out " + quoted(out));
  CHECK(some.code == 3);
  CHECK_THAT(some.err, Contains("missing.png") && Contains("found a directory"));
  CHECK(json::parse(some.out).at("files").size() == 1);
}

TEST_CASE("report: one page with everything in it, that asks nobody for anything") {
  fs::path const out = scratch() / "reported", page = scratch() / "page.html";
  auto const report = [&](std::string const& more = "") {
    return l3("report --add " + quoted(out) + quoted(made_up_run()) + "--out " + quoted(page) + more);
  };
  REQUIRE(l3("eval --quiet --pairs 64 --mistakes 4 " + checkpoint() + "--data " + quoted(two_classes() / "train.csv") +
             "--out " + quoted(out / "eval"))
              .code == 0);
  fs::create_directories(out / "hostile");
  std::ofstream(out / "hostile" / "result.json")
      << R"({"kind": "svm", "set": "<script>alert(1)</script>", "trained": true, "layer": "conv4_2", "accuracy": 0.5,)"
      << R"( "deviation": 0.1, "chance": 0.1, "paper": null})";
  fs::create_directories(out / "distance");
  std::ofstream(out / "distance" / "result.json")
      << R"({"kind": "distance", "what": "audio", "layer": "pool4, global", "trained": true, "distance": 17.25,)"
      << R"( "endless": null, "of": {"data": "made", "files": 150}, "reference": {"data": "real", "files": 900}})";
  fs::create_directories(out / "torn");
  std::ofstream(out / "torn" / "result.json") << R"({"kind": "avc", "pairs")";
  fs::create_directories(out / "gone");
  std::ofstream(out / "gone" / "result.json")
      << R"({"kind": "units", "data": "d", "units": [{"unit": 1, "what": "audio",)"
      << R"( "class": "", "picture": "none.png", "items": []}]})";
  fs::create_directories(out / "thief");
  std::ofstream(out / "secret.png") << "\x89PNG\r\n and a secret";
  std::ofstream(out / "thief" / "result.json")
      << R"({"kind": "units", "data": "d", "units": [{"unit": 1, "what": "vision",)"
      << R"( "class": "", "picture": "x/../../secret.png", "items": []}]})";
  fs::create_directories(out / "other");
  std::ofstream(out / "other" / "result.json") << R"({"kind": "weather"})";
  fs::create_directories(out / "deep");
  std::ofstream(out / "deep" / "result.json")
      << R"({"kind": "svm", "settings": )" << std::string(200000, '[') << std::string(200000, ']') << '}';
  outcome const r = report("--json");
  INFO(r.err);
  REQUIRE(r.code == 3);
  json const result = json::parse(r.out);
  CHECK(result.at("training") == true);
  CHECK(result.at("left_out") == 5);
  CHECK(result.at("results") == 3);
  CHECK_THAT(r.err, Contains("torn/result.json is left out") && Contains("none.png") &&
                        Contains("gone/result.json is left out") && Contains("thief/result.json is left out") &&
                        Contains("other/result.json is left out") && Contains("deep/result.json is left out"));
  std::string const html = content(page);
  CHECK(result.at("bytes") == html.size());
  CHECK_THAT(html, Contains("Best validation accuracy") && Contains("aria-label=\"Loss\"") && Contains("(ROC)") &&
                       Contains("50.0\u00a0% (deviation 10.0)") && Contains("&lt;script&gt;") &&
                       Contains("made (audio, pool4, global)") && Contains(">17.25<"));
  CHECK_THAT(html, !Contains("<script") && !Contains("http:") && !Contains("https:"));
  // Pictures and sounds are those of the folder, byte for byte.
  json const mistakes = json::parse(content(out / "eval" / "result.json")).at("mistakes");
  REQUIRE(mistakes.size() > 0);
  for (char const* what : {"picture", "sound"}) {
    std::string const type = what == std::string("picture") ? "image/png" : "audio/wav";
    std::string const begin = "\"data:" + type + ";base64,";
    std::size_t const at = html.find(begin);
    REQUIRE(at != html.npos);
    std::size_t const from = at + begin.size();
    CHECK(from_base64(html.substr(from, html.find('"', from) - from)) ==
          content(out / "eval" / mistakes[0].at(what).get<std::string>()));
  }
  CHECK(report("--quiet --add " + quoted(out / "eval")).code == 3);
  CHECK(content(page) == html);  // nothing twice
  REQUIRE(report("--sounds 1").code == 3);
  std::string const quieter = content(page);
  REQUIRE(quieter.find("<audio") != quieter.npos);
  CHECK(quieter.find("<audio") == quieter.rfind("<audio"));

  SECTION("a run that is going on may be read: a row that is not whole does not count") {
    fs::path const copy = scratch() / "going";
    fs::create_directories(copy);
    fs::copy_file(made_up_run() / "config.json", copy / "config.json");
    std::string const log = content(made_up_run() / "log.csv");
    std::ofstream(copy / "log.csv") << log << "99,3";
    CHECK(l3("report " + quoted(copy)).code == 0);
    outcome const over = l3("report " + quoted(copy) + "--out " + quoted(copy / "log.csv"));
    CHECK(over.code == 2);
    CHECK_THAT(over.err, Contains("--out") && Contains("log.csv"));
    CHECK(l3("report " + quoted(copy)).code == 0);  // the page before may be replaced
    CHECK(content(copy / "log.csv") == log + "99,3");
  }
  SECTION("random weights stand beside a learned network under the same conditions alone") {
    fs::path const probes = scratch() / "probes";
    auto const made = [&](char const* folder, bool trained, double accuracy, char const* print, char const* model) {
      fs::create_directories(probes / folder);
      json const each{{"kind", "svm"},   {"set", "folder"},      {"data", "mine"},      {"set_print", print},
                      {"model", model},  {"trained", trained},   {"layer", "pool4"},    {"hop", 0.5},
                      {"chance", 0.125}, {"accuracy", accuracy}, {"deviation", nullptr}};
      std::ofstream(probes / folder / "result.json") << each;
    };
    made("a random", false, 0.62, "01", "tiny");
    made("b", true, 0.91, "01", "tiny"), made("c", true, 0.92, "01", "tiny");
    made("d random", false, 0.55, "02", "tiny"), made("e random", false, 0.56, "01", "small");
    REQUIRE(l3("report " + quoted(probes)).code == 0);
    std::string const table = content(probes / "report.html");
    auto const row_of = [&](std::string const& value) {
      std::size_t const at = table.find(value);
      REQUIRE(at != table.npos);
      std::size_t const from = table.rfind("<tr", at);
      return table.substr(from, table.find("</tr>", at) - from);
    };
    CHECK_THAT(row_of("91.0"),
               Contains("mine") && Contains("hop 0.5 s") && Contains("62.0") && Contains("b; a random"));
    CHECK_THAT(row_of("92.0"), Contains("62.0") && Contains("c; a random"));
    for (char const* alone : {"55.0", "56.0"}) CHECK_THAT(row_of(alone), !Contains("9") && Contains(">-<"));
  }
  SECTION("where there is nothing to report") {
    fs::path const empty = scratch() / "nothing";
    fs::create_directories(empty);
    outcome const none = l3("report " + quoted(empty));
    CHECK(none.code == 1);
    CHECK_THAT(none.err, Contains("results of eval, baseline, probe, distance or inspect"));
    CHECK_FALSE(fs::exists(empty / "report.html"));
    CHECK(l3("report " + quoted(scratch() / "not there")).code == 1);
  }
}
