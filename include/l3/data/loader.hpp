/// @file  include/l3/data/loader.hpp: videos -> batches for a model, ahead of the network that uses them; bounded
/// memory, and the same batches whatever the number of workers.
#pragma once
#include <concepts>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/random.hpp>
#include <l3/data/assemble.hpp>
#include <l3/data/batch.hpp>
#include <l3/data/batch_queue.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/loader_options.hpp>
#include <l3/data/loader_report.hpp>
#include <l3/data/picture.hpp>
#include <l3/data/sample.hpp>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace l3::inline L3_ISA {

// video_files.hpp has them; a loader of something else does without FFmpeg.
class clip_reader;
template <class Reader>
class video_files;

/// Batches for a model, in order, while workers prepare the next ones: a batch_queue with types.
///
/// Files and moments that cannot be used are refused (see draw_reader). The content of a batch depends on the list, the
/// seed, the batch's number and the model's shapes alone.
///
/// Model   a type with `frame` (shape), `frame_side` (smallest side of the picture before the crop) and `front_end`.
/// Source  where the clips are (that of videos needs data/video_files.hpp): `clips()`, a reference to their list; a
///         type `tools`, made of a source, which a worker keeps from draw to draw; a type `reader`, made of (source,
///         place in the list, tools), which offers facts(), frame(t, side) and sound(start, out) as clip_reader does.
/// Form    what becomes of a picture and a second: as_values, or as_bytes for a GPU that does the rest.
/// Memory  `ahead` batches, and one decoder and its scratch for each worker; buffers are used again and again. Where
///         draws share openings, also those that wait: half of lanes (see reservoir) * draws_per_opening pictures
///         (before the crop, as bytes) and seconds (192 kB). `open_bytes` of videos kept open.
/// Errors  of the constructor: setting_error. next() throws what a worker met: media_error when no usable videos are
///         left, else anything that is not the file's fault; further calls throw it again.
template <class Model, class Source = video_files<clip_reader>, class Form = as_values<Model>>
class loader {
 public:
  using front_end = typename Model::front_end;
  using batch_type = typename Form::batch_type;
  static_assert(
      requires { sizeof(Source); }, "l3::loader: videos as a source need #include <l3/data/video_files.hpp>");
  static_assert(std::derived_from<batch_type, batch_notes> && std::constructible_from<batch_type, std::size_t>,
                "l3::loader: a form's batches must be batch_notes and more, made of a number of items");
  static_assert(front_end::sample_rate == sound_rate && front_end::samples == sound_rate * sound_seconds,
                "l3::loader: the front end must take one second of 48 kHz sound");

  /// Of video files.
  loader(clip_list clips,
         loader_options const& options) requires std::constructible_from<Source, clip_list, decode_limits, std::size_t>
      : loader(Source(std::move(clips), options.limits, options.bytes_kept_open()), options) {}

  loader(Source source, loader_options options) : queue_(std::move(source), std::move(options), kind) {}

  /// The next batch, or null at the end. It is valid until the next call.
  batch_type const* next() { return static_cast<batch_type const*>(queue_.next()); }

  loader_report const& report() const { return queue_.report(); }

 private:
  struct writer final : item_writer {
    void put_frame(batch_notes& to, std::size_t item, rgb_view picture, std::optional<generator> random) override {
      form.put_frame(static_cast<batch_type&>(to), item, picture, random);
    }
    void put_sound(batch_notes& to, std::size_t item, std::span<float> samples,
                   std::optional<generator> random) override {
      form.put_sound(static_cast<batch_type&>(to), item, samples, random);
    }
    Form form;
  };
  static constexpr batch_kind kind = {
      Model::frame_side,
      [](std::size_t items) -> std::shared_ptr<batch_notes> { return std::make_shared<batch_type>(items); },
      []() -> std::unique_ptr<item_writer> { return std::make_unique<writer>(); }};

  batch_queue<Source> queue_;
};

}  // namespace l3::inline L3_ISA
