"""Align many silhouettes at once on any device, with the result of `model.data.raw.silhouette.align`.

A bicubic resize consists of two matrix products, one along the columns and one along the rows. OpenCV also computes in
float32 and rounds once, but it sums in a different order. Therefore a pixel differs by 1 in the rare case that a sum is
close to the middle between two integers.

Shapes: f frames, h x w pixels of the crops.
"""

import torch
from torch import Tensor

from model.common.geometry import ALIGNED_WIDTH, FRAME_HEIGHT, FRAME_WIDTH
from model.data.raw.silhouette import MIN_PIXEL_SUM
from model.synthetic.camera import IMAGE_WIDTH
from model.synthetic.render import Crops, extent

_CUBIC = -0.75  # parameter A of OpenCV's bicubic kernel
_MAX_COLUMNS = 256  # of a resized crop; wider crops (of small remnants of a figure) are rare and are resized separately


def align_crops(crops: Crops) -> tuple[Tensor, Tensor]:
    """Align all frames that show enough of a person.

    Returns:
        Aligned silhouettes of the kept frames, uint8 [kept, 64, 44], and whether each frame is kept, bool [f].
    """
    # Rows of each figure, and the size of the whole resized frame.
    masks = crops.masks
    first, last = extent(masks.any(2)).unbind(1)
    tall = last - first + 1
    usable = masks.flatten(1).sum(1) * 255 > MIN_PIXEL_SUM
    wide = torch.where(usable, FRAME_HEIGHT * IMAGE_WIDTH // tall.clamp(min=1), 0)
    # Align all frames of usual width together, and then the few wide frames.
    columns = (masks.shape[2] + 8) * wide // IMAGE_WIDTH + 8
    aligned = masks.new_zeros(len(masks), FRAME_HEIGHT, FRAME_WIDTH, dtype=torch.uint8)
    for group in (usable & (columns <= _MAX_COLUMNS), usable & (columns > _MAX_COLUMNS)):
        chosen = group.nonzero()[:, 0]
        if len(chosen):
            parts = (x[chosen] for x in (masks, first, tall, wide, crops.left))
            aligned[chosen], visible = _align(*parts, int(columns[chosen].amax()))
            usable[chosen] &= visible
    return aligned[usable], usable


def _align(masks: Tensor, first: Tensor, tall: Tensor, wide: Tensor, left: Tensor, columns: int):
    """Return aligned frames, uint8 [f, 64, 44], and whether each resized crop has a white pixel, bool [f].

    Args:
        masks: crops, bool [f, h, w].
        first, tall: first row and number of rows of each figure, [f].
        wide: number of columns of the whole resized frame, [f].
        left: column of the first pixel of the crop in the frame, [f].
        columns: number of columns of the resized crops.
    """
    # Matrix that resizes the rows of the figure to 64 rows.
    device = masks.device
    rows = torch.arange(FRAME_HEIGHT, device=device).expand(len(masks), -1)
    positions, weights = _taps(rows, tall, torch.full_like(tall, FRAME_HEIGHT))
    positions = positions.clamp(torch.zeros_like(tall)[:, None, None], (tall - 1)[:, None, None]) + first[:, None, None]
    down = _matrix(positions, weights, masks.shape[1])

    # Matrix that resizes the columns, from the first column of the resized frame that can contain a part of the crop.
    # Pixels of the frame outside the crop are black.
    start = ((left - 3).clamp(min=0) * wide // IMAGE_WIDTH - 2).clamp(min=0)
    at = start[:, None] + torch.arange(columns, device=device)
    positions, weights = _taps(at, torch.full_like(wide, IMAGE_WIDTH), wide)
    positions = positions.clamp(0, IMAGE_WIDTH - 1) - left[:, None, None]
    weights = torch.where((positions >= 0) & (positions < masks.shape[2]), weights, 0.0)
    across = _matrix(positions.clamp(0, masks.shape[2] - 1), weights, masks.shape[2])

    resized = (down @ masks.float() @ across.transpose(1, 2) * 255 + 0.5).floor().clamp(0, 255)
    resized = torch.where((at < wide[:, None])[:, None], resized, 0)
    # The centre is the first column at which the cumulative sum of the pixels exceeds half of the total.
    cumulative = resized.long().sum(1).cumsum(1)
    total = cumulative[:, -1:]
    centre = (2 * cumulative <= total).sum(1)
    # Take the 44 columns around the centre: an aligned frame has 64 columns, of which training removes 10 on each side.
    before = (ALIGNED_WIDTH // 2) - (ALIGNED_WIDTH - FRAME_WIDTH) // 2
    source = centre[:, None] - before + torch.arange(FRAME_WIDTH, device=device)
    inside = (source >= 0) & (source < columns)
    source = source.clamp(0, columns - 1)[:, None].expand(-1, FRAME_HEIGHT, -1)
    return (resized.gather(2, source) * inside[:, None]).to(torch.uint8), total[:, 0] > 0


def _taps(at: Tensor, length: Tensor, resized: Tensor) -> tuple[Tensor, Tensor]:
    """Return the four source pixels of each resized pixel `at` [f, n] and their weights, [f, n, 4] each.

    A line of `length` [f] pixels is resized to `resized` [f] pixels. Source pixels may be outside the line.
    """
    scale = 1.0 / (resized.double() / length.double())
    position = ((at.double() + 0.5) * scale[:, None] - 0.5).float()
    before = position.floor()
    x, a = position - before, _CUBIC
    first = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    second = ((a + 2) * x - (a + 3)) * x * x + 1
    third = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    weights = torch.stack([first, second, third, 1 - first - second - third], -1)
    return before.long()[..., None] + torch.arange(-1, 3, device=at.device), weights


def _matrix(positions: Tensor, weights: Tensor, length: int) -> Tensor:
    """Return matrices [f, n, length] with the weights at their positions; weights at equal positions are added."""
    matrix = weights.new_zeros(*positions.shape[:2], length)
    return matrix.scatter_add_(2, positions, weights)
