"""Are OpenL3's networks, made and run by Keras, those that l3 imports and runs?

  tests/parity/openl3.py build/ci/l3

Keras builds the networks (as openl3/models.py does) with weights of no meaning and writes them as OpenL3's were written;
`l3 import` reads them, and `l3 embed` of a made-up sound and picture is compared with Keras's embeddings. The spectrograms
that Keras gets are those of tests/golden/make_openl3_golden.py. Needs Keras 3 with TensorFlow, h5py, scipy, librosa,
Pillow.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import wave

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import h5py
import keras
import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "golden"))
from make_openl3_golden import AUDIO, front_ends

RATE, HOP = 48000, 12000
layers = keras.layers


def network(shape, seed):
    """Up to the last convolution; batch norms as if they had been trained."""
    x = inputs = keras.Input(shape)
    x = layers.BatchNormalization()(x)
    for block, filters in enumerate((64, 128, 256, 512)):
        x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(x)
        if block == 3:
            break
        if shape[2] == 3 and block == 0:
            x = layers.BatchNormalization()(layers.Activation("relu")(x))
        else:
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D(2, strides=2, padding="same" if shape[2] == 3 else "valid")(x)
    model = keras.Model(inputs, x)
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            first = layer is model.layers[1] and shape[2] == 1
            layer.set_weights([random.normal(0.8, 0.4, gamma.shape), random.normal(0, 0.2, beta.shape),
                               random.normal(-30 if first else 0, 0.2, mean.shape),
                               random.uniform(200, 300, variance.shape) if first else random.uniform(0.5, 2, variance.shape)])
        elif isinstance(layer, layers.Conv2D):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(0, 0.1, bias.shape)])
    return model


def save(model, file):
    """As Keras 2's save_weights: what `save` puts into a group stands in the file itself."""
    whole = file.with_suffix(".whole.h5")
    model.save(whole)
    with h5py.File(whole) as old, h5py.File(file, "w") as new:
        for name in old["model_weights"]:
            old.copy(f"model_weights/{name}", new)
        for name, value in old["model_weights"].attrs.items():
            new.attrs[name] = value
    return whole


def pooled(maps, size, cells):
    if size == 512:
        return maps.max((1, 2))
    n, h, w, c = maps.shape
    return maps.reshape(n, cells[0], h // cells[0], cells[1], w // cells[1], c).max((2, 4)).reshape(n, -1)


def main(l3):
    random = np.random.default_rng(1)
    keras.utils.set_random_seed(1)

    def run(*arguments):
        subprocess.run([l3, *map(str, arguments), "--quiet"], check=True)

    def compare(what, found, expected):
        worst = np.abs(found - expected).max() / np.abs(expected).max() if found.shape == expected.shape else np.inf
        print(f"{what}: {found.shape}, differs by {worst:.2g} of the largest value at most")
        if not worst < 1e-4:
            sys.exit(f"{what}: expected Keras's {expected.shape}")

    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        # 1.3 seconds: with OpenL3's half a second in front, windows at 0, 0.25, ..., the last one filled up.
        sound = (random.normal(0, 0.1, 62400) * np.linspace(0.1, 1, 62400) * 32768).astype("<i2")
        with wave.open(str(work / "sound.wav"), "wb") as out:
            out.setparams((1, 2, RATE, 0, "NONE", ""))
            out.writeframes(sound.tobytes())
        padded = np.concatenate([np.zeros(24000), sound / 32768.0])
        count = 1 + -(-(len(padded) - RATE) // HOP)
        padded = np.pad(padded, (0, RATE + (count - 1) * HOP - len(padded)))
        windows = [dict(front_ends(padded[k * HOP:][:RATE].astype(np.float32))) for k in range(count)]
        pixels = random.integers(0, 256, (256, 256, 3), np.uint8)
        Image.fromarray(pixels).save(work / "picture.png")

        image = network((224, 224, 3), 7)
        save(image, work / "openl3_image_mel256_env.h5")
        maps = image.predict(pixels[None, 16:240, 16:240] / 127.5 - 1, verbose=0)
        for representation, size in AUDIO.items():
            audio = network((*size, 1), 8)
            file = work / f"openl3_audio_{representation}_env.h5"
            whole = save(audio, file)
            for version in "0.3", "0.4", "0.4-librosa":
                name = "openl3-" + (f"{version}-" if version != "0.3" and representation != "linear" else "") + representation
                checkpoint = work / f"{name}.safetensors"
                run("import", "openl3", file if version == "0.3" else whole, work / "openl3_image_mel256_env.h5", "--out",
                    checkpoint, "--front-end", version, "--input-repr", representation)
                spectrograms = np.stack([w[name] for w in windows])[..., None].astype(np.float32)
                heard = audio.predict(spectrograms, verbose=0)
                for width in 512, 6144:
                    run("embed", "audio", work / "sound.wav", "--checkpoint", checkpoint, "--out", work / "out", "--hop",
                        HOP / RATE, "--size", width, "--overwrite")
                    made = np.load(work / "out" / "sound.npz")
                    compare(f"{name} {width}", made["embedding"], pooled(heard, width, (4, 3)))
                    assert np.array_equal(made["timestamps"], np.arange(count) * HOP / RATE)
                if representation == "linear":
                    break  # the same in all
        for width in 512, 8192:
            run("embed", "image", work / "picture.png", "--checkpoint", checkpoint, "--out", work / "out", "--size", width,
                "--overwrite")
            compare(f"image {width}", np.load(work / "out" / "picture.npz")["embedding"], pooled(maps, width, (4, 4)))


if __name__ == "__main__":
    main(sys.argv[1])
