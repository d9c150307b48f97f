#!/usr/bin/env python3
"""Is anything lost when a disk is full or broken at any moment? Lets every call by which l3 writes or reads files fail in turn.

    check_faults.py --l3 BUILD/l3 --library FAILING_CALLS.so [--most 6] [COMMAND...]

After each failure: l3 has ended in order; where it could not do its work it says which file was concerned and why; nothing
half written is left; and the same command (of a training: --resume) then leads to what it leads to undisturbed, bit for bit.
Calls that do a part of what they were asked ("part") change nothing.
--most: so many calls of each kind, evenly over the run; 0: all.
"""
import argparse
import contextlib
import os
import pathlib
import shutil
import sqlite3
import subprocess
import tempfile

KINDS = ["write", "sync", "rename", "create", "read", "part"]
problems = []


class Commands:
    """Each gives the words of a command that writes to `out`, and those that lead on after it has failed."""

    def __init__(self, l3, folder):
        self.l3, self.folder = l3, folder
        self.data, self.model, self.packed = folder / "data", folder / "model/best.safetensors", folder / "packed"
        self.call("synth", self.data, "--videos", 20, "--seconds", 1)
        self.call("train", *self.training(8), "--out", folder / "model")
        self.call("pack", self.data / "train.csv", "--out", self.packed)
        rows = (self.data / "train.csv").read_text().splitlines()[1:]
        classes = [f"data/{row.split(',')[0]},{'ab'[k % 2]},{1 + k // 2 % 2}" for k, row in enumerate(rows)]
        (folder / "classes.csv").write_text("\n".join(["path,label,fold", *classes]) + "\n")

    def run(self, words, **more):
        return subprocess.run([str(self.l3), *map(str, words)], capture_output=True, text=True, errors="replace", timeout=120,
                              env={**os.environ, **more})

    def call(self, *words):
        done = self.run(words)
        if done.returncode != 0:
            raise SystemExit(f"l3 {' '.join(map(str, words))}: exit code {done.returncode}: {done.stderr}")

    def training(self, pairs, data=None):
        return ["--train", data or self.data / "train.csv", "--valid", self.data / "valid.csv", "--model", "tiny", "--batch", 4,
                "--pairs", pairs, "--valid-pairs", 4, "--save-every", 1, "--log-every", 1, "--threads", 2]

    def train(self, out):
        return ["train", *self.training(16), "--tensorboard", "--out", out / "run"], ["train", "--resume", "--out", out / "run"]

    def train_packed(self, out):
        return (["train", *self.training(12, self.packed), "--out", out / "run"], ["train", "--resume", "--out", out / "run"])

    def pack(self, out):
        return ["pack", self.data, "--out", out / "packed", "--shard-size", 1], None

    def index(self, out):
        return ["index", self.data, "--out", out / "videos.l3index", "--threads", 2], None

    def embed(self, out):
        return ["embed", "video", self.data, "--checkpoint", self.model, "--hop", 0.5, "--out", out / "rows"], None

    def eval(self, out):
        return ["eval", "--checkpoint", self.model, "--data", self.data / "test.csv", "--pairs", 8, "--out", out / "eval"], None

    def probe(self, out):
        return ["probe", "folder", self.folder / "classes.csv", "--checkpoint", self.model, "--out", out / "probe"], None

    def units(self, out):
        return ["inspect", "units", self.data / "test.csv", "--checkpoint", self.model, "--count", 2, "--top", 2, "--out",
                out / "units"], None

    def export(self, out):
        return ["export", "onnx", "pair", "--checkpoint", self.model, "--out", out / "pair.onnx"], None

    def synth(self, out):
        return ["synth", out / "more", "--videos", 6, "--seconds", 1], None


COMMANDS = [name for name in vars(Commands) if not name.startswith("_") and name not in ("run", "call", "training")]


def content(folder):
    """Of each file that is a result. Not of those that say how long things took, or in which order files were read."""
    of = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(file.relative_to(folder))
        if file.suffix == ".l3index":
            with contextlib.closing(sqlite3.connect(file)) as index:
                tables = [t for (t,) in index.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                of[name] = {t: list(index.execute(f"SELECT * FROM {t}")) for t in sorted(tables)}
        elif file.suffix in (".safetensors", ".npz", ".tar", ".onnx", ".png", ".wav", ".mp4", ".svg") or file.name.endswith("pairs.csv"):
            if not file.name.startswith("features"):
                of[name] = file.read_bytes()
    return of


def check(commands, name, kind, library, most):
    disturb = {"LD_PRELOAD": str(library), "L3_FAIL_CALL": kind}
    whole, count = commands.folder / "whole", commands.folder / "count"

    def fresh(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    words, _ = getattr(commands, name)(fresh(whole))
    undisturbed = commands.run(words, **disturb, L3_FAIL_AT="-1", L3_FAIL_COUNT=str(count))
    if undisturbed.returncode != 0:
        raise SystemExit(f"{name}: exit code {undisturbed.returncode}: {undisturbed.stderr}")
    calls, wanted = int(count.read_text()), content(whole)
    tried = range(calls) if most == 0 or calls <= most else sorted({k * calls // most + calls // (2 * most) for k in range(most)})
    failed = 0
    for call in tried:
        out = fresh(commands.folder / "disturbed")
        words, lead_on = getattr(commands, name)(out)
        ended = commands.run(words, **disturb, L3_FAIL_AT=str(call))
        said = (ended.stderr.strip().splitlines() or [""])[-1]
        failed += ended.returncode == 1

        def expect(good, what):
            if not good:
                problems.append(f"{name}, {kind} {call} of {calls}: {what}; exit code {ended.returncode}, {said}")
                print("WRONG   " + problems[-1], flush=True)

        expect(ended.returncode in (0, 1, 3), "it did not end in order")
        expect(ended.returncode != 1 or ": expected " in said, "it did not say what was wrong")
        left = [p.name for p in out.rglob("*") if p.name.endswith(".tmp")]
        expect(not left, f"it left {left}")
        if kind == "part":
            expect(ended.returncode == 0 and content(out) == wanted, "a part of a call made a difference")
            continue
        if kind == "read" and ended.returncode != 1:
            continue  # a video was refused, which is told; what is then learned or written is other
        again = commands.run(words if lead_on is None or not (out / "run/config.json").exists() else lead_on)
        complete = name == "synth" and ended.returncode == 0
        expect(complete or again.returncode == 0, f"the next run ended with {again.returncode}, {again.stderr[-400:]}")
        got = content(out)
        differ = sorted(f for f in {*got, *wanted} if got.get(f) != wanted.get(f))
        expect(not differ, f"the next run made {differ[:4]} otherwise")
    print(f"ok      {name}: {kind}, {len(tried)} of {calls} calls; {failed} times it could not be done", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--l3", required=True, type=pathlib.Path)
    arguments.add_argument("--library", required=True, type=pathlib.Path)
    arguments.add_argument("--most", type=int, default=6)
    arguments.add_argument("command", nargs="*", help=f"of {', '.join(COMMANDS)}; default: all")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="l3-faults-") as folder:
        commands = Commands(asked.l3.resolve(), pathlib.Path(folder))
        for name in asked.command or COMMANDS:
            for kind in KINDS:
                check(commands, name, kind, asked.library.resolve(), asked.most)
    if problems:
        raise SystemExit(f"{len(problems)} problems")


if __name__ == "__main__":
    main()
