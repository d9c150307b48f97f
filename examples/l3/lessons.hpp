/// @file  examples/l3/lessons.hpp: what can be taught: correspondence, and classes.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "training.hpp"

namespace l3::program {

/// Whether a frame and a second of sound belong together.
class correspondence_lesson final : public lesson {
 public:
  /// Subnetworks to begin with, which then stay as they are: checkpoints of vision and of audio.
  using trunks = std::pair<std::string, std::string>;

  /// `init`: a checkpoint of an L³-Net whose weights training begins with, or nothing.
  correspondence_lesson(training_options const& o, pairing which, crew& all, std::string init);
  correspondence_lesson(training_options const& o, pairing which, crew& all, trunks fixed);
  model_facts const& facts() const override { return net_->facts(); }
  std::string title() const override;
  std::string chance() const override { return "loss 0.693, accuracy 0.5"; }
  pairing which() const override { return which_; }
  void prepare(std::uint64_t seed, training_settings const& settings, std::size_t valid_batch, bool resumes,
               process_group* group) override;
  std::uint64_t steps() const override { return net_->steps(); }
  std::size_t most_in_flight() const override { return net_->most_in_flight(); }
  std::size_t in_flight() const override { return net_->in_flight(); }
  bool takes_raw() const override { return net_->takes_raw(); }
  void begin(feed_batch const& b) override {
    if (b.crops.empty())
      net_->begin_step(b.frames, b.sounds, b.labels, b.count);
    else
      net_->begin_step(raw_of(b), b.labels);
  }
  step_report finish() override { return net_->finish_step(); }
  std::optional<class_score> validate(fixed_pairs& pairs, std::uint64_t seed) override;
  std::uint64_t print() const override { return print_of(*net_); }
  void save(std::filesystem::path const& file, checkpoint_facts const& facts) override {
    net_->save(file, true, facts);
  }
  void load(std::filesystem::path const& file) override { net_->load(file, true); }

 private:
  pairing which_;
  crew& all_;
  std::string init_;
  std::optional<trunks> fixed_;
  std::unique_ptr<engine> net_;
};

/// The classes of a labelled collection, and each video's.
struct video_classes {
  std::vector<std::string> names;    ///< sorted
  std::vector<std::int32_t> labels;  ///< of each video

  /// Errors  format_error: a video without a label, or fewer than two classes.
  static video_classes of(clip_list const& clips, std::string const& source);
  /// The labels of other videos among these names. Errors  format_error: a class that is not among them.
  std::vector<std::int32_t> labels_of(clip_list const& clips, std::string const& source) const;
};

/// Which class the frame, or the second of sound, is of.
class classifier_lesson final : public lesson {
 public:
  /// `init`: a checkpoint whose subnetwork training begins with, or nothing; `frozen`: it stays as it is.
  classifier_lesson(training_options const& o, modality what, collection const& train, collection const& valid,
                    std::string init, bool frozen);
  std::vector<std::string> const& classes() const { return classes_.names; }
  model_facts const& facts() const override { return net_->facts(); }
  std::string title() const override;
  std::string chance() const override;
  pairing which() const override { return pairing::all; }
  void prepare(std::uint64_t seed, training_settings const& settings, std::size_t valid_batch, bool resumes,
               process_group* group) override;
  std::uint64_t steps() const override { return net_->steps(); }
  std::size_t most_in_flight() const override { return net_->most_in_flight(); }
  std::size_t in_flight() const override { return net_->in_flight(); }
  bool takes_raw() const override { return net_->takes_raw(); }
  void begin(feed_batch const& b) override;
  step_report finish() override { return net_->finish_step(); }
  std::optional<class_score> validate(fixed_pairs& pairs, std::uint64_t seed) override;
  void save(std::filesystem::path const& file, checkpoint_facts const& facts) override {
    net_->save(file, true, facts);
  }
  void load(std::filesystem::path const& file) override { net_->load(file, true); }

 private:
  std::span<std::uint32_t const> clips_of(feed_batch const& b) const {
    return what_ == modality::frame ? b.frame_clips : b.sound_clips;
  }

  modality what_;
  video_classes classes_;
  std::vector<std::int32_t> valid_labels_, batch_labels_;
  std::string init_;
  bool frozen_;
  std::unique_ptr<classifier_engine> net_;
};

}  // namespace l3::program
