# l3_optimize(<target> [ARCH <arch>]): compiles a target for a processor.
#
# l3's kernels are templates, compiled in the user's own units with the user's own flags, and use the best instruction
# set those flags allow. This function sets them from the cache variable L3_ARCH: `native` (this machine), a level of the
# x86-64 psABI (`x86-64-v3`: AVX2 and FMA, `x86-64-v4`: AVX-512), `generic` (no flag), or another name -march= takes
# (`cooperlake` or `znver4` for bf16 products, which no level has).
# A program built so calls l3::require_processor() first in main, which says plainly what a lesser machine lacks.
include_guard(GLOBAL)

set(L3_ARCH "native" CACHE STRING "Processor that l3_optimize() builds for")
set_property(CACHE L3_ARCH PROPERTY STRINGS native x86-64-v3 x86-64-v4 generic)

# The compiler's flag for a processor. On ARM64 clang takes `native` with another one, and so does g++.
function(l3_arch_flag arch out)
  if(arch STREQUAL "native" AND CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    set(${out} "-mcpu=native" PARENT_SCOPE)
  else()
    set(${out} "-march=${arch}" PARENT_SCOPE)
  endif()
endfunction()

function(l3_optimize target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "ARCH" "")
  if(NOT arg_ARCH)
    set(arg_ARCH "${L3_ARCH}")
  endif()
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    set(scope INTERFACE)
  else()
    set(scope PRIVATE)
  endif()
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    return()
  endif()

  # Release already means -O3 unless the project says otherwise; the kernels are written for it. A project that names no
  # configuration, and no level of its own, would get no optimization at all.
  get_target_property(own ${target} COMPILE_OPTIONS)
  foreach(language IN ITEMS CXX CUDA)
    set(fast "$<CONFIG:Release>")
    if(NOT "${CMAKE_${language}_FLAGS};${own}" MATCHES "(^|[ ;:])-O")
      set(fast "$<OR:${fast},$<STREQUAL:$<CONFIG>,>>")
    endif()
    target_compile_options(${target} ${scope} $<$<AND:$<COMPILE_LANGUAGE:${language}>,${fast}>:-O3>)
  endforeach()
  # The host's half of a CUDA unit must be compiled as all others are: l3's types are named by the instruction set.
  if(NOT arg_ARCH STREQUAL "generic")
    l3_arch_flag("${arg_ARCH}" flag)
    target_compile_options(${target} ${scope} $<$<COMPILE_LANGUAGE:CXX>:${flag}> $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${flag}>)
  endif()
  # g++ 12's AVX-512 headers start from deliberately undefined registers, and -Wmaybe-uninitialized reports them at every
  # intrinsic (GCC bug 105593, mended in 13): there is nothing to see there for a user.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13 AND
      arg_ARCH MATCHES "native|v4|avx512|znver4|lake|rapids|server")
    target_compile_options(${target} ${scope} $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized -Wno-uninitialized>
      $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wno-maybe-uninitialized,-Wno-uninitialized>)
  endif()
endfunction()
