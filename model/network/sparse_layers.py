"""The set layers and set pooling on the CPU, computed only where the maps can differ from 0.

The convolutions have no biases, so a pixel of a map is 0 if it depends only on black pixels of the frame. In
silhouettes of walking persons, 45 % of the pixels after layer 2 and 18 % of the pixels after layer 4 are 0 for this
reason. The other pixels are called *seen*. A map is stored as a list of pixels, and each layer computes only the 2×2
tiles that contain a seen pixel.

Axes: f frames, r stored pixels, t tiles, c channels, h and w height and width of a map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network import winograd
from model.network.basic_blocks import NEGATIVE_SLOPE
from model.network.pooling import maximum


class Map(NamedTuple):
    """A map stored as a list of pixels. Pixels that are not stored are 0.

    Attributes:
        rows: [1 + r, c]. Row 0 is zero, and every other row is one pixel.
        places: int64 [f, h + 2, w + 2], with w rounded up to an even number: the row of each pixel, or 0 if the pixel
            is not stored. The border of zeros is the padding of the next layer.
        seen: bool [f, h, w], whether each pixel can differ from 0.
    """

    rows: Tensor
    places: Tensor
    seen: Tensor


class Tiles:
    """The 2×2 tiles of a map that contain a seen pixel.

    Attributes:
        seen: bool [f, h / 2, w / 2], whether each tile contains a seen pixel.
        corners: int64 [t], the index in the flattened `Map.places` of the top left corner of the 4×4 window of each
            tile.
    """

    def __init__(self, seen: Tensor):
        f, h, self.width = seen.shape
        seen = F.pad(seen, (0, self.width % 2))
        self.shape = (f, h + 2, seen.shape[2] + 2)
        halves = seen[:, ::2] | seen[:, 1::2]
        self.seen = halves[..., ::2] | halves[..., 1::2]
        self.corners = self.positions(*self.shape[1:])

    def positions(self, height: int, width: int) -> Tensor:
        """Return the index of the top left element of each tile in a flattened tensor [f, height, width]."""
        n, y, x = map(torch.arange, self.seen.shape)
        positions = (n[:, None, None] * height + 2 * y[:, None]) * width + 2 * x
        return positions.flatten().index_select(0, self.seen.flatten().nonzero().squeeze(1))

    def windows(self, places: Tensor) -> Tensor:
        """Return the rows of the 4×4 window of each tile, int64 [16, t] in the order of `winograd`."""
        order = torch.tensor(winograd.ORDER)
        offsets = (order[:, None] * self.shape[2] + order).view(-1, 1)
        return _taken(places, offsets + self.corners)

    def places(self) -> Tensor:
        """Return `Map.places` for the rows that `winograd.convolve` returns."""
        width = self.shape[2]
        places = self.corners.new_zeros(self.shape)
        pixels = torch.tensor([1, 2, 1 + width, 2 + width]).view(4, 1) + width + self.corners
        places.view(-1)[pixels.flatten()] = torch.arange(1, 1 + pixels.numel())
        places[..., 1 + self.width :] = 0  # the additional column of an odd width is padding
        return places

    def pooled_places(self) -> Tensor:
        """Return `Map.places` for the rows after max pooling, which are one pixel per tile."""
        seen = self.seen.flatten()
        places = (seen.cumsum(0) * seen).view(self.seen.shape)
        return F.pad(places, (1, 1 + self.seen.shape[2] % 2, 1, 1))


def pooled_maps(kernels: Sequence[Tensor], frames: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Return the set-pooled maps after layers 2, 4 and 6, [n, c, h, w] each.

    Args:
        kernels: kernels of the six layers, from `kernels_of`.
        frames: uint8 [f, 64, 44] on the CPU, the frames of one sequence after another.
        lengths: number of frames of each sequence.
    """
    map2 = _layer(_first_layer(frames, kernels[0]), kernels[1], pooling=True)
    map4 = _layer(_layer(map2, kernels[2]), kernels[3], pooling=True)
    map6 = _layer(_layer(map4, kernels[4]), kernels[5])
    return [_SetMaximum.apply(each.rows, each.places, each.seen.shape[2], lengths) for each in (map2, map4, map6)]


def are_faster(network) -> bool:
    """Return whether this module trains faster than torch's convolutions.

    This is the case in float32 on a processor that has AVX2 and does not have AVX-512. With AVX-512, oneDNN's
    convolutions are twice as fast, but the matrix products of this module are not, at least on AMD processors.
    """
    return network.amp_dtype is None and torch.backends.cpu.get_cpu_capability() == "AVX2"


def kernels_of(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the kernels of the six layers in the form that `pooled_maps` needs.

    The kernel of layer 1 is [4, 36, c]: the 5×5 kernel at each of the four positions in a 6×6 window.
    """
    first = weights[0][:, 0]
    positions = [F.pad(first, (x, 1 - x, y, 1 - y)).flatten(1).t() for y in (0, 1) for x in (0, 1)]
    return [torch.stack(positions), *map(winograd.kernels, weights[1:])]


def _first_layer(frames: Tensor, kernels: Tensor) -> Map:
    seen = _grown(_grown(frames > 0))
    tiles = Tiles(seen)
    padded = F.pad(frames, (2, 2, 2, 2))
    height, width = padded.shape[1:]
    six = torch.arange(6)
    offsets = (six[:, None] * width + six).view(-1, 1)
    windows = _taken(padded, offsets + tiles.positions(height, width)).to(kernels.dtype).div_(255)  # [36, t]
    rows = torch.bmm(windows.t().expand(4, -1, -1), kernels).flatten(0, 1)
    return Map(_activated(F.pad(rows, (0, 0, 1, 0))), tiles.places(), seen)


def _layer(x: Map, kernels: Tensor, pooling: bool = False) -> Map:
    seen = _grown(x.seen)
    tiles = Tiles(seen)
    rows = _Convolution.apply(x.rows, kernels, x, tiles)
    if not pooling:
        return Map(_activated(rows), tiles.places(), seen)
    return Map(_activated(_Pooling.apply(rows)), tiles.pooled_places(), tiles.seen)


def _activated(rows: Tensor) -> Tensor:
    return F.leaky_relu(rows, NEGATIVE_SLOPE, inplace=True)


def _grown(seen: Tensor) -> Tensor:
    """Return for each pixel whether the 3×3 pixels around it contain a seen pixel. bool [f, h, w] -> [f, h, w]."""
    padded = F.pad(seen, (1, 1, 1, 1))
    rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    return rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]


class _Convolution(torch.autograd.Function):
    """3×3 convolution that computes the given tiles: (rows of x, kernels, x, tiles of the output) -> output rows."""

    @staticmethod
    def forward(ctx, rows: Tensor, kernels: Tensor, x: Map, tiles: Tiles) -> Tensor:
        windows = tiles.windows(x.places)
        ctx.save_for_backward(rows, kernels, windows)
        ctx.places, ctx.seen, ctx.tiles = x.places, x.seen, tiles
        return winograd.convolve(rows, windows, kernels)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        rows, kernels, windows = ctx.saved_tensors
        back = Tiles(ctx.seen)
        # Compute the gradient in tiles of the input, then bring its pixels into the order of the rows of the input.
        of_pixels = winograd.convolve(gradient, back.windows(ctx.tiles.places()), winograd.adjoint(kernels))
        of_rows = of_pixels.index_select(0, _order(ctx.places, back.places().flatten(), len(rows)))
        return of_rows, winograd.kernels_gradient(rows, windows, gradient), None, None


class _Pooling(torch.autograd.Function):
    """Replace the pixels of each tile by their maximum. The gradient goes to the first pixel that holds the maximum.

    torch's own pooling takes twice as long in this layout.
    """

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        pixels = rows[1:].view(4, len(rows) // 4, rows.shape[1])
        upper, lower = torch.maximum(pixels[0], pixels[1]), torch.maximum(pixels[2], pixels[3])
        ctx.save_for_backward(lower > upper, pixels[1] > pixels[0], pixels[3] > pixels[2])
        return F.pad(torch.maximum(upper, lower), (0, 0, 1, 0))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        in_lower, right_of_upper, right_of_lower = ctx.saved_tensors
        t, c = in_lower.shape
        result = gradient.new_zeros(1 + 4 * t, c)
        pixels = result[1:].view(4, t, c)
        lower = gradient[1:] * in_lower
        for left, right, in_right, of_both in (
            (pixels[0], pixels[1], right_of_upper, gradient[1:] - lower),
            (pixels[2], pixels[3], right_of_lower, lower),
        ):
            torch.mul(of_both, in_right, out=right)
            torch.sub(of_both, right, out=left)
        return result


class _SetMaximum(torch.autograd.Function):
    """The maximum over the frames of each sequence. The gradient goes to the first frame that holds the maximum."""

    @staticmethod
    def forward(ctx, rows: Tensor, places: Tensor, width: int, lengths: Sequence[int]) -> Tensor:
        f, h, c = len(places), places.shape[1] - 2, rows.shape[1]
        pixels = places[:, 1:-1, 1 : 1 + width].flatten()
        frames = rows.index_select(0, pixels).view(f, -1)
        pooled = torch.stack([maximum(sequence) for sequence in frames.split(list(lengths))])
        ctx.save_for_backward(frames, pooled, pixels)
        ctx.lengths, ctx.shape = lengths, rows.shape
        return pooled.view(-1, h, width, c).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        frames, pooled, pixels = ctx.saved_tensors
        of_pixels = gradient.new_zeros(1 + len(pixels), ctx.shape[1])
        of_frames = of_pixels[1:].view(len(frames), -1).split(list(ctx.lengths))
        of_pooled = gradient.permute(0, 2, 3, 1).reshape(pooled.shape).clone()
        sequences = frames.split(list(ctx.lengths))
        for remaining, highest, sequence, of_sequence in zip(of_pooled, pooled, sequences, of_frames, strict=True):
            for frame, of_frame in zip(sequence, of_sequence, strict=True):
                torch.mul(remaining, frame == highest, out=of_frame)
                remaining.sub_(of_frame)  # so that later frames do not get the same gradient
        order = _order(pixels, torch.arange(1, 1 + len(pixels)), ctx.shape[0])
        return of_pixels.index_select(0, order), None, None, None


def _taken(values: Tensor, positions: Tensor) -> Tensor:
    """Return the elements of the flattened `values` at `positions`, as `values.take`, but twice as fast."""
    return values.flatten().index_select(0, positions.flatten()).view(positions.shape)


def _order(places: Tensor, values: Tensor, rows: int) -> Tensor:
    """Return for each row the value of the place that holds the row number. Row 0 and rows without a place get 0.

    Args:
        places: row numbers.
        values: one value per place.
        rows: number of rows.
    """
    order = values.new_zeros(rows)
    order[places.flatten()] = values
    order[0] = 0
    return order
