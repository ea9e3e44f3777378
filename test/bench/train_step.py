"""Measure the seconds of a training iteration, and compare them with an implementation like the original's.

  python test/bench/train_step.py                                    P×K×frames = 4×4×10 on the CPU
  python test/bench/train_step.py --device cuda --p 8 --k 16 --frames 30 --amp torch
  python test/bench/train_step.py --p 2 --k 2 --frames 2 --iters 1 --rounds 1       a short run

Our version is an iteration of `train.py`. With --amp torch on a supported GPU, it uses the Triton kernels, packed
batches and a CUDA graph. With --kernels plain, it uses none of them. Frames are drawn with replacement, as in training.
Each round runs the two versions in separate processes, because memory that one version has allocated would speed up the
other version. The last line is JSON: medians over the rounds and the ratio of each round.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from measuring import median_seconds, parser_of, report
from opengait_network import TheirGaitSet
from torch import Tensor

from model.config import ModelConfig
from model.data.batches import pack
from model.devices.device import synchronize
from model.devices.opening import resolve_device
from model.network.compute_mode import make_compute_mode
from model.synthetic.alignment import align_crops
from model.synthetic.camera import VIEWS
from model.synthetic.settings import SEQ_TYPES, WalkerSettings
from model.synthetic.walkers import Takes, pose_figures, render_views
from model.training.builder import build_state, build_step
from model.training.cuda_graph_step import FIRST_EAGER, CudaGraphStep
from model.training.precision import make_precision

LENGTH = 80  # frames per sequence, about as in CASIA-B


def plain_loss(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Batch-all triplet loss over all pairs of positives and negatives, selected by masks. features: [p, n, d]."""
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


def drawn_frames(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return frames of P·K sequences of synthetic walkers, uint8 [f, 64, 44], and the rows of a batch [P·K, frames]."""
    rng = np.random.default_rng(1)
    n = options.p * options.k
    settings, walks = WalkerSettings(frames=LENGTH), []
    for subject in range(1, options.p + 1):
        for seq_type, view in zip(rng.choice(SEQ_TYPES, options.k), rng.choice(VIEWS, options.k), strict=True):
            takes = Takes.of([subject], [seq_type])
            walk, _ = align_crops(render_views(settings, takes, pose_figures(settings, takes), [view]))
            walks.append(walk[torch.arange(LENGTH) % len(walk)])
    rows = np.arange(n)[:, None] * LENGTH + rng.integers(LENGTH, size=(n, options.frames))
    return torch.cat(walks).numpy(), rows


def plain_iteration(options: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    mode = make_compute_mode(options.amp, "", "plain", device)
    network = TheirGaitSet(256).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    precision, network, optimizer = make_precision(mode, network, optimizer, device, "dynamic")
    frames, rows = drawn_frames(options)
    sils = torch.from_numpy(frames[rows]).to(device).float() / 255
    labels = torch.arange(options.p, device=device).repeat_interleave(options.k)

    def iteration() -> None:
        with torch.autocast(device.type, mode.amp_dtype, enabled=mode.amp_dtype is not None):
            features = network(sils)
        loss = plain_loss(features.float(), labels, 0.2)
        optimizer.zero_grad(set_to_none=True)
        precision.backward(loss, optimizer)
        precision.step(optimizer)

    return iteration


def our_iteration(options: argparse.Namespace, device: torch.device) -> tuple[Callable[[], None], dict[str, bool]]:
    """Return an iteration of train.py, and the optimizations that it uses."""
    settings = ModelConfig(
        batch_size=(options.p, options.k), frame_num=options.frames, amp=options.amp, kernels=options.kernels
    )
    mode = make_compute_mode(settings.amp, settings.amp_dtype, settings.kernels, device, settings.channels)
    state, network = build_state(settings, mode, device, options.p)
    step = build_step(settings, state, network, mode, device)
    frames, rows = drawn_frames(options)
    ends = None
    if mode.fused or (device.type == "cpu" and settings.kernels == "auto"):
        rows, ends = pack(rows)
        ends = torch.from_numpy(ends).to(device)
    sils = torch.from_numpy(frames[rows]).to(device)
    return lambda: step(sils, ends), {"kernels": mode.fused, "recorded": isinstance(step, CudaGraphStep)}


def measure(version: str, options: argparse.Namespace) -> dict:
    """Return the median seconds per iteration. The data are already on the device."""
    torch.manual_seed(0)
    uses: dict[str, bool] = {}
    if version == "plain":
        device = torch.device(options.device)  # without the memory settings of `resolve_device`
        iteration = plain_iteration(options, device)
    else:
        device = resolve_device(options.device)
        iteration, uses = our_iteration(options, device)

    def finished() -> None:
        iteration()
        synchronize(device)

    for _ in range(FIRST_EAGER + 2):  # the CUDA graph is captured after the first iterations
        finished()
    return {"seconds": median_seconds([finished], options.iters)[0], "uses": uses}


def main() -> None:
    parser = parser_of(__doc__, device="cpu", p=4, k=4, frames=10, iters=10, rounds=5)
    parser.add_argument("--amp", default="off", choices=("off", "torch"))
    parser.add_argument("--kernels", default="auto", choices=("auto", "plain"))
    parser.add_argument("--version", choices=("plain", "ours"), help="run only this version, in this process")
    options = parser.parse_args()
    if options.version:
        print(json.dumps(measure(options.version, options)))
        return
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    uses: dict[str, bool] = {}
    for _ in range(options.rounds):
        for version, seconds in times.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--version", version]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            seconds.append(figures["seconds"])
            uses |= figures["uses"]
    ratios = [plain / ours for plain, ours in zip(times["plain"], times["ours"], strict=True)]
    medians = {f"{version}_s": round(statistics.median(seconds), 4) for version, seconds in times.items()}
    report(
        "seconds of a training iteration",
        shape=[options.p, options.k, options.frames], device=options.device, amp=options.amp, **uses, **medians,
        ratios=[round(ratio, 2) for ratio in ratios], ratio=round(statistics.median(ratios), 2),
    )  # fmt: skip


if __name__ == "__main__":
    main()
