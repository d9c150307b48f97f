/// @file  include/l3/core/error.hpp: the errors l3 throws; each says what was expected and what came.
#pragma once
#include <l3/core/config.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace l3::inline L3_ISA {

/// What went wrong, in the three parts a user needs to mend it.
struct complaint {
  std::string subject;   ///< the file, option, tensor or setting concerned
  std::string expected;  ///< what l3 needed
  std::string found;     ///< what it met instead
};

/// Base of every error l3 throws; `what()` reads "subject: expected ..., found ...".
class error : public std::runtime_error {
 public:
  explicit error(complaint const& c)
      : std::runtime_error(c.subject + ": expected " + c.expected + ", found " + c.found) {}
  using std::runtime_error::runtime_error;
};

/// Tensors whose run-time counts do not fit together.
struct shape_error : error {
  using error::error;
};
/// Either of the two errors below: what a pass over many files counts, reports and goes on without.
struct unusable_file : error {
  using error::error;
};
/// A media file that cannot give what was asked of it.
struct media_error : unusable_file {
  using unusable_file::unusable_file;
};
/// A file that cannot be opened, read or written.
struct file_error : unusable_file {
  using unusable_file::unusable_file;
};
/// A file whose content is not what its format or its user promised (a CSV row, a safetensors header, other weights).
struct format_error : error {
  using error::error;
};
/// A machine or device that lacks what this build needs.
struct device_error : error {
  using error::error;
};
/// A device whose memory does not hold what was asked for.
struct device_memory_error : device_error {
  using device_error::device_error;
};
/// A number that is not finite where it must be.
struct numeric_error : error {
  using error::error;
};
/// Another process of a group that is gone, has failed or does not answer.
struct group_error : error {
  using error::error;
};
/// A setting out of its range.
struct setting_error : error {
  using error::error;
};

}  // namespace l3::inline L3_ISA
