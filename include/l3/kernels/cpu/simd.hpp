/// @file  include/l3/kernels/cpu/simd.hpp: a register of floats for each instruction set; the only header that names
/// xsimd.
///
/// Kernels are templates on a `lanes` type T and use the few functions below. T may also be plain float: what is left
/// of a row after its whole registers runs through the same source text.
#pragma once
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <l3/core/backend.hpp>
#include <l3/core/config.hpp>
#include <xsimd/xsimd.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// N floats without any instruction set's help: for processors xsimd does not know, and for trying the tiles of a wider
/// instruction set where it is missing.
template <std::size_t N>
struct plain_lanes {
  static constexpr std::size_t size = N;
  float at[N];

  plain_lanes() = default;
  explicit plain_lanes(float all) {
    for (auto& one : at) one = all;
  }
  template <class F>
  static plain_lanes of(F&& f) {
    plain_lanes r;
    for (std::size_t k = 0; k < N; ++k) r.at[k] = f(k);
    return r;
  }
  friend plain_lanes operator+(plain_lanes const& a, plain_lanes const& b) {
    return of([&](std::size_t k) { return a.at[k] + b.at[k]; });
  }
  friend plain_lanes operator-(plain_lanes const& a, plain_lanes const& b) {
    return of([&](std::size_t k) { return a.at[k] - b.at[k]; });
  }
  friend plain_lanes operator*(plain_lanes const& a, plain_lanes const& b) {
    return of([&](std::size_t k) { return a.at[k] * b.at[k]; });
  }
  friend plain_lanes operator/(plain_lanes const& a, plain_lanes const& b) {
    return of([&](std::size_t k) { return a.at[k] / b.at[k]; });
  }
  struct mask {
    bool at[N];
  };
  friend mask operator>(plain_lanes const& a, plain_lanes const& b) {
    mask m;
    for (std::size_t k = 0; k < N; ++k) m.at[k] = a.at[k] > b.at[k];
    return m;
  }
};

/// xsimd's name of an instruction set.
template <class A>
struct xsimd_arch {
  using type = xsimd::default_arch;  ///< generic: whatever the flags allow, SSE2 or NEON for instance
  static constexpr std::size_t floats = 4;
};
template <>
struct xsimd_arch<arch::avx2> {
  using type = xsimd::fma3<xsimd::avx2>;
  static constexpr std::size_t floats = 8;
};
template <>
struct xsimd_arch<arch::avx512> {
  using type = xsimd::avx512bw;
  static constexpr std::size_t floats = 16;
};

template <class A, bool Supported>
struct choose_lanes {
  using type = plain_lanes<xsimd_arch<A>::floats>;
};
template <class A>
struct choose_lanes<A, true> {
  using type = xsimd::batch<float, typename xsimd_arch<A>::type>;
};
template <class A>
inline constexpr bool has_registers = [] {
  using set = typename xsimd_arch<A>::type;
  if constexpr (requires { set::supported(); })
    return set::supported();
  else
    return false;
}();

/// A register of floats of instruction set A.
template <class A>
using lanes = typename choose_lanes<A, has_registers<A>>::type;

template <class T>
struct lane_count {
  static constexpr std::size_t value = T::size;
};
template <>
struct lane_count<float> {
  static constexpr std::size_t value = 1;
};
/// How many floats T holds.
template <class T>
inline constexpr std::size_t width = lane_count<T>::value;

template <class T>
inline constexpr bool is_plain = false;
template <std::size_t N>
inline constexpr bool is_plain<plain_lanes<N>> = true;

/// Values from any address.
template <class T>
L3_INLINE T load(float const* p) {
  if constexpr (std::same_as<T, float>)
    return *p;
  else if constexpr (is_plain<T>)
    return T::of([&](std::size_t k) { return p[k]; });
  else
    return T::load_unaligned(p);
}
template <class T>
L3_INLINE void put(float* p, T const& v) {
  if constexpr (std::same_as<T, float>)
    *p = v;
  else if constexpr (is_plain<T>)
    for (std::size_t k = 0; k < T::size; ++k) p[k] = v.at[k];
  else
    v.store_unaligned(p);
}
/// Whether a map goes to memory past the caches: if it is larger than most processors' are, nobody would find it there,
/// and fetching its lines before they are overwritten would cost as much again as writing them. Pixels must be whole
/// lines at whole lines' places, as such stores demand.
template <class X>
bool passes_caches(X const* map, std::size_t pixels, std::size_t channels) {
  constexpr std::size_t line = 64, caches = std::size_t{32} << 20;
  return std::bit_cast<std::uintptr_t>(map) % line == 0 && channels * sizeof(X) % line == 0 &&
         pixels * channels * sizeof(X) > caches;
}
/// put, past the caches if `past` and v is a whole line of them. A task that has done so ends with `settle`.
template <class T>
L3_INLINE void put(float* p, T const& v, [[maybe_unused]] bool past) {
#if defined(__AVX512F__)
  if constexpr (std::same_as<T, lanes<arch::avx512>> && !is_plain<T>) {
    if (past) return _mm512_stream_ps(p, v);
  }
#endif
  put(p, v);
}
/// Asks for a cache line that will soon be read, or written. Any address is harmless.
template <bool Write = false, class T>
L3_INLINE void prefetch(T const* p) {
  __builtin_prefetch(p, Write ? 1 : 0, Write ? 3 : 2);
}
/// Makes what was put past the caches visible to other threads before anything that follows.
L3_INLINE void settle() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}
/// a * b + c
template <class T>
L3_INLINE T fused(T const& a, T const& b, T const& c) {
  if constexpr (std::same_as<T, float> || is_plain<T>) return a * b + c;
#if defined(__AVX512F__)  // xsimd 8 leaves this one to the compiler, which need not find it
  else if constexpr (std::same_as<T, lanes<arch::avx512>>)
    return _mm512_fmadd_ps(a, b, c);
#endif
  else
    return xsimd::fma(a, b, c);
}
// x86's own maximum: b if one is not a number. xsimd's may give either, and has changed it (in version 14).
#if defined(__SSE__)
L3_INLINE __m128 native_larger(__m128 a, __m128 b) { return _mm_max_ps(a, b); }
#endif
#if defined(__AVX__)
L3_INLINE __m256 native_larger(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
#endif
#if defined(__AVX512F__)
L3_INLINE __m512 native_larger(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
#endif
/// a > b ? a : b; so b if one is not a number.
template <class T>
L3_INLINE T larger(T const& a, T const& b) {
  if constexpr (std::same_as<T, float>)
    return a > b ? a : b;
  else if constexpr (is_plain<T>)
    return T::of([&](std::size_t k) { return a.at[k] > b.at[k] ? a.at[k] : b.at[k]; });
  else if constexpr (requires { native_larger(a, b); })
    return native_larger(a, b);
  else
    return xsimd::select(a > b, a, b);
}
/// max(v, 0); what is not a number stays so.
template <class T>
L3_INLINE T rectified(T const& v) {
  return larger(T(0.0f), v);
}
/// Lane by lane: yes where `which` holds, else no.
template <class M, class T>
L3_INLINE T pick(M const& which, T const& yes, T const& no) {
  if constexpr (std::same_as<T, float>)
    return which ? yes : no;
  else if constexpr (is_plain<T>)
    return T::of([&](std::size_t k) { return which.at[k] ? yes.at[k] : no.at[k]; });
  else
    return xsimd::select(which, yes, no);
}
template <class T>
L3_INLINE T root(T const& v) {
  if constexpr (std::same_as<T, float>)
    return std::sqrt(v);
  else if constexpr (is_plain<T>)
    return T::of([&](std::size_t k) { return std::sqrt(v.at[k]); });
  else
    return xsimd::sqrt(v);
}
/// Sum of the lanes, as a tree.
template <class T>
L3_INLINE float total(T const& v) {
  if constexpr (std::same_as<T, float>) {
    return v;
  } else {
    float part[width<T>];
    put(part, v);
    for (std::size_t half = width<T> / 2; half > 0; half /= 2)
      for (std::size_t k = 0; k < half; ++k) part[k] += part[k + half];
    return part[0];
  }
}

/// The nearest bfloat16, the even one of two; as processors do it, numbers too small for a full mantissa become zero.
L3_INLINE bfloat16 rounded(float v) {
  auto const bits = std::bit_cast<std::uint32_t>(v);
  auto const upper = static_cast<std::uint16_t>(bits >> 16);
  if ((bits & 0x7f800000) == 0) return bfloat16::of_bits(static_cast<std::uint16_t>(upper & 0x8000));
  if ((bits & 0x7fffffff) > 0x7f800000)
    return bfloat16::of_bits(static_cast<std::uint16_t>(upper | 0x40));  // stays not a number
  return bfloat16::of_bits(static_cast<std::uint16_t>((bits + 0x7fff + (upper & 1)) >> 16));
}
L3_INLINE float widened(bfloat16 v) { return static_cast<float>(v); }

/// Values stored as bfloat16, from any address.
template <class T>
L3_INLINE T load(bfloat16 const* p) {
#if defined(__AVX512F__)
  if constexpr (std::same_as<T, lanes<arch::avx512>> && !is_plain<T>) {
    __m256i half;
    std::memcpy(&half, p, sizeof half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
#endif
  float part[width<T>];
  for (std::size_t k = 0; k < width<T>; ++k) part[k] = widened(p[k]);
  return load<T>(part);
}
/// Values as bfloat16.
template <class T>
L3_INLINE void put(bfloat16* p, T const& v) {
#if defined(__AVX512BF16__)
  if constexpr (std::same_as<T, lanes<arch::avx512>>) {
    auto const half = _mm512_cvtneps_pbh(v);
    std::memcpy(p, &half, sizeof half);
    return;
  }
#endif
  float part[width<T>];
  put(part, v);
  for (std::size_t k = 0; k < width<T>; ++k) p[k] = rounded(part[k]);
}
/// Values of two registers as bfloat16, one behind the other; past the caches if `past` and they are a whole line.
template <class T>
L3_INLINE void put_both(bfloat16* p, T const& first, T const& second, [[maybe_unused]] bool past = false) {
#if defined(__AVX512BF16__)
  if constexpr (std::same_as<T, lanes<arch::avx512>>) {
    auto const both = _mm512_cvtne2ps_pbh(second, first);
    if (past)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(p), std::bit_cast<__m512i>(both));
    else
      std::memcpy(p, &both, sizeof both);
    return;
  }
#endif
  put(p, first), put(p + width<T>, second);
}
/// Values of two registers as bfloat16, side by side: even[0], odd[0], even[1], odd[1], ...
template <class T>
L3_INLINE void put_pairs(bfloat16* p, T const& even, T const& odd) {
#if defined(__AVX512BF16__)
  if constexpr (std::same_as<T, lanes<arch::avx512>>) {
    auto const wide = [](T const& v) { return _mm512_cvtepu16_epi32(std::bit_cast<__m256i>(_mm512_cvtneps_pbh(v))); };
    _mm512_storeu_si512(p, _mm512_or_si512(wide(even), _mm512_slli_epi32(wide(odd), 16)));
    return;
  }
#endif
  float part[2][width<T>];
  put(part[0], even), put(part[1], odd);
  for (std::size_t k = 0; k < 2 * width<T>; ++k) p[k] = rounded(part[k % 2][k / 2]);
}

/// How a matrix product multiplies registers of floats V in precision P: in memory its factors are `value`s, those of
/// `depth` successive terms of a sum side by side, and one step adds these terms in every lane.
template <class V, class P>
struct products {
  static constexpr bool exist = false;
};
template <class V>
struct products<V, fp32> {
  static constexpr bool exist = true;
  static constexpr std::size_t depth = 1;
  using value = float;
  using factors = V;
  static L3_INLINE factors all(value const* p) { return V(*p); }  ///< the same terms in every lane
  static L3_INLINE factors load(value const* p) { return detail::load<V>(p); }
  static L3_INLINE V add(factors const& a, factors const& b, V const& sum) { return fused(a, b, sum); }
};
#if defined(__AVX512BF16__)
template <>
struct products<lanes<arch::avx512>, bf16> {
  static constexpr bool exist = true;
  static constexpr std::size_t depth = 2;
  using value = bfloat16;
  using factors = __m512bh;
  static L3_INLINE factors all(value const* p) {
    std::int32_t both;
    std::memcpy(&both, p, sizeof both);
    return std::bit_cast<factors>(_mm512_set1_epi32(both));
  }
  static L3_INLINE factors load(value const* p) { return std::bit_cast<factors>(_mm512_loadu_si512(p)); }
  static L3_INLINE lanes<arch::avx512> add(factors a, factors b, lanes<arch::avx512> const& sum) {
    return _mm512_dpbf16_ps(sum, a, b);
  }
};
#endif
/// Without the instructions, for tests.
template <std::size_t N>
struct products<plain_lanes<N>, bf16> {
  static constexpr bool exist = true;
  static constexpr std::size_t depth = 2;
  using value = bfloat16;
  struct factors {
    plain_lanes<N> of[depth];
  };
  static factors all(value const* p) { return {plain_lanes<N>(widened(p[0])), plain_lanes<N>(widened(p[1]))}; }
  static factors load(value const* p) {
    auto const part = [&](std::size_t d) {
      return plain_lanes<N>::of([&](std::size_t k) { return widened(p[2 * k + d]); });
    };
    return {part(0), part(1)};
  }
  static plain_lanes<N> add(factors const& a, factors const& b, plain_lanes<N> const& sum) {
    return fused(a.of[1], b.of[1], fused(a.of[0], b.of[0], sum));
  }
};

/// How many registers of AVX-512 make a cache line of X; kernels whose outputs may go past the caches write as many at
/// a time.
template <class X>
inline constexpr std::size_t registers_of_line = sizeof(float) / sizeof(X);
/// Registers one behind the other, past the caches if `past`.
template <class X, class T, std::size_t K>
L3_INLINE void put_row(X* p, T const (&v)[K], bool past) {
  if constexpr (std::same_as<X, float>)
    for (std::size_t m = 0; m < K; ++m) put(p + m * width<T>, v[m], past);
  else if constexpr (K % 2 == 0)
    for (std::size_t m = 0; m < K; m += 2) put_both(p + m * width<T>, v[m], v[m + 1], past);
  else
    for (std::size_t m = 0; m < K; ++m) put(p + m * width<T>, v[m]);
}

/// Calls `f.operator()<T>(k)` for k in [0, count) in steps of `width<T>`: T is V while a whole register is left, then
/// float.
template <class V, class F>
L3_INLINE void each_register(std::size_t count, F&& f) {
  std::size_t k = 0;
  for (; k + width<V> <= count; k += width<V>) f.template operator()<V>(k);
  for (; k < count; ++k) f.template operator()<float>(k);
}
/// Like each_register, `Most` registers at a time where there are so many, or half of them, and so on:
/// f.operator()<T, registers>(k).
template <class V, std::size_t Most, class F>
L3_INLINE void each_registers(std::size_t count, F&& f, std::size_t k = 0) {
  for (; k + Most * width<V> <= count; k += Most * width<V>) f.template operator()<V, Most>(k);
  if constexpr (Most > 1)
    each_registers<V, Most / 2>(count, f, k);
  else
    for (; k < count; ++k) f.template operator()<float, 1>(k);
}

/// Numbers [begin, end).
struct index_range {
  std::size_t begin, end;
  constexpr std::size_t size() const { return end - begin; }
};
/// Part `k` of `parts` even parts of [0, total).
constexpr index_range part_of(std::size_t total, std::size_t parts, std::size_t k) {
  return {total * k / parts, total * (k + 1) / parts};
}
constexpr std::size_t parts_of(std::size_t total, std::size_t size) { return (total + size - 1) / size; }

}  // namespace detail

/// Whether this build can multiply in precision P on instruction set A: bf16 needs flags that allow AVX512_BF16.
template <class A, class P>
inline constexpr bool multiplies = detail::products<detail::lanes<A>, P>::exist &&
                                   (std::same_as<P, fp32> || !detail::is_plain<detail::lanes<A>>);

}  // namespace l3::inline L3_ISA
