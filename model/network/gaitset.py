"""The set network of "GaitSet: Regarding Gait as a Set for Cross-View Gait Recognition" (AAAI 2019), figure 2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from model.network import kernels as fused
from model.network.basic_blocks import BasicConv2d, SetBlock
from model.network.pooling import BINS, horizontal_pyramid_pooling, set_pooling

SET_CHANNELS = (32, 64, 128)
STRIPS = 2 * sum(BINS)  # 31 of the set branch and 31 of the global branch


class GaitSet(nn.Module):
    """Silhouettes of sequences -> embeddings.

    Every frame passes the six set layers alone. Set pooling after layers 2, 4 and 6 turns frames into one
    map a sequence; the global branch (multilayer global pipeline) works on those pooled maps.

    amp_dtype: the half precision to compute in, by autocast; None for that of the weights.
    fused: whether uint8 silhouettes pass the set layers through the kernels of `model.network.kernels`, which need
    `amp_dtype` and a device that they are usable on.
    """

    amp_dtype: torch.dtype | None = None
    fused: bool = False

    def __init__(self, hidden_dim: int = 256):
        super().__init__()
        c1, c2, c3 = SET_CHANNELS
        self.set_layer1 = SetBlock(BasicConv2d(1, c1, 5))
        self.set_layer2 = SetBlock(BasicConv2d(c1, c1, 3, pooling=True))
        self.set_layer3 = SetBlock(BasicConv2d(c1, c2, 3))
        self.set_layer4 = SetBlock(BasicConv2d(c2, c2, 3, pooling=True))
        self.set_layer5 = SetBlock(BasicConv2d(c2, c3, 3))
        self.set_layer6 = SetBlock(BasicConv2d(c3, c3, 3))
        self.gl_layer1 = BasicConv2d(c1, c2, 3)
        self.gl_layer2 = BasicConv2d(c2, c2, 3, pooling=True)
        self.gl_layer3 = BasicConv2d(c2, c3, 3)
        self.gl_layer4 = BasicConv2d(c3, c3, 3)
        self.fc_bin = nn.ParameterList([nn.Parameter(torch.empty(STRIPS, c3, hidden_dim))])
        for parameter in self.parameters():
            # On the three axes of `fc_bin` torch reads a fan that is far too large; the original does the
            # same, so its embeddings start small and the margin of 0.2 starts large beside them.
            nn.init.xavier_uniform_(parameter)

    @property
    def hidden_dim(self) -> int:
        return self.fc_bin[0].shape[-1]

    def forward(self, sils: Tensor, lengths: Sequence[int] | None = None, ends: Tensor | None = None) -> Tensor:
        """Embeddings [n, 62, hidden_dim].

        sils: uint8, or float of 0 to 1. [n, s, h, w]; or, with `lengths` (frames of each of n sequences), frames of
        all sequences one after another [sum(lengths), h, w]. A sequence gets the same embedding either way, and alone
        as in company. Where `fused`, `ends` [n + 1] int32 on the device may stand for the lengths: sequence i has
        frames ends[i] to ends[i + 1] - 1, and frames past the last end belong to none.
        """
        with self.autocast():
            return self.embed(*self.pooled_maps(sils, lengths, ends))

    def autocast(self) -> torch.autocast:
        """The precision that `amp_dtype` asks for."""
        return torch.autocast(self.fc_bin[0].device.type, self.amp_dtype, enabled=self.amp_dtype is not None)

    def pooled_maps(
        self, sils: Tensor, lengths: Sequence[int] | None = None, ends: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Set-pooled maps after layers 2, 4 and 6, [n, c, h, w] each; see `forward`."""
        if self.fused and sils.dtype == torch.uint8:
            ends = _ends(sils, lengths) if ends is None else ends
            return fused.pooled_maps(self, sils.flatten(0, -3), ends, self.amp_dtype)
        if lengths is None:
            sequences = len(sils)
            sils = sils.flatten(0, 1)
        else:
            sequences = len(lengths)
            if sum(lengths) != len(sils) or min(lengths, default=0) < 1:
                raise ValueError(f"lengths sum to {sum(lengths)} for {len(sils)} frames, each must be at least 1")
        return tuple(set_pooling(maps, lengths, sequences) for maps in self.frame_maps(sils))

    def frame_maps(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the set layers make of each frame alone, where set pooling reads it.

        frames: [f, 64, 44], uint8 or float of 0 to 1. Returns the maps after layers 2, 4 and 6:
        [f, 32, 32, 22], [f, 64, 16, 11], [f, 128, 16, 11].
        """
        if frames.dtype == torch.uint8:
            frames = frames.to(self.fc_bin[0].dtype).div_(255)  # half where apex has made the weights so
        after2 = self.set_layer2(self.set_layer1(frames.unsqueeze(1)))
        after4 = self.set_layer4(self.set_layer3(after2))
        after6 = self.set_layer6(self.set_layer5(after4))
        return after2, after4, after6

    def embed(self, pooled2: Tensor, pooled4: Tensor, pooled6: Tensor) -> Tensor:
        """Global branch, pyramid and the 62 separate matrices, on set-pooled maps. [n, c, h, w] each -> [n, 62, d]."""
        pooled_global = self.gl_layer2(self.gl_layer1(pooled2))
        pooled_global = self.gl_layer4(self.gl_layer3(pooled_global + pooled4)) + pooled6
        strips = []
        for of_set, of_global in zip(
            horizontal_pyramid_pooling(pooled6), horizontal_pyramid_pooling(pooled_global), strict=True
        ):
            strips += [of_set, of_global]
        features = torch.cat(strips, 2).permute(2, 0, 1)  # p n c
        return features.matmul(self.fc_bin[0]).permute(1, 0, 2)  # n p d


def _ends(sils: Tensor, lengths: Sequence[int] | None) -> Tensor:
    """Where sequences begin and end among the packed frames, [n + 1] int32 on the device of `sils`."""
    if lengths is None:
        n, s = sils.shape[:2]
        return torch.arange(0, n * s + 1, s, dtype=torch.int32, device=sils.device)
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(sils.device, non_blocking=True)
