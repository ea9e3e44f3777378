"""Degrade clean silhouettes as background subtraction does: add holes, ragged or thick outlines, and specks.

`noise.py` decides where on the body and when pixels are removed or added. The grain, an image of random blotches,
decides for each pixel where this noise is weak. The grain also makes the outline ragged. Finally, the mask is closed
and opened by a 3x3 square. The makers of CASIA-A probably did the same, because opening by this square does not change
any silhouette of CASIA-A. The result has blocky outlines without details smaller than three pixels.

Shapes: q sequences, s frames, h x w pixels of a crop.
"""

import functools

import torch
from torch import Tensor
from torch.nn.functional import pad

from model.common.counter_random import Draws
from model.devices import triton_support
from model.synthetic.noise import CELLS, CELLS_ABOVE, CELLS_ASIDE, courses, noise_cells, severities

MARGIN = 24  # free pixels on every side of the largest figure in its crop

RAGGEDNESS = 0.03  # at severity 1, fraction of the outline pixels that are added, and equal fraction that is removed
GROWTH = 0.5, 0.5  # outward displacement of the outline in pixels: mean and standard deviation over sequences
GROWTH_CHANGE = 0.03  # standard deviation of the displacement over time, at severity 1
NEW_GRAIN = 0.2  # fraction of the frames with a new grain; the other frames keep the grain of the frame before

_BORDER = 3  # black pixels at the edge of a crop; crops are adjacent in memory, and 3x3 squares must not mix them
_GRAIN_SIZE = 128, 256  # rows and columns after which the grain repeats
# Densities of added and of removed outline pixels. There is one grain for each pair of densities.
_DENSITIES = 0.0, 0.04, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0


def _grid_positions(
    cells: Tensor, box: Tensor, visible: Tensor, size: tuple[int, int], window: int = 9
) -> tuple[Tensor, Tensor]:
    """Return the grid row [q, s, h] of each row of pixels, and the grid column [q, s, w] of each column of pixels.

    Positions are relative to the top and the middle of the figure, in units of the height of the figure, which is
    averaged over `window` frames. The last row and the last column of the grid contain no noise. All numbers are
    integers, so that the result is the same on every device.
    """

    def around(x: Tensor) -> Tensor:
        return pad(x, (window // 2, window // 2)).unfold(1, window, 1).sum(-1)[..., None]

    top, bottom, left, right = box[..., None].unbind(-2)
    count = around(visible.long()).clamp(min=1)
    height = around(((bottom - top + 1)[..., 0]) * visible).clamp(min=1)  # mean height, multiplied by `count`
    h, w = size
    y, x = torch.arange(h, device=box.device), torch.arange(w, device=box.device)
    lines, columns = cells.shape[2] - 1, cells.shape[3] - 1
    row = ((y - top) * count * CELLS // height + CELLS_ABOVE).clamp(0, lines - 1)
    column = ((2 * x - left - right) * count * CELLS // (2 * height) + CELLS_ASIDE).clamp(0, columns - 1)
    # A crop has the size of the largest figure. A smaller figure has no noise beyond its own margins.
    near = MARGIN - _BORDER
    row = row.masked_fill((y < top - near) | (y > bottom + near), lines)
    return row, column.masked_fill((x < left - near) | (x > right + near), columns)


@functools.lru_cache(maxsize=2)
def _grains(device: torch.device) -> Tensor:
    """Return the grains, uint8 [pairs of densities x rows, columns].

    Bits 2 to 7 are a random number, so a byte is between 4 and 251. Bit 0 is set where the outline grows, bit 1 is set
    where the outline is kept. The grains are computed on the CPU, so that they are equal on all devices.
    """
    noise = Draws.of(0, "grain", torch.arange(3)).uniform("pixels", shape=_GRAIN_SIZE)

    def blotches(field: Tensor, tall: int, wide: int) -> Tensor:
        """Return values that are uniformly distributed from 0 to 1 and similar within `tall` x `wide` pixels."""
        field = sum(field.roll(step, 0) for step in range(tall))
        field = sum(field.roll(step, 1) for step in range(wide))
        return field.flatten().argsort(stable=True).argsort(stable=True).view(_GRAIN_SIZE) / field.numel()

    field, grow, eat = blotches(noise[0], 3, 4), blotches(noise[1], 3, 3), blotches(noise[2], 3, 3)
    # Put the random numbers into bits 2 to 7, and add the two outline bits for each pair of densities.
    field = (field * 62).long() * 4 + 4
    pairs = [field + (grow < grows) + 2 * (eat >= eats) for grows in _DENSITIES for eats in _DENSITIES]
    return torch.cat(pairs).to(torch.uint8).to(device)


@functools.lru_cache(maxsize=8)
def _lines_of_grains(width: int, device: torch.device) -> Tensor:
    """Return `width` pixels of `_grains` from each position on, uint8 [rows of `_grains`, columns, width].

    After the last column, the first column follows.
    """
    return _grains(device).repeat(1, width // _GRAIN_SIZE[1] + 2).unfold(1, width, 1)


def _grain_positions(draws: Draws, place_draws: Draws, take_draws: Draws, strength: float, box: Tensor, h: int):
    """Return the position of each frame in `_grains`, which moves with the figure.

    Returns:
        Row [q, s, h] of `_grains` for each row of pixels, and column [q, s, 1] of `_grains` for the first pixel.
    """
    # Densities of the outline pixels that are added (raggedness + growth) and that are removed (raggedness - growth),
    # each as the index of the nearest value in _DENSITIES.
    s, device = box.shape[1], box.device
    severity = severities(place_draws, take_draws, strength)[:, None].clamp(max=4)
    course = courses(draws, "frays and swells", s, torch.tensor([6.0, 3.0], device=device))
    growth = place_draws.normal("swell", *GROWTH)[:, None] * min(strength, 1.0)
    growth = growth + GROWTH_CHANGE * severity * course[..., 0]
    ragged = RAGGEDNESS * severity * (0.5 * course[..., 1]).exp()
    limits = torch.tensor(_DENSITIES, device=device)
    limits = (limits[1:] + limits[:-1]) / 2
    grow, eat = (torch.bucketize((ragged + sign * growth).clamp(0, 1), limits) for sign in (1, -1))

    # Random position of the figure within the grain, which changes only in frames that get a new grain.
    renewed = draws.chance("renewed", NEW_GRAIN, (s,)).cumsum(1).clamp(max=s - 1)
    place = draws.choice("place in the grain", _GRAIN_SIZE[0] * _GRAIN_SIZE[1], (s,)).gather(1, renewed)[..., None]
    rows = (torch.arange(h, device=device) + place // _GRAIN_SIZE[1] - box[..., :1]) % _GRAIN_SIZE[0]
    rows = rows + (grow * len(_DENSITIES) + eat)[..., None] * _GRAIN_SIZE[0]
    return rows, (place - (box[..., 2:3] + box[..., 3:]) // 2) % _GRAIN_SIZE[1]


def _square(combine, x: Tensor, width: int, between: Tensor, out: Tensor) -> Tensor:
    """Combine each pixel with its eight neighbours: bitwise_or dilates by a 3x3 square, bitwise_and erodes.

    Args:
        x: flattened masks, uint8 [n], in rows of `width` pixels; the pixels at the borders of the masks are 0.
        between, out: buffers that are overwritten, uint8 [n]; `out` may be `x`.
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
        box: int64 [q, s, 4], first row, last row, first column and last column of the figure. Without a figure, the
            first row is after the last row.
        draws: random numbers of the sequences.
        strength: above 0; 1 is the noise of ten people of CASIA-A.
        take_draws: random numbers of the clothes of each sequence, for the noise that all views of a take share.
        place_draws: random numbers of the clothes in front of each camera. They decide which noise a sequence has,
            where it is and how severe it is.
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
    """Return the degraded pixels, uint8 [q * s * h * w], with torch operations on bytes, most of them in place."""
    # Value of the noise and of the grain at each pixel.
    (line, column), (grain_line, first), (h, w) = places, grain, clean.shape[2:]
    code = cells.gather(2, line[..., None].expand(-1, -1, -1, cells.shape[3]))
    code = code.gather(3, column[:, :, None].expand(-1, -1, h, -1)).view(-1)
    grain = _lines_of_grains(w, clean.device)[grain_line, first.expand_as(grain_line)].view(-1)
    figure = clean.contiguous().view(-1).view(torch.uint8)
    # Ragged outline: dilate where bit 0 of the grain is set, and erode where bit 1 of the grain is not set.
    grow, erode = torch.bitwise_or, torch.bitwise_and
    between, ragged, kept = (torch.empty_like(figure) for _ in range(3))

    _square(grow, figure, w, between, ragged).bitwise_and_(grain).bitwise_or_(figure)
    decided = torch.lt(grain, code).view(torch.uint8)
    ragged &= _square(erode, figure, w, between, kept).bitwise_or_(grain.bitwise_right_shift_(1))
    # Where the noise exceeds the grain, the lowest bit of the noise replaces the pixel (0: removed, 1: added).
    raw = ragged.bitwise_xor_(decided.bitwise_and_(code.bitwise_xor_(ragged)))
    # Close, then open.
    for combine in (grow, erode, erode, grow):
        _square(combine, raw, w, between, raw)
    return raw
