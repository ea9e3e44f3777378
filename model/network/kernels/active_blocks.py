"""Triton kernels that pad the frames and list the active blocks, whose values can differ from 0.

A block is one position of the pooled map after layer 2 (see `first_layers`). Its values depend on 8×8 pixels: the block
*sees* these pixels. A block is *active* if it sees a pixel above 0. The convolutions have no biases, so the values of
every other block are 0, and the block adds nothing to any gradient. About half of the pixels of a silhouette are black
pixels around the person, so the kernels of `first_layers` process only the active blocks.

Block (y, x) sees the pixels in rows 2y to 2y + 7 and columns 2x to 2x + 7 of the padded frame. These are 8×4 pairs of
neighbouring pixels. Let M be 1 for each pair with a pixel above 0, and 0 for each other pair. Then rows · M · columns,
with two matrices of zeros and ones, is the number of pairs above 0 that each block sees. Half precision represents
this number exactly, because it is at most 32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.common.geometry import FRAME_HEIGHT, FRAME_WIDTH

BORDER = 3  # padding on each side of a frame: 1 for the 3×3 kernels of layer 2 plus 2 for the 5×5 kernels of layer 1
PADDED_HEIGHT, PADDED_WIDTH = FRAME_HEIGHT + 2 * BORDER, FRAME_WIDTH + 2 * BORDER
POOLED_HEIGHT, POOLED_WIDTH = FRAME_HEIGHT // 2, FRAME_WIDTH // 2


@triton.jit
def _pad_kernel(frames, out, seen, counts):
    """Scale and pad one frame. Write whether each of its blocks is active, and the number of active blocks."""
    frame, row, column = tl.program_id(0), tl.arange(0, 64)[:, None], tl.arange(0, 64)[None, :]
    inside = (column >= 3) & (column < 47)
    pixel = tl.load(frames + frame * 2816 + row * 44 + (column - 3), inside, 0)
    out += frame * 3500 + column
    scaled = tl.div_rn(pixel.to(tl.float32), 255.0).to(out.dtype.element_ty)  # Triton's "/" does not round correctly
    tl.store(out + (row + 3) * 50, scaled, column < 50)
    # Write zeros to the three rows above the frame and the three rows below the frame.
    border = tl.arange(0, 8)[:, None]
    border += tl.where(border < 3, 0, 64)
    tl.store(out + border * 50, tl.zeros((8, 64), out.dtype.element_ty), (border < 70) & (column < 50))
    # Count the pairs with a pixel above 0 that each block sees.
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
    """Write the active blocks of one frame to the list of all frames. Set the other blocks of this frame to 0."""
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

    Also return whether each block is active, int8 [f, 704], and the number of active blocks per frame, int32 [f].
    """
    f = len(frames)
    out = torch.empty(f, PADDED_HEIGHT, PADDED_WIDTH, dtype=dtype, device=frames.device)
    seen = torch.empty(f, POOLED_HEIGHT * POOLED_WIDTH, dtype=torch.int8, device=frames.device)
    counts = torch.empty(f, dtype=torch.int32, device=frames.device)
    _pad_kernel[(f,)](frames.contiguous(), out, seen, counts, num_warps=1)  # every further warp repeats the products
    return out, seen, counts


def list_blocks(seen: Tensor, counts: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """List the active blocks of all frames. Set the other blocks of `maps` to 0.

    Args:
        seen, counts: results of `pad_frames`.
        maps: [f · 704, 32].

    Returns:
        The indices of the active blocks in ascending order, int32 [f · 704], and the number of active blocks, int32
        [1]. Values of the first tensor after this number are undefined. Both tensors are on the device.
    """
    ends, active = counts.cumsum(0, dtype=torch.int32), torch.empty_like(seen, dtype=torch.int32).flatten()
    _list_kernel[(len(seen),)](seen, ends, active, maps)
    return active, ends[-1:]
