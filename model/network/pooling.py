"""Set pooling over the frames of a sequence and horizontal pyramid pooling over the height of a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.common.geometry import PYRAMID


class StripLabel(NamedTuple):
    """The origin of one of the 62 vectors of an embedding.

    branch: "set" or "global".
    strips: number of strips of the pyramid level, one of PYRAMID.
    strip: index of the strip in its level, 0 at the top.
    """

    branch: str
    strips: int
    strip: int


def strip_labels() -> list[StripLabel]:
    """Return the labels in the order of the network's output.

    For each pyramid level, the strips of the set branch come first, then the strips of the global branch.
    """
    return [
        StripLabel(branch, strips, strip)
        for strips in PYRAMID
        for branch in ("set", "global")
        for strip in range(strips)
    ]


def set_pooling(maps: Tensor, lengths: Sequence[int] | None, sequences: int) -> Tensor:
    """Return the maximum over the frames of each sequence (section 3.2 of the paper, with the statistic max).

    Args:
        maps: [f, c, h, w], the maps of all frames of one sequence after another.
        lengths: number of frames of each sequence, or None if all sequences have the same number.
        sequences: number of sequences n.

    Returns:
        [n, c, h, w].
    """
    if lengths is not None and not torch.is_grad_enabled():
        return torch.stack([maximum(sequence) for sequence in maps.split(list(lengths))])
    # `max` with indices sends the gradient to one frame, as in the original. `amax` would split the gradient between
    # equal frames. If the network is compiled in half precision, rounding can make every frame differ from the maximum,
    # and the gradient of `amax` is then NaN.
    if lengths is None:
        return maps.unflatten(0, (sequences, -1)).max(1).values
    return torch.stack([sequence.max(0).values for sequence in maps.split(list(lengths))])


def maximum(frames: Tensor) -> Tensor:
    """Return the maximum over the first axis by comparing halves. On a CPU this is five times as fast as `max`."""
    while len(frames) > 1:
        half = len(frames) // 2
        # If the number of frames is odd, both parts contain the frame in the middle.
        frames = torch.maximum(frames[: len(frames) - half], frames[half:])
    return frames[0]


def horizontal_pyramid_pooling(maps: Tensor) -> list[Tensor]:
    """Return mean plus maximum of each horizontal strip (horizontal pyramid mapping, section 3.3 of the paper).

    [n, c, h, w] -> one tensor [n, c, strips] per level of PYRAMID. h must be a multiple of 16.

    The map is read once, for the 16 strips of the last level. Each strip of the other levels joins two strips of the
    next level, so its mean and maximum are computed from the means and maxima of these two strips.
    """
    rows = maps.reshape(*maps.shape[:2], PYRAMID[-1], -1)
    mean, maximum = rows.mean(-1), rows.max(-1).values
    levels = [mean + maximum]
    for strips in PYRAMID[-2::-1]:
        pairs = (*maps.shape[:2], strips, 2)
        mean, maximum = mean.reshape(pairs).mean(-1), maximum.reshape(pairs).max(-1).values
        levels.append(mean + maximum)
    return levels[::-1]
