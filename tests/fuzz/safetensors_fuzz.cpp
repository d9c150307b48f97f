/// @file  tests/fuzz/safetensors_fuzz.cpp: any bytes at all, opened as a safetensors file (libFuzzer).
///
/// What is accepted must keep its promises: the tensors fill the file, each can be read, and a writer takes it as it
/// is. The first byte chooses between a whole file and a header alone, to which the right size and some data are added.
/// CMake links it with mutate.cpp; for libFuzzer: clang++ -std=c++20 -O1 -g -Iinclude
/// -fsanitize=fuzzer,address,undefined
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <l3/files/safetensors.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

/// A file in memory, opened anew for each input.
class memory_file {
 public:
  memory_file() : number_(::memfd_create("fuzz", MFD_CLOEXEC)) { require(number_ >= 0); }
  void set(std::string_view bytes) const {
    require(::ftruncate(number_, 0) == 0);
    require(::pwrite(number_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(number_); }

 private:
  int number_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size == 0) return 0;
  std::string bytes(data + 1, data + size);
  if (data[0] % 2 == 1) {
    std::uint64_t const header = bytes.size();
    bytes.insert(0, reinterpret_cast<char const*>(&header), sizeof header);
    bytes.append(data[0] / 2, '\x7f');
  }
  static memory_file const input;
  input.set(bytes);
  try {
    auto const file = l3::safetensors_file::open(input.path());
    std::size_t total = 0;
    for (auto const& [name, entry] : file.tensors()) {
      auto const content = file.read_bytes(name);
      require(content.size() == entry.end - entry.begin);
      total += content.size();
      if (entry.dtype != "F32") continue;
      std::vector<float> values(content.size() / sizeof(float));
      file.read(name, values, entry.shape);
      l3::safetensors_writer().add(name, entry.shape, values);
    }
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof header);
    require(sizeof header + header + total == bytes.size());
  } catch (l3::format_error const&) {  // any other exception is a finding
  }
  return 0;
}
