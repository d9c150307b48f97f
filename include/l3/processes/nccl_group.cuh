/// @file  include/l3/processes/nccl_group.cuh: a group of GPUs over NCCL. Needs the component l3::nccl.
#pragma once
#include <nccl.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <exception>
#include <l3/core/cuda.cuh>
#include <l3/core/error.hpp>
#include <l3/core/gpu_group.cuh>
#include <l3/core/process_group.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// The GPUs that the processes of a group have chosen, which are to be different ones. The group is asked once, at
/// construction, to make NCCL's connections.
///
/// Sums run in whatever order NCCL takes for these GPUs and this network: the same everywhere, and each time, but not
/// that of the processes' numbers.
///
/// Errors  setting_error: two processes have chosen the same GPU. group_error: NCCL says so.
class nccl_group final : public gpu_group {
 public:
  explicit nccl_group(process_group& all) : rank_(all.rank()) {
    for (std::size_t r = 0; r != all.size(); ++r) names_.push_back(all.name(r));
    int device = 0;
    cuda_check(cudaGetDevice(&device), "asking which it is");
    cudaDeviceProp of{};
    cuda_check(cudaGetDeviceProperties(&of, device), "reading what it is");
    std::vector<cudaUUID_t> each(size());
    all.gather_values(of.uuid, std::span(each));
    for (std::size_t b = 0; b != size(); ++b)
      for (std::size_t a = 0; a != b; ++a)
        if (std::memcmp(&each[a], &each[b], sizeof each[a]) == 0)
          throw setting_error(
              {"GPUs of the processes", "one for each", "the same for " + names_[a] + " and " + names_[b]});
    ncclUniqueId id{};  // has no name of its own, which templates would need
    if (rank_ == 0) check(ncclGetUniqueId(&id), "naming the group");
    std::array<std::byte, sizeof id> own;
    std::memcpy(own.data(), &id, sizeof id);
    std::vector<std::array<std::byte, sizeof id>> ids(size());
    all.gather_values(own, std::span(ids));
    std::memcpy(&id, ids.front().data(), sizeof id);
    check(ncclCommInitRank(&comm_, static_cast<int>(size()), id, static_cast<int>(rank_)), "connecting");
  }
  ~nccl_group() override {
    // To say goodbye waits for the others. Where something has failed they may wait for this process, which is ending.
    if (comm_ == nullptr || std::uncaught_exceptions() > 0) return;
    if (has_mean_) ncclRedOpDestroy(mean_, comm_);
    ncclCommDestroy(comm_);
  }
  std::size_t rank() const override { return rank_; }
  std::size_t size() const override { return names_.size(); }
  std::string name(std::size_t rank) const override { return names_[rank]; }
  void check() override {
    if (comm_ == nullptr) throw group_error({"NCCL", "a connection", "one that was given up"});
    ncclResult_t now = ncclSuccess;
    check(ncclCommGetAsyncError(comm_, &now), "asking for errors");
    check(now, "messages between the GPUs");
  }
  void abandon() override {
    if (comm_ != nullptr) ncclCommAbort(std::exchange(comm_, nullptr));  // (which waits for recorded work to be gone)
  }

  void mean(float* values, std::size_t count, float factor, cudaStream_t in) override {
    if (!has_mean_)
      check(ncclRedOpCreatePreMulSum(&mean_, &factor, ncclFloat, ncclScalarHostImmediate, comm_), "preparing a mean");
    has_mean_ = true;
    check(ncclAllReduce(values, values, count, ncclFloat, mean_, comm_, in), "ncclAllReduce");
  }
  void gather(void const* mine, void* all, std::size_t bytes, cudaStream_t in) override {
    check(ncclAllGather(mine, all, bytes, ncclInt8, comm_, in), "ncclAllGather");
  }
  void sum_parts(float const* parts, float* mine, std::size_t count, cudaStream_t in) override {
    check(ncclReduceScatter(parts, mine, count, ncclFloat, ncclSum, comm_, in), "ncclReduceScatter");
  }

 private:
  void check(ncclResult_t code, char const* doing) const {
    if (code != ncclSuccess && code != ncclInProgress)
      throw group_error({std::string("NCCL, ") + doing, "success", said(code, comm_)});
  }
  static std::string said(ncclResult_t code, ncclComm_t comm) {
    std::string const more = ncclGetLastError(comm);
    return ncclGetErrorString(code) + (more.empty() ? "" : ": " + more);
  }

  std::size_t rank_;
  std::vector<std::string> names_;
  ncclComm_t comm_ = nullptr;
  ncclRedOp_t mean_{};
  bool has_mean_ = false;
};

}  // namespace l3::inline L3_ISA
