// l3 embed: sounds, pictures and videos become vectors.
#include <cmath>
#include <fstream>
#include <l3/files/atomic_file.hpp>
#include <l3/files/npz.hpp>
#include <map>
#include <set>
#include <string_view>

#include "engine.hpp"
#include "feed.hpp"
#include "program.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct embed_options : common_options {
  std::string kind, checkpoint, out, pool = "global", format = "npz", precision = "fp32";
  std::vector<std::string> files;
  double hop = 0.1;
  std::size_t batch = 32, size = 0;
  bool overwrite = false;
};

/// A file to embed and where its result goes, relative to OUT and without ending.
struct job {
  fs::path file, name;
};

constexpr std::string_view sound_endings[] = {".wav", ".flac", ".mp3",  ".ogg", ".oga", ".opus", ".m4a",
                                              ".aac", ".aif",  ".aiff", ".wma", ".ac3", ".mka"};
constexpr std::string_view picture_endings[] = {".png", ".jpg",  ".jpeg", ".bmp", ".webp",
                                                ".tif", ".tiff", ".gif",  ".ppm", ".pgm"};

bool suits(fs::path const& file, std::string const& kind) {
  std::string ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
  auto const among = [&](auto const& endings) { return std::ranges::find(endings, ending) != std::end(endings); };
  if (kind == "image") return among(picture_endings);
  return has_video_extension(file) || (kind == "audio" && among(sound_endings));
}

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
    auto const found = files_below(path, [&](fs::path const& file) { return suits(file, o.kind); });
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

/// Collects rows of an embedding and writes them in the format asked for. Nothing appears before `commit`.
class table {
 public:
  table(fs::path file, std::size_t width, bool timed, std::string const& format)
      : file_(std::move(file)), format_(format), rows_(file_, width), timed_(timed) {}
  void append(std::span<float const> rows) { rows_.append(rows); }
  std::size_t count() const { return rows_.count(); }
  void commit(double hop_seconds) const {
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

 private:
  fs::path file_;
  std::string format_;
  npz_rows<float> rows_;
  bool timed_;
};

class embedder {
 public:
  embedder(embed_options const& o, engine& net, model_input const& input)
      : o_(o),
        net_(net),
        input_(input),
        pool_(o.pool == "grid" ? pooling::grid : pooling::global),
        hop_samples_(static_cast<std::size_t>(std::lround(o.hop * sound_rate))),
        inputs_(o.batch * std::max(input.frame_size(), input.sound_size())),
        outputs_(o.batch * std::max(net.width_of(modality::frame, pool_), net.width_of(modality::sound, pool_))) {
    limits_.seconds = 0;  // the whole file
    // Where sounds are all there is and share their work, nothing comes in batches: no memory for them.
    net.prepare_inference(o.kind == "audio" ? 1 : o.batch);
    if (o.kind != "image" && hop_samples_ % input.column_samples() == 0) {
      std::size_t const hop = hop_samples_ / input.column_samples();
      // Whatever the batch, so that it does not change the rows; and no more than 12 seconds, which take memory.
      std::size_t const windows = std::min<std::size_t>(12 * input.sound_columns() / hop, 128);
      if (net.prepare_sliding(hop, windows)) windows_ = windows;
      outputs_.resize(std::max(outputs_.size(), windows_ * net.width_of(modality::sound, pool_)));
    }
    if (o.kind == "audio" && !shares()) net.prepare_inference(o.batch);
  }
  /// Seconds that overlap share the work on what they have in common.
  bool shares() const { return windows_ > 0; }
  double hop_seconds() const { return static_cast<double>(hop_samples_) / sound_rate; }

  /// Row k covers [k hop, k hop + 1 s); seconds that the sound does not fill to the end are left out, but there is
  /// always one row.
  std::size_t sound(fs::path const& file, fs::path const& to) {
    clip_reader reader(file, limits_);
    if (!reader.facts().has_sound) throw media_error({file.string(), "a file with sound", "none"});
    table out(to, net_.width_of(modality::sound, pool_), true, o_.format);
    sound_source source = reader.sound_from_start();
    std::vector<float> samples(sound_rate + (shares() ? windows_ - 1 : 0) * hop_samples_);
    std::size_t const filled = source.read(samples);
    if (filled == 0) throw media_error({file.string(), "at least one sample of sound", "none"});
    if (filled < sound_rate) o_.warn(file.string() + ": shorter than one second, filled up with silence");
    if (shares())
      sounds_together(source, samples, filled, out);
    else
      sounds_alone(source, samples, filled, out);
    out.commit(hop_seconds());
    return out.count();
  }

  /// Row k is the frame on display at k hop.
  std::size_t frames(fs::path const& file, fs::path const& to, bool still) {
    clip_reader reader(file, limits_);
    if (!reader.facts().has_video)
      throw media_error({file.string(), still ? "a picture" : "a file with pictures", "none"});
    table out(to, net_.width_of(modality::frame, pool_), !still, o_.format);
    std::size_t n = 0;
    auto const take = [&](rgb_frame const& frame) {
      input_.picture(frame, std::span(inputs_).subspan(n * input_.frame_size(), input_.frame_size()));
      if (++n == o_.batch) flush(modality::frame, std::exchange(n, 0), out);
    };
    if (still)
      take(reader.frame(0, input_.frame_side()));
    else
      reader.for_each_frame(hop_seconds(), input_.frame_side(),
                            [&](std::size_t, rgb_frame const& frame) { take(frame); });
    if (n > 0) flush(modality::frame, n, out);
    if (out.count() == 0) throw media_error({file.string(), "at least one picture", "none"});
    out.commit(hop_seconds());
    return out.count();
  }

 private:
  void sounds_alone(sound_source& source, std::vector<float>& window, std::size_t filled, table& out) {
    std::vector<float> skipped;
    for (bool more = true; more;) {
      std::size_t n = 0;
      for (; n < o_.batch && more; ++n) {
        input_.spectrum(window, std::span(inputs_).subspan(n * input_.sound_size(), input_.sound_size()));
        more = filled == window.size() && advance(source, window, skipped);
      }
      flush(modality::sound, n, out);
    }
  }
  static constexpr std::size_t few = 3;  ///< so many seconds have more edges than they share
  void sounds_together(sound_source& source, std::vector<float>& samples, std::size_t filled, table& out) {
    for (;;) {
      std::size_t const n = filled < sound_rate ? 1 : (filled - sound_rate) / hop_samples_ + 1;
      if (n <= few) {
        for (std::size_t k = 0; k < n; ++k) {
          input_.spectrum(std::span(samples).subspan(k * hop_samples_, sound_rate), inputs_);
          flush(modality::sound, 1, out);
        }
      } else {
        std::size_t const width = input_.sound_columns() + (n - 1) * (hop_samples_ / input_.column_samples());
        spectrum_.resize(input_.sound_size() / input_.sound_columns() * width);
        input_.long_spectrum(std::span(samples).first(sound_rate + (n - 1) * hop_samples_), spectrum_);
        net_.embed_sliding(pool_, spectrum_, n, outputs_);
        keep(n * net_.width_of(modality::sound, pool_), out);
      }
      if (filled < samples.size()) return;  // the sound has ended
      auto const kept =
          std::copy(samples.begin() + static_cast<std::ptrdiff_t>(n * hop_samples_), samples.end(), samples.begin());
      filled = static_cast<std::size_t>(kept - samples.begin());
      filled += source.read(std::span(samples).subspan(filled));
      if (filled < sound_rate) return;
    }
  }
  // Moves the window one hop on; false when the sound does not fill it any more.
  bool advance(sound_source& source, std::vector<float>& window, std::vector<float>& skipped) {
    std::size_t const kept = window.size() > hop_samples_ ? window.size() - hop_samples_ : 0;
    std::copy(window.end() - static_cast<std::ptrdiff_t>(kept), window.end(), window.begin());
    for (std::size_t gap = hop_samples_ - (window.size() - kept); gap > 0;) {  // a hop longer than the window
      skipped.resize(std::min<std::size_t>(gap, sound_rate));
      std::size_t const got = source.read(skipped);
      if (got == 0) return false;
      gap -= got;
    }
    return source.read(std::span(window).subspan(kept)) == window.size() - kept;
  }
  void flush(modality what, std::size_t n, table& out) {
    std::size_t const size = what == modality::frame ? input_.frame_size() : input_.sound_size();
    std::size_t const width = net_.width_of(what, pool_);
    net_.embed(what, pool_, {inputs_.data(), n * size}, n, outputs_);
    keep(n * width, out);
  }
  void keep(std::size_t values, table& out) {
    for (float const v : std::span(outputs_).first(values))
      if (!std::isfinite(v)) throw numeric_error({"embedding", "finite values", std::to_string(v)});
    out.append(std::span<float const>(outputs_).first(values));
  }

  embed_options const& o_;
  engine& net_;
  model_input const& input_;
  pooling pool_;
  std::size_t hop_samples_, windows_ = 0;
  decode_limits limits_;
  std::vector<float> inputs_, outputs_, spectrum_;
};

int embed_run(embed_options o) {
  if (!(o.hop * sound_rate >= 1))
    throw setting_error({"--hop", "at least one sample, 1/48000 s", std::to_string(o.hop)});
  std::string const model = model_of_checkpoint(o.checkpoint);
  auto const net = make_cpu_engine(model, o.threads, o.precision);
  net->load(o.checkpoint, false);
  auto const input = make_input(model);
  if (o.size != 0) {
    model_facts const& f = net->facts();
    std::vector<std::size_t> grids;
    if (o.kind != "image") grids.push_back(f.sound_grid);
    if (o.kind != "audio") grids.push_back(f.frame_grid);
    if (o.size != f.embedding && std::ranges::find(grids, o.size) == grids.end())
      throw setting_error({"--size",
                           std::to_string(f.embedding) + " (global) or " + std::to_string(grids.front()) +
                               (grids.size() > 1 ? " or " + std::to_string(grids.back()) : "") + " (grid)",
                           std::to_string(o.size)});
    o.pool = o.size == f.embedding ? "global" : "grid";
  }
  std::vector<job> const jobs = list_jobs(o);
  embedder work(o, *net, *input);
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
    // A file without one of the streams still gives the other; what cannot be done is said, and nothing else is lost.
    // False: the file cannot even be opened.
    auto const attempt = [&](fs::path const& to, auto&& make) {
      if (!o.overwrite && fs::exists(to)) {
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
    if (o.kind == "audio") attempt(target(""), [&](fs::path const& to) { return work.sound(j.file, to); });
    if (o.kind == "image") attempt(target(""), [&](fs::path const& to) { return work.frames(j.file, to, true); });
    if (o.kind == "video" && attempt(target("_audio"), [&](fs::path const& to) { return work.sound(j.file, to); }))
      attempt(target("_image"), [&](fs::path const& to) { return work.frames(j.file, to, false); });
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
  command.add_option("--size", o->size, "Another way to choose --pool: the number of values (paper: 512, 6144, 8192)");
  command.add_option("--format", o->format, "npz, csv or json")
      ->check(CLI::IsMember({"npz", "csv", "json"}))
      ->capture_default_str();
  command
      .add_option("--batch", o->batch, "Rows computed at a time, where sounds do not share work; does not change them")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_precision(command, o->precision);
  command.add_flag("--overwrite", o->overwrite, "Make outputs anew that exist already");
  o->add_to(command);
  return [o] { return embed_run(*o); };
}

}  // namespace l3::program
