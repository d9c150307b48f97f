"""The log-spectrogram of one second (48 kHz; window 480, hop 240, transform 512: 257 x 199), one thread, float32: l3's
benchmark beside librosa, torchaudio, torch.stft and torch.fft, by turns. Each is compared with the definition in double
first.

    python bench/peers/spectrogram.py build/bench/bench/bench_data_spectrogram [--rounds 5]
A program that Python lacks is left out by name.
"""
import argparse
import json
import statistics
import subprocess
import time

import numpy as np

window_size, hop, size = 480, 240, 512


def definition(x):
    w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_size) / window_size)
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), window_size)[::hop] * w
    return np.log(np.maximum(np.abs(np.fft.rfft(frames, size)).T, 1e-5)) / 5


def peers():
    import torch
    torch.set_num_threads(1)
    window = torch.hann_window(window_size)
    edge = (size - window_size) // 2  # these libraries lay the window in the middle of the transform; magnitudes are alike

    def torch_stft(x):
        x = torch.nn.functional.pad(torch.from_numpy(x), (edge, edge))
        z = torch.stft(x, size, hop, window_size, window, center=False, return_complex=True)
        return (z.abs().clamp_(min=1e-5).log_() / 5).numpy()

    def torch_fft(x):
        z = torch.fft.rfft(torch.from_numpy(x).unfold(0, window_size, hop) * window, size)
        return (z.abs().clamp_(min=1e-5).log_() / 5).T.contiguous().numpy()

    yield "torch.stft", torch_stft
    yield "torch.fft", torch_fft
    try:
        import torchaudio
        transform = torchaudio.transforms.Spectrogram(size, window_size, hop, power=1.0, center=False)

        def with_torchaudio(x):
            x = torch.nn.functional.pad(torch.from_numpy(x), (edge, edge))
            return (transform(x).clamp_(min=1e-5).log_() / 5).numpy()
        yield "torchaudio", with_torchaudio
    except (ImportError, OSError, RuntimeError) as e:
        print(f"left out: torchaudio ({e})")
    try:
        import librosa

        def with_librosa(x):
            z = librosa.stft(np.pad(x, edge), n_fft=size, hop_length=hop, win_length=window_size, center=False)
            return np.log(np.maximum(np.abs(z), np.float32(1e-5))) / np.float32(5)
        yield "librosa", with_librosa
    except ImportError as e:
        print(f"left out: librosa ({e})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark")
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    x = (0.1 * np.random.default_rng(1).standard_normal(48000)).astype(np.float32)
    contenders = dict(peers())
    for name, f in contenders.items():
        apart = np.abs(f(x) - definition(x)).max()
        if not apart < 2e-5:
            raise SystemExit(f"{name}: expected the definition's numbers, found {apart:.1e} apart")

    def l3():
        said = subprocess.run([o.benchmark, "--benchmark_filter=sound_to_picture<l3::paper", "--benchmark_min_time=0.02",
                               "--benchmark_repetitions=21", "--benchmark_format=json"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return next(b["real_time"] for b in json.loads(said.stdout)["benchmarks"] if b.get("aggregate_name") == "median")

    def microseconds(f):
        times = []
        for _ in range(200):
            start = time.perf_counter()
            f(x)
            times.append(1e6 * (time.perf_counter() - start))
        return statistics.median(times)

    found = {name: [] for name in ["l3", *contenders]}
    for _ in range(o.rounds):
        found["l3"].append(l3())
        for name, f in contenders.items():
            found[name].append(microseconds(f))
    print("| program | microseconds | l3's time / its time |\n| --- | ---: | ---: |")
    for name, times in sorted(found.items(), key=lambda kv: statistics.median(kv[1])):
        shares = [mine / other for mine, other in zip(found["l3"], times)]
        print(f"| {name} | {statistics.median(times):.0f} | {statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}) |")


if __name__ == "__main__":
    main()
