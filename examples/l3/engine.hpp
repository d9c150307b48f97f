/// @file  examples/l3/engine.hpp: a network whose model and backend were chosen at run time. One unit per backend
/// instantiates the library's templates behind it; the rest of the program sees plain spans.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <l3/core/jitter.hpp>
#include <l3/train/checkpoint.hpp>
#include <l3/train/trainer.hpp>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend_choice.hpp"

namespace l3::program {

/// One line of a model's description.
struct tensor_row {
  std::string name;
  std::vector<std::size_t> shape;
  bool learned;
  std::size_t offset;  ///< of its values among engine::weights()
};

/// A layer as it runs: what was fused is one.
struct layer_row {
  std::string name, kind;
  std::vector<std::size_t> output;  ///< height, width, channels, or features alone
  double flops;                     ///< one item forward
  std::string algorithm;            ///< of its convolution
};

/// What is known of a model before it runs.
struct model_facts {
  std::string name;         ///< paper, small, tiny, or of OpenL3
  std::string description;  ///< as in checkpoints
  std::string backend;
  std::string front_end;
  extent2 frame, sound;
  std::size_t frame_side;
  std::size_t embedding;          ///< pool4
  std::size_t frame_cells = 0;    ///< of the grid that pooling::grid leaves of pictures
  std::size_t sound_cells = 0;    ///< and of sounds
  std::size_t learned;            ///< learned numbers
  std::size_t weights = 0;        ///< bytes of all parameters
  double flops;                   ///< one pair forward
  double learning_rate;           ///< default
  std::size_t batch;              ///< default
  footprint training, inference;  ///< memory plan without weights, gradients, moments and scores; inference has its
                                  ///< own, transformed weights
  std::vector<layer_row> layers;  ///< of the two subnetworks
  std::vector<tensor_row> tensors;
};

/// The largest batch whose training fits in so many bytes of a GPU's. It has some left over for itself.
inline std::size_t fitting_batch(model_facts const& f, std::size_t bytes) {
  // Weights, gradients and averages; and what training takes to validate.
  std::size_t const reserve = bytes / 32 + 4 * f.weights;
  std::size_t fits = 0;
  // All meet all: four numbers for each pair.
  for (std::size_t batch = 1; f.training.bytes(batch, 1) + f.inference.bytes(std::min<std::size_t>(batch, 64), 1) +
                                  16 * batch * batch + reserve <=
                              bytes;
       ++batch)
    fits = batch;
  return fits;
}

enum class modality { frame, sound };
/// "audio" is sounds, "image" and "vision" are pictures.
inline modality modality_named(std::string const& kind) { return kind == "audio" ? modality::sound : modality::frame; }
inline char const* name_of(modality what) { return what == modality::sound ? "audio" : "image"; }
/// Where in a trunk features are read: behind a block's pool; at the last convolution (of sounds before its ReLU, of
/// pictures behind it, as in the paper); or behind the global pool, where training reads them.
enum class depth : std::uint8_t { pool1, pool2, pool3, conv4_2, pool4 };
/// What is left of a map: the largest value of each channel, or of each cell of a grid of at most 4 x 4 (pictures) or
/// 4 x 3 (sounds).
enum class pooling : std::uint8_t { global, grid };
/// Which features of a network are read. Of pool4 nothing is left to pool.
struct feature {
  depth from = depth::pool4;
  pooling pool = pooling::global;
};

/// A batch as bytes and samples, see raw_view.
struct raw_spans {
  std::span<std::uint8_t const> crops;
  std::span<float const> seconds;
  std::span<image_jitter const> jitters;
  std::span<float const> volumes;
};

/// Pictures or sounds: as values, or (for an engine that takes_raw()) as bytes of centre crops, or as samples of
/// seconds.
struct item_spans {
  std::span<float const> values{};
  std::span<std::uint8_t const> crops{};
  std::span<float const> seconds{};
};

/// A network that makes features of pictures and sounds. All spans are packed, NHWC.
class feature_engine {
 public:
  virtual ~feature_engine() = default;
  virtual model_facts const& facts() const = 0;
  /// Whether there is a network for these.
  virtual bool has(modality) const { return true; }
  /// Whether it makes frames of bytes and spectrograms of samples itself.
  virtual bool takes_raw() const = 0;
  /// A device may have work begun while other work is not finished yet: at most so many steps, or batches embedded.
  /// Where the processor computes, they are done when they are begun.
  virtual std::size_t most_in_flight() const = 0;

  /// Takes the memory for inference on up to `items`.
  virtual void prepare_inference(std::size_t items) = 0;
  /// Begins to make features of items, which may be changed as soon as this returns. At most most_in_flight() may be
  /// begun and not finished.
  virtual void begin_embed(modality what, feature which, item_spans const& items, std::size_t count) = 0;
  /// Features (count, width_of(what, which)) of what was begun first, and is not finished.
  virtual void finish_embed(std::span<float> out) = 0;
  /// Both, with none in flight.
  void embed(modality what, feature which, std::span<float const> items, std::size_t count, std::span<float> out) {
    begin_embed(what, which, {.values = items}, count);
    finish_embed(out.first(count * width_of(what, which)));
  }
  /// Takes the memory to embed long sounds, `windows` at a time whose seconds begin `hop` columns of the spectrogram
  /// apart. False, and none taken, where sharing what they have in common would save less than a tenth. After
  /// prepare_inference, which undoes it.
  virtual bool prepare_sliding(std::size_t hop, std::size_t windows) = 0;
  /// As begin_embed, with the `count` windows of one spectrogram for items; from conv4_2 or pool4.
  virtual void begin_sliding(feature which, std::span<float const> spectrogram, std::size_t count) = 0;
  std::size_t width_of(modality what, feature which) const {
    std::size_t const channels = facts().embedding >> (3 - std::min(static_cast<int>(which.from), 3));
    return channels * (which.pool == pooling::global || which.from == depth::pool4 ? 1
                       : what == modality::frame                                   ? facts().frame_cells
                                                                                   : facts().sound_cells);
  }
};

/// An L³-Net at work.
class engine : public feature_engine {
 public:
  virtual void initialise(std::uint64_t seed) = 0;
  virtual void load(std::filesystem::path const& checkpoint, bool with_optimizer) = 0;
  virtual void save(std::filesystem::path const& checkpoint, bool with_optimizer, checkpoint_facts const&) = 0;

  /// The subnetwork of another checkpoint: of an L³-Net or a classifier of the same model.
  virtual void take_trunk(modality what, std::filesystem::path const& checkpoint) = 0;

  /// Takes the memory for training; needed before `begin_step`, `load` and `save` with optimizer. `fusion_alone`: both
  /// subnetworks stay as they are (now, or when a checkpoint is loaded).
  virtual void prepare_training(training_settings const&, bool fusion_alone = false,
                                process_group* group = nullptr) = 0;
  /// All of its parameters.
  virtual std::span<float const> weights() = 0;
  /// Steps whose reports were fetched, in this run and before.
  virtual std::uint64_t steps() = 0;
  virtual std::size_t in_flight() const = 0;  ///< steps
  virtual void begin_step(std::span<float const> frames, std::span<float const> sounds,
                          std::span<std::int32_t const> labels, std::size_t count) = 0;
  virtual void begin_step(raw_spans const& batch, std::span<std::int32_t const> labels) = 0;
  virtual step_report finish_step() = 0;

  /// logits (count, 2) of frame k with sound k.
  virtual void score(std::span<float const> frames, std::span<float const> sounds, std::size_t count,
                     std::span<float> logits) = 0;
  virtual void score(raw_spans const& pairs, std::span<float> logits) = 0;
  /// Maps of conv4_2 (count, map_size(what), embedding), of pictures behind the ReLU, of sounds before it.
  virtual extent2 map_size(modality what) const = 0;
  virtual void map(modality what, std::span<float const> items, std::size_t count, std::span<float> out) = 0;
  /// logits (count, 2) of features (count, embedding) k of pictures with features k of sounds.
  virtual void score_features(std::span<float const> v, std::span<float const> a, std::size_t count,
                              std::span<float> logits) = 0;
};

/// One subnetwork with a classifier on top, at work.
class classifier_engine {
 public:
  virtual ~classifier_engine() = default;
  virtual model_facts const& facts() const = 0;  ///< of the model that the subnetwork belongs to
  virtual std::size_t classes() const = 0;

  virtual void initialise(std::uint64_t seed) = 0;
  virtual void take_trunk(std::filesystem::path const& checkpoint) = 0;
  virtual void load(std::filesystem::path const& checkpoint, bool with_optimizer) = 0;
  virtual void save(std::filesystem::path const& checkpoint, bool with_optimizer, checkpoint_facts const&) = 0;

  /// Frozen, the subnetwork stays as it is (now, or when a checkpoint is loaded), and the layers above it learn.
  virtual void prepare_training(training_settings const&, bool frozen) = 0;
  /// As those of engine; of a raw batch it takes its own half.
  virtual std::uint64_t steps() const = 0;
  virtual std::size_t most_in_flight() const = 0;
  virtual std::size_t in_flight() const = 0;
  virtual void begin_step(std::span<float const> items, std::span<std::int32_t const> labels) = 0;
  virtual bool takes_raw() const = 0;
  virtual void begin_step(raw_spans const& batch, std::span<std::int32_t const> labels) = 0;
  virtual step_report finish_step() = 0;

  virtual void prepare_inference(std::size_t items) = 0;
  /// Scores (count, classes), of which the largest is the class's.
  virtual void score(item_spans const& items, std::size_t count, std::span<float> scores) = 0;
};

/// Names of the models there are.
inline std::vector<std::string> const model_names{paper::name, small::name, tiny::name};

/// A model at work. Threads: zero means one a core. Errors: setting_error for an unknown model, or a backend or a
/// precision that this build does not have; device_error: no fitting GPU.
std::unique_ptr<engine> make_engine(std::string const& model, backend_choice const& on, std::size_t threads);
/// The network of a checkpoint, for features alone: of an L³-Net, or one that `l3 import` brought. Errors: as
/// make_engine, and those of reading a checkpoint.
std::unique_ptr<feature_engine> open_features(std::filesystem::path const& checkpoint, backend_choice const& on,
                                              std::size_t threads);
/// What is known of it, for which no GPU is needed.
model_facts describe_model(std::string const& model, backend_choice const& on);

/// A GPU, and what of its memory is left.
struct gpu_description {
  std::string name, capability;
  std::size_t memory, left;
  std::string products;  ///< how convolutions in bf16 are multiplied: context<cuda>::products
};
/// The GPU that the backend cuda would use here. Errors: device_error, setting_error.
gpu_description describe_gpu();
/// Whether this build's processor backend has bf16, that is, the instructions.
extern bool const has_bf16;

/// The parts of make_engine and describe_model, a unit each.
std::unique_ptr<engine> make_cpu_engine_bf16(std::string const& model, std::size_t threads);
model_facts describe_cpu_bf16(std::string const& model);
std::unique_ptr<engine> make_cuda_engine(std::string const& model, std::string const& precision);
model_facts describe_cuda(std::string const& model, std::string const& precision);

/// A subnetwork's classifier: of which model, which half, and how many classes, for at most `most_items` at a time.
struct classifier_choice {
  std::string model;
  modality what;
  std::size_t classes, most_items;
};
/// Errors  as make_engine; setting_error: bf16 on a processor.
std::unique_ptr<classifier_engine> make_classifier(classifier_choice const&, backend_choice const& on,
                                                   std::size_t threads);
std::unique_ptr<classifier_engine> make_cuda_classifier(classifier_choice const&, std::string const& precision);
/// The model that a checkpoint was written for; of one whose facts were read, without opening it. Errors: file_error,
/// format_error.
std::string model_of_checkpoint(std::filesystem::path const& checkpoint);
std::string model_of_checkpoint(std::filesystem::path const& checkpoint, checkpoint_facts const& facts);

}  // namespace l3::program
