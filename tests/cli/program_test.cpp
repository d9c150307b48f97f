#include <sys/stat.h>

#include <cmath>
#include <csignal>

#include "../support/catch.hpp"
#include "run_program.hpp"

using nlohmann::json;
namespace fs = std::filesystem;

TEST_CASE("help and version end with 0 and name every command") {
  outcome const help = l3("--help");
  CHECK(help.code == 0);
  for (char const* command : {"synth", "index", "pack", "train", "eval", "embed", "baseline all", "probe esc50",
                              "inspect units", "info", "bench net", "bench loader"}) {
    CHECK_THAT(help.out, Contains(std::string(command).substr(0, 4)));
    outcome const own = l3(std::string(command) + " --help");
    CHECK(own.code == 0);
    CHECK_THAT(own.out, Contains("Example:") && Contains("--json") && Contains("--threads"));
  }
  outcome const version = l3("--version");
  CHECK(version.code == 0);
  CHECK_THAT(version.out, Contains("l3 0.") && Contains("FFmpeg"));
}

TEST_CASE("bad usage ends with 2 and says what is wrong") {
  for (auto const& [arguments, says] : std::vector<std::pair<std::string, std::string>>{
           {"", "subcommand"},
           {"trian", "found \"trian\"; did you mean train?"},
           {"train --out x --model huge", "huge"},
           {"train --out x --nonsense", "--nonsense"},
           {"train --out x --pairs -3", "--pairs"},
           {"train --out x --pairs 0", "a number above 0, found 0"},
           {"train --out x --batch -8", "a whole number, 0 or above, found -8"},
           {"train --out x --lr nan", "0 or above, found nan"},
           {"train --out x --seed 18446744073709551616", "below 2^64"},
           {"train --out x --seed 0x10", "a whole number"},
           {"train --out x --pairs 1e6", "a whole number, 0 or above"},
           {"train --out ''", "--out: expected a value"},
           {"--bogus", "that `l3` knows, found --bogus"},
           {"synth x --classes 0x9", "a whole number"},
           {"info --json=maybe", "--json: expected no value"},
           {"train --outt x", "did you mean --out?"},
           {"eval --chekpoint x --data y", "did you mean --checkpoint?"},
           {"eval --checkpoint x --data y --pair 10", "found --pair 10"},
           {"eval --checkpoint x --data y --pairs 7", "--pairs: expected"},
           {"eval --checkpoint x --data y --pairs 4294967296", "--pairs: "},
           {"eval --checkpoint x --data y --clip-seconds 0.5", "a second"},
           {"info run --model tiny", "file"},
           {"--threads 1 info", "options behind the command, as in `l3 info --threads 1`, found --threads"},
           {"--json bench net", "as in `l3 bench net --threads 1`, found --json"},
           {"eval --checkpoint x --data y --mistakes 3", "--out"},
           {"pack x --verify --out y", "--out"},
           {"embed image x --checkpoint y --out z --hop 1", "--hop"},
           {"info --threads 100000", "--threads"},
           {"train --out " + (scratch() / "none").string(), "--train"},
           {"train --out x --workers 5000", "--workers"},
           {"eval --checkpoint x", "--data"},
           {"bench", "subcommand"},
           {"bench net --model tiny --what smell", "smell"},
           {"bench net --what train --batch 1", "--batch"},
           {"bench net --precision fp7", "fp32"},
           {"embed smell x --checkpoint y --out z", "smell"},
           {"embed audio x --checkpoint y --out z --hop 0", "--hop"}}) {
    INFO(arguments);
    outcome const r = l3(arguments);
    CHECK(r.code == 2);
    CHECK_THAT(r.err + r.out, Contains(says));
  }
}

TEST_CASE("names that would steer a terminal are shown, not obeyed") {
  outcome const r = l3("info $(printf 'a\\033[31mb')");
  CHECK(r.code == 1);
  CHECK_THAT(r.err, Contains("a\\x1b[31mb"));
}

TEST_CASE("a file that may not grow is an error, and the work goes on where nobody listens any more") {
  outcome const r = l3("export onnx audio --checkpoint " + quoted(made_up_run() / "best.safetensors") + "--out " +
                           quoted(scratch() / "large.onnx"),
                       "ulimit -f 20;");
  CHECK(r.code == 1);
  CHECK_THAT(r.err, Contains("large.onnx") && Contains("File too large"));
  CHECK_FALSE(fs::exists(scratch() / "large.onnx"));

  fs::path const run = scratch() / "unheard";
  std::string const line = "('" L3_PROGRAM "' train " + training_data() + "--pairs 16 --valid-every 1 --out " +
                           run.string() + "; echo $? >" + (scratch() / "code").string() + ") 2>/dev/null | true";
  REQUIRE(std::system(line.c_str()) == 0);
  CHECK(content(scratch() / "code") == "141\n");  // what it said was lost
  CHECK_THAT(content(run / "log.csv"), Contains("\n4,16,"));
}

TEST_CASE("a result that standard output does not take is a failure") {
  for (char const* const as : {"", "--json"}) {
    std::string const line = "'" + std::string(L3_PROGRAM) + "' info " + as + " > /dev/full 2> /dev/null";
    int const status = std::system(line.c_str());
    CHECK(WEXITSTATUS(status) == 1);
  }
}

TEST_CASE("with --json standard output is one document and nothing else") {
  json const build = json::parse(l3("info --json").out);
  CHECK(build.at("models").size() == 3);
  json const model = json::parse(l3("info --model paper --batch 16 --threads 2 --json").out);
  CHECK(model.at("learned") == 9504898);
  CHECK(model.at("training_bytes").get<double>() < 24.0 * (1u << 30));
  CHECK(model.at("tensors").size() == 84);
  REQUIRE(model.at("layers").size() == 16);
  json const first = model.at("layers").at(0), last = model.at("layers").at(15);
  CHECK(first.at("name") == "vision.block1.conv1");
  CHECK(first.at("algorithm") == "direct");  // three channels
  CHECK(last.at("name") == "audio.block4.conv2");
  CHECK(last.at("algorithm") == "Winograd F(4x4,3x3)");
  CHECK(last.at("output") == std::vector<std::size_t>{512});
  CHECK(last.at("kind") == "conv3x3+batch_norm+relu+global_max_pool");
  fs::path const video = made_up_videos() / "videos";
  json const media = json::parse(l3("info --json " + fs::directory_iterator(video)->path().string()).out);
  CHECK(media.at("trainable") == true);
  CHECK(media.at("why_not").is_null());
  CHECK(l3("info ''").code == 2);
  json const eval =
      json::parse(l3("eval --json --pairs 16 --checkpoint " + (made_up_run() / "best.safetensors").string() +
                     " --data " + (made_up_videos() / "test.csv").string())
                      .out);
  CHECK(eval.at("pairs") == 16);
  CHECK(eval.at("interval").size() == 2);
  CHECK((eval.at("accuracy") >= 0 && eval.at("accuracy") <= 1));
  json const checkpoint = json::parse(l3("info --json " + (made_up_run() / "last.safetensors").string()).out);
  CHECK(checkpoint.at("step") == 4);
  CHECK(checkpoint.at("settings").at("pairing") == "all");
  json const net = json::parse(l3("bench net --model tiny --batch 2 --seconds 0 --json").out);
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(net.at("results").at(k).at("what") == std::vector<std::string>{"audio", "vision", "train"}[k]);
    CHECK(net.at("results").at(k).at("per_s") > 0);
  }
  json const loader = json::parse(
      l3("bench loader --model tiny --batch 4 --pairs 12 --json " + (made_up_videos() / "train.csv").string()).out);
  CHECK(loader.at("pairs") == 12);
  CHECK(loader.at("pairs_per_s") > 0);
  CHECK(loader.at("failures") == 0);
}

TEST_CASE("quiet programs say what they were asked for and no more") {
  CHECK_THAT(l3("info --quiet").out, Contains("FFmpeg"));
  CHECK(l3("info --quiet --json").err.empty());
  outcome const eval = l3("eval --quiet --pairs 16 --checkpoint " + (made_up_run() / "best.safetensors").string() +
                          " --data " + (made_up_videos() / "test.csv").string());
  CHECK_THAT(eval.out, Contains("accuracy"));
  CHECK(eval.err.empty());
}

TEST_CASE("a training leaves its settings, its log and its checkpoints") {
  fs::path const run = made_up_run();
  json const config = json::parse(content(run / "config.json"));
  CHECK(config.at("model") == "tiny");
  CHECK(config.at("batch") == 4);
  std::string const log = content(run / "log.csv");
  std::string const header =
      "step,pairs,loss,accuracy,valid_loss,valid_accuracy,learning_rate,pairs_per_second,loader_wait,batches_ready,"
      "open_ms,"
      "picture_ms,sound_ms,assemble_ms\n";
  CHECK_THAT(log, StartsWith(header));
  CHECK_THAT(log, Contains("\n4,16,"));
  CHECK(fs::exists(run / "best.safetensors"));
  CHECK_FALSE(fs::exists(run / "refused.jsonl"));
  // A run of version 0.1.0, with fewer settings and columns, is gone on with.
  fs::path const old = run.parent_path() / "old run";
  fs::copy(run, old, fs::copy_options::recursive);
  std::ofstream(old / "log.csv") << "step,pairs,loss,accuracy,valid_loss,valid_accuracy,learning_rate,pairs_per_second,"
                                    "loader_wait\n4,16,0.7,0.5,,,1e-05,50.0,0.1\n"
                                    "99999999999999999999999,16,0.7,0.5,,,1e-05,50.0,0.1\n";  // damaged
  json fewer = config;
  for (char const* newer : {"backend", "task", "pairing-scope", "accumulate", "sync-batch-norm", "init",
                            "draws-per-opening", "reservoir", "draws-a-step", "training-videos", "validation-videos"})
    CHECK(fewer.erase(newer) == 1);
  std::ofstream(old / "config.json") << fewer;
  CHECK(l3("train --resume --pairs 24 --draws-per-opening 4 --out '" + old.string() + "'").code == 2);
  CHECK(l3("train --resume --pairs 24 --out '" + old.string() + "'").code == 0);
  std::istringstream lines(content(old / "log.csv"));
  int rows = 0;
  for (std::string line; std::getline(lines, line); ++rows)
    CHECK(std::count(line.begin(), line.end(), ',') == std::count(header.begin(), header.end(), ','));
  CHECK(rows >= 3);
  for (auto const& [name, value] : std::vector<std::pair<std::string, json>>{{"warmup", -1},
                                                                             {"draws-per-opening", -2},
                                                                             {"lr", -0.1},
                                                                             {"valid-pairs", 4294967304},
                                                                             {"batch", 4.5},
                                                                             {"seed", "five"}}) {
    json odd = config;
    odd[name] = value;
    std::ofstream(old / "config.json") << odd;
    outcome const r = l3("train --resume --pairs 32 --out " + quoted(old));
    INFO(r.err);
    CHECK(r.code == 1);
    CHECK_THAT(r.err, Contains("config.json") && Contains('"' + name + '"') && Contains(value.dump()));
  }
  {
    json odd = config;
    odd["draws-per-opening"] = 0;
    std::ofstream(old / "config.json") << odd;
    outcome const r = l3("train --resume --pairs 32 --out " + quoted(old));
    CHECK(r.code == 1);
    CHECK_THAT(r.err, Contains("draws-per-opening 0"));
  }
  // Nests that would use up the stack, and a pipe that nobody writes to, where a run should be.
  std::string const nest = std::string(200'000, '[') + std::string(200'000, ']');
  std::string deep = config.dump();
  deep.insert(deep.find("\"training-videos\":") + 18, "{\"count\":" + nest + "},\"old\":");
  for (std::string const& odd : {"{\"task\":" + nest + "}", deep}) {
    std::ofstream(old / "config.json") << odd;
    for (std::string const command : {"report ", "train --resume --pairs 32 --out "}) {
      outcome const r = l3(command + quoted(old));
      CHECK(r.code == 1);
      CHECK_THAT(r.err, Contains("config.json: expected JSON with nests of at most 64"));
    }
  }
  fs::remove(old / "config.json");
  REQUIRE(::mkfifo((old / "config.json").c_str(), 0600) == 0);
  outcome const waits = l3("train --resume --pairs 32 --out " + quoted(old));
  CHECK(waits.code == 1);
  CHECK_THAT(waits.err, Contains("config.json: expected a file, found a pipe"));
  outcome const again = l3("train " + training_data() + "--pairs 16 --out " + run.string());
  CHECK(again.code == 2);
  CHECK_THAT(again.err, Contains("--resume") && Contains(run.string()));
}

TEST_CASE("a training that goes on with other videos says so, once") {
  fs::path const run = scratch() / "other videos";
  fs::copy(made_up_run(), run, fs::copy_options::recursive);
  json config = json::parse(content(run / "config.json"));
  std::string const then = config.at("training-videos").at("count").dump();
  config["train"] = (made_up_videos() / "test.csv").string();
  std::ofstream(run / "config.json") << config;
  outcome const changed = l3("train --resume --pairs 20 --out " + quoted(run));
  CHECK(changed.code == 0);
  CHECK_THAT(changed.err, Contains("training videos") && Contains(run.string()) && Contains(then + " then"));
  CHECK_THAT(changed.err, !Contains("validation videos"));
  outcome const same = l3("train --resume --pairs 24 --out " + quoted(run));
  CHECK(same.code == 0);
  CHECK_THAT(same.err, !Contains("then"));
}

TEST_CASE("bf16 products are close to fp32, and refused by name where this build has none") {
  json const precisions = json::parse(l3("info --json").out).at("precisions");
  bool const available = std::find(precisions.begin(), precisions.end(), "bf16") != precisions.end();
  fs::path const run = scratch() / "bf16";
  outcome const training = l3("train " + training_data() + "--pairs 16 --precision bf16 --out " + run.string());
  if (!available) {
    CHECK(training.code == 2);
    CHECK_THAT(training.err, Contains("--precision") && Contains("AVX512_BF16"));
    CHECK_FALSE(fs::exists(run));
    return;
  }
  CHECK(training.code == 0);
  CHECK(json::parse(content(run / "config.json")).at("precision") == "bf16");
  outcome const other = l3("train --resume --precision fp32 --pairs 32 --out " + run.string());
  CHECK(other.code == 2);
  CHECK_THAT(other.err, Contains("--precision") && Contains("bf16") && Contains("fp32"));
  auto const loss = [&](std::string const& precision) {
    outcome const r = l3("eval --json --pairs 16 --checkpoint " + (run / "last.safetensors").string() + " --data " +
                         (made_up_videos() / "test.csv").string() + " --precision " + precision);
    return json::parse(r.out).at("loss").get<double>();
  };
  double const apart = std::abs(loss("bf16") - loss("fp32"));
  CHECK(apart < 0.02);
  CHECK(apart > 0);  // or these were no bf16 products
}

TEST_CASE("killed at any moment and resumed, a training ends with the bits of one that was left alone") {
  fs::path const whole = scratch() / "whole", parts = scratch() / "parts";
  fs::remove_all(whole), fs::remove_all(parts);  // each section starts anew
  std::string const settings = training_data() + "--pairs 48 --seed 9 --save-every 1 --valid-every 5 --quiet ";
  REQUIRE(l3("train " + settings + "--threads 1 --out " + whole.string()).code == 0);
  // Started in the background and killed once a checkpoint beyond the first step is there.
  std::string const start = "'" L3_PROGRAM "' train " + settings + "--threads 2 --out " + parts.string();
  int const status =
      std::system(("(" + start + " & pid=$!; for k in $(seq 30000); do grep -qs '^2,' " + (parts / "log.csv").string() +
                   " && break; kill -0 $pid || break; done; kill -9 $pid; wait $pid) >/dev/null 2>&1")
                      .c_str());
  (void)status;
  REQUIRE(fs::exists(parts / "last.safetensors"));
  CHECK(content(parts / "last.safetensors") != content(whole / "last.safetensors"));
  outcome const resumed = l3("train --resume --threads 2 --quiet --out " + parts.string());
  INFO(resumed.err);
  CHECK(resumed.code == 0);
  CHECK(content(parts / "last.safetensors") == content(whole / "last.safetensors"));
  CHECK(content(parts / "best.safetensors") == content(whole / "best.safetensors"));
  SECTION("another value of an option is refused, and both values are named") {
    outcome const r = l3("train --resume --seed 10 --out " + parts.string());
    CHECK(r.code == 2);
    CHECK_THAT(r.err, Contains("--seed") && Contains("9") && Contains("10"));
  }
  SECTION("more pairs go on from there, with another learning rate too") {
    CHECK(l3("train --resume --pairs 56 --lr 0.0005 --quiet --out " + parts.string()).code == 0);
    CHECK_THAT(content(parts / "log.csv"), Contains("\n14,56,"));
    CHECK(json::parse(content(parts / "config.json")).at("lr") == 0.0005);
  }
  SECTION("without its last checkpoint a run is left as it is") {
    std::string const log = content(parts / "log.csv"), best = content(parts / "best.safetensors");
    fs::remove(parts / "last.safetensors");
    outcome const r = l3("train --resume --out " + parts.string());
    CHECK(r.code == 1);
    CHECK_THAT(r.err, Contains("last.safetensors"));
    CHECK(content(parts / "log.csv") == log);
    CHECK(content(parts / "best.safetensors") == best);
  }
}

TEST_CASE("a training begins with the weights of another, and its own optimizer") {
  fs::path const init = scratch() / "init.safetensors", whole = scratch() / "tuned", parts = scratch() / "tuned parts";
  fs::path const learned = made_up_run() / "last.safetensors";
  fs::copy_file(learned, init);
  std::string settings = training_data() + "--seed 5 --quiet ";
  settings.erase(settings.find("--model tiny "), 13);  // the checkpoint says so
  std::string const begun = "train " + settings + "--init " + quoted(init);
  fs::path const dump = scratch() / "dump";
  outcome const r = l3(begun + "--pairs 24 --dump-batches " + quoted(dump) + "--out " + quoted(whole));
  INFO(r.err);
  REQUIRE(r.code == 0);
  CHECK(json::parse(content(whole / "config.json")).at("model") == "tiny");
  CHECK(json::parse(content(whole / "config.json")).at("init") == init.string());
  // Which weights those were is known wherever weights are named.
  json const facts = json::parse(l3("info --json " + quoted(whole / "last.safetensors")).out);
  std::string const data = (made_up_videos() / "test.csv").string();
  CHECK_THAT(l3("eval --json --pairs 8 --data " + data + " --checkpoint " + quoted(learned)).out,
             Contains("weights " + facts.at("settings").at("init-weights").get<std::string>() + ", "));
  auto const before = tensors_in(learned), first = tensors_in(dump / "init.safetensors");
  REQUIRE(before.size() == first.size());
  for (auto const& [name, bytes] : first) {
    INFO(name);
    if (name.starts_with("optimizer."))
      CHECK(bytes == std::string(bytes.size(), '\0'));
    else
      CHECK(bytes == before.at(name));
  }
  CHECK(json::parse(l3("info --json " + quoted(dump / "init.safetensors")).out).at("step") == 0);

  // Interrupted, and the checkpoint that it began with gone, it ends with the same bits.
  REQUIRE(l3(begun + "--pairs 12 --out " + quoted(parts)).code == 0);
  fs::remove(init);
  CHECK(l3("train --resume --pairs 24 --quiet --out " + quoted(parts)).code == 0);
  CHECK(content(parts / "last.safetensors") == content(whole / "last.safetensors"));

  // Stopped before the first checkpoint, it begins with those weights or not at all.
  fs::path const changed = scratch() / "changed init";
  fs::create_directories(changed);
  fs::copy_file(whole / "config.json", changed / "config.json");
  std::string const log = content(whole / "log.csv");
  std::ofstream(changed / "log.csv") << log.substr(0, log.find('\n') + 1);
  fs::copy_file(whole / "last.safetensors", init);
  outcome const others = l3("train --resume --quiet --out " + quoted(changed));
  CHECK(others.code == 2);
  CHECK_THAT(others.err, Contains("as it was when the run was to begin with it") && Contains("found another file"));
  CHECK_FALSE(fs::exists(changed / "last.safetensors"));
  fs::copy_file(learned, init, fs::copy_options::overwrite_existing);
  CHECK(l3("train --resume --quiet --out " + quoted(changed)).code == 0);
  CHECK(content(changed / "last.safetensors") == content(whole / "last.safetensors"));
  fs::remove(init);

  fs::path const never = scratch() / "never begun";
  for (auto const& [arguments, code, says] : std::vector<std::tuple<std::string, int, std::string>>{
           {begun + "--out " + quoted(never), 1, init.string()},  // it is gone
           {"train " + settings + "--model small --init " + quoted(learned) + "--out " + quoted(never), 2,
            "--model with --init"},
           {"train --resume --init " + quoted(learned) + "--out " + quoted(parts), 2, "--init"},
           {"train --resume --init " + quoted(learned) + "--out " + quoted(made_up_run()), 2, "--init"}}) {
    INFO(arguments);
    outcome const bad = l3(arguments);
    CHECK(bad.code == code);
    CHECK_THAT(bad.err, Contains(says) && Contains("expected"));
    CHECK_FALSE(fs::exists(never));
  }
}

TEST_CASE("a training takes its settings from another's, and what the command line says goes before") {
  fs::path const old = made_up_run(), again = scratch() / "again", other = scratch() / "again, otherwise";
  std::string const config = "--config " + quoted(old / "config.json");
  REQUIRE(l3("train " + config + "--quiet --out " + quoted(again)).code == 0);
  CHECK(content(again / "config.json") == content(old / "config.json"));
  CHECK(content(again / "last.safetensors") == content(old / "last.safetensors"));
  // Before or behind the file on the command line; what is no option, as the task, is passed over.
  fs::path const own = scratch() / "own.json";
  json settings = json::parse(content(old / "config.json"));
  settings.update({{"tensorboard", true}, {"lr", 2e-3}, {"threads", 1}, {"log-every", 2}, {"what", "audio"}});
  std::ofstream(own) << settings;
  REQUIRE(l3("train --lr 0.005 --config " + quoted(own) + "--seed 6 --quiet --out " + quoted(other)).code == 0);
  json const taken = json::parse(content(other / "config.json"));
  CHECK(taken.at("lr") == 0.005);
  CHECK(taken.at("seed") == 6);
  CHECK(taken.at("log-every") == 2);
  CHECK(taken.at("tensorboard") == true);
  CHECK(taken.at("training-videos") == settings.at("training-videos"));
  // A file for one command that another one takes too, where it says nothing that is not known there.
  for (char const* unknown : {"pairing", "pairing-scope", "sync-batch-norm"}) settings.erase(unknown);
  settings["accumulate"] = 2;
  fs::path const never = scratch() / "never again";
  std::ofstream(own) << settings;
  CHECK_THAT(l3("baseline pretrain --config " + quoted(own) + "--out " + quoted(never)).err,
             Contains("own.json: expected options of `l3 baseline pretrain`, found \"accumulate\""));
  settings["accumulate"] = 1;
  std::ofstream(own) << settings;
  CHECK_THAT(l3("baseline pretrain --config " + quoted(own) + "--out " + quoted(never)).err,
             Contains("--vision: expected a checkpoint"));

  for (auto const& [text, says] : std::vector<std::pair<std::string, std::string>>{
           {R"({"lr": -1})", "--lr: expected a number, 0 or above, found -1"},
           {R"({"lr": "1"})", R"(expected a number for "lr", found "1")"},
           {R"({"learning-rate": 1})", R"(expected options of `l3 train`, found "learning-rate")"},
           {R"({"batch": 1e1})", "--batch: expected a whole number, 0 or above, found 10.0"},
           {R"({"seed": 99999999999999999999})", "--seed: expected a whole number"},
           {R"({"model": "huge"})", "--model: huge not in {paper,small,tiny}"},
           {R"({"model": {"paper": 1}})", R"(expected a text for "model", found {"paper":1})"},
           {R"({"tensorboard": 1})", R"(expected true or false for "tensorboard", found 1)"},
           {R"({"resume": true})", R"(expected no such option in a file, found "resume")"},
           {R"({"config": "own.json"})", R"(expected no such option in a file, found "config")"}}) {
    INFO(text);
    std::ofstream(own) << text;
    outcome const r = l3("train --config " + quoted(own) + "--out " + quoted(never));
    CHECK(r.code == 2);
    CHECK_THAT(r.err, Contains("own.json: " + says));
  }
  outcome const both = l3("train --resume " + config + "--out " + quoted(again));
  CHECK(both.code == 2);
  CHECK_THAT(both.err, Contains("--config with --resume: expected one of the two"));
  std::ofstream(own) << "[]";
  outcome const list = l3("train --config " + quoted(own) + "--out " + quoted(never));
  CHECK(list.code == 1);
  CHECK_THAT(list.err, Contains("own.json: expected a JSON object, found array"));
  outcome const none = l3("train --config nowhere.json --out " + quoted(never));
  CHECK(none.code == 1);
  CHECK_THAT(none.err, Contains("nowhere.json: expected a file"));
  CHECK_FALSE(fs::exists(never));
}

TEST_CASE("a loss that is not finite ends a training, and what was saved before can be gone on with") {
  auto const step_of = [](fs::path const& checkpoint) {
    return json::parse(l3("info --json " + quoted(checkpoint)).out).at("step").get<int>();
  };
  fs::path const run = scratch() / "exploded";
  std::string const begun = "train " + training_data() + "--warmup 0 --seed 2 ";
  REQUIRE(l3(begun + "--pairs 12 --valid-every 50 --out " + quoted(run)).code == 0);
  outcome const r = l3("train --resume --pairs 40 --lr 1e30 --out " + quoted(run));
  INFO(r.err);
  CHECK(r.code == 1);
  CHECK_THAT(r.err, Contains("training step 5") && Contains("finite") && Contains("of step 3,") &&
                        Contains("--resume --lr 3.3e+29") && Contains("last.safetensors"));
  CHECK(step_of(run / "last.safetensors") == 3);
  CHECK_THAT(content(run / "log.csv"), Contains("\n4,16,"));  // where it went wrong can be seen
  CHECK(l3("train --resume --lr 0.001 --out " + quoted(run)).code == 0);
  CHECK(step_of(run / "last.safetensors") == 10);
  // A validation sees it before the next step does.
  fs::path const seen = scratch() / "exploded, seen";
  outcome const v = l3(begun + "--pairs 40 --valid-every 1 --lr 1e30 --out " + quoted(seen));
  INFO(v.err);
  CHECK(v.code == 1);
  CHECK_THAT(v.err, Contains("validation after step 1") && Contains("of step 0,"));
  CHECK(step_of(seen / "last.safetensors") == 0);
  CHECK_FALSE(fs::exists(seen / "best.safetensors"));
  // Saved between the step that spoilt it and the one that shows it, a state is of no use, and the words say so.
  fs::path const late = scratch() / "exploded, saved";
  outcome const s = l3(begun + "--pairs 40 --valid-every 50 --save-every 1 --lr 1e30 --out " + quoted(late));
  INFO(s.err);
  CHECK_THAT(s.err, Contains("training step 2") && Contains("of step 1,") && Contains("cannot be gone on with"));
  CHECK_THAT(l3("train --resume --lr 0.001 --out " + quoted(late)).err, Contains("cannot be gone on with"));
}

TEST_CASE("a run is gone on with by one process at a time, and from its own checkpoint") {
  fs::path const run = scratch() / "own";
  fs::copy(made_up_run(), run, fs::copy_options::recursive);
  fs::path const left = run / ".l3-99999999-0.tmp",
                 in_use = run / ".l3-99999999-1.tmp";  // by killed ones, and by one that writes
  std::ofstream(left) << "half a checkpoint";
  std::ofstream(in_use) << "half a report";
  fs::last_write_time(left, fs::last_write_time(left) - std::chrono::hours(2));
  {
    held const by_another(run);
    outcome const second = l3("train --resume --pairs 24 --out " + quoted(run));
    CHECK(second.code == 2);
    CHECK_THAT(second.err, Contains(run.string()) && Contains("another process at work"));
  }
  fs::path const other = scratch() / "other";
  REQUIRE(l3("train " + training_data() + "--pairs 16 --seed 6 --quiet --out " + quoted(other)).code == 0);
  fs::copy_file(other / "last.safetensors", run / "last.safetensors", fs::copy_options::overwrite_existing);
  outcome const r = l3("train --resume --pairs 24 --out " + quoted(run));
  CHECK(r.code == 1);
  CHECK_THAT(r.err, Contains("last.safetensors") && Contains("seed 5") && Contains("with 6"));
  CHECK(content(run / "log.csv") == content(made_up_run() / "log.csv"));
  // The same seed, but another training.
  fs::path const slower = scratch() / "slower";
  REQUIRE(l3("train " + training_data() + "--pairs 16 --seed 5 --warmup 7 --quiet --out " + quoted(slower)).code == 0);
  fs::copy_file(slower / "last.safetensors", run / "last.safetensors", fs::copy_options::overwrite_existing);
  outcome const w = l3("train --resume --pairs 24 --out " + quoted(run));
  CHECK(w.code == 1);
  CHECK_THAT(w.err, Contains("warmup 100") && Contains("with 7"));
  CHECK_FALSE(fs::exists(left));
  CHECK(fs::exists(in_use));
}

TEST_CASE("what cannot be trained is refused before there is a folder, and the loss that is told is a mean") {
  fs::path const run = scratch() / "told";
  outcome const few = l3("train " + training_data() + "--draws-per-opening 4 --out " + quoted(run));
  CHECK(few.code == 2);
  CHECK_THAT(few.err, Contains("draws that share openings") && Contains("smaller reservoir"));
  CHECK_FALSE(fs::exists(run));
  std::string const data = "train --train " + quoted(made_up_videos() / "train.csv") + " --valid " +
                           quoted(made_up_videos() / "valid.csv") + " --model tiny --batch 6 --pairs 12 ";
  outcome const halves = l3(data + "--pairing paper --draws-per-opening 2 --reservoir 1 --out " + quoted(run));
  CHECK(halves.code == 2);
  CHECK_THAT(halves.err, Contains("--draws-per-opening: expected a multiple of four, found 6"));
  CHECK_FALSE(fs::exists(run));
  outcome const r = l3("train " + training_data() + "--pairs 16 --log-every 1 --json --out " + quoted(run));
  REQUIRE(r.code == 0);
  std::istringstream log(content(run / "log.csv"));
  double sum = 0;
  int rows = -1;  // the header
  for (std::string line; std::getline(log, line); ++rows)
    if (rows >= 0) sum += std::strtod(line.c_str() + line.find(',', line.find(',') + 1) + 1, nullptr);
  REQUIRE(rows == 4);
  CHECK_THAT(json::parse(r.out).at("loss").get<double>(), Catch::Matchers::WithinRel(sum / 4, 1e-6));
}

TEST_CASE("TensorBoard gets the rows of the log, and training is the same") {
  fs::path const run = scratch() / "shown", other = scratch() / "not_shown";
  std::string const train = "train " + training_data() + "--log-every 2 --valid-every 2 --quiet ";
  REQUIRE(l3(train + "--pairs 16 --tensorboard --out " + quoted(run)).code == 0);
  std::string const first = content(run / "events.out.tfevents.000000.l3");
  // What a record is made of is tested with the library; here, that each row is there with all its values.
  auto const times = [](std::string const& text, std::string const& what) {
    std::size_t count = 0;
    for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++count;
    return count;
  };
  for (char const* tag : {"loss/train", "loss/valid", "accuracy/train", "accuracy/valid", "learning_rate",
                          "speed/pairs_per_second", "speed/assemble_ms"})
    CHECK(times(first, tag) == 2);
  REQUIRE(l3("train --resume --pairs 24 --quiet --out " + quoted(run)).code == 0);
  CHECK(content(run / "events.out.tfevents.000000.l3") == first);
  // From the row on that it goes on from: loaders that know nothing of restarts then drop what had not been saved.
  CHECK(times(content(run / "events.out.tfevents.000001.l3"), "loss/train") == 2);

  REQUIRE(l3(train + "--pairs 24 --out " + quoted(other)).code == 0);
  CHECK(content(run / "last.safetensors") == content(other / "last.safetensors"));
  REQUIRE(l3("train --resume --pairs 28 --tensorboard --quiet --out " + quoted(other)).code == 0);
  CHECK(times(content(other / "events.out.tfevents.000000.l3"), "loss/train") == 4);  // those of before too
}

TEST_CASE("Ctrl-C saves, says how to go on, and ends with 130") {
  fs::path const run = scratch() / "interrupted";
  std::string const start = "'" L3_PROGRAM "' train " + training_data() +
                            "--pairs 18446744073709551615 --valid-every 5000 --out " + run.string();
  int const status =
      std::system(("(set -m; " + start + " >" + (scratch() / "said").string() +
                   " 2>&1 & pid=$!; for k in $(seq 30000); do grep -qs '^10,' " + (run / "log.csv").string() +
                   " && break; kill -0 $pid || break; done; kill -INT $pid; kill -INT $pid; wait $pid; exit $?)")
                      .c_str());  // twice, as `timeout` sends it: to the program and to its group
  CHECK(WEXITSTATUS(status) == 130);
  CHECK_THAT(content(scratch() / "said"), Contains("--resume"));
  outcome const facts = l3("info --json " + (run / "last.safetensors").string());
  CHECK(json::parse(facts.out).at("step").get<int>() >= 10);
}

TEST_CASE("a validation that Ctrl-C breaks off is made when the run is gone on with") {
  std::string const made = made_up_videos().string();
  std::string const train = "train --train " + made + "/train.csv --valid " + made +
                            "/valid.csv --model tiny --batch 16 --pairs 96 --valid-every 2 --valid-pairs 300 --json ";
  fs::path const whole = scratch() / "validated", parts = scratch() / "validated in parts";
  outcome const once = l3(train + "--out " + quoted(whole));
  REQUIRE(once.code == 0);
  // Behind the first checkpoint, of step 0, most of the time goes into validations.
  outcome last;
  bool broken_off = false;
  for (int tries = 1; tries < 30; ++tries) {
    std::string const wait = "timeout -s INT " + std::to_string(0.1 * std::pow(1.25, tries)) + ' ';
    bool const begun = fs::exists(parts / "config.json");
    last = l3(begun ? "train --resume --json --out " + quoted(parts) : train + "--out " + quoted(parts), wait);
    if (last.code == 0) break;
    REQUIRE((last.code == 130 || last.code == 128 + SIGINT || last.code == 124));
    if (!fs::exists(parts / "last.safetensors")) continue;
    json const facts = json::parse(l3("info --json " + quoted(parts / "last.safetensors")).out);
    std::string const log = content(parts / "log.csv");
    std::string const row = log.substr(log.rfind('\n', log.size() - 2) + 1);
    bool const lacks = facts.at("step") != 0 && facts.at("step").get<int>() % 2 == 0 && row.find(",,") != row.npos;
    broken_off = broken_off || lacks;
    if (json::accept(last.out) && !fs::exists(parts / "best.safetensors"))
      CHECK(json::parse(last.out).at("best").is_null());
  }
  REQUIRE(last.code == 0);
  CHECK(broken_off);
  for (char const* same : {"last.safetensors", "best.safetensors"})
    CHECK(content(parts / same) == content(whole / same));
  for (char const* same : {"valid_loss", "valid_accuracy", "best_valid_accuracy"})
    CHECK(json::parse(last.out).at(same) == json::parse(once.out).at(same));
  // The same validations stand in both logs.
  auto const validations = [](fs::path const& run) {
    std::vector<std::string> found;
    std::istringstream log(content(run / "log.csv"));
    for (std::string line; std::getline(log, line);) {
      std::vector<std::string> cells(1);
      for (char const c : line)
        if (c == ',')
          cells.emplace_back();
        else
          cells.back() += c;
      if (!cells[4].empty()) found.push_back(cells[0] + ' ' + cells[4] + ' ' + cells[5]);
    }
    return found;
  };
  CHECK(validations(whole).size() == 4);  // with the header
  CHECK(validations(parts) == validations(whole));
}

TEST_CASE("Ctrl-C leaves nothing of a set of made-up videos") {
  fs::path const set = scratch() / "unfinished_set";
  int const status =
      std::system(("(set -m; '" L3_PROGRAM "' synth --videos 9000 --quiet " + set.string() +
                   " 2>/dev/null & pid=$!; for k in $(seq 3000); do test -e " + (set / "videos/00003.mp4").string() +
                   " && break; kill -0 $pid || break; sleep 0.01; done; kill -INT $pid; wait $pid; exit $?)")
                      .c_str());
  CHECK(WEXITSTATUS(status) == 130);
  CHECK(!fs::exists(set));
  // Nor does --force take what is somebody else's.
  fs::create_directories(set);
  std::ofstream(set / "train.csv") << "my own\n";
  outcome const over = l3("synth --videos 6 --force " + quoted(set));
  CHECK(over.code == 1);
  CHECK_THAT(over.err, Contains("train.csv: expected a data set of l3 synth"));
  CHECK(content(set / "train.csv") == "my own\n");
  fs::remove(set / "train.csv"), fs::create_directories(set / "videos");
  std::ofstream(set / "videos/12345.mp4") << "precious";
  outcome const precious = l3("synth --videos 6 --force " + quoted(set));
  CHECK(precious.code == 1);
  CHECK_THAT(precious.err, Contains("12345.mp4: expected a data set of l3 synth") && Contains("another video"));
  CHECK(content(set / "videos/12345.mp4") == "precious");
  // One that was killed is known by its README.
  std::ofstream(set / "README.txt") << "Made-up instruments\n\nMade by `l3 synth`, and not finished yet.\n";
  {
    held const by_another(set);
    outcome const both = l3("synth --videos 6 --seconds 1 --force " + quoted(set));
    CHECK(both.code == 1);
    CHECK_THAT(both.err, Contains("another one at work"));
    CHECK(fs::exists(set / "videos/12345.mp4"));
  }
  CHECK(l3("synth --videos 6 --seconds 1 --force --quiet " + quoted(set)).code == 0);
  CHECK_FALSE(fs::exists(set / "videos/12345.mp4"));
}

TEST_CASE("standard streams that are closed lend their numbers to no file") {
  fs::path const data = scratch() / "closed_videos", run = scratch() / "closed_run";
  fs::create_directories(data);
  int good = 0;
  for (auto const& each : fs::directory_iterator(made_up_videos() / "videos"))
    if (++good <= 4) fs::copy_file(each.path(), data / each.path().filename());
  std::ofstream(data / "text.mp4") << "this is no video\n";
  std::string const command = "'" L3_PROGRAM
                              "' train --model tiny --batch 4 --pairs 40 --valid-pairs 4 --tensorboard " +
                              ("--train " + quoted(data)) + "--valid " + quoted(data) + "--out " + quoted(run);
  CHECK(WEXITSTATUS(std::system((command + " 0<&- >&- 2>&-").c_str())) == 1);  // nobody was told of the end
  CHECK(fs::exists(run / "last.safetensors"));
  CHECK(fs::exists(run / "refused.jsonl"));
  std::size_t events = 0;
  for (auto const& each : fs::directory_iterator(run))
    if (each.path().filename().string().starts_with("events.")) {
      ++events;
      CHECK_THAT(content(each.path()), !Contains("warning"));
    }
  CHECK(events == 1);
}

TEST_CASE("a run is not begun over what is left of another, and weights that are a pipe are not waited for") {
  fs::path const run = scratch() / "orphan", fifo = scratch() / "pipe.safetensors";
  fs::create_directories(run);
  fs::copy_file(made_up_run() / "last.safetensors", run / "last.safetensors");
  std::string const weights = content(run / "last.safetensors"),
                    train = "train " + training_data() + "--pairs 8 --out ";
  outcome const over = l3(train + quoted(run));
  CHECK(over.code == 2);
  CHECK_THAT(over.err, Contains("orphan: expected a folder without a run in it") && Contains("found last.safetensors"));
  CHECK(content(run / "last.safetensors") == weights);
  fs::remove(run / "last.safetensors");
  std::ofstream(run / "log.csv") << "my,own,log\n";
  CHECK(l3(train + quoted(run)).code == 2);
  CHECK(content(run / "log.csv") == "my,own,log\n");
  REQUIRE(::mkfifo(fifo.c_str(), 0666) == 0);
  outcome const pipe = l3("info " + quoted(fifo));
  CHECK(pipe.code == 1);
  CHECK_THAT(pipe.err, Contains("pipe.safetensors"));
  outcome const pipe_too = l3("eval --checkpoint " + quoted(fifo) + "--data " + quoted(made_up_videos() / "test.csv"));
  CHECK(pipe_too.code == 1);
  CHECK_THAT(pipe_too.err, Contains("a directory or a special file"));
}

TEST_CASE("bad files among good ones are refused, counted and passed over") {
  fs::path const data = scratch() / "mixed";
  fs::create_directories(data);
  int good = 0;
  for (auto const& entry : fs::directory_iterator(made_up_videos() / "videos")) {
    if (good == 8) break;
    fs::copy_file(entry.path(), data / ("good" + std::to_string(good++) + ".mp4"),
                  fs::copy_options::overwrite_existing);
  }
  std::string const sample = content(data / "good0.mp4");
  std::ofstream(data / "empty.mp4").flush();
  std::ofstream(data / "text.mp4") << "this is no video\n";
  fs::create_symlink("loop.mp4", data / "loop.mp4");  // nobody can open it, not even root
  std::ofstream(data / "cut.mp4", std::ios::binary) << sample.substr(0, sample.size() / 3);
  std::string const quiet = "ffmpeg -v error -y -f lavfi -i testsrc=s=96x72:r=12:d=";
  REQUIRE(std::system((quiet + "2 -pix_fmt yuv420p " + (data / "mute.mp4").string()).c_str()) == 0);
  REQUIRE(std::system(
              (quiet + "2 -f lavfi -i sine=d=0.3 -pix_fmt yuv420p " + (data / "short_sound.mp4").string()).c_str()) ==
          0);
  REQUIRE(std::system(
              (quiet + "0.08 -f lavfi -i sine=d=2 -pix_fmt yuv420p -frames:v 1 " + (data / "one_frame.mp4").string())
                  .c_str()) == 0);
  fs::path const run = scratch() / "mixed_run";
  outcome const r = l3("train --train " + data.string() + " --valid " + data.string() +
                       " --valid-pairs 8 --model tiny --batch 6 --pairs 60 --json --out " + run.string());
  INFO(r.err);
  CHECK(r.code == 0);
  json const document = json::parse(r.out);
  CHECK(document.at("refused").get<int>() >= 7);
  std::string const refused = content(run / "refused.jsonl");
  for (char const* name :
       {"empty.mp4", "text.mp4", "loop.mp4", "cut.mp4", "mute.mp4", "short_sound.mp4", "one_frame.mp4"})
    CHECK_THAT(refused, Contains(name));
  std::ofstream(run / "refused.jsonl", std::ios::app) << "{\"file\": \"torn by a cra";
  outcome const more = l3("train --resume --pairs 66 --quiet --out " + run.string());
  INFO(more.err);
  CHECK(more.code == 0);
  CHECK(content(run / "refused.jsonl") == refused);
  std::ofstream(run / "refused.jsonl") << "{\"file\": \"torn, and nothing before";
  REQUIRE(l3("train --resume --pairs 72 --quiet --out " + run.string()).code == 0);
  CHECK(l3("train --resume --pairs 78 --quiet --out " + run.string()).code == 0);

  // Embedding does the others too.
  REQUIRE(::mkfifo((data / "pipe.mp4").c_str(), 0666) == 0);
  outcome const embedded =
      l3("embed audio " + data.string() + " " + (data / "missing.wav").string() + " --hop 0.5 --json --checkpoint " +
         (run / "best.safetensors").string() + " --out " + (scratch() / "mixed_embeddings").string());
  INFO(embedded.err);
  CHECK(embedded.code == 3);
  json const made = json::parse(embedded.out);
  CHECK(made.at("outputs").size() >= 8);
  for (char const* name : {"empty.mp4", "text.mp4", "loop.mp4", "mute.mp4", "pipe.mp4", "missing.wav"}) {
    CHECK_THAT(made.at("refused").dump(), Contains(name));
    CHECK_THAT(embedded.err, Contains(name));
  }
  CHECK_THAT(embedded.err, Contains("short_sound.mp4: shorter than one second"));

  // The same files by a list, which may begin and end its lines as other systems do.
  std::ofstream(scratch() / "list.txt") << "\xef\xbb\xbf" << data.string() << "\r\n\n"
                                        << (data / "missing.wav").string();
  std::string const to = " --hop 0.5 --json --checkpoint " + quoted(run / "best.safetensors") + "--out ";
  std::string const list = quoted(scratch() / "list.txt");
  outcome const listed = l3("embed audio --files-from " + list + to + quoted(scratch() / "listed"));
  INFO(listed.err);
  CHECK(listed.code == 3);
  json const same = json::parse(listed.out);
  CHECK(same.at("refused") == made.at("refused"));
  CHECK(same.at("outputs").size() == made.at("outputs").size());
  int const status = std::system(("'" L3_PROGRAM "' embed audio --files-from -" + to + quoted(scratch() / "piped") +
                                  "<" + list + ">" + quoted(scratch() / "said") + "2>&1")
                                     .c_str());
  CHECK(WEXITSTATUS(status) == 3);
  auto const made_in = [](fs::path const& folder) {
    return std::distance(fs::recursive_directory_iterator(folder), fs::recursive_directory_iterator());
  };
  CHECK(made_in(scratch() / "piped") == made_in(scratch() / "listed"));
  // A call that ends because too many are refused keeps what it has made; the next one goes on.
  std::string const into = "embed audio --files-from " + list + to + quoted(scratch() / "limited");
  outcome const limited = l3(into + "--batch 1 --max-failures 2");
  INFO(limited.err);
  CHECK(limited.code == 1);
  CHECK_THAT(limited.err, Contains("at most 2 files that are refused (--max-failures), found "));
  json const kept = json::parse(limited.out);
  CHECK(kept.at("refused").size() > 2);
  outcome const rest = l3(into + "--max-failures 100");
  CHECK(rest.code == 3);
  json const done = json::parse(rest.out);
  CHECK(done.at("skipped") == kept.at("outputs").size());
  CHECK(done.at("outputs").size() + kept.at("outputs").size() == made.at("outputs").size());
  CHECK(done.at("refused") == made.at("refused"));
  outcome const nothing = l3("embed audio --files-from /dev/null" + to + quoted(scratch() / "x"));
  CHECK(nothing.code == 1);
  CHECK_THAT(nothing.err, Contains("--files-from /dev/null: expected names of files, a line each, found none"));
  std::ofstream(scratch() / "odd.txt") << std::string(5000, 'n') << '\n' << std::string(300, 'n') << "/a.wav\n";
  outcome const odd = l3("embed audio --files-from " + quoted(scratch() / "odd.txt") + to + quoted(scratch() / "x"));
  INFO(odd.err);
  CHECK(odd.code == 1);  // none of them was embedded
  CHECK(json::parse(odd.out).at("refused").size() == 2);
  std::ofstream(scratch() / "zeros.txt") << "a.wav" << '\0' << "b.wav" << '\0';
  outcome const zeros =
      l3("embed audio --files-from " + quoted(scratch() / "zeros.txt") + to + quoted(scratch() / "x"));
  CHECK(zeros.code == 1);
  CHECK_THAT(zeros.err, Contains("names of files, a line each, found a zero byte"));
  // Where nothing comes of it, quiet says why.
  outcome const silent = l3("embed audio " + quoted(scratch() / "odd.txt") + to + quoted(scratch() / "x") + "--quiet");
  CHECK(silent.code == 1);
  CHECK_THAT(silent.err, Contains("odd.txt"));
  outcome const none = l3("embed audio" + to + quoted(scratch() / "x"));
  CHECK(none.code == 2);
  CHECK_THAT(none.err, Contains("or --files-from"));
}

TEST_CASE("settings that validation cannot take are refused before anything is made, odd batches are taken") {
  fs::path const run = scratch() / "odd";
  std::string const d = made_up_videos().string();
  std::string const train = "train --train " + d + "/train.csv --valid " + d + "/valid.csv --model tiny --batch 5 ";
  outcome const pairs = l3(train + "--pairs 10 --valid-pairs 7 --out " + run.string());
  CHECK(pairs.code == 2);
  CHECK_THAT(pairs.err, Contains("--valid-pairs") && Contains("even") && Contains("7"));
  CHECK_FALSE(fs::exists(run));
  outcome const batch = l3(train + "--pairs 10 --valid-pairs 8 --valid-every 1 --out " + run.string());
  INFO(batch.err);
  CHECK(batch.code == 0);
}

TEST_CASE("a run that is killed has lost no more than it may") {
  auto const step_of = [](fs::path const& checkpoint) {
    return json::parse(l3("info --json " + quoted(checkpoint)).out).at("step").get<int>();
  };
  std::string const often = "train " + training_data() + "--quiet --save-every 1000000 ";
  // By the clock.
  fs::path const timed = scratch() / "saved by the clock";
  outcome const by_clock =
      l3(often + "--pairs 12 --valid-every 100 --log-every 100 --save-minutes 1e-9 --out " + quoted(timed));
  INFO(by_clock.err);
  REQUIRE(by_clock.code == 0);
  CHECK_THAT(content(timed / "log.csv"), Contains("\n2,8,") && Contains("\n3,12,"));
  CHECK(json::parse(content(timed / "config.json")).at("save-minutes") == 1e-9);
  // What is the best is not ahead of what a run goes on from, or a worse one would take its place.
  fs::path const best = scratch() / "saved with the best";
  std::string const start =
      "'" L3_PROGRAM "' " + often + "--pairs 4000000 --valid-every 3 --save-minutes 0 --out " + quoted(best);
  int const status =
      std::system(("(" + start + " & pid=$!; for k in $(seq 3000); do '" L3_PROGRAM "' info --json " +
                   quoted(best / "last.safetensors") +
                   " 2>/dev/null | grep -q '\"step\": [1-9]' && break; kill -0 $pid || break; sleep 0.01;"
                   " done; kill -9 $pid; wait $pid) >/dev/null 2>&1")
                      .c_str());
  (void)status;
  CHECK(step_of(best / "last.safetensors") >= 3);
  CHECK(step_of(best / "last.safetensors") % 3 == 0);
  // When things are written may change, and where the videos are, but not which they are.
  fs::path const moved = scratch() / "moved";
  fs::copy(made_up_videos(), moved, fs::copy_options::recursive);
  std::string const on = "train --resume --quiet --pairs 20 --out " + quoted(timed);
  outcome const others = l3(on + " --train " + quoted(moved / "test.csv"));
  CHECK(others.code == 2);
  CHECK_THAT(others.err, Contains("--train with --resume") && Contains("by the same names") && Contains("test.csv"));
  CHECK(json::parse(content(timed / "config.json")).at("pairs") == 12);
  outcome const there = l3(on + " --train " + quoted(moved / "train.csv") + " --valid " + quoted(moved / "valid.csv") +
                           " --save-every 1 --valid-every 4 --log-every 1 --save-minutes 0");
  INFO(there.err);
  CHECK(there.code == 0);
  CHECK_THAT(content(timed / "log.csv"), Contains("\n4,16,") && Contains("\n5,20,"));
  CHECK(json::parse(content(timed / "config.json")).at("train") == (moved / "train.csv").string());
}

TEST_CASE("a terminal that is gone ends a training with a checkpoint, unless it was to go on without") {
  auto const of_tests = std::signal(SIGHUP, SIG_DFL);  // a shell takes over what is ignored, and keeps it
  for (bool const stays : {false, true}) {
    fs::path const run = scratch() / (stays ? "nohup" : "hung up");
    std::string const start = (stays ? "trap '' HUP; '" : "'") + std::string(L3_PROGRAM "' train ") + training_data() +
                              "--valid-every 1000000 --pairs " + (stays ? "240" : "4000000") + " --out " + quoted(run);
    int const status = std::system(
        ("(" + start + " & pid=$!; for k in $(seq 3000); do grep -qs '^10,' " + quoted(run / "log.csv") +
         " && break; kill -0 $pid || break; sleep 0.01; done; kill -HUP $pid; wait $pid; exit $?) >/dev/null 2>&1")
            .c_str());
    CHECK(WEXITSTATUS(status) == (stays ? 0 : 129));
    int const step = json::parse(l3("info --json " + quoted(run / "last.safetensors")).out).at("step");
    CHECK((stays ? step == 60 : step >= 10));
  }
  std::signal(SIGHUP, of_tests);
}

TEST_CASE("an error between two saves loses nothing") {
  fs::path const run = scratch() / "best_cannot_be_written";
  fs::create_directories(run / "best.safetensors" / "in the way");
  std::string const d = made_up_videos().string();
  outcome const r =
      l3("train --train " + d + "/train.csv --valid " + d +
         "/valid.csv --model tiny --batch 4 --pairs 40 --valid-every 3 --save-every 100 --out " + run.string());
  INFO(r.err);
  CHECK(r.code == 1);
  json const kept = json::parse(l3("info --json " + (run / "last.safetensors").string()).out);
  CHECK(kept.at("step") == 3);
}

TEST_CASE("videos that cannot be drawn from are found before there is a run, those of validation are kept account of") {
  fs::path const run = scratch() / "mute_run", mute = scratch() / "mute_videos", mixed = scratch() / "mixed_videos";
  fs::create_directories(mute), fs::create_directories(mixed);
  for (char const* name : {"a.mp4", "b.mp4"}) std::ofstream(mute / name) << "no video at all\n";
  std::ofstream(mixed / "bad.mp4") << "no video at all\n";
  int good = 0;
  for (auto const& each : fs::directory_iterator(made_up_videos() / "videos"))
    if (++good <= 3) fs::copy_file(each.path(), mixed / each.path().filename());
  std::string const d = made_up_videos().string(), all = d + "/train.csv ", more = "--model tiny --batch 2 --pairs 8 ";
  for (bool const trains : {true, false}) {
    outcome const r = l3("train " + more + "--train " + (trains ? quoted(mute) : all) + "--valid " +
                         (trains ? d + "/valid.csv " : quoted(mute)) + "--out " + quoted(run));
    INFO(r.err);
    CHECK(r.code == 1);
    CHECK_THAT(r.err, Contains((trains ? "--train " : "--valid ") + mute.string() + ", 2 videos: expected at least 2"));
    CHECK_FALSE(fs::exists(run));
  }
  outcome const r = l3("train " + more + "--valid-pairs 40 --valid-every 1 --json --train " + all + "--valid " +
                       quoted(mixed) + "--out " + quoted(run));
  INFO(r.err);
  REQUIRE(r.code == 0);
  CHECK_THAT(r.err, Contains("validation: refused") && Contains("1 validation files were refused"));
  json const said = json::parse(r.out);
  CHECK(said.at("refused") == 0);
  CHECK(said.at("refused_in_validation") == 1);
  CHECK_FALSE(fs::exists(run / "refused.jsonl"));
  std::string const kept = content(run / "refused-validation.jsonl");
  CHECK(std::count(kept.begin(), kept.end(), '\n') == 1);
  CHECK_THAT(kept, Contains("bad.mp4"));
  outcome const page = l3("report " + quoted(run));
  CHECK(page.code == 0);
  CHECK_THAT(content(run / "report.html"), Contains("1 validation videos were refused."));
  // A line that a crash tore, and going on twice.
  std::ofstream(run / "refused-validation.jsonl", std::ios::app) << "{\"file\":\"to";
  for (char const* pairs : {"12", "16"}) {
    outcome const on = l3("train --resume --json --pairs " + std::string(pairs) + " --out " + quoted(run));
    INFO(on.err);
    REQUIRE(on.code == 0);
    CHECK(json::parse(on.out).at("refused_in_validation") == 1);
    CHECK(content(run / "refused-validation.jsonl") == kept);
  }
}

TEST_CASE("a video that is damaged in the middle is passed over there alone") {
  fs::path const data = scratch() / "hurt_videos", run = scratch() / "hurt_run";
  fs::create_directories(data);
  std::vector<fs::path> videos;
  for (auto const& each : fs::directory_iterator(made_up_videos() / "videos")) videos.push_back(each.path());
  std::sort(videos.begin(), videos.end());
  for (std::size_t k = 0; k != 5; ++k) fs::copy_file(videos[k], data / videos[k].filename());
  std::string hurt = content(videos.front());
  for (std::size_t k = hurt.size() / 3; k != hurt.size() / 3 + hurt.size() / 8; ++k) hurt[k] ^= 0x5a;
  std::ofstream(data / "hurt.mp4", std::ios::binary) << hurt;
  outcome const r = l3("train --model tiny --batch 5 --pairs 200 --valid-pairs 60 --json --train " + quoted(data) +
                       " --valid " + quoted(data) + " --out " + quoted(run));
  INFO(r.err);
  REQUIRE(r.code == 0);
  json const said = json::parse(r.out);
  CHECK(said.at("refused") == 0);
  CHECK(said.at("damaged") == 1);
  CHECK(said.at("refused_in_validation") == 0);
  CHECK(said.at("damaged_in_validation") == 1);
  std::string const passed_over = "passed over a moment of " + (data / "hurt.mp4").string() + ": expected";
  CHECK_THAT(r.err, Contains("warning: " + passed_over) && Contains("warning: validation: " + passed_over));
  CHECK_THAT(content(run / "refused.jsonl"), Contains("\"scope\":\"moment\""));
  CHECK(l3("report " + quoted(run)).code == 0);
  CHECK_THAT(content(run / "report.html"), Contains("<p>0 videos were refused, 1 are damaged at some moments."));
  outcome const judged =
      l3("eval --pairs 60 --json --checkpoint " + quoted(run / "last.safetensors") + " --data " + quoted(data));
  INFO(judged.err);
  REQUIRE(judged.code == 0);
  CHECK_THAT(judged.err, Contains(passed_over));
  CHECK(json::parse(judged.out).at("refused") == 0);
  CHECK(json::parse(judged.out).at("damaged") == 1);
}

TEST_CASE("data that cannot be trained on is said plainly") {
  fs::path const none = scratch() / "no_videos", one = scratch() / "one_video";
  fs::create_directories(none), fs::create_directories(one);
  fs::copy_file(fs::directory_iterator(made_up_videos() / "videos")->path(), one / "a.mp4",
                fs::copy_options::overwrite_existing);
  auto const train = [](fs::path const& on) {
    return l3("train --train " + on.string() + " --valid " + on.string() + " --model tiny --batch 2 --pairs 8 --out " +
              (scratch() / "never").string());
  };
  for (fs::path const& on : {none, one, scratch() / "nowhere"}) {
    outcome const r = train(on);
    INFO(r.err);
    CHECK(r.code == 1);
    CHECK_THAT(r.err, Contains(on.string()) && Contains("expected") && Contains("found"));
  }
  CHECK_FALSE(fs::exists(scratch() / "never"));
}

TEST_CASE("checkpoints that are none, or of another network, are refused by name") {
  fs::path const bad = scratch() / "bad.safetensors";
  auto const eval = [&] {
    return l3("eval --pairs 8 --checkpoint " + bad.string() + " --data " + (made_up_videos() / "test.csv").string());
  };
  std::uint64_t const enormous = std::uint64_t{1} << 60;
  SECTION("a header that claims 2^60 bytes") {
    std::ofstream(bad, std::ios::binary).write(reinterpret_cast<char const*>(&enormous), 8);
  }
  SECTION("text") { std::ofstream(bad) << "weights, honestly\n"; }
  SECTION("empty") { std::ofstream(bad).flush(); }
  SECTION("cut") {
    std::string const whole = content(made_up_run() / "last.safetensors");
    std::ofstream(bad, std::ios::binary) << whole.substr(0, whole.size() / 2);
  }
  SECTION("missing") { fs::remove(bad); }
  SECTION("of an unknown model") {
    std::string whole = content(made_up_run() / "last.safetensors");
    auto const at = whole.find("tiny width");
    REQUIRE(at != whole.npos);
    std::ofstream(bad, std::ios::binary) << whole.replace(at, 4, "tint");
  }
  SECTION("not a number among the weights") {
    std::string whole = content(made_up_run() / "last.safetensors");
    std::fill(whole.end() - (1 << 20), whole.end(), '\xff');
    std::ofstream(bad, std::ios::binary) << whole;
  }
  outcome const r = eval();
  INFO(r.err);
  CHECK(r.code == 1);
  CHECK_THAT(r.err, Contains(bad.string()) && Contains("expected"));
}

TEST_CASE("a full disk keeps the checkpoint that was there") {
  fs::path const run = scratch() / "full";
  REQUIRE(l3("train " + training_data() + "--pairs 8 --seed 5 --quiet --out " + run.string()).code == 0);
  std::string const before = content(run / "last.safetensors");
  outcome const r = l3("train --resume --pairs 16 --out " + run.string(), "ulimit -f 1000; trap '' XFSZ;");
  CHECK(r.code == 1);
  CHECK_THAT(r.err, Contains("last.safetensors") || Contains("best.safetensors"));
  CHECK(content(run / "last.safetensors") == before);
  for (auto const& entry : fs::directory_iterator(run)) CHECK(entry.path().extension() != ".tmp");
}

TEST_CASE("embeddings have the sizes and times that they should") {
  std::string const checkpoint = " --checkpoint " + (made_up_run() / "best.safetensors").string();
  fs::path const out = scratch() / "embeddings";
  fs::path const video = fs::directory_iterator(made_up_videos() / "videos")->path();
  REQUIRE(l3("embed video " + video.string() + checkpoint + " --hop 0.5 --format json --out " + out.string()).code ==
          0);
  fs::path const stem = out / video.stem();
  json const sound = json::parse(content(stem.string() + "_audio.json")),
             sight = json::parse(content(stem.string() + "_image.json"));
  CHECK(sound.at("timestamps") == json({0.0, 0.5, 1.0}));
  CHECK(sound.at("embedding").size() == 3);
  CHECK(sound.at("embedding")[0].size() == 128);
  CHECK(sight.at("timestamps").size() == 4);
  outcome const grid =
      l3("embed audio " + video.string() + checkpoint + " --pool grid --hop 0.5 --format csv --out " + out.string());
  CHECK(grid.code == 0);
  std::string const csv = content(out / video.stem().replace_extension(".csv"));
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 4);
  CHECK_THAT(csv, Contains(",e1535\n"));
  SECTION("seconds that overlap share work and are those that do not") {
    fs::path const tone = scratch() / "tone.wav";
    auto const last = [&](std::string const& seconds) {
      std::string const source = "'aevalsrc=0.3*sin(400*t*t)+0.1*random(0):s=48000:d=" + seconds + "' ";
      REQUIRE(std::system(("ffmpeg -v error -y -f lavfi -i " + source + tone.string()).c_str()) == 0);
    };
    auto const rows = [&](std::string const& options, bool shares) {
      outcome const r = l3("embed audio " + tone.string() + checkpoint + options +
                           " --overwrite --format json --json --out " + out.string());
      REQUIRE(r.code == 0);
      CHECK(json::parse(r.out).at("shares_overlap") == shares);
      return json::parse(content(out / "tone.json")).at("embedding").get<std::vector<std::vector<float>>>();
    };
    // A computation takes 118 rows together, of 12.7 seconds.
    for (auto const& [seconds, count] : std::vector<std::pair<char const*, std::size_t>>{{"0.4", 1},
                                                                                         {"1", 1},
                                                                                         {"1.09", 1},
                                                                                         {"1.5", 6},
                                                                                         {"12.69", 117},
                                                                                         {"12.7", 118},
                                                                                         {"12.79", 118},
                                                                                         {"12.8", 119}}) {
      last(seconds);
      INFO(seconds << " seconds");
      CHECK(rows(" --hop 0.1", true).size() == count);
    }
    last("14.2");
    auto const often = rows(" --hop 0.1", true), seldom = rows(" --hop 1", false);
    CHECK(rows(" --hop 0.1 --batch 3", true) == often);
    CHECK(rows(" --hop 0.1001", false).size() == 132);
    REQUIRE(often.size() == 133);
    REQUIRE(seldom.size() == 14);
    auto const grids = rows(" --hop 0.1 --pool grid", true), few_grids = rows(" --hop 1 --pool grid", false);
    REQUIRE(grids.size() == 133);
    for (std::size_t k = 0; k < seldom.size(); ++k) {
      for (std::size_t d = 0; d < seldom[k].size(); ++d)
        CHECK(often[10 * k][d] == Approx(seldom[k][d]).epsilon(1e-4).margin(1e-5));
      for (std::size_t d = 0; d < few_grids[k].size(); ++d)
        CHECK(grids[10 * k][d] == Approx(few_grids[k][d]).epsilon(1e-4).margin(1e-5));
    }
  }
  SECTION("a picture has one row and no time, and .npz holds the same numbers") {
    fs::path const picture = scratch() / "picture.png";
    REQUIRE(std::system(("ffmpeg -v error -y -f lavfi -i testsrc=s=96x72 -frames:v 1 " + picture.string()).c_str()) ==
            0);
    REQUIRE(l3("embed image " + picture.string() + checkpoint + " --format json --out " + out.string()).code == 0);
    json const still = json::parse(content(out / "picture.json"));
    CHECK(still.at("embedding").size() == 1);
    CHECK(still.at("embedding")[0].size() == 128);
    CHECK_FALSE(still.contains("timestamps"));
    REQUIRE(l3("embed image " + picture.string() + checkpoint + " --out " + out.string()).code == 0);
    auto const values = still.at("embedding")[0].get<std::vector<float>>();
    std::string const bytes(reinterpret_cast<char const*>(values.data()), values.size() * sizeof(float));
    std::string const npz = content(out / "picture.npz");
    CHECK_THAT(npz, Contains("embedding.npy") && Contains("(1, 128)") && Contains(bytes));
    CHECK(npz.find("timestamps") == npz.npos);
  }
  SECTION("the batch does not change them, and outputs that exist are left alone unless told") {
    outcome const skipped = l3("embed video " + video.string() + checkpoint +
                               " --hop 0.5 --format json --batch 1 --json --out " + out.string());
    CHECK(json::parse(skipped.out).at("skipped") == 2);
    json const existing = json::parse(skipped.out).at("existing");
    REQUIRE(existing.size() == 2);
    CHECK(existing[0] == json{{"file", video.string()}, {"output", stem.string() + "_audio.json"}});
    CHECK(existing[1] == json{{"file", video.string()}, {"output", stem.string() + "_image.json"}});
    REQUIRE(l3("embed video " + video.string() + checkpoint + " --hop 0.5 --format json --batch 1 --overwrite --out " +
               out.string())
                .code == 0);
    CHECK(json::parse(content(stem.string() + "_audio.json")) == sound);
    CHECK(json::parse(content(stem.string() + "_image.json")) == sight);
  }
  SECTION("outputs of other settings are not taken for those that are wanted") {
    std::string const other = "embed video " + video.string() + checkpoint + " --hop 1 --format json --json --out ";
    outcome const refused = l3(other + out.string());
    CHECK(refused.code == 2);
    CHECK_THAT(refused.err, Contains("_audio.json") && Contains("hop 1.0, --overwrite") && Contains("with 0.5"));
    CHECK(json::parse(content(stem.string() + "_audio.json")) == sound);
    CHECK(json::parse(l3(other + out.string() + " --overwrite").out).at("outputs").size() == 2);
    CHECK(json::parse(content(stem.string() + "_audio.json")) != sound);
    // What is gone is made again; a note that a crash has torn does not count.
    fs::remove(stem.string() + "_audio.json");
    std::string const note = content(out / "l3-embed.jsonl");
    std::ofstream(out / "l3-embed.jsonl") << note << R"({"key": "00)";
    json const rest = json::parse(l3(other + out.string()).out);
    CHECK(rest.at("skipped") == 1);
    CHECK(rest.at("outputs").size() == 1);
    CHECK(json::parse(l3(other + out.string()).out).at("skipped") == 2);
    CHECK(l3("embed video " + video.string() + checkpoint + " --hop 0.5 --format json --out " + out.string()).code ==
          2);
    // Nor are those of another file, or of what the file was before.
    fs::path const namesake = scratch() / "namesake" / video.filename(), changed = scratch() / "changed.mp4";
    fs::create_directories(namesake.parent_path());
    fs::copy_file(made_up_videos() / "videos/00002.mp4", namesake, fs::copy_options::overwrite_existing);
    std::string const again = " --hop 1 --format json --json --out " + out.string();
    outcome const of_another = l3("embed video " + namesake.string() + checkpoint + again);
    CHECK(of_another.code == 2);
    CHECK_THAT(of_another.err, Contains("made of " + namesake.string()) && Contains("made of " + video.string()));
    // Zeros behind a file change nothing.
    auto const size = std::max(fs::file_size(video), fs::file_size(namesake)) + (1 << 20);
    fs::copy_file(video, changed, fs::copy_options::overwrite_existing);
    fs::resize_file(changed, size);
    std::string const embed = "embed video " + changed.string() + checkpoint + again;
    CHECK(json::parse(l3(embed).out).at("outputs").size() == 2);
    CHECK(json::parse(l3(embed).out).at("skipped") == 2);
    std::string const before = content(out / "changed_audio.json");
    auto const time = fs::last_write_time(changed);
    fs::copy_file(namesake, changed, fs::copy_options::overwrite_existing);
    fs::resize_file(changed, size);
    fs::last_write_time(changed, time + std::chrono::milliseconds(1));
    CHECK(json::parse(l3(embed).out).at("outputs").size() == 2);
    CHECK(content(out / "changed_audio.json") != before);
    // A byte may be all that has changed, anywhere.
    std::string bytes = content(changed);
    bytes[bytes.size() - 300'000] = 'x';
    std::ofstream(changed, std::ios::binary) << bytes;
    fs::last_write_time(changed, time + std::chrono::milliseconds(2));
    CHECK(json::parse(l3(embed).out).at("outputs").size() == 2);
    fs::last_write_time(changed, time + std::chrono::milliseconds(3));  // touched alone
    CHECK(json::parse(l3(embed).out).at("skipped") == 2);
    // Written, but the process was killed before it could say so.
    std::string told = content(out / "l3-embed.jsonl");
    told.erase(told.rfind("\n", told.size() - 2) + 1);
    std::ofstream(out / "l3-embed.jsonl") << told;
    CHECK(json::parse(l3(embed).out).at("outputs").size() == 1);
    // Of unknown make, as those of older versions, outputs are left alone.
    fs::remove(out / "l3-embed.jsonl");
    outcome const kept = l3(other + out.string());
    CHECK(json::parse(kept.out).at("skipped") == 2);
    CHECK(json::parse(kept.out).at("unknown_make").size() == 2);
    CHECK_THAT(kept.err, Contains("2 outputs are kept of which nobody knows what made them"));
    CHECK_FALSE(fs::exists(out / "l3-embed.jsonl"));
  }
}

TEST_CASE("outputs are named below a root, whichever files there are, and one that is not there moves no other") {
  std::string const checkpoint = " --checkpoint " + (made_up_run() / "best.safetensors").string() + " --json --out ";
  fs::path const in = scratch() / "rooted";
  for (auto const& [name, source] : {std::pair{"a/tone.wav", "sine"}, std::pair{"b/none.wav", "anullsrc"}}) {
    fs::create_directories((in / name).parent_path());
    REQUIRE(std::system((std::string("ffmpeg -v error -y -f lavfi -i ") + source + " -t 1.5 " + (in / name).string())
                            .c_str()) == 0);
  }
  auto const embed = [&](std::string const& files, std::string const& to) {
    return l3("embed audio " + files + checkpoint + (scratch() / to).string());
  };
  std::string const a = (in / "a/tone.wav").string(), b = (in / "b/none.wav").string(), root = " --root " + in.string();
  outcome const one = embed(a + root, "below"), other = embed(b + root, "below"), both = embed(a + " " + b, "common");
  for (char const* to : {"below/a/tone.npz", "below/b/none.npz", "common/a/tone.npz", "common/b/none.npz"})
    CHECK(fs::exists(scratch() / to));
  json const made = json::parse(both.out).at("outputs");
  CHECK(made.at(0).at("silent") == false);
  CHECK(made.at(1).at("silent") == true);
  CHECK(made.at(1).at("short") == false);
  CHECK_THAT(both.err, Contains("none.wav: silent from beginning to end"));
  outcome const outside = embed(a + root + "/b", "below");
  CHECK(outside.code == 2);
  CHECK_THAT(outside.err, Contains("--root") && Contains("a folder that all files lie below") && Contains("tone.wav"));
  outcome const mistyped = embed("/nowhere/x.wav " + a, "typo");
  CHECK(mistyped.code == 3);
  CHECK(fs::exists(scratch() / "typo/tone.npz"));
  // A time stamp is a whole number of samples.
  REQUIRE(l3("embed audio " + a + " --hop 0.1 --format json" + checkpoint + (scratch() / "times").string()).code == 0);
  json const times = json::parse(content(scratch() / "times/tone.json")).at("timestamps");
  REQUIRE(times.size() == 6);
  for (std::size_t k = 0; k != times.size(); ++k) CHECK(times[k] == static_cast<double>(k * 4800) / 48000);
}

TEST_CASE("files are read ahead by any number of threads, and embedded together, and give what each gives alone") {
  std::string const checkpoint = " --checkpoint " + (made_up_run() / "best.safetensors").string();
  fs::path const files = scratch() / "ahead", out = scratch() / "ahead_embeddings";
  fs::create_directories(files);
  std::size_t videos = 0;
  for (auto const& each : fs::directory_iterator(made_up_videos() / "videos")) {
    fs::copy_file(each.path(), files / each.path().filename(), fs::copy_options::overwrite_existing);
    if (++videos == 7) break;
  }
  std::string const make = "ffmpeg -v error -y -f lavfi -i ";
  for (auto const& [name, seconds] : {std::pair{"a_long", "9.3"}, std::pair{"z_short", "1.05"}})
    REQUIRE(std::system((make + "testsrc=s=96x72:r=10:d=" + seconds + " -f lavfi -i sine=d=" + seconds + " " +
                         (files / name).string() + ".mp4")
                            .c_str()) == 0);
  REQUIRE(std::system((make + "testsrc=s=96x72:r=10:d=1 " + (files / "mute.mp4").string()).c_str()) == 0);
  std::ofstream(files / "broken.mp4") << "no video at all";

  auto const embed = [&](fs::path const& from, std::string const& options, fs::path const& to) {
    outcome const r = l3("embed video " + from.string() + checkpoint + options + " --json --out " + to.string());
    INFO(r.err);
    CHECK(r.code == (fs::is_directory(from) ? 3 : 0));
    return json::parse(r.out);
  };
  for (std::string const options : {" --hop 0.25", " --hop 1 --align"}) {
    auto const all = embed(files, options + " --batch 5 --workers 5", out / options.substr(7));
    CHECK(all.at("outputs").size() == 2 * (videos + 2) + (options.ends_with("align") ? 0 : 1));
    std::string before;
    for (json const& made : all.at("outputs")) {
      fs::path const source = made.at("file").get<std::string>(), file = made.at("output").get<std::string>();
      INFO(file);
      CHECK(before <= source);
      before = source;
      if (source.stem() == "mute") continue;
      embed(source, options + " --batch 1 --workers 1 --overwrite", scratch() / "alone");
      CHECK(content(scratch() / "alone" / file.filename()) == content(file));
    }
    REQUIRE(all.at("refused").size() == 2);
    CHECK_THAT(all.at("refused")[0].dump(), Contains("broken.mp4"));
    CHECK_THAT(all.at("refused")[1].dump(), Contains("mute.mp4") && Contains("a file with sound"));
  }
  {  // A name too long for an output's is refused, and the others are done.
    fs::path const lengthy = scratch() / "lengthy";
    fs::create_directories(lengthy);
    for (std::string const& name : {std::string("a"), "m" + std::string(249, 'y'), std::string("z")})
      fs::copy_file(files / "z_short.mp4", lengthy / (name + ".mp4"), fs::copy_options::overwrite_existing);
    outcome const r =
        l3("embed video " + lengthy.string() + checkpoint + " --json --out " + (out / "lengthy").string());
    CHECK(r.code == 3);
    CHECK(json::parse(r.out).at("outputs").size() == 4);
    CHECK_THAT(json::parse(r.out).at("refused").at(0).at("why").get<std::string>(), Contains("255 bytes"));
  }
  SECTION("where a file cannot be written the work has failed") {
    fs::create_directories(out / "wall" / "a_long_audio.npz" / "in the way");
    outcome const r =
        l3("embed video " + files.string() + checkpoint + " --hop 1 --overwrite --out " + (out / "wall").string());
    CHECK(r.code == 1);
    CHECK_THAT(r.err, Contains("a_long_audio.npz"));
  }
}

TEST_CASE("embeddings interrupted by Ctrl-C are whole or not there, and the next run makes the others") {
  fs::path const files = scratch() / "many", out = scratch() / "many_embeddings";
  fs::create_directories(files);
  fs::path const video = fs::absolute(fs::directory_iterator(made_up_videos() / "videos")->path());
  std::size_t const count = 600;
  for (std::size_t k = 0; k < count; ++k) fs::create_symlink(video, files / (std::to_string(1000 + k) + ".mp4"));
  std::string const command = "embed audio " + files.string() + " --threads 2 --checkpoint " +  // seconds everywhere
                              (made_up_run() / "best.safetensors").string() + " --hop 0.1 --out " + out.string();
  int const status = std::system(
      ("(set -m; '" L3_PROGRAM "' " + command + " --json >" + (scratch() / "told").string() + " 2>" +
       (scratch() / "said").string() + " & pid=$!; for k in $(seq 3000); do test -e " + (out / "1010.npz").string() +
       " && break; kill -0 $pid || break; sleep 0.01; done; kill -INT $pid; wait $pid; exit $?)")
          .c_str());
  CHECK(WEXITSTATUS(status) == 130);
  std::size_t made = 0;
  for (auto const& each : fs::directory_iterator(out))
    if (each.path().filename() != "l3-embed.jsonl") made += each.path().extension() == ".npz" ? 1 : 1000;
  CHECK((made > 0 && made < count));
  json const told = json::parse(content(scratch() / "told"));
  CHECK(told.at("interrupted") == true);
  CHECK(told.at("outputs").size() == made);
  outcome const rest = l3(command + " --json");
  INFO(rest.err);
  CHECK(rest.code == 0);
  CHECK(json::parse(rest.out).at("skipped") == made);
  CHECK(json::parse(rest.out).at("interrupted") == false);
  CHECK(json::parse(rest.out).at("outputs").size() == count - made);
  CHECK(content(out / "1000.npz") == content(out / "1599.npz"));

  // Two at once that want the same output of different settings do not both say that they have made it.
  fs::path const shared = scratch() / "shared";
  std::string const beginning = command.substr(0, command.find(" --hop"));
  int const of_first =
      std::system(("('" L3_PROGRAM "' " + beginning + " --hop 0.1 --quiet --out " + shared.string() + " 2>" +
                   (scratch() / "said").string() + " & first=$!; for k in $(seq 3000); do test -e " +
                   (shared / "1010.npz").string() + " && break; kill -0 $first || break; sleep 0.01; " +
                   "done; '" L3_PROGRAM "' embed audio " + (files / "1599.mp4").string() +
                   " --hop 0.2 --quiet --checkpoint " + (made_up_run() / "best.safetensors").string() + " --out " +
                   shared.string() + " || exit 99; wait $first; exit $?)")
                      .c_str());
  CHECK(WEXITSTATUS(of_first) == 2);
  CHECK_THAT(content(scratch() / "said"), Contains("1599.npz") && Contains("another process"));
  CHECK(content(shared / "1599.npz") != content(shared / "1000.npz"));
}

TEST_CASE("real media: every stream there is gives embeddings, every missing one a reason") {
  fs::path const zoo = shared_data("media-zoo");
  if (zoo.empty()) {
    std::puts("SKIPPED: no media-zoo in L3_SHARED_DATA");
    return;
  }
  std::string const checkpoint = " --checkpoint " + (made_up_run() / "best.safetensors").string();
  fs::path const out = scratch() / "zoo";
  outcome const r =
      l3("embed video " + zoo.string() + checkpoint + " --hop 1 --format json --json --out " + out.string());
  CHECK(r.code == 3);  // most have no sound
  json const report = json::parse(r.out);
  CHECK(fs::exists(out / "nasa_13013_audio.json"));
  for (char const* name : {"nasa_13013", "h265_video", "h264_10bits", "bt709_full_range", "video_0", "video_90"}) {
    INFO(name);
    CHECK(fs::exists(out / (std::string(name) + "_image.json")));
  }
  for (json const& output : report.at("outputs")) {
    json const made = json::parse(content(output.at("output").get<std::string>()));
    INFO(output.at("output"));
    CHECK(made.at("embedding").size() == output.at("rows"));
    CHECK(made.at("timestamps").size() == output.at("rows"));
    for (std::size_t k = 0; k < made.at("timestamps").size(); ++k) CHECK(made.at("timestamps")[k] == double(k));
    for (json const& row : made.at("embedding")) {
      CHECK(row.size() == 128);
      CHECK(std::all_of(row.begin(), row.end(), [](json const& v) { return v.is_number(); }));  // not finite: null
    }
  }
  for (json const& refusal : report.at("refused")) CHECK_FALSE(refusal.at("why").get<std::string>().empty());
  outcome const audio =
      l3("embed audio " + (zoo / "sine_mono_s16.wav").string() + " " + (zoo / "sine_mono_s32_8000.wav").string() + " " +
         (zoo / "nasa_13013.mp4.audio.mp3").string() + checkpoint + " --hop 1 --json --out " +
         (scratch() / "zoo_audio").string());
  INFO(audio.err);
  CHECK(audio.code == 0);
  for (json const& made : json::parse(audio.out).at("outputs")) CHECK(made.at("rows").get<int>() >= 4);
}

TEST_CASE("the paper's network makes a training step of batch 16 within its memory plan", "[slow]") {
  json const plan = json::parse(l3("info --model paper --batch 16 --threads 2 --json").out);
  json const step =
      json::parse(l3("bench net --model paper --what train --batch 16 --seconds 0 --threads 2 --json").out);
  double const mebibyte = 1 << 20;
  double const planned =
      (plan.at("training_bytes").get<double>() + 4 * plan.at("weight_bytes").get<double>()) / mebibyte;
  double const peak = step.at("peak_mib").get<double>();
  INFO("planned " << planned << " MiB, measured " << peak << " MiB");
  CHECK(peak > 0.9 * planned);
  CHECK(peak < planned + 256);  // program, libraries and one batch
  CHECK(peak < 24 * 1024);
}

TEST_CASE("the example that embeds sound as it comes says what embed says of the same sound") {
  fs::path const program = fs::path(L3_PROGRAM).parent_path() / "examples" / "embed_live";
  if (!fs::exists(program)) {
    std::puts("SKIPPED: the examples are not built");
    return;
  }
  constexpr std::uint32_t rate = 48000, count = rate * 235 / 100;
  std::vector<float> samples(count);
  std::uint32_t state = 1;
  for (std::size_t k = 0; k != count; ++k) {
    state = state * 1664525 + 1013904223;  // noise that swells, so that no second is like another
    samples[k] = (static_cast<float>(state >> 8) / (1 << 24) - 0.5f) * static_cast<float>(k) / count;
  }
  std::string const bytes(reinterpret_cast<char const*>(samples.data()), count * sizeof(float));
  auto const number = [](std::uint32_t n, int size) {
    std::string s;
    for (int k = 0; k != size; ++k) s += static_cast<char>(n >> 8 * k & 255);
    return s;
  };
  auto const bytes_of = static_cast<std::uint32_t>(bytes.size());
  std::ofstream(scratch() / "live.raw", std::ios::binary) << bytes;
  std::ofstream(scratch() / "live.wav", std::ios::binary)  // one channel of floats
      << "RIFF" << number(36 + bytes_of, 4) << "WAVEfmt " << number(16, 4) << number(3, 2) << number(1, 2)
      << number(rate, 4) << number(4 * rate, 4) << number(4, 2) << number(32, 2) << "data" << number(bytes_of, 4)
      << bytes;
  std::string const checkpoint = quoted(made_up_run() / "best.safetensors");
  REQUIRE(l3("embed audio " + quoted(scratch() / "live.wav") + "--hop 0.1 --format json --checkpoint " + checkpoint +
             "--out " + quoted(scratch() / "live"))
              .code == 0);
  json const file = json::parse(content(scratch() / "live/live.json"));
  auto const expected = file.at("embedding").get<std::vector<std::vector<double>>>();
  auto const times = file.at("timestamps").get<std::vector<double>>();
  REQUIRE(expected.size() == 14);

  fs::path const said = scratch() / "live.csv", complaint = scratch() / "live.err";
  auto const live = [&](fs::path const& from) {
    return std::system(
        (quoted(program) + checkpoint + "<" + quoted(from) + ">" + quoted(said) + "2>" + quoted(complaint)).c_str());
  };
  REQUIRE(live(scratch() / "live.raw") == 0);
  std::istringstream lines(content(said));
  std::string line;
  for (std::size_t k = 0; k != expected.size(); ++k) {
    REQUIRE(std::getline(lines, line));
    std::istringstream row(line);
    double value;
    REQUIRE(row >> value);
    CHECK(value == Approx(times[k]));
    double const largest = *std::max_element(expected[k].begin(), expected[k].end());
    for (double const wanted : expected[k]) {
      char comma;
      REQUIRE(row >> comma >> value);
      CHECK(std::abs(value - wanted) <= 1e-4 * largest);
    }
  }
  CHECK_FALSE(std::getline(lines, line));
  CHECK(WEXITSTATUS(live("/dev/null")) == 1);
  CHECK_THAT(content(complaint), Contains("a second of samples") && Contains("found 0 samples"));
}
