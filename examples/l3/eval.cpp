// l3 eval: how well a network tells pairs that correspond from pairs that do not.
#include <algorithm>
#include <cmath>
#include <l3/data/refusal_lines.hpp>
#include <l3/files/csv.hpp>
#include <l3/files/wav.hpp>
#include <l3/version.hpp>
#include <map>
#include <optional>
#include <set>

#include "batch_dump.hpp"
#include "evaluate.hpp"
#include "network_choice.hpp"
#include "results_folder.hpp"
#ifdef L3_WITH_MEDIA
#include "canvas.hpp"
#endif

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct eval_options : common_options {
  std::string checkpoint, data, out, dump;
  backend_choice on;
  std::size_t batch = 64, workers = 0, mistakes = 12;
  std::uint32_t pairs = 2000;
  std::uint64_t seed = 0;
  double seconds = 10;
};

/// How pairs with frames of one class were told.
struct class_row {
  std::size_t positives = 0, found = 0;           ///< and said to correspond
  std::size_t negatives = 0, rejected = 0;        ///< with sounds of other classes, and said not to
  std::size_t same_class = 0, same_rejected = 0;  ///< with sounds of the same class, of another video
};

json class_table(eval_options const& o, clip_list const& clips, std::vector<judged_pair> const& pairs) {
  std::map<std::string, class_row> rows;
  for (judged_pair const& p : pairs) {
    std::string const& label = clips.label(p.frame_clip);
    std::string const& heard = clips.label(p.sound_clip);
    if (label.empty() || heard.empty()) continue;  // nobody knows whether the classes are the same
    class_row& row = rows[label];
    bool const same = label == heard;
    ++(p.positive() ? row.positives : same ? row.same_class : row.negatives);
    if (p.right()) ++(p.positive() ? row.found : same ? row.same_rejected : row.rejected);
  }
  if (rows.size() < 2) return nullptr;  // no labels
  json table = json::array();
  o.say("class                     found         other class rejected   same class rejected");
  for (auto const& [label, r] : rows) {
    o.say(text("%-22s %5zu of %-5zu      %5zu of %-5zu          %5zu of %-5zu",
               std::string(detail::beginning_of(label, 22)).c_str(), r.found, r.positives, r.rejected, r.negatives,
               r.same_rejected, r.same_class));
    table.push_back({{"class", label},
                     {"positives", r.positives},
                     {"found", r.found},
                     {"negatives_other_class", r.negatives},
                     {"rejected_other_class", r.rejected},
                     {"negatives_same_class", r.same_class},
                     {"rejected_same_class", r.same_rejected}});
  }
  return table;
}

/// Those of an earlier run are removed, and nothing else.
constexpr char const* mistakes_names = "[0-9]+-(missed|confused)\\.(png|wav)|mistakes\\.csv";

#ifdef L3_WITH_MEDIA
/// The pairs that the network was surest of and wrong about, half of each kind, the surest first.
std::vector<std::size_t> worst_of(std::vector<judged_pair> const& pairs, std::size_t count) {
  std::vector<std::size_t> worst;
  for (bool const positive : {false, true}) {
    std::vector<std::size_t> wrong;
    for (std::size_t k = 0; k != pairs.size(); ++k)
      if (pairs[k].positive() == positive && !pairs[k].right()) wrong.push_back(k);
    std::stable_sort(wrong.begin(), wrong.end(), [&](std::size_t a, std::size_t b) {
      return std::abs(pairs[a].score()) > std::abs(pairs[b].score());
    });
    wrong.resize(std::min(wrong.size(), (count + (positive ? 0 : 1)) / 2));
    worst.insert(worst.end(), wrong.begin(), wrong.end());
  }
  return worst;
}

/// The mistakes as pictures and sounds, with a table.
json write_mistakes(eval_options const& o, collection const& data, std::vector<judged_pair> const& pairs,
                    decode_limits const& limits) {
  fs::path const folder = fs::path(o.out) / "mistakes";
  remove_files(folder, mistakes_names);
  json list = json::array();
  std::string table =
      csv_row({"picture", "sound", "said", "score", "frame_of", "frame_time", "sound_of", "sound_start"});
  for (std::size_t const k : worst_of(pairs, o.mistakes)) {
    judged_pair const& p = pairs[k];
    std::string const stem = text("%02zu-%s", list.size() + 1, p.positive() ? "missed" : "confused");
    rgb_frame picture;
    std::string sound;
    try {
      picture = picture_of(data, p.frame_clip, p.frame_time, 256, limits);
      sound = wav_of(second_of(data, p.sound_clip, p.sound_start, limits), sound_rate);
    } catch (unusable_file const& e) {  // a video that is gone by now
      require_memory_left();
      o.warn(e.what());
      continue;
    }
    write_png(folder / (stem + ".png"), picture);
    write_file(folder / (stem + ".wav"), sound);
    std::string const frame_of(data.clips.name(p.frame_clip)), sound_of(data.clips.name(p.sound_clip));
    char const* const said = p.positive() ? "do not correspond" : "correspond";
    table += csv_row({stem + ".png", stem + ".wav", said, text("%.4f", p.score()), frame_of, text("%.3f", p.frame_time),
                      sound_of, text("%.3f", p.sound_start)});
    list.push_back({{"picture", "mistakes/" + stem + ".png"},
                    {"sound", "mistakes/" + stem + ".wav"},
                    {"said", said},
                    {"score", p.score()},
                    {"frame_of", frame_of},
                    {"frame_time", p.frame_time},
                    {"sound_of", sound_of},
                    {"sound_start", p.sound_start}});
  }
  write_file(folder / "mistakes.csv", table);
  return list;
}
#else
json write_mistakes(eval_options const& o, collection const&, std::vector<judged_pair> const&, decode_limits const&) {
  remove_files(fs::path(o.out) / "mistakes", mistakes_names);
  return json::array();
}
#endif

int eval_run(eval_options o, crew& all) {
  if (!all.is_first()) o.quiet = true;
  if (o.batch < 2) throw setting_error({"--batch", "at least 2", std::to_string(o.batch)});
  std::string const model = model_of_checkpoint(o.checkpoint);
  auto const net = make_engine(model, o.on, o.threads);
  net->load(o.checkpoint, false);
  auto const input = make_input(model);
  collection const data = open_data("--data", o.data);
  if (all.is_first()) tell_of_links(o, "--data", data, prints_of_files(data));
  require_agreement(all, {{"version", L3_VERSION},
                          {"weights", print_of(*net)},
                          {"what computes", net->facts().backend},
                          {"videos", print_of(data.clips)},
                          {"what is read", kind_of(data)},
                          {"clip-seconds", o.seconds},
                          {"pairs", o.pairs},
                          {"batch", o.batch},
                          {"seed", o.seed}});
  std::map<std::string, refusal> refusals;  // by file; a refusal of all of it counts, not those of moments
  auto const refuse = [&](refusal const& r) {
    auto const [known, is_new] = refusals.try_emplace(as_utf8(r.file), r);
    if (!is_new && known->second.whole_file >= r.whole_file) return;
    known->second = r;
    o.warn(refusal_warning(r));
  };
  loader_options reading{.seed = o.seed,
                         .batch = o.batch,
                         .pairs = pairing::paper,
                         .evaluation_pairs = o.pairs,
                         .workers = o.readers(o.workers),
                         .name = "--data " + o.data};
  reading.limits.seconds = o.seconds;
  reading.on_refusal = refuse;
  std::optional<results_folder> results;
  if (!o.out.empty() && all.is_first()) results.emplace(o.out, "avc", std::initializer_list<char const*>{"pairs.csv"});
  net->prepare_inference(o.batch);
  bool const raw = net->takes_raw() && o.dump.empty();  // a dump is of values, which then the processor makes
  fixed_pairs pairs(*input, data, reading, raw, 0);
  progress bar(o, "pairs", static_cast<double>(o.pairs));
  std::size_t batches = 0, seen = 0;
  std::optional<batch_dump> dump;
  if (!o.dump.empty() && all.size() == 1) dump.emplace(o.dump, net->facts());
  evaluation const e = evaluate(*net, pairs, o.seed, all, [&](feed_batch const& b, std::span<float const> logits) {
    seen += b.count;
    bar.update(static_cast<double>(std::min<std::size_t>(seen * all.size(), o.pairs)), "");
    if (dump) dump->write("eval", batches++, b, logits, "logits", {b.count, 2});
  });
  bar.finish();
  std::string mine;
  for (auto const& [file, r] : refusals) mine += refusal_line(r);
  for (std::string const& each : all.gather(mine))
    for (refusal const& r : parse_refusals(each, "refusals")) refuse(r);
  if (!all.is_first()) return done;
  auto const refused = static_cast<std::size_t>(
      std::count_if(refusals.begin(), refusals.end(), [](auto const& each) { return each.second.whole_file; }));
  std::size_t const damaged = refusals.size() - refused;
  correspondence const& r = e.result;
  std::vector<judged_pair> const& judged = e.pairs;
  auto const curve = e.curve();
  double const area = roc_area(curve);
  json const classes = class_table(o, data.clips, judged);
  std::set<std::uint32_t> used;
  for (judged_pair const& p : judged) used.insert({p.frame_clip, p.sound_clip});
  o.answer(text("%zu pairs of %zu videos (chance: accuracy 0.5, loss 0.693)", r.pairs, used.size()));
  o.answer(text("accuracy %.4f (95 %% interval %.4f-%.4f, bootstrap over videos), loss %.4f, area under ROC %.4f",
                r.accuracy, r.interval[0], r.interval[1], r.loss, area));
  o.answer("                     said no  said yes");
  for (int label : {0, 1}) {
    auto const& row = r.confusion[static_cast<std::size_t>(label)];
    o.answer(text("%-20s %7zu  %8zu", label == 1 ? "they correspond" : "they do not", row[0], row[1]));
  }
  if (refused > 0) o.say(text("%zu files were refused", refused));
  if (damaged > 0) o.say(text("%zu files are damaged at some moments", damaged));
  json roc = json::array();
  for (roc_point const& p : thinned(curve, 101)) roc.push_back({p.false_positives, p.true_positives});
  json result{{"kind", "avc"},
              {"pairs", r.pairs},
              {"accuracy", r.accuracy},
              {"interval", r.interval},
              {"loss", r.loss},
              {"auc", area},
              {"confusion", r.confusion},
              {"classes", classes},
              {"roc", roc},
              {"videos", used.size()},
              {"refused", refused},
              {"damaged", damaged},
              {"data", o.data},
              {"model", net->facts().description},
              {"network", identity_of(o.checkpoint, *net, o.on)}};
  if (results) {
    make_folder(fs::path(o.out) / "mistakes");
    results->begin();
    result["mistakes"] = write_mistakes(o, data, judged, reading.limits);
    std::string table = csv_row({"frame_of", "frame_time", "sound_of", "sound_start", "corresponds", "score"});
    for (judged_pair const& p : judged)
      table += csv_row({std::string(data.clips.name(p.frame_clip)), text("%.6f", p.frame_time),
                        std::string(data.clips.name(p.sound_clip)), text("%.6f", p.sound_start),
                        p.positive() ? "1" : "0", text("%.9g", p.score())});
    write_file(results->file("pairs.csv"), table);
    results->end(result);
  }
  o.print(result);
  return done;
}

}  // namespace

work add_eval(CLI::App& command) {
  auto const o = std::make_shared<eval_options>();
  command.footer("Example:\n  l3 eval --checkpoint run/best.safetensors --data videos/test.csv --out run/eval");
  command.add_option("--checkpoint", o->checkpoint, "Weights, as `l3 train` writes them")->required();
  command.add_option("--data", o->data, "Folder, CSV, list or index of videos, or a packed folder")->required();
  CLI::Option* const out = command.add_option(
      "--out,-o", o->out, "Folder for result.json, pairs.csv and the surest mistakes; none: not kept");
  command.add_option("--mistakes", o->mistakes, "Pictures and sounds of how many mistakes go to --out")
      ->capture_default_str()
      ->check(CLI::Range(0, 10000).description(""))
      ->needs(out);
  command.add_option("--pairs", o->pairs, "Pairs to score, half of which correspond")
      ->capture_default_str()
      ->check(above_zero)
      ->check(even);
  command.add_option("--seed", o->seed, "Which pairs")->capture_default_str();
  command.add_option("--batch", o->batch, "Pairs scored at a time")->capture_default_str()->check(above_zero);
  add_clip_seconds(command, o->seconds);
  add_workers(command, o->workers);
  o->on.add_to(command);
  command.add_option("--dump-batches", o->dump, "")->group("");
  o->add_to(command);
  return [o] { return with_crew("eval", [&](crew& all) { return eval_run(*o, all); }); };
}

}  // namespace l3::program
