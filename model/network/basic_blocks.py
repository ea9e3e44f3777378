"""The convolution blocks of the network. Checkpoints contain the attribute names: do not rename them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.01  # of LeakyReLU


class BasicConv2d(nn.Module):
    """Convolution without bias, optional 2×2 max pooling, LeakyReLU. [n, c_in, h, w] -> [n, c_out, h', w'].

    The padding keeps the size: h' = h and w' = w, or half of them with `pooling`.

    The original applies LeakyReLU before pooling. LeakyReLU is increasing, so max pooling selects the same element
    in either order, and this order activates a quarter of the elements.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, pooling: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.pooling:
            x = F.max_pool2d(x, 2)
        # In place is safe: the gradient of neither the convolution nor the pooling needs their output.
        return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=True)


class SetBlock(nn.Module):
    """Apply a block to each frame independently. The frames of all sequences share the batch axis.

    The wrapper computes nothing. It exists because the parameter names of checkpoints contain `forward_block`.
    """

    def __init__(self, forward_block: BasicConv2d):
        super().__init__()
        self.forward_block = forward_block

    def forward(self, frames: Tensor) -> Tensor:
        return self.forward_block(frames)
