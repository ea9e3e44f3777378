"""3×3 convolutions with Winograd's algorithm, compared with torch's convolution."""

import pytest
import torch
import torch.nn.functional as F

from model.network import winograd

CHANNELS_IN, CHANNELS_OUT = 5, 3


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def windows_of(height, width):
    """Return the row numbers of the windows of all 2×2 tiles of one map, whose first pixel is in row 1."""
    places = F.pad(torch.arange(1, 1 + height * width).view(height, width), (1, 1, 1, 1))
    corners = [(y, x) for y in range(0, height, 2) for x in range(0, width, 2)]
    return torch.stack(
        [torch.stack([places[y + v, x + u] for y, x in corners]) for v in winograd.ORDER for u in winograd.ORDER]
    )


def as_rows(maps):
    """Return the pixels of a map [1, c, h, w] as rows after a row of zeros: [1 + h·w, c]."""
    return F.pad(maps[0].flatten(1).t(), (0, 0, 1, 0))


def as_map(rows, height, width):
    """Arrange the pixels of all 2×2 tiles of one map as [1, c, h, w]."""
    tiles = rows[1:].view(2, 2, height // 2, width // 2, -1)
    return tiles.permute(4, 2, 0, 3, 1).reshape(1, -1, height, width)


@pytest.mark.parametrize("chunk", [2**18, 16 * CHANNELS_IN * 4])
def test_equals_torch(draw, monkeypatch, chunk):
    """The result must not depend on the number of chunks. In the second case, the last chunk has fewer tiles."""
    monkeypatch.setattr(winograd, "WINDOW_CHUNK", chunk)
    maps, weight = draw(1, CHANNELS_IN, 6, 6), draw(CHANNELS_OUT, CHANNELS_IN, 3, 3)
    maps.requires_grad_()
    weight.requires_grad_()
    expected = F.conv2d(maps, weight, padding=1)
    gradient = draw(*expected.shape)
    of_maps, of_weight = torch.autograd.grad(expected, (maps, weight), gradient)

    windows, kernels, rows = windows_of(6, 6), winograd.kernels(weight), as_rows(maps.detach())
    torch.testing.assert_close(as_map(winograd.convolve(rows, windows, kernels.detach()), 6, 6), expected)

    # `convolve` returns the top left pixels of all tiles, then the other pixels. The gradient needs the same order.
    tiles = gradient[0].view(-1, 3, 2, 3, 2).permute(2, 4, 1, 3, 0).reshape(-1, CHANNELS_OUT)
    of_kernels = winograd.kernels_gradient(rows, windows, F.pad(tiles, (0, 0, 1, 0)))
    torch.testing.assert_close(torch.autograd.grad(kernels, weight, of_kernels)[0], of_weight)
    back = winograd.convolve(as_rows(gradient), windows, winograd.adjoint(kernels.detach()))
    torch.testing.assert_close(as_map(back, 6, 6), of_maps)


def test_computes_only_the_given_tiles(draw):
    rows, kernels = draw(1 + 36, CHANNELS_IN), draw(16, CHANNELS_IN, CHANNELS_OUT)
    rows[0] = 0
    windows = windows_of(6, 6)
    everything = winograd.convolve(rows, windows, kernels)[1:].view(4, 9, -1)
    some = winograd.convolve(rows, windows[:, [7, 2]], kernels)
    assert not some[0].any()
    torch.testing.assert_close(some[1:].view(4, 2, -1), everything[:, [7, 2]])
    assert winograd.convolve(rows, windows[:, :0], kernels).shape == (1, CHANNELS_OUT)


def test_rounds_as_little_as_torch(draw):
    """Compare the error of both convolutions for sums of many products. float64 gives the exact result."""
    maps, weight = draw(1, 128, 16, 12), draw(128, 128, 3, 3)
    exact = F.conv2d(maps, weight, padding=1)
    kernels = winograd.kernels(weight.float())
    ours = as_map(winograd.convolve(as_rows(maps.float()), windows_of(16, 12), kernels), 16, 12)
    theirs = F.conv2d(maps.float(), weight.float(), padding=1)
    assert (ours - exact).square().mean() < 4 * (theirs - exact).square().mean()
