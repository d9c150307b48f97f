/// @file  include/l3/data/ffmpeg.hpp: owners, error texts and a guarded input for FFmpeg; with media_writer.hpp the
/// only header that names an AV type.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <l3/core/error.hpp>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>
#include <libavutil/crc.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/intreadwrite.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswresample/swresample.h>
#include <libswscale/swscale.h>
}

/// FFmpeg 5.1 replaced the channel masks by AVChannelLayout; 4.4 still has the masks.
#define L3_FFMPEG_CHANNEL_LAYOUT (LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 28, 100))

namespace l3::inline L3_ISA::ffmpeg {

using frame = AVFrame;
using packet = AVPacket;
using rational = AVRational;
using codec_parameters = AVCodecParameters;

// --- Owners ----------------------------------------------------------------------------------------------------------

/// Frees with `Free`, whether it takes the pointer or the pointer's address.
template <auto Free>
struct deleter {
  template <class T>
  void operator()(T* p) const noexcept {
    if constexpr (std::is_invocable_v<decltype(Free), T**>)
      Free(&p);
    else
      Free(p);
  }
};

using frame_ptr = std::unique_ptr<AVFrame, deleter<av_frame_free>>;
using packet_ptr = std::unique_ptr<AVPacket, deleter<av_packet_free>>;
using codec_ptr = std::unique_ptr<AVCodecContext, deleter<avcodec_free_context>>;  ///< decoder or encoder
using scaler_ptr = std::unique_ptr<SwsContext, deleter<sws_freeContext>>;
using resampler_ptr = std::unique_ptr<SwrContext, deleter<swr_free>>;
using io_ptr = std::unique_ptr<AVIOContext, deleter<avio_closep>>;
using demuxer_ptr = std::unique_ptr<AVFormatContext, deleter<avformat_close_input>>;

/// Options by name, as `avcodec_open2` and its kin take them; `&options` is what they want.
class options {
 public:
  options() = default;
  options(options const&) = delete;
  options& operator=(options const&) = delete;
  ~options() { av_dict_free(&dict_); }
  options& set(char const* key, char const* value) {
    if (av_dict_set(&dict_, key, value, 0) < 0) throw std::bad_alloc();
    return *this;
  }
  AVDictionary** operator&() { return &dict_; }

 private:
  AVDictionary* dict_ = nullptr;
};

/// The owner's pointer, or std::bad_alloc: FFmpeg's allocators return null when memory is short.
template <class Owner>
Owner owned(typename Owner::pointer p) {
  if (!p) throw std::bad_alloc();
  return Owner(p);
}
inline frame_ptr make_frame() { return owned<frame_ptr>(av_frame_alloc()); }
inline packet_ptr make_packet() { return owned<packet_ptr>(av_packet_alloc()); }

// --- Messages and errors ---------------------------------------------------------------------------------------------

/// The last error line that FFmpeg logged in this thread: often the only place where it says what is wrong with a file.
inline std::string& last_message() {
  thread_local std::string text;
  return text;
}

/// Keeps FFmpeg from writing to standard error; error lines go to last_message(). Done once, when the first file is
/// opened; a program that wants FFmpeg's own log sets its callback after that (`av_log_set_callback`).
inline void quiet() {
  static bool const done = [] {
    av_log_set_callback([](void*, int level, char const* format, va_list arguments) {
      if (level > AV_LOG_ERROR) return;
      char line[256];
      std::vsnprintf(line, sizeof line, format, arguments);
      std::string text(line);
      for (char& c : text)
        if (static_cast<unsigned char>(c) < ' ' && c != '\n') c = '?';  // it may quote the file
      while (!text.empty() && (text.back() == '\n' || text.back() == '.')) text.pop_back();
      if (!text.empty()) last_message() = text;
    });
    return true;
  }();
  (void)done;
}

/// FFmpeg's words for an error code, with what it logged meanwhile.
inline std::string error_text(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof text);
  std::string said = std::exchange(last_message(), {});
  return said.empty() ? std::string(text) : std::string(text) + " (" + said + ")";
}

/// `code` if it is no error.
///
/// Errors  media_error {subject, expected, FFmpeg's words}.
inline int check(int code, std::string const& subject, std::string const& expected) {
  if (code < 0) throw media_error({subject, expected, error_text(code)});
  return code;
}

// --- Where FFmpeg's versions differ, and what its C types make clumsy ------------------------------------------------

inline int channels(AVFrame const& f) {
#if L3_FFMPEG_CHANNEL_LAYOUT
  return f.ch_layout.nb_channels;
#else
  return f.channels;
#endif
}
inline int channels(AVCodecParameters const& p) {
#if L3_FFMPEG_CHANNEL_LAYOUT
  return p.ch_layout.nb_channels;
#else
  return p.channels;
#endif
}
/// Gives a codec context or a frame the usual layout of `count` channels.
template <class T>
void set_channels(T& to, int count) {
#if L3_FFMPEG_CHANNEL_LAYOUT
  av_channel_layout_uninit(&to.ch_layout);
  av_channel_layout_default(&to.ch_layout, count);
#else
  to.channels = count;
  to.channel_layout = static_cast<std::uint64_t>(av_get_default_channel_layout(count));
#endif
}
inline bool is_key(AVFrame const& f) {
#ifdef AV_FRAME_FLAG_KEY
  return f.flags & AV_FRAME_FLAG_KEY;
#else
  return f.key_frame != 0;
#endif
}
/// The container's display matrix (nine fixed-point numbers), or null.
inline std::int32_t const* display_matrix(AVStream const& s) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
  auto const* found =
      av_packet_side_data_get(s.codecpar->coded_side_data, s.codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  return found ? reinterpret_cast<std::int32_t const*>(found->data) : nullptr;
#else
  return reinterpret_cast<std::int32_t const*>(av_stream_get_side_data(&s, AV_PKT_DATA_DISPLAYMATRIX, nullptr));
#endif
}

/// Resampler of one float channel from `rate` to `to` Hz with libswresample's own settings.
///
/// Errors  media_error where libswresample refuses.
inline resampler_ptr mono_resampler(int rate, int to, std::string const& subject) {
#if L3_FFMPEG_CHANNEL_LAYOUT
  AVChannelLayout mono{};
  av_channel_layout_default(&mono, 1);
  SwrContext* made = nullptr;
  swr_alloc_set_opts2(&made, &mono, AV_SAMPLE_FMT_FLTP, to, &mono, AV_SAMPLE_FMT_FLTP, rate, 0, nullptr);
#else
  SwrContext* made = swr_alloc_set_opts(nullptr, AV_CH_LAYOUT_MONO, AV_SAMPLE_FMT_FLTP, to, AV_CH_LAYOUT_MONO,
                                        AV_SAMPLE_FMT_FLTP, rate, 0, nullptr);
#endif
  auto resampler = owned<resampler_ptr>(made);
  check(swr_init(resampler.get()), subject, "sound that can be resampled from " + std::to_string(rate) + " Hz");
  return resampler;
}

/// Bits of a pixel as decoded; 12 (4:2:0 of bytes) where that is not known.
inline std::size_t bits_per_pixel(AVCodecParameters const& p) {
  auto const* format = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(p.format));
  return format ? static_cast<std::size_t>(std::max(av_get_padded_bits_per_pixel(format), 1)) : 12;
}

/// A picture's own display matrix (a JPEG's EXIF orientation), or null.
inline std::int32_t const* display_matrix(AVFrame const& f) {
  auto const* found = av_frame_get_side_data(&f, AV_FRAME_DATA_DISPLAYMATRIX);
  return found ? reinterpret_cast<std::int32_t const*>(found->data) : nullptr;
}
/// Whether the decoder says that a picture is not what was encoded.
inline bool is_damaged(AVFrame const& f) { return (f.flags & AV_FRAME_FLAG_CORRUPT) || f.decode_error_flags; }

/// Whether a decoder that has given its first block says that the stream is AAC-LC.
inline bool is_aac_lc(AVCodecContext const& decoder) {
  return decoder.codec_id == AV_CODEC_ID_AAC && decoder.profile == 1;  // the constant's name differs between versions
}

/// CRC-32 as zip and gzip have it, of bytes that follow those of `before`.
inline std::uint32_t crc32(std::span<std::byte const> bytes, std::uint32_t before = 0) {
  if (bytes.empty()) return before;  // of which av_crc reads the first all the same
  return ~av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), ~before, reinterpret_cast<std::uint8_t const*>(bytes.data()),
                 bytes.size());
}

/// A packet's side data of one kind, or an empty span.
inline std::span<std::uint8_t const> side_data(AVPacket const& p, AVPacketSideDataType kind) {
#if LIBAVCODEC_VERSION_MAJOR >= 59
  std::size_t size = 0;
#else
  int size = 0;
#endif
  auto const* data = av_packet_get_side_data(&p, kind, &size);
  return {data, data ? static_cast<std::size_t>(size) : 0};
}

/// Packets of a stream that the demuxer keeps a table of.
inline std::size_t index_entries(AVStream const& s) {
#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(58, 76, 100)
  return static_cast<std::size_t>(std::max(avformat_index_get_entries_count(&s), 0));
#else
  return static_cast<std::size_t>(std::max(s.nb_index_entries, 0));
#endif
}

/// Scaler from a decoder's picture format to packed RGB; null where libswscale cannot.
inline scaler_ptr make_rgb_scaler(int width, int height, int format, int to_width, int to_height, int flags) {
  return scaler_ptr(sws_getContext(width, height, static_cast<AVPixelFormat>(format), to_width, to_height,
                                   AV_PIX_FMT_RGB24, flags, nullptr, nullptr, nullptr));
}
inline AVPixFmtDescriptor const* pixel_format(AVFrame const& f) {
  return av_pix_fmt_desc_get(static_cast<AVPixelFormat>(f.format));
}

// --- Input -----------------------------------------------------------------------------------------------------------

/// A media file opened for demuxing. It reads that one file and nothing else (a playlist cannot open other files or the
/// network), recognises the format from content alone, and gives up when a call lasts longer than the watchdog allows.
///
/// Errors  file_error: missing, a directory, unreadable. media_error: empty, not media, too large a picture, too slow.
///         std::system_error: the process may open no more files.
class input {
 public:
  /// `max_pixels` limits width x height of what a decoder may allocate; but FFmpeg's own look at streams that come to
  /// light while it looks (of MPEG-PS, say) has its own limit, 2^28.
  input(std::filesystem::path const& file, double wall_seconds, std::size_t max_pixels)
      : name_(file.string()), watch_(std::make_unique<watch>()), max_pixels_(max_pixels) {
    quiet();
    last_message().clear();
    require_regular_file(file);
    if (!(wall_seconds >= 0))
      throw setting_error({"seconds for the watchdog", "0 or more", std::to_string(wall_seconds)});
    watch_->allowed = wall_seconds;
    restart_watch();
    AVIOInterruptCB const interrupt{[](void* w) { return static_cast<watch*>(w)->over() ? 1 : 0; }, watch_.get()};
    open_io(file, interrupt);

    // Play lists that FFmpeg knows by their content open their entries in contexts of their own, which inherit this.
    options settings;
    settings.set("protocol_whitelist", "none");
    auto* context = avformat_alloc_context();
    if (!context) throw std::bad_alloc();
    context->interrupt_callback = interrupt;
    context->pb = io_.get();
    context->flags |= AVFMT_FLAG_CUSTOM_IO;
    context->io_open = [](AVFormatContext*, AVIOContext**, char const*, int, AVDictionary**) { return AVERROR(EPERM); };
    // On failure avformat_open_input frees the context itself. No name is passed: the extension decides nothing.
    int const code = avformat_open_input(&context, nullptr, nullptr, &settings);
    require(code, "a media file that FFmpeg can open");
    context_.reset(context);
    find_streams();
  }

  AVFormatContext* operator->() const { return context_.get(); }
  AVFormatContext* get() const { return context_.get(); }
  std::string const& name() const { return name_; }
  AVStream& stream(int index) const { return *context_->streams[index]; }
  bool has_stream(int index, int codec, rational time_base) const {
    return index >= 0 && static_cast<unsigned>(index) < context_->nb_streams &&
           stream(index).codecpar->codec_id == codec && stream(index).time_base.num == time_base.num &&
           stream(index).time_base.den == time_base.den;
  }

  /// Index of the stream that av_find_best_stream prefers, or -1. Cover art is no video.
  int best(AVMediaType type, int related = -1) const {
    int found = av_find_best_stream(context_.get(), type, -1, related, nullptr, 0);
    if (found < 0 || !(stream(found).disposition & AV_DISPOSITION_ATTACHED_PIC)) return found < 0 ? -1 : found;
    for (unsigned i = 0; i < context_->nb_streams; ++i)
      if (stream(int(i)).codecpar->codec_type == type && !(stream(int(i)).disposition & AV_DISPOSITION_ATTACHED_PIC))
        return int(i);
    return -1;
  }

  /// Next packet in the file's order; false at the end. A damaged file ends where it cannot be read on.
  /// Errors  file_error: the disk fails. media_error: over budget.
  bool read(AVPacket& to) {
    check_watch();
    av_packet_unref(&to);
    int const code = av_read_frame(context_.get(), &to);
    check_watch();
    if (code == AVERROR(ENOMEM)) check(code, name_, "packets of a possible size");
    if (code < 0) require_io();
    if (patient_) restart_watch();
    return code >= 0;
  }
  /// From now on the watchdog looks at each packet by itself, however many there are: of a file that is read as a
  /// whole.
  void be_patient() { patient_ = true; }

  /// Moves to the last index point of the stream at or before `time_stamp`; false if the file cannot.
  bool seek(int stream_index, std::int64_t time_stamp) {
    check_watch();
    return av_seek_frame(context_.get(), stream_index, time_stamp, AVSEEK_FLAG_BACKWARD) >= 0;
  }

  /// A new single-threaded decoder for a stream (`settings`: its options), from its start or from any later packet.
  codec_ptr decoder(int index, AVDictionary** settings = nullptr, bool from_start = true) const {
    auto const& s = stream(index);
    auto const* codec = avcodec_find_decoder(s.codecpar->codec_id);
    if (!codec) throw media_error({name_, "a codec that FFmpeg decodes", avcodec_get_name(s.codecpar->codec_id)});
    auto context = owned<codec_ptr>(avcodec_alloc_context3(codec));
    check(avcodec_parameters_to_context(context.get(), s.codecpar), name_, "codec parameters that make sense");
    context->pkt_timebase = s.time_base;  // without it the decoder cannot cut priming samples
    // FFmpeg 9's decoders cut the priming samples that a file's header tells of, wherever they begin.
    if (!from_start) context->initial_padding = context->delay = 0;
    context->thread_count = 1;
    context->max_pixels = static_cast<std::int64_t>(max_pixels_);
    check(avcodec_open2(context.get(), codec, settings), name_,
          std::string("a stream that FFmpeg's ") + codec->name + " decoder takes");
    return context;
  }

  /// Starts the watchdog's time anew; each request and each step of a long pass does.
  void restart_watch() {
    watch_->spent = 0;
    watch_->seen = clock::now();
  }
  /// Errors  media_error when the watchdog's time is over.
  void check_watch() const {
    if (!watch_->over()) return;
    throw media_error({name_, "an answer within " + std::to_string(watch_->allowed) + " s",
                       "more time needed (wall-clock watchdog: refused; whether it strikes depends on the machine)"});
  }

 private:
  using clock = std::chrono::steady_clock;
  struct watch {
    double allowed = 0;
    double spent = 0;  ///< seconds
    clock::time_point seen;
    /// FFmpeg asks often. Where it has not for long, the process may have been stopped (Ctrl-Z, say): that alone is no
    /// reason to give up.
    bool over() {
      auto const now = clock::now();
      std::chrono::duration<double> const passed = now - std::exchange(seen, now);
      spent += std::min(passed.count(), std::max(5.0, allowed / 2));
      return spent > allowed;
    }
  };

  void require_regular_file(std::filesystem::path const& file) const {
    std::error_code failed;
    auto const status = std::filesystem::status(file, failed);
    if (!std::filesystem::exists(status))
      throw file_error({name_, "a media file", failed ? failed.message() : "nothing there"});
    if (std::filesystem::is_directory(status)) {
      std::filesystem::directory_iterator const inside(file, failed);
      throw file_error(
          {name_, failed ? "a folder that can be read" : "a media file", failed ? failed.message() : "a directory"});
    }
    if (!std::filesystem::is_regular_file(status))
      throw file_error({name_, "a media file", "neither file nor directory"});
    if (std::filesystem::file_size(file, failed) == 0 && !failed)
      throw media_error({name_, "a media file", "an empty file (0 bytes)"});
  }
  void open_io(std::filesystem::path const& file, AVIOInterruptCB const& interrupt) {
    AVIOContext* io = nullptr;
    int const code = avio_open2(&io, ("file:" + file.string()).c_str(), AVIO_FLAG_READ, &interrupt, nullptr);
    if (code == AVERROR(EMFILE) || code == AVERROR(ENFILE))  // not the file's fault
      throw std::system_error(-code, std::generic_category(), name_ + ": expected that one more file can be opened");
    if (code == AVERROR(ENOMEM)) throw std::bad_alloc();
    if (code < 0) throw file_error({name_, "a readable file", error_text(code)});
    io_.reset(io);
  }
  /// The watchdog's complaint comes first: what it interrupts fails with some other error.
  void require(int code, std::string const& expected) const {
    if (code >= 0) return;
    check_watch();
    require_io();
    check(code, name_, expected);
  }
  /// A disk that fails is neither a file's end nor its fault. Errors: file_error.
  void require_io() const {
    if (io_->error < 0 && io_->error != AVERROR_EOF)
      throw file_error({name_, "a file that can be read to its end", error_text(io_->error)});
  }
  /// Reads as far as needed to know the streams, with the same limit on pictures as the decoders have.
  void find_streams() {
    auto const limit = std::to_string(max_pixels_);
    std::vector<AVDictionary*> each(context_->nb_streams, nullptr);
    for (auto& one : each) av_dict_set(&one, "max_pixels", limit.c_str(), 0);
    int const code = avformat_find_stream_info(context_.get(), each.empty() ? nullptr : each.data());
    for (auto& one : each) av_dict_free(&one);
    require(code, "streams that FFmpeg can describe");
  }

  std::string name_;
  std::unique_ptr<watch> watch_;  // FFmpeg keeps its address
  bool patient_ = false;
  std::size_t max_pixels_;
  io_ptr io_;  // outlives the demuxer that reads from it
  demuxer_ptr context_;
};

/// The version of the FFmpeg that is linked, as it calls itself.
inline std::string version() { return ::av_version_info(); }

}  // namespace l3::inline L3_ISA::ffmpeg
