/// @file  examples/l3/engine_network.hpp: the three models on a backend. One unit for each of these instantiates it.
#pragma once
#include <l3/core/tensor.hpp>
#include <l3/kernels/kernels.hpp>
#include <l3/model/sliding.hpp>
#include <l3/train/classifier_checkpoint.hpp>
#include <l3/train/classifier_trainer.hpp>
#include <l3/train/fusion_trainer.hpp>
#include <optional>
#include <tuple>
#include <type_traits>
#include <variant>
#if L3_CUDA
#include <l3/model/hosted_classifier.cuh>
#include <l3/model/hosted_inference.cuh>
#include <l3/model/hosted_sliding.cuh>
#include <l3/train/classifier_trainer.cuh>
#include <l3/train/fusion_trainer.cuh>
#include <l3/train/trainer.cuh>
#endif
#if L3_CUDA && defined(L3_WITH_NCCL)
#include <l3/processes/nccl_group.cuh>
#endif

#include "engine.hpp"
#include "pool_maps.hpp"

namespace l3::program {

namespace detail_of_engine {
/// Networks in use, for values of the machine's memory.
#if L3_CUDA
template <class Network>
using user_of =
    std::conditional_t<host_backend<typename Network::backend_type>, inference<Network>, hosted_inference<Network>>;
template <class Network>
using classifier_user_of = std::conditional_t<host_backend<typename Network::backend_type>,
                                              classifier_inference<Network>, hosted_classifier<Network>>;
template <class Network>
using sliding_of =
    std::conditional_t<host_backend<typename Network::backend_type>, sliding_sounds<Network>, hosted_sliding<Network>>;
#else
template <class Network>
using user_of = inference<Network>;
template <class Network>
using classifier_user_of = classifier_inference<Network>;
template <class Network>
using sliding_of = sliding_sounds<Network>;
#endif

/// On so many threads of the processor, or on this machine's GPU number `device`.
template <backend B>
context<B> context_on(std::size_t threads, [[maybe_unused]] int device) {
  if constexpr (host_backend<B>)
    return context<B>(threads);
  else
    return context<B>(threads, device);
}
/// One of these trainers, or none yet, whose steps are begun and finished apart. On the processor a step is done when
/// it is begun.
template <backend B, class... Trainers>
class teacher {
  static constexpr bool on_host = host_backend<B>;
  using first = std::tuple_element_t<0, std::tuple<Trainers...>>;

 public:
  template <class Trainer, class... Arguments>
  void emplace(Arguments&&... arguments) {
    clear();  // what has been begun uses what is made anew
    one_.template emplace<Trainer>(arguments...);
  }
  void clear() { one_.template emplace<std::monostate>(); }
  /// Null: there is no trainer.
  auto* optimizer() {
    decltype(&std::declval<first&>().optimizer()) found = nullptr;
    visit(one_, [&](auto& t) { found = &t.optimizer(); });
    return found;
  }
  /// Steps whose reports were fetched.
  std::uint64_t steps() const {
    std::uint64_t count = 0;
    visit(one_, [&](auto& t) { count = t.steps() - in_flight(); });
    return count;
  }
  static constexpr std::size_t most_in_flight() {
    if constexpr (on_host)
      return 1;
    else
      return first::slots;
  }
  std::size_t in_flight() const {
    std::size_t count = report_ ? 1 : 0;
    if constexpr (!on_host) visit(one_, [&](auto& t) { count = t.in_flight(); });
    return count;
  }
  /// `batch` is what the trainer's `begin`, or on the processor its `step`, takes.
  template <class... Batch>
  void begin(Batch const&... batch) {
    visit(one_, [&](auto& t) {
      if constexpr (on_host)
        report_ = t.step(batch...);
      else
        t.begin(batch...);
    });
  }
  step_report finish() {
    if constexpr (!on_host) visit(one_, [&](auto& t) { report_ = t.finish(); });
    return *std::exchange(report_, std::nullopt);
  }
  /// Brings what has been learned where files and inference find it; and the other way.
  void fetch() {
    if constexpr (!on_host) visit(one_, [](auto& t) { t.fetch(); });
  }
  void adopt() {
    if constexpr (!on_host) visit(one_, [](auto& t) { t.adopt(); });
  }

 private:
  template <class One, class F>
  static void visit(One& one, F&& f) {
    std::visit(
        [&](auto& t) {
          if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(t)>, std::monostate>) f(t);
        },
        one);
  }
  std::variant<std::monostate, Trainers...> one_;
  std::optional<step_report> report_;
};
/// What a trainer on a GPU takes for each item.
template <class Trainer>
footprint plan_of([[maybe_unused]] bool frozen = false) {
  if constexpr (requires { Trainer::frozen_plan; })
    return frozen ? Trainer::frozen_plan : Trainer::plan;
  else if constexpr (requires { Trainer::plan; })
    return Trainer::plan;
  else
    return {};
}
/// Makes a trainer that takes `plan` for a batch, or what it validates with; where a GPU's memory does not do, says
/// what would, and there is no trainer any more.
template <class B, class Teacher, class Make>
void with_plan(context<B>& on, [[maybe_unused]] model_facts const& facts, [[maybe_unused]] footprint plan,
               [[maybe_unused]] std::string const& more, [[maybe_unused]] Teacher& by, Make&& make) {
  if constexpr (host_backend<B>) {
    make();
  } else {
    try {
      make();
    } catch (device_memory_error const& e) {
      model_facts of = facts;
      of.training = plan;
      by.clear();  // its memory is to have, too
      throw device_memory_error(std::string(e.what()) + "; such training of " + facts.name + " fits up to batch " +
                                std::to_string(fitting_batch(of, on.memory_left())) + more + " (l3 info --model " +
                                facts.name + " --backend cuda has the plan of a whole network)");
    }
  }
}
/// Bytes and samples that nothing is done to.
class unchanged {
 public:
  template <class Frames>
  typename Frames::raw_view frames(item_spans const& x, std::size_t count) {
    jitters_.resize(std::max(jitters_.size(), count));
    return {{x.crops.data(), count}, std::span(jitters_).first(count)};
  }
  template <class Sounds>
  typename Sounds::raw_view sounds(item_spans const& x, std::size_t count) {
    volumes_.resize(std::max(volumes_.size(), count), 1.0f);
    return {{x.seconds.data(), count}, std::span(volumes_).first(count)};
  }

 private:
  std::vector<image_jitter> jitters_;
  std::vector<float> volumes_;
};
template <backend B>
[[noreturn]] void refuse_raw() {
  throw setting_error({"a batch of bytes and samples", "a backend that takes them", B::name});
}
}  // namespace detail_of_engine

template <backend B, class Config>
class network_engine final : public engine {
  using network = l3_network<B, Config>;
  using user = detail_of_engine::user_of<network>;
  static constexpr bool on_host = host_backend<B>;

 public:
  /// On so many threads of the processor, or on this machine's GPU number `device`.
  network_engine(std::size_t threads, int device)
      : facts_(describe()), on_(detail_of_engine::context_on<B>(threads, device)) {}
  static model_facts describe() {
    model_facts facts{
        .name = Config::name,
        .description = l3::describe_model<Config>(),
        .backend = std::string(on_host ? "cpu (" : "") + B::name + (on_host ? ", " : " (") + B::precision::name + ")",
        .front_end = Config::front_end::name,
        .frame = {Config::frame::height, Config::frame::width},
        .sound = {network::sound::height, network::sound::width},
        .frame_side = Config::frame_side,
        .embedding = network::embedding::size,
        .frame_cells = picture_regions.height * picture_regions.width,
        .sound_cells = sound_regions.height * sound_regions.width,
        .learned = network::learned,
        .weights = network::parameter_room * sizeof(float),
        .flops = network::flops,
        .learning_rate = Config::learning_rate,
        .batch = Config::batch,
        .training = training_plan(),
        .inference = user::plan,
        .layers = {},
        .tensors = {}};
    add_layers<typename network::vision>(facts, "vision.");
    add_layers<typename network::audio>(facts, "audio.");
    for (parameter const& p : network::parameters)
      facts.tensors.push_back(
          {std::string(p.name.view()), {p.shape().begin(), p.shape().end()}, p.learned(), p.offset});
    return facts;
  }
  model_facts const& facts() const override { return facts_; }

  void initialise(std::uint64_t seed) override {
    net_.initialise(seed);
    changed_ = true;
  }
  void load(std::filesystem::path const& checkpoint, bool with_optimizer) override {
    changed_ = true;
    load_checkpoint(checkpoint, net_, with_optimizer ? teacher_.optimizer() : nullptr);
    teacher_.adopt();
  }
  void save(std::filesystem::path const& checkpoint, bool with_optimizer, checkpoint_facts const& facts) override {
    teacher_.fetch();
    save_checkpoint<network>(checkpoint, net_, with_optimizer ? teacher_.optimizer() : nullptr, facts);
  }

  void take_trunk(modality what, std::filesystem::path const& checkpoint) override {
    changed_ = true;
    load_parameters(checkpoint, net_, what == modality::frame ? "vision" : "audio");
  }

  void prepare_training(training_settings const& settings, bool fusion_alone, process_group* group) override {
    teacher_.clear();  // what it has recorded uses the group that it was made with
    auto* const partner = partners(fusion_alone ? nullptr : group);
    fusion_alone_ = fusion_alone;
    with_plan([&] {
      if (fusion_alone)
        teacher_.template emplace<fusion_trainer<network>>(on_, net_, settings);
      else
        teacher_.template emplace<trainer<network>>(on_, net_, settings, partner);
    });
  }
  std::span<float const> weights() override {
    teacher_.fetch();
    return {net_.data(), network::parameter_room};
  }
  std::uint64_t steps() override { return teacher_.steps(); }
  std::size_t most_in_flight() const override { return teacher_.most_in_flight(); }
  std::size_t in_flight() const override { return teacher_.in_flight(); }
  void begin_step(std::span<float const> frames, std::span<float const> sounds, std::span<std::int32_t const> labels,
                  std::size_t count) override {
    changed_ = true;
    teacher_.begin(batch_view<float const, typename network::frame>(frames.data(), count),
                   batch_view<float const, typename network::sound>(sounds.data(), count), labels);
  }
  bool takes_raw() const override { return !on_host; }
  void begin_step(raw_spans const& b, std::span<std::int32_t const> labels) override {
    if constexpr (on_host) {
      detail_of_engine::refuse_raw<B>();
    } else {
      changed_ = true;
      std::size_t const count = b.jitters.size();
      teacher_.begin(
          typename trainer<network>::raw_items{
              {b.crops.data(), count}, {b.seconds.data(), count}, b.jitters, b.volumes},
          labels);
    }
  }
  step_report finish_step() override { return teacher_.finish(); }

  void prepare_inference(std::size_t items) override {
    sliding_.reset();
    teacher_.fetch();
    auto const make = [&] { user_.emplace(on_, net_, items); };
    if (teacher_.optimizer() != nullptr)
      with_plan(make);
    else
      make();
    changed_ = false;
    map_ = {};
  }
  void score(std::span<float const> frames, std::span<float const> sounds, std::size_t count,
             std::span<float> logits) override {
    in_use().score(batch_view<float const, typename network::frame>(frames.data(), count),
                   batch_view<float const, typename network::sound>(sounds.data(), count), {logits.data(), count});
  }
  void score(raw_spans const& b, std::span<float> logits) override {
    if constexpr (on_host) {
      detail_of_engine::refuse_raw<B>();
    } else {
      std::size_t const count = b.jitters.size();
      in_use().score(typename user::frames_in::raw_view{{b.crops.data(), count}, b.jitters},
                     typename user::sounds_in::raw_view{{b.seconds.data(), count}, b.volumes}, {logits.data(), count});
    }
  }
  void begin_embed(modality what, feature which, item_spans const& items, std::size_t count) override {
    in_use();
    using frames = batch_view<float const, typename network::frame>;
    using sounds = batch_view<float const, typename network::sound>;
    if constexpr (on_host) {
      if (items.values.empty() && count > 0) detail_of_engine::refuse_raw<B>();
      embedded_.resize(count * width_of(what, which));
      if (what == modality::frame)
        embed_items<of_frames>(which, frames(items.values.data(), count));
      else
        embed_items<of_sounds>(which, sounds(items.values.data(), count));
    } else {
      static_assert(trainer<network>::slots == user::most_in_flight, "l3: most_in_flight() is of both");
      if (what == modality::frame && items.crops.empty())
        embed_items<of_frames>(which, frames(items.values.data(), count));
      else if (what == modality::frame)
        embed_items<of_frames>(which, unchanged_.template frames<typename user::frames_in>(items, count));
      else if (items.seconds.empty())
        embed_items<of_sounds>(which, sounds(items.values.data(), count));
      else
        embed_items<of_sounds>(which, unchanged_.template sounds<typename user::sounds_in>(items, count));
    }
  }
  void finish_embed(std::span<float> out) override {
    if constexpr (on_host) {
      require_same_count("features", embedded_.size(), out.size());
      std::copy(embedded_.begin(), embedded_.end(), out.begin());
    } else {
      user_->finish(out);
    }
  }
  extent2 map_size(modality what) const override {
    using frames = typename user::vision_map::output;
    using sounds = typename user::audio_map::output;
    return what == modality::frame ? extent2{frames::height, frames::width} : extent2{sounds::height, sounds::width};
  }
  void map(modality what, std::span<float const> items, std::size_t count, std::span<float> out) override {
    if (what == modality::frame)
      in_use().map_frames({items.data(), count}, {out.data(), count});
    else
      in_use().map_sounds({items.data(), count}, {out.data(), count});
  }
  void score_features(std::span<float const> v, std::span<float const> a, std::size_t count,
                      std::span<float> logits) override {
    in_use().score_features({v.data(), count}, {a.data(), count}, {logits.data(), count});
  }
  bool prepare_sliding(std::size_t hop, std::size_t windows) override {
    sliding_.reset();
    constexpr double worthwhile = 0.9;  // copying columns costs a few per cent too
    if (hop > 0 && sliding::cost(hop) < worthwhile) sliding_.emplace(on_, *user_, hop, windows);
    return sliding_.has_value();
  }
  void begin_sliding(feature which, std::span<float const> spectrogram, std::size_t count) override {
    in_use();  // sliding_ reads its weights
    using map = typename user::audio_map::output;
    region_dims const regions = regions_of<of_sounds, map>(which.pool, count);
    if constexpr (!on_host) {
      if (which.from == depth::pool4)
        sliding_->begin_embed(spectrogram, count);
      else
        sliding_->begin_regions(spectrogram, count, regions.grid);
    } else {
      embedded_.resize(count * width_of(modality::sound, which));
      if (which.from == depth::pool4) return sliding_->embed(spectrogram.data(), {embedded_.data(), count});
      map_.resize(std::max(map_.size(), count * map::size));
      sliding_->map(spectrogram.data(), {map_.data(), count});
      pool_regions(regions, map_.data(), embedded_.data());
    }
  }

 private:
  using sliding = detail_of_engine::sliding_of<network>;

  template <class Make>
  void with_plan(Make&& make) {
    detail_of_engine::with_plan(on_, facts_,
                                fusion_alone_ ? detail_of_engine::plan_of<fusion_trainer<network>>() : facts_.training,
                                fusion_alone_ ? "" : ", and --accumulate makes steps of more", teacher_, make);
  }

  /// The two subnetworks, as embed_items sees them.
  struct of_frames {
    static constexpr extent2 grid = picture_regions;
    using last_map = typename user::vision_map::output;
    template <std::size_t Blocks>
    using map = typename user::template vision_blocks<Blocks>::output;
    template <std::size_t Blocks>
    static void pool(auto& net, auto x, auto y) {
      net.template pool_frames<Blocks>(x, y);
    }
    static void last(auto& net, auto x, auto y) { net.map_frames(x, y); }
    static void embed(auto& net, auto x, auto y) { net.embed_frames(x, y); }
  };
  struct of_sounds {
    static constexpr extent2 grid = sound_regions;
    using last_map = typename user::audio_map::output;
    template <std::size_t Blocks>
    using map = typename user::template audio_blocks<Blocks>::output;
    template <std::size_t Blocks>
    static void pool(auto& net, auto x, auto y) {
      net.template pool_sounds<Blocks>(x, y);
    }
    static void last(auto& net, auto x, auto y) { net.map_sounds(x, y); }
    static void embed(auto& net, auto x, auto y) { net.embed_sounds(x, y); }
  };

  template <class Side, class Items>
  void embed_items(feature which, Items const& items) {
    auto const blocks = [&]<std::size_t Blocks>() {
      embed_maps<Side, typename Side::template map<Blocks>>(
          which.pool, items, [](auto& net, auto x, auto y) { Side::template pool<Blocks>(net, x, y); });
    };
    switch (which.from) {
      case depth::pool1:
        return blocks.template operator()<1>();
      case depth::pool2:
        return blocks.template operator()<2>();
      case depth::pool3:
        return blocks.template operator()<3>();
      case depth::conv4_2:
        return embed_maps<Side, typename Side::last_map>(which.pool, items,
                                                         [](auto& net, auto x, auto y) { Side::last(net, x, y); });
      case depth::pool4:
        if constexpr (on_host)
          return Side::embed(*user_, items,
                             batch_view<float, typename network::embedding>(embedded_.data(), items.count));
        else
          return user_->begin_embed(items);
    }
  }
  /// What is left of maps that `make(net, x, y)` has a network make.
  template <class Side, class Map, class Items, class Make>
  void embed_maps(pooling pool, Items const& items, Make const& make) {
    if constexpr (on_host) {
      pool_maps<Map>(items, regions_of<Side, Map>(pool, 0).grid, map_, embedded_.data(),
                     [&](auto x, auto y) { make(*user_, x, y); });
    } else {
      user_->template begin_regions<Map>(items, regions_of<Side, Map>(pool, 0).grid, make);
    }
  }
  template <class Side, class Map>
  static region_dims regions_of(pooling pool, std::size_t count) {
    return {count, Map::height, Map::width, Map::channels, pool == pooling::grid ? Side::grid : extent2{}};
  }

  template <class Chain>
  static void add_layers(model_facts& facts, std::string const& prefix) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (add_layer<typename Chain::template node<I>>(facts, prefix), ...);
    }
    (std::make_index_sequence<Chain::length>{});
  }
  template <class Node>
  static void add_layer(model_facts& facts, std::string const& prefix) {
    using layer = typename Node::layer;
    using shape = typename layer::output;
    layer_row row{prefix + std::string(Node::name.view()), layer::name, {}, layer::flops, ""};
    if constexpr (image_shape<shape>)
      row.output = {shape::height, shape::width, shape::channels};
    else
      row.output = {shape::size};
    if constexpr (requires { layer::template algorithm<B>; }) row.algorithm = layer::template algorithm<B>;
    facts.layers.push_back(std::move(row));
  }

  static constexpr footprint training_plan() {
    if constexpr (on_host)
      return training<network>::plan;
    else
      return trainer<network>::plan;
  }
  /// The group as the trainer takes it.
#if L3_CUDA
  auto* partners(process_group* group) {
    if constexpr (on_host) {
      return group;
    } else {
#if defined(L3_WITH_NCCL)
      if (group != nullptr) gpus_.emplace(*group);
      return gpus_ ? static_cast<gpu_group*>(&*gpus_) : nullptr;
#else
      if (group != nullptr)
        throw setting_error(
            {"--backend cuda with several processes", "a program that was built with NCCL", "one without"});
      return static_cast<gpu_group*>(nullptr);
#endif
    }
  }
#else
  static process_group* partners(process_group* group) { return group; }
#endif
  /// With the weights of this moment.
  user& in_use() {
    if (changed_) teacher_.fetch(), user_->refresh(net_);
    changed_ = false;
    return *user_;
  }

  model_facts facts_;
  context<B> on_;
  network net_;
#if L3_CUDA && defined(L3_WITH_NCCL)
  std::optional<nccl_group> gpus_;
#endif
  detail_of_engine::teacher<B, trainer<network>, fusion_trainer<network>> teacher_;
  bool fusion_alone_ = false;  ///< what it teaches
  std::optional<user> user_;
  std::optional<sliding> sliding_;  // with the weights of user_
  bool changed_ = false;            // since user_ took over the weights
  std::vector<float> map_, embedded_;
  detail_of_engine::unchanged unchanged_;
};

template <backend B, class Side>
class network_classifier final : public classifier_engine {
  using network = trunk_classifier<B, Side>;
  using user = detail_of_engine::classifier_user_of<network>;
  using taught = classifier_trainer<network>;
  static constexpr bool on_host = host_backend<B>;
  using last_layer = std::conditional_t<on_host, softmax_head<B>, softmax_weights<float>>;

 public:
  network_classifier(model_facts facts, classifier_choice const& is, std::size_t threads, int device)
      : facts_(std::move(facts)),
        on_(detail_of_engine::context_on<B>(threads, device)),
        head_(make_head(is)),
        hidden_(on_host ? is.most_items : 0) {}
  model_facts const& facts() const override { return facts_; }
  std::size_t classes() const override { return head_.classes(); }

  void initialise(std::uint64_t seed) override {
    changed_ = true;
    net_.initialise(seed);
    head_.initialise(seed, network::parameters.size());
  }
  void take_trunk(std::filesystem::path const& checkpoint) override {
    changed_ = true;
    load_parameters(checkpoint, net_, std::string(Side::name.view()));
  }
  void load(std::filesystem::path const& checkpoint, bool with_optimizer) override {
    changed_ = true;
    load_classifier(checkpoint, net_, head_, with_optimizer ? teacher_.optimizer() : nullptr);
    teacher_.adopt();
  }
  void save(std::filesystem::path const& checkpoint, bool with_optimizer, checkpoint_facts const& facts) override {
    teacher_.fetch();
    save_classifier(checkpoint, net_, head_, with_optimizer ? teacher_.optimizer() : nullptr, facts);
  }
  void prepare_training(training_settings const& settings, bool frozen) override {
    frozen_ = frozen;
    with_plan([&] { teacher_.template emplace<taught>(on_, net_, head_, settings, frozen); });
  }
  std::uint64_t steps() const override { return teacher_.steps(); }
  std::size_t most_in_flight() const override { return teacher_.most_in_flight(); }
  std::size_t in_flight() const override { return teacher_.in_flight(); }
  void begin_step(std::span<float const> items, std::span<std::int32_t const> labels) override {
    changed_ = true;
    teacher_.begin(batch_view<float const, typename network::input>(items.data(), labels.size()), labels);
  }
  bool takes_raw() const override { return !on_host; }
  void begin_step(raw_spans const& b, std::span<std::int32_t const> labels) override {
    if constexpr (on_host) {
      detail_of_engine::refuse_raw<B>();
    } else {
      changed_ = true;
      using raw = typename classifier_trainer<network>::raw_items;
      if constexpr (std::same_as<Side, vision_of<typename Side::config>>)
        teacher_.begin(raw{{b.crops.data(), labels.size()}, b.jitters}, labels);
      else
        teacher_.begin(raw{{b.seconds.data(), labels.size()}, b.volumes}, labels);
    }
  }
  step_report finish_step() override { return teacher_.finish(); }
  void prepare_inference(std::size_t items) override {
    teacher_.fetch();
    auto const make = [&] {
      if constexpr (on_host)
        user_.emplace(on_, net_, items);
      else
        user_.emplace(on_, net_, head_.weights(), head_.biases(), items);
    };
    if (teacher_.optimizer() != nullptr)
      with_plan(make);
    else
      make();
    changed_ = false;
  }
  void score(item_spans const& items, std::size_t count, std::span<float> scores) override {
    if (changed_) teacher_.fetch(), refresh();
    changed_ = false;
    batch_view<float const, typename network::input> const values(items.values.data(), count);
    if constexpr (on_host) {
      if (items.values.empty() && count > 0) detail_of_engine::refuse_raw<B>();
      user_->hidden(values, hidden_.view().slice(0, count));
      head_.scores(on_, count, hidden_.data(), scores.data());
    } else if (!items.values.empty()) {
      user_->scores(values, scores);
    } else if constexpr (std::same_as<Side, vision_of<typename Side::config>>) {
      user_->scores(unchanged_.template frames<typename user::items_in>(items, count), scores);
    } else {
      user_->scores(unchanged_.template sounds<typename user::items_in>(items, count), scores);
    }
  }

 private:
  template <class Make>
  void with_plan(Make&& make) {
    detail_of_engine::with_plan(on_, facts_, detail_of_engine::plan_of<taught>(frozen_), "", teacher_, make);
  }
  last_layer make_head(classifier_choice const& is) {
    if constexpr (on_host)
      return {on_, network::hidden::size, is.classes, is.most_items};
    else
      return {network::hidden::size, is.classes};
  }
  void refresh() {
    if constexpr (on_host)
      user_->refresh(net_);
    else
      user_->refresh(net_, head_.weights(), head_.biases());
  }
  model_facts facts_;
  context<B> on_;
  network net_;
  last_layer head_;
  tensor<float, typename network::hidden> hidden_;
  detail_of_engine::teacher<B, taught> teacher_;
  bool frozen_ = false;
  std::optional<user> user_;
  detail_of_engine::unchanged unchanged_;
  bool changed_ = false;  // since user_ took over the weights
};

namespace detail_of_engine {
/// What make(Config{}) gives for the model of this name.
template <class Result, class Make>
Result of_model(std::string const& name, Make&& make) {
  Result result;
  if (!with_model(name, [&](auto config) { result = make(config); }))
    throw setting_error({"--model", "paper, small or tiny", name});
  return result;
}
}  // namespace detail_of_engine

/// What a model is, without one: its facts. Errors: setting_error for an unknown model.
template <backend B>
model_facts describe_on(std::string const& model) {
  return detail_of_engine::of_model<model_facts>(
      model, []<class Config>(Config) { return network_engine<B, Config>::describe(); });
}

/// The model of this name on backend B. Errors: setting_error for an unknown model.
template <backend B>
std::unique_ptr<engine> make_engine_on(std::string const& model, std::size_t threads, int device = 0) {
  return detail_of_engine::of_model<std::unique_ptr<engine>>(
      model, [&]<class Config>(Config) { return std::make_unique<network_engine<B, Config>>(threads, device); });
}

/// A classifier on backend B. Errors: setting_error for an unknown model.
template <backend B>
std::unique_ptr<classifier_engine> make_classifier_on(classifier_choice const& is, std::size_t threads,
                                                      int device = 0) {
  using made = std::unique_ptr<classifier_engine>;
  return detail_of_engine::of_model<made>(is.model, [&]<class Config>(Config) -> made {
    model_facts facts = network_engine<B, Config>::describe();
    if (is.what == modality::frame)
      return std::make_unique<network_classifier<B, vision_of<Config>>>(std::move(facts), is, threads, device);
    return std::make_unique<network_classifier<B, audio_of<Config>>>(std::move(facts), is, threads, device);
  });
}

}  // namespace l3::program
