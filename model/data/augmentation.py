"""Other pictures of the same walk: what training may change about a batch's sequences, all frames of each alike.

Not part of the published recipe; `--augment` turns it on. The host draws what is to change, many iterations at once:
some six hundred operations on a few numbers, whose launching would keep a device waiting. The device moves the pixels.

n sequences, f frames of all of them.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.common.counter_random import Draws
from model.data.raw.silhouette import HEIGHT, WIDTH

FLIPPED = 0.5  # chance of a mirror image: the other side of a walker, or the other way along the line
TURN = 3.0  # degrees; these three are standard deviations
STRETCH = 0.05  # of the width against the height, and of both together half as much
SHIFT = 1.5  # pixels, sideways
ERASED = 0.2  # chance of a black rectangle
_AT_ONCE = 64  # iterations


def changes_of(seed: int, rank: int, iteration: int, sequences: int) -> Tensor:
    """What happens to each sequence of a batch, float32 [n, 10] on the host: where each pixel of the new picture comes
    from, the six numbers of an affine map in grid_sample's units (-1 to 1), then the first and last row and column of
    what is erased, in pixels, first above last for nothing."""
    return _block(seed, rank, iteration // _AT_ONCE, sequences)[iteration % _AT_ONCE]


@functools.lru_cache(maxsize=4)
def _block(seed: int, rank: int, number: int, sequences: int) -> Tensor:
    """`changes_of` for a block of iterations, [_AT_ONCE, n, 10]."""
    iterations = number * _AT_ONCE + torch.arange(_AT_ONCE).repeat_interleave(sequences)
    sequence = torch.arange(sequences).repeat(_AT_ONCE)
    draws = Draws.of(seed, "augment", sequence, iterations, torch.full_like(sequence, rank))
    return torch.cat([_moved(draws), _erased(draws)], 1).view(_AT_ONCE, sequences, -1)


def _moved(draws: Draws) -> Tensor:
    turn = draws.normal("turn", sd=math.radians(TURN))
    both, across = draws.normal("size", sd=STRETCH / 2), draws.normal("width", sd=STRETCH)
    mirror = torch.where(draws.chance("flip", FLIPPED), -1.0, 1.0)
    wide, tall = mirror * (-both - across).exp(), (-both).exp()
    cos, sin = turn.cos(), turn.sin()
    shift = draws.normal("shift", sd=SHIFT) * (2 / WIDTH)
    # Pixels are square, the units are not: turning is done in pixels.
    rows = [cos * wide, -sin * wide * (HEIGHT / WIDTH), shift, sin * tall * (WIDTH / HEIGHT), cos * tall, 0 * shift]
    return torch.stack(rows, 1)


def _erased(draws: Draws) -> Tensor:
    """A rectangle of at most a fifth of the height and as wide as half of the picture, or none."""
    row, column = draws.uniform("erase row", 0, HEIGHT), draws.uniform("erase column", 0, WIDTH)
    tall, wide = draws.uniform("erase height", 1, HEIGHT / 10), draws.uniform("erase width", 1, WIDTH / 4)
    rectangle = torch.stack([row - tall, row + tall, column - wide, column + wide], 1)
    nothing = rectangle.new_tensor([1.0, 0.0, 1.0, 0.0])
    return torch.where(draws.chance("erase", ERASED)[:, None], rectangle, nothing)


def augment(sils: Tensor, sequence: Tensor, changes: Tensor) -> Tensor:
    """Flip, turn, stretch, shift and erase: uint8 [f, 64, 44] -> the like, on their device.

    sequence: int64 [f], which of the sequences of `changes_of` a frame belongs to.
    """
    changes = changes[sequence]
    grid = F.affine_grid(changes[:, :6].view(-1, 2, 3), [len(sils), 1, HEIGHT, WIDTH], align_corners=False)
    moved = F.grid_sample(sils[:, None].float(), grid, align_corners=False)[:, 0]
    top, bottom, left, right = changes[:, 6:, None].unbind(1)
    rows, columns = (torch.arange(size, device=sils.device) + 0.5 for size in (HEIGHT, WIDTH))
    within_rows, within_columns = (rows >= top) & (rows <= bottom), (columns >= left) & (columns <= right)
    moved = moved.masked_fill_(within_rows[:, :, None] & within_columns[:, None], 0.0)
    return moved.round_().to(torch.uint8)
