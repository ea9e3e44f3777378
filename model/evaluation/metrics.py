"""Compute rank-k hits and average precision by counting impostors instead of sorting distances.

A *mate* is a gallery entry of the probe's own subject, and an *impostor* is an entry of another subject. Rank-k and
average precision need one number per probe and mate: the number of impostors that are at least as close to the probe as
the mate is. To get this number, all entries within the distance of the mate are counted, which needs no subject labels.
The number of mates among these entries is then subtracted.
"""

import torch
from torch import Tensor

# Larger than any distance and any squared distance. The value is finite because some NPUs replace infinity by this
# value, so that comparisons with infinity fail.
INFINITE = torch.finfo(torch.float32).max


def mate_distances(distance: Tensor, first: Tensor, stop: Tensor, most_mates: int) -> Tensor:
    """Return the distances of each probe's mates in each of v galleries: [m, v, most_mates].

    Missing mates have distance INFINITE. No value is copied to the host.

    Args:
        distance: [m, n] float without NaN.
        first, stop: [m, v]. The mates of probe i in gallery j are columns first[i, j] to stop[i, j] - 1.
        most_mates: the largest number of mates of any probe in any gallery.
    """
    column = first[..., None] + torch.arange(most_mates, device=first.device)
    absent = column >= stop[..., None]
    found = distance.gather(1, column.masked_fill(absent, 0).flatten(1)).view(column.shape)
    return found.masked_fill_(absent, INFINITE)


def entries_within(distance: Tensor, radius: Tensor) -> Tensor:
    """Count the gallery entries within each radius of a probe: [..., n] and [..., r] -> [..., r] int32."""
    # One pass over the distances per mate. A probe has few mates per view, so this is much faster than sorting.
    counts = [(distance <= edge[..., None]).sum(dim=-1, dtype=torch.int32) for edge in radius.unbind(-1)]
    return torch.stack(counts, dim=-1)


def closer_impostors(within: Tensor, nearest: Tensor) -> Tensor:
    """Count the impostors that are at least as close as each mate: [..., r] int32, -1 for a missing mate.

    Ties count against the probe: an encoder that returns the same embedding for every sequence has a rank-1 of 0. If
    ties counted in favor of the probe, such an encoder would have a rank-1 of 100 %.

    Args:
        within: [..., r], result of `entries_within` for the distances in `nearest`.
        nearest: [..., r], distances of the mates in ascending order, INFINITE for missing mates.
    """
    mates_within = torch.searchsorted(nearest, nearest, right=True, out_int32=True)
    return (within - mates_within).masked_fill_(nearest == INFINITE, -1)


def rank_hits(impostors: Tensor, ranks: int) -> Tensor:
    """Return whether a mate is among the k nearest entries, for k = 1..ranks: [..., r] -> [..., ranks] bool.

    `impostors` is the result of `closer_impostors`. A probe without a mate has no hits. If the gallery has fewer than k
    entries, rank k covers the whole gallery. Raises ValueError if `ranks` is below 1.
    """
    if ranks < 1:
        raise ValueError(f"ranks must be at least 1, got {ranks}")
    first = impostors[..., :1]
    return (first >= 0) & (first < torch.arange(1, ranks + 1, device=impostors.device))


def average_precision(impostors: Tensor) -> Tensor:
    """Return the mean precision at the mates of each probe: [..., r] -> [...] float64 from 0 to 1.

    `impostors` is the result of `closer_impostors`. If n impostors are at least as close as the i-th nearest mate (i
    from 1), the mate has rank i + n, and the precision at this rank is i / (i + n). The result is 0 for a probe without
    a mate.
    """
    found = impostors >= 0
    place = torch.arange(1, impostors.shape[-1] + 1, dtype=torch.float64, device=impostors.device)
    precision = torch.where(found, place / (place + impostors.clamp_min(0)), 0.0)
    return precision.sum(dim=-1) / found.sum(dim=-1).clamp_min(1)
