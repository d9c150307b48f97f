/// @file  tests/fuzz/mutate.cpp: drives a fuzz target where libFuzzer is not at hand: damaged copies of the files of a
/// corpus, the same ones each time.
///
///     fuzz_csv RUNS CORPUS
/// A finding ends the process; the file `<program>.input` beside it in the working folder is what it was given.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

namespace {

/// What parsers trip over.
constexpr std::string_view words[] = {"\"",
                                      "{",
                                      "}",
                                      "[",
                                      "]",
                                      ":",
                                      ",",
                                      "\n",
                                      "\r\n",
                                      "\\",
                                      "0",
                                      "-1",
                                      "1e999",
                                      "null",
                                      "\\u0000",
                                      "\\ud800",
                                      "\xff",
                                      " ",
                                      "\xef\xbb\xbf",
                                      "\"\"",
                                      "4294967296",
                                      "18446744073709551615"};

class mutator {
 public:
  explicit mutator(std::vector<std::string> corpus) : corpus_(std::move(corpus)) {}

  std::string next() {
    std::string text = any();
    for (std::size_t changes = below(8); changes > 0; --changes) change(text);
    return text;
  }

 private:
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_() % n); }
  std::string const& any() { return corpus_[below(corpus_.size())]; }

  void change(std::string& text) {
    std::size_t const at = below(text.size() + 1), length = below(std::min<std::size_t>(text.size() - at, 16) + 1);
    switch (below(6)) {
      case 0:
        text.insert(at, words[below(std::size(words))]);
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(at, length));
        break;
      case 3: {
        std::string const& other = any();
        text.replace(at, std::string::npos, other, below(other.size() + 1));
        break;
      }
      case 4:
        text.resize(at);
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(random_());
    }
  }

  std::vector<std::string> corpus_;
  std::mt19937_64 random_{1};
};

/// What crashes is lost unless it is written before; one open file, because closing one waits for the disk.
void keep(int file, std::string const& input) {
  auto const size = static_cast<off_t>(input.size());
  if (::pwrite(file, input.data(), input.size(), 0) != size || ::ftruncate(file, size) != 0) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s RUNS CORPUS\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (auto const& entry : std::filesystem::directory_iterator(argv[2])) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  for (auto const& file : files) {
    std::ifstream in(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: expected files, found none\n", argv[2]);
    return 1;
  }
  auto const kept = std::filesystem::path(argv[0]).filename().string() + ".input";
  int const file = ::open(kept.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) {
    std::perror(kept.c_str());
    return 1;
  }
  mutator inputs(corpus);
  long const runs = std::strtol(argv[1], nullptr, 10);
  for (long k = 0; k < runs; ++k) {
    std::string const input = inputs.next();
    keep(file, input);
    LLVMFuzzerTestOneInput(reinterpret_cast<std::uint8_t const*>(input.data()), input.size());
  }
  std::filesystem::remove(kept);
  std::printf("%ld inputs from %zu files\n", runs, corpus.size());
}
