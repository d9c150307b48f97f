/// @file  tests/files/python_readers_test.cpp: NumPy, the safetensors package and TensorBoard read our files, and we
/// read theirs.
///
/// The interpreter is $L3_PYTHON, or python3; what it has not installed is named as skipped.
#include <sys/wait.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <l3/files/event_file.hpp>
#include <l3/files/npz.hpp>
#include <l3/files/safetensors.hpp>
#include <limits>

#include "../support/catch.hpp"
#include "scratch.hpp"

using namespace l3_test;

namespace {

/// Runs the script; false, after saying so, where Python or its packages are missing.
bool python(std::string const& what, scratch const& here) {
  char const* const named = std::getenv("L3_PYTHON");
  auto const command = '"' + std::string(named != nullptr ? named : "python3") + "\" \"" + L3_SOURCE_DIR +
                       "/tests/files/check_with_python.py\" " + what + " \"" + here.path().string() + '"';
  std::cout.flush();
  auto const status = std::system(command.c_str());
  REQUIRE(WIFEXITED(status));
  auto const code = WEXITSTATUS(status);
  if (code == 77 || code == 127) {  // 127: the shell found no interpreter
    std::cout << "SKIPPED: " << what << " (set L3_PYTHON to a Python with numpy, safetensors and tensorboard)\n";
    return false;
  }
  CHECK(code == 0);
  return code == 0;
}

}  // namespace

TEST_CASE("NumPy reads our arrays") {
  scratch const here;
  std::vector<double> const stamps{0.0, 0.1, 0.2}, half{2.5};
  l3::npz_writer arrays(here / "arrays.npz");
  arrays.add("embedding", {3, 5}, matrix());
  arrays.add("timestamps", {3}, stamps);
  arrays.commit();

  l3::npz_rows<float> rows(here / "rows.npz", 5), nothing(here / "rows.npz", 7);
  rows.append(matrix());
  l3::npz_writer spooled(here / "rows.npz");
  spooled.add("embedding", rows);
  spooled.add("nothing", nothing);
  spooled.commit();

  l3::write_npy<double>(here / "scalar.npy", {}, half);
  l3::write_npy<float>(here / "matrix.npy", {3, 5}, matrix());
  python("npz", here);
}

TEST_CASE("the safetensors package reads our tensors") {
  scratch const here;
  auto const weight = matrix();
  floats const odd{1.5f, -0.0f, std::numeric_limits<float>::infinity()};
  std::vector<std::int64_t> const count{-(std::int64_t{1} << 40)};
  std::vector<double> const tenth{0.1};
  l3::safetensors_writer writer;
  writer.metadata("l3.model", "paper \xc3\xa9\n\"x\"");
  writer.add("b.weight", {3, 5}, weight);
  writer.add("a \"quoted\" \xc3\xa9", {3}, odd);
  writer.add("empty", {0, 3}, floats{});
  writer.add("z.count", {}, count);
  writer.add("double", {1, 1}, tenth);
  writer.write(here / "ours.safetensors");
  python("safetensors", here);
}

TEST_CASE("TensorBoard reads our events") {
  using values = std::vector<l3::event_value>;
  scratch const here;
  {
    l3::event_file one(here / "events.out.tfevents.000000.l3", 1, 1.5);
    one.add(10, values{{"loss/train", 0.75}}, 2.5);
    one.add(20, values{{"loss/train", 0.5}, {"learning_rate", 1e-3}}, 3.5);
    one.add(30, values{{"loss/train", 8}}, 4.5);  // not saved: a training goes on from step 20
    l3::event_file two(here / "events.out.tfevents.000001.l3", 20, 1.5);
    two.add(20, values{{"loss/train", 0.5}}, 5.5);
    two.add(30, values{{"loss/train", 0.25}}, 6.5);
  }
  python("events", here);
}

TEST_CASE("we read the safetensors package's tensors") {
  scratch const here;
  if (!python("make", here)) return;
  auto const file = l3::safetensors_file::open(here / "theirs.safetensors");
  CHECK(file.metadata() == std::map<std::string, std::string>{{"l3.model", "paper \xc3\xa9\n\"x\""}});
  CHECK(file.tensors().size() == 8);
  floats weight(15), odd(3);
  file.read("b.weight", weight, {3, 5});
  CHECK(weight == matrix());
  file.read("a \"quoted\" \xc3\xa9", odd, {3});
  CHECK(odd == floats{1.5f, 0.0f, std::numeric_limits<float>::infinity()});
  CHECK(std::signbit(odd[1]));
  file.read("empty", std::span<float>(), {0, 3});
  CHECK(file.read_int64("z.count") == -(std::int64_t{1} << 40));
  std::vector<double> tenth(1);
  file.read("double", tenth, {1, 1});
  CHECK(tenth[0] == 0.1);
  CHECK(file.entry("half").dtype == "F16");
  CHECK(file.read_bytes("bytes") == std::vector{std::byte{7}, std::byte{8}});
  CHECK(file.read_bytes("int32") == std::vector<std::byte>(4, std::byte{255}));
}
