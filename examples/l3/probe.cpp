// l3 probe: what a network has learned, told by how well plain classifiers read its features.
#include <cmath>
#include <l3/core/context.hpp>
#include <l3/eval/clustering.hpp>
#include <l3/eval/confusion.hpp>
#include <l3/eval/folds.hpp>
#include <l3/eval/linear_svm.hpp>
#include <l3/eval/standardise.hpp>
#include <l3/files/csv.hpp>
#include <limits>
#include <numeric>
#include <optional>
#include <set>

#include "charts.hpp"
#include "feature_rows.hpp"
#include "network_choice.hpp"
#include "probe_images.hpp"
#include "probe_retrieval.hpp"
#include "results_folder.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct probe_options : feature_options {
  // The sets.
  std::string meta, audio, train, test, data, group;
  bool esc10 = false;
  std::uint32_t folds = 5;
  // The classifier.
  double tolerance = 0.01;
  std::vector<double> costs{1e-5, 1e-4, 1e-3, 1e-2, 1e-1};
  // Clustering.
  std::string what = "audio";
  std::size_t clusters = 0, starts = 10;
};

/// Rows of some files, ready for a classifier.
struct training_rows {
  std::vector<std::uint32_t> which;  ///< rows of the features
  std::vector<std::int32_t> labels;

  void add(labelled_set const& set, feature_rows const& rows, std::size_t file) {
    for (std::size_t r = rows.begin(file); r != rows.end(file); ++r) {
      which.push_back(static_cast<std::uint32_t>(r));
      labels.push_back(set.files[file].label);
    }
  }
};

/// What became of a file that was tested.
struct verdict {
  std::size_t file, fold, predicted;
  double margin;  ///< of the best class's score over the second
};

/// One fold, tested by what all others taught.
struct fold_result {
  std::string name;
  std::size_t train = 0, test = 0, right = 0;
  double cost = 0;
  std::size_t epochs = 0;
  bool converged = true;
  std::size_t constant = 0;
  double accuracy() const { return test == 0 ? 0 : static_cast<double>(right) / static_cast<double>(test); }
};

/// The folds' mean accuracy.
double mean_of(std::vector<fold_result> const& folds) {
  double mean = 0;
  for (fold_result const& f : folds) mean += f.accuracy() / static_cast<double>(folds.size());
  return mean;
}
/// Their sample deviation, of two and more.
std::optional<double> deviation_of(std::vector<fold_result> const& folds) {
  double square = 0;
  for (fold_result const& f : folds) square += (f.accuracy() - mean_of(folds)) * (f.accuracy() - mean_of(folds));
  if (folds.size() < 2) return {};
  return std::sqrt(square / static_cast<double>(folds.size() - 1));
}

/// The protocol of the paper's section 4.2: z-scores by the training files, one linear machine for each class on the
/// rows of single seconds, a file's score the mean of its rows' scores.
class svm_protocol {
 public:
  svm_protocol(probe_options const& o, labelled_set const& set, feature_rows const& rows)
      : o_(o), set_(set), rows_(rows), team_(o.threads), confusion(set.classes.size()) {
    // Every fold is looked at before the first is computed.
    for (auto const fold : set.tests) {
      std::vector<bool> taught(set.classes.size()), tested(set.classes.size());
      for (std::size_t k = 0; k != set.files.size(); ++k)
        if (rows.begin(k) != rows.end(k))
          (set.files[k].fold == fold ? tested : taught)[static_cast<std::size_t>(set.files[k].label)] = true;
      if (std::find(tested.begin(), tested.end(), true) == tested.end())
        throw media_error({"fold " + set.folds[fold], "files to test that can be read",
                           rows.refused.empty() ? "none" : "none (" + rows.refused.front().second + ')'});
      for (std::size_t c = 0; c != set.classes.size(); ++c)
        if (!taught[c])
          throw format_error({"fold " + set.folds[fold], "files of class '" + set.classes[c] + "' in the other folds",
                              tested[c] ? "some in this one alone" : "none that can be read"});
    }
  }

  void run(progress& bar) {
    std::size_t done = 0;
    for (auto const fold : set_.tests) {
      run_fold(fold);
      bar.update(static_cast<double>(++done), text("accuracy %.3f", mean_of(folds)));
      stop_if_signalled();
    }
  }

 private:
  using files = std::vector<std::size_t>;

  void run_fold(std::uint32_t fold) {
    files train, test;
    for (std::size_t k = 0; k != set_.files.size(); ++k)
      if (rows_.begin(k) != rows_.end(k)) (set_.files[k].fold == fold ? test : train).push_back(k);
    fold_result result{.name = set_.folds[fold], .train = train.size(), .test = test.size()};
    result.cost = o_.costs.size() == 1 ? o_.costs.front() : best_cost(train, fold);
    machines const taught(*this, train, {result.cost}, team_);
    linear_svm const& svm = taught.svms.front();
    result.epochs = svm.epochs(), result.converged = svm.converged(), result.constant = taught.scale.constant();
    for (std::size_t const file : test) {
      auto const scores = taught.scores(svm, file);
      auto const best = std::max_element(scores.begin(), scores.end());
      double second = -std::numeric_limits<double>::infinity();
      for (auto each = scores.begin(); each != scores.end(); ++each)
        if (each != best) second = std::max(second, *each);
      auto const predicted = static_cast<std::size_t>(best - scores.begin());
      result.right += predicted == static_cast<std::size_t>(set_.files[file].label);
      confusion.add(static_cast<std::size_t>(set_.files[file].label), predicted);
      verdicts.push_back({file, fold, predicted, *best - second});
    }
    folds.push_back(result);
  }

  /// Machines for each of some costs, on the same rows.
  struct machines {
    svm_protocol const& of;
    standardiser scale;
    std::vector<linear_svm> svms;

    machines(svm_protocol const& protocol, files const& train, std::vector<double> const& costs, thread_team& team)
        : machines(protocol, rows_of(protocol, train), costs, team) {}
    std::vector<double> scores(linear_svm const& svm, std::size_t file) const {
      std::vector<double> sums(svm.classes());
      std::vector<float> row(of.rows_.width);
      for (std::size_t r = of.rows_.begin(file); r != of.rows_.end(file); ++r) {
        scale(of.rows_.row(r).data(), row.data());
        svm.add_scores(row.data(), sums);
      }
      for (double& s : sums) s /= static_cast<double>(of.rows_.end(file) - of.rows_.begin(file));
      return sums;
    }

   private:
    static training_rows rows_of(svm_protocol const& protocol, files const& train) {
      training_rows rows;
      for (std::size_t const file : train) rows.add(protocol.set_, protocol.rows_, file);
      return rows;
    }
    machines(svm_protocol const& protocol, training_rows const& train, std::vector<double> const& costs,
             thread_team& team)
        : of(protocol), scale(protocol.rows_.values, protocol.rows_.width, train.which) {
      std::size_t const width = protocol.rows_.width;
      std::vector<float> scaled(train.which.size() * width);
      team.run(train.which.size(), [&](std::size_t r, std::size_t) {
        scale(protocol.rows_.row(train.which[r]).data(), scaled.data() + r * width);
      });
      // One cost after the other, the classes side by side; or the costs side by side.
      std::vector<std::optional<linear_svm>> made(costs.size());
      auto const teach = [&](std::size_t k, thread_team& with) {
        made[k].emplace(
            with, scaled, width, train.labels, protocol.set_.classes.size(),
            svm_settings{.cost = costs[k], .tolerance = protocol.o_.tolerance, .seed = protocol.o_.network.seed});
      };
      if (costs.size() == 1) {
        teach(0, team);
      } else {
        thread_team alone(1);
        team.run(costs.size(), [&](std::size_t k, std::size_t) { teach(k, alone); });
      }
      for (auto& each : made) svms.push_back(std::move(*each));
    }
  };

  /// The cost that does best when a part of the training files is held out: the first fold behind the tested one beside
  /// which there is some of every class, or where there is none a quarter of the files. Of equals the smallest.
  double best_cost(files const& train, std::uint32_t tested) const {
    std::uint32_t held_out = tested;
    std::vector<std::uint32_t> fold_of;
    for (std::size_t const file : train) fold_of.push_back(set_.files[file].fold);
    // A class of which nothing is left beside what is held out; or none.
    auto const lost = [&](std::uint32_t held) {
      std::vector<bool> seen(set_.classes.size());
      for (std::size_t k = 0; k != train.size(); ++k)
        if (fold_of[k] != held) seen[static_cast<std::size_t>(set_.files[train[k]].label)] = true;
      return std::find(seen.begin(), seen.end(), false) - seen.begin();
    };
    auto const all = static_cast<std::ptrdiff_t>(set_.classes.size());
    for (std::uint32_t step = 1; step != set_.folds.size() && held_out == tested; ++step) {
      auto const next = static_cast<std::uint32_t>((tested + step) % set_.folds.size());
      if (std::find(fold_of.begin(), fold_of.end(), next) != fold_of.end() && lost(next) == all) held_out = next;
    }
    if (held_out == tested) {
      std::vector<std::int32_t> labels;
      std::vector<std::uint32_t> groups;
      for (std::size_t const file : train)
        labels.push_back(set_.files[file].label), groups.push_back(set_.files[file].group);
      constexpr std::uint32_t parts = 4;
      if (std::size_t const found = std::set(groups.begin(), groups.end()).size(); found < parts)
        throw format_error({"files to choose --cost by", "at least four (groups of) files that teach",
                            std::to_string(found) + "; name one --cost"});
      fold_of = stratified_folds(labels, groups, parts, o_.network.seed);
      held_out = 0;
    }
    if (auto const c = lost(held_out); c != all)
      throw format_error({"files to choose --cost by, fold " + set_.folds[tested] + " tested",
                          "some of every class besides those held out",
                          "none of '" + set_.classes[static_cast<std::size_t>(c)] + "'; name one --cost"});
    files taught, judged;
    for (std::size_t k = 0; k != train.size(); ++k) (fold_of[k] == held_out ? judged : taught).push_back(train[k]);
    machines const tried(*this, taught, o_.costs, team_);
    double best = o_.costs.front();
    std::size_t most = 0;
    for (std::size_t k = 0; k != o_.costs.size(); ++k) {
      std::size_t right = 0;
      for (std::size_t const file : judged) {
        auto const scores = tried.scores(tried.svms[k], file);
        right += std::max_element(scores.begin(), scores.end()) - scores.begin() == set_.files[file].label;
      }
      if (right > most) most = right, best = o_.costs[k];
    }
    return best;
  }

  probe_options const& o_;
  labelled_set const& set_;
  feature_rows const& rows_;
  mutable thread_team team_;

 public:
  std::vector<fold_result> folds;
  std::vector<verdict> verdicts;
  confusion_matrix confusion;
};

/// What the paper reports of this protocol, in per cent: learned, and with random weights.
json paper_figures(std::string const& set) {
  if (set == "esc50") return {{"ours", 79.3}, {"ours_random", 62.5}};
  if (set == "dcase") return {{"ours", 93}, {"ours_random", 85}};
  return nullptr;
}

int svm_run(probe_options o, labelled_set const& set) {
  std::sort(o.costs.begin(), o.costs.end());  // of equals the smallest is taken
  results_folder const results(o.out, "svm", {"confusion.csv", "confusion.svg", "predictions.csv"});
  fs::path const out = o.out;
  chosen_network const network = o.network.open(o.threads);
  auto const settings = o.settings(network);
  o.say(text("%s: %zu files of %zu classes, %zu folds tested; %s", set.name.c_str(), set.files.size(),
             set.classes.size(), set.tests.size(), network.identity.c_str()));
  feature_rows const rows = read_features(o, set, modality::sound, network, settings, out / "features.safetensors");
  svm_protocol protocol(o, set, rows);
  progress bar(o, "folds", static_cast<double>(set.tests.size()));
  interruption guard;
  protocol.run(bar);
  bar.finish();

  double const mean = mean_of(protocol.folds);
  auto const deviation = deviation_of(protocol.folds);
  o.answer("fold        train   test     cost  passes  accuracy");
  json folds = json::array();
  bool converged = true;
  for (fold_result const& f : protocol.folds) {
    o.answer(
        text("%-10s %6zu %6zu %8.0e %7zu     %.4f", f.name.c_str(), f.train, f.test, f.cost, f.epochs, f.accuracy()));
    converged = converged && f.converged;
    folds.push_back({{"fold", f.name},
                     {"train", f.train},
                     {"test", f.test},
                     {"cost", f.cost},
                     {"passes", f.epochs},
                     {"converged", f.converged},
                     {"constant_features", f.constant},
                     {"accuracy", f.accuracy()}});
  }
  std::size_t const constant = protocol.folds.front().constant;
  o.answer(text("%s, %s: accuracy %.4f (%schance %.4f)", set.name.c_str(),
                network.trained ? "learned" : "random weights", mean,
                deviation ? text("deviation over folds %.4f; ", *deviation).c_str() : "",
                1 / static_cast<double>(set.classes.size())));
  if (json const paper = paper_figures(set.name); !paper.is_null())
    o.say(text("the paper's network: %.1f %% learned, %.1f %% random", paper["ours"].get<double>(),
               paper["ours_random"].get<double>()));
  o.say(text("features (%zu x %zu) in %s%s, classifiers in %s; results in %s", rows.count(), rows.width,
             short_time(rows.seconds).c_str(), rows.from_cache ? " when they were made" : "",
             short_time(bar.seconds()).c_str(), o.out.c_str()));
  if (constant > 0) o.say(text("%zu features are the same in all training rows and tell nothing", constant));
  if (rows.shorter > 0)
    o.say(text("%zu files are shorter than one second and were %s", rows.shorter,
               o.fill == "repeat" ? "repeated" : "filled up with silence"));
  if (rows.silent > 0) o.warn(text("%zu files are silent", rows.silent));
  if (!converged)
    o.warn("some machines had not settled after all passes: a lower --cost or a higher --tolerance helps");
  if (!rows.refused.empty()) o.warn(text("%zu files were refused and are in no figure", rows.refused.size()));

  json classes = json::array();
  for (std::size_t c = 0; c != set.classes.size(); ++c)
    classes.push_back(
        {{"class", set.classes[c]}, {"files", protocol.confusion.of_class(c)}, {"right", protocol.confusion.at(c, c)}});
  json const result{{"kind", "svm"},
                    {"set", set.name},
                    {"data", !o.data.empty()   ? o.data
                             : !o.meta.empty() ? o.meta
                                               : o.test},
                    {"files", set.files.size() - rows.refused.size()},
                    {"set_print", hex(set.print())},
                    {"model", network.net->facts().name},
                    {"network", network.identity},
                    {"trained", network.trained},
                    {"layer", name_of(settings.which)},
                    {"hop", o.hop},
                    {"settings", {{"cost", o.costs}, {"tolerance", o.tolerance}, {"short", o.fill}}},
                    {"accuracy", mean},
                    {"deviation", deviation ? json(*deviation) : json()},
                    {"chance", 1 / static_cast<double>(set.classes.size())},
                    {"paper", paper_figures(set.name)},
                    {"folds", folds},
                    {"classes", classes},
                    {"rows", rows.count()},
                    {"width", rows.width},
                    {"seconds_features", rows.seconds},
                    {"features_from_cache", rows.from_cache},
                    {"seconds_classifiers", bar.seconds()},
                    {"short", rows.shorter},
                    {"silent", rows.silent},
                    {"refused", refused_files(set, rows)}};
  results.begin();
  write_file(results.file("confusion.csv"), confusion_table(protocol.confusion, set.classes));
  write_file(results.file("confusion.svg"), confusion_chart(protocol.confusion, set.classes));
  std::string predictions = csv_row({"file", "fold", "class", "predicted", "margin"});
  for (verdict const& v : protocol.verdicts)
    predictions += csv_row({set.files[v.file].name, set.folds[v.fold],
                            set.classes[static_cast<std::size_t>(set.files[v.file].label)], set.classes[v.predicted],
                            text("%.6g", v.margin)});
  write_file(results.file("predictions.csv"), predictions);
  results.end(result);
  o.print(result);
  return rows.refused.empty() ? done : some_refused;
}

int cluster_run(probe_options const& o) {
  results_folder const results(o.out, "cluster");
  fs::path const out = o.out;
  modality const what = modality_named(o.what);
  labelled_set const set = read_classes(
      o.data, [&](fs::path const& f) { return suits_embedding(f, o.what); }, 0, o.network.seed, "");
  chosen_network const network = o.network.open(o.threads);
  auto const settings = o.settings(network);
  feature_rows const rows = read_features(o, set, what, network, settings, out / "features.safetensors");
  // A file is the mean of its rows; every feature counts as much as every other.
  std::vector<float> means;
  std::vector<std::int32_t> labels;
  for (std::size_t k = 0; k != set.files.size(); ++k) {
    std::size_t const n = rows.end(k) - rows.begin(k);
    if (n == 0) continue;
    std::vector<double> sum(rows.width);
    for (std::size_t r = rows.begin(k); r != rows.end(k); ++r)
      for (std::size_t d = 0; d != rows.width; ++d) sum[d] += static_cast<double>(rows.row(r)[d]);
    for (double const s : sum) means.push_back(static_cast<float>(s / static_cast<double>(n)));
    labels.push_back(set.files[k].label);
  }
  if (labels.size() < 2) throw media_error({o.data, "at least two files that can be read", "fewer"});
  std::vector<std::uint32_t> all(labels.size());
  std::iota(all.begin(), all.end(), 0u);
  standardiser const scale(means, rows.width, all);
  for (std::size_t k = 0; k != labels.size(); ++k) scale(means.data() + k * rows.width, means.data() + k * rows.width);
  std::size_t const classes = std::set(labels.begin(), labels.end()).size();  // that something could be read of
  if (classes < 2) throw media_error({o.data, "files of at least two classes that can be read", "of one alone"});
  std::size_t const clusters = o.clusters != 0 ? o.clusters : classes;
  if (clusters > labels.size())
    throw setting_error({"--clusters", "at most the number of files that can be read, " + std::to_string(labels.size()),
                         std::to_string(clusters)});
  context<cpu> on(o.threads);
  kmeans_result const found = kmeans(on, std::span<float const>(means), rows.width,
                                     {.clusters = clusters, .starts = o.starts, .seed = o.network.seed});
  agreement const agrees = compare_clusterings(found.cluster, labels);
  o.answer(
      text("%zu files of %zu classes in %zu clusters: normalised mutual information %.4f, adjusted for chance %.4f",
           labels.size(), classes, clusters, agrees.nmi, agrees.ami));
  json const result{{"kind", "cluster"},
                    {"set", o.data},
                    {"set_print", hex(set.print())},
                    {"what", o.what},
                    {"model", network.net->facts().name},
                    {"network", network.identity},
                    {"trained", network.trained},
                    {"layer", name_of(settings.which)},
                    {"hop", o.what == "audio" ? json(o.hop) : json()},
                    {"settings", {{"starts", o.starts}, {"short", o.fill}}},
                    {"files", labels.size()},
                    {"classes", classes},
                    {"clusters", clusters},
                    {"nmi", agrees.nmi},
                    {"ami", agrees.ami},
                    {"refused", refused_files(set, rows)}};
  results.end(result);
  o.print(result);
  return rows.refused.empty() ? done : some_refused;
}

void add_classifier(CLI::App& command, probe_options& o) {
  o.add_to(command);
  comma_list(
      command.add_option("--cost", o.costs,
                         "The machines' C, or several to choose from by a part of the training files that is held out"))
      ->check(above_zero)
      ->capture_default_str();
  command.add_option("--tolerance", o.tolerance, "Of the machines' projected gradient")
      ->capture_default_str()
      ->check(above_zero);
}

}  // namespace

work add_probe(CLI::App& command) {
  command.require_subcommand(1);
  command.footer(
      "Example:\n  l3 probe esc50 --meta ESC-50/meta/esc50.csv --audio ESC-50/audio --checkpoint run/best.safetensors"
      " --out run/probe/esc50");
  auto const o = std::make_shared<probe_options>();

  CLI::App* const esc50 = command.add_subcommand("esc50", "ESC-50, or a set laid out like it: folds as given");
  esc50->add_option("--meta", o->meta, "Its table: filename, fold, category")->required();
  esc50->add_option("--audio", o->audio, "Folder of its sounds")->required();
  esc50->add_flag("--esc10", o->esc10, "Only the files of ESC-10");
  add_classifier(*esc50, *o);
  esc50->footer("Example:\n  l3 probe esc50 --meta meta/esc50.csv --audio audio --random-weights --out random");

  CLI::App* const dcase = command.add_subcommand("dcase", "DCASE acoustic scenes: one list to learn from, one to test");
  dcase->add_option("--train", o->train, "Table filename,scene_label, or folder of files like bus01.wav")->required();
  dcase->add_option("--test", o->test, "The same of what is tested")->required();
  dcase->add_option("--audio", o->audio, "Folder that the tables' names count from; default: theirs or the one above");
  add_classifier(*dcase, *o);
  dcase->footer(
      "Example:\n  l3 probe dcase --train scenes_stereo --test scenes_stereo_testset --checkpoint run/best.safetensors"
      " --out run/probe/dcase");

  CLI::App* const folder = command.add_subcommand("folder", "Your own sounds: a folder for each class, or a table");
  folder->add_option("data", o->data, "Folder of folders, table path,label (fold or a group beside them), or index")
      ->required();
  folder->add_option("--folds", o->folds, "How many, where the table has no column fold")
      ->capture_default_str()
      ->check(CLI::Range(2, 1000).description(""));
  folder->add_option("--group", o->group, "Column of the table: files with the same value stay in one fold");
  add_classifier(*folder, *o);
  folder->footer("Example:\n  l3 probe folder sounds --folds 5 --checkpoint run/best.safetensors --out run/probe/mine");

  CLI::App* const imagenet =
      command.add_subcommand("imagenet", "Pictures in a folder for each class: one linear layer");
  work const images = add_image_probe(*imagenet);

  auto const c = std::make_shared<probe_options>();
  c->pool = "global";
  CLI::App* const cluster = command.add_subcommand("cluster", "Do features fall into the classes by themselves?");
  cluster->add_option("what", c->what, "audio or image")->required()->check(CLI::IsMember({"audio", "image"}));
  cluster->add_option("data", c->data, "Folder of folders, table path,label, or index")->required();
  cluster->add_option("--clusters", c->clusters, "How many; 0: as many as classes")->capture_default_str();
  cluster->add_option("--starts", c->starts, "Beginnings of k-means, of which the tightest result counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000).description(""));
  c->add_to(*cluster);
  cluster->footer("Example:\n  l3 probe cluster audio sounds --checkpoint run/best.safetensors --out run/probe/c");

  CLI::App* const retrieval =
      command.add_subcommand("retrieval", "Your own videos, in classes: does each find its like by sight and sound?");
  work const rankings = add_retrieval_probe(*retrieval);

  return interruptible([=] {
    if (imagenet->parsed()) return images();
    if (retrieval->parsed()) return rankings();
    if (esc50->parsed()) return svm_run(*o, read_esc50(o->meta, o->audio, o->esc10));
    auto const hears = [](fs::path const& f) { return suits_embedding(f, "audio"); };
    if (dcase->parsed()) return svm_run(*o, read_dcase(o->train, o->test, o->audio, hears));
    if (folder->parsed()) return svm_run(*o, read_classes(o->data, hears, o->folds, o->network.seed, o->group));
    return cluster_run(*c);
  });
}

}  // namespace l3::program
