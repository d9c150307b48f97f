/// @file  tests/support/processor.cpp: ends a test program that this processor cannot run, telling CTest to call it
/// skipped.
#include <cstdio>
#include <cstdlib>
#include <l3/core/backend.hpp>
#include <l3/core/error.hpp>

namespace {

/// Before main and before every other initialiser: a global of some test may already need the missing instructions.
[[gnu::constructor(101)]] void leave_if_unfit() {
  try {
    l3::require_processor();
  } catch (l3::device_error const& e) {
    std::printf("SKIPPED: %s\n", e.what());
    std::fflush(stdout);
    std::_Exit(77);
  }
}

}  // namespace
