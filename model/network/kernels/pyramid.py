"""Triton kernels for horizontal pyramid pooling of both branches. The strips have the order of the network's output."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.common.geometry import PYRAMID, STRIPS

CHANNEL_CHUNK = 32  # channels of one sequence per program
ROWS = tl.constexpr(PYRAMID[-1])  # each row of a map is a strip of the last level


@triton.jit
def _rows(CHANNELS: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr):
    """Return the sequence and the channels of this program, and the offsets of the first column of its rows."""
    sequence, channel = tl.program_id(0), (tl.program_id(1) * CHUNK + tl.arange(0, CHUNK))[None, :]
    row = sequence.to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    return sequence, channel, row * (WIDTH * CHANNELS) + channel


@triton.jit
def _pool_rows(of_set, of_global, offset, branch: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """Return the sum and the maximum of each row, and the first column that holds the maximum.

    Branch 0 is the set map. Branch 1 is the sum of the set map and the global map.
    """
    total = tl.zeros(offset.shape, tl.float32)
    largest = tl.full(offset.shape, float("-inf"), tl.float32)
    first = tl.zeros(offset.shape, tl.int32)
    for column in tl.static_range(WIDTH):
        value = tl.load(of_set + offset + column * CHANNELS).to(tl.float32)
        if branch == 1:
            value += tl.load(of_global + offset + column * CHANNELS).to(tl.float32)
        total += value
        first = tl.where(value > largest, column, first)
        largest = tl.maximum(largest, value)
    return total, largest, first


@triton.jit
def _first_strip(level, branch):
    """Return the index of the first strip of a level and branch in the output. Level 0 has 16 strips, level 4 has 1."""
    return (2 + branch) * (ROWS >> level) - 2


@triton.jit
def _pyramid_kernel(of_set, of_global, out, sequences, CHANNELS: tl.constexpr, WIDTH: tl.constexpr,
                    CHUNK: tl.constexpr):  # fmt: skip
    sequence, channel, offset = _rows(CHANNELS, WIDTH, CHUNK)
    for branch in tl.static_range(2):
        total, largest, _ = _pool_rows(of_set, of_global, offset, branch, CHANNELS, WIDTH)
        # From 16 strips to 1 strip: each strip joins two strips of the previous level of this loop.
        for level in tl.static_range(5):
            strip = _first_strip(level, branch) + tl.arange(0, ROWS >> level)[:, None]
            value = total / (WIDTH << level) + largest
            to = (strip.to(tl.int64) * sequences + sequence) * CHANNELS + channel
            tl.store(out + to, value.to(out.dtype.element_ty))
            if level < 4:
                total = tl.sum(tl.reshape(total, (ROWS >> level + 1, 2, CHUNK)), 1)
                largest = tl.max(tl.reshape(largest, (ROWS >> level + 1, 2, CHUNK)), 1)


@triton.jit
def _gradient_of_rows(gradient, largest, branch, sequences, sequence, channel, CHANNELS: tl.constexpr,
                      WIDTH: tl.constexpr, CHUNK: tl.constexpr):  # fmt: skip
    """Return two gradients of each row, summed over the levels.

    The first gradient comes from the means and belongs to every element of the row. The second gradient comes from the
    maxima and belongs to the maximum of the row.
    """
    row = tl.arange(0, ROWS)[:, None]
    of_means = tl.zeros((ROWS, CHUNK), tl.float32)
    of_maximum = tl.zeros((ROWS, CHUNK), tl.float32)
    for level in tl.static_range(5):
        strip = _first_strip(level, branch) + row // (1 << level)
        d = tl.load(gradient + (strip.to(tl.int64) * sequences + sequence) * CHANNELS + channel).to(tl.float32)
        of_means += d / (WIDTH << level)
        # The gradient of a strip's maximum goes to the first row that holds this maximum.
        rows = tl.reshape(largest, (ROWS >> level, 1 << level, CHUNK))
        index = tl.arange(0, 1 << level)[None, :, None]
        first = tl.min(tl.where(rows == tl.max(rows, 1)[:, None, :], index, ROWS), 1)
        of_maximum += tl.where(tl.reshape(index == first[:, None, :], (ROWS, CHUNK)), d, 0.0)
    return of_means, of_maximum


@triton.jit
def _pyramid_backward_kernel(of_set, of_global, gradient, to_set, to_global, sequences, CHANNELS: tl.constexpr,
                             WIDTH: tl.constexpr, CHUNK: tl.constexpr):  # fmt: skip
    """Write the gradients of both maps. The gradient of a maximum goes to the first of equal elements, row by row."""
    sequence, channel, offset = _rows(CHANNELS, WIDTH, CHUNK)
    _, largest, first0 = _pool_rows(of_set, of_global, offset, 0, CHANNELS, WIDTH)
    means0, maximum0 = _gradient_of_rows(gradient, largest, 0, sequences, sequence, channel, CHANNELS, WIDTH, CHUNK)
    _, largest, first1 = _pool_rows(of_set, of_global, offset, 1, CHANNELS, WIDTH)
    means1, maximum1 = _gradient_of_rows(gradient, largest, 1, sequences, sequence, channel, CHANNELS, WIDTH, CHUNK)
    for column in tl.static_range(WIDTH):
        d = means1 + tl.where(first1 == column, maximum1, 0.0)
        tl.store(to_global + offset + column * CHANNELS, d.to(to_global.dtype.element_ty))
        d += means0 + tl.where(first0 == column, maximum0, 0.0)
        tl.store(to_set + offset + column * CHANNELS, d.to(to_set.dtype.element_ty))


class Pyramid(torch.autograd.Function):
    """Pool both branches: (set, global) [n, c, 16, w], channels last -> [62, n, c], strips ordered as `strip_labels`.

    Before pooling, the set maps are added to the global maps. c is a multiple of CHANNEL_CHUNK.
    """

    @staticmethod
    def forward(ctx, of_set: Tensor, of_global: Tensor) -> Tensor:
        rows = [maps.permute(0, 2, 3, 1).contiguous() for maps in (of_set, of_global)]
        n, _, width, channels = rows[0].shape
        out = of_set.new_empty(STRIPS, n, channels)
        ctx.grid, ctx.sizes = (n, channels // CHANNEL_CHUNK), (n, channels, width, CHANNEL_CHUNK)
        _pyramid_kernel[ctx.grid](*rows, out, *ctx.sizes, num_warps=2)
        ctx.save_for_backward(*rows)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows = ctx.saved_tensors
        found = [torch.empty_like(each) for each in rows]
        _pyramid_backward_kernel[ctx.grid](*rows, gradient.contiguous(), *found, *ctx.sizes, num_warps=2)
        return tuple(each.permute(0, 3, 1, 2) for each in found)
