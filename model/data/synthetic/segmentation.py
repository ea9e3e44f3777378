"""What background subtraction does to a silhouette: torn torsos, lost heads and shanks, holes, shadows, specks.

Faults are soft rectangles on a coarse grid that moves with the body (`FAULTS`, one line a kind): where clothes look like
what is behind them, a band of the body is missing for many frames; what comes and goes does so by a smooth random
course. A grain decides pixel by pixel where a rectangle is weak, and frays the outline. Last, as the authors of real
silhouettes do, 3x3 squares close and open the mask: hence the blocky outlines.

q sequences, s frames, h x w pixels of a canvas, f rectangles, i x j cells of the grid.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from model.data.draws import Draws

MARGIN = 24  # pixels of free space that a canvas has on every side of its largest figure

CELLS = 28  # of the grid to the height of a figure
ABOVE, BESIDE = 9, 20  # cells above the figure (and below it), and to each side of its middle
_STEPS = 16  # of the strength and of the cover of a cell: products and sums of these are exact on every device

GRAIN = 128, 256  # rows, columns after which the grain repeats
DENSITIES = (
    0.0,
    0.05,
    0.12,
    0.25,
    0.5,
    1.0,
)  # share of the outline that grows or is eaten, a grain of its own for each pair


class Fault(NamedTuple):
    """Up to `count` rectangles of a kind, each present in a sequence with `chance` x severity, then for `share` of its
    frames. Lengths are fractions of the figure's height, ranges are uniform, sizes (half of the extent) log-uniform."""

    name: str
    count: int
    chance: float
    share: tuple[float, float]
    period: float  # frames over which the course changes
    row: tuple[float, float]  # centre, from the top of the figure
    tall: tuple[float, float]
    column: tuple[float, float]  # centre, from the middle of the figure; its side is drawn
    wide: tuple[float, float]
    level: tuple[float, float]  # 1: nothing remains (or all is added); below, the grain decides
    drift: float = 0.0  # at most, per frame: stays in the picture while the figure walks
    shared: bool = False  # by all views of a take: clothes
    adds: bool = False


FAULTS = (
    Fault("band", 2, 0.30, (0.05, 0.9), 9, (0.15, 0.6), (0.012, 0.06), (0.0, 0.0), (0.5, 0.6), (0.6, 1.2), shared=True),
    Fault("side", 2, 0.25, (0.1, 0.9), 12, (0.2, 0.5), (0.015, 0.06), (0.0, 0.2), (0.05, 0.15), (0.6, 1.2), shared=True),
    Fault("torn", 2, 0.30, (0.03, 0.2), 5, (0.15, 0.6), (0.02, 0.08), (0.0, 0.3), (0.1, 0.5), (0.4, 1.1), drift=0.03),
    Fault("head", 1, 0.15, (0.03, 0.3), 4, (0.0, 0.1), (0.02, 0.05), (0.0, 0.04), (0.03, 0.2), (0.5, 1.1)),
    Fault("neck", 1, 0.10, (0.05, 0.6), 6, (0.13, 0.18), (0.01, 0.03), (0.0, 0.0), (0.2, 0.3), (0.6, 1.2), shared=True),
    Fault("shank", 2, 0.20, (0.05, 0.4), 5, (0.72, 0.95), (0.02, 0.07), (0.0, 0.2), (0.1, 0.4), (0.5, 1.1), shared=True),
    Fault("hole", 4, 0.40, (0.02, 0.3), 3, (0.08, 0.9), (0.012, 0.03), (0.0, 0.12), (0.012, 0.04), (0.6, 1.1)),
    Fault("shred", 1, 0.25, (0.02, 0.15), 4, (0.3, 0.6), (0.3, 0.6), (0.0, 0.1), (0.3, 0.6), (0.15, 0.5)),
    Fault("wrong", 1, 0.20, (0.005, 0.02), 1, (0.2, 0.7), (0.2, 0.7), (0.0, 0.1), (0.3, 0.6), (0.3, 0.8)),
    Fault("shadow", 2, 0.25, (0.1, 0.8), 6, (0.96, 1.0), (0.01, 0.03), (0.0, 0.2), (0.1, 0.3), (0.3, 0.9), adds=True),
    Fault("beside", 2, 0.25, (0.05, 0.5), 5, (0.1, 0.9), (0.03, 0.15), (0.1, 0.25), (0.02, 0.06), (0.2, 0.7), adds=True),
    Fault("speck", 3, 0.20, (0.1, 0.9), 8, (-0.2, 0.9), (0.015, 0.03), (0.2, 0.6), (0.015, 0.04), (0.5, 1.0), 0.03, adds=True),
    Fault("clutter", 2, 0.05, (0.5, 1.0), 20, (-0.25, 0.6), (0.02, 0.15), (0.25, 0.6), (0.015, 0.03), (0.4, 1.0), 0.004, adds=True),
)  # fmt: skip

SPREAD_OF_TAKES, SPREAD_OF_VIEWS = 0.6, 0.6  # of the logarithm of the severity
FRAYED = 0.07  # share of the outline's pixels that grow, and that are eaten, at severity 1
SWELL = 0.6  # standard deviation, in pixels, of the whole outline's displacement
RENEWED = 0.7  # share of frames with a grain of their own; the others keep that of the frame before


def _column_of(field: str, device: torch.device) -> Tensor:
    """A field of `FAULTS`, once for each rectangle: [f] or, of ranges, [2, f]."""
    values = [getattr(fault, field) for fault in FAULTS for _ in range(fault.count)]
    return (
        torch.tensor(values, device=device).T if isinstance(values[0], tuple) else torch.tensor(values, device=device)
    )


def _course(draws: Draws, name: str, frames: int, period: Tensor) -> Tensor:
    """Smooth random courses [q, s, f] of about unit variance, each with a new value every `period` [f] frames.

    Time comes first in the draws, so a course does not depend on how many frames are asked for.
    """
    place = torch.arange(frames, device=period.device)[:, None] / period
    before = place.long()
    knots = draws.normal(name, shape=(frames + 1, len(period)))
    between = (place - before)[None]
    first, second = (knots.gather(1, (before + after).expand(len(knots), -1, -1)) for after in (0, 1))
    return (first * (1 - between) + second * between) / (between**2 + (1 - between) ** 2).sqrt()


def _drawn(draws: Draws, take_draws: Draws, strength: float, frames: int) -> dict[str, Tensor]:
    """The rectangles: `level` [q, s, f] and, in fractions of the height, `row`, `tall`, `column`, `wide` [q, s or 1, f]."""
    device = draws.keys.device
    shared = _column_of("shared", device)
    size = shared.shape

    def uniform(name: str) -> Tensor:
        return torch.where(shared, take_draws.uniform(name, shape=size), draws.uniform(name, shape=size))

    def within(name: str) -> Tensor:
        low, high = _column_of(name, device)
        return low + uniform(name) * (high - low)

    def extent(name: str) -> Tensor:
        low, high = _column_of(name, device).log()
        return (low + uniform(name) * (high - low)).exp()

    severity = severities(draws, take_draws, strength)[:, None]
    present = uniform("present") < _column_of("chance", device) * severity
    share = within("share").clamp(0.001, 0.999)
    course = _course(draws, "course", frames, _column_of("period", device))
    on = ((torch.special.ndtri(share)[:, None] - course) * 3).clamp(0, 1)
    side = draws.choice("side", 2, size) * 2 - 1
    drift = draws.uniform("drift", -1.0, 1.0, size) * _column_of("drift", device)
    begin = draws.uniform("begin", 0.0, 60.0, size)
    moved = drift[:, None] * (torch.arange(frames, device=device)[:, None] - begin[:, None])
    return {
        "level": on * (within("level") * present)[:, None],
        "row": within("row")[:, None],
        "tall": extent("tall")[:, None],
        "column": (within("column") * side)[:, None] + moved,
        "wide": extent("wide")[:, None],
    }


def severities(draws: Draws, take_draws: Draws, strength: float) -> Tensor:
    """How bad each of q sequences is, 1 the median at strength 1: float32 [q]."""
    of_take = take_draws.normal("severity of the take", 0.0, SPREAD_OF_TAKES)
    return strength * (of_take + draws.normal("severity of the view", 0.0, SPREAD_OF_VIEWS)).exp()


def _cover(cells: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    """How much of each cell [n], given by its middle, lies within centre +- half [q, s, f]: 0 .. 1 [q, s, f, n]."""
    inside = (half[..., None] - (cells - centre[..., None]).abs()) * CELLS + 0.5
    return inside.clamp(0, 1)


def _cells(draws: Draws, take_draws: Draws, strength: float, frames: int) -> Tensor:
    """Codes of the grid's cells, uint8 [q, s, i, j]: odd where the figure is lost, even where something is added, the
    larger the surer."""
    device = draws.keys.device
    drawn = _drawn(draws, take_draws, strength, frames)
    rows = (torch.arange(-ABOVE, CELLS + ABOVE, device=device) + 0.5) / CELLS
    columns = (torch.arange(-BESIDE, BESIDE, device=device) + 0.5) / CELLS
    over = _cover(rows, drawn["row"], drawn["tall"]) * drawn["level"][..., None]
    over = (over * _STEPS).round()  # up to 20, so that products and sums of whole numbers stay exact
    across = (_cover(columns, drawn["column"], drawn["wide"]) * _STEPS).round()
    adds = _column_of("adds", device)
    lost, added = (
        torch.matmul(over[:, :, kind].transpose(2, 3), across[:, :, kind]).clamp(max=_STEPS**2 - 1) // 2
        for kind in (~adds, adds)
    )
    return torch.where(lost >= added, 2 * lost + 1, 2 * added).to(torch.uint8)


@functools.cache
def _grain(device: torch.device) -> Tensor:
    """Pixel noise, uint8 [pair of `DENSITIES` * rows, columns]: bits 2 to 7 a patchy field with uniform values, bit 0
    where the outline grows, bit 1 where it is eaten. Made on the host: the same everywhere."""
    rows, columns = GRAIN
    noise = Draws.of(0, "grain", torch.arange(3)).uniform("pixels", shape=GRAIN)

    def patchy(field: Tensor, tall: int, wide: int) -> Tensor:
        field = sum(field.roll(step, 0) for step in range(tall))
        field = sum(field.roll(step, 1) for step in range(wide))
        return field.flatten().argsort(stable=True).argsort(stable=True).view(GRAIN) / field.numel()

    field, grows, eaten = patchy(noise[0], 3, 4), patchy(noise[1], 3, 3), patchy(noise[2], 3, 3)
    high = (field * 62).long() * 4 + 4
    banks = [high + (grows < grow).long() + (eaten < eat).long() * 2 for grow in DENSITIES for eat in DENSITIES]
    return torch.cat(banks).to(torch.uint8).to(device)


def _fraying(draws: Draws, take_draws: Draws, strength: float, frames: int) -> Tensor:
    """Which pair of `DENSITIES` each frame has: int64 [q, s]."""
    device = draws.keys.device
    severity = severities(draws, take_draws, strength)[:, None].clamp(max=4)
    course = _course(draws, "fraying", frames, torch.tensor([6.0, 3.0], device=device))
    swell = draws.normal("swell", 0.0, SWELL)[:, None] * min(strength, 1.0) + 0.1 * severity * course[..., 0]
    frayed = FRAYED * severity * (0.5 * course[..., 1]).exp()
    limits = torch.tensor(DENSITIES, device=device)
    limits = (limits[1:] + limits[:-1]) / 2
    grow, eat = (torch.bucketize((frayed + way * swell).clamp(0, 1), limits) for way in (1, -1))
    return grow * len(DENSITIES) + eat


def _spread(x: Tensor, width: int) -> Tensor:
    """Dilation of uint8 masks, laid end to end in one row with free borders, by a 3x3 square."""
    y = x.clone()
    y[1:] |= x[:-1]
    y[:-1] |= x[1:]
    z = y.clone()
    z[width:] |= y[:-width]
    z[:-width] |= y[width:]
    return z


def _shrunk(x: Tensor, width: int) -> Tensor:
    """Erosion by a 3x3 square."""
    y = x.clone()
    y[1:] &= x[:-1]
    y[:-1] &= x[1:]
    z = y.clone()
    z[width:] &= y[:-width]
    z[:-width] &= y[width:]
    return z


def _smoothed(box: Tensor, over: int = 9) -> tuple[Tensor, Tensor]:
    """Sums of `box` over the frames around each that show a figure [q, s, 4], and how many they are (at least 1)."""
    seen = (box[..., 1] >= box[..., 0])[..., None]

    def around(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (0, 0, over // 2, over // 2)).unfold(1, over, 1).sum(-1)

    return around(box * seen), around(seen.long()).clamp(min=1)


def spoil(clean: Tensor, box: Tensor, draws: Draws, strength: float = 1.0, take_draws: Draws | None = None) -> Tensor:
    """Silhouettes as a segmentation would have found them: bool [q, s, h, w], black where `clean` shows nobody.

    clean       bool [q, s, h, w], canvases with `MARGIN` free pixels on every side of the largest figure
    box         int64 [q, s, 4]: first and last row, first and last column of the figure; last before first for nobody
    draws       of the q sequences
    strength    of the faults: 0 gives `clean` itself, 1 what ten people of CASIA-A show
    take_draws  of the q sequences' takes, for what all views of a take share: clothes
    """
    if strength < 0:
        raise ValueError(f"strength must not be negative, not {strength}")
    if strength == 0:
        return clean
    take_draws = draws if take_draws is None else take_draws
    device = clean.device
    q, s, h, w = clean.shape

    sums, count = _smoothed(box)
    height = (sums[..., 1] - sums[..., 0] + count[..., 0]).clamp(min=1)[..., None]
    y, x = torch.arange(h, device=device), torch.arange(w, device=device)
    row = (y * count - sums[..., :1]) * CELLS // height + ABOVE
    column = (x * 2 * count - sums[..., 2:3] - sums[..., 3:]) * CELLS // (2 * height) + BESIDE
    cells = _cells(draws, take_draws, strength, s)
    i, j = cells.shape[2:]
    code = cells.gather(2, row.clamp(0, i - 1)[..., None].expand(-1, -1, -1, j))
    code = code.gather(3, column.clamp(0, j - 1)[:, :, None].expand(-1, -1, h, -1)).view(-1)

    kept = draws.uniform("renewed", shape=(s,)) < RENEWED
    offset = draws.choice("grain", GRAIN[0] * GRAIN[1], (s,)).gather(1, kept.cumsum(1).clamp(max=s - 1))
    lines = (y - box[..., :1] + (offset // GRAIN[1])[..., None]) % GRAIN[0]
    lines = lines + _fraying(draws, take_draws, strength, s)[..., None] * GRAIN[0]
    start = (offset - (box[..., 2] + box[..., 3]) // 2) % GRAIN[1]
    grain = _grain(device)
    grain = (
        torch.cat([grain] * (w // GRAIN[1] + 2), 1).unfold(1, w, 1)[lines, start[..., None].expand(-1, -1, h)].view(-1)
    )

    figure = clean.reshape(-1).view(torch.uint8)
    frayed = figure | (_spread(figure, w) & grain)
    frayed &= _shrunk(figure, w) | (grain >> 1) ^ 1
    frayed &= 1
    flips = (grain < code).view(torch.uint8) & ((code ^ frayed) & 1 ^ 1)
    raw = (frayed ^ flips).view(q, s, h, w)
    # Nothing beyond what a canvas around this figure alone would hold, whatever else is in the batch; the last three
    # pixels stay free for the squares that close and open.
    near = MARGIN - 3
    rows = (y >= box[..., :1] - near) & (y <= box[..., 1:2] + near) & (box[..., 1:2] >= box[..., :1])
    columns = (x >= box[..., 2:3] - near) & (x <= box[..., 3:] + near)
    raw &= (rows[..., None] & columns[..., None, :]).view(torch.uint8)
    closed = _shrunk(_spread(raw.view(-1), w), w)
    return _spread(_shrunk(closed, w), w).view(torch.bool).view(q, s, h, w)
