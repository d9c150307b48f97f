#!/usr/bin/env bash
# Builds and tests l3, on a fresh Debian 12 too: installs the packages that are missing, builds the `ci` preset (warnings
# are errors, each header compiles alone), runs its tests, then the tests under the address and undefined-behaviour
# sanitizers.
#   tests/run.sh          the fast tier
#   tests/run.sh --full   everything
# Checks against PyTorch run where a python3 has torch and safetensors (name it in L3_PYTHON), else are shown as skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source cmake/install_packages.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
tier=ci
for argument in "$@"; do
  case $argument in
    --full) tier=full ;;
    -h | --help) usage; exit 0 ;;
    *) echo "tests/run.sh: expected --full or --help, found $argument" >&2; exit 2 ;;
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

step "packages" install_packages "${l3_build_packages[@]}" "${l3_test_packages[@]}"
if [[ $tier == full ]] && ! install_packages "${l3_full_packages[@]}"; then
  echo "Without them, what needs them is shown as skipped."
fi
step "configure (ci)" cmake --preset ci
step "build (ci)" cmake --build --preset ci -j "$jobs"
step "configure (asan)" cmake --preset asan
step "build (asan)" cmake --build --preset asan -j "$jobs"
step "tests under sanitizers" ctest --preset asan -j "$jobs"
step "tests ($tier)" ctest --preset "$tier" -j "$jobs"
if [[ $tier == full ]]; then
  step "10,000 damaged files under sanitizers" env L3_MUTATIONS=10000 build/asan/tests/l3_data_tests "damage never crashes*"
fi
finish 0
