// Settings of a training.
#include "training_options.hpp"

#include <algorithm>
#include <iterator>
#include <l3/data/reservoir.hpp>
#include <l3/train/checkpoint.hpp>
#include <type_traits>

namespace l3::program {
namespace {

/// Settings that config.json keeps: option name and where its value is.
template <class F>
void for_each_setting(training_options& o, F&& f) {
  f("train", o.train), f("valid", o.valid), f("model", o.model), f("precision", o.on.precision);
  f("batch", o.batch), f("accumulate", o.accumulate), f("pairs", o.pairs), f("lr", o.learning_rate);
  f("weight-decay", o.weight_decay), f("warmup", o.warm_up), f("seed", o.seed), f("valid-every", o.valid_every);
  f("valid-pairs", o.valid_pairs), f("save-every", o.save_every), f("save-minutes", o.save_minutes);
  f("log-every", o.log_every);
  f("clip-seconds", o.seconds), f("draws-per-opening", o.opening.draws), f("reservoir", o.opening.videos);
  f("tensorboard", o.tensorboard);
}

json config_of(training_options& o, extra_settings const& extra, std::size_t together) {
  json config;
  for_each_setting(o, [&](char const* name, auto const& value) { config[name] = value; });
  config["draws-a-step"] = together;
  config.update(extra);
  return config;
}

/// What runs note in config.json beside their settings.
bool is_noted(std::string const& name) {
  constexpr char const* notes[] = {"task",         "what",   "classes",         "draws-a-step",
                                   "init-weights", "trunks", "training-videos", "validation-videos"};
  return std::ranges::find(notes, name) != std::end(notes);
}

/// An entry of a file of settings, as if the command line said so, where it does not.
void take_setting(CLI::App& command, std::string const& file, std::string const& name, json const& value) {
  auto const require = [&](bool fits, std::string const& expected) {
    if (!fits) throw setting_error({file, expected + " for \"" + name + '"', json_text(value)});
  };
  CLI::Option* const option = command.get_option_no_throw("--" + name);
  if (option == nullptr) {
    bool fits = is_noted(name) || value == "";
    training_options usual;
    for_each_setting(usual, [&](char const* setting, auto const& here) { fits |= name == setting && value == here; });
    if (!fits) throw setting_error({file, "options of `l3 " + command_path(command) + '`', '"' + name + '"'});
    return;
  }
  if (name == "config" || name == "resume" || name == "help")
    throw setting_error({file, "no such option in a file", '"' + name + '"'});
  if (option->get_expected_max() == 0) {  // a flag
    require(value.is_boolean(), "true or false");
    if (value == true && option->empty()) option->add_result("true");
    return;
  }
  std::string const type = option->get_type_name();
  bool const is_number = type.starts_with("UINT") || type.starts_with("INT") || type.starts_with("FLOAT");
  require(is_number ? value.is_number() : value.is_string(), is_number ? "a number" : "a text");
  std::string const text = is_number ? value.dump() : value.get<std::string>();
  if (text.empty() || !option->empty()) return;
  option->add_result(text);
  try {
    option->run_callback();
  } catch (CLI::ParseError const& e) {
    throw CLI::ValidationError(file, e.what());
  }
}

void take_settings(CLI::App& command, std::string const& file) {
  if (command.count("--resume") > 0)
    throw setting_error(
        {"--config with --resume", "one of the two: a run that is gone on with keeps its settings", "both"});
  json const settings = read_config(file);
  for (auto const& [name, value] : settings.items()) take_setting(command, file, name, value);
}

}  // namespace

void take_config(CLI::App& command, training_options& o, extra_settings& extra, run_folder const& run) {
  std::string const file = (run.folder() / "config.json").string();
  // What runs of version 0.1.0 lack, as they were.
  json config{{"backend", "cpu"},       {"task", extra.at("task")}, {"pairing-scope", "all"},
              {"accumulate", 1},        {"sync-batch-norm", false}, {"init", ""},
              {"draws-per-opening", 1}, {"reservoir", 64},          {"tensorboard", false},
              {"save-minutes", 30}};
  config.update(run.config());
  auto const take = [&](std::string const& name, auto& value) {
    if (!config.contains(name)) throw format_error({file, "the setting \"" + name + '"', "none"});
    auto old = value;
    json const& kept = config[name];
    bool fits = !kept.is_number() || kept >= 0;
    try {
      kept.get_to(old);
      fits = fits && json(old) == kept;  // not one that was cut to fit
    } catch (json::exception const&) {
      fits = false;
    }
    if (!fits) throw format_error({file, "a value for \"" + name + "\" like " + json(value).dump(), kept.dump()});
    CLI::Option const* const option = command.get_option_no_throw("--" + name);
    bool const given = option != nullptr && option->count() > 0;
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, json>)
      if (old.type() != value.type())
        throw format_error({file, "a value for \"" + name + "\" like " + value.dump(), old.dump()});
    if (given && (name == "lr" || (name == "pairs" && !(json(value) < json(old))))) return;
    // As long as the draws of a step stay the same, and the videos.
    for (char const* free : {"batch", "accumulate", "train", "valid", "valid-every", "save-every", "save-minutes",
                             "log-every", "tensorboard"})
      if (given && name == free) return;
    if (option == nullptr && value != old)
      throw setting_error({o.out + " with --resume",
                           "a run with " + name + ' ' + json(value).dump() + ", as this command trains it",
                           "one with " + json(old).dump()});
    if (given && value != old)
      throw setting_error({"--" + name + (o.again.empty() ? " with --resume" : ", to go on in " + o.out),
                           (name == "pairs" ? "at least " : "") + json(old).dump() + " as in " + file,
                           json(value).dump()});
    value = old;
  };
  for_each_setting(o, take);
  for (auto& [name, value] : extra.items()) take(name, value);
}

void keep_extra(extra_settings& extra, run_folder const& run) {
  for (char const* print : {"trunks", "init-weights"})
    if (!extra.contains(print) && run.config().contains(print)) extra[print] = run.config()[print];
  for (auto const& [name, value] : extra.items())
    if (run.config().contains(name) && run.config()[name] != value)
      throw setting_error(
          {"the run's " + name + ", with --resume", run.config()[name].dump() + " as when it began", value.dump()});
}

training_plan plan_training(training_options& o, extra_settings const& extra, std::optional<run_folder> const& run,
                            model_facts const& facts, pairing which, std::size_t videos, std::size_t processes) {
  bool const is_default = o.batch == 0;
  if (is_default) o.batch = facts.batch;
  if (o.learning_rate == 0) o.learning_rate = facts.learning_rate;

  constexpr std::size_t most = 0x7FFFFFFF;
  if (o.accumulate == 0) throw setting_error({"--accumulate", "at least 1", "0"});
  if (o.batch > most / o.accumulate / processes)
    throw setting_error({"--batch times --accumulate times the number of processes", "at most 2^31 - 1",
                         "--batch " + std::to_string(o.batch)});
  training_plan plan;
  plan.own = o.batch * o.accumulate, plan.together = plan.own * processes;
  plan.valid_batch = std::min<std::size_t>(o.batch, 64);
  std::size_t const together = plan.together;
  if (run) {
    char const* const name = run->config().contains("draws-a-step") ? "draws-a-step" : "batch";
    json const& given = run->config()[name];
    if (!given.is_number_unsigned())
      throw format_error(
          {(run->folder() / "config.json").string(), std::string("a number \"") + name + '"', given.dump()});
    auto const before = given.get<std::size_t>();
    if (before != together)
      throw setting_error({"--batch times --accumulate times the number of processes, with --resume",
                           std::to_string(before) + " as when the run began", std::to_string(together)});
  }
  if (together != o.batch) plan.workers = " (of all workers " + std::to_string(together) + ")";
  if (which == pairing::all && together > videos)
    throw setting_error({"--batch", "at most the number of training videos, " + std::to_string(videos),
                         std::to_string(o.batch) + (is_default ? ", its default" : "") + plan.workers});
  if (o.opening.draws > 1 && together != o.batch)
    throw setting_error({"--draws-per-opening", "1 where workers share a batch", std::to_string(o.opening.draws)});
  if (extra.value("sync-batch-norm", false) && o.accumulate > 1)
    throw setting_error({"--sync-batch-norm", "one batch for each process (--accumulate 1)",
                         std::to_string(o.accumulate) + ", one after the other"});
  if (o.batch < 2 || (which == pairing::paper && o.batch % 2 != 0))
    throw setting_error({"--batch", which == pairing::paper ? "an even number, half for each label" : "at least 2",
                         std::to_string(o.batch)});
  if (o.opening.draws > 1) {  // or refused, before anything is written
    if (which == pairing::paper && o.batch % 4 != 0)
      throw setting_error(
          {"--batch, with --pairing paper and --draws-per-opening", "a multiple of four", std::to_string(o.batch)});
    if (o.batch % o.opening.draws != 0 && o.opening.draws % o.batch != 0)
      throw setting_error({"--draws-per-opening", "a divisor or a multiple of --batch, " + std::to_string(o.batch),
                           std::to_string(o.opening.draws)});
    [[maybe_unused]] reservoir const fits(o.seed, o.batch, videos, o.opening.draws, o.opening.videos);
  }
  plan.last_step = o.pairs / together + (o.pairs % together == 0 ? 0 : 1);
  if (o.valid_every == 0)  // a short training is not to validate longer than it trains
    o.valid_every = std::max<std::uint64_t>({1, plan.last_step / 20, (o.valid_pairs + together - 1) / together});
  if (o.save_every == 0) o.save_every = o.valid_every;
  plan.config = plan.settings = config_of(o, extra, together);
  for (char const* elsewhere : {"train", "valid", "pairs", "valid-every", "valid-pairs", "save-every", "save-minutes",
                                "log-every", "init", "vision", "audio", "accumulate", "tensorboard"})
    plan.settings.erase(elsewhere);
  return plan;
}

void require_own(run_folder const& run, json const& settings, std::uint64_t seed) {
  checkpoint_facts const facts = read_checkpoint_facts(run.last());
  auto const require = [&](std::string const& what, json const& expected, json const& found) {
    if (found != expected)
      throw format_error({run.last().string(), "a checkpoint of this run, with " + what + ' ' + expected.dump(),
                          "one with " + found.dump() + " (--init begins with another run's weights)"});
  };
  require("seed", seed, facts.seed);
  json const old = json_if_any(facts.settings);
  if (!old.is_object()) return;
  for (auto const& [name, value] : settings.items())
    if (old.contains(name) && name != "lr" && name != "batch") require(name, value, old[name]);
}

void training_options::add_to(CLI::App& command) {
  command.add_option_function<std::string>(
      "--config", [&command](std::string const& file) { take_settings(command, file); },
      "Settings for options that are not given: JSON, as a run's config.json");
  command.add_option("--train", train, "DATA to learn from");
  command.add_option("--valid", valid, "DATA to validate on, other videos");
  command.add_option("--out", out, "Folder of the run")->required();
  command.add_option("--model", model, "paper, small or tiny")
      ->check(CLI::IsMember(model_names))
      ->capture_default_str();
  on.add_to(command);
  command.add_option("--batch", batch, "Draws of a worker in a step; 0: the model's default (64; paper 16)")
      ->capture_default_str();
  command.add_option("--pairs", pairs, "Draws in total, a resumed part included")
      ->capture_default_str()
      ->check(above_zero);
  command.add_option("--lr", learning_rate, "Learning rate; 0: the model's default (1e-3; paper 1e-4)")
      ->capture_default_str()
      ->check(zero_or_more);
  command.add_option("--warmup", warm_up, "Steps over which the learning rate rises to its value")
      ->capture_default_str();
  command.add_option("--weight-decay", weight_decay, "L2 on the weights of convolutions and dense layers")
      ->capture_default_str()
      ->check(zero_or_more);
  command.add_option("--seed", seed, "Everything random follows from it")->capture_default_str();
  command
      .add_option("--valid-every", valid_every,
                  "Steps between validations; 0: a twentieth of the training, at least --valid-pairs draws")
      ->capture_default_str();
  command.add_option("--valid-pairs", valid_pairs, "Pairs to validate on, an even number")
      ->capture_default_str()
      ->check(above_zero)
      ->check(even);
  command.add_option("--save-every", save_every, "Steps between checkpoints; 0: with each validation")
      ->capture_default_str();
  command.add_option("--save-minutes", save_minutes, "Minutes without a checkpoint at most, but for a step; 0: any")
      ->capture_default_str()
      ->check(zero_or_more);
  command.add_option("--log-every", log_every, "Steps between rows of log.csv")->capture_default_str();
  command.add_flag("--tensorboard", tensorboard, "The rows of log.csv also as a file of events for TensorBoard");
  add_clip_seconds(command, seconds);
  opening.add_to(command);
  add_workers(command, workers);
  command.add_flag(
      "--resume", resume,
      "Go on with the run in OUT, with its settings (but more --pairs, another --lr, the same videos elsewhere, the "
      "same draws shared out anew, and when to save, validate and log)");
  command.add_option("--dump-batches", dump, "")->group("");
  common_options::add_to(command);
}

}  // namespace l3::program
