/// @file  tests/files/atomic_file_test.cpp: a file is written whole or not at all, and nothing is left behind.
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <iostream>
#include <l3/files/atomic_file.hpp>

#include "../support/catch.hpp"
#include "scratch.hpp"

using namespace l3_test;

TEST_CASE("atomic_file shows its content only when it is committed") {
  scratch const here;
  auto const target = here / "log.csv";
  std::string const large(300'001, 'x');  // larger than what is held back
  {
    l3::atomic_file file(target);
    file.write("a,");
    file.write(large);
    file.write("b");
    CHECK_FALSE(std::filesystem::exists(target));
    file.commit();
    CHECK(content(target) == "a," + large + "b");
    CHECK(here.files() == 1);
    CHECK_THROWS_AS(file.write("more"), l3::file_error);
    CHECK_THROWS_AS(file.commit(), l3::file_error);
  }
  {
    l3::atomic_file file(target);
    file.commit();
  }
  CHECK(content(target).empty());
  CHECK(here.files() == 1);
}

TEST_CASE("atomic_file without commit leaves the old content and no temporary") {
  scratch const here;
  auto const target = put(here / "old", "old content");
  {
    l3::atomic_file file(target);
    file.write(std::string(200'000, 'x'));
    CHECK(here.files() == 2);
  }
  CHECK(content(target) == "old content");
  CHECK(here.files() == 1);
}

TEST_CASE("atomic_file on a full disk names the file and the reason, and leaves the old content") {
  scratch const here;
  auto const target = put(here / "weights", "old content");
  SECTION("while writing") {
    full_disk const full(100'000);
    l3::atomic_file file(target);
    CHECK_THROWS_WITH(file.write(std::string(200'000, 'x')), Contains(target.string()) && Contains("File too large"));
    CHECK(here.files() == 1);  // the room is free again at once
    CHECK_THROWS_AS(file.write("more"), l3::file_error);
    CHECK_THROWS_AS(file.commit(), l3::file_error);
  }
  SECTION("at commit, when bytes were held back") {
    full_disk const full(5);
    l3::atomic_file file(target);
    file.write("longer than five");
    CHECK_THROWS_AS(file.commit(), l3::file_error);
  }
  CHECK(content(target) == "old content");
  CHECK(here.files() == 1);
}

TEST_CASE("atomic_file refuses what it cannot replace") {
  scratch const here;
  auto const nowhere = here / "no/such/dir/file";
  CHECK_THROWS_WITH(l3::atomic_file(nowhere), Contains(nowhere.string()) && Contains("No such file or directory"));
  CHECK_THROWS_WITH(l3::atomic_file(here.path()), Contains("a directory or a special file"));
  CHECK_THROWS_AS(l3::atomic_file(here / ""), l3::file_error);
  CHECK_THROWS_AS(l3::atomic_file(""), l3::file_error);
  CHECK_THROWS_AS(l3::atomic_file(put(here / "file", "") / "below"), l3::file_error);
  CHECK_THROWS_WITH(l3::atomic_file("/dev/null"), Contains("/dev/null"));
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("atomic_file refuses a directory that it may not write to") {
  scratch const here;
  if (::geteuid() == 0) {
    std::cout << "SKIPPED: the superuser may write to any directory\n";
    return;
  }
  std::filesystem::permissions(here.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  CHECK_THROWS_WITH(l3::atomic_file(here / "file"), Contains("Permission denied"));
  std::filesystem::permissions(here.path(), std::filesystem::perms::owner_all);
}

TEST_CASE("atomic_file follows a link, keeps permissions, and takes the longest names") {
  scratch const here;
  auto const real = put(here / "real", "old");
  std::filesystem::permissions(real, std::filesystem::perms(0640));
  std::filesystem::create_symlink("real", here / "link");
  for (auto const& target : {here / "link", here / std::string(255, 'n')}) {
    l3::atomic_file file(target);
    file.write("new");
    file.commit();
    CHECK(content(target) == "new");
  }
  CHECK(std::filesystem::is_symlink(here / "link"));
  CHECK(content(real) == "new");
  CHECK(std::filesystem::status(real).permissions() == std::filesystem::perms(0640));
  CHECK(here.files() == 3);
}

TEST_CASE("atomic_file writes to the current directory") {
  scratch const here;
  auto const before = std::filesystem::current_path();
  std::filesystem::current_path(here.path());
  {
    l3::atomic_file file("plain");
    file.write("content");
    file.commit();
  }
  std::filesystem::current_path(before);
  CHECK(content(here / "plain") == "content");
}

TEST_CASE("read_file reads all or refuses") {
  scratch const here;
  std::string const text = "zero\0byte" + std::string(100'000, 'y');
  auto const file = put(here / "file", text);
  CHECK(l3::read_file(file, text.size()) == text);
  CHECK(l3::read_file(put(here / "empty", ""), 0).empty());
  CHECK_THROWS_WITH(l3::read_file(file, text.size() - 1), Contains(file.string()) && Contains("at most"));
  CHECK_THROWS_WITH(l3::read_file(here / "none", 9), Contains("No such file"));
  CHECK_THROWS_WITH(l3::read_file(here.path(), 1 << 20), Contains("expected a file, found a folder"));
  CHECK_THROWS_WITH(l3::read_stream(here.path(), 1 << 20), Contains("Is a directory"));
  CHECK_THROWS_WITH(l3::read_stream("/dev/zero", 100'000), Contains("at most 100000 bytes"));
  // Nobody may ever write to a pipe that lies among files.
  REQUIRE(::mkfifo((here / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(l3::read_file(here / "pipe", 9), Contains("expected a file, found a pipe"));
}

TEST_CASE("read_stream reads a pipe") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  std::string const text(50'000, 'p');  // fits a pipe, so that no second thread is needed
  REQUIRE(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  ::close(ends[1]);
  auto const name = "/dev/fd/" + std::to_string(ends[0]);
  CHECK(l3::read_stream(name, 1 << 20) == text);
  ::close(ends[0]);
}

TEST_CASE("what killed processes have left goes, also of one that had this process's number") {
  scratch const here;
  auto const left = [&](std::string const& owner, char const* number, bool is_old) {
    auto const file = here / (".l3-" + owner + '-' + number + ".tmp");
    std::ofstream(file) << "half";
    if (is_old)
      std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - std::chrono::hours(48));
    return file;
  };
  std::string const mine = std::to_string(::getpid()), nobody = "99999999";
  auto const earlier = left(mine, "1", true), now = left(mine, "2", false), dead = left(nobody, "3", true),
             of_living = left(std::to_string(::getppid()), "4", true);
  l3::detail::remove_leftovers(here.path(), std::chrono::hours(1));
  CHECK_FALSE(std::filesystem::exists(earlier));
  CHECK_FALSE(std::filesystem::exists(dead));
  CHECK(std::filesystem::exists(now));
  CHECK(std::filesystem::exists(of_living));
}

TEST_CASE("no more files can be open: that is not the file's fault") {
  scratch const here;
  std::ofstream(here / "file") << "content";
  std::vector<l3::detail::file_descriptor> all;
  ::rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  ::rlimit few = before;
  few.rlim_cur = std::min<::rlim_t>(64, before.rlim_max);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  bool refused = false;
  try {
    for (int k = 0; k != 100; ++k) all.push_back(l3::detail::open_to_read(here / "file"));
  } catch (l3::error const&) {
  } catch (std::system_error const& e) {
    refused = e.code() == std::errc::too_many_files_open;
  }
  all.clear();
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(refused);
}
