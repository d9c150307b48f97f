#!/usr/bin/env python3
"""What does it cost two processes to train together? Steps of both, each on a core of its own: each for itself and
together, by turns in one run.

    python3 bench/processes/overlap.py build/bench/bench/bench_processes_steps [--models tiny,small,paper]
        [--rates 1000,100] [--plot timeline.svg]

--rates runs the same on two hosts (network name spaces; needs root, ip, tc) with so many Mbit/s between them, and says
what a model of the network would have predicted. --plot draws what both did in one step. Needs mpirun and Python alone.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "processes"))
import hosts

batches = {"tiny": 64, "small": 64, "paper": 16}  # as `l3 train` has them


def measure(program, model, pairs, steps, rounds, folder, apart=None):
    out = folder / "steps"
    own_core = 'exec taskset -c "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" "$0" "$@"'
    words = ["sh", "-c", own_core, program, model, batches[model], steps, rounds, pairs, out]
    if apart:
        command = apart.command("mpirun", 2, words)
    else:
        command = ["mpirun", "--bind-to", "none", "-n", 2, *words]
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    subprocess.run(list(map(str, command)), env=environment, check=True)
    return [json.loads(pathlib.Path(f"{out}.{rank}.json").read_text()) for rank in range(2)]


def both(processes, what):
    """A step is over when it is over at both."""
    return [max(times) for times in zip(*(p[what] for p in processes))]


def backward_of(process):
    """Seconds of the last step behind the first gradients: what the exchange can hide behind."""
    return process["together"][-1] - process["buckets"][0][1]


def plot(file, title, processes):
    width, lane, left = 900, 26, 90
    start = min(p["began"] for p in processes)
    last = max(p["began"] - start + p["together"][-1] for p in processes)
    x = lambda t: left + (width - left - 40) * t / last
    most = max(len(p["buckets"]) for p in processes)
    tall = lane + 8 * most + 30
    height = 50 + tall * len(processes) + 50
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="22">{title}</text>']
    for rank, p in enumerate(processes):
        top, shift = 40 + tall * rank, p["began"] - start
        parts.append(f'<text x="8" y="{top + 17}">process {rank}</text>')
        bar = lambda begin, end, y, h, colour: parts.append(
            f'<rect x="{x(shift + begin):.2f}" y="{y}" width="{max(0.6, x(end) - x(begin)):.2f}" height="{h}" fill="{colour}"/>')
        bar(0, p["together"][-1], top, lane, "#56b4e9")
        for what, begin, end in p["calls"]:
            bar(begin, end, top, lane, "#d55e00" if what in ("gather", "sum", "finish") else "#000000")
        for k, (_, begin, end) in enumerate(p["buckets"]):
            bar(begin, end, top + lane + 4 + 8 * k, 6, "#009e73")
    for k in range(6):
        t = last * k / 5
        parts.append(f'<text x="{x(t):.1f}" y="{height - 34}" text-anchor="middle">{1000 * t:.0f} ms</text>')
    for x0, colour, name in [(0, "#56b4e9", "computes"), (100, "#000000", "begins or moves on a message"),
                             (310, "#d55e00", "waits"), (390, "#009e73", "a bucket of gradients is under way")]:
        parts.append(f'<rect x="{left + x0}" y="{height - 22}" width="12" height="12" fill="{colour}"/>'
                     f'<text x="{left + x0 + 16}" y="{height - 12}">{name}</text>')
    pathlib.Path(file).write_text("\n".join(parts) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--models", default="tiny,small,paper")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rates", default="", help="Mbit/s between two hosts")
    parser.add_argument("--plot", help="SVG to write, of the last model on one machine")
    o = parser.parse_args()
    program = o.program.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        print("model  batch  pairs   alone ms  together ms  ratio  exchange ms")
        for model in o.models.split(","):
            for pairs in ["paper", "all"]:
                p = measure(program, model, pairs, o.steps, o.rounds, folder)
                alone, together = both(p, "alone"), both(p, "together")
                # By turns: a round's steps together against those alone just before.
                ratios = [statistics.median(together[k:k + o.steps]) / statistics.median(alone[k:k + o.steps])
                          for k in range(0, len(alone), o.steps)]
                print(f"{model:6} {batches[model]:4}   {pairs:6} {1000 * statistics.median(alone):9.1f} "
                      f"{1000 * statistics.median(together):11.1f}  {statistics.median(ratios):6.3f}  "
                      f"({min(ratios):.3f} to {max(ratios):.3f})  {1000 * min(both(p, 'exchange')):7.1f}", flush=True)
        if o.plot:
            plot(o.plot, f"One step of {model}, {batches[model]} draws each, every frame with the sounds of both", p)
        for rate in filter(None, o.rates.split(",")):
            with hosts.Hosts(folder, rate + "mbit") as apart:
                for model in o.models.split(","):
                    p = measure(program, model, "paper", o.steps, o.rounds, folder, apart)
                    alone, together = statistics.median(both(p, "alone")), statistics.median(both(p, "together"))
                    sent = 8 * p[0]["numbers"] / 2  # slices to the other one, and their sums back
                    wire = sent * 8 / (float(rate) * 1e6)
                    predicted = alone + max(0.0, wire - min(map(backward_of, p)) * alone / together)
                    print(f"{rate} Mbit/s, {model}: alone {1000 * alone:.1f} ms, together {1000 * together:.1f}, predicted "
                          f"{1000 * predicted:.1f}; exchange alone {1000 * min(both(p, 'exchange')):.1f}, wire "
                          f"{1000 * wire:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
