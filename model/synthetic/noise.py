"""Draw segmentation noise: where and when pixels of a silhouette are removed or added.

Noise consists of patches: rectangles with soft edges on a coarse grid that moves with the body. For example, a band of
the body is missing for many frames because the clothes have the colour of the background, half of the body is missing
while the walker passes a dark object, or a lamp remains next to the walker. The values of `REMOVED` and `ADDED` were
chosen so that the statistics of `test/bench/silhouettes.py` are similar for walkers and for ten people of CASIA-A.

Shapes: q sequences, s frames, f rectangles, i x j cells of the grid.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from model.common.counter_random import Draws

CELLS = 28  # grid cells per height of the figure
CELLS_ABOVE = 9  # grid cells above the top of the figure, and the same number of cells below its feet
CELLS_ASIDE = 20  # grid cells to the left of the middle of the figure, and the same number of cells to the right


class Patch(NamedTuple):
    """A kind of noise: up to `count` rectangles in each sequence.

    A rectangle is present in a sequence with the probability `chance` x severity, and then in the fraction `share` of
    the frames. Lengths are in heights of the figure. Values are drawn uniformly between the ends of their range, except
    that small values of `tall` and `wide` are more likely than large values.
    """

    count: int
    chance: float
    share: tuple[float, float]
    period: float  # frames between independent values of the patch's strength
    row: tuple[float, float]  # distance of the centre from the top of the figure
    tall: tuple[float, float]  # half of the height of the rectangle
    column: tuple[float, float]  # distance of the centre from the middle of the figure, to the left or to the right
    wide: tuple[float, float]  # half of the width of the rectangle
    level: tuple[float, float]  # from 1 on, all pixels are removed or added; below 1, the grain decides for each pixel
    drift: float = 0.0  # largest shift per frame, because objects of the background do not move with the figure
    clothes: bool = False  # whether the patch belongs to the clothes, so that all views of a take share it


REMOVED = {
    # kind     count chance share  period row        tall           column      wide           level       drift clothes
    "band": Patch(2, 0.30, (0.1, 0.9), 14, (0.15, 0.42), (0.012, 0.12), (0.0, 0.0), (0.5, 0.6), (0.6, 1.2), 0.0, True),
    "side": Patch(2, 0.20, (0.2, 0.8), 18, (0.2, 0.5), (0.015, 0.1), (0.05, 0.2), (0.06, 0.2), (0.7, 1.3), 0.0, True),
    "neck": Patch(1, 0.15, (0.2, 0.95), 18, (0.16, 0.26), (0.015, 0.09), (0.0, 0.0), (0.3, 0.4), (0.8, 1.3), 0.0, True),
    "shank": Patch(2, 0.12, (0.05, 0.5), 7, (0.6, 0.9), (0.02, 0.08), (0.0, 0.2), (0.1, 0.4), (0.6, 1.3), 0.0, True),
    "torn": Patch(2, 0.25, (0.05, 0.25), 9, (0.12, 0.5), (0.02, 0.12), (0.0, 0.3), (0.1, 0.5), (0.6, 1.3), 0.03),
    "half": Patch(1, 0.10, (0.03, 0.15), 7, (0.2, 0.5), (0.1, 0.4), (0.1, 0.3), (0.06, 0.2), (0.6, 1.2), 0.03),
    "head": Patch(1, 0.12, (0.03, 0.3), 6, (0.0, 0.1), (0.02, 0.06), (0.0, 0.04), (0.03, 0.2), (0.5, 1.1)),
    "hole": Patch(5, 0.40, (0.05, 0.6), 8, (0.08, 0.9), (0.018, 0.035), (0.0, 0.17), (0.018, 0.05), (0.7, 1.3)),
    "shred": Patch(1, 0.15, (0.02, 0.15), 6, (0.3, 0.6), (0.3, 0.6), (0.0, 0.1), (0.3, 0.6), (0.1, 0.4)),
    "wrong": Patch(1, 0.05, (0.005, 0.02), 1, (0.2, 0.7), (0.2, 0.7), (0.0, 0.1), (0.3, 0.6), (0.3, 0.8)),
}  # fmt: skip
ADDED = {
    "shadow": Patch(2, 0.2, (0.1, 0.8), 8, (0.95, 0.98), (0.01, 0.02), (0.0, 0.15), (0.08, 0.25), (0.6, 1.2)),
    "beside": Patch(2, 0.12, (0.05, 0.5), 6, (0.1, 0.9), (0.03, 0.15), (0.08, 0.2), (0.02, 0.05), (0.2, 0.7)),
    "speck": Patch(3, 0.07, (0.1, 0.9), 9, (-0.2, 0.9), (0.012, 0.03), (0.2, 0.6), (0.015, 0.05), (0.7, 1.2), 0.02),
    "above": Patch(2, 0.06, (0.2, 1.0), 12, (-0.15, -0.04), (0.012, 0.05), (0.0, 0.4), (0.012, 0.06), (0.7, 1.2), 0.01),
    "clutter": Patch(3, 0.07, (0.5, 1.0), 20, (-0.2, 0.6), (0.02, 0.2), (0.2, 0.5), (0.015, 0.04), (0.5, 1.2), 0.002),
}  # fmt: skip

TAKE_SPREAD, VIEW_SPREAD = 0.6, 0.7  # standard deviations of the logarithm of the severity
# Names of the random numbers of each rectangle.
_DRAWN = "present", "share", "row", "tall", "column", "wide", "level", "side", "drift", "begin"
_SOFT = 1.5  # width in cells of the soft edge of a rectangle, where the grain decides for each pixel
_STEEPNESS = 2.2  # increase of the strength of a rectangle, from 0 to 1, per unit of its course (see `courses`)
_STEPS = 16  # strength and coverage are rounded to 1 / _STEPS, because sums of integers are equal on every device


def severities(draws: Draws, take_draws: Draws, strength: float) -> Tensor:
    """Return the severity of the noise of each sequence, float32 [q]. Its median is `strength`."""
    of_take = take_draws.normal("severity of the take", 0.0, TAKE_SPREAD)
    return strength * (of_take + draws.normal("severity of the view", 0.0, VIEW_SPREAD)).exp()


def courses(draws: Draws, name: str, frames: int, period: Tensor) -> Tensor:
    """Return courses [q, s, f]: random functions of time, of unit variance.

    A course has an independent value every `period` [f] frames, and is continuous between these values. Time is the
    first dimension of the draws, so the first frames do not depend on the number of frames.
    """
    # Interpolate linearly between the independent values, and divide by the standard deviation of the result.
    time = torch.arange(frames, device=period.device)[:, None] / period
    before = time.long()
    knots = draws.normal(name, shape=(frames + 1, len(period)))
    first, second = (knots.gather(1, (before + after).expand(len(knots), -1, -1)) for after in (0, 1))
    between = time - before
    return (first * (1 - between) + second * between) / (between**2 + (1 - between) ** 2).sqrt()


@functools.cache
def _table(device: torch.device) -> dict[str, Tensor]:
    """Return the columns of REMOVED and ADDED with one entry per rectangle: [f], or [2, f] for both ends of a range."""
    rectangles = [patch for patch in (*REMOVED.values(), *ADDED.values()) for _ in range(patch.count)]
    columns = {name: [getattr(patch, name) for patch in rectangles] for name in Patch._fields[1:]}
    return {name: torch.tensor(values, device=device).movedim(-1, 0) for name, values in columns.items()}


def _coverage(centre: Tensor, half: Tensor, first: int, last: int) -> Tensor:
    """Return how much of each cell a rectangle covers along one axis: 0 to 1, [q, s or 1, f, cells].

    Args:
        centre: centre of the rectangle, [q, s or 1, f].
        half: half of its extent, [q, f].
        first, last: number of the first cell, and number after the last cell.
    """
    cells = (torch.arange(first, last, device=centre.device) + 0.5) / CELLS
    return ((half[:, None, :, None] - (cells - centre[..., None]).abs()) * (CELLS / _SOFT) + 0.5).clamp(0, 1)


def noise_cells(draws: Draws, place_draws: Draws, take_draws: Draws, strength: float, visible: Tensor) -> Tensor:
    """Return the strength of the noise in each cell of the grid, uint8 [q, s, i, j].

    Even values remove pixels, and odd values add pixels. Values below 4 have no effect.

    Args:
        draws: random numbers that decide when a rectangle is present.
        place_draws: random numbers that decide which rectangles a sequence has, and where they are.
        take_draws: random numbers that decide the same for the rectangles of clothes, which all views of a take share.
        visible: bool [q, s], whether a frame shows a figure; frames without a figure have no noise.
    """
    # Random numbers per rectangle, [q, f] by name.
    table = _table(visible.device)
    shape = len(table["chance"]), len(_DRAWN)
    numbers = (one.uniform("rectangles", shape=shape) for one in (take_draws, place_draws))
    drawn = dict(zip(_DRAWN, torch.where(table["clothes"][:, None], *numbers).unbind(-1), strict=True))

    def within(name: str, power: int = 1) -> Tensor:
        low, high = table[name]
        return low + drawn[name] ** power * (high - low)

    # Level of each rectangle, [q, s, f]. It is 0 if the sequence lacks the rectangle. Otherwise, it follows the course.
    severity = severities(place_draws, take_draws, strength)[:, None]
    level = within("level") * (drawn["present"] < table["chance"] * severity)
    course = courses(draws, "comes and goes", visible.shape[1], table["period"])
    level = level[:, None] * ((torch.special.ndtri(within("share"))[:, None] - course) * _STEEPNESS).clamp(0, 1)
    level = level * visible[..., None]

    # Coverage of rows and columns of the grid, [q, s, f, i or j], in integer steps.
    time = torch.arange(visible.shape[1], device=visible.device)[:, None] - 80 * drawn["begin"][:, None]
    shift = table["drift"] * (2 * drawn["drift"][:, None] - 1) * time
    side = torch.where(drawn["side"] < 0.5, -1, 1)
    down = _coverage(within("row")[:, None], within("tall", 2), -CELLS_ABOVE, CELLS + CELLS_ABOVE) * level[..., None]
    across = _coverage((within("column") * side)[:, None] + shift, within("wide", 2), -CELLS_ASIDE, CELLS_ASIDE)
    down, across = (down * _STEPS).round(), (across * _STEPS).round()

    # Sum the rectangles that remove pixels, and sum the rectangles that add pixels. The larger sum decides.
    def summed(rectangles: slice) -> Tensor:
        sums = down[:, :, rectangles].transpose(2, 3) @ across[:, :, rectangles]
        return sums.clamp_(max=255).to(torch.uint8)

    removing = sum(patch.count for patch in REMOVED.values())
    return torch.maximum(summed(slice(removing)) & 254, summed(slice(removing, None)) | 1)
