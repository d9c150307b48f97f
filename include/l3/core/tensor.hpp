/// @file  include/l3/core/tensor.hpp: `tensor` owns a batch, `batch_view` borrows one; item shape in the type, item
/// count at run time. Items are packed one after the other, channels innermost (NHWC).
#pragma once
#include <algorithm>
#include <cstddef>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/shape.hpp>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace l3::inline L3_ISA {

/// A borrowed batch of `count` items of shape S. T may be const.
template <class T, item_shape S>
struct batch_view {
  using value_type = std::remove_const_t<T>;
  using shape = S;
  T* data = nullptr;
  std::size_t count = 0;

  constexpr batch_view() = default;
  constexpr batch_view(T* values, std::size_t items) : data(values), count(items) {}
  /// A view to read from a view to write.
  template <class U>
  requires(std::is_const_v<T>&& std::is_same_v<U, value_type>) constexpr batch_view(batch_view<U, S> other)
      : data(other.data), count(other.count) {}

  constexpr std::size_t size() const { return count * S::size; }
  constexpr std::span<T> values() const { return {data, size()}; }
  constexpr std::span<T, S::size> operator[](std::size_t item) const {
    return std::span<T, S::size>(data + item * S::size, S::size);
  }
  /// Items [first, first + n).
  constexpr batch_view slice(std::size_t first, std::size_t n) const { return {data + first * S::size, n}; }
};

/// An owned batch, aligned, zeros at first. Errors  std::bad_alloc.
template <class T, item_shape S>
class tensor {
 public:
  using shape = S;
  tensor() = default;
  explicit tensor(std::size_t count)
      : block_(footprint{.per_item = S::size * sizeof(T)}.bytes(count, 0)), count_(count) {}
  tensor(tensor&& other) noexcept : block_(std::move(other.block_)), count_(std::exchange(other.count_, 0)) {}
  tensor& operator=(tensor&& other) noexcept {
    block_ = std::move(other.block_), count_ = std::exchange(other.count_, 0);
    return *this;
  }

  T* data() noexcept { return reinterpret_cast<T*>(block_.data()); }
  T const* data() const noexcept { return reinterpret_cast<T const*>(block_.data()); }
  std::size_t count() const noexcept { return count_; }
  std::span<T> values() noexcept { return {data(), count_ * S::size}; }
  std::span<T const> values() const noexcept { return {data(), count_ * S::size}; }
  batch_view<T, S> view() noexcept { return {data(), count_}; }
  batch_view<T const, S> view() const noexcept { return {data(), count_}; }
  operator batch_view<T, S>() noexcept { return view(); }
  operator batch_view<T const, S>() const noexcept { return view(); }

 private:
  arena block_;
  std::size_t count_ = 0;
};

/// Throws shape_error when two batches that belong together differ in their number of items.
inline void require_same_count(char const* where, std::size_t expected, std::size_t found) {
  if (expected != found) throw shape_error({where, std::to_string(expected) + " items", std::to_string(found)});
}

}  // namespace l3::inline L3_ISA
