/// @file  examples/l3/labelled_set.hpp: files with classes, in folds: the data sets of the transfer protocols.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace l3::program {

/// One file with its class.
struct labelled_file {
  std::filesystem::path file;
  std::string name;         ///< as listed
  std::int32_t label = 0;   ///< place in labelled_set::classes
  std::uint32_t fold = 0;   ///< place in labelled_set::folds
  std::uint32_t group = 0;  ///< files of one source have the same, and all names of one file
};

/// Files, their classes, and which of them are tested in turn.
struct labelled_set {
  std::string name;                  ///< "esc50"
  std::vector<std::string> classes;  ///< sorted
  std::vector<std::string> folds;
  std::vector<std::uint32_t> tests;  ///< folds that are tested, each by what was learned from all others
  std::vector<labelled_file> files;

  /// Tells files, classes and folds from others.
  std::uint64_t print() const;
};

/// Names of b's files that are files of a too, also by another name.
std::vector<std::string> files_of_both(labelled_set const& a, labelled_set const& b);

/// Says yes to files of the kind that is wanted.
using file_filter = std::function<bool(std::filesystem::path const&)>;

/// ESC-50: `meta` has the columns filename, fold and category (and src_file and esc10, if it likes); files are in
/// `audio`. With `only_esc10` those whose esc10 is True.
///
/// Errors  file_error; format_error: a column that is missing, an empty cell, one class or fold only.
labelled_set read_esc50(std::filesystem::path const& meta, std::filesystem::path const& audio, bool only_esc10);

/// DCASE scenes: what is trained on and what is tested. Each is a folder of `wanted` files named after their class and
/// a number (2013: bus01.wav), or a table with the columns filename and scene_label (and identifier, if it likes: one
/// place) as TAU Urban Acoustic Scenes has. Files of a table are below `audio`, or if that is empty below its folder or
/// the one above.
///
/// Errors  as read_esc50.
labelled_set read_dcase(std::filesystem::path const& train, std::filesystem::path const& test,
                        std::filesystem::path const& audio, file_filter const& wanted);

/// A folder with a folder for each class, a table with the columns path and label (and fold; or `group_column`), or an
/// index of `l3 index`.
/// Without a column fold, or with a group column, the files are dealt into `folds` folds (see stratified_folds); 0:
/// there are none. Without a group column, groups are the names (links) of one file.
///
/// Errors  as read_esc50; setting_error: folds or groups that cannot be, a packed collection.
labelled_set read_classes(std::filesystem::path const& source, file_filter const& wanted, std::uint32_t folds,
                          std::uint64_t seed, std::string const& group_column);

/// Files without classes: those below a folder that are `wanted`, or all of a table with the column path or an index.
///
/// Errors  file_error; format_error: no file, or one twice; setting_error: a packed collection.
labelled_set read_files(std::filesystem::path const& source, file_filter const& wanted);

/// A folder with a folder for each class, and no folds. With `classes`, no others may be there.
///
/// Errors  as read_esc50.
labelled_set read_class_folders(std::filesystem::path const& folder, file_filter const& wanted,
                                std::vector<std::string> const* classes = nullptr);

}  // namespace l3::program
