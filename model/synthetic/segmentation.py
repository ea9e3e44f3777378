"""What background subtraction does to a silhouette: it tears, frays, swells and litters it.

`faults.py` says where on the body and when. A grain of random patches decides pixel by pixel where a fault is weak,
and frays the outline. Last a 3x3 square closes and opens the mask, as the makers of the real silhouettes did (all those
of CASIA-A are open to it): hence blocks, and no detail finer than three pixels.

q sequences, s frames, h x w pixels of a canvas.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn.functional import pad

from model.common.counter_random import Draws
from model.devices import triton_support
from model.synthetic.noise import ABOVE, BESIDE, CELLS, courses, fault_cells, severities

MARGIN = 24  # pixels of free space that a canvas has on every side of its largest figure

FRAYED = 0.03  # share of the outline's pixels that grow, and that are eaten, at severity 1
SWELL = 0.5, 0.5  # mean and standard deviation over sequences, in pixels, of the outline's displacement
BREATH = 0.03  # standard deviation of it over time, at severity 1
RENEWED = 0.2  # share of frames with a grain of their own; the others keep that of the frame before

_BORDER = 3  # pixels of the margin that stay black: masks lie end to end, and no square may reach from one to another
_GRAIN = 128, 256  # rows, columns after which the grain repeats
_DENSITIES = 0.0, 0.04, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0  # of growing and of eaten pixels; each pair has its grain


def _places(cells: Tensor, box: Tensor, seen: Tensor, h: int, w: int, over: int = 9) -> tuple[Tensor, Tensor]:
    """Line [q, s, h] and column [q, s, w] of the grid in which each row and column of pixels is; the last ones of the
    grid are those where nothing is. Rows count from the figure's top, columns from its middle, all in units of its
    height, a mean over the `over` frames around. In whole numbers: the same on every device."""

    def around(x: Tensor) -> Tensor:
        return pad(x, (over // 2, over // 2)).unfold(1, over, 1).sum(-1)[..., None]

    top, bottom, left, right = box[..., None].unbind(-2)
    count = around(seen.long()).clamp(min=1)
    height = around(((bottom - top + 1)[..., 0]) * seen).clamp(min=1)  # times count
    y, x = torch.arange(h, device=box.device), torch.arange(w, device=box.device)
    lines, columns = cells.shape[2] - 1, cells.shape[3] - 1
    row = ((y - top) * count * CELLS // height + ABOVE).clamp(0, lines - 1)
    column = ((2 * x - left - right) * count * CELLS // (2 * height) + BESIDE).clamp(0, columns - 1)
    # A canvas may be larger than this figure's margins: for another figure of the batch. There is nothing beyond.
    near = MARGIN - _BORDER
    row = row.masked_fill((y < top - near) | (y > bottom + near), lines)
    return row, column.masked_fill((x < left - near) | (x > right + near), columns)


@functools.lru_cache(maxsize=2)
def _grains(device: torch.device) -> Tensor:
    """Grains, uint8 [pair of densities x rows, columns].

    Bits 2 to 7 are uniform from 4 to 251 (as byte), bit 0 is set where the outline grows, bit 1 where it is not eaten.
    Made on the host, so the same everywhere.
    """
    noise = Draws.of(0, "grain", torch.arange(3)).uniform("pixels", shape=_GRAIN)

    def patches(field: Tensor, tall: int, wide: int) -> Tensor:
        """Uniform from 0 to 1, alike within `tall` x `wide` pixels."""
        field = sum(field.roll(step, 0) for step in range(tall))
        field = sum(field.roll(step, 1) for step in range(wide))
        return field.flatten().argsort(stable=True).argsort(stable=True).view(_GRAIN) / field.numel()

    field, grow, eat = patches(noise[0], 3, 4), patches(noise[1], 3, 3), patches(noise[2], 3, 3)
    field = (field * 62).long() * 4 + 4
    pairs = [field + (grow < grows) + 2 * (eat >= eats) for grows in _DENSITIES for eats in _DENSITIES]
    return torch.cat(pairs).to(torch.uint8).to(device)


@functools.lru_cache(maxsize=8)
def _lines_of_grains(width: int, device: torch.device) -> Tensor:
    """uint8 [rows of `_grains`, columns, width]: the `width` pixels from each place on, around the end."""
    return _grains(device).repeat(1, width // _GRAIN[1] + 2).unfold(1, width, 1)


def _grain(draws: Draws, place_draws: Draws, take_draws: Draws, strength: float, box: Tensor, h: int):
    """Where in `_grains` the pixels of each frame are: row [q, s, h] of each of theirs, column [q, s, 1] of the first.
    It moves with the figure."""
    s, device = box.shape[1], box.device
    severity = severities(place_draws, take_draws, strength)[:, None].clamp(max=4)
    course = courses(draws, "frays and swells", s, torch.tensor([6.0, 3.0], device=device))
    swell = place_draws.normal("swell", *SWELL)[:, None] * min(strength, 1.0) + BREATH * severity * course[..., 0]
    frayed = FRAYED * severity * (0.5 * course[..., 1]).exp()
    limits = torch.tensor(_DENSITIES, device=device)
    limits = (limits[1:] + limits[:-1]) / 2
    grow, eat = (torch.bucketize((frayed + way * swell).clamp(0, 1), limits) for way in (1, -1))

    renewed = draws.chance("renewed", RENEWED, (s,)).cumsum(1).clamp(max=s - 1)
    place = draws.choice("place in the grain", _GRAIN[0] * _GRAIN[1], (s,)).gather(1, renewed)[..., None]
    rows = (torch.arange(h, device=device) + place // _GRAIN[1] - box[..., :1]) % _GRAIN[0]
    rows = rows + (grow * len(_DENSITIES) + eat)[..., None] * _GRAIN[0]
    return rows, (place - (box[..., 2:3] + box[..., 3:]) // 2) % _GRAIN[1]


def _squared(combine, x: Tensor, width: int, between: Tensor, out: Tensor) -> Tensor:
    """Every pixel combined with its eight neighbours: bitwise_or dilates by a 3x3 square, bitwise_and erodes.

    Masks uint8 [n] lie end to end, `width` pixels a row, and are black at their borders. `between` and `out` are
    overwritten; `out` may be `x`.
    """
    for source, step, target in ((x, 1, between), (between, width, out)):
        target[:step] = target[-step:] = 0
        combine(source[2 * step :], source[: -2 * step], out=target[step:-step])
        combine(source[step:-step], target[step:-step], out=target[step:-step])
    return out


def spoil(
    clean: Tensor,
    box: Tensor,
    draws: Draws,
    strength: float = 1.0,
    take_draws: Draws | None = None,
    place_draws: Draws | None = None,
) -> Tensor:
    """Silhouettes as background subtraction would have found them: bool [q, s, h, w].

    clean       bool [q, s, h, w], canvases with `MARGIN` free pixels on every side of the largest figure
    box         int64 [q, s, 4]: first and last row, first and last column of the figure; last before first for nobody
    draws       of the q sequences
    strength    0 gives `clean` itself, 1 what ten people of CASIA-A show
    take_draws  of the q sequences' clothes, for what all views of them share (default: `draws`)
    place_draws of the q sequences' clothes before their cameras, for which faults there are, where and how bad
                (default: `draws`)

    What a sequence becomes depends neither on other sequences nor on how much larger than its margins a canvas is.
    Frames that show nobody stay empty. Raises ValueError for a negative strength.
    """
    if strength < 0:
        raise ValueError(f"strength must not be negative, not {strength}")
    if strength == 0:
        return clean
    take_draws = draws if take_draws is None else take_draws
    place_draws = draws if place_draws is None else place_draws
    h, w = clean.shape[2:]
    seen = box[..., 1] >= box[..., 0]

    cells = pad(fault_cells(draws, place_draws, take_draws, strength, seen), (0, 1, 0, 1))
    places, grain = _places(cells, box, seen, h, w), _grain(draws, place_draws, take_draws, strength, box, h)
    if triton_support.works(clean.device):
        from model.synthetic import kernels

        figure, cells = clean.view(torch.uint8).flatten(0, 1), cells.flatten(0, 1)
        places, grain = ([x.flatten(0, 1).int() for x in pair] for pair in (places, grain))
        raw = kernels.spoil(figure, cells, places, _grains(clean.device), grain)
    else:
        raw = _worn(clean, cells, places, grain)
    return raw.view(torch.bool).view(clean.shape)


def _worn(clean: Tensor, cells: Tensor, places: tuple[Tensor, Tensor], grain: tuple[Tensor, Tensor]) -> Tensor:
    """The pixels, uint8 [q * s * h * w], with torch's own operations: each on a byte a pixel, most of them in place."""
    (line, column), (grain_line, first), (h, w) = places, grain, clean.shape[2:]
    code = cells.gather(2, line[..., None].expand(-1, -1, -1, cells.shape[3]))
    code = code.gather(3, column[:, :, None].expand(-1, -1, h, -1)).view(-1)
    grain = _lines_of_grains(w, clean.device)[grain_line, first.expand_as(grain_line)].view(-1)
    figure = clean.contiguous().view(-1).view(torch.uint8)
    grow, erode = torch.bitwise_or, torch.bitwise_and
    between, frayed, kept = (torch.empty_like(figure) for _ in range(3))

    _squared(grow, figure, w, between, frayed).bitwise_and_(grain).bitwise_or_(figure)
    lost_or_added = torch.lt(grain, code).view(torch.uint8)
    frayed &= _squared(erode, figure, w, between, kept).bitwise_or_(grain.bitwise_right_shift_(1))
    raw = frayed.bitwise_xor_(lost_or_added.bitwise_and_(code.bitwise_xor_(frayed)))
    for combine in (grow, erode, erode, grow):  # closes, then opens
        _squared(combine, raw, w, between, raw)
    return raw
