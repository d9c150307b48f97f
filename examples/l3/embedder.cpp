// Sounds and pictures of files become rows of features.
#include "embedder.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <l3/data/clip_list.hpp>
#include <string_view>

namespace l3::program {

namespace fs = std::filesystem;

embedder::embedder(engine& net, model_input const& input, embedder_settings const& settings)
    : net_(net),
      input_(input),
      settings_(settings),
      rules_{.hop = settings.hop, .repeats = settings.repeats, .raw = net.takes_raw()} {
  // Where sounds are all there is and share their work, nothing comes in batches: no memory for them.
  net.prepare_inference(settings.frames ? settings.batch : 1);
  if (settings.sounds && settings.which.from >= depth::conv4_2 && settings.hop % input.column_samples() == 0) {
    std::size_t const hop = settings.hop / input.column_samples();
    // Whatever the batch, so that it does not change the rows; and no more than 12 seconds, which take memory.
    std::size_t const windows = std::min<std::size_t>(12 * input.sound_columns() / hop, 128);
    if (net.prepare_sliding(hop, windows)) rules_.windows = windows;
  }
  if (!settings.frames && !shares()) net.prepare_inference(settings.batch);
  if (settings.frames) frames_.items.resize(settings.batch * size_of(modality::frame));
  if (settings.sounds) sounds_.items.resize(batch_of(modality::sound) * size_of(modality::sound));
  std::size_t const sounds = settings.sounds ? std::max(batch_of(modality::sound), rules_.windows) : 0;
  outputs_.resize(
      std::max((settings.frames ? settings.batch : 0) * width(modality::frame), sounds * width(modality::sound)));
}

void embedder::run(std::span<reading_job const> jobs, row_sink& to, std::function<bool()> const& go_on) {
  // What a run left that ended early.
  for (auto* const left : {&frames_, &sounds_}) left->count = 0, left->shares.clear();
  for (; !begun_.empty(); begun_.pop_front())
    if (computing const& c = begun_.front(); c.count > 0)
      net_.finish_embed(std::span(outputs_).first(c.count * width(c.what)));
  // While one batch is computed the next one is read; and more than an item is handed over at a time.
  std::size_t const room =
      2 * settings_.batch * std::max(settings_.frames ? size_of(modality::frame) : 0, size_of(modality::sound));
  item_reader files(jobs, input_, rules_, std::min<std::size_t>(settings_.batch, 8), room, settings_.workers);
  while (auto piece = files.next()) {
    if (!go_on()) return;
    add(*piece, to);
    files.recycle(std::move(*piece));
  }
  for (auto const what : {modality::sound, modality::frame})
    if (go_on()) compute(what, to);
  if (go_on()) finish(0, to);
}

void embedder::add(reading_piece const& piece, row_sink& to) {
  waiting& all = piece.what == modality::frame ? frames_ : sounds_;
  if (piece.shared) {
    compute(piece.what, to);  // first what came before
    finish(0, to);
    net_.embed_sliding(settings_.which,
                       {reinterpret_cast<float const*>(piece.data.data()), piece.data.size() / sizeof(float)},
                       piece.items, outputs_);
    to.rows(piece.job, piece.what, finite(piece.items * width(piece.what)));
    return;
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
  if (!piece.end) return;
  all.shares.push_back({piece.job, 0, piece.end});
  if (all.count == 0) compute(piece.what, to);  // nothing to wait for
}

void embedder::compute(modality what, row_sink& to) {
  waiting& all = what == modality::frame ? frames_ : sounds_;
  if (all.count > 0) {
    auto const* const data = all.items.data();
    std::size_t const bytes = all.count * size_of(what), floats = bytes / sizeof(float);
    item_spans items;
    if (!rules_.raw)
      items.values = {reinterpret_cast<float const*>(data), floats};
    else if (what == modality::frame)
      items.crops = {reinterpret_cast<std::uint8_t const*>(data), bytes};
    else
      items.seconds = {reinterpret_cast<float const*>(data), floats};
    finish(net_.most_in_flight() - 1, to);  // or there is no room for one more
    net_.begin_embed(what, settings_.which, items, all.count);
  }
  begun_.push_back({what, all.count, std::move(all.shares)});
  all.count = 0;
  all.shares.clear();
  finish(net_.most_in_flight() - 1, to);
}

void embedder::finish(std::size_t still_computed, row_sink& to) {
  auto const computed = [](computing const& c) { return c.count > 0; };
  while (static_cast<std::size_t>(std::ranges::count_if(begun_, computed)) > still_computed ||
         (!begun_.empty() && !computed(begun_.front()))) {
    auto const [what, count, shares] = std::move(begun_.front());
    begun_.pop_front();
    std::size_t const wide = width(what);
    if (count > 0) net_.finish_embed(std::span(outputs_).first(count * wide));
    auto rows = finite(count * wide);
    for (auto const& s : shares) {
      if (s.rows > 0) to.rows(s.job, what, rows.first(s.rows * wide));
      rows = rows.subspan(s.rows * wide);
      if (s.end) to.end(s.job, what, *s.end);
    }
  }
}

std::span<float const> embedder::finite(std::size_t values) const {
  auto const found = std::span(outputs_).first(values);
  for (float const v : found)
    if (!std::isfinite(v)) throw numeric_error({"embedding", "finite values", std::to_string(v)});
  return found;
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
