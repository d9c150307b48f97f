# Checks what nvcc compiles for assignments of lists that begin with a designator: cmake -DROOT=<repository> -P this file.
#
# nvcc's front end (13.0 and 13.5) drops the designators of `x = {.third = v}` where x depends on a template's parameter,
# and sets its first member without a word. `x = T{.third = v}` is right, and so are calls, returns and initialisers.
cmake_minimum_required(VERSION 3.25)

set(mistakes)
file(GLOB_RECURSE files RELATIVE "${ROOT}" "${ROOT}/include/*.hpp" "${ROOT}/include/*.cuh" "${ROOT}/examples/*.hpp"
  "${ROOT}/examples/*.cu" "${ROOT}/bench/*.hpp" "${ROOT}/bench/*.cu" "${ROOT}/tests/cuda/*.cpp" "${ROOT}/tests/support/*.hpp")
list(LENGTH files count)
if(count EQUAL 0)
  message(FATAL_ERROR "${ROOT}: expected files that nvcc compiles, found none")
endif()
foreach(file IN LISTS files)
  file(STRINGS "${ROOT}/${file}" lines REGEX "^ *[A-Za-z_0-9.()>*-]+(\\[.*\\])?[A-Za-z_0-9.()>-]* = {[.]")
  foreach(line IN LISTS lines)
    list(APPEND mistakes "${file}: expected a type before the braces, found ${line}")
  endforeach()
endforeach()
if(mistakes)
  list(JOIN mistakes "\n" mistakes)
  message(FATAL_ERROR "${mistakes}")
endif()
message(STATUS "no designators that nvcc would drop, in ${count} files")
