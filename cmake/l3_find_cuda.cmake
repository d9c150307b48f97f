# l3_find_cuda(<variable>): whether there is a CUDA compiler, and chooses it for enable_language(CUDA). Where L3_CUDA is ON
# it must be there. It is looked for in CUDACXX, the PATH, CUDA_PATH and where NVIDIA's installer puts it.
include_guard(GLOBAL)

# Code for Ampere and Hopper, and for whatever comes later what the driver can translate.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()

function(l3_find_cuda found)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(L3_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(L3_NVCC)
    if(L3_NVCC)
      set(CMAKE_CUDA_COMPILER "${L3_NVCC}" CACHE FILEPATH "The CUDA compiler")
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER OR DEFINED ENV{CUDACXX})
    set("${found}" TRUE PARENT_SCOPE)
  elseif(L3_CUDA STREQUAL "AUTO")
    message(STATUS "l3: no backend cuda (no nvcc)")
    set("${found}" FALSE PARENT_SCOPE)
  else()
    message(FATAL_ERROR "L3_CUDA is ${L3_CUDA}: expected nvcc (in the PATH, or CUDA_PATH), found none")
  endif()
endfunction()
