"""The six set layers and set pooling for training and extraction in half precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.basic_blocks import NEGATIVE_SLOPE
from model.network.kernels.first_layers import FirstLayers, pad_frames
from model.network.kernels.maxima import PooledActivation, SetMaximum


def pooled_maps(network, frames: Tensor, ends: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Set-pooled maps after layers 2, 4 and 6 of uint8 frames [f, 64, 44] in sequences `ends` [n + 1] int32."""

    def conv(maps: Tensor, layer) -> Tensor:
        weight = layer.forward_block.conv.weight.to(dtype, memory_format=torch.channels_last)
        return F.conv2d(maps, weight, padding=1)

    with torch.autocast(frames.device.type, enabled=False):
        first = [layer.forward_block.conv.weight for layer in (network.set_layer1, network.set_layer2)]
        if not torch.is_grad_enabled():  # FirstLayers cannot see that itself and would keep what gradients need
            first = [weight.detach() for weight in first]
        maps2, pooled2 = SetMaximum.apply(FirstLayers.apply(pad_frames(frames, dtype), *first), ends)
        maps3 = F.leaky_relu(conv(maps2, network.set_layer3), NEGATIVE_SLOPE, inplace=True)
        maps4, pooled4 = SetMaximum.apply(PooledActivation.apply(conv(maps3, network.set_layer4)), ends)
        maps5 = F.leaky_relu(conv(maps4, network.set_layer5), NEGATIVE_SLOPE, inplace=True)
        _, pooled6 = SetMaximum.apply(conv(maps5, network.set_layer6), ends)
        return pooled2, pooled4, F.leaky_relu(pooled6, NEGATIVE_SLOPE)
