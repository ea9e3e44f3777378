"""Convolution blocks. Attribute names are the names in published checkpoints: do not rename."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.01


class BasicConv2d(nn.Module):
    """Convolution without bias, an optional 2×2 maximum, LeakyReLU. [n, c_in, h, w] -> [n, c_out, h', w'].

    The original activates first and takes the maximum of the result. LeakyReLU never decreases, so the
    maximum picks the same element either way, and this order touches a quarter of the elements.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, pooling: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.pooling:
            x = F.max_pool2d(x, 2)
        # In place: neither the convolution nor the maximum needs its own output for the gradient.
        return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=True)


class SetBlock(nn.Module):
    """A block applied to every frame of every sequence alike: frames lie on the batch axis."""

    def __init__(self, forward_block: BasicConv2d):
        super().__init__()
        self.forward_block = forward_block

    def forward(self, frames: Tensor) -> Tensor:
        return self.forward_block(frames)
