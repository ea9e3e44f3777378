"""The GaitSet network as OpenGait defines it, to compare the network of this project with it.

The structure and the names of the modules are OpenGait's. The operations have the order of the original GaitSet code.
"""

import torch
from torch import Tensor, nn


class TheirGaitSet(nn.Module):
    """The network as OpenGait's documents and checkpoints describe it: [n, s, 64, 44] to [62, n, dim].

    Args:
        dim: size of each strip of an embedding.
        channels: channels of the three blocks.
        transposed: whether to keep maps as [n, c, s, h, w] between the blocks, as OpenGait does. Otherwise, they are
            kept as [n·s, c, h, w].
    """

    def __init__(self, dim: int, channels: tuple[int, int, int] = (32, 64, 128), transposed: bool = False):
        super().__init__()
        self.transposed = transposed

        def conv(inward, outward, size):
            block = nn.Module()
            block.conv = nn.Conv2d(inward, outward, size, padding=size // 2, bias=False)
            block.forward = block.conv.forward
            return block

        def block(inward, outward, size, pool):
            relus = nn.LeakyReLU(inplace=True), nn.LeakyReLU(inplace=True)
            layers = [conv(inward, outward, size), relus[0], conv(outward, outward, 3), relus[1]]
            return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

        c1, c2, c3 = channels
        for number, layers in enumerate((block(1, c1, 5, True), block(c1, c2, 3, True), block(c2, c3, 3, False)), 1):
            wrapper = nn.Module()
            wrapper.forward_block = layers
            setattr(self, f"set_block{number}", wrapper)
        self.gl_block2, self.gl_block3 = block(c1, c2, 3, True), block(c2, c3, 3, False)
        self.Head = nn.Module()
        self.Head.fc_bin = nn.Parameter(torch.randn(62, c3, dim) / 11)

    def forward(self, sils: Tensor) -> Tensor:
        n, s = sils.shape[:2]
        x, pooled = sils.flatten(0, 1).unsqueeze(1), []
        for block in (self.set_block1, self.set_block2, self.set_block3):
            x = block.forward_block(x)
            maps = x.view(n, s, *x.shape[1:])
            if self.transposed:
                maps = maps.transpose(1, 2).contiguous()
                x = maps.transpose(1, 2).reshape(-1, *x.shape[1:])
            pooled.append(maps.max(2 if self.transposed else 1)[0])
        g = self.gl_block3(self.gl_block2(pooled[0]) + pooled[1]) + pooled[2]
        strips = []
        for maps in (pooled[2], g):
            for bins in (16, 8, 4, 2, 1):
                z = maps.view(*maps.shape[:2], bins, -1)
                strips.append(z.mean(3) + z.max(3)[0])
        return torch.cat(strips, 2).permute(2, 0, 1).contiguous().matmul(self.Head.fc_bin)
