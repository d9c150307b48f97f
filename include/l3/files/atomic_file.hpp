/// @file  include/l3/files/atomic_file.hpp: files that are written whole or not at all, and bounded reading of one.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <l3/core/error.hpp>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace l3::inline L3_ISA {

namespace detail {

/// Owner of a POSIX file descriptor.
class file_descriptor {
 public:
  file_descriptor() = default;
  explicit file_descriptor(int number) : number_(number) {}
  file_descriptor(file_descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~file_descriptor() {
    if (is_open()) ::close(number_);
  }
  bool is_open() const { return number_ >= 0; }
  int get() const { return number_; }
  /// Closes and tells whether that worked: some file systems report a failed write only here.
  bool close() { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_ = -1;
};

/// Throws the reason that the system left in errno.
[[noreturn]] inline void throw_errno(std::filesystem::path const& path, std::string expected) {
  auto const reason = errno;
  throw file_error(complaint{path.string(), std::move(expected), std::generic_category().message(reason)});
}

/// Opens for reading a file, or a pipe or device. Errors: file_error; std::system_error: no more files can be open,
/// which is not the file's fault.
inline file_descriptor open_stream(std::filesystem::path const& path, int more_flags = 0) {
  file_descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | more_flags));
  if (!file.is_open() && (errno == EMFILE || errno == ENFILE))
    throw std::system_error(errno, std::generic_category(),
                            path.string() + ": expected that one more file can be opened");
  if (!file.is_open()) throw_errno(path, "a file that can be read");
  return file;
}
/// The same of a file alone: a pipe would be waited for, perhaps for ever.
inline file_descriptor open_to_read(std::filesystem::path const& path) {
  auto file = open_stream(path, O_NONBLOCK);
  struct ::stat status {};
  if (::fstat(file.get(), &status) != 0) throw_errno(path, "a file that can be read");
  if (!S_ISREG(status.st_mode))
    throw file_error(
        complaint{path.string(), "a file", S_ISDIR(status.st_mode) ? "a folder" : "a pipe, a socket or a device"});
  ::fcntl(file.get(), F_SETFL, ::fcntl(file.get(), F_GETFL) & ~O_NONBLOCK);  // of a slow one that is waited for
  return file;
}

/// Reads exactly out.size() bytes from `offset` on; safe from many threads at once.
inline void read_at(file_descriptor const& file, std::filesystem::path const& path, std::uint64_t offset,
                    std::span<std::byte> out) {
  while (!out.empty()) {
    auto const got = ::pread(file.get(), out.data(), out.size(), static_cast<::off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(path, "a file that can be read");
    if (got == 0)
      throw file_error(complaint{path.string(), "a file that does not change while it is read",
                                 "its end at byte " + std::to_string(offset)});
    offset += static_cast<std::uint64_t>(got);
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

/// Writes all bytes at the file's end; false, with the reason in errno, where the system refuses.
[[nodiscard]] inline bool write_all(file_descriptor const& file, std::span<std::byte const> bytes) {
  while (!bytes.empty()) {
    auto const put = ::write(file.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return true;
}

/// A new empty file and its name.
struct temporary_file {
  file_descriptor file;
  std::filesystem::path path;
};

/// Creates a file in the directory of `target`, so that it is on the same file system. The name, `.l3-PID-N.tmp`, does
/// not grow with the target's, which may already be as long as names may be.
inline temporary_file create_beside(std::filesystem::path const& target) {
  static std::atomic<std::uint64_t> serial = 0;
  for (;;) {
    auto path = target;
    path.replace_filename(".l3-" + std::to_string(::getpid()) + '-' + std::to_string(serial++) + ".tmp");
    file_descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.is_open()) return {std::move(file), std::move(path)};
    // A file of that name is a leftover of a killed process, or belongs to another machine that shares the directory.
    if (errno != EEXIST) throw_errno(target, "a directory where a file can be created");
  }
}

/// When this process began, nearly.
inline std::filesystem::file_time_type const process_began = std::filesystem::file_time_type::clock::now();

/// Removes what killed processes have left of such files in a folder, once nothing has been written to them for so
/// long. (Processes of this machine; on another the age tells. In a container one may have had our number.)
inline void remove_leftovers(std::filesystem::path const& folder, std::chrono::seconds age) {
  auto const oldest = std::filesystem::file_time_type::clock::now() - age;
  auto const lives = [](std::filesystem::path const& file) {
    std::string const name = file.filename().string();
    auto const process = static_cast<::pid_t>(std::strtol(name.c_str() + std::string_view(".l3-").size(), nullptr, 10));
    std::error_code gone;
    if (process == ::getpid())
      return std::filesystem::last_write_time(file, gone) > process_began - std::chrono::seconds(1);
    return process <= 0 || ::kill(process, 0) == 0 || errno != ESRCH;
  };
  std::error_code ignored;  // tidying stops no work
  for (auto const& each : std::filesystem::directory_iterator(folder, ignored)) {
    auto const name = each.path().filename().string();
    std::error_code gone;  // in the meantime
    if (name.starts_with(".l3-") && name.ends_with(".tmp") && !lives(each.path()) && each.is_regular_file(gone) &&
        each.last_write_time(gone) <= oldest && !gone)
      std::filesystem::remove(each.path(), gone);
  }
}

}  // namespace detail

/// A file that appears under its name only when it is complete, so that readers, and a machine that loses power, see
/// the old content or the new, nothing between.
///
/// Bytes go to a temporary file in the same directory; `commit` makes them durable and renames. Without `commit` (an
/// exception, an early return) the destructor removes the temporary and the target keeps its old content. A process
/// that is killed leaves a `.l3-*.tmp` behind, which may be deleted. A symbolic link to a file is followed; an existing
/// target keeps its permissions.
///
/// Errors  file_error naming the target: missing directory, no permission, disk full, target not a regular file. After
///         an error the temporary is gone and nothing more can be written.
class atomic_file {
 public:
  explicit atomic_file(std::filesystem::path target) : target_(std::move(target)), place_(target_) {
    std::error_code unknown;  // what cannot be looked at is met, and reported, when the file is created
    if (std::filesystem::is_symlink(place_, unknown))
      if (auto behind = std::filesystem::weakly_canonical(place_, unknown); !unknown) place_ = std::move(behind);
    struct ::stat old {};
    bool const replaces = ::stat(place_.c_str(), &old) == 0;
    // Renaming over a device would succeed (for the superuser) and cost the system its /dev/null.
    if (!place_.has_filename() || (replaces && !S_ISREG(old.st_mode)))
      throw file_error(complaint{target_.string(), "the name of a file, new or old", "a directory or a special file"});
    temporary_ = detail::create_beside(place_);
    if (replaces) ::fchmod(temporary_.file.get(), old.st_mode & 0777);
    pending_.reserve(pending_limit);
  }
  atomic_file(atomic_file const&) = delete;
  atomic_file& operator=(atomic_file const&) = delete;
  ~atomic_file() { give_up(); }

  /// Appends bytes. Small pieces are collected, so an error may show only at a later `write` or at `commit`.
  void write(std::span<std::byte const> bytes) {
    require_open();
    if (pending_.size() + bytes.size() > pending_limit) flush();
    if (bytes.size() > pending_limit) {
      put(bytes);
    } else {
      pending_.append(reinterpret_cast<char const*>(bytes.data()), bytes.size());
    }
  }
  /// Appends text.
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Makes the content durable and gives it its name. Once.
  void commit() {
    require_open();
    flush();
    if (::fsync(temporary_.file.get()) != 0 || !temporary_.file.close() ||
        ::rename(temporary_.path.c_str(), place_.c_str()) != 0)
      fail();
    temporary_.path.clear();
    sync_directory();
  }

  /// The name the file gets.
  std::filesystem::path const& target() const { return target_; }
  /// The name it has until then, for a library that writes to it by name.
  std::filesystem::path const& temporary() const { return temporary_.path; }

 private:
  static constexpr std::size_t pending_limit = std::size_t{1} << 16;

  void require_open() const {
    if (!temporary_.file.is_open())
      throw file_error(complaint{target_.string(), "a file still open for writing", "one committed or given up"});
  }

  void put(std::span<std::byte const> bytes) {
    if (!detail::write_all(temporary_.file, bytes)) fail();
  }

  void flush() {
    put(std::as_bytes(std::span(pending_)));
    pending_.clear();
  }

  /// The name in the directory must outlast a power cut too. A directory that may be written but not read cannot be
  /// synchronised, and some file systems know no such operation (EINVAL): there the system's own delay has to do.
  void sync_directory() {
    auto const parent = place_.parent_path();
    detail::file_descriptor const directory(
        ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.is_open() && ::fsync(directory.get()) != 0 && errno != EINVAL)
      detail::throw_errno(target_, "a directory that keeps its files");
  }

  [[noreturn]] void fail() {
    auto const reason = errno;
    give_up();
    errno = reason;
    detail::throw_errno(target_, "a file that can be written");
  }

  void give_up() noexcept {
    if (temporary_.path.empty()) return;
    ::unlink(temporary_.path.c_str());
    temporary_.file = {};
    temporary_.path.clear();
  }

  std::filesystem::path target_;
  std::filesystem::path place_;  ///< the target, behind symbolic links
  detail::temporary_file temporary_;
  std::string pending_;  ///< bytes not yet handed to the system
};

/// Writes a file whole or not at all. Errors  as atomic_file.
inline void write_file(std::filesystem::path const& path, std::string_view content) {
  atomic_file file(path);
  file.write(content);
  file.commit();
}

namespace detail {
/// All that is in it, from where it stands.
inline std::string read_all(file_descriptor const& file, std::filesystem::path const& path, std::size_t max_bytes) {
  struct ::stat status {};
  if (::fstat(file.get(), &status) != 0) throw_errno(path, "a file that can be read");
  auto const refuse = [&](std::string found) {
    throw file_error(complaint{path.string(), "at most " + std::to_string(max_bytes) + " bytes", std::move(found)});
  };
  auto const announced = static_cast<std::size_t>(status.st_size);  // 0 for pipes: the size is a hint, the limit a rule
  if (announced > max_bytes) refuse(std::to_string(announced));

  std::string content;
  std::size_t used = 0;
  for (content.resize(announced + 1);;) {  // one byte more than announced, so that a file of that size ends the loop
    auto const got = ::read(file.get(), content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(path, "a file that can be read");
    used += static_cast<std::size_t>(got);
    if (used > max_bytes) refuse("more");
    if (got == 0) break;
    if (used == content.size()) content.resize(std::min(2 * used + 4096, max_bytes + 1));
  }
  content.resize(used);
  return content;
}
}  // namespace detail

/// The whole content of a file of at most max_bytes.
///
/// Errors  file_error if it is none, cannot be read or is larger; no more than max_bytes + 1 bytes are ever held.
inline std::string read_file(std::filesystem::path const& path, std::size_t max_bytes) {
  return detail::read_all(detail::open_to_read(path), path, max_bytes);
}
/// The same of what may be a pipe or a device: what a user names for a list.
inline std::string read_stream(std::filesystem::path const& path, std::size_t max_bytes) {
  return detail::read_all(detail::open_stream(path), path, max_bytes);
}

}  // namespace l3::inline L3_ISA
