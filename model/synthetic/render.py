"""Renderer: fills the convex parts of figures row by row; the union of the parts is the silhouette.

The image of a convex part is approximated by a convex polygon. Its corners are the farthest points of the part in a
fixed set of image directions. The polygon gives the first and last column of the part in each row. They are added as +1
and -1 to an array whose cumulative sum along the rows counts the parts at each pixel. The cost depends on the length of
the outlines, not on the area.

f frames of all takes and cameras, k ellipsoids, p parts, d directions, n polygons or spans (rows of polygons).
"""

import math
from collections import namedtuple

import torch
from torch import Tensor

from model.devices import triton_support
from model.synthetic.camera import IMAGE_HEIGHT, IMAGE_WIDTH, Cameras
from model.synthetic.figure import Figure

CORNERS = 11  # on each side of a polygon; if the outline is a circle, edges are up to 1.2 % of the radius inside it
_FLAT = 1e-4  # rows between two corners; an edge that is flatter than this bounds no row
_UNBOUNDED = 1e6  # column


class Crops(namedtuple("Crops", "masks top left box")):
    """Masks of the figures, cropped from their frames. All crops have the size of the largest figure.

    masks       bool [f, h, w]; pixels outside the frame are empty
    top, left   int64 [f], row and column of the frame at the first pixel of the crop
    box         int64 [f, 4], bounding box of the figure within the crop: first and last row, first and last column
                (last before first for an empty mask)
    """

    def frames(self) -> Tensor:
        """Return complete frames, uint8 [f, IMAGE_HEIGHT, IMAGE_WIDTH], with the values 0 and 255."""
        image = self.masks.new_zeros(len(self.masks), IMAGE_HEIGHT, IMAGE_WIDTH, dtype=torch.uint8)
        height, width = self.masks.shape[1:]
        filled = self.masks.to(torch.uint8) * 255
        for i, (y, x) in enumerate(zip(self.top.tolist(), self.left.tolist(), strict=True)):
            rows = slice(max(y, 0), min(y + height, IMAGE_HEIGHT))
            columns = slice(max(x, 0), min(x + width, IMAGE_WIDTH))
            image[i, rows, columns] = filled[i, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        return image

    def within_frame(self, masks: Tensor) -> "Crops":
        """Return crops with other `masks`; pixels outside the frame are removed."""
        rows = torch.arange(masks.shape[1], device=masks.device) + self.top[:, None]
        columns = torch.arange(masks.shape[2], device=masks.device) + self.left[:, None]
        inside = ((rows >= 0) & (rows < IMAGE_HEIGHT))[:, :, None] & ((columns >= 0) & (columns < IMAGE_WIDTH))[:, None]
        return self._replace(masks=masks & inside)


def _directions(like: Tensor) -> Tensor:
    """Return unit vectors [2 * CORNERS, 2] (column, row): from up to down through the right, then through the left."""
    angles = torch.linspace(-90, 90, CORNERS, dtype=like.dtype, device=like.device) * (math.pi / 180)
    right = torch.stack([angles.cos(), angles.sin()], -1)
    return torch.cat([right, right * right.new_tensor([-1.0, 1.0])])


def outlines(figure: Figure, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Return column and row of the corners of all parts, each [d, f, p] in pixels; rows of absent parts are NaN."""
    centres, axes = cameras.project(figure.centres, figure.axes)
    b, c, s = centres.shape[:3]
    centres, axes = centres.flatten(0, 2), axes.flatten(0, 2)
    directions = _directions(centres)
    across, down = directions[:, 0, None, None], directions[:, 1, None, None]

    # Farthest point of each ellipsoid: with centre c and projected half axes A, the ellipsoid reaches n.c + |A'n| in
    # direction n, at the point c + AA'n / |A'n|.
    xx, yy, xy = (axes[..., 0, :] ** 2).sum(-1), (axes[..., 1, :] ** 2).sum(-1), axes.prod(-2).sum(-1)
    length = (xx * across**2 + 2 * xy * across * down + yy * down**2).clamp(min=1e-12).sqrt()
    column = centres[..., 0] + (xx * across + xy * down) / length
    row = centres[..., 1] + (xy * across + yy * down) / length
    reach = column * across + row * down

    # Farthest ellipsoid of each part.
    farthest = figure.parts[:, 0].expand(*reach.shape[:2], -1)
    best = reach[..., figure.parts[:, 0]]
    for member in figure.parts.T[1:]:
        other = reach[..., member]
        farthest = torch.where(other > best, member, farthest)
        best = torch.maximum(best, other)
    present = figure.present[:, None, None].expand(b, c, s, -1).flatten(0, 2)
    return column.gather(2, farthest), row.gather(2, farthest).masked_fill(~present, math.nan)


def edge_lines(column: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the lines that bound the rows of all n = f * p polygons.

    Returns:
        Start and slope [2, e, n] of the right and left edges, first and last row [n] (240 and -1 for an absent part).
        In row y, the last column is the minimum of start + slope * y over the right edges; the first column is the
        negative of the same minimum over the left edges.
    """
    # Rows of the polygon: from the uppermost to the lowest corner.
    column, row = column.flatten(1), row.flatten(1)
    first = row[0].nan_to_num(IMAGE_HEIGHT).ceil().clamp(0, IMAGE_HEIGHT).int()
    last = row[CORNERS - 1].nan_to_num(-1).floor().clamp(-1, IMAGE_HEIGHT - 1).int()
    # Lines through neighbouring corners; columns of the left side are negated.
    x, y = torch.stack([column[:CORNERS], -column[CORNERS:]]), row.view(2, CORNERS, -1)
    fall = y[:, 1:] - y[:, :-1]
    slope = (x[:, 1:] - x[:, :-1]) / fall
    flat = fall < _FLAT
    slope = slope.masked_fill(flat, 0.0)
    return (x[:, :-1] - slope * y[:, :-1]).masked_fill(flat, _UNBOUNDED), slope, first, last


def row_spans(start: Tensor, slope: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the rows of all polygons of `edge_lines`: polygon, row, first column, column after the last, all [n]."""
    # One span per row of each polygon.
    counts = (last - first + 1).clamp(min=0)
    which = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    before = counts.cumsum(0) - counts
    at = torch.arange(len(which), device=counts.device) + (first - before)[which]

    def reach(side: int) -> Tensor:
        reached = torch.full((), _UNBOUNDED, device=counts.device).expand(len(which))
        for one_start, one_slope in zip(start[side], slope[side], strict=True):  # a loop needs a tenth of the memory
            reached = torch.minimum(reached, torch.addcmul(one_start[which], one_slope[which], at))
        return reached

    start_column, end_column = (-reach(1)).ceil(), reach(0).floor() + 1
    return which, at, start_column.clamp(0, IMAGE_WIDTH).long(), end_column.clamp(0, IMAGE_WIDTH).long()


def silhouettes(figure: Figure, cameras: Cameras, margin: int = 0) -> Crops:
    """Render b·c·s frames, sorted by take, camera and time. Crops have `margin` pixels around the largest figure."""
    # Polygons, and the crops that contain them.
    column, row = outlines(figure, cameras)
    bounds = _bounds(column, row)
    top, left = bounds[:, 0] - margin, bounds[:, 2] - margin
    height, width = ((bounds[:, 1::2] - bounds[:, ::2]).amax(0) + 1 + 2 * margin).tolist()
    polygons = edge_lines(column, row)
    if triton_support.works(column.device):
        from model.synthetic import kernels  # imports Triton, which not every machine has

        masks, box = kernels.fill(polygons, top, left, (height, width), IMAGE_WIDTH, _UNBOUNDED)
        return Crops(masks.view(torch.bool), top, left, box.long())
    return _fill(polygons, top, left, height, width)


def _bounds(column: Tensor, row: Tensor) -> Tensor:
    """Return first and last row, first and last column of the polygons, int64 [f, 4]; 0 for empty frames."""
    visible = row[0].isfinite() & (row[CORNERS - 1] >= 0) & (row[0] <= IMAGE_HEIGHT - 1)

    def extreme(values: Tensor, lowest: bool, size: int) -> Tensor:
        values = (values if lowest else -values).masked_fill(~visible, math.inf).amin(1)
        values = values.ceil() if lowest else (-values).floor()
        return torch.where(visible.any(1), values, 0.0).clamp(0, size - 1).long()

    rows = extreme(row[0], True, IMAGE_HEIGHT), extreme(row[CORNERS - 1], False, IMAGE_HEIGHT)
    columns = extreme(column.amin(0), True, IMAGE_WIDTH), extreme(column.amax(0), False, IMAGE_WIDTH)
    return torch.stack([*rows, *columns], 1)


def _fill(polygons: tuple[Tensor, ...], top: Tensor, left: Tensor, height: int, width: int) -> Crops:
    """Return the union of the polygons of each frame."""
    # Non-empty spans, and the frame of each.
    which, row, start, end = row_spans(*polygons)
    kept = end > start
    which, row, start, end = which[kept], row[kept], start[kept], end[kept]
    frame = which // (len(polygons[2]) // len(top))

    # Count the parts at each pixel: +1 at the first column, -1 after the last, then a cumulative sum. Counts fit into
    # 8 bits; accelerators add faster to 32 bits.
    dtype = torch.int8 if row.device.type == "cpu" else torch.int32
    counts = torch.zeros(len(top) * height * (width + 1), dtype=dtype, device=row.device)
    line = (row - top[frame] + frame * height) * (width + 1) - left[frame]
    one = torch.ones((), dtype=dtype, device=row.device).expand(len(line))
    counts.scatter_add_(0, line + start, one)
    counts.scatter_add_(0, line + end, -one)
    masks = counts.view(len(top), height, width + 1)[..., :-1].cumsum(-1, dtype=dtype) > 0
    return Crops(masks, top, left, torch.cat([extent(masks.any(2)), extent(masks.any(1))], 1))


def extent(filled: Tensor) -> Tensor:
    """Return the first and last filled place of each line [f, n], int64 [f, 2]; n and -1 for an empty line."""
    places = torch.arange(filled.shape[1], device=filled.device)
    first, last = torch.where(filled, places, filled.shape[1]).amin(1), torch.where(filled, places, -1).amax(1)
    return torch.stack([first, last], 1)
