/// @file  include/l3/kernels/fft.hpp: the discrete Fourier transform of real signals, one signal in each lane.
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/kernels/cpu/simd.hpp>
#include <l3/kernels/spectrum.hpp>

namespace l3::inline L3_ISA {
namespace detail {

/// A complex number for each lane of T.
template <class T>
struct lane_complex {
  T re, im;
  friend L3_INLINE lane_complex operator+(lane_complex const& a, lane_complex const& b) {
    return {a.re + b.re, a.im + b.im};
  }
  friend L3_INLINE lane_complex operator-(lane_complex const& a, lane_complex const& b) {
    return {a.re - b.re, a.im - b.im};
  }
};

}  // namespace detail

/// X[k] = sum over n of x[n] e^(-2 pi i k n / Size), k = 0 .. Size / 2, of as many signals at once as T has lanes.
///
/// T is a register of floats (kernels/cpu/simd.hpp) or float. All signals go through the same instructions, so what one
/// lane gives does not depend on the others. The object holds tables only: any number of threads may use it.
///
/// Sizes   twice a power of four: 8, 32, 128, 512, 2048, ...
/// Numbers root mean square error about 1e-7 of the root mean square of X.
template <std::size_t Size>
class real_fft {
  static constexpr std::size_t half = Size / 2;
  static_assert(std::has_single_bit(half) && std::countr_zero(half) % 2 == 0 && half >= 4,
                "l3::real_fft: the size is not twice a power of four");

 public:
  static constexpr std::size_t bins = half + 1;

  real_fft() {
    for (std::size_t k = 0; k < roots_.size(); ++k) {
      auto const [re, im] = detail::root_of_unity(k, Size);
      roots_[k] = {re, im};
    }
  }

  /// Calls `bin(k, re, im)` with X[k] of every lane for each k once, in no particular order. Sample n of the signals
  /// stands at x + n width<T>, a float for each lane; `x` is overwritten.
  template <class T, class F>
  L3_INLINE void transform(float* x, F&& bin) const {
    // Even samples are taken for real parts and odd ones for imaginary parts of half as many complex samples z.
    passes<half, T>(x);

    // With E and O the transforms of the even and the odd samples, Z = E + i O. Both are those of real signals, so
    // Z[half - k] is the conjugate of E[k] - i O[k]; and X[k] = E[k] + w O[k], X[half - k] = conj(E[k] - w O[k]).
    auto const z = [&](std::size_t k) { return get<T>(x, place[k]); };
    complex<T> const z0 = z(0), middle = z(half / 2);
    bin(std::size_t{0}, z0.re + z0.im, T(0.0f));
    bin(half, z0.re - z0.im, T(0.0f));
    bin(half / 2, middle.re, T(0.0f) - middle.im);
    for (std::size_t k = 1; k < half / 2; ++k) {
      complex<T> const a = z(k), b = z(half - k);
      complex<T> const even{T(0.5f) * (a.re + b.re), T(0.5f) * (a.im - b.im)};
      complex<T> const odd = turned<T>({T(0.5f) * (a.im + b.im), T(0.5f) * (b.re - a.re)}, k);
      bin(k, even.re + odd.re, even.im + odd.im);
      bin(half - k, even.re - odd.re, odd.im - even.im);
    }
  }

 private:
  template <class T>
  using complex = detail::lane_complex<T>;

  template <class T>
  static L3_INLINE complex<T> get(float const* x, std::size_t at) {
    float const* const p = x + 2 * at * detail::width<T>;
    return {detail::load<T>(p), detail::load<T>(p + detail::width<T>)};
  }
  template <class T>
  static L3_INLINE void put(float* x, std::size_t at, complex<T> const& v) {
    float* const p = x + 2 * at * detail::width<T>;
    detail::put(p, v.re);
    detail::put(p + detail::width<T>, v.im);
  }

  /// z e^(-2 pi i k / Size)
  template <class T>
  L3_INLINE complex<T> turned(complex<T> const& z, std::size_t k) const {
    T const re(roots_[k].re), im(roots_[k].im), minus_im(-roots_[k].im);
    return {detail::fused(z.re, re, z.im * minus_im), detail::fused(z.re, im, z.im * re)};
  }

  /// Radix 4, decimation in frequency, in place: a transform of Length becomes four of a quarter of it, until the
  /// results stand with the base-4 digits of their number reversed (`place`).
  template <std::size_t Length, class T>
  L3_INLINE void passes(float* x) const {
    butterflies<Length, false, T>(x, 0);
    for (std::size_t j = 1; j < Length / 4; ++j) butterflies<Length, true, T>(x, j);
    if constexpr (Length > 4) passes<Length / 4, T>(x);
  }

  /// Butterfly j of each transform of Length; the factors of all but number 0 are loaded once for all.
  template <std::size_t Length, bool Turn, class T>
  L3_INLINE void butterflies(float* x, std::size_t j) const {
    constexpr std::size_t quarter = Length / 4, step = Size / Length;
    for (std::size_t at = j; at < half; at += Length) {
      auto const z = [&](std::size_t part) { return get<T>(x, at + part * quarter); };
      complex<T> const a = z(0) + z(2), b = z(0) - z(2), c = z(1) + z(3), d = z(1) - z(3);
      complex<T> const y0 = a + c, y2 = a - c;
      complex<T> const y1{b.re + d.im, b.im - d.re}, y3{b.re - d.im, b.im + d.re};  // b - i d, b + i d
      put(x, at, y0);
      put(x, at + quarter, Turn ? turned(y1, j * step) : y1);
      put(x, at + 2 * quarter, Turn ? turned(y2, 2 * j * step) : y2);
      put(x, at + 3 * quarter, Turn ? turned(y3, 3 * j * step) : y3);
    }
  }

  static constexpr std::array<std::uint16_t, half> place = [] {
    std::array<std::uint16_t, half> p{};
    for (std::size_t k = 0; k < half; ++k)
      for (std::size_t digit = 1; digit < half; digit *= 4) p[k] = static_cast<std::uint16_t>(4 * p[k] + k / digit % 4);
    return p;
  }();

  std::array<complex<float>, Size - Size / 4> roots_;
};

}  // namespace l3::inline L3_ISA
