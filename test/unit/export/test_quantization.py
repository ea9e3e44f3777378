"""Quantization of maps and weights: ranges, rounding and saturation. test_int8.py tests the folded first layer."""

import numpy as np
import torch
import torch.nn.functional as F

from model.export.quantization import (
    fit_scales,
    fit_to_relu,
    quant_params,
    quantize_weights,
    saturates,
)


def test_saturates_finds_pairs_whose_products_exceed_int16():
    pairs = np.array([[a, b] for a in range(-128, 128) for b in range(-128, 128)], np.int8)
    # The largest and smallest sum of two products with map values of 0 to 255.
    largest, smallest = (255 * side(pairs.astype(int), 0).sum(1) for side in (np.maximum, np.minimum))
    assert np.array_equal(saturates(pairs), (largest > 32767) | (smallest < -32768))


def test_fit_scales_changes_the_convolution_least():
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 3, 3, 3)).astype(np.float32)
    weight[1] = 0
    maps = torch.from_numpy(random.random((2, 3, 8, 8)).astype(np.float32))

    def change(whole, scale):
        rounding = weight - whole * scale[:, None, None, None]
        return F.conv2d(maps, torch.from_numpy(rounding), padding=1).square().mean((0, 2, 3)).numpy()

    whole, scale = fit_scales(weight, maps)
    assert whole.dtype == np.int8 and not whole[1].any() and not saturates(whole).any()
    for factor in (1.0, 1.1, 1.25):
        other = (scale * factor).astype(np.float32)
        rounded = np.rint(weight / other[:, None, None, None])
        assert change(whole, scale).sum() <= change(rounded, other).sum() * 1.0001


def test_fit_to_relu_is_the_linear_regression_of_all_windows():
    """Compare with NumPy's least squares on windows that are cut out one by one."""
    random = np.random.default_rng(0)
    before = random.normal(size=(2, 3, 6, 6)) + random.normal(size=(2, 1, 6, 6))  # correlated channels
    maps = np.where(before < 0, 0.01 * before, before).astype(np.float32)
    weight = random.normal(size=(4, 3, 3, 3)).astype(np.float32)

    def windows(maps):
        padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
        cut = [each[:, y : y + 3, x : x + 3].ravel() for each in padded for y in range(6) for x in range(6)]
        return np.array(cut, np.float64)

    wanted = windows(maps) @ weight.reshape(4, -1).T
    positive = windows(np.maximum(maps, 0))
    expected = np.linalg.lstsq(positive, wanted, rcond=None)[0].T.reshape(weight.shape)
    found = fit_to_relu(weight, torch.from_numpy(maps))
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-3 * np.abs(weight).max()
    assert np.abs(expected - weight).max() > 2e-3 * np.abs(weight).max()
    error, before_fit = (
        np.linalg.norm(positive @ each.reshape(4, -1).T - wanted) for each in (found.astype(np.float64), weight)
    )
    assert error < 0.8 * before_fit


def test_quantization_represents_zero_and_rounds_by_half_a_step():
    for smallest, largest in ((-2.0, 0.5), (0.1, 3.0), (-1.0, -0.5), (0.0, 0.0)):
        params = quant_params(smallest, largest)
        assert params.scale > 0 and 0 <= params.zero_point <= 255
        for value in (0.0, smallest, largest):
            whole = np.clip(round(value / params.scale) + params.zero_point, 0, 255)
            assert abs((whole - params.zero_point) * params.scale - value) <= 0.51 * params.scale
    weight = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    weight[1] = 0
    whole, scale = quantize_weights(weight)
    assert whole.dtype == np.int8 and np.abs(whole[0]).max() == 127 and not whole[1].any()
    assert np.abs(whole * scale[:, None, None, None] - weight).max() <= 0.5001 * scale.max()
