// l3 search: which sounds or pictures of a collection go with a given one.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <functional>
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

using values = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Rows of so many values, where they are.
Eigen::Map<values const> matrix_of(std::span<float const> x, std::size_t width) {
  auto const w = static_cast<Eigen::Index>(width);
  return {x.data(), static_cast<Eigen::Index>(x.size()) / w, w};
}

/// How well each row of a collection goes with a row of a query.
class judge {
 public:
  virtual ~judge() = default;
  virtual void operator()(std::span<float const> query, std::span<float> scores) const = 0;

 protected:
  explicit judge(thread_team& team) : team_(team) {}
  /// scores[r] = f(r).
  template <class F>
  void for_each_row(std::span<float> scores, F const& f) const {
    constexpr std::size_t some = 256;
    team_.run((scores.size() + some - 1) / some, [&](std::size_t task, std::size_t) {
      for (std::size_t r = task * some; r != std::min(scores.size(), (task + 1) * some); ++r)
        scores[r] = f(static_cast<Eigen::Index>(r));
    });
  }

 private:
  thread_team& team_;
};

/// Of the same sense: the cosine of both, each feature's z-score by the collection.
class likeness final : public judge {
 public:
  likeness(thread_team& team, feature_rows const& all)
      : judge(team), rows_(matrix_of(all.values, all.width)), scale_(all.width, [&](auto&& visit) {
          for (Eigen::Index r = 0; r != rows_.rows(); ++r) visit(rows_.row(r).data());
        }) {
    for (Eigen::Index r = 0; r != rows_.rows(); ++r) {
      scale_(rows_.row(r).data(), rows_.row(r).data());
      rows_.row(r).normalize();
    }
  }
  void operator()(std::span<float const> query, std::span<float> scores) const override {
    Eigen::VectorXf q(rows_.cols());
    scale_(query.data(), q.data());
    q.normalize();
    for_each_row(scores, [&](Eigen::Index r) { return rows_.row(r).dot(q); });
  }

 private:
  values rows_;
  standardiser scale_;
};

/// Of the other sense: the log-odds, by the network's own head, that they belong together.
///
/// The head is dense, ReLU, dense on both features one behind the other (model/fusion.hpp). What a row brings to the
/// hidden layer is computed once, so that a pair costs a sum and a product of that layer's width.
class correspondence_judge final : public judge {
 public:
  correspondence_judge(thread_team& team, engine& net, modality searched, feature_rows const& all) : judge(team) {
    auto const tensor = [&](std::string const& name, std::size_t width) {
      for (tensor_row const& t : net.facts().tensors)
        if (t.name == "fusion." + name)
          return matrix_of(net.weights().subspan(t.offset, std::accumulate(t.shape.begin(), t.shape.end(),
                                                                           std::size_t{1}, std::multiplies<>())),
                           width);
      throw format_error({"the network's head", "fusion." + name, "none"});
    };
    auto const first = tensor("fc1.weight", 2 * all.width),
               second = tensor("fc2.weight", static_cast<std::size_t>(first.rows()));
    auto const d = static_cast<Eigen::Index>(all.width);
    bool const by_picture = searched == modality::sound;
    query_ = by_picture ? first.leftCols(d) : first.rightCols(d);
    rows_ = matrix_of(all.values, all.width) * (by_picture ? first.rightCols(d) : first.leftCols(d)).transpose();
    rows_.rowwise() += tensor("fc1.bias", static_cast<std::size_t>(first.rows())).row(0);
    last_ = second.row(1) - second.row(0);
    auto const biases = tensor("fc2.bias", 2);
    bias_ = biases(0, 1) - biases(0, 0);
  }
  void operator()(std::span<float const> query, std::span<float> scores) const override {
    Eigen::RowVectorXf const q = matrix_of(query, query.size()) * query_.transpose();
    for_each_row(scores, [&](Eigen::Index r) { return bias_ + (rows_.row(r) + q).cwiseMax(0.0f).dot(last_); });
  }

 private:
  values query_, rows_;  ///< (hidden, features) and (rows, hidden)
  Eigen::RowVectorXf last_;
  float bias_ = 0;
};

/// A file's row that goes best with a query.
struct finding {
  std::size_t file = 0, row = 0;  ///< the row within the file
  float score = 0;
};

/// The best of all files but the query's own, best first.
std::vector<finding> find(judge const& by, feature_rows const& asked, std::size_t query, labelled_set const& set,
                          feature_rows const& rows, fs::path const& own, std::size_t top) {
  std::vector<float> best(rows.count(), -std::numeric_limits<float>::infinity()), scores(rows.count());
  for (std::size_t r = asked.begin(query); r != asked.end(query); ++r) {
    by(asked.row(r), scores);
    std::transform(best.begin(), best.end(), scores.begin(), best.begin(),
                   [](float a, float b) { return std::max(a, b); });
  }
  std::vector<finding> all, found;
  for (std::size_t k = 0; k != set.files.size(); ++k) {
    if (rows.begin(k) == rows.end(k)) continue;
    auto const at = [&](std::size_t row) { return best.begin() + static_cast<std::ptrdiff_t>(row); };
    auto const place = std::max_element(at(rows.begin(k)), at(rows.end(k)));
    all.push_back({k, static_cast<std::size_t>(place - at(rows.begin(k))), *place});
  }
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
  bool refused = !rows.refused.empty();
  for (std::size_t q = 0; q != o.queries.size(); ++q) {
    auto const [sense, place] = places[q];
    feature_rows const& those = queries[sense == modality::sound];
    bool const crosses = sense != searched;
    auto& by = judges[crosses];
    if (by == nullptr && crosses)
      by = std::make_unique<correspondence_judge>(team, *network.l3, searched, rows);
    else if (by == nullptr)
      by = std::make_unique<likeness>(team, rows);
    json results = json::array();
    json why;
    for (auto const& [file, reason] : those.refused)
      if (file == place) why = reason;
    std::vector<finding> found;
    if (why.is_null()) {
      o.answer(o.queries[q] + ", by its " + name_of(sense) + ":");
      found = find(*by, those, place, set, rows, o.queries[q], o.top);
    }
    refused = refused || !why.is_null();
    for (finding const& f : found) {
      std::string const& name = set.files[f.file].name;
      bool const has_time = searched == modality::sound || has_video_extension(set.files[f.file].file);
      double const seconds = static_cast<double>(f.row * settings.hop) / sound_rate;
      double const score = crosses ? 1 / (1 + std::exp(-static_cast<double>(f.score))) : static_cast<double>(f.score);
      o.answer(text("%10.6f  %s%s", score, name.c_str(), has_time ? text(" at %.7g s", seconds).c_str() : ""));
      results.push_back({{"file", name}, {"seconds", has_time ? json(seconds) : json()}, {"score", score}});
    }
    answers.push_back({{"query", o.queries[q]},
                       {"by", name_of(sense)},
                       {"score", crosses ? "probability that they belong together" : "cosine of z-scores"},
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
      ->check(above_zero);
  o->add_to(command);
  command.get_option("--out")->description("Folder where features are kept for the next time");
  command.footer(
      "A picture finds sounds, and a sound pictures, by what the network has learned: whether they belong together.\n"
      "Example:\n  l3 search audio picture.jpg --in sounds --checkpoint run/best.safetensors --out run/search");
  return interruptible([o] { return search_run(*o); });
}

}  // namespace l3::program
