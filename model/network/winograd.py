"""3×3 convolutions with Winograd's algorithm, which needs 16 products per 2×2 tile of the output instead of 36.

This is F(2×2, 3×3) of Lavin and Gray: "Fast Algorithms for Convolutional Neural Networks", 2015. Each 4×4 window of the
input is transformed, multiplied with the transformed kernel element by element, and transformed back to a 2×2 tile. All
three transforms are sums and differences along both axes, so the rounding errors are as small as in a direct
convolution.

A map is a list of pixels: rows [1 + r, c], of which row 0 is zero. A convolution receives the row numbers of the pixels
of each window, so it can compute any selection of tiles.

Axes: t tiles, i input channels, o output channels. The four positions along each axis of a window have the order
0, 3, 2, 1. In this order, each transform consists of operations on the two halves of an axis.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

ORDER = (0, 3, 2, 1)
TAPS = ((1, 0, 0), (0, 0, 1), (0.5, -0.5, 0.5), (0.5, 0.5, 0.5))  # transform of one kernel axis, in the same order
MIRRORED = [1, 0, 2, 3]  # order of the rows of TAPS for the mirrored kernel
WINDOW_CHUNK = 2**18  # elements of transformed windows that are computed at a time; so many fit into the cache


def kernels(weight: Tensor) -> Tensor:
    """Transform the weight of a convolution: [o, i, 3, 3] -> [16, i, o]."""
    taps = weight.new_tensor(TAPS)
    return torch.einsum("ay,bx,oiyx->abio", taps, taps, weight).flatten(0, 1)


def adjoint(kernels: Tensor) -> Tensor:
    """Return the kernels that convolve the output gradient to the input gradient: [16, i, o] -> [16, o, i]."""
    return kernels.unflatten(0, (4, 4))[MIRRORED][:, MIRRORED].flatten(0, 1).transpose(1, 2)


def convolve(rows: Tensor, windows: Tensor, kernels: Tensor) -> Tensor:
    """Convolve the windows of the tiles.

    Args:
        rows: [1 + r, i], the pixels of the input after a row of zeros.
        windows: int64 [16, t], the row number of each position of each window.
        kernels: [16, i, o].

    Returns:
        [1 + 4·t, o]: a row of zeros, then the top left pixels of all tiles, then all top right pixels, all bottom left
        pixels and all bottom right pixels.
    """
    _, i, o = kernels.shape
    result = rows.new_empty(1 + 4 * windows.shape[1], o)
    result[0] = 0
    tiles = result[1:].view(2, 2, windows.shape[1], o)
    for chunk, numbers in _chunks(windows, max(i, o)):
        products = torch.bmm(_transformed(rows, numbers), kernels).unflatten(0, (4, 4))
        outer, inner = products.split(2)
        _butterfly(*inner)
        outer, inner = outer.add_(inner).split(2, 1)
        _butterfly(*inner.unbind(1))
        torch.add(outer, inner, out=tiles[:, :, chunk])
    return result


def kernels_gradient(rows: Tensor, windows: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the kernels, [16, i, o], for a gradient of the result of `convolve`, [1 + 4·t, o]."""
    i, o = rows.shape[1], gradient.shape[1]
    result = rows.new_zeros(16, i, o)
    tiles = gradient[1:].view(2, 2, windows.shape[1], o)
    for chunk, numbers in _chunks(windows, max(i, o)):
        part = tiles[:, :, chunk]
        products = part.new_empty(4, 4, *part.shape[2:])
        products[:2, :2] = part
        for first, second, difference, total in (products[:, :2].unbind(), products.unbind(1)):
            torch.sub(second, first, out=difference)
            torch.add(first, second, out=total)
        result.baddbmm_(_transformed(rows, numbers).transpose(1, 2), products.flatten(0, 1))
    return result


def _transformed(rows: Tensor, numbers: Tensor) -> Tensor:
    """Gather and transform windows: [1 + r, i], int64 [16, t] -> [16, t, i]."""
    windows = rows.index_select(0, numbers.flatten()).view(4, 4, numbers.shape[1], rows.shape[1])
    for axis in (0, 1):
        outer, inner = windows.split(2, axis)
        outer.sub_(inner)
        _butterfly(*inner.unbind(axis))
    return windows.flatten(0, 1)


def _butterfly(x: Tensor, y: Tensor) -> None:
    """Replace x by y - x and y by x + y in place."""
    y.add_(x)
    torch.sub(y, x, alpha=2, out=x)


def _chunks(windows: Tensor, channels: int) -> Iterator[tuple[slice, Tensor]]:
    """Split the tiles into chunks. Yield the slice of each chunk and the row numbers of its windows."""
    start = 0
    for numbers in windows.split(max(1, WINDOW_CHUNK // (16 * channels)), 1):
        yield slice(start, start + numbers.shape[1]), numbers
        start += numbers.shape[1]
