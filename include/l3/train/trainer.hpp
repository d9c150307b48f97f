/// @file  include/l3/train/trainer.hpp: batch, forward, loss, backward, optimizer; and the loop around it.
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <functional>
#include <l3/core/memory.hpp>
#include <l3/core/process_group.hpp>
#include <l3/model/network.hpp>
#include <l3/train/loss.hpp>
#include <l3/train/optimizer.hpp>
#include <l3/train/running_averages.hpp>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// What changes the numbers of a training.
///
/// Workers, in the paper's sense, take a batch each and step together by the mean of their gradients; batch norm sees a
/// worker's batch alone, unless it is told otherwise. Here a worker is a process of a group, or one of the parts that a
/// process takes one after the other: the number of workers is `parts` times that of the processes.
struct training_settings {
  pairing which = pairing::all;
  std::size_t batch = 64;        ///< draws of a worker in a step
  std::size_t parts = 1;         ///< batches that one process takes for a step, one after the other
  bool across_workers = true;    ///< with pairing::all frames meet the sounds of all workers, not of their own alone
  bool sync_batch_norm = false;  ///< batch norm's moments are those of all processes' batches; with one part a process
  double learning_rate = 1e-3;
  std::uint64_t warm_up_steps = 100;
  double weight_decay = 1e-5;
  bool decoupled_decay = false;  ///< AdamW instead of Adam
  /// Called between the parts of a step, where a process is alone. What it throws gives the step up.
  void (*between_parts)() = nullptr;
};
/// Errors  setting_error: no parts or draws, or more than 2^31 - 1; a learning rate or weight decay that is negative or
///         not finite.
inline training_settings const& require_valid(training_settings const& s) {
  for (std::size_t const count : {s.parts, s.batch})
    if (count == 0 || count > std::numeric_limits<std::int32_t>::max())
      throw setting_error({"training: parts and batch", "1 to 2^31 - 1", std::to_string(count)});
  for (auto const& [what, value] : {std::pair{"learning rate", s.learning_rate}, {"weight decay", s.weight_decay}})
    if (!(std::isfinite(value) && value >= 0))
      throw setting_error({std::string("training: ") + what, "a number, 0 or above", std::to_string(value)});
  return s;
}
/// For what takes one batch a step. Errors  as require_valid; setting_error: more parts.
inline training_settings const& require_one_part(training_settings const& s) {
  if (s.parts != 1)
    throw setting_error(
        {"training: parts of a batch", "one, where not a whole L3-Net learns", std::to_string(s.parts)});
  return require_valid(s);
}

/// What one step did.
struct step_report {
  std::uint64_t step = 0;   ///< counts from 1
  std::uint64_t pairs = 0;  ///< draws seen so far, by all workers
  pair_score score;         ///< of all workers
  double learning_rate = 0;
};

/// Trains a network one batch at a time, alone or as one of a group of processes that do the same with other batches.
/// All memory is taken at construction, but for what a group needs for its messages, in the first step; later steps
/// allocate nothing. It refers to its context and to the network, which have to live longer.
///
/// A step's numbers depend on the workers' batches in their order alone: four processes, four parts of one process, or
/// two parts of each of two give the same weights; the first two, of the same build, the same bits. The running
/// averages of batch norm become the mean of what they would become at each worker.
template <class Network>
class trainer {
 public:
  using B = typename Network::backend_type;
  using scalar = typename Network::scalar;
  using value = value_of<B>;
  using fusion = typename Network::fusion;
  using frames_view = batch_view<value const, typename Network::frame>;
  using sounds_view = batch_view<value const, typename Network::sound>;

  /// All processes of `group` begin with the same network and settings. It outlives the trainer.
  ///
  /// Errors  setting_error: as require_valid; batch norm over all processes and several parts; a group and numbers that
  ///         are not of type float.
  trainer(context<B>& on, Network& net, training_settings const& settings, process_group* group = nullptr)
      : net_(net),
        settings_(require_valid(settings)),
        group_(group),
        workers_(settings.parts * (group != nullptr ? group->size() : 1)),
        pass_(on, settings.batch, settings.which),
        loss_(meets_others() ? settings.batch * settings.batch * workers_ : pass_.most_rows()),
        optimizer_(adam_settings{.weight_decay = settings.weight_decay, .decoupled = settings.decoupled_decay}),
        rate_{settings.learning_rate, settings.warm_up_steps} {
    if constexpr (!std::same_as<scalar, float>)
      if (group != nullptr) throw setting_error({"training in a group", "numbers of type float", "others"});
    if (settings.sync_batch_norm && settings.parts != 1)
      throw setting_error(
          {"training: batch norm over all processes", "one part for each", std::to_string(settings.parts)});
    if (settings.parts > 1) sums_ = arena(Network::parameter_room * sizeof(scalar));
    if (group != nullptr) reports_.resize(group->size());
    if (meets_others()) others_.emplace(settings, workers_);
  }

  /// One step on settings.parts batches of settings.batch draws, one behind the other. (Smaller ones are taken, too,
  /// and counted as full.) `labels` (1 corresponds) matter with pairing::paper only.
  ///
  /// Errors  numeric_error if loss, gradients or running averages are not finite, of whichever worker: network and
  ///         optimizer are then as they were before the step. shape_error if the counts do not fit. setting_error: a
  ///         label is neither 0 nor 1, or the network was never given values. group_error: see process_group. What
  ///         settings.between_parts throws: all is then as it was before the step, too.
  step_report step(frames_view frames, sounds_view sounds, std::span<std::int32_t const> labels) {
    require_same_count("training batch: sounds for the frames", frames.count, sounds.count);
    if (frames.count == 0 || frames.count % settings_.parts != 0)
      throw shape_error({"training batch", "as many items in each of " + std::to_string(settings_.parts) + " parts",
                         std::to_string(frames.count) + " items"});
    if (settings_.which == pairing::paper) {
      require_same_count("training batch: labels", frames.count, labels.size());
      require_labels(labels);
    }
    if (optimizer_.steps() == 0) require_initial_values(net_);
    step_report report;
    report.step = optimizer_.steps() + 1;
    averages_.keep(net_);
    if (settings_.sync_batch_norm) pass_.on().norm_over(group_);
    try {
      report.score = gradients_of(frames, sounds, labels, report.step);
    } catch (...) {
      pass_.on().norm_over(nullptr);
      averages_.give_back(net_);
      bucket_begin_ = bucket_end_ = 0;
      throw;
    }
    pass_.on().norm_over(nullptr);
    if (workers_ > 1)
      averages_.take(net_, gradients());
    else
      net_.batches_tracked(net_.batches_tracked() + 1);
    report.learning_rate = rate_.at(report.step);
    optimizer_.step(pass_.on(), net_, gradients(), report.learning_rate);
    report.pairs = report.step * settings_.batch * workers_;
    return report;
  }

  Network& network() { return net_; }
  Network const& network() const { return net_; }
  adam<Network>& optimizer() { return optimizer_; }
  adam<Network> const& optimizer() const { return optimizer_; }
  training_settings const& settings() const { return settings_; }
  std::uint64_t steps() const { return optimizer_.steps(); }
  /// Gradients of the last step, the mean over the workers, laid out as Network::parameters.
  scalar* gradients() { return settings_.parts > 1 ? sums() : pass_.gradients(); }

 private:
  static constexpr std::size_t hidden = Network::config::hidden;
  /// The fusion head's parameters whose gradients are complete where frames and sounds have met: all but the first.
  static constexpr std::size_t head_begin = Network::fusion_offset + fusion::parameters[1].offset;
  static constexpr std::size_t head_size = Network::parameter_room - head_begin;
  /// So many gradients are worth a message of their own.
  static constexpr std::size_t bucket_size = std::size_t{1} << 18;

  struct worker_report {
    pair_tally tally;
    bool first_half_finite = true, finite = true;
  };

  /// Where the frames of this process meet the sounds of all: parts of the fusion head's hidden layer, (draws, hidden),
  /// and their gradients.
  struct meeting {
    std::vector<scalar> u, t, du, dt;            ///< of this process's draws
    std::vector<scalar> all_t, all_dt, part_dt;  ///< of all workers' sounds
    std::vector<scalar> logits, dlogits;         ///< of one part's frames with all sounds
    std::vector<scalar> head;                    ///< gradients from head_begin on, of each part
    meeting(training_settings const& s, std::size_t workers)
        : u(s.parts * s.batch * hidden),
          t(u.size()),
          du(u.size()),
          dt(u.size()),
          all_t(workers * s.batch * hidden),
          all_dt(all_t.size()),
          part_dt(s.parts > 1 ? all_t.size() : 0),
          logits(2 * s.batch * s.batch * workers),
          dlogits(logits.size()),
          head(s.parts * head_size) {}
  };

  scalar* sums() { return reinterpret_cast<scalar*>(sums_.data()); }
  bool meets_others() const { return settings_.which == pairing::all && settings_.across_workers && workers_ > 1; }

  /// The gradients of a step, the mean over all workers, and how they did.
  pair_score gradients_of(frames_view frames, sounds_view sounds, std::span<std::int32_t const> labels,
                          std::uint64_t step) {
    finite_ = halves_finite_ = true;
    pair_tally tally = meets_others() ? together(frames, sounds) : apart(frames, sounds, labels);
    std::string where;
    if (group_ != nullptr) {
      begin_bucket();  // what is left
      group_->finish_sums();
      group_->gather_values({tally, halves_finite_, finite_}, std::span(reports_));
      tally = {};
      for (worker_report const& each : reports_) tally += each.tally;
      where = guilty();
    }
    pair_score const score = tally.score();
    if (!std::isfinite(score.loss)) refuse(step, "loss", std::to_string(score.loss) + where);
    if (!all_finite(pass_.on(), Network::parameter_room, gradients()))
      refuse(step, "gradients", "infinite values or values that are not numbers" + where);
    if (workers_ == 1 && !averages_.finite(net_))  // else they went with the gradients
      refuse(step, "running averages", "infinite values or values that are not numbers");
    return score;
  }

  /// " at process 2": where the first value that is not finite comes from. What one brings along to where frames meet
  /// the sounds of all spoils everyone's scores.
  std::string guilty() const {
    for (bool const own : {true, false})
      for (std::size_t rank = 0; rank != reports_.size(); ++rank) {
        worker_report const& r = reports_[rank];
        if (own ? !r.first_half_finite : !r.finite || !std::isfinite(r.tally.loss)) return " at " + group_->name(rank);
      }
    return "";
  }

  /// `behind_another`: the running averages are those that it left.
  void begin_part(bool behind_another) {
    if (behind_another) averages_.give_back(net_);
    if (group_ != nullptr)
      group_->poke();
    else if (behind_another && settings_.between_parts != nullptr)
      settings_.between_parts();
  }

  /// Each part on its own.
  pair_tally apart(frames_view frames, sounds_view sounds, std::span<std::int32_t const> labels) {
    std::size_t const n = frames.count / settings_.parts;
    pair_tally tally;
    for (std::size_t part = 0; part != settings_.parts; ++part) {
      begin_part(part > 0);
      auto const logits = pass_.forward(net_.data(), frames.slice(part * n, n), sounds.slice(part * n, n));
      auto const own =
          settings_.which == pairing::paper ? labels.subspan(part * n, n) : std::span<std::int32_t const>{};
      tally += loss_.tally(pass_.on(), fusion::pairs(n, settings_.which), 0, own, logits.data, pass_.dlogits());
      pass_.backward(net_.data(), [&](std::size_t begin, std::size_t end) { complete(part, begin, end); });
    }
    return tally;
  }

  /// Every frame with every sound of all workers: all go forward up to where they meet before any goes back. With more
  /// than one part a part's activations do not last so long, and are computed again.
  pair_tally together(frames_view frames, sounds_view sounds) {
    std::size_t const parts = settings_.parts, n = frames.count / parts, size = n * hidden;
    std::size_t const own = parts * size, all = workers_ * size;
    meeting& m = *others_;
    auto const forward = [&](std::size_t part, bool again) {
      begin_part(part > 0 || again);
      pass_.forward_halves(net_.data(), frames.slice(part * n, n), sounds.slice(part * n, n));
    };
    for (std::size_t part = 0; part != parts; ++part) {
      forward(part, false);
      std::copy_n(pass_.u(), size, m.u.data() + part * size);
      std::copy_n(pass_.t(), size, m.t.data() + part * size);
      halves_finite_ =
          halves_finite_ && all_finite(pass_.on(), size, pass_.u()) && all_finite(pass_.on(), size, pass_.t());
    }
    std::size_t const rank = group_ != nullptr ? group_->rank() : 0;
    if (group_ != nullptr)
      gather(std::span(m.t).first(own), std::span(m.all_t).first(all));
    else
      std::copy_n(m.t.data(), all, m.all_t.data());

    pair_tally tally;
    pair_dims const d = fusion::pairs(n, pairing::all, (workers_ - 1) * n);
    scalar const* const params = net_.data() + Network::fusion_offset;
    for (std::size_t part = 0; part != parts; ++part) {
      scalar const* const u = m.u.data() + part * size;
      fusion::scores(pass_.at(), d, params, u, m.all_t.data(), m.logits.data());
      tally += loss_.tally(pass_.on(), d, (rank * parts + part) * n, {}, m.logits.data(), m.dlogits.data());
      scalar* const dt = part == 0 ? m.all_dt.data() : m.part_dt.data();
      fusion::scores_backward(pass_.at(), d, params, u, m.all_t.data(), m.dlogits.data(), m.du.data() + part * size, dt,
                              pass_.gradients() + Network::fusion_offset);
      if (part > 0) add_and_scale(pass_.on(), all, dt, scalar{1}, m.all_dt.data());
      std::copy_n(pass_.gradients() + head_begin, head_size, m.head.data() + part * head_size);
    }
    if (group_ != nullptr)
      sum_parts(std::span(m.all_dt).first(all), std::span(m.dt).first(own));
    else
      std::copy_n(m.all_dt.data(), own, m.dt.data());

    for (std::size_t part = 0; part != parts; ++part) {
      if (parts > 1) forward(part, true);
      std::copy_n(m.head.data() + part * head_size, head_size, pass_.gradients() + head_begin);
      pass_.backward_halves(net_.data(), m.du.data() + part * size, m.dt.data() + part * size,
                            [&](std::size_t begin, std::size_t end) { complete(part, begin, end); });
    }
    return tally;
  }

  /// Gradients [begin, end) of a part are complete: adds them up, and behind the last part begins their way to the
  /// others. The running averages that this part leaves go with them in the place of gradients that they do not have.
  void complete(std::size_t part, std::size_t begin, std::size_t end) {
    if (workers_ == 1) return;
    scalar* const g = pass_.gradients();
    averages_.put(net_, g, begin, end);
    bool const last = part + 1 == settings_.parts;
    if (settings_.parts > 1) {
      scalar const factor = last && group_ == nullptr ? scalar{1} / static_cast<scalar>(workers_) : scalar{1};
      if (part == 0)
        std::copy(g + begin, g + end, sums() + begin);
      else
        add_and_scale(pass_.on(), end - begin, g + begin, factor, sums() + begin);
    }
    if (!last || group_ == nullptr) return;
    finite_ = finite_ && all_finite(pass_.on(), end - begin, gradients() + begin);
    if (end != bucket_begin_) begin_bucket(), bucket_end_ = end;
    bucket_begin_ = begin;
    if (bucket_end_ - bucket_begin_ >= bucket_size) begin_bucket();
    group_->poke();
  }
  void begin_bucket() {
    if constexpr (std::same_as<scalar, float>)
      if (bucket_begin_ != bucket_end_)
        group_->begin_mean(std::span(gradients() + bucket_begin_, gradients() + bucket_end_),
                           1.0f / static_cast<float>(workers_));
    bucket_begin_ = bucket_end_ = 0;
  }

  void gather(std::span<scalar const> mine, std::span<scalar> all) {
    group_->gather(std::as_bytes(mine), std::as_writable_bytes(all));
  }
  void sum_parts(std::span<scalar const> parts, std::span<scalar> mine) {
    if constexpr (std::same_as<scalar, float>) group_->sum_parts(parts, mine);
  }

  [[noreturn]] static void refuse(std::uint64_t step, char const* what, std::string const& found) {
    throw numeric_error({"training step " + std::to_string(step) + ", " + what, "finite numbers", found});
  }

  Network& net_;
  training_settings settings_;
  process_group* group_;
  std::size_t workers_;
  training<Network> pass_;
  pair_loss<B> loss_;
  adam<Network> optimizer_;
  warm_up rate_;
  running_averages<Network> averages_;
  arena sums_;                          ///< of the parts' gradients, if there are more than one
  std::vector<worker_report> reports_;  ///< of all processes
  std::optional<meeting> others_;
  bool halves_finite_ = true, finite_ = true;      ///< this process's u and t, where they meet others; its gradients
  std::size_t bucket_begin_ = 0, bucket_end_ = 0;  ///< complete, not yet on their way
};

namespace detail {
/// What `next()` of a source points to, const.
template <class Source>
using batch_of = std::remove_pointer_t<decltype(std::declval<Source&>().next())> const;
}  // namespace detail

/// Anything that hands out batches: `next()` gives a pointer to one that looks like `av_batch`, or null at the end.
template <class Source, class Network>
concept value_source = requires(Source& source, detail::batch_of<Source>& batch) {
  requires std::is_pointer_v<decltype(source.next())>;
  { batch.frame_view() } -> std::convertible_to<typename trainer<Network>::frames_view>;
  { batch.sound_view() } -> std::convertible_to<typename trainer<Network>::sounds_view>;
  { batch.label_view() } -> std::convertible_to<std::span<std::int32_t const>>;
};
/// The same of batches that look like `raw_batch`, for trainers that take them.
template <class Source, class Network>
concept raw_source = requires(Source& source, detail::batch_of<Source>& batch, trainer<Network>& on) {
  requires std::is_pointer_v<decltype(source.next())>;
  on.step(batch.view(), batch.label_view());
};
template <class Source, class Network>
concept batch_source = value_source<Source, Network> || raw_source<Source, Network>;

/// What one step cost, beside what it did.
struct step_timing {
  double seconds = 0;       ///< the whole step
  double wait_seconds = 0;  ///< of which waiting for the batch
};

/// Steps until `last_step` is done or `after_step`, called behind every step unless it is empty, returns false. Each is
/// finished before the next is begun, so that `after_step` may look at the network; a GPU that is not to wait meanwhile
/// is kept busy by `begin` and `finish` of its trainer.
///
/// Errors  As trainer::step and the source's `next`; what `after_step` throws. setting_error: the trainer pairs all
///         frames with all sounds, and the source hands out frames and sounds that do not belong together.
template <class Network, class Source>
void train(trainer<Network>& on, Source& source, std::uint64_t last_step,
           std::function<bool(step_report const&, step_timing const&)> const& after_step) {
  static_assert(batch_source<Source, Network>,
                "l3::train: the source's next() must give a pointer to a batch that has, as const functions, frames "
                "(frame_view), sounds (sound_view) and labels (label_view), of the shapes that the network takes");
  using clock = std::chrono::steady_clock;
  auto const seconds = [](clock::duration d) { return std::chrono::duration<double>(d).count(); };
  while (on.steps() < last_step) {
    auto const start = clock::now();
    auto const* const batch = source.next();
    if (batch == nullptr) return;
    auto const got = clock::now();
    std::span<std::int32_t const> const labels = batch->label_view();
    if (on.settings().which == pairing::all && std::find(labels.begin(), labels.end(), 0) != labels.end())
      throw setting_error({"labels of the source's batch, with pairing::all", "frames and sounds that belong together",
                           "others (is its own pairing paper?)"});
    step_report const report = [&] {
      if constexpr (raw_source<Source, Network>)
        return on.step(batch->view(), labels);
      else
        return on.step(batch->frame_view(), batch->sound_view(), labels);
    }();
    if (after_step && !after_step(report, {seconds(clock::now() - start), seconds(got - start)})) return;
  }
}

}  // namespace l3::inline L3_ISA
