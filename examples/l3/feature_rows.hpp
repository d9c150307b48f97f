/// @file  examples/l3/feature_rows.hpp: the features of all files of a labelled set, kept for the next time.
#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "embedder.hpp"
#include "labelled_set.hpp"
#include "network_choice.hpp"
#include "program.hpp"

namespace l3::program {

/// Features, row after row: one for each second of a sound, one for a picture.
struct feature_rows {
  std::size_t width = 0;
  std::vector<float> values = {};          ///< (rows, width)
  std::vector<std::int64_t> first = {0};   ///< rows of file k are [first[k], first[k + 1]): none if it was refused
  std::vector<std::int64_t> skipped = {};  ///< of each file, the rows that would lie before its sound or pictures
  std::vector<std::pair<std::size_t, std::string>> refused = {};  ///< file and why
  std::vector<std::size_t> unopened = {};  ///< files of those that could not be opened: the next time they may
  std::size_t shorter = 0, silent = 0;     ///< sounds shorter than a second; without any sound
  double seconds = 0;                      ///< what it took
  bool from_cache = false;

  std::size_t count() const { return static_cast<std::size_t>(first.back()); }
  std::size_t begin(std::size_t file) const { return static_cast<std::size_t>(first[file]); }
  std::size_t end(std::size_t file) const { return static_cast<std::size_t>(first[file + 1]); }
  /// When a file's row k begins.
  double seconds_of(std::size_t file, std::size_t k, std::size_t hop) const {
    return static_cast<double>((static_cast<std::size_t>(skipped[file]) + k) * hop) / sound_rate;
  }
  std::span<float const> row(std::size_t r) const { return std::span(values).subspan(r * width, width); }
};

/// Options --pool and --layer.
void add_layer(CLI::App& command, std::string& pool, std::string& layer);

/// Options that all have who read features.
struct feature_options : common_options {
  network_choice network;
  std::string out, pool = "grid", layer, fill = "silence";
  double hop = 0.5;
  std::size_t batch = 32, workers = 0;

  void add_to(CLI::App& command);
  /// Errors  setting_error: a hop of no sample, a layer that the network does not have.
  embedder_settings settings(chosen_network const& of) const;
};

/// Reads the features of all files, or takes them from `cache` if that was made of the same files by the same weights
/// with the same settings; else writes it. Files that cannot be used are counted and said; those that cannot
/// be opened are tried again the next time.
///
/// Errors  file_error: `cache` cannot be written; numeric_error: features that are not finite. Interrupted, it throws
///         `interrupted`, and nothing is kept unless all was read.
feature_rows read_features(common_options const& o, labelled_set const& set, modality what, chosen_network const& of,
                           embedder_settings settings, std::filesystem::path const& cache);

/// Those that were left out, for a result: `file` and `why`.
json refused_files(labelled_set const& set, feature_rows const& rows);

/// The same for the same files: known by name, size, time of change and whether they may be read; with `places` also by
/// where they are, for sounds of one length have one size.
std::string files_print(labelled_set const& set, bool places);

}  // namespace l3::program
