"""The GaitSet network, as in figure 2 of the paper.

Chao, He, Zhang and Feng: "GaitSet: Regarding Gait as a Set for Cross-View Gait Recognition", AAAI 2019.

Axes: n sequences, s frames per sequence, f frames of all sequences together, c channels, h rows and w columns of a map,
p strips (2 · (1 + 2 + 4 + 8 + 16) = 62), d = hidden_dim values per strip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from model.common.geometry import SET_CHANNELS, STRIPS
from model.network import cpu_training, kernels
from model.network.basic_blocks import BasicConv2d, SetBlock
from model.network.pooling import horizontal_pyramid_pooling, set_pooling

SMALLEST_LENGTH = 1e-6  # added to the length of a strip to avoid a division by 0; half precision can represent it


class GaitSet(nn.Module):
    """Map the silhouettes of each sequence to an embedding [62, hidden_dim].

    1. Six set layers process each frame independently.
    2. After layers 2, 4 and 6, set pooling reduces the maps of all frames of a sequence to one map (section 3.2). The
       pooled map after layer 6 is the result of the set branch.
    3. The global branch processes the pooled maps after layers 2, 4 and 6. The paper calls this branch multilayer
       global pipeline (section 3.4).
    4. Horizontal pyramid mapping cuts the result of each branch into 31 strips and multiplies every strip with the
       matrix of this strip (section 3.3).

    Attributes:
        amp_dtype: dtype of autocast, float16 or bfloat16. If it is None, autocast is off and the network computes in
            the dtype of its weights.
        fused: whether to use the Triton kernels of `model.network.kernels`. They require an `amp_dtype`, supported
            `channels` and a device on which Triton works. For float silhouettes, torch computes the set layers.
        channels: numbers of channels of set layers 1 and 2, of set layers 3 and 4, and of set layers 5 and 6.
        unit_strips: not None if each strip of an embedding is scaled to length 1, which is not part of the paper. The
            squared Euclidean distance of two embeddings is then 2 · (62 - sum of the cosines between their strips), so
            distances and cosines give the same ranking. In training mode, the network does not scale the strips,
            because the classifier needs their lengths; the triplet loss scales them. The attribute is a buffer, so
            that a checkpoint contains the setting.
    """

    def __init__(
        self,
        hidden_dim: int = 256,
        amp_dtype: torch.dtype | None = None,
        fused: bool = False,
        channels: Sequence[int] = SET_CHANNELS,
        unit_strips: bool = False,
    ):
        super().__init__()
        assert not fused or kernels.supports(channels), f"the Triton kernels do not support channels {channels}"
        self.amp_dtype, self.fused, self.channels = amp_dtype, fused, tuple(channels)
        c1, c2, c3 = self.channels
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
            # This keeps a quirk of the original: `fc_bin` has three axes, for which torch computes a fan that is far
            # too large. So the initial embeddings are small, and the margin of 0.2 is large compared with the distances
            # between them. With a correct fan, training would start at a different loss.
            nn.init.xavier_uniform_(parameter)
        self.register_buffer("unit_strips", torch.ones(()) if unit_strips else None)

    @property
    def hidden_dim(self) -> int:
        return self.fc_bin[0].shape[-1]

    def forward(self, sils: Tensor, lengths: Sequence[int] | None = None, ends: Tensor | None = None) -> Tensor:
        """Return the embeddings [n, 62, hidden_dim].

        The embedding of a sequence does not depend on the other sequences or on packing.

        Args:
            sils: silhouettes, uint8 in [0, 255] or float in [0, 1]. The shape is [n, s, 64, 44], or [f, 64, 44] for
                packed sequences: the frames of one sequence after another.
            lengths: number of frames of each packed sequence.
            ends: boundaries of packed sequences, int32 [n + 1] on the device of `sils`. Sequence i has the frames
                ends[i] to ends[i + 1] - 1. Frames after the last boundary belong to no sequence. Training passes
                `ends` instead of `lengths` if the network is `fused` or on the CPU.

        Raises:
            ValueError: if a length is 0 or the lengths do not sum to f.
        """
        with self.autocast():
            return self.embed(*self.pooled_maps(sils, lengths, ends))

    def set_weights(self) -> list[Tensor]:
        """Return the weights of the six set layers."""
        return [getattr(self, f"set_layer{number}").forward_block.conv.weight for number in range(1, 7)]

    def autocast(self) -> torch.autocast:
        """Return a `torch.autocast` context for `amp_dtype`, which has no effect if `amp_dtype` is None."""
        return torch.autocast(self.fc_bin[0].device.type, self.amp_dtype, enabled=self.amp_dtype is not None)

    def pooled_maps(
        self, sils: Tensor, lengths: Sequence[int] | None = None, ends: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the set-pooled maps after layers 2, 4 and 6, [n, c, h, w] each. See `forward` for the arguments."""
        if self.fused and sils.dtype == torch.uint8:
            ends = _ends(sils, lengths) if ends is None else ends
            return _fused_layers().pooled_maps(self, sils.flatten(0, -3), ends, self.amp_dtype)
        if ends is not None:
            return cpu_training.pooled_maps(self, sils[: ends[-1]], ends.diff().tolist())
        if lengths is not None and (sum(lengths) != len(sils) or min(lengths, default=0) < 1):
            raise ValueError(
                f"lengths of {len(lengths)} sequences do not fit {len(sils)} frames: the sum is {sum(lengths)} and the "
                f"minimum is {min(lengths, default=0)}; the sum must be {len(sils)} and the minimum at least 1"
            )
        sequences = len(sils) if lengths is None else len(lengths)
        return tuple(set_pooling(maps, lengths, sequences) for maps in self.frame_maps(sils.flatten(0, -3)))

    def frame_maps(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps of each frame after set layers 2, 4 and 6, the inputs of set pooling.

        Args:
            frames: [f, 64, 44], uint8 or float in [0, 1].

        Returns:
            [f, c1, 32, 22], [f, c2, 16, 11] and [f, c3, 16, 11] for channels (c1, c2, c3), by default (32, 64, 128).
        """
        if frames.dtype == torch.uint8:
            frames = frames.to(self.fc_bin[0].dtype).div_(255)  # the weights are float16 if apex has converted them
        after2 = self.set_layer2(self.set_layer1(frames.unsqueeze(1)))
        after4 = self.set_layer4(self.set_layer3(after2))
        after6 = self.set_layer6(self.set_layer5(after4))
        return after2, after4, after6

    def embed(self, pooled2: Tensor, pooled4: Tensor, pooled6: Tensor) -> Tensor:
        """Apply the global branch, the pyramid and the 62 matrices to set-pooled maps. [n, c, h, w] each -> [n, 62, d].

        The arguments are the maps after layers 2, 4 and 6: [n, c1, 32, 22], [n, c2, 16, 11] and [n, c3, 16, 11].
        """
        if self.fused:
            return self._scaled(_fused_layers().embed(self, pooled2, pooled4, pooled6))
        # Global branch: after every two layers, add the set-pooled map of the next depth.
        pooled_global = self.gl_layer2(self.gl_layer1(pooled2))
        pooled_global = self.gl_layer4(self.gl_layer3(pooled_global + pooled4)) + pooled6
        # For each pyramid level, the strips of the set branch, then the strips of the global branch. The matrices in
        # `fc_bin` have the same order.
        strips = []
        for levels in zip(horizontal_pyramid_pooling(pooled6), horizontal_pyramid_pooling(pooled_global), strict=True):
            strips += levels
        # Multiply each strip with its matrix [c, d], in one batched product over p.
        features = torch.cat(strips, 2).permute(2, 0, 1)  # p n c
        return self._scaled(features.matmul(self.fc_bin[0]).permute(1, 0, 2))  # n p d

    def _scaled(self, embeddings: Tensor) -> Tensor:
        return embeddings if self.training or self.unit_strips is None else scale_strips(embeddings)


def scale_strips(embeddings: Tensor) -> Tensor:
    """Divide each strip by its Euclidean length, in float32. A strip of zeros remains zero. [n, p, d] -> [n, p, d]."""
    if embeddings.dtype != torch.float32:  # in an exported graph, .float() is a Cast node even if it has no effect
        embeddings = embeddings.float()
    return embeddings / (embeddings.norm(dim=2, keepdim=True) + SMALLEST_LENGTH)


def _fused_layers():
    """Import the module with the fused kernels, which needs Triton."""
    from model.network import fused_layers

    return fused_layers


def _ends(sils: Tensor, lengths: Sequence[int] | None) -> Tensor:
    """Return the boundaries of the sequences in the packed frames, int32 [n + 1] on the device of `sils`."""
    if lengths is None:
        n, s = sils.shape[:2]
        return torch.arange(0, n * s + 1, s, dtype=torch.int32, device=sils.device)
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(sils.device, non_blocking=True)
