"""Batch-all and batch-hard triplet losses of a P×K batch, with static shapes and without host synchronization.

Both losses are defined by Hermans, Beyer and Leibe in "In Defense of the Triplet Loss for Person Re-Identification",
2017. GaitSet trains with batch-all (section 4.1 of the GaitSet paper). Every strip of the embedding has its own loss.

Axes: n = P·K embeddings, p strips, d values per strip. d_ap and d_an are the distances from an anchor to a positive (an
embedding of the same subject) and to a negative (an embedding of another subject).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.devices import triton_support


class TripletLosses(NamedTuple):
    """Losses and statistics per strip, float32 [p] each. Only the losses carry a gradient.

    Attributes:
        full: batch-all loss.
        hard: batch-hard loss.
        full_num: number of active triplets.
        mean_dist: mean distance over all pairs of embeddings of the batch.
    """

    full: Tensor
    hard: Tensor
    full_num: Tensor
    mean_dist: Tensor


def pairwise_distance(x: Tensor) -> Tensor:
    """Return the Euclidean distances within each strip. [p, n, d] -> [p, n, n].

    If two embeddings coincide, the distance and its gradient are 0. The original uses the gradient of the square root,
    which is infinite at 0, so training sometimes became NaN.
    """
    # |x - y|² = |x|² + |y|² - 2 x·y, which rounding can make negative.
    square = x.square().sum(2)
    squared = F.relu(square.unsqueeze(1) + square.unsqueeze(2) - 2 * x.matmul(x.transpose(1, 2)))
    apart = squared != 0  # not `> 0`, which would turn NaN into a distance of 0 and hide it
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)


def triplet_losses(
    embeddings: Tensor, subjects: int, sequences: int, margin: float, reference: bool = False
) -> TripletLosses:
    """Return the losses and statistics of a batch.

    - Batch-all (`full`): the sum of relu(margin + d_ap - d_an) over all triplets, divided by the number of active
      triplets. A triplet is active if its term is above 0. The loss is 0 if no triplet is active.
    - Batch-hard (`hard`): relu(margin + max d_ap - min d_an) of each anchor, averaged over the anchors.

    As in the original, every anchor is one of its own positives. Otherwise the number of triplets and the batch-all
    loss would be different.

    Args:
        embeddings: [n, p, d] with n = P·K, of any dtype. The losses are computed in float32.
        subjects: number of subjects P.
        sequences: number of sequences K of each subject, which are consecutive rows.
        reference: whether to use torch's own kernels, even if the Triton kernels work on this device.

    Raises:
        ValueError: if n is not P·K or P is less than 2.
    """
    n, p, _ = embeddings.shape
    if n != subjects * sequences or subjects < 2:
        raise ValueError(
            f"{n} embeddings are not a P×K batch of {subjects}×{sequences}: the number must be P·K, and P at least 2"
        )
    # Half precision would round the distances between nearly equal embeddings to 0.
    with torch.autocast(embeddings.device.type, enabled=False):
        x = embeddings.float().transpose(0, 1).contiguous()
        if not reference and triton_support.works(x.device):
            from model.network.kernels.triplet_loss import Losses  # this module needs Triton

            return TripletLosses(*Losses.apply(x, sequences, margin))
        dist = pairwise_distance(x)
        # Axes: p, subject and sequence of the anchor, subject and sequence of the other embedding. A pair is positive
        # if its subjects are equal.
        by_subject = dist.view(p, subjects, sequences, subjects, sequences)
        positive = torch.diagonal(by_subject, dim1=1, dim2=3).permute(0, 3, 1, 2).reshape(p, n, sequences)
        same = torch.eye(subjects, dtype=torch.bool, device=dist.device)
        same = same.repeat_interleave(sequences, 0).repeat_interleave(sequences, 1)
        full, full_num = _batch_all(dist, positive, same, margin)
        hard = _batch_hard(dist, positive, same, margin)
        return TripletLosses(full, hard, full_num, dist.detach().mean((1, 2)))


def _batch_all(dist: Tensor, positive: Tensor, same: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Return the batch-all loss and the number of active triplets, [p] each.

    For a given set of active triplets, the loss is linear in the distances. The factor of a distance is the number of
    active triplets that contain the distance. So the backward pass needs only these numbers, [p, n, K] and [p, n, n],
    instead of all triplets, [p, n, K, n].

    Args:
        dist: distances [p, n, n].
        positive: distances to the positives [p, n, K].
        same: mask [n, n], True for each pair of rows of the same subject.
    """
    with torch.no_grad():
        excess = margin + positive.unsqueeze(3) - dist.unsqueeze(2)
        excess = excess.masked_fill_(same.unsqueeze(1), 0).relu_()
        active = excess > 0
        as_positive, as_negative = active.sum(3).float(), active.sum(2).float()
        number = as_positive.sum((1, 2))
        divisor = number.clamp(min=1)
        value = excess.sum((1, 2, 3)) / divisor
    # `linear` only provides the gradient. The last line subtracts its value.
    linear = ((as_positive * positive).sum((1, 2)) - (as_negative * dist).sum((1, 2))) / divisor
    return value + (linear - linear.detach()), number


def _batch_hard(dist: Tensor, positive: Tensor, same: Tensor, margin: float) -> Tensor:
    """Return the batch-hard loss [p]. See `_batch_all` for the arguments."""
    nearest_negative = dist.masked_fill(same, torch.inf).min(2).values
    return F.relu(margin + positive.max(2).values - nearest_negative).mean(1)
