// l3 inspect: what a network's units respond to, and where.
#include <algorithm>
#include <cmath>
#include <l3/data/decode.hpp>
#include <l3/files/npz.hpp>
#include <l3/files/wav.hpp>
#include <map>
#include <numeric>
#include <set>

#include "canvas.hpp"
#include "evaluate.hpp"
#include "feature_rows.hpp"
#include "output_names.hpp"
#include "results_folder.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct inspect_options : common_options {
  network_choice network;
  std::string data, out, what = "both";
  std::vector<std::string> files;
  std::vector<std::size_t> units;
  std::size_t count = 8, top = 6, workers = 0, side = 256;
  std::uint32_t moments = 2000;
  double seconds = 10, time = 0;
};

/// A network with what pictures of its insides need.
class insides {
 public:
  /// `inputs_do`: of a network that is no L³-Net what it takes in can be shown, though no unit.
  insides(inspect_options const& o, std::size_t batch, bool inputs_do = false) : o_(o), of_(o.network.open(o.threads)) {
    if (!has_units() && !inputs_do)
      throw setting_error({"--checkpoint", "one of paper, small or tiny", of_.net->facts().name});
    of_.net->prepare_inference(batch);
  }
  bool has_units() const { return of_.l3 != nullptr; }
  bool hears() const { return of_.net->has(modality::sound); }
  chosen_network const& network() const { return of_; }
  engine& net() const { return *of_.l3; }
  model_facts const& facts() const { return of_.net->facts(); }
  std::size_t features() const { return facts().embedding; }

  /// conv4_2 behind its ReLU: [cell][channel].
  std::vector<float> maps_of(modality what, std::span<float const> item) const {
    extent2 const size = net().map_size(what);
    std::vector<float> map(size.height * size.width * features());
    net().map(what, item, 1, map);
    for (float& x : map) x = std::max(x, 0.0f);
    return map;
  }
  heat_map unit_of(modality what, std::vector<float> const& maps, std::size_t unit) const {
    heat_map heat{net().map_size(what), {}};
    for (std::size_t cell = 0; cell != heat.size.height * heat.size.width; ++cell)
      heat.values.push_back(maps[cell * features() + unit]);
    return heat;
  }
  std::vector<float> item_of(rgb_frame const& picture) const {
    std::vector<float> item(of_.input->frame_size());
    of_.input->picture(picture, item);
    return item;
  }
  std::vector<float> item_of(std::span<float const> second) const {
    std::vector<float> item(of_.input->sound_size());
    of_.input->spectrum(second, item);
    return item;
  }
  std::size_t frame_side() const { return of_.input->frame_side(); }
  /// What the network sees of a picture with the smallest side o.side.
  rgb_frame seen(rgb_frame const& picture) const {
    auto const cut = [&](std::size_t pixels) { return (pixels * o_.side + frame_side() / 2) / frame_side(); };
    return middle_of(picture, cut(facts().frame.width), cut(facts().frame.height));
  }
  rgb_frame chart(std::span<float const> spectrum, heat_map const& heat, float high) const {
    return spectrogram_chart({facts().sound, {spectrum.begin(), spectrum.end()}}, heat, high, o_.side, o_.side * 3 / 4,
                             facts().front_end.find("mel") == std::string::npos ? sound_rate / 2.0 : 0);
  }

 private:
  inspect_options const& o_;
  chosen_network of_;
};

float largest(heat_map const& heat) { return *std::max_element(heat.values.begin(), heat.values.end()); }

/// Units that were asked for. Errors: setting_error for one that is not there.
void require_units(inspect_options const& o, std::size_t features) {
  for (auto const unit : o.units)
    if (unit >= features)
      throw setting_error({"--units", "numbers from 0 to " + std::to_string(features - 1), std::to_string(unit)});
}

// --- Units over a collection -----------------------------------------------------------------------------------------

/// Frames or seconds of a collection with their features.
struct moments_seen {
  std::vector<float> features;  ///< (count, width)
  std::vector<std::uint32_t> clips;
  std::vector<double> times;
};

/// How far a unit tells one class from all others: the distance of the means in deviations (d'), and which class.
struct selectivity {
  double value = 0;
  std::string name;
};

selectivity selectivity_of(moments_seen const& seen, clip_list const& clips, std::size_t width, std::size_t unit) {
  struct sums {
    double n = 0, sum = 0, square = 0;
    void add(double x) { n += 1, sum += x, square += x * x; }
    double mean() const { return sum / n; }
    double variance() const { return std::max(0.0, square / n - mean() * mean()); }
  };
  std::map<std::string, sums> of_class;
  sums all;
  for (std::size_t k = 0; k != seen.clips.size(); ++k) {
    auto const x = static_cast<double>(seen.features[k * width + unit]);
    of_class[clips.label(seen.clips[k])].add(x);
    all.add(x);
  }
  selectivity best;
  if (of_class.size() < 2) {  // no labels: how far the strongest stand out
    for (std::size_t k = 0; k != seen.clips.size(); ++k)
      best.value = std::max(best.value, (static_cast<double>(seen.features[k * width + unit]) - all.mean()) /
                                            std::sqrt(all.variance() + 1e-12));
    return best;
  }
  for (auto const& [name, mine] : of_class) {
    sums const others{all.n - mine.n, all.sum - mine.sum, all.square - mine.square};
    double const d = (mine.mean() - others.mean()) / std::sqrt((mine.variance() + others.variance()) / 2 + 1e-12);
    if (d > best.value) best = {d, name};
  }
  return best;
}

/// The numbers below n, from the one of the highest value on.
template <class F>
std::vector<std::size_t> highest_first(std::size_t n, F const& value) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return value(a) > value(b); });
  return order;
}

int units_run(inspect_options const& o) {
  results_folder const results(o.out, "units");
  insides const inside(o, 64);
  require_units(o, inside.features());
  collection const data = open_collection(o.data);
  loader_options reading{.seed = o.network.seed,
                         .batch = 64,
                         .pairs = pairing::paper,
                         .evaluation_pairs = o.moments,
                         .workers = o.readers(o.workers),
                         .name = o.data};
  reading.limits.seconds = o.seconds;
  json refused = json::array();
  auto const refuse = [&](refusal const& r) {
    o.warn(refusal_warning(r));
    refused.push_back({{"file", r.file}, {"why", r.why}});
  };
  reading.on_refusal = refuse;
  std::size_t const width = inside.features();
  moments_seen frames, sounds;
  {
    progress bar(o, "moments", o.moments);
    fixed_pairs pairs(*inside.network().input, data, reading, false, 0);
    std::vector<float> features(64 * width);
    pairs.for_each([&](feed_batch const& b) {
      auto const keep = [&](modality what, std::span<float const> items, auto clips, auto times, moments_seen& to) {
        inside.net().embed(what, {}, items, b.count, features);
        to.features.insert(to.features.end(), features.begin(),
                           features.begin() + static_cast<std::ptrdiff_t>(b.count * width));
        to.clips.insert(to.clips.end(), clips.begin(), clips.end());
        to.times.insert(to.times.end(), times.begin(), times.end());
      };
      keep(modality::frame, b.frames, b.frame_clips, b.frame_times, frames);
      keep(modality::sound, b.sounds, b.sound_clips, b.sound_starts, sounds);
      bar.update(static_cast<double>(frames.clips.size()), "");
    });
  }
  results.begin();
  remove_files(o.out, "(vision|audio)-unit-[0-9]+(-[0-9]+)?\\.(png|npz|wav)");
  json document = json::array();
  std::set<std::uint32_t> not_shown;  // what was drawn from them could be read, what is to be shown cannot
  for (modality const what : {modality::frame, modality::sound}) {
    bool const vision = what == modality::frame;
    if (o.what != "both" && o.what != (vision ? "vision" : "audio")) continue;
    moments_seen const& seen = vision ? frames : sounds;
    std::vector<selectivity> select(width);
    for (std::size_t u = 0; u != width; ++u) select[u] = selectivity_of(seen, data.clips, width, u);
    std::vector<std::size_t> units = o.units;
    if (units.empty()) {
      units = highest_first(width, [&](std::size_t u) { return select[u].value; });
      units.resize(std::min(units.size(), o.count));
    }
    for (auto const unit : units) {
      auto const order =
          highest_first(seen.clips.size(), [&](std::size_t k) { return seen.features[k * width + unit]; });
      float high = 0;  // of what is shown first
      std::string const stem = text("%s-unit-%03zu", vision ? "vision" : "audio", unit);
      std::size_t const gap = 6, cell = vision ? o.side : o.side + 56, below = vision ? o.side : o.side * 3 / 4 + 26;
      extent2 const map = inside.net().map_size(what);
      std::vector<std::pair<rgb_frame, rgb_frame>> columns;  // what is shown, and where the unit responds below it
      std::vector<float> heats, values;
      json items = json::array();
      std::set<std::uint32_t> met;
      for (auto const place : order) {
        if (columns.size() == o.top) break;
        auto const clip = seen.clips[place];
        double const time = seen.times[place];
        if (not_shown.contains(clip) || !met.insert(clip).second) continue;
        heat_map heat;
        std::string sound;
        try {
          // Beside a second of sound, the picture in its middle.
          auto shown =
              inside.seen(picture_of(data, clip, vision ? time : time + sound_seconds / 2, o.side, reading.limits));
          if (columns.empty()) high = std::max(1e-6f, seen.features[place * width + unit]);
          if (vision) {
            auto const item = inside.item_of(picture_of(data, clip, time, inside.frame_side(), reading.limits));
            heat = inside.unit_of(what, inside.maps_of(what, item), unit);
            auto below_it = overlaid(shown, heat, 0, high);
            columns.emplace_back(std::move(shown), std::move(below_it));
          } else {
            auto const second = second_of(data, clip, time, reading.limits);
            auto const item = inside.item_of(std::span<float const>(second));
            heat = inside.unit_of(what, inside.maps_of(what, item), unit);
            columns.emplace_back(std::move(shown), inside.chart(item, heat, high));
            sound = wav_of(second, sound_rate);
          }
        } catch (unusable_file const& e) {
          require_memory_left();
          not_shown.insert(clip);
          refuse({.file = std::string(data.clips.name(clip)), .why = e.what()});
          continue;
        }
        if (!vision) write_file(fs::path(o.out) / text("%s-%zu.wav", stem.c_str(), columns.size()), sound);
        heats.insert(heats.end(), heat.values.begin(), heat.values.end());
        values.push_back(seen.features[place * width + unit]);
        items.push_back({{"video", std::string(data.clips.name(clip))},
                         {"class", data.clips.label(clip)},
                         {"time", time},
                         {"activation", values.back()}});
      }
      if (columns.empty()) throw media_error({o.data, "videos whose pictures can be shown", "none"});
      canvas page(columns.size() * (cell + gap), o.side + gap + below);
      for (std::size_t k = 0; k != columns.size(); ++k) {
        page.put(columns[k].first, k * (cell + gap), 0);
        page.put(columns[k].second, k * (cell + gap), o.side + gap);
      }
      write_png(fs::path(o.out) / (stem + ".png"), page.picture());
      npz_writer arrays(fs::path(o.out) / (stem + ".npz"));
      arrays.add("heat", {columns.size(), map.height, map.width}, std::span<float const>(heats));
      arrays.add("activation", {values.size()}, std::span<float const>(values));
      arrays.commit();
      bool const labelled = !select[unit].name.empty();
      o.answer(text("%s: %s %.2f%s", stem.c_str(), labelled ? "d'" : "largest, in deviations from the mean,",
                    select[unit].value, labelled ? (", class " + select[unit].name).c_str() : ""));
      document.push_back({{"unit", unit},
                          {"what", vision ? "vision" : "audio"},
                          {"class", select[unit].name},
                          {"selectivity", select[unit].value},
                          {"picture", stem + ".png"},
                          {"items", items}});
    }
  }
  json const result{{"kind", "units"},
                    {"data", o.data},
                    {"network", inside.network().identity},
                    {"moments", frames.clips.size()},
                    {"units", document},
                    {"refused", refused}};
  results.end(result);
  o.print(result);
  return refused.empty() ? done : some_refused;
}

// --- One file --------------------------------------------------------------------------------------------------------

/// Units of a map, those asked for or the strongest.
std::vector<std::size_t> units_of(inspect_options const& o, std::vector<float> const& maps, std::size_t features) {
  if (!o.units.empty()) return o.units;
  std::vector<float> most(features);
  for (std::size_t k = 0; k != maps.size(); ++k) most[k % features] = std::max(most[k % features], maps[k]);
  auto units = highest_first(features, [&](std::size_t u) { return most[u]; });
  units.resize(std::min(units.size(), o.count));
  return units;
}

/// Errors: media_error where a stream has ended before the moment that is asked for, or a sound begins only behind the
/// second that is shown of it, from `second` on. (Of one that is not there the reader tells.)
void require_within(std::string const& file, clip_reader const& reader, modality what, double time, double second) {
  bool const sees = what == modality::frame;
  auto const& f = reader.facts();
  double const end = sees ? f.video.end : f.sound.end;
  if ((sees ? f.has_video : f.has_sound) && time > 0 && time >= end)
    throw media_error(
        {file, text("--time before its %s at %.3f s", sees ? "pictures end" : "sound ends", end), text("%g s", time)});
  if (!sees && f.has_sound && second + sound_seconds <= f.sound.begin)
    throw media_error({file, text("--time where its sound is, from %.3f s on", f.sound.begin), text("%g s", time)});
}

/// Maps of units side by side under their numbers, right of what they are maps of.
class unit_page {
 public:
  /// `step`: from one map to the next.
  unit_page(std::size_t begin, std::size_t step, std::size_t height, std::size_t units)
      : begin_(begin), step_(step), page_(begin + units * step, height + line_height) {}
  void put(rgb_frame const& picture, std::size_t x) { page_.put(picture, x, line_height); }
  void add(std::size_t unit, rgb_frame const& map, heat_map const& heat) {
    std::size_t const x = begin_ + units_.size() * step_;
    page_.write(text("unit %zu", unit), x, 2);
    put(map, x);
    units_.push_back(static_cast<double>(unit));
    heats_.insert(heats_.end(), heat.values.begin(), heat.values.end());
    size_ = heat.size;
  }
  /// Writes the picture and what is in it.
  void write(fs::path const& stem, double time, auto&& more) const {
    write_png(stem.string() + ".png", page_.picture());
    npz_writer arrays(stem.string() + ".npz");
    arrays.add("heat", {units_.size(), size_.height, size_.width}, std::span<float const>(heats_));
    arrays.add("unit", {units_.size()}, std::span<double const>(units_));
    arrays.add("time", {}, std::span<double const>(&time, 1));
    more(arrays);
    arrays.commit();
  }
  std::string says() const {
    std::string line = units_.empty() ? "no units" : "";
    for (double const u : units_) line += (line.empty() ? "units " : ", ") + text("%.0f", u);
    return line;
  }

 private:
  static constexpr std::size_t line_height = 16;
  std::size_t begin_, step_;
  canvas page_;
  std::vector<double> units_;
  std::vector<float> heats_;
  extent2 size_{};
};

/// Does `draw(reader, file, stem)` for each file; those that cannot be read are said and counted. What it makes is
/// named `stem` and an ending.
template <class Draw>
int each_file(inspect_options const& o, char const* kind, Draw&& draw) {
  make_folder(o.out);
  json files = json::array(), refused = json::array();
  decode_limits limits;
  limits.seconds = 0;
  output_names names;
  for (std::string const& file : o.files) names.add(file);
  for (auto const& [file, inside] : names.list()) {
    std::string const name = file.string();
    try {
      clip_reader reader(file, limits);
      fs::path stem = fs::path(o.out) / inside;
      make_folder(stem.parent_path());
      if (o.time > 0) stem += text("-%.9gs", o.time);
      files.push_back(draw(reader, name, (stem += '.') += kind));
    } catch (unusable_file const& e) {
      require_memory_left();
      bool const of_output =
          dynamic_cast<file_error const*>(&e) && !std::string_view(e.what()).starts_with(name + ": ");
      if (of_output) throw;  // that of the next file could not be written either
      o.warn(e.what());
      refused.push_back({{"file", name}, {"why", e.what()}});
    }
  }
  o.print({{"kind", kind}, {"files", files}, {"refused", refused}});
  return o.ended(files.size(), refused.size(), refused.empty() ? "" : refused.front().at("why").get<std::string>());
}

int heatmap_run(inspect_options const& o) {
  insides const inside(o, 1);
  require_units(o, inside.features());
  return each_file(o, "heatmap", [&](clip_reader& reader, std::string const& name, fs::path const& stem) {
    if (!reader.facts().still_image) require_within(name, reader, modality::frame, o.time, o.time);
    auto const maps = inside.maps_of(modality::frame, inside.item_of(reader.frame(o.time, inside.frame_side())));
    auto const shown = inside.seen(reader.frame(o.time, o.side));
    auto const units = units_of(o, maps, inside.features());
    unit_page page(o.side + 6, o.side + 6, o.side, units.size());
    page.put(shown, 0);
    for (auto const unit : units) {
      heat_map const heat = inside.unit_of(modality::frame, maps, unit);
      page.add(unit, overlaid(shown, heat, 0, largest(heat)), heat);
    }
    page.write(stem, o.time, [](npz_writer&) {});
    o.say(name + ": " + stem.string() + ".png, " + page.says());
    return json{{"file", name}, {"time", o.time}, {"picture", stem.string() + ".png"}, {"units", units}};
  });
}

int spectrogram_run(inspect_options const& o) {
  insides const inside(o, 1, true);
  if (!inside.has_units() && !o.units.empty())
    throw setting_error({"--units", "none of a network of OpenL3's", std::to_string(o.units.size())});
  if (!inside.hears()) throw setting_error({"--checkpoint", "one with an audio network", "one without"});
  require_units(o, inside.features());
  return each_file(o, "spectrogram", [&](clip_reader& reader, std::string const& name, fs::path const& stem) {
    std::vector<float> second(sound_rate);
    require_within(name, reader, modality::sound, o.time, o.time);
    reader.sound(o.time, second);
    auto const item = inside.item_of(std::span<float const>(second));
    std::vector<float> maps;
    if (inside.has_units()) maps = inside.maps_of(modality::sound, item);
    auto const units = inside.has_units() ? units_of(o, maps, inside.features()) : std::vector<std::size_t>();
    bool const sees = reader.facts().has_video;
    rgb_frame const plain = inside.chart(item, {}, 1);
    std::size_t const step = plain.width + 6, from = sees ? o.side + 6 : 0;
    unit_page page(from + step, step, std::max(plain.height, o.side), units.size());
    if (sees) page.put(inside.seen(reader.frame(o.time + sound_seconds / 2, o.side)), 0);
    page.put(plain, from);
    for (auto const unit : units) {
      heat_map const heat = inside.unit_of(modality::sound, maps, unit);
      page.add(unit, inside.chart(item, heat, largest(heat)), heat);
    }
    page.write(stem, o.time, [&](npz_writer& arrays) {
      arrays.add("spectrogram", {inside.facts().sound.height, inside.facts().sound.width},
                 std::span<float const>(item));
    });
    o.say(name + ": " + stem.string() + ".png, " + page.says());
    return json{{"file", name}, {"time", o.time}, {"picture", stem.string() + ".png"}, {"units", units}};
  });
}

int where_run(inspect_options const& o) {
  insides const inside(o, 64);
  return each_file(o, "correspondence", [&](clip_reader& reader, std::string const& name, fs::path const& stem) {
    std::vector<float> second(sound_rate);
    double const begin = std::max(0.0, o.time - sound_seconds / 2);
    for (auto const what : {modality::frame, modality::sound}) require_within(name, reader, what, o.time, begin);
    reader.sound(begin, second);
    auto const sound = inside.item_of(std::span<float const>(second));
    std::size_t const width = inside.features();
    std::vector<float> heard(width);
    inside.net().embed(modality::sound, {}, sound, 1, heard);
    auto const maps = inside.maps_of(modality::frame, inside.item_of(reader.frame(o.time, inside.frame_side())));
    heat_map score{inside.net().map_size(modality::frame), {}};
    std::size_t const cells = score.size.height * score.size.width;
    std::vector<float> sounds, logits(2 * 64);
    for (std::size_t first = 0; first < cells; first += 64) {
      std::size_t const n = std::min<std::size_t>(64, cells - first);
      sounds.clear();
      for (std::size_t k = 0; k != n; ++k) sounds.insert(sounds.end(), heard.begin(), heard.end());
      inside.net().score_features(std::span(maps).subspan(first * width, n * width), sounds, n, logits);
      for (std::size_t k = 0; k != n; ++k) score.values.push_back(logits[2 * k + 1] - logits[2 * k]);
    }
    auto const shown = inside.seen(reader.frame(o.time, o.side));
    auto const [low, high] = std::minmax_element(score.values.begin(), score.values.end());
    rgb_frame const chart = inside.chart(sound, {}, 1);
    canvas page(2 * (o.side + 6) + chart.width, o.side);
    page.put(shown, 0, 0);
    page.put(overlaid(shown, score, *low, *high), o.side + 6, 0);
    page.put(chart, 2 * (o.side + 6), 0);
    write_png(stem.string() + ".png", page.picture());
    npz_writer arrays(stem.string() + ".npz");
    arrays.add("score", {score.size.height, score.size.width}, std::span<float const>(score.values));
    arrays.add("time", {}, std::span<double const>(&o.time, 1));
    arrays.commit();
    o.say(name + ": " + stem.string() + ".png");
    return json{
        {"file", name}, {"time", o.time}, {"picture", stem.string() + ".png"}, {"lowest", *low}, {"highest", *high}};
  });
}

void add_shared(CLI::App& command, inspect_options& o, bool imported = false) {
  o.network.add_to(command, imported);
  command.add_option("--out,-o", o.out, "Folder for the pictures (PNG) and their numbers (.npz)")->required();
  command.add_option("--side", o.side, "Pixels of a picture's smallest side before the network's crop")
      ->capture_default_str()
      ->check(CLI::Range(64, 4096).description(""));
  o.add_to(command);
}
void add_units(CLI::App& command, inspect_options& o) {
  comma_list(command.add_option("--units", o.units, "Which units; none: see --count"));
  command.add_option("--count", o.count, "How many, where none are named")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000).description(""));
}
void add_files(CLI::App& command, inspect_options& o, char const* what, bool imported = false) {
  command.add_option("files", o.files, what)->required();
  command.add_option("--time", o.time, "Moment of the file, in seconds")->capture_default_str()->check(zero_or_more);
  add_shared(command, o, imported);
}

}  // namespace

work add_inspect(CLI::App& command) {
  command.require_subcommand(1);
  command.footer("Example:\n  l3 inspect units videos/test.csv --checkpoint run/best.safetensors --out run/inspect");
  auto const u = std::make_shared<inspect_options>();
  CLI::App* const units = command.add_subcommand("units", "The frames and sounds that units of pool4 respond to most");
  units->add_option("data", u->data, "Folder, CSV, list or index of videos, or a packed folder")->required();
  units->add_option("--what", u->what, "vision, audio or both")
      ->check(CLI::IsMember({"vision", "audio", "both"}))
      ->capture_default_str();
  units->add_option("--top", u->top, "Frames or sounds for each unit, of different videos")
      ->capture_default_str()
      ->check(CLI::Range(1, 100).description(""));
  units->add_option("--moments", u->moments, "Moments to choose from, an even number")
      ->capture_default_str()
      ->check(above_zero)
      ->check(even);
  add_clip_seconds(*units, u->seconds);
  add_workers(*units, u->workers);
  add_units(*units, *u);
  add_shared(*units, *u);
  units->footer(
      "Units are those that tell one class best from all others, or, of videos without labels, whose highest values "
      "stand\n"
      "out most.\nExample:\n  l3 inspect units videos/test.csv --checkpoint run/best.safetensors --out run/inspect "
      "--top 8");

  auto const h = std::make_shared<inspect_options>();
  h->count = 4;
  CLI::App* const heatmap = command.add_subcommand("heatmap", "Where in a picture units respond");
  add_files(*heatmap, *h, "Pictures or videos");
  add_units(*heatmap, *h);
  heatmap->footer("Example:\n  l3 inspect heatmap photo.jpg --checkpoint run/best.safetensors --out pictures");

  auto const s = std::make_shared<inspect_options>();
  s->count = 4;
  CLI::App* const spectrogram = command.add_subcommand("spectrogram", "Where in a second of sound units respond");
  add_files(*spectrogram, *s, "Sounds or videos", true);
  add_units(*spectrogram, *s);
  spectrogram->footer(
      "Example:\n  l3 inspect spectrogram video.mp4 --time 2 --checkpoint run/best.safetensors --out pictures");

  auto const w = std::make_shared<inspect_options>();
  CLI::App* const where = command.add_subcommand("correspondence", "Which parts of a frame go with its sound");
  add_files(*where, *w, "Videos");
  where->footer(
      "The fusion head's score with the picture's features taken at one place instead of the largest of all places: "
      "ours,\n"
      "not the paper's.\n"
      "Example:\n  l3 inspect correspondence video.mp4 --time 2 --checkpoint run/best.safetensors --out pictures");

  return [=] {
    if (units->parsed()) return units_run(*u);
    if (heatmap->parsed()) return heatmap_run(*h);
    if (spectrogram->parsed()) return spectrogram_run(*s);
    return where_run(*w);
  };
}

}  // namespace l3::program
