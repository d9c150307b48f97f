# l3_warnings(<target>): the warnings l3 is kept clean of; for l3's own programs and tests, never for a user's targets.
include_guard(GLOBAL)

set(L3_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
# From 13 on g++ takes the room of an empty std::optional for a value that may be read, even behind the question whether it is one.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  list(APPEND L3_WARNINGS -Wno-maybe-uninitialized)
endif()
# g++ 13 alone takes the elements of a view that is a temporary for the temporary's own.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13 AND
    CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  list(APPEND L3_WARNINGS -Wno-dangling-reference)
endif()
# g++ 12 sees overlapping copies inside std::string's own operator+ once it is inlined (GCC bug 105651, mended in 13), and
# in what Eigen makes of AVX-512 it takes values that the compiler's own header leaves undefined for read ones (105593).
set(L3_EIGEN_WARNINGS "")  # of targets that use its decompositions
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND L3_WARNINGS -Wno-restrict)
  set(L3_EIGEN_WARNINGS $<$<COMPILE_LANGUAGE:CXX>:-Wno-uninitialized> $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)
endif()
# libstdc++ 12's own stable_sort asks for what libstdc++ 12 deprecates; clang 17 and later say so in the user's unit.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  list(APPEND L3_WARNINGS -Wno-deprecated-declarations)
endif()
if(L3_WARNINGS_AS_ERRORS)
  list(APPEND L3_WARNINGS -Werror)
endif()

function(l3_warnings target)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${L3_WARNINGS}>")
  # nvcc's generated code is none to warn about, and the templates are seen by the C++ compiler elsewhere.
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wno-restrict;--diag-suppress=177>")
  if(L3_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Werror>")
  endif()
endfunction()
