"""Triton kernels that fill figures and add segmentation noise.

They compute the same pixels as the torch operations in `render` and `segmentation`, but with one pass over the pixels
to fill figures and five passes to add noise, instead of about thirty passes. Import this module only if
`model.devices.triton_support.works` returns True.

Shapes: f frames, p parts, e edges per side, h x w pixels of a crop, i x j cells of the noise grid.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rows of a crop per program, and number of warps. Each pair is the fastest of nine combinations on an H100.
FILL_ROWS, FILL_OPTIONS = 16, {"num_warps": 2}
DEGRADE_ROWS, DEGRADE_OPTIONS = 4, {"num_warps": 4}


@triton.jit
def _fill_kernel(start, slope, first, last, top, left, masks, box, PARTS, HEIGHT, WIDTH, frame_width, polygons,
                 EDGES: tl.constexpr, UNBOUNDED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Fill ROWS rows of a crop. In each row, a convex part extends between its innermost edges."""
    frame = tl.program_id(0).to(tl.int64)
    y, x = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    upper = tl.load(top + frame).to(tl.int32) + tl.program_id(1) * ROWS
    row, column = upper + tl.arange(0, ROWS), tl.load(left + frame).to(tl.int32) + x
    at = row.to(tl.float32)
    filled = tl.zeros((ROWS, COLUMNS), tl.int32)
    for part in range(PARTS):
        polygon = frame * PARTS + part
        from_row, to_row = tl.load(first + polygon), tl.load(last + polygon)
        if (from_row < upper + ROWS) & (to_row >= upper):
            right = tl.full((ROWS,), UNBOUNDED, tl.float32)
            to_left = tl.full((ROWS,), UNBOUNDED, tl.float32)
            for edge in tl.static_range(EDGES):
                place = polygon + edge * polygons
                right = tl.minimum(right, tl.load(start + place) + tl.load(slope + place) * at)
                place += EDGES * polygons
                to_left = tl.minimum(to_left, tl.load(start + place) + tl.load(slope + place) * at)
            begin = tl.minimum(tl.maximum(tl.ceil(-to_left), 0.0), frame_width).to(tl.int32)
            end = tl.minimum(tl.maximum(tl.floor(right) + 1, 0.0), frame_width).to(tl.int32)
            end = tl.where((row >= from_row) & (row <= to_row), end, 0)
            filled |= ((column[None, :] >= begin[:, None]) & (column[None, :] < end[:, None])).to(tl.int32)
    pixels = y[:, None] * WIDTH + x[None, :]
    there = (y < HEIGHT)[:, None] & (x < WIDTH)[None, :]
    tl.store(masks + frame * HEIGHT * WIDTH + pixels, filled.to(tl.uint8), there)

    in_row, in_column = tl.max(filled, 1) > 0, tl.max(filled, 0) > 0
    tl.atomic_min(box + frame * 4, tl.min(tl.where(in_row, y, HEIGHT), 0))
    tl.atomic_max(box + frame * 4 + 1, tl.max(tl.where(in_row, y, -1), 0))
    tl.atomic_min(box + frame * 4 + 2, tl.min(tl.where(in_column, x, WIDTH), 0))
    tl.atomic_max(box + frame * 4 + 3, tl.max(tl.where(in_column, x, -1), 0))


def fill(
    edges: tuple[Tensor, ...], top: Tensor, left: Tensor, size: tuple[int, int], frame_width: int, unbounded: float
):
    """Return masks uint8 [f, h, w] and the bounding boxes of their figures, int32 [f, 4].

    Args:
        edges: start and slope [2, e, f * p], first row and last row int32 [f * p], from `render.edge_lines`.
        top, left: row and column of the first pixel of each crop in the frame, [f].
        size: (h, w) of the crops.
        unbounded: column of an edge that does not limit any row.
    """
    start, slope, first, last = edges
    (h, w), f = size, len(top)
    masks = torch.empty(f, h, w, dtype=torch.uint8, device=top.device)
    box = torch.tensor([h, -1, w, -1], dtype=torch.int32, device=top.device).repeat(f, 1)
    _fill_kernel[(f, triton.cdiv(h, FILL_ROWS))](
        start, slope, first, last, top, left, masks, box, len(first) // f, h, w, float(frame_width), len(first),
        start.shape[1], unbounded, FILL_ROWS, triton.next_power_of_2(w), **FILL_OPTIONS,
    )  # fmt: skip
    return masks, box


@triton.jit
def _neighbourhood(here, y, x, HEIGHT, WIDTH, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the maximum and the minimum of each pixel and its eight neighbours. Pixels outside the crop count as 0."""
    grown, kept = tl.zeros((ROWS, COLUMNS), tl.int32), tl.full((ROWS, COLUMNS), 1, tl.int32)
    for down in tl.static_range(-1, 2):
        for across in tl.static_range(-1, 2):
            inside = ((y + down >= 0) & (y + down < HEIGHT))[:, None] & ((x + across >= 0) & (x + across < WIDTH))
            pixel = tl.load(here + down * WIDTH + across, inside, 0).to(tl.int32)
            grown |= pixel
            kept &= pixel
    return grown, kept


@triton.jit
def _noise_kernel(figure, cells, line, column, table, grain_row, grain_column, out, HEIGHT, WIDTH, LINES, CELLS,
                  GRAIN_WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Make the outline ragged, then remove and add the pixels of the noise."""
    frame = tl.program_id(0).to(tl.int64)
    y, x = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    inside_y, inside_x = y < HEIGHT, x < WIDTH
    there = inside_y[:, None] & inside_x[None, :]
    pixels = frame * HEIGHT * WIDTH + y[:, None] * WIDTH + x[None, :]
    here = figure + pixels
    grown, kept = _neighbourhood(here, y, x, HEIGHT, WIDTH, ROWS, COLUMNS)
    clean = tl.load(here, there, 0).to(tl.int32)

    # Value of the grain and of the noise at each pixel.
    grain_y = tl.load(grain_row + frame * HEIGHT + y, inside_y, 0)
    grain_x = (tl.load(grain_column + frame) + x) % GRAIN_WIDTH
    grain = tl.load(table + grain_y[:, None] * GRAIN_WIDTH + grain_x[None, :], there, 0).to(tl.int32)
    cell_y = tl.load(line + frame * HEIGHT + y, inside_y, 0)
    cell_x = tl.load(column + frame * WIDTH + x, inside_x, 0)
    code = tl.load(cells + frame * LINES * CELLS + cell_y[:, None] * CELLS + cell_x[None, :], there, 0).to(tl.int32)

    # Make the outline ragged. Where the noise exceeds the grain, the lowest bit of the noise replaces the pixel.
    ragged = ((grown & grain) | clean) & (kept | (grain >> 1))
    decided = tl.where(grain < code, 1, 0)
    tl.store(out + pixels, (ragged ^ (decided & (code ^ ragged))).to(tl.uint8), there)


@triton.jit
def _square_kernel(figure, out, HEIGHT, WIDTH, GROW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Dilate by a 3x3 square if GROW is true, otherwise erode by it."""
    frame = tl.program_id(0).to(tl.int64)
    y, x = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    pixels = frame * HEIGHT * WIDTH + y[:, None] * WIDTH + x[None, :]
    grown, kept = _neighbourhood(figure + pixels, y, x, HEIGHT, WIDTH, ROWS, COLUMNS)
    result = grown if GROW else kept
    tl.store(out + pixels, result.to(tl.uint8), (y < HEIGHT)[:, None] & (x < WIDTH)[None, :])


def degrade(figure: Tensor, cells: Tensor, places: tuple[Tensor, Tensor], table: Tensor, grain: tuple[Tensor, Tensor]):
    """Return masks with segmentation noise, uint8 [f, h, w], which are then closed and opened by a 3x3 square.

    Args:
        figure: clean masks, uint8 [f, h, w].
        cells: noise grid, uint8 [f, i, j].
        places: grid row [f, h] of each row of pixels, and grid column [f, w] of each column of pixels, int32.
        table: grains, uint8 [rows, columns].
        grain: row [f, h] in `table` of each row of pixels, and column [f] in `table` of the first pixel, int32. After
            the last column of `table`, the first column follows.
    """
    f, h, w = figure.shape
    grid, blocks = (f, triton.cdiv(h, DEGRADE_ROWS)), (DEGRADE_ROWS, triton.next_power_of_2(w))
    raw, other = torch.empty_like(figure), torch.empty_like(figure)
    _noise_kernel[grid](
        figure, cells, *places, table, *grain, raw, h, w, *cells.shape[1:], table.shape[1], *blocks, **DEGRADE_OPTIONS
    )
    for grow in (True, False, False, True):  # close, then open
        _square_kernel[grid](raw, other, h, w, grow, *blocks, **DEGRADE_OPTIONS)
        raw, other = other, raw
    return raw
