// Features of a labelled set, and the file that keeps them.
#include "feature_rows.hpp"

#include <unistd.h>

#include <algorithm>
#include <l3/data/ffmpeg.hpp>
#include <l3/files/safetensors.hpp>
#include <numeric>
#include <optional>
#include <utility>

namespace l3::program {
namespace {

namespace fs = std::filesystem;

/// What the rows depend on.
std::string key_of(labelled_set const& set, modality what, chosen_network const& of, embedder_settings const& s) {
  return json{{"network", of.identity},
              {"of", what == modality::sound ? "sounds" : "pictures"},
              {"scaling", what == modality::sound ? json() : json(picture_scaling)},
              {"layer", name_of(s.which)},
              {"hop", s.hop},
              {"short", s.repeats ? "repeated" : "filled up with silence"},
              {"files", set.files.size()},
              {"fingerprint", files_print(set, true)}}
      .dump();
}

/// A checksum of what the file holds.
std::string check_of(feature_rows const& rows, std::string const& rest) {
  std::uint32_t crc = ffmpeg::crc32(std::as_bytes(std::span(rows.values)));
  crc = ffmpeg::crc32(std::as_bytes(std::span(rows.first)), crc);
  crc = ffmpeg::crc32(std::as_bytes(std::span(rows.skipped)), crc);
  return std::to_string(ffmpeg::crc32(std::as_bytes(std::span(rest)), crc));
}

/// What is there may be replaced if it is features, or cannot be read. Errors: setting_error.
void require_features(fs::path const& cache) {
  std::optional<safetensors_file> file;
  if (fs::exists(cache)) try {
      file.emplace(safetensors_file::open(cache));
    } catch (format_error const&) {  // damaged
    }
  if (file && !file->metadata().contains("l3.key"))
    throw setting_error({"--out, " + cache.string(), "features kept by an earlier run, or none", "another file"});
}

bool take_from(fs::path const& cache, std::string const& key, std::size_t files, std::size_t width,
               feature_rows& rows) {
  if (!fs::exists(cache)) return false;
  try {
    auto const file = safetensors_file::open(cache);
    if (file.metadata("l3.key") != key) return false;
    rows.first.resize(files + 1);
    file.read("first", rows.first, {files + 1});
    rows.skipped.resize(files);
    file.read("skipped", rows.skipped, {files});
    for (std::size_t k = 0; k != files; ++k)
      if (rows.first[0] != 0 || rows.first[k] > rows.first[k + 1]) return false;
    // What the file says of its size is believed when its tensors agree.
    if (file.entry("features").shape != std::vector<std::size_t>{rows.count(), width}) return false;
    rows.values.resize(rows.count() * width);
    file.read("features", rows.values, {rows.count(), width});
    if (file.metadata("l3.check") != check_of(rows, file.metadata("l3.rest"))) return false;
    json const rest = parse_json<json>(file.metadata("l3.rest"), file.path().string());
    rest.at("refused").get_to(rows.refused);
    rest.at("unopened").get_to(rows.unopened);
    rest.at("short").get_to(rows.shorter);
    rest.at("silent").get_to(rows.silent);
    rest.at("seconds").get_to(rows.seconds);
    for (auto const& [place, why] : rows.refused)
      if (place >= files) return false;
    for (std::size_t const place : rows.unopened)
      if (place >= files || rows.begin(place) != rows.end(place)) return false;
    return true;
  } catch (error const&) {  // damaged, or of another version: made anew
  } catch (json::exception const&) {
  }
  return false;
}

/// Rows of one kind, file after file.
class collected final : public row_sink {
 public:
  /// `places`: of each job, which of the set's files it is.
  collected(common_options const& o, labelled_set const& set, std::vector<std::size_t> const& places, feature_rows& to,
            progress& bar)
      : o_(o), set_(set), places_(places), to_(to), bar_(bar) {}
  void rows(std::size_t, modality, std::span<float const> some) override {
    to_.values.insert(to_.values.end(), some.begin(), some.end());
  }
  void end(std::size_t job, modality, reading_outcome const& met) override {
    if (!met.refused.empty()) {
      to_.values.resize(to_.count() * to_.width);
      to_.refused.emplace_back(places_[job], met.refused);
      if (met.unopened) to_.unopened.push_back(places_[job]);
      o_.warn("refused " + met.refused);
    } else {
      to_.shorter += met.is_short ? 1 : 0;
      to_.silent += met.is_silent ? 1 : 0;
    }
    to_.first.push_back(static_cast<std::int64_t>(to_.values.size() / to_.width));
    to_.skipped.push_back(static_cast<std::int64_t>(met.first));
    bar_.update(static_cast<double>(job + 1), set_.files[places_[job]].name);
  }

 private:
  common_options const& o_;
  labelled_set const& set_;
  std::vector<std::size_t> const& places_;
  feature_rows& to_;
  progress& bar_;
};

/// The same rows, with those of some more files in the places of refused ones; in both the files are in order.
feature_rows joined(feature_rows const& known, std::vector<std::size_t> const& places, feature_rows more) {
  feature_rows all{.width = known.width};
  all.values.reserve(known.values.size() + more.values.size());
  for (std::size_t k = 0, next = 0; k + 1 != known.first.size(); ++k) {
    bool const is_new = next != places.size() && places[next] == k;
    feature_rows const& from = is_new ? more : known;
    std::size_t const at = is_new ? next++ : k;
    all.values.insert(all.values.end(), from.values.begin() + static_cast<std::ptrdiff_t>(from.begin(at) * all.width),
                      from.values.begin() + static_cast<std::ptrdiff_t>(from.end(at) * all.width));
    all.first.push_back(static_cast<std::int64_t>(all.values.size() / all.width));
    all.skipped.push_back(from.skipped[at]);
  }
  for (auto const& each : known.refused)
    if (!std::binary_search(places.begin(), places.end(), each.first)) all.refused.push_back(each);
  all.refused.insert(all.refused.end(), more.refused.begin(), more.refused.end());
  std::sort(all.refused.begin(), all.refused.end());
  all.unopened = std::move(more.unopened);
  all.shorter = known.shorter + more.shorter, all.silent = known.silent + more.silent;
  all.seconds = known.seconds + more.seconds;
  all.from_cache = true;
  return all;
}

void write(fs::path const& cache, std::string const& key, feature_rows const& rows) {
  safetensors_writer out;
  out.add("features", {rows.count(), rows.width}, std::span<float const>(rows.values));
  out.add("first", {rows.first.size()}, std::span<std::int64_t const>(rows.first));
  out.add("skipped", {rows.skipped.size()}, std::span<std::int64_t const>(rows.skipped));
  out.metadata("l3.key", key);
  std::string const rest = json_text(json{{"refused", rows.refused},
                                          {"unopened", rows.unopened},
                                          {"short", rows.shorter},
                                          {"silent", rows.silent},
                                          {"seconds", rows.seconds}});
  out.metadata("l3.rest", rest);
  out.metadata("l3.check", check_of(rows, rest));
  out.write(cache);
}

}  // namespace

void add_layer(CLI::App& command, std::string& pool, std::string& layer) {
  command.add_option("--pool", pool, "grid: the largest value of each filter and region; global: of each filter")
      ->check(CLI::IsMember({"global", "grid"}))
      ->capture_default_str();
  command
      .add_option(
          "--layer", layer,
          "pool1, pool2, pool3, conv4_2 or pool4; default: conv4_2, or with --pool global and not of OpenL3 pool4")
      ->check(CLI::IsMember({"pool1", "pool2", "pool3", "conv4_2", "pool4"}));
}

void feature_options::add_to(CLI::App& command) {
  network.add_to(command, true);
  command.add_option("--out,-o", out, "Folder for the results; features are kept there for the next time")->required();
  add_layer(command, pool, layer);
  command.add_option("--hop", hop, "Seconds from one second of a sound to the next")
      ->capture_default_str()
      ->check(above_zero);
  command.add_option("--short", fill, "A sound shorter than one second is filled up with silence, or by repeat")
      ->check(CLI::IsMember({"silence", "repeat"}))
      ->capture_default_str();
  command.add_option("--batch", batch, "Rows computed at a time; does not change them")
      ->capture_default_str()
      ->check(above_zero);
  add_workers(command, workers, "files");
  common_options::add_to(command);
}
embedder_settings feature_options::settings(chosen_network const& of) const {
  std::size_t const samples = hop_samples(hop);
  return {.which = feature_named(layer, pool, of.net->facts()),
          .hop = samples,
          .batch = batch,
          .repeats = fill == "repeat",
          .workers = readers(workers)};
}

feature_rows read_features(common_options const& o, labelled_set const& set, modality what, chosen_network const& of,
                           embedder_settings settings, fs::path const& cache) {
  settings.frames = what == modality::frame;
  settings.sounds = what == modality::sound;
  std::size_t const width = of.net->width_of(what, settings.which);
  std::string const key = key_of(set, what, of, settings);
  require_features(cache);
  interruption guard;
  auto const read = [&](std::vector<std::size_t> const& places) {
    feature_rows rows{.width = width};
    embedder by(*of.net, *of.input, settings);
    std::vector<reading_job> jobs;
    for (std::size_t const k : places)
      jobs.push_back({.file = set.files[k].file, .sounds = settings.sounds, .frames = settings.frames});
    progress bar(o, "files", static_cast<double>(jobs.size()));
    collected to(o, set, places, rows, bar);
    by.run(jobs, to, [] { return interruption::signal() == 0; });
    if (rows.first.size() <= jobs.size()) stop_if_signalled();
    bar.finish();
    rows.seconds = bar.seconds();
    return rows;
  };
  feature_rows rows{.width = width};
  if (take_from(cache, key, set.files.size(), width, rows)) {
    o.say(text("%zu rows of features from %s", rows.count(), cache.c_str()));
    rows.from_cache = true;
    for (auto const& [file, why] : rows.refused)
      if (!std::binary_search(rows.unopened.begin(), rows.unopened.end(), file)) o.warn("refused " + why);
    stop_if_signalled();
    if (rows.unopened.empty()) return rows;
    std::vector<std::size_t> const places = std::exchange(rows.unopened, {});
    rows = joined(rows, places, read(places));
    if (rows.unopened.size() == places.size()) {
      stop_if_signalled();
      return rows;
    }
  } else {
    std::vector<std::size_t> places(set.files.size());
    std::iota(places.begin(), places.end(), std::size_t{0});
    rows = read(places);
  }
  if (!cache.empty()) write(cache, key, rows);
  stop_if_signalled();  // before another one is watched for
  return rows;
}

json refused_files(labelled_set const& set, feature_rows const& rows) {
  json files = json::array();
  for (auto const& [file, why] : rows.refused) files.push_back({{"file", set.files[file].name}, {"why", why}});
  return files;
}

std::string files_print(labelled_set const& set, bool places) {
  std::uint64_t print = fingerprint("");
  for (labelled_file const& f : set.files) {
    std::error_code missing;
    auto const size = fs::file_size(f.file, missing);
    auto const changed = missing ? 0 : fs::last_write_time(f.file, missing).time_since_epoch().count();
    if (places) print = fingerprint(fs::absolute(f.file).lexically_normal().string() + '\n', print);
    print =
        fingerprint(f.name + '\n' + std::to_string(missing ? 0 : size) + ' ' + std::to_string(changed) + '\n', print);
    if (::access(f.file.c_str(), R_OK) != 0) print = fingerprint("not to be read", print);
  }
  return hex(print);
}

}  // namespace l3::program
