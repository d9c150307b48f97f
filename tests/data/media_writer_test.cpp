// What media_writer writes is judged by FFmpeg's own programs: ffprobe for the facts, ffmpeg for pictures and sound.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <l3/data/media_writer.hpp>
#include <numbers>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "files/scratch.hpp"

namespace {

using bytes = std::vector<std::uint8_t>;
constexpr l3::media_format format{.width = 64, .height = 48, .frame_rate = 10};

bool have_ffmpeg() {
  static bool const have = std::system("ffmpeg -version >/dev/null 2>&1 && ffprobe -version >/dev/null 2>&1") == 0;
  if (!have) std::cout << "SKIPPED: no ffmpeg and ffprobe programs\n";
  return have;
}

std::string output_of(std::string const& command) {
  std::string text;
  auto* const pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe);
  char buffer[4096];
  for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, got);
  CHECK(::pclose(pipe) == 0);
  return text;
}

constexpr std::array<std::array<int, 3>, 4> colours{{{200, 40, 40}, {40, 180, 60}, {50, 60, 190}, {128, 128, 128}}};
float tone_at(std::size_t sample) {
  return 0.25f * std::sin(static_cast<float>(2 * std::numbers::pi * 440 / 48000) * static_cast<float>(sample));
}

/// 1.2 s: every picture of one colour, by turns; a tone, given in pieces of odd sizes.
bytes little_film() {
  l3::media_writer writer(format);
  for (std::size_t f = 0; f < 12; ++f) {
    bytes rgb;
    for (int p = 0; p < 64 * 48; ++p)
      for (int const c : colours[f % 4]) rgb.push_back(static_cast<std::uint8_t>(c));
    writer.add_frame(rgb);
  }
  for (std::size_t at = 0, piece = 1; at < 57600;
       at += piece, piece = std::min<std::size_t>(2 * piece + 7, 57600 - at)) {
    std::vector<float> samples;
    for (auto s = at; s < at + piece; ++s) samples.push_back(tone_at(s));
    writer.add_sound(samples);
  }
  return writer.finish();
}

std::string save(l3_test::scratch const& folder, bytes const& film) {
  return l3_test::put(folder / "film.mp4", {reinterpret_cast<char const*>(film.data()), film.size()}).string();
}

}  // namespace

TEST_CASE("a written film holds H.264 and AAC of equal length", "[media_writer]") {
  if (!have_ffmpeg()) return;
  l3_test::scratch const folder;
  auto const file = save(folder, little_film());
  CHECK(output_of("ffprobe -v error -show_entries stream=codec_name,start_time,duration,nb_frames,width,height,"
                  "sample_rate,channels,r_frame_rate,color_space,color_range -of compact=p=0 " +
                  file) ==
        "codec_name=h264|width=64|height=48|color_range=tv|color_space=smpte170m|r_frame_rate=10/1|"
        "start_time=0.000000|duration=1.200000|nb_frames=12\n"
        "codec_name=aac|sample_rate=48000|channels=1|r_frame_rate=0/0|start_time=0.000000|duration=1.200000|"
        "nb_frames=58\n");
}

TEST_CASE("pictures and sound come back at their times", "[media_writer]") {
  if (!have_ffmpeg()) return;
  l3_test::scratch const folder;
  auto const file = save(folder, little_film());

  auto const pictures = output_of("ffmpeg -v error -i " + file + " -f rawvideo -pix_fmt rgb24 -");
  REQUIRE(pictures.size() == 12 * 64 * 48 * 3);
  for (std::size_t f = 0; f < 12; ++f)
    for (std::size_t c = 0; c < 3; ++c) {
      auto const pixel = static_cast<std::uint8_t>(pictures[((f * 48 + 24) * 64 + 32) * 3 + c]);
      CAPTURE(f, c);
      CHECK(int{pixel} == Approx(colours[f % 4][c]).margin(6));  // a swapped channel or wrong matrix is far off
    }

  auto const sound = output_of("ffmpeg -v error -i " + file + " -f f32le -");
  REQUIRE(sound.size() >= 57600 * sizeof(float));
  double error = 0, power = 0;
  for (std::size_t s = 2400; s < 55200; ++s) {  // a shift by one sample alone would give 5.8 % here
    float value;
    std::memcpy(&value, sound.data() + s * sizeof value, sizeof value);
    error += std::pow(value - tone_at(s), 2);
    power += std::pow(tone_at(s), 2);
  }
  CHECK(std::sqrt(error / power) < 0.02);
}

TEST_CASE("the same film is the same bytes", "[media_writer]") { CHECK(little_film() == little_film()); }

TEST_CASE("what cannot be written is refused", "[media_writer]") {
  CHECK_THROWS_AS(l3::media_writer({.width = 63, .height = 48}), l3::setting_error);
  CHECK_THROWS_AS(l3::media_writer({.width = 64, .height = 48, .frame_rate = 0}), l3::setting_error);
  CHECK_THROWS_AS(l3::media_writer({.width = 64, .height = 48, .sample_rate = 12345}), l3::media_error);
  l3::media_writer writer(format, "small.mp4");
  CHECK_THROWS_WITH(writer.add_frame(bytes(10)), "small.mp4: expected pictures of 9216 bytes, found 10");
}
