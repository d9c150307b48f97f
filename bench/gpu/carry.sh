#!/usr/bin/env bash
# Copies what tests/run.sh --cuda and bench/gpu need beside nvcc and CMake into a folder, for a machine where nothing can be
# installed: there, CMAKE_PREFIX_PATH=DIR/usr.
#   bench/gpu/carry.sh DIR
# From the packages of a Debian 12 that has them (tests/run.sh installs them).
set -euo pipefail
(($# == 1)) || { sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
for package in libtbb-dev libtbb12 libtbbmalloc2 libtbbbind-2-5 libbenchmark-dev libbenchmark1debian libeigen3-dev libxsimd-dev nlohmann-json3-dev catch2; do
  dpkg-query -L "$package" | while read -r path; do
    if [[ (-f $path || -L $path) && $path != /usr/share/doc/* ]]; then printf '%s\0' "$path"; fi
  done
done | tar --null --files-from - --create --absolute-names --transform 's,^/,,' | tar --extract --directory "$(mkdir -p "$1" && cd "$1" && pwd)"
du -sh "$1"
