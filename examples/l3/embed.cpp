// l3 embed: sounds, pictures and videos become vectors.
#include <cmath>
#include <fstream>
#include <l3/files/atomic_file.hpp>
#include <l3/files/npz.hpp>
#include <limits>
#include <map>
#include <set>
#include <string_view>

#include "embedder.hpp"
#include "program.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct embed_options : common_options {
  std::string kind, checkpoint, out, pool = "global", layer, format = "npz", reduce = "none";
  backend_choice on;
  std::vector<std::string> files;
  double hop = 0.1;
  std::size_t batch = 32, size = 0;
  bool overwrite = false, align = false;
};

/// A file to embed and where its result goes, relative to OUT and without ending.
struct job {
  fs::path file, name;
};

/// All files, named below the deepest folder that holds them all, so that the output mirrors the input. Two files that
/// differ in their ending alone keep it in the name, and so does one whose name would be another's.
std::vector<job> list_jobs(embed_options const& o) {
  std::vector<fs::path> files;
  fs::path common;
  auto const share = [&](fs::path const& folder) {
    if (common.empty()) common = folder;
    while (!common.empty() && common != common.root_path()) {
      auto const [a, b] = std::mismatch(common.begin(), common.end(), folder.begin(), folder.end());
      if (a == common.end()) break;
      common = common.parent_path();
    }
  };
  for (std::string const& given : o.files) {
    fs::path const path = fs::absolute(given).lexically_normal();
    if (!fs::is_directory(path)) {
      files.push_back(path);
      share(path.parent_path());
      continue;
    }
    auto const found = files_below(path, [&](fs::path const& file) { return suits_embedding(file, o.kind); });
    if (found.empty()) throw format_error({given, "a folder with files of a kind to embed as " + o.kind, "none"});
    files.insert(files.end(), found.begin(), found.end());
    share(path.has_filename() ? path : path.parent_path());
  }
  std::vector<job> jobs;
  std::map<fs::path, int> uses;
  std::set<fs::path> seen;
  for (fs::path const& file : files) {
    if (!seen.insert(file).second) continue;
    fs::path const relative = file.lexically_relative(common);
    jobs.push_back({file, relative});
    ++uses[fs::path(relative).replace_extension()];
    ++uses[relative];
  }
  for (job& j : jobs)
    if (fs::path const stem = fs::path(j.name).replace_extension(); uses[stem] == 1) j.name = stem;
  return jobs;
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
  /// Returns the number of rows written.
  std::size_t commit(double hop_seconds) {
    if (!reduced_.empty()) {
      std::vector<float> row(reduced_.begin(), reduced_.end());
      if (!largest_)
        for (std::size_t k = 0; k != row.size(); ++k)
          row[k] = static_cast<float>(reduced_[k] / static_cast<double>(taken_));
      rows_.append(std::span<float const>(row));
    }
    write(hop_seconds);
    return rows_.count();
  }

 private:
  void write(double hop_seconds) const {
    std::vector<double> times(timed_ ? rows_.count() : 0);
    for (std::size_t k = 0; k < times.size(); ++k) times[k] = static_cast<double>(k) * hop_seconds;
    if (format_ == "npz") {
      npz_writer out(file_);
      out.add("embedding", rows_);
      if (timed_) out.add("timestamps", {times.size()}, times);
      return out.commit();
    }
    std::vector<float> values(rows_.count() * rows_.values_per_row());
    rows_.read_bytes(0, std::as_writable_bytes(std::span(values)));
    std::string content;
    std::size_t const width = rows_.values_per_row();
    if (format_ == "csv") {
      if (timed_) content += "timestamp,";
      for (std::size_t d = 0; d < width; ++d) content += text("e%zu%c", d, d + 1 == width ? '\n' : ',');
      for (std::size_t k = 0; k < rows_.count(); ++k) {
        if (timed_) content += text("%.9g,", times[k]);
        for (std::size_t d = 0; d < width; ++d)
          content += text("%.9g%c", static_cast<double>(values[k * width + d]), d + 1 == width ? '\n' : ',');
      }
    } else {
      json rows = json::array();
      for (std::size_t k = 0; k < rows_.count(); ++k)
        rows.push_back(std::vector<float>(values.begin() + static_cast<std::ptrdiff_t>(k * width),
                                          values.begin() + static_cast<std::ptrdiff_t>((k + 1) * width)));
      json document{{"embedding", std::move(rows)}};
      if (timed_) document["timestamps"] = times;
      content = document.dump() + "\n";
    }
    atomic_file out(file_);
    out.write(content);
    out.commit();
  }

  fs::path file_;
  std::string format_;
  npz_rows<float> rows_;
  bool timed_, largest_;
  std::vector<double> reduced_;  ///< sums, or the largest; none where rows are kept
  std::size_t taken_ = 0;
};

int embed_run(embed_options o) {
  if (!(o.hop * sound_rate >= 1))
    throw setting_error({"--hop", "at least one sample, 1/48000 s", std::to_string(o.hop)});
  std::string const model = model_of_checkpoint(o.checkpoint);
  auto const net = make_engine(model, o.on, o.threads);
  net->load(o.checkpoint, false);
  auto const input = make_input(model);
  if (o.size != 0) {
    std::size_t const embedding = net->facts().embedding;
    std::vector<std::size_t> grids;
    for (auto const what : {modality::sound, modality::frame})
      if (o.kind != (what == modality::sound ? "image" : "audio"))
        grids.push_back(net->width_of(what, {depth::conv4_2, pooling::grid}));
    if (o.size != embedding && std::ranges::find(grids, o.size) == grids.end())
      throw setting_error({"--size",
                           std::to_string(embedding) + " (global) or " + std::to_string(grids.front()) +
                               (grids.size() > 1 ? " or " + std::to_string(grids.back()) : "") + " (grid)",
                           std::to_string(o.size)});
    o.pool = o.size == embedding ? "global" : "grid";
  }
  if (o.align && o.kind != "video") throw setting_error({"--align", "embed video, whose rows it aligns", o.kind});
  std::vector<job> const jobs = list_jobs(o);
  embedder work(*net, *input,
                {.frames = o.kind != "audio",
                 .sounds = o.kind != "image",
                 .which = feature_named(o.layer, o.pool),
                 .hop = static_cast<std::size_t>(std::lround(o.hop * sound_rate)),
                 .batch = o.batch});
  std::size_t sound_rows = 0;  // of the last sound embedded
  // Each makes one output and says how many rows it has.
  auto const sounds = [&](fs::path const& file, fs::path const& to) {
    table out(to, work.width(modality::sound), true, o);
    auto const met = work.sounds(file, [&](std::span<float const> rows) { out.append(rows); });
    if (met.is_short) o.warn(file.string() + ": shorter than one second, filled up with silence");
    sound_rows = met.rows;
    return out.commit(work.hop_seconds());
  };
  auto const frames = [&](fs::path const& file, fs::path const& to, double first, std::size_t count) {
    table out(to, work.width(modality::frame), o.kind == "video", o);
    work.frames(
        file, [&](std::span<float const> rows) { out.append(rows); }, first, count);
    return out.commit(work.hop_seconds());
  };
  struct refusal {
    std::string file, why;
  };
  std::vector<refusal> refused;
  json results = json::array();
  std::size_t skipped = 0;
  progress bar(o, "files", static_cast<double>(jobs.size()));
  interruption guard;
  std::size_t finished = 0;
  for (job const& j : jobs) {
    if (interruption::signal() != 0) break;
    auto const target = [&](char const* tail) {
      fs::path to = fs::path(o.out) / j.name;
      to += std::string(tail) + "." + o.format;
      return to;
    };
    bool overwrite = o.overwrite;
    // A file without one of the streams still gives the other; what cannot be done is said, and nothing else is lost.
    // False: the file cannot even be opened.
    auto const attempt = [&](fs::path const& to, auto&& make) {
      if (!overwrite && fs::exists(to)) {
        ++skipped;
        return true;
      }
      auto const refuse = [&](char const* why) {
        refused.push_back({j.file.string(), why});
        o.warn(why);
      };
      try {
        fs::create_directories(to.parent_path());
        std::size_t const rows = make(to);
        results.push_back({{"file", j.file.string()}, {"output", to.string()}, {"rows", rows}});
      } catch (file_error const& e) {
        std::error_code problem;
        if (fs::is_regular_file(j.file, problem) && std::ifstream(j.file))
          throw;  // the output cannot be written: that is no fault of this input
        refuse(e.what());
        return false;
      } catch (media_error const& e) {
        refuse(e.what());
      }
      return true;
    };
    if (o.kind == "audio") attempt(target(""), [&](fs::path const& to) { return sounds(j.file, to); });
    if (o.kind == "image") attempt(target(""), [&](fs::path const& to) { return frames(j.file, to, 0, 1); });
    if (o.kind == "video") {
      fs::path const heard = target("_audio"), seen = target("_image");
      // Aligned outputs are made together: there are as many rows of pictures as of sounds.
      overwrite = overwrite || (o.align && !(fs::exists(heard) && fs::exists(seen)));
      sound_rows = 0;
      bool const opened = attempt(heard, [&](fs::path const& to) { return sounds(j.file, to); });
      if (o.align && overwrite ? sound_rows > 0 : opened)
        attempt(seen, [&](fs::path const& to) {
          return o.align ? frames(j.file, to, sound_seconds / 2, sound_rows) : frames(j.file, to, 0, 0);
        });
    }
    bar.update(static_cast<double>(++finished), j.name.string());
  }
  bar.finish();
  int const signal = interruption::signal();
  o.say(text("%zu outputs in %s, %zu skipped because they exist (--overwrite makes them anew), %zu refused",
             results.size(), o.out.c_str(), skipped, refused.size()));
  json refusals = json::array();
  for (refusal const& r : refused) refusals.push_back({{"file", r.file}, {"why", r.why}});
  o.print({{"outputs", results},
           {"skipped", skipped},
           {"refused", refusals},
           {"hop", work.hop_seconds()},
           {"shares_overlap", work.shares()},
           {"model", net->facts().description}});
  return signal != 0 && finished < jobs.size() ? 128 + signal : refused.empty() ? done : some_refused;
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
  command.add_option("files", o->files, "Files, or folders to search")->required();
  command.add_option("--checkpoint", o->checkpoint, "Weights, as `l3 train` writes them")->required();
  command.add_option("--out,-o", o->out, "Folder for the results")->required();
  command.add_option("--hop", o->hop, "Seconds from one row to the next")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--pool", o->pool, "global: the largest value of each filter; grid: of each filter and region")
      ->check(CLI::IsMember({"global", "grid"}))
      ->capture_default_str();
  command
      .add_option("--layer", o->layer,
                  "pool1, pool2, pool3, conv4_2 or pool4; default: pool4, or with --pool grid conv4_2")
      ->check(CLI::IsMember({"pool1", "pool2", "pool3", "conv4_2", "pool4"}));
  command.add_option("--reduce", o->reduce, "none: a row for each moment; mean or max of them: one row a file")
      ->check(CLI::IsMember({"none", "mean", "max"}))
      ->capture_default_str();
  command.add_flag("--align", o->align,
                   "Of a video: a picture from the middle of each second of sound, so that rows go together");
  command.add_option("--size", o->size, "Another way to choose --pool: the number of values (paper: 512, 6144, 8192)");
  command.add_option("--format", o->format, "npz, csv or json")
      ->check(CLI::IsMember({"npz", "csv", "json"}))
      ->capture_default_str();
  command
      .add_option("--batch", o->batch, "Rows computed at a time, where sounds do not share work; does not change them")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  o->on.add_to(command);
  command.add_flag("--overwrite", o->overwrite, "Make outputs anew that exist already");
  o->add_to(command);
  return [o] { return embed_run(*o); };
}

}  // namespace l3::program
