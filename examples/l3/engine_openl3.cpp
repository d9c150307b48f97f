// OpenL3's networks on the processor.
#include <l3/model/chain_inference.hpp>
#include <l3/train/openl3_checkpoint.hpp>
#include <optional>

#include "engine.hpp"
#include "pool_maps.hpp"

namespace l3::program {
namespace {

/// Both networks of a checkpoint, or the one that it has. Features are those of the last convolution, as OpenL3's.
/// Front ends whose pictures have the same size have the same Audio network.
template <class Audio>
class openl3_engine final : public feature_engine {
  using audio = Audio;
  using image = openl3_image_map;

 public:
  openl3_engine(safetensors_file const& file, std::string const& name, std::size_t threads)
      : facts_(describe(name)),
        hears_(name != openl3_image_alone),
        sees_(!hears_ || holds_half(file, "vision")),
        on_(threads) {
    if (hears_) load_openl3(file, "audio", audio_);
    if (sees_) load_openl3(file, "vision", image_);
  }
  model_facts const& facts() const override { return facts_; }
  bool takes_raw() const override { return false; }
  std::size_t most_in_flight() const override { return 1; }

  bool has(modality what) const override { return what == modality::sound ? hears_ : sees_; }

  /// Memory is taken for what is embedded alone.
  void prepare_inference(std::size_t items) override {
    ears_.reset(), eyes_.reset();
    items_ = items;
  }
  void begin_embed(modality what, feature which, item_spans const& items, std::size_t count) override {
    if (!has(what)) throw setting_error({"--checkpoint", "a checkpoint with a network for these items", "one without"});
    if (which.from != depth::conv4_2) throw setting_error({"--layer of OpenL3's networks", "conv4_2", "another"});
    features_.resize(count * width_of(what, which));
    bool const grid = which.pool == pooling::grid;
    if (what == modality::sound)
      embed(audio_, ears_, grid ? sound_regions : extent2{1, 1}, items, count);
    else
      embed(image_, eyes_, grid ? picture_regions : extent2{1, 1}, items, count);
  }
  void finish_embed(std::span<float> out) override {
    require_same_count("features", features_.size(), out.size());
    std::copy(features_.begin(), features_.end(), out.begin());
  }
  bool prepare_sliding(std::size_t, std::size_t) override { return false; }  // each second has a level of its own
  void begin_sliding(feature, std::span<float const>, std::size_t) override {
    throw setting_error({"seconds that share their work", "a front end whose columns stand alone", facts_.name});
  }

 private:
  static model_facts describe(std::string const& name) {
    return {.name = name,
            .description = name,
            .backend = std::string("cpu (") + cpu::name + ", " + cpu::precision::name + ")",
            .front_end = name,
            .frame = {openl3_picture::height, openl3_picture::width},
            .sound = {audio::input::height, audio::input::width},
            .frame_side = openl3_picture_side,
            .embedding = audio::output::channels,
            .frame_cells = picture_regions.height * picture_regions.width,
            .sound_cells = sound_regions.height * sound_regions.width,
            .learned = 0,
            .flops = audio::flops + image::flops,
            .learning_rate = 0,
            .batch = 0,
            .training = {},
            .inference = chain_inference<audio>::plan + chain_inference<image>::plan,
            .layers = {},
            .tensors = {}};
  }

  template <class Weights, class Chain>
  void embed(Weights const& weights, std::optional<chain_inference<Chain>>& net, extent2 cells, item_spans const& items,
             std::size_t count) {
    static_assert(Chain::parameter_room == Weights::network::parameter_room);
    if (!net) net.emplace(on_, weights.data(), items_);
    pool_maps<typename Chain::output>(batch_view<float const, typename Chain::input>(items.values.data(), count), cells,
                                      map_, features_.data(), *net);
  }

  model_facts facts_;
  bool hears_, sees_;
  std::size_t items_ = 0;
  context<cpu> on_;
  openl3_audio_weights audio_;  // the same of all front ends
  openl3_image_weights image_;
  std::optional<chain_inference<audio>> ears_;
  std::optional<chain_inference<image>> eyes_;
  std::vector<float> map_, features_;
};

std::unique_ptr<feature_engine> open_openl3(safetensors_file const& file, std::string const& name,
                                            backend_choice const& on, std::size_t threads) {
  if (on.name != "cpu") throw setting_error({"--backend for OpenL3's networks", "cpu", on.name});
  if (on.products() != fp32::name) throw setting_error({"--precision for OpenL3's networks", "fp32", on.products()});
  std::unique_ptr<feature_engine> made;
  bool const known = with_openl3_front_end(name, [&]<class FrontEnd>(FrontEnd) {
    made = std::make_unique<openl3_engine<openl3_audio_map<FrontEnd>>>(file, name, threads);
  });
  if (!known) throw format_error({file.path().string(), "a model of OpenL3's that l3 knows", detail::excerpt(name)});
  return made;
}

}  // namespace

std::unique_ptr<feature_engine> open_features(std::filesystem::path const& checkpoint, backend_choice const& on,
                                              std::size_t threads) {
  safetensors_file const file = safetensors_file::open(checkpoint);
  checkpoint_facts const facts = read_checkpoint_facts(file);
  if (is_openl3(facts.model)) return open_openl3(file, facts.model, on, threads);
  auto net = make_engine(model_of_checkpoint(checkpoint, facts), on, threads);
  net->load(checkpoint, false);
  return net;
}

}  // namespace l3::program
