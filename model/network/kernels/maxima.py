"""Maxima that remember what was largest in one byte or one number, and activate the result on the way out.

LeakyReLU never decreases, so it is applied to the maxima only. Maps are channels last and of any float dtype.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCKS = 16  # of 2×2, with all their channels, that one program pools
FRAMES_AT_ONCE = 8  # that one program of set pooling reads side by side


@triton.jit
def _corner(block, HALF_WIDTH: tl.constexpr, CHANNELS: tl.constexpr):
    """Where the upper left element of each 2×2 block stands, of blocks counted over all frames' rows."""
    row, column = block // HALF_WIDTH, block % HALF_WIDTH
    return (row.to(tl.int64) * (4 * HALF_WIDTH) + column * 2) * CHANNELS


@triton.jit
def _pool_kernel(maps, out, codes, blocks, HALF_WIDTH: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
                 CODES: tl.constexpr):  # fmt: skip
    block, channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, CHANNELS)[None, :]
    there = (block < blocks)[:, None]
    first = maps + _corner(block, HALF_WIDTH, CHANNELS)[:, None] + channel
    below: tl.constexpr = 2 * HALF_WIDTH * CHANNELS
    y0, y1 = tl.load(first, there), tl.load(first + CHANNELS, there)
    y2, y3 = tl.load(first + below, there), tl.load(first + (below + CHANNELS), there)
    best = tl.maximum(tl.maximum(y0, y1), tl.maximum(y2, y3))
    to = block.to(tl.int64)[:, None] * CHANNELS + channel
    tl.store(out + to, tl.maximum(best, (best * 0.01).to(best.dtype)), there)
    if CODES:
        code = tl.where(y0 == best, 0, tl.where(y1 == best, 1, tl.where(y2 == best, 2, 3)))
        tl.store(codes + to, (code + tl.where(best > 0, 4, 0)).to(tl.uint8), there)


@triton.jit
def _pool_backward_kernel(gradient, codes, out, blocks, HALF_WIDTH: tl.constexpr, CHANNELS: tl.constexpr,
                          BLOCK: tl.constexpr):  # fmt: skip
    block, channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, CHANNELS)[None, :]
    there = (block < blocks)[:, None]
    first = out + _corner(block, HALF_WIDTH, CHANNELS)[:, None] + channel
    below: tl.constexpr = 2 * HALF_WIDTH * CHANNELS
    of = block.to(tl.int64)[:, None] * CHANNELS + channel
    code = tl.load(codes + of, there, 0).to(tl.int16)
    d = tl.load(gradient + of, there)
    d = tl.where(code >= 4, d, (d * 0.01).to(d.dtype))
    which = code & 3
    zero = (d * 0).to(d.dtype)
    tl.store(first, tl.where(which == 0, d, zero), there)
    tl.store(first + CHANNELS, tl.where(which == 1, d, zero), there)
    tl.store(first + below, tl.where(which == 2, d, zero), there)
    tl.store(first + (below + CHANNELS), tl.where(which == 3, d, zero), there)


class PooledActivation(torch.autograd.Function):
    """2×2 maximum, then LeakyReLU. [f, c, h, w], channels last -> [f, c, h/2, w/2], channels last."""

    @staticmethod
    def forward(ctx, maps: Tensor) -> Tensor:
        f, c, h, w = maps.shape
        rows = maps.permute(0, 2, 3, 1).contiguous()
        out = rows.new_empty(f, h // 2, w // 2, c)
        keep = maps.requires_grad
        codes = torch.empty(out.shape if keep else 0, dtype=torch.uint8, device=maps.device)
        blocks = out.numel() // c
        _pool_kernel[(triton.cdiv(blocks, BLOCKS),)](rows, out, codes, blocks, w // 2, c, BLOCKS, keep)
        ctx.save_for_backward(codes)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (codes,) = ctx.saved_tensors
        f, h, w, c = codes.shape
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        out = gradient.new_empty(f, h * 2, w * 2, c)
        blocks = f * h * w
        _pool_backward_kernel[(triton.cdiv(blocks, BLOCKS),)](gradient, codes, out, blocks, w, c, BLOCKS)
        return out.permute(0, 3, 1, 2)


@triton.jit
def _set_maximum_kernel(maps, ends, out, largest, FEATURES: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
                        KEEP: tl.constexpr):  # fmt: skip
    sequence = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    start, end = tl.load(ends + sequence), tl.load(ends + sequence + 1)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    frame_of_best = tl.zeros((BLOCK,), tl.int32) + start
    for frame in range(start, end, STEP):
        for step in tl.static_range(STEP):
            f = tl.minimum(frame + step, end - 1)  # past the end the last one again
            value = tl.load(maps + f.to(tl.int64) * FEATURES + column).to(tl.float32)
            # The second condition lets NaN through, as the maximum of torch does.
            larger = (value > best) | (value != value)
            best = tl.where(larger, value, best)
            if KEEP:
                frame_of_best = tl.where(larger, f, frame_of_best)
    to = sequence.to(tl.int64) * FEATURES + column
    tl.store(out + to, best.to(out.dtype.element_ty))
    if KEEP:
        tl.store(largest + to, frame_of_best)


@triton.jit
def _spread_kernel(gradient, largest, of_maps, out, ends, sequences, frames, FEATURES: tl.constexpr,
                   BLOCK: tl.constexpr, STEP: tl.constexpr, ADD: tl.constexpr):  # fmt: skip
    """The gradient of each maximum to its frame, none to the others, for all frames of one sequence."""
    sequence = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    start = tl.load(ends + sequence)
    end = tl.load(ends + sequence + 1, sequence < sequences, frames)  # those after the last sequence belong to none
    last = tl.minimum(sequence, sequences - 1)
    d = tl.load(gradient + last.to(tl.int64) * FEATURES + column)
    frame_of_best = tl.load(largest + last.to(tl.int64) * FEATURES + column)
    zero = (d * 0).to(d.dtype)
    for frame in range(start, end, STEP):
        f = (frame + tl.arange(0, STEP))[:, None]
        there = f < end
        at = f.to(tl.int64) * FEATURES + column[None, :]
        value = tl.where(frame_of_best[None, :] == f, d[None, :], zero[None, :])
        if ADD:
            value += tl.load(of_maps + at, there)
        tl.store(out + at, value, there)


class SetMaximum(torch.autograd.Function):
    """Set pooling over packed frames, beside the maps themselves for who reads them on.

    maps [f, c, h, w], channels last; ends [n + 1] int32: sequence i has the frames ends[i] to ends[i + 1] - 1, at
    least one. Returns (maps, pooled [n, c, h, w]). The gradient of each pooled element goes to the first frame that
    holds it, added to what the maps get from elsewhere.
    """

    @staticmethod
    def forward(ctx, maps: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        _, c, h, w = maps.shape
        rows = maps.permute(0, 2, 3, 1).contiguous()
        n, features = len(ends) - 1, c * h * w
        out = rows.new_empty(n, h, w, c)
        keep = maps.requires_grad
        largest = torch.empty((n, features) if keep else 0, dtype=torch.int32, device=maps.device)
        block = 512
        _set_maximum_kernel[(features // block, n)](rows, ends, out, largest, features, block, FRAMES_AT_ONCE, keep)
        ctx.save_for_backward(largest, ends)
        ctx.shape = maps.shape
        ctx.set_materialize_grads(False)
        return maps.view_as(maps), out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, of_maps: Tensor | None, of_pooled: Tensor | None):
        if of_pooled is None:
            return of_maps, None
        largest, ends = ctx.saved_tensors
        f, c, h, w = ctx.shape
        rows = of_pooled.permute(0, 2, 3, 1).contiguous()
        add = of_maps is not None
        if add:
            of_maps = of_maps.permute(0, 2, 3, 1).contiguous()
        out = rows.new_empty(f, h, w, c)
        features, sequences, block = c * h * w, len(ends) - 1, 512
        _spread_kernel[(features // block, sequences + 1)](
            rows, largest, of_maps if add else out, out, ends, sequences, f, features, block, FRAMES_AT_ONCE, add
        )
        return out.permute(0, 3, 1, 2), None
