#!/usr/bin/env bash
# How l3 compares with the programs people use instead, on this machine's processor: builds l3, makes a Python with the
# peers, and measures them by turns.
#   bench/peers/run_cpu.sh                        all of it, about two hours on 2 cores
#   bench/peers/run_cpu.sh [options of compare.py]
# All: the paper's subnetworks, batch 1 and 8; its training step, batch 16; l3 on 1 thread and on all; an AVX2 build
# beside PyTorch kept to AVX2; whole sound files beside Keras. In bf16 too where this processor has it.
# Python: $L3_PYTHON, or a virtual environment in build/peers with what requirements.txt names; a peer that it lacks is
# left out by name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source cmake/install_packages.sh

python=${L3_PYTHON:-build/peers/bin/python}
if [[ -z ${L3_PYTHON:-} ]] && ! cmp -s bench/peers/requirements.txt build/peers/installed.txt; then
  install_packages python3-venv
  python3 -m venv build/peers
  build/peers/bin/pip install --quiet -r bench/peers/requirements.txt
  cp bench/peers/requirements.txt build/peers/installed.txt  # an interrupted installation is gone on with
fi
install_packages "${l3_build_packages[@]}" ffmpeg
cmake --preset release > /dev/null
cmake --build --preset release --target l3
l3=build/release/l3
$l3 info | sed -n 1,3p
lscpu | grep -E 'Model name|^CPU\(s\)'

compare() { "$python" bench/peers/compare.py "$@"; }
if (($#)); then
  compare $l3 "$@"
  exit
fi
training=(--what train --batch 16 --seconds 1 --rounds 3)
both=fp32
if $l3 info --json | grep -q '"bf16"'; then both=fp32,bf16; fi
compare $l3 --what audio,vision --batch 1,8 --precision $both
compare $l3 "${training[@]}"
if [[ $both == *bf16 ]]; then # by themselves: all at once need more than 24 GiB
  compare $l3 "${training[@]}" --precision $both --only torch-bf16,torch-bf16-channels-last,torch-bf16-compiled
fi
compare $l3 --what audio,vision --batch 1 --only "" --precision $both --threads "1,$(nproc)"
compare $l3 "${training[@]}" --only "" --precision $both --threads "1,$(nproc)"
if grep -q avx512f /proc/cpuinfo; then
  cmake --preset release -B build/avx2 -DL3_ARCH=x86-64-v3 > /dev/null
  cmake --build build/avx2 --target l3
  compare build/avx2/l3 --isa avx2 --what audio,vision --batch 1
  compare build/avx2/l3 --isa avx2 "${training[@]}"
fi
"$python" bench/peers/embed.py $l3 --precision $both
