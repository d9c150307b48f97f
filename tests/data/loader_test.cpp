/// @file  tests/data/loader_test.cpp: the same batches for any number of workers, whatever fails; bounded memory; a
/// quick end.
#include <oneapi/tbb/global_control.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <l3/core/fingerprint.hpp>
#include <l3/data/loader.hpp>
#include <l3/data/spectrogram.hpp>
#include <l3/data/video_files.hpp>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "decode_fixtures.hpp"

namespace {

namespace fs = std::filesystem;

/// Cheap, and with sides that differ.
struct small_model {
  using frame = l3::image<20, 24, 3>;
  static constexpr std::size_t frame_side = 28;
  using front_end = l3::coarse_front_end;
};
using batch = l3::loader<small_model>::batch_type;
/// Cheaper still, for tests of what is drawn more than of what it becomes.
using unfinished = l3::as_bytes<small_model>;

/// All that some items of a batch hold, byte for byte; of seconds that are not pictures yet, their fingerprints.
template <class Batch>
std::string bytes_of(Batch const& b, std::size_t first, std::size_t count) {
  std::string all;
  auto const add = [&](auto const& values) {
    all.append(reinterpret_cast<char const*>(std::data(values)), std::size(values) * sizeof(*std::data(values)));
  };
  if constexpr (std::is_same_v<Batch, batch>) {
    add(b.frame_view().slice(first, count).values());
    add(b.sound_view().slice(first, count).values());
  } else {
    auto const raw = b.view();
    add(raw.crops.slice(first, count).values());
    for (std::size_t i = first; i != first + count; ++i) {
      std::span<float const> const second = raw.seconds[i];
      add(std::array{l3::fingerprint({reinterpret_cast<char const*>(second.data()), second.size_bytes()})});
      auto const& jitter = raw.jitters[i];
      add(std::array{double(jitter.top), double(jitter.left), double(jitter.mirrored), double(jitter.brightness),
                     double(jitter.saturation), double(jitter.saturation_first)});
    }
    add(raw.volumes.subspan(first, count));
  }
  add(b.label_view().subspan(first, count));
  add(std::span(b.frame_clips).subspan(first, count));
  add(std::span(b.sound_clips).subspan(first, count));
  add(std::span(b.frame_times).subspan(first, count));
  add(std::span(b.sound_starts).subspan(first, count));
  return all + std::to_string(b.step);
}
template <class Batch>
std::string bytes_of(Batch const& b) {
  return bytes_of(b, 0, b.count);
}

/// What a run gives: batches, and refusals as they were reported.
struct record {
  std::vector<std::string> batches;
  std::vector<l3::refusal> refusals;
  friend bool operator==(record const&, record const&) = default;
};
template <class Reader = l3::clip_reader, class Form = l3::as_values<small_model>>
record run(l3::clip_list const& clips, l3::loader_options options, std::size_t batches) {
  record r;
  options.on_refusal = [&](l3::refusal const& refused) { r.refusals.push_back(refused); };
  l3::loader<small_model, l3::video_files<Reader>, Form> loader(clips, options);
  while (r.batches.size() < batches) {
    auto const* b = loader.next();
    if (b == nullptr) break;
    r.batches.push_back(bytes_of(*b));
  }
  CHECK(loader.report().batches == r.batches.size());
  return r;
}

/// Eight small videos of different lengths, pictures and pitch, made once; and files that cannot be used.
struct media {
  l3::clip_list good, mixed;
  media() {
    for (int i = 0; i != 8; ++i) {
      auto const name = "good" + std::to_string(i) + ".mp4";
      auto const seconds = std::to_string(1.25 + 0.25 * i);
      fixtures::ffmpeg("-f lavfi -i testsrc2=size=" + std::to_string(48 + 8 * i) + "x40:rate=12:duration=" + seconds +
                       " -f lavfi -i sine=frequency=" + std::to_string(220 * (i + 1)) + ":duration=" + seconds +
                       " -c:v libx264 -g 6 -pix_fmt yuv420p -c:a aac " + name);
      good.push_back({fixtures::folder() / name, name, ""});
    }
    fixtures::ffmpeg("-i good5.mp4 -t 0.5 short.mp4");
    fixtures::ffmpeg("-i good5.mp4 -an -c copy silent.mp4");
    fixtures::ffmpeg("-i good5.mp4 -vn -c copy blind.mp4");
    auto cut = fixtures::read_file(fixtures::folder() / "good5.mp4");
    cut.resize(cut.size() / 3);  // ffmpeg writes the index at the end: this one is lost
    fixtures::write_file("cut.mp4", cut);
    fixtures::write_file("text.mp4", fixtures::bytes(500, 'x'));
    for (std::size_t i = 0; i != good.size(); ++i) {
      mixed.push_back(good[i]);
      if (i != 1) continue;
      for (auto const* name : {"missing.mp4", "text.mp4", "cut.mp4", "blind.mp4", "silent.mp4", "short.mp4"})
        mixed.push_back({fixtures::folder() / name, name, ""});
    }
  }
};
/// Null, with a word about it, where there is no ffmpeg program.
media const* need_media() {
  static std::optional<media> const made = fixtures::have_ffmpeg() ? std::optional<media>(std::in_place) : std::nullopt;
  if (!made) std::cout << "SKIPPED: the ffmpeg program is not installed\n";
  return made ? &*made : nullptr;
}

/// A reader without a file: length and faults are in the name, and work is counted.
struct made_up_reader {
  static inline std::atomic<int> alive = 0, most_alive = 0, opened = 0, frames = 0;
  static inline std::atomic<double> milliseconds = 0;  ///< of work for each frame
  static inline std::atomic<bool> away = false;        ///< the disk of those whose names say so

  static void reset(double work = 0) {
    away = false;
    alive = most_alive = opened = frames = 0;
    milliseconds = work;
  }

  explicit made_up_reader(fs::path const& file, l3::decode_limits = {}) : name(file.filename().string()) {
    ++opened;
    if (name.starts_with("broken")) throw l3::media_error({name, "a video", "rubbish"});
    if (away && name.starts_with("lent")) throw l3::file_error({name, "a file that can be read", "no answer"});
    if (name.starts_with("bug")) throw std::logic_error("a mistake in the program");
    known.has_video = known.has_sound = true;
    known.video = {0, std::stod(name.substr(name.find('@') + 1))};
    known.sound = known.video;
    int const now = ++alive;
    for (int most = most_alive; most < now && !most_alive.compare_exchange_weak(most, now);) {
    }
  }
  ~made_up_reader() { --alive; }
  l3::clip_facts const& facts() const { return known; }
  l3::rgb_frame frame(double t, std::size_t side) {
    ++frames;
    auto const end = std::chrono::steady_clock::now() + std::chrono::duration<double, std::milli>(milliseconds);
    while (std::chrono::steady_clock::now() < end) {
    }
    // The middle of such a file is damaged.
    if (name.starts_with("ruin") || (name.starts_with("damaged") && std::abs(t / known.video.end - 0.5) < 0.25))
      throw l3::media_error({name, "a picture", "damage"});
    return {side, side, std::vector<std::uint8_t>(side * side * 3, static_cast<std::uint8_t>(t * 20)), t};
  }
  void sound(double start, std::span<float> out) {
    if (name.starts_with("mute") && start > known.video.end / 2) throw l3::media_error({name, "sound", "damage"});
    for (std::size_t i = 0; i != out.size(); ++i) out[i] = static_cast<float>(std::sin(static_cast<double>(i) * start));
  }

  std::string name;
  l3::clip_facts known;
};
using made_up_loader = l3::loader<small_model, l3::video_files<made_up_reader>>;
using unfinished_loader = l3::loader<small_model, l3::video_files<made_up_reader>, unfinished>;
l3::clip_list made_up(std::vector<std::string> const& called) {
  l3::clip_list clips;
  for (auto const& name : called) clips.push_back({"nowhere/" + name, name, ""});
  return clips;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("the items are what the reader gives at the times stated") {
  auto const* files = need_media();
  if (!files) return;
  l3::loader_options options{.seed = 4, .batch = 6, .evaluation_pairs = 12, .workers = 2};
  l3::loader<small_model> loader(files->good, options);
  std::size_t items = 0;
  std::vector<float> samples(48000), spectrum(l3::coarse_front_end::output::size), picture(small_model::frame::size);
  l3::spectrogram<l3::coarse_front_end> to_spectrum;
  while (auto const* b = loader.next()) {
    for (std::size_t i = 0; i != b->count; ++i, ++items) {
      l3::clip_reader frames(files->good[b->frame_clips[i]].file), sounds(files->good[b->sound_clips[i]].file);
      l3::centre_image<small_model::frame>(frames.frame(b->frame_times[i], small_model::frame_side),
                                           std::span<float, small_model::frame::size>(picture));
      CHECK(std::ranges::equal(b->frame_view()[i], picture));
      sounds.sound(b->sound_starts[i], samples);
      to_spectrum(samples, std::span<float, l3::coarse_front_end::output::size>(spectrum));
      CHECK(std::ranges::equal(b->sound_view()[i], spectrum));
      CHECK(b->labels[i] == (b->frame_clips[i] == b->sound_clips[i] ? 1 : 0));
      auto const both = frames.facts().both();
      REQUIRE(both);
      CHECK((both->begin <= b->frame_times[i] && b->frame_times[i] <= both->end));
      if (b->labels[i] == 1)
        CHECK((b->sound_starts[i] <= b->frame_times[i] && b->frame_times[i] <= b->sound_starts[i] + 1));
    }
  }
  CHECK(items == 12);
}

TEST_CASE("bytes and samples make the very same items, refused files and shared openings included") {
  auto const* files = need_media();
  if (!files) return;
  using model = small_model;
  using raw_loader = l3::loader<model, l3::video_files<>, l3::as_bytes<model>>;
  l3::spectrogram<model::front_end> const to_spectrum;
  std::vector<float> samples(48000), spectrum(model::front_end::output::size), picture(model::frame::size);
  for (l3::loader_options const& options :
       {l3::loader_options{.seed = 4, .batch = 6, .batches = 4, .workers = 2},
        l3::loader_options{.seed = 5, .batch = 6, .evaluation_pairs = 12, .workers = 2},
        l3::loader_options{
            .seed = 6, .batch = 4, .batches = 3, .draws_per_opening = 2, .reservoir_videos = 4, .workers = 2}}) {
    CAPTURE(options.seed);
    l3::loader<model> values(files->mixed, options);
    raw_loader bytes(files->mixed, options);
    std::size_t items = 0;
    while (auto const* v = values.next()) {
      auto const* b = bytes.next();
      REQUIRE(b != nullptr);
      CHECK((b->count == v->count && b->step == v->step));
      CHECK((b->labels == v->labels && b->frame_clips == v->frame_clips && b->sound_clips == v->sound_clips));
      CHECK((b->frame_times == v->frame_times && b->sound_starts == v->sound_starts));
      auto const raw = b->view();
      for (std::size_t i = 0; i != b->count; ++i, ++items) {
        CAPTURE(i);
        auto jitter = raw.jitters[i];
        CHECK((options.evaluation_pairs == 0 || (!jitter.mirrored && jitter.brightness == 0 && raw.volumes[i] == 1)));
        jitter.top = jitter.left = 0;  // it is cut out already
        l3::rgb_view const crop{raw.crops[i], model::frame::width, model::frame::height};
        if (options.evaluation_pairs > 0)
          l3::centre_image<model::frame>(crop, std::span<float, model::frame::size>(picture));
        else
          l3::augment_image<model::frame>(crop, jitter, std::span<float, model::frame::size>(picture));
        CHECK(std::ranges::equal(picture, v->frame_view()[i]));
        std::ranges::transform(raw.seconds[i], samples.begin(), [&](float s) { return s * raw.volumes[i]; });
        to_spectrum(samples, std::span<float, model::front_end::output::size>(spectrum));
        CHECK(std::ranges::equal(spectrum, v->sound_view()[i]));
      }
    }
    CHECK(bytes.next() == nullptr);
    CHECK(items >= 12);
  }
}

TEST_CASE("batches are the same bits for any number of workers and any depth, with files refused on the way") {
  auto const* files = need_media();
  if (!files) return;
  for (auto const pairs : {l3::pairing::all, l3::pairing::paper}) {
    l3::loader_options options{.seed = 6, .batch = 6, .pairs = pairs, .workers = 1, .ahead = 1};
    auto const alone = run(files->mixed, options, 12);
    REQUIRE(alone.batches.size() == 12);
    CHECK(std::set(alone.batches.begin(), alone.batches.end()).size() == 12);

    std::set<std::string> refused;
    for (auto const& each : alone.refusals) {
      CHECK(each.whole_file);
      CHECK(each.step < 12);
      CHECK(refused.insert(each.file).second);  // told once
    }
    CHECK(refused ==
          std::set<std::string>{"short.mp4", "silent.mp4", "blind.mp4", "cut.mp4", "text.mp4", "missing.mp4"});

    for (std::size_t const workers : {2u, 4u}) {
      options.workers = workers;
      options.ahead = workers + 1;
      CHECK(run(files->mixed, options, 12) == alone);
      options.open_bytes =
          options.open_bytes == 0 ? std::size_t{1} << 30 : 0;  // the videos kept open make no difference
    }

    // A run that is resumed knows the refusals, and goes on with the same batches.
    options.first = 5;
    options.known = alone.refusals;
    auto const resumed = run(files->mixed, options, 7);
    CHECK(std::equal(resumed.batches.begin(), resumed.batches.end(), alone.batches.begin() + 5, alone.batches.end()));
    CHECK(resumed.refusals.empty());
    // And so does one that has lost its record.
    options.known.clear();
    CHECK(run(files->mixed, options, 7).batches == resumed.batches);

    // Two processes share the batches, refused files or not.
    auto const items = [&](l3::loader_options const& o, std::size_t first) {
      std::vector<std::string> all;
      l3::loader<small_model> loader(files->mixed, o);
      while (all.size() != 12) all.push_back(bytes_of(*loader.next(), first, 2));
      return all;
    };
    options.first = 0, options.worker = 2;
    for (std::size_t const begin : {0u, 2u, 4u}) {
      auto part = options;
      part.whole = 6, part.batch = 2, part.part_begin = begin;
      CHECK(items(part, 0) == items(options, begin));
    }
  }
}

TEST_CASE("a file damaged in the middle loses those moments only, the same for any number of workers") {
  made_up_reader::reset();
  auto const clips = made_up({"damaged1@4", "a@1", "b@2.5", "mute@3", "c@8", "damaged2@6", "broken@3", "d@1.01"});
  for (auto const pairs : {l3::pairing::all, l3::pairing::paper}) {
    l3::loader_options options{.seed = 1, .batch = 4, .pairs = pairs, .workers = 1};
    auto const alone = run<made_up_reader, unfinished>(clips, options, 60);
    for (std::size_t const workers : {2u, 4u}) {
      options.workers = workers;
      CHECK(run<made_up_reader, unfinished>(clips, options, 60) == alone);
    }
    std::map<std::string, bool> refused;
    for (auto const& each : alone.refusals) CHECK(refused.emplace(each.file, each.whole_file).second);
    CHECK(refused == std::map<std::string, bool>{
                         {"damaged1@4", false}, {"mute@3", false}, {"damaged2@6", false}, {"broken@3", true}});

    unfinished_loader loader(clips, options);
    std::set<std::uint32_t> used;
    for (int i = 0; i != 60; ++i) {
      auto const& b = *loader.next();
      for (std::size_t k = 0; k != b.count; ++k) {
        used.insert(b.frame_clips[k]);
        if (b.frame_clips[k] == 0) CHECK(std::abs(b.frame_times[k] / 4 - 0.5) >= 0.25);
        if (b.sound_clips[k] == 3) CHECK(b.sound_starts[k] <= 1.5);
      }
    }
    CHECK(used == std::set<std::uint32_t>{0, 1, 2, 3, 4, 5, 7});
  }
}

TEST_CASE("a disk that was away for a moment is asked again, and a run that goes on opens what was refused") {
  made_up_reader::reset();
  auto const clips = made_up({"a@2", "lent1@2", "lent2@2", "b@2", "broken@2", "c@2"});
  auto const used_by = [](made_up_loader& loader, int batches) {
    std::set<std::uint32_t> used;
    for (int i = 0; i != batches; ++i)
      for (std::uint32_t const clip : loader.next()->frame_clips) used.insert(clip);
    return used;
  };
  for (auto const pairs : {l3::pairing::all, l3::pairing::paper}) {
    std::vector<l3::refusal> told;
    l3::loader_options options{.seed = 3, .batch = 2, .pairs = pairs, .workers = 2, .ahead = 1};
    options.on_refusal = [&](l3::refusal const& each) { told.push_back(each); };
    made_up_reader::away = true;
    made_up_loader loader(clips, options);
    CHECK(used_by(loader, 60) == std::set<std::uint32_t>{0, 3, 5});
    CHECK(told.size() == 3);
    made_up_reader::away = false;
    CHECK(used_by(loader, 60) == std::set<std::uint32_t>{0, 1, 2, 3, 5});
    CHECK(told.size() == 3);

    // What was rubbish then is whole now.
    auto const mended = made_up({"a@2", "lent1@2", "lent2@2", "b@2", "mended@2", "c@2"});
    options.known = told;
    for (auto& each : options.known)
      if (each.file == "broken@2") each.file = "mended@2";
    made_up_loader resumed(mended, options);
    CHECK(used_by(resumed, 60).size() == 6);
    CHECK(told.size() == 3);
  }
  // Where nothing comes back the end is not far: a file is asked for once a batch.
  made_up_reader::reset();
  made_up_reader::away = true;
  made_up_loader none(made_up({"lent1@2", "lent2@2", "lent3@2"}),
                      {.batch = 2, .pairs = l3::pairing::paper, .workers = 1, .ahead = 1});
  CHECK_THROWS_WITH(none.next(), Contains("no answer"));
  CHECK(made_up_reader::opened <= 2 + 2 * 3);
  made_up_reader::reset();
}

TEST_CASE("too few usable videos end the run with a reason, not with silence") {
  made_up_reader::reset();
  l3::loader_options options{.batch = 2, .pairs = l3::pairing::paper, .workers = 2};
  auto const one_left = made_up({"a@2", "broken1@2", "broken2@2", "short@0.9"});
  {
    made_up_loader loader(one_left, options);
    CHECK_THROWS_AS(loader.next(), l3::media_error);
    CHECK_THROWS_WITH(loader.next(), Contains("list of 4 videos") && Contains("at least 2 that can be read") &&
                                         Contains("3 refused") && Contains("rubbish"));  // and again when asked again
  }
  options.pairs = l3::pairing::all;
  options.batch = 3;
  CHECK(run<made_up_reader>(made_up({"a@2", "broken1@2", "b@2", "broken2@2", "c@2"}), options, 20).batches.size() ==
        20);
  made_up_loader loader(made_up({"a@2", "broken1@2", "b@2", "broken2@2"}), options);
  CHECK_THROWS_WITH(loader.next(), Contains("at least 3 that can be read") && Contains("2 refused"));

  // Files that open but give no picture at any time do not keep it trying for ever. (One of the three is the other
  // draw's.)
  made_up_loader ruins(made_up({"ruin1@2", "ruin2@2", "ruin3@2"}), {.batch = 2, .workers = 2});
  CHECK_THROWS_WITH(ruins.next(),
                    Contains("at least 2 that can be read") && Contains("2 refused") && Contains("damage"));
}

TEST_CASE("a mistake that is not the file's fault comes out of next(), in its turn") {
  made_up_reader::reset();
  std::vector<std::string> names;
  for (int i = 0; i != 40; ++i) names.push_back("a" + std::to_string(i) + "@2");
  names.push_back("bug@2");
  std::vector<int> good_batches;
  for (std::size_t const workers : {1u, 4u}) {
    made_up_loader loader(made_up(names), {.seed = 1, .batch = 4, .workers = workers});
    int before = 0;
    try {
      for (; before != 1000; ++before) loader.next();
    } catch (std::logic_error const& e) {
      CHECK(e.what() == std::string("a mistake in the program"));
    }
    CHECK_THROWS_AS(loader.next(), std::logic_error);
    good_batches.push_back(before);
  }
  CHECK(good_batches[0] < 1000);
  CHECK(good_batches[0] > 0);
  CHECK(good_batches[0] == good_batches[1]);

  // Nor is it when a worker finds nothing to read with.
  struct unreadable : l3::video_files<made_up_reader> {
    using l3::video_files<made_up_reader>::video_files;
    struct tools : l3::video_files<made_up_reader>::tools {
      explicit tools(unreadable const& from) : l3::video_files<made_up_reader>::tools(from) {
        throw std::logic_error("no tools");
      }
    };
  };
  names.pop_back();
  for (std::size_t const draws : {1, 2}) {
    CAPTURE(draws);
    l3::loader<small_model, unreadable> loader(
        unreadable(made_up(names)), {.batch = 4, .draws_per_opening = draws, .reservoir_videos = 4, .workers = 2});
    for (int again = 0; again != 2; ++again) CHECK_THROWS_WITH(loader.next(), "no tools");
  }
}

namespace {
/// Has all sound at once, but for files that fail while it is read.
struct whole_reader : made_up_reader {
  using made_up_reader::made_up_reader;
  bool has_whole_sound() const { return true; }
  std::span<float const> whole_sound() { throw l3::file_error({name, "a file that can be read", "a disk that fails"}); }
};
}  // namespace

TEST_CASE("a disk that fails while all sound is read for several draws costs at most the draws that meet it") {
  made_up_reader::reset();
  std::vector<std::string> names;
  for (int i = 0; i != 20; ++i) names.push_back("a" + std::to_string(i) + "@3");
  l3::loader_options const options{
      .seed = 3, .batch = 4, .batches = 6, .draws_per_opening = 2, .reservoir_videos = 4, .workers = 2};
  l3::loader<small_model, l3::video_files<whole_reader>> failing(made_up(names), options);
  made_up_loader good(made_up(names), options);
  for (int k = 0; k < 6; ++k) {
    auto const *a = failing.next(), *b = good.next();
    REQUIRE((a != nullptr && b != nullptr));
    CHECK(bytes_of(*a) == bytes_of(*b));
  }
}

TEST_CASE("memory is bounded and used again") {
  made_up_reader::reset();
  std::vector<std::string> names;
  for (int i = 0; i != 20; ++i) names.push_back("a" + std::to_string(i) + "@3");
  constexpr std::size_t ahead = 3, size = 8, workers = 2;
  made_up_loader loader(
      made_up(names),
      {.batch = size, .pairs = l3::pairing::paper, .workers = workers, .ahead = ahead, .open_bytes = 0});
  std::set<float const*> buffers;
  for (std::size_t i = 1; i != 40; ++i) {
    auto const* b = loader.next();
    buffers.insert(b->frames.data());
    if (i % 10 == 0) {  // give the workers time to run too far ahead
      auto const start = std::chrono::steady_clock::now();
      while (seconds_since(start) < 0.1) {
      }
    }
    REQUIRE(made_up_reader::frames <= static_cast<int>((i - 1 + ahead) * size));
  }
  CHECK(buffers.size() <= ahead);
  CHECK(made_up_reader::most_alive <= static_cast<int>(workers));
}

namespace {
/// Says that it holds a megabyte for each second it lasts.
struct heavy_reader : made_up_reader {
  using made_up_reader::made_up_reader;
  std::size_t held_bytes() const { return static_cast<std::size_t>(known.video.end) << 20; }
};
}  // namespace

TEST_CASE("videos used last stay open under a budget of bytes, and none that failed") {
  made_up_reader::reset();
  l3::video_files<heavy_reader> const files(made_up({"a@1", "b@2", "c@3", "ruin@4", "d@9"}), {}, std::size_t{5} << 20);
  l3::video_files<heavy_reader>::tools tools(files);
  auto const use = [&](std::uint32_t clip) {
    try {
      l3::video_files<heavy_reader>::reader reader(files, clip, tools);
      reader.frame(0.5, 8);
    } catch (l3::media_error const&) {
    }
    return made_up_reader::opened.exchange(0) > 0;  // was opened for it
  };
  CHECK(use(0));
  CHECK_FALSE(use(0));
  CHECK(use(1));
  CHECK(files.open().bytes() == std::size_t{3} << 20);
  CHECK_FALSE(use(0));
  CHECK(use(2));  // now a, c: b goes, for it was used longest ago
  CHECK(files.open().size() == 2);
  CHECK(files.open().bytes() == std::size_t{4} << 20);
  CHECK_FALSE(use(0));
  CHECK(use(1));  // a, b
  CHECK(use(3));
  CHECK(use(3));  // failed, so closed
  CHECK(use(4));
  CHECK(use(4));  // too large
  CHECK_FALSE(use(1));
  CHECK_FALSE(use(0));
  CHECK(files.open().bytes() == std::size_t{3} << 20);
  CHECK(made_up_reader::alive == 2);
  {
    l3::video_files<heavy_reader>::reader one(files, 0, tools), other(files, 0, tools);  // at the same time
    CHECK(made_up_reader::opened.exchange(0) == 1);
  }
  CHECK(files.open().size() == 2);
}

TEST_CASE("a loader may go at any moment, and goes at once") {
  std::vector<std::string> names;
  for (int i = 0; i != 64; ++i) names.push_back("a" + std::to_string(i) + "@3");
  for (int const taken : {0, 1, 3})
    for (std::size_t const workers : {1u, 3u}) {
      made_up_reader::reset(20);  // all that is asked for would take more than a second for each worker
      std::chrono::steady_clock::time_point start;
      {
        made_up_loader loader(made_up(names), {.batch = 64, .workers = workers});
        if (taken > 0) made_up_reader::milliseconds = 0.5;
        for (int i = 0; i != taken; ++i) REQUIRE(loader.next() != nullptr);
        start = std::chrono::steady_clock::now();
      }
      CHECK(seconds_since(start) < 2);
      CHECK(made_up_reader::alive == 0);
    }
  auto const* files = need_media();
  if (!files) return;
  std::chrono::steady_clock::time_point start;
  {
    l3::loader<small_model> loader(files->mixed, {.batch = 8, .workers = 2});
    start = std::chrono::steady_clock::now();
  }
  CHECK(seconds_since(start) < 2);
}

TEST_CASE("a program that allows one thread only still gets its batches") {
  made_up_reader::reset();
  oneapi::tbb::global_control const one(oneapi::tbb::global_control::max_allowed_parallelism, 1);
  auto const clips = made_up({"a@2", "b@3", "c@4", "d@5"});
  CHECK(run<made_up_reader>(clips, {.batch = 4, .workers = 2}, 5).batches.size() == 5);
}

TEST_CASE("evaluation: fixed pairs, an end, and the same pairs for any batch size") {
  made_up_reader::reset();
  auto const clips = made_up({"a@2", "b@3", "damaged@4", "broken@2", "c@5"});
  auto const evaluate = [&](std::size_t size, std::size_t workers) {
    made_up_loader loader(
        clips, {.seed = 8, .batch = size, .pairs = l3::pairing::all, .evaluation_pairs = 50, .workers = workers});
    std::vector<std::tuple<std::uint32_t, std::uint32_t, double, double, std::int32_t, float, float>> items;
    while (auto const* b = loader.next())
      for (std::size_t i = 0; i != b->count; ++i)
        items.emplace_back(b->frame_clips[i], b->sound_clips[i], b->frame_times[i], b->sound_starts[i], b->labels[i],
                           b->frame_view()[i][7], b->sound_view()[i][7]);
    CHECK(loader.next() == nullptr);
    CHECK(loader.report().items == 50);
    return items;
  };
  auto const items = evaluate(16, 1);
  CHECK(items.size() == 50);
  CHECK(std::count_if(items.begin(), items.end(), [](auto const& i) { return std::get<4>(i) == 1; }) == 25);
  CHECK(evaluate(16, 3) == items);
  CHECK(evaluate(6, 2) == items);
  CHECK(evaluate(100, 2) == items);
  CHECK_THROWS_WITH((made_up_loader(clips, {.evaluation_pairs = 7})), Contains("even"));
}

TEST_CASE("the report says how long the user of the batches had to wait") {
  std::vector<std::string> names;
  for (int i = 0; i != 16; ++i) names.push_back("a" + std::to_string(i) + "@3");
  made_up_reader::reset(2);
  made_up_loader loader(made_up(names), {.batch = 8, .workers = 1});
  for (int i = 0; i != 10; ++i) loader.next();  // nothing to do between two batches: it is all waiting
  CHECK(loader.report().first_seconds >= 8 * 0.002);
  CHECK(loader.report().wait_share() > 0.8);
  CHECK(loader.report().wait_share() <= 1);
  CHECK(loader.report().items == 80);
  auto const waited = loader.report().wait_seconds;
  auto const start = std::chrono::steady_clock::now();
  while (made_up_reader::frames < 8 * 13 && seconds_since(start) < 60) {  // a slow user finds the next batches ready
  }
  for (int i = 0; i != 2; ++i) loader.next();
  CHECK(loader.report().wait_seconds - waited < 0.25);
  auto const& report = loader.report();
  CHECK(report.ready >= 3);  // of the slow user's
  CHECK(report.mean_ready() <= 4);
  CHECK(report.stages.draws >= 8 * report.batches);
  CHECK(report.stages.picture > 0.002 * 8 * static_cast<double>(report.batches));
  CHECK(report.stages.sound > 0);
  CHECK(report.stages.assemble > 0);
}

TEST_CASE("draws that share openings: the same batches for any number of workers and after a resume, few openings") {
  std::vector<std::string> names;
  for (int i = 0; i != 100; ++i)
    names.push_back((i % 20 == 3   ? "broken"
                     : i % 20 == 7 ? "damaged"
                                   : "clip") +
                    std::to_string(i) + "@" + std::to_string(2 + 0.1 * i));
  auto const clips = made_up(names);
  for (auto const pairs : {l3::pairing::all, l3::pairing::paper}) {
    l3::loader_options options{.seed = 3,
                               .batch = 8,
                               .pairs = pairs,
                               .draws_per_opening = 4,
                               .reservoir_videos = 20,
                               .workers = 1,
                               .open_bytes = 0};
    made_up_reader::reset();
    auto const one = run<made_up_reader, unfinished>(clips, options, 60);
    // 480 draws; the loader is a few batches ahead, 24 openings are alive at the end, refused draws open their own.
    CHECK(made_up_reader::opened < 480 / 4 + 8 * 4 + 24 + 100);
    CHECK(made_up_reader::opened >= 480 / 4);
    CHECK_FALSE(one.refusals.empty());
    for (std::size_t const workers : {2, 5}) {
      options.workers = workers;
      CHECK(run<made_up_reader, unfinished>(clips, options, 60) == one);
    }
    options.first = 23;
    auto const later = run<made_up_reader, unfinished>(clips, options, 10);
    for (std::size_t i = 0; i != 10; ++i) CHECK(later.batches[i] == one.batches[23 + i]);
    options.first = 0;
    options.seed = 4;
    CHECK(run<made_up_reader, unfinished>(clips, options, 1).batches[0] != one.batches[0]);
  }
  CHECK_THROWS_WITH((made_up_loader(clips, {.batch = 8, .whole = 16, .draws_per_opening = 4, .reservoir_videos = 8})),
                    Contains("part of a batch"));
  CHECK_THROWS_WITH((made_up_loader(clips, {.batch = 64, .draws_per_opening = 8})), Contains("at least 192 videos"));
  CHECK_THROWS_WITH((made_up_loader(clips, {.batch = 8, .draws_per_opening = 0})), Contains("1 to 32"));
}

#if !defined(__SANITIZE_THREAD__)  // statistics, of which it sees nothing new
TEST_CASE("draws that share openings are distributed as draws of their own are") {
  std::vector<std::string> names;
  for (int i = 0; i != 60; ++i) names.push_back("clip" + std::to_string(i) + "@4");
  auto const clips = made_up(names);
  made_up_reader::reset();
  auto const times = [&](std::size_t draws, std::vector<double>& frames, std::vector<double>& ages,
                         std::vector<std::size_t>& videos) {
    unfinished_loader loader(
        clips, {.seed = 1, .batch = 10, .draws_per_opening = draws, .reservoir_videos = 20, .workers = 2});
    videos.assign(60, 0);
    for (int b = 0; b != 360; ++b) {
      auto const& batch = *loader.next();
      for (std::size_t i = 0; i != batch.count; ++i) {
        frames.push_back(batch.frame_times[i]);
        ages.push_back(batch.frame_times[i] - batch.sound_starts[i]);
        ++videos[batch.frame_clips[i]];
      }
    }
    std::sort(frames.begin(), frames.end());
    std::sort(ages.begin(), ages.end());
  };
  std::vector<double> frames, ages, frames4, ages4;
  std::vector<std::size_t> videos, videos4;
  times(1, frames, ages, videos);
  times(5, frames4, ages4, videos4);
  // Kolmogorov and Smirnov: the largest distance of two distributions of n values each is above 1.95 sqrt(2 / n) by
  // chance once in a thousand times.
  auto const distance = [](std::vector<double> const& a, std::vector<double> const& b) {
    double most = 0;
    for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
      a[i] <= b[j] ? ++i : ++j;
      most = std::max(most, std::abs(static_cast<double>(i) / static_cast<double>(a.size()) -
                                     static_cast<double>(j) / static_cast<double>(b.size())));
    }
    return most;
  };
  double const limit = 1.95 * std::sqrt(2.0 / static_cast<double>(frames.size()));
  CHECK(distance(frames, frames4) < limit);
  CHECK(distance(ages, ages4) < limit);
  // 3600 draws of 60 videos: 12 epochs of 5 draws each, but for the openings that are cut off at either end.
  for (auto const count : videos4) CHECK((count >= 50 && count <= 70));
}
#endif

TEST_CASE("settings out of range are refused before anything starts") {
  auto const clips = made_up({"a@2", "b@3"});
  auto const start = [&](l3::loader_options o) { made_up_loader loader(clips, std::move(o)); };
  CHECK_THROWS_WITH(start({.batch = 3}), Contains("at most the number of videos, 2"));
  CHECK_THROWS_WITH(start({.batch = 3, .pairs = l3::pairing::paper}), Contains("even"));
  CHECK_THROWS_AS(start({.batch = 2, .whole = 4, .part_begin = 3}), l3::setting_error);
  CHECK_THROWS_AS(start({.batch = 4, .worker = 3}), l3::setting_error);
  CHECK_THROWS_AS(start({.batch = 2, .ahead = 0}), l3::setting_error);
}
