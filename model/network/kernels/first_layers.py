"""Triton kernels that fuse set layer 1, set layer 2 and max pooling, so that the full-size maps are never stored.

Why: each of the two layers produces a map of 64×44×32 elements per frame. These maps cause most of the memory traffic
of an iteration. In addition, library convolutions are slow with one input channel.

How: the unit of work is a *block*, one position of the pooled map with all 32 channels. A block needs 2×2 outputs of
layer 2, which need 4×4 outputs of layer 1, which need 8×8 pixels.

1. Layer 1 is computed two columns at a time. A window of 5×6 pixels is multiplied with a matrix that holds the 5×5
   kernels of both columns. Every output of layer 1 belongs to four blocks and is computed once per block. This costs
   little compared with layer 2.
2. The outputs of layer 1 stay in registers. They are multiplied with the matrices of layer 2, one matrix per row of the
   3×3 kernels and per pair of columns. The products are summed separately for the upper and the lower row of the 2×2
   outputs.
3. The block is the maximum of these 2×2 sums. The position of the maximum is saved in one byte, see `maxima.py`.

The backward kernel computes layer 1 again instead of loading the outputs of layer 1.

The kernels process only the active blocks, which `active_blocks` lists.

Constants in the kernels: a pooled map has 32 × 22 = 704 blocks, and a padded frame has 70 × 50 = 3500 pixels. The
matrix of layer 1 has 32 × 64 = 2048 elements, and each matrix of layer 2 has 64 × 64 = 4096 elements. A program of the
backward kernel writes 2048 + 3 · 4096 = 14336 sums.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.network.kernels.active_blocks import POOLED_HEIGHT, POOLED_WIDTH, list_blocks, pad_frames
from model.network.kernels.weight_matrices import CHANNELS, matrix_layout

# Number of blocks that a program processes together, and numbers of programs per multiprocessor. More programs would
# not fit into the registers of a multiprocessor.
BLOCK, FORWARD_PROGRAMS, BACKWARD_PROGRAMS = 64, 3, 1


@triton.jit
def _window_pixels(x, m):
    """Return pointers [BLOCK, 32] to the pixels of the first pair of outputs of layer 1 in each of the blocks `m`.

    The window of a pair has 5 rows × 6 columns. Two more pointers fill the axis up to 32. For the output pair
    (row, pair), add row · 50 + pair · 2 to the pointers.
    """
    start = tl.multiple_of((m // 704) * 3500 + ((m // 22) % 32) * 100 + (m % 22) * 2, 2)
    k = tl.arange(0, 32)
    offset = tl.where(k < 30, (k // 6) * 50 + k % 6, 0)
    # The width of a padded frame and all values of `start` are even, so two neighbouring pixels can be loaded together.
    offset = tl.max_contiguous(tl.multiple_of(offset, 2), 2)
    return x + (start[:, None] + offset[None, :])


@triton.jit
def _columns_inside(m, pair, dtype: tl.constexpr):
    """Return 1 for outputs of layer 1 inside the frame and 0 for outputs outside: [BLOCK, 64].

    The outputs are columns 2·pair and 2·pair + 1 of the 4×4 outputs of each block. Outside the frame, layer 2 reads its
    padding, which is 0, and not the values that layer 1 would have there.
    """
    column = 2 * (m % 22)[:, None] - 1 + 2 * pair + (tl.arange(0, 64) // 32)[None, :]
    return ((column >= 0) & (column < 44)).to(dtype)


@triton.jit
def _window(pixels, m, row: tl.constexpr, pair):
    """Load the window of the output pair (row, pair), or zeros if this row of layer 1 is outside the frame."""
    at = pixels + (row * 50 + pair * 2)
    if row == 0:
        return tl.load(at, mask=((m // 22) % 32 > 0)[:, None], other=0.0)
    elif row == 3:
        return tl.load(at, mask=((m // 22) % 32 < 31)[:, None], other=0.0)
    else:
        return tl.load(at)


@triton.jit
def _leaky(z):
    """LeakyReLU with slope 0.01. The last cast is needed because Triton's maximum of bfloat16 is a float32."""
    return tl.maximum(z, (z * 0.01).to(z.dtype)).to(z.dtype)


@triton.jit
def _forward_kernel(x, matrices, out, codes, active, count, BLOCK: tl.constexpr, CODES: tl.constexpr):
    """Write the pooled and activated maps of layer 2. If CODES is set, also write the codes of the maxima."""
    k32, n64 = tl.arange(0, 32), tl.arange(0, 64)
    square = n64[:, None] * 64 + n64[None, :]
    # The matrices of both layers stay in registers. The loop processes tiles, each of which is BLOCK active blocks.
    first, w2 = tl.load(matrices + k32[:, None] * 64 + n64[None, :]), matrices + 2048
    second = (
        tl.load(w2 + square), tl.load(w2 + 4096 + square), tl.load(w2 + 2 * 4096 + square),
        tl.load(w2 + 3 * 4096 + square), tl.load(w2 + 4 * 4096 + square), tl.load(w2 + 5 * 4096 + square),
    )  # fmt: skip
    count = tl.load(count)
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK), tl.num_programs(0)):
        place = tile * BLOCK + tl.arange(0, BLOCK)
        m = tl.load(active + tl.minimum(place, count - 1))  # places past the end of the list repeat its last block
        pixels = _window_pixels(x, m)
        # Sums of layer 2 for the upper and the lower row of the 2×2 outputs: column = channel · 2 + x.
        upper = tl.zeros((BLOCK, 64), tl.float32)
        lower = tl.zeros((BLOCK, 64), tl.float32)
        for pair in tl.static_range(2):
            inside = _columns_inside(m, pair, x.dtype.element_ty)
            for row in tl.static_range(4):
                # Layer 1: two output columns × 32 channels.
                a = _leaky(tl.dot(_window(pixels, m, row, pair), first).to(inside.dtype) * inside)
                # Layer 2: rows 0 to 2 contribute to the upper outputs, and rows 1 to 3 contribute to the lower outputs.
                if row < 3:
                    upper = tl.dot(a, second[row * 2 + pair], upper)
                if row > 0:
                    lower = tl.dot(a, second[(row - 1) * 2 + pair], lower)
        # Max pooling and LeakyReLU.
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
    """Return the gradient of the upper or lower row of a block's 2×2 outputs: [BLOCK, 64], column = channel · 2 + x."""
    left = tl.where((code & 3) == upper_left, d, 0.0)
    right = tl.where((code & 3) == upper_left + 1, d, 0.0)
    return tl.reshape(tl.join(left, right), (BLOCK, 64))


@triton.jit
def _backward_kernel(x, matrices, gradient, codes, sums, active, count, BLOCK: tl.constexpr):
    """Sum the weight gradients of both layers over this program's blocks. Axis 1 of the grid is the pair of columns."""
    k32, n64 = tl.arange(0, 32), tl.arange(0, 64)
    square = n64[:, None] * 64 + n64[None, :]
    pair = tl.program_id(1)
    dtype = x.dtype.element_ty
    first, w2 = tl.load(matrices + k32[:, None] * 64 + n64[None, :]), matrices + 2048 + pair * 4096
    second = (tl.load(w2 + square), tl.load(w2 + 2 * 4096 + square), tl.load(w2 + 4 * 4096 + square))
    # Sums for layer 1 and for the three kernel rows of layer 2.
    sum1 = tl.zeros((64, 32), tl.float32)
    sum20 = tl.zeros((64, 64), tl.float32)
    sum21 = tl.zeros((64, 64), tl.float32)
    sum22 = tl.zeros((64, 64), tl.float32)
    count = tl.load(count)
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK), tl.num_programs(0)):
        place = tile * BLOCK + tl.arange(0, BLOCK)
        valid = place < count
        m = tl.load(active + tl.minimum(place, count - 1))
        pixels = _window_pixels(x, m)
        # Propagate the gradient of the pooled maps back through LeakyReLU and max pooling.
        source = m[:, None] * 32 + k32[None, :]
        code = tl.load(codes + source).to(tl.int16)
        d = tl.where(valid[:, None], tl.load(gradient + source), 0.0).to(dtype)
        d = tl.where(code >= 4, d, (d * 0.01).to(dtype))
        upper = _gradient_of_outputs(d, code, 0, BLOCK)
        lower = _gradient_of_outputs(d, code, 2, BLOCK)
        inside = _columns_inside(m, pair, dtype)
        for row in tl.static_range(4):
            # Compute the outputs of layer 1 again, as in the forward kernel.
            window = _window(pixels, m, row, pair)
            a = _leaky(tl.dot(window, first).to(dtype) * inside)
            # The gradient of these outputs, back through layer 2.
            da = tl.zeros((BLOCK, 64), tl.float32)
            if row < 3:
                da = tl.dot(upper, tl.trans(second[row]), da)
            if row > 0:
                da = tl.dot(lower, tl.trans(second[row - 1]), da)
            # The weight gradient of layer 2, per kernel row.
            transposed = tl.trans(a)
            if row == 0:
                sum20 = tl.dot(transposed, upper, sum20)
            if row == 1:
                sum21 = tl.dot(transposed, upper, sum21)
                sum20 = tl.dot(transposed, lower, sum20)
            if row == 2:
                sum22 = tl.dot(transposed, upper, sum22)
                sum21 = tl.dot(transposed, lower, sum21)
            if row == 3:
                sum22 = tl.dot(transposed, lower, sum22)
            # Propagate the gradient back through LeakyReLU, then compute the weight gradient of layer 1.
            dz = da.to(dtype) * inside
            dz = tl.where(a > 0, dz, (dz * 0.01).to(dtype))
            sum1 = tl.dot(tl.trans(dz), window, sum1)
    # Each program writes its own sums. torch adds the sums of all programs.
    sums += (tl.program_id(0) * 2 + pair) * 14336
    tl.store(sums + n64[:, None] * 32 + k32[None, :], sum1)
    tl.store(sums + 2048 + square, sum20)
    tl.store(sums + 2048 + 4096 + square, sum21)
    tl.store(sums + 2048 + 2 * 4096 + square, sum22)


@cache
def _processors(device: torch.device) -> int:
    if device.type == "cpu":  # Triton's interpreter
        return 1
    return torch.get_device_module(device).get_device_properties(device).multi_processor_count


class FirstLayers(torch.autograd.Function):
    """Frames uint8 [f, 64, 44], weight1 [32, 1, 5, 5], weight2 [32, 32, 3, 3] -> maps of set_layer2 [f, 32, 32, 22].

    The maps have the given dtype and are channels last. Factors of products have this dtype, and sums are float32. The
    frames get no gradient.
    """

    @staticmethod
    def forward(ctx, frames: Tensor, weight1: Tensor, weight2: Tensor, dtype: torch.dtype) -> Tensor:
        total = len(frames) * POOLED_HEIGHT * POOLED_WIDTH
        padded, seen, counts = pad_frames(frames, dtype)
        out = padded.new_empty(total, CHANNELS)
        active, count = list_blocks(seen, counts, out)
        weights, zero, *of_sums = matrix_layout(frames.device)
        matrices = torch.cat((weight1.flatten(), weight2.flatten(), zero))[weights].to(dtype)
        keep = weight1.requires_grad or weight2.requires_grad
        codes = torch.empty(total if keep else 0, CHANNELS, dtype=torch.uint8, device=frames.device)
        programs = min(FORWARD_PROGRAMS * _processors(frames.device), triton.cdiv(total, BLOCK))
        _forward_kernel[(programs,)](
            padded, matrices, out, codes, active, count, BLOCK, keep, num_warps=4, num_stages=1
        )  # fmt: skip
        ctx.save_for_backward(padded, matrices, codes, active, count, *of_sums)
        ctx.shapes = weight1.shape, weight2.shape
        return out.view(len(frames), POOLED_HEIGHT, POOLED_WIDTH, CHANNELS).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        padded, matrices, codes, active, count, *of_sums = ctx.saved_tensors
        programs = min(BACKWARD_PROGRAMS * _processors(padded.device), triton.cdiv(len(codes), BLOCK))
        sums = padded.new_empty(programs, 2 * 14336, dtype=torch.float32)
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        _backward_kernel[(programs, 2)](
            padded, matrices, gradient, codes, sums, active, count, BLOCK, num_warps=4, num_stages=1
        )  # fmt: skip
        # The gradient of a weight is the sum over the programs and over the matrix elements that hold this weight.
        total = sums.sum(0)
        of_weights = (total[at].sum(1).view(shape) for at, shape in zip(of_sums, ctx.shapes, strict=True))
        return None, *of_weights, None
