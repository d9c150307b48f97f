/// @file  tests/support/cuda_emulation/cuda_runtime.h: as much of CUDA as l3 uses, on the processor: so that the
/// kernels' indices, barriers and arithmetic are tested on machines without a GPU. It stands where the real header of
/// this name would be found.
///
/// Every thread of a block is a fiber; blocks run one after the other. What it betrays: memory outside of what was
/// taken (under the address sanitizer), values nobody wrote (all memory starts as not-a-numbers), copies that are not
/// waited for (cp.async happens at the wait), threads that do not meet at a barrier, and missing barriers (run a kernel
/// in both of `emulated::order`: the results differ). Products of warpgroups (wgmma) find their operands by the bits of
/// their descriptors; where their sums lie there are not-a-numbers until they have been waited for. Work in streams is
/// done only when somebody waits for it, and of what may be done in any order `order` says which comes first: an event
/// that is not waited for, or memory that is used again too soon, shows. What it knows nothing of: time and caches.
#pragma once
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
/// From g++ 13 on each fiber would get a second stack, to see who reads variables after their end: twenty times the
/// time.
extern "C" __attribute__((weak)) char const* __asan_default_options() { return "detect_stack_use_after_return=0"; }
#endif
#if defined(__GLIBC__)
#include <malloc.h>
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

/// In which order threads run between barriers, and when asynchronous things happen: 0 rising, copies when they are
/// waited for, products at once; 1 falling, copies at once, products when they are waited for.
inline int order = 0;

/// The GPU's compute capability: 8, or 9 for one that multiplies by warpgroups.
inline int capability = 8;
/// Whether the program holds code that it can run.
inline bool has_code = true;

[[noreturn]] inline void stop(char const* what) {
  std::fprintf(stderr, "CUDA emulation: %s\n", what);
  std::abort();
}

struct copy {
  void* to;
  void const* from;  ///< null: zeros
};

/// A thread's part of wgmma.mma_async.
struct group_product {
  float* c;
  int blocks;  ///< of 8 columns
  bool across;
  std::uint64_t a, b;  ///< descriptors
};
/// Sums of a thread that products still add to: not in their registers.
struct sums_on_way {
  float* c;
  std::size_t products;
  std::vector<float> values;
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
  std::vector<void*> unseen;              ///< what they wrote, until it is shown to products of warpgroups
  bool may_multiply = false;              ///< since wgmma.fence
  std::vector<group_product> products_begun;
  std::vector<std::vector<group_product>> products_on_way;
  std::vector<sums_on_way> sums;
  std::size_t products = 0;  ///< so far
};
struct warp {
  unsigned arrived = 0, generation = 0, lanes = 0;
  void const* kind = nullptr;
  void* operands[32] = {};
};
/// An operand of products of warpgroups: `lines` of 16 values. All threads of a group want the same ones.
struct operand_values {
  std::uint64_t descriptor;
  int lines;
  bool across;
  std::uint32_t begin, end;  ///< where they are, in shared memory
  std::vector<float> values;
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
  std::byte* shared_begin = nullptr;
  std::size_t shared_size = 0;
  std::unique_ptr<std::byte[]> shown;               ///< shared memory as products of warpgroups see it
  std::vector<operand_values> read;                 ///< from there, where it has not changed since
  std::vector<std::vector<group_product>> history;  ///< what each warpgroup's first thread to come began
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
  if (!m.now->sums.empty()) stop("a thread ended before its warpgroup's products");
  if (m.now->products != m.history[m.now_index / 128].size()) stop("not all of a warpgroup took part in a product");
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
  if (m.shared == nullptr || m.shared_size != shared) {
    m.shared.reset(new std::byte[shared + 128]);
    m.shown.reset(new std::byte[shared]);
    m.shared_size = shared;
  }
  std::memset(m.shared.get(), 0xFF, shared + 128);
  std::memset(m.shown.get(), 0xFF, shared);
  m.read.clear();
  auto const address = reinterpret_cast<std::uintptr_t>(m.shared.get());
  m.shared_begin = m.shared.get() + (128 - address % 128) % 128;
  m.history.assign((threads + 127) / 128, {});
  m.threads = m.running = threads, m.arrived = 0;
  for (unsigned k = 0; k < threads; ++k) {
    fiber& f = m.fibers[k];
    if (!f.stack) f.stack.reset(new std::byte[fiber::stack_size]);
    f.done = f.may_multiply = false;
    f.unseen.clear(), f.products = 0;
    // Stacks that begin at the same place of a page would share few lines of the processor's caches.
    f.at.make(f.stack.get(), fiber::stack_size - k * 1088 % (64 << 10), fiber_main);
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
  if (shared > 99 << 10 && capability == 8) stop("more shared memory than some GPUs of capability 8 have for a block");
  if (shared > 227 << 10) stop("more shared memory than a GPU of compute capability 9 has for a block");
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
namespace emulated {
/// Each lane has its own value, and takes that of the lane that `source(own lane, what it asks for)` names.
template <class T, class Source>
T shuffle(unsigned mask, T value, int asked, Source) {
  if (mask != 0xFFFFFFFFu) stop("a shuffle of part of a warp");
  struct operand {
    T value;
    int asked;
  } mine{value, asked};
  static char const kind = 0;
  together(&mine, &kind, [](void** all) {
    T old[32];
    for (int k = 0; k < 32; ++k) old[k] = static_cast<operand*>(all[k])->value;
    for (int k = 0; k < 32; ++k) {
      auto& of = *static_cast<operand*>(all[k]);
      of.value = old[Source{}(k, of.asked)];
    }
  });
  return mine.value;
}
}  // namespace emulated
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other) {
  return emulated::shuffle(mask, value, other, [](int lane, int asked) { return lane ^ asked; });
}
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  return emulated::shuffle(mask, value, (from & (width - 1)) | -width << 8,
                           [](int lane, int asked) { return (lane & asked >> 8) | (asked & 31); });
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  if (mask != 0xFFFFFFFFu) emulated::stop("a vote of part of a warp");
  unsigned mine = predicate != 0 ? 1 : 0;
  static char const kind = 0;
  emulated::together(&mine, &kind, [](void** all) {
    unsigned bits = 0;
    for (int k = 0; k < 32; ++k) bits |= *static_cast<unsigned*>(all[k]) << k;
    for (int k = 0; k < 32; ++k) *static_cast<unsigned*>(all[k]) = bits;
  });
  return mine;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}

// --- The run-time library ---
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNoDevice = 100,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorNotReady = 600,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
constexpr int cudaStreamNonBlocking = 1, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2;
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };

namespace emulated {
using work = std::function<void()>;
/// A piece of a GPU's work, and what must have been done before it. It is put off as long as can be: until somebody
/// waits for it, or for what comes after it. So whoever forgets to wait reads what is not there yet.
struct task {
  work job{};
  std::vector<std::shared_ptr<task>> after{};
  bool done = false;
};
using task_ptr = std::shared_ptr<task>;
struct graph {
  std::vector<task_ptr> nodes;
  bool ended = false;  ///< nothing more is recorded into it
};
struct stream {
  task_ptr last = nullptr;
  std::shared_ptr<graph> captured = nullptr;  ///< while work is recorded instead of done;
  task_ptr last_captured = nullptr;           ///< its last one of that
  bool is_captured() const { return captured != nullptr && !captured->ended; }
  task_ptr& end() { return is_captured() ? last_captured : last; }
};
/// A place in a stream. One that waits for a stream that is recorded is recorded with it.
struct event {
  task_ptr at = nullptr;
  std::shared_ptr<graph> captured = nullptr;
  bool asked = false;
};
inline std::vector<stream*> streams;
/// All of a GPU's memory, its number, and what was taken.
inline std::size_t memory = std::size_t{8} << 30, taken = 0;
inline int devices = 1;
/// Blocks that a GPU reads and writes on its own, and their sizes.
inline std::map<std::byte const*, std::size_t> pinned;
inline bool is_pinned(void const* p) {
  auto const at = pinned.upper_bound(static_cast<std::byte const*>(p));
  return at != pinned.begin() && static_cast<std::byte const*>(p) < std::prev(at)->first + std::prev(at)->second;
}

/// Of what may be done in any order, what came last comes first or, the other way round, last.
inline void run(task_ptr const& t) {
  if (t == nullptr || t->done) return;
  std::vector<task*> way{t.get()};
  while (!way.empty()) {
    task* const now = way.back();
    if (!now->done) {
      task* before = nullptr;
      for (task_ptr const& each : now->after)
        if (!each->done && (before == nullptr || order == 1)) before = each.get();
      if (before != nullptr) {
        way.push_back(before);
        continue;
      }
      if (now->job) now->job();
      now->done = true, now->job = nullptr, now->after.clear();
    }
    way.pop_back();
  }
}
inline void run_all() {
  for (stream* each : streams) run(each->last);
}
/// (Stream null is not one of ours: what is put there is done at once.)
inline void put(stream* in, work job, task_ptr const& after = nullptr) {
  if (in == nullptr) return job();
  task_ptr& end = in->end();
  auto const t = std::make_shared<task>(task{std::move(job)});
  for (task_ptr const& each : {end, after})
    if (each != nullptr) t->after.push_back(each);
  if (in->is_captured()) in->captured->nodes.push_back(t);
  end = t;
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
  return e == cudaErrorMemoryAllocation         ? "out of memory"
         : e == cudaErrorNoDevice               ? "no CUDA-capable device is detected"
         : e == cudaErrorNoKernelImageForDevice ? "no kernel image is available for execution on the device"
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
  *of = {"emulated GPU", emulated::memory, emulated::capability, 0, 132};
  return cudaSuccess;
}
struct cudaFuncAttributes {};
template <class... P>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, void (*)(P...)) {
  return emulated::has_code ? cudaSuccess : cudaErrorNoKernelImageForDevice;
}
inline cudaError_t cudaMemGetInfo(std::size_t* left, std::size_t* all) {
  *all = emulated::memory, *left = emulated::memory - emulated::taken;
  return cudaSuccess;
}
#if defined(__GLIBC__)
/// A GPU's memory comes and goes by the thousand blocks here: to give it back to the system each time, and to get it
/// again page by page, would be a third of the tests' time.
inline bool const keeps_memory = mallopt(M_MMAP_THRESHOLD, 32 << 20) != 0 && mallopt(M_TRIM_THRESHOLD, 1 << 30) != 0;
#endif
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
  emulated::run_all();
  auto* const all = static_cast<std::byte*>(block) - 256;
  std::size_t size;
  std::memcpy(&size, all, sizeof size);
  emulated::taken -= size;
  std::free(all);
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** block, std::size_t size) {
  *block = std::malloc(size);
  if (*block == nullptr) return cudaErrorMemoryAllocation;
  emulated::pinned[static_cast<std::byte const*>(*block)] = size;
  return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* block) {
  emulated::pinned.erase(static_cast<std::byte const*>(block));
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
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream == nullptr) return cudaSuccess;
  if (stream->is_captured()) emulated::stop("waiting for a stream that is being recorded");
  emulated::run(stream->last);
  return cudaSuccess;
}
/// Other memory of the machine's than pinned blocks has been written when the call returns; when it is read is not
/// said.
inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t size, cudaMemcpyKind kind, cudaStream_t in) {
  bool const recorded = in != nullptr && in->is_captured();
  emulated::put(in, [=] { std::memcpy(to, from, size); });
  return kind == cudaMemcpyDeviceToHost && !recorded && !emulated::is_pinned(to) ? cudaStreamSynchronize(in)
                                                                                 : cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, int) {
  *stream = emulated::streams.emplace_back(new emulated::stream);
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  emulated::run(stream->last);
  std::erase(emulated::streams, stream);
  delete stream;
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
  event->at = in->end(), event->asked = false;
  event->captured = in->is_captured() ? in->captured : nullptr;
  return cudaSuccess;
}
/// Asked for the first time, its work is not done yet.
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!std::exchange(event->asked, true)) return cudaErrorNotReady;
  emulated::run(event->at);
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->captured != nullptr) emulated::stop("waiting for an event of a stream that was recorded");
  emulated::run(event->at);
  return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event->captured != nullptr) {
    if (event->captured->ended) emulated::stop("a stream that waits for an event of one that was recorded before");
    if (!stream->is_captured()) stream->captured = event->captured, stream->last_captured = nullptr;
    if (stream->captured != event->captured) emulated::stop("streams that are recorded apart wait for each other");
  } else if (stream->is_captured() && event->at != nullptr) {
    emulated::stop("a stream that is recorded waits for work that is not");
  }
  emulated::put(
      stream, [] {}, event->at);
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t in, cudaStreamCaptureMode) {
  in->captured = std::make_shared<emulated::graph>();
  in->last_captured = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t in, cudaGraph_t* graph) {
  // Whatever went to other streams has to have come back.
  std::set<emulated::task const*> joined;
  std::vector<emulated::task const*> way{in->last_captured.get()};
  while (!way.empty()) {
    emulated::task const* const now = way.back();
    way.pop_back();
    if (now == nullptr || !joined.insert(now).second) continue;
    for (auto const& each : now->after) way.push_back(each.get());
  }
  if (joined.size() != in->captured->nodes.size())
    emulated::stop("work of other streams is recorded and not waited for");
  *graph = new emulated::graph(*in->captured);
  in->captured->ended = true;
  in->captured.reset(), in->last_captured.reset();
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* to, cudaGraph_t from, unsigned long long = 0) {
  *to = new emulated::graph(*from);
  return cudaSuccess;
}
/// All of it comes behind what is in the stream, and before what is put there next.
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t in) {
  std::map<emulated::task const*, emulated::task_ptr> made;
  auto const end = std::make_shared<emulated::task>();
  for (auto const& node : graph->nodes) {
    auto const t = std::make_shared<emulated::task>(emulated::task{node->job});
    for (auto const& each : node->after) t->after.push_back(made.at(each.get()));
    if (in->last != nullptr) t->after.push_back(in->last);
    made[node.get()] = t, end->after.push_back(t);
  }
  in->last = end;
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

inline void copy_now(copy const& c) {
  if (c.from != nullptr)
    std::memcpy(c.to, c.from, 16);
  else
    std::memset(c.to, 0, 16);
}
/// 16 bytes that products of warpgroups see have changed.
inline void forget(std::uint32_t at) {
  std::erase_if(the_machine().read, [at](operand_values const& each) { return at + 16 > each.begin && at < each.end; });
}
/// Lets products of warpgroups see 16 bytes of shared memory.
inline void show(void const* p) {
  machine& m = the_machine();
  auto const at = static_cast<std::byte const*>(p) - m.shared_begin;
  std::memcpy(m.shown.get() + at, p, 16);
  forget(static_cast<std::uint32_t>(at));
}
inline void copy_async(void* shared, void const* global, bool valid) {
  auto const aligned = [](void const* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  if (!aligned(shared) || (valid && !aligned(global))) stop("cp.async of 16 bytes that are not aligned");
  machine const& m = the_machine();
  auto* const to = static_cast<std::byte*>(shared);
  if (to < m.shared_begin || to + 16 > m.shared_begin + m.shared_size) stop("cp.async outside of shared memory");
  if (order == 1) {
    copy_now({shared, valid ? global : nullptr});
    show(shared);
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
    for (copy const& c : f.on_way.front()) {
      copy_now(c);
      if (order == 0) f.unseen.push_back(c.to);
    }
    f.on_way.erase(f.on_way.begin());
  }
}

/// movmatrix of PTX: of 8 x 8 halves lane l has the two of row l / 4 from column 2 (l % 4) on, and gets those of the
/// transposed ones.
inline unsigned transposed_matrix(unsigned x) {
  static char const kind = 0;
  together(&x, &kind, [](void** all) {
    std::uint16_t matrix[8][8];
    for (int l = 0; l < 32; ++l) std::memcpy(&matrix[l / 4][2 * (l % 4)], all[l], 4);
    for (int l = 0; l < 32; ++l) {
      std::uint16_t const two[2] = {matrix[2 * (l % 4)][l / 4], matrix[2 * (l % 4) + 1][l / 4]};
      std::memcpy(all[l], two, 4);
    }
  });
  return x;
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

/// stmatrix.x4.trans of PTX, which is the way back. What products of warpgroups see there from then on is not known.
inline void store_matrices_transposed(void* row, unsigned const (&r)[4]) {
  if (capability < 9) stop("stmatrix on a GPU older than of compute capability 9");
  struct operand {
    void* row;
    unsigned const* r;
  } mine{row, r};
  static char const kind = 0;
  together(&mine, &kind, [](void** all) {
    machine const& m = the_machine();
    for (int l = 0; l < 32; ++l) {
      auto* const to = static_cast<std::byte*>(static_cast<operand*>(all[l])->row);
      if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0) stop("stmatrix of a row that is not aligned");
      std::uint16_t line[8];  // row l % 8 of what is stored: column l % 8 of what the lanes hold
      for (int k = 0; k < 8; ++k)
        line[k] = static_cast<std::uint16_t>(static_cast<operand*>(all[4 * k + l % 8 / 2])->r[l / 8] >> 16 * (l % 2));
      std::memcpy(to, line, 16);
      std::memset(m.shown.get() + (to - m.shared_begin), 0xFF, 16);
      forget(static_cast<std::uint32_t>(to - m.shared_begin));
    }
  });
}

inline float upper(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

using float_row [[gnu::vector_size(32)]] = float;
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
    float left[16][depth];
    float_row right[depth], sums[16] = {};
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
    for (int row = 0; row < 16; ++row)
      for (int d = 0; d < depth; ++d) sums[row] += left[row][d] * right[d];
    for (int l = 0; l < 32; ++l) {
      auto const& of = *static_cast<product_operands*>(all[l]);
      for (int k = 0; k < 4; ++k) {
        int const row = l / 4 + 8 * (k / 2), column = 2 * (l % 4) + k % 2;
        of.c[k] += sums[row][column];
      }
    }
  });
}

inline unsigned round_to_tf32(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, 4);
  return (bits & 0x7F800000u) == 0x7F800000u ? bits : (bits + 0x1000u) & 0xFFFFE000u;  // away from zero, as cvt.rna
}

/// Where the dynamic part of shared memory begins: no multiple of more than the kernels declare.
inline constexpr std::uint32_t shared_base = 1024 + 128;
inline std::uint32_t shared_address(void const* p) {
  return shared_base + static_cast<std::uint32_t>(static_cast<std::byte const*>(p) - the_machine().shared_begin);
}

/// What the bits of a descriptor of wgmma say of an operand that is swizzled by 128 bytes.
struct operand {
  std::uint64_t bits;
  bool across;

  /// Of row `line` (or column, of the right operand) where the value for `term` of the sum is in shared memory.
  std::uint32_t place_of(int line, int term) const {
    auto const field = [&](int at) { return static_cast<std::uint32_t>(bits >> at & 0x3FFF) << 4; };
    // Atoms are 8 rows of 128 bytes; rows run along the sum, or across it.
    int const row = across ? term : line, column = across ? line : term;
    std::uint32_t const atom =
        static_cast<std::uint32_t>(row / 8) * field(32) + static_cast<std::uint32_t>(column / 64) * field(16);
    std::uint32_t address = field(0) + atom + static_cast<std::uint32_t>(row % 8 * 128 + column % 64 * 2);
    address ^= address >> 3 & 0x70;  // by where it is in shared memory, not in the operand
    if (address < shared_base || address + 2 > shared_base + the_machine().shared_size)
      stop("wgmma outside of shared memory");
    return address - shared_base;
  }
  /// The 16 values of each of the first `lines`, until something changes where they are.
  float const* values(int lines) const {
    machine& m = the_machine();
    for (operand_values const& each : m.read)
      if (each.descriptor == bits && each.lines == lines && each.across == across) return each.values.data();
    auto& now = m.read.emplace_back(operand_values{bits, lines, across, ~0u, 0, {}});
    for (int line = 0; line < lines; ++line)
      for (int term = 0; term < 16; ++term) {
        std::uint32_t const at = place_of(line, term);
        now.begin = std::min(now.begin, at), now.end = std::max(now.end, at + 2);
        std::uint16_t half;
        std::memcpy(&half, m.shown.get() + at, 2);
        now.values.push_back(upper(static_cast<unsigned>(half) << 16));
      }
    return now.values.data();
  }
};

inline void show_to_groups() {
  fiber& f = *the_machine().now;
  for (void const* p : f.unseen) show(p);
  f.unseen.clear();
}
inline void begin_group_products() { the_machine().now->may_multiply = true; }

/// This thread's sums of c += a b, in lane l of warp w of a warpgroup: rows 16 w + l / 4 and 8 more, of each block of
/// columns 2 (l % 4) and the next one.
inline void multiply_now(group_product const& of) {
  fiber& f = *the_machine().now;
  float* sums = nullptr;
  for (sums_on_way& s : f.sums)
    if (s.c == of.c) sums = s.values.data();
  int const thread = static_cast<int>(the_machine().now_index) % 128, lane = thread % 32;
  int const row = thread / 32 * 16 + lane / 4;
  float const* const left = operand{of.a, of.across}.values(64) + 16 * row;
  float const* const right = operand{of.b, of.across}.values(8 * of.blocks) + 16 * (2 * (lane % 4));
  for (int n = 0; n < of.blocks; ++n)
    for (int e = 0; e < 2; ++e)
      for (int h = 0; h < 2; ++h) {
        float sum = 0;
        for (int k = 0; k < 16; ++k) sum += left[16 * 8 * h + k] * right[16 * (8 * n + e) + k];
        sums[4 * n + 2 * h + e] += sum;
      }
}
/// wgmma.mma_async, m64 n(8 blocks) k16. No thread waits for another here, as on a GPU; that all begin the same
/// products is seen by comparing with the first to come.
inline void multiply_groups(float* c, int blocks, bool across, std::uint64_t a, std::uint64_t b) {
  machine& m = the_machine();
  fiber& f = *m.now;
  if (!f.may_multiply) stop("wgmma before wgmma.fence");
  if (m.threads % 128 != 0) stop("wgmma in a block that is not whole warpgroups");
  for (std::uint64_t const bits : {a, b}) {
    if (bits >> 62 != 1) stop("wgmma: only the swizzle of 128 bytes is emulated");
    if ((bits & 0x3FFFC000C000C000u) != 0) stop("wgmma: bits of a descriptor that should be zero");
  }
  group_product const mine{c, blocks, across, a, b};
  auto& history = m.history[m.now_index / 128];
  if (f.products == history.size()) history.push_back(mine);
  group_product const& first = history[f.products++];
  if (first.blocks != blocks || first.across != across || first.a != a || first.b != b)
    stop("the threads of a warpgroup are at different products");
  sums_on_way* sums = nullptr;
  for (sums_on_way& s : f.sums)
    if (s.c == c) sums = &s;
  if (sums == nullptr) {
    sums = &f.sums.emplace_back(sums_on_way{c, 0, {c, c + 4 * blocks}});
    std::memset(c, 0xFF, sizeof(float) * 4 * static_cast<std::size_t>(blocks));
  }
  ++sums->products;
  f.products_begun.push_back(mine);
  if (order == 0) multiply_now(mine);
}
inline void commit_group_products() {
  fiber& f = *the_machine().now;
  f.products_on_way.push_back(std::move(f.products_begun));
  f.products_begun.clear();
}
inline void wait_group_products(std::size_t left) {
  fiber& f = *the_machine().now;
  f.may_multiply = false;
  while (f.products_on_way.size() > left) {
    for (group_product const& p : f.products_on_way.front()) {
      if (order == 1) multiply_now(p);
      for (std::size_t k = 0; k < f.sums.size(); ++k)
        if (f.sums[k].c == p.c && --f.sums[k].products == 0) {
          std::memcpy(p.c, f.sums[k].values.data(), sizeof(float) * f.sums[k].values.size());
          f.sums.erase(f.sums.begin() + static_cast<std::ptrdiff_t>(k));
        }
    }
    f.products_on_way.erase(f.products_on_way.begin());
  }
}

}  // namespace emulated
