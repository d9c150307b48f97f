/// @file  include/l3/train/gpu_steps.cuh: what all training on a GPU has in common: a step is one graph of kernels, and
/// while it runs the next batch is on its way.
#pragma once
#include <array>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <l3/core/cuda.cuh>
#include <l3/core/gpu_group.cuh>
#include <l3/kernels/cuda/warpgroup_rows.cuh>
#include <l3/model/gpu_batch.cuh>
#include <l3/train/trainer.hpp>
#include <span>
#include <string>
#include <thread>
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

/// What a step does to the 16 values of a cache line; every parameter begins at one.
enum class line_role : std::uint8_t {
  stays,     ///< nothing
  averages,  ///< running averages: what forward leaves there, unless something was not finite
  learned,
  decays,  ///< learned, with weight decay
};
inline constexpr unsigned line_values = alignment / sizeof(float);

/// The roles of a network's parameters. Those before `learned_from` stay.
template <class Network>
std::vector<line_role> line_roles(std::size_t learned_from) {
  std::vector<line_role> roles(Network::parameter_room / line_values, line_role::stays);
  for (parameter const& p : Network::parameters)
    for (std::size_t k = p.offset; k < p.offset + p.room(); k += line_values)
      if (k >= learned_from)
        roles[k / line_values] = p.kind == role::weight ? line_role::decays
                                 : p.learned()          ? line_role::learned
                                                        : line_role::averages;
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
  if (role != line_role::learned && role != line_role::decays) return;
  values<float, 4> gradient, weight, first, second;
  gradient.load(g + k), weight.load(w + k), first.load(m + k), second.load(v + k);
#pragma unroll
  for (int e = 0; e < 4; ++e)
    factors->apply(gradient.v[e], weight.v[e], first.v[e], second.v[e], role == line_role::decays);
  weight.store(w + k), first.store(m + k), second.store(v + k);
}
/// Copies the running averages among `count` values. With a `result`, only if something was not finite.
template <class = void>
__global__ __launch_bounds__(256) void copy_average_lines(line_role const* roles, std::size_t count, float const* from,
                                                          float* to, step_result const* result) {
  std::size_t const k = std::size_t{blockIdx.x} * 256 + threadIdx.x;
  if (k < count && roles[k / line_values] == line_role::averages && (result == nullptr || result->not_finite != 0))
    to[k] = from[k];
}

/// Sets `flag` to 1 if a running average among `count` values is not finite.
template <class = void>
__global__ __launch_bounds__(256) void check_average_lines(line_role const* roles, std::size_t count, float const* w,
                                                           int* flag) {
  std::size_t const k = std::size_t{blockIdx.x} * 256 + threadIdx.x;
  if (k < count && roles[k / line_values] == line_role::averages && !(w[k] - w[k] == 0)) *flag = 1;
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

}  // namespace detail::gpu

/// Steps of training on a GPU. The network and the optimizer are copied there when a trainer is made, and brought up to
/// date by `fetch`; `adopt` copies them again.
///
/// A step is begun, and its report is waited for later: up to two may be begun at a time, so that the GPU never waits
/// for a batch that is there. Once something was not finite nothing changes any more: what has been begun by then is
/// without effect, and `finish` reports the first such step.
template <class Network>
requires gpu_backend<typename Network::backend_type>
class gpu_steps {
 public:
  using B = typename Network::backend_type;
  using scalar = float;
  using value = value_of<B>;
  static constexpr std::size_t slots = 2;

  gpu_steps(gpu_steps const&) = delete;
  gpu_steps& operator=(gpu_steps const&) = delete;

  /// Steps begun whose reports are not yet fetched.
  std::size_t in_flight() const { return static_cast<std::size_t>(begun_ - finished_); }
  /// Waits for the first step in flight. Errors: numeric_error if loss, gradients or running averages are not finite:
  /// everything is then as it was before the step; device_error; group_error: the step stays in flight, and none will
  /// ever end.
  step_report finish() {
    if (begun_ == finished_) throw setting_error({"training on a GPU", "a step that was begun", "none"});
    slot& s = slots_[finished_ % slots];
    await(s.done);
    step_report report;
    report.step = optimizer_.steps() + 1 - in_flight();
    auto const results = s.results().subspan(group_ != nullptr ? 1 : 0, processes());
    if (s.results().front().not_finite != 0) forget(report.step, results);
    ++finished_;
    if (learned_from_ == 0) net_.batches_tracked(net_.batches_tracked() + 1);
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

  /// Copies the network and the optimizer's averages from the GPU. Errors: setting_error with steps in flight.
  void fetch() {
    require_none_in_flight();
    if (fetched_ == begun_) return;
    for (piece const& p : pieces()) {
      download(on_, p.count, weights() + p.begin, p.weights);
      download(on_, p.count, first() + p.begin, p.first);
      download(on_, p.count, second() + p.begin, p.second);
    }
    fetched_ = begun_;
  }
  /// Goes on from the network and the optimizer as they are now.
  void adopt() {
    require_none_in_flight();
    for (piece const& p : pieces()) {
      upload(on_, p.count, p.weights, weights() + p.begin);
      upload(on_, p.count, p.first, first() + p.begin);
      upload(on_, p.count, p.second, second() + p.begin);
    }
    fetched_ = begun_;
    blank_ = net_.is_blank();
  }

  Network& network() { return net_; }
  Network const& network() const { return net_; }
  adam<Network>& optimizer() { return optimizer_; }
  adam<Network> const& optimizer() const { return optimizer_; }
  training_settings const& settings() const { return settings_; }
  /// Steps begun.
  std::uint64_t steps() const { return optimizer_.steps(); }

 protected:
  /// What learns beside the network: values in the machine's memory, whose copies lie behind the network's.
  struct companion {
    float *weights = nullptr, *first = nullptr, *second = nullptr;
    std::vector<detail::gpu::line_role> roles{};  ///< of its lines
  };

  /// `batch_bytes`: room for what a step's `fill` puts into its parcel. Parameters before `learned_from` stay as they
  /// are, running averages too.
  gpu_steps(context<B>& on, Network& net, training_settings const& settings, std::size_t batch_bytes,
            gpu_group* group = nullptr, std::size_t learned_from = 0, companion const& more = {})
      : on_(on),
        settings_(settings),
        group_(group),
        net_(net),
        optimizer_(adam_settings{.weight_decay = settings.weight_decay, .decoupled = settings.decoupled_decay}),
        rate_{settings.learning_rate, settings.warm_up_steps},
        more_(more),
        learned_from_(learned_from),
        weights_(3 * room() * sizeof(float)),
        roles_(room() / detail::gpu::line_values),
        results_((group != nullptr ? 1 + group->size() : 1) * sizeof(detail::gpu::step_result)) {
    require_valid(settings);
    // Asked here, and not by the first convolution that can be so: that one is recorded.
    if constexpr (std::same_as<value, bfloat16>) on.direct(detail::gpu::reads_rows_anywhere);
    auto roles = detail::gpu::line_roles<Network>(learned_from);
    roles.insert(roles.end(), more.roles.begin(), more.roles.end());
    upload(on, roles.size(), roles.data(), reinterpret_cast<detail::gpu::line_role*>(roles_.data()));
    for (slot& s : slots_) {
      s.parcel = gpu_parcel(alignment + batch_bytes);
      s.host_results = pinned_block(results_.size());
    }
  }
  ~gpu_steps() { drain(); }
  /// Waits for all that has been begun, which uses memory of whoever is going now, and forgets what was recorded, which
  /// names it.
  void drain() {
    cudaStreamSynchronize(copies_);
    cudaStreamSynchronize(on_.stream());
    for (slot& s : slots_) s.work = {};
  }

  /// Begins a step on a batch of `count` items, which come as bytes and samples or else as values. `fill` puts them
  /// into a gpu_parcel and returns where they will lie. `work`, which is told that, puts forward, loss and backward
  /// into the stream and returns where gradients are, laid out as the weights; of a step like the last one it is not
  /// asked again.
  template <class Fill, class Work>
  void begin_step(std::size_t count, bool raw, Fill&& fill, Work&& work) {
    if (in_flight() == slots) throw setting_error({"training on a GPU", "two steps begun at most", "a third"});
    if (blank_ && optimizer_.steps() == 0)
      throw setting_error({"a network to train on a GPU",
                           "values when the trainer was made, or adopt() behind initialise(seed) or load_checkpoint",
                           "zeros alone"});
    slot& s = slots_[begun_ % slots];
    s.sent.wait();  // that of a step whose recording failed may still be on its way
    auto const step = optimizer_.steps() + 1;
    adam_settings a = optimizer_.settings();
    a.learning_rate = rate_.at(step), a.step = step;
    detail::gpu::adam_factors const now(a);
    s.parcel.clear();
    auto const* const factors = s.parcel.put(std::span(&now, 1));
    auto const batch = fill(s.parcel);
    s.parcel.send(copies_);
    s.sent.record(copies_);
    s.sent.hold(on_.stream());
    if (!s.work || s.count != count || s.raw != raw)
      s.work = detail::gpu::recorded_work(on_.stream(), [&] {
        keep_averages();
        conclude(s, factors, work(batch));
      });
    s.count = count, s.raw = raw;
    s.work.launch(on_.stream());
    s.done.record(on_.stream());
    optimizer_.steps(step);
    ++begun_;
  }

  std::size_t processes() const { return group_ != nullptr ? group_->size() : 1; }
  std::size_t rank() const { return group_ != nullptr ? group_->rank() : 0; }
  std::size_t workers() const { return settings_.parts * processes(); }

  /// The network's parameters on the GPU, then those of its companion.
  float* weights() { return reinterpret_cast<float*>(weights_.data()); }
  std::size_t room() const { return Network::parameter_room + more_.roles.size() * detail::gpu::line_values; }
  /// This process's result, and everyone's: of a single process they are one.
  detail::gpu::step_result* result() { return reinterpret_cast<detail::gpu::step_result*>(results_.data()); }
  detail::gpu::step_result* results() { return result() + (group_ != nullptr ? 1 : 0); }

  /// The running averages among the parameters [begin, end).
  void copy_averages(float const* from, float* to, detail::gpu::step_result const* if_not_finite = nullptr,
                     std::size_t begin = 0, std::size_t end = Network::parameter_room) {
    detail::gpu::launch(
        on_.stream(), detail::gpu::copy_average_lines<>, dim3(detail::gpu::blocks_for(end - begin, 256)), 256, 0,
        roles() + begin / detail::gpu::line_values, end - begin, from + begin, to + begin, if_not_finite);
  }
  void give_back_averages() { copy_averages(first(), weights()); }

  context<B>& on_;
  training_settings settings_;
  gpu_group* group_;

 private:
  static_assert(sizeof(detail::gpu::adam_factors) <= alignment);
  /// A batch on its way, and the step it is for.
  struct slot {
    gpu_parcel parcel;
    pinned_block host_results;
    gpu_event sent, done;
    detail::gpu::recorded_work work;
    std::size_t count = 0;  ///< items that `work` was recorded for,
    bool raw = false;       ///< and how they come
    /// This process's, then, if there is a group, everyone's; perhaps more that nobody writes.
    std::span<detail::gpu::step_result const> results() const {
      return {reinterpret_cast<detail::gpu::step_result const*>(host_results.data()),
              host_results.size() / sizeof(detail::gpu::step_result)};
    }
  };
  struct piece {
    float *weights, *first, *second;
    std::size_t begin, count;
  };
  std::array<piece, 2> pieces() {
    std::size_t const own = Network::parameter_room;
    return {piece{net_.data(), optimizer_.first(), optimizer_.second(), 0, own},
            piece{more_.weights, more_.first, more_.second, own, room() - own}};
  }

  /// The optimizer's averages. Those of running averages, which have none, hold these as they were before the step.
  float* first() { return weights() + room(); }
  float* second() { return weights() + 2 * room(); }
  detail::gpu::line_role const* roles() const { return reinterpret_cast<detail::gpu::line_role const*>(roles_.data()); }
  void keep_averages() { copy_averages(weights(), first()); }

  /// Where others take part, a step whose messages do not come has no end: as mpi_group does, it is asked for, and CUDA
  /// knows no waiting that ends of itself.
  void await(gpu_event const& e) {
    if (group_ == nullptr) return e.wait();
    try {
      while (!e.has_come()) {
        group_->check();
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
      group_->check();
    } catch (group_error const&) {
      for (slot& s : slots_) s.work = {};
      group_->abandon();
      throw;
    }
  }
  void require_none_in_flight() const {
    if (in_flight() > 0)
      throw setting_error({"training on a GPU, what was learned", "no step in flight", std::to_string(in_flight())});
  }

  /// What every step ends with: the optimizer's step, unless something was not finite, and word of it.
  void conclude(slot const& s, detail::gpu::adam_factors const* factors, float const* gradients) {
    cudaStream_t const in = on_.stream();
    // All decide alike: by everyone's loss, and by gradients that are everyone's mean.
    for (std::size_t each = 0; each != processes(); ++each)
      detail::gpu::check_finite(in, 1, static_cast<double const*>(results()[each].tally), &result()->not_finite);
    detail::gpu::check_finite(in, room(), gradients, &result()->not_finite);
    if (workers() > 1)  // the mean of everyone's, which went with the gradients
      copy_averages(gradients, weights());
    else
      detail::gpu::launch(in, detail::gpu::check_average_lines<>, dim3(detail::gpu::blocks_for(room(), 256)), 256, 0,
                          roles(), room(), weights(), &result()->not_finite);
    copy_averages(first(), weights(), result());
    detail::gpu::launch(in, detail::gpu::adam_lines<>, dim3(detail::gpu::blocks_for(room(), 1024)), 256, 0, factors,
                        roles(), room(), gradients, weights(), first(), second(),
                        static_cast<detail::gpu::step_result const*>(result()));
    cuda_check(cudaMemcpyAsync(s.host_results.data(), result(), s.host_results.size(), cudaMemcpyDeviceToHost, in),
               "fetching a step's result");
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
    throw numeric_error(
        {"training step " + std::to_string(step) + (std::isfinite(loss) ? ", gradients or running averages" : ", loss"),
         "finite numbers", found + where});
  }

  Network& net_;
  adam<Network> optimizer_;
  warm_up rate_;
  companion more_;
  std::size_t learned_from_;
  device_block weights_, roles_, results_;  // results: this process's, then all
  gpu_stream copies_;
  std::array<slot, slots> slots_;
  std::uint64_t begun_ = 0, finished_ = 0, fetched_ = 0;
  bool blank_ = true;  ///< what was copied there had no values
};

}  // namespace l3::inline L3_ISA
