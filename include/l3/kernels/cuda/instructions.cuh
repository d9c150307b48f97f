/// @file  include/l3/kernels/cuda/instructions.cuh: instructions of the GPU that C++ has no words for.
#pragma once
#include <cstdint>
#include <l3/core/bfloat16.hpp>
#include <l3/core/config.hpp>
#include <l3/core/cuda.cuh>

namespace l3::inline L3_ISA {
namespace detail::gpu {

#if defined(__CUDACC__)

__device__ inline std::uint32_t shared_address(void const* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}
/// Begins to copy 16 aligned bytes into shared memory, zeros if not `valid`: `global` is not read then. What a block
/// reads again soon stays in the first cache with `copy_async_kept`.
__device__ inline void copy_async_kept(void* shared, void const* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void copy_async(void* shared, void const* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
/// Zeros if `source` is negative, and nothing at all unless `left` is positive: where many such copies follow each
/// other, with what decides as numbers, for which there are more registers.
__device__ inline void copy_async_some(void* shared, void const* global, int source, int left) {
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.lt.s32 p, %2, 0;\nsetp.gt.s32 q, %3, 0;\n"
      "@q cp.async.cg.shared.global [%0], [%1], 16, p;\n}" ::"r"(shared_address(shared)),
      "l"(global), "r"(source), "r"(left)
      : "memory");
}
/// So that the compiler adds to what has been added up, and does not do all of it again each time.
template <class T>
__device__ inline T* added_up(T* p) {
  asm("" : "+l"(p));
  return p;
}
/// What was begun since the last time is a group.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `Left` groups of this thread's are on their way.
template <int Left>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}
/// Four matrices of 8 rows of 16 bytes; lane l names row l % 8 of matrix l / 8.
__device__ inline void load_matrices(unsigned (&r)[4], void const* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void load_matrices_transposed(unsigned (&r)[4], void const* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/// The way back, from sm_90 on: matrices of which lane l holds two neighbours of row l / 4, with rows for columns.
__device__ inline void store_matrices_transposed(void* row, unsigned const (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}
/// A matrix of 8 x 8 values of 16 bits, of which lane l holds two of row l / 4, with rows for columns.
__device__ inline unsigned transposed_matrix(unsigned x) {
  unsigned r;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(x));
  return r;
}
/// c += a b: 16 x 16 by 16 x 8 of bf16.
__device__ inline void multiply_bf16(float (&c)[4], unsigned const (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// c += a b: 16 x 8 by 8 x 8 of tf32.
__device__ inline void multiply_tf32(float (&c)[4], unsigned const (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline unsigned round_to_tf32(float x) {
  unsigned r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
}
/// The two as bfloat16, `low` in the lower half.
__device__ inline unsigned packed(float low, float high) {
  unsigned r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// Products of warpgroups, of sm_90a alone: four warps each begin one, and go on while it is made.
// As calls they would each be waited for.

/// What this thread has written to shared memory can be seen by products that are begun behind a barrier.
__device__ __forceinline__ void show_to_groups() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
/// Sums have been written; products may be begun.
__device__ __forceinline__ void begin_group_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// What was begun since the last time is a group.
__device__ __forceinline__ void commit_group_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most `Left` groups of this warpgroup's are going on.
template <int Left>
__device__ __forceinline__ void wait_group_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
}
/// All four warps take as many registers a thread as these, or give back what is more, for who has too few: a kernel
/// begins with as many for all as its launch bounds allow.
template <int Count>
__device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}
template <int Count>
__device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}
/// The compiler, which does not know that products go on, keeps what it does to sums on its side of this.
template <int RowBlocks, int Blocks>
__device__ __forceinline__ void hold(float (&c)[RowBlocks][Blocks][4]) {
#pragma unroll
  for (int r = 0; r < RowBlocks; ++r)
#pragma unroll
    for (int n = 0; n < Blocks; ++n)
#pragma unroll
      for (int k = 0; k < 4; ++k) asm volatile("" : "+f"(c[r][n][k])::"memory");
}
/// Begins c += a b: 64 x 16 by 16 x (8 Blocks) of bf16, both in shared memory where the descriptors say; `Across`: rows
/// there run across the sum.
template <bool Across, int Blocks>
__device__ __forceinline__ void multiply_groups(float (&c)[Blocks][4], std::uint64_t a, std::uint64_t b) {
#define L3_TEN(t) "%" t "0, %" t "1, %" t "2, %" t "3, %" t "4, %" t "5, %" t "6, %" t "7, %" t "8, %" t "9, "
#define L3_BLOCK(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define L3_BLOCKS(n)                                                                                                 \
  L3_BLOCK(n), L3_BLOCK(n + 1), L3_BLOCK(n + 2), L3_BLOCK(n + 3), L3_BLOCK(n + 4), L3_BLOCK(n + 5), L3_BLOCK(n + 6), \
      L3_BLOCK(n + 7)
#define L3_MULTIPLY(columns, sums, a, b, across)                                                                 \
  "{\n.reg .pred p;\nsetp.ne.u32 p, 1, 0;\nwgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" sums \
  "}, " a ", " b ", p, 1, 1, " across ", " across ";\n}"
  if constexpr (Blocks == 8) {
    asm volatile(L3_MULTIPLY("64", L3_TEN("") L3_TEN("1") L3_TEN("2") "%30, %31", "%32", "%33", "%34")
                 : L3_BLOCKS(0)
                 : "l"(a), "l"(b), "n"(Across ? 1 : 0));
  } else if constexpr (Blocks == 16) {
    asm volatile(
        L3_MULTIPLY("128", L3_TEN("") L3_TEN("1") L3_TEN("2") L3_TEN("3") L3_TEN("4") L3_TEN("5") "%60, %61, %62, %63",
                    "%64", "%65", "%66")
        : L3_BLOCKS(0), L3_BLOCKS(8)
        : "l"(a), "l"(b), "n"(Across ? 1 : 0));
  } else if constexpr (Blocks == 24) {
    asm volatile(L3_MULTIPLY("192",
                             L3_TEN("") L3_TEN("1") L3_TEN("2") L3_TEN("3") L3_TEN("4") L3_TEN("5") L3_TEN("6")
                                 L3_TEN("7") L3_TEN("8") "%90, %91, %92, %93, %94, %95",
                             "%96", "%97", "%98")
                 : L3_BLOCKS(0), L3_BLOCKS(8), L3_BLOCKS(16)
                 : "l"(a), "l"(b), "n"(Across ? 1 : 0));
  } else {
    static_assert(Blocks == 32);
    asm volatile(L3_MULTIPLY("256",
                             L3_TEN("") L3_TEN("1") L3_TEN("2") L3_TEN("3") L3_TEN("4") L3_TEN("5") L3_TEN("6")
                                 L3_TEN("7") L3_TEN("8") L3_TEN("9") L3_TEN("10")
                                     L3_TEN("11") "%120, %121, %122, %123, %124, %125, %126, %127",
                             "%128", "%129", "%130")
                 : L3_BLOCKS(0), L3_BLOCKS(8), L3_BLOCKS(16), L3_BLOCKS(24)
                 : "l"(a), "l"(b), "n"(Across ? 1 : 0));
  }
#undef L3_TEN
#undef L3_BLOCK
#undef L3_BLOCKS
#undef L3_MULTIPLY
}

#else  // tests/support/cuda_emulation

inline void copy_async(void* shared, void const* global, bool valid) { emulated::copy_async(shared, global, valid); }
inline void copy_async_kept(void* shared, void const* global, bool valid) {
  emulated::copy_async(shared, global, valid);
}
inline void copy_async_some(void* shared, void const* global, int source, int left) {
  if (left > 0) emulated::copy_async(shared, global, source >= 0);
}
template <class T>
T* added_up(T* p) {
  return p;
}
inline void commit_copies() { emulated::commit_copies(); }
template <int Left>
void wait_copies() {
  emulated::wait_copies(Left);
}
inline void load_matrices(unsigned (&r)[4], void const* row) { emulated::load_matrices<false>(r, row); }
inline void load_matrices_transposed(unsigned (&r)[4], void const* row) { emulated::load_matrices<true>(r, row); }
inline void store_matrices_transposed(void* row, unsigned const (&r)[4]) {
  emulated::store_matrices_transposed(row, r);
}
inline unsigned transposed_matrix(unsigned x) { return emulated::transposed_matrix(x); }
inline void multiply_bf16(float (&c)[4], unsigned const (&a)[4], unsigned b0, unsigned b1) {
  emulated::multiply<true>(c, a, b0, b1);
}
inline void multiply_tf32(float (&c)[4], unsigned const (&a)[4], unsigned b0, unsigned b1) {
  emulated::multiply<false>(c, a, b0, b1);
}
inline unsigned round_to_tf32(float x) { return emulated::round_to_tf32(x); }
inline unsigned packed(float low, float high) {
  return static_cast<unsigned>(bfloat16(low).bits) | static_cast<unsigned>(bfloat16(high).bits) << 16;
}
inline std::uint32_t shared_address(void const* p) { return emulated::shared_address(p); }
template <int Count>
void more_registers() {}
template <int Count>
void fewer_registers() {}
inline void show_to_groups() { emulated::show_to_groups(); }
inline void begin_group_products() { emulated::begin_group_products(); }
inline void commit_group_products() { emulated::commit_group_products(); }
template <int Left>
void wait_group_products() {
  emulated::wait_group_products(Left);
}
template <int RowBlocks, int Blocks>
void hold(float (&/*c*/)[RowBlocks][Blocks][4]) {}
template <bool Across, int Blocks>
void multiply_groups(float (&c)[Blocks][4], std::uint64_t a, std::uint64_t b) {
  emulated::multiply_groups(c[0], Blocks, Across, a, b);
}

#endif

/// The float that bits spell.
__device__ inline float as_float(unsigned bits) { return std::bit_cast<float>(bits); }
__device__ inline unsigned as_bits(float x) { return std::bit_cast<unsigned>(x); }

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
