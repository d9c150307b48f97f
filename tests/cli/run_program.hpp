/// @file  tests/cli/run_program.hpp: runs the program as a shell would and keeps what it says.
#pragma once
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

/// A folder of its own for each test process, removed at its end.
inline std::filesystem::path const& scratch() {
  struct folder {
    std::filesystem::path path = std::filesystem::temp_directory_path() / ("l3-cli-" + std::to_string(::getpid()));
    folder() { std::filesystem::create_directories(path); }
    ~folder() { std::filesystem::remove_all(path); }
  };
  static folder const here;
  return here.path;
}

/// A name as the shell takes it, and a space.
inline std::string quoted(std::filesystem::path const& p) { return "'" + p.string() + "' "; }

/// A folder, or a lock's file, as a process holds it that is at work.
class held {
 public:
  explicit held(std::filesystem::path const& place, bool shared = false)
      : place_(std::filesystem::is_directory(place) ? ::open(place.c_str(), O_RDONLY | O_DIRECTORY)
                                                    : ::open(place.c_str(), O_RDWR | O_CREAT, 0666)) {
    if (::flock(place_, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) std::abort();
  }
  held(held const&) = delete;
  held& operator=(held const&) = delete;
  ~held() { ::close(place_); }

 private:
  int place_;
};

inline std::string content(std::filesystem::path const& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The tensors of a safetensors file, by name.
inline std::map<std::string, std::string> tensors_in(std::filesystem::path const& file) {
  std::string const all = content(file);
  std::uint64_t header = 0;
  std::copy_n(all.data(), sizeof header, reinterpret_cast<char*>(&header));
  std::map<std::string, std::string> found;
  auto const names = nlohmann::json::parse(all.substr(sizeof header, header));
  for (auto const& [name, tensor] : names.items()) {
    if (name == "__metadata__") continue;
    auto const [begin, end] = tensor.at("data_offsets").get<std::pair<std::size_t, std::size_t>>();
    found[name] = all.substr(sizeof header + header + begin, end - begin);
  }
  return found;
}

struct outcome {
  int code = -1;
  std::string out, err;
  double peak_mebibytes = 0;  ///< most memory it held, or the test itself when it began
};

/// `arguments` go through the shell; `before` may set limits or variables.
inline outcome l3(std::string const& arguments, std::string const& before = "") {
  std::filesystem::path const out = scratch() / "stdout", err = scratch() / "stderr";
  std::string const line =
      before + " '" + L3_PROGRAM + "' " + arguments + " >'" + out.string() + "' 2>'" + err.string() + "' </dev/null";
  ::pid_t const child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  ::rusage used{};
  if (child < 0 || ::wait4(child, &status, 0, &used) != child) std::abort();
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content(out), content(err),
          static_cast<double>(used.ru_maxrss) / 1024};
}

/// Twenty-four short videos, made once a process.
inline std::filesystem::path const& made_up_videos() {
  static std::filesystem::path const folder = [] {
    std::filesystem::path const at = scratch() / "videos";
    if (l3("synth " + at.string() + " --videos 30 --seconds 2 --seed 3 --quiet").code != 0) std::abort();
    return at;
  }();
  return folder;
}

/// A network that learned for a moment, made once a process.
inline std::string training_data() {
  std::string const d = made_up_videos().string();
  return "--train " + d + "/train.csv --valid " + d + "/valid.csv --valid-pairs 8 --model tiny --batch 4 ";
}
inline std::filesystem::path const& made_up_run() {
  static std::filesystem::path const folder = [] {
    std::filesystem::path const at = scratch() / "run";
    if (l3("train " + training_data() + "--pairs 16 --seed 5 --quiet --out " + at.string()).code != 0) std::abort();
    return at;
  }();
  return folder;
}

/// Real media for tests, or an empty path.
inline std::filesystem::path shared_data(char const* folder) {
  char const* const named = std::getenv("L3_SHARED_DATA");
  std::filesystem::path const at =
      std::filesystem::path(named != nullptr ? named : L3_SOURCE_DIR "/../shared/data") / folder;
  return std::filesystem::exists(at) ? at : std::filesystem::path();
}
