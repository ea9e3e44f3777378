"""Augmentation of training batches: random changes of each sequence, the same for all its frames.

Augmentation is not part of the published training procedure; `--augment` turns it on. The host draws the parameters for
many iterations together, with about 600 operations on small tensors. On a device, launching so many operations would
take too long. The device transforms the pixels.

Axes: n sequences, f frames of all sequences together.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.common.counter_random import Draws
from model.common.geometry import FRAME_HEIGHT, FRAME_WIDTH

FLIP = 0.5  # probability of a mirror image, which shows the person from the other side
ROTATION = 3.0  # standard deviation in degrees
STRETCH = 0.05  # standard deviation of log(width / height); the standard deviation of log(height) is half of this
SHIFT = 1.5  # standard deviation of the horizontal shift in pixels
ERASE = 0.2  # probability of a black rectangle
ITERATION_CHUNK = 64  # number of iterations whose parameters are drawn together


def draw_changes(seed: int, rank: int, iteration: int, sequences: int) -> Tensor:
    """Draw the parameters for each sequence of a batch. The parameters depend only on the arguments.

    Returns:
        float32 [n, 10] on the host. Columns 0 to 5: the affine map from a pixel of the result to a pixel of the source,
        in the units of grid_sample (-1 to 1). Columns 6 to 9: top, bottom, left and right of the erased rectangle, in
        pixels. The rectangle is empty if top > bottom.
    """
    return _block(seed, rank, iteration // ITERATION_CHUNK, sequences)[iteration % ITERATION_CHUNK]


@functools.lru_cache(maxsize=4)
def _block(seed: int, rank: int, number: int, sequences: int) -> Tensor:
    """Draw the parameters of a block of iterations: [ITERATION_CHUNK, n, 10]."""
    iterations = number * ITERATION_CHUNK + torch.arange(ITERATION_CHUNK).repeat_interleave(sequences)
    sequence = torch.arange(sequences).repeat(ITERATION_CHUNK)
    draws = Draws.of(seed, "augment", sequence, iterations, torch.full_like(sequence, rank))
    return torch.cat([_affine_maps(draws), _erased_rectangles(draws)], 1).view(ITERATION_CHUNK, sequences, -1)


def _affine_maps(draws: Draws) -> Tensor:
    """Draw flip, rotation, scale and shift for each sequence. Returns affine maps [n, 6]."""
    turn = draws.normal("turn", sd=math.radians(ROTATION))
    both, across = draws.normal("size", sd=STRETCH / 2), draws.normal("width", sd=STRETCH)
    mirror = torch.where(draws.chance("flip", FLIP), -1.0, 1.0)
    wide, tall = mirror * (-both - across).exp(), (-both).exp()
    cos, sin = turn.cos(), turn.sin()
    shift = draws.normal("shift", sd=SHIFT) * (2 / FRAME_WIDTH)
    # The units of grid_sample have different lengths in the two directions, so the rotation converts them to pixels.
    first = cos * wide, -sin * wide * (FRAME_HEIGHT / FRAME_WIDTH), shift
    second = sin * tall * (FRAME_WIDTH / FRAME_HEIGHT), cos * tall, 0 * shift
    return torch.stack([*first, *second], 1)


def _erased_rectangles(draws: Draws) -> Tensor:
    """Draw the erased rectangle of each sequence, which is empty for most sequences: [n, 4].

    A rectangle has at most a fifth of the height and half of the width of a frame.
    """
    row, column = draws.uniform("erase row", 0, FRAME_HEIGHT), draws.uniform("erase column", 0, FRAME_WIDTH)
    tall, wide = draws.uniform("erase height", 1, FRAME_HEIGHT / 10), draws.uniform("erase width", 1, FRAME_WIDTH / 4)
    rectangle = torch.stack([row - tall, row + tall, column - wide, column + wide], 1)
    empty = rectangle.new_tensor([1.0, 0.0, 1.0, 0.0])
    return torch.where(draws.chance("erase", ERASE)[:, None], rectangle, empty)


def augment(sils: Tensor, sequence: Tensor, changes: Tensor) -> Tensor:
    """Transform frames and erase rectangles, on the device of `sils`. uint8 [f, 64, 44] -> uint8 [f, 64, 44].

    Args:
        sequence: int64 [f], the row of `changes` for each frame.
        changes: float32 [n, 10], the parameters from `draw_changes`.
    """
    changes = changes[sequence]
    # Move the pixels.
    grid = F.affine_grid(changes[:, :6].view(-1, 2, 3), [len(sils), 1, FRAME_HEIGHT, FRAME_WIDTH], align_corners=False)
    moved = F.grid_sample(sils[:, None].float(), grid, align_corners=False)[:, 0]
    # Erase the rectangles.
    top, bottom, left, right = changes[:, 6:, None].unbind(1)
    rows, columns = (torch.arange(size, device=sils.device) + 0.5 for size in (FRAME_HEIGHT, FRAME_WIDTH))
    within_rows, within_columns = (rows >= top) & (rows <= bottom), (columns >= left) & (columns <= right)
    moved = moved.masked_fill_(within_rows[:, :, None] & within_columns[:, None], 0.0)
    return moved.round_().to(torch.uint8)
