/// @file  include/l3/kernels/cuda/pair_scores.cuh: the fusion head over pairs of frames and sounds, and its loss, on a
/// GPU.
#pragma once
#include <algorithm>
#include <cstdint>
#include <l3/core/memory.hpp>
#include <l3/kernels/cuda/row_sums.cuh>
#include <l3/kernels/cuda/vector.cuh>
#include <l3/kernels/dims.hpp>

namespace l3::inline L3_ISA {
namespace detail::gpu {

/// pair_dims as kernels take them.
struct pair_job {
  unsigned frames, sounds, hidden, classes;
  bool all;
  explicit pair_job(pair_dims const& d)
      : frames(narrow(d.batch)),
        sounds(narrow(d.sounds())),
        hidden(narrow(d.hidden)),
        classes(narrow(d.classes)),
        all(d.which == pairing::all) {}
  __device__ std::size_t row(unsigned frame, unsigned sound) const {
    return all ? std::size_t{frame} * sounds + sound : frame;
  }
  /// The sounds that a frame meets are [first, last), and the frames that a sound meets.
  __device__ unsigned first_for(unsigned k) const { return all ? 0 : k; }
  __device__ unsigned sounds_end(unsigned frame) const { return all ? sounds : frame + 1; }
  __device__ unsigned frames_end(unsigned sound) const { return all ? frames : sound + 1; }
};

/// A warp scores a pair.
template <class = void>
__global__ __launch_bounds__(256) void score_pairs(pair_job const job, std::size_t rows, float const* u, float const* t,
                                                   float const* b1, float const* w2, float const* b2, float* logits) {
  std::size_t const row = std::size_t{blockIdx.x} * 8 + threadIdx.x / 32;
  unsigned const lane = threadIdx.x % 32;
  bool const valid = row < rows;
  auto const frame = static_cast<unsigned>(valid ? (job.all ? row / job.sounds : row) : 0);
  auto const sound = static_cast<unsigned>(valid ? (job.all ? row % job.sounds : row) : 0);
  for (unsigned o = 0; o < job.classes; ++o) {
    float sum = 0;
    for (unsigned h = lane; h < job.hidden; h += 32) {
      float const value = u[std::size_t{frame} * job.hidden + h] + t[std::size_t{sound} * job.hidden + h] + b1[h];
      sum = fmaf(w2[o * job.hidden + h], value <= 0 ? 0 : value, sum);  // not-a-number stays
    }
    sum = sum_over(31, sum);
    if (lane == 0 && valid) logits[row * job.classes + o] = sum + b2[o];
  }
}

/// What a pair's scores give back to unit h of the hidden layer: 0 where it is not above 0.
__device__ inline float hidden_gradient(pair_job const& job, unsigned h, float value, float const* w2,
                                        float const* dlogits) {
  if (value <= 0) return 0;
  float g = 0;
  for (unsigned o = 0; o < job.classes; ++o) g = fmaf(dlogits[o], w2[o * job.hidden + h], g);
  return g;
}
/// du: a block takes a frame, a thread a unit, and goes over all sounds it meets. dt the other way round.
template <class = void>
__global__ void pair_gradient_of_frames(pair_job const job, float const* u, float const* t, float const* b1,
                                        float const* w2, float const* dlogits, float* du) {
  unsigned const frame = blockIdx.x;
  for (unsigned h = threadIdx.x; h < job.hidden; h += blockDim.x) {
    float const base = u[std::size_t{frame} * job.hidden + h];
    float sum = 0;
    for (unsigned j = job.first_for(frame); j < job.sounds_end(frame); ++j)
      sum += hidden_gradient(job, h, base + t[std::size_t{j} * job.hidden + h] + b1[h], w2,
                             dlogits + job.row(frame, j) * job.classes);
    du[std::size_t{frame} * job.hidden + h] = sum;
  }
}
template <class = void>
__global__ void pair_gradient_of_sounds(pair_job const job, float const* u, float const* t, float const* b1,
                                        float const* w2, float const* dlogits, float* dt) {
  unsigned const sound = blockIdx.x;
  for (unsigned h = threadIdx.x; h < job.hidden; h += blockDim.x) {
    float const mine = t[std::size_t{sound} * job.hidden + h];
    float sum = 0;
    for (unsigned i = job.first_for(sound); i < job.frames_end(sound); ++i)
      sum += hidden_gradient(job, h, u[std::size_t{i} * job.hidden + h] + mine + b1[h], w2,
                             dlogits + job.row(i, sound) * job.classes);
    dt[std::size_t{sound} * job.hidden + h] = sum;
  }
}
/// Each frame's part of the gradients of w2 and b2: (frames, classes, hidden + 1).
template <class = void>
__global__ void pair_gradient_of_weights(pair_job const job, float const* u, float const* t, float const* b1,
                                         float const* dlogits, float* parts) {
  unsigned const frame = blockIdx.x, o = blockIdx.y;
  for (unsigned h = threadIdx.x; h < job.hidden + 1; h += blockDim.x) {
    float sum = 0;
    for (unsigned j = job.first_for(frame); j < job.sounds_end(frame); ++j) {
      float const value =
          h == job.hidden ? 1 : u[std::size_t{frame} * job.hidden + h] + t[std::size_t{j} * job.hidden + h] + b1[h];
      sum = fmaf(dlogits[job.row(frame, j) * job.classes + o], value <= 0 ? 0 : value, sum);
    }
    parts[(std::size_t{frame} * job.classes + o) * (job.hidden + 1) + h] = sum;
  }
}
struct keep_weights {
  float *dw2, *db2;
  unsigned hidden;
  __device__ void operator()(unsigned at, double const (&sum)[1]) const {
    unsigned const o = at / (hidden + 1), h = at % (hidden + 1);
    (h == hidden ? db2[o] : dw2[o * hidden + h]) = static_cast<float>(sum[0]);
  }
};
constexpr footprint pair_parts(pair_dims const& d) { return per_item<float>(d.classes * (d.hidden + 1)); }
constexpr footprint pair_room(pair_dims const& d) {
  return pair_parts(d) + sums_room(1, 1, std::max(d.classes * (d.hidden + 1), d.hidden));
}

/// What rows count for: given, or as in training (train/loss.hpp), where frame i's own sound is `first` + i.
struct row_labels {
  std::int32_t const* labels = nullptr;  ///< null: all meet all
  float const* weights = nullptr;        ///< null: `own` for label 1 and `other` for 0
  unsigned sounds = 1, first = 0;
  float own = 0, other = 0;
  bool all_alike = false;  ///< labels are of classes: all rows are counted as those of label 0

  __device__ int label(std::size_t row) const {
    if (labels != nullptr) return labels[row];
    return row % sounds == first + row / sounds ? 1 : 0;
  }
  __device__ float weight(std::size_t row, int label) const {
    return weights != nullptr ? weights[row] : label == 1 ? own : other;
  }
};
/// Loss, right ones of label 0 and 1, all of label 0 and 1.
inline constexpr unsigned tally_columns = 5;

/// A thread takes a row, a block a tile of them.
template <class = void>
__global__ __launch_bounds__(256) void softmax_rows(row_labels const of, std::size_t rows, unsigned classes,
                                                    float const* logits, float* dlogits, double* tiles) {
  double(*const shared)[tally_columns] = shared_memory<double[tally_columns]>();
  std::size_t const row = std::size_t{blockIdx.x} * 256 + threadIdx.x;
  double tally[tally_columns] = {};
  if (row < rows) {
    float const* const x = logits + row * classes;
    int const label = of.label(row);
    float const weight = of.weight(row, label);
    float largest = x[0];
    bool right = true;
    for (unsigned o = 1; o < classes; ++o) largest = x[o] > largest ? x[o] : largest;
    float total = 0;
    for (unsigned o = 0; o < classes; ++o) {
      total += expf(x[o] - largest);
      right = right && (static_cast<int>(o) == label || x[label] > x[o]);
    }
    tally[0] = static_cast<double>(weight) * static_cast<double>(logf(total) - (x[label] - largest));
    int const kind = label == 1 && !of.all_alike ? 1 : 0;
    tally[1 + kind] = right ? 1 : 0;
    tally[3 + kind] = 1;
    if (dlogits != nullptr)
      for (unsigned o = 0; o < classes; ++o)
        dlogits[row * classes + o] =
            weight * (expf(x[o] - largest) / total - (static_cast<int>(o) == label ? 1.0f : 0.0f));
  }
  for (unsigned k = 0; k < tally_columns; ++k) shared[threadIdx.x][k] = tally[k];
  __syncthreads();
  if (threadIdx.x >= tally_columns) return;
  double sum = 0;
  for (unsigned k = 0; k < 256; ++k) sum += shared[k][threadIdx.x];
  tiles[std::size_t{blockIdx.x} * tally_columns + threadIdx.x] = sum;
}
struct keep_tally {
  double* to;
  bool adds;  ///< to what is there
  __device__ void operator()(unsigned c, double const (&sum)[1]) const { to[c] = adds ? to[c] + sum[0] : sum[0]; }
};
/// Bytes that `score_rows` works in.
constexpr std::size_t score_room(std::size_t rows) { return sums_bytes(1, rows, tally_columns); }
/// Gradient of the loss in dlogits, unless null; loss and counts in `tally`.
inline void score_rows(cudaStream_t in, row_labels const& of, std::size_t rows, std::size_t classes,
                       float const* logits, float* dlogits, double* tally, bool adds, std::byte* scratch) {
  auto* const tiles = reinterpret_cast<double*>(scratch);
  launch(in, softmax_rows<>, dim3(narrow(row_tiles(rows))), 256, 256 * tally_columns * sizeof(double), of, rows,
         narrow(classes), logits, dlogits, tiles);
  finish_sums<1>(in, tiles, row_tiles(rows), tally_columns, keep_tally{tally, adds});
}

}  // namespace detail::gpu

template <class P>
void pair_scores_forward(context<cuda<P>>& on, pair_dims const& d, float const* u, float const* t, float const* b1,
                         float const* w2, float const* b2, float* logits) {
  detail::gpu::launch(on.stream(), detail::gpu::score_pairs<>, dim3(detail::gpu::blocks_for(d.rows(), 8)), 256, 0,
                      detail::gpu::pair_job(d), d.rows(), u, t, b1, w2, b2, logits);
}

template <class P>
void pair_scores_backward(context<cuda<P>>& on, pair_dims const& d, float const* u, float const* t, float const* b1,
                          float const* w2, float const* dlogits, float* du, float* dt, float* db1, float* dw2,
                          float* db2, std::byte* scratch) {
  cudaStream_t const in = on.stream();
  detail::gpu::pair_job const job(d);
  unsigned const threads = static_cast<unsigned>(std::min<std::size_t>(round_up(d.hidden, 32), 256));
  carver space(scratch, d.batch, 1);
  auto* const parts = space.take<float>(detail::gpu::pair_parts(d));
  detail::gpu::launch(in, detail::gpu::pair_gradient_of_frames<>, dim3(job.frames), threads, 0, job, u, t, b1, w2,
                      dlogits, du);
  detail::gpu::launch(in, detail::gpu::pair_gradient_of_sounds<>, dim3(job.sounds), threads, 0, job, u, t, b1, w2,
                      dlogits, dt);
  detail::gpu::launch(in, detail::gpu::pair_gradient_of_weights<>, dim3(job.frames, job.classes), threads, 0, job, u, t,
                      b1, dlogits, parts);
  detail::gpu::sum_all_rows<1>(in, d.batch, d.classes * (d.hidden + 1), parts, space.rest(),
                               detail::gpu::keep_weights{dw2, db2, job.hidden});
  detail::gpu::sum_all_rows<1>(in, d.batch, d.hidden, du, space.rest(), detail::gpu::keep_sum{db1});
}

/// Waits for the sum: training leaves it on the device.
template <class P>
double softmax_cross_entropy(context<cuda<P>>& on, std::size_t rows, std::size_t classes, float const* logits,
                             std::int32_t const* labels, float const* weights, float* dlogits) {
  device_block const room(64 + detail::gpu::score_room(rows));
  auto* const tally = reinterpret_cast<double*>(room.data());
  detail::gpu::score_rows(on.stream(), {.labels = labels, .weights = weights}, rows, classes, logits, dlogits, tally,
                          false, room.data() + 64);
  double loss = 0;
  download(on, 1, tally, &loss);
  return loss;
}

}  // namespace l3::inline L3_ISA
