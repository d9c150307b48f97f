#!/usr/bin/env python3
"""Does `l3 train` over several processes do what one process does, and end as it should? Needs mpirun and Python alone.

    check_mpi.py --l3 BUILD/l3 agree        many processes give the file that --workers-emulated gives, byte for byte
    check_mpi.py --l3 BUILD/l3 refuse       processes with different settings or data do not begin
    check_mpi.py --l3 BUILD/l3 stop         SIGTERM: a checkpoint, and going on with another number of processes
    check_mpi.py --l3 BUILD/l3 kill [--times 20]   a process that dies ends all, and nothing is lost
    check_mpi.py --l3 BUILD/l3 apart        on two hosts with 1 Gbit/s between them, whose link is then cut (as root)
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import hosts

problems = []


def expect(good, what):
    print(("ok      " if good else "WRONG   ") + what, flush=True)
    if not good:
        problems.append(what)


class Session:
    def __init__(self, l3, mpirun, folder):
        self.l3, self.mpirun, self.folder = str(l3), mpirun, pathlib.Path(folder)
        self.data = self.folder / "data"
        subprocess.run([self.l3, "synth", self.data, "--videos", "60", "--seconds", "2", "--seed", "5", "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        self.environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

    def train(self, out, *more):
        return ["train", "--train", self.data / "train.csv", "--valid", self.data / "valid.csv", "--valid-pairs", "16",
                "--model", "tiny", "--seed", "3", "--warmup", "4", "--threads", "1", "--out", self.folder / out,
                "--quiet", *map(str, more)]

    def together(self, processes, *words):
        """The command that starts so many of `l3 words`."""
        return [*self.start(processes), self.l3, *map(str, words)]

    def start(self, processes):
        """The beginning of a command that starts so many."""
        return [self.mpirun, "--oversubscribe", "--bind-to", "none", "-n", str(processes)]

    def launcher_waits(self):
        """Does mpirun leave its processes time to save when it gets a SIGTERM? That of Open MPI 6.0 kills them within 20 ms."""
        version = re.search(r"\(Open MPI\) (\d+)", self.run([self.mpirun, "--version"]).stdout)
        return version is None or int(version[1]) < 6

    def each(self, *commands):
        """The command that starts one process of each. (Open MPI 5.0.7 crashes at the `:` that is there for it.)"""
        script = self.folder / "by_rank.sh"
        choices = [f"{rank}) exec {shlex.join(map(str, command))} ;;" for rank, command in enumerate(commands)]
        script.write_text("\n".join(["case ${OMPI_COMM_WORLD_RANK:-$PMI_RANK} in", *choices, "*) exit 1 ;;", "esac"]) + "\n")
        return [*self.start(len(commands)), "sh", script]

    def same(self, one, other, file):
        files = [self.folder / run / file for run in (one, other)]
        return all(f.exists() for f in files) and files[0].read_bytes() == files[1].read_bytes()

    def step_of(self, run):
        """Steps in a run's last checkpoint; -1 if it cannot be read."""
        r = self.run([self.l3, "info", self.folder / run / "last.safetensors", "--json"], 60)
        return json.loads(r.stdout)["step"] if r.returncode == 0 else -1

    def run(self, command, seconds=300):
        began = time.monotonic()
        done = subprocess.run(list(map(str, command)), env=self.environment, capture_output=True, text=True,
                              timeout=seconds)
        done.seconds = time.monotonic() - began
        return done


def agree(s):
    for name, processes, batch, steps, more in [
            ("all frames with all sounds", 4, 4, 10, []),
            ("16 processes of 2 draws", 16, 2, 10, []),
            ("a worker's frames with its own sounds", 4, 4, 10, ["--pairing-scope", "worker"]),
            ("pairs as in the paper", 4, 4, 10, ["--pairing", "paper"]),
            ("pairs as in the paper, 2 draws each", 3, 2, 10, ["--pairing", "paper"])]:
        pairs = processes * batch * steps
        common = ["--batch", batch, "--pairs", pairs, "--valid-every", steps, *more]
        one = s.run([s.l3, *s.train("one", *common, "--workers-emulated", processes)])
        many = s.run(s.together(processes, *s.train("many", *common)))
        expect(one.returncode == 0 and many.returncode == 0, f"{name}: both end well {one.stderr} {many.stderr}")
        for file in ["last.safetensors", "best.safetensors"]:
            expect(s.same("one", "many", file), f"{name}: the same {file}")
        if one.returncode or many.returncode:
            continue
        logs = [[line.split(",")[:7] for line in (s.folder / run / "log.csv").read_text().splitlines()]
                for run in ["one", "many"]]
        expect(len(logs[0]) > 1 and logs[0] == logs[1], f"{name}: the same losses and validations in the log")
        rows = (s.folder / "many" / "processes.csv").read_text().splitlines()
        expect(sum(f"process {processes - 1} " in row for row in rows) > 0, f"{name}: processes.csv tells of the last")
        if processes == 4 and not more:  # the last of them is evaluated, too
            answers = [s.run([*command, "--checkpoint", s.folder / "many" / "last.safetensors", "--data", s.data / "test.csv",
                              "--pairs", "100", "--batch", "8", "--threads", "1", "--out", s.folder / out, "--json"])
                       for command, out in [([s.l3, "eval"], "eval1"), (s.together(3, "eval"), "eval3")]]
            expect(all(a.returncode == 0 for a in answers), f"l3 eval ends well {[a.stderr for a in answers]}")
            expect(answers[0].stdout == answers[1].stdout.replace("eval3", "eval1") and s.same("eval1", "eval3", "pairs.csv"),
                   "l3 eval says the same with three processes")
        for run in ["one", "many"]:
            shutil.rmtree(s.folder / run)
    # A file that nobody can use is kept account of once, whoever met it.
    bad = s.folder / "bad"
    bad.mkdir()
    for video in sorted((s.data / "videos").iterdir())[:4]:
        shutil.copy(video, bad)
    (bad / "none.mp4").write_text("no video")
    r = s.run(s.together(3, "train", "--train", bad, "--valid", bad, "--valid-pairs", 48, "--model", "tiny", "--batch", 4,
                         "--pairs", 120, "--pairing", "paper", "--threads", 1, "--json", "--out", s.folder / "refusing"))
    said = json.loads(r.stdout) if r.returncode == 0 else {}
    expect([said.get(key) for key in ["refused", "refused_in_validation"]] == [1, 1], f"a bad file: counted once {r.stderr}")
    for name in ["refused.jsonl", "refused-validation.jsonl"]:
        kept = s.folder / "refusing" / name
        lines = kept.read_text().splitlines() if kept.exists() else []
        expect(len(lines) == 1 and json.loads(lines[0])["file"] == "none.mp4", f"and said once in {name}")
    # What another process finds by the run's name is not taken for it.
    elsewhere = s.folder / "elsewhere"
    shutil.copytree(s.folder / "refusing", elsewhere / "run")
    good = [v.name for v in sorted(bad.iterdir()) if v.name != "none.mp4"]
    (elsewhere / "run" / "refused.jsonl").write_text("".join(
        json.dumps({"file": v, "why": "of old", "step": 1, "scope": "file"}) + "\n" for v in good[:3]))
    words = ["train", "--train", bad, "--valid", bad, "--valid-pairs", 8, "--model", "tiny", "--batch", 4, "--pairs", 24,
             "--pairing", "paper", "--threads", 1, "--quiet", "--out", "run"]
    here = s.folder / "here"
    here.mkdir()
    for name, places in [("as it should be", [here, here]), ("another run there", [here, elsewhere])]:
        shutil.rmtree(here / "run", ignore_errors=True)
        r = s.run(s.each(*[["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", place, s.l3, *words] for place in places]))
        expect(r.returncode == 0, f"{name}: ends well {r.stderr}")
        shutil.copy(here / "run" / "last.safetensors", s.folder / (name + ".safetensors"))
    expect((s.folder / "as it should be.safetensors").read_bytes() == (s.folder / "another run there.safetensors").read_bytes(),
           "refusals are those of the run that the first process sees")
    packed = s.folder / "packed"
    s.run([s.l3, "pack", s.data / "test.csv", "--out", packed, "--quiet"])
    mixed = s.run(s.each(*[[s.l3, "eval", "--checkpoint", s.folder / "refusing" / "last.safetensors", "--data", data, "--pairs",
                            40, "--threads", 1] for data in [s.data / "test.csv", packed]]), 60)
    expect(mixed.returncode != 0 and "process 1" in mixed.stderr and "what is read: expected" in mixed.stderr,
           f"a packing at one process, videos at another: refused {mixed.stderr}")
    judged = s.run(s.together(3, "eval", "--checkpoint", s.folder / "refusing" / "last.safetensors", "--data", bad, "--pairs",
                              48, "--batch", 4, "--threads", 1, "--json"))
    expect(judged.returncode == 0 and json.loads(judged.stdout)["refused"] == 1, f"l3 eval counts it once {judged.stderr}")
    # Each begins with its own copy of a checkpoint.
    init = s.run([s.l3, *s.train("init", "--batch", 4, "--pairs", 16)])
    expect(init.returncode == 0, f"a network to begin with {init.stderr}")
    copies = [s.folder / f"copy{rank}.safetensors" for rank in range(2)]
    for copy in copies:
        shutil.copy(s.folder / "init" / "last.safetensors", copy)
    common = ["--batch", 4, "--pairs", 32]
    one = s.run([s.l3, *s.train("one", *common, "--workers-emulated", 2, "--init", copies[0])])
    many = s.run(s.each(*[[s.l3, *s.train("many", *common, "--init", copy)] for copy in copies]))
    expect(one.returncode == 0 and many.returncode == 0 and s.same("one", "many", "last.safetensors"),
           f"--init of a copy each: the same file {one.stderr} {many.stderr}")
    shutil.copy(s.folder / "one" / "last.safetensors", copies[1])
    other = s.run(s.each(*[[s.l3, *s.train("other", *common, "--init", copy)] for copy in copies]), 60)
    expect(other.returncode != 0 and "process 1" in other.stderr and ", weights: expected" in other.stderr,
           f"--init of different weights is refused {other.stderr}")
    # With batch norm over all, it matters only to rounding who has which draws.
    losses = []
    for processes in [1, 2]:
        common = s.train(f"sync{processes}", "--batch", 16 // processes, "--pairs", 16 * 4, "--log-every", 1, "--valid-every",
                         4, "--sync-batch-norm")
        r = s.run(s.together(processes, *common))
        expect(r.returncode == 0, f"--sync-batch-norm with {processes} ends well {r.stderr}")
        rows = (s.folder / f"sync{processes}" / "log.csv").read_text().splitlines()[1:]
        losses.append([float(row.split(",")[2]) for row in rows])
    expect(len(losses[0]) == 4 and all(abs(a - b) < 2e-3 for a, b in zip(*losses)) and abs(losses[0][0] - losses[1][0]) < 2e-5,
           f"--sync-batch-norm: two processes have the losses of one {losses}")


def refuse(s):
    other = s.folder / "other.csv"
    lines = (s.data / "train.csv").read_text().splitlines()
    other.write_text("\n".join([lines[0]] + [f"{s.data}/{line}" for line in lines[2:]]) + "\n")
    base = s.train("refused", "--pairs", 64, "--batch", 4)
    for name, change, says in [("seeds", ["--seed", "4"], "seed"), ("models", ["--model", "small"], "model"),
                               ("rates", ["--lr", "0.5"], "lr"),
                               ("videos", ["--train", str(other)], "training videos")]:
        changed = list(base)
        if change[0] in changed:
            changed[changed.index(change[0]) + 1] = change[1]
        else:
            changed += change
        r = s.run(s.each([s.l3, *base], [s.l3, *changed]), 60)
        expect(r.returncode != 0 and re.search(rf"l3 train: process 1 .*, {says}: expected", r.stderr),
               f"different {name} are refused: {[l for l in r.stderr.splitlines() if 'l3' in l or 'process' in l][:2]}")
        expect(not (s.folder / "refused" / "last.safetensors").exists(), f"different {name}: nothing is written")
        shutil.rmtree(s.folder / "refused", ignore_errors=True)


def wait_for(file, text, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if file.exists() and text in file.read_text():
            return True
        time.sleep(0.02)
    return False


def workers_of(launcher):
    return [int(p) for p in subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True).stdout.split()]


def stop(s):
    last = 80
    launcher_waits = s.launcher_waits()
    common = ["--pairs", last * 16, "--valid-every", 1000, "--log-every", 1, "--save-every", 1000]
    process = subprocess.Popen(list(map(str, s.together(4, *s.train("stopped", "--batch", 4, *common)))),
                               env=s.environment, stderr=subprocess.PIPE, text=True)
    expect(wait_for(s.folder / "stopped" / "log.csv", "\n5,"), "four processes step until they are stopped")
    os.kill(process.pid if launcher_waits else workers_of(process)[2], signal.SIGTERM)
    began = time.monotonic()
    process.wait(60)
    expect(time.monotonic() - began < 30, f"SIGTERM ends all within {time.monotonic() - began:.1f} s")
    said = process.stderr.read()
    expect("killed" not in said.lower(), f"by themselves {said}")
    log = (s.folder / "stopped" / "log.csv").read_text().splitlines()
    step = int(log[-1].split(",")[0])
    expect(5 <= step < last, f"it was stopped at step {step}")
    expect(s.step_of("stopped") == step, "whose checkpoint is there")
    wrong = s.run(s.together(2, "train", "--out", s.folder / "stopped", "--resume", "--quiet", "--threads", 1), 60)
    expect(wrong.returncode != 0 and "16 as when the run began" in wrong.stderr, "another number of draws is refused")
    r = s.run(s.together(2, "train", "--out", s.folder / "stopped", "--resume", "--batch", 8, "--quiet", "--threads", 1))
    expect(r.returncode == 0, f"two processes go on where four were stopped {r.stderr}")
    log = (s.folder / "stopped" / "log.csv").read_text().splitlines()
    steps = [int(line.split(",")[0]) for line in log[1:]]
    expect(steps == list(range(1, last + 1)), f"every step is in the log once, up to {steps[-1]}")


def kill(s, times):
    chance = random.Random(1)
    tried = 0
    while tried < times:
        shutil.rmtree(s.folder / "killed", ignore_errors=True)
        command = s.together(3, *s.train("killed", "--batch", 4, "--pairs", 1200000, "--valid-every", 40, "--save-every", 5,
                                         "--log-every", 1))
        process = subprocess.Popen(list(map(str, command)), env=s.environment, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
        begun = wait_for(s.folder / "killed" / "log.csv", "\n2,")
        time.sleep(chance.uniform(0, 1.5))
        workers = workers_of(process)
        if not begun or len(workers) != 3:
            os.killpg(process.pid, signal.SIGKILL)
            return expect(False, f"kill {tried + 1}: three processes were to step, found {workers}")
        began = time.monotonic()
        victim = chance.choice(workers)
        is_first = b"OMPI_COMM_WORLD_RANK=0" in pathlib.Path(f"/proc/{victim}/environ").read_bytes().split(b"\0")
        os.kill(victim, signal.SIGKILL)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        seconds = time.monotonic() - began
        left = subprocess.run(["pgrep", "-f", str(s.folder / "killed")], capture_output=True, text=True).stdout.split()
        tried += 1
        said = process.stderr.read()
        messages = [line for line in said.splitlines() if re.search(r"l3 train: process \d+ \(on .*\) has ended", line)]
        rows = (s.folder / "killed" / "log.csv").read_text().splitlines()
        lost = int(rows[-1].split(",")[0]) - s.step_of("killed")
        may_lose = 5 if is_first else 0  # the first one writes: what it has, and behind every fifth step
        if process.returncode == 0 or seconds > 30 or left or len(messages) != 1 or not 0 <= lost <= may_lose:
            return expect(False, f"kill {tried}: exit {process.returncode} after {seconds:.1f} s, left {left}, {lost} steps "
                                 f"lost, said {said}")
    expect(True, f"{times} times a killed process ends all within 30 s with one message, and a whole checkpoint")
    steps = len((s.folder / "killed" / "log.csv").read_text().splitlines())
    process = subprocess.Popen(list(map(str, s.together(2, "train", "--out", s.folder / "killed", "--resume", "--batch", 6,
                                                        "--quiet", "--threads", 1))), env=s.environment)
    expect(wait_for(s.folder / "killed" / "log.csv", f"\n{steps + 20},"), "and the last of them goes on with two")
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def is_training(process, folder):
    """Is this /proc/PID a process of l3 that trains in the folder?"""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False
    return words[1:2] == [b"train"] and str(folder).encode() in words


def hosts_apart(s):
    if os.geteuid() != 0 or not all(map(shutil.which, ["ip", "tc", "unshare", "hostname", "sysctl"])):
        print("SKIPPED: needs root, ip, tc, unshare, hostname and sysctl")
        sys.exit(77)
    with contextlib.ExitStack() as stack:
        try:
            apart = stack.enter_context(hosts.Hosts(s.folder))
        except subprocess.CalledProcessError as e:
            print(f"SKIPPED: no network name spaces here: {e.stderr}")
            sys.exit(77)
        common = ["--batch", 4, "--pairs", 4 * 4 * 10, "--valid-every", 10]
        one = s.run([s.l3, *s.train("one", *common, "--workers-emulated", 4)])
        many = s.run(apart.command(s.mpirun, 4, [s.l3, *s.train("many", *common)]))
        expect(one.returncode == 0 and many.returncode == 0, f"two hosts of two processes end well {many.stderr}")
        for file in ["last.safetensors", "best.safetensors"]:
            expect(s.same("one", "many", file), f"two hosts give the same {file} as one process")
        rows = (s.folder / "many" / "processes.csv").read_text()
        expect("l3-host-a" in rows and "l3-host-b" in rows, "processes.csv names both hosts")

        common = ["--batch", 4, "--pairs", 1000000, "--valid-every", 100000, "--save-every", 5, "--log-every", 1]
        words = s.folder / "said"  # a pipe would be held open by whoever outlives the launcher
        process = subprocess.Popen(list(map(str, apart.command(s.mpirun, 4, [s.l3, *s.train("cut", *common)]))),
                                   env=s.environment, stderr=words.open("w"))
        expect(wait_for(s.folder / "cut" / "log.csv", "\n7,"), "two hosts step until their link is cut")
        apart.cut()
        began = time.monotonic()
        left = ["?"]
        while left and time.monotonic() - began < 60:
            left = [p for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and is_training(p, s.folder / "cut")]
            time.sleep(0.1)
        seconds = time.monotonic() - began
        expect(seconds < 30, f"both ends have ended {seconds:.1f} s after it was cut")
        apart.forget()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        seconds, said = time.monotonic() - began, words.read_text()
        print("        " + said.strip().replace("\n", "\n        "))
        expect(process.returncode != -9 and seconds < 30, f"the launcher ends {seconds:.1f} s after it was cut")
        if s.old_launcher:  # that of Open MPI 5 can be first to miss the other host, and then ends with 0
            expect("l3-host-" in said and "has not answered" in said, "and who was missed is said")
            expect(process.returncode != 0, "the launcher says that it failed")
        expect(s.step_of("cut") >= 5, "the checkpoint is whole")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--l3", required=True, type=pathlib.Path)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("what", choices=["agree", "refuse", "stop", "kill", "apart"])
    o = parser.parse_args()
    mpirun = shutil.which("mpirun")
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout if mpirun else ""
    if "Open MPI" not in version:
        print("SKIPPED: no mpirun of Open MPI")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        s = Session(o.l3.resolve(), mpirun, folder)
        s.old_launcher = re.search(r"Open MPI\) [1-4][.]", version) is not None
        {"agree": agree, "refuse": refuse, "stop": stop, "kill": lambda s: kill(s, o.times), "apart": hosts_apart}[o.what](s)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
