"""Compare ROC, equal error rate and true accept rates with loops over all thresholds."""

import numpy as np
import pytest

from model.evaluation.verification import rebinned, roc

BINS, WIDTH = 400, 0.01


def counted(values: np.ndarray) -> np.ndarray:
    return np.bincount((values / WIDTH).astype(int), minlength=BINS)


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.normal(1.2, 0.3, 700).clip(0, 3.9), rng.normal(2.0, 0.35, 5000).clip(0, 3.9)


def test_rates_equal_the_shares_below_each_threshold(pairs):
    genuine, impostor = pairs
    curve = roc(counted(genuine), counted(impostor), WIDTH)
    assert (curve.genuine, curve.impostor) == (700, 5000)
    for place in range(0, BINS + 1, 37):
        below = [np.mean((values / WIDTH).astype(int) < place) for values in pairs]
        assert curve.tar[place] == pytest.approx(below[0]) and curve.far[place] == pytest.approx(below[1])
    assert curve.far[0] == curve.tar[0] == 0 and curve.far[-1] == curve.tar[-1] == 1


@pytest.mark.parametrize("far", [0.1, 0.01, 0.001, 1.0])
def test_true_accept_rate_at_a_false_accept_rate(pairs, far):
    genuine, impostor = pairs
    best = max(np.mean(genuine < t) for t in np.arange(BINS + 1) * WIDTH if np.mean(impostor < t) <= far)
    assert roc(counted(genuine), counted(impostor), WIDTH).tar_at(far) == pytest.approx(best)


def test_equal_error_rate_is_where_both_errors_are_equal(pairs):
    genuine, impostor = pairs
    curve = roc(counted(genuine), counted(impostor), WIDTH)
    # Use all distances as thresholds instead of the bin edges.
    gaps = {t: (np.mean(impostor < t), np.mean(genuine >= t)) for t in np.concatenate(pairs)}
    accepted, refused = min(gaps.values(), key=lambda rates: abs(rates[0] - rates[1]))
    assert curve.equal_error_rate() == pytest.approx((accepted + refused) / 2, abs=0.01)


def test_perfect_random_and_empty_curves():
    apart, same, none = counted(np.full(40, 0.035)), counted(np.full(2000, 0.905)), np.zeros(BINS, int)
    perfect = roc(apart, same, WIDTH)
    assert perfect.equal_error_rate() == 0 and perfect.tar_at(0.001) == 1
    assert roc(same, same, WIDTH).equal_error_rate() == pytest.approx(0.5)
    assert np.isnan(roc(none, same, WIDTH).equal_error_rate()) and np.isnan(roc(apart, none, WIDTH).tar_at(0.01))
    assert np.isnan(roc(apart, apart, WIDTH).tar_at(0.01)), "with 40 impostor pairs, a FAR of 1 % allows none"


def test_rebinned_counts_hold_the_same_pairs(pairs):
    counts = np.stack([counted(values) for values in pairs])
    edges, wide = rebinned(counts, WIDTH, max_bins=30)
    assert wide.shape[-1] <= 30 and len(edges) == wide.shape[-1] + 1
    for values, own in zip(pairs, wide, strict=True):
        expected, _ = np.histogram(np.floor(values / WIDTH) * WIDTH + WIDTH / 2, edges)
        np.testing.assert_array_equal(own, expected)
    edges, wide = rebinned(np.zeros((2, 5), int), WIDTH)
    assert wide.sum() == 0 and len(edges) == wide.shape[-1] + 1
