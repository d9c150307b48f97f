#!/usr/bin/env bash
# From nothing to a trained L3-Net, on a fresh Debian 12 or 13 or Ubuntu 24.04 too: installs the packages that are missing,
# builds the program, makes a set of videos, learns from them which sounds belong to which frames, and tests what was learned.
#   examples/quickstart.sh [--seed S] [--out DIR] [--pairs N] [--videos N]
# --seed    another seed gives other videos, other first weights, another order (1)
# --out     folder for everything it makes (out/quickstart)
# --pairs   frames and seconds of sound to train on; fewer is quicker and worse
# --videos  how many videos to make
set -euo pipefail
export LC_ALL=C  # numbers with a decimal point
began=$SECONDS
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source cmake/install_packages.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
refuse() { echo "examples/quickstart.sh: $*" >&2; exit 2; }

seed=1
out=$PWD/out/quickstart
pairs=40000
videos=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --seed | --out | --pairs | --videos) (($# > 1)) || refuse "expected a value after $1, found none" ;;
    *) refuse "expected --seed, --out, --pairs, --videos or --help, found $1" ;;
  esac
  [[ $1 == --out || $2 =~ ^[0-9]+$ ]] || refuse "$1: expected a whole number, found $2"
  [[ $1 != --videos || $2 -ge 100 ]] || refuse "--videos: expected at least 100 (a batch takes 64 of the 70 % to train on), found $2"
  case $1 in
    --seed) seed=$2 ;;
    --out) [[ $2 == /* ]] && out=$2 || out=${here%/}/$2 ;;
    --pairs) pairs=$2 ;;
    --videos) videos=(--videos "$2") ;;
  esac
  shift 2
done

# A second run starts again; a folder of somebody else's is left alone.
mark=$out/.l3-quickstart
if [[ -e $mark ]]; then
  rm -rf "$out/data" "$out/run" "$out/embeddings" "$out/eval.json"
elif [[ -n $(ls -A "$out" 2> /dev/null) ]]; then
  refuse "--out: expected a new or empty folder, found files in $out"
fi
mkdir -p "$out"
touch "$mark"

# step HEADING COMMAND...
step() {
  local heading=$1 started=$SECONDS took
  shift
  printf '\n== %s\n' "$heading"
  "$@"
  took=$((SECONDS - started))
  printf '   (%d min %02d s)\n' $((took / 60)) $((took % 60))
}
build() {
  cmake --preset release > "$out/configure.log" 2>&1 || { cat "$out/configure.log" >&2; return 1; }
  cmake --build --preset release --target l3
}
l3=$PWD/build/release/l3
evaluate() { "$l3" eval --checkpoint "$out/run/best.safetensors" --data "$out/data/test.csv" --seed "$seed" --json > "$out/eval.json"; }

step "Packages" install_packages "${l3_build_packages[@]}"
step "Build" build
step "Make videos to learn from" "$l3" synth "$out/data" --seed "$seed" "${videos[@]}"
step "Train on $pairs pairs" "$l3" train --train "$out/data/train.csv" --valid "$out/data/valid.csv" --out "$out/run" \
  --model tiny --pairs "$pairs" --seed "$seed"
step "Test on videos it has never met" evaluate

test_video=$(awk -F, 'NR == 2 { gsub(/"/, "", $1); print $1 }' "$out/data/test.csv")
[[ $test_video == /* ]] || test_video=$out/data/$test_video
step "Turn a test video into embeddings" "$l3" embed video "$test_video" --checkpoint "$out/run/best.safetensors" --out "$out/embeddings"

# The two values `l3 eval --json` is for, whatever else stands in the document.
json=$(tr -d ' \n' < "$out/eval.json")
number='([0-9.eE+-]+)'
[[ $json =~ \"accuracy\":$number ]] || { echo "$out/eval.json: expected \"accuracy\", found none" >&2; exit 1; }
accuracy=${BASH_REMATCH[1]}
[[ $json =~ \"interval\":\[$number,$number\] ]] || { echo "$out/eval.json: expected \"interval\", found none" >&2; exit 1; }
low=${BASH_REMATCH[1]} high=${BASH_REMATCH[2]}

took=$((SECONDS - began))
cat << END

== Done in $((took / 60)) min $((took % 60)) s
  the program            $l3
  videos and their lists $out/data (train.csv, valid.csv, test.csv)
  the trained network    $out/run/best.safetensors
  how training went      $out/run/log.csv
  embeddings             $out/embeddings
With a folder of your own videos (with sound):
  $l3 train --train FOLDER --valid OTHER_FOLDER --out RUN --model small --pairs 400000
  $l3 eval --checkpoint RUN/best.safetensors --data OTHER_FOLDER
  $l3 embed video FILE... --checkpoint RUN/best.safetensors --out EMBEDDINGS
Each command explains itself: $l3 train --help

END
printf 'AVC test accuracy: %.3f (95 %% interval %.3f-%.3f)\n' "$accuracy" "$low" "$high"
echo "Results: $out"
