#!/usr/bin/env bash
# Builds and tests l3, on a fresh Debian 12 or 13 or Ubuntu 24.04 too: installs the packages that are missing, builds the
# `ci` preset (warnings are errors, each header compiles alone) and the library's tests under the address and
# undefined-behaviour sanitizers, and runs both.
#   tests/run.sh          the fast tier: what runs under sanitizers runs there alone
#   tests/run.sh --full   everything
#   tests/run.sh --cuda   the tests of the backend cuda alone, on the GPU here, then under compute-sanitizer if it is there.
#                         Installs nothing: needs nvcc, CMake, ninja, and the headers of oneTBB, Eigen, xsimd,
#                         nlohmann-json and Catch2 (CMAKE_PREFIX_PATH says where)
# Checks against PyTorch run where a python3 has torch and safetensors (name it in L3_PYTHON), else are shown as skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source cmake/install_packages.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
tier=ci
for argument in "$@"; do
  case $argument in
    --full) tier=full ;;
    --cuda) tier=cuda ;;
    -h | --help) usage; exit 0 ;;
    *) echo "tests/run.sh: expected --full, --cuda or --help, found $argument" >&2; exit 2 ;;
  esac
done

jobs=$(nproc)
summary=()
# step NAME COMMAND...: runs it under a heading; a failure ends the script after the summary.
step() {
  local name=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    summary+=("$(printf '  %-38s ok      %4d s' "$name" $((SECONDS - began)))")
  else
    summary+=("$(printf '  %-38s FAILED  %4d s' "$name" $((SECONDS - began)))")
    finish 1
  fi
}
finish() {
  printf '\n== Summary\n'
  printf '%s\n' "${summary[@]}"
  if (($1 == 0)); then echo "tests/run.sh: all passed in $SECONDS s"; else echo "tests/run.sh: FAILED after $SECONDS s"; fi
  exit "$1"
}

if [[ $tier == cuda ]]; then
  step "configure (cuda)" cmake --preset cuda -DL3_MEDIA=OFF -DL3_ARCHIVE=OFF -DL3_PACKED=OFF -DL3_MPI=OFF \
    -DL3_BUILD_EXAMPLES=OFF -DL3_BUILD_BENCH=OFF -DL3_INSTALL=OFF
  step "build (cuda)" cmake --build --preset cuda -j "$jobs" --target l3_cuda_tests
  step "tests on a GPU" ctest --preset cuda
  if command -v compute-sanitizer > /dev/null && nvidia-smi -L > /dev/null 2>&1; then
    compute-sanitizer --version  # older ones misread what warpgroups read
    for tool in memcheck racecheck; do
      step "compute-sanitizer $tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
        build/cuda/tests/l3_cuda_tests "~*NCCL*" "~*learns to tell*"
    done
  fi
  finish 0
fi

step "packages" install_packages "${l3_build_packages[@]}" "${l3_test_packages[@]}"
if [[ $tier == full ]] && ! install_packages "${l3_full_packages[@]}"; then
  echo "Without them, what needs them is shown as skipped."
fi
full=$([[ $tier == full ]] && echo ON || echo OFF) fast=$([[ $tier == full ]] && echo OFF || echo ON)
step "configure (ci)" cmake --preset ci "-DL3_LEAVE_TO_ASAN=$fast"
step "build (ci)" cmake --build --preset ci -j "$jobs"
step "configure (asan)" cmake --preset asan "-DL3_SANITIZE_ALL=$full"
step "build (asan)" cmake --build --preset asan -j "$jobs"
step "tests under sanitizers" ctest --preset asan -j "$jobs"
step "tests ($tier)" ctest --preset "$tier" -j "$jobs"
if [[ $tier == full ]]; then
  step "10,000 damaged files under sanitizers" env L3_MUTATIONS=10000 build/asan/tests/l3_data_tests "damage never crashes*"
fi
finish 0
