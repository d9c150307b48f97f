"""l3 and the programs that people use instead, side by side on this machine: the same networks, by turns.

    python bench/peers/compare.py build/release/l3 --what audio,vision --batch 1,8
    python bench/peers/compare.py build/release/l3 --what train --batch 16
    python bench/peers/compare.py build/release/l3 --threads 1,2 --only ""
    python bench/peers/compare.py build/avx2/l3 --isa avx2
Every contender is a process of its own, warmed up before each measurement (l3 is started anew for each); all are measured
one after the other, round by round, so that a busy moment of the machine falls on all of them. A contender whose answer is not PyTorch's is left
out, and so is one that this Python lacks; both are named. What counts is the ratio within a round.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

here = pathlib.Path(__file__).resolve().parent
engines = {
    "fp32": ["torch", "torch-channels-last", "torch-compiled", "onnxruntime", "openvino", "keras"],
    "bf16": ["torch-bf16", "torch-bf16-channels-last", "torch-bf16-compiled", "openvino-bf16"],
}
allowed = {"fp32": 1e-4, "bf16": 5e-2}  # difference from PyTorch in float, of the largest value


# What keeps PyTorch and its oneDNN to an older instruction set.
limits = {None: {}, "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}


# What keeps glibc from giving each step's memory back to the system and fetching it anew, which costs PyTorch a tenth.
keeps_memory = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(20 << 30), "MALLOC_TOP_PAD_": str(64 << 20)}


class Peer:
    def __init__(self, engine, what, batch, threads, o):
        self.name = engine
        command = [sys.executable, here / "peer.py", "--engine", engine, "--model", o.model, "--what", what,
                   "--batch", str(batch), "--threads", str(threads)]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "2", **limits[o.isa],
               **(keeps_memory if what == "train" else {})}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True,
                                        stderr=None if o.verbose else subprocess.DEVNULL)
        self.difference = self.answer()["difference"]

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):  # some libraries print what they please
                return json.loads(line)
        raise RuntimeError(f"ended with {self.process.wait()} (see it with --verbose)")

    def milliseconds(self, seconds):
        print(seconds, file=self.process.stdin, flush=True)
        return self.answer()["ms"]

    def end(self):
        """Peak memory in MiB."""
        self.process.stdin.close()
        return os.wait4(self.process.pid, 0)[2].ru_maxrss / 1024  # the kernel counts KiB


class L3:
    peak = 0

    def __init__(self, precision, what, batch, threads, o):
        self.name = "l3" if precision == "fp32" else f"l3-{precision}"
        self.command = [o.l3, "bench", "net", "--model", o.model, "--what", what, "--batch", str(batch), "--threads",
                        str(threads), "--precision", precision, "--json"]

    def milliseconds(self, seconds):
        run = subprocess.Popen([*self.command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
        text = run.stdout.read()
        _, status, used = os.wait4(run.pid, 0)
        if status != 0:
            raise RuntimeError(f"{' '.join(self.command)} failed")
        self.peak = max(self.peak, used.ru_maxrss / 1024)
        return json.loads(text)["results"][0]["ms"]

    def end(self):
        return self.peak


def contenders(what, batch, threads, o):
    for precision in o.precision.split(","):
        yield L3(precision, what, batch, threads, o)
        for engine in engines[precision]:
            if (what == "train" or o.isa) and not engine.startswith("torch"):
                continue
            if o.only is not None and engine not in o.only.split(","):
                continue
            try:
                peer = Peer(engine, what, batch, threads, o)
            except RuntimeError as why:
                print(f"{engine}: left out, {why}", file=sys.stderr)
                continue
            if peer.difference is not None and not peer.difference <= allowed[precision]:
                print(f"{engine}: left out, its answer is {peer.difference:.1e} off PyTorch's", file=sys.stderr)
                peer.end()
                continue
            yield peer


def compare(what, batch, o):
    """{name: milliseconds of each round}, {name: peak memory in MiB}"""
    all_of_them = []
    for threads in o.threads:
        for c in contenders(what, batch, threads, o):
            if len(o.threads) > 1:
                c.name += f", {threads} thread{'s' if threads > 1 else ''}"
            all_of_them.append(c)
    times = {c.name: [] for c in all_of_them}
    for _ in range(o.rounds):
        for c in list(all_of_them):
            try:
                times[c.name].append(c.milliseconds(o.seconds))
            except (RuntimeError, OSError) as why:  # it ended while it was measured, or before
                print(f"{c.name}: left out, {why}", file=sys.stderr)
                all_of_them.remove(c)
                del times[c.name]
    return times, {c.name: c.end() for c in all_of_them}


def print_proof(o):
    """What oneDNN says of its own choice under these limits."""
    code = "import torch; torch.nn.Conv2d(64, 64, 3)(torch.rand(1, 64, 32, 32))"
    said = subprocess.run([sys.executable, "-c", code], env={**os.environ, **limits[o.isa], "ONEDNN_VERBOSE": "1"},
                          capture_output=True, text=True).stdout
    print(*(line for line in said.splitlines() if "cpu,isa" in line or "convolution" in line), sep="\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("l3", help="the program")
    parser.add_argument("--model", default="paper")
    parser.add_argument("--what", default="audio,vision", help="audio, vision, train")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16; l3 is there in each")
    parser.add_argument("--only", help="these peers alone, separated by commas")
    parser.add_argument("--isa", choices=["avx2"], help="keep PyTorch to it, show that it is, and leave out the others")
    parser.add_argument("--threads", type=lambda text: sorted({int(n) for n in text.split(",")}),
                        default=[len(os.sched_getaffinity(0))], help="with several, everything runs with each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="a contender is measured in each round")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each table")
    parser.add_argument("--verbose", action="store_true", help="show what the peers say")
    o = parser.parse_args()
    missing = False
    if o.isa and not o.json:
        print_proof(o)
    for what in o.what.split(","):
        for batch in map(int, o.batch.split(",")):
            times, peaks = compare(what, batch, o)
            ours = [name for name in times if name.startswith("l3")]
            missing = missing or len(ours) < len(o.precision.split(",")) * len(o.threads)
            if o.json:  # as soon as it is known: whatever fails later, it is not lost
                print(json.dumps({"what": what, "batch": batch, "model": o.model, "threads": o.threads, "ms": times,
                                  "peak_mib": peaks}), flush=True)
                continue
            print(f"\n{o.model} {what}, batch {batch}, {' and '.join(map(str, o.threads))} threads, {o.rounds} rounds\n")
            print(f"| program | ms | {' | '.join(f'times {name}' for name in ours)} | peak MiB |")
            print(f"| --- | ---: |{' ---: |' * len(ours)} ---: |")
            for name, ms in sorted(times.items(), key=lambda item: statistics.median(item[1])):
                ratios = [[theirs / mine for theirs, mine in zip(ms, times[judge])] for judge in ours]
                cells = [f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios]
                print(f"| {name} | {statistics.median(ms):.1f} | {' | '.join(cells)} | {peaks[name]:.0f} |", flush=True)
    if missing:
        sys.exit("l3 itself could not be measured everywhere")


if __name__ == "__main__":
    main()
