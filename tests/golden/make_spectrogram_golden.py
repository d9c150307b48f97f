"""Writes spectrogram.csv beside this script; `--check` compares it with a fresh run.

The signal is float32: a rising tone with noise from a linear congruential generator, so that any language can make the
same one (`signal` below). scipy.signal.stft frames, windows and transforms it in float64. Rows of the file:
front_end,row,column,value of some rows and columns of the two pictures:

paper   257x199: ln(max(magnitude, 1e-5)) / 5
coarse  64x99: magnitudes of bins 4r .. 4r+3 of frames 2c and 2c+1 averaged, then the same logarithm
"""
import argparse
import pathlib
import sys

import numpy as np
from scipy import signal as dsp

WINDOW, HOP, FFT, RATE = 480, 240, 512, 48000
FILE = pathlib.Path(__file__).with_name("spectrogram.csv")
PICKED = {"paper": ([0, 1, 2, 10, 128, 255, 256], [0, 1, 7, 100, 198]), "coarse": ([0, 1, 31, 63], [0, 1, 49, 98])}


def signal():
    n = np.arange(RATE)
    t = n / RATE
    state, noise = 1, np.empty(RATE)
    for k in range(RATE):
        state = (1664525 * state + 1013904223) % 2**32
        noise[k] = state / 2**32 - 0.5
    return (0.1 * np.sin(2 * np.pi * (200 * t + 5000 * t * t)) + 0.5 * noise).astype(np.float32)


def pictures():
    window = dsp.get_window("hann", WINDOW, fftbins=True)
    _, _, z = dsp.stft(signal().astype(np.float64), window=window, nperseg=WINDOW, noverlap=WINDOW - HOP, nfft=FFT,
                       detrend=False, boundary=None, padded=False, scaling="spectrum")
    magnitude = np.abs(z) * window.sum()  # scipy divides by the window's sum
    assert magnitude.shape == (257, 199)
    coarse = magnitude[:256, :198].reshape(64, 4, 99, 2).mean(axis=(1, 3))
    return {name: np.log(np.maximum(m, 1e-5)) / 5 for name, m in (("paper", magnitude), ("coarse", coarse))}


def lines():
    yield "front_end,row,column,value"
    for name, picture in pictures().items():
        rows, columns = PICKED[name]
        for r in range(picture.shape[0]):
            for c in range(picture.shape[1]):
                if r in rows or c in columns:
                    yield f"{name},{r},{c},{picture[r, c]:.7f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not what comes out")
    text = "\n".join(lines()) + "\n"
    if not parser.parse_args().check:
        FILE.write_text(text)
    else:
        old, new = (np.array([float(line.rsplit(",", 1)[1]) for line in t.splitlines()[1:]])
                    for t in (FILE.read_text(), text))
        if old.shape != new.shape or np.abs(old - new).max() > 1e-6:
            sys.exit(f"{FILE}: another result than this script's")
