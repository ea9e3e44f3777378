"""The convolution blocks of the network. Do not rename their attributes: these names are part of every checkpoint."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.01  # slope of LeakyReLU for negative inputs


class BasicConv2d(nn.Module):
    """Convolution without bias, optional 2×2 max pooling, LeakyReLU. [n, c_in, h, w] -> [n, c_out, h', w'].

    The padding keeps the size: h' = h and w' = w. With `pooling`, h' = h / 2 and w' = w / 2.

    The original applies LeakyReLU before pooling. LeakyReLU is increasing, so max pooling selects the same element
    in both orders. After pooling, LeakyReLU processes only a quarter of the elements.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, pooling: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.pooling:
            x = F.max_pool2d(x, 2)
        # LeakyReLU may overwrite its input: the backward passes of convolution and pooling do not need their outputs.
        return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=True)


class SetBlock(nn.Module):
    """Apply a block to each frame independently. The frames of all sequences share the batch axis.

    This wrapper only adds a level to the parameter names, because the names in checkpoints contain `forward_block`.
    """

    def __init__(self, forward_block: BasicConv2d):
        super().__init__()
        self.forward_block = forward_block

    def forward(self, frames: Tensor) -> Tensor:
        return self.forward_block(frames)
