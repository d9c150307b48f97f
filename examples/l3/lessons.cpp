// What can be taught.
#include "lessons.hpp"

#include <algorithm>
#include <cmath>

namespace l3::program {

correspondence_lesson::correspondence_lesson(training_options const& o, pairing which, crew& all, std::string init)
    : which_(which), all_(all), init_(std::move(init)), net_(make_engine(o.model, o.on, o.threads)) {}
correspondence_lesson::correspondence_lesson(training_options const& o, pairing which, crew& all, trunks fixed)
    : which_(which), all_(all), fixed_(std::move(fixed)), net_(make_engine(o.model, o.on, o.threads)) {}

std::string correspondence_lesson::title() const {
  return fixed_ ? "the fusion head of " + facts().name
                : facts().name + " (" + short_number(static_cast<double>(facts().learned)) + " learned numbers)";
}
void correspondence_lesson::prepare(std::uint64_t seed, training_settings const& settings, std::size_t valid_batch,
                                    bool resumes, process_group* group) {
  net_->initialise(seed);
  if (!init_.empty() && !resumes) net_->load(init_, false);
  if (fixed_ && !resumes) {
    net_->take_trunk(modality::frame, fixed_->first);
    net_->take_trunk(modality::sound, fixed_->second);
  }
  net_->prepare_training(settings, fixed_.has_value(), group);
  net_->prepare_inference(valid_batch);
}
namespace {
bool no_signal() { return interruption::signal() == 0; }
}  // namespace

std::optional<class_score> correspondence_lesson::validate(fixed_pairs& pairs, std::uint64_t seed) {
  evaluation const e = evaluate(*net_, pairs, seed, all_, {}, no_signal);
  if (!e.whole) return {};
  return class_score{e.result.loss, e.result.accuracy};
}

video_classes video_classes::of(clip_list const& clips, std::string const& source) {
  video_classes c;
  for (std::size_t k = 0; k != clips.size(); ++k) {
    if (clips.label(k).empty())
      throw format_error({source, "a label for each video (a column `label`, or a folder for each class)",
                          "none for " + std::string(clips.name(k))});
    c.names.push_back(clips.label(k));
  }
  std::sort(c.names.begin(), c.names.end());
  c.names.erase(std::unique(c.names.begin(), c.names.end()), c.names.end());
  if (c.names.size() < 2) throw format_error({source, "videos of at least two classes", "one"});
  c.labels = c.labels_of(clips, source);
  return c;
}
std::vector<std::int32_t> video_classes::labels_of(clip_list const& clips, std::string const& source) const {
  std::vector<std::int32_t> numbers;
  for (std::size_t k = 0; k != clips.size(); ++k) {
    auto const place = std::lower_bound(names.begin(), names.end(), clips.label(k));
    if (place == names.end() || *place != clips.label(k))
      throw format_error({source, "videos of the classes that were trained on",
                          std::string(clips.name(k)) + " of class '" + clips.label(k) + "'"});
    numbers.push_back(static_cast<std::int32_t>(place - names.begin()));
  }
  return numbers;
}

classifier_lesson::classifier_lesson(training_options const& o, modality what, collection const& train,
                                     collection const& valid, std::string init, bool frozen)
    : what_(what),
      classes_(video_classes::of(train.clips, o.train)),
      valid_labels_(classes_.labels_of(valid.clips, o.valid)),
      init_(std::move(init)),
      frozen_(frozen),
      net_(make_classifier({o.model, what, classes_.names.size(), std::max<std::size_t>(o.batch, 64)}, o.on,
                           o.threads)) {
  if (frozen && init_.empty())
    throw setting_error(
        {"--freeze", "--init with a checkpoint to begin with: what stays as it is must know something", "none"});
}
std::string classifier_lesson::title() const {
  return std::string(what_ == modality::frame ? "vision of " : "audio of ") + facts().name + " to tell " +
         std::to_string(net_->classes()) + " classes" + (frozen_ ? ", the subnetwork frozen," : "");
}
std::string classifier_lesson::chance() const {
  auto const n = static_cast<double>(net_->classes());
  return text("loss %.3f, accuracy %.3f", std::log(n), 1 / n);
}
void classifier_lesson::prepare(std::uint64_t seed, training_settings const& settings, std::size_t valid_batch,
                                bool resumes, process_group*) {
  net_->initialise(seed);
  if (!init_.empty() && !resumes) net_->take_trunk(init_);
  net_->prepare_training(settings, frozen_);
  net_->prepare_inference(valid_batch);
}
void classifier_lesson::begin(feed_batch const& b) {
  batch_labels_.clear();
  for (auto const clip : clips_of(b)) batch_labels_.push_back(classes_.labels[clip]);
  if (b.crops.empty())
    net_->begin_step(items_of(b, what_).values, batch_labels_);
  else
    net_->begin_step(raw_of(b), batch_labels_);
}
std::optional<class_score> classifier_lesson::validate(fixed_pairs& pairs, std::uint64_t) {
  class_score score;
  std::size_t n = 0;
  std::vector<float> scores;
  auto const add = [&](feed_batch const& b) {
    std::size_t const classes = net_->classes();
    scores.resize(b.count * classes);
    net_->score(items_of(b, what_), b.count, scores);
    for (std::size_t k = 0; k != b.count; ++k) {
      auto const row = std::span(scores).subspan(k * classes, classes);
      auto const label = static_cast<std::size_t>(valid_labels_[clips_of(b)[k]]);
      auto const best = std::max_element(row.begin(), row.end());
      double total = 0;
      for (float const s : row) total += std::exp(static_cast<double>(s - *best));
      score.loss += std::log(total) - static_cast<double>(row[label] - *best);
      score.accuracy += static_cast<std::size_t>(best - row.begin()) == label ? 1 : 0;
      ++n;
    }
  };
  if (!pairs.for_each(add, 0, 1, no_signal)) return {};
  if (n > 0) score.loss /= static_cast<double>(n), score.accuracy /= static_cast<double>(n);
  return score;
}

}  // namespace l3::program
