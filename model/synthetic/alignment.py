"""Alignment of many silhouettes at once, on any device: what `model.data.raw.silhouette.align` makes of each frame.

A bicubic resize is two matrix products, down and across. OpenCV computes in float32, too, and rounds once, so a pixel
differs by 1 where the two add in another order and the sum is half way between two whole numbers: hardly ever.

f frames, h and w of the cut-outs, j columns of the resized pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.data.raw.silhouette import ALIGNED_WIDTH, MIN_PIXEL_SUM
from model.data.raw.silhouette import HEIGHT as ALIGNED_HEIGHT
from model.data.raw.silhouette import WIDTH as KEPT_WIDTH
from model.synthetic.camera import WIDTH
from model.synthetic.render import Canvases

_SHARPNESS = -0.75  # OpenCV's A
_MOST_COLUMNS = 256  # of a resized cut-out; the rare picture of a small remnant is wider and takes a turn of its own


def align_canvases(canvases: Canvases) -> tuple[Tensor, Tensor]:
    """Aligned silhouettes of the frames that hold a usable person, uint8 [kept, 64, 44], and which those are [f]."""
    masks = canvases.masks
    filled = masks.any(2)
    rows = torch.arange(masks.shape[1], device=masks.device)
    first = torch.where(filled, rows, masks.shape[1]).amin(1)
    tall = torch.where(filled, rows, -1).amax(1) - first + 1
    usable = masks.flatten(1).sum(1) * 255 > MIN_PIXEL_SUM
    wide = torch.where(usable, ALIGNED_HEIGHT * WIDTH // tall.clamp(min=1), 0)  # of the whole resized frame
    columns = (masks.shape[2] + 8) * wide // WIDTH + 8
    aligned = masks.new_zeros(len(masks), ALIGNED_HEIGHT, KEPT_WIDTH, dtype=torch.uint8)
    for group in (usable & (columns <= _MOST_COLUMNS), usable & (columns > _MOST_COLUMNS)):
        chosen = group.nonzero()[:, 0]
        if len(chosen):
            parts = (x[chosen] for x in (masks, first, tall, wide, canvases.left))
            aligned[chosen], seen = _align(*parts, int(columns[chosen].amax()))
            usable[chosen] &= seen
    return aligned[usable], usable


def _align(masks: Tensor, first: Tensor, tall: Tensor, wide: Tensor, left: Tensor, columns: int):
    """Aligned frames [f, 64, 44] uint8, and which of them show anything [f]."""
    device = masks.device
    places, weights = _taps(torch.arange(ALIGNED_HEIGHT, device=device).expand(len(masks), -1), tall, ALIGNED_HEIGHT)
    places = places.clamp(torch.zeros_like(tall)[:, None, None], (tall - 1)[:, None, None]) + first[:, None, None]
    down = _matrix(places, weights, masks.shape[1])

    # The first column of the resized frame that the cut-out can have a part in, and the next `columns`.
    start = ((left - 3).clamp(min=0) * wide // WIDTH - 2).clamp(min=0)
    at = start[:, None] + torch.arange(columns, device=device)
    places, weights = _taps(at, torch.full_like(wide, WIDTH), wide)
    places = places.clamp(0, WIDTH - 1) - left[:, None, None]
    weights = torch.where((places >= 0) & (places < masks.shape[2]), weights, 0.0)  # beyond the cut-out all is black
    across = _matrix(places.clamp(0, masks.shape[2] - 1), weights, masks.shape[2])

    resized = (down @ masks.float() @ across.transpose(1, 2) * 255 + 0.5).floor().clamp(0, 255)
    resized = torch.where((at < wide[:, None])[:, None], resized, 0)
    running = resized.long().sum(1).cumsum(1)
    total = running[:, -1:]
    centre = (2 * running <= total).sum(1)  # the first column at which the running sum exceeds half of all
    beside = (ALIGNED_WIDTH // 2) - (ALIGNED_WIDTH - KEPT_WIDTH) // 2
    source = centre[:, None] - beside + torch.arange(KEPT_WIDTH, device=device)
    there = (source >= 0) & (source < columns)
    source = source.clamp(0, columns - 1)[:, None].expand(-1, ALIGNED_HEIGHT, -1)
    return (resized.gather(2, source) * there[:, None]).to(torch.uint8), total[:, 0] > 0


def _taps(at: Tensor, length: Tensor, resized: Tensor | int) -> tuple[Tensor, Tensor]:
    """The four pixels that each resized pixel `at` [f, n] is made of, and their weights, [f, n, 4].

    A line of `length` [f] pixels becomes one of `resized`. Pixels may lie outside the line.
    """
    if not isinstance(resized, Tensor):
        resized = torch.full_like(length, resized)
    scale = 1.0 / (resized.double() / length.double())
    where = ((at.double() + 0.5) * scale[:, None] - 0.5).float()
    before = where.floor()
    x = where - before
    a = _SHARPNESS
    first = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    second = ((a + 2) * x - (a + 3)) * x * x + 1
    third = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    weights = torch.stack([first, second, third, 1 - first - second - third], -1)
    places = before.long()[..., None] + torch.arange(-1, 3, device=at.device)
    return places, weights


def _matrix(places: Tensor, weights: Tensor, length: int) -> Tensor:
    """[f, n, length] with the weights at their places, added up where places coincide."""
    matrix = weights.new_zeros(*places.shape[:2], length)
    return matrix.scatter_add_(2, places, weights)
