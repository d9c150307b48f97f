// l3 embed: sounds, pictures and videos become vectors.
#include <algorithm>
#include <array>
#include <l3/data/clip_list.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/npz.hpp>
#include <l3/train/openl3_checkpoint.hpp>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "embedder.hpp"
#include "embedding_size.hpp"
#include "made_with.hpp"
#include "network_choice.hpp"
#include "output_names.hpp"
#include "program.hpp"
#include "writers.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct embed_options : common_options {
  std::string kind, list, root, checkpoint, out, layer, format = "npz", reduce = "none", windows;
  backend_choice on;
  std::vector<std::string> files;
  double hop = 0.1;
  embedding_size embedding;
  std::size_t batch = 32, workers = 0;
  std::size_t most_failures = std::numeric_limits<std::size_t>::max();
  bool overwrite = false, align = false;
};

/// Files and folders as they are given, and behind them those of --files-from.
std::vector<std::string> given_files(embed_options const& o) {
  std::vector<std::string> all = o.files;
  if (o.list.empty()) return all;
  detail::for_each_line(read_stream(o.list == "-" ? "/dev/stdin" : o.list, std::size_t{1} << 32),
                        "--files-from " + o.list, "names of files, a line each",
                        [&](std::string_view line, std::size_t) { all.emplace_back(line); });
  if (all.size() == o.files.size())
    throw format_error({"--files-from " + o.list, "names of files, a line each", "none"});
  return all;
}

std::vector<named_file> list_jobs(embed_options const& o) {
  output_names names(o.root);
  for (std::string const& given : given_files(o)) {
    std::error_code unknown;  // whoever reads the file says why it cannot be read
    if (!fs::is_directory(given, unknown)) {
      names.add(given);
      continue;
    }
    auto const found = files_below(
        given, [&](fs::path const& file) { return suits_embedding(file, o.kind); }, true);
    if (found.empty()) throw format_error({given, "a folder with files of a kind to embed as " + o.kind, "none"});
    for (fs::path const& file : found) names.add(file, given);
  }
  return names.list();
}

/// Collects rows of an embedding, or reduces them to one, and writes them in the format asked for. Nothing appears
/// before `commit`.
class table {
 public:
  table(fs::path file, std::size_t width, bool timed, embed_options const& o)
      : file_(std::move(file)),
        format_(o.format),
        rows_(file_, width),
        timed_(timed && o.reduce == "none"),
        largest_(o.reduce == "max") {
    if (o.reduce != "none") reduced_.assign(width, largest_ ? -std::numeric_limits<double>::infinity() : 0.0);
  }
  void append(std::span<float const> rows) {
    if (reduced_.empty()) return rows_.append(rows);
    for (std::size_t k = 0; k != rows.size(); ++k) {
      double& to = reduced_[k % reduced_.size()];
      auto const x = static_cast<double>(rows[k]);
      to = largest_ ? std::max(to, x) : to + x;
    }
    taken_ += rows.size() / reduced_.size();
  }
  /// Rows that commit will write.
  std::size_t rows() const { return reduced_.empty() ? rows_.count() : 1; }
  /// `hop`: samples from one row to the next. `first`: the number of the first row.
  void commit(std::size_t hop, std::size_t first) {
    if (!reduced_.empty()) {
      std::vector<float> row(reduced_.begin(), reduced_.end());
      if (!largest_)
        for (std::size_t k = 0; k != row.size(); ++k)
          row[k] = static_cast<float>(reduced_[k] / static_cast<double>(taken_));
      rows_.append(std::span<float const>(row));
    }
    write(hop, first);
  }

 private:
  void write(std::size_t hop, std::size_t first) const {
    std::vector<double> times(timed_ ? rows_.count() : 0);
    for (std::size_t k = 0; k < times.size(); ++k) times[k] = static_cast<double>((first + k) * hop) / sound_rate;
    if (format_ == "npz") {
      npz_writer out(file_);
      out.add("embedding", rows_);
      if (timed_) out.add("timestamps", {times.size()}, times);
      return out.commit();
    }
    // A row at a time: there may be more than memory holds.
    atomic_file out(file_);
    auto const put = [&](std::string const& some) { out.write(std::as_bytes(std::span(some))); };
    std::vector<float> row(rows_.values_per_row());
    auto const read = [&](std::size_t k) {
      rows_.read_bytes(k * row.size() * sizeof(float), std::as_writable_bytes(std::span(row)));
    };
    if (format_ == "csv") {
      std::string line = timed_ ? "timestamp," : "";
      for (std::size_t d = 0; d < row.size(); ++d) line += text("e%zu%c", d, d + 1 == row.size() ? '\n' : ',');
      put(line);
      for (std::size_t k = 0; k < rows_.count(); ++k) {
        read(k);
        line = timed_ ? text("%.9g,", times[k]) : "";
        for (std::size_t d = 0; d < row.size(); ++d)
          line += text("%.9g%c", static_cast<double>(row[d]), d + 1 == row.size() ? '\n' : ',');
        put(line);
      }
    } else {
      put("{\"embedding\":[");
      for (std::size_t k = 0; k < rows_.count(); ++k) read(k), put((k == 0 ? "" : ",") + json(row).dump());
      put("]" + (timed_ ? ",\"timestamps\":" + json(times).dump() : "") + "}\n");
    }
    out.commit();
  }

  fs::path file_;
  std::string format_;
  npz_rows<float> rows_;
  bool timed_, largest_;
  std::vector<double> reduced_;  ///< sums, or the largest; none where rows are kept
  std::size_t taken_ = 0;
};

/// Writes the rows of each job's kinds where they go, and keeps account of what became of it.
class outputs final : public row_sink {
 public:
  outputs(embed_options const& o, std::vector<named_file> const& all, json const& settings)
      : o_(o), jobs_(all), made_with_(o.out, settings), rows_(all.size()) {}

  /// What is to be read: nothing of a job whose outputs exist, unless its file has changed since.
  ///
  /// Errors  setting_error: they were made with other settings, or of another file, and are not to be made anew.
  std::vector<reading_job> to_do() {
    std::vector<reading_job> some;
    for (std::size_t k = 0; k < jobs_.size(); ++k) {
      bool const sounds = o_.kind != "image", frames = o_.kind != "audio";
      bool const heard = sounds && exists(k, modality::sound), seen = frames && exists(k, modality::frame);
      reading_job j{.file = jobs_[k].file, .sounds = sounds && !heard, .frames = frames && !seen};
      // Aligned outputs are made together: there are as many rows of pictures as of sounds.
      if (o_.align && (j.sounds || j.frames)) j.sounds = j.frames = j.aligned = true;
      if (o_.kind == "image") j.most_frames = 1;
      auto const what = sounds ? modality::sound : modality::frame;  // a video's names of both are of one length
      if (auto const length = target(k, what).filename().native().size(); length > 255) {
        file_error const why({jobs_[k].file.string(), "a name that leaves room for its output's, of 255 bytes at most",
                              std::to_string(length)});
        refuse(k, what, why.what());
        continue;
      }
      for (auto const kind : {modality::sound, modality::frame})
        if (kind == modality::sound ? sounds && !j.sounds : frames && !j.frames) {
          existing_.push_back({k, kind});
          if (!made_with_.knows(target(k, kind).generic_string())) unknown_make_.push_back({k, kind});
        }
      if (!j.sounds && !j.frames) continue;
      doing_.push_back({k, std::size_t{j.sounds} + std::size_t{j.frames}});
      some.push_back(std::move(j));
    }
    if (!unknown_make_.empty())
      o_.warn(text("%zu outputs are kept of which nobody knows what made them, %s first (--overwrite makes them anew)",
                   unknown_make_.size(), file_of(unknown_make_.front().first, unknown_make_.front().second).c_str()));
    return some;
  }

  void work_with(embedder const& by, progress& bar) { by_ = &by, bar_ = &bar; }
  void opening(std::size_t at) override {
    doing& job = doing_[at];
    job.file = file_state::of(jobs_[job.job].file);
    job.file.look_inside(jobs_[job.job].file);
  }
  void rows(std::size_t at, modality what, std::span<float const> some) override {
    writers_.check();
    auto& open = open_[what == modality::frame];
    if (!open) {
      fs::path const to = file_of(doing_[at].job, what);
      fs::create_directories(to.parent_path());
      open = std::make_shared<table>(to, by_->width(what), what == modality::sound || o_.kind == "video", o_);
    }
    open->append(some);
  }
  void end(std::size_t at, modality what, reading_outcome const& outcome) override {
    auto& [k, left, file] = doing_[at];
    auto& open = open_[what == modality::frame];
    if (!outcome.refused.empty()) {
      refuse(k, what, outcome.refused);
    } else if (open) {
      if (outcome.is_short) o_.warn(jobs_[k].file.string() + ": shorter than one second, filled up with silence");
      if (outcome.is_silent)
        o_.warn(jobs_[k].file.string() + ": silent" +
                (o_.align ? ", where it has pictures" : " from beginning to end"));
      rows_[k][what == modality::frame] = output_facts{open->rows(), outcome.is_short, outcome.is_silent};
      writers_.add(open->rows() * by_->width(what) * sizeof(float),
                   [this, made = open, hop = by_->hop(), first = outcome.first, name = target(k, what).generic_string(),
                    &from = doing_[at].file] {
                     made_with_.begin(name, from);
                     made->commit(hop, first);
                     made_with_.end(name, from);
                   });
    }
    open.reset();
    if (--left == 0)
      bar_->update(static_cast<double>(++finished_ + jobs_.size() - doing_.size()), jobs_[k].name.string());
  }

  void finish() { writers_.finish(); }
  /// Files of which something is refused.
  std::size_t failures() const { return failed_.size(); }
  bool all_done() const { return finished_ == doing_.size(); }
  /// In the order of the jobs.
  json written() const {
    json list = json::array();
    for (std::size_t k = 0; k < jobs_.size(); ++k)
      for (auto const what : {modality::sound, modality::frame})
        if (auto const& n = rows_[k][what == modality::frame]) {
          list.push_back(about(k, what));
          list.back()["rows"] = n->rows;
          if (what == modality::sound) list.back()["short"] = n->is_short, list.back()["silent"] = n->is_silent;
        }
    return list;
  }
  json existing() const { return list_of(existing_); }
  json unknown_make() const { return list_of(unknown_make_); }
  json refused() const {
    auto some = refused_;
    std::ranges::sort(some, {}, [](refusal const& r) { return std::pair(r.job, r.what == modality::frame); });
    json list = json::array();
    for (refusal const& r : some) list.push_back({{"file", jobs_[r.job].file.string()}, {"why", r.why}});
    return list;
  }

 private:
  struct refusal {
    std::size_t job;
    modality what;
    std::string why;
  };
  struct output_facts {
    std::size_t rows;
    bool is_short, is_silent;
  };
  struct doing {
    std::size_t job, kinds_left;
    file_state file{};  ///< before it was read
  };
  void refuse(std::size_t k, modality what, std::string const& why) {
    refused_.push_back({k, what, why});
    failed_.insert(k);
    o_.warn(why);
  }
  /// The name of an output in OUT.
  fs::path target(std::size_t k, modality what) const {
    fs::path to = jobs_[k].name;
    to += std::string(o_.kind != "video" ? "" : what == modality::sound ? "_audio" : "_image") + "." + o_.format;
    return to;
  }
  fs::path file_of(std::size_t k, modality what) const { return fs::path(o_.out) / target(k, what); }
  using some_outputs = std::vector<std::pair<std::size_t, modality>>;  ///< jobs and kinds
  json list_of(some_outputs const& some) const {
    json list = json::array();
    for (auto const& [k, what] : some) list.push_back(about(k, what));
    return list;
  }
  json about(std::size_t k, modality what) const {
    return {{"file", jobs_[k].file.string()}, {"output", file_of(k, what).string()}};
  }
  bool exists(std::size_t k, modality what) const {
    std::error_code unknown;  // a name that is too long is told of later
    return !o_.overwrite && fs::exists(file_of(k, what), unknown) &&
           made_with_.is_current(target(k, what).generic_string(), jobs_[k].file);
  }

  embed_options const& o_;
  std::vector<named_file> const& jobs_;
  made_with made_with_;
  std::vector<std::array<std::optional<output_facts>, 2>> rows_;  ///< written, of sounds and of frames
  std::vector<doing> doing_;
  std::array<std::shared_ptr<table>, 2> open_;  ///< rows of one kind come in the order of the jobs
  std::vector<refusal> refused_;
  std::unordered_set<std::size_t> failed_;  ///< the jobs of these
  some_outputs existing_;                   ///< that are skipped
  some_outputs unknown_make_;               ///< of them, those that the note does not name
  std::size_t finished_ = 0;
  embedder const* by_ = nullptr;
  progress* bar_ = nullptr;
  writers writers_;
};

int embed_run(embed_options o) {
  std::size_t const hop = hop_samples(o.hop);
  auto const net = open_features(o.checkpoint, o.on, o.threads);
  auto const input = make_input(net->facts().name);
  if (o.windows.empty()) o.windows = is_openl3(net->facts().name) ? "centred" : "whole";
  std::vector<modality> kinds;
  if (o.kind != "image") kinds.push_back(modality::sound);
  if (o.kind != "audio") kinds.push_back(modality::frame);
  std::vector<std::size_t> grids;
  for (auto const what : kinds) grids.push_back(net->width_of(what, {depth::conv4_2, pooling::grid}));
  bool const grid = o.embedding.grid(net->facts().embedding, grids);
  feature const which = feature_named(o.layer, grid ? "grid" : "global", net->facts());
  if (o.embedding.size != 0 &&
      std::ranges::none_of(kinds, [&](auto what) { return net->width_of(what, which) == o.embedding.size; }))
    throw setting_error({"--size beside --layer " + o.layer, std::to_string(net->width_of(kinds.front(), which)),
                         std::to_string(o.embedding.size)});
  if (o.align && o.kind != "video") throw setting_error({"--align", "embed video, whose rows it aligns", o.kind});
  std::vector<named_file> const jobs = list_jobs(o);
  make_folder(o.out);
  embedder work(*net, *input,
                {.frames = o.kind != "audio",
                 .sounds = o.kind != "image",
                 .which = which,
                 .hop = hop,
                 .batch = o.batch,
                 .centred = o.windows == "centred",
                 .workers = o.readers(o.workers)});
  json settings{{"kind", o.kind},
                {"network", identity_of(o.checkpoint, *net, o.on)},
                {"front_end", net->facts().front_end},
                {"layer", name_of(which)},
                {"reduce", o.reduce}};
  if (o.kind != "image") settings["windows"] = o.windows;
  if (o.kind != "image") settings["hop"] = work.hop_seconds();
  if (o.kind == "video") settings["align"] = o.align;
  outputs made(o, jobs, settings);
  auto const to_do = made.to_do();
  progress bar(o, "files", static_cast<double>(jobs.size()));
  interruption guard;
  made.work_with(work, bar);
  work.run(to_do, made, [&] { return interruption::signal() == 0 && made.failures() <= o.most_failures; });
  made.finish();
  bar.finish();
  int const signal = interruption::signal();
  json const written = made.written(), existing = made.existing(), refused = made.refused();
  bool const broken_off = signal != 0 && !made.all_done();
  o.say(text("%s%zu outputs in %s, %zu skipped because they exist (--overwrite makes them anew), %zu refused",
             broken_off ? "Interrupted; the same command goes on from there: " : "", written.size(), o.out.c_str(),
             existing.size(), refused.size()));
  o.print({{"outputs", written},
           {"skipped", existing.size()},
           {"existing", existing},
           {"unknown_make", made.unknown_make()},
           {"refused", refused},
           {"hop", work.hop_seconds()},
           {"shares_overlap", work.shares()},
           {"model", net->facts().description},
           {"interrupted", broken_off}});
  if (broken_off) return 128 + signal;
  if (made.failures() > o.most_failures)
    throw media_error({o.out, text("at most %zu files that are refused (--max-failures)", o.most_failures),
                       text("%zu; the outputs made are kept", made.failures())});
  return o.ended(written.size() + existing.size(), refused.size(),
                 refused.empty() ? "" : refused.front().at("why").get<std::string>());
}

}  // namespace

work add_embed(CLI::App& command) {
  auto const o = std::make_shared<embed_options>();
  command.footer(
      "For each file OUT gets <name>.npz with `embedding` (rows x size) and `timestamps` (seconds); a picture has no\n"
      "timestamps; a video gives <name>_audio.npz and <name>_image.npz. OUT mirrors the folders of the input.\n"
      "Example:\n  l3 embed audio sounds/ --checkpoint run/best.safetensors --out embeddings --hop 0.5");
  command.add_option("kind", o->kind, "audio, image or video")
      ->required()
      ->check(CLI::IsMember({"audio", "image", "video"}));
  command.add_option("files", o->files, "Files, or folders to search");
  command.add_option("--files-from", o->list, "A file with the names of more, a line each; -: standard input");
  command.add_option(
      "--root", o->root,
      "Names in OUT are relative to this folder; default: the deepest one that holds all of this call's");
  command.add_option("--checkpoint", o->checkpoint, "Weights, as `l3 train` or `l3 import` writes them")->required();
  command.add_option("--out,-o", o->out, "Folder for the results")->required();
  command.add_option("--hop", o->hop, "Seconds from one row to the next")->capture_default_str()->check(above_zero);
  o->embedding.add_to(command);
  command
      .add_option("--layer", o->layer,
                  "pool1, pool2, pool3, conv4_2 or pool4; default: pool4, or with --pool grid and of OpenL3 conv4_2")
      ->check(CLI::IsMember({"pool1", "pool2", "pool3", "conv4_2", "pool4"}));
  command.add_option("--reduce", o->reduce, "none: a row for each moment; mean or max of them: one row a file")
      ->check(CLI::IsMember({"none", "mean", "max"}))
      ->capture_default_str();
  command
      .add_option(
          "--windows", o->windows,
          "whole: seconds that a sound fills, row k from k HOP on (default); centred: those around k HOP, until\n"
          "one holds its end, silence where there is no sound (default for OpenL3's networks, as OpenL3 has them)")
      ->check(CLI::IsMember({"whole", "centred"}));
  command.add_flag("--align", o->align,
                   "Of a video: a picture from the middle of each second of sound, so that rows go together");
  command.add_option("--format", o->format, "npz, csv or json")
      ->check(CLI::IsMember({"npz", "csv", "json"}))
      ->capture_default_str();
  command
      .add_option("--batch", o->batch, "Rows computed at a time, where sounds do not share work; does not change them")
      ->capture_default_str()
      ->check(above_zero);
  add_workers(command, o->workers, "files");
  o->on.add_to(command);
  command.add_option("--max-failures", o->most_failures, "End when more files than this are refused")
      ->default_str("no limit");
  command.add_flag("--overwrite", o->overwrite, "Make outputs anew that exist already");
  o->add_to(command);
  return [o, &command] {
    if (o->files.empty() && o->list.empty())
      throw setting_error({"files", "names of files or folders, or --files-from", "none"});
    for (char const* of_sounds : {"--hop", "--windows"})
      if (o->kind == "image" && command.count(of_sounds) > 0)
        throw setting_error({of_sounds, "audio or video to embed: a picture is one row", "image"});
    return embed_run(*o);
  };
}

}  // namespace l3::program
