"""Writes openl3.safetensors beside this script: what OpenL3's front ends and networks make of made-up sounds, pictures
and weights. `--check` compares the file with a fresh run; `--kapre` (needs TensorFlow and kapre 0.3.7) asks the layers
that OpenL3 0.4 uses, `--librosa` (0.9 or newer) the functions of its other front end.

Front ends, in float64 from scipy and librosa, of the sound of make_spectrogram_golden.py:
    <front end>.rows      its rows 0, 1, F/2 and F-1
    <front end>.columns   its columns 0, 4, T/2 and T-1, one after the other
Networks, in float64 from PyTorch:
    <network>.512         the embedding
    <network>.grid        every 8th value of the large embedding
Weights and inputs are no data: value i of tensor k is computed from hash(i, k), so that any language can make the same.
"""
import argparse
import pathlib
import sys

import librosa
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from scipy import signal as dsp
from torch import nn
from torch.nn import functional as F

from make_spectrogram_golden import signal

FILE = pathlib.Path(__file__).with_name("openl3.safetensors")
RATE, HOP = 48000, 242
AUDIO = {"linear": (257, 197), "mel128": (128, 199), "mel256": (256, 199)}


def magnitudes(sound, size):
    """|STFT| (bins, frames) of all frames that fit, the first one at sample 0."""
    window = dsp.get_window("hann", size, fftbins=True)
    starts = range(0, len(sound) - size + 1, HOP)
    return np.abs(np.fft.rfft([window * sound[s : s + size] for s in starts], axis=1)).T


def decibels(x):
    level = 10 * np.log10(np.maximum(x, 1e-10))
    return np.maximum(level - level.max(), -80)


def front_ends(sound):
    sound = sound.astype(np.float64)
    yield "openl3-linear", decibels(magnitudes(sound, 512))
    for bands in 128, 256:
        # kapre 0.1: a strided convolution with TensorFlow's padding "same"; librosa's bands of powers.
        mel = librosa.filters.mel(sr=RATE, n_fft=2048, n_mels=bands, htk=True, norm="slaney", dtype=np.float64)
        frames = -(-RATE // HOP)
        missing = (frames - 1) * HOP + 2048 - RATE
        padded = np.pad(sound, (missing // 2, missing - missing // 2))
        yield f"openl3-mel{bands}", decibels(np.sqrt(mel @ magnitudes(padded, 2048) ** 2))
        # kapre 0.3: tf.signal.stft(pad_end=True); librosa's other bands, of magnitudes.
        mel = librosa.filters.mel(sr=RATE, n_fft=2048, n_mels=bands, dtype=np.float64)
        yield f"openl3-0.4-mel{bands}", decibels(mel @ magnitudes(np.pad(sound, (0, missing)), 2048))
        # librosa: the frames stand centred.
        yield f"openl3-0.4-librosa-mel{bands}", decibels(mel @ magnitudes(np.pad(sound, 1024), 2048))


def made_up(i, k):
    """Numbers from -1/2 to 1/2: of all i, for tensor k."""
    x = (np.asarray(i, np.uint64) + 0x9E3779B9 * (k + 1)) & 0xFFFFFFFF
    for shift, factor in (16, 0x7FEB352D), (15, 0x846CA68B):
        x = ((x ^ (x >> np.uint64(shift))) * factor) & 0xFFFFFFFF
    return (x ^ (x >> np.uint64(16))).astype(np.float64) / 2**32 - 0.5


class Net(nn.Module):
    """OpenL3's networks with the names of l3's."""

    def __init__(self, channels, picture):
        super().__init__()
        self.picture = picture
        norm = lambda n: nn.BatchNorm2d(n, eps=1e-3)
        self.bn0 = norm(channels)
        for b, filters in enumerate((64, 128, 256, 512), 1):
            self.add_module(f"block{b}", nn.Module())
            block = getattr(self, f"block{b}")
            block.conv1 = nn.Conv2d(channels, filters, 3, padding=1)
            block.bn1 = norm(filters)
            block.conv2 = nn.Conv2d(filters, filters, 3, padding=1)
            if b < 4:
                block.bn2 = norm(filters)
            channels = filters

    def forward(self, x):
        x = self.bn0(x)
        for b in range(1, 5):
            block = getattr(self, f"block{b}")
            x = block.conv2(F.relu(block.bn1(block.conv1(x))))
            if b == 4:
                return x
            x = block.bn2(F.relu(x)) if self.picture and b == 1 else F.relu(block.bn2(x))
            x = F.max_pool2d(x, 2)

    def fill(self):
        """Every tensor from made_up, in the order of the names above."""
        tensors = [(n, t) for n, t in self.state_dict().items() if not n.endswith("num_batches_tracked")]
        for k, (name, t) in enumerate(tensors):
            u = made_up(np.arange(t.numel()), k)
            if t.dim() == 4:
                u *= np.sqrt(24 / t[0].numel())
            elif name.endswith("running_var"):
                u += 1.2 if self.picture or name[:3] != "bn0" else 500
            elif name.endswith("running_mean"):
                u -= 0 if self.picture or name[:3] != "bn0" else 40
            elif ".bn" in name or name.startswith("bn0"):
                u = 0.4 + 2 * u if name.endswith("weight") else 0.4 * u
            t.copy_(torch.from_numpy(u.astype(np.float32).reshape(t.shape)))


def embeddings():
    for name, size in {**AUDIO, "image": (224, 224)}.items():
        picture = name == "image"
        net = Net(3 if picture else 1, picture).double().eval()
        with torch.no_grad():
            net.fill()
            count = size[0] * size[1] * (3 if picture else 1)
            u = made_up(np.arange(count), 1000)
            x = (2 * u if picture else 80 * u - 40).astype(np.float32).reshape(1, *size, -1)
            map_ = net(torch.from_numpy(x).double().permute(0, 3, 1, 2))
            cells = (4, 4 if picture else 3)
            window = map_.shape[2] // cells[0], map_.shape[3] // cells[1]
            yield f"{name}.512", map_.amax((2, 3)).flatten().numpy()
            yield f"{name}.grid", F.max_pool2d(map_, window).permute(0, 2, 3, 1).flatten().numpy()[::8]


def tensors():
    for name, picture in front_ends(signal()):
        rows, columns = picture.shape
        yield f"{name}.rows", picture[[0, 1, rows // 2, rows - 1]]
        yield f"{name}.columns", picture[:, [0, 4, columns // 2, columns - 1]].T
    yield from embeddings()


def ask_kapre():
    import tensorflow as tf
    from kapre.composed import get_melspectrogram_layer, get_stft_magnitude_layer

    sound = signal()
    ours = dict(front_ends(sound))
    common = dict(input_shape=(1, RATE), hop_length=HOP, input_data_format="channels_first",
                  output_data_format="channels_last")
    layers = {"openl3-linear": get_stft_magnitude_layer(n_fft=512, **common)}
    for bands in 128, 256:
        layers[f"openl3-0.4-mel{bands}"] = get_melspectrogram_layer(n_fft=2048, n_mels=bands, sample_rate=RATE,
                                                                    pad_end=True, **common)
    theirs_of = {name: layer(tf.constant(sound[None, None])).numpy()[0, :, :, 0].T for name, layer in layers.items()}
    # kapre 0.1 does not run on this TensorFlow; its spectrogram is a strided convolution with windowed waves.
    waves = dsp.get_window("hann", 2048)[:, None] * np.exp(-2j * np.pi * np.outer(np.arange(2048), np.arange(1025)) / 2048)
    parts = (tf.nn.conv1d(sound[None, :, None], part[:, None, :].astype(np.float32), HOP, "SAME").numpy()[0].T
             for part in (waves.real, waves.imag))
    powers = sum(part**2 for part in parts)
    for bands in 128, 256:
        mel = librosa.filters.mel(sr=RATE, n_fft=2048, n_mels=bands, fmin=0, fmax=RATE / 2, htk=True, norm="slaney")
        theirs_of[f"openl3-mel{bands}"] = np.sqrt(mel @ powers)
    hold_beside("kapre", ours, theirs_of)


def ask_librosa():
    """As OpenL3 0.4.2's core.py."""
    sound = signal()
    theirs_of = {"openl3-linear": np.abs(librosa.stft(y=sound, n_fft=512, hop_length=HOP, center=False))}
    for bands in 128, 256:
        theirs_of[f"openl3-0.4-librosa-mel{bands}"] = librosa.feature.melspectrogram(
            y=sound, sr=RATE, n_mels=bands, n_fft=2048, hop_length=HOP, center=True, power=1.0)
    for name, theirs in theirs_of.items():
        level = librosa.power_to_db(theirs, ref=1.0, amin=1e-10, top_db=80.0)
        if np.abs(level - level.max() - decibels(theirs.astype(np.float64))).max() > 1e-4:
            sys.exit(f"{name}: librosa counts decibels in another way")
    hold_beside("librosa", dict(front_ends(sound)), theirs_of)


def hold_beside(whose, ours, theirs_of):
    for name, theirs in theirs_of.items():
        theirs = decibels(theirs.astype(np.float64))
        worst = np.abs(theirs - ours[name]).max() if theirs.shape == ours[name].shape else np.inf
        print(f"{name}: {whose}'s {theirs.shape} and ours differ by {worst:.2g} dB at most")
        if not worst < 0.01:
            sys.exit(f"another front end than {whose}'s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not what comes out")
    parser.add_argument("--kapre", action="store_true", help="write nothing; fail if kapre's layers say something else")
    parser.add_argument("--librosa", action="store_true", help="write nothing; fail if librosa says something else")
    options = parser.parse_args()
    if options.kapre:
        ask_kapre()
    if options.librosa:
        ask_librosa()
    if options.kapre or options.librosa:
        sys.exit()
    fresh = {name: np.ascontiguousarray(t, np.float32) for name, t in tensors()}
    if not options.check:
        save_file(fresh, FILE)
    else:
        stored = load_file(FILE)
        for name in fresh.keys() | stored.keys():
            a, b = stored.get(name), fresh.get(name)
            if a is None or b is None or a.shape != b.shape or np.abs(a - b).max() > 1e-5 * np.abs(b).max():
                sys.exit(f"{FILE}: another {name} than this script's")
