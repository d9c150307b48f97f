/// @file  bench/kernels/conv_layers.hpp: the convolutions of the paper's network, to time each by itself.
#pragma once
#include <l3/kernels/dims.hpp>

namespace l3::bench {

/// A convolution by its subnetwork, block and place there.
struct conv_layer {
  char const* name;
  conv_dims d;
};

/// One item of each. The first of a subnetwork, `..1_1`, sees colours or a spectrogram.
inline constexpr conv_layer paper_layers[] = {
    {"vision1_1", {1, 224, 224, 3, 64}},    {"vision1_2", {1, 224, 224, 64, 64}}, {"vision2_1", {1, 112, 112, 64, 128}},
    {"vision2_2", {1, 112, 112, 128, 128}}, {"vision3_1", {1, 56, 56, 128, 256}}, {"vision3_2", {1, 56, 56, 256, 256}},
    {"vision4_1", {1, 28, 28, 256, 512}},   {"vision4_2", {1, 28, 28, 512, 512}}, {"audio1_1", {1, 257, 199, 1, 64}},
    {"audio1_2", {1, 257, 199, 64, 64}},    {"audio2_1", {1, 128, 99, 64, 128}},  {"audio2_2", {1, 128, 99, 128, 128}},
    {"audio3_1", {1, 64, 49, 128, 256}},    {"audio3_2", {1, 64, 49, 256, 256}},  {"audio4_1", {1, 32, 24, 256, 512}},
    {"audio4_2", {1, 32, 24, 512, 512}},
};

}  // namespace l3::bench
