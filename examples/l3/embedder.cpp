// Sounds and pictures of files become rows of features.
#include "embedder.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <l3/data/clip_list.hpp>
#include <l3/data/decode.hpp>
#include <string_view>

namespace l3::program {

namespace fs = std::filesystem;

/// A sound on its way through a buffer.
class embedder::reading {
 public:
  reading(clip_reader const& from, std::string const& name, std::size_t samples, bool repeats)
      : source_(from.sound_from_start()), buffer(samples) {
    filled = read(buffer);
    if (filled == 0) throw media_error({name, "at least one sample of sound", "none"});
    is_short = filled < sound_rate;
    if (is_short && repeats)  // up to a second, which it is then
      for (std::size_t k = filled; k < sound_rate; ++k) buffer[k] = buffer[k - filled];
  }
  std::size_t read(std::span<float> out) {
    std::size_t const got = source_.read(out);
    for (float const x : out.first(got)) loudest_ = std::max(loudest_, std::abs(x));
    return got;
  }
  bool is_silent() const { return loudest_ < 0.5f / 32768; }

 private:
  sound_source source_;
  float loudest_ = 0;

 public:
  std::vector<float> buffer;
  std::size_t filled = 0;
  bool is_short = false;
};

embedder::embedder(engine& net, model_input const& input, embedder_settings const& settings)
    : net_(net),
      input_(input),
      settings_(settings),
      inputs_(settings.batch * std::max(settings.frames ? input.frame_size() : 0, input.sound_size())),
      outputs_(settings.batch * std::max(width(modality::frame), width(modality::sound))) {
  limits_.seconds = 0;  // the whole file
  // Where sounds are all there is and share their work, nothing comes in batches: no memory for them.
  net.prepare_inference(settings.frames ? settings.batch : 1);
  if (settings.sounds && settings.which.from >= depth::conv4_2 && settings.hop % input.column_samples() == 0) {
    std::size_t const hop = settings.hop / input.column_samples();
    // Whatever the batch, so that it does not change the rows; and no more than 12 seconds, which take memory.
    std::size_t const windows = std::min<std::size_t>(12 * input.sound_columns() / hop, 128);
    if (net.prepare_sliding(hop, windows)) windows_ = windows;
    outputs_.resize(std::max(outputs_.size(), windows_ * width(modality::sound)));
  }
  if (!settings.frames && !shares()) net.prepare_inference(settings.batch);
}

sound_outcome embedder::sounds(fs::path const& file, row_sink const& rows) {
  clip_reader reader(file, limits_);
  if (!reader.facts().has_sound) throw media_error({file.string(), "a file with sound", "none"});
  std::size_t count = 0;
  row_sink const counted = [&](std::span<float const> some) {
    rows(some);
    count += some.size() / width(modality::sound);
  };
  reading source(reader, file.string(), sound_rate + (shares() ? windows_ - 1 : 0) * settings_.hop, settings_.repeats);
  if (shares())
    together(source, counted);
  else
    alone(source, counted);
  return {count, source.is_short, source.is_silent()};
}

std::size_t embedder::frames(fs::path const& file, row_sink const& rows, double first, std::size_t count) {
  clip_reader reader(file, limits_);
  if (!reader.facts().has_video) throw media_error({file.string(), "a file with pictures", "none"});
  std::size_t n = 0, total = 0;
  auto const take = [&](rgb_frame const& frame) {
    input_.picture(frame, std::span(inputs_).subspan(n * input_.frame_size(), input_.frame_size()));
    ++total;
    if (++n == settings_.batch) flush(modality::frame, std::exchange(n, 0), rows);
  };
  if (reader.facts().still_image)
    take(reader.frame(0, input_.frame_side()));
  else
    reader.for_each_frame(
        hop_seconds(), input_.frame_side(), [&](std::size_t, rgb_frame const& frame) { take(frame); }, first, count);
  if (n > 0) flush(modality::frame, n, rows);
  if (total == 0) throw media_error({file.string(), "at least one picture", "none"});
  return total;
}

void embedder::alone(reading& source, row_sink const& rows) {
  auto const hop = settings_.hop;
  std::vector<float> skipped;
  // Moves the window one hop on; false when the sound does not fill it any more.
  auto const advance = [&] {
    auto& window = source.buffer;
    std::size_t const kept = window.size() > hop ? window.size() - hop : 0;
    std::copy(window.end() - static_cast<std::ptrdiff_t>(kept), window.end(), window.begin());
    for (std::size_t gap = hop - (window.size() - kept); gap > 0;) {  // a hop longer than the window
      skipped.resize(std::min<std::size_t>(gap, sound_rate));
      std::size_t const got = source.read(skipped);
      if (got == 0) return false;
      gap -= got;
    }
    return source.read(std::span(window).subspan(kept)) == window.size() - kept;
  };
  for (bool more = true; more;) {
    std::size_t n = 0;
    for (; n < settings_.batch && more; ++n) {
      input_.spectrum(source.buffer, std::span(inputs_).subspan(n * input_.sound_size(), input_.sound_size()));
      more = !source.is_short && advance();
    }
    flush(modality::sound, n, rows);
  }
}

void embedder::together(reading& source, row_sink const& rows) {
  constexpr std::size_t few = 3;  // so many seconds have more edges than they share
  auto& samples = source.buffer;
  for (;;) {
    std::size_t const n = source.is_short ? 1 : (source.filled - sound_rate) / settings_.hop + 1;
    if (n <= few) {
      for (std::size_t k = 0; k < n; ++k) {
        input_.spectrum(std::span(samples).subspan(k * settings_.hop, sound_rate), inputs_);
        flush(modality::sound, 1, rows);
      }
    } else {
      std::size_t const width = input_.sound_columns() + (n - 1) * (settings_.hop / input_.column_samples());
      spectrum_.resize(input_.sound_size() / input_.sound_columns() * width);
      input_.long_spectrum(std::span(samples).first(sound_rate + (n - 1) * settings_.hop), spectrum_);
      net_.embed_sliding(settings_.which, spectrum_, n, outputs_);
      keep(n * net_.width_of(modality::sound, settings_.which), rows);
    }
    if (source.filled < samples.size()) return;  // the sound has ended
    auto const kept =
        std::copy(samples.begin() + static_cast<std::ptrdiff_t>(n * settings_.hop), samples.end(), samples.begin());
    source.filled = static_cast<std::size_t>(kept - samples.begin());
    source.filled += source.read(std::span(samples).subspan(source.filled));
    if (source.filled < sound_rate) return;
  }
}

void embedder::flush(modality what, std::size_t n, row_sink const& rows) {
  std::size_t const size = what == modality::frame ? input_.frame_size() : input_.sound_size();
  net_.embed(what, settings_.which, {inputs_.data(), n * size}, n, outputs_);
  keep(n * width(what), rows);
}
void embedder::keep(std::size_t values, row_sink const& rows) {
  for (float const v : std::span(outputs_).first(values))
    if (!std::isfinite(v)) throw numeric_error({"embedding", "finite values", std::to_string(v)});
  rows(std::span<float const>(outputs_).first(values));
}

namespace {
constexpr std::string_view sound_endings[] = {".wav", ".flac", ".mp3",  ".ogg", ".oga", ".opus", ".m4a",
                                              ".aac", ".aif",  ".aiff", ".wma", ".ac3", ".mka"};
constexpr std::string_view picture_endings[] = {".png", ".jpg",  ".jpeg", ".bmp", ".webp",
                                                ".tif", ".tiff", ".gif",  ".ppm", ".pgm"};

constexpr std::array<std::string_view, 5> depth_names{"pool1", "pool2", "pool3", "conv4_2", "pool4"};
}  // namespace

feature feature_named(std::string const& layer, std::string const& pool) {
  if (layer.empty()) return feature_named(pool == "grid" ? "conv4_2" : "pool4", pool);
  auto const found = std::find(depth_names.begin(), depth_names.end(), layer);
  if (found == depth_names.end()) throw setting_error({"--layer", "pool1, pool2, pool3, conv4_2 or pool4", layer});
  feature const f{static_cast<depth>(found - depth_names.begin()), pool == "grid" ? pooling::grid : pooling::global};
  if (f.from == depth::pool4 && f.pool == pooling::grid)
    throw setting_error({"--pool", "global with --layer pool4, of which one cell is left", "grid"});
  return f;
}
bool suits_embedding(fs::path const& file, std::string const& kind) {
  std::string ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
  auto const among = [&](auto const& endings) { return std::ranges::find(endings, ending) != std::end(endings); };
  if (kind == "image") return among(picture_endings);
  return has_video_extension(file) || (kind == "audio" && among(sound_endings));
}
std::string name_of(feature which) {
  return std::string(depth_names[static_cast<std::size_t>(which.from)]) +
         (which.pool == pooling::grid ? ", grid" : ", global");
}

}  // namespace l3::program
