/// @file  include/l3/kernels/cuda/warpgroups.cuh: tiles in shared memory as the products of warpgroups read them, on a
/// Hopper GPU.
///
/// A warpgroup is four warps. Its product has 64 rows, 16 to a warp, and all of the tile's columns; a lane holds of
/// each block of 8 columns what products.cuh says. Both operands are read from shared memory, where a descriptor of 64
/// bits says how they lie.
#pragma once
#include <cstddef>
#include <cstdint>
#include <l3/kernels/cuda/instructions.cuh>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// Chunks are exchanged in a pattern that repeats after so many bytes, counted from the beginning of shared memory: 8
/// rows of 128 bytes, where chunk c of row r lies in place c ^ r.
inline constexpr unsigned swizzle_bytes = 1024;

/// A block's dynamic shared memory from where a pattern begins. Who takes it asks for swizzle_bytes more.
__device__ inline char* swizzled_memory() {
  char* const all = shared_memory<char>();
  return all + (0u - shared_address(all)) % swizzle_bytes;
}

/// Rows of 16-byte chunks, 8 chunks wide; of wider ones the next 8 chunks of all rows lie behind. `base` is where a
/// pattern begins.
template <int Rows>
struct swizzled_tile {
  static_assert(Rows % 8 == 0);
  static constexpr int row_bytes = 128, piece_bytes = 128 * Rows;  ///< to the next row, and to the next 8 chunks
  char* base;

  __device__ char* at(int row, int chunk) const {
    return base + chunk / 8 * piece_bytes + row * row_bytes + ((chunk & 7) ^ (row & 7)) * 16;
  }
  /// An operand whose rows run along the sum: rows from `first` on; terms from `chunk` on. That may be in the midst of
  /// a pattern: chunks are exchanged by where they lie in shared memory (bits 7 to 9 of the address), not in the
  /// operand, and the descriptor's base offset stays 0, as patterns begin where they do. (Of that, and of `shifted`,
  /// see warpgroup_rows.cuh.)
  __device__ std::uint64_t straight(int first, int chunk) const {
    return begin(16) + static_cast<unsigned>(first * 8 + chunk);  // (the distance has no meaning here)
  }
  /// One whose rows run across it: columns from `first`, a multiple of 64, on; terms from `term`, one of 8, on.
  __device__ std::uint64_t across(int first, int term) const {
    return begin(piece_bytes) + static_cast<unsigned>((first / 64 * piece_bytes + term * row_bytes) / 16);
  }
  /// The same of rows of 64 columns, from any term on, several times beside each other: the first 64 columns have the
  /// terms from `term` on, the next 64 those from term + 1 on, and so forth, since the next columns are said to lie one
  /// row further on. Groups of 8 terms are swizzle_bytes apart, as many as 8 rows have, so term t of shift s is row
  /// term + t + s wherever in a pattern the first one lies: 16 terms then come from three patterns. Its chunks are
  /// found as `straight` says.
  __device__ std::uint64_t shifted(int term) const {
    return begin(row_bytes) + static_cast<unsigned>(term * row_bytes / 16);
  }

 private:
  /// The whole tile's; what begins further on is so many chunks more, and that never carries into the next field.
  /// Bits 0 to 13 say where it begins, 16 to 29 how far it is to the next 64 columns, 32 to 45 to the next 8 rows, in
  /// units of 16 bytes; 62 and 63 which pattern it is.
  __device__ std::uint64_t begin(unsigned columns_apart) const {
    return std::uint64_t{(shared_address(base) & 0x3FFFFu) >> 4} | std::uint64_t{columns_apart >> 4} << 16 |
           std::uint64_t{swizzle_bytes >> 4} << 32 | std::uint64_t{1} << 62;
  }
};

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
