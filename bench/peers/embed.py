"""Embeddings of a whole sound file, l3 beside a pipeline of Keras on TensorFlow, by turns in one run.

    python bench/peers/embed.py build/release/l3 --hop 1,0.1 --minutes 10
Both read a FLAC file of 44.1 kHz stereo, resample it to 48 kHz mono, compute a spectrogram for each second, run the
paper's audio subnetwork with the same weights, and write an .npz file; the two files are compared before anything is
printed. l3 is timed as its user runs it, `l3 embed audio`, with the start of the program and the reading of the
weights. The other pipeline is already started, its graph traced and warmed up: ffmpeg decodes and resamples, and
TensorFlow computes spectrograms and network in one graph, 32 seconds at a time.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

root = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "tests" / "golden"))
rate, batch = 48000, 32


def run(*command):
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)


def make_checkpoint(l3, folder):
    """The paper's network after one step on made-up videos: l3 takes no weights but those of a training."""
    run(l3, "synth", folder / "videos", "--videos", 8, "--seconds", 2, "--quiet")
    run(l3, "train", "--train", folder / "videos" / "train.csv", "--valid", folder / "videos" / "train.csv", "--valid-pairs", 2,
        "--model", "paper", "--batch", 2, "--pairs", 2, "--out", folder / "run", "--quiet")
    return folder / "run" / "last.safetensors"


def make_sound(file, minutes):
    """Chords that change, over noise."""
    generator = np.random.default_rng(1)
    t = np.arange(44100) / 44100
    seconds = [sum(np.sin(2 * np.pi * f * t + p) for f, p in generator.uniform((80, 0), (4000, 6), (5, 2))) / 10
               + generator.normal(0, 0.02, t.size) for _ in range(round(60 * minutes))]
    samples = np.concatenate(seconds)
    stereo = (np.stack([samples, 0.8 * samples], axis=1) * 32000).clip(-32768, 32767).astype("<i2")
    subprocess.run(["ffmpeg", "-v", "error", "-f", "s16le", "-ar", "44100", "-ac", "2", "-i", "-", str(file)],
                   input=stereo.tobytes(), check=True)


class Keras:
    """The other pipeline."""
    name = "keras"

    def __init__(self, checkpoint, threads):
        import tensorflow as tf
        import torch
        from l3_torch import load_checkpoint, models
        from peer import as_keras

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        with torch.no_grad():
            model = as_keras(load_checkpoint(checkpoint, *models["paper"][1:]).eval().audio, *models["paper"][2], 1)

        @tf.function(input_signature=[tf.TensorSpec((None, rate), tf.float32)])
        def embed(seconds):
            spectrum = tf.signal.stft(seconds, 480, 240, 512)  # its window is Hann's, periodic
            level = tf.math.log(tf.maximum(tf.abs(spectrum), 1e-5)) / 5
            return model(tf.transpose(level, (0, 2, 1))[..., None], training=False)

        self.embed = embed
        embed(np.zeros((batch, rate), np.float32))

    def __call__(self, sound, hop, out):
        mix = f"aformat=sample_fmts=fltp,pan='mono|c0=0.5*c0+0.5*c1',aresample={rate}"  # "-ac 1" would add 3 dB
        raw = subprocess.run(["ffmpeg", "-v", "error", "-i", str(sound), "-af", mix, "-f", "f32le", "-"],
                             check=True, stdout=subprocess.PIPE).stdout
        seconds = np.lib.stride_tricks.sliding_window_view(np.frombuffer(raw, "<f4"), rate)[::round(hop * rate)]
        rows = [self.embed(np.ascontiguousarray(seconds[k:k + batch])).numpy() for k in range(0, len(seconds), batch)]
        np.savez(out, embedding=np.concatenate(rows), timestamps=np.arange(len(seconds)) * hop)


class L3:
    def __init__(self, l3, checkpoint, threads, precision):
        self.name = "l3" if precision == "fp32" else f"l3-{precision}"
        self.command = [l3, "embed", "audio", "--checkpoint", checkpoint, "--threads", threads, "--precision", precision,
                        "--overwrite", "--quiet"]

    def __call__(self, sound, hop, out):
        run(*self.command, sound, "--hop", hop, "--out", out.parent)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("l3", help="the program")
    parser.add_argument("--hop", default="1,0.1", help="seconds from one embedding to the next")
    parser.add_argument("--minutes", type=float, default=10, help="length of the sound")
    parser.add_argument("--precision", default="fp32", help="of l3: fp32, bf16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sound = folder / "sound.flac"
        make_sound(sound, o.minutes)
        checkpoint = make_checkpoint(o.l3, folder)
        try:
            keras = Keras(checkpoint, o.threads)
        except ImportError as why:
            sys.exit(f"embed.py: expected a Python with what requirements.txt names: {why}")
        contenders = [L3(o.l3, checkpoint, o.threads, p) for p in o.precision.split(",")] + [keras]
        for hop in map(float, o.hop.split(",")):
            times, rows = {c.name: [] for c in contenders}, {}
            for _ in range(o.rounds):
                for c in contenders:
                    out = folder / c.name / "sound.npz"
                    out.parent.mkdir(exist_ok=True)
                    start = time.perf_counter()
                    c(sound, hop, out)
                    times[c.name].append(time.perf_counter() - start)
                    rows[c.name] = np.load(out)["embedding"]
            expected = rows["keras"]
            for c, found in rows.items():
                apart = np.abs(found - expected).max() / np.abs(expected).max() if found.shape == expected.shape else np.inf
                if not apart <= (5e-2 if "bf16" in c else 1e-3):
                    sys.exit(f"{c}: expected Keras's embeddings {expected.shape}, found {found.shape}, {apart:.1e} apart")
            results.append({"hop": hop, "minutes": o.minutes, "rows": len(expected), "threads": o.threads, "s": times})
            if o.json:
                continue
            ratios = {n: [k / mine for k, mine in zip(times["keras"], t)] for n, t in times.items()}
            print(f"\n{o.minutes:g} minutes of sound, hop {hop:g} s, {len(expected)} embeddings, {o.threads} threads, "
                  f"{o.rounds} round{'s' if o.rounds > 1 else ''}\n\n| program | s | Keras's time / its time |\n| --- | ---: | ---: |")
            for n, t in times.items():
                span = f" ({min(ratios[n]):.2f} to {max(ratios[n]):.2f})" if o.rounds > 1 else ""
                print(f"| {n} | {statistics.median(t):.1f} | {statistics.median(ratios[n]):.2f}{span} |", flush=True)
    if o.json:
        print(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
