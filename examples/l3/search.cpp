// l3 search: which sounds or pictures of a collection go with a given one.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <l3/core/context.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/eval/standardise.hpp>
#include <limits>
#include <numeric>

#include "feature_rows.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct search_options : feature_options {
  std::string what, in, by;
  std::vector<std::string> queries;
  std::size_t top = 10;
};

char const* kind_name(modality what) { return what == modality::sound ? "audio" : "image"; }
modality kind_named(std::string const& what) { return what == "audio" ? modality::sound : modality::frame; }

/// What of a query is held against the collection: of a video what was chosen, else the sense that is not searched.
modality sense_of(fs::path const& query, search_options const& o) {
  if (suits_embedding(query, "image")) return modality::frame;
  if (!has_video_extension(query)) return modality::sound;
  if (!o.by.empty()) return kind_named(o.by);
  return kind_named(o.what) == modality::sound ? modality::frame : modality::sound;
}

/// How well each row of a collection goes with a row of a query.
class judge {
 public:
  virtual ~judge() = default;
  virtual void operator()(std::span<float const> query, std::span<float> scores) = 0;
};

/// Of the same sense: the cosine of both, each feature's z-score by the collection.
class likeness final : public judge {
 public:
  likeness(feature_rows const& all, std::size_t threads)
      : width_(all.width), rows_(all.values), scale_(rows_, width_, every(all.count())), team_(threads) {
    for (std::size_t r = 0; r != all.count(); ++r) put(rows_.data() + r * width_, rows_.data() + r * width_);
  }
  void operator()(std::span<float const> query, std::span<float> scores) override {
    std::vector<float> q(width_);
    put(query.data(), q.data());
    constexpr std::size_t some = 256;
    team_.run((scores.size() + some - 1) / some, [&](std::size_t task, std::size_t) {
      for (std::size_t r = task * some; r != std::min(scores.size(), (task + 1) * some); ++r)
        scores[r] = vector(rows_.data() + r * width_).dot(vector(q.data()));
    });
  }

 private:
  static std::vector<std::uint32_t> every(std::size_t rows) {
    std::vector<std::uint32_t> all(rows);
    std::iota(all.begin(), all.end(), 0u);
    return all;
  }
  Eigen::Map<Eigen::VectorXf const> vector(float const* x) const { return {x, static_cast<Eigen::Index>(width_)}; }
  /// Its z-scores, of length 1.
  void put(float const* x, float* to) const {
    scale_(x, to);
    float const length = vector(to).norm();
    if (length > 0) std::transform(to, to + width_, to, [&](float v) { return v / length; });
  }

  std::size_t width_;
  std::vector<float> rows_;
  standardiser scale_;
  thread_team team_;
};

/// Of the other sense: the log-odds, in the network's own judgement, that they belong together.
class correspondence_judge final : public judge {
 public:
  correspondence_judge(engine& net, modality searched, feature_rows const& all)
      : net_(net), searched_(searched), all_(all), repeated_(block * all.width), logits_(2 * block) {
    net_.prepare_inference(block);
  }
  void operator()(std::span<float const> query, std::span<float> scores) override {
    for (std::size_t k = 0; k != block; ++k) std::copy(query.begin(), query.end(), repeated_.begin() + offset(k));
    for (std::size_t first = 0; first < scores.size(); first += block) {
      std::size_t const n = std::min(block, scores.size() - first);
      auto const same = std::span<float const>(repeated_).first(n * all_.width);
      auto const rows = std::span<float const>(all_.values).subspan(first * all_.width, n * all_.width);
      if (searched_ == modality::sound)
        net_.score_features(same, rows, n, std::span(logits_).first(2 * n));
      else
        net_.score_features(rows, same, n, std::span(logits_).first(2 * n));
      for (std::size_t k = 0; k != n; ++k) scores[first + k] = logits_[2 * k + 1] - logits_[2 * k];
    }
  }

 private:
  static constexpr std::size_t block = 256;
  std::ptrdiff_t offset(std::size_t row) const { return static_cast<std::ptrdiff_t>(row * all_.width); }

  engine& net_;
  modality searched_;
  feature_rows const& all_;
  std::vector<float> repeated_, logits_;
};

/// A file's row that goes best with a query.
struct finding {
  std::size_t file = 0, row = 0;  ///< the row within the file
  float score = 0;
};

/// The best of all files but the query's own, best first.
std::vector<finding> find(judge& by, feature_rows const& asked, std::size_t query, labelled_set const& set,
                          feature_rows const& rows, fs::path const& own, std::size_t top) {
  std::vector<float> best(rows.count(), -std::numeric_limits<float>::infinity()), scores(rows.count());
  for (std::size_t r = asked.begin(query); r != asked.end(query); ++r) {
    by(asked.row(r), scores);
    std::transform(best.begin(), best.end(), scores.begin(), best.begin(),
                   [](float a, float b) { return std::max(a, b); });
  }
  std::vector<finding> found;
  for (std::size_t k = 0; k != set.files.size(); ++k) {
    std::error_code missing;
    if (rows.begin(k) == rows.end(k) || fs::equivalent(set.files[k].file, own, missing)) continue;
    auto const at = [&](std::size_t row) { return best.begin() + static_cast<std::ptrdiff_t>(row); };
    auto const place = std::max_element(at(rows.begin(k)), at(rows.end(k)));
    found.push_back({k, static_cast<std::size_t>(place - at(rows.begin(k))), *place});
  }
  top = std::min(top, found.size());
  std::partial_sort(
      found.begin(), found.begin() + static_cast<std::ptrdiff_t>(top), found.end(),
      [](finding const& a, finding const& b) { return std::pair(-a.score, a.file) < std::pair(-b.score, b.file); });
  found.resize(top);
  return found;
}

int search_run(search_options const& o) {
  modality const searched = kind_named(o.what);
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
      throw setting_error({"--checkpoint, for " + query + " by its " + kind_name(sense),
                           "an L3-Net, which knows what goes with what", network.net->facts().name});
    if (settings.which.from != depth::pool4)
      throw setting_error({"--layer, for " + query + " by its " + kind_name(sense),
                           "pool4, from where the network judges what goes with what", name_of(settings.which)});
  }
  make_folder(o.out);
  feature_rows const rows = read_features(o, set, searched, network, settings,
                                          fs::path(o.out) / (std::string(kind_name(searched)) + ".safetensors"));
  if (rows.count() == 0) throw media_error({o.in, "files that can be read", "none"});
  feature_rows queries[2];
  for (modality const sense : {modality::frame, modality::sound})
    if (auto const& those = asked[sense == modality::sound]; !those.files.empty())
      queries[sense == modality::sound] = read_features(o, those, sense, network, settings, "");

  std::unique_ptr<judge> judges[2];  // of the same sense, of the other
  json answers = json::array();
  bool refused = !rows.refused.empty();
  for (std::size_t q = 0; q != o.queries.size(); ++q) {
    auto const [sense, place] = places[q];
    feature_rows const& those = queries[sense == modality::sound];
    bool const crosses = sense != searched;
    auto& by = judges[crosses];
    if (by == nullptr && crosses)
      by = std::make_unique<correspondence_judge>(*network.l3, searched, rows);
    else if (by == nullptr)
      by = std::make_unique<likeness>(rows, o.threads);
    json results = json::array();
    bool const readable = those.begin(place) != those.end(place);
    refused = refused || !readable;
    if (readable) o.answer(o.queries[q] + ", by its " + kind_name(sense) + ":");
    for (finding const& f :
         readable ? find(*by, those, place, set, rows, o.queries[q], o.top) : std::vector<finding>()) {
      std::string const& name = set.files[f.file].name;
      bool const has_time = searched == modality::sound || has_video_extension(set.files[f.file].file);
      double const seconds = static_cast<double>(f.row * settings.hop) / sound_rate;
      double const score = crosses ? 1 / (1 + std::exp(-static_cast<double>(f.score))) : static_cast<double>(f.score);
      o.answer(text("%8.4f  %s%s", score, name.c_str(), has_time ? text(" at %.3g s", seconds).c_str() : ""));
      results.push_back({{"file", name}, {"seconds", has_time ? json(seconds) : json()}, {"score", score}});
    }
    answers.push_back({{"query", o.queries[q]},
                       {"by", kind_name(sense)},
                       {"score", crosses ? "probability that they belong together" : "cosine of z-scores"},
                       {"results", std::move(results)}});
  }
  o.print({{"what", o.what},
           {"in", o.in},
           {"network", network.identity},
           {"layer", name_of(settings.which)},
           {"files", set.files.size() - rows.refused.size()},
           {"refused", refused_files(set, rows)},
           {"queries", std::move(answers)}});
  return refused ? some_refused : done;
}

}  // namespace

work add_search(CLI::App& command) {
  auto const o = std::make_shared<search_options>();
  o->pool = "global";
  command.add_option("what", o->what, "What to find: audio or image")
      ->required()
      ->check(CLI::IsMember({"audio", "image"}));
  command.add_option("queries", o->queries, "Pictures, sounds and videos to find it for")->required();
  command.add_option("--in", o->in, "Folder, searched below, or table with a column path: where to look")->required();
  command
      .add_option("--by", o->by,
                  "What of a video to go by: its audio or its image; default: the other than is looked for")
      ->check(CLI::IsMember({"audio", "image"}));
  command.add_option("--top", o->top, "Files to name for each, the best first")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  o->add_to(command);
  command.footer(
      "A picture finds sounds, and a sound pictures, by what the network has learned: whether they belong together.\n"
      "Example:\n  l3 search audio picture.jpg --in sounds --checkpoint run/best.safetensors --out run/search");
  return [o] {
    try {
      return search_run(*o);
    } catch (interrupted const& by) {
      return 128 + by.signal;
    }
  };
}

}  // namespace l3::program
