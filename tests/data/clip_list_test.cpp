/// @file  tests/data/clip_list_test.cpp: lists of videos from folders, CSV files and texts; splits; the record of
/// refusals.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <l3/data/clip_list.hpp>
#include <l3/data/decode.hpp>
#include <l3/data/refusal_lines.hpp>
#include <map>
#include <string>
#include <vector>

#include "../support/catch.hpp"

namespace {

namespace fs = std::filesystem;
using names = std::vector<std::string>;

/// A folder that goes away with the test.
struct scratch_folder {
  fs::path path = fs::temp_directory_path() / ("l3-clip-list-test-" + std::to_string(::getpid()));
  scratch_folder() { fs::create_directories(path); }
  ~scratch_folder() { fs::remove_all(path); }
  fs::path write(fs::path const& name, std::string const& content = "") const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << content;
    return path / name;
  }
};

names names_of(l3::clip_list const& clips) {
  names all;
  for (auto const& each : clips) all.push_back(each.name);
  return all;
}
names labels_of(l3::clip_list const& clips) {
  names all;
  for (auto const& each : clips) all.push_back(each.label);
  return all;
}

}  // namespace

TEST_CASE("a folder is searched to the bottom, in an order that does not depend on the disk") {
  scratch_folder const folder;
  for (auto const* name : {"b/z.mp4", "b/a.MKV", "top.webm", "a/deep/er/x.mov", "a/notes.txt", "a/sound.wav",
                           "a/._x.mov", ".trash/y.mp4", "b/no_ending", "c.mp4/inside.avi"})
    folder.write(name);
  auto const clips = l3::read_clips(folder.path);
  CHECK(names_of(clips) == names{"a/deep/er/x.mov", "b/a.MKV", "b/z.mp4", "c.mp4/inside.avi", "top.webm"});
  CHECK(labels_of(clips) == names{"a", "b", "b", "c.mp4", ""});
  for (auto const& each : clips) CHECK(fs::exists(each.file));

  SECTION("also when it is named with a slash at the end, or from inside") {
    CHECK(names_of(l3::read_clips(folder.path.string() + "/")) == names_of(clips));
    auto const before = fs::current_path();
    fs::current_path(folder.path);
    auto const from_inside = l3::read_clips(".");
    fs::current_path(before);
    CHECK(names_of(from_inside) == names_of(clips));
    CHECK(labels_of(from_inside) == labels_of(clips));
  }
}

TEST_CASE("links are followed, but not in circles, and a dangling one is listed") {
  scratch_folder const folder;
  folder.write("data/one/x.mp4");
  folder.write("elsewhere/y.mp4");
  fs::create_directory_symlink(folder.path / "elsewhere", folder.path / "data/two");
  fs::create_directory_symlink(folder.path / "data", folder.path / "elsewhere/back");
  fs::create_directory_symlink("..", folder.path / "data/one/up");
  fs::create_symlink("nowhere.mp4", folder.path / "data/gone.mp4");
  CHECK(names_of(l3::read_clips(folder.path / "data")) == names{"gone.mp4", "one/x.mp4", "two/y.mp4"});
  // 2^40 ways lead to the last of these.
  for (int k = 0; k != 40; ++k) {
    auto const rung = folder.path / "ladder" / std::to_string(k);
    fs::create_directories(rung);
    for (char const* name : {"a", "b"}) fs::create_directory_symlink("../" + std::to_string(k + 1), rung / name);
  }
  fs::create_directories(folder.path / "ladder/40");
  CHECK_THROWS_WITH(l3::read_clips(folder.path / "ladder/0"), Catch::Contains("links to folders met before"));
}

TEST_CASE("a folder that cannot be read is listed, and says why when it is opened as a video") {
  scratch_folder const folder;
  folder.write("open/x.mp4");
  folder.write("shut/y.mp4");
  fs::permissions(folder.path / "shut", fs::perms::none);
  fs::permissions(folder.path, fs::perms(0755));
  {
    struct somebody {  // whom permissions concern
      bool const is_root = ::geteuid() == 0, is_another = is_root && ::seteuid(65534) == 0;
      ~somebody() {
        if (is_another && ::seteuid(0) != 0) std::abort();
      }
    } const who;
    std::error_code closed;
    fs::directory_iterator(folder.path, closed);
    if ((who.is_root && !who.is_another) || closed) {
      std::cout << "SKIPPED: there is no user who may read this folder but not all that is in it\n";
    } else {
      auto const clips = l3::read_clips(folder.path);
      CHECK(names_of(clips) == names{"open/x.mp4", "shut"});
      CHECK(labels_of(clips) == names{"open", "shut"});
      CHECK_THROWS_AS(l3::files_below(folder.path, l3::has_video_extension), l3::file_error);
      CHECK_THROWS_WITH(l3::clip_reader(clips[1].file), Contains("a folder that can be read"));
    }
  }
  fs::permissions(folder.path / "shut", fs::perms::owner_all);
}

TEST_CASE("a CSV names the videos, relative to its own folder") {
  scratch_folder const folder;
  auto const absolute = (folder.path / "far/z.mp4").string();
  auto const clips = l3::read_clips(folder.write(
      "lists/Train.CSV", "label,extra,path\r\ncat,1,\"a,b.mp4\"\r\n,2,../x.mp4\r\ndog,3," + absolute + "\r\n"));
  CHECK(names_of(clips) == names{"a,b.mp4", "../x.mp4", absolute});
  CHECK(labels_of(clips) == names{"cat", "", "dog"});
  CHECK(clips[0].file == folder.path / "lists/a,b.mp4");
  CHECK(clips[1].file.lexically_normal() == folder.path / "x.mp4");
  CHECK(clips[2].file == absolute);
  CHECK(labels_of(l3::read_clips(folder.write("no_label.csv", "path\na.mp4\nb.mp4\n"))) == names{"", ""});
}

TEST_CASE("a table is one by its ending or by a column path, whatever its name") {
  scratch_folder const folder;
  for (auto const* name : {"a.mp4", "b.mp4"}) folder.write(name);
  std::string const commas = "label,path\nx,a.mp4\ny,b.mp4\n", tabs = "path\tlabel\na.mp4\tx\nb.mp4\ty\n";
  for (auto const& [name, text] :
       std::vector<std::pair<std::string, std::string>>{{"a.csv", commas},
                                                        {"t.tsv", tabs},
                                                        {"t.csv", tabs},
                                                        {"none", commas},
                                                        {"crlf", "path,label\r\na.mp4,x\r\nb.mp4,y\r\n"},
                                                        {"t.txt", "\xef\xbb\xbf" + tabs}}) {
    CAPTURE(name);
    auto const clips = l3::read_clips(folder.write(name, text));
    CHECK(names_of(clips) == names{"a.mp4", "b.mp4"});
    CHECK(labels_of(clips) == names{"x", "y"});
  }
  CHECK_THROWS_WITH(l3::read_clips(folder.write("other.tsv", "file\tlabel\na.mp4\tx\n")), Contains("path"));
  CHECK(names_of(l3::read_clips(folder.write("l.txt", "a path.mp4\nb.mp4\n"))) == names{"a path.mp4", "b.mp4"});
}

TEST_CASE("any other file has a path in each line") {
  scratch_folder const folder;
  auto const clips = l3::read_clips(folder.write("lists/all.txt", "one.mp4\r\n\n two.mp4\n#3.mp4"));
  CHECK(names_of(clips) == names{"one.mp4", " two.mp4", "#3.mp4"});
  CHECK(clips[2].file == folder.path / "lists/#3.mp4");
  CHECK(names_of(l3::read_clips(folder.write("marked.txt", "\xef\xbb\xbfone.mp4\ntwo.mp4"))) ==
        names{"one.mp4", "two.mp4"});
  CHECK(l3::read_clips(folder.write("one.txt", "one.mp4"), 1).size() == 1);
}

TEST_CASE("lists that cannot be used say what is wrong with them") {
  scratch_folder const folder;
  auto const file = [&](char const* name, std::string const& content) { return folder.write(name, content); };
  fs::create_directories(folder.path / "empty");
  folder.write("single/only.mp4");
  CHECK_THROWS_AS(l3::read_clips(folder.path / "missing"), l3::file_error);
  CHECK_THROWS_WITH(l3::read_clips(folder.path / "missing"), Contains("missing") && Contains("No such file"));
  CHECK_THROWS_AS(l3::read_clips(folder.path / "empty"), l3::format_error);
  CHECK_THROWS_WITH(l3::read_clips(folder.path / "empty"), Contains("at least two videos") && Contains("found none"));
  CHECK_THROWS_WITH(l3::read_clips(folder.path / "single"), Contains("at least two videos") && Contains("only.mp4"));
  CHECK_THROWS_WITH(l3::read_clips(folder.path / "single/only.mp4"), Contains("found one video"));
  CHECK_THROWS_WITH(l3::read_clips(file("a.csv", "file,label\nx.mp4,cat\n")),
                    Contains("path") && Contains("file,label"));
  CHECK_THROWS_WITH(l3::read_clips(file("b.csv", "path\nx.mp4\n\"\"\n")),
                    Contains("b.csv:3") && Contains("an empty cell"));
  CHECK_THROWS_WITH(l3::read_clips(file("c.csv", "path\n")), Contains("at least two videos"));
  CHECK_THROWS_WITH(l3::read_clips(file("d.csv", "path\nx.mp4\ny.mp4\n./x.mp4\n")),
                    Contains("each video once") && Contains("'x.mp4' as entry 1 and './x.mp4' as entry 3"));
  auto const here = fs::current_path();
  fs::current_path(folder.path);
  file("d.txt", "x.mp4\n" + (fs::current_path() / "x.mp4").string() + "\n");
  CHECK_THROWS_WITH(l3::read_clips("d.txt"), Contains("each video once"));
  fs::current_path(here);
  CHECK_THROWS_WITH(l3::read_clips(file("f.txt", "x.mp4\n" + std::string(5000, 'y') + "\n")),
                    Contains("f.txt:2") && Contains("at most 4096 bytes"));
  CHECK_THROWS_WITH(l3::read_clips(file("e.bin", std::string("x.mp4\ny\0z.mp4\n", 14))), Contains("zero byte"));
}

TEST_CASE("a split is by name: complete, near its shares, and unmoved by what is added") {
  l3::clip_list clips;
  for (int i = 0; i != 5000; ++i) clips.push_back({{}, "clips/video" + std::to_string(i) + ".mp4", ""});
  auto const parts = l3::split_clips(clips, 1, {.train = 0.7, .valid = 0.2, .test = 0.1});
  std::map<std::string, int> part_of;
  for (auto const& each : parts.train) part_of[each.name] += 1;
  for (auto const& each : parts.valid) part_of[each.name] += 10;
  for (auto const& each : parts.test) part_of[each.name] += 100;
  CHECK(part_of.size() == clips.size());
  for (auto const& [name, part] : part_of) CHECK((part == 1 || part == 10 || part == 100));
  // Four standard deviations of a binomial share.
  CHECK(parts.train.size() == Approx(3500).margin(4 * 32.4));
  CHECK(parts.valid.size() == Approx(1000).margin(4 * 28.3));
  CHECK(parts.test.size() == Approx(500).margin(4 * 21.2));

  l3::clip_list more{{{}, "new.mp4", ""}, {{}, "newer.mp4", ""}};
  for (std::size_t i = 0; i != clips.size(); ++i)
    if (i != 998) more.push_back(clips[i]);
  std::size_t moved = 0;
  auto const after = l3::split_clips(more, 1, {.train = 0.7, .valid = 0.2, .test = 0.1});
  for (auto const& each : after.valid) moved += part_of.contains(each.name) && part_of[each.name] != 10;
  for (auto const& each : after.test) moved += part_of.contains(each.name) && part_of[each.name] != 100;
  for (auto const& each : after.train) moved += part_of.contains(each.name) && part_of[each.name] != 1;
  CHECK(moved == 0);

  CHECK(names_of(l3::split_clips(clips, 2, {.train = 0.7, .valid = 0.2, .test = 0.1}).test) != names_of(parts.test));
  CHECK(l3::split_clips(clips, 1, {.train = 1, .valid = 0, .test = 0}).train.size() == clips.size());
  CHECK_THROWS_AS(l3::split_clips(clips, 1, {.train = 0.8, .valid = 0.1, .test = 0.2}), l3::setting_error);
  CHECK_THROWS_AS(l3::split_clips(clips, 1, {.train = 1.1, .valid = -0.1, .test = 0}), l3::setting_error);
}

TEST_CASE("the split of a name stays the same for ever") {
  // FNV-1a of the name, as published for these strings; the rest is Philox (its own test has Random123's vectors).
  CHECK(l3::split_position("", 0) == l3::generator(0, l3::stream::split, 0xF29CE484222325, 0xCB).uniform());
  CHECK(l3::split_position("a", 7) == l3::generator(7, l3::stream::split, 0x63DC4C8601EC8C, 0xAF).uniform());
  CHECK(l3::split_position("foobar", 7) == l3::generator(7, l3::stream::split, 0x944171F73967E8, 0x85).uniform());
}

TEST_CASE("refusals are read back as they were written") {
  scratch_folder const folder;
  std::vector<l3::refusal> const refusals{{"a \"quoted\"\nname.mp4", "expected x, found y\\z", 17, true},
                                          {"b/\xc3\xa9.mp4", "damaged", 1ull << 40, false}};
  CHECK(l3::refusal_line(refusals[1]) ==
        "{\"file\":\"b/\xc3\xa9.mp4\",\"why\":\"damaged\",\"step\":1099511627776,\"scope\":\"moment\"}\n");
  auto const text = l3::refusal_line(refusals[0]) + l3::refusal_line(refusals[1]);
  CHECK(l3::read_refusals(folder.write("refused.jsonl", text)) == refusals);
  CHECK(l3::read_refusals(folder.write("torn.jsonl", text + R"({"file":"c.mp4","wh)")) == refusals);
  CHECK(l3::read_refusals(folder.path / "none.jsonl").empty());
  CHECK_THROWS_WITH(l3::read_refusals(folder.write("bad.jsonl", text + "{\"file\": 3}\n")), Contains("bad.jsonl:3"));
  CHECK(l3::refusal_line({"latin1 \xe9.mp4", "", 0, true}) ==
        R"({"file":"latin1 \\xe9.mp4","why":"","step":0,"scope":"file"})"
        "\n");
}
