/// @file  tests/data/published_sets_test.cpp: lists of published sets in their own formats, on made-up trees of
/// thousands of files.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <l3/data/published_sets.hpp>
#include <set>
#include <string>
#include <vector>

#include "../support/catch.hpp"

namespace {

namespace fs = std::filesystem;

struct scratch_folder {
  fs::path path = fs::temp_directory_path() / ("l3-sets-test-" + std::to_string(::getpid()));
  scratch_folder() { fs::create_directories(path); }
  ~scratch_folder() { fs::remove_all(path); }
  fs::path write(fs::path const& name, std::string const& content = "") const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << content;
    return path / name;
  }
};

/// An id like YouTube's, some with a dash or an underscore first.
std::string id_of(int i) {
  char text[16];
  std::snprintf(text, sizeof text, "%c%c_x-%06d", "-_aZ"[i % 4], "q-_7"[i / 4 % 4], i);
  return text;
}
std::set<std::string> names(l3::clip_list const& clips) {
  std::set<std::string> all;
  for (auto const& each : clips) all.insert(each.name);
  return all;
}

}  // namespace

TEST_CASE("flickr-soundnet: a list of ids, a random subset, and splits that no missing file moves") {
  scratch_folder const folder;
  std::string list = "# made up\n";
  for (int i = 0; i < 5000; ++i) {
    auto const id = std::to_string(4000000000LL + 7LL * i);
    list += i % 3 == 0   ? id + "\n"
            : i % 3 == 1 ? "videos/" + id.substr(0, 3) + "/" + id + ".mp4\r\n"
                         : "http://x/y/" + id + "\n";
    if (i % 10 != 0) folder.write("flickr/" + id.substr(8) + "/" + id + (i % 2 ? ".mp4" : ".MKV"));
  }
  l3::set_request r{.set = "flickr-soundnet", .list = folder.write("ids.txt", list), .videos = folder.path / "flickr"};
  auto const all = l3::list_published_set(r);
  CHECK(all.listed == 5000);
  CHECK(all.clips.size() == 4500);
  CHECK(all.missing.size() == 500);
  CHECK(all.missing[0] == "4000000000");
  // A mark at the beginning, an id that comes again, and addresses with something behind it.
  r.list = folder.write("odd.txt",
                        "\xef\xbb\xbf"
                        "4000000007\nhttps://x/y/4000000014/\nhttps://x/4000000021.mp4?dl=1\n4000000007\n");
  auto const odd = l3::list_published_set(r);
  CHECK(odd.listed == 3);
  CHECK(odd.clips.size() == 3);
  r.list = folder.write("nothing.txt", "///\n");
  CHECK_THROWS_WITH(l3::list_published_set(r), Contains("nothing.txt:1"));
  r.list = folder.path / "ids.txt";
  r.classes = folder.path / "ids.txt";
  CHECK_THROWS_WITH(l3::list_published_set(r), Contains("only of kinetics-sounds"));
  r.classes.clear();
  CHECK(fs::exists(all.clips[17].file));

  auto const part = [&](char const* split, std::size_t subset = 0, std::uint64_t seed = 0) {
    auto q = r;
    q.split = split;
    q.subset = subset;
    q.seed = seed;
    return l3::list_published_set(q);
  };
  CHECK(part("train").listed == 4000);
  CHECK(part("valid").listed == 500);
  CHECK(part("test").listed == 500);
  auto together = names(part("train").clips);
  together.merge(names(part("valid").clips));
  together.merge(names(part("test").clips));
  CHECK(together.size() == 4500);
  CHECK(names(part("test").clips) != names(part("test", 0, 1).clips));
  auto const test = names(part("test").clips);
  fs::remove(folder.path / "flickr" / *names(part("train").clips).begin());
  CHECK(names(part("test").clips) == test);

  CHECK(part("all", 1000).listed == 1000);
  CHECK(part("train", 1000).listed == 800);
  CHECK(part("test", 1000).listed == 100);
  CHECK(names(part("all", 1000).clips) != names(part("all", 1000, 1).clips));
  auto const small = names(part("all", 1000).clips), large = names(part("all", 2000).clips);
  CHECK(std::includes(large.begin(), large.end(), small.begin(), small.end()));
}

TEST_CASE("kinetics-sounds: the classes of a list, in Kinetics's columns and file names") {
  scratch_folder const folder;
  std::string csv = "label,youtube_id,time_start,time_end,split\n";
  char const* const classes[] = {"playing drums", "\"playing guitar\"", "riding a bike", "tickling"};
  char const* const splits[] = {"train", "train", "val", "test", "validate"};
  for (int i = 0; i < 2000; ++i) {
    csv += std::string(classes[i % 4]) + ',' + id_of(i) + ',' + std::to_string(i % 90) + ',' +
           std::to_string(i % 90 + 10) + ',' + splits[i % 5] + '\n';
    char name[64];
    std::snprintf(name, sizeof name, "kinetics/some class %d/%s_%06d_%06d.mp4", i % 4, id_of(i).c_str(), i % 90,
                  i % 90 + 10);
    if (i % 8 != 1) folder.write(name);
  }
  l3::set_request r{
      .set = "kinetics-sounds", .list = folder.write("kinetics.csv", csv), .videos = folder.path / "kinetics"};
  auto const all = l3::list_published_set(r);
  CHECK(all.listed == 1500);  // not riding a bike
  CHECK(all.missing.size() == 250);
  CHECK(all.clips.size() == 1250);
  CHECK(all.clips[0].label == "playing drums");
  CHECK(all.unheard.size() == l3::kinetics_sounds_classes.size() - 3);
  r.split = "valid";
  CHECK(l3::list_published_set(r).listed == 600);  // two of five names mean it
  r.split = "all";
  r.classes = folder.write("classes.txt", "# mine\nriding a bike\nwinking\n");
  auto const mine = l3::list_published_set(r);
  CHECK(mine.listed == 500);
  CHECK(mine.unheard == std::vector<std::string>{"winking"});

  r.list = folder.write("bad.csv", "label,youtube_id,time_start,time_end\nx,y,soon,10\n");
  r.classes = folder.write("x.txt", "x");
  CHECK_THROWS_WITH(l3::list_published_set(r), Contains("bad.csv:2") && Contains("'soon'"));
  r.list = folder.write("other.csv", "label,id\nx,y\n");
  CHECK_THROWS_WITH(l3::list_published_set(r), Contains("youtube_id"));
}

TEST_CASE("audioset and vggsound: their lists, and the ways in which downloads are named") {
  scratch_folder const folder;
  auto const audioset =
      folder.write("eval_segments.csv",
                   "# Segments csv created Sun Mar  5 10:54:25 2017\n# num_ytids=3\n"
                   "# YTID, start_seconds, end_seconds, positive_labels\n"
                   "--4gqARaEJE, 0.000, 10.000, \"/m/068hy,/m/07q6cd_,/m/0bt9lr\"\n"
                   "--BfvyPmVMo, 20.000, 30.000, \"/m/03l9g\"\n--gone00000, 5.000, 15.000, \"/m/03l9g\"\n"
                   "-0nqfRcnAYE, 364.000, 374.000, \"/m/06bxc\"\n");
  folder.write("clips/--4gqARaEJE_000000_000010.mp4");
  folder.write("clips/a/--BfvyPmVMo_20000_30000.mkv");
  folder.write("clips/Y-0nqfRcnAYE.mp4");
  auto const a = l3::list_published_set({.set = "audioset", .list = audioset, .videos = folder.path / "clips"});
  CHECK(a.listed == 4);
  REQUIRE(a.clips.size() == 3);
  CHECK(a.clips[0].label == "/m/068hy,/m/07q6cd_,/m/0bt9lr");
  CHECK(a.clips[1].name == "a/--BfvyPmVMo_20000_30000.mkv");
  CHECK(a.missing == std::vector<std::string>{"--gone00000_000005_000015"});

  auto const vgg = folder.write(
      "vggsound.csv", "---g-f_I2yQ,1,\"people marching\",test\n--0PQM4-hqg,30,\"waterfall, burbling\",train\n");
  folder.write("vgg/---g-f_I2yQ_000001.mp4");
  folder.write("vgg/--0PQM4-hqg_000030.mp4");
  l3::set_request r{.set = "vggsound", .list = vgg, .videos = folder.path / "vgg", .split = "train"};
  auto const v = l3::list_published_set(r);
  REQUIRE(v.clips.size() == 1);
  CHECK(v.clips[0].label == "waterfall, burbling");
  CHECK(v.clips[0].name == "--0PQM4-hqg_000030.mp4");

  r.list = folder.write("three.csv", "a,1,b\n");
  CHECK_THROWS_WITH(l3::list_published_set(r), Contains("three.csv:1") && Contains("3 cells"));
  CHECK_THROWS_AS(l3::list_published_set({.set = "youtube8m"}), l3::setting_error);
  CHECK_THROWS_AS(l3::list_published_set({.set = "audioset", .list = audioset, .videos = folder.path, .split = "test"}),
                  l3::setting_error);
  CHECK_THROWS_AS(l3::list_published_set({.set = "vggsound", .list = folder.path / "none.csv", .videos = folder.path}),
                  l3::file_error);
  CHECK_THROWS_AS(l3::list_published_set({.set = "vggsound", .list = vgg, .videos = folder.path / "none"}),
                  l3::file_error);
}
