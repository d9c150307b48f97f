/// @file  include/l3/data/media_writer.hpp: pictures and sound -> the bytes of an MP4 file (H.264 and AAC).
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/error.hpp>
#include <l3/data/ffmpeg.hpp>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// What a media_writer makes.
struct media_format {
  int width = 0;               ///< pixels, even
  int height = 0;              ///< pixels, even
  int frame_rate = 25;         ///< pictures a second; picture n is shown at n / frame_rate seconds
  int sample_rate = 48000;     ///< Hz, one that AAC knows
  int quality = 23;            ///< x264's constant rate factor: 0 (lossless) to 51; other encoders get a bit rate
  int sound_bit_rate = 96000;  ///< bits a second
};

/// Encodes RGB pictures and mono sound into an MP4 file, in memory.
///
/// Encoders run single-threaded and write neither dates nor versions of libav*, so the same input gives the same bytes
/// with the same build of FFmpeg. Sound uses no noise substitution: what a decoder returns does not depend on where it
/// began. A key frame a second, no B-frames. Pictures are tagged as BT.601, limited range.
///
/// Errors  media_error: no H.264 or AAC encoder in this FFmpeg, or one that fails; pictures of another size.
///         setting_error: a format that cannot be (odd sides, no rate).
class media_writer {
 public:
  /// `name` is what messages call the file.
  explicit media_writer(media_format const& format, std::string name = "MP4 file")
      : format_(format), name_(std::move(name)) {
    ffmpeg::quiet();
    require_possible();
    AVFormatContext* made = nullptr;
    ffmpeg::check(avformat_alloc_output_context2(&made, nullptr, "mp4", nullptr), name_, "FFmpeg's MP4 muxer");
    file_.reset(made);
    file_->flags |= AVFMT_FLAG_BITEXACT;
    file_->max_interleave_delta = 0;  // interleave by time however far ahead one stream was added
    ffmpeg::check(avio_open_dyn_buf(&file_->pb), name_, "memory to write to");
    open_pictures();
    open_sound();
    ffmpeg::check(avformat_write_header(file_.get(), nullptr), name_, "streams that MP4 takes");
  }

  /// Appends a picture: height x width x 3 bytes, row by row.
  void add_frame(std::span<std::uint8_t const> rgb) {
    auto const stride = 3 * format_.width;
    auto const bytes = static_cast<std::size_t>(stride) * static_cast<std::size_t>(format_.height);
    if (rgb.size() != bytes)
      throw media_error({name_, "pictures of " + std::to_string(bytes) + " bytes", std::to_string(rgb.size())});
    auto const row = static_cast<std::size_t>(stride);
    for (std::size_t y = 0; y < static_cast<std::size_t>(format_.height); ++y)
      std::copy_n(rgb.begin() + static_cast<std::ptrdiff_t>(y * row), row,
                  rgb_->data[0] + y * std::size_t(rgb_->linesize[0]));
    ffmpeg::check(av_frame_make_writable(picture_.get()), name_, "memory for a picture");
    sws_scale(to_yuv_.get(), rgb_->data, rgb_->linesize, 0, format_.height, picture_->data, picture_->linesize);
    picture_->pts = frames_++;
    encode(*video_, picture_.get(), 0);
  }

  /// Appends samples in [-1, 1], any number of them.
  void add_sound(std::span<float const> mono) {
    pending_.insert(pending_.end(), mono.begin(), mono.end());
    auto const block = static_cast<std::size_t>(audio_->frame_size);
    std::size_t used = 0;
    for (; pending_.size() - used >= block; used += block) encode_sound(std::span(pending_).subspan(used, block));
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(used));
  }

  /// Ends the file and returns its bytes. Once; nothing can be added after it.
  std::vector<std::uint8_t> finish() {
    if (!pending_.empty()) encode_sound(pending_);
    encode(*video_, nullptr, 0);
    encode(*audio_, nullptr, 1);
    ffmpeg::check(av_write_trailer(file_.get()), name_, "a file that can be completed");
    std::uint8_t* bytes = nullptr;
    auto const size = avio_close_dyn_buf(std::exchange(file_->pb, nullptr), &bytes);
    std::unique_ptr<std::uint8_t, ffmpeg::deleter<free_bytes>> const owner(bytes);
    return {bytes, bytes + size};
  }

 private:
  static void free_bytes(std::uint8_t* bytes) noexcept { av_free(bytes); }
  static void free_file(AVFormatContext* c) noexcept {
    if (c->pb) {
      std::uint8_t* bytes = nullptr;
      avio_close_dyn_buf(c->pb, &bytes);
      av_free(bytes);
    }
    avformat_free_context(c);
  }

  void require_possible() const {
    auto const refuse = [&](char const* expected, std::string found) {
      throw setting_error({name_, expected, std::move(found)});
    };
    auto const size = std::to_string(format_.width) + " x " + std::to_string(format_.height);
    if (format_.width < 16 || format_.height < 16 || format_.width % 2 || format_.height % 2)
      refuse("pictures with even sides of 16 pixels and more", size);
    if (format_.frame_rate < 1) refuse("at least one picture a second", std::to_string(format_.frame_rate));
    if (format_.sample_rate < 1) refuse("a sample rate in Hz", std::to_string(format_.sample_rate));
  }

  ffmpeg::codec_ptr new_encoder(AVCodec const& codec) const {
    auto encoder = ffmpeg::owned<ffmpeg::codec_ptr>(avcodec_alloc_context3(&codec));
    encoder->thread_count = 1;
    encoder->flags |= AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_GLOBAL_HEADER;
    return encoder;
  }

  void open_pictures() {
    for (auto const* name : {"libx264", "libopenh264", ""}) {  // software first: hardware may be built in but absent
      auto const* codec = *name ? avcodec_find_encoder_by_name(name) : avcodec_find_encoder(AV_CODEC_ID_H264);
      if (codec && open_pictures_with(*codec)) break;
    }
    if (!video_)
      throw media_error({name_, "an H.264 encoder in FFmpeg (libx264 or libopenh264)", "none that can be opened"});
    add_stream(*video_);

    picture_ = new_picture(video_->pix_fmt);
    rgb_ = new_picture(AV_PIX_FMT_RGB24);
    to_yuv_ = ffmpeg::owned<ffmpeg::scaler_ptr>(
        sws_getContext(format_.width, format_.height, AV_PIX_FMT_RGB24, format_.width, format_.height, video_->pix_fmt,
                       SWS_BILINEAR | SWS_ACCURATE_RND | SWS_BITEXACT, nullptr, nullptr, nullptr));
  }

  ffmpeg::frame_ptr new_picture(AVPixelFormat format) const {
    auto frame = ffmpeg::make_frame();
    frame->format = format;
    frame->width = format_.width;
    frame->height = format_.height;
    ffmpeg::check(av_frame_get_buffer(frame.get(), 0), name_, "memory for a picture");
    return frame;
  }

  bool open_pictures_with(AVCodec const& codec) {
    auto encoder = new_encoder(codec);
    encoder->width = format_.width;
    encoder->height = format_.height;
    encoder->pix_fmt = AV_PIX_FMT_YUV420P;
    encoder->time_base = {1, format_.frame_rate};
    encoder->framerate = {format_.frame_rate, 1};
    encoder->gop_size = format_.frame_rate;
    encoder->max_b_frames = 0;
    encoder->colorspace = AVCOL_SPC_SMPTE170M;
    encoder->color_primaries = AVCOL_PRI_SMPTE170M;
    encoder->color_trc = AVCOL_TRC_SMPTE170M;
    encoder->color_range = AVCOL_RANGE_MPEG;
    encoder->bit_rate = std::int64_t{format_.width} * format_.height * format_.frame_rate;  // x264 prefers its factor
    ffmpeg::options settings;
    // x264's macroblock tree, in its AVX-512 code, reads what happens to lie beside its buffers: with several encoders
    // at work one video in a hundred came out in other bytes.
    settings.set("preset", "veryfast").set("mbtree", "0").set("crf", std::to_string(format_.quality).c_str());
    if (avcodec_open2(encoder.get(), &codec, &settings) < 0) return false;
    video_ = std::move(encoder);
    return true;
  }

  void open_sound() {
    auto const* codec = avcodec_find_encoder_by_name("aac");
    if (!codec) throw media_error({name_, "FFmpeg's AAC encoder", "an FFmpeg without it"});
    audio_ = new_encoder(*codec);
    audio_->sample_rate = format_.sample_rate;
    audio_->sample_fmt = AV_SAMPLE_FMT_FLTP;
    audio_->time_base = {1, format_.sample_rate};
    audio_->bit_rate = format_.sound_bit_rate;
    ffmpeg::set_channels(*audio_, 1);
    ffmpeg::options settings;
    settings.set("aac_pns", "0").set("aac_coder", "fast");
    ffmpeg::check(avcodec_open2(audio_.get(), codec, &settings), name_, "a sample rate and a bit rate that AAC takes");
    add_stream(*audio_);
  }

  void add_stream(AVCodecContext const& encoder) {
    auto* const stream = avformat_new_stream(file_.get(), nullptr);
    if (!stream) throw std::bad_alloc();
    stream->time_base = encoder.time_base;
    if (encoder.codec_type == AVMEDIA_TYPE_VIDEO) stream->avg_frame_rate = encoder.framerate;
    ffmpeg::check(avcodec_parameters_from_context(stream->codecpar, &encoder), name_, "memory for a stream");
  }

  void encode_sound(std::span<float const> samples) {
    auto frame = ffmpeg::make_frame();
    frame->format = audio_->sample_fmt;
    frame->sample_rate = audio_->sample_rate;
    frame->nb_samples = static_cast<int>(samples.size());
    ffmpeg::set_channels(*frame, 1);
    ffmpeg::check(av_frame_get_buffer(frame.get(), 0), name_, "memory for sound");
    std::copy(samples.begin(), samples.end(), reinterpret_cast<float*>(frame->data[0]));
    frame->pts = std::exchange(samples_, samples_ + frame->nb_samples);
    encode(*audio_, frame.get(), 1);
  }

  /// One frame (null: what the encoder still holds) through the encoder into the file.
  void encode(AVCodecContext& encoder, AVFrame const* frame, int stream) {
    ffmpeg::check(avcodec_send_frame(&encoder, frame), name_, "a frame that can be encoded");
    for (;;) {
      int const code = avcodec_receive_packet(&encoder, packet_.get());
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
      ffmpeg::check(code, name_, "a frame that can be encoded");
      packet_->stream_index = stream;
      if (packet_->duration == 0) packet_->duration = 1;  // video: x264 leaves it open, and MP4 needs the last one
      av_packet_rescale_ts(packet_.get(), encoder.time_base, file_->streams[stream]->time_base);
      ffmpeg::check(av_interleaved_write_frame(file_.get(), packet_.get()), name_, "memory to write to");
    }
  }

  media_format format_;
  std::string name_;
  std::unique_ptr<AVFormatContext, ffmpeg::deleter<free_file>> file_;
  ffmpeg::codec_ptr video_;
  ffmpeg::codec_ptr audio_;
  ffmpeg::scaler_ptr to_yuv_;
  ffmpeg::frame_ptr rgb_;  ///< the scaler reads a few bytes past a row's end: FFmpeg's own frames have them
  ffmpeg::frame_ptr picture_;
  ffmpeg::packet_ptr packet_ = ffmpeg::make_packet();
  std::vector<float> pending_;  ///< less than one AAC frame
  std::int64_t frames_ = 0;
  std::int64_t samples_ = 0;
};

}  // namespace l3::inline L3_ISA
