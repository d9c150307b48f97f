/// @file  include/l3/core/config.hpp: what depends on the compiler and its flags.
#pragma once

/// Everything l3 defines lives in the inline namespace named by the instruction set it was compiled for. Two
/// translation units built for different ones of these (a dispatching program does that) share no symbol of l3's.
/// (They do share inline functions of the standard library and others, see docs/architecture.md.) Users write
/// `l3::name` as if it were not there. L3_ARCH_TAG is the set as kernels are written for it; bf16 products come on top.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define L3_ARCH_TAG avx512
#if defined(__AVX512BF16__) && defined(__AMX_BF16__)
#define L3_ISA avx512_bf16_amx
#define L3_ISA_NAME "avx512 with bf16 and amx"
#elif defined(__AVX512BF16__) && defined(__AVX512VBMI2__)
#define L3_ISA avx512_vbmi2_bf16
#define L3_ISA_NAME "avx512 with bf16"
#elif defined(__AVX512BF16__)
#define L3_ISA avx512_bf16
#define L3_ISA_NAME "avx512 with bf16"
#elif defined(__AVX512VBMI2__)
#define L3_ISA avx512_vbmi2
#define L3_ISA_NAME "avx512"
#elif defined(__AVX512VNNI__)
#define L3_ISA avx512_vnni
#define L3_ISA_NAME "avx512"
#else
#define L3_ISA avx512
#define L3_ISA_NAME "avx512"
#endif
#elif defined(__AVX2__) && defined(__FMA__)
#define L3_ARCH_TAG avx2
#define L3_ISA_NAME "avx2"
#if defined(__AVX512BW__)  // a part of AVX-512, which the compiler may use
#define L3_ISA avx2_avx512bw
#elif defined(__AVX512F__)
#define L3_ISA avx2_avx512f
#else
#define L3_ISA avx2
#endif
#else
#define L3_ARCH_TAG generic
#define L3_ISA_NAME "generic"
// Its registers are those that the flags allow.
#if defined(__AVX512BW__)
#define L3_ISA generic_avx512bw
#elif defined(__AVX512F__)
#define L3_ISA generic_avx512f
#elif defined(__AVX2__)
#define L3_ISA generic_avx2
#elif defined(__AVX__) && defined(__FMA__)
#define L3_ISA generic_avx_fma
#elif defined(__AVX__) && defined(__FMA4__)
#define L3_ISA generic_avx_fma4
#elif defined(__AVX__)
#define L3_ISA generic_avx
#elif defined(__SSE4_2__)
#define L3_ISA generic_sse4_2
#elif defined(__SSE4_1__)
#define L3_ISA generic_sse4_1
#elif defined(__SSSE3__)
#define L3_ISA generic_ssse3
#elif defined(__SSE3__)
#define L3_ISA generic_sse3
#else
#define L3_ISA generic
#endif
#endif

// Training stops at what is not a number, and files that hold such are refused: the compiler must know that there is.
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "l3 looks for numbers that are not finite, which -ffast-math and -Ofast leave out: add -fno-finite-math-only"
#endif

#if defined(__GNUC__) || defined(__clang__)
/// Promise that pointers so marked do not overlap, so that loops over them vectorise.
#define L3_RESTRICT __restrict__
/// Kernels that only pay when their caller's constants reach them.
#define L3_INLINE inline __attribute__((always_inline))
#else
#define L3_RESTRICT
#define L3_INLINE inline
#endif

#if defined(__CUDACC__)
/// Code for the processor and the GPU alike.
#define L3_HOST_DEVICE __host__ __device__
/// A CUDA compiler reads this unit: kernels.hpp opens the door to the GPU's kernels instead of the SIMD ones, which it
/// cannot read.
#define L3_CUDA 1
#else
#define L3_HOST_DEVICE
#if !defined(L3_CUDA)  // tests that emulate a GPU define it as 1
#define L3_CUDA 0
#endif
#endif
