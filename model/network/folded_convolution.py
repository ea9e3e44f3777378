"""3×3 convolutions, rearranged into shapes that cuDNN computes faster.

With 64 or fewer output channels, cuDNN reaches only half of its usual rate. So two neighbouring columns of the output
are computed as one column with twice the channels. The convolution then has a stride of 2 columns and a 3×4 kernel that
contains the 3×3 kernel twice, shifted by one column; its other elements are 0. If maps are stored channels last, two
neighbouring columns of 64 channels occupy the same memory as one column of 128 channels, so no map is copied.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Convolution(torch.autograd.Function):
    """3×3 convolution with padding 1: (maps [f, i, h, w], weight [o, i, 3, 3]) -> [f, o, h, w], channels last.

    The maps have half precision and an even width. The weight can have any dtype and is rounded to the dtype of the
    maps.
    """

    @staticmethod
    def forward(ctx, maps: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return _convolve(maps, weight)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        maps, weight = ctx.saved_tensors
        of_maps = _convolve(gradient, weight.flip(2, 3).transpose(0, 1))
        return of_maps, _weight_gradient(maps, gradient).to(weight)


def _convolve(maps: Tensor, weight: Tensor) -> Tensor:
    o, i, _, _ = weight.shape
    if not i >= 64 >= o:  # measured: for other numbers of channels the 3×4 kernel is slower than the 3×3 kernel
        return F.conv2d(maps, weight.to(maps.dtype, memory_format=torch.channels_last), padding=1)
    pair = maps.new_zeros(2, o, 3, 4, i)
    rows = weight.detach().permute(0, 2, 3, 1)
    pair[0, :, :, :3], pair[1, :, :, 1:] = rows, rows
    result = F.conv2d(maps, pair.view(2 * o, 3, 4, i).permute(0, 3, 1, 2), stride=(1, 2), padding=1)
    return _with_channels(result, o)


def _weight_gradient(maps: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the weight [o, i, 3, 3]."""
    o, i = gradient.shape[1], maps.shape[1]
    paired = i < 64
    if paired:  # for fewer than 64 input channels, cuDNN uses kernels of an older generation of GPUs
        maps, gradient = _with_channels(maps, 2 * i), _with_channels(gradient, 2 * o)
    weight = maps.new_empty(gradient.shape[1], maps.shape[1], 3, 3).to(memory_format=torch.channels_last)
    found = torch.ops.aten.convolution_backward(
        gradient, maps, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (False, True, False)
    )[1]
    if not paired:
        return found
    # The gradient has kernels of three pairs of columns, which are six columns. Three of the six columns belong to the
    # first output column of a pair, and three belong to the second output column.
    columns = found.unflatten(0, (2, o)).unflatten(2, (2, i)).permute(0, 1, 3, 4, 5, 2).flatten(4)
    return columns[0, ..., 1:4].float() + columns[1, ..., 2:5]


def _with_channels(maps: Tensor, channels: int) -> Tensor:
    """Join or split neighbouring columns so that each column has `channels` channels, [f, c, h, w] channels last."""
    f, _, h, _ = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(f, h, -1, channels).permute(0, 3, 1, 2)
