"""Triton kernels for both triplet losses. They store two numbers per pair of embeddings and nothing per triplet."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _distances(products, squares, other):
    """Return distances, given inner products and both squared norms of each pair.

    NaN stays NaN, as in `triplet.pairwise_distance`.
    """
    squared = squares + other - 2 * products
    return tl.sqrt_rn(tl.where(squared < 0, 0.0, squared))


@triton.jit
def _losses_kernel(products, squares, dist, factors, hardest, sums, margin, strips, K: tl.constexpr, N: tl.constexpr,
                   PADDED_K: tl.constexpr, PADDED_N: tl.constexpr):  # fmt: skip
    """Process all triplets of one anchor in one strip, one per pair of a positive and a negative."""
    anchor, strip = tl.program_id(0), tl.program_id(1)
    row = (strip.to(tl.int64) * N + anchor) * N
    first = (anchor // K) * K  # the first row of the anchor's subject
    column, k = tl.arange(0, PADDED_N), tl.arange(0, PADDED_K)
    exists = column < N
    # Negatives are all existing columns except the columns of the anchor's subject.
    negative = exists & ((column < first) | (column >= first + K))
    squares += strip * N
    square = tl.load(squares + anchor)
    d = _distances(tl.load(products + row + column, exists, 0.0), square, tl.load(squares + column, exists, 0.0))
    own = first + k
    positive = _distances(tl.load(products + row + own, k < K, 0.0), square, tl.load(squares + own, k < K, 0.0))
    tl.store(dist + row + column, d, exists)
    # margin + d_ap - d_an of all pairs of a positive and a negative: [PADDED_K, PADDED_N].
    over = margin + positive[:, None] - d[None, :]
    # Comparisons with NaN are false. A NaN must count as active, or the loss would hide it.
    active = ((over > 0) | (over != over)) & negative[None, :] & (k < K)[:, None]
    count = active.to(tl.float32)
    # The factor of each distance in the sum over the active triplets: the number of active triplets that contain the
    # distance, with a minus sign for negatives.
    as_positive = tl.sum(count, 1)
    tl.store(factors + row + column, -tl.sum(count, 0), negative)
    tl.store(factors + row + own, as_positive, k < K)
    # Batch-hard. The maximum and the minimum ignore NaN, so the sum of all distances shows whether there is a NaN.
    farthest = tl.max(tl.where(k < K, positive, float("-inf")), 0)
    nearest = tl.min(tl.where(negative, d, float("inf")), 0)
    total = tl.sum(tl.where(exists, d, 0.0), 0)
    hard = tl.maximum(margin + farthest - nearest, 0.0)
    hard = tl.where(total == total, hard, total)
    # Columns of the farthest positive and the nearest negative, or -1 if the loss of the anchor is 0.
    of_hard = hardest + (strip * N + anchor) * 2
    far = tl.min(tl.where((k < K) & (positive == farthest), own, N), 0)
    near = tl.min(tl.where(negative & (d == nearest), column, N), 0)
    tl.store(of_hard, tl.where(hard > 0, far, -1))
    tl.store(of_hard + 1, tl.where(hard > 0, near, -1))
    # Per anchor: the sum and the number of the active triplets, the batch-hard loss and the sum of the distances.
    to = sums + strip * N + anchor
    tl.store(to, tl.sum(tl.sum(tl.where(active, over, 0.0), 1), 0))
    tl.store(to + strips * N, tl.sum(as_positive, 0))
    tl.store(to + 2 * strips * N, hard)
    tl.store(to + 3 * strips * N, total)


@triton.jit
def _of_distances(factors, far, near, dist, of_full, of_hard, row, column):
    """Return the gradient of each distance divided by the distance, or 0 if the distance is 0."""
    found = factors * of_full + of_hard * ((column == far).to(tl.float32) - (column == near).to(tl.float32))
    none = (dist == 0) | (row == column)
    return tl.where(none, 0.0, found / tl.where(none, 1.0, dist))


@triton.jit
def _losses_backward_kernel(dist, factors, hardest, of_full, of_hard, out, N: tl.constexpr, PADDED_N: tl.constexpr):
    """Write one row of a matrix. The product of this matrix with the embeddings is the gradient of the embeddings."""
    i, strip = tl.program_id(0), tl.program_id(1)
    j = tl.arange(0, PADDED_N)
    exists = j < N
    start = strip.to(tl.int64) * N * N
    of_full, of_hard = tl.load(of_full + strip), tl.load(of_hard + strip)
    hardest += strip * N * 2
    # The gradient of the pair (i, j) with i as the anchor, plus the gradient with j as the anchor.
    at, mirrored = start + i * N + j, start + j * N + i
    found = _of_distances(
        tl.load(factors + at, exists, 0.0), tl.load(hardest + i * 2), tl.load(hardest + i * 2 + 1),
        tl.load(dist + at, exists, 0.0), of_full, of_hard, i, j,
    )  # fmt: skip
    found += _of_distances(
        tl.load(factors + mirrored, exists, 0.0), tl.load(hardest + j * 2, exists, -1),
        tl.load(hardest + j * 2 + 1, exists, -1), tl.load(dist + mirrored, exists, 0.0), of_full, of_hard, j, i,
    )  # fmt: skip
    # The gradient of |x_i - x_j| with respect to x_i is (x_i - x_j) / |x_i - x_j|.
    tl.store(out + at, tl.where(j == i, tl.sum(found, 0), -found), exists)


class Losses(torch.autograd.Function):
    """Batch-all and batch-hard loss, number of active triplets and mean distance per strip, float32 [p] each.

    See `model.network.triplet.triplet_losses`, whose implementation in torch is the reference.

    embeddings: float32 [p, n, d]. The K = `sequences` rows of a subject are next to each other.
    """

    @staticmethod
    def forward(ctx, embeddings: Tensor, sequences: int, margin: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        strips, n, _ = embeddings.shape
        products, squares = embeddings.bmm(embeddings.transpose(1, 2)), embeddings.square().sum(2)
        dist, factors = torch.empty_like(products), torch.empty_like(products)
        hardest = torch.empty(strips, n, 2, dtype=torch.int32, device=products.device)
        sums = products.new_empty(4, strips, n)
        padded = triton.next_power_of_2(sequences), triton.next_power_of_2(n)
        warps = min(max(padded[0] * padded[1] // 2048, 1), 16)
        _losses_kernel[(n, strips)](
            products, squares, dist, factors, hardest, sums, margin, strips, sequences, n, *padded, num_warps=warps
        )
        full, number, hard, total = sums.sum(2)
        divisor = number.clamp(min=1)
        ctx.save_for_backward(embeddings, dist, factors, hardest, divisor)
        mean = total / (n * n)
        ctx.mark_non_differentiable(number, mean)
        return full / divisor, hard / n, number, mean

    @staticmethod
    def backward(ctx, of_full: Tensor, of_hard: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        embeddings, dist, factors, hardest, divisor = ctx.saved_tensors
        strips, n, _ = embeddings.shape
        matrix = torch.empty_like(dist)
        _losses_backward_kernel[(n, strips)](
            dist, factors, hardest, of_full / divisor, of_hard / n, matrix, n, triton.next_power_of_2(n), num_warps=1
        )
        return matrix.bmm(embeddings), None, None
