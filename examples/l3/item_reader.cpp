// Threads read files ahead; one asks for what is in them, in order.
#include "item_reader.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <l3/core/memory.hpp>
#include <l3/data/decode.hpp>
#include <limits>
#include <string>
#include <utility>

namespace l3::program {

namespace {
/// Sound or pictures that begin this late, in seconds, count as being there from the beginning: coders delay them so.
constexpr double usual_delay = 0.1;
}  // namespace

/// Rows of a file: from `first` on, at most so many.
struct item_reader::range {
  std::size_t first = 0, most = std::numeric_limits<std::size_t>::max();
};

/// Those before are no rows of what begins later; and aligned ones are those that sound and pictures have in common.
item_reader::range item_reader::rows_of(reading_job const& j, clip_facts const& facts, modality what) const {
  auto const [begin, end] = what == modality::sound ? facts.sound : facts.video;
  double const hop = static_cast<double>(rules_.hop) / sound_rate;
  auto const whole = [](double rows) { return rows > 0 ? static_cast<std::size_t>(std::min(rows, 1e15)) : 0; };
  auto const last_to = [&](double time) { return whole(std::floor(time / hop + 1e-6)); };  // the last k hop up to it
  auto const first_from = [&](double time) { return whole(std::ceil(time / hop - 1e-6)); };
  if (what == modality::frame) {
    if (j.most_frames == 1) return {};
    std::size_t const first = first_from(begin - usual_delay);
    return {static_cast<double>(first) * hop < end ? first : last_to(begin)};
  }
  double const front = rules_.centred ? sound_seconds / 2 : 0;  // row k is of the second from k hop - front on
  double const middle = sound_seconds / 2 - front;
  // Whole seconds are filled; of centred ones some is.
  range rows{!rules_.centred ? first_from(begin - usual_delay) : begin < front ? 0 : last_to(begin - front) + 1};
  stream_span wanted = facts.sound;
  if (j.aligned) {
    auto const both = facts.both();
    if (!both)
      throw media_error({j.file.string(), "sound and pictures at the same time",
                         "sound from " + std::to_string(begin) + " to " + std::to_string(end) + " s, pictures from " +
                             std::to_string(facts.video.begin) + " to " + std::to_string(facts.video.end) + " s"});
    wanted = *both;
    rows.first = std::max(rows.first, first_from(facts.video.begin - usual_delay - middle));
    auto const behind = first_from(facts.video.end + usual_delay - middle);
    rows.most = std::max(behind, rows.first) - rows.first;
  }
  double const second = static_cast<double>(rows.first) * hop - front;
  if (rows.most > 0 && (rules_.centred ? second < end : second + sound_seconds <= end)) return rows;
  // There is always one row: where none is as it should be, of the two around the beginning the one that holds more.
  auto const held = [&](std::size_t row) {
    double const from = static_cast<double>(row) * hop - front;
    return std::min(from + sound_seconds, wanted.end) - std::max(from, wanted.begin);
  };
  rows.first = last_to(wanted.begin + front);
  if (held(rows.first + 1) > std::max(usual_delay, held(rows.first))) ++rows.first;
  if (j.aligned) rows.most = 1;
  return rows;
}

/// A sound on its way through a buffer, from row `first` on. Centred, there is half a second of silence in front of it.
class item_reader::sound_window {
 public:
  sound_window(clip_reader const& from, std::string const& name, std::size_t samples, reading_rules const& rules,
               std::size_t first)
      : source_(from.sound_from_start()), centred_(rules.centred), buffer(samples) {
    std::size_t const front = rules.centred ? sound_rate / 2 : 0, begin = first * rules.hop;
    skip(begin > front ? begin - front : 0);
    filled = front > begin ? front - begin : 0;
    loudest_ = 0, length_ = 0;
    if (read_on() == 0) throw media_error({name, "at least one sample of sound", "none"});
    if (!rules.centred && rules.repeats && is_short())  // up to a second, which it is then
      for (std::size_t k = filled; k < sound_rate; ++k) buffer[k] = buffer[k - filled];
  }
  /// Fills the buffer as far as there is sound; returns how much of it was new.
  std::size_t read_on() {
    std::size_t const got = read(std::span(buffer).subspan(filled));
    filled += got;
    return got;
  }
  bool is_silent() const { return loudest_ < 0.5f / 32768; }
  /// Of what has been read.
  bool is_short() const { return length_ < sound_rate; }
  /// Moves a second's beginning on; false when there is no other: the sound does not fill it any more or, centred,
  /// there is no more sound.
  bool advance(std::size_t hop) {
    if (!centred_ && is_short()) return false;
    std::size_t const kept = buffer.size() > hop ? buffer.size() - hop : 0;
    std::copy(buffer.end() - static_cast<std::ptrdiff_t>(kept), buffer.end(), buffer.begin());
    filled = kept;
    std::size_t const fresh = skip(hop - (buffer.size() - kept)) + read_on();  // a hop may be longer than the buffer
    if (filled == buffer.size()) return true;
    silence_from(filled);
    return centred_ && fresh > 0;
  }
  void silence_from(std::size_t sample) {
    std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(sample), buffer.end(), 0.0f);
  }

 private:
  /// Reads on without keeping it; returns how much there was.
  std::size_t skip(std::size_t samples) {
    std::size_t left = samples;
    while (left > 0) {
      skipped_.resize(std::min<std::size_t>(left, sound_rate));
      std::size_t const got = read(skipped_);
      if (got == 0) break;
      left -= got;
    }
    return samples - left;
  }
  std::size_t read(std::span<float> out) {
    std::size_t const got = source_.read(out);
    for (float const x : out.first(got)) loudest_ = std::max(loudest_, std::abs(x));
    length_ += got;
    return got;
  }

  sound_source source_;
  bool centred_;
  float loudest_ = 0;
  std::size_t length_ = 0;
  std::vector<float> skipped_;

 public:
  std::vector<float> buffer;
  std::size_t filled = 0;
};

item_reader::item_reader(std::span<reading_job const> jobs, model_input const& input, reading_rules const& rules,
                         std::size_t items, std::size_t room, std::size_t threads,
                         std::function<void(std::size_t)> opening)
    : jobs_(jobs), input_(input), rules_(rules), items_(items), room_(room), opening_(std::move(opening)) {
  limits_.seconds = 0;  // the whole file
  std::size_t const most = threads > 0 ? threads : std::max(1u, std::thread::hardware_concurrency());
  threads_.reserve(std::min(most, jobs.size()));
  for (std::size_t k = 0; k < std::min(most, jobs.size()); ++k) try {
      threads_.emplace_back([this] { work(); });
    } catch (std::exception const&) {  // no more threads: fewer do too
      if (threads_.empty()) throw;
      break;
    }
}
item_reader::~item_reader() {
  {
    std::lock_guard const lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

std::optional<reading_piece> item_reader::next() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] {
      return lanes_.empty() ? begun_ == jobs_.size() : !lanes_.front()->pieces.empty() || lanes_.front()->done;
    });
    if (lanes_.empty()) return {};
    lane& first = *lanes_.front();
    if (first.pieces.empty()) {
      lanes_.pop_front();
      changed_.notify_all();  // the next one may go beyond the room
      continue;
    }
    auto piece = std::move(first.pieces.front());
    first.pieces.pop_front();
    held_ -= piece.data.capacity();
    changed_.notify_all();
    if (piece.failure) std::rethrow_exception(piece.failure);
    return piece;
  }
}
void item_reader::recycle(reading_piece&& used) {
  if (used.data.capacity() == 0) return;
  std::lock_guard const lock(mutex_);
  if (spare_.size() == 2 * threads_.size()) spare_.erase(spare_.begin());  // perhaps of a size that nobody wants now
  spare_.push_back(std::move(used.data));
}

void item_reader::work() {
  for (;;) {
    std::size_t job = 0;
    auto const mine = std::make_shared<lane>();
    {
      std::unique_lock lock(mutex_);
      // Jobs that have failed hold no memory to speak of; but there shall not be any number of them.
      changed_.wait(lock, [&] {
        return stopping_ || begun_ == jobs_.size() || lanes_.empty() || (held_ < room_ && lanes_.size() < 1024);
      });
      if (stopping_ || begun_ == jobs_.size()) return;
      job = begun_++;
      lanes_.push_back(mine);
    }
    std::exception_ptr failure;
    try {
      read(job, *mine);
    } catch (stopped) {
      return;
    } catch (...) {
      failure = std::current_exception();
    }
    {
      std::lock_guard const lock(mutex_);
      if (failure) mine->pieces.push_back({.job = job, .failure = failure});
      mine->done = true;
    }
    changed_.notify_all();
  }
}

void item_reader::hand_out(lane& to, reading_piece&& piece) {
  if (2 * piece.data.size() < piece.data.capacity()) piece.data.shrink_to_fit();
  {
    std::unique_lock lock(mutex_);
    // What is asked for next finds room always.
    changed_.wait(lock, [&] {
      return stopping_ || held_ + piece.data.capacity() <= room_ || (lanes_.front().get() == &to && to.pieces.empty());
    });
    if (stopping_) throw stopped();
    held_ += piece.data.capacity();
    to.pieces.push_back(std::move(piece));
  }
  changed_.notify_all();
}
std::vector<std::byte> item_reader::memory(std::size_t bytes) {
  std::vector<std::byte> space;
  {
    std::lock_guard const lock(mutex_);
    if (stopping_) throw stopped();
    auto const fits =
        std::ranges::find_if(spare_, [&](auto const& s) { return bytes <= s.capacity() && s.capacity() <= 2 * bytes; });
    if (fits != spare_.end()) {
      std::swap(*fits, spare_.back());
      space = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  space.resize(bytes);
  return space;
}

void item_reader::read(std::size_t job, lane& to) {
  opening_(job);
  reading_job const& j = jobs_[job];
  std::optional<clip_reader> file;
  bool refused = false;  // as a whole
  // The items of one kind, as make(met) hands them out; returns what was met, without items where it was refused.
  auto const kind = [&](modality what, bool wanted, auto&& make) {
    reading_outcome met;
    if (!wanted) return met;
    if (!refused) {
      bool opened = file.has_value();
      try {
        if (!opened) file.emplace(j.file, limits_);
        opened = true;
        make(met);
      } catch (file_error const& e) {
        refused = met.unopened = true;
        met.refused = e.what();
      } catch (media_error const& e) {
        require_memory_left();
        refused = met.unopened = !opened;
        met.refused = e.what();
      }
    }
    hand_out(to, {.job = job, .what = what, .end = met});
    if (!met.refused.empty()) met.items = 0;
    return met;
  };
  reading_outcome const sounds =
      kind(modality::sound, j.sounds, [&](reading_outcome& met) { read_sounds(job, to, *file, met); });
  refused = refused || (j.aligned && sounds.items == 0);
  kind(modality::frame, j.frames, [&](reading_outcome& met) { read_frames(job, to, *file, sounds, met); });
}

void item_reader::read_sounds(std::size_t job, lane& to, clip_reader const& from, reading_outcome& met) {
  auto const& file = jobs_[job].file;
  if (!from.facts().has_sound) throw media_error({file.string(), "a file with sound", "none"});
  auto const rows = rows_of(jobs_[job], from.facts(), modality::sound);
  met.first = rows.first;
  std::size_t const windows = std::max<std::size_t>(rules_.windows, 1);
  sound_window source(from, file.string(), sound_rate + (windows - 1) * rules_.hop, rules_, rows.first);
  if (rules_.windows > 0)
    read_together(job, to, source, rows.most, met);
  else
    read_alone(job, to, source, rows.most, met);
  met.is_short = source.is_short();
  met.is_silent = source.is_silent();
}
void item_reader::put_second(std::span<float const> samples, std::byte* to) const {
  auto const out = std::span(reinterpret_cast<float*>(to), rules_.raw ? samples.size() : input_.sound_size());
  if (rules_.raw)
    std::copy(samples.begin(), samples.end(), out.begin());
  else
    input_.spectrum(samples, out);
}
void item_reader::read_alone(std::size_t job, lane& to, sound_window& source, std::size_t most, reading_outcome& met) {
  std::size_t const size = size_of(modality::sound);
  for (bool more = true; more;) {
    reading_piece piece{.job = job, .what = modality::sound, .data = memory(items_ * size)};
    for (; piece.items < items_ && more; ++piece.items) {
      put_second(source.buffer, piece.data.data() + piece.items * size);
      more = met.items + piece.items + 1 < most && source.advance(rules_.hop);
    }
    piece.data.resize(piece.items * size);
    met.items += piece.items;
    hand_out(to, std::move(piece));
  }
}
void item_reader::read_together(std::size_t job, lane& to, sound_window& source, std::size_t most,
                                reading_outcome& met) {
  constexpr std::size_t few = 3;  // so many seconds have more edges than they share
  std::size_t const size = size_of(modality::sound);
  auto& samples = source.buffer;
  for (;;) {
    bool const ended = source.filled < samples.size();
    std::size_t const beyond = source.filled > sound_rate ? source.filled - sound_rate : 0;
    // Centred, a second that is not full ends the sound.
    std::size_t const n =
        std::min((ended && rules_.centred ? (beyond + rules_.hop - 1) : beyond) / rules_.hop + 1, most - met.items);
    if (ended && rules_.centred) source.silence_from(source.filled);
    reading_piece piece{.job = job, .what = modality::sound, .items = n, .shared = n > few};
    if (piece.shared) {
      std::size_t const width = input_.sound_columns() + (n - 1) * (rules_.hop / input_.column_samples());
      std::size_t const values = input_.sound_size() / input_.sound_columns() * width;
      piece.data = memory(values * sizeof(float));
      input_.long_spectrum(std::span(samples).first(sound_rate + (n - 1) * rules_.hop),
                           {reinterpret_cast<float*>(piece.data.data()), values});
    } else {
      piece.data = memory(n * size);
      for (std::size_t k = 0; k < n; ++k)
        put_second(std::span(samples).subspan(k * rules_.hop, sound_rate), piece.data.data() + k * size);
    }
    met.items += n;
    hand_out(to, std::move(piece));
    if (ended || met.items == most) return;
    auto const kept =
        std::copy(samples.begin() + static_cast<std::ptrdiff_t>(n * rules_.hop), samples.end(), samples.begin());
    source.filled = static_cast<std::size_t>(kept - samples.begin());
    std::size_t const fresh = source.read_on();
    if (rules_.centred ? fresh == 0 : source.filled < sound_rate) return;
  }
}

void item_reader::read_frames(std::size_t job, lane& to, clip_reader& from, reading_outcome const& sounds,
                              reading_outcome& met) {
  reading_job const& j = jobs_[job];
  if (!from.facts().has_video) throw media_error({j.file.string(), "a file with pictures", "none"});
  std::size_t const size = size_of(modality::frame), values = input_.frame_size();
  reading_piece piece;
  auto const finish = [&] {
    piece.data.resize(piece.items * size);
    met.items += piece.items;
    hand_out(to, std::exchange(piece, {}));
  };
  auto const take = [&](rgb_frame const& frame) {
    if (piece.items == 0)
      piece = {.job = job, .what = modality::frame, .data = memory(from.facts().still_image ? size : items_ * size)};
    std::byte* const out = piece.data.data() + piece.items++ * size;
    if (rules_.raw)
      input_.crop(frame, {reinterpret_cast<std::uint8_t*>(out), values});
    else
      input_.picture(frame, {reinterpret_cast<float*>(out), values});
    if (piece.items == items_) finish();
  };
  if (from.facts().still_image) {
    take(from.frame(0, input_.frame_side()));
  } else {
    met.first = j.aligned ? sounds.first : rows_of(j, from.facts(), modality::frame).first;
    double const hop = static_cast<double>(rules_.hop) / sound_rate;
    from.for_each_frame(
        hop, input_.frame_side(), [&](std::size_t, rgb_frame const& frame) { take(frame); },
        static_cast<double>(met.first) * hop + (j.aligned && !rules_.centred ? sound_seconds / 2 : 0),
        j.aligned ? sounds.items : j.most_frames);
  }
  if (piece.items > 0) finish();
  if (met.items == 0) throw media_error({j.file.string(), "at least one picture", "none"});
}

}  // namespace l3::program
