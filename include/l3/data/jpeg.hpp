/// @file  include/l3/data/jpeg.hpp: pictures to JPEG and back, by libjpeg-turbo.
///
/// Programs that include this header link libturbojpeg.
#pragma once
#include <turbojpeg.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/error.hpp>
#include <l3/data/picture.hpp>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {
namespace detail {

struct release_jpeg_tool {
  void operator()(void* tool) const { ::tjDestroy(tool); }
};
using jpeg_tool = std::unique_ptr<void, release_jpeg_tool>;
inline jpeg_tool made_jpeg_tool(void* tool) {
  if (tool == nullptr) throw std::bad_alloc();
  return jpeg_tool(tool);
}
/// A progressive picture may have thousands of passes over all of it, each of some bytes. (libjpeg-turbo 2.1 and newer)
#ifdef TJFLAG_LIMITSCANS
inline constexpr int few_scans = TJFLAG_LIMITSCANS;
#else
inline constexpr int few_scans = 0;
#endif

}  // namespace detail

/// Writes pictures as JPEG, colours at half resolution. One thread at a time.
class jpeg_encoder {
 public:
  /// Appends the picture's JPEG file to `out`.
  ///
  /// `quality` 1 to 100.
  /// Errors  media_error: libjpeg-turbo refuses (a side above 65500).
  void append(rgb_view picture, int quality, std::vector<std::byte>& out) {
    int const width = static_cast<int>(picture.width), height = static_cast<int>(picture.height);
    auto const room = ::tjBufSize(width, height, TJSAMP_420);
    std::size_t const before = out.size();
    out.resize(before + room);
    auto* to = reinterpret_cast<unsigned char*>(out.data() + before);
    unsigned long bytes = room;
    int const code = ::tjCompress2(handle_.get(), picture.pixels.data(), width, 0, height, TJPF_RGB, &to, &bytes,
                                   TJSAMP_420, quality, TJFLAG_NOREALLOC | TJFLAG_ACCURATEDCT);
    if (code != 0) {
      out.resize(before);
      throw media_error(complaint{"picture", "one that JPEG can hold", ::tjGetErrorStr2(handle_.get())});
    }
    out.resize(before + bytes);
  }

 private:
  detail::jpeg_tool handle_ = detail::made_jpeg_tool(::tjInitCompress());
};

/// Reads JPEG. One thread at a time; buffers are used again and again.
class jpeg_decoder {
 public:
  /// The picture into `out`. Its size is the file's, or, when the file is at least twice as large as `side` asks for,
  /// the smallest of 1/2, 1/4 and 1/8 of it whose smallest side is not below `side` (0: the file's): libjpeg-turbo
  /// leaves out the frequencies that a smaller picture cannot show.
  ///
  /// `subject` is what messages call the picture.
  /// Errors  media_error: no JPEG, a damaged one, more than `max_pixels`.
  void read(std::span<std::byte const> file, std::size_t side, std::size_t max_pixels, std::string const& subject,
            rgb_frame& out) {
    auto const* from = reinterpret_cast<unsigned char const*>(file.data());
    auto const bytes = static_cast<unsigned long>(file.size());
    int width = 0, height = 0, sampling = 0, colours = 0;
    if (::tjDecompressHeader3(handle_.get(), from, bytes, &width, &height, &sampling, &colours) != 0) refuse(subject);
    if (width <= 0 || height <= 0 || static_cast<std::size_t>(width) > max_pixels / static_cast<std::size_t>(height))
      throw media_error(complaint{subject, "a picture of at most " + std::to_string(max_pixels) + " pixels",
                                  std::to_string(width) + " x " + std::to_string(height)});
    ::tjscalingfactor by{1, 1};
    for (int divisor = 2; divisor <= 8 && side > 0; divisor *= 2)
      if (static_cast<std::size_t>(std::min(width, height)) >= side * static_cast<std::size_t>(divisor))
        by.denom = divisor;
    width = TJSCALED(width, by);
    height = TJSCALED(height, by);
    out.width = static_cast<std::size_t>(width);
    out.height = static_cast<std::size_t>(height);
    out.pixels.resize(3 * out.width * out.height);
    int const code = ::tjDecompress2(handle_.get(), from, bytes, out.pixels.data(), width, 0, height, TJPF_RGB,
                                     TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | detail::few_scans);
    if (code != 0) refuse(subject);
  }

 private:
  [[noreturn]] void refuse(std::string const& subject) const {
    throw media_error(complaint{subject, "a JPEG picture", ::tjGetErrorStr2(handle_.get())});
  }
  detail::jpeg_tool handle_ = detail::made_jpeg_tool(::tjInitDecompress());
};

}  // namespace l3::inline L3_ISA
