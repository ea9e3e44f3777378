"""What goes wrong in segmentation, and where: soft rectangles on a coarse grid that moves with the body.

Where clothes look like what is behind them, a band of the body is missing for many frames; a walker passes something
dark and loses half of himself; lamps and doors stay in the picture beside him. Each line of `LOST` and `ADDED` is one
kind; its numbers were chosen so that the statistics of `test/bench/silhouettes.py` are those of ten people of CASIA-A.

q sequences, s frames, f rectangles, i x j cells of the grid.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from model.common.counter_random import Draws

CELLS = 28  # of the grid to the height of a figure
ABOVE, BESIDE = 9, 20  # cells above the figure (and below it), and to each side of its middle


class Fault(NamedTuple):
    """Up to `count` rectangles of a kind, each in a sequence with `chance` x severity, then for `share` of its frames.

    Lengths are in heights of the figure, `tall` and `wide` half of the extent. Ranges are drawn from uniformly, but
    small extents are more likely than large ones.
    """

    count: int
    chance: float
    share: tuple[float, float]
    period: float  # frames over which it comes and goes
    row: tuple[float, float]  # of the centre, from the top of the figure
    tall: tuple[float, float]
    column: tuple[float, float]  # of the centre, to either side of the middle of the figure
    wide: tuple[float, float]
    level: tuple[float, float]  # 1: nothing remains, or all is added; below, the grain decides
    drift: float = 0.0  # at most so far in a frame: it stays in the picture, the figure walks by
    clothes: bool = False  # shared by all views of a take


LOST = {
    # kind     count chance share  period row        tall           column      wide           level       drift clothes
    "band": Fault(2, 0.30, (0.1, 0.9), 14, (0.15, 0.42), (0.012, 0.12), (0.0, 0.0), (0.5, 0.6), (0.6, 1.2), 0.0, True),
    "side": Fault(2, 0.20, (0.2, 0.8), 18, (0.2, 0.5), (0.015, 0.1), (0.05, 0.2), (0.06, 0.2), (0.7, 1.3), 0.0, True),
    "neck": Fault(1, 0.15, (0.2, 0.95), 18, (0.16, 0.26), (0.015, 0.09), (0.0, 0.0), (0.3, 0.4), (0.8, 1.3), 0.0, True),
    "shank": Fault(2, 0.12, (0.05, 0.5), 7, (0.6, 0.9), (0.02, 0.08), (0.0, 0.2), (0.1, 0.4), (0.6, 1.3), 0.0, True),
    "torn": Fault(2, 0.25, (0.05, 0.25), 9, (0.12, 0.5), (0.02, 0.12), (0.0, 0.3), (0.1, 0.5), (0.6, 1.3), 0.03),
    "half": Fault(1, 0.10, (0.03, 0.15), 7, (0.2, 0.5), (0.1, 0.4), (0.1, 0.3), (0.06, 0.2), (0.6, 1.2), 0.03),
    "head": Fault(1, 0.12, (0.03, 0.3), 6, (0.0, 0.1), (0.02, 0.06), (0.0, 0.04), (0.03, 0.2), (0.5, 1.1)),
    "hole": Fault(5, 0.40, (0.05, 0.6), 8, (0.08, 0.9), (0.018, 0.035), (0.0, 0.17), (0.018, 0.05), (0.7, 1.3)),
    "shred": Fault(1, 0.15, (0.02, 0.15), 6, (0.3, 0.6), (0.3, 0.6), (0.0, 0.1), (0.3, 0.6), (0.1, 0.4)),
    "wrong": Fault(1, 0.05, (0.005, 0.02), 1, (0.2, 0.7), (0.2, 0.7), (0.0, 0.1), (0.3, 0.6), (0.3, 0.8)),
}  # fmt: skip
ADDED = {
    "shadow": Fault(2, 0.2, (0.1, 0.8), 8, (0.95, 0.98), (0.01, 0.02), (0.0, 0.15), (0.08, 0.25), (0.6, 1.2)),
    "beside": Fault(2, 0.12, (0.05, 0.5), 6, (0.1, 0.9), (0.03, 0.15), (0.08, 0.2), (0.02, 0.05), (0.2, 0.7)),
    "speck": Fault(3, 0.07, (0.1, 0.9), 9, (-0.2, 0.9), (0.012, 0.03), (0.2, 0.6), (0.015, 0.05), (0.7, 1.2), 0.02),
    "above": Fault(2, 0.06, (0.2, 1.0), 12, (-0.15, -0.04), (0.012, 0.05), (0.0, 0.4), (0.012, 0.06), (0.7, 1.2), 0.01),
    "clutter": Fault(3, 0.07, (0.5, 1.0), 20, (-0.2, 0.6), (0.02, 0.2), (0.2, 0.5), (0.015, 0.04), (0.5, 1.2), 0.002),
}  # fmt: skip

SPREAD_OF_TAKES, SPREAD_OF_VIEWS = 0.6, 0.7  # standard deviations of the logarithm of the severity
_DRAWN = "present", "share", "row", "tall", "column", "wide", "level", "side", "drift", "begin"  # for each rectangle
_SOFT = 1.5  # cells from nothing to all at the edge of a rectangle, where the grain makes it ragged
_SUDDEN = 2.2  # how quickly a fault reaches its level, for a course of unit variance
_STEPS = 16  # of strength and of cover of a cell: products and sums of whole numbers are the same on every device


def severities(draws: Draws, take_draws: Draws, strength: float) -> Tensor:
    """How bad each sequence is, float32 [q]; the median at strength 1 is 1."""
    of_take = take_draws.normal("severity of the take", 0.0, SPREAD_OF_TAKES)
    return strength * (of_take + draws.normal("severity of the view", 0.0, SPREAD_OF_VIEWS)).exp()


def courses(draws: Draws, name: str, frames: int, period: Tensor) -> Tensor:
    """Smooth random courses [q, s, f] of unit variance, each with an independent value every `period` [f] frames.

    Time comes first in the draws: the first frames are the same however many follow.
    """
    time = torch.arange(frames, device=period.device)[:, None] / period
    before = time.long()
    knots = draws.normal(name, shape=(frames + 1, len(period)))
    first, second = (knots.gather(1, (before + after).expand(len(knots), -1, -1)) for after in (0, 1))
    between = time - before
    return (first * (1 - between) + second * between) / (between**2 + (1 - between) ** 2).sqrt()


@functools.cache
def _table(device: torch.device) -> dict[str, Tensor]:
    """The columns of `LOST` and then `ADDED`, once for each rectangle: [f], or low and high end [2, f]."""
    rectangles = [fault for fault in (*LOST.values(), *ADDED.values()) for _ in range(fault.count)]
    columns = {name: [getattr(fault, name) for fault in rectangles] for name in Fault._fields[1:]}
    return {name: torch.tensor(values, device=device).movedim(-1, 0) for name, values in columns.items()}


def _cover(centre: Tensor, half: Tensor, first: int, last: int) -> Tensor:
    """How far the n cells from `first` to before `last` are within centre +- half [q, s, f]: 0 to 1 [q, s, f, n]."""
    cells = (torch.arange(first, last, device=centre.device) + 0.5) / CELLS
    return ((half[..., None] - (cells - centre[..., None]).abs()) * (CELLS / _SOFT) + 0.5).clamp(0, 1)


def fault_cells(draws: Draws, place_draws: Draws, take_draws: Draws, strength: float, seen: Tensor) -> Tensor:
    """Where faults are, and how sure: uint8 [q, s, i, j], even where a figure is lost, odd where something is added.

    Numbers below 4 are no fault. `seen` bool [q, s] tells the frames that show somebody; the others have none. When
    faults come and go is by `draws`, which there are and where by `place_draws` and, those of clothes, `take_draws`.
    """
    table = _table(seen.device)
    shape = len(table["chance"]), len(_DRAWN)
    numbers = (one.uniform("rectangles", shape=shape) for one in (take_draws, place_draws))
    drawn = dict(zip(_DRAWN, torch.where(table["clothes"][:, None], *numbers).unbind(-1), strict=True))

    def within(name: str) -> Tensor:
        low, high = table[name]
        return low + drawn[name] * (high - low)

    def extent(name: str) -> Tensor:
        low, high = table[name]
        return (low + drawn[name] ** 2 * (high - low))[:, None]

    level = within("level") * (
        drawn["present"] < table["chance"] * severities(place_draws, take_draws, strength)[:, None]
    )
    course = courses(draws, "comes and goes", seen.shape[1], table["period"])
    level = level[:, None] * ((torch.special.ndtri(within("share"))[:, None] - course) * _SUDDEN).clamp(0, 1)
    level = level * seen[..., None]

    time = torch.arange(seen.shape[1], device=seen.device)[:, None] - 80 * drawn["begin"][:, None]
    moved = table["drift"] * (2 * drawn["drift"][:, None] - 1) * time
    side = torch.where(drawn["side"] < 0.5, -1, 1)
    down = _cover(within("row")[:, None], extent("tall"), -ABOVE, CELLS + ABOVE) * level[..., None]
    across = _cover((within("column") * side)[:, None] + moved, extent("wide"), -BESIDE, BESIDE)
    down, across = (down * _STEPS).round(), (across * _STEPS).round()

    def summed(kind: slice) -> Tensor:
        sums = down[:, :, kind].transpose(2, 3) @ across[:, :, kind]
        return sums.clamp_(max=255).to(torch.uint8)

    losses = sum(fault.count for fault in LOST.values())
    return torch.maximum(summed(slice(losses)) & 254, summed(slice(losses, None)) | 1)
