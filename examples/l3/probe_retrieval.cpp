// l3 probe retrieval: each video is looked for, by its pictures and by its sound, among all others.
#include "probe_retrieval.hpp"

#include <algorithm>
#include <l3/data/clip_list.hpp>
#include <l3/eval/ranking.hpp>
#include <l3/files/csv.hpp>
#include <set>

#include "matching.hpp"
#include "results_folder.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct retrieval_options : feature_options {
  std::string data;
  std::size_t top = 30;  ///< as "Objects that Sound" (2018) has it
};

/// What became of one video's query.
struct answer {
  std::size_t file;
  double ndcg, chance;  ///< of the other videos, those of its class being looked for
  std::size_t place;    ///< of the video itself by its other sense, from 1 on
};

/// All queries by one sense for what another has.
struct direction {
  modality query, finds;
  std::vector<answer> answers{};

  bool crosses() const { return query != finds; }
  double mean(double answer::*what) const {
    double sum = 0;
    for (answer const& a : answers) sum += a.*what;
    return sum / static_cast<double>(answers.size());
  }
  /// Share of the videos that stand among the first so many.
  double recall(std::size_t first) const {
    auto const found = std::ranges::count_if(answers, [&](answer const& a) { return a.place <= first; });
    return static_cast<double>(found) / static_cast<double>(answers.size());
  }
  double median_place() const {
    std::vector<std::size_t> places;
    for (answer const& a : answers) places.push_back(a.place);
    std::ranges::sort(places);
    std::size_t const n = places.size();
    return static_cast<double>(places[(n - 1) / 2] + places[n / 2]) / 2;
  }
};
constexpr std::size_t recalls[] = {1, 5, 10};

/// Every video asks once. It stands behind all that score as high as itself. By another name, too, it is no other.
void ask(direction& of, judge const& by, labelled_set const& set, std::vector<std::size_t> const& videos,
         feature_rows const& asked, feature_rows const& rows, std::size_t top, progress& bar) {
  for (std::size_t const q : videos) {
    stop_if_signalled();
    auto const found = best_of_files(by, asked, q, rows);
    float const own = std::ranges::find(found, q, &finding::file)->score;
    std::vector<scored> others;
    std::size_t place = 1;
    for (finding const& f : found) {
      if (set.files[f.file].group == set.files[q].group) continue;
      others.push_back({static_cast<double>(f.score), set.files[f.file].label == set.files[q].label});
      place += f.score >= own;
    }
    double const gain = ndcg(others, top);
    for (scored& each : others) each.score = 0;
    of.answers.push_back({q, gain, ndcg(others, top), place});
    bar.update(static_cast<double>(of.answers.size()), text("%s by %s", name_of(of.finds), name_of(of.query)));
  }
}

/// Videos that have rows of both senses, and another of their class.
std::vector<std::size_t> videos_of(labelled_set const& set, feature_rows const& a, feature_rows const& b) {
  std::vector<std::size_t> some;
  std::vector<std::set<std::uint32_t>> of_class(set.classes.size());
  auto const its_class = [&](std::size_t k) -> auto& { return of_class[static_cast<std::size_t>(set.files[k].label)]; };
  for (std::size_t k = 0; k != set.files.size(); ++k) {
    if (a.begin(k) == a.end(k) || b.begin(k) == b.end(k)) continue;
    some.push_back(k);
    its_class(k).insert(set.files[k].group);
  }
  std::erase_if(some, [&](std::size_t k) { return its_class(k).size() < 2; });
  return some;
}

/// Takes the rows of all other files away.
void keep(std::vector<std::size_t> const& files, feature_rows& rows) {
  std::vector<std::int64_t> first{0};
  auto const at = [&](std::size_t row) { return rows.values.begin() + static_cast<std::ptrdiff_t>(row * rows.width); };
  std::size_t kept = 0;
  for (std::size_t k = 0, next = 0; k + 1 != rows.first.size(); ++k) {
    if (next != files.size() && files[next] == k) {
      ++next;
      if (kept != rows.begin(k)) std::copy(at(rows.begin(k)), at(rows.end(k)), at(kept));
      kept += rows.end(k) - rows.begin(k);
    }
    first.push_back(static_cast<std::int64_t>(kept));
  }
  rows.values.resize(kept * rows.width), rows.first = std::move(first);
}

int retrieval_run(retrieval_options const& o) {
  results_folder const results(o.out, "retrieval", {"queries.csv"});
  fs::path const out = o.out;
  labelled_set const set = read_classes(o.data, has_video_extension, 0, o.network.seed, "");
  chosen_network const network = o.network.open(o.threads);
  auto const settings = o.settings(network);
  o.say(text("%zu videos of %zu classes; %s", set.files.size(), set.classes.size(), network.identity.c_str()));
  auto const rows_of = [&](modality what) {
    return read_features(o, set, what, network, settings, out / (std::string(name_of(what)) + ".safetensors"));
  };
  feature_rows pictures = rows_of(modality::frame), sounds = rows_of(modality::sound);
  auto const rows = [&](modality what) -> feature_rows const& { return what == modality::frame ? pictures : sounds; };
  auto const videos = videos_of(set, pictures, sounds);
  std::set<std::int32_t> classes;
  for (std::size_t const v : videos) classes.insert(set.files[v].label);
  if (classes.size() < 2)
    throw media_error({o.data, "videos of two classes at least, two of each, whose pictures and sounds can be read",
                       std::to_string(videos.size()) + " of " + std::to_string(classes.size())});
  keep(videos, pictures), keep(videos, sounds);

  thread_team team(o.threads);
  progress bar(o, "queries", static_cast<double>(videos.size()));
  interruption guard;
  bool const crosses = network.l3 != nullptr && settings.which.from == depth::pool4;
  std::vector<direction> directions;
  for (auto const query : {modality::frame, modality::sound})
    for (auto const finds : {modality::frame, modality::sound}) {
      if (query != finds && !crosses) continue;
      auto const by = make_judge(team, network, query, finds, rows(finds));
      directions.push_back({query, finds});
      ask(directions.back(), *by, set, videos, rows(query), rows(finds), o.top, bar);
    }
  bar.finish();

  std::vector<std::string> why(set.files.size());
  for (feature_rows const* each : {&pictures, &sounds})
    for (auto const& [file, reason] : each->refused) why[file] = reason;
  json refused = json::array();
  for (std::size_t k = 0; k != why.size(); ++k)
    if (!why[k].empty()) refused.push_back({{"file", set.files[k].name}, {"why", why[k]}});
  std::size_t const left_out = set.files.size() - videos.size();
  auto const n = static_cast<double>(videos.size());
  o.answer(text("by     finds  nDCG@%-4zu chance   itself first   in 5    in 10   median place of %zu", o.top,
                videos.size()));
  json all = json::array();
  std::string table = csv_row({"by", "finds", "file", "class", "ndcg", "chance", "place"});
  for (direction const& d : directions) {
    std::string line = text("%-6s %-6s %8.4f %7.4f", name_of(d.query), name_of(d.finds), d.mean(&answer::ndcg),
                            d.mean(&answer::chance));
    json itself;
    if (d.crosses()) {
      line += text("         %.4f %7.4f %7.4f   %g", d.recall(1), d.recall(5), d.recall(10), d.median_place());
      itself = {{"median_place", d.median_place()}, {"chance_place", (n + 1) / 2}};
      for (std::size_t const k : recalls)
        itself["first_" + std::to_string(k)] = d.recall(k),
                          itself["chance_" + std::to_string(k)] = std::min(1.0, static_cast<double>(k) / n);
    }
    o.answer(line);
    all.push_back({{"by", name_of(d.query)},
                   {"finds", name_of(d.finds)},
                   {"score", score_name(d.query, d.finds)},
                   {"ndcg", d.mean(&answer::ndcg)},
                   {"chance", d.mean(&answer::chance)},
                   {"itself", std::move(itself)}});
    for (answer const& a : d.answers) {
      labelled_file const& f = set.files[a.file];
      table += csv_row({name_of(d.query), name_of(d.finds), f.name, set.classes[static_cast<std::size_t>(f.label)],
                        text("%.6f", a.ndcg), text("%.6f", a.chance), d.crosses() ? std::to_string(a.place) : ""});
    }
  }
  if (!crosses)
    o.say("one sense is not looked for by the other: that takes an L3-Net, by --layer pool4 and --pool global");
  if (left_out > 0) o.say(text("%zu videos are in no figure: refused, or the only one of their class", left_out));
  json const result{{"kind", "retrieval"},
                    {"set", o.data},
                    {"set_print", hex(set.print())},
                    {"model", network.net->facts().name},
                    {"network", network.identity},
                    {"trained", network.trained},
                    {"layer", name_of(settings.which)},
                    {"hop", o.hop},
                    {"top", o.top},
                    {"settings", {{"short", o.fill}}},
                    {"videos", videos.size()},
                    {"left_out", left_out},
                    {"classes", classes.size()},
                    {"directions", std::move(all)},
                    {"refused", refused}};
  results.begin();
  write_file(results.file("queries.csv"), table);
  results.end(result);
  o.print(result);
  return refused.empty() ? done : some_refused;
}

}  // namespace

work add_retrieval_probe(CLI::App& command) {
  auto const o = std::make_shared<retrieval_options>();
  o->pool = "global", o->hop = 1;
  command.add_option("data", o->data, "Folder of videos in a folder for each class, table path,label, or index")
      ->required();
  command.add_option("--top", o->top, "Places of a ranking that count")->capture_default_str()->check(above_zero);
  o->add_to(command);
  command.get_option("--hop")->description("Seconds from one second of a sound, or from one picture, to the next");
  command.get_option("--pool")->description(
      "global: the largest value of each filter; grid: of each filter and region, by likeness alone");
  command.footer(
      "Sounds are looked for by pictures, pictures by sounds, and both by their like: see l3 search.\n"
      "Example:\n  l3 probe retrieval videos/test.csv --checkpoint run/best.safetensors --out run/probe/retrieval");
  return [o] { return retrieval_run(*o); };
}

}  // namespace l3::program
