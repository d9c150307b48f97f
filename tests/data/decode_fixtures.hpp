/// @file  tests/data/decode_fixtures.hpp: media files made by the ffmpeg program, and what that program decodes from
/// them.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <l3/data/ffmpeg.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace fixtures {

namespace fs = std::filesystem;
using bytes = std::vector<std::uint8_t>;

inline bool have_ffmpeg() {
  static bool const have = std::system("ffmpeg -version >/dev/null 2>&1 && ffprobe -version >/dev/null 2>&1") == 0;
  return have;
}

/// A folder for this process, removed at its end.
inline fs::path const& folder() {
  struct holder {
    fs::path path = fs::temp_directory_path() / ("l3-decode-test-" + std::to_string(::getpid()));
    holder() { fs::create_directories(path); }
    ~holder() { fs::remove_all(path); }
  };
  static holder const h;
  return h.path;
}

/// Runs `ffmpeg ARGUMENTS` inside the folder.
inline void ffmpeg(std::string const& arguments) {
  auto const command = "cd '" + folder().string() + "' && ffmpeg -nostdin -v error -y " + arguments + " 2>log.txt";
  if (std::system(command.c_str()) != 0) {
    std::ifstream log(folder() / "log.txt");
    throw std::runtime_error(command + "\n" + std::string(std::istreambuf_iterator<char>(log), {}));
  }
}

inline bytes read_file(fs::path const& p) {
  std::ifstream in(p, std::ios::binary);
  return bytes(std::istreambuf_iterator<char>(in), {});
}
inline fs::path write_file(std::string const& name, bytes const& content) {
  std::ofstream(folder() / name, std::ios::binary)
      .write(reinterpret_cast<char const*>(content.data()), std::streamsize(content.size()));
  return folder() / name;
}

/// Output of a command, line by line.
inline std::vector<std::string> lines_of(std::string const& command) {
  std::vector<std::string> lines;
  FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (!pipe) throw std::runtime_error(command);
  std::string line;
  for (int c; (c = std::fgetc(pipe)) != EOF;)
    if (c == '\n')
      lines.push_back(std::exchange(line, {}));
    else
      line += char(c);
  ::pclose(pipe);
  return lines;
}

/// Presentation times of the frames that ffprobe decodes, in seconds of the file's own time.
inline std::vector<double> frame_times(fs::path const& file, std::string const& stream) {
  std::vector<double> times;
  for (auto const& line : lines_of("ffprobe -v quiet -threads 1 -select_streams " + stream +
                                   " -show_entries frame=best_effort_timestamp,best_effort_timestamp_time -of "
                                   "default=noprint_wrappers=1:nokey=0 '" +
                                   file.string() + "'"))
    if (line.starts_with("best_effort_timestamp_time=") && line.find("N/A") == line.npos)
      times.push_back(std::stod(line.substr(27)));
  return times;
}

/// All pictures that the ffmpeg program gives for one stream, through a filter chain, as packed RGB.
struct pictures {
  std::vector<double> times;
  std::size_t width, height;
  bytes rgb;

  std::size_t count() const { return rgb.size() / (width * height * 3); }
  bytes picture(std::size_t i) const {
    auto const size = std::ptrdiff_t(width * height * 3);
    return bytes(rgb.begin() + std::ptrdiff_t(i) * size, rgb.begin() + std::ptrdiff_t(i + 1) * size);
  }
  /// The one on display at t seconds of the file's own time.
  std::size_t on_display(double t) const {
    auto const after = std::upper_bound(times.begin(), times.end(), t + 1e-6);
    return after == times.begin() ? 0 : std::size_t(after - times.begin()) - 1;
  }
};
inline pictures decode_pictures(fs::path const& file, std::size_t width, std::size_t height,
                                std::string const& stream = "v:0", std::string const& scale_options = "") {
  // One decoder thread, as in l3: FFmpeg patches up damaged pictures differently with more. Times come from a second
  // output of the same run, in the file's own time base.
  auto const size = std::to_string(width) + ":" + std::to_string(height);
  std::string const own_times = LIBAVFORMAT_VERSION_MAJOR < 61 ? "-1" : "demux";  // what FFmpeg 5 calls so, 9 does not
  auto const take = " -map 0:" + stream + " -fps_mode passthrough -copyts ";
  ffmpeg("-threads 1 -i '" + file.string() + "'" + take + "-vf scale=" + size +
         ":flags=bilinear+accurate_rnd+bitexact+full_chroma_int" + scale_options +
         ",format=rgb24 -f rawvideo pictures.rgb" + take + "-enc_time_base " + own_times + " -f framecrc times.txt");
  pictures found{{}, width, height, read_file(folder() / "pictures.rgb")};
  std::ifstream lines(folder() / "times.txt");
  double numerator = 0, denominator = 1, dts = 0, pts = 0;
  int stream_index = 0;
  for (std::string line; std::getline(lines, line);) {
    std::sscanf(line.c_str(), "#tb 0: %lf/%lf", &numerator, &denominator);
    if (std::sscanf(line.c_str(), "%d, %lf, %lf", &stream_index, &dts, &pts) == 3)
      found.times.push_back(pts * numerator / denominator);
  }
  return found;
}

/// Samples that the ffmpeg program gives for one sound stream of each file, as float; `arguments`: rate, filters.
inline std::vector<std::vector<float>> decode_sounds(std::vector<fs::path> const& files, std::string const& arguments,
                                                     std::string const& stream = "a:0") {
  std::string in, out;
  for (std::size_t i = 0; i < files.size(); ++i) {
    auto const number = std::to_string(i);
    in += "-i '" + files[i].string() + "' ";
    out += "-map " + number + ":" + stream + " " + arguments + " -f f32le sound" + number + ".f32 ";
  }
  ffmpeg(in + out);
  std::vector<std::vector<float>> all;
  for (std::size_t i = 0; i < files.size(); ++i) {
    auto const raw = read_file(folder() / ("sound" + std::to_string(i) + ".f32"));
    auto& samples = all.emplace_back(raw.size() / 4);
    std::copy_n(raw.begin(), samples.size() * 4, reinterpret_cast<std::uint8_t*>(samples.data()));
  }
  return all;
}
inline std::vector<float> decode_sound(fs::path const& file, std::string const& arguments,
                                       std::string const& stream = "a:0") {
  return decode_sounds({file}, arguments, stream).at(0);
}

}  // namespace fixtures
