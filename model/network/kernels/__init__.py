"""Triton kernels for the parts of the network in which a profile showed that torch's own kernels are slow.

The other modules of this folder import Triton, so they are imported only if `model.devices.triton_support.works`. Each
kernel has a reference implementation in torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.common.errors import UserError

MAX_FRAMES = (2**31 - 1) // (32 * 22 * 32)  # the kernels of the first layers number the pooled elements in 32 bits


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


def pooled_maps(network, frames: Tensor, ends: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """See `fused_layers.pooled_maps`. Raises UserError for more than MAX_FRAMES frames."""
    if len(frames) > MAX_FRAMES:
        raise UserError(
            f"a batch of {len(frames)} frames is too large for the Triton kernels: they process at most {MAX_FRAMES} "
            "frames; use a smaller batch or --kernels plain"
        )
    from model.network.fused_layers import pooled_maps

    return pooled_maps(network, frames, ends, dtype)
