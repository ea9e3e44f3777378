"""From figures to silhouettes: every convex part is filled row by row, the union is what the camera sees.

A convex part is seen as a convex polygon, whose corners are the points where it reaches farthest in a few
directions of the image. The polygon gives the left and right end of each of its rows; these go as +1 and -1
into a canvas, whose running sum along the rows counts the parts over each pixel. The cost is that of the
outlines, not of the areas.

f frames of all takes and cameras, k ellipsoids, p parts, d directions, n spans (rows of parts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.devices import triton_support
from model.synthetic.camera import HEIGHT, WIDTH, Cameras
from model.synthetic.figure import Figure

CORNERS = 11  # of a polygon on each side; a circle loses 1.2 % of its radius between two of them
_STEEPEST = 1e-4  # pixels between the rows of two corners below which the edge between them bounds no row
_NOWHERE = 1e6  # columns


@dataclass(frozen=True)
class Canvases:
    """Cut-outs `masks` bool [f, h, w] of frames around the figures; the first pixel of each is at row `top`, column
    `left` [f] of its frame. What lies outside the frame is empty. `box` int64 [f, 4] is where in its cut-out the
    figure is: first and last row, first and last column (last before first: nowhere)."""

    masks: Tensor
    top: Tensor
    left: Tensor
    box: Tensor

    def frames(self) -> Tensor:
        """Whole frames [f, HEIGHT, WIDTH] uint8, 0 and 255."""
        image = self.masks.new_zeros(len(self.masks), HEIGHT, WIDTH, dtype=torch.uint8)
        height, width = self.masks.shape[1:]
        filled = self.masks.to(torch.uint8) * 255
        for i, (y, x) in enumerate(zip(self.top.tolist(), self.left.tolist(), strict=True)):
            rows, columns = slice(max(y, 0), min(y + height, HEIGHT)), slice(max(x, 0), min(x + width, WIDTH))
            image[i, rows, columns] = filled[i, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        return image

    def within_frame(self, masks: Tensor) -> Canvases:
        """The same cut-outs with other `masks`, of which nothing is kept outside the frame."""
        rows = torch.arange(masks.shape[1], device=masks.device) + self.top[:, None]
        columns = torch.arange(masks.shape[2], device=masks.device) + self.left[:, None]
        inside = ((rows >= 0) & (rows < HEIGHT))[:, :, None] & ((columns >= 0) & (columns < WIDTH))[:, None]
        return Canvases(masks & inside, self.top, self.left, self.box)


def _directions(like: Tensor) -> Tensor:
    """Unit vectors [2 * CORNERS, 2] (column, row): up to down by way of the right, then by way of the left."""
    angles = torch.linspace(-90, 90, CORNERS, dtype=like.dtype, device=like.device) * (math.pi / 180)
    right = torch.stack([angles.cos(), angles.sin()], -1)
    return torch.cat([right, right * right.new_tensor([-1.0, 1.0])])


def outlines(figure: Figure, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Column and row of the corners of all parts, each [d, f, p] in pixels; the rows of parts not worn are NaN."""
    centres, axes = cameras.project(figure.centres, figure.axes)
    b, c, s = centres.shape[:3]
    centres, axes = centres.flatten(0, 2), axes.flatten(0, 2)
    directions = _directions(centres)
    across, down = directions[:, 0, None, None], directions[:, 1, None, None]

    # An ellipsoid with projected half axes A reaches n.c + |A'n| in direction n, at c + AA'n / |A'n|.
    xx, yy, xy = (axes[..., 0, :] ** 2).sum(-1), (axes[..., 1, :] ** 2).sum(-1), axes.prod(-2).sum(-1)
    length = (xx * across**2 + 2 * xy * across * down + yy * down**2).clamp(min=1e-12).sqrt()
    column = centres[..., 0] + (xx * across + xy * down) / length
    row = centres[..., 1] + (xy * across + yy * down) / length
    reach = column * across + row * down

    farthest = figure.parts[:, 0].expand(*reach.shape[:2], -1)
    best = reach[..., figure.parts[:, 0]]
    for member in figure.parts.T[1:]:
        other = reach[..., member]
        farthest = torch.where(other > best, member, farthest)
        best = torch.maximum(best, other)
    worn = figure.worn[:, None, None].expand(b, c, s, -1).flatten(0, 2)
    return column.gather(2, farthest), row.gather(2, farthest).masked_fill(~worn, math.nan)


def edges(column: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What bounds the rows of all n = f * p polygons: start and slope [2, e, n] of the edges to the right and to the
    left, first and last row [n].

    In row y a polygon reaches to the right as far as the least of start + slope * y of its edges to the right, and to
    the left, columns counted the other way, as far as the least of those to the left. Without rows (NaN): 240 and -1.
    """
    column, row = column.flatten(1), row.flatten(1)
    first = row[0].nan_to_num(HEIGHT).ceil().clamp(0, HEIGHT).int()
    last = row[CORNERS - 1].nan_to_num(-1).floor().clamp(-1, HEIGHT - 1).int()
    x, y = torch.stack([column[:CORNERS], -column[CORNERS:]]), row.view(2, CORNERS, -1)
    fall = y[:, 1:] - y[:, :-1]
    slope = (x[:, 1:] - x[:, :-1]) / fall
    flat = fall < _STEEPEST
    slope = slope.masked_fill(flat, 0.0)
    return (x[:, :-1] - slope * y[:, :-1]).masked_fill(flat, _NOWHERE), slope, first, last


def spans(start: Tensor, slope: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rows of all polygons of `edges`: which polygon, row, first column, column after the last, all [n]."""
    counts = (last - first + 1).clamp(min=0)
    which = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    before = counts.cumsum(0) - counts
    at = torch.arange(len(which), device=counts.device) + (first - before)[which]

    def reach(side: int) -> Tensor:
        reached = torch.full((), _NOWHERE, device=counts.device).expand(len(which))
        for one_start, one_slope in zip(start[side], slope[side], strict=True):  # one at a time: a tenth of the memory
            reached = torch.minimum(reached, torch.addcmul(one_start[which], one_slope[which], at))
        return reached

    return which, at, (-reach(1)).ceil().clamp(0, WIDTH).long(), (reach(0).floor() + 1).clamp(0, WIDTH).long()


def silhouettes(figure: Figure, cameras: Cameras, margin: int = 0) -> Canvases:
    """What the cameras see, b·c·s frames with the frames of a camera together, and `margin` pixels around it.

    All cut-outs are as large as the largest, and move along with the walker."""
    column, row = outlines(figure, cameras)
    bounds = _bounds(column, row)
    top, left = bounds[:, 0] - margin, bounds[:, 2] - margin
    height, width = ((bounds[:, 1::2] - bounds[:, ::2]).amax(0) + 1 + 2 * margin).tolist()
    polygons = edges(column, row)
    if triton_support.works(column.device):
        from model.synthetic import kernels

        masks, box = kernels.fill(polygons, top, left, (height, width), WIDTH, _NOWHERE)
        return Canvases(masks.view(torch.bool), top, left, box.long())
    return _fill(polygons, top, left, height, width)


def _bounds(column: Tensor, row: Tensor) -> Tensor:
    """First and last row, first and last column that a figure can touch: int64 [f, 4]. Nobody: at the origin."""
    there = row[0].isfinite() & (row[CORNERS - 1] >= 0) & (row[0] <= HEIGHT - 1)

    def extreme(values: Tensor, lowest: bool, size: int) -> Tensor:
        values = (values if lowest else -values).masked_fill(~there, math.inf).amin(1)
        values = values.ceil() if lowest else (-values).floor()
        return torch.where(there.any(1), values, 0.0).clamp(0, size - 1).long()

    return torch.stack(
        [
            extreme(row[0], True, HEIGHT),
            extreme(row[CORNERS - 1], False, HEIGHT),
            extreme(column.amin(0), True, WIDTH),
            extreme(column.amax(0), False, WIDTH),
        ],
        1,
    )


def _fill(polygons: tuple[Tensor, ...], top: Tensor, left: Tensor, height: int, width: int) -> Canvases:
    """Union of the polygons of each frame."""
    which, row, start, end = spans(*polygons)
    kept = end > start
    which, row, start, end = which[kept], row[kept], start[kept], end[kept]
    frame = which // (len(polygons[2]) // len(top))

    # Counts of parts fit eight bits; accelerators add faster to whole words.
    dtype = torch.int8 if row.device.type == "cpu" else torch.int32
    counts = torch.zeros(len(top) * height * (width + 1), dtype=dtype, device=row.device)
    line = (row - top[frame] + frame * height) * (width + 1) - left[frame]
    one = torch.ones((), dtype=dtype, device=row.device).expand(len(line))
    counts.scatter_add_(0, line + start, one)
    counts.scatter_add_(0, line + end, -one)
    masks = counts.view(len(top), height, width + 1)[..., :-1].cumsum(-1, dtype=dtype) > 0
    return Canvases(masks, top, left, torch.cat([_extent(masks.any(2)), _extent(masks.any(1))], 1))


def _extent(filled: Tensor) -> Tensor:
    """First and last place of each line [f, n] that is filled: int64 [f, 2]; of an empty one, n and -1."""
    places = torch.arange(filled.shape[1], device=filled.device)
    first, last = torch.where(filled, places, filled.shape[1]).amin(1), torch.where(filled, places, -1).amax(1)
    return torch.stack([first, last], 1)
