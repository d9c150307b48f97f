/// @file  include/l3/core/more_threads.hpp: threads beyond one a core, where they are asked for.
#pragma once
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>

#include <cstddef>
#include <l3/core/config.hpp>
#include <memory>
#include <mutex>
#include <utility>

namespace l3::inline L3_ISA {

/// Lets oneTBB start so many threads more than there are cores, while it lives. Several add up: of several
/// tbb::global_control the lowest counts, so all of these (of one instruction set) share one. A lower one of the
/// program's own stays in force.
class more_threads {
 public:
  explicit more_threads(std::size_t more) : more_(more) { change(more_); }
  ~more_threads() { change(std::size_t{0} - more_); }
  more_threads(more_threads const&) = delete;
  more_threads& operator=(more_threads const&) = delete;

  /// How many threads of a team are beyond one a core.
  static std::size_t beyond_cores(std::size_t threads) { return threads > cores() ? threads - cores() : 0; }

 private:
  struct shared {
    std::mutex mutex;
    std::size_t more = 0;
    std::unique_ptr<tbb::global_control> limit;
  };
  static std::size_t cores() { return static_cast<std::size_t>(tbb::info::default_concurrency()); }
  static void change(std::size_t by) {
    static shared& all = *new shared;  // outlives every team, global ones too
    if (by == 0) return;
    std::lock_guard const lock(all.mutex);
    std::size_t const more = all.more + by;  // modulo 2^64: also less
    auto next =
        more == 0 ? nullptr
                  : std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism, cores() + more);
    all.more = more;
    std::swap(all.limit, next);  // the old one goes behind the new one: threads at work are not sent home between
  }
  std::size_t more_;
};

}  // namespace l3::inline L3_ISA
