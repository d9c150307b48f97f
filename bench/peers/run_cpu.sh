#!/usr/bin/env bash
# How l3 compares with the programs people use instead, on this machine's processor: builds l3, makes a Python with the
# peers, and measures them by turns.
#   bench/peers/run_cpu.sh [options of compare.py]
# Without options: the paper's subnetworks, batch 1 and 8, then its training step, batch 16, in fp32.
# Python: $L3_PYTHON, or a virtual environment in build/peers with what requirements.txt names; a peer that it lacks is
# left out by name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source cmake/install_packages.sh

python=${L3_PYTHON:-build/peers/bin/python}
if [[ -z ${L3_PYTHON:-} && ! -x $python ]]; then
  install_packages python3-venv
  python3 -m venv build/peers
  build/peers/bin/pip install --quiet -r bench/peers/requirements.txt
fi
install_packages "${l3_build_packages[@]}"
cmake --preset release > /dev/null
cmake --build --preset release --target l3
build/release/l3 --version
lscpu | grep -E 'Model name|^CPU\(s\)'

if (($#)); then
  exec "$python" bench/peers/compare.py build/release/l3 "$@"
fi
"$python" bench/peers/compare.py build/release/l3 --what audio,vision --batch 1,8
"$python" bench/peers/compare.py build/release/l3 --what train --batch 16 --seconds 1 --rounds 3
