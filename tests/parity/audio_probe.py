"""The audio transfer protocol a second time, by other people's code: ffmpeg, numpy, PyTorch and scikit-learn.

    l3 probe esc50 --meta M --audio D --random-weights --model tiny --keep-weights C --out OUT
    python tests/parity/audio_probe.py C --model tiny --meta M --audio D --against OUT/result.json

Sounds -> mono 48 kHz -> seconds `hop` apart -> log-spectrogram -> conv4_2 before its ReLU, max-pooled to 4 x 3 ->
z-scores by the training folds -> LinearSVC, its C chosen on the fold behind the tested one -> mean of the seconds'
scores. Prints accuracy a fold and the seconds that features and machines took; with --against the difference from l3's.
"""
import argparse
import csv
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
from l3_torch import load_checkpoint, models  # noqa: E402

RATE, WINDOW, HOP, FFT = 48000, 480, 240, 512


def decode(path):
    """Mono float samples at 48 kHz."""
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-f", "f32le", "-ac", "1", "-ar", str(RATE), "-"],
                         check=True, stdout=subprocess.PIPE).stdout
    return np.frombuffer(raw, np.float32)


def spectrograms(seconds, model):
    """(N, 48000) -> (N, 1, frequency, time)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = torch.from_numpy(seconds).unfold(1, WINDOW, HOP) * torch.from_numpy(window.astype(np.float32))
    magnitude = torch.fft.rfft(frames, FFT).abs().transpose(1, 2)
    if model == "tiny":
        n = len(seconds)
        magnitude = magnitude[:, :256, :198].reshape(n, 64, 4, 99, 2).mean((2, 4))
    return (torch.log(magnitude.clamp_min(1e-5)) / 5)[:, None]


def conv4_2(audio, x):
    """After batch norm, before ReLU."""
    x = audio.block3(audio.block2(audio.block1(x)))
    b = audio.block4
    return b.bn2(b.conv2(F.relu(b.bn1(b.conv1(x)))))


def features(net, path, model, hop, channels_last):
    sound = decode(path)
    if len(sound) < RATE:
        sound = np.pad(sound, (0, RATE - len(sound)))
    starts = range(0, len(sound) - RATE + 1, round(hop * RATE))
    x = spectrograms(np.stack([sound[s:s + RATE] for s in starts]), model)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        grid = F.adaptive_max_pool2d(conv4_2(net.audio, x), (4, 3))
    return grid.permute(0, 2, 3, 1).flatten(1).numpy()


def scores(rows, labels, of, train, tests, cost, tolerance):
    """Mean decision values of the files `tests`, learned from `train`; `of` maps a file to its rows."""
    picked = np.concatenate([of[k] for k in train])
    scale = StandardScaler().fit(rows[picked])
    owner = np.concatenate([[labels[k]] * len(of[k]) for k in train])
    svm = LinearSVC(C=cost, tol=tolerance, dual=True, max_iter=1000, random_state=0).fit(scale.transform(rows[picked]), owner)
    return np.array([svm.decision_function(scale.transform(rows[of[k]])).mean(0) for k in tests])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--model", choices=models, required=True)
    parser.add_argument("--meta", type=pathlib.Path, required=True)
    parser.add_argument("--audio", type=pathlib.Path, required=True)
    parser.add_argument("--hop", type=float, default=0.5)
    parser.add_argument("--costs", default="1e-5,1e-4,1e-3,1e-2,1e-1")
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--files", type=int, default=0, help="only so many files: to time features")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--against", type=pathlib.Path, help="result.json of l3: fail if it is 2 points away")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    width, image, sound = models[o.model]
    net = load_checkpoint(o.checkpoint, image, sound).eval()
    if o.channels_last:
        net = net.to(memory_format=torch.channels_last)

    table = list(csv.DictReader(open(o.meta, newline="")))[:o.files or None]
    classes = sorted({r["category"] for r in table})
    labels = [classes.index(r["category"]) for r in table]
    began = time.perf_counter()
    parts = [features(net, o.audio / r["filename"], o.model, o.hop, o.channels_last) for r in table]
    took = time.perf_counter() - began
    rows = np.concatenate(parts)
    print(f"{len(rows)} rows of {rows.shape[1]} features of {len(table)} files in {took:.1f} s")
    if o.files:
        return 0
    ends = np.cumsum([len(p) for p in parts])
    of = [np.arange(e - len(p), e) for e, p in zip(ends, parts)]

    began = time.perf_counter()
    folds = sorted({r["fold"] for r in table})
    accuracies = []
    for k, fold in enumerate(folds):
        train = [i for i, r in enumerate(table) if r["fold"] != fold]
        test = [i for i, r in enumerate(table) if r["fold"] == fold]
        held = [i for i in train if table[i]["fold"] == folds[(k + 1) % len(folds)]]
        rest = [i for i in train if i not in held]
        truth = np.array([labels[i] for i in held])
        costs = [float(c) for c in o.costs.split(",")]
        right = [(scores(rows, labels, of, rest, held, c, o.tolerance).argmax(1) == truth).mean() for c in costs]
        cost = costs[int(np.argmax(right))]
        found = scores(rows, labels, of, train, test, cost, o.tolerance).argmax(1)
        accuracies.append((found == np.array([labels[i] for i in test])).mean())
        print(f"fold {fold}: cost {cost:g}, accuracy {accuracies[-1]:.4f}")
    mean = float(np.mean(accuracies))
    print(f"accuracy {mean:.4f}, machines in {time.perf_counter() - began:.1f} s")
    if o.against:
        ours = json.loads(o.against.read_text())["accuracy"]
        print(f"l3: {ours:.4f}, {abs(ours - mean) * 100:.2f} points away")
        return 0 if abs(ours - mean) <= 0.02 else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
