/// @file  include/l3/processes/mpi_group.hpp: a group of processes that MPI has started. Needs the component l3::mpi.
#pragma once
#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/process_group.hpp>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// All processes of a communicator. The copies of it that the group makes stay until MPI ends: to free one, all
/// processes would have to take part, which they cannot behind an error.
///
/// A sum costs the bytes of a ring, in three steps that overlap with the work in between: every process gets its slice
/// from all others, adds them up in the order of their numbers, and gives the result to all others.
///
/// Waiting gives the core away and calls `watch`, which throws when there is nobody left to wait for; MPI itself may
/// wait for ever. To be called by one thread at a time (MPI_THREAD_FUNNELED will do if it is the main one).
///
/// Memory  one more copy of what is summed between two calls of finish_sums; taken in the first round, then kept.
/// Errors  group_error: MPI says so. What `watch` throws.
class mpi_group final : public process_group {
 public:
  explicit mpi_group(
      MPI_Comm all, std::function<void()> watch = [] {})
      : watch_(std::move(watch)) {
    // Operations of one communicator must begin in the same order everywhere: each kind has one of its own.
    for (MPI_Comm* each : {&now_, &slices_, &wholes_}) {
      check(MPI_Comm_dup(all, each), "MPI_Comm_dup");
      check(MPI_Comm_set_errhandler(*each, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    }
    int rank = 0, size = 0;
    check(MPI_Comm_rank(all, &rank), "MPI_Comm_rank");
    check(MPI_Comm_size(all, &size), "MPI_Comm_size");
    rank_ = static_cast<std::size_t>(rank), size_ = static_cast<std::size_t>(size);
    std::array<char, 128> own{};
    ("process " + std::to_string(rank) + " (on " + host_name() + ")").copy(own.data(), own.size() - 1);
    std::vector<std::array<char, 128>> all_names(size_);
    gather_values(own, std::span(all_names));
    for (auto const& each : all_names) names_.emplace_back(each.data());
  }
  std::size_t rank() const override { return rank_; }
  std::size_t size() const override { return size_; }
  /// With its machine: "process 3 (on node7)".
  std::string name(std::size_t rank) const override { return names_[rank]; }

  void gather(std::span<std::byte const> mine, std::span<std::byte> all) override {
    int const count = count_of(mine.size());
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Iallgather(mine.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, now_, &request), "MPI_Iallgather");
    wait(request);
  }

  void sum_parts(std::span<float const> parts, std::span<float> mine) override {
    float* const received = room(received_, parts.size());
    int const count = count_of(mine.size());
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Ialltoall(parts.data(), count, MPI_FLOAT, received, count, MPI_FLOAT, now_, &request), "MPI_Ialltoall");
    wait(request);
    add_up(received, mine, 1);
  }

  void begin_mean(std::span<float> values, float factor) override {
    if (begun_ == sums_.size()) sums_.emplace_back();
    sum& s = sums_[begun_++];
    s.values = values, s.factor = factor;
    s.counts.resize(size_), s.offsets.resize(size_), s.own_counts.resize(size_), s.own_offsets.resize(size_);
    for (std::size_t r = 0; r != size_; ++r) {
      std::size_t const begin = values.size() * r / size_, end = values.size() * (r + 1) / size_;
      s.offsets[r] = count_of(begin), s.counts[r] = count_of(end - begin);
    }
    for (std::size_t r = 0; r != size_; ++r)
      s.own_counts[r] = s.counts[rank_], s.own_offsets[r] = count_of(r * static_cast<std::size_t>(s.counts[rank_]));
    float* const received = room(s.received, size_ * static_cast<std::size_t>(s.counts[rank_]));
    check(MPI_Ialltoallv(values.data(), s.counts.data(), s.offsets.data(), MPI_FLOAT, received, s.own_counts.data(),
                         s.own_offsets.data(), MPI_FLOAT, slices_, &s.request),
          "MPI_Ialltoallv");
  }

  void poke() override {
    watch_();
    move_on();
  }

  /// Of the sums begun since the last `finish_sums`, the first so many are there.
  std::size_t finished() const { return finished_; }

  void finish_sums() override {
    wait_until([&] {
      move_on();
      return finished_ == begun_;
    });
    begun_ = added_ = finished_ = 0;
  }

 private:
  /// A sum on its way.
  struct sum {
    std::span<float> values;
    float factor = 1;
    std::vector<int> counts, offsets;          ///< the slices of `values`, one for each process
    std::vector<int> own_counts, own_offsets;  ///< everyone's part of this process's slice in `received`
    arena received;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  void move_on() {
    while (added_ != begun_ && done(sums_[added_].request)) {
      sum& s = sums_[added_++];
      auto const own =
          s.values.subspan(static_cast<std::size_t>(s.offsets[rank_]), static_cast<std::size_t>(s.counts[rank_]));
      add_up(room(s.received, 0), own, s.factor);
      check(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, s.values.data(), s.counts.data(), s.offsets.data(),
                            MPI_FLOAT, wholes_, &s.request),
            "MPI_Iallgatherv");
    }
    // One test moves all that is under way.
    if (finished_ != added_ && done(sums_[finished_].request)) ++finished_;
  }

  static std::string host_name() {
    char name[MPI_MAX_PROCESSOR_NAME];
    int length = 0;
    MPI_Get_processor_name(name, &length);
    return {name, static_cast<std::size_t>(length)};
  }
  static int count_of(std::size_t n) {
    if (n > 0x7FFFFFFF)
      throw group_error({"a message between processes", "at most 2^31 - 1 numbers", std::to_string(n)});
    return static_cast<int>(n);
  }

  /// So many numbers of an arena that grows. It is of huge pages: into small ones, cold, MPI copies ten times as
  /// slowly.
  static float* room(arena& in, std::size_t count) {
    constexpr std::size_t huge_page = std::size_t{1} << 21;
    if (in.size() < count * sizeof(float)) in = arena(std::max(count * sizeof(float), huge_page));
    return reinterpret_cast<float*>(in.data());
  }

  /// to = (part 0 + part 1 + ...) factor
  void add_up(float const* parts, std::span<float> to, float factor) {
    constexpr std::size_t stretch = 1024;  // stays in the nearest cache while all parts come by
    for (std::size_t begin = 0; begin < to.size(); begin += stretch) {
      std::size_t const end = std::min(to.size(), begin + stretch);
      std::copy(parts + begin, parts + end, to.data() + begin);
      for (std::size_t r = 1; r != size_; ++r)
        for (std::size_t k = begin; k != end; ++k) to[k] += parts[r * to.size() + k];
      for (std::size_t k = begin; k != end; ++k) to[k] *= factor;
    }
  }

  bool done(MPI_Request& request) {
    int complete = 0;
    check(MPI_Test(&request, &complete, MPI_STATUS_IGNORE), "MPI_Test");
    return complete != 0;
  }
  void wait(MPI_Request& request) {
    wait_until([&] { return done(request); });
  }
  /// There may be fewer cores than processes: soon the core is given away, later for longer.
  template <class Condition>
  void wait_until(Condition&& condition) {
    for (int tries = 0; !condition(); ++tries) {
      if (tries < 100) continue;
      if (tries % 256 == 0) watch_();
      if (tries < 1000)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  static void check(int code, char const* what) {
    if (code == MPI_SUCCESS) return;
    char said[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, said, &length);
    throw group_error({what, "success", std::string(said, static_cast<std::size_t>(length))});
  }

  std::function<void()> watch_;
  MPI_Comm now_ = MPI_COMM_NULL, slices_ = MPI_COMM_NULL, wholes_ = MPI_COMM_NULL;
  std::size_t rank_ = 0, size_ = 1;
  std::vector<std::string> names_;
  arena received_;
  std::vector<sum> sums_;                             ///< of this round; kept for their memory
  std::size_t begun_ = 0, added_ = 0, finished_ = 0;  ///< so many of them are so far
};

}  // namespace l3::inline L3_ISA
