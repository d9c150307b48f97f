"""Does l3 train as PyTorch does? Replays l3's batches in PyTorch from l3's initial state and compares each step's loss.

    l3 train … --model tiny --pairing all --lr 1e-5 --warmup 0 --dump-batches DIR
    python tests/parity/curve.py DIR --model tiny --pairing all --lr 1e-5 --steps 20
DIR holds init.safetensors (the initial checkpoint), step_%06d.safetensors (`frames`, `sounds`, `labels`, l3's `loss`).

Rounding grows from step to step (Adam divides by the gradient's own size, ReLU and pooling switch): on `tiny`, batch
16, PyTorch in fp32 strays from itself in fp64 by 1e-4 of the loss within 50 steps at a learning rate of 1e-5, but
within 2 to 4 steps at 1e-3. So the replay runs in both, the judge is fp64, and a step may differ by the tolerance or,
if that is more, by --rounding times the largest difference of the two so far. Small learning rates test most sharply.
No loss shows a weight decay of 1e-5: tests/golden's adam_l2 does.
"""
import argparse
import pathlib
import sys

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
from l3_torch import learning_rate, load_checkpoint, make_adam, models, read_metadata, train_step  # noqa: E402


def initial_net(path, model):
    if int(read_metadata(path).get("l3.step", "0")) != 0:
        sys.exit(f"{path}: expected the initial state, step 0, found step {read_metadata(path)['l3.step']}")
    width, image_size, sound_size = models[model]
    net = load_checkpoint(path, image_size, sound_size)
    if (found := net.vision.block1.conv1.out_channels) != width:
        sys.exit(f"{path}: expected model {model}, width {width}, found width {found}")
    return net


class Replay:
    def __init__(self, o, dtype):
        self.o, self.dtype = o, dtype
        self.net = initial_net(o.directory / "init.safetensors", o.model).to(dtype)
        self.adam = make_adam(self.net, o.lr, o.weight_decay)

    def loss(self, step, batch):
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.o.lr, step, self.o.warmup)
        frames, sounds = batch["frames"].to(self.dtype), batch["sounds"].to(self.dtype)
        return train_step(self.net, self.adam, self.o.pairing, frames, sounds, batch["labels"])[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--model", choices=models, required=True)
    parser.add_argument("--pairing", choices=["all", "paper"], required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--warmup", type=int, default=0, help="steps of linear warm-up")
    parser.add_argument("--weight-decay", type=float, default=1e-5)
    parser.add_argument("--steps", type=int, default=50, help="at most; fewer if fewer were dumped")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="times max(1, loss)")
    parser.add_argument("--rounding", type=float, default=4, help="times what PyTorch strays; 0: the tolerance alone")
    parser.add_argument("--verbose", action="store_true", help="print the table even if all is well")
    parser.add_argument("--threads", type=int, default=1)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    files = sorted(o.directory.glob("step_*.safetensors"))[: o.steps]
    if not files:
        sys.exit(f"{o.directory}: expected step_*.safetensors, found none")
    judge, single = Replay(o, torch.float64), Replay(o, torch.float32)
    off, worst, strays, table = 0, 0.0, 0.0, []
    for step, file in enumerate(files, start=1):
        if file.stem != f"step_{step:06d}":
            sys.exit(f"{o.directory}: expected step_{step:06d}.safetensors, found {file.name}")
        batch = load_file(file)
        found, expected = batch["loss"].item(), judge.loss(step, batch)
        scale = max(1.0, abs(expected))
        strays = max(strays, abs(single.loss(step, batch) - expected) / scale)
        allowed = max(o.tolerance, o.rounding * strays)
        difference = abs(found - expected) / scale
        good = difference <= allowed  # false for NaN
        off += not good
        worst = max(worst, difference if difference == difference else float("inf"))
        verdict = "" if good else "  <- off"
        table.append(f"{step:6d}  {expected:12.8f}  {found:12.8f}  {difference:10.2e}  {allowed:8.2e}{verdict}")
    if off or o.verbose:
        print(f"{'step':>6}  {'PyTorch':>12}  {'l3':>12}  {'difference':>10}  {'allowed':>8}")
        print("\n".join(table))
    print(f"{len(files)} steps, {off} off: worst difference {worst:.2e}, tolerance {o.tolerance:.0e}, "
          f"PyTorch's own fp32 strays by {strays:.2e}")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
