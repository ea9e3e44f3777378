"""Triton kernels that pad the frames and list the blocks of layers 1 and 2 that see a pixel that is not 0.

Black pixels around the person are half of a silhouette. Without biases, a block that sees only zeros is 0 and adds
nothing to any gradient, so the kernels of `first_layers`, which defines the blocks, process a list of the other blocks.

Block (y, x) sees the 8×8 pixels of the padded frame from (2y, 2x) on, which are 8×4 pairs. If M is 1 for each pair that
is not black, rows · M · columns with two matrices of 0 and 1 is the number of these pairs for each block. It is at most
32, so it is exact in half precision.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.common.geometry import FRAME_HEIGHT, FRAME_WIDTH

BORDER = 3  # padding of a frame: 1 for the 3×3 kernels of layer 2 plus 2 for the 5×5 kernels of layer 1
PADDED_HEIGHT, PADDED_WIDTH = FRAME_HEIGHT + 2 * BORDER, FRAME_WIDTH + 2 * BORDER
POOLED_HEIGHT, POOLED_WIDTH = FRAME_HEIGHT // 2, FRAME_WIDTH // 2


@triton.jit
def _pad_kernel(frames, out, seen, counts):
    """Scale and pad a frame. Write which of its blocks see a pixel that is not 0, and their number."""
    frame, row, column = tl.program_id(0), tl.arange(0, 64)[:, None], tl.arange(0, 64)[None, :]
    inside = (column >= 3) & (column < 47)
    pixel = tl.load(frames + frame * 2816 + row * 44 + (column - 3), inside, 0)
    out += frame * 3500 + column
    scaled = tl.div_rn(pixel.to(tl.float32), 255.0).to(out.dtype.element_ty)  # "/" is not rounded correctly
    tl.store(out + (row + 3) * 50, scaled, column < 50)
    # Three rows above and three below.
    border = tl.arange(0, 8)[:, None]
    border += tl.where(border < 3, 0, 64)
    tl.store(out + border * 50, tl.zeros((8, 64), out.dtype.element_ty), (border < 70) & (column < 50))
    # Number of the pairs that each block sees and that are not black.
    left, right = tl.split(tl.reshape(pixel, (64, 32, 2)))
    y, x = tl.arange(0, 32)[:, None], tl.arange(0, 32)[None, :]
    rows = ((tl.trans(row) + 3 >= 2 * y) & (tl.trans(row) + 3 < 2 * y + 8)).to(tl.float16)
    columns = ((y >= x) & (y < x + 4)).to(tl.float16)
    in_rows = tl.dot(rows, ((left | right) != 0).to(tl.float16))
    sees = (tl.dot(in_rows.to(tl.float16), columns) > 0) & (x < 22)
    tl.store(seen + frame * 704 + y * 22 + x, sees.to(tl.int8), x < 22)
    tl.store(counts + frame, tl.sum(tl.sum(sees.to(tl.int32), 1), 0))


@triton.jit
def _list_kernel(seen, ends, active, maps):
    """Append the blocks of a frame that see a pixel to the list of all frames. Clear its other blocks in `maps`."""
    frame = tl.program_id(0)
    block = tl.arange(0, 1024)
    sees = tl.load(seen + frame * 704 + block, block < 704, 1).to(tl.int32)
    listed = (sees != 0) & (block < 704)
    before = tl.load(ends + frame - 1, frame > 0, 0)
    tl.store(active + before + tl.cumsum(sees, 0) - 1, frame * 704 + block, listed)
    to = maps + (frame * 704 + block)[:, None] * 32 + tl.arange(0, 32)[None, :]
    tl.store(to, tl.zeros((1024, 32), maps.dtype.element_ty), (sees == 0)[:, None])


def pad_frames(frames: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Scale to [0, 1] and pad with zeros. uint8 [f, 64, 44] -> [f, 70, 50] of `dtype`.

    Also return which blocks see a pixel that is not 0, int8 [f, 704], and their number per frame, int32 [f].
    """
    f = len(frames)
    out = torch.empty(f, PADDED_HEIGHT, PADDED_WIDTH, dtype=dtype, device=frames.device)
    seen = torch.empty(f, POOLED_HEIGHT * POOLED_WIDTH, dtype=torch.int8, device=frames.device)
    counts = torch.empty(f, dtype=torch.int32, device=frames.device)
    _pad_kernel[(f,)](frames.contiguous(), out, seen, counts, num_warps=1)  # more warps repeat the products
    return out, seen, counts


def list_blocks(seen: Tensor, counts: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the blocks that see a pixel, and their number on the device. Set the other blocks of `maps` to 0.

    Args:
        seen, counts: of `pad_frames`.
        maps: [f · 704, 32].

    Returns:
        The numbers of the blocks in ascending order, int32 [f · 704] with undefined values after them, and their
        number, int32 [1].
    """
    ends, active = counts.cumsum(0, dtype=torch.int32), torch.empty_like(seen, dtype=torch.int32).flatten()
    _list_kernel[(len(seen),)](seen, ends, active, maps)
    return active, ends[-1:]
