// Batches and inputs of the three models.
#include "feed.hpp"

#include <l3/data/decibel_spectrogram.hpp>
#include <l3/model/config.hpp>
#include <l3/model/openl3.hpp>
#ifdef L3_WITH_MEDIA
#include <l3/data/video_files.hpp>
#endif

namespace l3::program {
namespace {

template <class Config, class Source, class Form>
class loader_feed final : public feed {
 public:
  loader_feed(Source source, loader_options options) : loader_(std::move(source), std::move(options)) {}
  feed_batch next() override {
    auto const* const batch = loader_.next();
    if (batch == nullptr) return {};
    std::size_t const n = batch->count;
    feed_batch b{.count = n,
                 .labels = batch->label_view(),
                 .frame_clips = std::span(batch->frame_clips).first(n),
                 .sound_clips = std::span(batch->sound_clips).first(n),
                 .frame_times = std::span(batch->frame_times).first(n),
                 .sound_starts = std::span(batch->sound_starts).first(n)};
    if constexpr (std::same_as<Form, as_bytes<Config>>) {
      auto const items = batch->view();
      b.crops = items.crops.values(), b.seconds = items.seconds.values();
      b.jitters = items.jitters, b.volumes = items.volumes;
    } else {
      b.frames = batch->frame_view().values(), b.sounds = batch->sound_view().values();
    }
    return b;
  }
  loader_report const& report() const override { return loader_.report(); }

 private:
  loader<Config, Source, Form> loader_;
};

/// Pictures of shape Frame, cut from such whose smallest side is FrameSide, and FrontEnd's of sounds.
template <image_shape Frame, std::size_t FrameSide, class FrontEnd>
class item_input : public model_input {
  using sound = typename FrontEnd::output;
  static constexpr bool stands_alone = log_front_end<FrontEnd>;

 public:
  std::size_t frame_side() const override { return FrameSide; }
  std::size_t frame_size() const override { return Frame::size; }
  std::size_t sound_size() const override { return sound::size; }
  void picture(rgb_frame const& from, std::span<float> out) const override {
    centre_image<Frame>(from, out.first<Frame::size>());
  }
  void crop(rgb_frame const& from, std::span<std::uint8_t> out) const override {
    crop_image<Frame>(from, centre_crop<Frame>(from.width, from.height), out.first<Frame::size>());
  }
  void random_view(rgb_frame const& from, generator random, std::span<float> out) const override {
    image_jitter view = draw_image_jitter<Frame>(from.width, from.height, random);
    view.brightness = 0, view.saturation = 1;
    augment_image<Frame>(from, view, out.first<Frame::size>());
  }
  void spectrum(std::span<float const> samples, std::span<float> out) const override {
    front_end_(samples, out.first<sound::size>());
  }
  std::size_t column_samples() const override {
    if constexpr (stands_alone)
      return front_end_.apart;
    else
      return 0;
  }
  std::size_t sound_columns() const override { return sound::width; }
  void long_spectrum(std::span<float const> samples, std::span<float> out) const override {
    if constexpr (stands_alone)
      front_end_.of_long_sound(samples, out);
    else
      throw setting_error({"a long sound's spectrogram", "a front end whose columns stand alone", FrontEnd::name});
  }
  std::unique_ptr<feed> open(collection const&, loader_options, bool) const override {
    throw setting_error({"batches", "paper, small or tiny", FrontEnd::name});
  }

 private:
  spectrogram<FrontEnd> front_end_;
};

template <class Config>
class input_of final : public item_input<typename Config::frame, Config::frame_side, typename Config::front_end> {
 public:
  std::unique_ptr<feed> open(collection const& data, loader_options options, bool raw) const override {
#ifdef L3_WITH_MEDIA
    if (!data.packed) {
      video_files<> files(data.clips, options.limits, options.bytes_kept_open());
      return open_in(std::move(files), std::move(options), raw);
    }
#endif
    return open_in(data.packed.value().limited_to(options.limits.seconds), std::move(options), raw);
  }

 private:
  template <class Source>
  static std::unique_ptr<feed> open_in(Source source, loader_options options, bool raw) {
    if (raw)
      return std::make_unique<loader_feed<Config, Source, as_bytes<Config>>>(std::move(source), std::move(options));
    return std::make_unique<loader_feed<Config, Source, as_values<Config>>>(std::move(source), std::move(options));
  }
};

/// Calls look(reader) with the clip open.
template <class Look>
auto with_clip(collection const& from, std::uint32_t clip, decode_limits const& limits, Look&& look) {
  auto const open = [&](auto const& source) {
    using source_type = std::remove_cvref_t<decltype(source)>;
    typename source_type::tools tools(source);
    typename source_type::reader reader(source, clip, tools);
    return look(reader);
  };
#ifdef L3_WITH_MEDIA
  if (!from.packed) return open(video_files<>(from.clips, limits));
#endif
  return open(from.packed.value().limited_to(limits.seconds));
}

}  // namespace

collection open_data([[maybe_unused]] std::string const& option, std::string const& name) {
  collection data = open_collection(name);
#ifndef L3_WITH_MEDIA
  if (!data.packed) throw setting_error({option, "a packed collection (this build has no FFmpeg)", name});
#endif
  return data;
}

void tell_of_links(common_options const& says, std::string const& option, collection const& data,
                   std::span<std::uint64_t const> prints) {
  if (auto const again = videos_listed_twice(data, prints); !again.empty())
    says.warn(
        text("%s: %zu of %zu videos are others of them by another name (links), %s first: their pictures and "
             "sounds are taken for those of two videos",
             option.c_str(), again.size(), data.clips.size(), std::string(data.clips.name(again.front())).c_str()));
}

rgb_frame picture_of(collection const& from, std::uint32_t clip, double time, std::size_t side,
                     decode_limits const& limits) {
  return with_clip(from, clip, limits, [&](auto& reader) { return rgb_frame(reader.frame(time, side)); });
}
std::vector<float> second_of(collection const& from, std::uint32_t clip, double start, decode_limits const& limits) {
  return with_clip(from, clip, limits, [&](auto& reader) {
    std::vector<float> samples(sound_rate);
    reader.sound(start, samples);
    return samples;
  });
}

std::unique_ptr<model_input> make_input(std::string const& model) {
  std::unique_ptr<model_input> made;
  with_model(model, [&]<class Config>(Config) { made = std::make_unique<input_of<Config>>(); });
  with_openl3_front_end(model, [&]<class FrontEnd>(FrontEnd) {
    made = std::make_unique<item_input<openl3_picture, openl3_picture_side, FrontEnd>>();
  });
  if (made) return made;
  throw setting_error({"--model", "paper, small or tiny", model});
}

}  // namespace l3::program
