// l3 report: everything that is known of a run, on one page.
#include <algorithm>
#include <cmath>
#include <l3/data/clip_list.hpp>
#include <l3/files/atomic_file.hpp>
#include <set>

#include "charts.hpp"
#include "page.hpp"
#include "run_folder.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct report_options : common_options {
  std::string run, out;
  std::vector<std::string> more;
  std::size_t sounds = 48;
};

/// What a command wrote, and where.
struct found_result {
  fs::path folder, file;
  json content;
};

// With spaces at which no line is broken.
std::string per_cent(double hundredths) { return text("%.1f\u00a0%%", hundredths); }
std::string per_cent(json const& share) { return share.is_number() ? per_cent(100 * share.get<double>()) : "-"; }
std::string between(json const& interval) {
  return interval.is_array() ? per_cent(interval.at(0)) + " to " + per_cent(interval.at(1)) : "-";
}
std::string text_of(json const& from, char const* key) { return from.at(key).get<std::string>(); }

/// A setting's value; of values inside values only that they are there.
std::string setting_text(json const& value) {
  if (value.is_string()) return value.get<std::string>();
  bool const deep = std::any_of(value.begin(), value.end(), [](json const& v) { return v.is_structured(); });
  return value.is_structured() && deep ? "..." : value.dump();
}

/// Gathers what there is, in the order in which a reader asks for it.
class report {
 public:
  explicit report(report_options const& o)
      : o_(o), page_("l3: " + (fs::absolute(o.run) / "").lexically_normal().parent_path().filename().string()) {}

  void add_training(fs::path const& run) {
    if (!fs::exists(run / "config.json")) return;
    attempt(run / "config.json", [&] {
      run_record const kept = read_run(run);
      json const task = kept.config.value("task", json());
      std::string html = curves(kept.log, task.is_string() && task != "correspondence");
      std::vector<std::vector<std::string>> settings;
      for (auto const& [name, value] : kept.config.items()) settings.push_back({name, setting_text(value)});
      html += html_details("Settings", html_table("config.json", {"setting", "value"}, settings));
      html += refusals("videos", kept.refused);
      if (!kept.refused_in_validation.empty()) html += refusals("validation videos", kept.refused_in_validation);
      page_.section("Training", html);
      trained_ = true;
    });
  }

  void add_results(std::vector<fs::path> const& files) {
    std::vector<found_result> all;
    for (fs::path const& file : files)
      attempt(file, [&] {
        json content = parse_json<json>(read_file(file, std::size_t{64} << 20), file.string());
        std::string const kind = text_of(content, "kind");
        if (content.value("unfinished", false))
          throw format_error({file.string(), "finished results (the same command makes them)", "a beginning"});
        char const* const known[] = {"avc",     "baselines", "direct",   "svm",  "images",
                                     "cluster", "retrieval", "distance", "units"};
        if (std::find(std::begin(known), std::end(known), kind) == std::end(known))
          throw format_error({file.string(), "a result of eval, baseline, probe, distance or inspect", kind});
        all.push_back({file.parent_path(), file, std::move(content)});
      });
    auto const each = [&](char const* kind, auto&& add) {
      for (found_result const& r : all)
        if (r.content.at("kind") == kind) attempt(r.file, [&] { add(r), ++shown_; });
    };
    each("avc", [&](found_result const& r) { add_pairs(r); });
    each("baselines", [&](found_result const& r) { add_baselines(r); });
    each("direct", [&](found_result const& r) { add_direct(r); });
    for (char const* kind : {"svm", "images", "cluster", "retrieval"})
      each(kind, [&](found_result const& r) { add_transfer(r); });
    if (!transfer_.empty()) page_.section("What carries over", transfer_table() + confusions_);
    each("distance", [&](found_result const& r) { add_distance(r); });
    if (!distances_.empty())
      page_.section(
          "How far apart collections are",
          html_table("Fréchet distance of their embeddings; without its bias, what it would be with endlessly "
                     "many files",
                     {"", "files", "held against", "files", "distance", "without its bias"}, distances_));
    each("units", [&](found_result const& r) { add_units(r); });
  }

  /// Pictures of `l3 inspect heatmap`, `spectrogram` and `correspondence`.
  void add_maps(std::vector<fs::path> const& files) {
    std::string html;
    for (fs::path const& file : files)
      attempt(file, [&] {
        fs::path const stem = file.stem();
        std::string const what = stem.extension().string().substr(1);
        std::string const says = what == "correspondence" ? "which places go with the sound (ours, not the paper's)"
                                                          : "where units respond, " + what;
        html += figure(stem.stem().string() + ": " + says, file);
        ++shown_;
      });
    if (!html.empty()) page_.section("Maps of single files", html);
  }

  bool trained() const { return trained_; }
  std::size_t shown() const { return shown_; }
  std::size_t left_out() const { return left_out_; }
  std::string html() const { return page_.html(); }

 private:
  /// What is not whole, or whose pictures are gone, is named and left out: it adds all it has or nothing.
  void attempt(fs::path const& file, auto const& add) {
    std::size_t const sounds = sounds_;
    auto const leave_out = [&](std::string const& why) {
      o_.warn(file.string() + " is left out: " + why);
      sounds_ = sounds;
      ++left_out_;
    };
    try {
      add();
    } catch (error const& e) {
      leave_out(e.what());
    } catch (json::exception const& e) {
      leave_out(e.what());
    } catch (fs::filesystem_error const& e) {
      leave_out(e.what());
    }
  }

  /// A section's title, with the folder that it is about: there may be several.
  std::string titled(std::string const& title, found_result const& r) const {
    std::string const within = within_run(r.folder);
    return within == "." ? title : title + " (" + within + ")";
  }
  /// A folder's name below the run's, or if it is not there its whole name.
  std::string within_run(fs::path const& folder) const {
    fs::path const within = folder.lexically_normal().lexically_relative(fs::path(o_.run).lexically_normal());
    bool const outside = within.empty() || *within.begin() == "..";
    return (outside ? folder : within).string();
  }
  /// A file that a result names, in its own folder. Errors: format_error for one elsewhere.
  static fs::path beside(found_result const& r, std::string const& name) {
    fs::path const path = fs::path(name).lexically_normal();
    if (path.empty() || path.is_absolute() || *path.begin() == "..")
      throw format_error({r.file.string(), "names of files in its folder", name});
    return r.folder / path;
  }

  static std::string curves(csv_table const& log, bool named) {
    std::size_t const pairs = log.column("pairs");
    auto const line = [&](char const* name, char const* column_name) {
      chart_line l{name, {}};
      std::size_t const column = log.column(column_name);
      for (auto const& row : log.rows)
        if (!row[column].empty())
          l.points.emplace_back(std::strtod(row[pairs].c_str(), nullptr), std::strtod(row[column].c_str(), nullptr));
      return l;
    };
    chart_line const valid = line("validation", "valid_accuracy"), loss = line("validation", "valid_loss");
    std::string html;
    if (!valid.points.empty()) {
      std::optional<class_score> best;  // whose checkpoint is kept
      double best_pairs = 0;
      for (std::size_t k = 0; k != valid.points.size(); ++k)
        if (class_score const one{k < loss.points.size() ? loss.points[k].second : 0, valid.points[k].second};
            is_better(one, best))
          best = one, best_pairs = valid.points[k].first;
      html = "<p>Best validation accuracy <strong>" + per_cent(100 * best->accuracy) + "</strong>, after " +
             short_number(best_pairs) + " of " + short_number(std::strtod(log.rows.back()[pairs].c_str(), nullptr)) +
             " draws.</p>\n";
    }
    return html + "<div class=\"charts\">\n" + html_chart("Loss", "draws", {line("training", "loss"), loss}) +
           html_chart(named ? "Accuracy" : "Accuracy, pairs that correspond and pairs that do not weighing the same",
                      "draws", {line("training", "accuracy"), valid}) +
           "</div>\n";
  }

  std::string sound(fs::path const& wav, std::string const& says) {
    if (sounds_ >= o_.sounds) return {};
    ++sounds_;
    return html_sound(wav, says);
  }
  static std::string figure(std::string const& says, fs::path const& png) {
    return "<figure>\n<figcaption>" + escaped(says) + "</figcaption>\n" + html_wide(says, html_picture(png, says)) +
           "</figure>\n";
  }
  /// The drawing, or where it is if it would outweigh all else.
  static std::string confusion(fs::path const& svg, std::string const& of) {
    if (!fs::exists(svg)) return {};
    std::string const says = of + ": which classes are taken for which";
    return html_details(says, fs::file_size(svg) <= 4 << 20
                                  ? html_wide(says, html_picture(svg, says))
                                  : "<p>Too large for a page: " + escaped(svg.string()) + "</p>\n");
  }

  static std::string refusals(std::string const& whose, std::vector<refusal> const& refused) {
    auto const damaged = static_cast<std::size_t>(
        std::count_if(refused.begin(), refused.end(), [](refusal const& r) { return !r.whole_file; }));
    std::string html = "<p>" + text("%zu ", refused.size() - damaged) + whose + " were refused" +
                       (damaged > 0 ? text(", %zu are damaged at some moments", damaged) : "") + ".</p>\n";
    std::vector<std::vector<std::string>> rows;
    for (std::size_t k = 0; k != std::min<std::size_t>(100, refused.size()); ++k)
      rows.push_back({refused[k].file, refused[k].why});
    if (rows.empty()) return html;
    return html +
           html_details("Which, and why", html_table(rows.size() < refused.size() ? "The first 100" : "All of them",
                                                     {"video", "why"}, rows));
  }

  void add_pairs(found_result const& r) {
    json const& c = r.content;
    std::string html = "<p>Accuracy <strong>" + per_cent(c.at("accuracy")) + "</strong> (95 % interval " +
                       between(c.at("interval")) + ", bootstrap over videos) on " +
                       text("%zu pairs of ", c.at("pairs").get<std::size_t>()) + escaped(text_of(c, "data")) +
                       text(
                           "; area under ROC %.3f, loss %.3f. Chance is 50 %%; the paper has 78 %% on "
                           "Flickr-SoundNet, 74 %% on Kinetics-Sounds.</p>\n",
                           c.at("auc").get<double>(), c.at("loss").get<double>());
    if (c.contains("network")) html += "<p>Network: " + escaped(text_of(c, "network")) + ".</p>\n";
    if (auto const refused = c.value("refused", std::size_t{0}); refused != 0)
      html += text("<p>%zu videos were refused.</p>\n", refused);
    if (auto const damaged = c.value("damaged", std::size_t{0}); damaged != 0)
      html += text("<p>%zu videos are damaged at some moments, which were passed over.</p>\n", damaged);
    chart_line roc{"this network", {}};
    for (json const& p : c.at("roc")) roc.points.emplace_back(p.at(0).get<double>(), p.at(1).get<double>());
    html += html_chart("Share of corresponding pairs found over the share of others taken for such (ROC)",
                       "false positives", {roc, {"chance", {{0, 0}, {1, 1}}}});
    if (c.at("classes").is_array()) {
      std::vector<std::vector<std::string>> rows;
      for (json const& k : c["classes"]) {
        auto const of = [&](char const* part, char const* all) {
          return text("%zu\u00a0of\u00a0%zu", k.at(part).get<std::size_t>(), k.at(all).get<std::size_t>());
        };
        rows.push_back({text_of(k, "class"), of("found", "positives"),
                        of("rejected_other_class", "negatives_other_class"),
                        of("rejected_same_class", "negatives_same_class")});
      }
      html += html_table("By the class of the frame",
                         {"class", "corresponding pairs found", "sounds of other classes rejected",
                          "sounds of this class from other videos rejected"},
                         rows);
    }
    std::string cards;
    for (json const& m : c.value("mistakes", json::array())) {
      std::string const frame_of = text_of(m, "frame_of"), sound_of = text_of(m, "sound_of");
      cards += "<li>" + html_picture(beside(r, text_of(m, "picture")), "Frame of " + frame_of) +
               sound(beside(r, text_of(m, "sound")), "Sound of " + sound_of) + "<p>" +
               escaped("Frame of " + frame_of + ", sound of " + sound_of + ". The network: they " + text_of(m, "said") +
                       text(" (score %.2f).", m.at("score").get<double>())) +
               "</p></li>\n";
    }
    if (!cards.empty()) html += "<h3>The surest mistakes</h3>\n<ul class=\"cards\">\n" + cards + "</ul>\n";
    page_.section(titled("Correspondence", r), html);
  }

  void add_baselines(found_result const& r) {
    std::vector<std::vector<std::string>> rows;
    for (json const& row : r.content.at("rows"))
      rows.push_back({text_of(row, "name"), per_cent(row.at("accuracy")), between(row.at("interval")),
                      text_of(row, "paper_kinetics_sounds"), text_of(row, "paper_flickr_soundnet")});
    page_.section(
        titled("Beside supervised networks", r),
        html_table(text("Correspondence of %zu pairs of ", r.content.at("pairs").get<std::size_t>()) +
                       text_of(r.content, "test"),
                   {"", "here", "95 % interval", "paper, Kinetics-Sounds, %", "paper, Flickr-SoundNet, %"}, rows));
  }
  void add_direct(found_result const& r) {
    json const& test = r.content.at("test");
    page_.section(titled("Two classifiers, directly combined", r),
                  text("<p>Correspondence of %zu pairs: accuracy <strong>", test.at("pairs").get<std::size_t>()) +
                      per_cent(test.at("accuracy")) + "</strong> (95 % interval " + between(test.at("interval")) +
                      "); the paper has 65 % on Kinetics-Sounds.</p>\n");
  }

  /// What a plain classifier, or none, reads from features, learned or random.
  struct transfer_row {
    std::string task{};
    json conditions{};  ///< what has to be the same of a learned network's result and of one with random weights
    bool trained = false;
    std::string value{}, chance{}, paper = "-", paper_random = "-", where{};
  };
  void add_transfer(found_result const& r) {
    if (r.content.at("kind") != "retrieval") return add_transfer(r, r.content);
    for (json const& direction : r.content.at("directions")) {  // a row each
      json one = r.content;
      one.erase("directions");
      one.update(direction);
      add_transfer(r, one);
    }
  }
  void add_transfer(found_result const& r, json const& c) {
    std::string const kind = text_of(c, "kind"), set = text_of(c, "set");
    transfer_row row{.trained = c.at("trained").get<bool>(), .where = within_run(r.folder)};
    std::string with = text_of(c, "layer");
    if (c.contains("model")) with += ", " + text_of(c, "model");
    if (c.contains("hop") && c["hop"].is_number()) with += text(", hop %g s", c["hop"].get<double>());
    if (kind == "cluster") {
      row.task = "Clusters of " + text_of(c, "what") + ", " + set + ": adjusted mutual information";
      row.value = text("%.2f", c.at("ami").get<double>()), row.chance = "0";
      with += text(", %zu clusters", c.at("clusters").get<std::size_t>());
    } else if (kind == "retrieval") {
      std::string const by = text_of(c, "by"), finds = text_of(c, "finds");
      row.task = (by == "audio" ? "Sounds" : "Pictures") + std::string(" that find ") +
                 (finds == "audio" ? "sounds" : "pictures") + ", " + set +
                 text(": nDCG@%zu", c.at("top").get<std::size_t>());
      row.value = text("%.2f", c.at("ndcg").get<double>());
      if (json const& itself = c.at("itself"); itself.is_object())
        row.value += text(" (the video itself: place %g)", itself.at("median_place").get<double>());
      row.chance = text("%.2f", c.at("chance").get<double>());
    } else {
      std::size_t const shots = c.value("shots", std::size_t{0});
      row.task = (kind == "svm" ? "Sounds, " : "Pictures, ") + set + (shots == 0 ? "" : text(", %zu a class", shots));
      if (set == "folder" && c.contains("data")) row.task += " " + text_of(c, "data");
      row.value = per_cent(c.at(kind == "svm" ? "accuracy" : "top1")), row.chance = per_cent(c.at("chance"));
      if (c.contains("deviation") && c["deviation"].is_number())
        row.value += text(" (deviation %.1f)", 100 * c["deviation"].get<double>());
      if (json const paper = c.value("paper", json()); paper.is_object())
        row.paper = per_cent(paper.at("ours").get<double>()),
        row.paper_random = per_cent(paper.at("ours_random").get<double>());
    }
    row.task += " (" + with + ")";
    for (char const* one : {"kind", "what", "layer", "model", "hop", "chance", "clusters", "shots", "views", "settings",
                            "by", "finds", "top"})
      row.conditions[one] = c.value(one, json());
    // The same files may be named in several ways; of results that do not say which they were, the name has to do.
    row.conditions["files"] = c.contains("set_print") ? c["set_print"] : json(set);
    std::string stem = r.file.filename().string();
    stem.resize(stem.size() - std::string("result.json").size());
    confusions_ += confusion(r.folder / (stem + "confusion.svg"),
                             row.task + (row.trained ? ", " : ", random weights, ") + row.where);
    transfer_.push_back(std::move(row));
  }
  /// A row for each learned network, beside it the first result with random weights under the same conditions; and one
  /// for each of those that stand beside none.
  std::string transfer_table() const {
    std::vector<std::vector<std::string>> rows;
    auto const add = [&](transfer_row const& r, std::string const& learned, std::string const& random,
                         std::string const& where) {
      rows.push_back({r.task, learned, random, r.chance, r.paper, r.paper_random, where});
    };
    std::set<transfer_row const*> placed;
    auto const random = [&](json const& conditions) -> transfer_row const* {
      for (transfer_row const& r : transfer_)
        if (!r.trained && r.conditions == conditions) return &r;
      return nullptr;
    };
    for (transfer_row const& r : transfer_) {
      if (!r.trained) continue;
      transfer_row const* const beside = random(r.conditions);
      placed.insert(beside);
      add(r, r.value, beside != nullptr ? beside->value : "-",
          r.where + (beside != nullptr ? "; " + beside->where : ""));
    }
    for (transfer_row const& r : transfer_)
      if (!r.trained && !placed.contains(&r)) add(r, "-", r.value, r.where);
    return html_table(
        "Read from the network's features by linear classifiers, found in them by k-means, or ranked by them (nDCG)",
        {"", "learned", "random weights", "chance", "paper", "paper, random weights", "results in"}, rows);
  }

  void add_distance(found_result const& r) {
    json const &of = r.content.at("of"), &reference = r.content.at("reference"), &endless = r.content.at("endless");
    auto const number = [](json const& value) { return text("%.4g", value.get<double>()); };
    auto const files = [](json const& side) { return std::to_string(side.at("files").get<std::size_t>()); };
    distances_.push_back({text_of(of, "data") + " (" + text_of(r.content, "what") + ", " + text_of(r.content, "layer") +
                              (r.content.at("trained").get<bool>() ? "" : ", random weights") + ")",
                          files(of), text_of(reference, "data"), files(reference), number(r.content.at("distance")),
                          endless.is_null() ? "-" : number(endless)});
  }

  void add_units(found_result const& r) {
    std::string html = "<p>Units of pool4, on " + escaped(text_of(r.content, "data")) + ".</p>\n";
    for (json const& u : r.content.at("units")) {
      std::string const what = text_of(u, "what"), of = text_of(u, "class");
      fs::path const picture = beside(r, text_of(u, "picture"));
      std::string const name =
          text("Unit %zu, ", u.at("unit").get<std::size_t>()) + what + (of.empty() ? "" : ", " + of);
      html += figure(name + ": what it responds to most, and where", picture);
      for (std::size_t k = 1; what == "audio" && k <= std::min<std::size_t>(3, u.at("items").size()); ++k)
        html += sound(r.folder / (picture.stem().string() + text("-%zu.wav", k)),
                      name + text(", sound %zu of %zu", k, u["items"].size()));
    }
    page_.section(titled("What units respond to", r), html);
  }

  report_options const& o_;
  page page_;
  std::vector<transfer_row> transfer_;
  std::vector<std::vector<std::string>> distances_;
  std::string confusions_;
  bool trained_ = false;
  std::size_t shown_ = 0, left_out_ = 0, sounds_ = 0;
};

bool is_result(fs::path const& file) { return file.filename().string().ends_with("result.json"); }
bool is_map(fs::path const& file) {
  std::string const kind = file.extension() == ".png" ? file.stem().extension().string() : "";
  return kind == ".heatmap" || kind == ".spectrogram" || kind == ".correspondence";
}

int report_run(report_options const& o) {
  std::vector<fs::path> folders{o.run};
  folders.insert(folders.end(), o.more.begin(), o.more.end());
  for (fs::path const& folder : folders)
    if (!fs::is_directory(folder))
      throw file_error({folder.string(), "a folder", fs::exists(folder) ? "a file" : "none"});
  fs::path const out = o.out.empty() ? fs::path(o.run) / "report.html" : fs::path(o.out);
  if (fs::is_regular_file(out) && fs::file_size(out) > 0 && first_bytes(out, html_begins.size()) != html_begins)
    throw setting_error({"--out " + out.string(), "a new file, or an old page to replace", "another file"});
  report made(o);
  made.add_training(o.run);
  std::vector<fs::path> results, maps;
  std::set<fs::path> seen;  // a folder may be named twice, or lie in another
  std::error_code gone;
  for (fs::path const& folder : folders)
    for (fs::path const& file : files_below(folder, [](fs::path const& f) { return is_result(f) || is_map(f); }))
      if (fs::is_regular_file(file, gone) && seen.insert(fs::weakly_canonical(file, gone)).second)
        (is_result(file) ? results : maps).push_back(file);
  made.add_results(results);
  made.add_maps(maps);
  if (!made.trained() && made.shown() == 0)
    throw file_error(
        {o.run, "config.json of a training, or results of eval, baseline, probe, distance or inspect", "none"});
  std::string const html = made.html();
  make_folder_of(out);
  write_file(out, html);
  o.say(text("%s: %s%zu results, %.1f MB", out.c_str(), made.trained() ? "the training and " : "", made.shown(),
             static_cast<double>(html.size()) / 1e6));
  o.print({{"out", out.string()},
           {"training", made.trained()},
           {"results", made.shown()},
           {"left_out", made.left_out()},
           {"bytes", html.size()}});
  return made.left_out() == 0 ? done : some_refused;
}

}  // namespace

work add_report(CLI::App& command) {
  auto const o = std::make_shared<report_options>();
  command
      .add_option("run", o->run,
                  "Folder of a training; results of eval, baseline, probe, distance and inspect are found below it")
      ->required();
  comma_list(command.add_option("--add", o->more, "More folders to look for results in"));
  command.add_option("--out,-o", o->out, "The page")->default_str("RUN/report.html");
  command.add_option("--sounds", o->sounds, "At most so many sounds, of 0.13 MB each")->capture_default_str();
  command.footer("The page holds all its pictures and sounds, and needs no network.\nExample:\n  l3 report run");
  o->add_to(command);
  return [o] { return report_run(*o); };
}

}  // namespace l3::program
