"""Quantize maps to uint8 and weights to int8, so that sums of their products do not saturate on any x86 processor.

x86 processors without the VNNI instructions use VPMADDUBSW, which adds two products in int16 and saturates. Here, the
weights of an output channel are so small that this sum never saturates, so every processor computes the same integers.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

MAX_PAIR = 128  # limit of the sum of two weights of the same sign: 255 * 128 = 32,640 fits into int16
SCALE_FACTORS = np.linspace(1.25, 1, 16)  # candidate scales, relative to the finest scale; the coarsest comes first
RIDGE = 1e-4  # regularization of the regression in `fit_to_relu`, relative to the mean square of the inputs


class QuantParams(NamedTuple):
    """Parameters of asymmetric uint8 values: real value = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


def quant_params(smallest: float, largest: float) -> QuantParams:
    """Return the parameters for a range of real values. The range is extended to include 0, which becomes exact."""
    scale = (max(largest, 0) - min(smallest, 0)) / 255 or 1.0
    return QuantParams(scale, round(-min(smallest, 0) / scale))


def quantize_weights(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize float32 [o, ...] -> int8 [o, ...] and one scale per output channel [o]. The zero point is 0."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8), scale


def largest_pairs(weight: np.ndarray) -> np.ndarray:
    """Return the largest absolute sum of two weights of the same sign in each output channel: [o, ...] -> [o].

    The two weights need not be neighbours, because the order of the products depends on the processor.
    """
    rows = np.sort(weight.reshape(len(weight), -1), axis=1)
    return np.maximum(np.maximum(rows[:, -2:], 0).sum(1), -np.minimum(rows[:, :2], 0).sum(1))


def saturates(weight: np.ndarray) -> np.ndarray:
    """Return for each output channel whether a sum of two products can exceed int16: int8 [o, ...] -> bool [o]."""
    return largest_pairs(weight.astype(np.int32)) > MAX_PAIR


def fit_scales(weight: np.ndarray, maps: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Quantize float32 [o, i, k, k] -> int8 weights that cannot saturate, and one scale per output channel [o].

    For each channel, choose the candidate scale whose rounding changes the convolution of `maps` [f, i, h, w] least.
    """
    # The finest scale keeps each weight within int8 and each pair of weights within MAX_PAIR.
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    finest = np.maximum(largest_pairs(weight) / MAX_PAIR, largest / 127)
    finest = np.where(finest > 0, finest, 1)
    best_weight = best_scale = best_error = None
    for factor in SCALE_FACTORS:
        scale = (factor * finest).astype(np.float32)
        broadcast_scale = scale.reshape(-1, 1, 1, 1)
        rounded = np.rint(weight / broadcast_scale)
        rounding_error = torch.from_numpy(weight - rounded * broadcast_scale)
        # The mean squared change of each output channel.
        error = F.conv2d(maps, rounding_error, padding=weight.shape[-1] // 2).square().mean((0, 2, 3)).numpy()
        if best_weight is None:
            # The coarsest scale never saturates: two weights have a sum of at most 128 / 1.25, and rounding adds 1.
            best_weight, best_scale, best_error = rounded, scale, error
            continue
        better = (error < best_error) & ~saturates(rounded)
        best_weight[better], best_scale[better], best_error[better] = rounded[better], scale[better], error[better]
    return best_weight.astype(np.int8), best_scale


def fit_to_relu(weight: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    """Change float32 weights [o, i, k, k] so that they fit the input relu(maps) instead of `maps` [f, i, h, w].

    relu discards the negative values of `maps`. Linear regression predicts the contribution of the negative values to
    the convolution from the positive values, and the weights include this prediction. The error is small, because
    LeakyReLU makes negative values small, and because negative values depend strongly on the positive values.
    """
    size, edge = weight[0].size, weight.shape[-1] // 2
    positive = maps.relu()
    missing = F.conv2d(maps - positive, torch.from_numpy(weight), padding=edge).flatten(2)
    squares, products = torch.zeros(size, size), torch.zeros(size, len(weight))
    for frame, target in zip(positive, missing, strict=True):
        windows = F.unfold(frame[None], weight.shape[-1], padding=edge)[0]
        squares.addmm_(windows, windows.T)
        products.addmm_(windows, target.T)
    # A small multiple of the identity keeps the system solvable if channels are empty or equal.
    ridge = (RIDGE * squares.diagonal().mean()).clamp(min=1e-12) * torch.eye(size)
    change = torch.linalg.solve((squares + ridge).double(), products.double())
    return weight + change.T.reshape(weight.shape).float().numpy()


def fold_pixels_into_channels(weight: np.ndarray, pixels: int) -> np.ndarray:
    """Convert weights for one input channel to weights for `pixels` input channels, which hold neighbours of a row.

    [o, 1, k, k] -> [pixels * o, pixels, k, 1 + (k - 1) / pixels]. k - 1 must be a multiple of `pixels`, and the rows
    must be padded by k // 2 pixels on both sides before they are folded. Output channel r * o + j at one position of
    the folded map is channel j at pixel r of that position.
    """
    outputs, _, height, width = weight.shape
    folded = np.zeros((pixels, outputs, pixels, height, 1 + (width - 1) // pixels), weight.dtype)
    for r in range(pixels):
        for column in range(width):
            position, channel = divmod(r + column, pixels)
            folded[r, :, channel, :, position] = weight[:, 0, :, column]
    return folded.reshape(pixels * outputs, pixels, height, -1)
