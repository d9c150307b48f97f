// l3 search: which sounds or pictures of a collection go with a given one.
#include <algorithm>
#include <cmath>
#include <l3/core/context.hpp>
#include <l3/data/clip_list.hpp>

#include "matching.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct search_options : feature_options {
  std::string what, in, by;
  std::vector<std::string> queries;
  std::size_t top = 10;
};

/// What of a query is held against the collection. Of a video, or what no ending tells, it is what was chosen; of a
/// video else the sense that is not searched. Errors  setting_error: a file of no known kind.
modality sense_of(std::string const& query, search_options const& o) {
  bool const is_video = has_video_extension(query);
  if (suits_embedding(query, "image")) return modality::frame;
  if (!is_video && suits_embedding(query, "audio")) return modality::sound;
  if (!o.by.empty()) return modality_named(o.by);
  if (!is_video)
    throw setting_error({query, "a name that ends like a picture's, a sound's or a video's, or --by", "neither"});
  return modality_named(o.what) == modality::sound ? modality::frame : modality::sound;
}

/// The best of all files but the query's own, best first.
std::vector<finding> find(judge const& by, feature_rows const& asked, std::size_t query, labelled_set const& set,
                          feature_rows const& rows, fs::path const& own, std::size_t top) {
  std::vector<finding> all = best_of_files(by, asked, query, rows), found;
  std::sort(all.begin(), all.end(), [](finding const& a, finding const& b) {
    return std::pair(-a.score, a.file) < std::pair(-b.score, b.file);
  });
  for (auto each = all.begin(); each != all.end() && found.size() < top; ++each) {
    std::error_code missing;
    if (!fs::equivalent(set.files[each->file].file, own, missing)) found.push_back(*each);
  }
  return found;
}

int search_run(search_options const& o) {
  modality const searched = modality_named(o.what);
  labelled_set const set =
      read_files(o.in, [&](fs::path const& f) { return suits_embedding(f, o.what) || has_video_extension(f); });
  chosen_network const network = o.network.open(o.threads);
  auto const settings = o.settings(network);
  labelled_set asked[2];  // pictures, sounds
  std::vector<std::pair<modality, std::size_t>> places;
  for (std::string const& query : o.queries) {
    modality const sense = sense_of(query, o);
    auto& files = asked[sense == modality::sound].files;
    places.emplace_back(sense, files.size());
    files.push_back({.file = query, .name = query});
    if (sense == searched) continue;
    if (network.l3 == nullptr)
      throw setting_error({"--checkpoint, for " + query + " by its " + name_of(sense),
                           "an L3-Net, which knows what goes with what", network.net->facts().name});
    if (settings.which.from != depth::pool4)
      throw setting_error({"--layer and --pool, for " + query + " by its " + name_of(sense),
                           "pool4, global, by which the network judges what goes with what", name_of(settings.which)});
  }
  make_folder(o.out);
  feature_rows queries[2];
  for (modality const sense : {modality::frame, modality::sound})
    if (auto const& those = asked[sense == modality::sound]; !those.files.empty())
      queries[sense == modality::sound] = read_features(o, those, sense, network, settings, "");
  feature_rows const rows = read_features(o, set, searched, network, settings,
                                          fs::path(o.out) / (std::string(name_of(searched)) + ".safetensors"));
  if (rows.count() == 0) throw media_error({o.in, "files that can be read", "none"});

  thread_team team(o.threads);
  std::unique_ptr<judge const> judges[2];  // of the same sense, of the other
  json answers = json::array();
  std::size_t refused = 0;
  std::string first_reason;
  for (std::size_t q = 0; q != o.queries.size(); ++q) {
    auto const [sense, place] = places[q];
    feature_rows const& those = queries[sense == modality::sound];
    bool const crosses = sense != searched;
    auto& by = judges[crosses];
    if (by == nullptr) by = make_judge(team, network, sense, searched, rows);
    json results = json::array();
    json why;
    for (auto const& [file, reason] : those.refused)
      if (file == place) why = reason;
    std::vector<finding> found;
    if (why.is_null()) {
      o.answer(printable(o.queries[q], true) + ", by its " + name_of(sense) + ":");
      found = find(*by, those, place, set, rows, o.queries[q], o.top);
    }
    if (!why.is_null() && refused++ == 0) first_reason = why.get<std::string>();
    for (finding const& f : found) {
      std::string const& name = set.files[f.file].name;
      std::string const shown = printable(name, true);
      bool const has_time = searched == modality::sound || has_video_extension(set.files[f.file].file);
      double const seconds = rows.seconds_of(f.file, f.row, settings.hop);
      double const score = crosses ? 1 / (1 + std::exp(-static_cast<double>(f.score))) : static_cast<double>(f.score);
      o.answer(text("%10.6f  %s%s", score, shown.c_str(), has_time ? text(" at %.7g s", seconds).c_str() : ""));
      results.push_back({{"file", name}, {"seconds", has_time ? json(seconds) : json()}, {"score", score}});
    }
    answers.push_back({{"query", o.queries[q]},
                       {"by", name_of(sense)},
                       {"score", score_name(sense, searched)},
                       {"refused", std::move(why)},
                       {"results", std::move(results)}});
  }
  o.print({{"what", o.what},
           {"in", o.in},
           {"network", network.identity},
           {"layer", name_of(settings.which)},
           {"files", set.files.size() - rows.refused.size()},
           {"refused", refused_files(set, rows)},
           {"queries", std::move(answers)}});
  return o.ended(o.queries.size() - refused, refused + rows.refused.size(), first_reason);
}

}  // namespace

work add_search(CLI::App& command) {
  auto const o = std::make_shared<search_options>();
  o->pool = "global";
  command.add_option("what", o->what, "What to find: audio or image")
      ->required()
      ->check(CLI::IsMember({"audio", "image"}));
  command.add_option("queries", o->queries, "Pictures, sounds and videos to find it for")->required();
  command.add_option("--in", o->in, "Folder, searched below, table with a column path, or index: where to look")
      ->required();
  command
      .add_option("--by", o->by,
                  "What of a video to go by: its audio or its image; default: the other than is looked for")
      ->check(CLI::IsMember({"audio", "image"}));
  command.add_option("--top", o->top, "Files to name for each, the best first")
      ->capture_default_str()
      ->check(above_zero);
  o->add_to(command);
  command.get_option("--out")->description("Folder where features are kept for the next time");
  command.footer(
      "A picture finds sounds, and a sound pictures, by what the network has learned: whether they belong together.\n"
      "Example:\n  l3 search audio picture.jpg --in sounds --checkpoint run/best.safetensors --out run/search");
  return interruptible([o] { return search_run(*o); });
}

}  // namespace l3::program
