/// @file  include/l3/core/gpu_group.cuh: GPUs that train one network together, one for each process, as the trainer
/// sees them.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <l3/core/config.hpp>
#include <string>

namespace l3::inline L3_ISA {

/// GPUs numbered from 0, whose processes put the same calls into their streams in the same order, with as many values.
/// All that is asked for happens in the stream; it may be recorded there. All pointers are to the GPU's memory.
///
/// Errors  of every function: group_error.
class gpu_group {
 public:
  gpu_group() = default;
  gpu_group(gpu_group const&) = delete;
  gpu_group& operator=(gpu_group const&) = delete;
  virtual ~gpu_group() = default;

  virtual std::size_t rank() const = 0;
  virtual std::size_t size() const = 0;
  virtual std::string name(std::size_t rank) const { return "process " + std::to_string(rank); }
  /// Throws if what has been asked for will never be done: what streams do behind it is done on values nobody sent.
  virtual void check() {}
  /// Ends what will never be done, so that streams do not wait for it; the group is of no more use, and says so. No
  /// recorded work may be left that uses it.
  virtual void abandon() {}

  /// Puts everyone's sum times `factor`, the same at each call, in the place of these values.
  virtual void mean(float* values, std::size_t count, float factor, cudaStream_t in) = 0;
  /// Everyone's block, one after the other. `all` has room for size() blocks.
  virtual void gather(void const* mine, void* all, std::size_t bytes, cudaStream_t in) = 0;
  /// `parts` holds a block of `count` values for each; each gets the sum of those that were meant for it.
  virtual void sum_parts(float const* parts, float* mine, std::size_t count, cudaStream_t in) = 0;
};

}  // namespace l3::inline L3_ISA
