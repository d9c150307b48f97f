/// @file  include/l3/kernels/cpu/amx.hpp: matrix products in bf16 on the matrix registers of processors with Intel AMX;
/// the only header that names them.
///
/// A matrix register holds 16 rows of 64 bytes. One instruction multiplies 16 x 32 factors by 32 x 16 others and adds
/// the 16 x 16 sums in float: sixteen times what an AVX-512 instruction does. A program asks the system for these
/// registers once; each thread says how it will use them, and gives them back, for the system saves them at every
/// change of threads.
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <l3/core/backend.hpp>
#include <l3/kernels/cpu/simd.hpp>
#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define L3_AMX 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define L3_AMX 0
#endif

namespace l3::inline L3_ISA {
namespace detail {

/// Whether this build has matrix products for instruction set A in precision P.
template <class A, class P>
inline constexpr bool has_matrix_products =
    L3_AMX != 0 && std::same_as<A, arch::avx512>&& std::same_as<P, bf16> && !is_plain<lanes<A>>;

/// Factors of one step of a sum: the 32 of a row.
inline constexpr std::size_t matrix_depth = 32;
/// Rows of a matrix register.
inline constexpr std::size_t matrix_rows = 16;

#if L3_AMX

/// Whether the processor has matrix registers and the system lets this process use them; asked once.
inline bool matrix_products_work() {
  static bool const yes = [] {
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    // By the instruction itself: clang 18's __builtin_cpu_supports does not know the name.
    constexpr unsigned leaf = 7, amx = 1u << 22 | 1u << 24;  // AMX-BF16, AMX-TILE
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(leaf, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & amx) == amx &&
           ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return yes;
}

/// This thread uses matrix registers, all of 16 rows of 64 bytes, while this lives.
class matrix_registers {
 public:
  matrix_registers() {
    if (!matrix_products_work()) return;
    // Static: the compiler believes that the instruction reads eight bytes, and would leave the others unwritten.
    static constexpr struct {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    static_assert(sizeof shape == 64);
    _tile_loadconfig(&shape);
  }
  matrix_registers(matrix_registers const&) = delete;
  matrix_registers& operator=(matrix_registers const&) = delete;
  ~matrix_registers() {
    if (matrix_products_work()) _tile_release();
  }
};

/// The compiler must not move stores across: it does not know that these instructions read memory.
L3_INLINE void memory_is_read() { asm volatile("" ::: "memory"); }

/// y[r][o] = sum over k of x[r][k] w[k][o] for `rows` rows, rounded up to whole registers, and 32 outputs.
///
/// Shapes  x [block][row][32]: factors of one row side by side, blocks `x_block` values apart;
///         w [block][16][32][2]: two steps of the sum side by side;  y rows are `y_row` floats apart.
L3_INLINE void multiply_matrices(bfloat16 const* x, std::size_t x_block, std::size_t blocks, bfloat16 const* w,
                                 float* y, std::size_t y_row, std::size_t rows) {
  constexpr std::size_t line = 64, half = matrix_rows * matrix_depth, outputs = 32;
  auto const y_bytes = y_row * sizeof(float);
  memory_is_read();
  for (std::size_t r = 0; r < rows; r += 2 * matrix_rows, x += 2 * half, y += 2 * matrix_rows * y_row) {
    bool const both = rows - r > matrix_rows;
    _tile_zero(0);
    _tile_zero(1);
    if (both) {
      _tile_zero(2);
      _tile_zero(3);
    }
    for (std::size_t b = 0; b < blocks; ++b) {
      bfloat16 const* const here = w + b * matrix_depth * outputs;
      _tile_loadd(4, x + b * x_block, line);
      _tile_loadd(6, here, 2 * line);
      _tile_loadd(7, here + outputs, 2 * line);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if (both) {
        _tile_loadd(5, x + b * x_block + half, line);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, y, y_bytes);
    _tile_stored(1, y + matrix_rows, y_bytes);
    if (both) {
      _tile_stored(2, y + matrix_rows * y_row, y_bytes);
      _tile_stored(3, y + matrix_rows * y_row + matrix_rows, y_bytes);
    }
  }
}

/// Adds to sums[r][o], or begins with, the sum over k of x[r][k] y[k][o] for 16 rows, or with a second block of x for
/// 32, and 32 outputs.
///
/// Shapes  x0, x1 [step][16][32]; y0, y1 [step][16][16][2], each 16 outputs; sums rows of 32.
L3_INLINE void add_matrix_products(bfloat16 const* x0, bfloat16 const* x1, bfloat16 const* y0, bfloat16 const* y1,
                                   std::size_t steps, bool first, float* sums) {
  constexpr std::size_t line = 64, half = matrix_rows * matrix_depth, outputs = 32;
  float* const lower = sums + matrix_rows * outputs;
  memory_is_read();
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, 2 * line);
    _tile_loadd(1, sums + matrix_rows, 2 * line);
    if (x1 != nullptr) {
      _tile_loadd(2, lower, 2 * line);
      _tile_loadd(3, lower + matrix_rows, 2 * line);
    }
  }
  for (std::size_t s = 0; s < steps; ++s) {
    _tile_loadd(4, x0 + s * half, line);
    _tile_loadd(6, y0 + s * half, line);
    _tile_loadd(7, y1 + s * half, line);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (x1 != nullptr) {
      _tile_loadd(5, x1 + s * half, line);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, 2 * line);
  _tile_stored(1, sums + matrix_rows, 2 * line);
  if (x1 != nullptr) {
    _tile_stored(2, lower, 2 * line);
    _tile_stored(3, lower + matrix_rows, 2 * line);
  }
}

/// [16][16][2] -> [16][16][2], the first two axes exchanged, in place: what lies [step / 2][row][step % 2] becomes rows
/// of 32 steps.
inline void exchange_axes(bfloat16* pairs) {
  __m512i r[16], t[16];
  for (int k = 0; k < 16; ++k) r[k] = _mm512_loadu_si512(pairs + 32 * k);
  for (int k = 0; k < 16; k += 2) {
    t[k] = _mm512_unpacklo_epi32(r[k], r[k + 1]);
    t[k + 1] = _mm512_unpackhi_epi32(r[k], r[k + 1]);
  }
  for (int k = 0; k < 16; k += 4)
    for (int h = 0; h < 2; ++h) {
      r[k + 2 * h] = _mm512_unpacklo_epi64(t[k + h], t[k + h + 2]);
      r[k + 2 * h + 1] = _mm512_unpackhi_epi64(t[k + h], t[k + h + 2]);
    }
  // r[4 q + j] has, in each quarter L, rows 4 q to 4 q + 3 of column 4 L + j.
  for (int j = 0; j < 4; ++j) {
    auto const low0 = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x44), high0 = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xEE);
    auto const low1 = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x44),
               high1 = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xEE);
    _mm512_storeu_si512(pairs + 32 * j, _mm512_shuffle_i32x4(low0, low1, 0x88));
    _mm512_storeu_si512(pairs + 32 * (4 + j), _mm512_shuffle_i32x4(low0, low1, 0xDD));
    _mm512_storeu_si512(pairs + 32 * (8 + j), _mm512_shuffle_i32x4(high0, high1, 0x88));
    _mm512_storeu_si512(pairs + 32 * (12 + j), _mm512_shuffle_i32x4(high0, high1, 0xDD));
  }
}

#endif

/// matrix_registers where a build has them, and nothing elsewhere.
template <class A, class P>
struct matrix_scope {
  matrix_scope() {}
};
#if L3_AMX
template <class A, class P>
requires(has_matrix_products<A, P>) struct matrix_scope<A, P> : matrix_registers {
};
#endif

}  // namespace detail
}  // namespace l3::inline L3_ISA
