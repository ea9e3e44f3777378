"""Set layers that compute only pixels that can differ from 0, compared with the layers of the network."""

import pytest
import torch
import torch.nn.functional as F

from model.network import GaitSet, sparse_layers
from model.network.pooling import set_pooling

LENGTHS = [3, 1, 2]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return GaitSet(4, channels=(4, 6, 8)).double()


@pytest.fixture
def frames():
    """Four frames with grey pixels at an edge or in the middle, a frame with one white pixel, and a black frame."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (sum(LENGTHS), 64, 44), generator=generator, dtype=torch.uint8)
    for frame, (left, right) in zip(frames, [(0, 9), (17, 30), (33, 44), (5, 41)], strict=False):
        frame[:, :left], frame[:, right:] = 0, 0
    frames[4], frames[5] = 0, 0
    frames[4, 63, 43] = 255
    return frames


def test_maps_and_gradients_equal_those_of_the_network(network, frames):
    weights = network.set_weights()
    expected = [set_pooling(maps, LENGTHS, len(LENGTHS)) for maps in network.frame_maps(frames)]
    ours = sparse_layers.pooled_maps(sparse_layers.kernels_of(weights), frames, LENGTHS)
    generator = torch.Generator().manual_seed(2)
    gradients = [torch.randn(maps.shape, generator=generator, dtype=maps.dtype) for maps in expected]
    for maps, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(maps, other)
    theirs = torch.autograd.grad(expected, weights, gradients)
    for gradient, other in zip(torch.autograd.grad(ours, weights, gradients), theirs, strict=True):
        torch.testing.assert_close(gradient, other)


def test_black_frames_have_no_pixels(network, frames):
    weights = network.set_weights()
    pooled = sparse_layers.pooled_maps(sparse_layers.kernels_of(weights), torch.zeros_like(frames), LENGTHS)
    assert not any(maps.any() for maps in pooled)
    gradients = torch.autograd.grad(pooled, weights, [torch.ones_like(maps) for maps in pooled])
    assert not any(gradient.any() for gradient in gradients)


def test_the_first_of_equal_frames_gets_the_gradient():
    rows = torch.tensor([[0.0], [1], [2], [2], [1], [2], [3]], requires_grad=True)
    places = F.pad(torch.arange(1, 7).view(3, 1, 2), (1, 1, 1, 1))
    pooled = sparse_layers._SetMaximum.apply(rows, places, 2, [2, 1])
    assert pooled.flatten().tolist() == [2, 2, 2, 3]
    pooled.backward(torch.tensor([10.0, 20, 30, 40]).view(pooled.shape))
    assert rows.grad.flatten().tolist() == [0, 0, 20, 10, 0, 30, 40]


def test_the_first_of_equal_pixels_gets_the_gradient():
    """Of several pixels with the maximum of a tile, the first in reading order gets the gradient."""
    tiles = [[1, 5, 2, 3], [1, 2, 2, 1], [4, 4, 4, 4], [0, 1, 2, 3], [1, 0, 7, 7]]
    expected = [[0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    rows = F.pad(torch.tensor(tiles, dtype=torch.float32).t().reshape(-1, 1), (0, 0, 1, 0)).requires_grad_()
    pooled = sparse_layers._Pooling.apply(rows)
    assert pooled.flatten().tolist() == [0, 5, 2, 4, 3, 7]
    pooled.backward(torch.ones_like(pooled))
    assert rows.grad[1:].view(4, -1).t().tolist() == expected


def test_layers_leave_out_tiles_that_see_only_black(network):
    """One white pixel affects 5×5 pixels of layer 1, 7×7 of layer 2 (4×4 after pooling) and 6×6 of layer 3."""
    frames = torch.zeros(1, 64, 44, dtype=torch.uint8)
    frames[0, 30, 20] = 255
    kernels = [kernel.detach() for kernel in sparse_layers.kernels_of(network.set_weights())]
    first = sparse_layers._first_layer(frames, kernels[0])
    assert first.seen.sum() == 25 and len(first.rows) == 1 + 4 * 9
    second = sparse_layers._layer(first, kernels[1], pooling=True)
    assert second.seen.sum() == 16 and len(second.rows) == 1 + 16
    third = sparse_layers._layer(second, kernels[2])
    assert third.seen.sum() == 36


@pytest.mark.parametrize(
    ("capability", "amp_dtype", "faster"),
    [("AVX2", None, True), ("AVX2", torch.bfloat16, False), ("AVX512", None, False), ("DEFAULT", None, False)],
)
def test_sparse_layers_are_used_in_float32_on_processors_with_avx2_only(monkeypatch, capability, amp_dtype, faster):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert sparse_layers.are_faster(GaitSet(4, amp_dtype, channels=(2, 2, 2))) == faster
