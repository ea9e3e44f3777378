"""Set pooling over the frames of a sequence, horizontal pyramid pooling over the height of a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BINS = (1, 2, 4, 8, 16)


class BinLabel(NamedTuple):
    """Where one of the 62 vectors of an embedding comes from: `strip` of so many `strips`, from the top."""

    branch: str
    strips: int
    strip: int


def bin_labels() -> list[BinLabel]:
    """In the order of the network's output: for each pyramid level the set branch, then the global one."""
    return [
        BinLabel(branch, strips, strip) for strips in BINS for branch in ("set", "global") for strip in range(strips)
    ]


def set_pooling(maps: Tensor, lengths: Sequence[int] | None, sequences: int) -> Tensor:
    """Maximum over the frames of each sequence (paper section 3.2, SP = max).

    maps: [frames of all sequences, c, h, w], sequence after sequence.
    lengths: frames of each sequence, or None when all have the same number.
    Returns [sequences, c, h, w].
    """
    # A maximum with indices sends its gradient to one frame, as the original does. `amax` would share it
    # among equal ones, and its compiled half-precision gradient is NaN when rounding hides the equal one.
    if lengths is None:
        return maps.unflatten(0, (sequences, -1)).max(1).values
    return torch.stack([sequence.max(0).values for sequence in maps.split(list(lengths))])


def horizontal_pyramid_pooling(maps: Tensor) -> list[Tensor]:
    """Mean plus maximum of each horizontal strip (paper section 3.3). [n, c, h, w] -> per bin count [n, c, bins].

    The map is read once, for its thinnest strips; every thicker strip is two of the next thinner ones.
    """
    rows = maps.reshape(*maps.shape[:2], BINS[-1], -1)
    mean, maximum = rows.mean(-1), rows.max(-1).values
    strips = [mean + maximum]
    for bins in BINS[-2::-1]:
        pairs = (*maps.shape[:2], bins, 2)
        mean, maximum = mean.reshape(pairs).mean(-1), maximum.reshape(pairs).max(-1).values
        strips.append(mean + maximum)
    return strips[::-1]
