"""The positions of the weights of layers 1 and 2 in the matrices that the kernels of `first_layers` use."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

CHANNELS = 32


@cache
@torch.inference_mode(False)  # training saves these tensors for the backward pass, which rejects inference tensors
def matrix_layout(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four tensors that describe where the matrices of the kernels hold the weights of both layers.

    The weights are numbered: first the 800 weights of layer 1, then the 9216 weights of layer 2.

    Returns:
        For each matrix element, the number of its weight, [26624]. Elements that are 0 have the number 10016.
        The number 0 as a tensor [1]. Appended to the weights, it becomes weight 10016.
        For each weight of layer 1, the indices of its four sums among the sums of the backward kernel, [800, 4].
        For each weight of layer 2, the indices of its two sums, [9216, 2].
    """
    none = CHANNELS * 25 + CHANNELS * CHANNELS * 9
    # Layer 1, [32, 64]: row = pixel of the 5×6 window, column = (one of two neighbouring outputs, output channel). The
    # sums are transposed, and each pair of columns has its own sums.
    pair, row, column = np.ogrid[:2, :32, :64]
    dx = row % 6 - column // 32
    weight = np.where((row < 30) & (dx >= 0) & (dx < 5), (column % 32 * 5 + row // 6) * 5 + dx, none)
    sums = pair * 14336 + column * 32 + row
    # Layer 2, [3 dy, 2 pairs of columns, 64, 64]: row = (column within the pair, input channel), column = (output
    # channel, x of the block's outputs).
    dy, pair, row, column = np.ogrid[:3, :2, :64, :64]
    dx = 2 * pair + row // 32 - column % 2
    source = CHANNELS * 25 + ((column // 2 * 32 + row % 32) * 3 + dy) * 3 + dx
    weight2 = np.where((dx >= 0) & (dx < 3), source, none)
    sums2 = pair * 14336 + 2048 + dy * 4096 + row * 64 + column
    layout = [np.concatenate((weight.ravel(), weight2.ravel())), np.zeros(1, np.float32)]
    for held, at, copies in ((np.broadcast_to(weight, sums.shape), sums, 4), (weight2, sums2, 2)):
        order = np.argsort(held, None, kind="stable")[: (held < none).sum()]
        layout.append(at.ravel()[order].reshape(-1, copies))
    return tuple(torch.from_numpy(table).to(device) for table in layout)
