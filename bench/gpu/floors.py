#!/usr/bin/env python3
"""What a training step of the network must cost a GPU at least: for each layer its floating-point operations and the fewest
bytes that its passes move through memory, as a table for docs/performance.md.

    bench/gpu/floors.py --l3 build/release/l3 [--model paper] [--tflops 790] [--gbytes 3000] [--measured FILE...]

FILE is what `bench_gpu_step layers` printed: then a column more for each says how long all passes of the layer took there, and how
many times the floor that is. The two numbers: what was measured on the card (a large matrix product in bf16, a large copy counting bytes read and written).
Values between layers take two bytes. A layer's passes are: the convolution reads x and writes z (taking batch norm's moments on
the way); normalising, rectifying and pooling read z and write y; batch norm's gradient reads z and dy twice (for its sums, then for
itself) and writes dz; the weight gradient reads x and dz; the data gradient reads dz and writes dx. The first layers, whose x is
small, need not write z: forward reads x for its second moments, and again to write y, and backward reads x and dy once."""
import argparse
import json
import math
import pathlib
import subprocess


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--l3", required=True, help="the program l3")
    parser.add_argument("--model", default="paper")
    parser.add_argument("--tflops", type=float, default=790, help="matrix products, 10^12 operations a second")
    parser.add_argument("--gbytes", type=float, default=3000, help="memory, 10^9 bytes a second")
    parser.add_argument("--ceilings", help="the JSON of compare.py, whose two numbers are taken if they are there")
    parser.add_argument("--measured", nargs="+", default=[], help="files of bench_gpu_step layers")
    args = parser.parse_args()
    if args.ceilings and pathlib.Path(args.ceilings).exists():
        found = json.loads(pathlib.Path(args.ceilings).read_text())
        args.tflops = found.get("product_tflops", args.tflops)
        args.gbytes = found.get("copy_gbytes", args.gbytes)
    runs = []  # of each file: microseconds an item by layer
    for file in args.measured:
        rows = [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]
        if not rows:  # it was not to be measured
            continue
        layer = {}
        for row in rows:
            if not row.get("trains", True):
                continue
            layer[row["layer"]] = layer.get(row["layer"], 0) + 1e3 * row["ms"] / row["batch"]
        runs.append((f'products: {rows[0]["products"]}, batch {rows[0]["batch"]}', layer))
    said = subprocess.run([args.l3, "info", "--model", args.model, "--json"], check=True, capture_output=True, text=True)
    layers = json.loads(said.stdout)["layers"]
    inputs = {"paper": {"vision": (224, 224, 3), "audio": (257, 199, 1)},
              "small": {"vision": (112, 112, 3), "audio": (257, 199, 1)},
              "tiny": {"vision": (48, 48, 3), "audio": (64, 99, 1)}}[args.model]

    print("| layer | output of the convolution | GFLOP | MB | FLOP a byte | least µs an item |"
          + "".join(f" {name} |" for name, _ in runs))
    print("| --- | --- | ---: | ---: | ---: | ---: |" + " ---: |" * len(runs))
    measured = lambda times, least: "".join(f" {t:.1f} ({t / least:.1f}) |" for t in times)
    total_flops = total_bytes = total_time = 0.0
    shape, names = None, []
    for layer in layers:
        if not layer["kind"].startswith("conv3x3"):
            continue
        subnet = layer["name"].split(".")[0]
        is_first = layer["name"].endswith("block1.conv1")
        x = inputs[subnet] if is_first else shape
        out = layer["output"]
        filters = out[-1]
        z = (x[0], x[1], filters)
        shape = tuple(out) if len(out) == 3 else (1, 1, filters)
        xs, zs, ys = (math.prod(side) for side in (x, z, shape))
        flops = 18.0 * x[0] * x[1] * x[2] * filters * (2 if is_first else 3)  # what is computed again not counted
        values = 3 * xs + 2 * ys if is_first else (xs + zs) + (zs + ys) + (2 * (zs + ys) + zs) + (xs + zs) + (zs + xs)
        seconds = max(flops / (args.tflops * 1e12), 2 * values / (args.gbytes * 1e9))
        print(f"| {layer['name']} | {z[0]} x {z[1]} x {filters} | {flops * 1e-9:.2f} | {2e-6 * values:.1f} "
              f"| {flops / (2 * values):.0f} | {seconds * 1e6:.1f} |"
              + measured([run.get(layer["name"], math.nan) for _, run in runs], seconds * 1e6))
        names.append(layer["name"])
        total_flops, total_bytes, total_time = total_flops + flops, total_bytes + 2 * values, total_time + seconds
    print(f"| all | | {total_flops * 1e-9:.1f} | {total_bytes * 1e-6:.0f} | {total_flops / total_bytes:.0f} "
          f"| {total_time * 1e6:.1f} |" + measured([sum(run.get(name, math.nan) for name in names) for _, run in runs], total_time * 1e6))
    print(f"\nNo step can take more than {1 / total_time:.0f} pairs a second at {args.tflops:.0f} TFLOP/s and "
          f"{args.gbytes:.0f} GB/s.")


if __name__ == "__main__":
    main()
