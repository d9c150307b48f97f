/// @file  tests/data/hostile_test.cpp: files as collections have them, cut short, damaged, odd or gone: an answer that
/// is true or an error, never a crash, a hang or a wrong picture. L3_MUTATIONS: damaged copies to try (100).
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <l3/data/decode.hpp>
#include <l3/data/loader.hpp>
#include <l3/data/probe.hpp>
#include <l3/data/video_files.hpp>
#include <l3/model/config.hpp>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "decode_fixtures.hpp"

namespace {

namespace fs = std::filesystem;

bool no_ffmpeg() {
  if (!fixtures::have_ffmpeg()) std::cout << "SKIPPED: no ffmpeg program\n";
  return !fixtures::have_ffmpeg();
}

/// Containers and codecs that people have.
std::vector<fs::path> const& samples() {
  static std::vector<fs::path> const made = [] {
    std::string const in =
        "-f lavfi -i testsrc2=s=96x64:r=25:d=2 -f lavfi -i aevalsrc='0.4*sin(2*PI*(300+200*t)*t)':s=44100:d=2 ";
    std::string const x264 = "-c:v libx264 -pix_fmt yuv420p -threads 1 -g 10 -bf 2 ";
    std::vector<fs::path> files;
    for (auto const& [name, how] : std::vector<std::pair<std::string, std::string>>{
             {"cut.mp4", x264 + "-c:a aac -movflags +faststart"},
             {"cut.mkv", x264 + "-c:a aac"},
             {"cut.ts", x264 + "-c:a aac"},
             {"cut.avi", "-c:v mpeg4 -threads 1 -g 10 -c:a libmp3lame"},
             {"cut.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -threads 1 -g 10 -c:a libopus"},
             {"cut.mpg", "-c:v mpeg2video -threads 1 -g 10 -c:a mp2"},
             {"cut.mov", "-c:v prores -c:a pcm_s16le -movflags +faststart"},
             {"hevc.mp4",
              "-c:v libx265 -x265-params log-level=none:keyint=10:pools=1 -c:a aac -movflags +faststart"}}) {
      fixtures::ffmpeg(in + how + " " + name);
      files.push_back(fixtures::folder() / name);
    }
    return files;
  }();
  return made;
}

l3::decode_limits const cheap{.packets = 5000, .frames = 5000, .bytes = 50'000'000, .wall_seconds = 30};

}  // namespace

TEST_CASE("a file cut short gives the pictures and the sound that are left, or an error") {
  if (no_ffmpeg()) return;
  for (auto const& file : samples()) {
    INFO(file);
    std::map<double, std::vector<std::uint8_t>> truth;
    l3::clip_reader whole(file);
    whole.for_each_frame(0.01, 0, [&](std::size_t, l3::rgb_frame const& f) { truth[f.time] = f.pixels; });
    REQUIRE(truth.size() >= 48);
    std::vector<float> all(2 * 48000);
    whole.sound(0, all);
    auto const content = fixtures::read_file(file);
    std::size_t pictures = 0, wrong = 0, seconds = 0;
    for (std::size_t part = 0; part < 16; ++part) {
      INFO("cut at " << part << "/16");
      auto const cut = fixtures::write_file(
          "short" + file.extension().string(),
          {content.begin(), content.begin() + static_cast<std::ptrdiff_t>(content.size() * part / 16)});
      try {
        l3::clip_reader reader(cut, cheap);
        auto const& facts = reader.facts();
        CHECK(facts.video.end <= whole.facts().video.end + 0.05);
        // Where one stream is missing altogether, the clock begins with the other.
        double const shift = whole.facts().video.begin - facts.video.begin;
        if (facts.has_video)
          for (double t = facts.video.begin; t < facts.video.end; t += 0.07) try {
              auto const got = reader.frame(t);
              ++pictures;
              CHECK(std::abs(got.time - t) < 0.3);
              auto const same = std::find_if(truth.begin(), truth.end(), [&](auto const& known) {
                return std::abs(known.first - shift - got.time) < 2e-3;
              });
              wrong += same == truth.end() || same->second != got.pixels ? 1 : 0;
            } catch (l3::media_error const&) {
            }
        if (facts.has_sound) {
          std::vector<float> some(all.size());
          reader.sound(0, some);
          CHECK(facts.sound.begin == whole.facts().sound.begin);
          auto const good = static_cast<std::size_t>(std::clamp(facts.sound.end - 0.1, 0.0, 2.0) * 48000);
          seconds += good;
          CHECK(std::equal(some.begin(), some.begin() + static_cast<std::ptrdiff_t>(good), all.begin()));
        }
      } catch (l3::error const& e) {
        CHECK_THAT(e.what(), Contains("short"));
      }
    }
    CHECK(wrong == 0);
    CHECK(pictures >= 60);  // half of what there is, on average
    CHECK(seconds >= 5 * 48000);
  }
}

TEST_CASE("damage never crashes: a result or an l3::error, and the same one again") {
  if (no_ffmpeg()) return;
  char const* const asked = std::getenv("L3_MUTATIONS");
  int const rounds = asked ? std::atoi(asked) : 100;
  std::vector<fixtures::bytes> intact;
  for (auto const& file : samples()) intact.push_back(fixtures::read_file(file));
  int results = 0, errors = 0, different = 0;
  std::mt19937 random(7);
  for (int round = 0; round < rounds; ++round) {
    auto damaged = intact[static_cast<std::size_t>(round) % intact.size()];
    if (random() % 5 == 0) damaged.resize(random() % damaged.size());
    bool const anywhere = random() % 2 != 0;  // or where the tables are
    for (auto n = 1 + random() % 30; n > 0 && !damaged.empty(); --n) {
      auto const at = random() % (anywhere ? damaged.size() : std::min<std::size_t>(damaged.size(), 3000));
      damaged[at] = static_cast<std::uint8_t>(random());
    }
    auto const copy = fixtures::write_file("damaged", damaged);
    INFO("round " << round);
    // A reader's answers depend on the question alone: one that was asked much, in any order, and one that was not.
    auto const answer = [&](l3::clip_reader& reader, double t, bool announced) {
      std::pair<std::vector<std::uint8_t>, std::vector<float>> got;
      got.second.resize(48000);
      if (reader.facts().has_video) try {
          if (announced) reader.expect_frames({&t, 1});
          auto const picture = reader.frame(t, 32);
          CHECK(picture.pixels.size() == picture.width * picture.height * 3);
          got.first = picture.pixels;
          ++results;
        } catch (l3::error const&) {
          ++errors;
        }
      if (reader.facts().has_sound) try {
          reader.sound(t, got.second);
        } catch (l3::error const&) {
          got.second.clear();
        }
      return got;
    };
    try {
      l3::clip_reader reader(copy, cheap);
      for (double const t : {0.9, 0.2, 1.7, 0.5, 1.3, 0.6}) {
        bool const announced = random() % 2 == 0;
        auto const got = answer(reader, t, announced);
        l3::clip_reader fresh(copy, cheap);
        bool const same = answer(fresh, t, random() % 2 == 0) == got;
        different += same ? 0 : 1;
        if (!same) fs::copy_file(copy, "hostile.input", fs::copy_options::overwrite_existing);  // to look into
      }
    } catch (l3::error const&) {
      ++errors;
    }
    if (round % 4 == 0) l3::probe_clip({copy, "damaged", ""}, {}, cheap);
  }
  // Two of 36,000 answers, both about MPEG-TS, where the decoder fills gaps that it does not tell of.
  CHECK(different <= rounds / 1000);
  CHECK(results > rounds / 15);
  CHECK(errors > rounds / 15);
}

TEST_CASE("odd files: what can be used is used, the rest is refused by name, the batches are whole") {
  if (no_ffmpeg()) return;
  auto const folder = fixtures::folder() / "odd";
  fs::create_directories(folder);
  auto const make = [&](std::string const& name, std::string const& picture, std::string const& sound,
                        std::string const& how) {
    fixtures::ffmpeg("-f lavfi -i " + picture + " -f lavfi -i " + sound + " " + how + " 'odd/" + name + "'");
  };
  std::string const picture = "testsrc2=s=96x64:r=10:d=2", tone = "sine=d=2";
  std::string const x264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -threads 1 ",
                    ffv1 = "-c:v ffv1 -threads 1 ";
  std::set<std::string> usable;
  auto const good = [&](std::string const& name, std::string const& p, std::string const& s, std::string const& how) {
    make(name, p, s, how);
    usable.insert(name);
  };
  good("8 channels.mkv", picture, "'aevalsrc=0.1*sin(900*t)|0|0|0|0|0|0|0.1:c=7.1:s=48000:d=2'", x264 + "-c:a flac");
  good("1 kHz.mkv", picture, "'aevalsrc=0.1*sin(900*t):s=1000:d=2'", x264 + "-c:a pcm_s16le");
  good("192 kHz.mkv", picture, "'aevalsrc=0.1*sin(900*t):s=192000:d=2'", x264 + "-c:a pcm_s24le");
  make("500 Hz.mkv", picture, "'aevalsrc=0.1*sin(9*t):s=500:d=2'", x264 + "-c:a pcm_s16le");
  good("dot.mkv", "color=red:s=2x2:r=10:d=2", tone, "-vf crop=1:1:exact=1,format=bgr0 " + ffv1 + "-c:a flac");
  good("huge.mkv", "color=blue:s=8192x8192:r=1:d=2", tone, "-c:v mjpeg -pix_fmt yuvj420p -threads 1 -c:a flac");
  make("too huge.mkv", "color=blue:s=8208x8192:r=1:d=2", tone, "-c:v mjpeg -pix_fmt yuvj420p -threads 1 -c:a flac");
  good("alpha.mov", picture, tone, "-vf format=argb -c:v qtrle -c:a pcm_s16le");
  good("hdr.mp4", picture, tone,
       "-c:v libx265 -pix_fmt yuv420p10le -x265-params "
       "log-level=none:pools=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc -c:a aac");
  good("interlaced.mp4", picture, tone, "-c:v libx264 -flags +ilme+ildct -x264-params tff=1 -pix_fmt yuv420p -c:a aac");
  good("name with spaces.mp4", picture, tone, x264 + "-c:a aac");
  fixtures::ffmpeg("-i 'odd/name with spaces.mp4' -c copy -metadata:s:v rotate=90 odd/turned.mp4");
  usable.insert("turned.mp4");
  for (char const* name : {"new\nline.mp4", "la\xe9tin.mp4", "quote'\"$(x).mp4"}) {
    fs::copy_file(folder / "name with spaces.mp4", folder / name);
    usable.insert(name);
  }
  fs::copy_file(folder / "1 kHz.mkv", folder / "matroska.avi");  // the content decides
  usable.insert("matroska.avi");
  fixtures::ffmpeg(
      "-f lavfi -i sine=d=2 -f lavfi -i testsrc2=s=60x40:d=1 -frames:v 1 -c:v png -disposition:v attached_pic "
      "-c:a libmp3lame -f mp3 odd/cover.mp4");
  fixtures::write_file("odd/text.mp4", fixtures::bytes(3000, 'x'));
  fixtures::write_file("odd/empty.mp4", {});
  REQUIRE(::mkfifo((folder / "pipe.mp4").c_str(), 0600) == 0);
  fs::create_directory_symlink(".", folder / "again");
  fs::create_symlink("loop.mp4", folder / "loop.mp4");
  good("three hours.mkv", "color=green:s=16x16:r=1:d=10800", "anullsrc=r=8000:cl=mono:d=10800",
       "-c:v mpeg4 -threads 1 -c:a flac");

  auto const clips = l3::read_clips(folder);
  std::set<std::string> found, listed;
  for (auto const& each : clips) {
    auto const name = each.name;
    INFO(name);
    listed.insert(name);
    auto const record = l3::probe_clip(each, {});
    if (record.usable(0))
      found.insert(name);
    else if (record.refused.empty())
      CHECK(record.flags != 0);
    else
      CHECK_THAT(record.refused, Contains(name == "pipe.mp4" ? "neither file nor directory" : ": expected"));
    if (name == "three hours.mkv") CHECK(record.facts.video.end == 10);
  }
  CHECK(found == usable);
  CHECK(listed.size() == clips.size());
  CHECK(std::includes(listed.begin(), listed.end(), usable.begin(), usable.end()));
  {
    l3::clip_reader hours(folder / "three hours.mkv", {.seconds = 0});
    CHECK(hours.facts().video.end == Approx(10800).margin(2));
    CHECK(hours.frame(9000, 16).time == Approx(9000).margin(1));
  }

  l3::loader<l3::tiny> loader(clips, {.seed = 1, .batch = 12, .pairs = l3::pairing::paper, .workers = 2});
  std::set<std::uint32_t> used;
  bool within = true;
  for (int i = 0; i < 12; ++i) {
    auto const& batch = *loader.next();
    REQUIRE(batch.count == 12);
    used.insert(batch.frame_clips.begin(), batch.frame_clips.end());
    for (float const x : batch.frame_view().values()) within = within && std::abs(x) <= 1;
    for (float const x : batch.sound_view().values()) within = within && std::isfinite(x);
  }
  CHECK(within);
  for (auto const clip : used) CHECK(usable.contains(std::string(clips.name(clip))));
  CHECK(used.size() >= usable.size() * 3 / 4);
}

TEST_CASE("videos that are replaced, cut or deleted while they are read do not stop the loader") {
  if (no_ffmpeg()) return;
  auto const folder = fixtures::folder() / "moving";
  for (std::size_t const open_bytes : {std::size_t{0}, std::size_t{100} << 20}) {
    fs::remove_all(folder);
    fs::create_directories(folder);
    for (int i = 0; i < 9; ++i) fs::copy_file(samples()[i % 2 ? 1 : 0], folder / (std::to_string(i) + ".mp4"));
    auto const clips = l3::read_clips(folder);
    std::set<std::string> refused;
    l3::loader<l3::tiny> loader(clips, {.batch = 8,
                                        .pairs = l3::pairing::paper,
                                        .workers = 2,
                                        .open_bytes = open_bytes,
                                        .on_refusal = [&](l3::refusal const& r) { refused.insert(r.file); }});
    for (int i = 0; i < 3; ++i) loader.next();
    fs::remove(folder / "0.mp4");
    fixtures::write_file("moving/new.mp4", fixtures::bytes(2000, 'x'));
    fs::rename(folder / "new.mp4", folder / "1.mp4");
    fs::resize_file(folder / "2.mp4", 3000);
    fs::copy_file(samples()[5], folder / "3.mp4", fs::copy_options::overwrite_existing);  // in place
    fs::copy_file(samples()[6], folder / "other.mp4");
    fs::rename(folder / "other.mp4", folder / "4.mp4");
    fixtures::ffmpeg("-i moving/5.mp4 -map a -c copy -f mp4 moving/less.mp4");
    fs::rename(folder / "less.mp4", folder / "8.mp4");
    std::set<std::uint32_t> used;
    for (int i = 0; i < 25; ++i) {
      auto const& batch = *loader.next();
      if (i >= 4) used.insert(batch.frame_clips.begin(), batch.frame_clips.end());
    }
    for (std::uint32_t const good : {5u, 6u, 7u}) CHECK(used.contains(good));
    if (open_bytes == 0) {
      CHECK(refused.contains("0.mp4"));
      CHECK(refused.contains("1.mp4"));
      CHECK(refused.contains("2.mp4"));
      for (std::uint32_t const gone : {0u, 1u, 2u}) CHECK_FALSE(used.contains(gone));
    }
  }
}
