"""Compare the Triton kernels of horizontal pyramid pooling with the implementation in torch."""

import pytest
import torch

from model.network.pooling import horizontal_pyramid_pooling


def by_torch(of_set: torch.Tensor, of_global: torch.Tensor) -> torch.Tensor:
    levels = zip(horizontal_pyramid_pooling(of_set), horizontal_pyramid_pooling(of_set + of_global), strict=True)
    return torch.cat([strips for branches in levels for strips in branches], 2).permute(2, 0, 1)


@pytest.mark.parametrize("kind", ["ties", "distinct"])
@pytest.mark.parametrize("width", [11, 8])
def test_pyramid_and_its_gradients_equal_torch(kernels, width, kind):
    """In maps of small integers, most strips hold their maximum several times. torch selects the first, row by row."""
    generator = torch.Generator().manual_seed(width)
    maps = torch.randint(-4, 4, (2, 3, 64, 16, width), generator=generator).float()
    if kind == "distinct":
        maps = torch.randn(maps.shape, generator=generator)
    maps = [each.to(memory_format=torch.channels_last).requires_grad_() for each in maps]
    ours, theirs = kernels.pyramid.Pyramid.apply(*(each.to(kernels.device) for each in maps)).cpu(), by_torch(*maps)
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn(theirs.shape, generator=generator)
    for a, b in zip(*(torch.autograd.grad(each, maps, gradient) for each in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("branch", [0, 1])
def test_pyramid_propagates_nan(kernels, branch):
    maps = [torch.zeros(2, 32, 16, 11), torch.zeros(2, 32, 16, 11)]
    maps[branch][1, 5, 7, 4] = torch.nan
    ours = kernels.pyramid.Pyramid.apply(*(each.to(kernels.device) for each in maps)).cpu()
    # One strip in each of the five levels is NaN. A NaN of the set branch is also added to the global branch.
    assert torch.equal(ours.isnan(), by_torch(*maps).isnan()) and ours.isnan().sum() == (10 if branch == 0 else 5)
