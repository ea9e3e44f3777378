"""Triton kernels for the passes over every pixel: filling figures, and wearing them away.

What they compute is what `render` and `segmentation` compute with torch's own operations, in one or two passes over the
pixels instead of some thirty. Imported only where `model.devices.triton_support.works`.

f frames, p parts, e edges of a side, h x w pixels of a cut-out, i x j cells of the grid of faults.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rows of a cut-out that one program fills or wears away, and its warps: of nine pairs the fastest on an H100.
FILL_ROWS, FILL_OPTIONS = 16, {"num_warps": 2}
WEAR_ROWS, WEAR_OPTIONS = 4, {"num_warps": 4}


@triton.jit
def _fill_kernel(start, slope, first, last, top, left, masks, box, PARTS, HEIGHT, WIDTH, frame_width, polygons,
                 EDGES: tl.constexpr, NOWHERE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Some rows of a frame: every convex part lies, in each of its rows, between the nearest of its edges."""
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
            right = tl.full((ROWS,), NOWHERE, tl.float32)
            to_left = tl.full((ROWS,), NOWHERE, tl.float32)
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


def fill(edges: tuple[Tensor, ...], top: Tensor, left: Tensor, size: tuple[int, int], frame_width: int, nowhere: float):
    """Masks uint8 [f, h, w] of cut-outs of `size` (h, w) that begin at row `top` and column `left` [f], and their boxes
    int32 [f, 4].

    edges: start and slope [2, e, f * p] of the edges to the right and to the left, first and last row int32 [f * p], as
    `render.edges` gives them.
    """
    start, slope, first, last = edges
    (h, w), f = size, len(top)
    masks = torch.empty(f, h, w, dtype=torch.uint8, device=top.device)
    box = torch.tensor([h, -1, w, -1], dtype=torch.int32, device=top.device).repeat(f, 1)
    _fill_kernel[(f, triton.cdiv(h, FILL_ROWS))](
        start, slope, first, last, top, left, masks, box, len(first) // f, h, w, float(frame_width), len(first),
        start.shape[1], nowhere, FILL_ROWS, triton.next_power_of_2(w), **FILL_OPTIONS,
    )  # fmt: skip
    return masks, box


@triton.jit
def _neighbourhood(here, y, x, HEIGHT, WIDTH, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The largest and the smallest of every pixel and its eight neighbours; outside all is black."""
    grown, kept = tl.zeros((ROWS, COLUMNS), tl.int32), tl.full((ROWS, COLUMNS), 1, tl.int32)
    for down in tl.static_range(-1, 2):
        for across in tl.static_range(-1, 2):
            beside = ((y + down >= 0) & (y + down < HEIGHT))[:, None] & ((x + across >= 0) & (x + across < WIDTH))
            pixel = tl.load(here + down * WIDTH + across, beside, 0).to(tl.int32)
            grown |= pixel
            kept &= pixel
    return grown, kept


@triton.jit
def _fault_kernel(figure, cells, line, column, table, grain_row, grain_column, out, HEIGHT, WIDTH, LINES, CELLS,
                  GRAIN_WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """What grows and what is eaten at the outline, then what is lost and what is added."""
    frame = tl.program_id(0).to(tl.int64)
    y, x = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    inside_y, inside_x = y < HEIGHT, x < WIDTH
    there = inside_y[:, None] & inside_x[None, :]
    pixels = frame * HEIGHT * WIDTH + y[:, None] * WIDTH + x[None, :]
    here = figure + pixels
    grown, kept = _neighbourhood(here, y, x, HEIGHT, WIDTH, ROWS, COLUMNS)
    clean = tl.load(here, there, 0).to(tl.int32)

    grain_y = tl.load(grain_row + frame * HEIGHT + y, inside_y, 0)
    grain_x = (tl.load(grain_column + frame) + x) % GRAIN_WIDTH
    grain = tl.load(table + grain_y[:, None] * GRAIN_WIDTH + grain_x[None, :], there, 0).to(tl.int32)
    cell_y = tl.load(line + frame * HEIGHT + y, inside_y, 0)
    cell_x = tl.load(column + frame * WIDTH + x, inside_x, 0)
    code = tl.load(cells + frame * LINES * CELLS + cell_y[:, None] * CELLS + cell_x[None, :], there, 0).to(tl.int32)

    frayed = ((grown & grain) | clean) & (kept | (grain >> 1))
    decided = tl.where(grain < code, 1, 0)
    tl.store(out + pixels, (frayed ^ (decided & (code ^ frayed))).to(tl.uint8), there)


@triton.jit
def _square_kernel(figure, out, HEIGHT, WIDTH, GROW: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Dilates by a 3x3 square, or erodes."""
    frame = tl.program_id(0).to(tl.int64)
    y, x = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    pixels = frame * HEIGHT * WIDTH + y[:, None] * WIDTH + x[None, :]
    grown, kept = _neighbourhood(figure + pixels, y, x, HEIGHT, WIDTH, ROWS, COLUMNS)
    result = grown if GROW else kept
    tl.store(out + pixels, result.to(tl.uint8), (y < HEIGHT)[:, None] & (x < WIDTH)[None, :])


def spoil(figure: Tensor, cells: Tensor, places: tuple[Tensor, Tensor], table: Tensor, grain: tuple[Tensor, Tensor]):
    """Masks uint8 [f, h, w] worn away, closed and opened.

    cells   uint8 [f, i, j] of the grid of faults; `places` are line [f, h] and column [f, w] of each row and column of
            pixels in it, int32
    table   uint8 [rows, columns] of grains; `grain` are the row of it [f, h] for each row of pixels, and the column [f]
            of the first pixel, int32, which goes on around the end
    """
    f, h, w = figure.shape
    grid, blocks = (f, triton.cdiv(h, WEAR_ROWS)), (WEAR_ROWS, triton.next_power_of_2(w))
    raw, other = torch.empty_like(figure), torch.empty_like(figure)
    _fault_kernel[grid](
        figure, cells, *places, table, *grain, raw, h, w, *cells.shape[1:], table.shape[1], *blocks, **WEAR_OPTIONS
    )
    for grow in (True, False, False, True):  # closes, then opens
        _square_kernel[grid](raw, other, h, w, grow, *blocks, **WEAR_OPTIONS)
        raw, other = other, raw
    return raw
