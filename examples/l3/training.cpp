// The loop that all trainings share.
#include "training.hpp"

#include <cmath>
#include <l3/version.hpp>
#include <optional>
#include <tuple>
#include <utility>

#include "batch_dump.hpp"
#include "run_folder.hpp"
#include "training_log.hpp"

namespace l3::program {
namespace {

/// Which videos a run's draws name by their places.
json kept_print(clip_list const& clips) { return {{"count", clips.size()}, {"print", hex(print_of(clips))}}; }

/// Tells of a list that has changed since the run was last at work: the same places are other videos now.
void tell_of_other_videos(training_options const& o, json const& before, json const& now) {
  for (char const* which : {"training-videos", "validation-videos"}) {
    if (!before.contains(which) || before[which] == now[which]) continue;  // runs of version 0.1.0 keep none
    json const& old = before[which];
    std::string const count = old.is_object() ? old.value("count", json()).dump() : old.dump();
    o.warn(text(
        "the %s videos of %s are not those it had before (%s then, %s now): from here on the run is another "
        "than one that was not stopped",
        which[0] == 't' ? "training" : "validation", o.out.c_str(), count.c_str(), now[which]["count"].dump().c_str()));
  }
}

/// Videos of a run may be gone on with elsewhere, others may not.
void require_same_videos(run_folder const& run, training_options const& o, json const& videos) {
  for (auto const& [option, path, which] :
       {std::tuple{"train", &o.train, "training-videos"}, {"valid", &o.valid, "validation-videos"}}) {
    json const& before = run.config();
    if (before[option] == *path) continue;
    if (before.contains(which) && before[which] == videos[which]) {
      o.warn(std::string("--") + option + ": goes on with the videos of " + *path + " in place of those of " +
             before[option].get<std::string>() + ", which have the same names");
      continue;
    }
    throw setting_error({std::string("--") + option + (o.again.empty() ? " with --resume" : ", to go on in " + o.out),
                         "the videos of " + before[option].dump() + ", by the same names", json(*path).dump()});
  }
}

/// Tells of videos that are in a collection twice, and of those that are validated with though they are trained on.
void tell_of_shared_videos(training_options const& o, collection const& data, collection const& valid_data) {
  auto const of_data = prints_of_files(data), of_valid = prints_of_files(valid_data);
  tell_of_links(o, "--train", data, of_data);
  tell_of_links(o, "--valid", valid_data, of_valid);
  auto const both = videos_of_both(data, of_data, valid_data, of_valid);
  if (both.empty()) return;
  o.warn(
      text("%zu of the %zu validation videos are trained on too, %s first: what is measured with them says little of "
           "other videos",
           both.size(), valid_data.clips.size(), std::string(valid_data.clips.name(both.front())).c_str()));
}

/// Steps, and what happens behind them: rows, validations, checkpoints.
class training_loop {
 public:
  /// `best`, `latest`: the best validation so far, and the last one. `lacks_validation`: that of the last step, should
  /// one be due, is not made yet. `again`: the command that goes on with the run. `config`: what config.json is to say
  /// from the first checkpoint on.
  training_loop(training_options const& o, training_plan plan, lesson& net, crew& all, run_folder& run, json config,
                collection const& data, collection const& valid_data, std::optional<class_score> best,
                std::optional<class_score> latest, bool lacks_validation, std::string again, model_input const& input)
      : o_(o),
        plan_(std::move(plan)),
        net_(net),
        all_(all),
        run_(run),
        config_(std::move(config)),
        again_(std::move(again)),
        log_(run, all, o, plan_.together),
        refused_(run, all, o, false),
        refused_in_validation_(run, all, o, true),
        valid_(input, valid_data, validating(), net.takes_raw()),
        dump_(made_dump()),
        source_(input.open(data, reading(), net.takes_raw() && !dump_)),
        bar_(o, "pairs", static_cast<double>(plan_.last_step) * static_cast<double>(plan_.together),
             static_cast<double>(net.steps() * plan_.together)),
        ahead_(net.most_in_flight() > 1 && o.dump.empty()),
        saved_(net.steps()),
        best_(best),
        unvalidated_(lacks_validation && validates_at(saved_)),
        states_(all.size()),
        last_valid_(latest) {}

  /// Until the last step, or until a signal asks to stop.
  void run() {
    try {
      if (unvalidated_ && validate(saved_) && all_.is_first()) run_.add_validation(saved_, *last_valid_, o_);
      while (net_.in_flight() > 0 || (net_.steps() < plan_.last_step && asked_to_stop() == 0))
        step(asked_to_stop() == 0);
      if (net_.steps() != saved_) {  // interrupted
        if (all_.size() > 1) exchange({.print = net_.print()}, net_.steps());
        save_last();
      }
    } catch (...) {
      // Whatever stopped it, what was learned since the last save is kept, if that can be done.
      bar_.finish();
      try {
        refused_in_validation_.write_own();  // where it could not be made
      } catch (error const& e) {
        o_.warn(e.what());
      }
      if (net_.steps() != saved_) try {
          save_last();
        } catch (error const& e) {
          o_.warn(e.what());
        }
      all_.end_all();
      throw;
    }
    bar_.finish();
  }

  /// Says how it ended.
  training_end end() const {
    bool const interrupted = asked_to_stop() != 0;
    bool const unfinished = interrupted && (net_.steps() < plan_.last_step || unvalidated_);
    for (bool const in_validation : {false, true})
      if (auto const& those = in_validation ? refused_in_validation_ : refused_; those.count() + those.damaged() > 0)
        o_.say(text("%zu %sfiles were refused, %zu are damaged at some moments; why is in %s", those.count(),
                    in_validation ? "validation " : "", those.damaged(),
                    (run_.folder() / run_folder::refusals_name(in_validation)).c_str()));
    if (unfinished)
      o_.say("Interrupted at step " + std::to_string(net_.steps()) + "; go on with: " + again_);
    else
      o_.say(text("Done: best validation accuracy %.3f; %s is the best, %s the last state", best_ ? best_->accuracy : 0,
                  run_.best().c_str(), run_.last().c_str()));
    return {unfinished ? 128 + asked_to_stop() : done,
            {{"steps", net_.steps()},
             {"pairs", net_.steps() * plan_.together},
             {"loss", shown_steps_ > 0 ? json(shown_loss_) : json()},  // null: nothing was left to do
             {"valid_loss", last_valid_ ? json(as_logged(*last_valid_).loss) : json()},
             {"valid_accuracy", last_valid_ ? json(as_logged(*last_valid_).accuracy) : json()},
             {"best_valid_accuracy", best_ ? json(best_->accuracy) : json()},
             {"refused", refused_.count()},
             {"damaged", refused_.damaged()},
             {"refused_in_validation", refused_in_validation_.count()},
             {"damaged_in_validation", refused_in_validation_.damaged()},
             {"seconds", bar_.seconds()},
             {"last", run_.last().string()},
             {"best", best_ ? json(run_.best().string()) : json()},
             {"interrupted", interrupted}},
            run_.best(),
            run_.last()};
  }

 private:
  using clock = std::chrono::steady_clock;
  static double seconds_since(clock::time_point then) {
    return std::chrono::duration<double>(clock::now() - then).count();
  }

  loader_options reading() {
    loader_options r{.seed = o_.seed,
                     .batch = plan_.own,
                     .pairs = net_.which(),
                     .first = net_.steps(),
                     .whole = plan_.together == plan_.own ? 0 : plan_.together,
                     .part_begin = all_.rank() * plan_.own,
                     .worker = plan_.together == o_.batch ? 0 : o_.batch,
                     .workers = o_.readers(o_.workers),
                     .name = "--train " + o_.train};
    r.limits.seconds = o_.seconds;
    o_.opening.set(r);
    r.known = refused_.known();
    r.on_refusal = [&](refusal const& each) { refused_.add(each); };
    return r;
  }
  loader_options validating() {
    loader_options r{.seed = o_.seed,
                     .batch = plan_.valid_batch,
                     .pairs = pairing::paper,
                     .evaluation_pairs = o_.valid_pairs,
                     .workers = o_.readers(o_.workers),
                     .name = "--valid " + o_.valid};
    r.limits.seconds = o_.seconds;
    r.on_refusal = [&](refusal const& each) { refused_in_validation_.add(each); };
    return r;
  }
  std::optional<batch_dump> made_dump() {
    std::optional<batch_dump> dump;
    if (!o_.dump.empty() && all_.is_first()) {
      dump.emplace(o_.dump, net_.facts());
      save(dump->folder() / "init.safetensors");
    }
    if (net_.steps() == 0) save(run_.last());
    return dump;
  }

  int asked_to_stop() const { return all_.size() == 1 ? interruption::signal() : stop_; }
  bool validates_at(std::uint64_t step) const { return step % o_.valid_every == 0 || step == plan_.last_step; }
  bool saves_at(std::uint64_t step) const { return step % o_.save_every == 0 || step == plan_.last_step; }
  bool is_late() const { return o_.save_minutes > 0 && seconds_since(saved_at_) > 60 * o_.save_minutes; }
  bool needs_weights_at(std::uint64_t step) const {
    return validates_at(step) || saves_at(step) || (all_.size() > 1 && step % 100 == 0);
  }

  void step(bool may_begin) {
    auto const start = clock::now();
    double waited = 0;
    feed_batch batch;
    auto const begin = [&] {
      auto const asked = clock::now();
      batch = source_->next();
      waited += seconds_since(asked);
      net_.begin(batch);
    };
    step_report report;
    try {
      if (net_.in_flight() == 0) begin();
      // The step behind it begins before this one has ended, unless what comes between needs its weights.
      std::uint64_t const now = net_.steps() + 1;
      if (ahead_ && may_begin && !late_ && !needs_weights_at(now)) begin();
      report = net_.finish();
    } catch (numeric_error const& e) {
      throw diverged(e.what(), true);
    } catch (interrupted const&) {
      return;  // nothing is learned of a step that was given up
    }
    double const spent = seconds_since(start);
    log_.add(report, spent, waited);
    // Several processes know it one step later.
    bool const is_due = (late_ || (all_.size() == 1 && is_late())) && net_.in_flight() == 0;
    bool const compares = all_.size() > 1 && (needs_weights_at(report.step) || is_due);
    exchange({spent, waited, compares ? net_.print() : 0, interruption::signal(), refused_.not_written(), is_late()},
             report.step);
    if (dump_) {
      float const loss = static_cast<float>(report.score.loss);
      dump_->write("step", report.step, batch, {&loss, 1}, "loss", {1});
    }
    auto const shown = static_cast<double>(std::min<std::uint64_t>(++shown_steps_, 20));
    shown_loss_ += (report.score.loss - shown_loss_) / shown;
    if (validates_at(report.step) && validate(report.step)) log_.add(*last_valid_);
    bar_.update(static_cast<double>(report.pairs), text("loss %.4f, accuracy %.3f, loader wait %.0f %%", shown_loss_,
                                                        report.score.accuracy, 100 * log_.wait_share()));
    if (report.step % o_.log_every == 0 || log_.has_validation()) log_.end_row(source_->report());
    // What is the best so far comes of a state that is kept: a run that goes on would not know of it else.
    if (saves_at(report.step) || best_at_ == report.step || is_due) save_last();
  }

  /// What all processes must do alike hangs on what they tell each other.
  void exchange(step_state const& mine, std::uint64_t step) {
    if (process_group* const group = all_.group())
      group->gather_values(mine, std::span(states_));
    else
      states_.front() = mine;
    bool refusals_to_write = false;
    for (std::size_t rank = 0; rank != states_.size(); ++rank) {
      step_state const& s = states_[rank];
      stop_ = std::max(stop_, static_cast<int>(s.signal));
      refusals_to_write = refusals_to_write || s.refusals > 0;
      log_.add(rank, s);
      if (s.print != states_.front().print) {
        saved_ = net_.steps();  // these weights are not kept
        throw numeric_error({"weights of " + all_.name(rank) + " after step " + std::to_string(step),
                             "those of " + all_.name(0), "others"});
      }
    }
    late_ = states_.front().late != 0;
    if (refusals_to_write) refused_.write();
  }

  /// False: a signal came. What is not validated is when the run is gone on with.
  bool validate(std::uint64_t step) {
    auto const found = net_.validate(valid_, o_.seed);
    refused_in_validation_.write();
    unvalidated_ = !found;
    if (!found) {  // of several processes perhaps at one of them
      exchange({.signal = interruption::signal()}, step);
      return false;
    }
    last_valid_ = found;
    if (!std::isfinite(last_valid_->loss)) {
      numeric_error const e(
          {"validation after step " + std::to_string(step), "a finite loss", std::to_string(last_valid_->loss)});
      throw diverged(e.what(), false);
    }
    bar_.finish();
    o_.say(text("step %llu: %svalidation loss %.4f, accuracy %.3f", static_cast<unsigned long long>(step),
                shown_steps_ > 0 ? text("loss %.4f, ", shown_loss_).c_str() : "", last_valid_->loss,
                last_valid_->accuracy));
    if (auto const logged = as_logged(*last_valid_); is_better(logged, best_)) {
      best_ = logged, best_at_ = step;
      save(run_.best());
    }
    return true;
  }

  void save(std::filesystem::path const& file) {
    // After an error: their rows are lost, what they learned is not; of one that was not finite nothing is left.
    while (net_.in_flight() > 0) try {
        net_.finish();
      } catch (numeric_error const&) {
      }
    if (all_.is_first()) try {
        net_.save(file, {.step = net_.steps(), .seed = o_.seed, .settings = plan_.settings.dump()});
      } catch (numeric_error const& e) {
        throw diverged(e.what(), false);
      }
  }
  void end_log() {
    refused_.write_own();
    log_.end_row(source_->report());
  }
  void save_last() {
    end_log();
    save(run_.last());
    saved_ = net_.steps(), saved_at_ = clock::now(), late_ = false;
    if (all_.is_first() && run_.config() != config_) run_.write_config(config_);
  }

  /// Weights that are about to overflow are finite yet, but nothing can be learned from them any more: the last
  /// checkpoint stays as it is. `before_update`: it is the step's batch that showed it.
  numeric_error diverged(std::string const& what, bool before_update) {
    std::uint64_t const good = std::exchange(saved_, net_.steps());
    try {
      end_log();
    } catch (error const& e) {
      o_.warn(e.what());
    }
    bar_.finish();
    std::string const state =
        what + "; the last state saved, of step " + std::to_string(good) + ", is in " + run_.last().string();
    std::string const less = text(" --lr %.2g", o_.learning_rate / 3);
    if (good == net_.steps() && before_update)  // no learning rate changes what comes of that
      return numeric_error(state + ", and cannot be gone on with; begin anew with" +
                           (best_ ? " --init " + run_.best().string() : "") + less);
    return numeric_error(state + "; to go on from it: " + again_ + less);
  }

  training_options const& o_;
  training_plan const plan_;
  lesson& net_;
  crew& all_;
  run_folder& run_;
  json const config_;
  std::string const again_;
  training_log log_;
  refusal_log refused_, refused_in_validation_;
  fixed_pairs valid_;
  std::optional<batch_dump> dump_;
  std::unique_ptr<feed> source_;
  progress bar_;
  bool ahead_;
  std::uint64_t saved_;  ///< the step of the last checkpoint
  clock::time_point saved_at_ = clock::now();
  bool late_ = false;                ///< for all processes: the next step that the weights can be had behind is saved
  std::optional<class_score> best_;  ///< as logged
  std::uint64_t best_at_ = 0;        ///< the step of the best validation that was made here
  bool unvalidated_;                 ///< a signal came before the validation that is due
  std::vector<step_state> states_;
  int stop_ = 0;  ///< the signal that asks one of the processes to
  std::optional<class_score> last_valid_;
  double shown_loss_ = 0;  ///< the mean over the last 20 steps or so
  std::uint64_t shown_steps_ = 0;
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
  // What training begins with knows which model it is.
  std::string model_from = command.count("--model") > 0 ? "--model" : "";
  for (std::string const from : {"init", "vision", "audio"})
    if (std::string const file = extra.value(from, ""); !run && !file.empty()) {
      std::string const model = model_of_checkpoint(file);
      if (!model_from.empty() && o.model != model)
        throw setting_error({model_from + " with --" + from, model + ", as in " + file, o.model});
      if (model_from.empty()) model_from = "--" + from;
      o.model = model;
    }
  o.on.name = extra.value("backend", o.on.name);
  o.on.precision = o.on.products();
  if (o.train.empty() || o.valid.empty())
    throw setting_error({o.train.empty() ? "--train" : "--valid",
                         "a folder, CSV, list or index of videos, or a packed folder", "nothing"});
  if (o.log_every == 0) throw setting_error({"--log-every", "at least 1", "0"});
  if (run)
    for (std::string const& videos : {o.train, o.valid})
      if (std::error_code unknown; !std::filesystem::exists(videos, unknown))
        throw file_error({videos, "the run's videos (where they have moved, --resume takes --train and --valid)",
                          "nothing there, from " + std::filesystem::current_path().string()});
  collection const data = open_data("--train", o.train), valid_data = open_data("--valid", o.valid);
  json const videos{{"training-videos", kept_print(data.clips)}, {"validation-videos", kept_print(valid_data.clips)}};
  if (run) require_same_videos(*run, o, videos);
  auto const net = make(o, extra, data, valid_data);
  if (run)
    keep_extra(extra, *run);
  else if (!init.empty())  // the file may go, or change
    extra["init-weights"] = hex(fingerprint_of(init));
  model_facts const& facts = net->facts();
  training_plan const plan = plan_training(o, extra, run, facts, net->which(), data.clips.size(), all.size());

  // Before there is a folder of a run that cannot be.
  auto const input = make_input(o.model);
  decode_limits limits;
  limits.seconds = o.seconds;
  require_readable(*input, data, "--train " + o.train, limits);
  require_readable(*input, valid_data, "--valid " + o.valid, limits);
  bool const resumes = run && (std::filesystem::exists(run->last()) || run->has_progress());
  if (run && !resumes && !init.empty() && extra.contains("init-weights") &&
      extra["init-weights"] != hex(fingerprint_of(init)))
    throw setting_error({"--resume, " + o.out,
                         init + " as it was when the run was to begin with it (init-weights in config.json)",
                         "another file of that name"});
  net->prepare(o.seed,
               {.which = net->which(),
                .batch = o.batch,
                .parts = o.accumulate,
                .across_workers = extra.value("pairing-scope", "all") == "all",
                .sync_batch_norm = extra.value("sync-batch-norm", false),
                .learning_rate = o.learning_rate,
                .warm_up_steps = o.warm_up,
                .weight_decay = o.weight_decay,
                .between_parts = all.size() == 1 ? stop_if_signalled : nullptr},
               plan.valid_batch, resumes, all.group());
  if (resumes) {
    require_own(*run, plan.settings, o.seed);
    net->load(run->last());
  }
  json agreed{{"version", L3_VERSION}};
  agreed.update(plan.config);
  agreed.update({{"what computes", facts.backend}, {"steps done", net->steps()}, {"weights", net->print()}});
  agreed.update({{"training videos", videos["training-videos"]}, {"validation videos", videos["validation-videos"]}});
  agreed.update({{"what training reads", kind_of(data)}, {"what validation reads", kind_of(valid_data)}});
  for (char const* elsewhere : {"train", "valid", "init", "init-weights"}) agreed.erase(elsewhere);  // or other copies
  require_agreement(all, agreed);

  json config = plan.config;
  config.update(videos);
  if (all.is_first()) {
    tell_of_shared_videos(o, data, valid_data);
    if (run) {
      if (resumes) tell_of_other_videos(o, run->config(), videos);
      // Which videos the run has is what they were at its last checkpoint.
      json until_saved = config;
      for (auto const& [which, old] : videos.items())
        if (resumes) until_saved[which] = run->config().value(which, old);
      run->write_config(until_saved);
    } else {
      run = run_folder::create(o.out, config);
    }
    run->cut_log(net->steps());
    if (o.tensorboard) run->begin_events(net->steps());
  }
  json so_far;  // what the log tells, which the first process has
  if (all.is_first()) {
    auto const told = run->validated(net->steps());
    auto const of = [](std::optional<class_score> const& one) { return one ? json{one->loss, one->accuracy} : json(); };
    so_far = {{"best", of(told.best)}, {"latest", of(told.last)}, {"lacks validation", told.lacks_last}};
  }
  so_far = json::parse(all.gather(so_far.dump()).front());
  if (!run) try {
      run = run_folder::open(o.out, false);
    } catch (setting_error const&) {
      throw file_error({"--out " + o.out, "a folder that all processes see", "none at " + all.name(all.rank())});
    }

  if (!guard) guard.emplace();
  o.say(text("Training %s on %zu videos, %s; batch %zu%s, %s threads; chance is %s", net->title().c_str(),
             data.clips.size(), facts.backend.c_str(), o.batch, plan.workers.c_str(),
             o.threads == 0 ? "all" : std::to_string(o.threads).c_str(), net->chance().c_str()));
  if (net->steps() > 0)
    o.say("Resumed at step " + std::to_string(net->steps()));
  else if (!init.empty())
    o.say("Begins with the weights of " + init);
  std::string const again = o.again.empty() ? "l3 " + command_path(command) + " --out " + o.out + " --resume" : o.again;
  auto const score = [](json const& one) {
    return one.is_null() ? std::nullopt : std::optional(class_score{one[0], one[1]});
  };
  training_loop loop(o, plan, *net, all, *run, std::move(config), data, valid_data, score(so_far["best"]),
                     score(so_far["latest"]), so_far["lacks validation"], again, *input);
  loop.run();
  return loop.end();
}

}  // namespace l3::program
