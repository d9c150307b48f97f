/// @file  include/l3/core/context.hpp: what a backend needs at hand to run: its threads, and whom it runs with.
#pragma once
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cstddef>
#include <l3/core/backend.hpp>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/core/more_threads.hpp>
#include <l3/core/process_group.hpp>
#include <string>

namespace l3::inline L3_ISA {

/// A fixed number of threads that loops are spread over.
///
/// Work is cut into tasks by the caller. Tasks write apart from each other, and no sum is cut by the number of threads:
/// so results are the same bits for any number of them.
class thread_team {
 public:
  /// Zero means one thread for each core. Errors  setting_error: more than 1024.
  explicit thread_team(std::size_t threads = 0)
      : more_(more_threads::beyond_cores(possible(threads))),
        arena_(threads == 0 ? tbb::task_arena::automatic : static_cast<int>(threads)) {
    arena_.initialize();
  }
  std::size_t size() const { return static_cast<std::size_t>(arena_.max_concurrency()); }

  /// Calls `f(task, slot)` for every task in [0, tasks). Those of one call that run at the same time have different
  /// slots in [0, size()): what to index per-thread scratch with. A task may call this itself, for tasks of its own:
  /// until they are done its thread begins none of the others.
  template <class F>
  void run(std::size_t tasks, F&& f) {
    if (tasks == 0) return;
    if (tasks == 1 || size() == 1) {
      for (std::size_t task = 0; task < tasks; ++task) f(task, std::size_t{0});
      return;
    }
    auto const some = [&](tbb::blocked_range<std::size_t> const& range) {
      auto const slot = static_cast<std::size_t>(tbb::this_task_arena::current_thread_index());
      for (std::size_t task = range.begin(); task != range.end(); ++task) f(task, slot);
    };
    arena_.execute([&] {
      tbb::this_task_arena::isolate(
          [&] { tbb::parallel_for(tbb::blocked_range<std::size_t>(0, tasks, 1), some, tbb::simple_partitioner()); });
    });
  }

 private:
  static std::size_t possible(std::size_t threads) {
    if (threads > 1024) throw setting_error({"threads", "0 to 1024", std::to_string(threads)});
    return threads;
  }
  more_threads more_;  ///< asked for by tests and on shared nodes
  tbb::task_arena arena_;
};

/// Where a backend runs. Layers and kernels receive it; its type picks the kernels. What is made with one refers to it,
/// so it has to live longer: trainers, networks in use.
template <backend B>
class context {
 public:
  /// Zero means one thread for each core. Errors  setting_error: more than 1024.
  explicit context(std::size_t threads = 0) : team_(threads) {}
  thread_team& team() { return team_; }
  std::size_t threads() const { return team_.size(); }

  /// The processes over whose batches, all of one size, batch norm takes its moments in training. Null: this one alone.
  process_group* norm_group() const { return norm_group_; }
  void norm_over(process_group* group) { norm_group_ = group; }

 private:
  thread_team team_;
  process_group* norm_group_ = nullptr;
};

/// A block of memory that kernels of backend B work on.
template <backend B>
using memory_on = typename memory_of<B>::type;

/// Brings `count` values to where backend B's kernels find them, behind what runs there already, and waits for it.
template <backend B, class T>
void upload(context<B>&, std::size_t count, T const* from, T* to) {
  std::copy_n(from, count, to);
}

/// Makes `count` values zeros, behind what runs there already.
template <backend B, class T>
void clear(context<B>&, std::size_t count, T* values) {
  std::fill_n(values, count, T{});
}

}  // namespace l3::inline L3_ISA
