// The processes that work together.
#include "crew.hpp"

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <l3/core/error.hpp>
#include <new>
#include <stdexcept>

#ifdef L3_WITH_MPI
#include <algorithm>
#include <chrono>
#include <iostream>
#include <l3/processes/heartbeat.hpp>
#include <l3/processes/mpi_group.hpp>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#endif

namespace l3::program {
namespace {

/// How many processes a launcher says it has started: 1 if there is none.
int started_together() {
  for (char const* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (char const* const said = std::getenv(name)) return std::atoi(said);
  return 1;
}

#ifdef L3_WITH_MPI
class mpi_crew final : public crew {
 public:
  explicit mpi_crew(std::string command) : command_(std::move(command)) {
    int given = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
    try {
      if (given < MPI_THREAD_FUNNELED) throw setting_error({"MPI", "MPI_THREAD_FUNNELED", "a library without"});
      group_.emplace(MPI_COMM_WORLD, [this] {
        if (beat_) beat_->check();
      });
      if (static_cast<int>(group_->size()) != started_together())
        throw setting_error({"MPI", std::to_string(started_together()) + " processes, as the launcher has started",
                             std::to_string(group_->size()) + " (srun may need --mpi=pmix)"});
      beat_.emplace(
          *group_, heartbeat_settings{},
          // The first process speaks for all; if it is lost, the second; and the others, if they still live then.
          [this](std::string const& reason, bool first_is_lost) {
            if (!is_first() && !first_is_lost) return;
            if (rank() > 1) std::this_thread::sleep_for(std::chrono::seconds(3));
            say(reason);
          },
          [] { std::_Exit(failed); });  // not MPI_Abort: that waits for whom there is nobody left to answer
    } catch (error const& e) {          // nobody is connected yet
      if (!group_ || is_first())
        say(e.what());
      else  // who ends first may have its launcher kill the one that speaks
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
      std::_Exit(code_of(e));
    }
  }
  ~mpi_crew() override {
    beat_->leave();
    MPI_Finalize();
  }
  std::size_t rank() const override { return group_->rank(); }
  std::size_t size() const override { return group_->size(); }
  std::string name(std::size_t rank) const override { return group_->name(rank); }
  process_group* group() override { return &*group_; }
  std::vector<std::string> gather(std::string const& mine) override {
    std::vector<std::uint64_t> sizes(size());
    group_->gather_values(static_cast<std::uint64_t>(mine.size()), std::span(sizes));
    std::size_t const most = *std::max_element(sizes.begin(), sizes.end());
    std::string own = mine, all(most * size(), '\0');
    own.resize(most);
    group_->gather(std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)));
    std::vector<std::string> each;
    for (std::size_t r = 0; r != size(); ++r) each.push_back(all.substr(r * most, sizes[r]));
    return each;
  }
  void end_all() override {
    using namespace std::chrono_literals;
    auto const [code, why] = [&]() -> std::pair<int, std::string> {
      try {
        throw;
      } catch (setting_error const& e) {
        // Most often the same at all processes: the first one's words will do.
        if (!is_first()) wait(500ms, [&] { return beat_->is_over(); });
        return {usage, (is_first() ? "" : name(rank()) + ": ") + e.what()};
      } catch (numeric_error const& e) {  // the same at all processes, of which the first one writes the log
        if (!is_first()) wait(60s, [&] { return beat_->is_over(); });
        return {failed, e.what()};
      } catch (group_error const& e) {  // who is gone is known in a moment, if MPI was the first to see it
        wait(2s, [&] { return beat_->is_over(); });
        return {failed, e.what()};
      } catch (...) {
        return {failed, name(rank()) + ": " + said_of_error()};
      }
    }();
    beat_->end_all(why);
    // Who starts processes kills the others when one ends badly: none does before it is said.
    if (!is_first()) wait(heartbeat_settings{}.grace, [&] { return beat_->first_has_ended(); });
    std::_Exit(code);  // MPI_Finalize would wait for those that are gone
  }

 private:
  static void wait(std::chrono::milliseconds most, auto&& condition) {
    auto const end = std::chrono::steady_clock::now() + most;
    while (!condition() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  /// In one piece: the launcher speaks at the same time.
  void say(std::string const& reason) const {
    std::cerr << printable("l3 " + command_ + ": " + reason) + '\n' << std::flush;
  }
  std::string command_;
  std::optional<mpi_group> group_;
  std::optional<heartbeat> beat_;
};
#endif

}  // namespace

void require_agreement(crew& all, json const& mine) {
  auto const each = all.gather(json_text(mine));
  json const first = json::parse(each.front());
  for (std::size_t rank = 1; rank != each.size(); ++rank) {
    json const other = json::parse(each[rank]);
    for (json const* side : {&first, &other})
      for (auto const& [name, unused] : side->items()) {
        json const here = first.value(name, json()), there = other.value(name, json());
        if (here != there)
          throw setting_error({all.name(rank) + ", " + name, here.dump() + " as at " + all.name(0), there.dump()});
      }
  }
}

std::string said_of_error() {
  std::string const advice = "; a smaller --batch or --model, or fewer --workers, need less (where the command has them)";
  try {
    throw;
  } catch (std::bad_alloc const&) {
    return "out of memory" + advice;
  } catch (std::length_error const& e) {
    return std::string("more memory than there can be (") + e.what() + ')' + advice;
  } catch (std::filesystem::filesystem_error const& e) {
    std::string const name = e.path1().string();
    return error({name.empty() ? "a path" : name, "a path that can be used so", e.code().message()}).what();
  } catch (std::exception const& e) {
    return e.what();
  }
}

exit_code code_of(std::exception const& e) {
  return dynamic_cast<setting_error const*>(&e) != nullptr ? usage : failed;
}

void require_alone(std::string const& command) {
  if (started_together() != 1)
    throw setting_error({"mpirun or srun", "`l3 train` or `l3 eval`: one process does this alone",
                         "`l3 " + command + "`, started " + std::to_string(started_together()) + " times"});
}

int with_crew(std::string const& command, std::function<int(crew&)> const& f) {
  if (started_together() == 1) {
    crew alone;
    return f(alone);
  }
#ifdef L3_WITH_MPI
  mpi_crew all(command);
  try {
    int const code = f(all);
    all.gather("");  // nobody goes before all have done theirs
    return code;
  } catch (...) {
    all.end_all();
    throw;
  }
#else
  throw setting_error(
      {"mpirun or srun", "a program that was built with MPI (-DL3_MPI=ON)",
       "one without, started " + std::to_string(started_together()) + " times for `l3 " + command + '`'});
#endif
}

}  // namespace l3::program
