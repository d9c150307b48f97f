#!/usr/bin/env bash
# How long l3 takes to compile, on one core: the umbrella header alone, and examples/train_avc.cpp made to train the
# paper's network (its convolutions, forward and backward, with the loader and the media library), at -O3 with at most
# 2 GiB of memory. Wanted: under 5 s and under 60 s.
#   bench/compile_time.sh [COMPILER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
compiler=${1:-g++}
packages=(eigen3 xsimd nlohmann_json tbb libavformat libavcodec libavutil libswscale libswresample)
read -ra flags < <(pkg-config --cflags "${packages[@]}")
read -ra libraries < <(pkg-config --libs "${packages[@]}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ulimit -v $((2 << 20)) # KiB

build() { # WHAT OPTIONS...
  local what=$1 began=$EPOCHREALTIME
  shift
  taskset -c 0 "$compiler" -std=c++20 -Iinclude "${flags[@]}" "$@"
  awk -v from="$began" -v to="$EPOCHREALTIME" -v what="$what" 'BEGIN { printf "%s: %.1f s\n", what, to - from }'
}
"$compiler" --version | head -1
echo '#include <l3/l3net.hpp>' > "$work/header.cpp"
build "l3net.hpp alone" -c "$work/header.cpp" -o "$work/header.o"
sed 's/using model = l3::tiny;/using model = l3::paper;/' examples/train_avc.cpp > "$work/train.cpp"
grep -q 'l3::paper' "$work/train.cpp"
build "training the paper's network, -O3" -O3 -march=native "$work/train.cpp" -o "$work/train" "${libraries[@]}"
