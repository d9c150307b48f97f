/// @file  tests/files/scratch.hpp: a directory of one's own for a test, and a disk that is full.
#pragma once
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace l3_test {

/// An empty directory, removed with all it holds.
class scratch {
 public:
  scratch() {
    static std::atomic<int> serial = 0;
    directory_ = std::filesystem::temp_directory_path() /
                 ("l3-test-" + std::to_string(::getpid()) + '-' + std::to_string(serial++));
    std::filesystem::create_directory(directory_);
  }
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  std::filesystem::path operator/(std::string_view name) const { return directory_ / name; }
  std::filesystem::path const& path() const { return directory_; }
  /// How many files lie in it, temporary ones included.
  std::ptrdiff_t files() const {
    return std::distance(std::filesystem::directory_iterator(directory_), std::filesystem::directory_iterator());
  }

 private:
  std::filesystem::path directory_;
};

inline std::filesystem::path put(std::filesystem::path const& path, std::string_view content) {
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
  return path;
}

inline std::string content(std::filesystem::path const& path) {
  std::ostringstream all;
  all << std::ifstream(path, std::ios::binary).rdbuf();
  return all.str();
}

using floats = std::vector<float>;

/// The 3 x 5 numbers that tests write and check_with_python.py knows.
inline floats matrix() {
  floats values(15);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 4 - 1;
  return values;
}

/// While it lives no file of this process may grow beyond `bytes`: the nearest to a full disk that needs no rights.
class full_disk {
 public:
  explicit full_disk(::rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    ::rlimit const small{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  full_disk(full_disk const&) = delete;
  full_disk& operator=(full_disk const&) = delete;
  ~full_disk() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  ::rlimit old_{};
  void (*handler_)(int);
};

}  // namespace l3_test
