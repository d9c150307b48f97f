/// @file  include/l3/files/file_lock.hpp: work that one process does at a time.
#pragma once
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <l3/core/config.hpp>
#include <l3/files/atomic_file.hpp>
#include <utility>

namespace l3::inline L3_ISA {

/// Held by one process at a time, while it lives, and free again however the process ends. Where the file system knows
/// no locks everyone has it.
class file_lock {
 public:
  file_lock() = default;
  /// Of a folder that is there; `shared`: with others that have it so.
  static file_lock of_folder(std::filesystem::path const& folder, bool shared = false) {
    file_lock lock;
    lock.file_ = detail::file_descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (lock.file_.is_open()) lock.take(shared);
    return lock;
  }
  /// Lets others have it, too, who take it so.
  void share() { take(true); }
  /// Of a name: a file that is made, and removed afterwards. Errors: file_error: it cannot be made.
  static file_lock of_name(std::filesystem::path name) {
    for (;;) {
      file_lock lock;
      lock.file_ = detail::file_descriptor(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
      if (!lock.file_.is_open()) detail::throw_errno(name, "a directory where a file can be created");
      lock.take();
      if (lock.is_taken()) return lock;
      struct ::stat mine {
      }, there{};
      if (::fstat(lock.file_.get(), &mine) == 0 && ::stat(name.c_str(), &there) == 0 && mine.st_ino == there.st_ino) {
        lock.made_ = std::move(name);
        return lock;
      }  // else the process that had it has removed it in the meantime
    }
  }
  file_lock(file_lock&& other) noexcept { swap(other); }
  file_lock& operator=(file_lock&& other) noexcept {
    swap(other);
    return *this;
  }
  ~file_lock() {
    if (!made_.empty()) ::unlink(made_.c_str());
  }

  /// Another process has it.
  bool is_taken() const { return taken_; }

 private:
  void take(bool shared = false) {
    taken_ = ::flock(file_.get(), (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  }
  void swap(file_lock& other) {
    std::swap(file_, other.file_), std::swap(made_, other.made_), std::swap(taken_, other.taken_);
  }
  detail::file_descriptor file_;
  std::filesystem::path made_;
  bool taken_ = false;
};

}  // namespace l3::inline L3_ISA
