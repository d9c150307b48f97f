/// @file  include/l3/data/video_files.hpp: videos as they are, the ones used last kept open under a budget of bytes.
#pragma once
#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <l3/core/config.hpp>
#include <l3/data/clip_list.hpp>
#include <l3/data/decode.hpp>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <utility>

namespace l3::inline L3_ISA {

/// Open readers that may be used again, the latest ones first. Many threads may take and keep at once; one reader is
/// in one hand at a time.
template <class Reader>
class open_readers {
 public:
  /// Keeps at most `bytes` by the readers' own estimate, and so many readers that the files they have open (one or two
  /// each) are at most a quarter of those that the process may open.
  explicit open_readers(std::size_t bytes) : most_bytes_(bytes) {
    ::rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0) most_ = static_cast<std::size_t>(files.rlim_cur / 8);
  }

  /// The reader of this clip, if one was kept and nobody has it; else null.
  std::unique_ptr<Reader> take(std::uint32_t clip) {
    std::lock_guard const lock(mutex_);
    auto const at = places_.find(clip);
    if (at == places_.end()) return nullptr;
    auto reader = std::move(at->second->reader);
    bytes_ -= at->second->bytes;
    kept_.erase(at->second);
    places_.erase(at);
    return reader;
  }

  void keep(std::uint32_t clip, std::unique_ptr<Reader> reader) {
    std::size_t const bytes = held_bytes(*reader);
    std::list<kept> closing;  // closed when the lock is given back
    std::lock_guard const lock(mutex_);
    if (bytes > most_bytes_ || places_.contains(clip)) return closing.push_back({clip, std::move(reader), bytes});
    closing.push_front({clip, std::move(reader), bytes});
    places_.emplace(clip, closing.begin());
    kept_.splice(kept_.begin(), closing);
    bytes_ += bytes;
    while (bytes_ > most_bytes_ || kept_.size() > most_) {
      bytes_ -= kept_.back().bytes;
      places_.erase(kept_.back().clip);
      closing.splice(closing.end(), kept_, std::prev(kept_.end()));
    }
  }

  std::size_t bytes() const {
    std::lock_guard const lock(mutex_);
    return bytes_;
  }
  std::size_t size() const {
    std::lock_guard const lock(mutex_);
    return kept_.size();
  }

 private:
  struct kept {
    std::uint32_t clip;
    std::unique_ptr<Reader> reader;
    std::size_t bytes;
  };
  static std::size_t held_bytes(Reader const& reader) {
    if constexpr (requires { reader.held_bytes(); })
      return reader.held_bytes();
    else
      return sizeof(Reader);
  }

  std::size_t const most_bytes_;
  std::size_t most_ = 128;
  mutable std::mutex mutex_;
  std::list<kept> kept_;
  std::unordered_map<std::uint32_t, typename std::list<kept>::iterator> places_;
  std::size_t bytes_ = 0;
};

/// The source of a loader that reads videos (see loader): each draw opens one, or finds it open.
///
/// A reader's answers do not depend on what it was asked before, so it makes no difference which. One that has failed
/// is closed: the file may have changed.
template <class Reader = clip_reader>
class video_files {
 public:
  explicit video_files(clip_list clips, decode_limits limits = {}, std::size_t open_bytes = 0)
      : clips_(std::move(clips)), limits_(limits), open_(std::make_shared<open_readers<Reader>>(open_bytes)) {}
  clip_list const& clips() const { return clips_; }
  /// Those that wait to be used again.
  open_readers<Reader> const& open() const { return *open_; }

  struct tools {
    explicit tools(video_files const&) {}
  };

  class reader {
   public:
    reader(video_files const& from, std::uint32_t clip, tools&)
        : open_(from.open_), clip_(clip), reader_(open_->take(clip)) {
      if (!reader_) reader_ = std::make_unique<Reader>(from.clips_.file(clip), from.limits_);
    }
    reader(reader const&) = delete;
    reader& operator=(reader const&) = delete;
    ~reader() {
      if (!failed_) try {
          open_->keep(clip_, std::move(reader_));
        } catch (...) {  // no memory to keep it: then it is closed
        }
    }

    clip_facts const& facts() const { return reader_->facts(); }
    void expect_frames(std::span<double const> times) {
      if constexpr (requires { reader_->expect_frames(times); }) reader_->expect_frames(times);
    }
    decltype(auto) frame(double t, std::size_t side) {
      return watched([&]() -> decltype(auto) { return reader_->frame(t, side); });
    }
    auto whole_sound() requires requires(Reader& r) { r.whole_sound(); }
    {
      return watched([&] { return reader_->whole_sound(); });
    }
    bool has_whole_sound() const requires requires(Reader const& r) { r.has_whole_sound(); }
    { return reader_->has_whole_sound(); }
    void sound(double start, std::span<float> out) {
      watched([&] { reader_->sound(start, out); });
    }

   private:
    template <class Work>
    decltype(auto) watched(Work&& work) {
      try {
        return work();
      } catch (...) {
        failed_ = true;
        throw;
      }
    }

    std::shared_ptr<open_readers<Reader>> open_;
    std::uint32_t clip_;
    std::unique_ptr<Reader> reader_;
    bool failed_ = false;
  };

 private:
  clip_list clips_;
  decode_limits limits_;
  std::shared_ptr<open_readers<Reader>> open_;
};

}  // namespace l3::inline L3_ISA
