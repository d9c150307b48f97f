// The loop that all trainings share.
#include "training.hpp"

#include <cmath>
#include <l3/data/reservoir.hpp>
#include <l3/files/csv.hpp>
#include <l3/train/checkpoint.hpp>
#include <l3/version.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <type_traits>
#include <utility>

#include "batch_dump.hpp"
#include "run_folder.hpp"

namespace l3::program {
namespace {

/// Settings that config.json keeps: option name and where its value is.
template <class F>
void for_each_setting(training_options& o, F&& f) {
  f("train", o.train), f("valid", o.valid), f("model", o.model), f("precision", o.on.precision);
  f("batch", o.batch), f("accumulate", o.accumulate), f("pairs", o.pairs), f("lr", o.learning_rate);
  f("weight-decay", o.weight_decay), f("warmup", o.warm_up), f("seed", o.seed), f("valid-every", o.valid_every);
  f("valid-pairs", o.valid_pairs), f("save-every", o.save_every), f("log-every", o.log_every);
  f("clip-seconds", o.seconds), f("draws-per-opening", o.opening.draws), f("reservoir", o.opening.videos);
}

json config_of(training_options& o, extra_settings const& extra, std::size_t together) {
  json config;
  for_each_setting(o, [&](char const* name, auto const& value) { config[name] = value; });
  config["draws-a-step"] = together;
  config.update(extra);
  return config;
}

/// Takes the settings of an old run; an option given now must agree, except that more pairs may be asked for, another
/// learning rate, and batches that add up to as many draws a step.
void take_config(CLI::App& command, training_options& o, extra_settings& extra, run_folder const& run) {
  std::string const file = (run.folder() / "config.json").string();
  // What runs of version 0.1.0 lack, as they were.
  json config{{"backend", "cpu"},       {"task", extra.at("task")}, {"pairing-scope", "all"},
              {"accumulate", 1},        {"sync-batch-norm", false}, {"init", ""},
              {"draws-per-opening", 1}, {"reservoir", 64}};
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
    if (given && (name == "batch" || name == "accumulate")) return;  // as long as the draws of a step stay the same
    if ((given || option == nullptr) && value != old)
      throw setting_error({"--" + name + " with --resume", json(old).dump() + " as in " + file, json(value).dump()});
    value = old;
  };
  for_each_setting(o, take);
  for (auto& [name, value] : extra.items()) take(name, value);
}

/// The last checkpoint is of a run with these settings, not of another that was copied here? Errors: format_error,
/// file_error.
void require_own(run_folder const& run, json const& settings, std::uint64_t seed) {
  checkpoint_facts const facts = read_checkpoint_facts(run.last());
  auto const require = [&](std::string const& what, json const& expected, json const& found) {
    if (found != expected)
      throw format_error({run.last().string(), "a checkpoint of this run, with " + what + ' ' + expected.dump(),
                          "one with " + found.dump() + " (--init begins with another run's weights)"});
  };
  require("seed", seed, facts.seed);
  json const old = json::parse(facts.settings, nullptr, false);
  if (!old.is_object()) return;
  for (auto const& [name, value] : settings.items())
    if (old.contains(name) && name != "lr" && name != "batch") require(name, value, old[name]);
}

/// "baseline trunk".
std::string command_path(CLI::App const& command) {
  std::string path = command.get_name();
  for (CLI::App const* above = command.get_parent(); above != nullptr && above->get_parent() != nullptr;
       above = above->get_parent())
    path = above->get_name() + " " + path;
  return path;
}

/// What the processes tell each other behind every step.
struct step_state {
  double seconds = 0, wait = 0;
  std::uint64_t print = 0;  ///< of the weights, now and then
  std::int32_t signal = 0;
  std::uint32_t refusals = 0;  ///< since the step before
};

}  // namespace

training_end run_training(CLI::App& command, training_options o, extra_settings extra, lesson_maker const& make,
                          crew& all) {
  if (!all.is_first()) o.quiet = true;
  // Alone, a signal ends what comes before the first step at once; of several processes it stops all at the same step.
  std::optional<interruption> guard;
  if (all.size() > 1) guard.emplace(all.is_first(), std::chrono::seconds(2));
  std::optional<run_folder> run;
  if (o.resume) {
    run = run_folder::open(o.out, all.is_first());
    take_config(command, o, extra, *run);
  }
  std::string const init = extra.value("init", "");
  if (!run && !init.empty()) {  // what training begins with knows which model it is
    std::string const model = model_of_checkpoint(init);
    if (command.count("--model") > 0 && o.model != model)
      throw setting_error({"--model with --init", model + ", as in " + init, o.model});
    o.model = model;
  }
  o.on.name = extra.value("backend", o.on.name);
  o.on.precision = o.on.products();
  if (o.train.empty() || o.valid.empty())
    throw setting_error({o.train.empty() ? "--train" : "--valid",
                         "a folder, CSV, list or index of videos, or a packed folder", "nothing"});
  if (o.log_every == 0) throw setting_error({"--log-every", "at least 1", "0"});
  collection const data = open_data("--train", o.train), valid_data = open_data("--valid", o.valid);
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

  constexpr std::size_t most = 0x7FFFFFFF;
  if (o.accumulate == 0) throw setting_error({"--accumulate", "at least 1", "0"});
  if (o.batch > most / o.accumulate / all.size())
    throw setting_error({"--batch times --accumulate times the number of processes", "at most 2^31 - 1",
                         "--batch " + std::to_string(o.batch)});
  std::size_t const own = o.batch * o.accumulate, together = own * all.size();
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
  std::string const times = together == o.batch ? "" : " (of all workers " + std::to_string(together) + ")";
  if (which == pairing::all && together > clips.size())
    throw setting_error({"--batch", "at most the number of training videos, " + std::to_string(clips.size()),
                         std::to_string(o.batch) + times});
  if (o.opening.draws > 1 && together != o.batch)
    throw setting_error({"--draws-per-opening", "1 where workers share a batch", std::to_string(o.opening.draws)});
  if (extra.value("sync-batch-norm", false) && o.accumulate > 1)
    throw setting_error({"--sync-batch-norm", "one batch for each process (--accumulate 1)",
                         std::to_string(o.accumulate) + ", one after the other"});
  if (o.batch < 2 || (which == pairing::paper && o.batch % 2 != 0))
    throw setting_error({"--batch", which == pairing::paper ? "an even number, half for each label" : "at least 2",
                         std::to_string(o.batch)});
  if (o.valid_pairs % 2 != 0)
    throw setting_error({"--valid-pairs", "an even number, half of which correspond", std::to_string(o.valid_pairs)});
  if (o.opening.draws > 1)  // or refused, before anything is written
      [[maybe_unused]]
    reservoir const fits(o.seed, o.batch, clips.size(), o.opening.draws, o.opening.videos);
  std::uint64_t const last_step = o.pairs / together + (o.pairs % together == 0 ? 0 : 1);
  if (o.valid_every == 0) o.valid_every = std::max<std::uint64_t>(1, last_step / 20);
  if (o.save_every == 0) o.save_every = o.valid_every;

  std::size_t const valid_batch = std::min<std::size_t>(o.batch, 64);
  bool const resumes = run && (std::filesystem::exists(run->last()) || run->has_progress());
  std::string const again = o.again.empty() ? "l3 " + command_path(command) + " --out " + o.out + " --resume" : o.again;
  net->prepare(o.seed,
               {.which = which,
                .batch = o.batch,
                .parts = o.accumulate,
                .across_workers = extra.value("pairing-scope", "all") == "all",
                .sync_batch_norm = extra.value("sync-batch-norm", false),
                .learning_rate = o.learning_rate,
                .warm_up_steps = o.warm_up,
                .weight_decay = o.weight_decay},
               valid_batch, resumes, all.group());
  // Only what changes the numbers goes into a checkpoint, so that equal trainings give equal files.
  json settings = config_of(o, extra, together);
  for (char const* elsewhere : {"train", "valid", "pairs", "valid-every", "valid-pairs", "save-every", "log-every",
                                "init", "vision", "audio", "accumulate"})
    settings.erase(elsewhere);
  if (resumes) {
    require_own(*run, settings, o.seed);
    net->load(run->last());
  }
  json agreed{{"version", L3_VERSION}};
  agreed.update(config_of(o, extra, together));
  agreed.update({{"what computes", facts.backend},
                 {"steps done", net->steps()},
                 {"weights", net->print()},
                 {"training videos", print_of(clips)},
                 {"validation videos", print_of(valid_data.clips)}});
  for (char const* elsewhere : {"train", "valid", "init"}) agreed.erase(elsewhere);  // may be other copies
  require_agreement(all, agreed);
  if (all.is_first()) {
    if (!run)
      run = run_folder::create(o.out, config_of(o, extra, together));
    else
      run->write_config(config_of(o, extra, together));
    run->cut_log(net->steps());
  }
  std::string const best_so_far = all.gather(all.is_first() ? text("%.17g", run->best_accuracy()) : "").front();
  if (!run) try {
      run = run_folder::open(o.out, false);
    } catch (setting_error const&) {
      throw file_error({"--out " + o.out, "a folder that all processes see", "none at " + all.name(all.rank())});
    }
  double best = std::strtod(best_so_far.c_str(), nullptr);

  auto const save = [&](std::filesystem::path const& file) {
    // After an error: their rows are lost, what they learned is not; of one that was not finite nothing is left.
    while (net->in_flight() > 0) try {
        net->finish();
      } catch (numeric_error const&) {
      }
    if (all.is_first()) net->save(file, {.step = net->steps(), .seed = o.seed, .settings = settings.dump()});
  };

  auto const input = make_input(o.model);
  std::size_t refused = run->refused().size();
  loader_options reading{.seed = o.seed,
                         .batch = own,
                         .pairs = which,
                         .first = net->steps(),
                         .whole = together == own ? 0 : together,
                         .part_begin = all.rank() * own,
                         .worker = together == o.batch ? 0 : o.batch,
                         .workers = o.readers(o.workers)};
  reading.limits.seconds = o.seconds;
  o.opening.set(reading);
  reading.known = run->refused();
  std::vector<refusal> refusals;  // not yet written
  reading.on_refusal = [&](refusal const& r) { refusals.push_back(r); };
  loader_options validating{.seed = o.seed,
                            .batch = valid_batch,
                            .pairs = pairing::paper,
                            .evaluation_pairs = o.valid_pairs,
                            .workers = reading.workers,
                            .limits = reading.limits};
  std::string refused_in_validation;
  validating.on_refusal = [&](refusal const& r) {
    std::string const what = "validation: refused " + r.why;
    all.size() == 1 ? o.warn(what) : void(refused_in_validation += what + '\n');
  };
  fixed_pairs valid(*input, valid_data, validating, net->takes_raw());

  if (!guard) guard.emplace();
  o.say(text("Training %s on %zu videos, %s; batch %zu%s, %s threads; chance is %s", net->title().c_str(), clips.size(),
             facts.backend.c_str(), o.batch, times.c_str(), o.threads == 0 ? "all" : std::to_string(o.threads).c_str(),
             net->chance().c_str()));
  if (net->steps() > 0)
    o.say("Resumed at step " + std::to_string(net->steps()));
  else if (!init.empty())
    o.say("Begins with the weights of " + init);
  std::optional<batch_dump> dump;
  if (!o.dump.empty() && all.is_first()) {
    dump.emplace(o.dump, facts);
    save(dump->folder() / "init.safetensors");
  }
  if (net->steps() == 0) save(run->last());

  auto const source = input->open(data, reading, net->takes_raw() && !dump);
  progress bar(o, "pairs", static_cast<double>(last_step) * static_cast<double>(together),
               static_cast<double>(net->steps() * together));
  using clock = std::chrono::steady_clock;
  auto const since = [](clock::time_point then) { return std::chrono::duration<double>(clock::now() - then).count(); };
  log_row row;
  std::uint64_t rows_steps = 0;
  double seconds = 0, wait = 0;
  loader_report read;
  std::optional<class_score> last_valid;
  std::uint64_t saved = net->steps();
  int stop = 0;  // the signal that asks one of the processes to
  std::vector<step_state> states(all.size()), row_states(all.size());
  std::set<std::string> written;
  for (refusal const& r : run->refused()) written.insert(r.file);
  auto const pending = [&] {
    std::string lines;
    for (refusal const& r : refusals) lines += refusal_line(r);
    refusals.clear();
    return lines;
  };
  // Each file once, whoever met it.
  auto const write_refusals = [&](std::vector<std::string> const& of_all) {
    for (std::string const& each : of_all) {
      std::istringstream in(each);
      for (std::string line; std::getline(in, line);) {
        json const record = json::parse(line);
        if (!written.insert(record.at("file").get<std::string>()).second) continue;
        ++refused;
        if (all.is_first()) run->append_refusal(line + '\n');
        o.warn("refused " + record.at("why").get<std::string>());
      }
    }
  };
  // What all processes must do alike hangs on what they tell each other.
  auto const exchange = [&](step_state const& mine, std::uint64_t step) {
    if (process_group* const group = all.group())
      group->gather_values(mine, std::span(states));
    else
      states.front() = mine;
    bool refusals_to_write = false;
    for (std::size_t rank = 0; rank != states.size(); ++rank) {
      step_state const& s = states[rank];
      stop = std::max(stop, static_cast<int>(s.signal));
      refusals_to_write = refusals_to_write || s.refusals > 0;
      row_states[rank].seconds += s.seconds, row_states[rank].wait += s.wait;
      if (s.print != states.front().print) {
        saved = net->steps();  // these weights are not kept
        throw numeric_error({"weights of " + all.name(rank) + " after step " + std::to_string(step),
                             "those of " + all.name(0), "others"});
      }
    }
    if (refusals_to_write) write_refusals(all.gather(pending()));
  };
  auto const flush = [&] {
    if (rows_steps == 0) return;
    auto const n = static_cast<double>(rows_steps);
    row.loss /= n, row.accuracy /= n;
    row.pairs_per_second = static_cast<double>(rows_steps * together) / seconds, row.wait_share = wait / seconds;
    loader_report const now = source->report();
    auto const since_then = now - read;
    auto const draw = since_then.stages.milliseconds_a_draw();
    row.batches_ready = since_then.mean_ready(), row.open_ms = draw.open, row.picture_ms = draw.picture;
    row.sound_ms = draw.sound, row.assemble_ms = draw.assemble;
    read = now;
    if (all.is_first()) run->append(row);
    if (all.is_first() && all.size() > 1) {
      std::string rows;
      for (std::size_t rank = 0; rank != all.size(); ++rank) {
        step_state const& r = row_states[rank];
        rows += csv_row({std::to_string(row.step), all.name(rank), text("%.1f", 1000 * r.seconds / n),
                         text("%.4f", r.seconds > 0 ? r.wait / r.seconds : 0)});
      }
      run->append_processes(rows);
    }
    row_states.assign(all.size(), {});
    row = {}, rows_steps = 0, seconds = wait = 0;
  };
  auto const write_rows = [&] {
    if (all.is_first() && !refusals.empty()) write_refusals({pending()});
    flush();
  };
  auto const save_last = [&] {
    write_rows();
    save(run->last());
    saved = net->steps();
  };
  // Weights that are about to overflow are finite yet, but nothing can be learned from them any more: the last
  // checkpoint stays as it is.
  auto const diverged = [&](std::string const& what, bool before_update) {
    std::uint64_t const good = std::exchange(saved, net->steps());
    try {
      write_rows();
    } catch (error const& e) {
      o.warn(e.what());
    }
    bar.finish();
    std::string const state =
        what + "; the last state saved, of step " + std::to_string(good) + ", is in " + run->last().string();
    std::string const less = text(" --lr %.2g", o.learning_rate / 3);
    if (good == net->steps() && before_update)  // no learning rate changes what comes of that
      return numeric_error(state + ", and cannot be gone on with; begin anew with" +
                           (best < 0 ? "" : " --init " + run->best().string()) + less);
    return numeric_error(state + "; to go on from it: " + again + less);
  };
  double shown_loss = 0;  // the mean over the last 20 steps or so
  std::uint64_t shown_steps = 0;
  // What happens behind a step, beside its row in the log.
  auto const is_last = [&](std::uint64_t step) { return step == last_step; };
  auto const validates_at = [&](std::uint64_t step) { return step % o.valid_every == 0 || is_last(step); };
  auto const saves_at = [&](std::uint64_t step) { return step % o.save_every == 0 || is_last(step); };
  bool const ahead = net->most_in_flight() > 1 && o.dump.empty();
  auto const needs_weights_at = [&](std::uint64_t step) {
    return validates_at(step) || saves_at(step) || (all.size() > 1 && step % 100 == 0);
  };
  auto const one_step = [&](bool may_begin) {
    auto const start = clock::now();
    double waited = 0;
    feed_batch batch;
    auto const begin = [&] {
      auto const asked = clock::now();
      batch = source->next();
      waited += since(asked);
      net->begin(batch);
    };
    step_report report;
    try {
      if (net->in_flight() == 0) begin();
      // The step behind it begins before this one has ended, unless what comes between needs its weights.
      std::uint64_t const now = net->steps() + 1;
      if (ahead && may_begin && !needs_weights_at(now)) begin();
      wait += waited;
      report = net->finish();
    } catch (numeric_error const& e) {
      throw diverged(e.what(), true);
    }
    double const spent = since(start);
    seconds += spent;
    row.step = report.step, row.pairs = report.pairs, row.learning_rate = report.learning_rate;
    row.loss += report.score.loss, row.accuracy += report.score.accuracy;
    ++rows_steps;
    bool const validates = validates_at(report.step), saves = saves_at(report.step);
    bool const compares = all.size() > 1 && needs_weights_at(report.step);
    exchange({spent, waited, compares ? net->print() : 0, interruption::signal(),
              static_cast<std::uint32_t>(refusals.size())},
             report.step);
    if (dump) {
      float const loss = static_cast<float>(report.score.loss);
      dump->write("step", report.step, batch, {&loss, 1}, "loss", {1});
    }
    shown_loss += (report.score.loss - shown_loss) / static_cast<double>(std::min<std::uint64_t>(++shown_steps, 20));
    if (validates) {
      last_valid = net->validate(valid, o.seed);
      for (std::string const& of_one : all.gather(std::exchange(refused_in_validation, ""))) {
        std::istringstream lines(of_one);
        for (std::string line; std::getline(lines, line);) o.warn(line);
      }
      if (!std::isfinite(last_valid->loss))
        throw diverged(numeric_error({"validation after step " + std::to_string(report.step), "a finite loss",
                                      std::to_string(last_valid->loss)})
                           .what(),
                       false);
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
    if (saves) save_last();
  };
  auto const asked_to_stop = [&] { return all.size() == 1 ? interruption::signal() : stop; };
  try {
    while (net->in_flight() > 0 || (net->steps() < last_step && asked_to_stop() == 0)) one_step(asked_to_stop() == 0);
    if (net->steps() != saved) {  // interrupted
      if (all.size() > 1) exchange({.print = net->print()}, net->steps());
      save_last();
    }
  } catch (...) {
    // Whatever stopped it, what was learned since the last save is kept, if that can be done.
    bar.finish();
    if (net->steps() != saved) try {
        save_last();
      } catch (error const& e) {
        o.warn(e.what());
      }
    all.end_all();
    throw;
  }
  bar.finish();

  int const signal = asked_to_stop();
  if (refused > 0)
    o.say(text("%zu files were refused; why is in %s", refused, (run->folder() / "refused.jsonl").c_str()));
  if (signal != 0 && net->steps() < last_step)
    o.say("Interrupted at step " + std::to_string(net->steps()) + "; go on with: " + again);
  else
    o.say(text("Done: best validation accuracy %.3f; %s is the best, %s the last state", best, run->best().c_str(),
               run->last().c_str()));
  json result{{"steps", net->steps()},
              {"pairs", net->steps() * together},
              {"loss", shown_steps > 0 ? json(shown_loss) : json()},  // null: nothing was left to do
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
  command.add_option("--valid-every", valid_every, "Steps between validations; 0: a twentieth of the training")
      ->capture_default_str();
  command.add_option("--valid-pairs", valid_pairs, "Pairs to validate on, an even number")
      ->capture_default_str()
      ->check(above_zero);
  command.add_option("--save-every", save_every, "Steps between checkpoints; 0: with each validation")
      ->capture_default_str();
  command.add_option("--log-every", log_every, "Steps between rows of log.csv")->capture_default_str();
  command.add_option("--clip-seconds", seconds, "Use only the first this many seconds of a video; 0: all")
      ->capture_default_str()
      ->check(zero_or_more);
  opening.add_to(command);
  command.add_option("--workers", workers, "Threads that read videos; 0: as --threads")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096).description(""));
  command.add_flag(
      "--resume", resume,
      "Go on with the run in OUT, with its settings (but more --pairs, another --lr, the same draws shared out anew)");
  command.add_option("--dump-batches", dump, "")->group("");
  common_options::add_to(command);
}

}  // namespace l3::program
