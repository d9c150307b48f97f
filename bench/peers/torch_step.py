"""Times in PyTorch the work that `l3 bench net` times in l3, on synthetic batches, and prints the same JSON.

    python bench/peers/torch_step.py --model paper --batch 16 --what audio,vision,train --threads 2 --json

audio, vision: one subnetwork in evaluation mode, batch norm folded into the convolutions.
train: forward, backward and Adam of the whole network, every frame scored with every sound (`--pairing all`).
PyTorch is given its chances: contiguous and channels_last memory are both tried, the faster counts and is named as
`variant`. Times are medians.
"""
import argparse
import functools
import json
import os
import pathlib
import statistics
import sys
import time

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"))
from l3_torch import L3Net, Subnet, loss_all, make_adam, models, nchw  # noqa: E402


def fold_batch_norm(subnet):
    for block in subnet.children():
        for k in "1", "2":
            conv, norm = getattr(block, f"conv{k}"), getattr(block, f"bn{k}")
            setattr(block, f"conv{k}", fuse_conv_bn_eval(conv, norm))
            setattr(block, f"bn{k}", torch.nn.Identity())
    return subnet


def random_input(batch, size, channels):
    """As l3 holds it, channels innermost: seen as NCHW this is channels_last memory."""
    return nchw(torch.rand(batch, *size, channels) * 2 - 1)


def inference(what, o, memory_format):
    width, image_size, sound_size = models[o.model]
    channels, size = (3, image_size) if what == "vision" else (1, sound_size)
    subnet = fold_batch_norm(Subnet(channels, width).eval()).to(memory_format=memory_format)
    x = random_input(o.batch, size, channels).contiguous(memory_format=memory_format)
    if o.precision == "bf16":
        subnet, x = subnet.bfloat16(), x.bfloat16()

    def run():
        with torch.inference_mode():
            subnet(x)

    return run


def training(o, memory_format):
    width, image_size, sound_size = models[o.model]
    net = L3Net(width, image_size, sound_size).train().to(memory_format=memory_format)
    adam = make_adam(net, lr=1e-4)
    frames = random_input(o.batch, image_size, 3).contiguous(memory_format=memory_format).permute(0, 2, 3, 1)
    sounds = random_input(o.batch, sound_size, 1).contiguous(memory_format=memory_format).permute(0, 2, 3, 1)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=o.precision == "bf16")

    def run():
        adam.zero_grad()
        with precision:
            logits = net.score_all(frames, sounds)
        loss_all(logits.float()).backward()
        adam.step()

    return run


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def best_of(variants, seconds):
    """(name, median seconds) of the fastest; each has a run to warm up and two to show its speed."""
    trials = {}
    for name, make in variants.items():
        run = make()
        run()
        trials[name] = (min(timed(run) for _ in range(2)), run)
    name = min(trials, key=lambda k: trials[k][0])
    run, times = trials[name][1], []
    while len(times) < 3 or sum(times) < seconds and len(times) < 200:
        times.append(timed(run))
    return name, statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=models, default="paper")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--what", default="audio,vision,train")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=10, help="to measure each for; three runs at least")
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    what = o.what.split(",")
    if unknown := set(what) - {"audio", "vision", "train"}:
        parser.error(f"--what: expected audio, vision, train, found {', '.join(sorted(unknown))}")
    if o.batch < 1 or "train" in what and o.batch < 2:
        parser.error(f"--batch: expected at least 1, and 2 to train, found {o.batch}")
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)

    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    results = []
    for item in what:
        make = training if item == "train" else functools.partial(inference, item)
        variants = {name: functools.partial(make, o, memory_format) for name, memory_format in formats.items()}
        variant, seconds = best_of(variants, o.seconds)
        results.append({"what": item, "batch": o.batch, "ms": seconds * 1e3, "per_s": o.batch / seconds,
                        "variant": variant})
    if o.json:
        print(json.dumps({"results": results, "model": o.model, "precision": o.precision, "threads": o.threads,
                          "torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}))
    else:
        for r in results:
            print(f"{r['what']:8}batch {r['batch']}: {r['ms']:.2f} ms, {r['per_s']:.1f} per s ({r['variant']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
