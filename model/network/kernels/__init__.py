"""Triton kernels for the parts of the network in which a profile showed that torch's own kernels are slow.

The other modules of this folder import Triton, so import them only if `model.devices.triton_support.works` returns
True. Each kernel has a reference implementation in torch.
"""

from __future__ import annotations

from collections.abc import Sequence


def supports(channels: Sequence[int]) -> bool:
    """Return whether the kernels support the numbers of channels of the three pairs of set layers.

    The kernels of layers 1 and 2 are written for 32 channels. A program of max pooling processes all channels, so the
    number of channels of layer 4 must be a power of two. A program of set pooling processes 512 of the 16·11·c elements
    of a map, so c must be a multiple of 32.
    """
    first, second, third = channels
    return first == 32 and second % 32 == 0 and second & (second - 1) == 0 and third % 32 == 0
