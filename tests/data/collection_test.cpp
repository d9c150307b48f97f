/// @file  tests/data/collection_test.cpp: indexes say what the files are; packed collections give what the videos give,
/// are the same files for any number of threads and after an interruption, and notice a changed byte.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <l3/data/collection.hpp>
#include <l3/data/loader.hpp>
#include <l3/data/pack.hpp>
#include <l3/data/pack_check.hpp>
#include <l3/data/probe.hpp>
#include <l3/data/video_files.hpp>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "decode_fixtures.hpp"

namespace {

namespace fs = std::filesystem;

/// Six videos that can be used, of different sizes and lengths, and some that cannot.
struct media {
  fs::path folder = fixtures::folder() / "collection";
  l3::clip_list clips;
  media() {
    fs::create_directories(folder / "a b");
    auto const make = [&](std::string const& picture, std::string const& sound, std::string const& name) {
      std::string const in =
          (picture.empty() ? "" : "-f lavfi -i " + picture) + (sound.empty() ? "" : " -f lavfi -i " + sound);
      fixtures::ffmpeg(in + " -c:v libx264 -g 250 -bf 3 -pix_fmt yuv420p -c:a aac -aac_pns 0 'collection/" + name +
                       "'");
    };
    for (int i = 0; i != 6; ++i) {
      auto const seconds = std::to_string(1.5 + 0.5 * i);
      // Grey waves: JPEG keeps them, and a tenth of a second later they look otherwise.
      make("nullsrc=size=" + std::to_string(96 + 16 * i) + "x80:rate=15:duration=" + seconds +
               ",geq=lum='128+60*sin(X/9+8*T)+50*sin(Y/" + std::to_string(7 + i) + "-6*T)':cb=128:cr=128",
           "sine=frequency=" + std::to_string(300 * (i + 1)) + ":duration=" + seconds,
           (i % 2 ? "a b/clip" : "clip") + std::to_string(i) + ".mp4");
    }
    make("testsrc2=size=96x80:rate=15:duration=2", "anullsrc=d=2", "silent.mp4");
    make("color=red:size=96x80:rate=15:duration=2", "sine=duration=2", "static.mp4");
    make("testsrc2=size=96x80:rate=15:duration=0.6", "sine=duration=0.6", "short.mp4");
    make("testsrc2=size=96x80:rate=15:duration=2", "", "mute.mp4");
    fixtures::write_file("collection/text.mp4", fixtures::bytes(500, 'x'));
    fixtures::ffmpeg("-i collection/clip4.mp4 -c copy 'collection/la\xe9tin.mp4'");
    clips = l3::read_clips(folder);
  }
};
media const* need_media() {
  static std::optional<media> const made = fixtures::have_ffmpeg() ? std::optional<media>(std::in_place) : std::nullopt;
  if (!made) std::cout << "SKIPPED: the ffmpeg program is not installed\n";
  return made ? &*made : nullptr;
}

l3::clip_record record_of(std::string const& name, l3::index_settings const& settings = {}) {
  auto const file = need_media()->folder / name;
  return l3::probe_clip({file, name, "label of " + name}, settings);
}

/// All that `clips` are, in an index.
fs::path index_of(l3::clip_list const& clips, std::string const& name, std::uint32_t drop = 0) {
  l3::index_settings const settings{.drop = drop};
  auto const file = fixtures::folder() / name;
  l3::clip_index_writer index(file, settings, l3::clip_index_writer::mode::whole);
  for (auto const& each : clips) index.add(l3::probe_clip(each, settings));
  index.commit();
  return file;
}

std::map<std::string, fixtures::bytes> files_in(fs::path const& folder) {
  std::map<std::string, fixtures::bytes> all;
  for (auto const& each : fs::directory_iterator(folder))
    all[each.path().filename().string()] = fixtures::read_file(each.path());
  return all;
}

double mean_difference(auto const& x, auto const& y) {
  if (x.size() != y.size()) return 1e9;
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i]));
  return sum / static_cast<double>(x.size());
}

fs::path fresh(std::string const& name) {
  auto const folder = fixtures::folder() / name;
  fs::remove_all(folder);
  return folder;
}

}  // namespace

TEST_CASE("probing finds what is wrong with a video") {
  if (!need_media()) return;
  using l3::content_flag;
  auto const flags = [](l3::clip_record const& r) {
    std::string all;
    for (auto const& [flag, name] : l3::content_flag_names)
      if (r.has(flag)) all += std::string(name) + ' ';
    return all;
  };
  auto const good = record_of("clip0.mp4");
  CHECK(flags(good).empty());
  CHECK(good.usable(0));
  CHECK(good.refused.empty());
  CHECK(good.facts.both()->seconds() == Approx(1.5).margin(0.1));
  CHECK(good.bytes == fs::file_size(good.video.file));
  CHECK(good.modified > 1'000'000'000'000'000'000);
  CHECK(good.keys == std::vector<double>{0});  // one group of pictures
  CHECK(good.loudest > 0.1);                   // the tone has 1/8, and AAC adds a click at its beginning
  CHECK(good.loudest < 0.4);
  CHECK(good.motion > 1);
  CHECK(flags(record_of("silent.mp4")) == "silent ");
  CHECK(flags(record_of("static.mp4")) == "static ");
  CHECK(record_of("silent.mp4").usable(0));
  CHECK_FALSE(record_of("silent.mp4").usable(static_cast<std::uint32_t>(content_flag::silent)));
  CHECK(flags(record_of("short.mp4")) == "short ");
  CHECK_FALSE(record_of("short.mp4").usable(0));
  CHECK(flags(record_of("mute.mp4")) == "no-sound ");
  CHECK(flags(record_of("silent.mp4", {.content = false})).empty());
  CHECK_THAT(record_of("text.mp4").refused, Contains("text.mp4") && Contains("expected"));
  CHECK_THAT(record_of("gone.mp4").refused, Contains("nothing there") || Contains("No such file"));
}

TEST_CASE("videos of the same content are known by it, whatever they are called and wherever it stands in the file") {
  auto const* m = need_media();
  if (!m) return;
  auto const print = [&](fs::path const& file) { return l3::clip_reader(m->folder / file).content_print(); };
  std::map<std::uint64_t, std::string> known;
  for (auto const& each : m->clips)
    if (!each.name.starts_with("la") && each.name != "text.mp4") {
      INFO(each.name);
      CHECK(print(each.name) != 0);
      CHECK(known.emplace(print(each.name), each.name).second);
      CHECK(record_of(each.name).content_print == print(each.name));
    }
  CHECK(record_of("text.mp4").content_print == 0);
  auto const whole = print("clip4.mp4");
  CHECK(print("la\xe9tin.mp4") == whole);
  // The table before what it tells of, and a title.
  fixtures::ffmpeg("-i collection/clip4.mp4 -c copy -movflags +faststart -metadata title=other front.mp4");
  CHECK(fixtures::read_file(fixtures::folder() / "front.mp4") != fixtures::read_file(m->folder / "clip4.mp4"));
  CHECK(print(fixtures::folder() / "front.mp4") == whole);
  auto bytes = fixtures::read_file(m->folder / "clip4.mp4");
  bytes[bytes.size() / 2] ^= 1;
  CHECK(print(fixtures::write_file("flipped.mp4", bytes)) != whole);
  // The same packets with the same numbers for times, in halves of the unit (behind the name of its box, 12 bytes on).
  auto twice_as_fast = fixtures::read_file(m->folder / "clip4.mp4");
  std::string const box = "mdhd";
  auto const unit = std::search(twice_as_fast.begin(), twice_as_fast.end(), box.begin(), box.end()) + 16;
  REQUIRE(unit[0] == 0);
  auto const units = static_cast<unsigned>(unit[1] << 16 | unit[2] << 8 | unit[3]) * 2;
  for (int k = 1; k < 4; ++k) unit[k] = static_cast<std::uint8_t>(units >> (24 - 8 * k));
  auto const fast = fixtures::write_file("fast.mp4", twice_as_fast);
  CHECK(l3::clip_reader(fast).facts().frame_rate == 30);
  CHECK(print(fast) != whole);
  // Packets of one size each: only their bytes tell these apart.
  for (std::string const colour : {"red", "blue"})
    fixtures::ffmpeg("-f lavfi -i color=" + colour +
                     ":size=64x48:rate=5:duration=2 -f lavfi -i anullsrc=d=2 "
                     "-c:v rawvideo -pix_fmt bgr24 -c:a pcm_s16le " +
                     colour + ".avi");
  CHECK(print(fixtures::folder() / "red.avi") != print(fixtures::folder() / "blue.avi"));
}

TEST_CASE("videos of two collections are found by their files, and by content where that is known") {
  auto const* m = need_media();
  if (!m) return;
  auto const elsewhere = fresh("elsewhere");
  fs::create_directories(elsewhere / "deep");
  fs::copy_file(m->folder / "clip2.mp4", elsewhere / "deep/another name.mp4");
  fixtures::ffmpeg(
      "-f lavfi -i testsrc=size=96x80:rate=15:duration=2 -f lavfi -i sine=220:duration=2 elsewhere/new.mp4");
  auto const link = fixtures::folder() / "link to videos";
  fs::remove(link);
  fs::create_directory_symlink(m->folder, link);
  auto const here = l3::open_collection(m->folder), there = l3::open_collection(elsewhere);
  CHECK(l3::videos_of_both(here, here).size() == 12);
  CHECK(l3::videos_of_both(here, l3::open_collection(link)).size() == 12);
  CHECK(l3::videos_of_both(here, there).empty());

  auto const index = index_of(m->clips, "here.l3index"), other = index_of(there.clips, "there.l3index");
  auto const names = [](l3::collection const& of, std::vector<std::size_t> const& places) {
    std::vector<std::string> all;
    for (auto const i : places) all.emplace_back(of.clips.name(i));
    return all;
  };
  auto const indexed = l3::open_collection(index), others = l3::open_collection(other);
  CHECK(names(others, l3::videos_of_both(indexed, others)) == std::vector<std::string>{"deep/another name.mp4"});
  CHECK(names(indexed, l3::videos_of_both(others, indexed)) == std::vector<std::string>{"clip2.mp4"});
  CHECK(l3::videos_of_both(here, others).empty());  // nothing is known of the contents of `here`
  CHECK(l3::videos_of_both(here, indexed).size() == 9);
  auto const packed = fresh("packed elsewhere");
  l3::packer(there.clips, {.out = packed, .side = 64}).run();
  CHECK(l3::videos_of_both(indexed, l3::open_collection(packed)) == std::vector<std::size_t>{0});

  // Where both were moved, their videos are no files any more: only content tells.
  for (std::string const name : {"one", "two"}) {
    auto const set = fresh("set " + name);
    fs::create_directories(set / "videos");
    for (int i = 0; i != 2; ++i)
      fs::copy_file(m->folder / (name == "one" ? "clip" + std::to_string(2 * i) + ".mp4"
                                               : "a b/clip" + std::to_string(2 * i + 1) + ".mp4"),
                    set / "videos" / (std::to_string(i) + ".mp4"));
    l3::packer(l3::read_clips(set / "videos"), {.out = set / "packed", .side = 64}).run();
    fs::rename(set / "packed", fresh("moved " + name));
  }
  auto const one = l3::open_collection(fixtures::folder() / "moved one"),
             two = l3::open_collection(fixtures::folder() / "moved two");
  CHECK(l3::videos_of_both(one, two).empty());
  CHECK(l3::videos_of_both(one, one).size() == 2);

  // An index of an earlier build can be read, and gone on with.
  l3::sql_database(other, l3::sql_database::mode::write).run("ALTER TABLE clips DROP COLUMN content_print");
  CHECK(l3::clip_index(other).record(1).content_print == 0);
  CHECK(l3::clip_index(other).record(1).keys.size() == 1);
  CHECK(l3::videos_of_both(indexed, l3::open_collection(other)).empty());
  // What a stranger has put into it besides does not run.
  l3::sql_database(other, l3::sql_database::mode::write)
      .run("CREATE TRIGGER strange AFTER INSERT ON clips BEGIN INSERT INTO labels(label) VALUES('strange'); END");
  {
    l3::clip_index_writer more(other, {}, l3::clip_index_writer::mode::growing);
    more.add(record_of("a b/clip3.mp4"));
    more.commit();
  }
  l3::sql_database written(other, l3::sql_database::mode::read);
  auto strange = written.prepare("SELECT count(*) FROM labels WHERE label = 'strange'");
  CHECK(strange.step());
  CHECK(strange.integer(0) == 0);
  CHECK(l3::clip_index(other).content_prints() ==
        std::vector<std::uint64_t>{0, 0, record_of("a b/clip3.mp4").content_print});
}

TEST_CASE("an index that could not be written keeps what was saved, and nothing that refers to what was not") {
  auto const file = fixtures::folder() / "full.l3index";
  fs::remove(file);
  auto const growing = l3::clip_index_writer::mode::growing;
  auto const video = [](std::string const& folder) {
    return l3::clip_record{.video = {.file = "somewhere/" + folder + "/clip.mp4", .name = "clip.mp4", .label = folder}};
  };
  {
    l3::clip_index_writer index(file, {}, growing);
    index.add(video("first"));
    index.save();
    index.database().run("PRAGMA max_page_count = 1");  // as a full disk: no more than it takes now
    index.add(video("second"));
    // SQLite now takes back the second one as well, and would take the next.
    CHECK_THROWS_AS(index.add(video(std::string(100'000, 'x'))), l3::file_error);
    CHECK_THROWS_AS(index.add(video("third")), l3::file_error);
    CHECK_THROWS_AS(index.save(), l3::file_error);
  }
  l3::clip_index_writer index(file, {}, growing);
  CHECK(index.size() == 1);
  index.add(video("third"));
  index.commit();
  std::vector<std::string> labels;
  l3::clip_index(file).for_each([&](std::int64_t, l3::clip_record const& r) { labels.push_back(r.video.label); });
  CHECK(labels == std::vector<std::string>{"first", "third"});
}

TEST_CASE("an index gives back what was put in, wherever it and its videos are moved") {
  auto const* m = need_media();
  if (!m) return;
  REQUIRE(m->clips.size() == 12);
  auto const file = index_of(m->clips, "all.l3index");
  l3::clip_index index(file);
  CHECK(l3::is_sql_database(file));
  std::size_t count = 0;
  index.for_each([&](std::int64_t id, l3::clip_record const& r) {
    auto const want = l3::probe_clip(m->clips[count], {});
    CHECK(id == static_cast<std::int64_t>(++count));
    CHECK(r.video.name == want.video.name);
    CHECK(fs::equivalent(r.video.file, want.video.file));
    CHECK(r.video.label == want.video.label);
    CHECK(r.bytes == want.bytes);
    CHECK(r.modified == want.modified);
    CHECK(r.refused == want.refused);
    CHECK(r.flags == want.flags);
    CHECK(r.keys == want.keys);
    CHECK(r.loudest == want.loudest);
    CHECK(r.motion == want.motion);
    CHECK(r.content_print == want.content_print);
    CHECK(r.facts.has_sound == want.facts.has_sound);
    CHECK(r.facts.video.end == want.facts.video.end);
    CHECK(r.facts.sound.begin == want.facts.sound.begin);
    CHECK(r.facts.width == want.facts.width);
    CHECK(r.facts.video_codec == want.facts.video_codec);
    CHECK(r.facts.audio_codec == want.facts.audio_codec);
    CHECK(index.record(id).video.name == r.video.name);
  });
  CHECK(count == m->clips.size());

  auto const usable = l3::open_collection(file);
  CHECK_FALSE(usable.packed);
  CHECK(usable.clips.size() == 9);  // not short.mp4, mute.mp4, text.mp4
  for (auto const& each : usable.clips) CHECK(fs::exists(each.file));
  auto const dropped = index_of(
      m->clips, "dropped.l3index",
      static_cast<std::uint32_t>(l3::content_flag::silent) | static_cast<std::uint32_t>(l3::content_flag::still));
  CHECK(l3::open_collection(dropped).clips.size() == 7);

  // The same, somewhere else.
  auto const moved = fresh("moved");
  fs::create_directories(moved / "collection");
  fs::copy(m->folder, moved / "collection", fs::copy_options::recursive);
  fs::copy_file(file, moved / "all.l3index");
  auto const there = l3::open_collection(moved / "all.l3index").clips;
  CHECK(there.size() == 9);
  CHECK(fs::equivalent(there.front().file, moved / "collection" / there.front().name));
}

TEST_CASE("what is no index, or a damaged one, is refused and never crashes") {
  auto const* m = need_media();
  if (!m) return;
  auto const good = index_of(m->clips, "good.l3index");
  auto const whole = fixtures::read_file(good);
  CHECK_THROWS_WITH(l3::clip_index(fixtures::folder() / "absent.l3index"), Contains("absent.l3index"));
  auto const other = fixtures::folder() / "other.l3index";
  fs::remove(other);
  l3::sql_database(other, l3::sql_database::mode::write).run("CREATE TABLE about(key, value)");
  CHECK_THROWS_WITH(l3::clip_index(other), Contains("another database"));
  CHECK_THROWS_AS(l3::clip_index(m->folder / "text.mp4"), l3::format_error);
  // What a column computes could take for ever.
  fs::copy_file(good, other, fs::copy_options::overwrite_existing);
  l3::sql_database(other, l3::sql_database::mode::write)
      .run(
          "DROP TABLE labels; CREATE TABLE labels(id INTEGER PRIMARY KEY, label TEXT GENERATED ALWAYS AS "
          "(hex(zeroblob(1000))) VIRTUAL); INSERT INTO labels(id) VALUES(0)");
  CHECK_THROWS_WITH(l3::clip_index(other), Contains("another database"));

  std::uint32_t state = 1;
  auto const random = [&](std::size_t below) {
    state = state * 1664525 + 1013904223;
    return static_cast<std::size_t>(state >> 8) % below;
  };
  std::size_t refused = 0;
  for (int round = 0; round < 300; ++round) {
    auto bytes = whole;
    if (round % 3 == 0) bytes.resize(random(bytes.size()));
    for (std::size_t k = 0; k < 1 + random(20) && !bytes.empty(); ++k)
      bytes[random(bytes.size())] = static_cast<std::uint8_t>(random(256));
    auto const file = fixtures::write_file("mutant.l3index", bytes);
    try {
      l3::clip_index index(file);
      (void)index.usable();
      index.for_each([](std::int64_t, l3::clip_record const&) {});
    } catch (l3::error const&) {
      ++refused;
    }
  }
  CHECK(refused > 50);
}

TEST_CASE("leaving out pictures that nobody refers to changes none that is asked for") {
  auto const* m = need_media();
  if (!m) return;
  {
    l3::detail::clip_file file(m->folder / "clip4.mp4", {});
    auto const& video = file.index().video;
    auto const count = [&](std::vector<std::int64_t> wanted) {
      l3::detail::stream_decoder decoder(file, video, 0, std::move(wanted));
      auto const frame = l3::ffmpeg::make_frame();
      std::size_t given = 0;
      while (decoder.next(*frame)) ++given;
      return given;
    };
    auto const all = count({});
    CHECK(all == file.index().times.size());
    CHECK(count({file.index().times.back()}) < all * 3 / 4);  // they are left out indeed
  }
  std::vector<fs::path> files{m->folder / "clip4.mp4"};
  // B-frames that are referred to, and those that are not; open groups; several references.
  fixtures::ffmpeg(
      "-f lavfi -i testsrc2=size=128x96:rate=25:duration=3 -f lavfi -i sine=duration=3 -c:v libx264 "
      "-bf 8 -b_strategy 2 -refs 5 -g 30 -x264-params b-pyramid=normal:open-gop=1:weightb=1 -pix_fmt "
      "yuv420p -c:a aac pyramid.mp4");
  files.push_back(fixtures::folder() / "pyramid.mp4");
  for (auto const& file : files) {
    INFO(file);
    std::vector<l3::rgb_frame> all;
    l3::clip_reader(file).for_each_frame(0.04, 0, [&](std::size_t, l3::rgb_frame const& f) { all.push_back(f); });
    REQUIRE(all.size() >= 70);
    std::size_t apart = 0;
    for (std::size_t k = 0; k < all.size(); ++k) {  // one picture of a reader
      l3::clip_reader reader(file);
      apart += reader.frame(0.04 * static_cast<double>(k)).pixels != all[k].pixels;
    }
    CHECK(apart == 0);
    l3::clip_reader few(file), many(file);
    std::vector<double> times;
    for (std::size_t k = 3; k < all.size(); k += 7) times.push_back(0.04 * static_cast<double>(k));
    few.expect_frames(times);
    for (std::size_t k = 3; k < all.size(); k += 7)
      apart += few.frame(0.04 * static_cast<double>(k)).pixels != all[k].pixels;
    for (std::size_t k : {40, 10, 11, 12, 60, 5, 41})
      apart += many.frame(0.04 * static_cast<double>(k)).pixels != all[k].pixels;
    CHECK(few.frame(0.04).pixels == all[1].pixels);  // not among the expected ones
    // One reader for draws of any order, each announced, sound in between.
    l3::clip_reader kept(file);
    std::vector<float> second(48000), again(48000);
    l3::clip_reader(file).sound(0.3, second);
    std::size_t const held = kept.held_bytes();
    std::mt19937 random(5);
    for (int i = 0; i != 120; ++i) {
      std::size_t const k = random() % all.size();
      double const t = 0.04 * static_cast<double>(k);
      kept.expect_frames({&t, 1});
      apart += kept.frame(t).pixels != all[k].pixels;
      kept.sound(0.3, again);
      apart += again != second;
    }
    CHECK(kept.held_bytes() > held + second.size() * 4);
    CHECK(apart == 0);
  }
}

TEST_CASE("a JPEG picture comes back nearly as it was, smaller ones too, and damaged ones are refused") {
  l3::rgb_frame picture{120, 80, std::vector<std::uint8_t>(3 * 120 * 80)};
  for (std::size_t y = 0; y < 80; ++y)
    for (std::size_t x = 0; x < 120; ++x) {
      auto* const p = picture.pixels.data() + 3 * (120 * y + x);
      p[0] = static_cast<std::uint8_t>(2 * x);
      p[1] = static_cast<std::uint8_t>(3 * y);
      p[2] = static_cast<std::uint8_t>(128 + 60 * std::sin(0.1 * static_cast<double>(x + y)));
    }
  l3::jpeg_encoder encode;
  std::vector<std::byte> file;
  encode.append(picture, 95, file);
  encode.append(picture, 5, file);
  CHECK(file.size() < picture.pixels.size() / 2);
  l3::jpeg_decoder decode;
  l3::rgb_frame out;
  decode.read(file, 0, 1 << 20, "picture", out);
  REQUIRE(out.pixels.size() == picture.pixels.size());
  CHECK(mean_difference(out.pixels, picture.pixels) < 1.5);
  decode.read(file, 40, 1 << 20, "picture", out);
  CHECK(out.width == 60);
  CHECK(out.height == 40);
  decode.read(file, 39, 1 << 20, "picture", out);
  CHECK(out.height == 40);
  decode.read(file, 41, 1 << 20, "picture", out);
  CHECK(out.height == 80);
  CHECK_THROWS_WITH(decode.read(file, 0, 1000, "picture", out), Contains("at most 1000 pixels"));
  for (std::size_t size : {0, 1, 10, 200, 700})
    CHECK_THROWS_AS(decode.read(std::span(file).first(size), 0, 1 << 20, "picture", out), l3::media_error);
}

TEST_CASE("packed clips give the pictures and the sound of their videos") {
  auto const* m = need_media();
  if (!m) return;
  auto const out = fresh("packed");
  l3::pack_options const options{.out = out, .pictures_per_second = 5, .side = 72, .quality = 95, .threads = 2};
  auto const report = l3::packer(m->clips, options).run();
  CHECK(report.packed == 9);
  CHECK(report.videos == 12);
  CHECK(report.shards == 1);
  CHECK(l3::check_packing(out).problems.empty());
  CHECK(l3::check_packing(out).clips == 9);
  auto const data = l3::open_collection(out);
  REQUIRE(data.packed);
  REQUIRE(data.clips.size() == 9);
  CHECK(l3::open_collection(out / "index.l3index").packed);
  l3::packed_clips::tools tools(*data.packed);
  std::vector<float> heard(48000), expected(48000);
  for (std::uint32_t c = 0; c < data.clips.size(); ++c) {
    INFO(data.clips.name(c));
    l3::packed_clips::reader packed(*data.packed, c, tools);
    l3::clip_reader video(m->folder / data.clips.name(c));
    CHECK(packed.facts().both()->begin == video.facts().both()->begin);
    CHECK(packed.facts().both()->end == video.facts().both()->end);
    bool const waves = data.clips.name(c).find("clip") != std::string_view::npos;
    for (double const t : {-1.0, 0.0, 0.3, 0.65, 1.0, 50.0}) {
      double const first = video.facts().video.begin, last = video.facts().video.end;
      double const kept = first + std::floor(std::clamp(t - first, 0.0, last - first - 1e-3) * 5 + 1e-6) / 5;
      auto const& shown = packed.frame(t, 72);
      CHECK(mean_difference(shown.pixels, video.frame(kept, 72).pixels) <
            (waves ? 2 : 8));  // colours are coarse in JPEG
      if (waves)
        CHECK(mean_difference(shown.pixels, video.frame(kept < 0.5 ? kept + 0.2 : kept - 0.2, 72).pixels) > 15);
    }
    CHECK(packed.frame(0, 30).height == 30);
    CHECK(packed.frame(0, 90).height == 90);
    for (double const start : {-0.5, 0.0, 0.123, 0.7, 40.0}) {
      packed.sound(start, heard);
      video.sound(start, expected);
      double worst = 0;
      for (std::size_t i = 0; i < heard.size(); ++i) worst = std::max<double>(worst, std::abs(heard[i] - expected[i]));
      CHECK(worst <= 0.5001 / 32768);
    }
  }
}

TEST_CASE("a packing is the same for any number of threads and after an interruption, and a changed byte is noticed") {
  auto const* m = need_media();
  if (!m) return;
  auto const pack = [&](std::string const& name, std::size_t threads, std::size_t stop_after = 1000) {
    std::size_t asked = 0;
    l3::pack_options const options{.out = fixtures::folder() / name,
                                   .pictures_per_second = 4,
                                   .side = 48,
                                   .shard_bytes = 400'000,
                                   .threads = threads,
                                   .stop = [&asked, stop_after] { return asked++ >= stop_after; }};
    return l3::packer(m->clips, options).run();
  };
  auto const one = fresh("packed1"), three = fresh("packed3"), cut = fresh("packed-cut");
  auto const report = pack("packed1", 1);
  CHECK(report.shards >= 3);
  pack("packed3", 3);
  auto const files = files_in(one);
  CHECK(files.size() == report.shards + 1);
  CHECK(files_in(three) == files);

  std::size_t rounds = 0;
  for (std::size_t finished = 0; finished < m->clips.size() && rounds < 12; ++rounds) {
    auto const r = pack("packed-cut", 2, 7);
    CHECK(r.known == finished);
    finished = r.finished;
    if (finished < m->clips.size()) {
      CHECK_FALSE(fs::exists(cut / "index.l3index"));
      CHECK_FALSE(l3::packed_clips::is_packed(cut));
    }
  }
  CHECK(rounds > 1);
  // The index holds the same rows, though SQLite has written it in other steps.
  auto resumed = files_in(cut);
  CHECK(l3::check_packing(cut).problems.empty());
  for (auto const& [name, bytes] : files)
    if (name != "index.l3index") CHECK((resumed[name] == bytes));
  CHECK(resumed.size() == files.size());

  auto const again = pack("packed1", 1);
  CHECK(again.known == m->clips.size());
  CHECK(again.shards == report.shards);
  CHECK(again.bytes == report.bytes);
  CHECK(again.packed == report.packed);
  CHECK(files_in(one) == files);
  CHECK_THROWS_WITH(l3::packer(m->clips, {.out = one, .side = 64}), Contains("which is packed") && Contains("--force"));
  l3::clip_list fewer;
  for (std::size_t k = 0; k + 1 < m->clips.size(); ++k) fewer.push_back(m->clips[k]);
  CHECK_THROWS_WITH(l3::packer(fewer, {.out = one, .pictures_per_second = 4, .side = 48, .shard_bytes = 400'000}),
                    Contains("the same list of videos"));
  CHECK_THROWS_WITH(l3::packer(m->clips, {.out = m->clips.file(0).parent_path()}),
                    Contains("a folder without the videos that are to be packed into it"));
  l3::pack_options other{
      .out = fresh("packed-other"), .side = 48, .shard_bytes = 1, .stop = [n = 0]() mutable { return n++ > 4; }};
  l3::packer(m->clips, other).run();
  other.quality = 50;
  CHECK_THROWS_WITH(l3::packer(m->clips, other), Contains("quality") && Contains("--force"));
  other.overwrite = true;
  other.stop = {};
  CHECK(l3::packer(m->clips, other).run().packed == 9);
  CHECK_THROWS_AS(l3::packer(m->clips, {.out = one, .quality = 0}), l3::setting_error);

  auto const shard = one / "shard-00001.tar";
  auto bytes = files.at("shard-00001.tar");
  std::size_t const places[] = {100, 600, bytes.size() / 2, bytes.size() - 2000};
  for (std::size_t const at : places) {
    auto changed = bytes;
    changed[at] ^= 1;
    fixtures::write_file("packed1/shard-00001.tar", changed);
    CHECK(l3::check_packing(one).problems.size() >= 1);
  }
  bytes.resize(bytes.size() - 5000);
  fixtures::write_file("packed1/shard-00001.tar", bytes);
  CHECK(l3::check_packing(one).problems.size() >= 2);
  CHECK_THROWS_WITH(l3::packed_clips(one),
                    Contains("shard-00001.tar") && Contains("the shard that the index was written with"));
  // A shard that the index does not know, as a kill between the two leaves it, is written again.
  l3::pack_options options{.out = fresh("packed-killed"),
                           .pictures_per_second = 4,
                           .side = 48,
                           .shard_bytes = 400'000,
                           .stop = [n = 0]() mutable { return n++ > 7; }};
  auto const begun = l3::packer(m->clips, options).run();
  REQUIRE(begun.finished < m->clips.size());
  fixtures::write_file("packed-killed/shard-0000" + std::to_string(begun.shards) + ".tar", fixtures::bytes(1000, 'x'));
  auto const left = options.out / ".l3-99999999-0.tmp", in_use = options.out / ".l3-1-0.tmp";  // no process, and one
  for (auto const& file : {left, in_use}) {
    std::ofstream(file) << "half a shard";
    fs::last_write_time(file, fs::last_write_time(file) - std::chrono::hours(2));
  }
  options.stop = {};
  {
    auto const first = fixtures::read_file(options.out / "shard-00000.tar");
    auto shorter = first;
    shorter.resize(first.size() / 2);
    fixtures::write_file("packed-killed/shard-00000.tar", shorter);
    CHECK_THROWS_WITH(l3::packer(m->clips, options), Contains("shard-00000.tar of") && Contains("--force"));
    fs::remove(options.out / "shard-00000.tar");
    CHECK_THROWS_WITH(l3::packer(m->clips, options), Contains("shard-00000.tar of") && Contains("No such file"));
    fixtures::write_file("packed-killed/shard-00000.tar", first);
  }
  {
    l3::packer going_on(m->clips, options);
    CHECK(going_on.changed() == 0);
    CHECK_THROWS_WITH(l3::packer(m->clips, options), Contains("another one at work"));
    going_on.run();
  }
  CHECK_FALSE(fs::exists(left));
  CHECK(fs::exists(in_use));
  CHECK(l3::check_packing(options.out).problems.empty());
  fs::remove(options.out / "index.l3index");
  CHECK_THROWS_WITH(l3::packer(m->clips, options), Contains("shards without an index"));

  // Through a link the shards are where the index really lies.
  fs::create_directories(fresh("links"));
  fs::create_symlink(three / "index.l3index", fixtures::folder() / "links/linked.l3index");
  CHECK(l3::packed_clips(fixtures::folder() / "links/linked.l3index").clips().size() == report.packed);
  // What is not ours stays, whatever is forced.
  fixtures::write_file("packed3/shard-notes.tar", fixtures::bytes(10, 'x'));
  fixtures::write_file("packed3/shard-000007.tar", fixtures::bytes(10, 'x'));
  l3::packer(m->clips, {.out = three, .side = 16, .overwrite = true}).run();
  CHECK(fs::exists(three / "shard-notes.tar"));
  CHECK(fs::exists(three / "shard-000007.tar"));
  CHECK(l3::check_packing(three).problems.empty());

  fs::remove(shard);
  CHECK_THAT(l3::check_packing(one).problems.at(0), Contains("shard-00001.tar: expected a shard"));
  CHECK_THROWS_AS(l3::packed_clips(one), l3::file_error);
}

TEST_CASE("videos that are gone in the midst of a packing end it, and it goes on when they are back") {
  auto const* m = need_media();
  if (!m) return;
  fs::path const here = fresh("going"), gone = fixtures::folder() / "gone";
  fs::remove_all(gone);
  fs::create_directories(here);
  l3::clip_list clips, other_labels;
  for (int k = 0; k != 12; ++k) {
    std::string const name = std::to_string(k) + ".mp4";
    fs::copy_file(m->folder / "clip4.mp4", here / name);
    clips.push_back({here / name, name, "a"});
    other_labels.push_back({here / name, name, k == 1 ? "b" : "a"});
  }
  l3::pack_options options{
      .out = fresh("packed-gone"), .pictures_per_second = 2, .side = 32, .shard_bytes = 1, .threads = 1};
  l3::packer(clips, options).run();
  auto const whole = files_in(options.out);
  options.out = fresh("packed-parts");
  options.progress = [&](std::size_t finished, l3::clip_record const&) {
    if (finished == 4) fs::rename(here, gone);
  };
  CHECK_THROWS_WITH(l3::packer(clips, options).run(), Contains("files that are there until all are packed"));
  CHECK_FALSE(fs::exists(options.out / "index.l3index"));
  options.progress = {};
  CHECK_THROWS_WITH(l3::packer(clips, options).run(), Contains("files that are there until all are packed"));
  fs::rename(gone, here);
  CHECK_THROWS_WITH(l3::packer(other_labels, options), Contains("the same labels") && Contains("'b'"));
  CHECK(l3::packer(clips, options).run().packed == 12);
  auto const parts = files_in(options.out);
  for (auto const& [name, bytes] : whole)
    if (name.ends_with(".tar")) CHECK((parts.at(name) == bytes));
}

TEST_CASE("what an index finds hangs on the first seconds alone") {
  if (!need_media()) return;
  std::string const sound = " -f lavfi -i sine=440:d=6 ", encode = "-c:v libx264 -g 10 -c:a aac ";
  fixtures::ffmpeg("-f lavfi -i testsrc2=s=64x48:r=10:d=6" + sound + encode + "six.mp4");
  fixtures::ffmpeg("-i six.mp4 -t 1.9 -c copy two.mp4");
  auto const print = [](char const* name) {
    return l3::clip_reader(fixtures::folder() / name, {.seconds = 1}).content_print();
  };
  CHECK(print("two.mp4") == print("six.mp4"));
  // What comes round again is no standstill.
  fixtures::ffmpeg(
      "-f lavfi -i color=gray:s=64x48:r=10:d=10 -vf \"drawbox=c=white:t=fill:enable='gt(mod(t,2),0.5)'\" " + encode +
      "round.mp4");
  l3::clip_record const r = l3::probe_clip({fixtures::folder() / "round.mp4", "round.mp4", ""}, {});
  CHECK(r.refused.empty());
  CHECK_FALSE(r.has(l3::content_flag::still));
}

TEST_CASE("damaged indexes and shards of a packing give errors, not crashes") {
  auto const* m = need_media();
  if (!m) return;
  auto const out = fresh("packed-mutants");
  l3::packer(m->clips, {.out = out, .pictures_per_second = 2, .side = 32}).run();
  auto const files = files_in(out);
  std::uint32_t state = 7;
  auto const random = [&](std::size_t below) {
    state = state * 1664525 + 1013904223;
    return static_cast<std::size_t>(state >> 8) % below;
  };
  std::size_t refused = 0, read = 0;
  for (int round = 0; round < 200; ++round) {
    bool const index = round % 2 == 0;
    std::string const name = index ? "index.l3index" : "shard-00000.tar";
    auto bytes = files.at(name);
    // The contents of tables lie at the end of an index; its first pages would mostly be refused as no database.
    for (std::size_t k = 0; k < (index ? 30 : 3000); ++k)
      bytes[index ? bytes.size() - 1 - random(bytes.size() / 2) : random(bytes.size())] =
          static_cast<std::uint8_t>(random(256));
    fixtures::write_file("packed-mutants/" + name, bytes);
    try {
      l3::packed_clips const clips(out);
      l3::packed_clips::tools tools(clips);
      std::vector<float> samples(48000);
      for (std::uint32_t c = 0; c < clips.clips().size(); ++c) try {
          l3::packed_clips::reader reader(clips, c, tools);
          reader.sound(0.3, samples);
          reader.frame(0.6, 40);
          ++read;
        } catch (l3::error const&) {
          ++refused;
        }
    } catch (l3::error const&) {
      ++refused;
    }
    try {
      (void)l3::check_packing(out, 1);
    } catch (l3::error const&) {
    }
    fixtures::write_file("packed-mutants/" + name, files.at(name));
  }
  CHECK(refused > 100);
  CHECK(read > 100);

  // What would have no end is not looked at.
  for (std::string const table : {"packing", "shards", "packed"}) {
    fixtures::write_file("packed-mutants/index.l3index", files.at("index.l3index"));
    l3::sql_database(out / "index.l3index", l3::sql_database::mode::write)
        .run("ALTER TABLE " + table + " RENAME TO other; CREATE VIEW " + table +
             "(id, file, bytes) AS WITH RECURSIVE c(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM c) SELECT x, x, x FROM "
             "c");
    CHECK_FALSE(l3::packed_clips::is_packed(out));
    CHECK_THROWS_WITH(l3::packed_clips(out), Contains("index.l3index") && Contains("a packed collection"));
    CHECK_THROWS_WITH(l3::check_packing(out), Contains("a packed collection"));
  }
  // Nor is a file elsewhere.
  fixtures::write_file("packed-mutants/index.l3index", files.at("index.l3index"));
  l3::sql_database(out / "index.l3index", l3::sql_database::mode::write).run("UPDATE shards SET file = '../x.tar'");
  CHECK_THROWS_WITH(l3::check_packing(out), Contains("shards in the index's folder"));
  fixtures::write_file("packed-mutants/index.l3index", files.at("index.l3index"));
  // A member of a number that no clip has.
  auto odd = files.at("shard-00000.tar");
  std::string const name = "9223372036854775807.json";
  std::copy(name.begin(), name.end(), odd.begin());
  std::fill_n(odd.begin() + 148, 8, ' ');  // the header's check sum, as it is summed up
  unsigned all = 0;
  for (std::size_t k = 0; k < 512; ++k) all += odd[k];
  for (int k = 5; k >= 0; --k, all /= 8)
    odd[148 + static_cast<std::size_t>(k)] = static_cast<std::uint8_t>('0' + all % 8);
  odd[154] = 0;
  fixtures::write_file("packed-mutants/shard-00000.tar", odd);
  auto const problems = l3::check_packing(out).problems;
  CHECK(std::ranges::any_of(
      problems, [&](auto const& p) { return Contains("members named after clips, found '" + name).match(p); }));
}

namespace {
struct small_model {
  using frame = l3::image<40, 48, 3>;
  static constexpr std::size_t frame_side = 48;
  using front_end = l3::coarse_front_end;
};
}  // namespace

TEST_CASE(
    "batches of a packed collection are the same for any number of workers, and those of its videos but for JPEG") {
  auto const* m = need_media();
  if (!m) return;
  auto const out = fresh("packed-loader");
  l3::packer(m->clips, {.out = out, .pictures_per_second = 15, .side = 48, .quality = 98}).run();
  l3::packed_clips const packed(out);
  l3::loader_options options{.seed = 3, .batch = 6, .workers = 1};
  l3::loader<small_model, l3::packed_clips> one(packed, options);
  options.workers = 3;
  l3::loader<small_model, l3::packed_clips> three(packed, options);
  l3::clip_list videos;
  for (auto const& each : packed.clips()) videos.push_back({m->folder / each.name, each.name, each.label});
  l3::loader<small_model> direct(videos, options);
  for (int round = 0; round < 5; ++round) {
    auto const &a = *one.next(), &b = *three.next(), &c = *direct.next();
    CHECK(std::ranges::equal(a.frame_view().values(), b.frame_view().values()));
    CHECK(std::ranges::equal(a.sound_view().values(), b.sound_view().values()));
    CHECK(a.frame_clips == c.frame_clips);
    CHECK(a.frame_times == c.frame_times);
    CHECK(a.sound_starts == c.sound_starts);
    CHECK(mean_difference(a.frame_view().values(), c.frame_view().values()) < 0.03);
    // Rounding to 16 bits fills the gaps between the tones with noise 90 dB down.
    CHECK(mean_difference(a.sound_view().values(), c.sound_view().values()) < 0.3);
  }
}
