"""The six set layers and set pooling in half precision, for training and for computing embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.basic_blocks import NEGATIVE_SLOPE
from model.network.kernels.first_layers import FirstLayers, pad_frames
from model.network.kernels.maxima import PooledActivation, SetMaximum


def pooled_maps(network, frames: Tensor, ends: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the set-pooled maps after layers 2, 4 and 6: [n, 32, 32, 22], [n, c2, 16, 11] and [n, c3, 16, 11].

    Args:
        network: the GaitSet whose weights are used.
        frames: uint8 [f, 64, 44].
        ends: int32 [n + 1], the boundaries of the sequences; see `GaitSet.forward`.
        dtype: the half precision to compute in.
    """

    def conv(maps: Tensor, layer) -> Tensor:
        weight = layer.forward_block.conv.weight.to(dtype, memory_format=torch.channels_last)
        return F.conv2d(maps, weight, padding=1)

    with torch.autocast(frames.device.type, enabled=False):
        first = [layer.forward_block.conv.weight for layer in (network.set_layer1, network.set_layer2)]
        if not torch.is_grad_enabled():  # FirstLayers cannot detect this and would save the tensors for a backward pass
            first = [weight.detach() for weight in first]
        # Layers 1 and 2 with their max pooling, then set pooling.
        maps2, pooled2 = SetMaximum.apply(FirstLayers.apply(pad_frames(frames, dtype), *first), ends)
        # Layers 3 and 4. Only layer 4 has max pooling.
        maps3 = F.leaky_relu(conv(maps2, network.set_layer3), NEGATIVE_SLOPE, inplace=True)
        maps4, pooled4 = SetMaximum.apply(PooledActivation.apply(conv(maps3, network.set_layer4)), ends)
        # Layers 5 and 6. LeakyReLU is increasing, so layer 6 needs it only after set pooling.
        maps5 = F.leaky_relu(conv(maps4, network.set_layer5), NEGATIVE_SLOPE, inplace=True)
        _, pooled6 = SetMaximum.apply(conv(maps5, network.set_layer6), ends)
        return pooled2, pooled4, F.leaky_relu(pooled6, NEGATIVE_SLOPE)
