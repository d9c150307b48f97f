"""L3-Net as PyTorch would say it: the outside truth that l3's golden numbers and parity checks come from.

The state_dict of `L3Net` has exactly the tensor names and layouts of an l3 checkpoint:
    {vision,audio}.block{1..4}.conv{1,2}.weight                                      (out, in, 3, 3)
    {vision,audio}.block{1..4}.bn{1,2}.{weight,bias,running_mean,running_var,num_batches_tracked}
    fusion.fc{1,2}.{weight,bias}                                                     (out, in), (out)

Frames are (N, height, width, 3), sounds (N, frequency, time, 1), channels innermost as in l3; logit 1 = corresponds.
"""
import json
import struct

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

# name -> (width, image (height, width), sound (frequency, time))
models = {
    "paper": (64, (224, 224), (257, 199)),
    "small": (16, (112, 112), (257, 199)),
    "tiny": (16, (48, 48), (64, 99)),
}


class Block(nn.Module):
    """conv-BN-ReLU twice, then the largest of each 2x2 pixels, or of the whole image in the last block."""

    def __init__(self, inputs, outputs, last):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1)
        self.last = last

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        # Not amax: that shares the gradient between equal pixels, pooling gives it to the first.
        return F.adaptive_max_pool2d(x, 1).flatten(1) if self.last else F.max_pool2d(x, 2, 2)


class Subnet(nn.Module):
    """Four blocks of width, 2 width, 4 width, 8 width channels: (N, channels, h, w) -> (N, 8 width)."""

    def __init__(self, channels, width):
        super().__init__()
        sizes = [channels, width, 2 * width, 4 * width, 8 * width]
        for k in range(4):
            self.add_module(f"block{k + 1}", Block(sizes[k], sizes[k + 1], last=k == 3))

    def forward(self, x):
        return self.block4(self.block3(self.block2(self.block1(x))))


class Fusion(nn.Module):
    """Joined features (vision first) -> hidden -> ReLU -> 2 logits."""

    def __init__(self, features, hidden):
        super().__init__()
        self.fc1 = nn.Linear(2 * features, hidden)
        self.fc2 = nn.Linear(hidden, 2)

    def forward(self, joined):
        return self.fc2(F.relu(self.fc1(joined)))


class L3Net(nn.Module):
    def __init__(self, width, image_size, sound_size, hidden=128):
        super().__init__()
        self.image_size, self.sound_size = tuple(image_size), tuple(sound_size)
        self.vision = Subnet(3, width)
        self.audio = Subnet(1, width)
        self.fusion = Fusion(8 * width, hidden)
        self.init_he(torch.Generator().manual_seed(0))

    def init_he(self, generator):
        """l3's initial state: weights normal with deviation sqrt(2 / fan_in), biases 0, batch norm the identity."""
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.kaiming_normal_(p, nonlinearity="relu", generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def features(self, frames, sounds):
        for what, x, size in ("frames", frames, (*self.image_size, 3)), ("sounds", sounds, (*self.sound_size, 1)):
            if tuple(x.shape[1:]) != size:
                raise ValueError(f"{what}: expected items of {size}, found {tuple(x.shape[1:])}")
        return self.vision(nchw(frames)), self.audio(nchw(sounds))

    def forward(self, frames, sounds):
        """Logits (N, 2) of the pairs (frame k, sound k)."""
        return self.fusion(torch.cat(self.features(frames, sounds), dim=1))

    def score_all(self, frames, sounds):
        """Logits (B, B, 2) of frame i with sound j."""
        v, a = self.features(frames, sounds)
        b = len(v)
        joined = torch.cat([v[:, None].expand(b, b, -1), a[None].expand(b, b, -1)], dim=2)
        return self.fusion(joined)


def nchw(x):
    return torch.as_tensor(x).permute(0, 3, 1, 2)


def loss_paper(logits, labels):
    return F.cross_entropy(logits, labels)


def loss_all(logits):
    """logits (B, B, 2): half the mean over the B positives (i == j) + half the mean over the B (B - 1) negatives."""
    log_p = F.log_softmax(logits, dim=2)
    same = torch.eye(len(logits), dtype=torch.bool)
    return -0.5 * log_p[same][:, 1].mean() - 0.5 * log_p[~same][:, 0].mean()


def loss_of(net, pairing, frames, sounds, labels):
    """(loss, logits) of a batch under l3's `--pairing`."""
    logits = net.score_all(frames, sounds) if pairing == "all" else net(frames, sounds)
    return (loss_all(logits) if pairing == "all" else loss_paper(logits, labels)), logits


def make_adam(net, lr, weight_decay=1e-5):
    """Adam whose L2 term acts on convolution and linear weights only."""
    weights = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() == 1]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.Adam(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)


def train_step(net, optimizer, pairing, frames, sounds, labels):
    """One step in training mode; returns the loss and logits it was computed from."""
    net.train()
    optimizer.zero_grad()
    loss, logits = loss_of(net, pairing, frames, sounds, labels)
    loss.backward()
    optimizer.step()
    return loss.item(), logits.detach()


def learning_rate(lr, step, warmup=0):
    """l3's linear warm-up; steps count from 1."""
    return lr * min(1.0, step / warmup) if warmup > 0 else lr


def read_metadata(path):
    """The `__metadata__` strings of a safetensors file."""
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        return json.loads(f.read(size)).get("__metadata__", {})


def is_network_tensor(name):
    return not name.startswith("optimizer.")


def load_checkpoint(path, image_size, sound_size):
    """The network in an l3 checkpoint. Width and hidden size come from the tensors; every name and shape must match."""
    state = {k: v for k, v in load_file(path).items() if is_network_tensor(k)}
    width = state["vision.block1.conv1.weight"].shape[0]
    hidden = state["fusion.fc1.weight"].shape[0]
    net = L3Net(width, image_size, sound_size, hidden)
    net.load_state_dict(state, strict=True)
    return net
