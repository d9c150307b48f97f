/// @file  include/l3/kernels/dims.hpp: the plain sizes and settings that kernels take; made by layers, not checked
/// again.
#pragma once
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/core/pairing.hpp>
#include <l3/core/shape.hpp>
#include <limits>

namespace l3::inline L3_ISA {

/// A 3x3 convolution, stride 1, one pixel of zeros around: height and width stay.
struct conv_dims {
  std::size_t batch, height, width, in, out;
  constexpr std::size_t rows() const { return batch * height * width; }
  constexpr double flops() const { return 18.0 * static_cast<double>(rows()) * static_cast<double>(in * out); }
};

/// Windows over an image. A 1x1 window with stride 1 pools nothing.
struct pool_dims {
  std::size_t batch, height, width, channels;
  extent2 window, stride;
  constexpr std::size_t out_height() const { return (height - window.height) / stride.height + 1; }
  constexpr std::size_t out_width() const { return (width - window.width) / stride.width + 1; }
  constexpr std::size_t rows() const { return batch * height * width; }
};

/// A matrix product with weights (out, in). Weight rows lie `weight_stride` apart: a layer may use part of each row.
struct dense_dims {
  std::size_t batch, in, out;
  std::size_t weight_stride = in;
};

/// What happens in inference to a convolution's sums on their way to memory, so that it costs no pass of its own: a
/// bias or the shift of a folded batch norm, `sum + shift[c]` unless null; max(., 0); and the largest of each 2x2
/// window side by side, which halves height and width and drops an odd last line. Columns from
/// `wanted_columns` on may be left unwritten where that is quicker.
template <class S>
struct epilogue {
  S const* shift = nullptr;
  bool relu = false;
  bool pool = false;
  std::size_t wanted_columns = std::numeric_limits<std::size_t>::max();
};

/// Which of a convolution's maps in inference are *packed*: in the backend's own form, which the next convolution reads
/// as it is. Where backends have one, their scratch_size says so.
struct packing {
  bool x = false, y = false;
};

/// Batch norm as its backward pass needs it, each with one value a channel.
template <class S>
struct norm_state {
  S const* mean;
  S const* inverse_std;  ///< 1 / sqrt(variance + epsilon)
  S const* gamma;
  S const* beta;
};

/// The fusion head after its first layer was split in a visual and an audio half: `batch` frames, and as many sounds
/// or, where all meet all, any number.
struct pair_dims {
  std::size_t batch, hidden, classes;
  pairing which;
  std::size_t other_sounds = 0;  ///< where there are more sounds than frames: how many more
  constexpr std::size_t sounds() const { return batch + other_sounds; }
  constexpr std::size_t rows() const { return which == pairing::all ? batch * sounds() : batch; }
  constexpr std::size_t frame(std::size_t row) const { return which == pairing::all ? row / sounds() : row; }
  constexpr std::size_t sound(std::size_t row) const { return which == pairing::all ? row % sounds() : row; }
};

/// One step of Adam or AdamW. Source: torch.optim.Adam, Kingma & Ba (2015), Loshchilov & Hutter (2019).
struct adam_settings {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;    ///< outside the root
  double weight_decay = 0;  ///< added to the gradient (Adam) or taken off the weight (AdamW)
  bool decoupled = false;   ///< true: AdamW
  std::uint64_t step = 1;   ///< counts from 1
};

}  // namespace l3::inline L3_ISA
