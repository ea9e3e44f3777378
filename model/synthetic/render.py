"""Render figures: fill their convex parts row by row. The silhouette is the union of the parts.

The image of a convex part is approximated by a convex polygon. Its corners are the farthest points of the part in a
fixed set of image directions. The polygon gives a span in each row: the first and the last column of the part. Without
Triton, an array gets +1 at the first column of each span and -1 after its last column. The cumulative sum along the
rows is then the number of parts at each pixel. The number of additions depends on the height of the parts, not on their
area.

Shapes: f frames of all takes and cameras, k ellipsoids, p parts, d directions, e edges per side, n polygons or spans.
"""

import math
from collections import namedtuple

import torch
from torch import Tensor

from model.devices import triton_support
from model.synthetic.camera import IMAGE_HEIGHT, IMAGE_WIDTH, Cameras
from model.synthetic.figure import Figure

CORNERS = 11  # on each side of a polygon; the polygon of a circle is up to 1.2 % of the radius inside the circle
_FLAT = 1e-4  # least number of rows between two corners; a flatter edge does not limit any row
_UNBOUNDED = 1e6  # column of an edge that does not limit any row


class Crops(namedtuple("Crops", "masks top left box")):
    """Masks of the figures, cropped from their frames. All crops have the size of the largest figure and its margin.

    masks       bool [f, h, w]; pixels outside the frame are False
    top, left   int64 [f], row and column of the first pixel of the crop in the frame
    box         int64 [f, 4], bounding box of the figure within the crop: first row, last row, first column and last
                column; in an empty mask, the first row is after the last row
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
        """Return crops at the same positions with the given masks, without the pixels outside the frame."""
        rows = torch.arange(masks.shape[1], device=masks.device) + self.top[:, None]
        columns = torch.arange(masks.shape[2], device=masks.device) + self.left[:, None]
        inside = ((rows >= 0) & (rows < IMAGE_HEIGHT))[:, :, None] & ((columns >= 0) & (columns < IMAGE_WIDTH))[:, None]
        return self._replace(masks=masks & inside)


def _directions(like: Tensor) -> Tensor:
    """Return unit vectors [2 * CORNERS, 2] as (column, row).

    The first half turns from up through right to down, the second half from up through left to down.
    """
    angles = torch.linspace(-90, 90, CORNERS, dtype=like.dtype, device=like.device) * (math.pi / 180)
    right = torch.stack([angles.cos(), angles.sin()], -1)
    return torch.cat([right, right * right.new_tensor([-1.0, 1.0])])


def outlines(figure: Figure, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Return columns and rows of the corners of all parts in pixels, [d, f, p] each. Rows of absent parts are NaN."""
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
    """Return the lines through the edges of all n = f * p polygons.

    Returns:
        Start and slope [2, e, n] of the right and the left edges, first row and last row [n]. For an absent part, the
        rows are 240 and -1. In row y, the polygon ends at the minimum of start + slope * y over the right edges. It
        begins at the negative of the same minimum over the left edges.
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
    """Return the spans of the polygons of `edge_lines`, one per row of each polygon.

    Returns:
        Index of the polygon, row, first column, and column after the last column, [n] each.
    """
    counts = (last - first + 1).clamp(min=0)
    which = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    before = counts.cumsum(0) - counts
    at = torch.arange(len(which), device=counts.device) + (first - before)[which]

    def reach(side: int) -> Tensor:
        reached = torch.full((), _UNBOUNDED, device=counts.device).expand(len(which))
        # A loop over the edges needs a tenth of the memory of a minimum over all edges at once.
        for one_start, one_slope in zip(start[side], slope[side], strict=True):
            reached = torch.minimum(reached, torch.addcmul(one_start[which], one_slope[which], at))
        return reached

    start_column, end_column = (-reach(1)).ceil(), reach(0).floor() + 1
    return which, at, start_column.clamp(0, IMAGE_WIDTH).long(), end_column.clamp(0, IMAGE_WIDTH).long()


def silhouettes(figure: Figure, cameras: Cameras, margin: int = 0) -> Crops:
    """Render b·c·s frames, sorted by take, camera and time, with `margin` free pixels around the largest figure."""
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
    """Return first row, last row, first column and last column of the polygons, int64 [f, 4]; 0 for empty frames."""
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
    # Keep the spans that are not empty, and find the frame of each span.
    which, row, start, end = row_spans(*polygons)
    kept = end > start
    which, row, start, end = which[kept], row[kept], start[kept], end[kept]
    frame = which // (len(polygons[2]) // len(top))

    # Count the parts at each pixel: add 1 at the first column of each span, subtract 1 after its last column, and sum
    # along the rows. Counts fit into 8 bits, but accelerators add 32-bit numbers faster.
    dtype = torch.int8 if row.device.type == "cpu" else torch.int32
    counts = torch.zeros(len(top) * height * (width + 1), dtype=dtype, device=row.device)
    line = (row - top[frame] + frame * height) * (width + 1) - left[frame]
    one = torch.ones((), dtype=dtype, device=row.device).expand(len(line))
    counts.scatter_add_(0, line + start, one)
    counts.scatter_add_(0, line + end, -one)
    masks = counts.view(len(top), height, width + 1)[..., :-1].cumsum(-1, dtype=dtype) > 0
    return Crops(masks, top, left, torch.cat([extent(masks.any(2)), extent(masks.any(1))], 1))


def extent(filled: Tensor) -> Tensor:
    """Return the first and the last filled index of each line of `filled` [f, n], int64 [f, 2]; n and -1 if empty."""
    places = torch.arange(filled.shape[1], device=filled.device)
    first, last = torch.where(filled, places, filled.shape[1]).amin(1), torch.where(filled, places, -1).amax(1)
    return torch.stack([first, last], 1)
