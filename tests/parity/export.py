"""Do the ONNX files that `l3 export` writes say what l3 says?

  tests/parity/export.py build/ci/l3

Every file must pass ONNX's own checker with shapes inferred, be what Protocol Buffers would write, byte for byte, and hold
the checkpoint's tensors under their names; and what it makes of the same sounds and pictures must be l3's embeddings and
scores. Computes with ONNX Runtime where this Python has it, on more networks then, else with NumPy. Needs onnx and NumPy.
"""
import contextlib
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import wave
import zlib

import numpy as np
import onnx
from onnx import checker, numpy_helper, shape_inference

import onnx_numpy

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

RATE = 48000


def write_png(file, pixels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                     chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_wav(file, samples):
    with wave.open(str(file), "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        out.writeframes(samples.tobytes())


def write_checkpoint(file, tensors, model, front_end):
    header = {"__metadata__": {"l3.model": model, "l3.front_end": front_end, "l3.step": "0", "l3.seed": "0",
                               "l3.settings": "{}"}}
    end = 0
    for name, values in tensors.items():
        header[name] = {"dtype": {"float32": "F32", "int64": "I64"}[values.dtype.name], "shape": values.shape,
                        "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.tobytes() for t in tensors.values()))


def read_tensors(file):
    data = file.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    kinds = {"F32": np.float32, "I64": np.int64}
    return {name: np.frombuffer(data[8 + size:][slice(*t["data_offsets"])], kinds[t["dtype"]]).reshape(t["shape"])
            for name, t in json.loads(data[8:8 + size]).items() if name != "__metadata__"}


def made_up(shapes, random):
    """Weights of no meaning, batch norms as if they had been trained; names as in checkpoints."""
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("running_var"):
            values = random.uniform(200, 300, shape) if "bn0" in name and "audio" in name else random.uniform(0.5, 2, shape)
            tensors[name.replace("running_var", "num_batches_tracked")] = np.array(1, np.int64)
        elif name.endswith("running_mean"):
            values = random.normal(-30 if "bn0" in name and "audio" in name else 0, 0.2, shape)
        elif len(shape) > 1:
            values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            values = random.normal(0.8 if name.endswith("weight") else 0, 0.2, shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def openl3_shapes():
    """Of both networks, as docs/openl3.md's checkpoints have them."""
    shapes = {}
    for half, channels in ("audio", 1), ("vision", 3):
        def norm(name, size):
            shapes.update({f"{half}.{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")})

        norm("bn0", channels)
        for block, filters in enumerate((64, 128, 256, 512), 1):
            for k in 1, 2:
                shapes[f"{half}.block{block}.conv{k}.weight"] = (filters, channels, 3, 3)
                shapes[f"{half}.block{block}.conv{k}.bias"] = (filters,)
                if (block, k) != (4, 2):
                    norm(f"block{block}.bn{k}", filters)
                channels = filters
    return shapes


def main(l3):
    random = np.random.default_rng(1)
    print("computed with " + ("ONNX Runtime " + onnxruntime.__version__ if onnxruntime else "NumPy " + np.__version__))

    def run(*arguments):
        done = subprocess.run([l3, *map(str, arguments), "--json"], check=True, capture_output=True)
        return json.loads(done.stdout)

    def compare(what, found, expected, tolerance):
        worst = np.abs(found - expected).max() / np.abs(expected).max() if found.shape == expected.shape else np.inf
        print(f"{what}: {found.shape}, differs by {worst:.2g} of the largest value at most")
        if not worst < tolerance:
            sys.exit(f"{what}: expected l3's {expected.shape} to {tolerance}")

    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)

        def export(what, checkpoint, *options):
            """The file, checked, as a function of {input: values}."""
            file = work / "exported.onnx"
            said = run("export", "onnx", what, "--checkpoint", checkpoint, "--out", file, *options)
            bytes_ = file.read_bytes()
            model = onnx.load_model_from_string(bytes_)
            checker.check_model(model, full_check=True)
            assert model.SerializeToString() == bytes_, "other bytes than Protocol Buffers' own"
            assert said["bytes"] == len(bytes_)

            def shapes(values):
                return [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values]

            for key, values in ("inputs", model.graph.input), ("outputs", model.graph.output):
                assert shapes(values) == [(v["name"], ["N", *v["shape"]]) for v in said[key]], said[key]
            # What the operators make, and not what the file says of it.
            bare = onnx.load_model_from_string(bytes_)
            for output in bare.graph.output:
                output.type.tensor_type.ClearField("shape")
            inferred = shapes(shape_inference.infer_shapes(bare, strict_mode=True).graph.output)
            assert inferred == shapes(model.graph.output), inferred
            kept = read_tensors(checkpoint)
            constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
            parts = {"audio": ("audio.",), "image": ("vision.",), "pair": ("audio.", "vision.", "fusion.")}[what]
            shared = [name for name in kept if name in constants]
            wanted = [name for name in kept if name.startswith(parts) and not name.endswith("num_batches_tracked")]
            assert sorted(shared) == sorted(wanted), set(shared) ^ set(wanted)
            for name in shared:
                assert np.array_equal(constants[name], kept[name]), name
            if onnxruntime:
                session = onnxruntime.InferenceSession(bytes_, providers=["CPUExecutionProvider"])
                return lambda inputs: session.run(None, inputs)
            return lambda inputs: onnx_numpy.run(model, inputs)

        def embedded(kind, file, checkpoint, *options):
            run("embed", kind, file, "--checkpoint", checkpoint, "--out", work / "out", "--overwrite", *options)
            return np.load(work / "out" / (file.stem + ".npz"))["embedding"]

        # Two seconds, the second one as loud as 16 bits can say.
        sound = (random.normal(0, 1, 2 * RATE) * np.repeat([0.02, 0.2], RATE) * 32768).clip(-32768, 32767).astype("<i2")
        write_wav(work / "sound.wav", sound)
        seconds = sound.reshape(2, RATE).astype(np.float32) / 32768
        some = slice(0 if onnxruntime else 1, 2)  # NumPy takes its time

        def check(name, checkpoint, side, crop, sizes, picture=True):
            """Embeddings of these sizes. Returns the picture as the network is given it."""
            for size in sizes["audio"]:
                options = ["--size", size]
                heard = export("audio", checkpoint, *options)({"samples": seconds[some]})[0]
                rows = embedded("audio", work / "sound.wav", checkpoint, "--hop", 1, "--windows", "whole", *options)
                compare(f"{name} audio {size}", heard, rows[some], 1e-4)
            if not picture:
                return
            pixels = random.integers(0, 256, (side, side, 3), np.uint8)
            write_png(work / "picture.png", pixels)
            first = (side - crop) // 2
            middle = pixels[None, first:first + crop, first:first + crop]
            for size in sizes["image"]:
                seen = export("image", checkpoint, "--size", size)({"picture": middle})[0]
                compare(f"{name} image {size}", seen, embedded("image", work / "picture.png", checkpoint, "--size", size), 1e-5)
            return middle

        def judge_raw(name, checkpoint, picture):
            """From samples and bytes, by the embeddings that were looked at before and the head's own weights."""
            heard = export("audio", checkpoint)({"samples": seconds[some]})[0]
            seen = export("image", checkpoint)({"picture": picture})[0]
            kept = read_tensors(checkpoint)
            both = np.concatenate([seen.repeat(len(heard), 0), heard], 1)
            hidden = (both @ kept["fusion.fc1.weight"].T + kept["fusion.fc1.bias"]).clip(0)
            expected = hidden @ kept["fusion.fc2.weight"].T + kept["fusion.fc2.bias"]
            probability, logits = export("pair", checkpoint)(
                {"picture": picture.repeat(len(heard), 0), "samples": seconds[some]})
            compare(f"{name} pair", logits, expected, 1e-5)
            compare(f"{name} probability", probability, 1 / (1 + np.exp(expected[:, 0] - expected[:, 1])), 1e-5)

        checkpoints = {}
        for model in ("tiny", "small", "paper") if onnxruntime else ("tiny", "small"):
            facts = run("info", "--model", model)
            shapes = {t["name"]: tuple(t["shape"]) for t in facts["tensors"]}
            checkpoints[model] = work / f"{model}.safetensors"
            write_checkpoint(checkpoints[model], made_up(shapes, random), facts["description"], facts["front_end"])
            side, crop = {"tiny": (54, 48), "small": (128, 112), "paper": (256, 224)}[model]
            picture = check(model, checkpoints[model], side, crop, {"audio": [facts["embedding"], facts["audio_grid"]],
                                                                    "image": [facts["embedding"], facts["image_grid"]]})
            judge_raw(model, checkpoints[model], picture)

        # The program in docs/onnx.md.
        text = (pathlib.Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
        program = compile(text.split("```python\n")[1].split("```")[0], "docs/onnx.md", "exec")
        if onnxruntime:
            export("audio", checkpoints["tiny"])
            (work / "exported.onnx").rename(work / "audio.onnx")
            names = {}
            with contextlib.chdir(work):
                exec(program, names)
            rows = embedded("audio", work / "sound.wav", checkpoints["tiny"], "--hop", 1)
            compare("the program in docs/onnx.md", names["embedding"], rows, 1e-4)

        # Pure tones have most to say of how the transform rounds: nearly all of their bins are nearly empty.
        moment = np.arange(RATE) / RATE
        tones = {"tone": 0.3 * np.sin(2 * np.pi * 1000 * moment), "offset": np.full(RATE, 0.5)}
        for what, tone in tones.items():
            written = (tone * 32768).astype("<i2")
            write_wav(work / f"{what}.wav", written)
            for model in checkpoints:
                heard = export("audio", checkpoints[model])({"samples": written[None].astype(np.float32) / 32768})[0]
                compare(f"{model} {what}", heard, embedded("audio", work / f"{what}.wav", checkpoints[model]), 0.01)

        # Pairs, with both inputs as l3's loader makes them.
        run("synth", work / "data", "--videos", 12, "--seconds", 2, "--seed", 7)
        run("eval", "--checkpoint", checkpoints["tiny"], "--data", work / "data" / "train.csv", "--pairs", 8, "--dump-batches",
            work / "dump")
        judge = export("pair", checkpoints["tiny"], "--input", "prepared")
        for file in sorted((work / "dump").glob("eval_*.safetensors")):
            batch = read_tensors(file)
            frames, sounds = batch["frames"].transpose(0, 3, 1, 2), batch["sounds"].transpose(0, 3, 1, 2)
            probability, logits = judge({"picture": np.ascontiguousarray(frames), "spectrogram": np.ascontiguousarray(sounds)})
            compare("tiny pair, prepared", logits, batch["logits"], 1e-5)
            compare("tiny probability, prepared", probability, 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), 1e-6)

        front_ends = ["mel128", "0.4-mel128"] + (["linear", "mel256", "0.4-mel256", "0.4-librosa-mel128"] if onnxruntime else [])
        weights = made_up(openl3_shapes(), random)
        for k, name in enumerate(front_ends):
            file = work / "openl3.safetensors"
            write_checkpoint(file, weights, "openl3-" + name, "openl3-" + name)
            check("openl3-" + name, file, 256, 224, {"audio": [6144, 512] if onnxruntime else [6144], "image": [8192, 512]},
                  picture=k == 0 and onnxruntime is not None)


if __name__ == "__main__":
    main(sys.argv[1])
