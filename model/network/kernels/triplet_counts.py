"""Triton kernel that counts the active triplets of batch-all without storing a value per triplet."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _active_kernel(dist, excess, as_positive, as_negative, margin, K: tl.constexpr, N: tl.constexpr,
                   PADDED_K: tl.constexpr, PADDED_N: tl.constexpr):  # fmt: skip
    """Process one anchor of one strip: all its negatives against its K positives."""
    anchor = tl.program_id(0)
    row = (tl.program_id(1).to(tl.int64) * N + anchor) * N
    first = (anchor // K) * K  # the first row of the anchor's subject
    column, k = tl.arange(0, PADDED_N), tl.arange(0, PADDED_K)
    # All columns except those past the end and those of the anchor's subject.
    negative = (column < N) & ((column < first) | (column >= first + K))
    d = tl.load(dist + row + column, column < N, 0.0)
    positive = tl.load(dist + row + first + k, k < K, 0.0)
    # margin + d_ap - d_an of all pairs of a positive and a negative: [PADDED_K, PADDED_N].
    over = margin + positive[:, None] - d[None, :]
    # Comparisons with NaN are false. A NaN must count as active, or the loss would hide it.
    active = ((over > 0) | (over != over)) & negative[None, :] & (k < K)[:, None]
    # The sum per anchor, then the counts per positive and per negative.
    tl.store(excess + tl.program_id(1) * N + anchor, tl.sum(tl.sum(tl.where(active, over, 0.0), 1), 0))
    count = active.to(tl.float32)
    of_anchor = (tl.program_id(1).to(tl.int64) * N + anchor) * K
    tl.store(as_positive + of_anchor + k, tl.sum(count, 1), k < K)
    tl.store(as_negative + row + column, tl.sum(count, 0), column < N)


def active_triplets(dist: Tensor, sequences: int, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sum and count the active triplets of a P×K batch, as `model.network.triplet.active_triplets` does.

    Args:
        dist: float32 [p, n, n] per strip, the K = `sequences` rows of a subject next to each other.

    Returns:
        The sum of relu(margin + d_ap - d_an) over the triplets of each anchor [p, n], and the number of active triplets
        that contain each distance, as positive [p, n, K] and as negative [p, n, n].
    """
    strips, n, _ = dist.shape
    dist = dist.contiguous()
    excess, as_positive = dist.new_empty(strips, n), dist.new_empty(strips, n, sequences)
    as_negative = torch.empty_like(dist)
    padded = triton.next_power_of_2(sequences), triton.next_power_of_2(n)
    _active_kernel[(n, strips)](dist, excess, as_positive, as_negative, margin, sequences, n, *padded)
    return excess, as_positive, as_negative
