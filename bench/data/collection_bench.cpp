// What a large collection costs before the first draw: an index of 100,000 videos, read whole.
#include <benchmark/benchmark.h>
#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <l3/data/collection.hpp>
#include <string>

namespace {

constexpr std::size_t count = 100'000;

/// Made-up records; no file is opened.
std::filesystem::path const& index_file() {
  static struct holder {
    std::filesystem::path file =
        std::filesystem::temp_directory_path() / ("l3-bench-" + std::to_string(::getpid()) + ".l3index");
    holder() {
      l3::index_settings const settings;
      l3::clip_index_writer index(file, settings, l3::clip_index_writer::mode::whole);
      for (std::size_t i = 0; i < count; ++i) {
        char name[64];
        std::snprintf(name, sizeof name, "videos/%03zu/abcdefghijk_%06zu_%06zu.mp4", i / 1000, i, i + 10);
        l3::clip_record r{.video = {file.parent_path() / name, name, "class " + std::to_string(i % 34)}};
        r.bytes = 900'000 + i;
        r.modified = 1'700'000'000'000'000'000;
        r.facts.has_video = r.facts.has_sound = true;
        r.facts.video = r.facts.sound = {0, 10};
        r.facts.width = 454, r.facts.height = 256, r.facts.frame_rate = 25;
        r.facts.container = "mov,mp4,m4a,3gp,3g2,mj2", r.facts.video_codec = "h264", r.facts.audio_codec = "aac";
        r.facts.sample_rate = 44100, r.facts.channels = 2;
        r.keys = {0, 4.2, 8.1};
        r.loudest = 0.5, r.motion = 5;
        index.add(r);
      }
      index.commit();
    }
    ~holder() { std::filesystem::remove(file); }
  } const made;
  return made.file;
}

void load_100k_entries(benchmark::State& state) {
  auto const& file = index_file();
  double bytes = 0, names = 0;
  for (auto _ : state) {
    auto const before = ::mallinfo2();
    auto const all = l3::open_collection(file);
    auto const after = ::mallinfo2();
    bytes = static_cast<double>(after.uordblks + after.hblkhd) - static_cast<double>(before.uordblks + before.hblkhd);
    if (names == 0)
      for (std::size_t i = 0; i < all.clips.size(); ++i) names += static_cast<double>(all.clips.name(i).size());
    if (all.clips.size() != count) state.SkipWithError("clips are missing");
  }
  state.counters["bytes_a_clip"] = bytes / count;
  state.counters["of_them_name"] = names / count;
  state.counters["file_bytes_a_clip"] = static_cast<double>(std::filesystem::file_size(file)) / count;
}
BENCHMARK(load_100k_entries)->Unit(benchmark::kMillisecond);

}  // namespace
