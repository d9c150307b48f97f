/// @file  tests/support/main.cpp: main of every test program.
#define CATCH_CONFIG_RUNNER  // version 2 is all in its header
#include "catch.hpp"

int main(int argc, char** argv) {
  int const result = Catch::Session().run(argc, argv);  // failed assertions, or listed names
  return result == 77 ? 1 : result;                     // 77 tells CTest "skipped", and only processor.cpp may say that
}
