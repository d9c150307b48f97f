/// @file  include/l3/train/trainer.cuh: training on a GPU: the whole step is one graph of kernels, and while it runs
/// the next batch is on its way.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <l3/core/cuda.cuh>
#include <l3/core/gpu_group.cuh>
#include <l3/core/jitter.hpp>
#include <l3/data/batch.hpp>
#include <l3/train/trainer.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// Backends whose values lie in a GPU's memory.
template <class B>
concept gpu_backend = backend<B> && std::same_as<B, cuda<typename B::precision>>;

namespace detail::gpu {

/// What a step leaves behind, at each worker.
struct step_result {
  double tally[tally_columns];
  int not_finite;         ///< of the step
  int own_not_finite;     ///< of this worker's own gradients
  int halves_not_finite;  ///< of what it brings along to where frames meet the sounds of all
};

/// How the optimizer treats the 16 values of a cache line; every parameter begins at one.
enum class line_role : std::uint8_t { fixed, learned, decays };
inline constexpr unsigned line_values = alignment / sizeof(float);

template <class Network>
std::vector<line_role> line_roles() {
  std::vector<line_role> roles(Network::parameter_room / line_values, line_role::fixed);
  for (parameter const& p : Network::parameters)
    for (std::size_t k = 0; k < p.room(); k += line_values)
      roles[(p.offset + k) / line_values] = p.kind == role::weight ? line_role::decays
                                            : p.learned()          ? line_role::learned
                                                                   : line_role::fixed;
  return roles;
}

/// A step of Adam on all parameters, unless something was not finite. A thread takes four values.
template <class = void>
__global__ __launch_bounds__(256) void adam_lines(adam_factors const* factors, line_role const* roles,
                                                  std::size_t count, float const* g, float* w, float* m, float* v,
                                                  step_result const* result) {
  std::size_t const k = (std::size_t{blockIdx.x} * 256 + threadIdx.x) * 4;
  if (k >= count || result->not_finite != 0) return;
  line_role const role = roles[k / line_values];
  if (role == line_role::fixed) return;
  values<float, 4> gradient, weight, first, second;
  gradient.load(g + k), weight.load(w + k), first.load(m + k), second.load(v + k);
#pragma unroll
  for (int e = 0; e < 4; ++e)
    factors->apply(gradient.v[e], weight.v[e], first.v[e], second.v[e], role == line_role::decays);
  weight.store(w + k), first.store(m + k), second.store(v + k);
}
/// Copies those of `count` values that are not learned: running averages. With a `result`, only if something was not
/// finite.
template <class = void>
__global__ __launch_bounds__(256) void copy_fixed_lines(line_role const* roles, std::size_t count, float const* from,
                                                        float* to, step_result const* result) {
  std::size_t const k = std::size_t{blockIdx.x} * 256 + threadIdx.x;
  if (k < count && roles[k / line_values] == line_role::fixed && (result == nullptr || result->not_finite != 0))
    to[k] = from[k];
}

/// A stream's work, recorded once and done many times.
class recorded_work {
 public:
  recorded_work() = default;
  template <class F>
  recorded_work(cudaStream_t in, F&& f) {
    cuda_check(cudaStreamBeginCapture(in, cudaStreamCaptureModeRelaxed), "recording a step");
    cudaGraph_t graph = nullptr;
    try {
      f();
    } catch (...) {
      cudaStreamEndCapture(in, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();  // is not the next kernel's
      throw;
    }
    cuda_check(cudaStreamEndCapture(in, &graph), "recording a step");
    cudaError_t const code = cudaGraphInstantiate(&work_, graph, 0);
    cudaGraphDestroy(graph);
    cuda_check(code, "preparing a recorded step");
  }
  recorded_work(recorded_work&& other) noexcept : work_(std::exchange(other.work_, nullptr)) {}
  recorded_work& operator=(recorded_work&& other) noexcept {
    std::swap(work_, other.work_);
    return *this;
  }
  ~recorded_work() {
    if (work_ != nullptr) cudaGraphExecDestroy(work_);
  }
  explicit operator bool() const { return work_ != nullptr; }
  void launch(cudaStream_t in) const { cuda_check(cudaGraphLaunch(work_, in), "beginning a step"); }

 private:
  cudaGraphExec_t work_ = nullptr;
};

/// What makes a network's sounds of samples, where it knows how; and how many of these there are.
template <class Network, class FrontEnd = typename Network::config::front_end>
struct ear {
  static constexpr std::size_t samples = 0;
  explicit ear(context<typename Network::backend_type>&) {}
};
template <class Network, log_front_end FrontEnd>
struct ear<Network, FrontEnd> : gpu_spectrogram<FrontEnd, typename Network::backend_type::precision> {
  using gpu_spectrogram<FrontEnd, typename Network::backend_type::precision>::gpu_spectrogram;
  static constexpr std::size_t samples = FrontEnd::samples;
};

}  // namespace detail::gpu

/// Trains a network on a GPU. The network and the optimizer that it was made for are copied there, and brought up to
/// date by `fetch`; `adopt` copies them again.
///
/// A batch comes as values, or as bytes of pictures and samples of sound that the GPU makes values of in passing.
///
/// A step is begun, and its report is waited for later: up to two may be begun at a time, so that the GPU never waits
/// for a batch that is there. Once something was not finite nothing changes any more: what has been begun by then is
/// without effect, and `finish` reports the first such step.
///
/// With a group, gradients are on their way to the others as soon as they are complete, on a stream of their own, while
/// backward goes on.
///
/// Memory  of the GPU: `plan` for a batch; weights, gradients and averages (4 times the parameters), and the scores of
///         the pairs on top.
template <class Network>
requires gpu_backend<typename Network::backend_type>
class trainer<Network> {
 public:
  using network_type = Network;
  using B = typename Network::backend_type;
  using scalar = float;
  using value = value_of<B>;
  using fusion = typename Network::fusion;
  using frames_view = batch_view<float const, typename Network::frame>;
  using sounds_view = batch_view<float const, typename Network::sound>;

  static constexpr std::size_t slots = 2;
  /// Samples of a second of sound; 0 where the front end is none that a GPU computes, and batches come as values.
  static constexpr std::size_t samples = detail::gpu::ear<Network>::samples;
  using raw_items = raw_view<typename Network::frame, samples>;
  /// A batch as it comes, either way, and as the network takes it.
  static constexpr std::size_t sound_room = std::max(Network::sound::size, samples);
  static constexpr footprint input = per_item<float>(Network::frame::size) + per_item<float>(sound_room) +
                                     per_item<std::int32_t>(1) + per_item<image_jitter>(1) + per_item<float>(1);
  static constexpr footprint input_values =
      per_item<value>(Network::frame::size) + per_item<value>(Network::sound::size);
  /// All that grows with the batch but the scores of the pairs.
  static constexpr footprint plan = training<Network>::plan + input + input + input_values;

  trainer(context<B>& on, Network& net, training_settings const& settings, gpu_group* group = nullptr)
      : on_(on),
        net_(net),
        settings_(settings),
        group_(group),
        ear_(on),
        pass_(on, settings.batch, settings.which),
        optimizer_(adam_settings{.weight_decay = settings.weight_decay, .decoupled = settings.decoupled_decay}),
        rate_{settings.learning_rate, settings.warm_up_steps},
        weights_(3 * room * sizeof(float)),
        roles_(room / detail::gpu::line_values),
        results_((1 + processes()) * sizeof(detail::gpu::step_result)),
        score_room_(detail::gpu::score_room(most_rows())),
        values_(input_values.bytes(items(), 1)) {
    if (settings.parts == 0 || settings.batch == 0)
      throw setting_error({"training: parts and batch", "at least 1", "0"});
    if (settings.sync_batch_norm)
      throw setting_error({"training on a GPU", "batch norm over each worker's batch", "over all of them"});
    if (settings.parts > 1) sums_ = device_block(room * sizeof(float));
    if (meets_others()) others_.emplace(settings, processes());
    auto const roles = detail::gpu::line_roles<Network>();
    upload(on, roles.size(), roles.data(), reinterpret_cast<detail::gpu::line_role*>(roles_.data()));
    on.stream().wait();
    for (slot& s : slots_) s.take(items(), processes());
    adopt();
  }
  ~trainer() {
    cudaStreamSynchronize(copies_);  // what has been begun reads and writes memory that goes now
    cudaStreamSynchronize(on_.stream());
    cudaStreamSynchronize(messages_);
  }
  trainer(trainer const&) = delete;
  trainer& operator=(trainer const&) = delete;

  /// As in trainer on processors; the values are the machine's, and may be changed as soon as this returns.
  void begin(frames_view frames, sounds_view sounds, std::span<std::int32_t const> labels) {
    require_same_count("training batch: sounds for the frames", frames.count, sounds.count);
    begin(form::values, frames.count, labels, [&](slot& s) {
      std::memcpy(s.host.frames, frames.data, frames.size() * sizeof(float));
      std::memcpy(s.host.sounds, sounds.data, sounds.size() * sizeof(float));
    });
  }
  /// Of bytes and samples; these too may be changed as soon as this returns.
  ///
  /// Shapes  as raw_view. Errors  as above.
  void begin(raw_items const& items, std::span<std::int32_t const> labels) requires(samples > 0) {
    require_same_count("training batch: seconds for the frames", items.count(), items.seconds.count);
    require_same_count("training batch: jitters for the frames", items.count(), items.jitters.size());
    require_same_count("training batch: volumes for the seconds", items.count(), items.volumes.size());
    begin(form::bytes, items.count(), labels, [&](slot& s) {
      std::memcpy(s.host.frames, items.crops.data, items.crops.size());
      std::memcpy(s.host.sounds, items.seconds.data, items.seconds.size() * sizeof(float));
      std::memcpy(s.host.jitters, items.jitters.data(), items.jitters.size_bytes());
      std::memcpy(s.host.volumes, items.volumes.data(), items.volumes.size_bytes());
    });
  }
  /// Steps begun whose reports are not yet fetched.
  std::size_t in_flight() const { return static_cast<std::size_t>(begun_ - finished_); }
  /// Waits for the first step in flight. Errors: numeric_error, as in trainer on processors; device_error.
  step_report finish() {
    if (begun_ == finished_) throw setting_error({"training on a GPU", "a step that was begun", "none"});
    slot& s = slots_[finished_ % slots];
    s.done.wait();
    step_report report;
    report.step = optimizer_.steps() + 1 - in_flight();
    auto const results = group_ != nullptr ? s.results().subspan(1) : s.results().first(1);
    if (s.results().front().not_finite != 0) forget(report.step, results);
    ++finished_;
    net_.batches_tracked(net_.batches_tracked() + 1);
    pair_tally tally{.batches = workers()};
    for (detail::gpu::step_result const& each : results) {
      tally.loss += each.tally[0];
      for (std::size_t label : {0u, 1u}) {
        tally.right[label] += static_cast<std::uint64_t>(each.tally[1 + label]);
        tally.total[label] += static_cast<std::uint64_t>(each.tally[3 + label]);
      }
    }
    report.score = tally.score();
    report.learning_rate = rate_.at(report.step);
    report.pairs = report.step * settings_.batch * workers();
    return report;
  }
  /// Both.
  step_report step(frames_view frames, sounds_view sounds, std::span<std::int32_t const> labels) {
    begin(frames, sounds, labels);
    return finish();
  }
  /// Both, of bytes and samples.
  step_report step(raw_items const& items, std::span<std::int32_t const> labels) requires(samples > 0) {
    begin(items, labels);
    return finish();
  }

  /// Copies the network and the optimizer's averages from the GPU. Errors: setting_error with steps in flight.
  void fetch() {
    require_none_in_flight();
    download(on_, room, weights(), net_.data());
    download(on_, room, first(), optimizer_.first());
    download(on_, room, second(), optimizer_.second());
  }
  /// Goes on from the network and the optimizer as they are now.
  void adopt() {
    require_none_in_flight();
    upload(on_, room, net_.data(), weights());
    upload(on_, room, optimizer_.first(), first());
    upload(on_, room, optimizer_.second(), second());
    on_.stream().wait();
  }

  Network& network() { return net_; }
  Network const& network() const { return net_; }
  adam<Network>& optimizer() { return optimizer_; }
  adam<Network> const& optimizer() const { return optimizer_; }
  training_settings const& settings() const { return settings_; }
  /// Steps begun.
  std::uint64_t steps() const { return optimizer_.steps(); }
  /// Gradients of the last step, the mean over the workers, laid out as Network::parameters; in the GPU's memory.
  float* gradients() { return settings_.parts > 1 ? sums() : pass_.gradients(); }

 private:
  static constexpr std::size_t room = Network::parameter_room, hidden = Network::config::hidden;
  static constexpr std::size_t head_begin = Network::fusion_offset + fusion::parameters[1].offset;
  static constexpr std::size_t head_size = room - head_begin;
  /// So many gradients are worth a message of their own.
  static constexpr std::size_t bucket_size = std::size_t{1} << 18;

  enum class form : std::uint8_t { values, bytes };

  /// A batch in the machine's memory and in the GPU's, and the step it is for.
  struct slot {
    struct pointers {
      float *frames, *sounds;  ///< or crops, as bytes, and samples
      std::int32_t* labels;
      image_jitter* jitters;
      float* volumes;
      void carve(std::byte* block, std::size_t items) {
        carver space(block + alignment, items, 1);  // the step's factors come first
        frames = space.template take<float>(per_item<float>(Network::frame::size));
        sounds = space.template take<float>(per_item<float>(sound_room));
        labels = space.template take<std::int32_t>(per_item<std::int32_t>(1));
        jitters = space.template take<image_jitter>(per_item<image_jitter>(1));
        volumes = space.template take<float>(per_item<float>(1));
      }
    };
    static_assert(sizeof(detail::gpu::adam_factors) <= alignment);
    pinned_block host_memory, host_results;
    device_block device_memory;
    pointers host{}, device{};
    gpu_event sent, done;
    detail::gpu::recorded_work work;
    std::size_t count = 0;  ///< items that `work` was recorded for,
    form of{};              ///< and how they come

    void take(std::size_t items, std::size_t processes) {
      std::size_t const bytes = alignment + input.bytes(items, 1);
      host_memory = pinned_block(bytes), device_memory = device_block(bytes);
      host_results = pinned_block((1 + processes) * sizeof(detail::gpu::step_result));
      host.carve(host_memory.data(), items), device.carve(device_memory.data(), items);
    }
    /// What changes from step to step, in places that its graph has for good.
    detail::gpu::adam_factors& factors() { return *reinterpret_cast<detail::gpu::adam_factors*>(host_memory.data()); }
    detail::gpu::adam_factors const* device_factors() const {
      return reinterpret_cast<detail::gpu::adam_factors const*>(device_memory.data());
    }
    /// This process's, then, if there is a group, everyone's.
    std::span<detail::gpu::step_result const> results() const {
      return {reinterpret_cast<detail::gpu::step_result const*>(host_results.data()),
              host_results.size() / sizeof(detail::gpu::step_result)};
    }
    void send(cudaStream_t in, form which, std::size_t items, std::size_t labels) {
      auto const one = [&](auto const* from, auto* to, std::size_t bytes) {
        if (bytes > 0) cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, in), "sending a batch");
      };
      bool const raw = which == form::bytes;
      one(host_memory.data(), device_memory.data(), alignment);
      one(host.frames, device.frames, items * Network::frame::size * (raw ? 1 : sizeof(float)));
      one(host.sounds, device.sounds, items * (raw ? samples : Network::sound::size) * sizeof(float));
      one(host.labels, device.labels, labels * sizeof(std::int32_t));
      if (raw) one(host.jitters, device.jitters, items * sizeof(image_jitter));
      if (raw) one(host.volumes, device.volumes, items * sizeof(float));
    }
  };

  /// Where the frames of a part meet the sounds of all: as in trainer on processors.
  struct meeting {
    std::size_t own, all;
    device_block memory;
    float *u, *t, *du, *dt;           ///< of this process's draws
    float *all_t, *all_dt, *part_dt;  ///< of all workers' sounds
    float *logits, *dlogits, *head;
    meeting(training_settings const& s, std::size_t processes) : own(s.parts * s.batch * hidden), all(own * processes) {
      std::size_t const scores = 2 * s.batch * s.batch * s.parts * processes;
      std::pair<float**, std::size_t> const pieces[] = {
          {&u, own},      {&t, own},       {&du, own},        {&dt, own},         {&all_t, all},
          {&all_dt, all}, {&part_dt, all}, {&logits, scores}, {&dlogits, scores}, {&head, s.parts * head_size}};
      std::size_t floats = 0;
      for (auto const& [at, count] : pieces) floats += round_up(count, alignment / sizeof(float));
      memory = device_block(floats * sizeof(float));
      auto* next = reinterpret_cast<float*>(memory.data());
      for (auto const& [at, count] : pieces)
        *at = std::exchange(next, next + round_up(count, alignment / sizeof(float)));
    }
  };

  /// `fill(slot)` puts what is to be learned from where it is sent from.
  template <class Fill>
  void begin(form which, std::size_t count, std::span<std::int32_t const> labels, Fill&& fill) {
    if (count == 0 || count % settings_.parts != 0 || count > items())
      throw shape_error({"training batch",
                         "up to " + std::to_string(items()) + " items, as many in each of " +
                             std::to_string(settings_.parts) + " parts",
                         std::to_string(count) + " items"});
    bool const labelled = settings_.which == pairing::paper;
    if (labelled) {
      require_same_count("training batch: labels", count, labels.size());
      require_labels(labels);
    }
    if (begun_ - finished_ == slots) throw setting_error({"training on a GPU", "two steps begun at most", "a third"});
    slot& s = slots_[begun_ % slots];
    auto const step = optimizer_.steps() + 1;
    fill(s);
    if (labelled) std::memcpy(s.host.labels, labels.data(), labels.size_bytes());
    adam_settings a = optimizer_.settings();
    a.learning_rate = rate_.at(step), a.step = step;
    s.factors() = detail::gpu::adam_factors(a);
    s.send(copies_, which, count, labelled ? count : 0);
    s.sent.record(copies_);
    s.sent.hold(on_.stream());
    if (!s.work || s.count != count || s.of != which)
      s.work = detail::gpu::recorded_work(on_.stream(), [&] { enqueue(s, which, count); });
    s.count = count, s.of = which;
    s.work.launch(on_.stream());
    s.done.record(on_.stream());
    optimizer_.steps(step);
    ++begun_;
  }

  std::size_t items() const { return settings_.parts * settings_.batch; }
  std::size_t processes() const { return group_ != nullptr ? group_->size() : 1; }
  std::size_t rank() const { return group_ != nullptr ? group_->rank() : 0; }
  std::size_t workers() const { return settings_.parts * processes(); }
  bool meets_others() const { return settings_.which == pairing::all && settings_.across_workers && workers() > 1; }
  std::size_t most_rows() const {
    return meets_others() ? settings_.batch * settings_.batch * workers() : pass_.most_rows();
  }
  float* weights() { return reinterpret_cast<float*>(weights_.data()); }
  /// The optimizer's averages. Those of running averages, which have none, hold these as they were before the step.
  float* first() { return weights() + room; }
  float* second() { return weights() + 2 * room; }
  float* sums() { return reinterpret_cast<float*>(sums_.data()); }
  detail::gpu::step_result* result() { return reinterpret_cast<detail::gpu::step_result*>(results_.data()); }
  detail::gpu::step_result* results() { return result() + 1; }
  detail::gpu::line_role const* roles() const { return reinterpret_cast<detail::gpu::line_role const*>(roles_.data()); }

  void require_none_in_flight() const {
    if (in_flight() > 0)
      throw setting_error({"training on a GPU, what was learned", "no step in flight", std::to_string(in_flight())});
  }
  void copy(std::size_t count, float const* from, float* to) {
    cuda_check(cudaMemcpyAsync(to, from, count * sizeof(float), cudaMemcpyDeviceToDevice, on_.stream()),
               "copying values");
  }
  /// Those among the parameters [begin, end).
  void copy_averages(float const* from, float* to, detail::gpu::step_result const* if_not_finite = nullptr,
                     std::size_t begin = 0, std::size_t end = room) {
    detail::gpu::launch(on_.stream(), detail::gpu::copy_fixed_lines<>, dim3(detail::gpu::blocks_for(end - begin, 256)),
                        256, 0, roles() + begin / detail::gpu::line_values, end - begin, from + begin, to + begin,
                        if_not_finite);
  }
  void keep_averages() { copy_averages(weights(), first()); }
  void give_back_averages() { copy_averages(first(), weights()); }

  /// Everything a step does, into the stream.
  void enqueue(slot& s, form which, std::size_t count) {
    cudaStream_t const in = on_.stream();
    auto* const frames = reinterpret_cast<value*>(values_.data());
    auto* const sounds = frames + round_up(items() * Network::frame::size, alignment / sizeof(value));
    if (which == form::values) {
      convert(on_, count * Network::frame::size, static_cast<float const*>(s.device.frames), frames);
      convert(on_, count * Network::sound::size, static_cast<float const*>(s.device.sounds), sounds);
    } else if constexpr (samples > 0) {
      augment_images<typename Network::frame>(on_, count, reinterpret_cast<std::uint8_t const*>(s.device.frames),
                                              s.device.jitters, frames);
      ear_(on_, count, s.device.sounds, s.device.volumes, sounds);
    }
    keep_averages();
    if (meets_others())
      together(count / settings_.parts, frames, sounds);
    else
      apart(count / settings_.parts, frames, sounds, s.device.labels);
    if (group_ != nullptr) {
      begin_bucket();  // what is left
      home_.record(messages_), home_.hold(in);
      detail::gpu::check_finite(in, 1, static_cast<double const*>(result()->tally), &result()->own_not_finite);
      group_->gather(result(), results(), sizeof(detail::gpu::step_result), in);
      // All decide alike: by everyone's loss, and by gradients that are everyone's mean.
      for (std::size_t other = 0; other != processes(); ++other)
        detail::gpu::check_finite(in, 1, static_cast<double const*>(results()[other].tally), &result()->not_finite);
    } else {
      detail::gpu::check_finite(in, 1, static_cast<double const*>(result()->tally), &result()->not_finite);
    }
    detail::gpu::check_finite(in, room, static_cast<float const*>(gradients()), &result()->not_finite);
    if (workers() > 1) copy_averages(gradients(), weights());
    copy_averages(first(), weights(), result());
    detail::gpu::launch(in, detail::gpu::adam_lines<>, dim3(detail::gpu::blocks_for(room, 1024)), 256, 0,
                        s.device_factors(), roles(), room, static_cast<float const*>(gradients()), weights(), first(),
                        second(), static_cast<detail::gpu::step_result const*>(result()));
    cuda_check(cudaMemcpyAsync(s.host_results.data(), result(), s.host_results.size(), cudaMemcpyDeviceToHost, in),
               "fetching a step's result");
  }

  static batch_view<value const, typename Network::frame> part_of_frames(value const* all, std::size_t part,
                                                                         std::size_t n) {
    return {all + part * n * Network::frame::size, n};
  }
  static batch_view<value const, typename Network::sound> part_of_sounds(value const* all, std::size_t part,
                                                                         std::size_t n) {
    return {all + part * n * Network::sound::size, n};
  }

  void score(pair_dims const& d, std::size_t first_sound, std::int32_t const* labels, float const* logits,
             float* dlogits, bool adds) {
    auto const n = static_cast<double>(d.batch), others = static_cast<double>(d.sounds()) - 1;
    detail::gpu::row_labels of{
        .labels = labels, .sounds = detail::gpu::narrow(d.sounds()), .first = detail::gpu::narrow(first_sound)};
    if (d.which == pairing::paper)
      of.own = of.other = static_cast<float>(1 / n);
    else
      of.labels = nullptr, of.own = static_cast<float>(0.5 / n),
      of.other = static_cast<float>(others > 0 ? 0.5 / (n * others) : 0.0);
    detail::gpu::score_rows(on_.stream(), of, d.rows(), 2, logits, dlogits, result()->tally, adds, score_room_.data());
  }

  void apart(std::size_t n, value const* frames, value const* sounds, std::int32_t const* labels) {
    for (std::size_t part = 0; part != settings_.parts; ++part) {
      if (part > 0) give_back_averages();
      auto const logits = pass_.forward(weights(), part_of_frames(frames, part, n), part_of_sounds(sounds, part, n));
      score(fusion::pairs(n, settings_.which), 0, labels + part * n, logits.data, pass_.dlogits(), part > 0);
      pass_.backward(weights(), [&](std::size_t begin, std::size_t end) { complete(part, begin, end); });
      add_up(part);
    }
  }
  /// See trainer on processors.
  void together(std::size_t n, value const* frames, value const* sounds) {
    std::size_t const parts = settings_.parts, size = n * hidden, own = parts * size, all = own * processes();
    meeting& m = *others_;
    auto const forward = [&](std::size_t part) {
      if (part > 0) give_back_averages();
      pass_.forward_halves(weights(), part_of_frames(frames, part, n), part_of_sounds(sounds, part, n));
    };
    for (std::size_t part = 0; part != parts; ++part) {
      forward(part);
      copy(size, pass_.u(), m.u + part * size), copy(size, pass_.t(), m.t + part * size);
      if (group_ != nullptr)
        for (float const* const half : {pass_.u(), pass_.t()})
          detail::gpu::check_finite(on_.stream(), size, half, &result()->halves_not_finite);
    }
    if (group_ != nullptr)
      group_->gather(m.t, m.all_t, own * sizeof(float), on_.stream());
    else
      copy(own, m.t, m.all_t);
    pair_dims const d = fusion::pairs(n, pairing::all, (workers() - 1) * n);
    float const* const params = weights() + Network::fusion_offset;
    for (std::size_t part = 0; part != parts; ++part) {
      float const* const u = m.u + part * size;
      fusion::scores(pass_.at(), d, params, u, m.all_t, m.logits);
      score(d, (rank() * parts + part) * n, nullptr, m.logits, m.dlogits, part > 0);
      float* const dt = part == 0 ? m.all_dt : m.part_dt;
      fusion::scores_backward(pass_.at(), d, params, u, m.all_t, m.dlogits, m.du + part * size, dt,
                              pass_.gradients() + Network::fusion_offset);
      if (part > 0) add_and_scale(on_, all, dt, 1.0f, m.all_dt);
      copy(head_size, pass_.gradients() + head_begin, m.head + part * head_size);
    }
    if (group_ != nullptr)
      group_->sum_parts(m.all_dt, m.dt, own, on_.stream());
    else
      copy(own, m.all_dt, m.dt);
    for (std::size_t part = 0; part != parts; ++part) {
      if (parts > 1) give_back_averages(), forward(part);
      copy(head_size, m.head + part * head_size, pass_.gradients() + head_begin);
      pass_.backward_halves(weights(), m.du + part * size, m.dt + part * size,
                            [&](std::size_t begin, std::size_t end) { complete(part, begin, end); });
      add_up(part);
    }
  }
  /// A part's gradients, and the running averages that it leaves, to those of the parts before; behind the last one all
  /// are means. With a group that is done piece by piece, see complete.
  void add_up(std::size_t part) {
    if (group_ == nullptr && settings_.parts > 1) add_up(part, 0, room);
  }
  void add_up(std::size_t part, std::size_t begin, std::size_t end) {
    float* const g = pass_.gradients();
    copy_averages(weights(), g, nullptr, begin, end);
    if (settings_.parts == 1) return;
    if (part == 0) return copy(end - begin, g + begin, sums() + begin);
    bool const mean = group_ == nullptr && part + 1 == settings_.parts;
    add_and_scale(on_, end - begin, g + begin, mean ? 1 / static_cast<float>(settings_.parts) : 1.0f, sums() + begin);
  }
  /// Gradients [begin, end) of a part are complete: behind the last part begins their way to the others.
  void complete(std::size_t part, std::size_t begin, std::size_t end) {
    if (group_ == nullptr) return;
    add_up(part, begin, end);
    if (part + 1 != settings_.parts) return;
    detail::gpu::check_finite(on_.stream(), end - begin, static_cast<float const*>(gradients() + begin),
                              &result()->own_not_finite);
    if (end != bucket_begin_) begin_bucket(), bucket_end_ = end;
    bucket_begin_ = begin;
    if (bucket_end_ - bucket_begin_ >= bucket_size) begin_bucket();
  }
  void begin_bucket() {
    if (bucket_begin_ != bucket_end_) {
      away_.record(on_.stream()), away_.hold(messages_);
      group_->mean(gradients() + bucket_begin_, bucket_end_ - bucket_begin_, 1 / static_cast<float>(workers()),
                   messages_);
    }
    bucket_begin_ = bucket_end_ = 0;
  }

  /// What has been begun is undone, which it has been on the GPU from the start.
  [[noreturn]] void forget(std::uint64_t step, std::span<detail::gpu::step_result const> all) {
    on_.stream().wait();
    // Whose fault it is: what one brings along to where frames meet the sounds of all spoils everyone's.
    std::string where;
    for (bool const halves : {true, false})
      for (std::size_t r = 0; group_ != nullptr && where.empty() && r != all.size(); ++r)
        if ((halves ? all[r].halves_not_finite : all[r].own_not_finite) != 0) where = " at " + group_->name(r);
    double loss = 0;
    for (detail::gpu::step_result const& each : all) loss += each.tally[0];
    std::string const found =
        std::isfinite(loss) ? "infinite values or values that are not numbers" : std::to_string(loss);
    cuda_check(cudaMemsetAsync(results_.data(), 0, results_.size(), on_.stream()), "clearing a result");
    on_.stream().wait();
    optimizer_.steps(step - 1);
    finished_ = begun_;
    throw numeric_error({"training step " + std::to_string(step) + (std::isfinite(loss) ? ", gradients" : ", loss"),
                         "finite numbers", found + where});
  }

  context<B>& on_;
  Network& net_;
  training_settings settings_;
  gpu_group* group_;
  detail::gpu::ear<Network> ear_;
  training<Network> pass_;
  adam<Network> optimizer_;
  warm_up rate_;
  device_block weights_, sums_, roles_, results_, score_room_, values_;  // results: this process's, then all
  std::optional<meeting> others_;
  gpu_stream copies_, messages_;
  gpu_event away_, home_;                          ///< what messages wait for, and what waits for them
  std::size_t bucket_begin_ = 0, bucket_end_ = 0;  ///< complete, not yet on their way
  std::array<slot, slots> slots_;
  std::uint64_t begun_ = 0, finished_ = 0;
};

/// (The guide that the first template's constructor gives names processes alone.)
template <class Network>
requires gpu_backend<typename Network::backend_type> trainer(context<typename Network::backend_type>&, Network&,
                                                             training_settings const&, gpu_group*)
->trainer<Network>;

}  // namespace l3::inline L3_ISA
