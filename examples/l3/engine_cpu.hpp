/// @file  examples/l3/engine_cpu.hpp: the three models on the processor. One unit for each precision instantiates it.
#pragma once
#include <l3/core/tensor.hpp>
#include <l3/kernels/kernels.hpp>
#include <l3/model/sliding.hpp>
#include <optional>

#include "engine.hpp"

namespace l3::program {

/// A map's windows when it is pooled to at most Rows x Columns: bin i covers [floor(i H / Rows), ceil((i + 1) H /
/// Rows)), which is the paper's equal kernel and stride wherever the map divides evenly.
template <image_shape Map, std::size_t Rows, std::size_t Columns>
void pool_to_grid(float const* map, float* out) {
  for (std::size_t i = 0; i < Rows; ++i)
    for (std::size_t j = 0; j < Columns; ++j, out += Map::channels) {
      std::fill_n(out, Map::channels, -std::numeric_limits<float>::infinity());
      for (std::size_t r = i * Map::height / Rows; r < ((i + 1) * Map::height + Rows - 1) / Rows; ++r)
        for (std::size_t s = j * Map::width / Columns; s < ((j + 1) * Map::width + Columns - 1) / Columns; ++s)
          for (std::size_t c = 0; c < Map::channels; ++c)
            out[c] = std::max(out[c], map[(r * Map::width + s) * Map::channels + c]);
    }
}

template <backend B, class Config>
class cpu_engine final : public engine {
  using network = l3_network<B, Config>;
  using user = inference<network>;
  static constexpr std::size_t frame_rows = 4, frame_columns = 4, sound_rows = 4, sound_columns = 3;

 public:
  explicit cpu_engine(std::size_t threads) : on_(threads) {
    facts_ = {.name = Config::name,
              .description = describe_model<Config>(),
              .backend = std::string("cpu (") + B::name + ", " + B::precision::name + ")",
              .front_end = Config::front_end::name,
              .frame = {Config::frame::height, Config::frame::width},
              .sound = {network::sound::height, network::sound::width},
              .frame_side = Config::frame_side,
              .embedding = network::embedding::size,
              .frame_grid = frame_rows * frame_columns * network::embedding::size,
              .sound_grid = sound_rows * sound_columns * network::embedding::size,
              .learned = network::learned,
              .flops = network::flops,
              .learning_rate = Config::learning_rate,
              .batch = Config::batch,
              .training = training<network>::plan,
              .inference = user::plan,
              .layers = {},
              .tensors = {}};
    add_layers<typename network::vision>("vision.");
    add_layers<typename network::audio>("audio.");
    for (parameter const& p : network::parameters)
      facts_.tensors.push_back({std::string(p.name.view()), {p.shape().begin(), p.shape().end()}, p.learned()});
  }
  model_facts const& facts() const override { return facts_; }

  void initialise(std::uint64_t seed) override {
    net_.initialise(seed);
    changed_ = true;
  }
  void load(std::filesystem::path const& checkpoint, bool with_optimizer) override {
    changed_ = true;
    load_checkpoint(checkpoint, net_, with_optimizer ? &trainer_->optimizer() : nullptr);
  }
  void save(std::filesystem::path const& checkpoint, bool with_optimizer,
            checkpoint_facts const& facts) const override {
    save_checkpoint<network>(checkpoint, net_, with_optimizer ? &trainer_->optimizer() : nullptr, facts);
  }

  void prepare_training(training_settings const& settings) override { trainer_.emplace(on_, net_, settings); }
  std::uint64_t steps() const override { return trainer_ ? trainer_->steps() : 0; }
  step_report step(std::span<float const> frames, std::span<float const> sounds, std::span<std::int32_t const> labels,
                   std::size_t count) override {
    changed_ = true;
    return trainer_->step({frames.data(), count}, {sounds.data(), count}, labels);
  }

  void prepare_inference(std::size_t items) override {
    sliding_.reset();
    user_.emplace(on_, net_, items);
    changed_ = false;
    frame_map_ = tensor<float, typename user::vision_map::output>(0);
    sound_map_ = tensor<float, typename user::audio_map::output>(0);
  }
  void score(std::span<float const> frames, std::span<float const> sounds, std::size_t count,
             std::span<float> logits) override {
    in_use().score({frames.data(), count}, {sounds.data(), count}, {logits.data(), count});
  }
  void embed(modality what, pooling pool, std::span<float const> items, std::size_t count,
             std::span<float> out) override {
    if (what == modality::frame) {
      batch_view<float const, typename network::frame> const frames(items.data(), count);
      if (pool == pooling::global) return in_use().embed_frames(frames, {out.data(), count});
      if (frame_map_.count() < count) frame_map_ = tensor<float, typename user::vision_map::output>(user_->room());
      auto const map = frame_map_.view().slice(0, count);
      in_use().map_frames(frames, map);
      for (std::size_t k = 0; k < count; ++k)
        pool_to_grid<typename user::vision_map::output, frame_rows, frame_columns>(map[k].data(),
                                                                                   out.data() + k * facts_.frame_grid);
    } else {
      batch_view<float const, typename network::sound> const sounds(items.data(), count);
      if (pool == pooling::global) return in_use().embed_sounds(sounds, {out.data(), count});
      if (sound_map_.count() < count) sound_map_ = tensor<float, typename user::audio_map::output>(user_->room());
      auto const map = sound_map_.view().slice(0, count);
      in_use().map_sounds(sounds, map);
      pool_sound_grids(map, out);
    }
  }
  bool prepare_sliding(std::size_t hop, std::size_t windows) override {
    sliding_.reset();
    constexpr double worthwhile = 0.9;  // copying columns costs a few per cent too
    if (hop > 0 && sliding::cost(hop) < worthwhile) sliding_.emplace(on_, *user_, hop, windows);
    return sliding_.has_value();
  }
  void embed_sliding(pooling pool, std::span<float const> spectrogram, std::size_t count,
                     std::span<float> out) override {
    in_use();  // sliding_ reads its weights
    if (pool == pooling::global) return sliding_->embed(spectrogram.data(), {out.data(), count});
    if (sound_map_.count() < count) sound_map_ = tensor<float, typename user::audio_map::output>(sliding_->room());
    auto const map = sound_map_.view().slice(0, count);
    sliding_->map(spectrogram.data(), map);
    pool_sound_grids(map, out);
  }

 private:
  using sliding = sliding_sounds<network>;

  void pool_sound_grids(batch_view<float, typename user::audio_map::output> map, std::span<float> out) {
    for (std::size_t k = 0; k < map.count; ++k)
      pool_to_grid<typename user::audio_map::output, sound_rows, sound_columns>(map[k].data(),
                                                                                out.data() + k * facts_.sound_grid);
  }

  template <class Chain>
  void add_layers(std::string const& prefix) {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (add_layer<typename Chain::template node<I>>(prefix), ...); }
    (std::make_index_sequence<Chain::length>{});
  }
  template <class Node>
  void add_layer(std::string const& prefix) {
    using layer = typename Node::layer;
    using shape = typename layer::output;
    layer_row row{prefix + std::string(Node::name.view()), layer::name, {}, layer::flops, ""};
    if constexpr (image_shape<shape>)
      row.output = {shape::height, shape::width, shape::channels};
    else
      row.output = {shape::size};
    if constexpr (requires { layer::template algorithm<B>; }) row.algorithm = layer::template algorithm<B>;
    facts_.layers.push_back(std::move(row));
  }

  /// With the weights of this moment.
  user& in_use() {
    if (changed_) user_->refresh(net_);
    changed_ = false;
    return *user_;
  }

  model_facts facts_;
  context<B> on_;
  network net_;
  std::optional<trainer<network>> trainer_;
  std::optional<user> user_;
  std::optional<sliding> sliding_;  // with the weights of user_
  bool changed_ = false;            // since user_ took over the weights
  tensor<float, typename user::vision_map::output> frame_map_;
  tensor<float, typename user::audio_map::output> sound_map_;
};

/// The model of this name on backend B. Errors: setting_error for an unknown model.
template <backend B>
std::unique_ptr<engine> make_engine(std::string const& model, std::size_t threads) {
  if (model == paper::name) return std::make_unique<cpu_engine<B, paper>>(threads);
  if (model == small::name) return std::make_unique<cpu_engine<B, small>>(threads);
  if (model == tiny::name) return std::make_unique<cpu_engine<B, tiny>>(threads);
  throw setting_error({"--model", "paper, small or tiny", model});
}

}  // namespace l3::program
