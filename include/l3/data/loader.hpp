/// @file  include/l3/data/loader.hpp: videos -> batches, ahead of the network that uses them; bounded memory, and the
/// same batches whatever the number of workers.
#pragma once
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/shape.hpp>
#include <l3/data/assemble.hpp>
#include <l3/data/batch.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/loader_report.hpp>
#include <l3/data/picture.hpp>
#include <l3/data/sample.hpp>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

// video_files.hpp has them; a loader of something else does without FFmpeg.
class clip_reader;
template <class Reader>
class video_files;

/// What a loader makes, and with how much help.
struct loader_options {
  std::uint64_t seed = 0;
  std::size_t batch = 64;  ///< items
  pairing pairs = pairing::all;
  /// If not zero: this many fixed pairs for evaluation (pairing `paper`, centre crop, no jitter) and then the end. Pair
  /// k depends on the seed and k alone, not on the batch size.
  std::uint32_t evaluation_pairs = 0;

  std::uint64_t first = 0;  ///< number of the first batch: where a resumed run goes on
  std::uint64_t batches = std::numeric_limits<std::uint64_t>::max();  ///< at most so many, and then the end
  /// If not zero: batches are parts of larger ones of `whole` items, from item `part_begin` on (with pairing `paper` an
  /// even number), as process r of W makes the part at r * batch of W * batch items. Training only, without shared
  /// openings.
  std::size_t whole = 0, part_begin = 0;
  /// If not zero: items of a worker, of which `batch` has several (see batch_sampler: drawing again).
  std::size_t worker = 0;

  /// If more than one: so many draws share the opening of a video (see reservoir), which are then spread over the
  /// batches; draws are in stock of at least `reservoir_videos` at a time. Training only. At most 32;
  /// must divide the batch size or be a multiple of it.
  std::size_t draws_per_opening = 1;
  std::size_t reservoir_videos = 64;

  std::size_t workers = 0;  ///< files decoded at the same time; 0: one for each core
  std::size_t ahead = 4;    ///< batches held in memory, with the one in use

  decode_limits limits = {};
  /// Videos stay open for the draws to come, those used last, as long as what they hold is within this. Not in
  /// evaluation, where a draw comes once.
  std::size_t open_bytes = std::size_t{512} << 20;
  std::vector<refusal> known = {};                      ///< refusals of the run so far; reported no more
  std::function<void(refusal const&)> on_refusal = {};  ///< called inside next(), once for each file, in an order that
                                                        ///< is the same for any number of workers

  /// `open_bytes`, where draws can come again.
  std::size_t bytes_kept_open() const { return evaluation_pairs > 0 ? 0 : open_bytes; }
};

/// Hands out batches in order while workers prepare the next ones.
///
/// Every draw of a batch is a task for the workers, who have a `tbb::task_arena` of their own; the oldest batch goes
/// first. A task never waits for another one, so nothing can lock up. Draws of which the file or the moment cannot be
/// used are drawn again (see batch_sampler) when the batch's others are done. The content of a batch depends on the
/// list, the seed, the batch's number and the model's shapes alone.
///
/// A file that cannot be opened, or has less than a second of common picture and sound, is refused as a whole and not
/// opened again. A file that fails at one moment is refused for that draw only: whether another draw uses it must not
/// depend on which of them was tried first.
///
/// Model   a type with `frame` (shape), `frame_side` (smallest side of the picture before the crop) and `front_end`.
/// Source  where the clips are (that of videos needs data/video_files.hpp): `clips()`, their list; a type `tools`, made
/// of a source, which a worker keeps from draw to draw; a type
///         `reader`, made of (source, place in the list, tools), which offers facts(), frame(t, side) and sound(start,
///         out) as clip_reader does.
/// Form    what becomes of a picture and a second: as_values, or as_bytes for a GPU that does the rest.
/// Memory  `ahead` batches, and one decoder and its scratch for each worker; buffers are used again and again. Where
///         draws share openings, also those that wait: half of lanes (see reservoir) * draws_per_opening pictures
///         (before the crop, as bytes) and seconds (192 kB). `open_bytes` of videos kept open.
/// Errors  of the constructor: setting_error. next() throws what a worker met: media_error when no usable videos are
/// left,
///         else anything that is not the file's fault; further calls throw it again.
template <class Model, class Source = video_files<clip_reader>, class Form = as_values<Model>>
class loader {
 public:
  using front_end = typename Model::front_end;
  using batch_type = typename Form::batch_type;
  static_assert(
      requires { sizeof(Source); }, "l3::loader: videos as a source need #include <l3/data/video_files.hpp>");
  static_assert(front_end::sample_rate == sound_rate && front_end::samples == sound_rate * sound_seconds,
                "l3::loader: the front end must take one second of 48 kHz sound");

  /// Of video files.
  loader(clip_list clips,
         loader_options const& options) requires std::constructible_from<Source, clip_list, decode_limits, std::size_t>
      : loader(Source(std::move(clips), options.limits, options.bytes_kept_open()), options) {}

  loader(Source source, loader_options options)
      : source_(std::move(source)),
        clips_(source_.clips()),
        options_(checked(std::move(options), clips_.size())),
        total_(batches_to_make()),
        shared_(made_reservoir()),
        // The trainer's loops run in other arenas, on as many threads as there are cores: workers come on top.
        more_threads_(
            tbb::global_control::max_allowed_parallelism,
            tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism) + options_.workers),
        arena_(static_cast<int>(options_.workers), 0),
        slots_(static_cast<std::size_t>(std::min<std::uint64_t>(options_.ahead, total_))) {
    if (shared_) batch_sampler::require_valid(request_of(0));
    recall_known();
    tools_.reserve(options_.workers + 1);
    for (auto& each : slots_) each.batch = batch_type(options_.batch);
    for (std::size_t i = 0; i != slots_.size(); ++i) start_batch();
  }
  loader(loader const&) = delete;
  loader& operator=(loader const&) = delete;

  /// Waits for the files being decoded at this moment, and for nothing else.
  ~loader() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    changed_.wait(lock, [&] { return tasks_ == 0; });
  }

  /// The next batch, or null at the end. It is valid until the next call.
  batch_type const* next() {
    if (std::exchange(in_use_, false)) start_batch();
    if (given_ == total_) return nullptr;
    slot& s = slot_of(given_);
    auto const asked = clock::now();
    {
      std::unique_lock lock(mutex_);
      for (auto turn = given_; turn != started_; ++turn) report_.ready += slot_of(turn).ready ? 1 : 0;
      changed_.wait(lock, [&] { return s.ready || error_; });
      if (error_) std::rethrow_exception(error_);
      report_.stages = spent_;
    }
    if (s.error) std::rethrow_exception(s.error);
    ++given_;
    in_use_ = true;
    account(s, asked);
    return &s.batch;
  }

  loader_report const& report() const { return report_; }
  clip_list const& clips() const { return clips_; }
  loader_options const& options() const { return options_; }
  /// Bytes of the batches held in memory.
  std::size_t buffer_bytes() const { return slots_.size() * options_.batch * Form::item_bytes; }

 private:
  using clock = std::chrono::steady_clock;

  /// So many moments in a row may fail before the files are taken for unusable.
  static constexpr int most_bad_moments = 100;

  enum class verdict : std::uint8_t { accepted, bad_moment, bad_file };
  struct outcome {
    verdict says = verdict::accepted;
    std::string why;
    std::exception_ptr error;  ///< not the file's fault
  };
  struct refused_clip {
    std::uint32_t clip;
    bool whole_file;
    std::string why;
  };

  /// A batch on its way.
  struct slot {
    batch_type batch;
    std::optional<batch_sampler> sampler;
    std::vector<outcome> outcomes;  ///< of the first try of each draw
    std::size_t claimed = 0;        ///< draws given to workers
    std::size_t unfinished = 0;
    bool ready = false;
    std::exception_ptr error;
    std::vector<refused_clip> refused;  ///< each clip once, in the order of the draws
    std::unordered_set<std::uint32_t> refused_before;
  };

  /// What a worker needs besides the batch.
  struct scratch {
    explicit scratch(Source const& from) : source(from) {}
    typename Source::tools source;
    Form assemble;
    std::vector<float> samples = std::vector<float>(front_end::samples);
    loader_stages spent;
  };

  /// A draw of an opening that it shares with others, decoded.
  struct kept_draw {
    outcome result;
    moment at;
    rgb_frame picture;
    std::vector<float> samples;
  };

  /// A video opened for several draws.
  struct opening {
    std::uint32_t first = 0;      ///< its draws before this one are not asked for
    std::vector<kept_draw> kept;  ///< from `first` on; each is used once
    std::size_t left = 0;         ///< of them, not yet used
    bool ready = false;
    std::vector<std::pair<slot*, std::size_t>> waiting;  ///< draws of batches that came before it was ready
  };

  /// Adds the time that it lives to a sum.
  class timer {
   public:
    explicit timer(double& sum) : sum_(sum) {}
    timer(timer const&) = delete;
    timer& operator=(timer const&) = delete;
    ~timer() { sum_ += std::chrono::duration<double>(clock::now() - begin_).count(); }

   private:
    double& sum_;
    clock::time_point begin_ = clock::now();
  };

  struct job {
    slot* batch = nullptr;
    std::size_t draw = 0;
    std::unique_ptr<scratch> tools;  ///< or none, until they are needed
    std::shared_ptr<opening> from;   ///< where the draw shares one
    bool opens = false;              ///< which is this job's to open,
    bool waits = false;              ///< or another job's, which has not done so yet and will take this draw along
  };

  static loader_options checked(loader_options o, std::size_t clips) {
    auto const require = [](bool good, char const* what, char const* expected, std::uint64_t found) {
      if (!good) throw setting_error(complaint{what, expected, std::to_string(found)});
    };
    constexpr std::uint64_t most = std::numeric_limits<std::int32_t>::max();
    require(clips <= most, "list of videos", "at most 2^31 - 1", clips);
    require(o.batch <= most, "batch size", "at most 2^31 - 1", o.batch);
    require(std::max({o.whole, o.part_begin, o.worker}) <= most, "whole batch", "at most 2^31 - 1 items",
            std::max({o.whole, o.part_begin, o.worker}));
    require(o.whole == 0 || o.evaluation_pairs == 0, "pairs for evaluation, in parts of a batch", "0",
            o.evaluation_pairs);
    require(o.evaluation_pairs <= most, "pairs for evaluation", "at most 2^31 - 1", o.evaluation_pairs);
    require(o.evaluation_pairs % 2 == 0, "pairs for evaluation", "an even number", o.evaluation_pairs);
    require(o.ahead >= 1, "batches in memory", "at least 1", o.ahead);
    require(o.workers <= 4096, "workers of the loader", "at most 4096", o.workers);
    require(o.draws_per_opening >= 1 && o.draws_per_opening <= 32, "draws that share an opening", "1 to 32",
            o.draws_per_opening);
    require(o.reservoir_videos <= 65536, "videos of the reservoir", "at most 65536", o.reservoir_videos);
    if (o.evaluation_pairs > 0) o.draws_per_opening = 1;
    if (o.evaluation_pairs > 0) {
      o.pairs = pairing::paper;
      o.batch = std::min<std::size_t>(o.batch, o.evaluation_pairs);
      if (o.batch > 2) o.batch -= o.batch % 2;  // pairs come in twos, and are the same for any batch size
    }
    if (o.workers == 0) o.workers = static_cast<std::size_t>(tbb::info::default_concurrency());
    batch_sampler::require_valid({.pairs = o.pairs,
                                  .evaluation = o.evaluation_pairs > 0,
                                  .first = static_cast<std::uint32_t>(o.part_begin),
                                  .count = static_cast<std::uint32_t>(o.batch),
                                  .whole = static_cast<std::uint32_t>(o.whole),
                                  .worker = static_cast<std::uint32_t>(o.worker),
                                  .clips = static_cast<std::uint32_t>(clips)});
    return o;
  }

  std::uint64_t batches_to_make() const {
    if (options_.evaluation_pairs == 0) return options_.batches;
    std::uint64_t const all = (options_.evaluation_pairs + options_.batch - 1) / options_.batch;
    return options_.first >= all ? 0 : std::min(options_.batches, all - options_.first);
  }

  void recall_known() {
    std::unordered_map<std::string, std::uint32_t> places;
    if (!options_.known.empty())
      for (std::size_t i = 0; i != clips_.size(); ++i) places.emplace(clips_.name(i), static_cast<std::uint32_t>(i));
    for (auto const& each : options_.known) {
      auto const place = places.find(each.file);
      if (place == places.end()) continue;
      reported_.insert(place->second);
      if (each.whole_file) unusable_.emplace(place->second, each.why);
    }
  }

  std::optional<reservoir> made_reservoir() const {
    if (options_.draws_per_opening == 1) return {};
    return reservoir(options_.seed, options_.batch, clips_.size(), options_.draws_per_opening,
                     options_.reservoir_videos);
  }

  slot& slot_of(std::uint64_t turn) { return slots_[static_cast<std::size_t>(turn % slots_.size())]; }

  batch_request request_of(std::uint64_t turn) const {
    std::uint64_t const number = options_.first + turn;
    batch_request request{.seed = options_.seed,
                          .pairs = options_.pairs,
                          .evaluation = options_.evaluation_pairs > 0,
                          .step = number,
                          .first = static_cast<std::uint32_t>(options_.part_begin),
                          .count = static_cast<std::uint32_t>(options_.batch),
                          .whole = static_cast<std::uint32_t>(options_.whole),
                          .worker = static_cast<std::uint32_t>(options_.worker),
                          .clips = static_cast<std::uint32_t>(clips_.size()),
                          .shared = shared_ ? &*shared_ : nullptr};
    if (request.evaluation) {
      request.first = static_cast<std::uint32_t>(number * options_.batch);
      request.count = std::min(request.count, options_.evaluation_pairs - request.first);
    }
    return request;
  }

  /// Lets the workers fill the buffers of the next batch, if there is one.
  void start_batch() {
    if (started_ == total_) return;
    std::size_t const tasks = options_.batch + 2;  // no batch has more draws; a task that finds none is nothing
    {
      std::lock_guard const lock(mutex_);
      slot& s = slot_of(started_);
      s.sampler.reset();
      s.ready = false;
      ++started_;
      tasks_ += tasks;
    }
    for (std::size_t i = 0; i != tasks; ++i) arena_.enqueue([this] { work(); });
  }

  /// One task: the oldest draw that nobody works on.
  void work() {
    job mine;
    try {
      mine = claim();
      if (mine.from)
        share(mine);
      else if (mine.batch != nullptr && !mine.waits)
        finish(*mine.batch, mine.draw, attempt(*mine.batch, mine.draw, mine.tools), mine.tools);
    } catch (...) {
      std::lock_guard const lock(mutex_);
      if (!error_) error_ = std::current_exception();
      changed_.notify_all();
    }
    std::lock_guard const lock(mutex_);
    if (mine.tools) {
      spent_ += std::exchange(mine.tools->spent, {});
      tools_.push_back(std::move(mine.tools));  // there is room
    }
    if (--tasks_ == 0) changed_.notify_all();  // under the lock: afterwards the loader may be gone
  }

  /// A draw has come out; the last one of a batch completes it.
  void finish(slot& s, std::size_t which, outcome o, std::unique_ptr<scratch>& tools) {
    s.outcomes[which] = std::move(o);
    if (!is_last(s)) return;
    try {
      complete(s, tools);
    } catch (...) {
      s.error = std::current_exception();
    }
    std::lock_guard const lock(mutex_);
    s.ready = true;
    changed_.notify_all();
  }

  /// A draw of a shared opening: whose job opens the video does so for all, and takes along the draws that came
  /// meanwhile.
  void share(job& mine) {
    std::vector<std::pair<slot*, std::size_t>> draws{{mine.batch, mine.draw}};
    opening& from = *mine.from;
    if (mine.opens) {
      open(from, *mine.batch, mine.batch->sampler->draws()[mine.draw], mine.tools);
      std::lock_guard const lock(mutex_);
      from.ready = true;
      draws.insert(draws.end(), from.waiting.begin(), from.waiting.end());
    }
    for (auto const& [batch, which] : draws) use(*batch, which, from, mine.tools);
  }

  /// Decodes the draws of an opening, pictures and sounds each in the order of time.
  void open(opening& o, slot const& s, draw const& d, std::unique_ptr<scratch>& own) noexcept {
    auto const all = [&](outcome const& result) {
      for (auto& each : o.kept) each.result = result;
    };
    try {
      if (!own) own = std::make_unique<scratch>(source_);
      std::optional<typename Source::reader> reader;
      if (auto refused = open_clip(d.clip, reader, *own)) return all(*refused);
      auto const both = *reader->facts().both();
      auto place = s.sampler->place_of(d);
      std::vector<kept_draw*> order;
      std::vector<double> times;  // of all its draws, so that what is decoded does not depend on where a run began
      for (place.draw = 0; place.draw != options_.draws_per_opening; ++place.draw) {
        auto const at = draw_moment(s.sampler->moment_numbers(place), both.begin, both.end);
        times.push_back(at.frame_time);
        if (place.draw < o.first) continue;
        order.push_back(&o.kept[place.draw - o.first]);
        order.back()->at = at;
      }
      expect(*reader, times);
      own->spent.draws += o.kept.size();
      auto const whole = whole_sound(*reader, *own);
      auto const in_turn = [&](auto key, auto work) {
        std::stable_sort(order.begin(), order.end(), [&](auto const* a, auto const* b) { return key(*a) < key(*b); });
        for (auto* each : order)
          if (each->result.says == verdict::accepted) each->result = moment_outcome([&] { work(*each); });
      };
      in_turn([](kept_draw const& k) { return k.at.frame_time; },
              [&](kept_draw& k) {
                timer const timed(own->spent.picture);
                k.picture = reader->frame(k.at.frame_time, Model::frame_side);
              });
      in_turn([](kept_draw const& k) { return k.at.sound_start; },
              [&](kept_draw& k) {
                timer const timed(own->spent.sound);
                k.samples.resize(front_end::samples);
                if (whole)
                  slice(*whole, k.at.sound_start, k.samples);
                else
                  reader->sound(k.at.sound_start, k.samples);
              });
    } catch (...) {
      all({verdict::accepted, {}, std::current_exception()});
    }
  }

  /// All the sound of a clip, which many draws share, where the reader has it and none of it is damaged.
  static std::optional<std::span<float const>> whole_sound(typename Source::reader& reader, scratch& tools) {
    if constexpr (requires { reader.whole_sound(); }) {
      timer const timed(tools.spent.sound);
      if (reader.has_whole_sound()) try {
          return reader.whole_sound();
        } catch (media_error const&) {
        }
    }
    return {};
  }
  /// Samples from time `start` on; zeros where there are none.
  static void slice(std::span<float const> whole, double start, std::span<float> out) {
    std::fill(out.begin(), out.end(), 0.0f);
    auto const first = std::llround(start * sound_rate), size = static_cast<long long>(whole.size());
    auto const begin = std::clamp<long long>(first, 0, size);
    auto const end = std::clamp<long long>(first + static_cast<long long>(out.size()), begin, size);
    std::copy(whole.begin() + begin, whole.begin() + end, out.begin() + (begin - first));
  }

  /// Puts a draw that an opening has kept where it belongs.
  void use(slot& s, std::size_t which, opening& from, std::unique_ptr<scratch>& tools) {
    draw const& d = s.sampler->draws()[which];
    auto const place = s.sampler->place_of(d);
    kept_draw kept = std::move(from.kept[place.draw - from.first]);
    {
      std::lock_guard const lock(mutex_);
      if (--from.left == 0) openings_.erase(place.opening);
    }
    if (kept.result.says == verdict::accepted && !kept.result.error) try {
        if (!tools) tools = std::make_unique<scratch>(source_);
        put(s, d, kept.picture, kept.samples, kept.at, *tools);
      } catch (...) {
        kept.result.error = std::current_exception();
      }
    finish(s, which, std::move(kept.result), tools);
  }

  job claim() {
    std::lock_guard const lock(mutex_);
    if (stopping_ || claiming_ == started_) return {};
    slot& s = slot_of(claiming_);
    if (!s.sampler) {
      s.sampler.emplace(request_of(claiming_));
      s.unfinished = s.sampler->draws().size();
      s.outcomes.assign(s.unfinished, {});
      s.claimed = 0;
      s.error = nullptr;
      s.refused.clear();
      s.refused_before.clear();
    }
    job mine{.batch = &s, .draw = s.claimed++, .tools = {}, .from = {}};
    if (s.claimed == s.sampler->draws().size()) ++claiming_;
    if (draw const& d = s.sampler->draws()[mine.draw]; s.sampler->is_shared(d))
      join_opening(mine, s.sampler->place_of(d));
    if (mine.waits) return mine;
    if (!tools_.empty()) {
      mine.tools = std::move(tools_.back());
      tools_.pop_back();
    }
    return mine;
  }

  /// In the order of the draws, so that the first to come is the first that is asked for. Needs the lock.
  void join_opening(job& mine, reservoir::place const& place) {
    auto& known = openings_[place.opening];
    if ((mine.opens = !known)) {
      known = std::make_shared<opening>();
      known->first = place.draw;
      known->left = options_.draws_per_opening - place.draw;
      known->kept.resize(known->left);
    }
    if ((mine.waits = !mine.opens && !known->ready))
      known->waiting.emplace_back(mine.batch, mine.draw);
    else
      mine.from = known;
  }

  bool is_last(slot& s) {
    std::lock_guard const lock(mutex_);
    return --s.unfinished == 0;
  }

  /// Tries to put the draw's frame and second where they belong.
  outcome attempt(slot& s, std::size_t which, std::unique_ptr<scratch>& own) noexcept {
    draw const& d = s.sampler->draws()[which];
    try {
      if (!own) own = std::make_unique<scratch>(source_);
      scratch& tools = *own;
      std::optional<typename Source::reader> reader;
      if (auto refused = open_clip(d.clip, reader, tools)) return *refused;
      auto const both = *reader->facts().both();
      return moment_outcome(
          [&] { read(s, d, *reader, draw_moment(s.sampler->moment_numbers(d), both.begin, both.end), tools); });
    } catch (...) {
      return {verdict::accepted, {}, std::current_exception()};
    }
  }

  /// Opens a clip; or says why not.
  std::optional<outcome> open_clip(std::uint32_t clip, std::optional<typename Source::reader>& reader, scratch& tools) {
    {
      std::lock_guard const lock(mutex_);
      if (auto const known = unusable_.find(clip); known != unusable_.end())
        return outcome{verdict::bad_file, known->second, {}};
    }
    try {
      timer const timed(tools.spent.open);
      reader.emplace(source_, clip, tools.source);
      auto const both = reader->facts().both();
      if (!both || both->seconds() < sound_seconds)
        throw media_error(complaint{clips_.file(clip).string(), "at least one second with both picture and sound",
                                    both ? std::to_string(both->seconds()) + " s" : "none"});
    } catch (media_error const& e) {
      return unusable(clip, e.what());
    } catch (file_error const& e) {
      return unusable(clip, e.what());
    }
    return {};
  }

  /// What becomes of a moment that `work()` reads.
  template <class Work>
  static outcome moment_outcome(Work&& work) {
    try {
      work();
    } catch (media_error const& e) {
      return {verdict::bad_moment, e.what(), {}};
    } catch (file_error const& e) {
      return {verdict::bad_moment, e.what(), {}};
    }
    return {};
  }

  outcome unusable(std::uint32_t clip, char const* why) {
    std::lock_guard const lock(mutex_);
    unusable_.emplace(clip, why);
    return {verdict::bad_file, why, {}};
  }

  /// Decodes both halves, also one that no item takes: a draw is good only as a whole.
  void read(slot& s, draw const& d, typename Source::reader& reader, moment at, scratch& tools) {
    ++tools.spent.draws;
    expect(reader, {&at.frame_time, 1});
    std::optional<timer> timed(std::in_place, tools.spent.picture);
    rgb_frame const& picture = reader.frame(at.frame_time, Model::frame_side);
    timed.emplace(tools.spent.sound);
    reader.sound(at.sound_start, tools.samples);
    timed.reset();
    put(s, d, picture, tools.samples, at, tools);
  }

  /// Lets a reader that can skip what nobody asks for do so.
  static void expect(typename Source::reader& reader, std::span<double const> times) {
    if constexpr (requires { reader.expect_frames(times); }) reader.expect_frames(times);
  }

  /// The halves of a draw into the items that take them.
  void put(slot& s, draw const& d, rgb_frame const& picture, std::span<float> samples, moment at, scratch& tools) {
    timer const timed(tools.spent.assemble);
    batch_type& b = s.batch;
    auto const by_chance = [&](auto numbers) {
      return s.sampler->request().evaluation ? std::nullopt : std::optional<generator>(numbers());
    };
    if (d.frame_item != nowhere) {
      tools.assemble.put_frame(b, d.frame_item, picture, by_chance([&] { return s.sampler->image_numbers(d); }));
      b.frame_clips[d.frame_item] = d.clip;
      b.frame_times[d.frame_item] = at.frame_time;
      b.labels[d.frame_item] = s.sampler->label(d.frame_item);
    }
    if (d.sound_item != nowhere) {
      tools.assemble.put_sound(b, d.sound_item, samples, by_chance([&] { return s.sampler->sound_numbers(d); }));
      b.sound_clips[d.sound_item] = d.clip;
      b.sound_starts[d.sound_item] = at.sound_start;
    }
  }

  /// When every draw was tried once: draws the refused ones again, in order. Done by one worker alone.
  void complete(slot& s, std::unique_ptr<scratch>& tools) {
    s.batch.count = s.sampler->request().count;
    s.batch.step = s.sampler->request().step;
    auto const accepted = [](outcome const& o) { return o.says == verdict::accepted; };
    for (auto const& each : s.outcomes)
      if (each.error) std::rethrow_exception(each.error);
    if (std::all_of(s.outcomes.begin(), s.outcomes.end(), accepted)) return;

    for (std::size_t d = 0; d != s.outcomes.size(); ++d)
      if (accepted(s.outcomes[d])) s.sampler->settle(d);
    for (std::size_t d = 0; d != s.outcomes.size(); ++d) {
      if (accepted(s.outcomes[d])) continue;
      int bad_moments = 0;
      for (outcome o = std::move(s.outcomes[d]); !accepted(o);) {
        note_refusal(s, s.sampler->draws()[d].clip, o);
        bad_moments += o.says == verdict::bad_moment ? 1 : 0;
        if (stopping_) return;
        if (bad_moments == most_bad_moments || !s.sampler->redraw(d, o.says == verdict::bad_file)) throw used_up(s);
        o = attempt(s, d, tools);
        if (o.error) std::rethrow_exception(o.error);
      }
      s.sampler->settle(d);
    }
  }

  static void note_refusal(slot& s, std::uint32_t clip, outcome const& o) {
    if (s.refused_before.insert(clip).second) s.refused.push_back({clip, o.says == verdict::bad_file, o.why});
  }

  media_error used_up(slot const& s) const {
    auto const& request = s.sampler->request();
    std::size_t const needed = request.pairs == pairing::all ? request.count : 2;
    std::string found = std::to_string(s.refused.size()) + " refused";
    for (std::size_t i = 0; i != std::min<std::size_t>(3, s.refused.size()); ++i)
      found += (i == 0 ? ": " : "; ") + s.refused[i].why;
    return media_error(complaint{
        "list of " + std::to_string(clips_.size()) + " videos",
        "at least " + std::to_string(needed) + " that can be read (batch " + std::to_string(request.step) + ")",
        found});
  }

  void account(slot const& s, clock::time_point asked) {
    auto const now = clock::now();
    auto const seconds = [](clock::duration d) { return std::chrono::duration<double>(d).count(); };
    if (report_.batches++ == 0) {
      first_given_ = now;
      report_.first_seconds = seconds(now - made_);
    } else {
      report_.wait_seconds += seconds(now - asked);
      report_.total_seconds = seconds(now - first_given_);
    }
    report_.items += s.batch.count;
    for (auto const& each : s.refused) {
      if (!reported_.insert(each.clip).second) continue;
      ++report_.refused_files;
      if (options_.on_refusal)
        options_.on_refusal({std::string(clips_.name(each.clip)), each.why, s.batch.step, each.whole_file});
    }
  }

  Source const source_;
  clip_list const& clips_;
  loader_options const options_;
  std::uint64_t const total_;  ///< batches to hand out
  std::optional<reservoir> const shared_;
  clock::time_point const made_ = clock::now();
  tbb::global_control more_threads_;
  tbb::task_arena arena_;

  // Of the thread that calls next().
  std::uint64_t given_ = 0;
  bool in_use_ = false;
  clock::time_point first_given_;
  loader_report report_;
  std::unordered_set<std::uint32_t> reported_;

  // Shared with the workers, under the mutex; the inside of a slot belongs to whoever holds one of its draws.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<slot> slots_;
  std::uint64_t started_ = 0;   ///< batches the workers were asked for
  std::exception_ptr error_;    ///< of a task, outside any draw: the loader cannot go on
  std::uint64_t claiming_ = 0;  ///< the oldest that has draws left to give away
  std::size_t tasks_ = 0;       ///< in the arena, waiting or at work
  std::vector<std::unique_ptr<scratch>> tools_;
  loader_stages spent_;
  std::unordered_map<std::uint64_t, std::shared_ptr<opening>> openings_;  ///< shared ones with draws left
  std::unordered_map<std::uint32_t, std::string> unusable_;               ///< files refused as a whole, and why
  std::atomic<bool> stopping_ = false;
};

}  // namespace l3::inline L3_ISA
