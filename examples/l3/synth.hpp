/// @file  examples/l3/synth.hpp: writes a data set of made-up instruments as MP4 files: see synth_scene.hpp for how
/// they look and synth_sound.hpp for how they sound.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <l3/core/context.hpp>
#include <l3/core/error.hpp>
#include <l3/core/random.hpp>
#include <l3/data/media_writer.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/csv.hpp>
#include <l3/files/file_lock.hpp>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "synth_common.hpp"
#include "synth_scene.hpp"
#include "synth_sound.hpp"

namespace l3::program {

/// What to write.
struct synth_options {
  std::filesystem::path out{};  ///< folder; made if it is not there
  std::size_t videos = 640;     ///< in all: 70 % for training, 10 % for validation, 20 % for the test
  double seconds = 4;           ///< length of each, rounded to whole frames
  std::uint64_t seed = 0;
  int classes = 10;  ///< kinds of instruments, 2 to 16
  synth::level level = synth::level::easy;
  std::size_t threads = 0;   ///< zero: one a core; the files are the same for any number
  bool overwrite = false;    ///< replace a data set that lies in `out` already
  bool independent = false;  ///< look and sound of different, independent classes: there is nothing to learn
};

/// What was written.
struct synth_report {
  std::array<std::size_t, 3> videos{};  ///< in train, valid, test
  double seconds = 0;                   ///< length of each
  std::uint64_t bytes = 0;              ///< of all videos
};

/// Called after each video, by one thread at a time; what it throws ends the work and reaches the caller.
using synth_progress = std::function<void(std::size_t done, std::size_t total)>;
/// Called before each frame, by any thread; what it throws ends the work and reaches the caller.
using synth_check = std::function<void()>;

namespace synth {

inline constexpr std::array part_names{"train", "valid", "test"};

/// "disc flute": what is seen and what is heard.
inline std::string label_of(int c) {
  auto const k = static_cast<std::size_t>(c);
  return std::string(shape_names[k]) + ' ' + timbres[k].name;
}

/// One video before it is made.
struct plan {
  part which;
  int picture;  ///< class of the look
  int sound;    ///< class of the sound, the same unless the two are independent
};

/// What was made of a plan, for sources.csv.
struct source_facts {
  look seen;
  voice heard;
  double notes_per_second = 0;
};

/// What the random numbers of a video are for: each has a step of its own, so that look and sound share none.
enum class purpose : std::uint64_t { plan, look, scene, tune, other_tune, voice, sound, camera, encoder };
inline generator random(synth_options const& o, purpose what, std::size_t video, std::uint64_t item = 0) {
  return {o.seed, stream::synthesis, static_cast<std::uint64_t>(what) << 40 | item, static_cast<std::uint32_t>(video)};
}

/// Moves each element to a random place.
template <class T>
void shuffle(std::vector<T>& v, generator& g) {
  for (auto i = v.size(); i > 1; --i) std::swap(v[i - 1], v[g.below(static_cast<std::uint32_t>(i))]);
}

/// Shares the videos out to parts and classes, every class as often in every part (give or take one), in random order.
inline std::vector<plan> make_plans(synth_options const& o) {
  auto const share = [&](double fraction) {
    return std::max<std::size_t>(2, static_cast<std::size_t>(std::lround(fraction * static_cast<double>(o.videos))));
  };
  auto const valid = share(0.1), test = share(0.2);
  std::array const counts{o.videos - valid - test, valid, test};
  auto g = random(o, purpose::plan, 0);
  std::vector<plan> plans;
  for (std::size_t p = 0; p < counts.size(); ++p) {
    std::vector<int> order;
    for (int c = 0; c < o.classes; ++c) order.push_back(c);
    shuffle(order, g);  // which classes come once more
    for (std::size_t i = 0; i < counts[p]; ++i) {
      auto const picture = order[i % order.size()];
      auto const sound = o.independent ? static_cast<int>(g.below(static_cast<std::uint32_t>(o.classes))) : picture;
      plans.push_back({static_cast<part>(p), picture, sound});
    }
  }
  shuffle(plans, g);
  return plans;
}

/// Every camera compresses in its own way, so that the size of a file tells nothing of what it shows.
inline media_format format_of(synth_options const& o, std::size_t video) {
  auto g = random(o, purpose::encoder, video);
  auto const quality = 19 + static_cast<int>(g.below(9));
  auto const sound_bit_rate = 80000 + 8000 * static_cast<int>(g.below(7));
  return {width, height, frame_rate, sample_rate, quality, sound_bit_rate};
}

inline int frame_count(synth_options const& o) { return static_cast<int>(std::lround(o.seconds * frame_rate)); }

/// Draws look and voice, then makes the video: `on_frame(rgb)` receives each picture, `on_sound(samples)` the sound. It
/// depends on the options and the number of the video only.
template <class OnFrame, class OnSound>
source_facts make_video(synth_options const& o, plan const& p, std::size_t video, OnFrame on_frame, OnSound on_sound) {
  auto const frames = frame_count(o);
  auto const seconds = static_cast<double>(frames) / frame_rate;
  source_facts facts;
  auto tunes = random(o, purpose::tune, video);
  auto const tune = draw_tune(tunes, seconds);
  facts.notes_per_second = static_cast<double>(tune.size()) / (tune.back().onset + tune.back().length - tune[0].onset);

  auto voices = random(o, purpose::voice, video);
  auto const made = vary(timbres[static_cast<std::size_t>(p.sound)], voices, o.level);
  facts.heard = draw_voice(voices, made, p.which, o.level);
  on_sound(play_tune(made, facts.heard, tune, o.level, seconds,
                     [&](std::uint32_t item) { return random(o, purpose::sound, video, item); }));

  // The instrument moves with its notes; where look and sound are independent, with notes that nobody hears.
  auto other_tunes = random(o, purpose::other_tune, video);
  auto const shown = o.independent ? draw_tune(other_tunes, seconds) : tune;
  auto looks = random(o, purpose::look, video), scenery = random(o, purpose::scene, video);
  facts.seen = draw_look(looks, p.which, o.level);
  scene const stage(p.picture, facts.seen, o.level, scenery);
  std::vector<std::uint8_t> rgb(std::size_t{3} * width * height);
  std::size_t playing = 0;
  for (int f = 0; f < frames; ++f) {
    auto const time = static_cast<double>(f) / frame_rate;
    while (playing + 1 < shown.size() && shown[playing + 1].onset <= time) ++playing;
    auto camera = random(o, purpose::camera, video, static_cast<std::uint64_t>(f));
    stage.draw(time, shown[playing].loudness * std::exp((shown[playing].onset - time) / 0.12), camera, rgb);
    on_frame(rgb);
  }
  return facts;
}

inline std::string file_name(std::size_t video) {
  char name[32];
  std::snprintf(name, sizeof name, "videos/%05zu.mp4", video);  // says nothing of class or part
  return name;
}

inline std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

inline void require_possible(synth_options const& o) {
  auto const require = [](bool met, char const* subject, char const* expected, std::string found) {
    if (!met) throw setting_error(complaint{subject, expected, std::move(found)});
  };
  require(o.videos >= 6 && o.videos <= 100000, "--videos", "6 to 100000", std::to_string(o.videos));
  require(o.seconds >= 1 && o.seconds <= 600, "--seconds", "1 to 600", number(o.seconds));
  require(o.classes >= 2 && o.classes <= synth::classes, "--classes", "2 to 16", std::to_string(o.classes));
}

/// By which a data set's README.txt is known.
inline constexpr std::string_view readme_begins = "Made-up instruments\n\nMade by `l3 synth`, ";

inline std::vector<std::filesystem::path> lists_of(std::filesystem::path const& out) {
  return {out / "train.csv", out / "valid.csv", out / "test.csv", out / "sources.csv", out / "README.txt"};
}

/// Makes the folders, for this process alone. Of an older data set the lists go first: without them a half-written one
/// cannot be taken for whole. What is begun is known as l3 synth's from then on.
inline file_lock prepare_folder(synth_options const& o) {
  namespace fs = std::filesystem;
  auto const videos = o.out / "videos";
  try {
    if (fs::exists(o.out) && !fs::is_directory(o.out))
      throw file_error(complaint{o.out.string(), "a folder to write to", "a file"});
    fs::create_directories(o.out);
    auto lock = file_lock::of_folder(o.out);
    if (lock.is_taken())
      throw file_error(complaint{o.out.string(), "a folder that no process writes to", "another one at work on it"});
    if (!fs::is_empty(o.out)) {
      if (!o.overwrite)
        throw setting_error(
            complaint{o.out.string(), "an empty folder or a new one (--force replaces a data set)", "files in it"});
      auto const readme = o.out / "README.txt";
      bool const is_ours = fs::exists(readme) && read_file(readme, 1 << 20).starts_with(readme_begins);
      for (auto const& list : lists_of(o.out))
        if (!is_ours && fs::exists(list))
          throw file_error(complaint{list.string(), "a data set of l3 synth, to replace it", "another file"});
      for (auto const& list : lists_of(o.out))
        if (list != readme) fs::remove(list);
      detail::remove_leftovers(o.out, {});
      if (fs::exists(videos)) {
        std::vector<fs::path> old;
        for (auto const& entry : fs::directory_iterator(videos))
          if (auto const name = entry.path().filename().string();
              name.size() == 9 && name.find_first_not_of("0123456789") == 5 && name.ends_with(".mp4"))
            old.push_back(entry.path());
        if (!is_ours && !old.empty())
          throw file_error(complaint{old.front().string(), "a data set of l3 synth, to replace it", "another video"});
        for (auto const& file : old) fs::remove(file);
        detail::remove_leftovers(videos, {});
      }
    }
    bool const is_new = fs::create_directory(videos);
    try {
      write_file(o.out / "README.txt", std::string(readme_begins) + "and not finished yet.\n");
    } catch (file_error const&) {
      std::error_code ignored;  // the reason above is what is told
      if (is_new) fs::remove(videos, ignored);
      throw;
    }
    return lock;
  } catch (fs::filesystem_error const& e) {
    throw file_error(complaint{o.out.string(), "a folder that can be written", e.code().message()});
  }
}

/// While it lives, an end of the work takes with it what was written: the same command can then begin anew.
class unfinished_set {
 public:
  /// Makes the folders.
  explicit unfinished_set(synth_options const& o) : out_(o.out), videos_(o.videos) {
    std::error_code unknown;  // prepare_folder finds out, and says so
    is_new_ = !std::filesystem::exists(o.out, unknown);
    lock_ = prepare_folder(o);
  }
  unfinished_set(unfinished_set const&) = delete;
  unfinished_set& operator=(unfinished_set const&) = delete;
  ~unfinished_set() {
    if (finished_) return;
    std::error_code ignored;  // the reason for the end is what is told
    for (auto const& list : lists_of(out_)) std::filesystem::remove(list, ignored);
    for (std::size_t v = 0; v != videos_; ++v) std::filesystem::remove(out_ / file_name(v), ignored);
    std::filesystem::remove(out_ / "videos", ignored);  // unless there are others in it
    if (is_new_) std::filesystem::remove(out_, ignored);
  }
  void finish() { finished_ = true; }

 private:
  std::filesystem::path out_;
  std::size_t videos_;
  bool is_new_ = false, finished_ = false;
  file_lock lock_;
};

inline std::string readme_of(synth_options const& o, synth_report const& r) {
  std::string text =
      std::string(readme_begins) + "seed " + std::to_string(o.seed) + ", level " +
      (o.level == level::hard ? "hard" : "easy") + (o.independent ? ", look and sound independent of each other" : "") +
      ".\n" + std::to_string(o.videos) + " videos of " + number(r.seconds) +
      " s: H.264, 112 x 96, 12 frames a second; AAC, 48 kHz, mono.\n\n"
      "train.csv, valid.csv, test.csv   path,label; paths are relative to this folder\n"
      "sources.csv                      what was drawn for each video\n\n"
      "A class is a silhouette and a timbre; the label names both. Size, place, angle, colours, background, "
      "distractors,\n"
      "tuning, tune, tempo, loudness and peaks are drawn alike for all classes, silhouettes cover equal areas. Each\n"
      "video shows an instrument of its own. Of the colour pairs and tunings (cells in sources.csv), those whose "
      "number\n"
      "ends in 0 to 6 occur in training only, in 7 in validation only, in 8 and 9 in the test only.\n";
  if (o.independent)
    text +=
        "Look and sound are of independent classes here; the label is that of the look. Whether a picture and a sound\n"
        "correspond cannot be told better than by chance.\n";
  text += "\nclass label\n";
  for (int c = 0; c < o.classes; ++c) {
    auto const digits = std::to_string(c);
    text += std::string(5 - digits.size(), ' ') + digits + ' ' + label_of(c) + '\n';
  }
  return text;
}

}  // namespace synth

/// Writes the data set: OUT/videos/*.mp4, then OUT/README.txt, OUT/sources.csv and the lists
/// OUT/{train,valid,test}.csv. Same options, same bytes, whatever the number of threads.
///
/// Errors  setting_error: an option out of its range, or `out` is not empty and overwrite is off. file_error: it cannot
///         be written (disk full). media_error: this FFmpeg has no H.264 encoder. Lists are written last: where they
///         are, the data set is whole. After an error, or what `progress` or `check` threw, none of its files is left.
inline synth_report write_synth(synth_options const& o, synth_progress const& progress = {},
                                synth_check const& check = {}) {
  using namespace synth;
  require_possible(o);
  media_writer(format_of(o, 0), file_name(0));  // no encoder, no folder
  unfinished_set set(o);

  auto const plans = make_plans(o);
  std::vector<source_facts> facts(plans.size());
  synth_report report{.seconds = static_cast<double>(frame_count(o)) / frame_rate};
  std::mutex one_at_a_time;
  std::size_t done = 0;
  thread_team team(o.threads);
  team.run(plans.size(), [&](std::size_t video, std::size_t) {
    media_writer writer(format_of(o, video), (o.out / file_name(video)).string());
    facts[video] = make_video(
        o, plans[video], video,
        [&](std::vector<std::uint8_t> const& rgb) {
          if (check) check();
          writer.add_frame(rgb);
        },
        [&](std::vector<float> const& sound) { writer.add_sound(sound); });
    auto const bytes = writer.finish();
    atomic_file file(o.out / file_name(video));
    file.write(std::as_bytes(std::span(bytes)));
    file.commit();
    std::lock_guard const lock(one_at_a_time);
    report.bytes += bytes.size();
    ++done;
    if (progress) progress(done, plans.size());
  });

  std::array<std::string, 3> lists;
  lists.fill(csv_row({"path", "label"}));
  auto sources =
      csv_row({"path", "part", "look", "timbre", "tuning_cell", "tuning_hz", "notes_per_s", "rms_db", "background_db",
               "radius_px", "x_px", "y_px", "angle_rad", "colour_cell", "luma", "back_luma"});
  for (std::size_t v = 0; v < plans.size(); ++v) {
    auto const& p = plans[v];
    auto const& [seen, heard, notes] = facts[v];
    auto const which = static_cast<std::size_t>(p.which);
    ++report.videos[which];
    lists[which] += csv_row({file_name(v), label_of(p.picture)});
    sources += csv_row({file_name(v), part_names[which], shape_names[static_cast<std::size_t>(p.picture)],
                        timbres[static_cast<std::size_t>(p.sound)].name, std::to_string(heard.tuning),
                        number(heard.root), number(notes), number(20 * std::log10(heard.rms)), number(heard.background),
                        number(seen.radius), number(seen.x), number(seen.y), number(seen.angle),
                        std::to_string(seen.colours), number(seen.luma), number(seen.back_luma)});
  }
  write_file(o.out / "README.txt", readme_of(o, report));  // first: it says whose the others are
  write_file(o.out / "sources.csv", sources);
  for (std::size_t p = 0; p < lists.size(); ++p) write_file(o.out / (std::string(part_names[p]) + ".csv"), lists[p]);
  set.finish();
  return report;
}

}  // namespace l3::program
