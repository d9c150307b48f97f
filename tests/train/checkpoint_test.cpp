#include <unistd.h>

#include <filesystem>
#include <l3/train/checkpoint.hpp>
#include <limits>

#include "../support/catch.hpp"
#include "../support/micro.hpp"

using namespace l3;

namespace {
struct other_micro : micro {
  static constexpr std::size_t hidden = 17;
};
using network = l3_network<cpu, micro>;

struct file_here {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + "checkpoint.safetensors");
  ~file_here() { std::filesystem::remove(path); }
};

constexpr float mark = 1234.5678f;
/// Puts another value where a checkpoint holds `mark`.
void put_at_mark(std::filesystem::path const& file, float value) {
  std::string bytes = read_file(file, 1 << 26);
  auto const raw = [](float v) { return std::string(reinterpret_cast<char const*>(&v), sizeof v); };
  auto const at = bytes.find(raw(mark));
  REQUIRE(at != bytes.npos);
  bytes.replace(at, sizeof value, raw(value));
  atomic_file out(file);
  out.write(bytes);
  out.commit();
}
}  // namespace

TEST_CASE("a checkpoint holds exactly what a PyTorch state_dict would, and what changes the numbers") {
  file_here file;
  network net;
  net.initialise(4);
  net.batches_tracked(12);
  constexpr auto largest = std::numeric_limits<std::uint64_t>::max();
  save_checkpoint<network>(file.path, net, nullptr, {.step = 12, .seed = largest});
  CHECK(read_checkpoint_facts(file.path).seed == largest);
  auto const read = safetensors_file::open(file.path);
  CHECK(read.tensors().size() == 84 + 16);  // parameters and running averages, and a counter a batch norm
  CHECK(read.tensors().at("vision.block1.conv1.weight").shape == std::vector<std::size_t>{4, 3, 3, 3});
  CHECK(read.tensors().at("fusion.fc1.weight").shape == std::vector<std::size_t>{16, 64});
  CHECK(read.tensors().at("audio.block4.bn2.running_var").shape == std::vector<std::size_t>{32});
  CHECK(read.read_int64("audio.block3.bn1.num_batches_tracked") == 12);
  CHECK(read.metadata("l3.model") == "micro width=4 frame=32x48x3 sound=40x33x1 hidden=16");
  CHECK(read.metadata("l3.front_end") == "micro");
  CHECK(read.metadata().size() == 5);
}

TEST_CASE("equal states give equal files") {
  file_here file;
  network net;
  net.initialise(4);
  adam<network> optimizer;
  auto const bytes = [&] {
    save_checkpoint(file.path, net, &optimizer, {.step = 1, .seed = 4});
    return read_file(file.path, 1 << 26);
  };
  CHECK(bytes() == bytes());
}

TEST_CASE("what does not fit is refused with the file, what was expected and found, and nothing changes") {
  file_here file;
  network net, before;
  net.initialise(1), before.initialise(1);
  auto const refused = [&](auto const& message, adam<network>* optimizer = nullptr) {
    CHECK_THROWS_WITH(load_checkpoint(file.path, net, optimizer), Contains(file.path.string()));
    CHECK_THROWS_WITH(load_checkpoint(file.path, net, optimizer), message);
    CHECK(std::equal(net.data(), net.data() + network::parameter_room, before.data()));
  };
  SECTION("no file") { refused(Contains("No such file")); }
  SECTION("another network") {
    save_checkpoint<l3_network<cpu, other_micro>>(file.path, {}, nullptr, {});
    refused(Contains("hidden=16") && Contains("hidden=17"));
  }
  SECTION("weights without an optimizer, to go on training") {
    save_checkpoint<network>(file.path, net, nullptr, {});
    adam<network> optimizer;
    refused(Contains("optimizer"), &optimizer);
  }
  SECTION("values that are not numbers") {
    network broken;
    broken.initialise(2);
    broken.values(7)[1] = mark;
    save_checkpoint<network>(file.path, broken, nullptr, {});
    put_at_mark(file.path, std::numeric_limits<float>::quiet_NaN());
    refused(Contains("finite values in " + std::string(network::parameters[7].name.view())) && Contains("nan"));
  }
  SECTION("a variance below zero") {
    network broken;
    broken.initialise(2);
    auto const found = std::ranges::find(network::parameters, role::spread, &parameter::kind);
    broken.values(static_cast<std::size_t>(found - network::parameters.begin()))[1] = mark;
    save_checkpoint<network>(file.path, broken, nullptr, {});
    put_at_mark(file.path, -1);
    refused(Contains("variances that are not negative in " + std::string(found->name.view())));
  }
  SECTION("a second moment below zero, of which no root can be taken") {
    adam<network> optimizer;
    optimizer.second()[network::parameters[0].offset + 1] = mark;
    save_checkpoint(file.path, net, &optimizer, {});
    put_at_mark(file.path, -1);
    refused(Contains("not negative in optimizer.") && Contains("exp_avg_sq"), &optimizer);
  }
  SECTION("a tensor is missing") {
    std::vector<float> const one(1);
    safetensors_writer out;
    out.add("vision.block1.conv1.weight", {1}, one);
    for (auto const& [key, value] : std::map<std::string, std::string>{{"l3.model", describe_model<micro>()},
                                                                       {"l3.front_end", "micro"},
                                                                       {"l3.step", "1"},
                                                                       {"l3.seed", "1"},
                                                                       {"l3.settings", "{}"}})
      out.metadata(key, value);
    out.write(file.path);
    refused(Contains("[4, 3, 3, 3]"));
  }
  SECTION("someone else's safetensors") {
    std::vector<float> const one(1);
    safetensors_writer out;
    out.add("a", {1}, one);
    out.write(file.path);
    refused(Contains("l3.model"));
  }
  SECTION("a step that is no number") {
    safetensors_writer out;
    for (auto const& [key, value] : std::map<std::string, std::string>{
             {"l3.model", "m"}, {"l3.front_end", "f"}, {"l3.step", "-3"}, {"l3.seed", "1"}, {"l3.settings", "{}"}})
      out.metadata(key, value);
    out.write(file.path);
    refused(Contains("l3.step") && Contains("-3"));
  }
}

TEST_CASE("what could not be read back is not written, and the file of before stays") {
  file_here file;
  network net;
  adam<network> optimizer;
  net.initialise(4);
  save_checkpoint(file.path, net, &optimizer, {.step = 1});
  std::string const before = read_file(file.path, 1 << 26);
  auto const refused = [&](std::string const& expected) {
    auto const write = [&] { save_checkpoint(file.path, net, &optimizer, {.step = 2}); };
    CHECK_THROWS_AS(write(), numeric_error);
    CHECK_THROWS_WITH(write(), Contains(file.path.string()) && Contains(expected));
    CHECK(read_file(file.path, 1 << 26) == before);
  };
  SECTION("a weight") {
    net.values(7)[1] = std::numeric_limits<float>::infinity();
    refused("finite values in " + std::string(network::parameters[7].name.view()));
  }
  SECTION("the optimizer's state") {
    optimizer.second()[network::parameters[7].offset] = std::numeric_limits<float>::quiet_NaN();
    refused("finite values in optimizer." + std::string(network::parameters[7].name.view()) + ".exp_avg_sq");
  }
  SECTION("a double that is infinite as a float") {
    l3_network<reference<double>, micro> wide;
    wide.values(0)[0] = 1e300;
    CHECK_THROWS_AS(save_checkpoint(file.path, wide, nullptr, {}), numeric_error);
    CHECK(read_file(file.path, 1 << 26) == before);
  }
}

TEST_CASE("double networks are stored as float and read back") {
  file_here file;
  l3_network<reference<double>, micro> a, b;
  a.initialise(3);
  adam<l3_network<reference<double>, micro>> optimizer, read_optimizer;
  optimizer.first()[5] = 0.25;
  optimizer.steps(9);
  save_checkpoint(file.path, a, &optimizer, {});
  load_checkpoint(file.path, b, &read_optimizer);
  CHECK(read_optimizer.steps() == 9);
  CHECK(read_optimizer.first()[5] == 0.25);
  for (std::size_t k = 0; k < network::parameter_room; ++k) REQUIRE(b.data()[k] == static_cast<float>(a.data()[k]));
}
