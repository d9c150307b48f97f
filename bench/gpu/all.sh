#!/usr/bin/env bash
# All that is to be done where a GPU is at hand, with what bench/gpu/bundle.sh has put into DIR; results go to OUT.
#   bench/gpu/all.sh DIR OUT check               the tests of the backend cuda, a process each
#   bench/gpu/all.sh DIR OUT sanitize            the same under compute-sanitizer, memcheck and then racecheck
#   bench/gpu/all.sh DIR OUT layers [BATCH]      every layer's passes, with each kind of products
#   bench/gpu/all.sh DIR OUT compare [BATCH...]  training and inference beside PyTorch's
#   bench/gpu/all.sh DIR OUT train SECONDS       packs the videos; trains the paper's network on them for so long, from where
#                                                it stopped the last time; the test accuracy; the weights, in pieces
#   bench/gpu/all.sh DIR OUT loader              how fast the loader alone is here
#   bench/gpu/all.sh DIR OUT embed               how fast a network in use is: on its own, and on files as `l3 embed` reads them
set -euo pipefail
(($# >= 3)) || { sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
dir=$(cd "$1" && pwd) out=$(mkdir -p "$2" && cd "$2" && pwd) stage=$3
shift 3
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p build/gpu
tar -xzf "$dir/programs.tar.gz" -C build/gpu
bin=$PWD/build/gpu/bin data=build/gpu/packed run=build/gpu/run
l3=$bin/l3 step=$bin/bench_gpu_step tests=$bin/l3_cuda_tests
export L3_SOURCE=$PWD

pack() {
  for part in train valid test; do
    [[ -e $data/$part/index.l3index ]] || "$l3" pack "$dir/videos/$part.csv" --out "$data/$part" --fps 4 | tail -n 1
  done
}

case $stage in
  check)
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv
    "$l3" info --model paper --backend cuda
    # A process each: behind a fault a GPU answers no further call of that process, and what is left would be skipped.
    failed=0
    : > "$out/tests.log"
    while IFS= read -r name; do
      began=$SECONDS result=passed
      timeout -k 5 100 "$tests" -w NoTests "$(sed 's/[][\\,"]/\\&/g' <<< "$name")" > "$out/one.log" 2>&1 || result="FAILED ($?)"
      if grep -q SKIPPED "$out/one.log"; then result="FAILED (skipped)"; fi
      echo "$result in $((SECONDS - began)) s: $name" | tee -a "$out/tests.log"
      if [[ $result != passed ]]; then failed=$((failed + 1)) && tail -n 25 "$out/one.log" | tee -a "$out/tests.log"; fi
    done < <("$tests" --list-test-names-only)
    rm -f "$out/one.log"
    echo "$failed tests failed" | tee -a "$out/tests.log"
    ((failed == 0))
    ;;
  sanitize)
    result=0
    for tool in memcheck racecheck; do
      timeout -k 5 270 compute-sanitizer --tool "$tool" --error-exitcode 1 "$tests" -d yes "~*learns to tell*" \
        > "$out/$tool.log" 2>&1 || { result=$? && echo "$tool: exit code $result (124: it ran out of time)"; }
      tail -n 20 "$out/$tool.log"
    done
    exit "$result"
    ;;
  layers)
    for products in warp warpgroup direct; do
      timeout -k 5 150 "$step" layers "${1:-64}" 0.3 --products $products | tee "$out/layers-$products.jsonl" || true
    done
    python3 bench/gpu/floors.py --l3 "$l3" --measured "$out"/layers-{warp,warpgroup,direct}.jsonl | tee "$out/layers.md"
    ;;
  compare)
    python3 bench/gpu/compare.py --step "$step" --batches "${@:-64}" --json "$out/compare.json" | tee "$out/compare.md"
    ;;
  train)
    pack
    how=(--train "$data/train" --valid "$data/valid" --model paper --batch 64 --pairs 20000000 --lr 1e-4 --valid-every 500
      --valid-pairs 1000 --seed 1 --backend cuda)
    if [[ -e $run/last.safetensors ]]; then how=(--resume); fi
    timeout --signal=INT -k 30 "${1:?seconds}" "$l3" train --out "$run" "${how[@]}" | tail -n 30 || [[ $? =~ ^(124|130|137)$ ]]
    cp "$run"/{log.csv,config.json} "$out/"
    "$l3" eval --checkpoint "$run/best.safetensors" --data "$data/test" --pairs 5000 --backend cuda --out "$run/test" | tail -n 12
    cp "$run/test/result.json" "$out/"
    # Weights alone: averages of the optimizer are twice as much, and are not needed to look at what was learned.
    python3 - "$run/best.safetensors" build/gpu/weights.safetensors << 'END'
import sys
from safetensors import safe_open
from safetensors.torch import save_file
with safe_open(sys.argv[1], "pt") as f:
    save_file({k: f.get_tensor(k) for k in f.keys() if not k.startswith("optimizer.")}, sys.argv[2], f.metadata())
END
    split -b 15M -d build/gpu/weights.safetensors "$out/weights-"
    ;;
  loader)
    pack
    for how in "" --raw; do "$l3" bench loader "$data/train" --model paper --batch 64 --pairs 20000 $how; done | tee "$out/loader.log"
    ;;
  embed)
    "$l3" bench net --model paper --what audio,vision --batch 64 --backend cuda | tee "$out/embed.log"
    weights=$run/best.safetensors
    if [[ ! -e $weights ]]; then  # how good it is does not matter here
      pack
      rm -rf build/gpu/any
      "$l3" train --train "$data/valid" --valid "$data/test" --valid-pairs 2 --model paper --batch 16 --pairs 16 --backend cuda \
        --out build/gpu/any --quiet
      weights=build/gpu/any/last.safetensors
    fi
    python3 - build/gpu/noise.wav << 'END'
import array, random, sys, wave
with wave.open(sys.argv[1], "wb") as f:
    f.setparams((1, 2, 48000, 0, "NONE", ""))
    chance = random.Random(1)
    second = array.array("h", (chance.randrange(-9000, 9000) for _ in range(48000))).tobytes()
    f.writeframes(second * 1200)  # twenty minutes
END
    measure() {  # rows and seconds of `l3 embed ARGUMENTS...`, with its start and the reading of the weights
      local began=$EPOCHREALTIME
      "$l3" embed "$@" --checkpoint "$weights" --backend cuda --out build/gpu/embedded --overwrite --quiet --json > "$out/embed.json" ||
        (($? == 3))  # some were refused
      python3 -c 'import json, sys; rows = sum(o["rows"] for o in json.load(open(sys.argv[1]))["outputs"])
s = float(sys.argv[3]) - float(sys.argv[2]); print(f"{rows} rows in {s:.2f} s, {rows / s:.0f}/s:", *sys.argv[4:])' \
        "$out/embed.json" "$began" "$EPOCHREALTIME" "$@" | tee -a "$out/embed.log"
    }
    measure audio build/gpu/noise.wav --hop 0.1
    measure audio build/gpu/noise.wav --hop 1
    measure video "$dir/videos" --hop 0.1
    measure video "$dir/videos" --hop 0.1 --pool grid
    ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
