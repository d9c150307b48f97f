/// @file  tests/support/cuda_emulation/cuda_runtime.h: as much of CUDA as l3 uses, on the processor: so that the
/// kernels' indices, barriers and arithmetic are tested on machines without a GPU. It stands where the real header of
/// this name would be found.
///
/// Every thread of a block is a fiber; blocks run one after the other. What it betrays: memory outside of what was
/// taken (under the address sanitizer), values nobody wrote (all memory starts as not-a-numbers), copies that are not
/// waited for (cp.async happens at the wait), threads that do not meet at a barrier, and missing barriers (run a kernel
/// in both of `emulated::order`: the results differ). What it knows nothing of: time, caches, and races between
/// streams.
#pragma once
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define CUDART_VERSION 13000

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

// --- Running blocks ---
namespace emulated {

/// In which order threads run between barriers, and when asynchronous copies happen: 0 rising, when they are waited
/// for; 1 falling, at once.
inline int order = 0;

[[noreturn]] inline void stop(char const* what) {
  std::fprintf(stderr, "CUDA emulation: %s\n", what);
  std::abort();
}

struct copy {
  void* to;
  void const* from;  ///< null: zeros
};

/// A place in code with a stack of its own.
struct place {
#if defined(__x86_64__)
  void* top = nullptr;
  /// `begin` is called when the place is gone to first, and must not return.
  void make(std::byte* stack, std::size_t size, void (*begin)()) {
    auto** at = reinterpret_cast<void**>((reinterpret_cast<std::uintptr_t>(stack) + size) & ~std::uintptr_t{15});
    *--at = nullptr;
    *--at = reinterpret_cast<void*>(begin);
    for (int k = 0; k < 6; ++k) *--at = nullptr;  // the registers that a function keeps
    top = at;
  }
  static void go(place& from, place const& to) { exchange(&from.top, to.top); }

 private:
  // The system's own swapcontext asks the kernel each time, for signals' sake: ten times slower.
  [[gnu::naked, gnu::noinline]] static void exchange(void** /*from*/, void* /*to*/) {
    asm("push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
  }
#else
  ucontext_t context{};
  void make(std::byte* stack, std::size_t size, void (*begin)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack, context.uc_stack.ss_size = size, context.uc_link = nullptr;
    makecontext(&context, begin, 0);
  }
  static void go(place& from, place const& to) { swapcontext(&from.context, &to.context); }
#endif
};

struct fiber {
  static constexpr std::size_t stack_size = 256 << 10;
  place at;
  std::unique_ptr<std::byte[]> stack;
  void* fake_stack = nullptr;
  bool done = true;
  std::vector<copy> begun;                ///< copies not yet committed
  std::vector<std::vector<copy>> on_way;  ///< committed groups, oldest first
};
struct warp {
  unsigned arrived = 0, generation = 0, lanes = 0;
  void const* kind = nullptr;
  void* operands[32] = {};
};
struct machine {
  place scheduler;
  void* scheduler_stack = nullptr;  ///< what the address sanitizer wants to know
  std::size_t scheduler_size = 0;
  std::vector<fiber> fibers;
  std::vector<warp> warps;
  unsigned threads = 0, running = 0, arrived = 0, generation = 0;
  std::size_t progress = 0;
  std::function<void()> body;
  std::unique_ptr<std::byte[]> shared;  ///< of the block that runs
  void* shared_begin = nullptr;
  fiber* now = nullptr;
  unsigned now_index = 0;
};
inline machine& the_machine() {
  static machine m;
  return m;
}

inline void switch_to_scheduler() {
  machine& m = the_machine();
  fiber& f = *m.now;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(f.done ? nullptr : &f.fake_stack, m.scheduler_stack, m.scheduler_size);
#endif
  place::go(f.at, m.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(f.fake_stack, const_cast<void const**>(&m.scheduler_stack), &m.scheduler_size);
#endif
}
inline void fiber_main() {
  machine& m = the_machine();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, const_cast<void const**>(&m.scheduler_stack), &m.scheduler_size);
#endif
  m.body();
  if (!m.now->begun.empty() || !m.now->on_way.empty()) {
    // Copies nobody waited for: harmless on a GPU only if nobody reads their target; l3's kernels wait for all.
    stop("a thread ended before its asynchronous copies");
  }
  m.now->done = true;
  --m.running;
  --m.warps[m.now_index / 32].lanes;
  ++m.progress;
  switch_to_scheduler();
}
inline void resume(unsigned index) {
  machine& m = the_machine();
  m.now = &m.fibers[index], m.now_index = index;
  threadIdx = dim3(index);
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, m.now->stack.get(), fiber::stack_size);
#endif
  place::go(m.scheduler, m.now->at);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

inline void run_block(unsigned threads, std::size_t shared) {
  machine& m = the_machine();
  if (m.fibers.size() < threads) m.fibers.resize(threads);
  m.warps.assign(threads / 32, {});
  // Exactly so many bytes, so that a sanitizer sees the first one beyond; not-a-numbers, in float and in bfloat16.
  m.shared.reset(new std::byte[shared + 128]);
  std::memset(m.shared.get(), 0xFF, shared + 128);
  auto const address = reinterpret_cast<std::uintptr_t>(m.shared.get());
  m.shared_begin = m.shared.get() + (128 - address % 128) % 128;
  m.threads = m.running = threads, m.arrived = 0;
  for (unsigned k = 0; k < threads; ++k) {
    fiber& f = m.fibers[k];
    if (!f.stack) f.stack.reset(new std::byte[fiber::stack_size]);
    f.done = false;
    f.at.make(f.stack.get(), fiber::stack_size, fiber_main);
    ++m.warps[k / 32].lanes;
  }
  while (m.running > 0) {
    std::size_t const before = m.progress;
    for (unsigned k = 0; k < threads; ++k) {
      unsigned const index = order == 0 ? k : threads - 1 - k;
      if (!m.fibers[index].done) resume(index);
    }
    if (m.progress == before) stop("threads wait for each other: some missed a barrier or left");
  }
}

template <class... P>
void launch_now(void (*kernel)(P...), dim3 grid, unsigned threads, std::size_t shared, P... arguments) {
  if (threads == 0 || threads > 1024 || threads % 32 != 0) stop("a block must be whole warps, 1024 threads at most");
  if (shared > 99 << 10) stop("more shared memory than some GPUs of compute capability 8 have for a block");
  if (grid.y > 65535 || grid.z > 65535) stop("a grid of more than 65535 blocks along y or z");
  machine& m = the_machine();
  if (m.running != 0) stop("a kernel launched from a kernel");
  m.body = [&] { kernel(arguments...); };
  blockDim = dim3(threads), gridDim = grid;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        run_block(threads, shared);
      }
}

inline void* shared_memory() { return the_machine().shared_begin; }

/// All lanes of a warp meet; the last one to come lets `act` work on everyone's operand.
inline void together(void* operand, void const* kind, void (*act)(void** operands)) {
  machine& m = the_machine();
  warp& w = m.warps[m.now_index / 32];
  if (w.lanes != 32) stop("a warp's instruction after some of its lanes have left");
  if (w.arrived > 0 && w.kind != kind) stop("the lanes of a warp are at different instructions");
  w.kind = kind;
  w.operands[m.now_index % 32] = operand;
  ++m.progress;
  if (++w.arrived == 32) {
    act(w.operands);
    w.arrived = 0;
    ++w.generation;
    return;
  }
  unsigned const mine = w.generation;
  while (w.generation == mine) switch_to_scheduler();
}

}  // namespace emulated

inline void __syncthreads() {
  using namespace emulated;
  machine& m = the_machine();
  if (m.running != m.threads) stop("a barrier after some threads have left");
  ++m.progress;
  if (++m.arrived == m.threads) {
    m.arrived = 0;
    ++m.generation;
    return;
  }
  unsigned const mine = m.generation;
  while (m.generation == mine) switch_to_scheduler();
}
inline void __syncwarp() {
  static char const kind = 0;
  emulated::together(nullptr, &kind, [](void**) {});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other) {
  if (mask != 0xFFFFFFFFu) emulated::stop("a shuffle of part of a warp");
  struct operand {
    T value;
    int other;
  } mine{value, other};
  static char const kind = 0;
  emulated::together(&mine, &kind, [](void** all) {
    T old[32];
    for (int k = 0; k < 32; ++k) old[k] = static_cast<operand*>(all[k])->value;
    for (int k = 0; k < 32; ++k) {
      auto& of = *static_cast<operand*>(all[k]);
      of.value = old[k ^ of.other];
    }
  });
  return mine.value;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}

// --- The run-time library ---
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNoDevice = 100,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
constexpr int cudaStreamNonBlocking = 1, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2;
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };

namespace emulated {
using work = std::function<void()>;
struct graph {
  std::vector<work> nodes;
  bool ended = false;  ///< nothing more is recorded into it
};
struct stream {
  std::shared_ptr<graph> captured;  ///< while work is recorded instead of done
};
/// The place in which stream it is; a stream that waits for one that is recorded is recorded with it.
struct event {
  std::shared_ptr<graph> captured;
};
/// All of a GPU's memory, its number, and what was taken.
inline std::size_t memory = std::size_t{8} << 30, taken = 0;
inline int devices = 1;

inline void put(stream* in, work job) {
  if (in != nullptr && in->captured && !in->captured->ended)
    in->captured->nodes.push_back(std::move(job));
  else
    job();
}
template <class... P>
void launch(stream* in, void (*kernel)(P...), dim3 grid, unsigned threads, std::size_t shared, P... arguments) {
  put(in, [=] { launch_now(kernel, grid, threads, shared, arguments...); });
}
}  // namespace emulated
using cudaStream_t = emulated::stream*;
using cudaEvent_t = emulated::event*;
using cudaGraph_t = emulated::graph*;
using cudaGraphExec_t = emulated::graph*;

struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};

inline char const* cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorMemoryAllocation ? "out of memory"
         : e == cudaErrorNoDevice       ? "no CUDA-capable device is detected"
                                        : "no error";
}
inline char const* cudaGetErrorName(cudaError_t e) { return e == cudaSuccess ? "cudaSuccess" : "cudaError"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = emulated::devices;
  return emulated::devices == 0 ? cudaErrorNoDevice : cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* of, int) {
  *of = {"emulated GPU", emulated::memory, 8, 0, 1};
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(std::size_t* left, std::size_t* all) {
  *all = emulated::memory, *left = emulated::memory - emulated::taken;
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** block, std::size_t size) {
  if (size > emulated::memory - emulated::taken) return cudaErrorMemoryAllocation;
  // The size lies in front of the block; what is behind it is a sanitizer's to watch.
  auto* const all = static_cast<std::byte*>(std::aligned_alloc(256, 256 + (size + 255) / 256 * 256));
  std::memcpy(all, &size, sizeof size);
  std::memset(all + 256, 0xFF, size);
  emulated::taken += size;
  *block = all + 256;
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* block) {
  if (block == nullptr) return cudaSuccess;
  auto* const all = static_cast<std::byte*>(block) - 256;
  std::size_t size;
  std::memcpy(&size, all, sizeof size);
  emulated::taken -= size;
  std::free(all);
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** block, std::size_t size) {
  *block = std::malloc(size);
  return *block == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* block) {
  std::free(block);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* block, int value, std::size_t size) {
  std::memset(block, value, size);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* block, int value, std::size_t size, cudaStream_t in) {
  emulated::put(in, [=] { std::memset(block, value, size); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t size, cudaMemcpyKind, cudaStream_t in) {
  emulated::put(in, [=] { std::memcpy(to, from, size); });
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, int) {
  *stream = new emulated::stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream != nullptr && stream->captured && !stream->captured->ended)
    emulated::stop("waiting for a stream that is being recorded");
  return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, int) {
  *event = new emulated::event;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t in) {
  event->captured = in->captured;
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event->captured && !event->captured->ended) stream->captured = event->captured;
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t in, cudaStreamCaptureMode) {
  in->captured = std::make_shared<emulated::graph>();
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t in, cudaGraph_t* graph) {
  *graph = new emulated::graph(*in->captured);
  in->captured->ended = true;
  in->captured.reset();
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* to, cudaGraph_t from, unsigned long long = 0) {
  *to = new emulated::graph(*from);
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  for (auto const& node : graph->nodes) node();
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}

// --- Instructions of kernels/cuda/instructions.cuh ---
namespace emulated {

inline void copy_async(void* shared, void const* global, bool valid) {
  auto const aligned = [](void const* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  if (!aligned(shared) || (valid && !aligned(global))) stop("cp.async of 16 bytes that are not aligned");
  if (order == 1) {
    if (valid)
      std::memcpy(shared, global, 16);
    else
      std::memset(shared, 0, 16);
    return;
  }
  the_machine().now->begun.push_back({shared, valid ? global : nullptr});
}
inline void commit_copies() {
  fiber& f = *the_machine().now;
  f.on_way.push_back(std::move(f.begun));
  f.begun.clear();
}
/// Waits until at most `left` groups are on their way.
inline void wait_copies(std::size_t left) {
  fiber& f = *the_machine().now;
  while (f.on_way.size() > left) {
    for (copy const& c : f.on_way.front())
      if (c.from != nullptr)
        std::memcpy(c.to, c.from, 16);
      else
        std::memset(c.to, 0, 16);
    f.on_way.erase(f.on_way.begin());
  }
}

/// ldmatrix.x4 of PTX: lane l gives the address of row l % 8 of matrix l / 8, of 8 x 8 halves; it gets the two halves
/// of row l / 4 from column 2 (l % 4) on or, transposed, those of rows 2 (l % 4) on of column l / 4.
template <bool Transposed>
void load_matrices(unsigned (&r)[4], void const* row) {
  struct operand {
    void const* row;
    unsigned* r;
  } mine{row, r};
  static char const kind = 0;
  together(&mine, &kind, [](void** all) {
    std::uint16_t matrix[4][8][8];
    for (int l = 0; l < 32; ++l) {
      auto const* const from = static_cast<operand*>(all[l])->row;
      if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0) stop("ldmatrix of a row that is not aligned");
      std::memcpy(matrix[l / 8][l % 8], from, 16);
    }
    for (int l = 0; l < 32; ++l)
      for (int m = 0; m < 4; ++m) {
        unsigned const low = Transposed ? matrix[m][2 * (l % 4)][l / 4] : matrix[m][l / 4][2 * (l % 4)];
        unsigned const high = Transposed ? matrix[m][2 * (l % 4) + 1][l / 4] : matrix[m][l / 4][2 * (l % 4) + 1];
        static_cast<operand*>(all[l])->r[m] = low | high << 16;
      }
  });
}

inline float upper(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

struct product_operands {
  float* c;
  unsigned const* a;
  unsigned b[2];
};
/// c += a b, of 16 x 8 by 8 x 8 matrices (tf32) or 16 x 16 by 16 x 8 (bf16), spread over lanes as PTX's mma.sync says.
template <bool Half>
void multiply(float (&c)[4], unsigned const (&a)[4], unsigned b0, unsigned b1) {
  product_operands mine{c, a, {b0, b1}};
  static char const kind = 0;
  together(&mine, &kind, [](void** all) {
    constexpr int depth = Half ? 16 : 8;
    float left[16][depth], right[depth][8];
    for (int l = 0; l < 32; ++l) {
      auto const& of = *static_cast<product_operands*>(all[l]);
      int const g = l / 4, t = l % 4;
      for (int k = 0; k < 4; ++k) {
        int const row = g + 8 * (k % 2);
        if (Half) {
          int const column = 2 * t + 8 * (k / 2);
          left[row][column] = upper(of.a[k] << 16), left[row][column + 1] = upper(of.a[k] & 0xFFFF0000u);
        } else {
          left[row][t + 4 * (k / 2)] = upper(of.a[k] & 0xFFFFE000u);
        }
      }
      for (int k = 0; k < 2; ++k) {
        if (Half) {
          int const row = 2 * t + 8 * k;
          right[row][g] = upper(of.b[k] << 16), right[row + 1][g] = upper(of.b[k] & 0xFFFF0000u);
        } else {
          right[t + 4 * k][g] = upper(of.b[k] & 0xFFFFE000u);
        }
      }
    }
    for (int l = 0; l < 32; ++l) {
      auto const& of = *static_cast<product_operands*>(all[l]);
      for (int k = 0; k < 4; ++k) {
        int const row = l / 4 + 8 * (k / 2), column = 2 * (l % 4) + k % 2;
        float sum = 0;
        for (int d = 0; d < depth; ++d) sum += left[row][d] * right[d][column];
        of.c[k] += sum;
      }
    }
  });
}

inline unsigned round_to_tf32(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, 4);
  return (bits & 0x7F800000u) == 0x7F800000u ? bits : (bits + 0x1000u) & 0xFFFFE000u;  // away from zero, as cvt.rna
}

}  // namespace emulated
