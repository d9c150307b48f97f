// What the files compute is tests/parity/export.py's business: ONNX's checker and ONNX Runtime read them there.
#include "../support/catch.hpp"
#include "run_program.hpp"

namespace {
namespace fs = std::filesystem;
using nlohmann::json;
using sizes = std::vector<std::size_t>;

outcome exported(std::string const& what, fs::path const& to, std::string const& options = "") {
  return l3("export onnx " + what + " --checkpoint " + quoted(made_up_run() / "best.safetensors") + "--out " +
            quoted(to) + options);
}
}  // namespace

TEST_CASE("networks leave as ONNX files that say what goes in and what comes out") {
  struct {
    std::string what, options;
    json inputs, outputs;
  } const cases[] = {
      {"audio", "", {{{"name", "samples"}, {"shape", sizes{48000}}}}, {{{"name", "embedding"}, {"shape", sizes{128}}}}},
      {"audio",
       "--input prepared --size 1536",
       {{{"name", "spectrogram"}, {"shape", sizes{1, 64, 99}}}},
       {{{"name", "embedding"}, {"shape", sizes{1536}}}}},
      {"image",
       "--pool grid",
       {{{"name", "picture"}, {"shape", sizes{48, 48, 3}}}},
       {{{"name", "embedding"}, {"shape", sizes{2048}}}}},
      {"pair",
       "--input prepared",
       {{{"name", "picture"}, {"shape", sizes{3, 48, 48}}}, {{"name", "spectrogram"}, {"shape", sizes{1, 64, 99}}}},
       {{{"name", "probability"}, {"shape", sizes{}}}, {{"name", "logits"}, {"shape", sizes{2}}}}}};
  fs::path const file = scratch() / "network.onnx";
  for (auto const& c : cases) {
    INFO(c.what << ' ' << c.options);
    outcome const r = exported(c.what, file, c.options + " --json");
    INFO(r.err);
    REQUIRE(r.code == 0);
    json const said = json::parse(r.out);
    CHECK(said.at("inputs") == c.inputs);
    CHECK(said.at("outputs") == c.outputs);
    CHECK(said.at("bytes") == fs::file_size(file));
    std::string const once = content(file);
    REQUIRE(exported(c.what, file, c.options + " --quiet").code == 0);
    CHECK(content(file) == once);
  }
}

TEST_CASE("export says what it cannot do, and leaves no file") {
  fs::path const file = scratch() / "none.onnx";
  auto const refused = [&](outcome const& r, int code, std::string const& message) {
    CHECK(r.code == code);
    CHECK_THAT(r.err, Contains(message));
    CHECK(!fs::exists(file));
  };
  refused(exported("audio", file, "--size 500"), 2, "--size: expected 128 (global) or 1536 (grid), found 500");
  refused(exported("pair", file, "--size 128"), 2,
          "--size: expected audio or image, whose embedding it is about, found pair");
  refused(exported("pair", file, "--pool grid"), 2, "--pool: expected audio or image");
  refused(exported("video", file), 2, "video");
  refused(exported("audio", file, "--pool grid --size 128"), 2, "--size: expected 1536 with --pool grid, found 128");
  refused(exported("audio", file, "--size 0"), 2, "--size");
  refused(exported("audio", file, "--size -1"), 2, "--size");
  refused(l3("export onnx audio --checkpoint " + quoted(scratch() / "nothing") + "--out " + quoted(file)), 1,
          "nothing: expected a file that can be read");
  fs::path const checkpoint = made_up_run() / "best.safetensors";
  std::string const kept = content(checkpoint);
  outcome const same = exported("audio", made_up_run() / "." / "best.safetensors");
  CHECK(same.code == 2);
  CHECK_THAT(same.err, Contains("--out: expected another file than the checkpoint"));
  CHECK(content(checkpoint) == kept);
  fs::path const other = scratch() / "weights of others";
  std::ofstream(other) << "not a network";
  outcome const over = exported("audio", other);
  CHECK(over.code == 2);
  CHECK_THAT(over.err, Contains("an old one that ends in .onnx") && Contains("weights of others"));
  CHECK(content(other) == "not a network");
  // Both ways to say which embedding are those of `l3 embed` too.
  std::string const embed = "embed image x --out " + quoted(scratch() / "x") + "--checkpoint " + quoted(checkpoint);
  CHECK_THAT(l3(embed + "--pool global --size 2048").err,
             Contains("--size: expected 128 with --pool global, found 2048"));
  CHECK_THAT(l3(embed + "--layer pool2 --size 128").err,
             Contains("--size beside --layer pool2: expected 32, found 128"));
  std::ofstream(scratch() / "no folder") << "a file";
  for (fs::path const& nowhere : {scratch() / "no folder" / "below.onnx", fs::path("/proc/nowhere.onnx")}) {
    outcome const r = exported("image", nowhere);
    CHECK(r.code == 1);
    CHECK_THAT(r.err, Contains(nowhere.parent_path().string()));
  }
  CHECK(exported("image", scratch() / "new" / "folder.onnx").code == 0);
}
