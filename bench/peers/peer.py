"""One contender of compare.py: a network in one program, warmed up, that times itself when it is told to.

    python bench/peers/peer.py --engine openvino --model paper --what audio --batch 1 --threads 2
Prints a line of JSON when it is ready: how far its answer is from PyTorch's in float (`difference`, of the largest
value). Then, for each line of its input, a number of seconds, it runs once to warm up, measures for as long, three times at
least, and prints {"ms": median}, as `l3 bench net` does.
"""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"))
from l3_torch import L3Net, loss_all, make_adam, models  # noqa: E402


def subnet_and_input(what, o):
    """A subnetwork in evaluation mode with running averages off their defaults, and a batch for it, NCHW."""
    width, image_size, sound_size = models[o.model]
    shape = (3, *image_size) if what == "vision" else (1, *sound_size)
    net = getattr(L3Net(width, image_size, sound_size), what).eval()
    for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_var.uniform_(0.5, 1.5)
        norm.running_mean.normal_(0, 0.1)
    return net, torch.rand(o.batch, *shape) * 2 - 1


def fold_batch_norm(subnet):
    for block in subnet.children():
        for k in "1", "2":
            conv, norm = getattr(block, f"conv{k}"), getattr(block, f"bn{k}")
            setattr(block, f"conv{k}", fuse_conv_bn_eval(conv, norm))
            setattr(block, f"bn{k}", torch.nn.Identity())
    return subnet


def in_torch(net, x, o, memory_format=torch.contiguous_format, dtype=torch.float32, compiled=False):
    net = fold_batch_norm(net).to(dtype=dtype, memory_format=memory_format)
    x = x.to(dtype).contiguous(memory_format=memory_format)
    if compiled:
        from torch._inductor import config

        config.freezing = True  # weights are laid out once, not in each call
        net = torch.compile(net)

    def run():
        with torch.inference_mode():
            return net(x).float().numpy()

    return run


def in_onnxruntime(net, x, o):
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/net.onnx"
        torch.onnx.export(fold_batch_norm(net), (x,), file, input_names=["x"], output_names=["y"], dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = o.threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {"x": x.numpy()}
    return lambda: session.run(["y"], feed)[0]


def in_openvino(net, x, o, precision="f32"):
    import openvino

    model = openvino.convert_model(fold_batch_norm(net), example_input=x, input=[list(x.shape)])
    settings = {"INFERENCE_NUM_THREADS": o.threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    x = x.numpy()
    return lambda: compiled(x)[0]


def as_keras(net, height, width, channels):
    """The subnetwork in Keras, batch norm folded; pictures (N, height, width, channels)."""
    from tensorflow.keras import Model, layers

    inputs = y = layers.Input((height, width, channels))
    weights = []
    for k, block in enumerate(fold_batch_norm(net).children()):
        for conv in block.conv1, block.conv2:
            y = layers.Conv2D(conv.out_channels, 3, padding="same", activation="relu")(y)
            weights += [conv.weight.detach().permute(2, 3, 1, 0).numpy(), conv.bias.detach().numpy()]
        y = layers.GlobalMaxPooling2D()(y) if k == 3 else layers.MaxPooling2D()(y)
    model = Model(inputs, y)
    model.set_weights(weights)
    return model


def in_keras(net, x, o):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(o.threads)
    run = tf.function(as_keras(net, *x.shape[2:], x.shape[1]), jit_compile=False)
    x = tf.constant(x.permute(0, 2, 3, 1).numpy())
    return lambda: run(x, training=False).numpy()


inference = {
    "torch": in_torch,
    "torch-channels-last": lambda *a: in_torch(*a, memory_format=torch.channels_last),
    "torch-compiled": lambda *a: in_torch(*a, compiled=True),
    "torch-bf16": lambda *a: in_torch(*a, dtype=torch.bfloat16),
    "torch-bf16-channels-last": lambda *a: in_torch(*a, memory_format=torch.channels_last, dtype=torch.bfloat16),
    "torch-bf16-compiled": lambda *a: in_torch(*a, dtype=torch.bfloat16, compiled=True),
    "onnxruntime": in_onnxruntime,
    "openvino": in_openvino,
    "openvino-bf16": lambda *a: in_openvino(*a, precision="bf16"),
    "keras": in_keras,
}


def training(o, memory_format=torch.contiguous_format, bf16=False, compiled=False):
    """Forward, backward and Adam of the whole network on one batch, every frame scored with every sound."""
    width, image_size, sound_size = models[o.model]
    net = L3Net(width, image_size, sound_size).train().to(memory_format=memory_format)
    adam = make_adam(net, lr=1e-4)
    if compiled:
        net.vision, net.audio = torch.compile(net.vision), torch.compile(net.audio)
    frames, sounds = (torch.rand(o.batch, c, *size).mul_(2).sub_(1).contiguous(memory_format=memory_format)
                      .permute(0, 2, 3, 1) for c, size in ((3, image_size), (1, sound_size)))
    precision = torch.autocast("cpu", torch.bfloat16, enabled=bf16)

    def run():
        adam.zero_grad()
        with precision:
            logits = net.score_all(frames, sounds)
        loss_all(logits.float()).backward()
        adam.step()

    return run


trainers = {
    "torch": training,
    "torch-channels-last": lambda o: training(o, memory_format=torch.channels_last),
    "torch-compiled": lambda o: training(o, compiled=True),
    "torch-bf16": lambda o: training(o, bf16=True),
    "torch-bf16-channels-last": lambda o: training(o, memory_format=torch.channels_last, bf16=True),
    "torch-bf16-compiled": lambda o: training(o, bf16=True, compiled=True),
}


def make(o):
    """What to time, and its distance from PyTorch in float: none for a training step."""
    if o.what == "train":
        run = trainers[o.engine](o)
        run()
        return run, None
    with torch.no_grad():
        net, x = subnet_and_input(o.what, o)
        expected = net(x).numpy()
        run = inference[o.engine](net, x, o)
    return run, float(np.abs(run() - expected).max() / np.abs(expected).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=inference, required=True)
    parser.add_argument("--model", choices=models, required=True)
    parser.add_argument("--what", choices=["audio", "vision", "train"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    run, difference = make(o)
    print(json.dumps({"difference": difference}), flush=True)
    for line in sys.stdin:
        seconds, times = float(line), []
        run()  # the others have had the caches meanwhile
        while len(times) < 3 or sum(times) < seconds:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(json.dumps({"ms": statistics.median(times) * 1e3}), flush=True)


if __name__ == "__main__":
    main()
