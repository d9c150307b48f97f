#!/usr/bin/env bash
# All that is to be done where a GPU is at hand, with what bench/gpu/bundle.sh has put into DIR. Results go to OUT as they come: one
# file results.tar.gz of all stages so far, and weights in pieces. Stages, one or several (--: the next one):
#   bench/gpu/all.sh DIR OUT check [PATTERN]     the tests of the backend cuda whose names hold it, a process each
#   bench/gpu/all.sh DIR OUT sanitize [PATTERN]  the same under compute-sanitizer's memcheck and racecheck
#   bench/gpu/all.sh DIR OUT compare [BATCH...]  training and inference beside PyTorch's, for eight minutes at most
#   bench/gpu/all.sh DIR OUT layers [BATCH]      every layer's passes, with each kind of products
#   bench/gpu/all.sh DIR OUT profile KERNEL...   counters of the first launches of kernels in a training step of 64, and what their
#                                                instructions wait for (ncu; some seconds for each launch)
#   bench/gpu/all.sh DIR OUT begin SECONDS       begins to train the paper's network on the videos and returns at once, or goes on
#   bench/gpu/all.sh DIR OUT result              waits for the end of that; the test accuracy; the weights
#   bench/gpu/all.sh DIR OUT loader              how fast the loader alone is here
#   bench/gpu/all.sh DIR OUT embed               how fast a network in use is: on its own, and on files as `l3 embed` reads them
set -euo pipefail
usage() { sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
(($# >= 3)) || usage
dir=$(cd "$1" && pwd) out=$(mkdir -p "$2" && cd "$2" && pwd)
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$PWD/build/gpu
mkdir -p "$work/results"
[[ -e $work/unpacked && ! $dir/programs.tar.gz -nt $work/unpacked ]] || { tar -xzf "$dir/programs.tar.gz" -C "$work" && touch "$work/unpacked"; }
found=$work/results data=$work/packed run=$work/run
l3=$work/bin/l3 step=$work/bin/bench_gpu_step tests=$work/bin/l3_cuda_tests
export L3_SOURCE=$PWD PATH=$PATH:/usr/local/cuda/bin PYTHONUNBUFFERED=1

# Whatever ends this early, what was found by then is in OUT.
hand_over() {
  cp "$run"/{log.csv,config.json} "$work/train.log" "$found/" 2> /dev/null || true
  local new=$out/.new.$BASHPID
  tar -czf "$new" -C "$work" results || true  # (1: something was still written)
  mv "$new" "$out/results.tar.gz"
}
(while sleep 15; do hand_over; done) > /dev/null 2>&1 &
renewing=$!
trap 'kill $renewing 2> /dev/null || true; rm -f "$out"/.new.*; hand_over' EXIT

pack() {
  for part in train valid test; do
    [[ -e $data/$part/index.l3index ]] || "$l3" pack "$dir/videos/$part.csv" --out "$data/$part" --fps 4 --quiet || (($? == 3))  # some cannot be used
  done
}

# one_test LOG LIMIT NAME COMMAND...: a process each, for behind a fault a GPU answers no further call of that process. After a few
# that hang, the others are not begun.
one_test() {
  local log=$1 limit=$2 name=$3 began=$SECONDS result=passed said
  shift 3
  (($(grep -cE "FAILED \((124|137)\)" "$log") < 4)) || return 0
  said=$(timeout -k 2 "$limit" "$@" -w NoTests "$(sed 's/[][\\,"]/\\&/g' <<< "$name")" 2>&1) || result="FAILED ($?)"
  if [[ $said == *SKIPPED* ]]; then result="FAILED (skipped)"; fi
  # What needs no GPU is none of the sanitizer's business.
  if [[ $said == *"All tests passed"*"before first instrumented API call"* ]]; then result=passed; fi
  {
    echo "$result in $((SECONDS - began)) s: $name"
    if [[ $result != passed ]]; then tail -n 25 <<< "$said"; fi
  } | tee -a "$log"
}
export -f one_test
# each_test LOG LIMIT PATTERN WITHOUT COMMAND...: all tests whose names hold the pattern, and not the other one.
each_test() {
  local log=$1 limit=$2 names
  # (Catch2 ends with how many there are.)
  names=$({ "$tests" --list-test-names-only || true; } | { grep -F -- "$3" || true; } | { grep -vF -- "$4" || true; } | sort)
  : > "$log"
  [[ -n $names ]] || { echo "no test's name holds $3" | tee -a "$log"; return 1; }
  shift 4
  xargs -a <(echo "$names") -d '\n' -P 4 -I{} bash -c 'name=$1; shift; one_test "'"$log"'" '"$limit"' "$name" "$@"' _ {} "$@" || true
  local passed failed all
  all=$(wc -l <<< "$names")
  passed=$(grep -c "^passed" "$log") || true
  failed=$(grep -c "^FAILED" "$log") || true
  echo "$passed passed, $failed failed of $all" | tee -a "$log"
  ((passed > 0 && passed == all))
}

check() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv | tee "$found/gpu.csv" || true
  "$l3" info --model paper --backend cuda | tee "$found/info.txt" || true
  each_test "$found/tests.log" 40 "${1:-}" "(none)" "$tests"
}

sanitize() {
  compute-sanitizer --version | tee "$found/sanitizer.txt"  # older ones misread what warpgroups read
  local tool at_work=()
  for tool in memcheck racecheck; do
    each_test "$found/$tool.log" 120 "${1:-}" "learns to tell" compute-sanitizer --tool "$tool" --error-exitcode 1 "$tests" &
    at_work+=($!)
  done
  local code=0
  wait "${at_work[0]}" || code=1
  wait "${at_work[1]}" || code=1
  return $code
}

compare() {
  timeout -k 5 500 python3 bench/gpu/compare.py --step "$step" --until 480 --prepare --batches "${@:-64}" --json "$found/compare.json" \
    > >(tee "$found/compare.md") 2> >(tee "$found/compare.err" >&2)
}

layers() {
  local products code=0
  for products in warp warpgroup direct; do
    timeout -k 5 100 "$step" layers "${1:-64}" 5 --products $products > "$found/layers-$products.jsonl" || code=$?
  done
  python3 bench/gpu/floors.py --l3 "$l3" --measured "$found"/layers-{warp,warpgroup,direct}.jsonl \
    --ceilings "$found/compare.json" | tee "$found/layers.md"
  return $code
}

profile() {
  local kernel report=$work/profile.ncu-rep code=0
  (($# > 0)) || { echo "profile: expected names of kernels" >&2; return 2; }
  for kernel; do
    rm -f "$report"
    timeout -k 5 100 ncu --clock-control none --graph-profiling node --set full --kernel-name "regex:$kernel" --launch-count 4 -f \
      -o "$report" "$step" train 64 0.01 > "$found/profile-$kernel.log" 2>&1 || true  # a program cut off has its report
    [[ -e $report ]] || { echo "$kernel: no counters, see profile-$kernel.log" && code=1 && continue; }
    ncu -i "$report" --csv --page raw > "$found/profile-$kernel.csv"
    ncu -i "$report" --csv --page source --launch-count 1 > "$found/profile-$kernel-lines.csv"
  done
  return $code
}

begin() {
  : "${1:?seconds}"
  pack
  local how=(--train "$data/train" --valid "$data/valid" --model paper --batch 64 --pairs 20000000 --lr 1e-4 --log-every 50
    --valid-every 1000 --save-every 10000 --valid-pairs 1000 --seed 1 --backend cuda)
  if [[ -e $run/last.safetensors ]]; then how=(--resume); fi
  # In a session of its own, so that it outlives this script.
  setsid timeout --foreground --signal=INT -k 30 "$1" "$l3" train --out "$run" "${how[@]}" >> "$work/train.log" 2>&1 < /dev/null &
  echo $! > "$work/train.pid"
}

result() {
  local pid state until=$((SECONDS + 400)) best=$run/best.safetensors
  pid=$(< "$work/train.pid")
  while state=$(sed 's/.*) //' "/proc/$pid/stat" 2> /dev/null) && [[ $state != Z* ]]; do
    ((SECONDS < until)) || { echo "it still trains"; return 1; }
    sleep 1
  done
  [[ -e $best ]] || best=$run/last.safetensors
  tail -n 20 "$work/train.log"
  "$l3" eval --checkpoint "$best" --data "$data/test" --pairs 5000 --backend cuda --out "$run/test" | tail -n 12
  cp "$run/test/result.json" "$found/"
  # Weights alone: averages of the optimizer are twice as much, and are not needed to look at what was learned.
  python3 - "$best" "$work/weights.safetensors" << 'END'
import sys
from safetensors import safe_open
from safetensors.torch import save_file
with safe_open(sys.argv[1], "pt") as f:
    save_file({k: f.get_tensor(k) for k in f.keys() if not k.startswith("optimizer.")}, sys.argv[2], f.metadata())
END
  split -b 15M -d "$work/weights.safetensors" "$out/weights-"
}

loader() {
  pack
  for how in "" --raw; do "$l3" bench loader "$data/train" --model paper --batch 64 --pairs 20000 $how; done | tee "$found/loader.log"
}

embed() {
  "$l3" bench net --model paper --what audio,vision --batch 64 --backend cuda | tee "$found/embed.log"
  local weights=$run/best.safetensors
  if [[ ! -e $weights ]]; then  # how good it is does not matter here
    pack
    rm -rf "$work/any"
    "$l3" train --train "$data/valid" --valid "$data/test" --valid-pairs 2 --model paper --batch 16 --pairs 16 --backend cuda \
      --out "$work/any" --quiet
    weights=$work/any/last.safetensors
  fi
  python3 - "$work/noise.wav" << 'END'
import array, random, sys, wave
with wave.open(sys.argv[1], "wb") as f:
    f.setparams((1, 2, 48000, 0, "NONE", ""))
    chance = random.Random(1)
    second = array.array("h", (chance.randrange(-9000, 9000) for _ in range(48000))).tobytes()
    f.writeframes(second * 1200)  # twenty minutes
END
  measure() {  # rows and seconds of `l3 embed ARGUMENTS...`, with its start and the reading of the weights
    local began=$EPOCHREALTIME
    "$l3" embed "$@" --checkpoint "$weights" --backend cuda --out "$work/embedded" --overwrite --quiet --json > "$work/embed.json" ||
      (($? == 3))  # some were refused
    python3 -c 'import json, sys; rows = sum(o["rows"] for o in json.load(open(sys.argv[1]))["outputs"])
s = float(sys.argv[3]) - float(sys.argv[2]); print(f"{rows} rows in {s:.2f} s, {rows / s:.0f}/s:", *sys.argv[4:])' \
      "$work/embed.json" "$began" "$EPOCHREALTIME" "$@" | tee -a "$found/embed.log"
  }
  measure audio "$work/noise.wav" --hop 0.1
  measure audio "$work/noise.wav" --hop 1
  measure video "$dir/videos" --hop 0.1
  measure video "$dir/videos" --hop 0.1 --pool grid
}

failed=()
while (($# > 0)); do
  words=()
  while (($# > 0)) && [[ $1 != -- ]]; do words+=("$1") && shift; done
  (($# == 0)) || shift
  [[ ${words[0]-} =~ ^(check|sanitize|compare|layers|profile|begin|result|loader|embed)$ ]] || usage
  echo "== ${words[*]}"
  began=$SECONDS
  set +e
  (set -e && "${words[@]}")
  code=$?
  set -e
  ((code == 0)) || failed+=("${words[0]}")  # what comes next is another matter
  echo "== ${words[0]}: exit code $code after $((SECONDS - began)) s"
done
((${#failed[@]} == 0)) || { echo "failed: ${failed[*]}" && exit 1; }
