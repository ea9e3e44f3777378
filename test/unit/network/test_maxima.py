"""Compare the Triton kernels of LeakyReLU, max pooling and set pooling with torch and with loops."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pooled_activation_equals_torch_with_ties_and_negative_maxima(kernels, dtype):
    """Maps of small integers: most maxima occur twice, and torch selects the first; many maxima are negative or 0."""
    if kernels.interpreted and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter treats bfloat16 as integers")
    maps = torch.randint(-6, 2, (2, 16, 8, 6), generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    # There are 24 blocks, so half of the second program is empty.
    ours = kernels.maxima.PooledActivation.apply(maps.to(kernels.device)).cpu()
    largest = F.max_pool2d(maps, 2)
    assert (largest < 0).any() and (largest == 0).any() and (largest > 0).any()
    theirs = F.leaky_relu(largest, 0.01)
    tolerance = {"rtol": {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype], "atol": 0}
    torch.testing.assert_close(ours, theirs, **tolerance)
    gradient = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (a,), (b,) = torch.autograd.grad(ours, maps, gradient), torch.autograd.grad(theirs, maps, gradient)
    torch.testing.assert_close(a, b, **tolerance)


def test_activation_equals_torch(kernels):
    """Maps of small integers: many elements are 0, for which torch selects the smaller slope."""
    maps = torch.randint(-3, 3, (5, 24, 11, 8), generator=torch.Generator().manual_seed(0)).float()
    maps = maps.to(memory_format=torch.channels_last).requires_grad_()  # 1,320 bytes: two and a half programs
    changed = maps.to(kernels.device, copy=True)
    ours, theirs = kernels.maxima.Activation.apply(changed).cpu(), F.leaky_relu(maps, 0.01)
    assert torch.equal(changed.cpu(), ours)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    gradient = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    (a,), (b,) = torch.autograd.grad(ours, maps, gradient), torch.autograd.grad(theirs, maps, gradient)
    torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def test_activation_propagates_nan(kernels):
    """One pixel has a NaN among zeros. Another pixel has a NaN and a negative element."""
    maps = torch.zeros(1, 8, 1, 3).to(memory_format=torch.channels_last)
    maps[0, 3, 0, 1:], maps[0, 5, 0, 2] = torch.nan, -1
    ours = kernels.maxima.Activation.apply(maps.to(kernels.device, copy=True)).cpu()
    assert torch.equal(ours.isnan(), maps.isnan()) and ours[0, 5, 0, 2] == -0.01


ENDS = (0, 1, 4, 15)  # sequences of 1, 3 and 11 frames (more than a chunk); the last two frames belong to no sequence


def some_maps() -> torch.Tensor:
    """Return maps [17, 32, 4, 8], channels last. They hold small integers, so that many frames have equal elements."""
    maps = torch.randint(-3, 3, (17, 32, 4, 8), generator=torch.Generator().manual_seed(0)).float()
    return maps.to(memory_format=torch.channels_last)


def fused_maximum(kernels, maps):
    same, pooled = kernels.maxima.SetMaximum.apply(
        maps.to(kernels.device), torch.tensor(ENDS, dtype=torch.int32, device=kernels.device)
    )
    return same.cpu(), pooled.cpu()


def maximum_by_loops(maps, of_pooled):
    """Return the pooled maps and the gradient of the maps, which goes to the first frame that holds each maximum."""
    pooled, of_maps = [], torch.zeros_like(maps)
    for (start, end), gradient in zip(pairwise(ENDS), of_pooled, strict=True):
        pooled.append(maps[start:end].amax(0))
        given = torch.zeros_like(maps[0], dtype=torch.bool)
        for frame in range(start, end):
            first = (maps[frame] == pooled[-1]) & ~given
            of_maps[frame] = torch.where(first, gradient, 0)
            given |= first
    return torch.stack(pooled), of_maps


@pytest.mark.parametrize("maps_used", [False, True], ids=["pooled only", "maps used too"])
def test_set_maximum_sends_its_gradient_to_the_first_of_equal_frames(kernels, maps_used):
    maps = some_maps().requires_grad_()
    same, pooled = fused_maximum(kernels, maps)
    of_pooled, of_same = torch.randn(pooled.shape), torch.randn(maps.shape)
    expected, of_maps = maximum_by_loops(maps.detach(), of_pooled)
    assert torch.equal(same, maps) and torch.equal(pooled, expected)
    outputs, gradients = ((same, pooled), (of_same, of_pooled)) if maps_used else (pooled, of_pooled)
    (ours,) = torch.autograd.grad(outputs, maps, gradients)
    assert torch.equal(ours, of_maps + of_same if maps_used else of_maps)
    of_none = ours[ENDS[-1] :]
    assert torch.equal(of_none, of_same[ENDS[-1] :] if maps_used else torch.zeros_like(of_none))


def test_unused_set_maximum_passes_on_the_gradient_of_the_maps(kernels):
    maps = some_maps().requires_grad_()
    same, _ = fused_maximum(kernels, maps)
    gradient = torch.randn(maps.shape)
    assert torch.equal(torch.autograd.grad(same, maps, gradient)[0], gradient)


@pytest.mark.parametrize("frame", [4, 9, 14], ids=["first", "middle", "last"])
def test_set_maximum_propagates_nan(kernels, frame):
    maps = some_maps()
    maps[frame, 5, 2, 1] = torch.nan
    _, pooled = fused_maximum(kernels, maps)
    assert pooled[2, 5, 2, 1].isnan() and pooled.isnan().sum() == 1
