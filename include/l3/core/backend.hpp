/// @file  include/l3/core/backend.hpp: which kernels do the work: tags that name types and pick overloads.
#pragma once
#include <concepts>
#include <l3/core/bfloat16.hpp>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <type_traits>

namespace l3::inline L3_ISA {

/// Plain loops in the given precision: the textbook, and the judge of every fast backend.
template <std::floating_point Scalar = float>
struct reference {
  using scalar = Scalar;
  static constexpr char const* name = sizeof(Scalar) == 8 ? "reference (double)" : "reference";
};

/// Instruction sets the SIMD backend is written for.
namespace arch {
struct generic {
  static constexpr char const* name = "generic";
};
struct avx2 {
  static constexpr char const* name = "avx2";
};
struct avx512 {
  static constexpr char const* name = "avx512";
};
/// The best set that the compile flags of this translation unit allow.
using best = L3_ARCH_TAG;
}  // namespace arch

/// Arithmetic of the products inside a backend; weights are float all the same.
struct fp32 {
  static constexpr char const* name = "fp32";
};
/// Factors rounded to 8 significant bits, sums in float: twice as many products an instruction, on processors with
/// AVX512_BF16. Convolutions of many channels multiply so, and training stores convolutions' maps so; all else stays
/// fp32.
struct bf16 {
  static constexpr char const* name = "bf16";
};

/// Factors rounded to 11 significant bits, sums in float: what matrix units of GPUs offer for numbers that are stored
/// as float.
struct tf32 {
  static constexpr char const* name = "tf32";
};

/// The SIMD path on the processor.
template <class Arch = arch::best, class Precision = fp32>
struct simd {
  using scalar = float;
  using kept = std::conditional_t<std::same_as<Precision, bf16>, bfloat16, float>;
  using precision = Precision;
  static constexpr char const* name = Arch::name;
};

/// The backend to use on a processor: the best instruction set the compile flags allow.
using cpu = simd<>;

/// The path on an NVIDIA GPU (component l3::cuda): with bf16, values between layers are stored so too; parameters,
/// their gradients, statistics and scores are float always.
template <class Precision = bf16>
struct cuda {
  using scalar = float;
  using value = std::conditional_t<std::same_as<Precision, bf16>, bfloat16, float>;
  using precision = Precision;
  static constexpr char const* name = "cuda";
};

/// A tag type that names a backend.
template <class B>
concept backend = requires {
  typename B::scalar;
  { B::name } -> std::convertible_to<char const*>;
};

/// What a backend's parameters, their gradients, statistics and scores are.
template <backend B>
using scalar_of = typename B::scalar;

namespace detail {
template <class B>
struct value_type {
  using type = typename B::scalar;
};
template <class B>
requires requires { typename B::value; }
struct value_type<B> {
  using type = typename B::value;
};
template <class B>
struct kept_type : value_type<B> {};
template <class B>
requires requires { typename B::kept; }
struct kept_type<B> {
  using type = typename B::kept;
};
}  // namespace detail

/// What a backend's values between layers are, and their gradients: its scalars, unless it names a `value` of its own.
template <backend B>
using value_of = typename detail::value_type<B>::type;

/// What a backend stores in training of a convolution that batch norm follows, its output and that one's gradient, and
/// what two such layers pass each other: its values, unless it names a `kept` of its own.
template <backend B>
using kept_of = typename detail::kept_type<B>::type;

/// Throws device_error, naming what is missing, when this processor cannot run code built for `arch::best`.
/// Programs call it first thing in main, before any vectorised code runs.
inline void require_processor() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
#define L3_NEED(feature)                                                                                             \
  if (!__builtin_cpu_supports(feature))                                                                              \
  throw device_error({"this processor", "the instruction set " feature " (this build of l3 is for " L3_ISA_NAME ")", \
                      "a processor without it; build with -DL3_ARCH=native"})
#if defined(__SSE3__)
  L3_NEED("sse3");
#endif
#if defined(__SSSE3__)
  L3_NEED("ssse3");
#endif
#if defined(__SSE4_1__)
  L3_NEED("sse4.1");
#endif
#if defined(__SSE4_2__)
  L3_NEED("sse4.2");
#endif
#if defined(__AVX__)
  L3_NEED("avx");
#endif
#if defined(__AVX2__)
  L3_NEED("avx2");
#endif
#if defined(__FMA__)
  L3_NEED("fma");
#endif
#if defined(__FMA4__)
  L3_NEED("fma4");
#endif
#if defined(__AVX512F__)
  L3_NEED("avx512f");
  L3_NEED("avx512bw");
  L3_NEED("avx512dq");
  L3_NEED("avx512vl");
#endif
// What -march=native may add, and an older processor with AVX-512 lacks.
#if defined(__AVX512VBMI__)
  L3_NEED("avx512vbmi");
#endif
#if defined(__AVX512VBMI2__)
  L3_NEED("avx512vbmi2");
#endif
#if defined(__AVX512VNNI__)
  L3_NEED("avx512vnni");
#endif
#if defined(__AVX512IFMA__)
  L3_NEED("avx512ifma");
#endif
#if defined(__AVX512BF16__)
  L3_NEED("avx512bf16");
#endif
#if defined(__AVX512BITALG__)
  L3_NEED("avx512bitalg");
#endif
#if defined(__AVX512VPOPCNTDQ__)
  L3_NEED("avx512vpopcntdq");
#endif
#if defined(__AVX512FP16__) && (!defined(__clang__) || __clang_major__ >= 19)  // older ones cannot ask
  L3_NEED("avx512fp16");
#endif
#undef L3_NEED
#endif
}

}  // namespace l3::inline L3_ISA
