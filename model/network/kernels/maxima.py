"""Triton kernels for LeakyReLU, for max pooling with LeakyReLU and for set pooling.

For the backward pass, LeakyReLU saves one bit per element, which is 1 if the element is positive. Max pooling saves a
code of one byte per maximum. Set pooling saves the frame of each maximum as an int32.

LeakyReLU is increasing, so it can follow max pooling and is applied to the maxima only. Maps are stored channels last
and can have any float dtype.

The code of a 2×2 maximum is the index of its element, 0 to 3 (upper left, upper right, lower left, lower right), plus 4
if the maximum is positive. With the code, the backward kernel selects the element that gets the gradient, and the slope
of LeakyReLU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BYTE_CHUNK = 512  # bytes per program of LeakyReLU; each byte holds the bits of 8 elements
BLOCK_CHUNK = 16  # blocks of 2×2 elements, with all channels, per program of max pooling
FRAME_CHUNK = 8  # frames that a program of set pooling loads together
FEATURE_CHUNK = 512  # elements of a map per program of set pooling


@triton.jit
def _load_bytes(maps, bytes, BLOCK: tl.constexpr):
    """Return the 8 elements of each byte of this program, their offsets, the indices of the bytes and a mask.

    The mask is False for bytes after the last byte.
    """
    byte = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = byte.to(tl.int64)[:, None] * 8 + tl.arange(0, 8)[None, :]
    return tl.load(maps + at, (byte < bytes)[:, None], 0.0), at, byte, byte < bytes


@triton.jit
def _activate_kernel(maps, bits, bytes, BLOCK: tl.constexpr):
    z, at, byte, valid = _load_bytes(maps, bytes, BLOCK)
    # Add one bit for each positive element, and 256 for each negative element.
    signs = tl.sum(tl.where(z > 0, 1 << tl.arange(0, 8)[None, :], tl.where(z < 0, 256, 0)), 1)
    tl.store(bits + byte, (signs & 255).to(tl.uint8), valid)
    # Without a negative element, as in black areas, the 8 elements of a byte do not change. Skipping them saves time.
    tl.store(maps + at, tl.maximum(z, (z * 0.01).to(z.dtype)), (valid & (signs >= 256))[:, None])


@triton.jit
def _activate_backward_kernel(gradient, bits, out, bytes, BLOCK: tl.constexpr):
    d, at, byte, valid = _load_bytes(gradient, bytes, BLOCK)
    positive = (tl.load(bits + byte, valid, 0).to(tl.int32)[:, None] >> tl.arange(0, 8)[None, :]) & 1
    tl.store(out + at, tl.where(positive != 0, d, (d * 0.01).to(d.dtype)), valid[:, None])


class Activation(torch.autograd.Function):
    """In-place LeakyReLU. The maps must be channels last, and their number of elements a multiple of 8."""

    @staticmethod
    def forward(ctx, maps: Tensor) -> Tensor:
        assert maps.is_contiguous(memory_format=torch.channels_last), "the maps are not channels last"
        bits = torch.empty(maps.numel() // 8, dtype=torch.uint8, device=maps.device)
        _activate_kernel[(triton.cdiv(len(bits), BYTE_CHUNK),)](maps, bits, len(bits), BYTE_CHUNK)
        ctx.mark_dirty(maps)
        ctx.save_for_backward(bits)
        return maps

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (bits,) = ctx.saved_tensors
        rows = gradient.permute(0, 2, 3, 1).contiguous()
        out = torch.empty_like(rows)
        _activate_backward_kernel[(triton.cdiv(len(bits), BYTE_CHUNK),)](rows, bits, out, len(bits), BYTE_CHUNK)
        return out.permute(0, 3, 1, 2)


@triton.jit
def _corner(block, HALF_WIDTH: tl.constexpr, CHANNELS: tl.constexpr):
    """Return the offset of the upper left element of each 2×2 block. `block` counts the blocks of all frames."""
    row, column = block // HALF_WIDTH, block % HALF_WIDTH
    return (row.to(tl.int64) * (4 * HALF_WIDTH) + column * 2) * CHANNELS


@triton.jit
def _pool_kernel(maps, out, codes, blocks, HALF_WIDTH: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
                 CODES: tl.constexpr):  # fmt: skip
    block, channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, CHANNELS)[None, :]
    valid = (block < blocks)[:, None]
    first = maps + _corner(block, HALF_WIDTH, CHANNELS)[:, None] + channel
    below: tl.constexpr = 2 * HALF_WIDTH * CHANNELS
    # The four elements of each block.
    y0, y1 = tl.load(first, valid), tl.load(first + CHANNELS, valid)
    y2, y3 = tl.load(first + below, valid), tl.load(first + (below + CHANNELS), valid)
    best = tl.maximum(tl.maximum(y0, y1), tl.maximum(y2, y3))
    # Pooled and activated maps, with 0.01 as the slope of LeakyReLU.
    to = block.to(tl.int64)[:, None] * CHANNELS + channel
    tl.store(out + to, tl.maximum(best, (best * 0.01).to(best.dtype)), valid)
    if CODES:
        code = tl.where(y0 == best, 0, tl.where(y1 == best, 1, tl.where(y2 == best, 2, 3)))
        tl.store(codes + to, (code + tl.where(best > 0, 4, 0)).to(tl.uint8), valid)


@triton.jit
def _pool_backward_kernel(gradient, codes, out, blocks, HALF_WIDTH: tl.constexpr, CHANNELS: tl.constexpr,
                          BLOCK: tl.constexpr):  # fmt: skip
    block, channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, CHANNELS)[None, :]
    valid = (block < blocks)[:, None]
    first = out + _corner(block, HALF_WIDTH, CHANNELS)[:, None] + channel
    below: tl.constexpr = 2 * HALF_WIDTH * CHANNELS
    source = block.to(tl.int64)[:, None] * CHANNELS + channel
    code = tl.load(codes + source, valid, 0).to(tl.int16)
    d = tl.load(gradient + source, valid)
    # The gradient of LeakyReLU, then of the maximum: all of it goes to one of the four elements.
    d = tl.where(code >= 4, d, (d * 0.01).to(d.dtype))
    index = code & 3
    zero = (d * 0).to(d.dtype)
    tl.store(first, tl.where(index == 0, d, zero), valid)
    tl.store(first + CHANNELS, tl.where(index == 1, d, zero), valid)
    tl.store(first + below, tl.where(index == 2, d, zero), valid)
    tl.store(first + (below + CHANNELS), tl.where(index == 3, d, zero), valid)


class PooledActivation(torch.autograd.Function):
    """2×2 max pooling, then LeakyReLU. [f, c, h, w] -> [f, c, h / 2, w / 2], channels last."""

    @staticmethod
    def forward(ctx, maps: Tensor) -> Tensor:
        f, c, h, w = maps.shape
        rows = maps.permute(0, 2, 3, 1).contiguous()
        out = rows.new_empty(f, h // 2, w // 2, c)
        keep = maps.requires_grad
        codes = torch.empty(out.shape if keep else 0, dtype=torch.uint8, device=maps.device)
        blocks = out.numel() // c
        _pool_kernel[(triton.cdiv(blocks, BLOCK_CHUNK),)](rows, out, codes, blocks, w // 2, c, BLOCK_CHUNK, keep)
        ctx.save_for_backward(codes)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (codes,) = ctx.saved_tensors
        f, h, w, c = codes.shape
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        out = gradient.new_empty(f, h * 2, w * 2, c)
        blocks = f * h * w
        _pool_backward_kernel[(triton.cdiv(blocks, BLOCK_CHUNK),)](gradient, codes, out, blocks, w, c, BLOCK_CHUNK)
        return out.permute(0, 3, 1, 2)


@triton.jit
def _set_maximum_kernel(maps, ends, out, largest, FEATURES: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
                        KEEP: tl.constexpr):  # fmt: skip
    sequence = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    start, end = tl.load(ends + sequence), tl.load(ends + sequence + 1)
    # The maximum over the frames read so far and, if KEEP is set, the first frame that holds this maximum.
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    frame_of_best = tl.zeros((BLOCK,), tl.int32) + start
    for frame in range(start, end, STEP):
        for step in tl.static_range(STEP):
            f = tl.minimum(frame + step, end - 1)  # past the end: repeat the last frame
            value = tl.load(maps + f.to(tl.int64) * FEATURES + column).to(tl.float32)
            # The second condition propagates NaN, as torch's maximum does.
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
    """Write the gradient of all frames of one sequence. The gradient of a maximum goes to the frame of this maximum.

    If ADD is set, add `of_maps`, the gradient that the maps receive from the next layer. The last program of axis 1
    writes the frames after the last sequence, which get no gradient from set pooling.
    """
    sequence = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    start = tl.load(ends + sequence)
    end = tl.load(ends + sequence + 1, sequence < sequences, frames)
    last = tl.minimum(sequence, sequences - 1)
    d = tl.load(gradient + last.to(tl.int64) * FEATURES + column)
    frame_of_best = tl.load(largest + last.to(tl.int64) * FEATURES + column)
    zero = (d * 0).to(d.dtype)
    for frame in range(start, end, STEP):
        f = (frame + tl.arange(0, STEP))[:, None]
        valid = f < end
        at = f.to(tl.int64) * FEATURES + column[None, :]
        value = tl.where(frame_of_best[None, :] == f, d[None, :], zero[None, :])
        if ADD:
            value += tl.load(of_maps + at, valid)
        tl.store(out + at, value, valid)


class SetMaximum(torch.autograd.Function):
    """Set pooling over packed frames: (maps, ends) -> (maps, pooled [n, c, h, w]).

    The maps are also returned, for the next layer. So the backward pass can add the gradients from the next layer and
    from set pooling in one kernel. The gradient of a maximum goes to the first frame that holds this maximum.

    maps: [f, c, h, w], channels last; c·h·w is a multiple of FEATURE_CHUNK.
    ends: int32 [n + 1]. Sequence i has the frames ends[i] to ends[i + 1] - 1, which are at least one frame.
    """

    @staticmethod
    def forward(ctx, maps: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        _, c, h, w = maps.shape
        rows = maps.permute(0, 2, 3, 1).contiguous()
        n, features = len(ends) - 1, c * h * w
        out = rows.new_empty(n, h, w, c)
        keep = maps.requires_grad
        largest = torch.empty((n, features) if keep else 0, dtype=torch.int32, device=maps.device)
        _set_maximum_kernel[(features // FEATURE_CHUNK, n)](
            rows, ends, out, largest, features, FEATURE_CHUNK, FRAME_CHUNK, keep
        )
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
        features, sequences = c * h * w, len(ends) - 1
        _spread_kernel[(features // FEATURE_CHUNK, sequences + 1)](
            rows, largest, of_maps if add else out, out, ends, sequences, f, features, FEATURE_CHUNK, FRAME_CHUNK, add
        )
        return out.permute(0, 3, 1, 2), None
