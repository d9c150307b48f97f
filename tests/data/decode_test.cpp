// Decoding, judged by the ffmpeg program: the same pictures and samples, bit for bit, at the same times.
#include <chrono>
#include <cmath>
#include <cstring>
#include <iostream>
#include <l3/data/decode.hpp>
#include <l3/data/resize.hpp>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <tuple>

#include "../support/catch.hpp"
#include "decode_fixtures.hpp"

#ifndef L3_SOURCE_DIR
#define L3_SOURCE_DIR "."
#endif

namespace {

using fixtures::fs::path;

/// The shared sample media, or an empty path with a remark.
path zoo(std::string const& name) {
  char const* set = std::getenv("L3_SHARED_DATA");
  path const folder = set ? path(set) : path(L3_SOURCE_DIR) / "../shared/data";
  if (fixtures::fs::exists(folder / "media-zoo" / name)) return folder / "media-zoo" / name;
  std::cout << "SKIPPED: no sample media " << name << " (set L3_SHARED_DATA)\n";
  return {};
}
bool no_ffmpeg() {
  if (!fixtures::have_ffmpeg()) std::cout << "SKIPPED: no ffmpeg program\n";
  return !fixtures::have_ffmpeg();
}

path make(std::string const& name, std::string const& arguments) {
  fixtures::ffmpeg(arguments + " " + name);
  return fixtures::folder() / name;
}

/// The reader's picture at many times against the program's, in an order that goes back and forth. `origin`: the file's
/// own time at which the clip's clock begins.
void check_pictures(path const& file, double origin, std::size_t side = 0, std::string const& stream = "v:0") {
  INFO(file);
  l3::clip_reader reader(file, {.seconds = 0});
  auto const& facts = reader.facts();
  REQUIRE(facts.has_video);
  auto const size = l3::detail::with_smallest_side({facts.width, facts.height}, side);
  auto const truth = fixtures::decode_pictures(file, size.width, size.height, stream);
  REQUIRE(truth.count() == truth.times.size());
  REQUIRE(truth.count() > 0);
  CHECK(facts.video.begin == Approx(truth.times.front() - origin).margin(1e-5));
  std::mt19937 random(1);
  double const length = truth.times.back() - truth.times.front();
  for (int i = 0; i < 27; ++i) {
    // Halfway cases first: the very moment of a picture, and just before it.
    auto const some = truth.times[random() % truth.times.size()];
    double const file_time = i % 3 == 0 ? some
                             : i % 3 == 1
                                 ? some - 1e-4
                                 : truth.times.front() + length * double(random() % 1100) / 1000 - 0.05 * length;
    INFO("file time " << file_time);
    auto const expected = truth.on_display(file_time);
    auto const got = reader.frame(file_time - origin, side);
    CHECK(got.time == Approx(truth.times[expected] - origin).margin(1e-5));
    REQUIRE((got.pixels == truth.picture(expected)));
  }
  // One pass forward gives the same.
  reader.for_each_frame(0.11, side, [&](std::size_t k, l3::rgb_frame const& got) {
    INFO("hop " << k);
    REQUIRE((got.pixels == truth.picture(truth.on_display(origin + 0.11 * double(k)))));
  });
}

std::string const picture = "-f lavfi -i testsrc2=s=96x64:r=25:d=2 ";
std::string const tone = "-f lavfi -i aevalsrc='0.4*sin(2*PI*(300+200*t)*t)':s=48000:d=2 ";
std::string const x264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -threads 1 ";

}  // namespace

TEST_CASE("pictures are those of the full decode, whatever the order of asking") {
  if (no_ffmpeg()) return;
  SECTION("B-frames, closed GOP") {
    check_pictures(make("bframes.mp4", picture + tone + x264 + "-bf 3 -g 12 -c:a aac"), 0);
  }
  SECTION("open GOP") {
    auto const open = picture + x264 + "-bf 3 -x264-params open-gop=1:keyint=12:min-keyint=12:scenecut=0 ";
    check_pictures(make("open.mp4", open), 0);
    check_pictures(make("open.mkv", open), 0);
  }
  SECTION("long GOP") { check_pictures(make("long.mp4", picture + x264 + "-bf 2 -g 250"), 0); }
  SECTION("intra refresh, no key frame after the first") {
    check_pictures(make("refresh.mp4", picture + x264 + "-bf 0 -x264-params intra-refresh=1:keyint=15"), 0);
  }
  SECTION("HEVC with open GOP") {
    check_pictures(
        make("hevc.mp4", picture + "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=12:bframes=3"),
        0);
    // Here the demuxer gives other packets after a seek, so all is decoded from the start.
    auto const ts = make("hevc.ts", "-i hevc.mp4 -c copy");
    check_pictures(ts, fixtures::decode_pictures(ts, 96, 64).times.at(0));
  }
  SECTION("VP8 and VP9") {
    check_pictures(make("vp8.webm", picture + "-c:v libvpx -g 10 -deadline realtime -cpu-used 8"), 0);
    check_pictures(make("vp9.webm", picture + "-c:v libvpx-vp9 -g 10 -deadline realtime -cpu-used 8"), 0);
  }
  SECTION("MPEG-2 and MPEG-4 with B-frames, motion JPEG") {
    auto const mpeg2 = make("mpeg2.ts", picture + "-c:v mpeg2video -bf 2 -g 12");
    check_pictures(mpeg2, fixtures::frame_times(mpeg2, "v:0").at(0));
    auto const mpeg4 = make("mpeg4.mp4", picture + "-c:v mpeg4 -bf 2 -g 12");
    check_pictures(mpeg4, 0);
    check_pictures(make("mjpeg.mov", picture + "-c:v mjpeg"), 0);
  }
  SECTION("palettes, which some demuxers send once") {
    std::string const paletted = "-filter_complex '[0:v]split[a][b];[a]palettegen[p];[b][p]paletteuse' ";
    check_pictures(make("gray.mov", picture + "-c:v qtrle -pix_fmt gray"), 0);
    check_pictures(make("raw.avi", picture + paletted + "-c:v rawvideo -pix_fmt pal8"), 0);
    check_pictures(make("mono.avi", picture + "-c:v rawvideo -pix_fmt monow"), 0);
    if (avcodec_find_encoder_by_name("smc") != nullptr) check_pictures(make("smc.mov", picture + "-c:v smc"), 0);
  }
  SECTION("times that vary") {
    auto const vary = picture +
                      "-vf select='not(mod(n\\,7)*mod(n\\,3))',setpts='PTS+0.013*random(0)/TB' -fps_mode vfr " + x264 +
                      "-bf 2 -g 5 ";
    check_pictures(make("vary.mkv", vary), 0);
  }
  SECTION("streams that begin late") {
    auto const ts = make("late.ts", picture + x264 + "-bf 2 -g 12 -output_ts_offset 5");
    check_pictures(ts, fixtures::frame_times(ts, "v:0").at(0));
    auto const mkv =
        make("late.mkv", "-itsoffset 0.7 " + picture + tone + "-map 0 -map 1 " + x264 + "-bf 2 -g 12 -c:a pcm_s16le");
    check_pictures(mkv, 0);  // the sound begins at 0, so does the clock
    CHECK(l3::clip_reader(mkv).facts().video.begin > 0.69);
  }
  SECTION("a first key frame that is missing") {
    make("whole.ts", picture + x264 + "-bf 2 -x264-params open-gop=1:keyint=20:scenecut=0");
    auto content = fixtures::read_file(fixtures::folder() / "whole.ts");
    content.erase(content.begin(), content.begin() + std::ptrdiff_t(content.size() / 188 * 2 / 5 * 188));
    auto const cut = fixtures::write_file("cut.ts", content);
    check_pictures(cut, fixtures::frame_times(cut, "v:0").at(0));
  }
  SECTION("an edit list that begins between key frames") {
    make("whole.mp4", picture + tone + x264 + "-bf 2 -g 12 -c:a aac");
    auto const cut = make("cut.mp4", "-ss 1.03 -i whole.mp4 -c copy");
    auto const begin = fixtures::frame_times(cut, "v:0").at(0);
    check_pictures(cut, std::min(begin, 0.0));
  }
  SECTION("lossless by an old x264, whose mistake FFmpeg's decoder repeats only if it knows the build") {
    auto content =
        fixtures::read_file(make("new.mp4", picture + x264 + "-qp 0 -g 12 -bf 2 -x264-params 8x8dct=1:analyse=i8x8"));
    std::string const mark = "x264 - core ";
    auto const at = std::search(content.begin(), content.end(), mark.begin(), mark.end());
    REQUIRE(at != content.end());
    std::copy_n("140", 3, at + std::ptrdiff_t(mark.size()));
    check_pictures(fixtures::write_file("old.mp4", content), 0);
  }
}

TEST_CASE("a picture is decoded from the nearest safe key frame, not from the start") {
  if (no_ffmpeg()) return;
  auto const file = make("budget.mp4", picture + x264 + "-bf 3 -g 10");
  // A pass may decode 20 frames: enough from a key frame, too few from the start of these 50.
  l3::clip_reader reader(file, {.frames = 20});
  for (double t : {1.9, 0.1, 1.5, 0.9}) CHECK_NOTHROW(reader.frame(t));
  auto const open =
      make("budget-open.mp4", picture + x264 + "-bf 3 -x264-params open-gop=1:keyint=10:min-keyint=10:scenecut=0");
  l3::clip_reader from_start(open, {.frames = 20});
  CHECK_NOTHROW(from_start.frame(0.1));
  CHECK_THROWS_AS(from_start.frame(1.9), l3::media_error);  // recovery points are not trusted
}

TEST_CASE("pictures of every kind become RGB as the ffmpeg program makes it") {
  if (no_ffmpeg()) return;
  auto const short_picture = [](std::string const& size) { return "-f lavfi -i testsrc2=s=" + size + ":r=5:d=0.6 "; };
  // At 5 pictures a second the second one is on display at 0.2 s.
  auto const check_scaled = [](path const& file, std::size_t side, std::string const& options = "") {
    INFO(file << " side " << side);
    l3::clip_reader reader(file);
    auto const got = reader.frame(0.2, side);
    CHECK(std::min(got.width, got.height) == (side ? side : std::min(reader.facts().width, reader.facts().height)));
    auto const truth = fixtures::decode_pictures(file, got.width, got.height, "v:0", options);
    CHECK((got.pixels == truth.picture(1)));
  };
  SECTION("formats and odd sizes") {
    std::vector<std::string> const formats = {"yuv420p10le", "yuv444p16le", "gray12le", "gbrp10le", "bgra"};
    std::string outputs;
    for (auto const& format : formats) outputs += " -c:v ffv1 -pix_fmt " + format + " " + format + ".nut";
    fixtures::ffmpeg(short_picture("51x37") + outputs);
    for (auto const& format : formats) {
      check_scaled(fixtures::folder() / (format + ".nut"), 0);
      check_scaled(fixtures::folder() / (format + ".nut"), 20);
    }
    check_scaled(fixtures::folder() / "bgra.nut", 64);
    check_scaled(make("yuvj.mov", short_picture("50x38") + "-c:v mjpeg -pix_fmt yuvj420p"), 24);
    check_scaled(make("pal.gif", short_picture("50x38")), 24);
  }
  SECTION("colour matrix and range as tagged; untagged high definition is BT.709") {
    check_scaled(make("709.mp4", short_picture("96x64") + x264 + "-colorspace bt709 -color_range pc"), 32);
    check_scaled(make("2020.mp4", short_picture("96x64") + x264 + "-colorspace bt2020nc"), 0);
    check_scaled(make("hd.mp4", short_picture("64x720") + x264), 0, ":in_color_matrix=bt709");
    check_scaled(make("sd.mp4", short_picture("64x576") + x264), 0, ":in_color_matrix=bt601");
  }
  SECTION("pixels that are not square") {
    auto const file = make("wide.mp4", short_picture("90x64") + "-vf setsar=16/9 " + x264);
    l3::clip_reader reader(file);
    CHECK(reader.facts().width == 160);
    CHECK(reader.facts().height == 64);
    check_scaled(file, 0);
    check_scaled(file, 48);
  }
}

TEST_CASE("shrinking is antialiased") {
  if (no_ffmpeg()) return;
  // A one-pixel chessboard has no detail that survives at a quarter of its size: plain grey.
  auto const file =
      make("chess.png",
           "-f lavfi -i color=black:s=256x256:d=1 -frames:v 1 -vf format=gray,geq=lum='255*mod(X+Y\\,2)',format=rgb24");
  auto const got = l3::clip_reader(file).frame(0, 64);
  auto const [low, high] = std::minmax_element(got.pixels.begin(), got.pixels.end());
  CHECK(int(*low) >= 118);
  CHECK(int(*high) <= 137);
}

TEST_CASE("pictures are turned as the container says") {
  if (no_ffmpeg()) return;
  auto content = fixtures::read_file(make("upright.mp4", "-f lavfi -i testsrc2=s=96x64:r=5:d=0.4 " + x264));
  // The track header's matrix {a, b, 0, c, d, 0, x, y, 1}: 36 bytes, 40 after the version of a version 0 header.
  std::string const name = "tkhd";
  auto const header = std::search(content.begin(), content.end(), name.begin(), name.end());
  REQUIRE(header != content.end());
  std::set<std::uint64_t> prints;  // each turn makes another content of the same packets
  struct turn {
    int a, b, c, d, degrees;
    std::string filters;  // the program's, applied to its own RGB
  };
  for (auto const& [a, b, c, d, degrees, filters] :
       {turn{1, 0, 0, 1, 0, ""}, turn{0, 1, -1, 0, 90, ",transpose=clock"}, turn{-1, 0, 0, -1, 180, ",hflip,vflip"},
        turn{0, -1, 1, 0, 270, ",transpose=cclock"}, turn{-1, 0, 0, 1, 0, ",hflip"}, turn{1, 0, 0, -1, 180, ",vflip"},
        turn{0, 1, 1, 0, 270, ",hflip,transpose=cclock"}, turn{0, -1, -1, 0, 90, ",hflip,transpose=clock"}}) {
    INFO("turn " << a << b << c << d);
    auto at = header + 4 + 40;
    for (int value : {a, b, 0, c, d, 0}) {
      std::uint32_t const fixed = static_cast<std::uint32_t>(value * 65536);
      for (int shift : {24, 16, 8, 0}) *at++ = std::uint8_t(fixed >> shift);
    }
    auto const file = fixtures::write_file("turned.mp4", content);
    l3::clip_reader reader(file);
    CHECK(reader.facts().rotation == degrees);
    CHECK(prints.insert(reader.content_print()).second);
    CHECK(reader.facts().width == (b ? 64 : 96));
    fixtures::ffmpeg(
        "-noautorotate -i turned.mp4 -vf "
        "scale=48:32:flags=bilinear+accurate_rnd+bitexact+full_chroma_int,format=rgb24" +
        filters + " -f rawvideo turned.rgb");
    auto expected = fixtures::read_file(fixtures::folder() / "turned.rgb");
    expected.resize(48 * 32 * 3);
    CHECK(reader.frame(0, 32).pixels == expected);
    // The program's own idea of the display differs at most in how turned chroma is interpolated.
    auto const shown = fixtures::decode_pictures(file, reader.facts().width, reader.facts().height).picture(0);
    auto const whole = reader.frame(0).pixels;
    double difference = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) difference += std::abs(int(whole[i]) - int(shown[i]));
    CHECK(difference / double(whole.size()) < 10);  // another orientation: 60 and more
  }
}

TEST_CASE("images are videos of one picture") {
  if (no_ffmpeg()) return;
  std::vector<std::string> const names = {"still.png", "still.jpg", "still.bmp", "still.webp", "still.tiff"};
  std::string outputs;
  for (auto const& name : names) outputs += " -frames:v 1 " + name;
  fixtures::ffmpeg("-f lavfi -i testsrc2=s=60x40:d=1" + outputs);
  for (auto const& name : names) {
    INFO(name);
    auto const file = fixtures::folder() / name;
    l3::clip_reader reader(file);
    CHECK(reader.facts().still_image);
    CHECK(reader.facts().has_video);
    CHECK(!reader.facts().has_sound);
    CHECK(!reader.facts().both());
    auto const truth = fixtures::decode_pictures(file, 60, 40);
    CHECK((reader.frame(0).pixels == truth.picture(0)));
    CHECK((reader.frame(7).pixels == truth.picture(0)));
    int calls = 0;
    reader.for_each_frame(1, 32, [&](std::size_t, l3::rgb_frame const& f) {
      ++calls;
      CHECK(f.height == 32);
    });
    CHECK(calls == 1);
    // Cut in the midst it is no picture, also where FFmpeg would make one of what is left.
    std::filesystem::path const cut = file.parent_path() / ("cut " + name);
    std::filesystem::copy_file(file, cut, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(cut, std::filesystem::file_size(cut) * 2 / 3);
    CHECK_THROWS_AS(l3::clip_reader(cut).frame(0), l3::media_error);
  }
  // One that lacks nothing but its last mark is whole.
  std::filesystem::path const still = fixtures::folder() / "still.jpg", unmarked = fixtures::folder() / "unmarked.jpg";
  std::filesystem::copy_file(still, unmarked, std::filesystem::copy_options::overwrite_existing);
  std::filesystem::resize_file(unmarked, std::filesystem::file_size(still) - 2);
  CHECK((l3::clip_reader(unmarked).frame(0).pixels == l3::clip_reader(still).frame(0).pixels));
  CHECK_THROWS_WITH(l3::clip_reader(still, {.max_pixels = 2000}), Contains("2000 pixels"));
  // RGB is scaled in all its colours: nearly as picture_resizer does it, which rounds more exactly.
  auto const noise = make("noise.png",
                          "-f lavfi -i nullsrc=s=300x210 -vf \"format=rgb24,geq=r='mod(X*89+Y*151,256)':"
                          "g='mod(X*57+Y*199+X*Y,256)':b='mod(X*173+Y*31+3*X*Y,256)'\" -frames:v 1");
  l3::clip_reader speckled(noise);
  for (std::size_t const side : {48u, 54u}) {
    CAPTURE(side);
    l3::rgb_frame const scaled = speckled.frame(0, side);
    l3::rgb_frame judge = speckled.frame(0);
    l3::picture_resizer()(judge, side, 1 << 20, "noise");
    REQUIRE(scaled.pixels.size() == judge.pixels.size());
    double apart = 0;
    for (std::size_t k = 0; k < judge.pixels.size(); ++k) apart += std::abs(scaled.pixels[k] - judge.pixels[k]);
    CHECK(apart / static_cast<double>(judge.pixels.size()) < 0.6);  // with half of the colours 1.5
  }
  auto const line = make("line.png", "-f lavfi -i testsrc=s=2000x1 -frames:v 1");
  CHECK_THROWS_WITH(l3::clip_reader(line).frame(0, 54), Contains("65536 in a row") && Contains("108000 x 54"));
}

namespace {

std::vector<float> all_sound(path const& file, double seconds = 0) {
  l3::clip_reader reader(file, {.seconds = seconds});
  auto source = reader.sound_from_start();
  std::vector<float> all, block(1000);
  while (auto const n = source.read(block)) all.insert(all.end(), block.begin(), block.begin() + std::ptrdiff_t(n));
  CHECK(source.read(block) == 0);
  return all;
}

/// Largest difference, where both have samples; lengths may differ by `slack`.
double difference(std::vector<float> const& a, std::vector<float> const& b, std::size_t slack = 0) {
  CHECK(std::max(a.size(), b.size()) - std::min(a.size(), b.size()) <= slack);
  REQUIRE(std::min(a.size(), b.size()) > 0);
  double most = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    most = std::max(most, std::abs(double(a[i]) - double(b[i])));
  return most;
}

}  // namespace

TEST_CASE("48 kHz mono sound is the program's, bit for bit") {
  if (no_ffmpeg()) return;
  std::string outputs;
  std::vector<path> files;
  for (std::string const output :
       {"-c:a pcm_u8 u8.wav", "-c:a pcm_s16le s16.wav", "-c:a pcm_s24le s24.wav", "-c:a pcm_s32le s32.wav",
        "-c:a pcm_f32le f32.wav", "-c:a pcm_f64le f64.wav", "-c:a pcm_s64le s64.nut", "-c:a pcm_mulaw mu.wav", "a.flac",
        "-aac_pns 0 a.m4a", "a.mp3", "-c:a libvorbis a.ogg", "a.opus", "-c:a libopus opus.webm", "-c:a aac aac.ts",
        "-c:a aac aac.mkv", "a.ac3", "a.wma"}) {
    outputs += " " + output;
    files.push_back(fixtures::folder() / output.substr(output.rfind(' ') + 1));
  }
  fixtures::ffmpeg(tone + outputs);
  auto const truths = fixtures::decode_sounds(files, "");
  for (std::size_t f = 0; f < files.size(); ++f) {
    auto const& [file, truth] = std::tie(files[f], truths[f]);
    INFO(file);
    CHECK((all_sound(file) == truth));
    l3::clip_reader reader(file);
    auto const& facts = reader.facts();
    CHECK(facts.sound.begin == 0);
    CHECK(facts.sound.end == Approx(double(truth.size()) / 48000).margin(0.08));
    CHECK(facts.sample_rate == 48000);
    CHECK(facts.channels == 1);
    // Any second is a slice of the whole, zeros outside.
    std::vector<float> second(48000);
    for (double start : {0.7, 0.0, 1.3333333, -0.5, 5.0}) {
      reader.sound(start, second);
      auto const first = std::llround(start * 48000);
      for (long long i = 0; i < 48000; ++i) {
        bool const inside = first + i >= 0 && first + i < static_cast<long long>(truth.size());
        if (second[std::size_t(i)] != (inside ? truth[std::size_t(first + i)] : 0.0f))
          FAIL("sample " << i << " of " << start);
      }
    }
  }
}

TEST_CASE("a second of AAC in MP4 is decoded by itself, and is the slice of the whole") {
  if (no_ffmpeg()) return;
  std::string const noisy = "-f lavfi -i 'aevalsrc=0.3*sin(2*PI*(200+300*t)*t)+0.05*random(0):s=48000:d=9' -c:a aac ";
  for (int const rate : {48000, 44100, 32000, 22050, 96000, 11025}) {
    INFO(rate);
    auto const file = make("part.mp4", noisy + "-b:a 128k -aac_pns 0 -ac 2 -ar " + std::to_string(rate));
    auto const whole = all_sound(file);
    // So many blocks are enough for a second, not for the whole.
    l3::clip_reader parts(file, {.frames = static_cast<std::uint64_t>(rate / 1024 * 3 / 2 + 12)});
    std::vector<float> second(48000);
    for (double start : {7.0, 3.21, 0.0, 3.3, 0.1, 7.99, 6.123456, 8.3, 8.9}) {
      INFO(start);
      parts.sound(start, second);
      auto const first = std::llround(start * 48000);
      std::size_t apart = 0;
      for (std::size_t i = 0; i < second.size(); ++i) {
        auto const at = static_cast<std::size_t>(first) + i;
        apart += second[i] != (at < whole.size() ? whole[at] : 0.0f);
      }
      CHECK(apart == 0);
    }
  }
  {  // a limit ends a window as it ends the whole
    auto const file = make("limit.mp4", noisy + "-b:a 128k -aac_pns 0 -ar 44100");
    auto const whole = all_sound(file, 6.3);
    l3::clip_reader part(file, {.seconds = 6.3});
    std::vector<float> second(48000);
    part.sound(5.7, second);
    std::size_t apart = 0;
    for (std::size_t i = 0; i < second.size(); ++i)
      apart += second[i] != (273600 + i < whole.size() ? whole[273600 + i] : 0.0f);
    CHECK(apart == 0);
    CHECK((part.whole_sound().size() == whole.size() &&
           std::equal(whole.begin(), whole.end(), part.whole_sound().begin())));
  }
  // Noise substitution draws other noise, at the same level; what is a wave stays where it is.
  auto const file = make("noise.mp4", noisy + "-b:a 32k");
  auto const whole = all_sound(file);
  l3::clip_reader parts(file);
  std::vector<float> second(48000), again(48000);
  parts.sound(4.2, second);
  auto const* want = whole.data() + 201600;
  double both = 0, ours = 0, theirs = 0;
  for (std::size_t i = 0; i < second.size(); ++i)
    both += second[i] * want[i], ours += second[i] * second[i], theirs += want[i] * want[i];
  CHECK(ours / theirs == Approx(1).margin(0.01));
  CHECK(both / std::sqrt(ours * theirs) > 0.99);
  l3::clip_reader other(file);
  for (double start : {0.0, 8.0, 5.1, 4.2}) other.sound(start, again);
  CHECK(again == second);
}

TEST_CASE("other rates and channels: mean of the channels, then libswresample") {
  if (no_ffmpeg()) return;
  SECTION("rates") {
    std::string outputs;
    std::vector<path> files;
    for (std::string const rate : {"8000", "11025", "22050", "44100", "96000"}) {
      outputs += " -af aresample=" + rate + " -c:a pcm_f32le rate" + rate + ".wav";
      files.push_back(fixtures::folder() / ("rate" + rate + ".wav"));
    }
    fixtures::ffmpeg(tone + outputs);
    auto const truths = fixtures::decode_sounds(files, "-ar 48000");
    for (std::size_t f = 0; f < files.size(); ++f) {
      INFO(files[f]);
      CHECK(difference(all_sound(files[f]), truths[f]) == 0);
    }
  }
  SECTION("stereo") {
    auto const file =
        make("stereo.wav", "-f lavfi -i aevalsrc='0.5*sin(3000*t)|0.3*sin(4000*t)':s=44100:d=1.5 -c:a pcm_s16le");
    auto const truth =
        fixtures::decode_sound(file, "-af aformat=sample_fmts=fltp,pan='mono|c0=0.5*c0+0.5*c1',aresample=48000");
    CHECK(difference(all_sound(file), truth) == 0);
  }
  SECTION("5.1, planar and packed") {
    for (std::string codec : {"surround.wav -c:a pcm_s16le", "surround.flac -c:a flac", "surround.m4a -c:a aac"}) {
      INFO(codec);
      auto const name = codec.substr(0, codec.find(' '));
      make(name,
           "-f lavfi -i "
           "aevalsrc='0.5*sin(1e3*t)|0.4*sin(2e3*t)|0.3*sin(3e3*t)|0.2*sin(1e2*t)|0.1*sin(5e3*t)|0.6*sin(6e3*t)':s="
           "48000:d=1:c=5.1" +
               codec.substr(name.size()));
      auto const six = fixtures::decode_sound(fixtures::folder() / name, "");
      std::vector<float> mean(six.size() / 6);
      for (std::size_t i = 0; i < mean.size(); ++i) mean[i] = std::accumulate(&six[6 * i], &six[6 * i] + 6, 0.0f) / 6;
      CHECK(difference(all_sound(fixtures::folder() / name), mean) == 0);
      CHECK(l3::clip_reader(fixtures::folder() / name).facts().channels == 6);
    }
  }
}

TEST_CASE("sound keeps its place on the clip's clock") {
  if (no_ffmpeg()) return;
  SECTION("it begins late") {
    auto const file =
        make("late-sound.mkv", picture + "-itsoffset 0.5 " + tone + "-map 0 -map 1 " + x264 + "-c:a pcm_s16le");
    l3::clip_reader reader(file);
    CHECK(reader.facts().video.begin == 0);
    CHECK(reader.facts().sound.begin == Approx(0.5).margin(1e-3));
    auto const both = reader.facts().both();
    REQUIRE(both);
    CHECK(both->begin == Approx(0.5).margin(1e-3));
    CHECK(both->end == Approx(2.0).margin(0.05));
    auto expected = fixtures::decode_sound(file, "");
    expected.insert(expected.begin(), 24000, 0.0f);
    CHECK(difference(all_sound(file), expected) == 0);
  }
  SECTION("transport stream, both late, AAC") {
    auto const file = make("late-both.ts", picture + tone + x264 + "-c:a aac -output_ts_offset 100");
    l3::clip_reader reader(file);
    auto const video = fixtures::frame_times(file, "v:0").at(0), sound = fixtures::frame_times(file, "a:0").at(0);
    CHECK(reader.facts().sound.begin - reader.facts().video.begin == Approx(sound - video).margin(1e-5));
    CHECK(std::min(reader.facts().sound.begin, reader.facts().video.begin) == 0);
  }
  SECTION("it ends where its last packet does, though that may not say how long it is") {
    for (std::string const codec : {"wavpack", "alac", "flac"}) {
      INFO(codec);
      auto const file = make("last.mkv", picture + "-f lavfi -i sine=440:r=48000:d=1.35 " + x264 + "-c:a " + codec);
      CHECK(l3::clip_reader(file).facts().sound.begin == 0);
      CHECK(l3::clip_reader(file).facts().sound.end == Approx(1.35).margin(2e-3));
    }
  }
  SECTION("a packet that says it lasts for hours is not believed") {
    auto one = fixtures::read_file(make("link1.ogg", "-f lavfi -i sine=440:r=48000:d=2 -c:a libvorbis -b:a 64k"));
    auto const two = fixtures::read_file(make("link2.ogg", "-f lavfi -i sine=880:r=8000:d=3 -c:a libvorbis"));
    one.insert(one.end(), two.begin(), two.end());
    CHECK(l3::clip_reader(fixtures::write_file("links.ogg", one)).facts().sound.end < 10);
  }
  SECTION("a gap is silence of its length") {
    auto const file = make("gap.mkv", tone + "-af aselect='not(between(t\\,0.5\\,1.2))' -c:a pcm_s16le");
    auto const whole = fixtures::decode_sound(make("no-gap.wav", tone + "-c:a pcm_s16le"), "");
    auto const got = all_sound(file);
    REQUIRE(got.size() > 90000);
    CHECK(std::equal(got.begin(), got.begin() + 20000, whole.begin()));
    for (std::size_t i = 30000; i < 50000; ++i) REQUIRE(got[i] == 0);
    // After it the samples are in place to Matroska's millisecond.
    double best = 1e9;
    for (int shift = -60; shift <= 60; ++shift) {
      double error = 0;
      for (std::size_t i = 70000; i < 80000; ++i) error += std::abs(got[i] - whole[std::size_t(int(i) + shift)]);
      best = std::min(best, error);
    }
    CHECK(best == 0);
  }
  SECTION("a pause of more than an hour is a damaged time stamp, where one would have to wait for its end") {
    std::string const later = "'PTS+gt(T\\,0.5)*4000/TB' ";
    auto const file = make("pause.mkv", picture + tone + "-vf setpts=" + later + "-af asetpts=" + later +
                                            "-vsync vfr " + x264 + "-c:a pcm_s16le");
    l3::clip_reader endless(file, {.seconds = 0});
    CHECK(endless.facts().video.end > 4000);
    std::vector<float> second(48000);
    auto sound = endless.sound_from_start();
    CHECK_THROWS_WITH(sound.read(second), Contains("pauses"));
    CHECK_THROWS_WITH(endless.for_each_frame(1000, 32, [](auto...) {}), Contains("pauses"));
    l3::clip_reader reader(file, {.seconds = 10});
    CHECK_NOTHROW(reader.sound(9, second));
    std::size_t pictures = 0;
    reader.for_each_frame(1, 32, [&](auto...) { ++pictures; });
    CHECK(pictures == 10);
  }
  SECTION("a picture that stands for hours while there is sound is none, nor is silence while there are pictures") {
    auto const slide = make("slide.mkv", "-f lavfi -i color=s=32x32:r=1/3700:d=7400 -f lavfi -i sine=d=7400:r=1000 " +
                                             x264 + "-c:a pcm_u8 ");
    l3::clip_reader reader(slide, {.seconds = 0});
    REQUIRE(reader.facts().video.end > 7000);
    std::size_t pictures = 0;
    reader.for_each_frame(1000, 32, [&](auto...) { ++pictures; });
    CHECK(pictures == 8);
    auto const mute = make("mute.mkv",
                           "-f lavfi -i color=s=32x32:r=1/10:d=4000 -f lavfi -i sine=d=1:r=8000 "
                           "-af asetpts='PTS+gt(T\\,0.5)*3900/TB' " +
                               x264 + "-c:a pcm_u8 ");
    std::vector<float> part(1 << 20);
    auto sound = l3::clip_reader(mute, {.seconds = 0}).sound_from_start();
    std::size_t samples = 0;
    while (std::size_t const n = sound.read(part)) samples += n;
    CHECK(samples > 3900u * 48000);
    // Behind the end of the pictures the last one stays.
    pictures = 0;
    l3::clip_reader(make("ended.mkv", picture + "-f lavfi -i sine=d=2 " + x264 + "-c:a pcm_u8 "), {.seconds = 0})
        .for_each_frame(
            1000, 32, [&](auto...) { ++pictures; }, 0, 8);
    CHECK(pictures == 8);
  }
  SECTION("the sample rate changes on the way") {
    auto one = fixtures::read_file(make("one.ts", "-f lavfi -i sine=440:r=44100:d=1 -c:a aac"));
    auto const two =
        fixtures::read_file(make("two.ts", "-f lavfi -i sine=880:r=32000:d=1 -c:a aac -output_ts_offset 1.1"));
    one.insert(one.end(), two.begin(), two.end());
    auto const got = all_sound(fixtures::write_file("change.ts", one));
    REQUIRE(got.size() > 92000);
    auto const crossings = [&](std::size_t from) {
      int n = 0;
      for (std::size_t i = from; i < from + 24000; ++i) n += (got[i] < 0) != (got[i + 1] < 0);
      return n;
    };
    CHECK(crossings(10000) == Approx(440).margin(4));
    CHECK(crossings(60000) == Approx(880).margin(4));
  }
}

TEST_CASE("only the first seconds count") {
  if (no_ffmpeg()) return;
  auto const file = make("limit.mp4", picture + "-f lavfi -i sine=500:r=44100:d=2 " + x264 + "-bf 2 -c:a aac");
  l3::clip_reader whole(file), limited(file, {.seconds = 1});
  CHECK(limited.facts().video.end == 1);
  CHECK(limited.facts().sound.end == 1);
  CHECK(limited.frame(5).time == Approx(0.96));
  CHECK((limited.frame(0.5).pixels == whole.frame(0.5).pixels));
  auto const some = all_sound(file, 1), all = all_sound(file);
  CHECK(some.size() == 48000);
  CHECK(std::equal(some.begin(), some.end(), all.begin()));
  std::vector<float> second(48000), cut(48000);
  whole.sound(0.5, second);
  limited.sound(0.5, cut);
  CHECK(std::equal(cut.begin(), cut.begin() + 24000, second.begin()));
  CHECK(std::all_of(cut.begin() + 24000, cut.end(), [](float x) { return x == 0; }));
  l3::clip_reader unlimited(file, {.seconds = 0});
  for (double start : {0.5, 0.1, 0.9}) {  // without a limit nothing is kept, and nothing changes
    whole.sound(start, second);
    unlimited.sound(start, cut);
    CHECK(second == cut);
  }
  int hops = 0;
  limited.for_each_frame(0.1, 16, [&](std::size_t, l3::rgb_frame const&) { ++hops; });
  CHECK(hops == 10);
}

namespace {

/// The message of the error that `work` throws.
template <class Error, class Work>
std::string complaint_of(Work work) {
  try {
    work();
  } catch (Error const& e) {
    return e.what();
  }
  return "no such error";
}

}  // namespace

TEST_CASE("files that cannot be read say why") {
  auto const open = [](path const& p) { return [p] { l3::clip_reader reader(p); }; };
  CHECK_THAT(complaint_of<l3::file_error>(open("/no/such/file.mp4")),
             Contains("/no/such/file.mp4") && Contains("No such file"));
  CHECK_THAT(complaint_of<l3::file_error>(open(fixtures::folder())), Contains("a directory"));
  CHECK_THAT(complaint_of<l3::media_error>(open(fixtures::write_file("zero.mp4", {}))),
             Contains("zero.mp4") && Contains("0 bytes"));
  fixtures::bytes const text(5000, 'a');
  CHECK_THAT(complaint_of<l3::media_error>(open(fixtures::write_file("text.mp4", text))),
             Contains("text.mp4") && Contains("expected a media file"));
  auto const list = fixtures::write_file("list.m3u8", {});
  std::ofstream(list) << "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nzero.mp4\n#EXT-X-ENDLIST\n";
  CHECK_THROWS_AS(open(list)(), l3::media_error);  // a playlist opens no other file
  CHECK_THROWS_AS(l3::clip_reader(list, {.wall_seconds = std::nan("")}), l3::setting_error);
  auto const loop = fixtures::folder() / "loop.mp4";  // not even root can open it
  fixtures::fs::create_symlink("loop.mp4", loop);
  CHECK_THAT(complaint_of<l3::file_error>(open(loop)), Contains("loop.mp4") && Contains("symbolic links"));
  if (no_ffmpeg()) return;
  auto const sound_only = make("only.wav", tone), video_only = make("only.mp4", picture + x264);
  CHECK_THAT(complaint_of<l3::media_error>([&] { l3::clip_reader(sound_only).frame(0); }),
             Contains("video") && Contains("only sound"));
  std::vector<float> second(48000);
  CHECK_THAT(complaint_of<l3::media_error>([&] { l3::clip_reader(video_only).sound(0, second); }),
             Contains("sound") && Contains("only pictures"));
  CHECK_THROWS_AS(l3::clip_reader(video_only).frame(std::nan("")), l3::setting_error);
  l3::decode_limits const no_watchdog{.wall_seconds = std::numeric_limits<double>::infinity()};
  CHECK(l3::clip_reader(video_only, no_watchdog).facts().has_video);
  auto const concat = fixtures::write_file("concat.mp4", {});  // known by its content, and names a file that is there
  std::ofstream(concat) << "ffconcat version 1.0\nfile " << video_only.filename().string() << "\n";
  auto const here = fixtures::fs::current_path();
  fixtures::fs::current_path(video_only.parent_path());
  CHECK_THROWS_AS(open(concat)(), l3::media_error);
  fixtures::fs::current_path(here);
  auto whole = fixtures::read_file(video_only);
  whole.resize(whole.size() * 2 / 3);  // the index, at the end, is gone
  CHECK_THAT(complaint_of<l3::media_error>(open(fixtures::write_file("truncated.mp4", whole))),
             Contains("moov atom not found"));
  auto const cover =
      make("cover.mp3",
           tone + "-f lavfi -i testsrc2=s=60x40:d=1 -frames:v 1 -map 0 -map 1 -c:v png -disposition:v attached_pic");
  CHECK(!l3::clip_reader(cover).facts().has_video);
  auto const nan = make("nan.wav", "-f lavfi -i aevalsrc='if(eq(n\\,4000)\\,0/0\\,0.1)':s=48000:d=1 -c:a pcm_f32le");
  CHECK_THAT(complaint_of<l3::media_error>([&] { l3::clip_reader(nan).sound(0, second); }), Contains("nan"));
  auto const huge = make("huge.wav", "-f lavfi -i aevalsrc='if(eq(n\\,4000)\\,1e18\\,0.1)':s=48000:d=1 -c:a pcm_f32le");
  CHECK_THAT(complaint_of<l3::media_error>([&] { l3::clip_reader(huge).sound(0, second); }),
             Contains("full scale") && Contains("1e+18"));
}

TEST_CASE("budgets refuse") {
  if (no_ffmpeg()) return;
  auto const file = make("costly.mp4", picture + tone + x264 + "-c:a aac");
  auto const with = [&](l3::decode_limits limits) {
    return complaint_of<l3::media_error>([&] {
      l3::clip_reader reader(file, limits);
      reader.frame(1.5);
    });
  };
  CHECK(with({}) == "no such error");
  CHECK_THAT(with({.packets = 20}), Contains("at most 20 packets") && Contains("refused"));
  CHECK_THAT(with({.frames = 10}), Contains("at most 10 frames") && Contains("refused"));
  CHECK_THAT(with({.bytes = 2000}), Contains("at most 2000 bytes") && Contains("refused"));
  CHECK_THAT(with({.max_pixels = 96 * 64 - 1}), Contains("refused") || Contains("pixels"));
  CHECK_THAT(with({.wall_seconds = 0}), Contains("watchdog"));
}

TEST_CASE("sample media") {
  if (no_ffmpeg() || zoo("MANIFEST.md").empty()) return;
  check_pictures(zoo("nasa_13013.mp4"), 0, 64, "v:1");
  auto const full_range = fixtures::decode_pictures(zoo("bt709_full_range.mp4"), 455, 256);
  CHECK((l3::clip_reader(zoo("bt709_full_range.mp4")).frame(0.21, 256).pixels == full_range.picture(6)));
  check_pictures(zoo("h264_10bits.mp4"), 0);
  check_pictures(zoo("h265_video.mp4"), 0);
  check_pictures(zoo("video_0.mov"), 0);

  l3::clip_reader nasa(zoo("nasa_13013.mp4"), {.seconds = 0});
  CHECK(nasa.facts().width == 480);
  CHECK(nasa.facts().sample_rate == 16000);
  CHECK(nasa.facts().video.end == Approx(13.013));  // the header claims 16.57
  CHECK(nasa.facts().sound.end == Approx(13.056).margin(0.07));
  auto const pan = "-af aformat=sample_fmts=fltp,pan='mono|c0=0.5*c0+0.5*c1',aresample=48000";
  CHECK(difference(all_sound(zoo("nasa_13013.mp4")), fixtures::decode_sound(zoo("nasa_13013.mp4"), pan, "a:1")) == 0);
  CHECK(difference(all_sound(zoo("nasa_13013.mp4.audio.mp3")),
                   fixtures::decode_sound(zoo("nasa_13013.mp4.audio.mp3"), pan)) == 0);
  for (auto const* name : {"sine_mono_s16.wav", "sine_mono_s32_8000.wav"})
    CHECK(difference(all_sound(zoo(name)), fixtures::decode_sound(zoo(name), "-ar 48000")) == 0);

  l3::clip_reader turned(zoo("video_90.mov"));
  CHECK(turned.facts().rotation == 90);
  CHECK(turned.facts().width == 320);
  CHECK(turned.facts().height == 568);

  // One packet of 50 is lost and another's picture patched up: their moments are refused, all others are given.
  l3::clip_reader damaged(zoo("corrupted.mp4"));
  auto const truth = fixtures::decode_pictures(zoo("corrupted.mp4"), 160, 90, "v:0", ":in_color_matrix=bt709");
  int refused = 0;
  for (int i = 24; i < 40; ++i) {
    double const t = 0.1 * i + 0.01;
    auto const given = complaint_of<l3::media_error>([&] {
      auto const got = damaged.frame(t, 90);
      CHECK((got.pixels == truth.picture(truth.on_display(t))));
    });
    if (given == "no such error") continue;
    ++refused;
    CHECK_THAT(given, Contains("corrupted.mp4") && Contains("damaged"));
  }
  CHECK(refused == 2);
}

TEST_CASE("what reading costs", "[.measure]") {
  if (no_ffmpeg()) return;
  std::cout
      << "10 s of 320x240 at 25 pictures/s, H.264 with B-frames, AAC 44.1 kHz stereo; medians of 41, milliseconds\n"
      << "key frame every  open  picture at a random time, side 256  same, open GOP  a second of sound\n";
  auto const clip = "-f lavfi -i testsrc2=s=320x240:r=25:d=10 -f lavfi -i anoisesrc=r=44100:d=10:a=0.2 " + x264 +
                    "-c:a aac -ac 2 -x264-params scenecut=0:keyint=";
  auto const median_ms = [](auto work) {
    std::vector<double> times;
    for (int i = 0; i < 41; ++i) times.push_back(work(i));
    std::nth_element(times.begin(), times.begin() + 20, times.end());
    return times[20];
  };
  auto const timed = [](auto work) {
    auto const begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  };
  for (std::string const interval : {"12", "50", "250"}) {
    auto const closed = make("cost.mp4", clip + interval),
               open = make("cost-open.mp4", clip + interval + ":open-gop=1");
    std::vector<float> second(48000);
    auto const picture_of = [&](path const& file) {
      return [&, file](int i) {
        l3::clip_reader reader(file);
        return timed([&] { reader.frame((i * 37 % 100) / 10.0, 256); });
      };
    };
    std::cout << interval << "  " << median_ms([&](int) { return timed([&] { l3::clip_reader reader(closed); }); })
              << "  " << median_ms(picture_of(closed)) << "  " << median_ms(picture_of(open)) << "  "
              << median_ms([&](int i) {
                   l3::clip_reader reader(closed);
                   return timed([&] { reader.sound((i * 37 % 90) / 10.0, second); });
                 })
              << '\n';
  }
}
