"""Rank-k and average precision, by counting instead of sorting.

Everything follows from one number per (probe, mate): how many wrong gallery entries lie at least as near to
the probe as that mate does. A *mate* is a gallery entry of the probe's own subject. All entries that near are
counted, which needs no look at whose they are, and the mates among them are taken off again.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Farther than any distance, and than its square. A number: some NPUs turn infinity into it, and comparisons would fail.
INFINITE = torch.finfo(torch.float32).max


def nearest_mates(distance: Tensor, first: Tensor, stop: Tensor, most_mates: int) -> Tensor:
    """Distances of a probe's mates in each of v galleries, ascending: [m, v, most_mates], infinite where none is left.

    `distance` [m, n] float without NaN; the mates of probe i in gallery j stand in its columns first[i, j] up to,
    not including, stop[i, j], at most `most_mates` of them. No value is read back from the device.
    """
    column = first[..., None] + torch.arange(most_mates, device=first.device)
    absent = column >= stop[..., None]
    found = distance.gather(1, column.masked_fill(absent, 0).flatten(1)).view(column.shape)
    return found.masked_fill_(absent, INFINITE).sort(dim=-1).values


def entries_within(distance: Tensor, radius: Tensor) -> Tensor:
    """How many gallery entries lie within each radius of a probe: [..., n] and [..., r] give [..., r] int32."""
    # One pass over the distances a mate: a subject has a handful in a view, so this beats sorting by far.
    counts = [(distance <= edge[..., None]).sum(dim=-1, dtype=torch.int32) for edge in radius.unbind(-1)]
    return torch.stack(counts, dim=-1)


def wrong_before(within: Tensor, nearest: Tensor) -> Tensor:
    """Wrong gallery entries at least as near as the probe's i-th nearest mate: [..., r] int32.

    `nearest` [..., r] are the distances of its mates as `nearest_mates` gives them, `within` [..., r] the
    `entries_within` them. -1 where a probe has fewer than i + 1 mates.

    A wrong entry at exactly the mate's distance counts as nearer: an encoder that has collapsed to one
    embedding for everybody scores 0, where counting ties in the probe's favour would give it 100.
    """
    mates_within = torch.searchsorted(nearest, nearest, right=True, out_int32=True)
    return (within - mates_within).masked_fill_(nearest == INFINITE, -1)


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
