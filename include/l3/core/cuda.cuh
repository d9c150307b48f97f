/// @file  include/l3/core/cuda.cuh: an NVIDIA GPU: its memory, the stream that work goes down, and how kernels are
/// launched.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <l3/core/backend.hpp>
#include <l3/core/context.hpp>
#include <l3/core/error.hpp>
#include <l3/core/gpu_group.cuh>
#include <l3/core/memory.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace l3::inline L3_ISA {

/// Throws device_error if a call of CUDA's failed; `doing` says what for. A device that has been lost in mid-run is
/// noticed here too: every later call fails.
inline void cuda_check(cudaError_t code, std::string const& doing) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // a mistake that can be mended must not meet the next call
  complaint const why{"the GPU, " + doing, "success",
                      std::string(cudaGetErrorString(code)) + " (" + cudaGetErrorName(code) + ")"};
  if (code == cudaErrorMemoryAllocation) throw device_memory_error(why);
  throw device_error(why);
}

/// What a GPU is, for people to read.
struct gpu_facts {
  std::string name;
  int major = 0, minor = 0;
  std::size_t memory = 0;  ///< bytes
  int multiprocessors = 1;
  int driver = 0;  ///< newest CUDA version it runs: 13000 is 13.0
};

namespace detail::gpu {

/// Whether the code that is being compiled may multiply by warpgroups: sm_90a has instructions for it, and no other
/// has.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDACC__)
inline constexpr bool warpgroup_code = true;
#else
inline constexpr bool warpgroup_code = false;
#endif
template <class = void>
__global__ void tell_warpgroup_code(int* yes) {
  *yes = warpgroup_code ? 1 : 0;
}

}  // namespace detail::gpu

/// Chooses a GPU for the calling thread. Errors: device_error: there is none, the driver is older than this build, or
/// the build has no code for the GPU.
inline gpu_facts open_gpu(int device = 0) {
  auto const refuse = [](std::string const& found) {
    throw device_error(complaint{"the backend cuda",
                                 "an NVIDIA GPU of compute capability 8.0 or newer and a driver for CUDA " +
                                     std::to_string(CUDART_VERSION / 1000) + "." +
                                     std::to_string(CUDART_VERSION % 1000 / 10) + " or newer",
                                 found});
  };
  gpu_facts facts;
  int count = 0;
  if (cudaError_t const code = cudaGetDeviceCount(&count); code != cudaSuccess) {
    cudaGetLastError();
    std::string found = cudaGetErrorString(code);
    if (cudaDriverGetVersion(&facts.driver) == cudaSuccess && facts.driver > 0)
      found += "; the driver is for CUDA " + std::to_string(facts.driver / 1000) + "." +
               std::to_string(facts.driver % 1000 / 10);
    refuse(found);
  }
  if (device >= count)
    refuse(count == 0 ? "none" : std::to_string(count) + ", and number " + std::to_string(device) + " was asked for");
  cuda_check(cudaSetDevice(device), "choosing it");
  cudaDeviceProp of{};
  cuda_check(cudaGetDeviceProperties(&of, device), "reading what it is");
  facts.name = of.name, facts.major = of.major, facts.minor = of.minor, facts.memory = of.totalGlobalMem;
  facts.multiprocessors = std::max(1, of.multiProcessorCount);
  cuda_check(cudaDriverGetVersion(&facts.driver), "reading the driver's version");
  if (of.major < 8)
    refuse(facts.name + " of compute capability " + std::to_string(of.major) + "." + std::to_string(of.minor));
  cuda_check(cudaFree(nullptr), "beginning to use it");
  cudaFuncAttributes code{};
  if (cudaError_t const answer = cudaFuncGetAttributes(&code, detail::gpu::tell_warpgroup_code<>);
      answer != cudaSuccess) {
    cudaGetLastError();
    refuse(facts.name + " of compute capability " + std::to_string(of.major) + "." + std::to_string(of.minor) +
           ", for which this build has no code (" + cudaGetErrorString(answer) + ")");
  }
  return facts;
}

/// A GPU's memory in bytes: what nobody has taken, and all of it.
struct gpu_memory {
  std::size_t left = 0, all = 0;
  gpu_memory() { cuda_check(cudaMemGetInfo(&left, &all), "asking for what is left of its memory"); }
};

/// One block of a GPU's memory, taken once. Contents start as zeros.
///
/// Errors  device_memory_error, which says how much was asked for and how much was left; device_error.
class device_block {
 public:
  device_block() = default;
  explicit device_block(std::size_t bytes) : size_(std::max(bytes, round_up(bytes, alignment))) {  // it may overflow
    if (size_ == 0) return;
    void* block = nullptr;
    if (cudaError_t const code = cudaMalloc(&block, size_); code == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      gpu_memory const now;
      throw device_memory_error(
          complaint{"memory of the GPU", std::to_string(size_ >> 20) + " MiB more",
                    std::to_string(now.left >> 20) + " MiB left of " + std::to_string(now.all >> 20)});
    } else {
      cuda_check(code, "taking memory");
    }
    block_.reset(static_cast<std::byte*>(block));
    cudaError_t cleared = cudaMemset(block, 0, size_);
    if (cleared == cudaSuccess) cleared = cudaStreamSynchronize(nullptr);  // our streams do not wait for that one
    cuda_check(cleared, "clearing memory");
  }
  std::byte* data() const noexcept { return block_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  struct release {
    void operator()(std::byte* p) const noexcept { cudaFree(p); }
  };
  std::unique_ptr<std::byte, release> block_;
  std::size_t size_ = 0;
};

/// Memory of the machine's that the GPU reads and writes on its own, while the processor does other things.
class pinned_block {
 public:
  pinned_block() = default;
  explicit pinned_block(std::size_t bytes) : size_(bytes) {
    void* block = nullptr;
    cudaError_t const code = bytes > 0 ? cudaMallocHost(&block, bytes) : cudaSuccess;
    if (code == cudaErrorMemoryAllocation) {  // no matter of the GPU's memory, nor of the batch that fits there
      cudaGetLastError();
      throw device_error(
          complaint{"memory of the machine for transfers to the GPU", std::to_string(bytes) + " bytes", "less"});
    }
    cuda_check(code, "taking memory of the machine's for transfers");
    block_.reset(static_cast<std::byte*>(block));
  }
  std::byte* data() const noexcept { return block_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  struct release {
    void operator()(std::byte* p) const noexcept { cudaFreeHost(p); }
  };
  std::unique_ptr<std::byte, release> block_;
  std::size_t size_ = 0;
};

template <class P>
struct memory_of<cuda<P>> {
  using type = device_block;
};

/// A queue of work for the GPU. What is put in runs in order.
class gpu_stream {
 public:
  gpu_stream() { cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"); }
  ~gpu_stream() { cudaStreamDestroy(stream_); }
  gpu_stream(gpu_stream const&) = delete;
  gpu_stream& operator=(gpu_stream const&) = delete;
  operator cudaStream_t() const { return stream_; }
  void wait() const { cuda_check(cudaStreamSynchronize(stream_), "waiting for its work"); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// A place in a stream that another stream, or the processor, can wait for.
class gpu_event {
 public:
  gpu_event() {
    cuda_check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync), "making an event");
  }
  ~gpu_event() { cudaEventDestroy(event_); }
  gpu_event(gpu_event const&) = delete;
  gpu_event& operator=(gpu_event const&) = delete;
  void record(cudaStream_t in) { cuda_check(cudaEventRecord(event_, in), "marking a place in its work"); }
  void hold(cudaStream_t other) const { cuda_check(cudaStreamWaitEvent(other, event_, 0), "ordering its work"); }
  void wait() const { cuda_check(cudaEventSynchronize(event_), "waiting for its work"); }
  /// Whether it would not wait.
  bool has_come() const {
    cudaError_t const code = cudaEventQuery(event_);
    if (code == cudaErrorNotReady)
      cudaGetLastError();  // is none
    else
      cuda_check(code, "asking for its work");
    return code == cudaSuccess;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

namespace detail::gpu {

/// Room in a block's shared memory that needs no permission.
inline constexpr std::size_t usual_shared_memory = 48 << 10;

/// Launches `kernel` with `shared` bytes of dynamic shared memory.
template <class... Parameters, class... Arguments>
void launch(cudaStream_t in, void (*kernel)(Parameters...), dim3 grid, unsigned threads, std::size_t shared,
            Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#if defined(__CUDACC__)
  if (shared > usual_shared_memory)
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
               "giving a kernel its shared memory");
  kernel<<<grid, threads, shared, in>>>(static_cast<Parameters>(arguments)...);
#else
  emulated::launch(in, kernel, grid, threads, shared, static_cast<Parameters>(arguments)...);
#endif
  cuda_check(cudaGetLastError(), "launching a kernel");
}

/// Blocks of `kernel`, with no more than the usual shared memory, that a multiprocessor has room for at a time.
template <class... Parameters>
std::size_t resident_blocks([[maybe_unused]] void (*kernel)(Parameters...), [[maybe_unused]] unsigned threads,
                            [[maybe_unused]] std::size_t shared) {
  int count = 2;
#if defined(__CUDACC__)
  cuda_check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, static_cast<int>(threads), shared),
             "asking for its room");
#endif
  return static_cast<std::size_t>(std::max(1, count));
}

/// A block's dynamic shared memory.
template <class T>
__device__ inline T* shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ __align__(128) unsigned char l3_shared[];
  return reinterpret_cast<T*>(l3_shared);
#else
  return reinterpret_cast<T*>(emulated::shared_memory());
#endif
}

/// Whether the code that this GPU takes from the program is such. It says so itself: of code that the driver has
/// translated, CUDA tells no difference.
inline bool has_warpgroup_code(cudaStream_t in) {
  device_block answer(sizeof(int));
  int yes = 0;
  launch(in, tell_warpgroup_code<>, dim3(1), 32, 0, reinterpret_cast<int*>(answer.data()));
  cuda_check(cudaMemcpyAsync(&yes, answer.data(), sizeof yes, cudaMemcpyDeviceToHost, in), "asking for its code");
  cuda_check(cudaStreamSynchronize(in), "asking for its code");
  return yes == 1;
}

}  // namespace detail::gpu

/// Runs on one GPU, the calling thread's, which is to be the thread that uses it; all of the backend's kernels go down
/// one stream. The number of threads, which other contexts take, says nothing here.
///
/// Errors  as open_gpu.
template <class P>
class context<cuda<P>> {
 public:
  explicit context(std::size_t /*threads*/ = 0, int device = 0) : facts_(open_gpu(device)) {
    if constexpr (std::is_same_v<P, bf16>)
      can_group_ = warpgroups_ = facts_.major == 9 && detail::gpu::has_warpgroup_code(stream_);
    if (char const* const asked = std::getenv("L3_CUDA_PRODUCTS")) products(asked);
  }
  std::size_t threads() const { return 1; }
  gpu_facts const& gpu() const { return facts_; }
  gpu_stream const& stream() const { return stream_; }
  /// Bytes of its memory that nobody has taken.
  std::size_t memory_left() const { return gpu_memory().left; }
  /// Whether convolutions in bf16 are multiplied by warpgroups, as a Hopper GPU does best, or by warps; and whether
  /// those of whole blocks of channels are so with all taps reading the same pixels in shared memory
  /// (kernels/cuda/conv_direct.cuh, conv_weight_direct.cuh), or copy them for each tap.
  bool warpgroups() const { return warpgroups_; }
  bool direct() const { return warpgroups_ && direct_ && can_direct_.value_or(true); }
  /// The same for who is about to do so: what that rests on is asked of the GPU by `holds`, the first time.
  template <class F>
  bool direct(F&& holds) {
    if (direct() && !can_direct_) can_direct_ = holds();
    return direct();
  }
  /// Both by name: "warp", "warpgroup" or "direct". It begins with the last of these that the GPU, and the code for it,
  /// can do as far as is known, or with what the environment's L3_CUDA_PRODUCTS says; asked for more, it does what it
  /// can. A step that has been recorded stays as it was. Errors: setting_error: another name.
  char const* products() const { return direct() ? "direct" : warpgroups() ? "warpgroup" : "warp"; }
  void products(std::string_view name) {
    if (name != "warp" && name != "warpgroup" && name != "direct")
      throw setting_error({"the GPU's products (L3_CUDA_PRODUCTS)", "warp, warpgroup or direct", std::string(name)});
    warpgroups_ = can_group_ && name != "warp";
    direct_ = name == "direct";
  }
  /// The processes over whose batches, all of one size, batch norm takes its moments in training, as in other contexts.
  /// Null: this one alone. `room` is what it works in: norm_room bytes for the layer with the most channels, which have
  /// to stay as long as work that was put into the stream meanwhile.
  gpu_group* norm_group() const { return norm_group_; }
  void norm_over(gpu_group* group, std::byte* room = nullptr) { norm_group_ = group, norm_room_ = room; }
  /// For each channel, two values of this process, two that are all processes', and two of each process, in order.
  static std::size_t norm_room(gpu_group const& group, std::size_t channels) {
    return (2 + group.size()) * 2 * channels * sizeof(float);
  }
  float* norm_room() const { return reinterpret_cast<float*>(norm_room_); }
  /// Kernels whose blocks go from tile to tile have at most so many: one for each multiprocessor, or fewer to leave
  /// some to others.
  unsigned most_blocks() const { return most_blocks_; }
  void most_blocks(unsigned wanted) { most_blocks_ = std::max(1u, wanted); }

 private:
  gpu_facts facts_;
  gpu_stream stream_;
  bool can_group_ = false, warpgroups_ = false, direct_ = true;
  std::optional<bool> can_direct_;  ///< once it has been asked
  unsigned most_blocks_ = static_cast<unsigned>(facts_.multiprocessors);
  gpu_group* norm_group_ = nullptr;
  std::byte* norm_room_ = nullptr;
};

template <class P, class T>
void upload(context<cuda<P>>& on, std::size_t count, T const* from, T* to) {
  if (count > 0)
    cuda_check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyHostToDevice, on.stream()), "sending it values");
  on.stream().wait();
}
/// Makes a block at least so large; what it held is lost. Waits for work that may use it.
template <class P>
void grow(context<cuda<P>>& on, device_block& block, std::size_t bytes) {
  if (block.size() >= bytes) return;
  on.stream().wait();
  block = {};
  block = device_block(bytes);
}

template <class P, class T>
void clear(context<cuda<P>>& on, std::size_t count, T* values) {
  cuda_check(cudaMemsetAsync(values, 0, count * sizeof(T), on.stream()), "clearing values");
}
/// The way back; waits for it.
template <class P, class T>
void download(context<cuda<P>>& on, std::size_t count, T const* from, T* to) {
  if (count > 0)
    cuda_check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToHost, on.stream()), "fetching values");
  on.stream().wait();
}

}  // namespace l3::inline L3_ISA
