/// @file  include/l3/core/memory.hpp: how much memory a computation needs, as a formula, and the one block that holds
/// it.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <l3/core/config.hpp>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <utility>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace l3::inline L3_ISA {

/// Every buffer starts on a cache line; that is a whole number of registers of any instruction set.
inline constexpr std::size_t alignment = 64;

/// Next multiple of `step` at or above `n`.
constexpr std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

namespace detail {
/// unit times the product of the sizes, which may be anybody's; nothing if that does not fit.
inline std::optional<std::size_t> checked_product(std::span<std::size_t const> sizes, std::size_t unit = 1) {
  std::size_t product = unit;
  for (auto const size : sizes)
    if (__builtin_mul_overflow(product, size, &product)) return std::nullopt;
  return product;
}
}  // namespace detail

/// Before a file is blamed: decoders that got no memory may only say that it is damaged. Errors: std::bad_alloc where
/// 64 MiB more cannot be had (which says nothing where the system promises more than it has).
inline void require_memory_left() {
  static std::mutex one_at_a_time;
  std::lock_guard const lock(one_at_a_time);
  void* volatile some = std::malloc(std::size_t{64} << 20);  // volatile: asking is the purpose
  if (some == nullptr) throw std::bad_alloc();
  std::free(some);
}

/// Bytes as a formula: `per_item` times the batch, `per_thread` times the threads, and `fixed`. Layers state theirs as
/// constants, so the memory plan of a network is computed by the compiler: buffers alive at the same time are added,
/// buffers never alive together share (`either`). All three stay multiples of `alignment`, hence so do all offsets.
struct footprint {
  std::size_t per_item = 0;
  std::size_t per_thread = 0;
  std::size_t fixed = 0;

  /// For so many; the largest number where they are more than numbers can say, for which there is never memory.
  constexpr std::size_t bytes(std::size_t items, std::size_t threads) const {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    auto const fits = [](std::size_t each, std::size_t count) { return each == 0 || count <= most / 4 / each; };
    if (!fits(per_item, items) || !fits(per_thread, threads) || fixed > most / 4) return most;
    return per_item * items + per_thread * threads + fixed;
  }
  friend constexpr footprint operator+(footprint a, footprint b) {
    return {a.per_item + b.per_item, a.per_thread + b.per_thread, a.fixed + b.fixed};
  }
  friend constexpr bool operator==(footprint, footprint) = default;
};

/// Room for `count` values of T per item of the batch.
template <class T>
constexpr footprint per_item(std::size_t count) {
  return {.per_item = round_up(count * sizeof(T), alignment)};
}
/// Room for `count` values of T whatever the batch.
template <class T>
constexpr footprint fixed(std::size_t count) {
  return {.fixed = round_up(count * sizeof(T), alignment)};
}
/// Room for `count` values of T for each thread.
template <class T>
constexpr footprint per_thread(std::size_t count) {
  return {.per_thread = round_up(count * sizeof(T), alignment)};
}
/// Thread `slot`'s part of the room at `all` that `per_thread<T>` reserved.
template <class T>
constexpr T* share_of(std::size_t slot, T* all, footprint reserved) {
  return all + slot * reserved.per_thread / sizeof(T);
}
/// Room for either of two that are never alive together.
constexpr footprint either(footprint a, footprint b) {
  return {std::max(a.per_item, b.per_item), std::max(a.per_thread, b.per_thread), std::max(a.fixed, b.fixed)};
}

/// One aligned block, allocated once. Contents start as zeros.
///
/// Errors  std::bad_alloc.
class arena {
 public:
  arena() = default;
  explicit arena(std::size_t bytes) : size_(round_up(bytes, alignment)) {
    if (bytes > std::numeric_limits<std::ptrdiff_t>::max()) throw std::bad_alloc();
    if (size_ == 0) return;
    // Huge pages: a training step walks through gigabytes, and 4 KiB pages would miss the TLB on every row.
    constexpr std::size_t huge_page = std::size_t{1} << 21;
    std::size_t const align = size_ >= huge_page ? huge_page : alignment;
    block_.reset(static_cast<std::byte*>(std::aligned_alloc(align, round_up(size_, align))));
    if (!block_) throw std::bad_alloc();
#if defined(__linux__)
    if (align == huge_page) madvise(block_.get(), round_up(size_, align), MADV_HUGEPAGE);
#endif
    std::fill_n(block_.get(), size_, std::byte{0});
  }
  arena(arena&& other) noexcept : block_(std::move(other.block_)), size_(std::exchange(other.size_, 0)) {}
  arena& operator=(arena&& other) noexcept {
    block_ = std::move(other.block_), size_ = std::exchange(other.size_, 0);
    return *this;
  }
  std::byte* data() const noexcept { return block_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  struct release {
    void operator()(std::byte* p) const noexcept { std::free(p); }
  };
  std::unique_ptr<std::byte, release> block_;
  std::size_t size_ = 0;
};

/// The block that a backend's values lie in; a device's own.
template <class B>
struct memory_of {
  using type = arena;
};

/// Hands out consecutive pieces of a block in the order a footprint added them up.
class carver {
 public:
  carver(std::byte* block, std::size_t items, std::size_t threads) noexcept
      : next_(block), items_(items), threads_(threads) {}
  /// The next piece, as values of T. `size` must be the footprint that reserved it.
  template <class T>
  T* take(footprint size) noexcept {
    std::byte* const here = next_;
    next_ += size.bytes(items_, threads_);
    return reinterpret_cast<T*>(here);
  }
  std::byte* rest() const noexcept { return next_; }

 private:
  std::byte* next_;
  std::size_t items_;
  std::size_t threads_;
};

}  // namespace l3::inline L3_ISA
