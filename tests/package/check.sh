#!/usr/bin/env bash
# tests/package/check.sh BUILD: is l3, installed from BUILD, a good guest in a stranger's project?
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_tree=$(cd "$here/../.." && pwd)
build=${1:?usage: check.sh BUILD}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "package: $*" >&2; exit 1; }
# quiet LOG COMMAND...: the output only when the command fails.
quiet() {
  local log=$work/$1
  shift
  "$@" > "$log" 2>&1 || { cat "$log"; fail "failed: $*"; }
}
consumer() { cmake -S "$here" -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O1" "$@"; }

# Installed to one place, used from another.
quiet install.log cmake --install "$build" --prefix "$work/first"
mv "$work/first" "$work/moved"
! grep -rlE "$work/first|$source_tree|$build" "$work/moved/include" "$work/moved/share" || fail "the files above name a place of the build"
components=
for file in "$work"/moved/share/cmake/l3/l3-*-targets.cmake; do
  component=${file##*/l3-}
  component=${component%-targets.cmake}
  [[ $component == l3 ]] || components+=${components:+;}$component
done
echo "installed: l3::l3 and components: ${components:-none}"

for way in find_package add_subdirectory; do
  options=("-DL3_COMPONENTS=$components" "-DCMAKE_PREFIX_PATH=$work/moved" -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF)
  # Inside another project there is no backend cuda unless it asks for one.
  [[ $way == find_package ]] || options=("-DL3_COMPONENTS=$(tr ';' '\n' <<< "$components" | grep -vxE 'cuda|nccl' | paste -sd ';')" "-DL3_SOURCE=$source_tree")
  quiet configure.log consumer -B "$work/$way" "${options[@]}"
  began=$(date +%s%N)
  quiet build.log cmake --build "$work/$way" --target consumer
  echo "$way: consumer built in $((($(date +%s%N) - began) / 1000000)) ms: $("$work/$way/consumer")"
done
quiet build.log cmake --build "$work/find_package" --target two_files
read -r a b < <("$work/find_package/two_files") || fail "two_files did not run"
[[ $a == "$b" ]] || fail "two files disagree about the backend: $a, $b"
cmp <("$work/find_package/consumer") <("$work/add_subdirectory/consumer") || fail "the two ways differ"
for folder in tests bench examples package; do
  [[ ! -e $work/add_subdirectory/l3/$folder ]] || fail "as a sub-project, l3 configured its $folder"
done

# l3_optimize optimizes where the project says nothing of it, and not where it does.
for said in "" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS=-O1; do
  quiet untyped.log env -u CXXFLAGS -u CMAKE_BUILD_TYPE cmake -S "$here" -B "$work/untyped" -G Ninja -DCMAKE_EXPORT_COMPILE_COMMANDS=ON "-DCMAKE_PREFIX_PATH=$work/moved" ${said:+"$said"}
  if grep -q -- '-O3.*two_files_a' "$work/untyped/compile_commands.json"; then found=fast; else found=; fi
  [[ $found == "$([[ -n $said ]] || echo fast)" ]] || fail "l3_optimize, configured with ${said:-nothing}: ${found:-no} -O3"
  rm -rf "$work/untyped"
done

# pkg-config, and how long ten lines take to compile (processor time, which other work on the machine does not change).
export PKG_CONFIG_PATH=$work/moved/share/pkgconfig
read -ra flags < <(pkg-config --cflags --libs l3)
TIMEFORMAT=%U
compile_s=$( { time "${CXX:-c++}" -std=c++20 -O2 "$here/main.cpp" "${flags[@]}" -o "$work/plain" 2> "$work/plain.log" || cat "$work/plain.log"; } 2>&1)
[[ -x $work/plain ]] || fail "pkg-config: $compile_s"
cmp <("$work/plain") <("$work/find_package/consumer") || fail "built through pkg-config it prints something else"
echo "pkg-config: consumer compiled in $compile_s s of processor time at -O2"
awk "BEGIN { exit !($compile_s < 20) }" || fail "compiling the consumer took $compile_s s, the limit is 20"

# A component brings along what it stands on.
for one in packed collection; do
  if [[ ";$components;" == *";$one;"* ]]; then
    quiet one.log consumer -B "$work/one" "-DCMAKE_PREFIX_PATH=$work/moved" "-DL3_COMPONENTS=$one"
    rm -rf "$work/one"
  fi
done

# A wrong version and a component that does not exist are refused by name.
for wrong in "-DL3_WANTED=99.0" "-DL3_COMPONENTS=nonsense"; do
  if consumer -B "$work/wrong" "-DCMAKE_PREFIX_PATH=$work/moved" "$wrong" > "$work/wrong.log" 2>&1; then
    fail "$wrong was accepted"
  fi
  grep -qE '99\.0|"nonsense"' "$work/wrong.log" || { cat "$work/wrong.log"; fail "$wrong: the message does not say so"; }
  rm -rf "$work/wrong"
done

# The examples are a project of their own.
quiet examples.log cmake -S "$source_tree/examples" -B "$work/examples" -G Ninja "-DCMAKE_PREFIX_PATH=$work/moved" -DL3_QUICK_PROGRAMS=ON
if [[ -e $source_tree/examples/own_layer.cpp ]]; then
  quiet examples.log cmake --build "$work/examples" --target own_layer
fi
echo "package: all good"
