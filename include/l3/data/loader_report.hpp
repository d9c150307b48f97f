/// @file  include/l3/data/loader_report.hpp: what a loader has done, and where its time went.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>

namespace l3::inline L3_ISA {

/// Seconds that a loader's workers have spent.
struct loader_stages {
  double open = 0;      ///< opening videos
  double picture = 0;   ///< decoding pictures
  double sound = 0;     ///< decoding sound
  double assemble = 0;  ///< crop; unless a GPU does the rest, mirror, colours, spectrogram
  std::uint64_t draws = 0;

  /// What a worker needs for one draw: the seconds replaced by milliseconds.
  loader_stages milliseconds_a_draw() const {
    double const each = 1e3 / static_cast<double>(std::max<std::uint64_t>(1, draws));
    return {open * each, picture * each, sound * each, assemble * each, draws};
  }
  loader_stages& operator+=(loader_stages const& more) {
    open += more.open, picture += more.picture, sound += more.sound, assemble += more.assemble;
    draws += more.draws;
    return *this;
  }
  loader_stages operator-(loader_stages const& less) const {
    return {open - less.open, picture - less.picture, sound - less.sound, assemble - less.assemble, draws - less.draws};
  }
};

/// What a loader has done so far.
struct loader_report {
  std::uint64_t batches = 0;
  std::uint64_t items = 0;
  std::size_t refused_files = 0;  ///< files met of which at least one draw was refused, `known` ones not counted
  double first_seconds = 0;       ///< from construction until the first batch was handed over
  double wait_seconds = 0;        ///< spent waiting inside next(), without the first batch
  double total_seconds = 0;       ///< from the first batch to the latest
  std::uint64_t ready = 0;        ///< batches that were ready when one was asked for, summed
  loader_stages stages;           ///< of all workers

  /// What was done since an earlier report.
  loader_report operator-(loader_report const& earlier) const {
    loader_report d = *this;
    d.batches -= earlier.batches, d.items -= earlier.items, d.refused_files -= earlier.refused_files;
    d.wait_seconds -= earlier.wait_seconds, d.total_seconds -= earlier.total_seconds, d.ready -= earlier.ready;
    d.stages = stages - earlier.stages;
    return d;
  }

  /// Share of the time that whoever uses the batches had to wait for them.
  double wait_share() const { return total_seconds > 0 ? wait_seconds / total_seconds : 0; }
  /// Batches in stock when one was asked for, on average; at most `ahead`.
  double mean_ready() const { return batches > 0 ? static_cast<double>(ready) / static_cast<double>(batches) : 0; }
  /// What sets the pace, in words.
  char const* bottleneck() const {
    if (wait_share() < 0.05) return "what uses the batches";
    double const most = std::max({stages.open, stages.picture, stages.sound, stages.assemble});
    return most == stages.picture ? "decoding pictures"
           : most == stages.sound ? "decoding sound"
           : most == stages.open  ? "opening videos"
                                  : "crops and spectrograms";
  }
};

}  // namespace l3::inline L3_ISA
