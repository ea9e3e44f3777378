"""Seconds of a training iteration, ours beside a plain version that computes it as the original does.

  python test/bench/train_step.py                                    P×K×frames = 4×4×10 on the CPU
  python test/bench/train_step.py --device cuda --p 8 --k 16 --frames 30 --amp torch
  python test/bench/train_step.py --p 2 --k 2 --frames 2 --iters 1 --rounds 1       for a quick look

Each round runs either version in a process of its own, in turn, since memory that one has got used to would help the
other. The last line is JSON: medians over rounds and the ratio of each round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from model.device import place, resolve_device, synchronize  # noqa: E402
from model.network import GaitSet, triplet_losses  # noqa: E402
from model.precision import make_precision  # noqa: E402


class PlainGaitSet(nn.Module):
    """The mathematics of contracts in the order in which the original computes it: activation before pooling."""

    def __init__(self):
        super().__init__()
        sizes = [(1, 32, 5), (32, 32, 3), (32, 64, 3), (64, 64, 3), (64, 128, 3), (128, 128, 3)]
        self.set_layers = nn.ModuleList(nn.Conv2d(i, o, k, padding=k // 2, bias=False) for i, o, k in sizes)
        self.global_layers = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in [(32, 64), (64, 64), (64, 128), (128, 128)]
        )
        self.matrices = nn.Parameter(nn.init.xavier_uniform_(torch.zeros(62, 128, 256)))

    def forward(self, sils: Tensor) -> Tensor:
        n, s = sils.shape[:2]
        x, pooled = sils.flatten(0, 1).unsqueeze(1), []
        for number, layer in enumerate(self.set_layers, 1):
            x = F.leaky_relu(layer(x), inplace=True)
            if number in (2, 4):
                x = F.max_pool2d(x, 2)
            if number in (2, 4, 6):
                pooled.append(x.view(n, s, *x.shape[1:]).max(1)[0])
        g = pooled[0]
        for number, layer in enumerate(self.global_layers, 1):
            g = F.leaky_relu(layer(g), inplace=True)
            if number == 2:
                g = F.max_pool2d(g, 2) + pooled[1]
        strips = []
        for bins in (1, 2, 4, 8, 16):
            for maps in (pooled[2], g + pooled[2]):
                z = maps.view(*maps.shape[:2], bins, -1)
                strips.append(z.mean(3) + z.max(3)[0])
        return torch.cat(strips, 2).permute(2, 0, 1).contiguous().matmul(self.matrices)


def plain_loss(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Batch-all over every pair of a positive and a negative, selected by masks. features [p, n, d]."""
    bins, n, _ = features.shape
    square = features.square().sum(2)
    dist = F.relu(square.unsqueeze(2) + square.unsqueeze(1) - 2 * features.matmul(features.transpose(1, 2)))
    dist = (dist + 1e-12).sqrt().view(bins, -1)
    same = (labels[:, None] == labels[None, :]).flatten()
    positive = dist[:, same].view(bins, n, -1, 1)
    negative = dist[:, ~same].view(bins, n, 1, -1)
    metric = F.relu(margin + positive - negative).view(bins, -1)
    number = (metric != 0).sum(1).float()
    return (metric.sum(1) / number.clamp(min=1)).mean()


def seconds_of(version: str, options: argparse.Namespace) -> float:
    """Median seconds of an iteration, data on the device already."""
    plain = version == "plain"
    device = torch.device(options.device) if plain else resolve_device(options.device)
    torch.manual_seed(0)
    network = PlainGaitSet().to(device) if plain else place(GaitSet(), device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    precision, network, optimizer = make_precision(options.amp, network, optimizer, device, "", "dynamic")
    generator = torch.Generator().manual_seed(1)
    shape = (options.p * options.k, options.frames, 64, 44)
    sils = (torch.rand(shape, generator=generator) > 0.6).float().to(device)
    labels = torch.arange(options.p, device=device).repeat_interleave(options.k)
    times = []
    for _ in range(options.iters + 2):
        synchronize(device)
        start = time.perf_counter()
        with precision.autocast():
            features = network(sils)
        if plain:
            loss = plain_loss(features.float(), labels, 0.2)
        else:
            loss = triplet_losses(features, options.p, options.k, 0.2).full.mean()
        optimizer.zero_grad(set_to_none=True)
        precision.step(loss, optimizer)
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", default="off", choices=("off", "torch"))
    parser.add_argument("--p", type=int, default=4)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--iters", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--version", choices=("plain", "ours"), help="only this one, in this process")
    options = parser.parse_args()
    if options.version:
        print(seconds_of(options.version, options))
        return
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(options.rounds):
        for version, seconds in times.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--version", version]
            seconds.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    ratios = [plain / ours for plain, ours in zip(times["plain"], times["ours"], strict=True)]
    print(
        json.dumps(
            {
                "what": "seconds of a training iteration",
                "shape": [options.p, options.k, options.frames],
                "device": options.device,
                "amp": options.amp,
                **{f"{version}_s": round(statistics.median(seconds), 4) for version, seconds in times.items()},
                "ratios": [round(ratio, 2) for ratio in ratios],
                "ratio": round(statistics.median(ratios), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
