"""Other pictures of the same walk: what training may change about a batch's sequences, all frames of each alike.

Not part of the published recipe; `--augment` turns it on. n sequences, f frames of all of them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.data.draws import Draws

FLIPPED = 0.5  # chance of a mirror image: the other side of a walker, or the other way along the line
TURN = 3.0  # degrees; these three are standard deviations
STRETCH = 0.05  # of the width against the height, and of both together half as much
SHIFT = 1.5  # pixels, sideways
ERASED = 0.2  # chance of a black rectangle


def augment(sils: Tensor, sequence: Tensor, draws: Draws) -> Tensor:
    """Flip, turn, stretch, shift and erase: uint8 [f, 64, 44] -> the like.

    sequence: int64 [f], which of the n sequences of `draws` a frame belongs to. What happens to a sequence depends on
    its key alone.
    """
    height, width = sils.shape[1:]
    changes = _changes(draws, height, width)[sequence]
    grid = F.affine_grid(changes, [len(sils), 1, height, width], align_corners=False)
    moved = F.grid_sample(sils[:, None].float(), grid, align_corners=False)[:, 0]
    kept = ~_erased(draws, height, width)[sequence]
    return (moved * kept).round().to(torch.uint8)


def _changes(draws: Draws, height: int, width: int) -> Tensor:
    """Where each pixel of the new picture comes from: affine maps [n, 2, 3] in grid_sample's units, -1 to 1."""
    turn = draws.normal("turn", sd=math.radians(TURN))
    both, across = draws.normal("size", sd=STRETCH / 2), draws.normal("width", sd=STRETCH)
    mirror = torch.where(draws.chance("flip", FLIPPED), -1.0, 1.0)
    wide, tall = mirror * (-both - across).exp(), (-both).exp()
    cos, sin = turn.cos(), turn.sin()
    shift = draws.normal("shift", sd=SHIFT) * (2 / width)
    # Pixels are square, the units are not: turning is done in pixels.
    rows = [cos * wide, -sin * wide * (height / width), shift, sin * tall * (width / height), cos * tall, 0 * shift]
    return torch.stack(rows, -1).view(-1, 2, 3)


def _erased(draws: Draws, height: int, width: int) -> Tensor:
    """Boolean [n, h, w]: a rectangle of at most a fifth of the height and as wide as half of the picture, or none."""
    there = draws.chance("erase", ERASED)
    middle = draws.uniform("erase row", 0, height), draws.uniform("erase column", 0, width)
    half = draws.uniform("erase height", 1, height / 10), draws.uniform("erase width", 1, width / 4)
    rows, columns = (torch.arange(size, device=middle[0].device) + 0.5 for size in (height, width))
    within_rows = (rows - middle[0][:, None]).abs() <= half[0][:, None]
    within_columns = (columns - middle[1][:, None]).abs() <= half[1][:, None]
    return within_rows[:, :, None] & within_columns[:, None] & there[:, None, None]
