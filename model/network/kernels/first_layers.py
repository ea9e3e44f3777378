"""Set layers 1 and 2 and their 2×2 maximum in one kernel each way, so that their large maps are never written.

Of an iteration's memory traffic most is the two maps of 64×44×32 a frame, and no library convolution is good at one
input channel. Here a row of work is a *block*: one element of the pooled map, that is 2×2 outputs of layer 2, hence
4×4 outputs of layer 1, hence 8×8 pixels. Layer 1 is computed anew for every block (four times in all: cheap beside
layer 2), two columns at a time, as a product of a window of 5×6 pixels with both columns' 5×5 kernels; its result
goes from registers straight into the products of layer 2, and the maximum is taken among the accumulators.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

BORDER = 3  # pixels around a frame that layer 1 sees when it is asked for a neighbour of layer 2
HEIGHT, WIDTH = 64, 44
PADDED_HEIGHT, PADDED_WIDTH = HEIGHT + 2 * BORDER, WIDTH + 2 * BORDER
POOLED_HEIGHT, POOLED_WIDTH = HEIGHT // 2, WIDTH // 2
CHANNELS = 32
# Blocks that a program takes at a time, and programs for each multiprocessor: as many as its registers hold.
BLOCK, FORWARD_PROGRAMS, BACKWARD_PROGRAMS = 64, 3, 1


@triton.jit
def _window_pixels(x, m):
    """Pointers to the pixels under the first two outputs of layer 1 of blocks `m`: 5 rows × 6 columns, filled up to 32.

    [BLOCK, 32]; those of the output pair (row, pair) lie row · 50 + pair · 2 further.
    """
    start = tl.multiple_of((m // 704) * 3500 + ((m // 22) % 32) * 100 + (m % 22) * 2, 2)
    k = tl.arange(0, 32)
    place = tl.where(k < 30, (k // 6) * 50 + k % 6, 0)
    # The width of the padded frame and all starts are even, so two neighbours can be read as one word.
    place = tl.max_contiguous(tl.multiple_of(place, 2), 2)
    return x + (start[:, None] + place[None, :])


@triton.jit
def _columns_inside(m, pair, dtype: tl.constexpr):
    """1 where columns 2·pair and 2·pair + 1 of a block's 4×4 outputs of layer 1 lie in the frame, else 0. [BLOCK, 64]

    Outside, layer 2 sees zeros, not what layer 1 would give there.
    """
    column = 2 * (m % 22)[:, None] - 1 + 2 * pair + (tl.arange(0, 64) // 32)[None, :]
    return ((column >= 0) & (column < 44)).to(dtype)


@triton.jit
def _window(pixels, m, row: tl.constexpr, pair):
    """The window of outputs (row, pair); zeros, which make zeros, where that row of layer 1 is outside the frame."""
    at = pixels + (row * 50 + pair * 2)
    if row == 0:
        return tl.load(at, mask=((m // 22) % 32 > 0)[:, None], other=0.0)
    elif row == 3:
        return tl.load(at, mask=((m // 22) % 32 < 31)[:, None], other=0.0)
    else:
        return tl.load(at)


@triton.jit
def _leaky(z):
    return tl.maximum(z, (z * 0.01).to(z.dtype)).to(z.dtype)  # Triton's maximum of bfloat16 is a float32


@triton.jit
def _forward_kernel(x, w1, w2, out, codes, blocks, BLOCK: tl.constexpr, CODES: tl.constexpr):
    k32, n64 = tl.arange(0, 32), tl.arange(0, 64)
    square = n64[:, None] * 64 + n64[None, :]
    first = tl.load(w1 + k32[:, None] * 64 + n64[None, :])
    second = (
        tl.load(w2 + square), tl.load(w2 + 4096 + square), tl.load(w2 + 2 * 4096 + square),
        tl.load(w2 + 3 * 4096 + square), tl.load(w2 + 4 * 4096 + square), tl.load(w2 + 5 * 4096 + square),
    )  # fmt: skip
    for tile in range(tl.program_id(0), tl.cdiv(blocks, BLOCK), tl.num_programs(0)):
        m = tile * BLOCK + tl.arange(0, BLOCK)
        m = tl.minimum(m, blocks - 1)  # rows past the end do the last block again
        pixels = _window_pixels(x, m)
        upper = tl.zeros((BLOCK, 64), tl.float32)
        lower = tl.zeros((BLOCK, 64), tl.float32)
        for pair in tl.static_range(2):
            inside = _columns_inside(m, pair, x.dtype.element_ty)
            for row in tl.static_range(4):
                a = _leaky(tl.dot(_window(pixels, m, row, pair), first).to(inside.dtype) * inside)
                if row < 3:
                    upper = tl.dot(a, second[row * 2 + pair], upper)
                if row > 0:
                    lower = tl.dot(a, second[(row - 1) * 2 + pair], lower)
        y0, y1 = tl.split(tl.reshape(upper, (BLOCK, 32, 2)))
        y2, y3 = tl.split(tl.reshape(lower, (BLOCK, 32, 2)))
        best = tl.maximum(tl.maximum(y0, y1), tl.maximum(y2, y3))
        to = m[:, None] * 32 + k32[None, :]
        tl.store(out + to, _leaky(best).to(out.dtype.element_ty))
        if CODES:
            code = tl.where(y0 == best, 0, tl.where(y1 == best, 1, tl.where(y2 == best, 2, 3)))
            tl.store(codes + to, (code + tl.where(best > 0, 4, 0)).to(tl.uint8))


@triton.jit
def _gradient_of_outputs(d, code, upper_left: tl.constexpr, BLOCK: tl.constexpr):
    """Gradient of one row of a block's 2×2 outputs: [BLOCK, 64], column = channel · 2 + x."""
    left = tl.where((code & 3) == upper_left, d, 0.0)
    right = tl.where((code & 3) == upper_left + 1, d, 0.0)
    return tl.reshape(tl.join(left, right), (BLOCK, 64))


@triton.jit
def _backward_kernel(x, w1, w2, gradient, codes, g1, g2, blocks, BLOCK: tl.constexpr):
    """Sums of both layers' weight gradients over this program's blocks; axis 1 of the grid is the pair of columns."""
    k32, n64 = tl.arange(0, 32), tl.arange(0, 64)
    square = n64[:, None] * 64 + n64[None, :]
    pair = tl.program_id(1)
    dtype = x.dtype.element_ty
    first = tl.load(w1 + k32[:, None] * 64 + n64[None, :])
    w2 += pair * 4096
    second = (tl.load(w2 + square), tl.load(w2 + 2 * 4096 + square), tl.load(w2 + 4 * 4096 + square))
    sum1 = tl.zeros((64, 32), tl.float32)
    sum20 = tl.zeros((64, 64), tl.float32)
    sum21 = tl.zeros((64, 64), tl.float32)
    sum22 = tl.zeros((64, 64), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(blocks, BLOCK), tl.num_programs(0)):
        m = tile * BLOCK + tl.arange(0, BLOCK)
        there = m < blocks
        m = tl.minimum(m, blocks - 1)
        pixels = _window_pixels(x, m)
        of = m[:, None] * 32 + k32[None, :]
        code = tl.load(codes + of).to(tl.int16)
        d = tl.where(there[:, None], tl.load(gradient + of), 0.0).to(dtype)
        d = tl.where(code >= 4, d, (d * 0.01).to(dtype))
        upper = _gradient_of_outputs(d, code, 0, BLOCK)
        lower = _gradient_of_outputs(d, code, 2, BLOCK)
        inside = _columns_inside(m, pair, dtype)
        for row in tl.static_range(4):
            window = _window(pixels, m, row, pair)
            a = _leaky(tl.dot(window, first).to(dtype) * inside)
            da = tl.zeros((BLOCK, 64), tl.float32)
            if row < 3:
                da = tl.dot(upper, tl.trans(second[row]), da)
            if row > 0:
                da = tl.dot(lower, tl.trans(second[row - 1]), da)
            at = tl.trans(a)
            if row == 0:
                sum20 = tl.dot(at, upper, sum20)
            if row == 1:
                sum21 = tl.dot(at, upper, sum21)
                sum20 = tl.dot(at, lower, sum20)
            if row == 2:
                sum22 = tl.dot(at, upper, sum22)
                sum21 = tl.dot(at, lower, sum21)
            if row == 3:
                sum22 = tl.dot(at, lower, sum22)
            dz = da.to(dtype) * inside
            dz = tl.where(a > 0, dz, (dz * 0.01).to(dtype))
            sum1 = tl.dot(tl.trans(dz), window, sum1)
    program = tl.program_id(0) * 2 + pair
    tl.store(g1 + program * 2048 + n64[:, None] * 32 + k32[None, :], sum1)
    g2 += program * 3 * 4096
    tl.store(g2 + square, sum20)
    tl.store(g2 + 4096 + square, sum21)
    tl.store(g2 + 2 * 4096 + square, sum22)


@cache
def _processors(device: torch.device) -> int:
    if device.type == "cpu":  # Triton's interpreter
        return 1
    return torch.get_device_module(device).get_device_properties(device).multi_processor_count


@cache
@torch.inference_mode(False)  # whoever asks first: training keeps these for the gradient, which forbids others
def _places(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where each weight stands in the kernels' matrices, which hold every weight twice.

    Returns, for layer 1 and layer 2: the flat weight that each matrix element holds (the one past the last: zero)
    and the two matrix elements that hold each weight [weights, 2].
    """
    # Layer 1, [32, 64]: row = pixel of the 5×6 window, column = (which of two neighbours, channel).
    ky, kx = np.divmod(np.arange(32)[:, None], 6)
    neighbour, channel = np.divmod(np.arange(64)[None, :], 32)
    dx = kx - neighbour
    held = np.where((ky < 5) & (dx >= 0) & (dx < 5), (channel * 5 + ky) * 5 + dx, CHANNELS * 25)
    # Layer 2, [3 dy, 2 pairs of columns, 64, 64]: row = (column within the pair, input channel), column = (output
    # channel, x of the block's outputs).
    dy, pair, row, column = np.ogrid[:3, :2, :64, :64]
    dx = 2 * pair + row // 32 - column % 2
    source = ((column // 2 * 32 + row % 32) * 3 + dy) * 3 + dx
    held2 = np.where((dx >= 0) & (dx < 3), source, CHANNELS * CHANNELS * 9)
    found = []
    for table in (held, held2):
        flat = table.reshape(-1)
        used = np.flatnonzero(flat < flat.max())
        twice = used[np.argsort(flat[used], kind="stable")].reshape(-1, 2)
        found += [torch.from_numpy(table).to(device), torch.from_numpy(twice).to(device)]
    return tuple(found)


def _matrix(weight: Tensor, held: Tensor, dtype: torch.dtype) -> Tensor:
    flat = F.pad(weight.detach().reshape(-1), (0, 1)).to(dtype)
    return flat[held].contiguous()


def pad_frames(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [f, 64, 44] -> [f, 70, 50] of `dtype`, values 0 to 1, zeros around."""
    return F.pad(frames.to(dtype).div_(255), (BORDER,) * 4)


class FirstLayers(torch.autograd.Function):
    """Padded frames [f, 70, 50] and both weights -> set_layer2's pooled, activated maps [f, 32, 32, 22].

    The maps have the dtype of the frames and lie channels last. Products are of that dtype, sums float32. No gradient
    for the frames.
    """

    @staticmethod
    def forward(ctx, frames: Tensor, weight1: Tensor, weight2: Tensor) -> Tensor:
        blocks = len(frames) * POOLED_HEIGHT * POOLED_WIDTH
        held1, twice1, held2, twice2 = _places(frames.device)
        matrix1, matrix2 = _matrix(weight1, held1, frames.dtype), _matrix(weight2, held2, frames.dtype)
        keep = weight1.requires_grad or weight2.requires_grad
        out = frames.new_empty(blocks, CHANNELS)
        codes = torch.empty(blocks if keep else 0, CHANNELS, dtype=torch.uint8, device=frames.device)
        programs = min(FORWARD_PROGRAMS * _processors(frames.device), triton.cdiv(blocks, BLOCK))
        _forward_kernel[(programs,)](
            frames, matrix1, matrix2, out, codes, blocks, BLOCK, keep, num_warps=4, num_stages=1
        )  # fmt: skip
        ctx.save_for_backward(frames, matrix1, matrix2, codes, twice1, twice2)
        ctx.shapes = weight1.shape, weight2.shape
        return _as_maps(out, len(frames))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        frames, matrix1, matrix2, codes, twice1, twice2 = ctx.saved_tensors
        blocks = len(codes)
        programs = min(BACKWARD_PROGRAMS * _processors(frames.device), triton.cdiv(blocks, BLOCK))
        sums1 = frames.new_empty(programs, 2 * 64 * 32, dtype=torch.float32)
        sums2 = frames.new_empty(programs, 2, 3, 64 * 64, dtype=torch.float32)
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        _backward_kernel[(programs, 2)](
            frames, matrix1, matrix2, gradient, codes, sums1, sums2, blocks, BLOCK, num_warps=4, num_stages=1
        )  # fmt: skip
        # Layer 1's matrix [32, 64] came back transposed, once for each pair of columns.
        of1 = sums1.view(-1, 64, 32).sum(0).t().reshape(-1)
        of2 = sums2.sum(0).transpose(0, 1).reshape(-1)
        return None, of1[twice1].sum(1).view(ctx.shapes[0]), of2[twice2].sum(1).view(ctx.shapes[1])


def _as_maps(rows: Tensor, frames: int) -> Tensor:
    """[f·32·22, c] -> [f, c, 32, 22], channels last: the same memory."""
    return rows.view(frames, POOLED_HEIGHT, POOLED_WIDTH, -1).permute(0, 3, 1, 2)
