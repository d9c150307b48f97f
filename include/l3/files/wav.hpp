/// @file  include/l3/files/wav.hpp: sound -> the bytes of a WAV file, which every player and browser reads.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <l3/core/config.hpp>
#include <span>
#include <string>

namespace l3::inline L3_ISA {
namespace detail {

inline constexpr std::size_t wav_header_bytes = 44;

/// What stands before so many samples. Source  RIFF WAVE, format 1 (PCM), one channel of 16 bits.
inline std::string wav_header(std::size_t samples, std::uint32_t rate) {
  std::string out;
  auto const number = [&](std::uint32_t value, int bytes) {
    for (int k = 0; k < bytes; ++k) out += static_cast<char>(value >> (8 * k) & 0xFF);
  };
  auto const bytes = static_cast<std::uint32_t>(2 * samples);
  out += "RIFF", number(36 + bytes, 4), out += "WAVEfmt ";
  number(16, 4), number(1, 2), number(1, 2), number(rate, 4), number(2 * rate, 4), number(2, 2), number(16, 2);
  out += "data", number(bytes, 4);
  return out;
}

/// Samples of full scale 1 -> 16 bits, two bytes each: rounded to nearest, clipped at full scale.
inline void put_samples_16(std::span<float const> samples, void* to) {
  for (auto* at = static_cast<char*>(to); float const x : samples) {
    auto const bits = static_cast<std::int16_t>(std::lrint(std::clamp(x * 32768.0f, -32768.0f, 32767.0f)));
    std::memcpy(at, &bits, sizeof bits);
    at += sizeof bits;
  }
}

}  // namespace detail

/// Mono sound as a WAV file of 16 bits a sample.
///
/// Units   samples of full scale 1 at `rate` Hz.
inline std::string wav_of(std::span<float const> samples, std::uint32_t rate) {
  std::string out = detail::wav_header(samples.size(), rate);
  out.resize(detail::wav_header_bytes + 2 * samples.size());
  detail::put_samples_16(samples, out.data() + detail::wav_header_bytes);
  return out;
}

}  // namespace l3::inline L3_ISA
