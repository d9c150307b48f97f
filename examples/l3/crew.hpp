/// @file  examples/l3/crew.hpp: the processes that work together: this one alone, or all that mpirun or srun started.
#pragma once
#include <functional>
#include <l3/core/process_group.hpp>
#include <string>
#include <vector>

#include "program.hpp"

namespace l3::program {

/// Every process calls the same functions in the same order.
///
/// Errors  of all: group_error, when another process is gone or has ended everything; it says who and why.
class crew {
 public:
  virtual ~crew() = default;

  virtual std::size_t rank() const { return 0; }
  virtual std::size_t size() const { return 1; }
  /// The one that writes and speaks.
  bool is_first() const { return rank() == 0; }
  /// "process 3 (on node7)"
  virtual std::string name(std::size_t /*rank*/) const { return "this process"; }
  /// Null where this process is alone.
  virtual process_group* group() { return nullptr; }
  /// Everyone's bytes, of whatever length, in order.
  virtual std::vector<std::string> gather(std::string const& mine) { return {mine}; }
  /// For the handler of an error that this process cannot go on from: ends the work of all, and does not return. One of
  /// them says what ended it first, for all. To be called while what others may still read is there. Does nothing where
  /// this process is alone.
  virtual void end_all() {}
};

/// What people are told of the error that is being handled, and the exit code behind it.
std::string said_of_error();
exit_code code_of(std::exception const& e);
/// Throws setting_error if this process is one of several: for what one process does alone.
void require_alone(std::string const& command);

/// Throws setting_error at all processes if something that must be the same is not: `mine`, name by name.
void require_agreement(crew& all, json const& mine);

/// The work of `command` ("train") with all processes that were started together for it.
///
/// Errors  alone: those of `f`; setting_error: several were started, and this program was built without MPI. Of several
///         processes none: an error at one ends all programs, see crew::end_all.
int with_crew(std::string const& command, std::function<int(crew&)> const& f);

}  // namespace l3::program
