#!/usr/bin/env python3
"""The paper's network on one GPU, in l3 and in PyTorch, in one run.

    bench/gpu/compare.py --step build/cuda/bench/bench_gpu_step [--batches 64 256 16] [--seconds 2] [--json FILE]

PyTorch runs as one would run it there: bf16 autocast, channels last, fused Adam; eager, compiled, and each recorded as a CUDA graph.
The fusion head's first layer is split in two as l3's is, so that the pairs cost it no more. The best of all is what l3 is measured
against. That l3 computes what PyTorch does is for tests/cuda to show. PyTorch's times lack the transfers that l3's
training has. Ceilings measured
in the same run: a matrix product of 8192 in bf16, and a copy of 2 GiB counting bytes read and written.

Each thing is measured by a process of its own, so that one that fails or hangs takes no other along."""
import argparse
import collections
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"))
FLOPS_A_PAIR = 122.6e9  # bench/gpu/floors.py


def median_ms(run, seconds):
    """What a call takes of many that follow each other, two of them on their way, as l3's steps do."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    times, on_way = [], collections.deque()
    while len(times) < 5 or (sum(times) < seconds * 1e3 and len(times) < 1000):
        on_way.append(torch.cuda.Event(enable_timing=True))
        on_way[-1].record()
        run()
        if len(on_way) == 3:
            on_way[1].synchronize()
            times.append(on_way.popleft().elapsed_time(on_way[0]))
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


def measure(what, batch, compiled, seconds):
    """In a process of its own: a line of JSON for each figure."""
    global torch, F, fuse_conv_bn_eval
    import torch
    from torch.nn import functional as F
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    torch.backends.cudnn.benchmark = True

    def tell(**figures):
        print(json.dumps(figures), flush=True)

    if what == "ceilings":
        product, copy = ceilings()
        return tell(gpu=torch.cuda.get_device_name(), torch=torch.__version__, product_tflops=product, copy_gbytes=copy)
    run = training_step(batch, compiled) if what == "train" else inference(batch, what, compiled)
    run()
    name = "PyTorch " + ("compiled" if compiled else "eager")
    tell(program=name, ms=median_ms(run, seconds))
    tell(program=name + ", graph", ms=median_ms(graphed(run), seconds))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", help="the program bench_gpu_step")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 16])
    parser.add_argument("--seconds", type=float, default=2, help="for each figure")
    parser.add_argument("--until", type=float, default=1800, help="seconds after which nothing more is begun")
    parser.add_argument("--what", nargs="+", default=["train", "vision", "audio"])
    parser.add_argument("--prepare", action="store_true", help="let PyTorch compile all sizes first, side by side: its "
                        "compiler keeps what it made, so that less of a short loan goes by")
    parser.add_argument("--json", help="all figures as a file too")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "BATCH", "COMPILED"), help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.measure:
        return measure(o.measure[0], int(o.measure[1]), o.measure[2] == "True", o.seconds)
    if not o.step:
        parser.error("--step is needed")
    end = time.monotonic() + o.until

    def lines(name, command, limit):
        """Its lines of JSON, also those that came before it failed."""
        left = end - time.monotonic()
        if left < 10:
            print(f"{name}: no time left", file=sys.stderr)
            return []
        began = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=min(limit, left))
            said, why = done.stdout, f"exit code {done.returncode}: {done.stderr[-600:]}" if done.returncode else ""
        except subprocess.TimeoutExpired as e:
            said, why = (e.stdout or b"").decode(), f"ended after {e.timeout:.0f} s"
        print(f"{name}: {time.monotonic() - began:.0f} s {why}", file=sys.stderr)
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def ours(what, batch, *how):
        return lines(f"{what} {batch} l3 {' '.join(how)}", [o.step, what, str(batch), str(o.seconds), *how],
                     20 + 5 * o.seconds)

    def theirs(what, batch, compiled):
        return lines(f"{what} {batch} PyTorch {'compiled' if compiled else 'eager'}",
                     [sys.executable, __file__, "--seconds", str(o.seconds), "--measure", what, str(batch), str(compiled)], 150)

    found, missing = {"rows": [], "summary": []}, []

    def save():
        if o.json:
            new = pathlib.Path(f"{o.json}.new")  # it may be read, or this be killed, at any time
            new.write_text(json.dumps(found))
            new.replace(o.json)

    def note(what, batch, rows):
        """Told as soon as it is known: whatever fails later, it is not lost."""
        for row in rows:
            program = row.get("program") or f"l3, {row['products']}"
            print(f"| {what} | {batch} | {program} | {row['ms']:.2f} | {batch / row['ms'] * 1e3:.0f} |", flush=True)
            found["rows"].append({"what": what, "batch": batch, "program": program, "ms": row["ms"]})
        save()

    if o.prepare:
        began = time.monotonic()
        commands = [[sys.executable, __file__, "--seconds", "0", "--measure", what, str(batch), "True"]
                    for what in o.what for batch in o.batches]
        at_work = [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands]
        for process in at_work:
            try:
                process.wait(max(1, began + 200 - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        made = sum(process.wait() == 0 for process in at_work)
        print(f"PyTorch compiled {made} of {len(at_work)} programs: {time.monotonic() - began:.0f} s", file=sys.stderr)
    for ceiling in theirs("ceilings", 0, False):
        found.update(ceiling)
        print(f"{ceiling['gpu']}, PyTorch {ceiling['torch']}: products {ceiling['product_tflops']:.0f} TFLOP/s, copy "
              f"{ceiling['copy_gbytes']:.0f} GB/s\n")
    print("| what | batch | program | ms | a second |\n| --- | ---: | --- | ---: | ---: |", flush=True)
    for what in o.what:
        for batch in o.batches:
            best_way = ours(what, batch)
            note(what, batch, best_way)
            if what == "train" and batch == o.batches[0]:
                for products in "warpgroup", "warp":
                    note(what, batch, ours(what, batch, "--products", products))
            peers = []
            for compiled in False, True:
                rows = theirs(what, batch, compiled)
                note(what, batch, rows)
                peers += rows
            if len(peers) < 4 or not best_way:  # eager and compiled, called and as graphs
                missing.append(f"{what} {batch}")
            else:
                peer, ms = min(peers, key=lambda row: row["ms"]), best_way[0]["ms"]
                row = {"what": what, "batch": batch, "l3_ms": ms, "best": peer["program"], "best_ms": peer["ms"]}
                if what == "train" and "product_tflops" in found:
                    row["share_of_products"] = FLOPS_A_PAIR * batch / ms * 1e-9 / found["product_tflops"]
                found["summary"].append(row)
                save()
    if not found["summary"]:
        sys.exit("nothing could be compared")
    print("\n| what | batch | l3, ms | best of PyTorch | ms | times l3 | share of the products' rate |\n"
          "| --- | ---: | ---: | --- | ---: | ---: | ---: |")
    for row in found["summary"]:
        share = f"{row['share_of_products']:.2f}" if "share_of_products" in row else ""
        print(f"| {row['what']} | {row['batch']} | {row['l3_ms']:.2f} | {row['best']} | {row['best_ms']:.2f} | "
              f"{row['best_ms'] / row['l3_ms']:.2f} | {share} |")
    if missing:
        sys.exit(f"not measured in every way, so not compared: {', '.join(missing)}")


if __name__ == "__main__":
    main()
