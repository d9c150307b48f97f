/// @file  include/l3/data/batch_queue.hpp: batches in order while workers make the next ones; bounded memory, and the
/// same batches whatever the number of workers. Knows no model: see loader.
#pragma once
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/more_threads.hpp>
#include <l3/core/pairing.hpp>
#include <l3/core/random.hpp>
#include <l3/core/text.hpp>
#include <l3/data/batch.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/draw_reader.hpp>
#include <l3/data/loader_options.hpp>
#include <l3/data/loader_report.hpp>
#include <l3/data/picture.hpp>
#include <l3/data/reservoir.hpp>
#include <l3/data/sample.hpp>
#include <l3/data/shared_openings.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// Puts halves of draws into the items of batches; one for each worker.
class item_writer {
 public:
  virtual ~item_writer() = default;
  /// Changed by chance with random numbers; as evaluation sees them without.
  virtual void put_frame(batch_notes& to, std::size_t item, rgb_view picture, std::optional<generator> random) = 0;
  /// May change the samples.
  virtual void put_sound(batch_notes& to, std::size_t item, std::span<float> samples,
                         std::optional<generator> random) = 0;
};

/// The batches of a queue.
struct batch_kind {
  std::size_t frame_side = 0;  ///< smallest side of the picture before the crop
  /// (A shared pointer knows how to delete what a batch has besides its notes.)
  std::shared_ptr<batch_notes> (*make_batch)(std::size_t items) = nullptr;
  std::unique_ptr<item_writer> (*make_writer)() = nullptr;  ///< for batches that make_batch made
};

/// Hands out batches in order while workers prepare the next ones.
///
/// Every draw of a batch is a task for the workers, who have a `tbb::task_arena` of their own; the oldest batch goes
/// first. A task never waits for another one, so nothing can lock up. Draws of which the file or the moment cannot be
/// used are drawn again (see batch_sampler) when the batch's others are done.
///
/// Source, memory, errors  as for loader.
template <class Source>
class batch_queue {
  static_assert(std::is_lvalue_reference_v<decltype(std::declval<Source const&>().clips())>,
                "l3::loader: a source's clips() must return a reference to a list that lives as long as the source");

 public:
  batch_queue(Source source, loader_options options, batch_kind const& kind)
      : source_(std::move(source)),
        clips_(source_.clips()),
        kind_(kind),
        options_(detail::checked(std::move(options), clips_.size())),
        total_(batches_to_make()),
        shared_(made_reservoir()),
        // The trainer's loops run in other arenas, on as many threads as there are cores: workers come on top.
        more_(options_.workers),
        arena_(static_cast<int>(options_.workers), 0),
        slots_(static_cast<std::size_t>(std::min<std::uint64_t>(options_.ahead, total_))),
        openings_(options_.draws_per_opening) {
    if (shared_) batch_sampler::require_valid(request_of(0));
    recall_known();
    idle_.reserve(options_.workers + 1);
    for (auto& each : slots_) each.batch = kind_.make_batch(options_.batch);
    for (std::size_t i = 0; i != slots_.size(); ++i) start_batch();
  }
  batch_queue(batch_queue const&) = delete;
  batch_queue& operator=(batch_queue const&) = delete;

  /// Waits for the files being decoded at this moment, and for nothing else.
  ~batch_queue() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    changed_.wait(lock, [&] { return tasks_ == 0; });
  }

  /// The next batch, or null at the end. It is valid until the next call.
  batch_notes const* next() {
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
    return s.batch.get();
  }

  loader_report const& report() const { return report_; }

 private:
  using clock = std::chrono::steady_clock;
  using verdict = draw_outcome::verdict;

  /// So many moments in a row may fail before the files are taken for unusable.
  static constexpr int most_bad_moments = 100;

  struct refused_clip {
    std::uint32_t clip;
    bool whole_file;
    std::string why;
  };

  /// A batch on its way.
  struct slot {
    std::shared_ptr<batch_notes> batch;
    std::optional<batch_sampler> sampler;
    std::vector<draw_outcome> outcomes;  ///< of the first try of each draw
    std::size_t claimed = 0;             ///< draws given to workers
    std::size_t unfinished = 0;
    bool ready = false;
    std::exception_ptr error;
    std::vector<refused_clip> refused;  ///< each clip once, in the order of the draws
    std::unordered_set<std::uint32_t> refused_before;
    std::unordered_set<std::uint32_t> unusable;  ///< of those, the ones refused as a whole
  };
  struct place_in_batch {
    slot* batch;
    std::size_t draw;
  };
  using openings = shared_openings<place_in_batch>;

  /// What reads draws and makes items of them, for one thread at a time.
  struct worker {
    draw_reader<Source> reader;
    std::unique_ptr<item_writer> writer;
  };

  struct job {
    slot* batch = nullptr;  ///< none: there is nothing to do
    std::size_t draw = 0;
    std::unique_ptr<worker> by;      ///< or none, until one is needed
    typename openings::share share;  ///< where the draw shares an opening
  };

  std::uint64_t batches_to_make() const {
    if (options_.evaluation_pairs == 0) return options_.batches;
    std::uint64_t const all = (options_.evaluation_pairs + options_.batch - 1) / options_.batch;
    return options_.first >= all ? 0 : std::min(options_.batches, all - options_.first);
  }

  void recall_known() {
    struct place {
      std::uint32_t clip;
      bool sure;  ///< names of others are not written alike
    };
    std::unordered_map<std::string, place> places;
    if (!options_.known.empty())
      for (std::size_t i = 0; i != clips_.size(); ++i) {
        std::string const name(clips_.name(i));
        auto const [at, is_first] = places.try_emplace(as_utf8(name), place{static_cast<std::uint32_t>(i), true});
        at->second.sure = is_first || name == clips_.name(at->second.clip);
      }
    for (auto const& each : options_.known) {
      auto const found = places.find(as_utf8(each.file));
      if (found == places.end() || !found->second.sure) continue;
      reported_.insert(found->second.clip);
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
      if (mine.share.from)
        use_shared(mine);
      else if (mine.batch != nullptr)
        finish(*mine.batch, mine.draw, attempt(*mine.batch, mine.draw, mine.by), mine.by);
    } catch (...) {
      std::lock_guard const lock(mutex_);
      if (!error_) error_ = std::current_exception();
      changed_.notify_all();
    }
    std::lock_guard const lock(mutex_);
    if (mine.by) {
      spent_ += std::exchange(mine.by->reader.spent, {});
      idle_.push_back(std::move(mine.by));  // there is room
    }
    if (--tasks_ == 0) changed_.notify_all();  // under the lock: afterwards the queue may be gone
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
      s.unusable.clear();
    }
    job mine{.batch = &s, .draw = s.claimed++, .by = {}, .share = {}};
    if (s.claimed == s.sampler->draws().size()) ++claiming_;
    if (draw const& d = s.sampler->draws()[mine.draw]; s.sampler->is_shared(d)) {
      mine.share = openings_.join(s.sampler->place_of(d), {&s, mine.draw});
      if (!mine.share.from) return {};  // whose job it is to open the video takes this draw along
    }
    if (!idle_.empty()) {
      mine.by = std::move(idle_.back());
      idle_.pop_back();
    }
    return mine;
  }

  worker& needed(std::unique_ptr<worker>& by) {
    if (!by) by.reset(new worker{{source_, refused_, kind_.frame_side}, kind_.make_writer()});
    return *by;
  }

  /// Tries to put the draw's frame and second where they belong.
  draw_outcome attempt(slot& s, std::size_t which, std::unique_ptr<worker>& by) noexcept {
    draw const& d = s.sampler->draws()[which];
    try {
      worker& w = needed(by);
      return w.reader.read(
          d.clip, s.sampler->moment_numbers(d),
          [&](rgb_view picture, std::span<float> samples, moment at) { put(s, d, picture, samples, at, w); });
    } catch (...) {
      return {verdict::accepted, {}, std::current_exception()};
    }
  }

  /// A draw of a shared opening: whose job opens the video does so for all, and takes along the draws that came
  /// meanwhile.
  void use_shared(job& mine) {
    std::vector<place_in_batch> draws{{mine.batch, mine.draw}};
    auto& from = *mine.share.from;
    if (mine.share.opens) {
      try {
        auto const& sampler = *mine.batch->sampler;
        draw const& d = sampler.draws()[mine.draw];
        std::vector<generator> numbers;
        auto place = sampler.place_of(d);
        for (place.draw = 0; place.draw != options_.draws_per_opening; ++place.draw)
          numbers.push_back(sampler.moment_numbers(place));
        needed(mine.by).reader.read(d.clip, numbers, from.kept);
      } catch (...) {
        for (auto& each : from.kept) each.result.error = std::current_exception();
      }
      std::lock_guard const lock(mutex_);
      auto const waited = openings_.opened(from);
      draws.insert(draws.end(), waited.begin(), waited.end());
    }
    for (auto const& each : draws) use(*each.batch, each.draw, from, mine.by);
  }

  /// Puts a draw that an opening has kept where it belongs.
  void use(slot& s, std::size_t which, typename openings::opening& from, std::unique_ptr<worker>& by) {
    draw const& d = s.sampler->draws()[which];
    auto const& place = s.sampler->place_of(d);
    kept_draw kept = std::move(from.of(place));
    {
      std::lock_guard const lock(mutex_);
      openings_.used(place, from);
    }
    if (kept.result.accepted() && !kept.result.error) try {
        put(s, d, kept.picture, kept.samples, kept.at, needed(by));
      } catch (...) {
        kept.result.error = std::current_exception();
      }
    finish(s, which, std::move(kept.result), by);
  }

  /// The halves of a draw into the items that take them.
  void put(slot& s, draw const& d, rgb_view picture, std::span<float> samples, moment at, worker& by) const {
    detail::stage_timer const timed(by.reader.spent.assemble);
    batch_notes& b = *s.batch;
    auto const by_chance = [&](auto numbers) {
      return s.sampler->request().evaluation ? std::nullopt : std::optional<generator>(numbers());
    };
    if (d.frame_item != nowhere) {
      by.writer->put_frame(b, d.frame_item, picture, by_chance([&] { return s.sampler->image_numbers(d); }));
      b.frame_clips[d.frame_item] = d.clip;
      b.frame_times[d.frame_item] = at.frame_time;
      b.labels[d.frame_item] = s.sampler->label(d.frame_item);
    }
    if (d.sound_item != nowhere) {
      by.writer->put_sound(b, d.sound_item, samples, by_chance([&] { return s.sampler->sound_numbers(d); }));
      b.sound_clips[d.sound_item] = d.clip;
      b.sound_starts[d.sound_item] = at.sound_start;
    }
  }

  /// A draw has come out; the last one of a batch completes it.
  void finish(slot& s, std::size_t which, draw_outcome o, std::unique_ptr<worker>& by) {
    s.outcomes[which] = std::move(o);
    if (!is_last(s)) return;
    try {
      complete(s, by);
    } catch (...) {
      s.error = std::current_exception();
    }
    std::lock_guard const lock(mutex_);
    s.ready = true;
    changed_.notify_all();
  }
  bool is_last(slot& s) {
    std::lock_guard const lock(mutex_);
    return --s.unfinished == 0;
  }

  /// When every draw was tried once: draws the refused ones again, in order. Done by one worker alone.
  void complete(slot& s, std::unique_ptr<worker>& by) {
    s.batch->count = s.sampler->request().count;
    s.batch->step = s.sampler->request().step;
    for (auto const& each : s.outcomes)
      if (each.error) std::rethrow_exception(each.error);
    if (std::all_of(s.outcomes.begin(), s.outcomes.end(), [](draw_outcome const& o) { return o.accepted(); })) return;

    for (std::size_t d = 0; d != s.outcomes.size(); ++d)
      if (s.outcomes[d].accepted()) s.sampler->settle(d);
    for (std::size_t d = 0; d != s.outcomes.size(); ++d) {
      if (s.outcomes[d].accepted()) continue;
      int bad_moments = 0;
      for (draw_outcome o = std::move(s.outcomes[d]); !o.accepted();) {
        note_refusal(s, s.sampler->draws()[d].clip, o);
        bad_moments += o.says == verdict::bad_moment ? 1 : 0;
        if (stopping_) return;
        if (bad_moments == most_bad_moments || !s.sampler->redraw(d, o.says == verdict::bad_file)) throw used_up(s);
        // Such a batch ends soon, too where nothing answers.
        if (s.unusable.contains(s.sampler->draws()[d].clip))
          o = {verdict::bad_file, {}, {}};
        else
          o = attempt(s, d, by);
        if (o.error) std::rethrow_exception(o.error);
      }
      s.sampler->settle(d);
    }
  }

  static void note_refusal(slot& s, std::uint32_t clip, draw_outcome const& o) {
    if (s.refused_before.insert(clip).second) s.refused.push_back({clip, o.says == verdict::bad_file, o.why});
    if (o.says == verdict::bad_file) s.unusable.insert(clip);
  }

  media_error used_up(slot const& s) const {
    auto const& request = s.sampler->request();
    std::size_t const needed = request.pairs == pairing::all ? request.count : 2;
    std::string found = std::to_string(s.refused.size()) + " refused";
    for (std::size_t i = 0; i != std::min<std::size_t>(3, s.refused.size()); ++i)
      found += (i == 0 ? ": " : "; ") + s.refused[i].why;
    return media_error(complaint{
        (options_.name.empty() ? "list of " : options_.name + ", ") + std::to_string(clips_.size()) + " videos",
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
    report_.items += s.batch->count;
    for (auto const& each : s.refused) {
      if (!reported_.insert(each.clip).second) continue;
      ++report_.refused_files;
      if (options_.on_refusal)
        options_.on_refusal({std::string(clips_.name(each.clip)), each.why, s.batch->step, each.whole_file});
    }
  }

  Source const source_;
  clip_list const& clips_;
  batch_kind const kind_;
  loader_options const options_;
  std::uint64_t const total_;  ///< batches to hand out
  std::optional<reservoir> const shared_;
  clock::time_point const made_ = clock::now();
  more_threads more_;
  tbb::task_arena arena_;
  refused_files refused_;

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
  std::exception_ptr error_;    ///< of a task, outside any draw: the queue cannot go on
  std::uint64_t claiming_ = 0;  ///< the oldest that has draws left to give away
  std::size_t tasks_ = 0;       ///< in the arena, waiting or at work
  std::vector<std::unique_ptr<worker>> idle_;
  loader_stages spent_;
  openings openings_;
  std::atomic<bool> stopping_ = false;
};

}  // namespace l3::inline L3_ISA
