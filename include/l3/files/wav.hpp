/// @file  include/l3/files/wav.hpp: sound -> the bytes of a WAV file, which every player and browser reads.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <span>
#include <string>

namespace l3::inline L3_ISA {

/// Mono sound as a WAV file of 16 bits a sample: rounded to nearest, clipped at full scale.
///
/// Units   samples of full scale 1 at `rate` Hz.
/// Source  RIFF WAVE, format 1 (PCM).
inline std::string wav_of(std::span<float const> samples, std::uint32_t rate) {
  std::string out;
  auto const number = [&](std::uint32_t value, int bytes) {
    for (int k = 0; k < bytes; ++k) out += static_cast<char>(value >> (8 * k) & 0xFF);
  };
  auto const bytes = static_cast<std::uint32_t>(2 * samples.size());
  out += "RIFF", number(36 + bytes, 4), out += "WAVEfmt ";
  number(16, 4), number(1, 2), number(1, 2), number(rate, 4), number(2 * rate, 4), number(2, 2), number(16, 2);
  out += "data", number(bytes, 4);
  for (float const x : samples)
    number(static_cast<std::uint32_t>(std::lrint(std::clamp(x * 32768.0f, -32768.0f, 32767.0f))), 2);
  return out;
}

}  // namespace l3::inline L3_ISA
