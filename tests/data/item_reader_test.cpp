// What `l3 embed` reads files ahead with, with a made-up model: order, cuts, refusals, and ends at any moment.
#include "l3/item_reader.hpp"

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <iostream>
#include <l3/data/decode.hpp>
#include <l3/files/wav.hpp>
#include <map>
#include <stdexcept>

#include "../support/catch.hpp"
#include "decode_fixtures.hpp"
#include "l3/writers.hpp"

namespace {
using namespace l3;
using namespace l3::program;
namespace fs = std::filesystem;

constexpr std::size_t column = 480;  // samples

/// A second's picture is the first sample of each of its hundredths.
struct sampled final : model_input {
  std::size_t frame_side() const override { return 8; }
  std::size_t frame_size() const override { return 3; }
  std::size_t sound_size() const override { return sound_columns(); }
  void picture(rgb_frame const&, std::span<float>) const override {}
  void crop(rgb_frame const&, std::span<std::uint8_t>) const override {}
  void random_view(rgb_frame const&, generator, std::span<float>) const override {}
  void spectrum(std::span<float const> samples, std::span<float> out) const override {
    if (samples.size() != sound_rate) throw std::logic_error("not a second");
    long_spectrum(samples, out);
  }
  std::size_t column_samples() const override { return column; }
  void long_spectrum(std::span<float const> samples, std::span<float> out) const override {
    if (out.size() != samples.size() / column) throw std::logic_error("columns for other samples");
    for (std::size_t k = 0; k < out.size(); ++k) out[k] = samples[k * column];
  }
  std::size_t sound_columns() const override { return sound_rate / column; }
  std::unique_ptr<feed> open(collection const&, loader_options, bool) const override { return {}; }
};

float sample(std::size_t file, std::size_t n) {
  return static_cast<float>((n / column * 7 + file * 1000) % 20000) / 32768.0f;
}

struct files {
  fs::path folder = fs::temp_directory_path() / ("l3-items-" + std::to_string(::getpid()));
  std::vector<double> seconds{2.35, 0.5, 1, 5.02, 1.3, 0, 3.1, -1, 1.05, 4};  // 0: no such file; below: no media
  std::vector<reading_job> jobs;
  files() {
    fs::create_directories(folder);
    for (std::size_t k = 0; k < seconds.size(); ++k) {
      fs::path const file = folder / (std::to_string(k) + ".wav");
      jobs.push_back({.file = file, .sounds = true});
      if (seconds[k] == 0) continue;
      std::vector<float> samples(static_cast<std::size_t>(std::abs(seconds[k]) * sound_rate));
      for (std::size_t n = 0; n < samples.size(); ++n) samples[n] = sample(k, n);
      std::ofstream(file, std::ios::binary) << (seconds[k] < 0 ? "no media" : wav_of(samples, sound_rate));
    }
  }
  ~files() { fs::remove_all(folder); }
};

/// All rows of all files, as far as they are right.
std::map<std::size_t, std::size_t> read_all(files const& f, reading_rules const& rules, std::size_t items,
                                            std::size_t room, std::size_t threads) {
  sampled const input;
  std::vector<std::atomic<int>> opened(f.jobs.size());
  item_reader reader(f.jobs, input, rules, items, room, threads, [&](std::size_t job) { ++opened[job]; });
  std::map<std::size_t, std::size_t> rows;
  std::size_t next = 0;
  while (auto piece = reader.next()) {
    REQUIRE(piece->job == next);
    CHECK(opened[next] == 1);
    if (piece->end) {
      bool const is_missing = f.seconds[next] == 0, is_broken = f.seconds[next] < 0;
      CHECK(piece->end->refused.empty() == !(is_missing || is_broken));
      CHECK(piece->end->items == rows[next]);
      CHECK(piece->end->is_short == (f.seconds[next] == 0.5));
      ++next;
      continue;
    }
    if (!piece->shared) CHECK(piece->items <= items);
    auto const* const values = reinterpret_cast<float const*>(piece->data.data());
    std::size_t const width = rules.raw ? sound_rate : input.sound_columns(), step = rules.raw ? 1 : column;
    for (std::size_t k = 0; k < piece->items; ++k) {
      float const* const row = values + (piece->shared ? k * rules.hop / column : k * width);
      std::size_t wrong = 0;
      for (std::size_t j = 0; j < width; ++j) {
        std::size_t const n = (rows[next] + k) * rules.hop + j * step, before = rules.centred ? sound_rate / 2 : 0;
        bool const inside = n >= before && n - before < static_cast<std::size_t>(f.seconds[next] * sound_rate);
        wrong += row[j] != (inside ? sample(next, n - before) : 0.0f);
      }
      CHECK(wrong == 0);
    }
    rows[next] += piece->items;
    reader.recycle(std::move(*piece));
  }
  CHECK(next == f.jobs.size());
  return rows;
}
}  // namespace

TEST_CASE("files are cut into seconds in order, by any number of threads, in any room") {
  files const f;
  for (std::size_t const hop : {4800, 60000})
    for (bool const centred : {false, true}) {
      std::map<std::size_t, std::size_t> expected;
      for (std::size_t k = 0; k < f.seconds.size(); ++k) {
        double const more = std::max(0.0, (f.seconds[k] - (centred ? 0.5 : 1)) * sound_rate / static_cast<double>(hop));
        expected[k] =
            f.seconds[k] <= 0 ? 0 : 1 + static_cast<std::size_t>(centred ? std::ceil(more - 1e-9) : more + 1e-9);
      }
      for (bool const raw : {false, true})
        for (std::size_t const windows : {0, 4}) {
          if (windows > 0 && hop > 4800) continue;
          for (std::size_t const threads : {1, 6})
            for (std::size_t const room : {1, 100000000}) {
              CAPTURE(hop, centred, raw, windows, threads, room);
              reading_rules const rules{.hop = hop, .windows = windows, .centred = centred, .raw = raw && windows == 0};
              CHECK(read_all(f, rules, 3, room, threads) == expected);
            }
        }
    }
}

TEST_CASE("what begins late has no rows before: seconds are those that sound fills, pictures those there are") {
  if (!fixtures::have_ffmpeg()) {
    std::cout << "SKIPPED: the ffmpeg program is not installed\n";
    return;
  }
  std::string const picture = "-f lavfi -i testsrc=s=16x16:r=10:d=", tone = "-f lavfi -i sine=r=48000:d=";
  std::string const coded = " -map 0:v -map 1:a -c:v ffv1 -c:a pcm_s16le ";
  struct made {
    std::string how;
    std::vector<std::size_t> sounds, centred, frames, aligned;  // numbers of rows, at half a second
  };
  std::vector<made> const of{
      // Sound from 1.3 to 4.3 s, pictures from 0 to 5.
      {picture + "5 -itsoffset 1.3 " + tone + '3',
       {3, 4, 5, 6},
       {2, 3, 4, 5, 6, 7, 8},
       {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
       {3, 4, 5, 6}},
      // No more than 0.05 s late.
      {picture + "3 -itsoffset 0.05 " + tone + '2', {0, 1, 2}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4, 5}, {0, 1, 2}},
      // Too short to fill a second: the one it begins in.
      {picture + "3 -itsoffset 1.3 " + tone + "0.4", {2}, {2, 3}, {0, 1, 2, 3, 4, 5}, {2}},
      // Pictures from 2 to 3 s, sound from 0 to 5.
      {"-itsoffset 2 " + picture + "1 " + tone + '5',
       {0, 1, 2, 3, 4, 5, 6, 7, 8},
       {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
       {4, 5},
       {3, 4, 5}},
      // Sound from 1 to 4 s: of the second around 0.5 s there is none.
      {picture + "5 -itsoffset 1 " + tone + '3',
       {2, 3, 4, 5, 6},
       {2, 3, 4, 5, 6, 7},
       {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
       {2, 3, 4, 5, 6}},
      // In common for less than a second: what there is most of.
      {"-itsoffset 2 " + picture + "3 " + tone + "2.2", {0, 1, 2}, {0, 1, 2, 3, 4}, {4, 5, 6, 7, 8, 9}, {4}},
      {picture + "3 -itsoffset 2.4 " + tone + "2.6", {5, 6, 7, 8}, {4, 5, 6, 7, 8, 9}, {0, 1, 2, 3, 4, 5}, {5}},
      {"-itsoffset 0.3 " + picture + "0.5 " + tone + '5',
       {0, 1, 2, 3, 4, 5, 6, 7, 8},
       {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
       {1},
       {0}},
      // Nothing in common.
      {"-itsoffset 3 " + picture + "1 " + tone + '2', {0, 1, 2}, {0, 1, 2, 3}, {6, 7}, {}},
  };
  sampled const input;
  for (std::size_t k = 0; k < of.size(); ++k) {
    std::string const name = "late" + std::to_string(k) + ".mkv";
    fixtures::ffmpeg(of[k].how + coded + name);
    fs::path const file = fixtures::folder() / name;
    clip_reader plain(file, {.seconds = 0});
    for (bool const aligned : {false, true})
      for (bool const centred : {false, true})
        for (std::size_t const windows : {0, 4}) {
          CAPTURE(of[k].how, aligned, centred, windows);
          std::vector<reading_job> const jobs{{.file = file, .sounds = true, .frames = true, .aligned = aligned}};
          item_reader reader(jobs, input, {.hop = sound_rate / 2, .windows = windows, .centred = centred}, 3, 1 << 20,
                             1);
          std::vector<std::vector<float>> rows;
          std::vector<std::size_t> found[2];
          std::string refused;
          while (auto piece = reader.next()) {
            bool const sees = piece->what == modality::frame;
            if (piece->end) {
              for (std::size_t n = 0; n < piece->end->items; ++n) found[sees].push_back(piece->end->first + n);
              refused += piece->end->refused;
              continue;
            }
            auto const* const values = reinterpret_cast<float const*>(piece->data.data());
            std::size_t const width = input.sound_columns(), next = piece->shared ? sound_rate / 2 / column : width;
            for (std::size_t n = 0; n < piece->items && !sees; ++n)
              rows.emplace_back(values + n * next, values + n * next + width);
          }
          if (aligned && of[k].aligned.empty()) {
            CHECK_THAT(refused, Contains(name) && Contains("sound and pictures at the same time"));
            continue;
          }
          CHECK(refused.empty());
          if (aligned) {
            CHECK(found[0] == found[1]);
            if (!centred) CHECK(found[0] == of[k].aligned);
          } else {
            CHECK(found[0] == (centred ? of[k].centred : of[k].sounds));
            CHECK(found[1] == of[k].frames);
          }
          REQUIRE(rows.size() == found[0].size());
          for (std::size_t n = 0; n < rows.size(); ++n) {
            std::vector<float> second(sound_rate), expected(input.sound_columns());
            plain.sound(static_cast<double>(found[0][n]) / 2 - (centred ? 0.5 : 0), second);
            input.spectrum(second, expected);
            CHECK(rows[n] == expected);
          }
        }
  }
}

TEST_CASE("there is always one row, which holds what it can") {
  if (!fixtures::have_ffmpeg()) {
    std::cout << "SKIPPED: the ffmpeg program is not installed\n";
    return;
  }
  std::string const picture = "-f lavfi -i testsrc=s=16x16:r=10:d=", tone = "-f lavfi -i sine=r=48000:d=";
  struct made {
    std::string how;
    std::size_t hop;  // seconds
    bool centred, aligned;
    std::size_t sound, frame;  // numbers of the rows
  };
  std::vector<made> const of{
      {picture + "5 -itsoffset 2 " + tone + '3', 5, false, false, 0, 0},  // the second holds nothing, nor would another
      {picture + "5 -itsoffset 2 " + tone + "3.5", 5, false, false, 1, 0},   // half of it
      {picture + "6 -itsoffset 0.6 " + tone + "4.4", 7, true, false, 0, 0},  // nothing again
      {"-itsoffset 0.2 " + picture + "6 " + tone + '6', 7, false, false, 0, 0},
      {"-itsoffset 4 " + picture + "4 " + tone + "4.9", 1, false, true, 4, 4},
      {"-itsoffset 9.7 " + picture + "4 " + tone + "10.7", 1, false, true, 10, 10},
      {picture + "3 -itsoffset 2.4 " + tone + '4', 1, false, true, 2, 2},
  };
  sampled const input;
  for (std::size_t k = 0; k < of.size(); ++k) {
    CAPTURE(of[k].how, of[k].hop, of[k].centred);
    std::string const name = "one" + std::to_string(k) + ".mkv";
    fixtures::ffmpeg(of[k].how + " -map 0:v -map 1:a -c:v ffv1 -c:a pcm_s16le " + name);
    std::vector<reading_job> const jobs{
        {.file = fixtures::folder() / name, .sounds = true, .frames = true, .aligned = of[k].aligned}};
    item_reader reader(jobs, input, {.hop = of[k].hop * sound_rate, .centred = of[k].centred}, 3, 1 << 20, 1);
    while (auto const piece = reader.next()) {
      if (!piece->end) continue;
      CHECK(piece->end->refused.empty());
      CHECK(piece->end->items == (of[k].centred && piece->what == modality::sound ? 2 : 1));  // to the sound's end
      CHECK(piece->end->first == (piece->what == modality::frame ? of[k].frame : of[k].sound));
    }
  }
}

TEST_CASE("reading ahead ends at any moment") {
  files const f;
  sampled const input;
  for (std::size_t const threads : {1, 5})
    for (int pieces = 0; pieces < 4; ++pieces) {
      item_reader reader(f.jobs, input, {.hop = 4800}, 2, 1000, threads);
      for (int k = 0; k < pieces; ++k) REQUIRE(reader.next());
    }
  item_reader none({}, input, {}, 2, 1000, 3);
  CHECK_FALSE(none.next());
}

TEST_CASE("a job is told of before its file is opened") {
  files const f;
  sampled const input;
  fs::path const late = f.folder / "late.wav";
  std::vector<reading_job> const jobs{{.file = late, .sounds = true}};
  item_reader reader(jobs, input, {.hop = 4800}, 2, 1000, 1,
                     [&](std::size_t) { fs::copy_file(f.jobs.front().file, late); });
  auto const piece = reader.next();
  REQUIRE(piece);
  CHECK_FALSE(piece->end);
}

TEST_CASE("writers write all that waits, and pass on what fails") {
  std::atomic<int> written = 0;
  {
    writers some;
    for (int k = 0; k < 500; ++k) some.add(k % 5 == 0 ? 300 << 20 : 1000, [&] { ++written; });
    some.finish();
    CHECK(written == 500);
    for (int k = 0; k < 20; ++k) some.add(1, [&] { ++written; });
  }
  CHECK(written == 520);
  writers failing;
  failing.add(1, [] { throw std::runtime_error("a full disk"); });
  CHECK_THROWS_WITH(failing.finish(), "a full disk");
  CHECK_THROWS_WITH(failing.check(), "a full disk");
  CHECK_THROWS_WITH(failing.add(1, [] {}), "a full disk");
}
