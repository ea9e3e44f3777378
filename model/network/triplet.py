"""Batch-all and batch-hard triplet losses over a P×K batch, on the device, with static shapes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.devices import triton_support
from model.network import kernels as fused


class TripletLosses(NamedTuple):
    """Per bin, float32, [bins] each. `full_num` (active triplets) and `mean_dist` carry no gradient."""

    full: Tensor
    hard: Tensor
    full_num: Tensor
    mean_dist: Tensor


def pairwise_distance(x: Tensor) -> Tensor:
    """Euclidean distances within each bin. [p, n, d] -> [p, n, n].

    Where two embeddings coincide the distance is 0 and so is its gradient (that of the square root is
    infinite there, which made the original's training NaN now and then).
    """
    square = x.square().sum(2)
    squared = F.relu(square.unsqueeze(1) + square.unsqueeze(2) - 2 * x.matmul(x.transpose(1, 2)))
    apart = squared != 0  # not `> 0`: that would pass off NaN as a distance of 0 and hide it
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)


def triplet_losses(
    embeddings: Tensor, subjects: int, sequences: int, margin: float, plain: bool = False
) -> TripletLosses:
    """The two losses of a batch in which `subjects` (P) people come with `sequences` (K) rows each, in turn.

    embeddings: [n, bins, d] with n = P·K; computed in float32 whatever comes in.
    Batch-all (`full`): relu(margin + d_ap - d_an) over all triplets, divided by the number above 0; 0 if none is.
    Batch-hard (`hard`): farthest positive and nearest negative of each anchor, mean over anchors.
    An anchor counts among its own positives (paper section 4.1; Hermans et al. 2017).
    plain: without the kernel of `model.network.kernels`, also where that runs.
    """
    n, bins, _ = embeddings.shape
    if n != subjects * sequences or subjects < 2:
        raise ValueError(f"{n} rows are no P×K batch of {subjects}×{sequences} with at least two subjects")
    # Half precision would round distances of nearly equal embeddings to nothing.
    with torch.autocast(embeddings.device.type, enabled=False):
        dist = pairwise_distance(embeddings.float().transpose(0, 1).contiguous())
        # A P K Q L: anchors by subject and row, candidates likewise; those of the own subject are positives.
        by_subject = dist.view(bins, subjects, sequences, subjects, sequences)
        positive = torch.diagonal(by_subject, dim1=1, dim2=3).permute(0, 3, 1, 2).reshape(bins, n, sequences)
        own = torch.eye(subjects, dtype=torch.bool, device=dist.device)
        own = own.repeat_interleave(sequences, 0).repeat_interleave(sequences, 1)
        full, full_num = _batch_all(dist, positive, own, margin, plain)
        hard = _batch_hard(dist, positive, own, margin)
        return TripletLosses(full, hard, full_num, dist.detach().mean((1, 2)))


def _batch_all(dist: Tensor, positive: Tensor, own: Tensor, margin: float, plain: bool) -> tuple[Tensor, Tensor]:
    """dist [p, n, n], positive [p, n, K], own [n, n] -> loss and number of active triplets, [p] each.

    The loss is linear in the distances once it is known which triplets are active: each distance counts as
    often as it is in one. So the gradient needs a table of counts [p, n, n], not all triplets [p, n, K, n].
    """
    with torch.no_grad():
        if plain or not triton_support.works(dist.device):
            excess, as_positive, as_negative = active_triplets(dist, positive, own, margin)
        else:
            excess, as_positive, as_negative = fused.active_triplets(dist, positive.shape[2], margin)
        number = as_positive.sum((1, 2))
        divisor = number.clamp(min=1)
        value = excess.sum(1) / divisor
    linear = ((as_positive * positive).sum((1, 2)) - (as_negative * dist).sum((1, 2))) / divisor
    return value + (linear - linear.detach()), number


def active_triplets(dist: Tensor, positive: Tensor, own: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """What is above 0 in margin + d_ap - d_an: its sum over the triplets of each anchor [p, n], and in how many such
    triplets each distance is, as positive [p, n, K] and as negative [p, n, n]."""
    excess = margin + positive.unsqueeze(3) - dist.unsqueeze(2)
    excess = excess.masked_fill_(own.unsqueeze(1), 0).relu_()
    active = excess > 0
    return excess.sum((2, 3)), active.sum(3).float(), active.sum(2).float()


def _batch_hard(dist: Tensor, positive: Tensor, own: Tensor, margin: float) -> Tensor:
    nearest_negative = dist.masked_fill(own, torch.inf).min(2).values
    return F.relu(margin + positive.max(2).values - nearest_negative).mean(1)
