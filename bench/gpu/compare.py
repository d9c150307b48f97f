#!/usr/bin/env python3
"""The paper's network on one GPU, in l3 and in PyTorch, in one run.

    bench/gpu/compare.py --step build/cuda/bench/bench_gpu_step [--batches 16 64 256] [--seconds 3] [--json FILE]

PyTorch runs as one would run it there: bf16 autocast, channels last, fused Adam; eager, compiled, and each recorded as a CUDA graph.
The fusion head's first layer is split in two as l3's is, so that the pairs cost it no more. The best of all is what l3 is measured
against. That l3 computes what PyTorch does is for tests/cuda to show. PyTorch's times lack the transfers that l3's
training has. Ceilings measured
in the same run: a matrix product of 8192 in bf16, and a copy of 2 GiB counting bytes read and written."""
import argparse
import gc
import json
import math
import pathlib
import subprocess
import sys
import time

import torch
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"))
FLOPS_A_PAIR = 122.6e9  # bench/gpu/floors.py


def median_ms(run, seconds):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    times = []
    while len(times) < 5 or (sum(times) < seconds * 1e3 and len(times) < 1000):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def ceilings():
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = median_ms(lambda: a @ b, 1)
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    copy = median_ms(lambda: target.copy_(source), 1)
    return 2 * 8192**3 / product * 1e-9, 2 * source.numel() * 4 / copy * 1e-6


def network():
    from l3_torch import L3Net, models

    width, image, sound = models["paper"]
    return L3Net(width, image, sound).cuda().to(memory_format=torch.channels_last), image, sound


def scores(net, v, a):
    """(B, B, 2) of frame i with sound j, the joined vectors never made."""
    half = v.shape[1]
    w = net.fusion.fc1.weight
    hidden = F.linear(v, w[:, :half])[:, None] + F.linear(a, w[:, half:])[None] + net.fusion.fc1.bias
    return net.fusion.fc2(F.relu(hidden))


def training_step(batch, compiled):
    net, image, sound = network()
    net.train()
    decays = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() == 1]
    adam = torch.optim.Adam([{"params": decays, "weight_decay": 1e-5}, {"params": others}], lr=1e-5, fused=True,
                            capturable=True)
    frames, sounds = (torch.rand(batch, c, *size, device="cuda").mul_(2).sub_(1)
                      .contiguous(memory_format=torch.channels_last) for c, size in ((3, image), (1, sound)))
    same = torch.eye(batch, device="cuda", dtype=torch.bool)
    weight = torch.where(same, 0.5 / batch, 0.5 / (batch * (batch - 1)))

    def loss_of():
        with torch.autocast("cuda", torch.bfloat16):
            logits = scores(net, net.vision(frames), net.audio(sounds))
        log_p = F.log_softmax(logits.float(), dim=2)
        return -(torch.where(same, log_p[..., 1], log_p[..., 0]) * weight).sum()

    loss_of = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def step():
        adam.zero_grad(set_to_none=True)
        loss_of().backward()
        adam.step()

    return step


def graphed(step):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def inference(batch, what, compiled):
    net, image, sound = network()
    sub = getattr(net, what).eval()
    for block in sub.children():  # as l3 does
        for k in "1", "2":
            conv, norm = getattr(block, f"conv{k}"), getattr(block, f"bn{k}")
            setattr(block, f"conv{k}", fuse_conv_bn_eval(conv, norm))
            setattr(block, f"bn{k}", torch.nn.Identity())
    sub = sub.to(torch.bfloat16, memory_format=torch.channels_last)
    channels, size = (3, image) if what == "vision" else (1, sound)
    x = torch.rand(batch, channels, *size, device="cuda", dtype=torch.bfloat16).contiguous(
        memory_format=torch.channels_last)
    sub = torch.compile(sub, dynamic=False) if compiled else sub

    def run():
        with torch.inference_mode():
            sub(x)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", required=True, help="the program bench_gpu_step")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--what", nargs="+", default=["train", "vision", "audio"])
    parser.add_argument("--json", help="all figures as a file too")
    o = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    product, copy = ceilings()
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}: products {product:.0f} TFLOP/s, copy {copy:.0f} GB/s\n")
    print("| what | batch | program | ms | a second | times the best PyTorch so far |\n| --- | ---: | --- | ---: | ---: | ---: |", flush=True)
    figures = []

    def note(what, batch, name, ms, best):
        """Told as soon as it is known: whatever fails later, it is not lost."""
        print(f"| {what} | {batch} | {name} | {ms:.2f} | {batch / ms * 1e3:.0f} | {best / ms:.2f} |", flush=True)
        figures.append({"what": what, "batch": batch, "program": name, "ms": ms})
        if o.json:
            pathlib.Path(o.json).write_text(json.dumps({"product_tflops": product, "copy_gbytes": copy, "rows": figures}))

    for what in o.what:
        for batch in o.batches:
            best = math.inf
            for compiled in False, True:
                for graph in False, True:
                    name = "PyTorch " + ("compiled" if compiled else "eager") + (", graph" if graph else "")
                    began = time.time()
                    try:
                        run = training_step(batch, compiled) if what == "train" else inference(batch, what, compiled)
                        run()
                        ms = median_ms(graphed(run) if graph else run, o.seconds)
                        best = min(best, ms)
                        note(what, batch, name, ms, best)
                    except Exception as e:  # a variant that does not work there is no peer
                        print(f"{name} at batch {batch}: {(str(e).splitlines() or [repr(e)])[0][:120]}", file=sys.stderr)
                    run = None
                    torch.compiler.reset()
                    gc.collect()
                    torch.cuda.empty_cache()
                    print(f"{what} {batch} {name}: {time.time() - began:.0f} s", file=sys.stderr)
            ways = {"l3": [], "l3, pixels copied for each tap": ["--products", "warpgroup"],
                    "l3, products by warps": ["--products", "warp"]}
            for name, how in ways.items():
                try:
                    said = subprocess.run([o.step, what, str(batch), str(o.seconds), *how], capture_output=True, text=True,
                                          timeout=60 + 10 * o.seconds, check=True)
                except subprocess.SubprocessError as e:  # a way that this GPU does not have, or that fails
                    print(f"{name} at batch {batch}: {e}; {(e.stderr or b'')!s}", file=sys.stderr)
                    continue
                ms = json.loads(said.stdout)["ms"]
                note(what, batch, name, ms, best)
                if what == "train":
                    share = FLOPS_A_PAIR * batch / ms * 1e-9 / product
                    print(f"{name}: {100 * share:.0f} % of the matrix product's rate", file=sys.stderr)


if __name__ == "__main__":
    main()
