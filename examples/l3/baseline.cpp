// l3 baseline: what supervised networks reach, to compare with: the paper's section 4.1.
#include <cmath>
#include <l3/eval/roc.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/train/classifier_checkpoint.hpp>

#include "feature_rows.hpp"
#include "lessons.hpp"
#include "results_folder.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct baseline_options : training_options {
  std::string what, init, vision, audio, test, checkpoint;
  bool freeze = false, random = false;
  std::uint32_t test_pairs = 2000;
};

/// What tells these classifiers from others; nothing if they are not there any more.
std::string print_of_both(std::string const& vision, std::string const& audio) {
  if (!fs::exists(vision) || !fs::exists(audio)) return {};
  return hex(fingerprint_of(audio, fingerprint_of(vision)));
}

training_end train_trunk(CLI::App& command, baseline_options o) {
  if (o.again.empty()) o.again = "l3 baseline trunk " + o.what + " --out " + o.out + " --resume";
  extra_settings const extra{
      {"task", "classifier"}, {"backend", o.on.name}, {"what", o.what}, {"init", o.init}, {"freeze", o.freeze}};
  crew alone;
  return run_training(
      command, o, extra,
      [](training_options const& options, extra_settings& settings, collection const& train, collection const& valid) {
        auto made = std::make_unique<classifier_lesson>(options, modality_named(settings["what"].get<std::string>()),
                                                        train, valid, settings["init"].get<std::string>(),
                                                        settings["freeze"].get<bool>());
        settings["classes"] = made->classes();
        return made;
      },
      alone);
}

training_end train_fusion(CLI::App& command, baseline_options const& o) {
  extra_settings const extra{{"task", "fusion"}, {"backend", o.on.name}, {"vision", o.vision}, {"audio", o.audio}};
  crew alone;
  return run_training(
      command, o, extra,
      [&](training_options const& options, extra_settings& settings, collection const&, collection const&) {
        std::pair const trunks(settings["vision"].get<std::string>(), settings["audio"].get<std::string>());
        if (auto const print = print_of_both(trunks.first, trunks.second); !print.empty()) settings["trunks"] = print;
        return std::make_unique<correspondence_lesson>(options, pairing::all, alone, trunks);
      },
      alone);
}

/// How well fixed pairs were told.
struct outcome {
  correspondence result;
  double auc = 0, threshold = 0;
};
json as_json(outcome const& r) {
  return {{"pairs", r.result.pairs},
          {"accuracy", r.result.accuracy},
          {"interval", r.result.interval},
          {"auc", r.auc},
          {"confusion", r.result.confusion}};
}

loader_options fixed_pair_options(baseline_options const& o, std::uint32_t pairs, std::string const& data) {
  loader_options reading{.seed = o.seed,
                         .batch = 64,
                         .pairs = pairing::paper,
                         .evaluation_pairs = pairs,
                         .workers = o.readers(o.workers),
                         .name = data};
  reading.limits.seconds = o.seconds;
  reading.on_refusal = [&o](refusal const& r) { o.warn(refusal_warning(r)); };
  return reading;
}

/// A subnetwork's classifier, and the names of its classes.
struct trained_classifier {
  std::string model;
  std::vector<std::string> names;
  std::unique_ptr<classifier_engine> net;

  trained_classifier(std::string const& checkpoint, modality what, backend_choice const& on, std::size_t threads)
      : model(model_of_checkpoint(checkpoint)),
        net(make_classifier({model, what, classes_of(checkpoint, names), 64}, on, threads)) {
    net->load(checkpoint, false);
    net->prepare_inference(64);
  }
  /// (count, classes), each row's sum 1.
  std::vector<float> probabilities(item_spans const& items, std::size_t count) {
    std::vector<float> p(count * names.size());
    net->score(items, count, p);
    for (std::size_t k = 0; k != count; ++k) {
      auto const row = std::span(p).subspan(k * names.size(), names.size());
      float const largest = *std::max_element(row.begin(), row.end());
      float total = 0;
      for (float& s : row) total += s = std::exp(s - largest);
      for (float& s : row) s /= total;
    }
    return p;
  }

 private:
  static std::size_t classes_of(std::string const& checkpoint, std::vector<std::string>& names) {
    try {
      parse_json<json>(read_checkpoint_facts(checkpoint).settings, checkpoint).at("classes").get_to(names);
      if (names.size() != classes_of_checkpoint(checkpoint))
        throw format_error({checkpoint, "a name for each class", std::to_string(names.size()) + " names"});
    } catch (json::exception const&) {
      throw format_error({checkpoint, "a checkpoint of `l3 baseline trunk`, with the names of its classes", "another"});
    }
    return names.size();
  }
};

/// The scalar product of what both classifiers say, over a threshold that does best on validation pairs.
std::pair<outcome, outcome> direct(baseline_options const& o, std::string const& vision, std::string const& audio) {
  trained_classifier frames(vision, modality::frame, o.on, o.threads), sounds(audio, modality::sound, o.on, o.threads);
  if (frames.names != sounds.names) throw format_error({audio, "the classes of " + vision, "others"});
  if (frames.model != sounds.model) throw format_error({audio, "model " + frames.model, sounds.model});
  auto const input = make_input(frames.model);
  struct judged {
    double score;
    std::int32_t label;
    std::uint32_t clip;
  };
  auto const scores_of = [&](std::string const& data, std::uint32_t count) {
    std::vector<judged> all;
    progress bar(o, "pairs", count);
    fixed_pairs pairs(*input, open_collection(data), fixed_pair_options(o, count, data), frames.net->takes_raw(), 0);
    pairs.for_each([&](feed_batch const& b) {
      auto const p = frames.probabilities(items_of(b, modality::frame), b.count);
      auto const q = sounds.probabilities(items_of(b, modality::sound), b.count);
      std::size_t const classes = frames.names.size();
      for (std::size_t k = 0; k != b.count; ++k) {
        double product = 0;
        for (std::size_t c = 0; c != classes; ++c)
          product += static_cast<double>(p[k * classes + c]) * static_cast<double>(q[k * classes + c]);
        all.push_back({product, b.labels[k], b.frame_clips[k]});
      }
      bar.update(static_cast<double>(all.size()), "");
    });
    return all;
  };
  auto const curve_of = [](std::vector<judged> const& all) {
    std::vector<scored> scores;
    for (judged const& j : all) scores.push_back({j.score, j.label == 1});
    return roc_curve(scores);
  };
  auto const told = [&](std::vector<judged> const& all, double threshold) {
    correspondence_meter meter;
    for (judged const& j : all) {
      float const logits[2] = {0, j.score >= threshold ? 1.0f : -1.0f};
      meter.add(logits, {&j.label, 1}, {&j.clip, 1});
    }
    return outcome{meter.result(o.seed), roc_area(curve_of(all)), threshold};
  };
  auto const valid = scores_of(o.valid, o.valid_pairs);
  double const threshold = best_point(curve_of(valid)).threshold;
  return {told(valid, threshold), told(scores_of(o.test, o.test_pairs), threshold)};
}

/// An L³-Net on the test's pairs; or one of the same model that has learned nothing.
outcome correspondence_of(baseline_options const& o, std::string const& checkpoint, bool learned = true) {
  std::string const model = model_of_checkpoint(checkpoint);
  auto const net = make_engine(model, o.on, o.threads);
  if (learned)
    net->load(checkpoint, false);
  else
    net->initialise(o.seed);
  net->prepare_inference(64);
  auto const input = make_input(model);
  fixed_pairs pairs(*input, open_collection(o.test), fixed_pair_options(o, o.test_pairs, o.test), net->takes_raw(), 0);
  progress bar(o, "pairs", o.test_pairs);
  std::size_t seen = 0;
  crew alone;
  evaluation const e = evaluate(*net, pairs, o.seed, alone, [&](feed_batch const& b, std::span<float const>) {
    bar.update(static_cast<double>(seen += b.count), "");
  });
  return {e.result, roc_area(e.curve())};
}

int direct_run(baseline_options const& o) {
  std::optional<results_folder> results;
  if (!o.out.empty()) results.emplace(o.out, "direct");
  auto const [valid, test] = direct(o, o.vision, o.audio);
  o.answer(
      text("direct: accuracy %.4f (95 %% interval %.4f-%.4f), area under ROC %.4f; threshold %.4g, with which "
           "validation pairs give %.4f",
           test.result.accuracy, test.result.interval[0], test.result.interval[1], test.auc, test.threshold,
           valid.result.accuracy));
  json result{{"kind", "direct"}, {"threshold", test.threshold}, {"test", as_json(test)}, {"valid", as_json(valid)}};
  if (results) results->end(result);
  o.print(result);
  return done;
}

/// All baselines one after the other, and the paper's table. What is there already is gone on with.
int all_run(CLI::App& command, baseline_options const& o) {
  fs::path const out = o.out;
  // What the last stage needs is looked at before the first.
  open_collection(o.test);
  if (!o.checkpoint.empty()) model_of_checkpoint(o.checkpoint);
  results_folder const results(out, "baselines");
  int code = done;
  auto const stage = [&](char const* name, auto&& train, auto&& set) {
    baseline_options part = o;
    part.out = (out / name).string();
    part.resume = fs::exists(out / name / "config.json");
    part.again = "the same command";
    set(part);
    o.say(std::string("-- ") + name);
    training_end const end = train(command, part);
    code = end.code;
    return fs::exists(end.best) ? end.best.string() : end.last.string();
  };
  std::string const vision = stage("vision", train_trunk, [](baseline_options& p) { p.what = "vision"; });
  if (code != done) return code;
  std::string const audio = stage("audio", train_trunk, [](baseline_options& p) { p.what = "audio"; });
  if (code != done) return code;
  // A head that was trained on other classifiers is no use for these.
  if (fs::path const config = out / "pretrain" / "config.json"; fs::exists(config)) {
    json const old = json_if_any(read_file(config, 1 << 20));
    if (!old.is_object() || old.value("trunks", json()) != print_of_both(vision, audio)) {
      o.say("The classifiers have changed since the fusion head was trained: it begins anew (the old one is in " +
            (out / "pretrain.old").string() + ")");
      fs::remove_all(out / "pretrain.old");
      fs::rename(out / "pretrain", out / "pretrain.old");
    }
  }
  std::string const pretrained =
      stage("pretrain", train_fusion, [&](baseline_options& p) { p.vision = vision, p.audio = audio; });
  if (code != done) return code;

  o.say("-- test");
  json rows = json::array();
  o.answer("                                        here   95 % interval    paper: Kinetics-Sounds  Flickr-SoundNet");
  auto const row = [&](char const* name, std::optional<outcome> const& r, char const* kinetics, char const* flickr) {
    std::string const here = r ? text("%5.1f   %5.1f - %5.1f", 100 * r->result.accuracy, 100 * r->result.interval[0],
                                      100 * r->result.interval[1])
                               : std::string(" 50.0                ");
    o.answer(text("%-38s %s   %12s           %12s", name, here.c_str(), kinetics, flickr));
    rows.push_back({{"name", name},
                    {"accuracy", r ? r->result.accuracy : 0.5},
                    {"interval", r ? json(r->result.interval) : json()},
                    {"auc", r ? json(r->auc) : json()},
                    {"paper_kinetics_sounds", kinetics},
                    {"paper_flickr_soundnet", flickr}});
  };
  row("chance", {}, "50", "50");
  row("L3-Net, random weights", correspondence_of(o, vision, false), "", "");
  row("supervised, direct combination", direct(o, vision, audio).second, "65", "-");
  row("supervised pretraining", correspondence_of(o, pretrained), "74", "-");
  if (!o.checkpoint.empty()) row("L3-Net, audio-visual correspondence", correspondence_of(o, o.checkpoint), "74", "78");
  json const result{{"kind", "baselines"}, {"test", o.test}, {"pairs", o.test_pairs}, {"rows", rows}};
  results.end(result);
  o.print(result);
  return done;
}

}  // namespace

work add_baseline(CLI::App& command) {
  command.require_subcommand(1);
  command.footer(
      "Videos need labels: a column `label`, or a folder for each class.\n"
      "Example:\n  l3 baseline all --train train.csv --valid valid.csv --test test.csv --checkpoint "
      "run/best.safetensors"
      " --out run/baselines");

  auto const t = std::make_shared<baseline_options>();
  CLI::App* const trunk = command.add_subcommand("trunk", "Train one subnetwork to tell classes, from labels");
  trunk->add_option("what", t->what, "vision or audio")->required()->check(CLI::IsMember({"vision", "audio"}));
  t->training_options::add_to(*trunk);
  trunk->add_option("--init", t->init, "Begin with the subnetwork of this checkpoint: fine-tuning");
  trunk->add_flag("--freeze", t->freeze, "The subnetwork stays as it is; only the layers above it learn");
  trunk->footer(
      "Example:\n  l3 baseline trunk audio --train train.csv --valid valid.csv --init run/best.safetensors --out "
      "tuned");

  auto const d = std::make_shared<baseline_options>();
  CLI::App* const combine = command.add_subcommand("direct", "Pairs told by whether both classifiers name one class");
  combine->add_option("--vision", d->vision, "Checkpoint of `baseline trunk vision`")->required();
  combine->add_option("--audio", d->audio, "Checkpoint of `baseline trunk audio`")->required();
  combine->add_option("--valid", d->valid, "DATA to choose the threshold on")->required();
  combine->add_option("--test", d->test, "DATA to test on")->required();
  combine->add_option("--out,-o", d->out, "Folder for result.json; none: not kept");
  combine->add_option("--valid-pairs", d->valid_pairs, "Pairs to choose the threshold on")
      ->capture_default_str()
      ->check(above_zero)
      ->check(even);
  combine->add_option("--pairs", d->test_pairs, "Pairs to test on")
      ->capture_default_str()
      ->check(above_zero)
      ->check(even);
  combine->add_option("--seed", d->seed, "Which pairs")->capture_default_str();
  add_clip_seconds(*combine, d->seconds);
  combine->footer(
      "Example:\n  l3 baseline direct --vision vision/best.safetensors --audio audio/best.safetensors --valid valid.csv"
      " --test test.csv");
  d->on.add_to(*combine);
  d->common_options::add_to(*combine);

  auto const p = std::make_shared<baseline_options>();
  CLI::App* const pretrain =
      command.add_subcommand("pretrain", "Train the fusion head alone, on subnetworks that learned from labels");
  p->training_options::add_to(*pretrain);
  pretrain->add_option("--vision", p->vision, "Checkpoint of `baseline trunk vision`, or of an L3-Net");
  pretrain->add_option("--audio", p->audio, "Checkpoint of `baseline trunk audio`, or of an L3-Net");
  pretrain->footer(
      "The result is an L3-Net like any other, for `l3 eval`.\n"
      "Example:\n  l3 baseline pretrain --vision vision/best.safetensors --audio audio/best.safetensors"
      " --train train.csv --valid valid.csv --out pretrained");

  auto const a = std::make_shared<baseline_options>();
  CLI::App* const all = command.add_subcommand("all", "Every baseline, then the paper's table beside your network");
  a->training_options::add_to(*all);
  all->add_option("--test", a->test, "DATA to test on")->required();
  all->add_option("--test-pairs", a->test_pairs, "Pairs to test on")
      ->capture_default_str()
      ->check(above_zero)
      ->check(even);
  all->add_option("--checkpoint", a->checkpoint, "Your network, as `l3 train` writes it; none: left out");
  all->footer(
      "OUT gets a run each in vision, audio and pretrain; the same command goes on where it was interrupted.\n"
      "Example:\n  l3 baseline all --model tiny --train train.csv --valid valid.csv --test test.csv"
      " --checkpoint run/best.safetensors --out run/baselines");

  return [=] {
    auto const finish = [](auto const& o, training_end const& end) {
      o->print(end.result);
      return end.code;
    };
    if (trunk->parsed()) return finish(t, train_trunk(*trunk, *t));
    if (combine->parsed()) return direct_run(*d);
    if (pretrain->parsed()) {
      if (!p->resume && (p->vision.empty() || p->audio.empty()))
        throw setting_error({p->vision.empty() ? "--vision" : "--audio", "a checkpoint", "nothing"});
      return finish(p, train_fusion(*pretrain, *p));
    }
    return all_run(*all, *a);
  };
}

}  // namespace l3::program
