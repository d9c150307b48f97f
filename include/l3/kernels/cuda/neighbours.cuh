/// @file  include/l3/kernels/cuda/neighbours.cuh: which of a pixel's nine neighbours are inside its picture.
#pragma once
#include <l3/kernels/cuda/vector.cuh>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// Of pixel (i, j): a bit for each tap.
__device__ inline unsigned inside_bits(int i, int j, int height, int width) {
  unsigned const columns = (j > 0 ? 1u : 0u) | 2u | (j + 1 < width ? 4u : 0u);
  return (i > 0 ? columns : 0u) | columns << 3 | (i + 1 < height ? columns << 6 : 0u);
}
/// The same of pixel p of all pictures of a job.
template <class Job>
__device__ inline unsigned neighbours_inside(Job const& job, unsigned p) {
  unsigned const line = job.by_width.quotient(p);
  int const j = static_cast<int>(p - line * job.by_width.by);
  int const i = static_cast<int>(line - job.by_height.quotient(line) * job.by_height.by);
  return inside_bits(i, j, job.height, job.width);
}

}  // namespace detail::gpu
}  // namespace l3::inline L3_ISA
