/// @file  tests/cli/collection_test.cpp: l3 index and l3 pack as a user meets them, and what other programs read of
/// their files.
#include <fcntl.h>
#include <sys/file.h>

#include <iostream>

#include "../support/catch.hpp"
#include "run_program.hpp"

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

/// The made-up videos, and three files that are none.
fs::path const& messy_videos() {
  static fs::path const folder = [] {
    fs::path const at = scratch() / "messy";
    fs::copy(made_up_videos() / "videos", at, fs::copy_options::recursive);
    std::ofstream(at / "text.mp4") << std::string(1000, 'x');
    std::ofstream(at / "empty name.mp4");
    std::ofstream(at / "cut.mp4", std::ios::binary) << content(at / "00001.mp4").substr(0, 5000);
    return at;
  }();
  return folder;
}

/// Runs a Python program; skipped where there is no Python.
void python(std::string const& program) {
  if (std::system("python3 -c pass >/dev/null 2>&1") != 0) {
    std::cout << "SKIPPED: python3 is not installed\n";
    return;
  }
  fs::path const file = scratch() / "check.py", said = scratch() / "check.txt";
  std::ofstream(file) << program;
  int const code = std::system(("python3 '" + file.string() + "' >'" + said.string() + "' 2>&1").c_str());
  INFO(content(said));
  CHECK(code == 0);
}

}  // namespace

TEST_CASE("an index tells good files from bad, remembers them, and is read by SQLite") {
  fs::path const out = scratch() / "messy.l3index";
  auto const index = [&](std::string const& more) {
    return l3("index " + quoted(messy_videos()) + "--json --out " + quoted(out) + more);
  };
  outcome const limited = index("--max-failures 2");
  CHECK(limited.code == 1);
  CHECK_THAT(limited.err, Contains("--max-failures") && Contains("text.mp4"));
  CHECK_FALSE(fs::exists(out));
  outcome const first = index("");
  CHECK(first.code == 3);
  json const a = json::parse(first.out);
  CHECK(a.at("videos") == 33);
  CHECK(a.at("usable") == 30);
  CHECK(a.at("refused") == 3);
  CHECK(a.at("known_before") > 0);  // from the run that was ended
  CHECK(a.at("seconds") > 50);
  auto const failures = content(scratch() / "messy.l3index.failures.jsonl");
  CHECK(std::count(failures.begin(), failures.end(), '\n') == 3);
  CHECK(json::parse(failures.substr(0, failures.find('\n'))).at("file") == "cut.mp4");
  CHECK_FALSE(fs::exists(out.string() + ".unfinished"));
  // Where failures go must not be somebody's file.
  std::string const video = content(messy_videos() / "00003.mp4");
  outcome const over = index("--failures " + quoted(messy_videos() / "00003.mp4"));
  CHECK(over.code == 2);
  CHECK_THAT(over.err, Contains("--failures") && Contains("00003.mp4"));
  CHECK(content(messy_videos() / "00003.mp4") == video);
  fs::path const settings = scratch() / "settings.json";
  std::ofstream(settings) << "{\"batch\": 64}\n";
  CHECK(index("--failures " + quoted(settings)).code == 2);
  CHECK(content(settings) == "{\"batch\": 64}\n");
  auto const bytes = content(out);

  json const again = json::parse(index("").out);
  CHECK(again.at("known_before") == 30);  // what was refused may have been mended
  CHECK(content(out) == bytes);
  fs::last_write_time(messy_videos() / "00002.mp4", fs::file_time_type::clock::now());
  CHECK(json::parse(index("").out).at("known_before") == 29);
  CHECK(json::parse(index("--force --threads 1").out).at("known_before") == 0);
  CHECK(json::parse(index("--quick").out).at("known_before") == 0);  // other settings, other knowledge
  CHECK(json::parse(index("").out).at("usable") == 30);

  json const info = json::parse(l3("info --json " + quoted(out)).out);
  CHECK(info.at("usable") == 30);
  CHECK(info.at("packed") == false);
  std::ofstream(out.string() + ".unfinished") << "no index";
  outcome const damaged = index("");
  CHECK(damaged.code == 1);
  CHECK_THAT(damaged.err, Contains(".unfinished") && Contains("--force begins anew"));
  CHECK(json::parse(index("--force").out).at("usable") == 30);
  outcome const text = l3("index " + quoted(messy_videos()) + "--out " + quoted(messy_videos() / "text.mp4"));
  CHECK(text.code == 1);
  CHECK_THAT(text.err, Contains("text.mp4"));
  CHECK(l3("index " + quoted(messy_videos())).code == 2);
  CHECK(l3("index " + quoted(messy_videos()) + "--drop ugly --out x").code == 2);
  CHECK_THAT(
      l3("index " + quoted(messy_videos()) + quoted(made_up_videos()) + "--out " + quoted(scratch() / "both")).err,
      !Contains("l3 index:"));
  CHECK_THAT(l3("index " + quoted(made_up_videos()) + quoted(made_up_videos() / "videos") + "--out " +
                quoted(scratch() / "x.l3index"))
                 .err,
             Contains("each video once"));
  CHECK_THAT(l3("index " + quoted(messy_videos()) + quoted(messy_videos()) + "--out " + quoted(out)).err,
             Contains("one folder above both"));
  for (auto const& [more, says] : std::vector<std::pair<std::string, std::string>>{
           {"--split train", "--split: expected --dataset"},
           {"--quick --drop static", "--drop with --quick"},
           {"--failures " + quoted(out), "--failures: expected a file of its own"},
           {"--failures " + quoted(messy_videos()), "--failures: expected a file of its own"}}) {
    outcome const wrong = index(more);
    CHECK(wrong.code == 2);
    CHECK_THAT(wrong.err, Contains(says));
  }
  CHECK(json::parse(l3("info --json " + quoted(out)).out).at("usable") == 30);
  CHECK_THAT(l3("index " + quoted(messy_videos()) + "--out " + quoted(scratch())).err, Contains("a folder"));
  // A list ends with its word, and folders to write in are made.
  CHECK(l3("index --quick --drop copy,short " + quoted(messy_videos()) + "--failures " +
           quoted(scratch() / "new one/failures.jsonl") + "--out " + quoted(scratch() / "new/x.l3index"))
            .code == 3);
  {
    int const held = ::open((out.string() + ".lock").c_str(), O_RDWR | O_CREAT, 0666);
    REQUIRE(::flock(held, LOCK_EX | LOCK_NB) == 0);
    outcome const second = index("");
    CHECK(second.code == 2);
    CHECK_THAT(second.err, Contains("another one at work"));
    fs::remove(out.string() + ".lock");
    ::close(held);
  }
  // Through a link it is brought up to date, and used, where it really lies.
  fs::create_directories(scratch() / "links/deeper");
  fs::path const link = scratch() / "links/deeper/link.l3index", one = scratch() / "one more";
  fs::create_symlink(out, link);
  CHECK(l3("index " + quoted(messy_videos()) + "--json --out " + quoted(link)).code == 3);
  for (fs::path const& through : {link, out})
    CHECK(
        json::parse(l3("bench loader --model tiny --batch 4 --pairs 8 --json " + quoted(through)).out).at("failures") ==
        0);
  CHECK_FALSE(fs::exists(link.string() + ".lock"));
  fs::create_directories(one);
  fs::copy_file(messy_videos() / "00000.mp4", one / "single.mp4", fs::copy_options::overwrite_existing);
  CHECK(
      json::parse(l3("index " + quoted(messy_videos()) + quoted(one) + "--json --out " + quoted(scratch() / "two")).out)
          .at("usable") == 31);

  python(R"py(import sqlite3, struct
c = sqlite3.connect(')py" +
         out.string() + R"py(')
assert c.execute('SELECT count(*), sum(usable) FROM clips').fetchone() == (33, 30)
names = [bytes(n) for n, in c.execute('SELECT name FROM clips ORDER BY id')]
assert names == sorted(names) and b'empty name.mp4' in names, names
assert c.execute("SELECT refused FROM clips WHERE name = CAST('text.mp4' AS BLOB)").fetchone()[0].count('expected')
keys = c.execute('SELECT key_times FROM clips WHERE usable').fetchone()[0]
assert len(keys) % 8 == 0 and struct.unpack('<d', keys[:8])[0] == 0
assert c.execute("SELECT value FROM about WHERE key = 'seconds'").fetchone()[0] == 10
)py");
}

TEST_CASE("copies are found by index, and warned of where they are trained on and validated with") {
  fs::path const twice = scratch() / "twice seen", index = scratch() / "twice.l3index";
  fs::copy(made_up_videos() / "videos", twice, fs::copy_options::recursive);
  fs::copy_file(twice / "00003.mp4", twice / "00010 again.mp4");
  fs::copy_file(twice / "00003.mp4", twice / "00000 before all others.mp4");
  auto const made = [&](std::string const& more) {
    return json::parse(l3("index " + quoted(twice) + "--json --out " + quoted(index) + more).out);
  };
  json const kept = made("");
  CHECK(kept.at("flagged").at("copy") == 2);
  CHECK(kept.at("usable") == 32);
  python(R"py(import sqlite3
c = sqlite3.connect(')py" +
         index.string() + R"py(')
pairs = c.execute("SELECT CAST(b.name AS TEXT), min(CAST(a.name AS TEXT)) FROM clips a JOIN clips b USING (content_print)"
                  " WHERE b.flags & 32 AND NOT a.flags & 32 GROUP BY b.id").fetchall()
first = '00000 before all others.mp4'
assert pairs == [('00003.mp4', first), ('00010 again.mp4', first)], pairs
)py");
  json const dropped = made("--drop copy --quick");
  CHECK(dropped.at("usable") == 30);
  CHECK(dropped.at("flagged").at("copy") == 2);
  // Which one is the copy is found anew each time.
  fs::remove(twice / "00000 before all others.mp4");
  json const again = made("--drop copy --quick");
  CHECK(again.at("known_before") == 31);
  CHECK(again.at("flagged").at("copy") == 1);
  CHECK(again.at("usable") == 30);

  fs::path const other = scratch() / "other videos", shared = scratch() / "shared.l3index";
  fs::create_directories(other);
  fs::rename(twice / "00003.mp4", other / "x.mp4");
  fs::rename(twice / "00004.mp4", other / "y.mp4");
  REQUIRE(l3("index " + quoted(twice) + "--quiet --out " + quoted(index)).code == 0);
  REQUIRE(l3("index " + quoted(other) + "--quiet --out " + quoted(shared)).code == 0);
  auto const train = [&](fs::path const& valid, std::string const& name) {
    return l3("train --train " + quoted(index) + "--valid " + quoted(valid) +
              "--valid-pairs 4 --model tiny --batch 4 --pairs 8 --out " + quoted(scratch() / name));
  };
  outcome const leaks = train(shared, "leaks");
  CHECK(leaks.code == 0);
  CHECK_THAT(leaks.err, Contains("1 of the 2 validation videos are trained on too, x.mp4 first"));
  CHECK_THAT(train(other, "unknown").err, !Contains("trained on too"));
  CHECK_THAT(train(twice, "all").err, Contains("29 of the 29 validation videos are trained on too"));
}

TEST_CASE("packing that goes on tells of what was left out before, and forgets where there was nothing else") {
  fs::path const data = scratch() / "to pack", out = scratch() / "packed on", none = scratch() / "none yet";
  fs::create_directories(data), fs::create_directories(none);
  auto const good = [](fs::path const& as) {
    fs::copy_file(messy_videos() / "00000.mp4", as, fs::copy_options::overwrite_existing);
  };
  for (char const* name : {"a.mp4", "c.mp4", "e.mp4"}) good(data / name);
  for (char const* name : {"b.mp4", "d.mp4"}) std::ofstream(data / name) << "no video";
  std::string const pack = "pack " + quoted(data) + "--out " + quoted(out) + "--shard-size 0.001 --threads 1 --json ";
  CHECK(l3(pack + "--max-failures 1").code == 1);
  good(data / "b.mp4"), good(data / "d.mp4");
  outcome const rest = l3(pack);
  INFO(rest.err);
  CHECK(rest.code == 3);
  CHECK(json::parse(rest.out).at("packed") == 4);
  CHECK_THAT(rest.err, Contains("left out before: ") && Contains("b.mp4") && !Contains("d.mp4") &&
                           Contains("1 videos that were left out before can be used now, b.mp4 first"));
  CHECK(json::parse(l3(pack + "--force").out).at("packed") == 5);

  for (char const* name : {"a.mp4", "b.mp4"}) std::ofstream(none / name) << "no video";
  std::string const later = "pack " + quoted(none) + "--out " + quoted(scratch() / "packed later") + "--json ";
  CHECK(l3(later).code == 1);
  good(none / "a.mp4"), good(none / "b.mp4");
  outcome const now = l3(later);
  CHECK(now.code == 0);
  CHECK(now.err.find("warning") == now.err.npos);
  CHECK(json::parse(now.out).at("packed") == 2);
}

TEST_CASE("where no video can be used, index and pack have failed") {
  fs::path const useless = scratch() / "useless", index = scratch() / "useless.l3index";
  fs::create_directories(useless);
  for (char const* name : {"cut.mp4", "text.mp4"}) fs::copy_file(messy_videos() / name, useless / name);
  outcome const r = l3("index --json " + quoted(useless) + "--out " + quoted(index));
  CHECK(r.code == 1);
  CHECK_THAT(r.err, Contains("none of them can be used"));
  CHECK(json::parse(r.out).at("usable") == 0);
  for (int again : {1, 2}) {
    INFO(again);
    outcome const packed = l3("pack " + quoted(useless) + "--out " + quoted(scratch() / "useless shards"));
    CHECK(packed.code == 1);
    CHECK_THAT(packed.err, Contains("none of them can be used"));
  }
  // An older index stays.
  fs::path const good = scratch() / "good.l3index";
  REQUIRE(l3("index " + quoted(messy_videos()) + "--quiet --out " + quoted(good)).code == 3);
  std::string const before = content(good);
  outcome const emptied = l3("index --quiet --force " + quoted(useless) + "--out " + quoted(good));
  CHECK(emptied.code == 1);
  CHECK_THAT(emptied.err, Contains("none of them can be used") && Contains("is what it was"));
  CHECK(content(good) == before);
  // Also where most of its videos are away.
  fs::path const few = scratch() / "few are here", most = scratch() / "most are here";
  fs::create_directories(few);
  for (char const* name : {"00000.mp4", "00001.mp4"}) fs::copy_file(messy_videos() / name, few / name);
  outcome const away = l3("index --quiet " + quoted(few) + "--out " + quoted(good));
  CHECK(away.code == 1);
  CHECK_THAT(away.err, Contains("expected most of the 33 videos that it knows") && Contains("found 2 of them"));
  CHECK(content(good) == before);
  fs::copy(messy_videos(), most, fs::copy_options::recursive);
  fs::remove(most / "00003.mp4");
  json const shrunk = json::parse(l3("index --json " + quoted(most) + "--out " + quoted(good)).out);
  CHECK(shrunk.at("gone") == 1);
  CHECK(shrunk.at("videos") == 32);
  // Nor is another file taken for one.
  std::ofstream(scratch() / "notes.txt") << "not an index";
  outcome const foreign = l3("index --force " + quoted(messy_videos()) + "--out " + quoted(scratch() / "notes.txt"));
  CHECK(foreign.code == 2);
  CHECK_THAT(foreign.err, Contains("notes.txt, another file"));
  CHECK(content(scratch() / "notes.txt") == "not an index");
  // Where the videos are, their folder would be another collection from then on.
  fs::path const own = scratch() / "packed where it is";
  fs::copy(messy_videos(), own, fs::copy_options::recursive);
  outcome const same = l3("pack " + quoted(own) + "--out " + quoted(own / "."));
  CHECK(same.code == 2);
  CHECK_THAT(same.err, Contains("packed where it is") && Contains("a folder without the videos that are to be packed"));
  // What was refused before counts.
  fs::path const shards = scratch() / "packed in steps";
  for (int again : {1, 2, 3}) {
    INFO(again);
    outcome const limited =
        l3("pack " + quoted(own) + "--shard-size 0.001 --max-failures 2 --threads 1 --out " + quoted(shards));
    CHECK(limited.code == 1);
    CHECK_THAT(limited.err, Contains("--max-failures"));
  }
  CHECK(l3("pack " + quoted(own) + "--shard-size 0.001 --out " + quoted(shards)).code == 3);
}

TEST_CASE("a packed collection trains and evaluates like its videos, and is read by tar, wave and zlib") {
  fs::path const index = scratch() / "topack.l3index", out = scratch() / "packed";
  REQUIRE(l3("index " + quoted(messy_videos()) + "--quiet --out " + quoted(index)).code == 3);
  auto const pack = [&](std::string const& more) {
    return l3("pack " + quoted(index) + "--json --out " + quoted(out) + more);
  };
  outcome const made = pack("--fps 4 --shard-size 2");
  INFO(made.err);
  REQUIRE(made.code == 0);
  json const a = json::parse(made.out);
  CHECK(a.at("packed") == 30);
  CHECK(a.at("shards") > 1);
  CHECK(pack("--fps 4").code == 2);
  CHECK_THAT(pack("").err, Contains("--force"));
  json const checked = json::parse(l3("pack --verify --json " + quoted(out)).out);
  CHECK(checked.at("clips") == 30);
  CHECK(checked.at("problems").empty());
  CHECK(l3("pack --verify " + quoted(out / "index.l3index")).code == 0);
  CHECK(l3("pack " + quoted(out) + "--out " + quoted(scratch() / "twice")).code == 2);
  CHECK_THAT(l3("pack --verify " + quoted(scratch() / "not there")).err, Contains("nothing there"));
  CHECK_THAT(l3("pack " + quoted(index) + "--side 8 --out " + quoted(scratch() / "x")).err, Contains("--side"));
  CHECK(l3("index " + quoted(messy_videos()) + "--out " + quoted(out / "index.l3index")).code == 2);
  std::ofstream(scratch() / "a-file") << "x";
  outcome const nowhere = l3("pack " + quoted(index) + "--out " + quoted(scratch() / "a-file"));
  CHECK(nowhere.code == 1);
  CHECK_THAT(nowhere.err, Contains("a folder that can be written"));
  CHECK_THAT(l3("pack " + quoted(messy_videos()) + "--max-failures 1 --out " + quoted(scratch() / "few")).err,
             Contains("--max-failures"));
  CHECK_THAT(l3("bench loader " + quoted(scratch() / "few")).err, Contains("a packing that has not ended"));
  CHECK(json::parse(l3("info --json " + quoted(out)).out).at("packed") == true);
  CHECK(l3("pack " + quoted(index)).code == 2);
  CHECK(json::parse(l3("info --json " + quoted(out / "index.l3index")).out).at("pictures_per_second") == 4);
  json const speed = json::parse(l3("bench loader --json --model tiny --batch 8 --pairs 100 " + quoted(out)).out);
  CHECK(speed.at("failures") == 0);

  auto const train = [&](std::string const& name, std::string const& more) {
    return l3("train --train " + quoted(out) + "--valid " + quoted(index) +
              "--valid-pairs 8 --model tiny --batch 8 --pairs 32 --seed 5 --quiet --out " + quoted(scratch() / name) +
              more);
  };
  CHECK(train("on-packed", "--workers 1").code == 0);
  CHECK(train("on-packed2", "--workers 3").code == 0);
  CHECK(content(scratch() / "on-packed/last.safetensors") == content(scratch() / "on-packed2/last.safetensors"));
  json const score = json::parse(l3("eval --json --pairs 200 --checkpoint " +
                                    quoted(scratch() / "on-packed/last.safetensors") + "--data " + quoted(out))
                                     .out);
  CHECK(score.at("videos") == 30);
  CHECK(score.at("refused") == 0);

  python(R"py(import sqlite3, tarfile, wave, zlib, json, io, struct
folder = ')py" +
         out.string() + R"py('
c = sqlite3.connect(folder + '/index.l3index')
seen = 0
for shard, file, size in c.execute('SELECT id, file, bytes FROM shards').fetchall():
    samples = {}
    with tarfile.open(folder + '/' + file) as tar:
        for member in tar:
            key, kind = member.name.split('.', 1)
            samples.setdefault(key, []).append((kind, tar.extractfile(member).read(), member.offset_data))
    for key, members in samples.items():
        row = c.execute('SELECT shard, crc32, sound_at, samples, picture_at, picture_bytes FROM packed WHERE id = ?',
                        (int(key) + 1,)).fetchone()
        crc = 0
        for _, content, _ in members:
            crc = zlib.crc32(content, crc)
        assert row[:2] == (shard, crc), (row[:2], crc)
        kinds = dict((k, (b, o)) for k, b, o in members)
        about = json.loads(kinds['json'][0])
        sound = wave.open(io.BytesIO(kinds['wav'][0]))
        assert (sound.getnchannels(), sound.getframerate(), sound.getsampwidth()) == (1, 48000, 2)
        assert sound.getnframes() == row[3] and kinds['wav'][1] + 44 == row[2]
        pictures = [m for m in members if m[0].endswith('.jpg')]
        assert len(pictures) == len(about['picture_times']) == 8, len(pictures)
        assert [o for _, _, o in pictures] == list(struct.unpack('<8Q', row[4]))
        assert [len(b) for _, b, _ in pictures] == list(struct.unpack('<8I', row[5]))
        assert all(b[:3] == b'\xff\xd8\xff' and b[-2:] == b'\xff\xd9' for _, b, _ in pictures)
        seen += 1
assert seen == 30
)py");

  fs::path const shard = out / "shard-00000.tar";
  auto bytes = content(shard);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  std::ofstream(shard, std::ios::binary) << bytes;
  outcome const changed = l3("pack --verify " + quoted(out));
  CHECK(changed.code == 1);
  CHECK_THAT(changed.err, Contains("shard-00000.tar: expected"));
}
