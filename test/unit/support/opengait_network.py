"""The network with the module structure and names of OpenGait."""

import torch
from torch import nn


class TheirGaitSet(nn.Module):
    """The network as OpenGait's documents and checkpoints describe it, for one sequence."""

    def __init__(self, dim: int, channels: tuple[int, int, int] = (32, 64, 128)):
        super().__init__()

        def conv(inward, outward, size):
            block = nn.Module()
            block.conv = nn.Conv2d(inward, outward, size, padding=size // 2, bias=False)
            block.forward = block.conv.forward
            return block

        def block(inward, outward, size, pool):
            layers = [conv(inward, outward, size), nn.LeakyReLU(), conv(outward, outward, 3), nn.LeakyReLU()]
            return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

        c1, c2, c3 = channels
        for number, layers in enumerate((block(1, c1, 5, True), block(c1, c2, 3, True), block(c2, c3, 3, False)), 1):
            wrapper = nn.Module()
            wrapper.forward_block = layers
            setattr(self, f"set_block{number}", wrapper)
        self.gl_block2, self.gl_block3 = block(c1, c2, 3, True), block(c2, c3, 3, False)
        self.Head = nn.Module()
        self.Head.fc_bin = nn.Parameter(torch.randn(62, c3, dim) / 11)

    def forward(self, sils):
        maps = self.set_block1.forward_block(sils[:, None])
        pooled = self.gl_block2(maps.amax(0, keepdim=True))
        maps = self.set_block2.forward_block(maps)
        pooled = self.gl_block3(pooled + maps.amax(0, keepdim=True))
        maps = self.set_block3.forward_block(maps).amax(0, keepdim=True)
        strips = [self.pyramid(maps), self.pyramid(pooled + maps)]
        return torch.einsum("cp,pcd->pd", torch.cat(strips, 1), self.Head.fc_bin)

    @staticmethod
    def pyramid(maps):
        parts = [part for bins in (16, 8, 4, 2, 1) for part in maps[0].chunk(bins, 1)]
        return torch.stack([part.mean((1, 2)) + part.amax((1, 2)) for part in parts], 1)
