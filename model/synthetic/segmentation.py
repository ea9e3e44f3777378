"""Degrade clean silhouettes as background subtraction does: holes, ragged outlines, growth, and specks.

`noise.py` decides where on the body and when pixels are removed or added. Where that noise is weak, a grain of random
blotches decides for each pixel; the grain also makes the outline ragged. Finally a 3x3 square closes and opens the
mask, as was done for the real silhouettes (opening with this square does not change any of CASIA-A). This gives blocky
outlines without details smaller than three pixels.

q sequences, s frames, h x w pixels of a crop.
"""

import functools

import torch
from torch import Tensor
from torch.nn.functional import pad

from model.common.counter_random import Draws
from model.devices import triton_support
from model.synthetic.noise import CELLS, CELLS_ABOVE, CELLS_ASIDE, courses, noise_cells, severities

MARGIN = 24  # free pixels on every side of the largest figure in its crop

RAGGEDNESS = 0.03  # fraction of outline pixels that are added, and that are removed, at severity 1
GROWTH = 0.5, 0.5  # displacement of the outline in pixels: mean and standard deviation over sequences
GROWTH_CHANGE = 0.03  # standard deviation of the displacement over time, at severity 1
NEW_GRAIN = 0.2  # fraction of frames with a new grain; the others keep the grain of the frame before

_BORDER = 3  # black pixels at the edge of a crop: crops are adjacent in memory, and the 3x3 squares must not mix them
_GRAIN_SIZE = 128, 256  # rows and columns after which the grain repeats
_DENSITIES = 0.0, 0.04, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0  # of added and of removed pixels; one grain per pair


def _grid_positions(
    cells: Tensor, box: Tensor, visible: Tensor, size: tuple[int, int], window: int = 9
) -> tuple[Tensor, Tensor]:
    """Return the grid row [q, s, h] of each row of pixels, and the grid column [q, s, w] of each column.

    Positions are relative to the top and the middle of the figure, in units of its height, which is averaged over
    `window` frames. The last row and column of the grid are empty. Integers give the same result on every device.
    """

    def around(x: Tensor) -> Tensor:
        return pad(x, (window // 2, window // 2)).unfold(1, window, 1).sum(-1)[..., None]

    top, bottom, left, right = box[..., None].unbind(-2)
    count = around(visible.long()).clamp(min=1)
    height = around(((bottom - top + 1)[..., 0]) * visible).clamp(min=1)  # count x mean height
    h, w = size
    y, x = torch.arange(h, device=box.device), torch.arange(w, device=box.device)
    lines, columns = cells.shape[2] - 1, cells.shape[3] - 1
    row = ((y - top) * count * CELLS // height + CELLS_ABOVE).clamp(0, lines - 1)
    column = ((2 * x - left - right) * count * CELLS // (2 * height) + CELLS_ASIDE).clamp(0, columns - 1)
    # The crop may be larger than this figure and its margins, because of a larger figure. No noise beyond the margins.
    near = MARGIN - _BORDER
    row = row.masked_fill((y < top - near) | (y > bottom + near), lines)
    return row, column.masked_fill((x < left - near) | (x > right + near), columns)


@functools.lru_cache(maxsize=2)
def _grains(device: torch.device) -> Tensor:
    """Return the grains, uint8 [pairs of densities x rows, columns].

    Bits 2 to 7 are a random number (as a byte from 4 to 251), bit 0 is set where the outline grows, bit 1 where the
    outline is kept. Computed on the CPU, so that the grains are equal on all devices.
    """
    noise = Draws.of(0, "grain", torch.arange(3)).uniform("pixels", shape=_GRAIN_SIZE)

    def blotches(field: Tensor, tall: int, wide: int) -> Tensor:
        """Return values that are uniform from 0 to 1 and similar within `tall` x `wide` pixels."""
        field = sum(field.roll(step, 0) for step in range(tall))
        field = sum(field.roll(step, 1) for step in range(wide))
        return field.flatten().argsort(stable=True).argsort(stable=True).view(_GRAIN_SIZE) / field.numel()

    field, grow, eat = blotches(noise[0], 3, 4), blotches(noise[1], 3, 3), blotches(noise[2], 3, 3)
    # Random numbers in bits 2 to 7, and the two outline bits for each pair of densities.
    field = (field * 62).long() * 4 + 4
    pairs = [field + (grow < grows) + 2 * (eat >= eats) for grows in _DENSITIES for eats in _DENSITIES]
    return torch.cat(pairs).to(torch.uint8).to(device)


@functools.lru_cache(maxsize=8)
def _lines_of_grains(width: int, device: torch.device) -> Tensor:
    """Return the `width` pixels from each position on, with wrap-around, uint8 [rows of `_grains`, columns, width]."""
    return _grains(device).repeat(1, width // _GRAIN_SIZE[1] + 2).unfold(1, width, 1)


def _grain_positions(draws: Draws, place_draws: Draws, take_draws: Draws, strength: float, box: Tensor, h: int):
    """Return the position of each frame in `_grains`: row [q, s, h] of each row of pixels, column [q, s, 1] of the
    first pixel. The grain moves with the figure."""
    # Densities of added and removed outline pixels: raggedness plus or minus growth, rounded to _DENSITIES.
    s, device = box.shape[1], box.device
    severity = severities(place_draws, take_draws, strength)[:, None].clamp(max=4)
    course = courses(draws, "frays and swells", s, torch.tensor([6.0, 3.0], device=device))
    growth = place_draws.normal("swell", *GROWTH)[:, None] * min(strength, 1.0)
    growth = growth + GROWTH_CHANGE * severity * course[..., 0]
    ragged = RAGGEDNESS * severity * (0.5 * course[..., 1]).exp()
    limits = torch.tensor(_DENSITIES, device=device)
    limits = (limits[1:] + limits[:-1]) / 2
    grow, eat = (torch.bucketize((ragged + sign * growth).clamp(0, 1), limits) for sign in (1, -1))

    # Position within the grain: random, kept until a frame gets a new grain, relative to the figure.
    renewed = draws.chance("renewed", NEW_GRAIN, (s,)).cumsum(1).clamp(max=s - 1)
    place = draws.choice("place in the grain", _GRAIN_SIZE[0] * _GRAIN_SIZE[1], (s,)).gather(1, renewed)[..., None]
    rows = (torch.arange(h, device=device) + place // _GRAIN_SIZE[1] - box[..., :1]) % _GRAIN_SIZE[0]
    rows = rows + (grow * len(_DENSITIES) + eat)[..., None] * _GRAIN_SIZE[0]
    return rows, (place - (box[..., 2:3] + box[..., 3:]) // 2) % _GRAIN_SIZE[1]


def _square(combine, x: Tensor, width: int, between: Tensor, out: Tensor) -> Tensor:
    """Combine each pixel with its eight neighbours: bitwise_or dilates by a 3x3 square, bitwise_and erodes.

    Args:
        x: flattened masks, uint8 [n], in rows of `width` pixels; the pixels at their borders are 0.
        between, out: overwritten; `out` may be `x`.
    """
    for source, step, target in ((x, 1, between), (between, width, out)):
        target[:step] = target[-step:] = 0
        combine(source[2 * step :], source[: -2 * step], out=target[step:-step])
        combine(source[step:-step], target[step:-step], out=target[step:-step])
    return out


def degrade(clean: Tensor, box: Tensor, draws: Draws, strength: float, take_draws: Draws, place_draws: Draws) -> Tensor:
    """Return silhouettes with segmentation noise, bool [q, s, h, w].

    The result of a sequence does not depend on the other sequences or on the size of the crop. Frames without a figure
    remain empty.

    Args:
        clean: bool [q, s, h, w], crops with `MARGIN` free pixels on every side of the largest figure.
        box: int64 [q, s, 4], first and last row, first and last column of the figure (last before first: no figure).
        draws: of the q sequences.
        strength: above 0; 1 is the noise of ten people of CASIA-A.
        take_draws: of the clothes of the q sequences, for the noise that all views share.
        place_draws: of the clothes in front of each camera; decide which noise there is, where, and its severity.
    """
    h, w = clean.shape[2:]
    visible = box[..., 1] >= box[..., 0]

    # Strength of the noise on the grid, and the position of each pixel in the grid and in the grain.
    cells = pad(noise_cells(draws, place_draws, take_draws, strength, visible), (0, 1, 0, 1))
    places = _grid_positions(cells, box, visible, (h, w))
    grain = _grain_positions(draws, place_draws, take_draws, strength, box, h)
    if triton_support.works(clean.device):
        from model.synthetic import kernels  # imports Triton, which not every machine has

        figure, cells = clean.view(torch.uint8).flatten(0, 1), cells.flatten(0, 1)
        places, grain = ([x.flatten(0, 1).int() for x in pair] for pair in (places, grain))
        raw = kernels.degrade(figure, cells, places, _grains(clean.device), grain)
    else:
        raw = _degrade_pixels(clean, cells, places, grain)
    return raw.view(torch.bool).view(clean.shape)


def _degrade_pixels(
    clean: Tensor, cells: Tensor, places: tuple[Tensor, Tensor], grain: tuple[Tensor, Tensor]
) -> Tensor:
    """Return the pixels, uint8 [q * s * h * w], computed with torch operations on bytes, most of them in place."""
    # Value of the noise and of the grain at each pixel.
    (line, column), (grain_line, first), (h, w) = places, grain, clean.shape[2:]
    code = cells.gather(2, line[..., None].expand(-1, -1, -1, cells.shape[3]))
    code = code.gather(3, column[:, :, None].expand(-1, -1, h, -1)).view(-1)
    grain = _lines_of_grains(w, clean.device)[grain_line, first.expand_as(grain_line)].view(-1)
    figure = clean.contiguous().view(-1).view(torch.uint8)
    # Ragged outline: dilate where the grain grows, erode where it does not keep the outline.
    grow, erode = torch.bitwise_or, torch.bitwise_and
    between, ragged, kept = (torch.empty_like(figure) for _ in range(3))

    _square(grow, figure, w, between, ragged).bitwise_and_(grain).bitwise_or_(figure)
    decided = torch.lt(grain, code).view(torch.uint8)
    ragged &= _square(erode, figure, w, between, kept).bitwise_or_(grain.bitwise_right_shift_(1))
    # Noise: where it exceeds the grain, its lowest bit replaces the pixel (0: removed, 1: added).
    raw = ragged.bitwise_xor_(decided.bitwise_and_(code.bitwise_xor_(ragged)))
    # Close, then open.
    for combine in (grow, erode, erode, grow):
        _square(combine, raw, w, between, raw)
    return raw
