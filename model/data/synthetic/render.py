"""From a figure to silhouettes: every convex part is filled row by row, the union is what the camera sees.

A convex part is seen as a convex polygon, whose corners are the points where it reaches farthest in a few
directions of the image. The polygon gives the left and right end of each of its rows; these go as +1 and -1
into a canvas, whose running sum along the rows counts the parts over each pixel. The cost is that of the
outlines, not of the areas.

s frames, k ellipsoids, p parts (body parts and faults), d directions, n spans (rows of parts).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.data.synthetic.camera import HEIGHT, WIDTH, Camera
from model.data.synthetic.figure import Figure
from model.data.synthetic.noise import Faults

CORNERS = 11  # of a polygon on each side; a circle loses 1.2 % of its radius between two of them
_STEEPEST = 1e-4  # pixels between the rows of two corners below which the edge between them bounds no row
_NOWHERE = 1e6  # columns


def _directions(like: Tensor) -> Tensor:
    """Unit vectors [2 * CORNERS, 2] (column, row): up to down by way of the right, then by way of the left."""
    angles = torch.linspace(-90, 90, CORNERS, dtype=like.dtype, device=like.device) * (math.pi / 180)
    right = torch.stack([angles.cos(), angles.sin()], -1)
    return torch.cat([right, right * right.new_tensor([-1.0, 1.0])])


def outlines(figure: Figure, camera: Camera, faults: Faults) -> tuple[Tensor, Tensor, Tensor]:
    """Column and row of the corners of all parts, each [d, s, p] in pixels, and the weight of the parts [p]."""
    centres, axes = camera.project(figure.centres, figure.axes)
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
    swell = faults.swell[:, None]
    body_column, body_row = (
        column.gather(2, farthest) + swell * across,
        row.gather(2, farthest) + swell * down,
    )

    middle, half = faults.place(centres), faults.half_axes
    length = ((half[..., 0] * across) ** 2 + (half[..., 1] * down) ** 2).sqrt()
    blob_column = middle[..., 0] + half[..., 0] ** 2 * across / length
    blob_row = middle[..., 1] + half[..., 1] ** 2 * down / length
    blob_row = torch.where(faults.active, blob_row, torch.full_like(blob_row, math.nan))
    weights = torch.cat([torch.ones_like(faults.weights[:1]).expand(body_row.shape[2]), faults.weights])
    return torch.cat([body_column, blob_column], 2), torch.cat([body_row, blob_row], 2), weights


def spans(column: Tensor, row: Tensor, faults: Faults) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rows of all parts: index into the flattened [s, p], row, first column, column after the last, all [n].

    Corners without a row (NaN) make no span.
    """
    parts = row.shape[2]
    column, row = column.flatten(1), row.flatten(1)
    top = row[0].nan_to_num(HEIGHT).ceil().clamp(0, HEIGHT).long()
    bottom = row[CORNERS - 1].nan_to_num(-1).floor().clamp(-1, HEIGHT - 1).long()
    counts = (bottom - top + 1).clamp(min=0)
    which = torch.repeat_interleave(torch.arange(len(counts), device=row.device), counts)
    first = counts.cumsum(0) - counts
    at = torch.arange(len(which), device=row.device) + (top - first)[which]

    def end(side: slice, sign: int) -> Tensor:
        """How far the polygon goes to one side: not beyond the line of any of its edges."""
        x, y = sign * column[side], row[side]
        fall = y[1:] - y[:-1]
        slope = (x[1:] - x[:-1]) / fall
        flat = fall < _STEEPEST
        slope = slope.masked_fill(flat, 0.0)
        start = (x[:-1] - slope * y[:-1]).masked_fill(flat, _NOWHERE)
        return (start.index_select(1, which) + slope.index_select(1, which) * at).amin(0)

    ragged = which // parts * HEIGHT + at
    right = end(slice(0, CORNERS), 1) + faults.ragged_right.reshape(-1)[ragged]
    left = -end(slice(CORNERS, None), -1) - faults.ragged_left.reshape(-1)[ragged]
    return which, at, left.ceil().clamp(0, WIDTH).long(), (right.floor() + 1).clamp(0, WIDTH).long()


def silhouettes(figure: Figure, camera: Camera, faults: Faults) -> Tensor:
    """Silhouettes [s, HEIGHT, WIDTH] uint8, 0 and 255, on the device of the figure."""
    column, row, weights = outlines(figure, camera, faults)
    which, at, start, end = spans(column, row, faults)
    kept = end > start
    which, at, start, end = which[kept], at[kept], start[kept], end[kept]
    return _fill(which // row.shape[2], at, start, end, weights[which % row.shape[2]], row.shape[1])


def _fill(frame: Tensor, row: Tensor, start: Tensor, end: Tensor, weights: Tensor, frames: int) -> Tensor:
    """Union of spans, each [n]: pixels over which the weights sum to more than 0.

    Each frame gets a canvas just large enough, which moves along with the walker.
    """

    def extreme(values: Tensor, of_none: int, how: str) -> Tensor:
        return torch.full((frames,), of_none, device=row.device).scatter_reduce_(0, frame, values, how)

    lefts, rights = extreme(start, WIDTH, "amin"), extreme(end, 0, "amax")
    tops, bottoms = extreme(row, HEIGHT, "amin"), extreme(row, 0, "amax")
    width, height = max(int((rights - lefts).amax()), 1), max(int((bottoms - tops).amax()) + 1, 1)

    edges = torch.zeros(frames * height * (width + 1), dtype=torch.int8, device=row.device)
    line = (row - tops[frame] + frame * height) * (width + 1) - lefts[frame]
    steps = weights.to(torch.int8)
    edges.scatter_add_(0, line + start, steps)
    edges.scatter_add_(0, line + end, -steps)
    over = edges.view(frames, height, width + 1)[..., :-1].cumsum(-1, dtype=torch.int8) > 0
    filled = over.to(torch.uint8) * 255

    image = torch.zeros(frames, HEIGHT, WIDTH, dtype=torch.uint8, device=row.device)
    for i, (y, x) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        image[i, y : y + height, x : x + width] = filled[i, : HEIGHT - y, : WIDTH - x]
    return image
