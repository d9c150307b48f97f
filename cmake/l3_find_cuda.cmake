# Sets l3_has_cuda: whether L3_CUDA asks for the backend cuda and this machine can build it; enables the language then.
# nvcc is looked for in CUDACXX, the PATH, CUDA_PATH and where NVIDIA's installer puts it. What is missing ends the
# configuring where L3_CUDA is ON, and is told where it is AUTO. (No function: CMake enables languages in files alone.)
include_guard(GLOBAL)

# Code for Ampere and Hopper, and for whatever comes later what the driver can translate. (90a: Hopper with the products of
# warpgroups, which no later GPU takes.)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual)
endif()

set(l3_has_cuda FALSE)
set(l3_no_cuda "")
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(L3_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin)
  mark_as_advanced(L3_NVCC)
  if(L3_NVCC)
    set(ENV{CUDACXX} "${L3_NVCC}")
  else()
    set(l3_no_cuda "expected nvcc in the PATH, CUDACXX or CUDA_PATH, found none")
  endif()
endif()
if(NOT l3_no_cuda AND L3_CUDA STREQUAL "AUTO")
  include(CheckLanguage)
  if(CMAKE_CUDA_HOST_COMPILER)
    set(ENV{CUDAHOSTCXX} "${CMAKE_CUDA_HOST_COMPILER}")  # all that CMake 3.25 hands on to the check
  endif()
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    string(CONCAT l3_no_cuda "nvcc compiles nothing here, and what it says is in CMakeFiles/CMakeError.log or "
      "CMakeConfigureLog.yaml. Where it refuses this machine's g++, name one that it takes in CXX and CUDAHOSTCXX, and "
      "begin with a new build folder")
  endif()
endif()
if(NOT l3_no_cuda)
  enable_language(CUDA)
  # A distribution's nvcc may bring an older g++ of its own, whose library lacks what the rest asks for when they are
  # linked. (CMake knows which it is from 3.31 on.)
  string(REGEX MATCH "^[0-9]+" l3_cxx_major "${CMAKE_CXX_COMPILER_VERSION}")
  if(NOT CMAKE_CUDA_COMPILER_ID STREQUAL "NVIDIA" OR CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
    string(CONCAT l3_no_cuda "expected NVIDIA's nvcc 12.4 or newer, found ${CMAKE_CUDA_COMPILER_ID} "
      "${CMAKE_CUDA_COMPILER_VERSION} (${CMAKE_CUDA_COMPILER})")
  elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CUDA_HOST_COMPILER_ID STREQUAL "GNU" AND
      CMAKE_CUDA_HOST_COMPILER_VERSION VERSION_LESS l3_cxx_major)
    string(CONCAT l3_no_cuda "nvcc compiles with g++ ${CMAKE_CUDA_HOST_COMPILER_VERSION}, all else with g++ "
      "${CMAKE_CXX_COMPILER_VERSION}: name one that nvcc takes in CXX and CUDAHOSTCXX, and begin with a new build folder")
  endif()
endif()

if(NOT l3_no_cuda)
  set(l3_has_cuda TRUE)
elseif(L3_CUDA STREQUAL "AUTO")
  message(STATUS "l3: no backend cuda (${l3_no_cuda})")
else()
  message(FATAL_ERROR "L3_CUDA is ${L3_CUDA}: ${l3_no_cuda}")
endif()
