"""Test thresholds of distances: a quantile for many people, and Student's t distribution for few people."""

import numpy as np
import pytest
from scipy import stats

from model.evaluation.calibration import threshold_at


@pytest.mark.parametrize("far", [0.01, 0.1, 0.33])
def test_threshold_accepts_the_given_share_of_many_distances(far):
    values = np.random.default_rng(3).normal(10, 2, 457)
    threshold, extrapolated = threshold_at(values, np.arange(457), far)
    assert not extrapolated and far - 2 / 457 < (values < threshold).mean() <= far


@pytest.mark.parametrize(("people", "each"), [(3, 1), (5, 6), (10, 6), (40, 3)])
def test_thresholds_of_few_people_accept_about_the_given_share_on_average(people, each):
    """Half of the variance is common to all distances of a person. A quantile would accept 14 % (five people)."""
    rng = np.random.default_rng(people)

    def distances(count: int) -> np.ndarray:
        return np.exp(3 + 0.1 * rng.normal(size=(count, 1)) + 0.1 * rng.normal(size=(count, each)))

    own, accepted = np.repeat(np.arange(people), each), []
    for _ in range(300):
        threshold, extrapolated = threshold_at(distances(people).ravel(), own, 0.05)
        accepted.append((distances(200) < threshold).mean())
        assert extrapolated == (people < 20)
    assert 0.02 < np.mean(accepted) < 0.07


def test_extrapolation_uses_the_effective_number_of_distances():
    values = np.random.default_rng(0).normal(10, 1, 5)
    same = np.repeat(values, 12)  # twelve equal distances for each of five people count as five distances
    threshold, extrapolated = threshold_at(same, np.repeat(np.arange(5), 12), 0.05)
    logs = np.log(same)
    spread = np.sqrt((4 * 0.15**2 + 4 * logs.var(ddof=1)) / 8 * (1 + 1 / 5))
    assert extrapolated and threshold == pytest.approx(np.exp(stats.t(8, logs.mean(), spread).ppf(0.05)))
    independent = np.tile(values, 5)  # every person has the same five distances
    spread = np.sqrt((4 * 0.15**2 + 24 * np.log(independent).var(ddof=1)) / 28 * (1 + 1 / 25))
    found = threshold_at(independent, np.repeat(np.arange(5), 5), 0.05)[0]
    assert found == pytest.approx(np.exp(stats.t(28, logs.mean(), spread).ppf(0.05)))
    assert threshold_at(same[:24], np.repeat([0, 1], 12), 0.05) == (None, False), "two people are too few"
    assert 0 < threshold_at(np.array([0, 0, 1e-9]), np.arange(3), 0.05)[0] < 1e-9, "equal sequences have distance 0"
