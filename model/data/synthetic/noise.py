"""What background subtraction does to an outline: ragged edges, swelling, holes, cut-offs and specks.

Faults last: each comes, stays for some frames at one place of the body or of the picture, and goes.
s frames, b blobs (holes, cuts and specks).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.data.synthetic.camera import HEIGHT

HOLE = -40.0  # outweighs all body parts that can lie over one pixel; three of them still fit eight bits


@dataclass(frozen=True)
class Faults:
    """Faults of one sequence, in pixels. `swell` [s] moves the whole outline, `ragged_*` [s, HEIGHT] its left
    and right side in each row. Blobs are ellipses: `anchor` [b] is the ellipsoid of the figure that carries
    it, `offset` [s, b, 2] where it is from there, `half_axes` [s, b, 2], `active` [s, b], `weights` [b] (+1
    specks, `HOLE` holes)."""

    swell: Tensor
    ragged_left: Tensor
    ragged_right: Tensor
    anchor: Tensor
    offset: Tensor
    half_axes: Tensor
    active: Tensor
    weights: Tensor

    def place(self, centres: Tensor) -> Tensor:
        """Image positions [s, b, 2] of the blobs on a figure with ellipsoids at `centres` [s, k, 2].

        Holes move with their part of the body, specks stay in the background where they appeared beside it.
        """
        carried = centres[:, self.anchor] + self.offset
        first = self.active.to(torch.uint8).argmax(0)
        still = carried[first, torch.arange(len(first), device=first.device)]
        return torch.where(self.weights[:, None] > 0, still.expand_as(carried), carried)


def draw_faults(
    rng: np.random.Generator,
    frames: int,
    ellipsoids: int,
    strength: float,
    device: torch.device | str = "cpu",
) -> Faults:
    """Draw the faults of one sequence; `strength` 0 gives none, 1 those of an indoor laboratory."""
    quality = strength * rng.uniform(0.5, 1.3)  # some sequences are worse than others
    swell = 0.35 * quality * (rng.normal() + 0.5 * _smooth(rng, frames, 1, 4)[:, 0])
    ragged = [0.55 * quality * _smooth(rng, frames, HEIGHT, 2) for _ in range(2)]
    blobs = [
        _blob(rng, frames, ellipsoids, kind)
        for kind, rate in (("hole", 1.3), ("cut", 0.5), ("speck", 1.2))
        for _ in range(min(int(rng.poisson(rate * quality)), 3 if kind == "hole" else 2))
    ]
    blobs = blobs or [_nothing(frames)]

    def tensor(values, dtype=torch.float32) -> Tensor:
        return torch.as_tensor(np.asarray(values)).to(device, dtype)

    anchor, offset, half_axes, active, weights = zip(*blobs, strict=True)
    return Faults(
        swell=tensor(swell),
        ragged_left=tensor(ragged[0]),
        ragged_right=tensor(ragged[1]),
        anchor=tensor(anchor, torch.int64),
        offset=tensor(np.stack(offset, 1)),
        half_axes=tensor(np.stack(half_axes, 1)),
        active=tensor(np.stack(active, 1), torch.bool),
        weights=tensor(weights),
    )


def _smooth(rng: np.random.Generator, frames: int, rows: int, over: int) -> np.ndarray:
    """Noise [frames, rows] of unit variance, correlated over about `over` frames and three rows."""
    noise = rng.normal(size=(frames + over, rows + 2)).astype(np.float32)
    noise = sum(noise[i : frames + i] for i in range(over + 1)) / np.sqrt(over + 1)
    if rows == 1:
        return noise[:, :1]
    return (noise[:, :-2] + noise[:, 1:-1] + noise[:, 2:]) / np.sqrt(3)


def _blob(rng: np.random.Generator, frames: int, ellipsoids: int, kind: str) -> tuple:
    """One fault: where on the body, how far off, how large, when, and with what weight."""
    length = frames if rng.random() < 0.15 else int(1 + rng.geometric(1 / 7))
    begin = int(rng.integers(-length // 2, frames))
    active = np.zeros(frames, bool)
    active[max(begin, 0) : begin + length] = True
    size = {"hole": (1.2, 3.2), "cut": (3.0, 8.0), "speck": (0.7, 2.2)}[kind]
    half_axes = rng.uniform(*size, 2) * np.exp(0.15 * rng.normal(size=(frames, 2)))
    if kind == "cut" and rng.random() < 0.4:  # a torn strip across the body
        half_axes[:, 0], half_axes[:, 1] = rng.uniform(4.0, 10.0), rng.uniform(0.6, 1.6)
    spread = {"hole": 5.0, "cut": 6.0, "speck": 0.0}[kind]
    offset = rng.normal(0, 1, 2) * spread + rng.normal(0, 0.5, (frames, 2))
    if kind == "speck":
        offset += np.array([rng.choice([-1, 1]) * rng.uniform(18, 60), rng.normal(0, 8)])
    return int(rng.integers(ellipsoids)), offset, half_axes, active, HOLE if kind != "speck" else 1.0


def _nothing(frames: int) -> tuple:
    return 0, np.zeros((frames, 2)), np.ones((frames, 2)), np.zeros(frames, bool), 1.0
