/// @file  include/l3/data/packet_index.hpp: the packets of a clip's first seconds: times, and where decoding can begin.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <l3/core/error.hpp>
#include <l3/core/fingerprint.hpp>
#include <l3/data/clip_facts.hpp>
#include <l3/data/ffmpeg.hpp>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace l3::inline L3_ISA {

namespace detail {

/// Times nearer than this (seconds) are the same time: k * 0.1 in floating point still meets the frame at k/10.
inline constexpr double same_time = 1e-6;
/// Seconds without a picture, or without sound, that are believed where the other stream does not go on meanwhile: more
/// are a damaged time stamp, which would make hours of a short file.
inline constexpr double longest_pause = 3600;

/// What the scan keeps of a packet.
struct packet_note {
  std::int64_t pts;      ///< presentation time stamp, or AV_NOPTS_VALUE
  std::int64_t seek;     ///< time stamp to seek by
  std::uint64_t digest;  ///< recognises the packet after a seek
  std::int16_t x264;     ///< build of x264 announced so far, or -1: FFmpeg's H.264 decoder works round old builds
  bool key, shown;       ///< shown: not cut away by an edit list
  bool entry;            ///< decoding may begin here
  bool cut;              ///< samples of its sound are cut away
};

/// Pictures per second as the header or the first packets have it; 25 if nothing is known.
inline double frame_rate(ffmpeg::input const& in, int stream) {
  auto const rate = av_guess_frame_rate(in.get(), &in.stream(stream), nullptr);
  return rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 25;
}

/// Settings for a decoder that come with a packet. Demuxers may send some once, with the first packet that is read, and
/// not again after a seek.
inline constexpr std::array settings_of_packets{AV_PKT_DATA_NEW_EXTRADATA, AV_PKT_DATA_PARAM_CHANGE,
                                                AV_PKT_DATA_PALETTE};

/// A fingerprint of all but the bytes that a decoder's output depends on: time stamp, size, flags, sample cuts, and
/// settings.
inline std::uint64_t digest(ffmpeg::packet const& p) {
  std::uint64_t h = fingerprint("");
  auto const mix = [&](std::uint64_t value) { h = fingerprint_of_number(value, h); };
  mix(static_cast<std::uint64_t>(p.pts));
  mix(static_cast<std::uint64_t>(p.size));
  mix(static_cast<std::uint64_t>(p.flags & (AV_PKT_FLAG_KEY | AV_PKT_FLAG_DISCARD)));
  for (auto byte : ffmpeg::side_data(p, AV_PKT_DATA_SKIP_SAMPLES)) mix(byte);
  for (auto kind : settings_of_packets)
    for (auto byte : ffmpeg::side_data(p, kind)) mix(byte);
  return h;
}
/// The same, going on with the bytes: in words, of which four at a time are independent (several GB/s).
inline std::uint64_t digest_of_bytes(ffmpeg::packet const& p, std::uint64_t h) {
  std::uint64_t lanes[4] = {1, 2, 3, 4};
  auto const* at = p.data;
  auto left = static_cast<std::size_t>(std::max(p.size, 0));
  for (std::uint64_t words[4]; left >= sizeof words; at += sizeof words, left -= sizeof words) {
    std::memcpy(words, at, sizeof words);
    for (int i = 0; i < 4; ++i) lanes[i] = (std::rotl(lanes[i], 29) ^ words[i]) * 0x9e3779b97f4a7c15;
  }
  lanes[0] = fingerprint({reinterpret_cast<char const*>(at), left}, lanes[0]);
  for (auto const lane : lanes) h = fingerprint_of_number(lane ^ lane >> 32, h);
  return h;
}

/// Finds the packets at which decoding may begin: from such a packet on, every picture that is presented at its time or
/// later is bit for bit the one of decoding from the file's start. True by the codec's own rules for IDR pictures
/// (H.264), IRAP pictures (HEVC), key frames (VP8, VP9) and codecs of independent pictures. Not for H.264 recovery
/// points (open GOP): reference lists there may still count older pictures. All else is decoded from the start.
class entry_finder {
 public:
  explicit entry_finder(ffmpeg::codec_parameters const& p) : codec_(p.codec_id) {
    auto const* about = avcodec_descriptor_get(p.codec_id);
    simple_ =
        (about && (about->props & AV_CODEC_PROP_INTRA_ONLY)) || codec_ == AV_CODEC_ID_VP8 || codec_ == AV_CODEC_ID_VP9;
    std::span const extra(p.extradata, p.extradata ? static_cast<std::size_t>(p.extradata_size) : 0);
    if (codec_ == AV_CODEC_ID_H264 && extra.size() >= 7 && extra[0] == 1) length_bytes_ = (extra[4] & 3) + 1u;
    if (codec_ == AV_CODEC_ID_HEVC && extra.size() >= 23 && (extra[0] || extra[1] || extra[2] > 1))
      length_bytes_ = (extra[21] & 3) + 1u;
  }

  /// To be asked about every packet, in file order.
  bool operator()(ffmpeg::packet const& p) {
    bool const key = p.flags & AV_PKT_FLAG_KEY;
    bool const hevc = codec_ == AV_CODEC_ID_HEVC;
    if (!hevc && codec_ != AV_CODEC_ID_H264) return key && simple_;
    std::optional<bool> random_access;  // of the first slice
    unsigned sets = 0;                  // which kinds of parameter sets the packet brings
    for_each_nal({p.data, static_cast<std::size_t>(p.size)}, [&](std::span<std::uint8_t const> nal) {
      unsigned const type = hevc ? nal[0] >> 1 & 63u : nal[0] & 31u;
      unsigned const first_set = hevc ? 32 : 7, kinds = hevc ? 3 : 2;
      if (type >= first_set && type < first_set + kinds) sets |= 1u << (type - first_set);
      if (!random_access && (hevc ? type < 32 : type >= 1 && type <= 5))
        random_access = hevc ? type >= 16 && type <= 21 : type == 5;
      if (!hevc && type == 6) read_build(nal);
    });
    // Parameter sets sent along the way must be sent again here: a new decoder knows only those of the header.
    bool const knows_sets = !sets_seen_ || sets == (hevc ? 7u : 3u);
    sets_seen_ |= sets != 0;
    return key && random_access.value_or(false) && knows_sets;
  }
  std::int16_t x264_build() const { return x264_; }

 private:
  /// Calls f with each unit that is not empty, stored with lengths before or start codes between.
  template <class F>
  void for_each_nal(std::span<std::uint8_t const> data, F f) const {
    if (length_bytes_) {
      while (data.size() > length_bytes_) {
        std::size_t length = 0;
        for (std::size_t i = 0; i < length_bytes_; ++i) length = length << 8 | data[i];
        data = data.subspan(length_bytes_);
        length = std::min(length, data.size());
        if (length) f(data.first(length));
        data = data.subspan(length);
      }
      return;
    }
    static constexpr std::uint8_t start_code[] = {0, 0, 1};
    auto at = std::search(data.begin(), data.end(), std::begin(start_code), std::end(start_code));
    while (at != data.end()) {
      auto const begin = at + 3;
      at = std::search(begin, data.end(), std::begin(start_code), std::end(start_code));
      if (begin != at) f(std::span(begin, at));
    }
  }
  void read_build(std::span<std::uint8_t const> nal) {
    constexpr std::string_view mark = "x264 - core ";
    std::string_view const text(reinterpret_cast<char const*>(nal.data()), nal.size());
    if (auto const at = text.find(mark); at != text.npos)
      std::from_chars(text.data() + at + mark.size(), text.data() + text.size(), x264_);
  }

  decltype(ffmpeg::codec_parameters::codec_id) codec_;
  bool simple_ = false, sets_seen_ = false;
  std::size_t length_bytes_ = 0;
  std::int16_t x264_ = -1;
};

/// The packets of one stream, and the time that they cover.
struct stream_index {
  int stream = -1;
  int codec = 0;
  ffmpeg::rational time_base{};
  std::vector<packet_note> packets;
  double begin = std::numeric_limits<double>::infinity();  ///< seconds in the file's own time
  double end = -std::numeric_limits<double>::infinity();
  double first_time = std::numeric_limits<double>::quiet_NaN();  ///< of the first packet that has one
  double last_dts = -std::numeric_limits<double>::infinity();
  std::uint64_t print = fingerprint("");  ///< of the packets of the first seconds, their bytes included
  bool own_settings = true;               ///< all the decoder's settings are in the header: none come along the way

  explicit operator bool() const { return stream >= 0; }
  double seconds(std::int64_t time_stamp) const { return double(time_stamp) * av_q2d(time_base); }
};

/// Whether a stream is an image file's only picture.
inline bool is_still_image(ffmpeg::input const& in, stream_index const& pictures) {
  std::string_view const format = in->iformat->name;
  return (format.ends_with("_pipe") || format == "image2" || format == "gif") && pictures.packets.size() == 1;
}

/// The scan of a file: which streams are used and what packets they have, up to a little beyond the limit.
struct packet_index {
  stream_index video, sound;
  bool digests_bytes = false;  ///< digests are of the packets' bytes too: without a table a seek may cut them otherwise
  double zero = 0;             ///< the clip's clock begins here, in the file's own time

  // Of the first decoded block of sound.
  int sample_rate = 0, channels = 0;
  std::int64_t sound_origin = AV_NOPTS_VALUE;  ///< its time stamp

  /// Samples that each packet of sound gives, where decoding may begin at any packet and is right from the next one on,
  /// and time stamps count samples; else 0.
  int sound_block = 0;

  std::vector<std::int64_t> times;   ///< of pictures as presented, where every packet has a time stamp of its own
  std::vector<std::size_t> entries;  ///< packets at which decoding can begin, beside the first; empty with `times`
};

/// Reads packets until both streams are past the limit. Opens no video decoder; decodes sound up to its first block,
/// since only the decoder knows where sound begins (priming samples).
///
/// Errors  media_error: no video and no sound, or a budget is spent.
class packet_scan {
 public:
  packet_scan(ffmpeg::input& in, decode_limits const& limits) : in_(in), limits_(limits) {
    choose(index_.video, in.best(AVMEDIA_TYPE_VIDEO));
    choose(index_.sound, in.best(AVMEDIA_TYPE_AUDIO, index_.video.stream));
    for (unsigned i = 0; i < in->nb_streams; ++i)
      in.stream(int(i)).discard = used(int(i)) ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    if (!index_.video && !index_.sound) throw media_error({in.name(), "a video or sound stream", streams_found()});
    for (auto const* each : {&index_.video, &index_.sound})
      if (*each) index_.digests_bytes |= ffmpeg::index_entries(in.stream(each->stream)) == 0;
    if (index_.sound) sound_packets_known_ = ffmpeg::index_entries(in.stream(index_.sound.stream));
  }

  packet_index run() && {
    std::optional<entry_finder> entries;
    if (index_.video) entries.emplace(*in_.stream(index_.video.stream).codecpar);
    if (index_.sound) decoder_ = in_.decoder(index_.sound.stream);
    auto const packet = ffmpeg::make_packet();
    std::uint64_t bytes = 0, count = 0;
    while (!past_limit() && in_.read(*packet)) {
      if (!used(packet->stream_index)) continue;
      bytes += static_cast<std::uint64_t>(packet->size);
      require(++count <= limits_.packets, "at most " + std::to_string(limits_.packets) + " packets");
      require(bytes <= limits_.bytes, "at most " + std::to_string(limits_.bytes) + " bytes of packets");
      bool const is_video = packet->stream_index == index_.video.stream;
      auto& s = is_video ? index_.video : index_.sound;
      add(s, *packet, is_video && (*entries)(*packet), is_video ? entries->x264_build() : std::int16_t{-1});
      if (!is_video && decoder_) find_first_sound(packet.get());
    }
    if (decoder_) find_first_sound(nullptr);
    finish();
    return std::move(index_);
  }

 private:
  bool used(int stream) const { return stream == index_.video.stream || stream == index_.sound.stream; }
  void choose(stream_index& s, int stream) const {
    s.stream = stream;
    if (stream < 0) return;
    s.codec = in_.stream(stream).codecpar->codec_id;
    s.time_base = in_.stream(stream).time_base;
  }
  void require(bool within, std::string const& expected) const {
    if (!within) throw media_error({in_.name(), expected, "more (refused)"});
  }
  std::string streams_found() const {
    std::string found;
    for (unsigned i = 0; i < in_->nb_streams; ++i) {
      auto const* kind = av_get_media_type_string(in_.stream(int(i)).codecpar->codec_type);
      bool const cover = in_.stream(int(i)).disposition & AV_DISPOSITION_ATTACHED_PIC;
      found += (found.empty() ? "only " : ", ") + std::string(cover ? "cover art" : kind ? kind : "unknown data");
    }
    return found.empty() ? "no streams" : found;
  }

  /// A second more than the limit, so that reordered pictures and the resampler's look ahead are complete; a stream
  /// that ends early (or never begins) does not make us read a long file to its end.
  bool past_limit() const {
    if (limits_.seconds <= 0) return false;
    double const zero = std::min(index_.video.begin, index_.sound.begin);
    auto const beyond = [&](stream_index const& s, double margin) {
      return s.last_dts > zero + limits_.seconds + margin;
    };
    bool const both = (!index_.video || beyond(index_.video, 1)) && (!index_.sound || beyond(index_.sound, 1));
    return both || beyond(index_.video, 10) || beyond(index_.sound, 10);
  }

  void add(stream_index& s, ffmpeg::packet const& p, bool entry, std::int16_t x264) {
    bool const shown = !(p.flags & AV_PKT_FLAG_DISCARD), key = p.flags & AV_PKT_FLAG_KEY;
    for (auto kind : settings_of_packets)
      if (!ffmpeg::side_data(p, kind).empty() && (!s.packets.empty() || kind == AV_PKT_DATA_PALETTE))
        s.own_settings = false;
    auto const cut = ffmpeg::side_data(p, AV_PKT_DATA_SKIP_SAMPLES);
    auto const short_one = digest(p), whole = digest_of_bytes(p, short_one);
    // How far the scan reads beyond the limit hangs on how the streams are interleaved. Without a time one counts.
    auto const stamp = p.dts != AV_NOPTS_VALUE ? p.dts : p.pts;
    double const time = stamp != AV_NOPTS_VALUE ? s.seconds(stamp) : std::numeric_limits<double>::quiet_NaN();
    if (std::isnan(s.first_time)) s.first_time = time;
    if (limits_.seconds <= 0 || !(time >= s.first_time + limits_.seconds))
      s.print = fingerprint_of_number(whole, s.print);
    s.packets.push_back(
        {p.pts, stamp, index_.digests_bytes ? whole : short_one, x264, key, shown, entry, !cut.empty()});
    if (p.dts != AV_NOPTS_VALUE) s.last_dts = std::max(s.last_dts, s.seconds(p.dts));
    auto const time_stamp = p.pts != AV_NOPTS_VALUE ? p.pts : p.dts;
    if (!shown || time_stamp == AV_NOPTS_VALUE) return;
    s.begin = std::min(s.begin, s.seconds(time_stamp));
    bool const is_video = s.stream == index_.video.stream;
    double lasts = p.duration > 0 ? s.seconds(p.duration) : 0;
    if (!is_video && lasts > longest_pause) lasts = 0;  // a packet of sound that says so is damaged
    double end = s.seconds(time_stamp) + (is_video && lasts == 0 ? 1 / frame_rate(in_, s.stream) : lasts);
    if (!is_video) {
      last_sound_.reset(lasts == 0 ? av_packet_clone(&p) : nullptr);
      last_sound_time_ = s.seconds(time_stamp);
    }
    int const rate = in_.stream(s.stream).codecpar->sample_rate;
    if (cut.size() >= 8 && rate > 0) end -= double(AV_RL32(cut.data() + 4)) / rate;
    s.end = std::max(s.end, end);
  }

  /// Feeds the sound decoder (null: end of stream) until it gives its first block.
  void find_first_sound(ffmpeg::packet const* p) {
    auto const block = ffmpeg::make_frame();
    int code = avcodec_send_packet(decoder_.get(), p);
    if (code >= 0) code = avcodec_receive_frame(decoder_.get(), block.get());
    if (code < 0) return;
    low_complexity_ = ffmpeg::is_aac_lc(*decoder_);
    decoder_.reset();
    index_.sound_origin = block->best_effort_timestamp;
    index_.sample_rate = block->sample_rate;
    index_.channels = ffmpeg::channels(*block);
    if (block->best_effort_timestamp != AV_NOPTS_VALUE)
      index_.sound.begin = index_.sound.seconds(block->best_effort_timestamp);
    sound_begin_ = index_.sound.begin;
  }

  void finish() {
    auto& [video, sound, digests_bytes, zero, sample_rate, channels, origin, block, times, entries] = index_;
    if (sound) {
      sound.begin = std::isfinite(sound_begin_) ? sound_begin_ : 0;
      if (sample_rate == 0) sound = {};  // nothing in it can be decoded
      if (sound && last_sound_) sound.end = std::max(sound.end, last_sound_time_ + seconds_in(*last_sound_));
    }
    if (video && video.packets.empty()) video = {};
    if (video) video.begin = first_picture();
    if (video && !std::isfinite(video.begin)) {  // a bare stream without time stamps: pictures follow at the frame rate
      video.begin = 0;
      video.end = double(video.packets.size()) / frame_rate(in_, video.stream);
    }
    if (!video && !sound) throw media_error({in_.name(), "pictures or sound", "none that can be decoded"});
    zero = std::min(video.begin, sound.begin);
    for (auto* s : {&video, &sound}) {
      s->end = std::max(s->begin, s->end);
      if (*s && s->end - zero > 48 * 3600.0)
        throw media_error(
            {in_.name(), "at most 48 hours", std::to_string((s->end - zero) / 3600) + " hours (refused)"});
    }
    order_pictures();
    block = block_of_sound();
  }

  /// Seconds of sound in a packet that does not say so itself; 0 where the decoder gives nothing for it alone.
  double seconds_in(ffmpeg::packet const& p) const {
    auto const decoder = in_.decoder(index_.sound.stream, nullptr, false);
    auto const block = ffmpeg::make_frame();
    std::int64_t samples = 0;
    for (auto const* each : {&p, static_cast<ffmpeg::packet const*>(nullptr)}) {
      if (avcodec_send_packet(decoder.get(), each) < 0) break;
      while (avcodec_receive_frame(decoder.get(), block.get()) >= 0) samples += block->nb_samples;
    }
    return double(samples) / index_.sample_rate;
  }

  /// AAC-LC keeps nothing from one packet to the next but the half that overlaps. (So do others, but for AAC it pays.)
  /// The demuxer must know all packets from the outset, so that any seek of any input finds the same.
  int block_of_sound() const {
    constexpr int samples = 1024;
    auto const& s = index_.sound;
    bool const counts = s.time_base.num == 1 && s.time_base.den == index_.sample_rate;
    if (!low_complexity_ || !counts || !s.own_settings || sound_packets_known_ < s.packets.size()) return 0;
    auto const sane = [](std::int64_t stamp) {
      return stamp > -(std::int64_t{1} << 50) && stamp < std::int64_t{1} << 50;
    };
    if (!sane(index_.sound_origin) || !sane(s.packets.front().pts)) return 0;
    bool begun = false;
    for (std::size_t i = 0; i < s.packets.size(); ++i) {
      auto const& p = s.packets[i];
      if (!sane(p.pts) || (i > 0 && p.pts - s.packets[i - 1].pts != samples)) return 0;
      bool const whole = p.shown && !p.cut;
      if (begun && !whole && i + 1 < s.packets.size()) return 0;
      begun = begun || whole;
    }
    return index_.sound_origin >= s.packets.front().pts ? samples : 0;
  }

  /// Pictures before the first key frame, in file order or in time, lack what they refer to.
  double first_picture() const {
    auto const& packets = index_.video.packets;
    auto const key = std::find_if(packets.begin(), packets.end(), [](auto const& p) { return p.key; });
    if (key == packets.end() || key->pts == AV_NOPTS_VALUE) return index_.video.begin;
    auto first = std::numeric_limits<std::int64_t>::max();
    for (auto p = key; p != packets.end(); ++p)
      if (p->shown && p->pts != AV_NOPTS_VALUE && p->pts >= key->pts) first = std::min(first, p->pts);
    return first == std::numeric_limits<std::int64_t>::max() ? index_.video.begin : index_.video.seconds(first);
  }

  void order_pictures() {
    auto& times = index_.times;
    if (!index_.video || !index_.video.own_settings) return;
    for (auto const& p : index_.video.packets) {
      if (p.pts == AV_NOPTS_VALUE) return times.clear();
      if (p.shown) times.push_back(p.pts);
    }
    std::sort(times.begin(), times.end());
    if (std::adjacent_find(times.begin(), times.end()) != times.end()) return times.clear();
    for (std::size_t i = 1; i < index_.video.packets.size(); ++i)
      if (index_.video.packets[i].entry && index_.video.packets[i].shown) index_.entries.push_back(i);
  }

  ffmpeg::input& in_;
  decode_limits const& limits_;
  packet_index index_;
  ffmpeg::codec_ptr decoder_;
  double sound_begin_ = std::numeric_limits<double>::infinity();
  ffmpeg::packet_ptr last_sound_;  ///< if it does not say how long it lasts
  double last_sound_time_ = 0;
  bool low_complexity_ = false;          // AAC-LC
  std::size_t sound_packets_known_ = 0;  // to the demuxer, before any was read
};

}  // namespace detail
}  // namespace l3::inline L3_ISA
