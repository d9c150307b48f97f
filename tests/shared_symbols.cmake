# Units that are compiled for different instruction sets share no symbol of l3's, so that the linker hands none of one to
# a machine of the other: cmake -DCOMPILER=... -DNM=... -DROOT=<l3> [-DFLAGS=...] [-DINCLUDES=...] -P this file.
cmake_minimum_required(VERSION 3.25)

set(folder "${CMAKE_CURRENT_BINARY_DIR}/shared_symbols")
file(MAKE_DIRECTORY "${folder}")
# All of l3 is named by one macro: a small unit shows for every set that no other has its names, a large one for two.
file(WRITE "${folder}/small.cpp" [=[
#include <l3/core/random.hpp>
float UNIT() { return float(l3::generator(1, l3::stream::user, 0, 0).uniform(0, 1)); }
]=])
file(WRITE "${folder}/large.cpp" [=[
#include <l3/core/context.hpp>
#include <l3/core/tensor.hpp>
#include <l3/core/random.hpp>
float UNIT() {
  l3::context<l3::cpu> on(2);
  l3::tensor<float, l3::image<2, 2, 3>> t(4);
  on.team().run(4, [&](std::size_t k, std::size_t) { t.view()[k][0] = float(l3::generator(1, l3::stream::user, 0, 0).uniform(0, 1)); });
  return t.view()[3][0];
}
]=])

set(includes "${INCLUDES}")
list(TRANSFORM includes PREPEND "-I")
set(seen)
set(sets)
set(number 0)
foreach(flags IN ITEMS "" -msse3 -mssse3 -msse4.1 -msse4.2 -mavx "-mavx -mfma" "-mavx -mfma4" -mavx2 "-mavx2 -mfma"
    -mavx512f -mavx512bw "-mavx512f -mfma" "-mavx512bw -mfma"
    -march=x86-64-v4 -march=cascadelake -march=icelake-server -march=cooperlake "-march=icelake-server -mavx512bf16")
  math(EXPR number "${number} + 1")
  separate_arguments(arguments UNIX_COMMAND "${FLAGS} -march=x86-64 ${flags}")
  # To some compilers a flag implies others, and two of these are the same.
  execute_process(COMMAND "${COMPILER}" ${arguments} -dM -E -x c++ /dev/null OUTPUT_VARIABLE macros
    COMMAND_ERROR_IS_FATAL ANY)
  string(SHA256 macros "${macros}")
  if(macros IN_LIST sets)
    continue()
  endif()
  list(APPEND sets "${macros}")
  set(unit small)
  set(expected 3)
  if(flags STREQUAL "" OR flags STREQUAL "-mavx2 -mfma")
    set(unit large)
    set(expected 20)
  endif()
  execute_process(
    COMMAND "${COMPILER}" ${arguments} -std=c++20 -O0 -w "-I${ROOT}/include" ${includes} -DUNIT=unit${number} -c
      "${folder}/${unit}.cpp" -o "${folder}/unit${number}.o"
    COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND "${NM}" --defined-only "${folder}/unit${number}.o" OUTPUT_VARIABLE symbols
    COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "_Z[A-Za-z0-9_]*2l3[A-Za-z0-9_]*" symbols "${symbols}")
  list(REMOVE_DUPLICATES symbols)
  list(LENGTH symbols count)
  if(count LESS expected)
    message(FATAL_ERROR "expected ${expected} symbols of l3's with '${flags}', found ${count}")
  endif()
  foreach(symbol IN LISTS symbols)
    if(symbol IN_LIST seen)
      message(FATAL_ERROR "'${flags}' shares ${symbol} with other flags before it")
    endif()
  endforeach()
  list(APPEND seen ${symbols})
endforeach()
message(STATUS "shared symbols: none, of ${number} instruction sets")
