"""Compare the folded convolution with torch's convolution."""

import pytest
import torch
import torch.nn.functional as F

from model.network.folded_convolution import Convolution


@pytest.mark.parametrize(("i", "o"), [(32, 64), (64, 64), (64, 128), (128, 32)])
def test_folded_convolution_equals_torch(i, o):
    generator = torch.Generator().manual_seed(i + o)
    maps = torch.randn(2, i, 5, 6, generator=generator, dtype=torch.float64).to(memory_format=torch.channels_last)
    maps, weight = maps.requires_grad_(), torch.randn(o, i, 3, 3, generator=generator, dtype=torch.float64)
    weight.requires_grad_()
    ours, theirs = Convolution.apply(maps, weight), F.conv2d(maps, weight, padding=1)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn(theirs.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad(each, (maps, weight), gradient) for each in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-5)


def test_weight_gradient_has_the_precision_of_the_weight():
    maps = torch.ones(1, 32, 2, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    weight = torch.ones(64, 32, 3, 3, requires_grad=True)
    maps = Convolution.apply(maps, weight)
    maps.float().sum().backward()
    assert maps.dtype == torch.bfloat16 and weight.grad.dtype == torch.float32
