/// @file  examples/l3/item_reader.hpp: files -> pictures and spectrograms for a network, read ahead by threads and
/// handed out in order.
#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine.hpp"
#include "feed.hpp"

namespace l3::program {

/// Counts up when pictures are scaled to other pixels: features kept from before are of no use then.
inline constexpr int picture_scaling = 2;

/// Bytes of a frame or of a sound, as model_input says.
inline std::size_t item_bytes(model_input const& input, modality what, bool raw) {
  return what == modality::frame ? input.frame_bytes(raw) : input.sound_bytes(raw);
}

/// What is wanted of a file: sounds, pictures or both.
struct reading_job {
  std::filesystem::path file;
  bool sounds = false, frames = false;
  std::size_t most_frames = 0;  ///< 0: until the end
  bool aligned = false;         ///< a picture from the middle of each second of sound, and no more
};

/// How sounds and pictures of all jobs are cut.
struct reading_rules {
  std::size_t hop = sound_rate;  ///< samples at 48 kHz from one item to the next
  std::size_t windows = 0;       ///< where seconds share their work: so many in one long spectrogram; 0: each its own
  bool repeats = false;          ///< a sound shorter than a second is filled up with itself, not with silence
  bool centred = false;  ///< seconds around each moment, until one holds the sound's end; silence where there is none
  bool raw = false;      ///< pictures as bytes of crops and sounds as samples, not as values
};

/// What was met in a file's sound or pictures.
struct reading_outcome {
  std::size_t items = 0;
  std::size_t first = 0;   ///< row of the first item; those before it are of a time before the sound or the pictures
  std::string refused{};   ///< why there are no more; empty: these are all
  bool unopened = false;   ///< refused because the file could not be opened or read, which may be otherwise next time
  bool is_short = false;   ///< a sound of less than one second
  bool is_silent = false;  ///< nowhere louder than half a step of 16 bits
};

/// A part of a job's sounds or pictures.
struct reading_piece {
  std::size_t job = 0;
  modality what{};
  std::size_t items = 0;
  bool shared = false;                   ///< `data` is one spectrogram, whose seconds are the items
  std::vector<std::byte> data{};         ///< item after item: floats, or bytes of colours
  std::optional<reading_outcome> end{};  ///< the last piece: there are no more of its job and kind
  std::exception_ptr failure{};          ///< no fault of the file
};

/// Reads the files of jobs, each by one thread, as many at a time as there are threads, and hands out what is in them
/// in the order of the jobs: of each the sounds, then the pictures. Every job ends as often as it wants kinds; a kind
/// that ends without items and without a refusal was not tried, for the file had been refused before.
///
/// Memory  `room` bytes ahead; and for each thread a piece, two that are kept to be used again, and an open file.
class item_reader {
 public:
  /// Pieces hold up to `items`. Keeps references to jobs and input. Threads: zero means one a core. `opening(job)` is
  /// called by the thread that is about to open a job's file.
  item_reader(
      std::span<reading_job const> jobs, model_input const& input, reading_rules const& rules, std::size_t items,
      std::size_t room, std::size_t threads, std::function<void(std::size_t)> opening = [](std::size_t) {});
  /// Waits for the items being read at this moment.
  ~item_reader();
  item_reader(item_reader const&) = delete;
  item_reader& operator=(item_reader const&) = delete;

  /// The next piece; none: all jobs are done. Errors: those that are no fault of a file.
  std::optional<reading_piece> next();
  /// Takes a piece's memory to use it again.
  void recycle(reading_piece&& used);

 private:
  class sound_window;
  /// The pieces of a job that nobody has taken yet.
  struct lane {
    std::deque<reading_piece> pieces;
    bool done = false;
  };
  struct stopped {};

  std::size_t size_of(modality what) const { return item_bytes(input_, what, rules_.raw); }
  void work();
  void read(std::size_t job, lane& to);
  struct range;
  range rows_of(reading_job const& job, clip_facts const& facts, modality what) const;
  void read_sounds(std::size_t job, lane& to, clip_reader const& from, reading_outcome& met);
  void read_alone(std::size_t job, lane& to, sound_window& source, std::size_t most, reading_outcome& met);
  void read_together(std::size_t job, lane& to, sound_window& source, std::size_t most, reading_outcome& met);
  void read_frames(std::size_t job, lane& to, clip_reader& from, reading_outcome const& sounds, reading_outcome& met);
  void hand_out(lane& to, reading_piece&& piece);
  std::vector<std::byte> memory(std::size_t bytes);
  /// A second of sound as an item.
  void put_second(std::span<float const> samples, std::byte* to) const;

  std::span<reading_job const> jobs_;
  model_input const& input_;
  reading_rules rules_;
  std::size_t items_, room_;
  std::function<void(std::size_t)> opening_;
  decode_limits limits_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<lane>> lanes_;  ///< of jobs begun and not handed out yet
  std::size_t begun_ = 0;                    ///< jobs
  std::size_t held_ = 0;                     ///< bytes in lanes
  std::vector<std::vector<std::byte>> spare_;
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace l3::program
