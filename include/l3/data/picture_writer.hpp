/// @file  include/l3/data/picture_writer.hpp: pictures -> the bytes of PNG files, by FFmpeg's encoder.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/error.hpp>
#include <l3/data/augment.hpp>
#include <l3/data/ffmpeg.hpp>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// The picture as a PNG file: lossless, 8 bits a colour. The same picture gives the same bytes with the same build of
/// FFmpeg.
///
/// Errors  media_error: an empty picture, or an FFmpeg without its PNG encoder.
inline std::vector<std::uint8_t> png_of(rgb_view picture) {
  ffmpeg::quiet();
  std::string const subject = "PNG of " + std::to_string(picture.width) + " x " + std::to_string(picture.height);
  auto const* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  if (!codec) throw media_error({subject, "FFmpeg's PNG encoder", "an FFmpeg without it"});
  if (picture.width == 0 || picture.height == 0) throw media_error({subject, "a picture with pixels", "none"});
  auto encoder = ffmpeg::owned<ffmpeg::codec_ptr>(avcodec_alloc_context3(codec));
  encoder->thread_count = 1;
  encoder->flags |= AV_CODEC_FLAG_BITEXACT;
  encoder->width = static_cast<int>(picture.width);
  encoder->height = static_cast<int>(picture.height);
  encoder->pix_fmt = AV_PIX_FMT_RGB24;
  encoder->time_base = {1, 1};
  ffmpeg::check(avcodec_open2(encoder.get(), codec, nullptr), subject, "a picture that PNG can hold");
  auto frame = ffmpeg::make_frame();
  frame->format = encoder->pix_fmt;
  frame->width = encoder->width;
  frame->height = encoder->height;
  ffmpeg::check(av_frame_get_buffer(frame.get(), 0), subject, "memory for a picture");
  for (std::size_t y = 0; y != picture.height; ++y)
    std::copy_n(picture.pixels.data() + 3 * y * picture.width, 3 * picture.width,
                frame->data[0] + y * static_cast<std::size_t>(frame->linesize[0]));
  ffmpeg::check(avcodec_send_frame(encoder.get(), frame.get()), subject, "a picture that PNG can hold");
  ffmpeg::check(avcodec_send_frame(encoder.get(), nullptr), subject, "a picture that PNG can hold");
  auto packet = ffmpeg::make_packet();
  ffmpeg::check(avcodec_receive_packet(encoder.get(), packet.get()), subject, "a picture that PNG can hold");
  return {packet->data, packet->data + packet->size};
}

}  // namespace l3::inline L3_ISA
