"""Triton kernels for the parts of the network in which a profile showed that torch's own kernels are slow.

The other modules of this folder import Triton, so they are imported only if `model.devices.triton_support.works`. Each
kernel has a reference implementation in torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def supports(channels: Sequence[int]) -> bool:
    """Return whether the kernels of the set layers support `channels`, those of the three pairs of set layers.

    `first_layers` is written for 32 channels. A program of max pooling handles a power of two. A program of set pooling
    handles 512 of the 16·11·c elements of a map, so c must be a multiple of 32.
    """
    first, second, third = channels
    return first == 32 and second % 32 == 0 and second & (second - 1) == 0 and third % 32 == 0


def triplet_losses(embeddings: Tensor, sequences: int, margin: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `triplet_loss.Losses`."""
    from model.network.kernels.triplet_loss import Losses

    return Losses.apply(embeddings, sequences, margin)
