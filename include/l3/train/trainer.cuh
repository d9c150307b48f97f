/// @file  include/l3/train/trainer.cuh: training on a GPU, alone or as one of several.
#pragma once
#include <algorithm>
#include <cstdint>
#include <l3/core/gpu_group.cuh>
#include <l3/train/loss.cuh>
#include <l3/train/pair_steps.cuh>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace l3::inline L3_ISA {

/// Trains a network on a GPU; how steps are begun and finished, pair_steps and gpu_steps say.
///
/// With a group, gradients are on their way to the others as soon as they are complete, on a stream of their own, while
/// backward goes on.
///
/// Memory  of the GPU: `plan` for a batch; weights, gradients and averages (4 times the parameters), and the scores of
///         the pairs on top.
template <class Network>
requires gpu_backend<typename Network::backend_type>
class trainer<Network> : public pair_steps<Network, trainer<Network>> {
  using base = pair_steps<Network, trainer<Network>>;
  friend base;

 public:
  using typename base::B;
  using typename base::value;
  using fusion = typename Network::fusion;

  /// All that grows with the batch but the scores of the pairs.
  static constexpr footprint plan = training<Network>::plan + base::input_plan;

  trainer(context<B>& on, Network& net, training_settings const& settings, gpu_group* group = nullptr)
      : base(on, net, settings, group, 0),
        pass_(on, settings.batch, settings.which),
        loss_(meets_others() ? settings.batch * settings.batch * this->workers() : pass_.most_rows()) {
    if (settings.sync_batch_norm && settings.parts != 1)
      throw setting_error(
          {"training: batch norm over all processes", "one part for each", std::to_string(settings.parts)});
    if (settings.sync_batch_norm && group != nullptr) norm_room_ = device_block(on.norm_room(*group, most_channels));
    if (settings.parts > 1) sums_ = device_block(room * sizeof(float));
    if (meets_others()) others_.emplace(settings, this->processes());
    this->adopt();
  }
  ~trainer() {
    this->drain();
    cudaStreamSynchronize(messages_);
  }

  /// Gradients of the last step, the mean over the workers, laid out as Network::parameters; in the GPU's memory.
  float* gradients() { return settings_.parts > 1 ? sums() : pass_.gradients(); }

 private:
  static constexpr std::size_t room = Network::parameter_room, hidden = Network::config::hidden;
  static constexpr std::size_t head_begin = Network::fusion_offset + fusion::parameters[1].offset;
  static constexpr std::size_t head_size = room - head_begin;
  static constexpr std::size_t most_channels = [] {
    std::size_t most = 0;
    for (parameter const& p : Network::parameters)
      if (p.kind == role::mean) most = std::max(most, p.count());
    return most;
  }();
  /// So many gradients are worth a message of their own.
  static constexpr std::size_t bucket_size = std::size_t{1} << 18;
  using base::group_;
  using base::on_;
  using base::settings_;

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

  bool meets_others() const {
    return settings_.which == pairing::all && settings_.across_workers && this->workers() > 1;
  }
  float* sums() { return reinterpret_cast<float*>(sums_.data()); }
  void copy(std::size_t count, float const* from, float* to) {
    cuda_check(cudaMemcpyAsync(to, from, count * sizeof(float), cudaMemcpyDeviceToDevice, on_.stream()),
               "copying values");
  }

  /// Forward, loss and backward of a step, into the stream.
  float const* gradients_of(typename base::batch const& b) {
    std::size_t const each = b.frames.count / settings_.parts;
    if (settings_.sync_batch_norm) on_.norm_over(group_, norm_room_.data());
    try {
      if (meets_others())
        together(each, b);
      else
        apart(each, b);
    } catch (...) {
      on_.norm_over(nullptr);
      bucket_begin_ = bucket_end_ = 0;
      throw;
    }
    on_.norm_over(nullptr);
    if (group_ != nullptr) {
      cudaStream_t const in = on_.stream();
      begin_bucket();  // what is left
      if (!settings_.sync_batch_norm) home_.record(messages_), home_.hold(in);
      detail::gpu::check_finite(in, 1, static_cast<double const*>(this->result()->tally),
                                &this->result()->own_not_finite);
      group_->gather(this->result(), this->results(), sizeof(detail::gpu::step_result), in);
    }
    return gradients();
  }

  void score(pair_dims const& d, std::size_t first_sound, std::int32_t const* labels, float const* logits,
             float* dlogits, bool adds) {
    loss_(on_.stream(), d, first_sound, labels, logits, dlogits, this->result()->tally, adds);
  }
  void apart(std::size_t n, typename base::batch const& b) {
    for (std::size_t part = 0; part != settings_.parts; ++part) {
      if (part > 0) this->give_back_averages();
      auto const logits = pass_.forward(this->weights(), b.frames.slice(part * n, n), b.sounds.slice(part * n, n));
      score(fusion::pairs(n, settings_.which), 0, b.labels + part * n, logits.data, pass_.dlogits(), part > 0);
      pass_.backward(this->weights(), [&](std::size_t begin, std::size_t end) { complete(part, begin, end); });
      add_up(part);
    }
  }
  /// See trainer on processors.
  void together(std::size_t n, typename base::batch const& b) {
    std::size_t const parts = settings_.parts, size = n * hidden, own = parts * size, all = own * this->processes();
    meeting& m = *others_;
    auto const forward = [&](std::size_t part) {
      if (part > 0) this->give_back_averages();
      pass_.forward_halves(this->weights(), b.frames.slice(part * n, n), b.sounds.slice(part * n, n));
    };
    for (std::size_t part = 0; part != parts; ++part) {
      forward(part);
      copy(size, pass_.u(), m.u + part * size), copy(size, pass_.t(), m.t + part * size);
      if (group_ != nullptr)
        for (float const* const half : {pass_.u(), pass_.t()})
          detail::gpu::check_finite(on_.stream(), size, half, &this->result()->halves_not_finite);
    }
    if (group_ != nullptr)
      group_->gather(m.t, m.all_t, own * sizeof(float), on_.stream());
    else
      copy(own, m.t, m.all_t);
    pair_dims const d = fusion::pairs(n, pairing::all, (this->workers() - 1) * n);
    float const* const params = this->weights() + Network::fusion_offset;
    for (std::size_t part = 0; part != parts; ++part) {
      float const* const u = m.u + part * size;
      fusion::scores(pass_.at(), d, params, u, m.all_t, m.logits);
      score(d, (this->rank() * parts + part) * n, nullptr, m.logits, m.dlogits, part > 0);
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
      if (parts > 1) this->give_back_averages(), forward(part);
      copy(head_size, m.head + part * head_size, pass_.gradients() + head_begin);
      pass_.backward_halves(this->weights(), m.du + part * size, m.dt + part * size,
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
    this->copy_averages(this->weights(), g, nullptr, begin, end);
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
                              &this->result()->own_not_finite);
    if (end != bucket_begin_) begin_bucket(), bucket_end_ = end;
    bucket_begin_ = begin;
    if (bucket_end_ - bucket_begin_ >= bucket_size) begin_bucket();
  }
  void begin_bucket() {
    if (bucket_begin_ != bucket_end_) {
      // Where batch norm talks to the others too, nothing overtakes: a group's messages have one order.
      cudaStream_t const way = settings_.sync_batch_norm ? on_.stream() : messages_;
      if (way == messages_) away_.record(on_.stream()), away_.hold(messages_);
      group_->mean(gradients() + bucket_begin_, bucket_end_ - bucket_begin_, 1 / static_cast<float>(this->workers()),
                   way);
    }
    bucket_begin_ = bucket_end_ = 0;
  }

  training<Network> pass_;
  gpu_pair_loss loss_;
  device_block sums_, norm_room_;
  std::optional<meeting> others_;
  gpu_stream messages_;
  gpu_event away_, home_;                          ///< what messages wait for, and what waits for them
  std::size_t bucket_begin_ = 0, bucket_end_ = 0;  ///< complete, not yet on their way
};

/// (The guide that the first template's constructor gives names processes alone.)
template <class Network>
requires gpu_backend<typename Network::backend_type> trainer(context<typename Network::backend_type>&, Network&,
                                                             training_settings const&, gpu_group*)
->trainer<Network>;

}  // namespace l3::inline L3_ISA
