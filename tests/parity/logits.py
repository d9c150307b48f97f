"""Does l3 in evaluation mode say what PyTorch says of the same checkpoint and the same batches?

l3's weights, PyTorch as judge:
    l3 eval --checkpoint C --data DATA --dump-batches DIR
    python tests/parity/logits.py C DIR
DIR/eval_*.safetensors hold `frames` (N,H,W,3), `sounds` (N,F,T,1), `labels` (N), and l3's `logits` (N,2).

PyTorch's weights, written as an l3 checkpoint with the metadata and optimizer state of TEMPLATE (any checkpoint of that
model), then as above:
    python tests/parity/logits.py --make-checkpoint C --model tiny --template TEMPLATE
"""
import argparse
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
from l3_torch import L3Net, is_network_tensor, load_checkpoint, models, read_metadata  # noqa: E402


def compare(checkpoint, directory, tolerance):
    files = sorted(directory.glob("eval_*.safetensors"))
    if not files:
        sys.exit(f"{directory}: expected eval_*.safetensors, found none")
    net, worst, pairs, agree, below, above = None, 0.0, 0, 0, float("inf"), -float("inf")
    for file in files:
        batch = load_file(file)
        frames, sounds, found = batch["frames"], batch["sounds"], batch["logits"].double()
        if net is None:
            net = load_checkpoint(checkpoint, frames.shape[1:3], sounds.shape[1:3]).double().eval()
        with torch.no_grad():
            expected = net(frames.double(), sounds.double())
        if found.shape != expected.shape:
            sys.exit(f"{file}: expected logits {tuple(expected.shape)}, found {tuple(found.shape)}")
        # Relative to the batch's largest logit: a logit near 0 is a difference of numbers of that size.
        difference = ((found - expected).abs().max() / expected.abs().max()).item()
        if not difference <= tolerance:
            print(f"{file.name}: logits differ by {difference:.2e} of the largest")
        worst = max(worst, difference if difference == difference else float("inf"))
        score = expected[:, 1] - expected[:, 0]
        below, above = min(below, score.min().item()), max(above, score.max().item())
        pairs += len(found)
        agree += (found.argmax(1) == expected.argmax(1)).sum().item()
    print(f"{pairs} pairs of {len(files)} batches: worst difference {worst:.2e} of the largest logit "
          f"(tolerance {tolerance:.0e}), {agree} equal decisions, PyTorch's scores between {below:.3g} and {above:.3g}")
    if above - below < 1e-6 and pairs > 1:
        print("all scores are equal: this checkpoint or data shows nothing")
        return 1
    return 0 if worst <= tolerance else 1


def make_checkpoint(out, model, template, seed):
    """He normal weights, and every other value off its default so that none can be ignored unseen."""
    metadata, kept = read_metadata(template), load_file(template)
    generator = torch.Generator().manual_seed(seed)
    net = L3Net(*models[model])
    net.init_he(generator)
    state = net.state_dict()
    for name, t in state.items():
        if name.endswith("running_var") or ".bn" in name and name.endswith("weight"):
            t.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            t.normal_(0, 0.1, generator=generator)
    ours = {k: t.shape for k, t in kept.items() if is_network_tensor(k)}
    expected = {k: t.shape for k, t in state.items()}
    if ours != expected:
        off = sorted(k for k in ours.keys() | expected.keys() if ours.get(k) != expected.get(k))
        sys.exit(f"{template}: expected the tensors of {model}, {len(off)} are off: {', '.join(off[:5])}")
    save_file({**kept, **state}, out, metadata=metadata)
    print(f"{out}: {model}, seed {seed}, metadata of {template}: {', '.join(sorted(metadata))}")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=pathlib.Path)
    parser.add_argument("directory", nargs="?", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--make-checkpoint", type=pathlib.Path, metavar="OUT")
    parser.add_argument("--model", choices=models)
    parser.add_argument("--template", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    if o.make_checkpoint:
        if o.checkpoint or not (o.model and o.template):
            parser.error("--make-checkpoint needs --model and --template, and no checkpoint or directory")
        return make_checkpoint(o.make_checkpoint, o.model, o.template, o.seed)
    if not o.directory:
        parser.error("expected CHECKPOINT DIR, or --make-checkpoint")
    return compare(o.checkpoint, o.directory, o.tolerance)


if __name__ == "__main__":
    sys.exit(main())
