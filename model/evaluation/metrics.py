"""Rank-k and average precision, by counting instead of sorting.

Everything follows from one number per (probe, mate): how many wrong gallery entries lie at least as near to
the probe as that mate does. A *mate* is a gallery entry of the probe's own subject.
"""

from __future__ import annotations

import torch
from torch import Tensor


def wrong_before(distance: Tensor, mate: Tensor, most_mates: int | None = None) -> Tensor:
    """Wrong gallery entries at least as near as the probe's i-th nearest mate: [..., most_mates] int32.

    `distance` [..., n] float without NaN, `mate` [..., n] bool; an infinite distance means no gallery entry.
    `most_mates` bounds the mates of any one probe; given, no value is read back from the device.
    -1 where a probe has fewer than i + 1 mates.

    A wrong entry at exactly the mate's distance counts as nearer: an encoder that has collapsed to one
    embedding for everybody scores 0, where counting ties in the probe's favour would give it 100.
    """
    if distance.shape != mate.shape:
        raise ValueError(f"distance {list(distance.shape)} and mate {list(mate.shape)} must have one shape")
    if most_mates is None:
        most_mates = int(mate.sum(dim=-1).max()) if mate.numel() else 0
    if most_mates == 0:
        return torch.empty(*distance.shape[:-1], 0, dtype=torch.int32, device=distance.device)
    infinite = float("inf")
    mate_distance = torch.where(mate, distance, infinite)
    if most_mates == 1:  # a minimum is much cheaper than the general case, and OU-MVLP is this case
        nearest = mate_distance.amin(dim=-1, keepdim=True)
    else:
        nearest = mate_distance.topk(most_mates, dim=-1, largest=False, sorted=True).values
    wrong_distance = torch.where(mate, infinite, distance)
    # One pass over the distances a mate: a subject has a handful in a view, so this beats sorting by far.
    counts = [(wrong_distance <= nearest[..., i, None]).sum(dim=-1, dtype=torch.int32) for i in range(most_mates)]
    return torch.stack(counts, dim=-1).masked_fill_(nearest == infinite, -1)


def rank_hits(wrong: Tensor, ranks: int) -> Tensor:
    """Whether a mate is among the k nearest, k = 1..ranks: `wrong` [..., r] gives [..., ranks] bool.

    `wrong` is what `wrong_before` returns.
    Never for a probe without a mate. With a gallery smaller than k, k means the whole gallery.
    """
    if ranks < 1:
        raise ValueError(f"ranks must be at least 1, not {ranks}")
    if wrong.shape[-1] == 0:
        return torch.zeros(*wrong.shape[:-1], ranks, dtype=torch.bool, device=wrong.device)
    first = wrong[..., :1]
    return (first >= 0) & (first < torch.arange(1, ranks + 1, device=wrong.device))


def average_precision(wrong: Tensor) -> Tensor:
    """Mean over a probe's mates of the precision at each: `wrong` [..., r] gives [...] float64, 0 to 1.

    `wrong` is what `wrong_before` returns.
    The i-th nearest mate (from 1) stands at place i + wrong, where the precision is i / (i + wrong).
    0 for a probe without a mate.
    """
    found = wrong >= 0
    place = torch.arange(1, wrong.shape[-1] + 1, dtype=torch.float64, device=wrong.device)
    precision = torch.where(found, place / (place + wrong.clamp_min(0)), 0.0)
    return precision.sum(dim=-1) / found.sum(dim=-1).clamp_min(1)
