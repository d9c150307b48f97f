// Sounds and pictures of files become rows of features.
#include "embedder.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <l3/data/clip_list.hpp>
#include <l3/train/openl3_checkpoint.hpp>
#include <string_view>
#include <utility>

namespace l3::program {

namespace fs = std::filesystem;

embedder::embedder(feature_engine& net, model_input const& input, embedder_settings const& settings)
    : net_(net),
      input_(input),
      settings_(settings),
      rules_{.hop = settings.hop, .repeats = settings.repeats, .centred = settings.centred, .raw = net.takes_raw()} {
  if (settings.sounds && !net.has(modality::sound))
    throw setting_error({"--checkpoint", "a checkpoint with an audio network", "one without"});
  if (settings.frames && !net.has(modality::frame))
    throw setting_error({"--checkpoint", "a checkpoint with an image network", "one without"});
  // Where sounds are all there is and share their work, little comes in batches, which a GPU alone has memory for.
  bool const in_batches = settings.frames || net.takes_raw();
  net.prepare_inference(in_batches ? settings.batch : 1);
  if (settings.sounds && settings.which.from >= depth::conv4_2 && input.column_samples() > 0 &&
      settings.hop % input.column_samples() == 0) {
    std::size_t const hop = settings.hop / input.column_samples();
    // Whatever the batch, so that it does not change the rows; and no more than 12 seconds, which take memory.
    std::size_t const windows = std::min<std::size_t>(12 * input.sound_columns() / hop, 128);
    if (net.prepare_sliding(hop, windows)) rules_.windows = windows;
  }
  if (!in_batches && !shares()) net.prepare_inference(settings.batch);
  if (settings.frames) frames_.items.resize(settings.batch * size_of(modality::frame));
  if (settings.sounds) sounds_.items.resize(batch_of(modality::sound) * size_of(modality::sound));
  std::size_t const sounds = settings.sounds ? std::max(batch_of(modality::sound), rules_.windows) : 0;
  outputs_.resize(
      std::max((settings.frames ? settings.batch : 0) * width(modality::frame), sounds * width(modality::sound)));
}

void embedder::run(std::span<reading_job const> jobs, row_sink& to, std::function<bool()> const& go_on) {
  jobs_ = jobs;
  // While one batch is computed the next one is read. Pieces are much smaller than a batch, so that many files can be
  // ahead.
  std::size_t const room =
      2 * settings_.batch * std::max(settings_.frames ? size_of(modality::frame) : 0, size_of(modality::sound));
  item_reader files(jobs, input_, rules_, std::min<std::size_t>(settings_.batch, 8), room, settings_.workers,
                    [&](std::size_t job) { to.opening(job); });
  while (auto piece = files.next()) {
    if (!go_on()) break;
    add(*piece, to);
    files.recycle(std::move(*piece));
  }
  for (auto const what : {modality::sound, modality::frame}) compute(what, to);
  finish(0, to);
}

void embedder::add(reading_piece const& piece, row_sink& to) {
  waiting& all = piece.what == modality::frame ? frames_ : sounds_;
  if (piece.end) return end(piece, to);
  if (piece.shared) {
    compute(piece.what, to);  // first what came before
    before_begin(to);
    net_.begin_sliding(settings_.which,
                       {reinterpret_cast<float const*>(piece.data.data()), piece.data.size() / sizeof(float)},
                       piece.items);
    return begun({piece.what, piece.items, {{piece.job, piece.items, {}}}}, to);
  }
  std::size_t const size = size_of(piece.what), most = batch_of(piece.what);
  for (std::size_t done = 0; done < piece.items;) {
    std::size_t const n = std::min(piece.items - done, most - all.count);
    std::copy_n(piece.data.begin() + static_cast<std::ptrdiff_t>(done * size), n * size,
                all.items.begin() + static_cast<std::ptrdiff_t>(all.count * size));
    all.shares.push_back({piece.job, n, {}});
    done += n;
    if ((all.count += n) == most) compute(piece.what, to);
  }
}

void embedder::end(reading_piece const& piece, row_sink& to) {
  waiting& all = piece.what == modality::frame ? frames_ : sounds_;
  waiting::share share{piece.job, 0, piece.end};
  // Behind the rows that came before, wherever these are.
  if (all.count > 0) {
    constexpr std::size_t many = 1000;  // files that wait for no more than a few rows
    all.shares.push_back(std::move(share));
    if (all.shares.size() >= many) compute(piece.what, to);
    return;
  }
  auto const last =
      std::find_if(begun_.rbegin(), begun_.rend(), [&](computing const& c) { return c.what == piece.what; });
  if (last == begun_.rend()) return to.end(piece.job, piece.what, *piece.end);
  last->shares.push_back(std::move(share));
}

void embedder::compute(modality what, row_sink& to) {
  waiting& all = what == modality::frame ? frames_ : sounds_;
  if (all.count == 0) return;
  auto const* const data = all.items.data();
  std::size_t const bytes = all.count * size_of(what), floats = bytes / sizeof(float);
  item_spans items;
  if (!rules_.raw)
    items.values = {reinterpret_cast<float const*>(data), floats};
  else if (what == modality::frame)
    items.crops = {reinterpret_cast<std::uint8_t const*>(data), bytes};
  else
    items.seconds = {reinterpret_cast<float const*>(data), floats};
  before_begin(to);
  net_.begin_embed(what, settings_.which, items, all.count);
  std::size_t const count = std::exchange(all.count, 0);
  begun({what, count, std::exchange(all.shares, {})}, to);
}

void embedder::begun(computing&& one, row_sink& to) {
  begun_.push_back(std::move(one));
  if (net_.most_in_flight() == 1) finish(0, to);  // it is done
}

void embedder::finish(std::size_t still_computed, row_sink& to) {
  while (begun_.size() > still_computed) {
    auto const [what, count, shares] = std::move(begun_.front());
    begun_.pop_front();
    std::size_t const wide = width(what);
    std::span<float const> rows = std::span(outputs_).first(count * wide);
    net_.finish_embed(std::span(outputs_).first(count * wide));
    for (auto const& s : shares) {
      auto const some = rows.first(s.rows * wide);
      for (float const v : some)
        if (!std::isfinite(v))
          throw numeric_error({"embedding of " + jobs_[s.job].file.string(), "finite values", std::to_string(v)});
      if (s.rows > 0) to.rows(s.job, what, some);
      rows = rows.subspan(some.size());
      if (s.end) to.end(s.job, what, *s.end);
    }
  }
}

namespace {
constexpr std::string_view sound_endings[] = {".aac",  ".ac3",  ".aif", ".aiff", ".amr", ".ape", ".au",  ".caf", ".dts",
                                              ".eac3", ".flac", ".m4a", ".m4b",  ".mka", ".mp2", ".mp3", ".mpc", ".oga",
                                              ".ogg",  ".opus", ".snd", ".spx",  ".tta", ".w64", ".wav", ".wma", ".wv"};
constexpr std::string_view picture_endings[] = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg",  ".jxl", ".pbm",
                                                ".pgm",  ".png", ".ppm", ".tga", ".tif",  ".tiff", ".webp"};

constexpr std::array<std::string_view, 5> depth_names{"pool1", "pool2", "pool3", "conv4_2", "pool4"};
}  // namespace

feature feature_named(std::string const& layer, std::string const& pool, model_facts const& of) {
  bool const of_openl3 = is_openl3(of.name);
  if (layer.empty()) return feature_named(pool == "grid" || of_openl3 ? "conv4_2" : "pool4", pool, of);
  if (of_openl3 && layer != "conv4_2") throw setting_error({"--layer of OpenL3's networks", "conv4_2", layer});
  auto const found = std::find(depth_names.begin(), depth_names.end(), layer);
  if (found == depth_names.end()) throw setting_error({"--layer", "pool1, pool2, pool3, conv4_2 or pool4", layer});
  feature const f{static_cast<depth>(found - depth_names.begin()), pool == "grid" ? pooling::grid : pooling::global};
  if (f.from == depth::pool4 && f.pool == pooling::grid)
    throw setting_error({"--pool", "global with --layer pool4, of which one cell is left", "grid"});
  return f;
}
std::size_t hop_samples(double seconds) {
  if (!(seconds * sound_rate >= 1 && seconds < 1e6))
    throw setting_error({"--hop", "at least one sample, 1/48000 s, and less than 1e6 s", text("%g", seconds)});
  return static_cast<std::size_t>(std::lround(seconds * sound_rate));
}
bool suits_embedding(fs::path const& file, std::string const& kind) {
  std::string const ending = detail::lower_extension(file);
  auto const among = [&](auto const& endings) { return std::ranges::find(endings, ending) != std::end(endings); };
  if (kind == "image") return among(picture_endings);
  return has_video_extension(file) || (kind == "audio" && among(sound_endings));
}
std::string name_of(feature which) {
  return std::string(depth_names[static_cast<std::size_t>(which.from)]) +
         (which.pool == pooling::grid ? ", grid" : ", global");
}

}  // namespace l3::program
