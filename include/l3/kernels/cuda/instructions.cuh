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

#else  // tests/support/cuda_emulation

inline void copy_async(void* shared, void const* global, bool valid) { emulated::copy_async(shared, global, valid); }
inline void copy_async_kept(void* shared, void const* global, bool valid) {
  emulated::copy_async(shared, global, valid);
}
inline void commit_copies() { emulated::commit_copies(); }
template <int Left>
void wait_copies() {
  emulated::wait_copies(Left);
}
inline void load_matrices(unsigned (&r)[4], void const* row) { emulated::load_matrices<false>(r, row); }
inline void load_matrices_transposed(unsigned (&r)[4], void const* row) { emulated::load_matrices<true>(r, row); }
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

#endif

/// The float that bits spell.
__device__ inline float as_float(unsigned bits) { return std::bit_cast<float>(bits); }
__device__ inline unsigned as_bits(float x) { return std::bit_cast<unsigned>(x); }

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
