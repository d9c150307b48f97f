// The loop that all trainings share.
#include "training.hpp"

#include <optional>
#include <type_traits>

#include "batch_dump.hpp"
#include "run_folder.hpp"

namespace l3::program {
namespace {

/// Settings that config.json keeps: option name and where its value is.
template <class F>
void for_each_setting(training_options& o, F&& f) {
  f("train", o.train), f("valid", o.valid), f("model", o.model), f("precision", o.precision);
  f("batch", o.batch), f("pairs", o.pairs), f("lr", o.learning_rate);
  f("weight-decay", o.weight_decay), f("warmup", o.warm_up), f("seed", o.seed), f("valid-every", o.valid_every);
  f("valid-pairs", o.valid_pairs), f("save-every", o.save_every), f("log-every", o.log_every);
  f("clip-seconds", o.seconds), f("draws-per-opening", o.opening.draws), f("reservoir", o.opening.videos);
}

json config_of(training_options& o, extra_settings const& extra) {
  json config;
  for_each_setting(o, [&](char const* name, auto const& value) { config[name] = value; });
  config.update(extra);
  return config;
}

/// Takes the settings of an old run; an option given now must agree, except that more pairs may be asked for, and
/// another learning rate.
void take_config(CLI::App& command, training_options& o, extra_settings& extra, run_folder const& run) {
  std::string const file = (run.folder() / "config.json").string();
  auto const take = [&](std::string const& name, auto& value) {
    if (!run.config().contains(name)) throw format_error({file, "the setting \"" + name + '"', "none"});
    auto old = value;
    try {
      run.config()[name].get_to(old);
    } catch (json::exception const&) {
      throw format_error({file, "a value for \"" + name + "\" like " + json(value).dump(), run.config()[name].dump()});
    }
    CLI::Option const* const option = command.get_option_no_throw("--" + name);
    bool const given = option != nullptr && option->count() > 0;
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, json>)
      if (old.type() != value.type())
        throw format_error({file, "a value for \"" + name + "\" like " + value.dump(), old.dump()});
    if (given && (name == "lr" || (name == "pairs" && !(json(value) < json(old))))) return;
    if ((given || option == nullptr) && value != old)
      throw setting_error({"--" + name + " with --resume", json(old).dump() + " as in " + file, json(value).dump()});
    value = old;
  };
  for_each_setting(o, [&](std::string const name, auto& value) {
    bool const is_newer = name == "draws-per-opening" || name == "reservoir";  // runs of version 0.1.0 lack these
    if (!is_newer || run.config().contains(name)) take(name, value);
  });
  for (auto& [name, value] : extra.items()) {
    if (name == "task" && !run.config().contains(name)) continue;  // all runs of version 0.1.0 were of one kind
    take(name, value);
  }
}

/// "baseline trunk".
std::string command_path(CLI::App const& command) {
  std::string path = command.get_name();
  for (CLI::App const* above = command.get_parent(); above != nullptr && above->get_parent() != nullptr;
       above = above->get_parent())
    path = above->get_name() + " " + path;
  return path;
}

}  // namespace

training_end run_training(CLI::App& command, training_options o, extra_settings extra, lesson_maker const& make) {
  std::optional<run_folder> run;
  if (o.resume) {
    run = run_folder::open(o.out);
    take_config(command, o, extra, *run);
  }
  if (o.train.empty() || o.valid.empty())
    throw setting_error({o.train.empty() ? "--train" : "--valid",
                         "a folder, CSV, list or index of videos, or a packed folder", "nothing"});
  if (o.log_every == 0) throw setting_error({"--log-every", "at least 1", "0"});
  collection const data = open_collection(o.train), valid_data = open_collection(o.valid);
  clip_list const& clips = data.clips;
  auto const net = make(o, extra, data, valid_data);
  // What the data decides, as it was? (Of what cannot be looked at any more the run knows.)
  if (run && !extra.contains("trunks") && run->config().contains("trunks")) extra["trunks"] = run->config()["trunks"];
  if (run)
    for (auto const& [name, value] : extra.items())
      if (run->config().contains(name) && run->config()[name] != value)
        throw setting_error(
            {"the run's " + name + ", with --resume", run->config()[name].dump() + " as when it began", value.dump()});
  model_facts const& facts = net->facts();
  if (o.batch == 0) o.batch = facts.batch;
  if (o.learning_rate == 0) o.learning_rate = facts.learning_rate;
  pairing const which = net->which();

  if (which == pairing::all && o.batch > clips.size())
    throw setting_error(
        {"--batch", "at most the number of training videos, " + std::to_string(clips.size()), std::to_string(o.batch)});
  if (o.batch < 2 || (which == pairing::paper && o.batch % 2 != 0))
    throw setting_error({"--batch", which == pairing::paper ? "an even number, half for each label" : "at least 2",
                         std::to_string(o.batch)});
  if (o.valid_pairs % 2 != 0)
    throw setting_error({"--valid-pairs", "an even number, half of which correspond", std::to_string(o.valid_pairs)});
  std::uint64_t const last_step = (o.pairs + o.batch - 1) / o.batch;
  if (o.valid_every == 0) o.valid_every = std::max<std::uint64_t>(1, last_step / 20);
  if (o.save_every == 0) o.save_every = o.valid_every;

  std::size_t const valid_batch = std::min<std::size_t>(o.batch, 64);
  bool const resumes = run && (std::filesystem::exists(run->last()) || run->has_progress());
  std::string const again = o.again.empty() ? "l3 " + command_path(command) + " --out " + o.out + " --resume" : o.again;
  net->prepare(o.seed,
               {.which = which,
                .batch = o.batch,
                .learning_rate = o.learning_rate,
                .warm_up_steps = o.warm_up,
                .weight_decay = o.weight_decay},
               valid_batch, resumes);
  if (resumes) net->load(run->last());
  if (!run)
    run = run_folder::create(o.out, config_of(o, extra));
  else
    run->write_config(config_of(o, extra));
  run->cut_log(net->steps());
  double best = run->best_accuracy();

  // Only what changes the numbers goes into a checkpoint, so that equal trainings give equal files.
  json settings = config_of(o, extra);
  for (char const* elsewhere :
       {"train", "valid", "pairs", "valid-every", "valid-pairs", "save-every", "log-every", "init", "vision", "audio"})
    settings.erase(elsewhere);
  auto const save = [&](std::filesystem::path const& file) {
    net->save(file, {.step = net->steps(), .seed = o.seed, .settings = settings.dump()});
  };

  auto const input = make_input(o.model);
  std::size_t refused = run->refused().size();
  loader_options reading{.seed = o.seed,
                         .batch = o.batch,
                         .pairs = which,
                         .first = net->steps(),
                         .workers = o.workers != 0 ? o.workers : o.threads};
  reading.limits.seconds = o.seconds;
  o.opening.set(reading);
  reading.known = run->refused();
  reading.on_refusal = [&](refusal const& r) {
    ++refused;
    run->refuse(r);
    o.warn("refused " + r.why);
  };
  loader_options validating{.seed = o.seed,
                            .batch = valid_batch,
                            .pairs = pairing::paper,
                            .evaluation_pairs = o.valid_pairs,
                            .workers = reading.workers,
                            .limits = reading.limits};
  validating.on_refusal = [&](refusal const& r) { o.warn("validation: refused " + r.why); };
  fixed_pairs valid(*input, valid_data, validating);

  o.say(text("Training %s on %zu videos, %s; batch %zu, %s threads; chance is %s", net->title().c_str(), clips.size(),
             facts.backend.c_str(), o.batch, o.threads == 0 ? "all" : std::to_string(o.threads).c_str(),
             net->chance().c_str()));
  if (net->steps() > 0) o.say("Resumed at step " + std::to_string(net->steps()));
  std::optional<batch_dump> dump;
  if (!o.dump.empty()) {
    dump.emplace(o.dump, facts);
    save(dump->folder() / "init.safetensors");
  }
  if (net->steps() == 0) save(run->last());

  interruption guard;
  auto const source = input->open(data, reading);
  progress bar(o, "pairs", static_cast<double>(last_step * o.batch), static_cast<double>(net->steps() * o.batch));
  using clock = std::chrono::steady_clock;
  auto const since = [](clock::time_point then) { return std::chrono::duration<double>(clock::now() - then).count(); };
  log_row row;
  std::uint64_t rows_steps = 0;
  double seconds = 0, wait = 0;
  loader_report read;
  std::optional<class_score> last_valid;
  auto const flush = [&] {
    if (rows_steps == 0) return;
    auto const n = static_cast<double>(rows_steps);
    row.loss /= n, row.accuracy /= n;
    row.pairs_per_second = static_cast<double>(rows_steps * o.batch) / seconds, row.wait_share = wait / seconds;
    loader_report const now = source->report();
    auto const since_then = now - read;
    auto const draw = since_then.stages.milliseconds_a_draw();
    row.batches_ready = since_then.mean_ready(), row.open_ms = draw.open, row.picture_ms = draw.picture;
    row.sound_ms = draw.sound, row.assemble_ms = draw.assemble;
    read = now;
    run->append(row);
    row = {}, rows_steps = 0, seconds = wait = 0;
  };
  std::uint64_t saved = net->steps();
  auto const save_last = [&] {
    flush();
    save(run->last());
    saved = net->steps();
  };
  double shown_loss = 0;
  auto const one_step = [&] {
    auto const start = clock::now();
    feed_batch const batch = source->next();
    wait += since(start);
    step_report report;
    try {
      report = net->step(batch);
    } catch (numeric_error const& e) {
      save_last();
      bar.finish();
      throw numeric_error(std::string(e.what()) + "; the state before this step is in " + run->last().string() +
                          "; to go on from it: " + again + " --lr, with less than " + text("%g", o.learning_rate));
    }
    seconds += since(start);
    if (dump) {
      float const loss = static_cast<float>(report.score.loss);
      dump->write("step", report.step, batch, {&loss, 1}, "loss", {1});
    }
    row.step = report.step, row.pairs = report.pairs, row.learning_rate = report.learning_rate;
    row.loss += report.score.loss, row.accuracy += report.score.accuracy;
    ++rows_steps;
    shown_loss = shown_loss == 0 ? report.score.loss : 0.95 * shown_loss + 0.05 * report.score.loss;
    bool const end = report.step == last_step;
    if (report.step % o.valid_every == 0 || end) {
      last_valid = net->validate(valid, o.seed);
      row.valid_loss = last_valid->loss, row.valid_accuracy = last_valid->accuracy;
      bar.finish();
      o.say(text("step %llu: loss %.4f, validation loss %.4f, accuracy %.3f",
                 static_cast<unsigned long long>(report.step), shown_loss, last_valid->loss, last_valid->accuracy));
      if (last_valid->accuracy > best + 1e-6) {  // the log holds six digits
        best = last_valid->accuracy;
        save(run->best());
      }
    }
    bar.update(static_cast<double>(report.pairs), text("loss %.4f, accuracy %.3f, loader wait %.0f %%", shown_loss,
                                                       report.score.accuracy, 100 * wait / seconds));
    if (report.step % o.log_every == 0 || row.valid_loss >= 0) flush();
    if (report.step % o.save_every == 0 || end) save_last();
  };
  try {
    while (net->steps() < last_step && interruption::signal() == 0) one_step();
    if (net->steps() != saved) save_last();  // interrupted
  } catch (...) {
    // Whatever stopped it, what was learned since the last save is kept, if that can be done.
    bar.finish();
    if (net->steps() != saved) try {
        save_last();
      } catch (error const& e) {
        o.warn(e.what());
      }
    throw;
  }
  bar.finish();

  int const signal = interruption::signal();
  if (refused > 0)
    o.say(text("%zu files were refused; why is in %s", refused, (run->folder() / "refused.jsonl").c_str()));
  if (signal != 0 && net->steps() < last_step)
    o.say("Interrupted at step " + std::to_string(net->steps()) + "; go on with: " + again);
  else
    o.say(text("Done: best validation accuracy %.3f; %s is the best, %s the last state", best, run->best().c_str(),
               run->last().c_str()));
  json result{{"steps", net->steps()},
              {"pairs", net->steps() * o.batch},
              {"loss", shown_loss > 0 ? json(shown_loss) : json()},  // null: nothing was left to do
              {"valid_loss", last_valid ? json(last_valid->loss) : json()},
              {"valid_accuracy", last_valid ? json(last_valid->accuracy) : json()},
              {"best_valid_accuracy", best < 0 ? json() : json(best)},
              {"refused", refused},
              {"seconds", bar.seconds()},
              {"last", run->last().string()},
              {"best", run->best().string()},
              {"interrupted", signal != 0}};
  return {signal != 0 && net->steps() < last_step ? 128 + signal : done, std::move(result), run->best(), run->last()};
}

void training_options::add_to(CLI::App& command) {
  command.add_option("--train", train, "DATA to learn from");
  command.add_option("--valid", valid, "DATA to validate on, other videos");
  command.add_option("--out", out, "Folder of the run")->required();
  command.add_option("--model", model, "paper, small or tiny")
      ->check(CLI::IsMember({"paper", "small", "tiny"}))
      ->capture_default_str();
  add_precision(command, precision);
  command.add_option("--batch", batch, "Draws a step; 0: the model's default (64; paper 16)")->capture_default_str();
  command.add_option("--pairs", pairs, "Draws in total, a resumed part included")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--lr", learning_rate, "Learning rate; 0: the model's default (1e-3; paper 1e-4)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command.add_option("--warmup", warm_up, "Steps over which the learning rate rises to its value")
      ->capture_default_str();
  command.add_option("--weight-decay", weight_decay, "L2 on the weights of convolutions and dense layers")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command.add_option("--seed", seed, "Everything random follows from it")->capture_default_str();
  command.add_option("--valid-every", valid_every, "Steps between validations; 0: a twentieth of the training")
      ->capture_default_str();
  command.add_option("--valid-pairs", valid_pairs, "Pairs to validate on, an even number")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--save-every", save_every, "Steps between checkpoints; 0: with each validation")
      ->capture_default_str();
  command.add_option("--log-every", log_every, "Steps between rows of log.csv")->capture_default_str();
  command.add_option("--clip-seconds", seconds, "Use only the first this many seconds of a video; 0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  opening.add_to(command);
  command.add_option("--workers", workers, "Threads that read videos; 0: as --threads")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096).description(""));
  command.add_flag("--resume", resume,
                   "Go on with the run in OUT, with its settings (but more --pairs or another --lr)");
  command.add_option("--dump-batches", dump, "")->group("");
  common_options::add_to(command);
}

}  // namespace l3::program
