// OpenL3's networks on the processor.
#include <l3/kernels/region_pool.hpp>
#include <l3/model/chain_inference.hpp>
#include <l3/train/openl3_checkpoint.hpp>
#include <optional>

#include "engine.hpp"

namespace l3::program {
namespace {

/// Both networks of a checkpoint, or the one that it has. Features are those of the last convolution, as OpenL3's.
/// FrontEnd stands for all whose pictures have its size.
template <decibel_front_end FrontEnd>
class openl3_engine final : public feature_engine {
  using audio = openl3_audio_map<FrontEnd>;
  using image = openl3_image_map;

 public:
  openl3_engine(safetensors_file const& file, std::string const& name, std::size_t threads)
      : facts_(describe(name)), hears_(name != openl3_image_alone), sees_(!hears_ || holds_image(file)), on_(threads) {
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
      embed(audio_, ears_, grid ? openl3_sound_cells : extent2{1, 1}, items, count);
    else
      embed(image_, eyes_, grid ? openl3_picture_cells : extent2{1, 1}, items, count);
  }
  void finish_embed(std::span<float> out) override {
    require_same_count("features", features_.size(), out.size());
    std::copy(features_.begin(), features_.end(), out.begin());
  }
  bool prepare_sliding(std::size_t, std::size_t) override { return false; }  // each second has a level of its own
  void begin_sliding(feature, std::span<float const>, std::size_t) override {
    throw setting_error({"seconds that share their work", "a front end whose columns stand alone", FrontEnd::name});
  }

 private:
  static bool holds_image(safetensors_file const& file) {
    auto const first = file.tensors().lower_bound("vision.");
    return first != file.tensors().end() && first->first.starts_with("vision.");
  }
  static model_facts describe(std::string const& name) {
    return {.name = name,
            .description = name,
            .backend = std::string("cpu (") + cpu::name + ", " + cpu::precision::name + ")",
            .front_end = name,
            .frame = {openl3_picture::height, openl3_picture::width},
            .sound = {FrontEnd::output::height, FrontEnd::output::width},
            .frame_side = openl3_picture_side,
            .embedding = audio::output::channels,
            .frame_cells = openl3_picture_cells.height * openl3_picture_cells.width,
            .sound_cells = openl3_sound_cells.height * openl3_sound_cells.width,
            .learned = 0,
            .flops = audio::flops + image::flops,
            .learning_rate = 0,
            .batch = 0,
            .training = {},
            .inference = chain_inference<audio>::plan + chain_inference<image>::plan,
            .layers = {},
            .tensors = {}};
  }

  /// The largest value of each filter, of so many items' maps at a time as 64 MiB hold, in each of `cells`.
  template <class Weights, class Chain>
  void embed(Weights const& weights, std::optional<chain_inference<Chain>>& net, extent2 cells, item_spans const& items,
             std::size_t count) {
    static_assert(Chain::parameter_room == Weights::network::parameter_room);
    if (!net) net.emplace(on_, weights.data(), items_);
    using map = typename Chain::output;
    constexpr std::size_t together = std::max<std::size_t>(1, (std::size_t{64} << 20) / (map::size * sizeof(float)));
    map_.resize(std::max(map_.size(), std::min(together, count) * map::size));
    batch_view<float const, typename Chain::input> const x(items.values.data(), count);
    float* out = features_.data();
    for (std::size_t first = 0; first < count; first += together) {
      std::size_t const n = std::min(together, count - first);
      (*net)(x.slice(first, n), {map_.data(), n});
      region_dims const regions{n, map::height, map::width, map::channels, cells};
      pool_regions(regions, map_.data(), out);
      out += regions.regions() * map::channels;
    }
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

std::unique_ptr<feature_engine> open_openl3(std::filesystem::path const& checkpoint, std::string const& name,
                                            backend_choice const& on, std::size_t threads) {
  if (on.name != "cpu") throw setting_error({"--backend for OpenL3's networks", "cpu", on.name});
  if (on.products() != fp32::name) throw setting_error({"--precision for OpenL3's networks", "fp32", on.products()});
  safetensors_file const file = safetensors_file::open(checkpoint);
  if (name == openl3_linear::name || name == openl3_image_alone)
    return std::make_unique<openl3_engine<openl3_linear>>(file, name, threads);
  if (name == openl3_mel128::name || name == openl3_04_mel128::name)
    return std::make_unique<openl3_engine<openl3_mel128>>(file, name, threads);
  if (name == openl3_mel256::name || name == openl3_04_mel256::name)
    return std::make_unique<openl3_engine<openl3_mel256>>(file, name, threads);
  throw format_error({checkpoint.string(), "a model of OpenL3's that l3 knows", detail::excerpt(name)});
}

}  // namespace

std::unique_ptr<feature_engine> open_features(std::filesystem::path const& checkpoint, backend_choice const& on,
                                              std::size_t threads) {
  checkpoint_facts const facts = read_checkpoint_facts(checkpoint);
  if (is_openl3(facts)) return open_openl3(checkpoint, facts.model, on, threads);
  auto net = make_engine(model_of_checkpoint(checkpoint), on, threads);
  net->load(checkpoint, false);
  return net;
}

}  // namespace l3::program
