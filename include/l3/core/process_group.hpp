/// @file  include/l3/core/process_group.hpp: processes that train one network together, as the trainer sees them.
#pragma once
#include <cstddef>
#include <l3/core/config.hpp>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace l3::inline L3_ISA {

/// Processes numbered from 0, each of which calls the same functions in the same order with spans of the same sizes.
/// What comes out is the same bits at every process, whatever the network between them: sums run in the order of the
/// processes' numbers.
///
/// Errors  of every function: group_error, when another process is gone, has failed or does not answer in time.
class process_group {
 public:
  process_group() = default;
  process_group(process_group const&) = delete;
  process_group& operator=(process_group const&) = delete;
  virtual ~process_group() = default;

  virtual std::size_t rank() const = 0;
  virtual std::size_t size() const = 0;
  /// "process 3", or more.
  virtual std::string name(std::size_t rank) const { return "process " + std::to_string(rank); }

  /// Everyone's block, one after the other, at everyone. `all` holds size() blocks.
  virtual void gather(std::span<std::byte const> mine, std::span<std::byte> all) = 0;
  /// `parts` holds a block for each process; each gets the sum of those that were meant for it.
  virtual void sum_parts(std::span<float const> parts, std::span<float> mine) = 0;
  /// Begins to put everyone's sum times `factor` in the place of these values, which must be left alone until
  /// `finish_sums`.
  virtual void begin_mean(std::span<float> values, float factor) = 0;
  /// Moves on what has begun: to be called now and then from between pieces of work.
  virtual void poke() = 0;
  virtual void finish_sums() = 0;

  /// Everyone's value, in order.
  template <class T>
  void gather_values(T const& mine, std::span<T> all) {
    static_assert(std::is_trivially_copyable_v<T>);
    gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(all));
  }
  /// Puts everyone's mean in the place of these few values. The memory for it is taken once, and kept.
  void mean_now(std::span<double> values) {
    everyones_.resize(size() * values.size());
    gather(std::as_bytes(values), std::as_writable_bytes(std::span(everyones_)));
    for (std::size_t k = 0; k != values.size(); ++k) {
      double sum = everyones_[k];
      for (std::size_t r = 1; r != size(); ++r) sum += everyones_[r * values.size() + k];
      values[k] = sum / static_cast<double>(size());
    }
  }

 private:
  std::vector<double> everyones_;
};

}  // namespace l3::inline L3_ISA
