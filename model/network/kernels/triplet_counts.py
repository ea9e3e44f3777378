"""Counts the active triplets of batch-all without writing down one value a triplet."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _active_kernel(dist, excess, as_positive, as_negative, margin, K: tl.constexpr, N: tl.constexpr,
                   PADDED_K: tl.constexpr, PADDED_N: tl.constexpr):  # fmt: skip
    """One anchor of one bin: its row of distances against its K positives."""
    anchor = tl.program_id(0)
    row = (tl.program_id(1).to(tl.int64) * N + anchor) * N
    own = (anchor // K) * K  # the first row of the anchor's subject
    column, k = tl.arange(0, PADDED_N), tl.arange(0, PADDED_K)
    negative = (column < N) & ((column < own) | (column >= own + K))
    d = tl.load(dist + row + column, column < N, 0.0)
    positive = tl.load(dist + row + own + k, k < K, 0.0)
    over = margin + positive[:, None] - d[None, :]
    # NaN is above nothing; it must not pass for an inactive triplet.
    active = ((over > 0) | (over != over)) & negative[None, :] & (k < K)[:, None]
    tl.store(excess + tl.program_id(1) * N + anchor, tl.sum(tl.sum(tl.where(active, over, 0.0), 1), 0))
    count = active.to(tl.float32)
    of_anchor = (tl.program_id(1).to(tl.int64) * N + anchor) * K
    tl.store(as_positive + of_anchor + k, tl.sum(count, 1), k < K)
    tl.store(as_negative + row + column, tl.sum(count, 0), column < N)


def active_triplets(dist: Tensor, sequences: int, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """What `model.network.triplet` needs of all triplets of a P×K batch with K = `sequences`.

    dist: float32 [p, n, n], subjects side by side. Returns the sum of what is above 0 in margin + d_ap - d_an of each
    anchor [p, n], and in how many active triplets each distance is, as positive [p, n, K] and as negative [p, n, n].
    """
    bins, n, _ = dist.shape
    dist = dist.contiguous()
    excess, as_positive = dist.new_empty(bins, n), dist.new_empty(bins, n, sequences)
    as_negative = torch.empty_like(dist)
    padded = triton.next_power_of_2(sequences), triton.next_power_of_2(n)
    _active_kernel[(n, bins)](dist, excess, as_positive, as_negative, margin, sequences, n, *padded)
    return excess, as_positive, as_negative
