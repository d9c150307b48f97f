#!/usr/bin/env bash
# tests/python_checks.sh L3 CHECK: compares l3 with PyTorch. L3 is the program; CHECK is one of
#   goldens  the stored golden numbers are what PyTorch and scipy still say
#   curve    trained on the same batches from the same weights, l3's losses are PyTorch's
#   probe    the audio transfer protocol, written again in Python, finds the same accuracy
#   openl3   Keras builds OpenL3's networks and writes their weights; l3 imports them and gives Keras's embeddings
#   onnx     what `l3 export` writes is sound, and says what l3 says (needs onnx alone)
#   logits   PyTorch reads l3's weights and says the same of the same pairs, and l3 of PyTorch's
# Python is $L3_PYTHON, or python3 where that has what the check needs: torch and safetensors, mostly.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
l3=${1:?usage: python_checks.sh L3 CHECK} check=${2:?usage: python_checks.sh L3 CHECK}
python=${L3_PYTHON:-python3}

if [[ $check == onnx ]]; then
  for python in "$python" /usr/bin/python3; do  # the system's, which has the packages, need not be the first one
    if "$python" -c 'import onnx, numpy' 2> /dev/null; then exec "$python" "$root/tests/parity/export.py" "$l3"; fi
  done
  echo "SKIPPED: onnx (no Python with onnx; name one in L3_PYTHON)"
  exit 77
fi

if ! "$python" -c 'import torch, safetensors, numpy' 2> /dev/null; then
  echo "SKIPPED: $check (no Python with torch and safetensors; name one in L3_PYTHON)"
  exit 77
fi
if [[ $check == probe ]]; then
  "$python" -c 'import sklearn' 2> /dev/null || { echo "this Python lacks scikit-learn (tests/requirements.txt)" >&2; exit 1; }
fi
if [[ $check == goldens ]]; then
  "$python" -c 'import scipy' 2> /dev/null || { echo "this Python lacks scipy (tests/requirements.txt)" >&2; exit 1; }
  "$python" "$root/tests/golden/make_spectrogram_golden.py" --check
  "$python" -c 'import PIL' 2> /dev/null || { echo "this Python lacks Pillow (tests/requirements.txt)" >&2; exit 1; }
  "$python" "$root/tests/golden/make_resize_golden.py" --check
  "$python" -c 'import librosa' 2> /dev/null || { echo "this Python lacks librosa (tests/requirements.txt)" >&2; exit 1; }
  "$python" -W ignore "$root/tests/golden/make_openl3_golden.py" --check
  "$python" -c 'import sklearn' 2> /dev/null || { echo "this Python lacks scikit-learn (tests/requirements.txt)" >&2; exit 1; }
  "$python" "$root/tests/golden/make_eval_golden.py" --check
  exec "$python" "$root/tests/golden/make_goldens.py" --check
fi

if [[ $check == openl3 ]]; then
  if ! "$python" -c 'import tensorflow, keras, h5py, librosa, PIL' 2> /dev/null; then
    echo "SKIPPED: openl3 (this Python lacks Keras with TensorFlow, h5py, librosa or Pillow)"
    exit 77
  fi
  exec "$python" -W ignore "$root/tests/parity/openl3.py" "$l3"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$l3" synth "$work/data" --videos 40 --seconds 3 --seed 7 --quiet
train() {
  "$l3" train --train "$work/data/train.csv" --valid "$work/data/valid.csv" --out "$work/run" --model tiny --batch 16 \
    --warmup 0 --seed 7 --quiet "$@"
}
evaluate() { "$l3" eval --checkpoint "$1" --data "$work/data/test.csv" --pairs 64 --dump-batches "$2" --quiet; }

case $check in
  curve)
    # A small learning rate: Adam's first steps divide rounding by rounding where a gradient is nearly 0, and at 1e-3
    # PyTorch in float leaves PyTorch in double within two steps.
    for pairing in all paper; do
      train --pairing $pairing --pairs 800 --lr 1e-5 --dump-batches "$work/dump"
      "$python" "$root/tests/parity/curve.py" "$work/dump" --model tiny --pairing $pairing --lr 1e-5 --steps 50
      rm -rf "$work/run" "$work/dump"
    done
    ;;
  logits)
    train --pairs 320
    ours=$work/run/last.safetensors theirs=$work/theirs.safetensors
    evaluate "$ours" "$work/ours"
    "$python" "$root/tests/parity/logits.py" "$ours" "$work/ours"
    "$python" "$root/tests/parity/logits.py" --make-checkpoint "$theirs" --model tiny --template "$ours"
    evaluate "$theirs" "$work/theirs"
    "$python" "$root/tests/parity/logits.py" "$theirs" "$work/theirs"
    ;;
  probe)
    # The made-up videos as sounds, in three folds.
    "$l3" synth "$work/sounds" --videos 120 --classes 4 --seconds 2 --seed 7 --quiet
    awk -F, 'NR == 1 { print "filename,fold,category" } NR > 1 { print $1 "," NR % 3 + 1 "," $2 }' "$work/sounds/train.csv" \
      > "$work/sounds/meta.csv"
    of=(--meta "$work/sounds/meta.csv" --audio "$work/sounds")
    "$l3" probe esc50 "${of[@]}" --random-weights --model tiny --seed 7 --keep-weights "$work/random.safetensors" \
      --out "$work/probe" --quiet
    "$python" "$root/tests/parity/audio_probe.py" "$work/random.safetensors" --model tiny "${of[@]}" \
      --against "$work/probe/result.json"
    ;;
  *) echo "python_checks.sh: expected goldens, curve, logits, probe, openl3 or onnx, found $check" >&2; exit 2 ;;
esac
