"""GaitSet in half precision with fused Triton kernels, for training and for computing embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.common.errors import UserError
from model.network.basic_blocks import NEGATIVE_SLOPE
from model.network.folded_convolution import Convolution
from model.network.kernels.first_layers import FirstLayers
from model.network.kernels.maxima import Activation, PooledActivation, SetMaximum
from model.network.kernels.pyramid import Pyramid

# The kernels of layers 1 and 2 index the elements of their pooled maps with 32-bit integers.
MAX_FRAMES = (2**31 - 1) // (32 * 22 * 32)


def pooled_maps(network, frames: Tensor, ends: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the set-pooled maps after layers 2, 4 and 6: [n, 32, 32, 22], [n, c2, 16, 11] and [n, c3, 16, 11].

    Args:
        network: the GaitSet whose weights are used.
        frames: uint8 [f, 64, 44].
        ends: int32 [n + 1], the boundaries of the sequences; see `GaitSet.forward`.
        dtype: dtype of the computation, float16 or bfloat16.

    Raises:
        UserError: if there are more than MAX_FRAMES frames.
    """
    if len(frames) > MAX_FRAMES:
        raise UserError(
            f"a batch of {len(frames)} frames is too large for the Triton kernels: they process at most {MAX_FRAMES} "
            "frames; use a smaller batch or --kernels plain"
        )
    *first, weight3, weight4, weight5, weight6 = network.set_weights()
    with torch.autocast(frames.device.type, enabled=False):
        # FirstLayers cannot detect that gradients are disabled and would save tensors for a backward pass.
        if not torch.is_grad_enabled():
            first = [weight.detach() for weight in first]
        # Layers 1 and 2, max pooling, then set pooling.
        maps2, pooled2 = SetMaximum.apply(FirstLayers.apply(frames, *first, dtype), ends)
        # Layers 3 and 4. Only layer 4 has max pooling.
        maps3 = _activated(Convolution.apply(maps2, weight3))
        maps4, pooled4 = SetMaximum.apply(PooledActivation.apply(Convolution.apply(maps3, weight4)), ends)
        # Layers 5 and 6. LeakyReLU is increasing, so the LeakyReLU of layer 6 can follow set pooling.
        maps5 = _activated(_conv(maps4, weight5))
        _, pooled6 = SetMaximum.apply(_conv(maps5, weight6), ends)
        return pooled2, pooled4, F.leaky_relu(pooled6, NEGATIVE_SLOPE)


def embed(network, pooled2: Tensor, pooled4: Tensor, pooled6: Tensor) -> Tensor:
    """Compute `GaitSet.embed` in the dtype of the maps: [n, c, h, w] each -> [n, 62, d]."""
    with torch.autocast(pooled2.device.type, enabled=False):
        maps = _activated(_conv(pooled2, network.gl_layer1.conv.weight))
        maps = PooledActivation.apply(_conv(maps, network.gl_layer2.conv.weight)) + pooled4
        maps = _activated(_conv(maps, network.gl_layer3.conv.weight))
        strips = Pyramid.apply(pooled6, _activated(_conv(maps, network.gl_layer4.conv.weight)))
        return strips.matmul(network.fc_bin[0].to(strips.dtype)).permute(1, 0, 2)


def _conv(maps: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(maps, weight.to(maps.dtype, memory_format=torch.channels_last), padding=1)


def _activated(maps: Tensor) -> Tensor:
    """Apply LeakyReLU in place. If the maps need a gradient and are not channels last, apply it to a copy."""
    if not maps.requires_grad:
        return F.leaky_relu(maps, NEGATIVE_SLOPE, inplace=True)
    return Activation.apply(maps.contiguous(memory_format=torch.channels_last))
