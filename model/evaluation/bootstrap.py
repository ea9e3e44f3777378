"""Compute bootstrap intervals of rank-1 over subjects, and compare two results.

A test with different subjects would give a different rank-1. The bootstrap estimates this variation by drawing the
subjects with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). A comparison draws the same
subjects for both results, because the same subjects are difficult for both. The variation between training runs is not
included. Only training with several seeds shows that variation.

scipy.stats has neither an expanded percentile interval nor Holm's correction. Its bootstrap copies the resampled data,
which needs more memory than the weights of the subjects that are used here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model.common.errors import UserError, counted
from model.common.natural_order import natural_key
from model.evaluation.subject_hits import SubjectHits, mean_of_known, percentage

RESAMPLES = 4000
WEIGHT_CHUNK = 1 << 22  # largest number of resampling weights in memory at the same time
CONFIDENCE = 0.95
OVERALL = "mean"  # name of the mean over the conditions


@dataclass(frozen=True)
class Difference:
    """One row of a comparison: rank-1 in percent, and differences in percentage points.

    low, high: bounds of the 95 % interval of the difference second - first.
    p: p-value of a paired permutation test (random sign flips per subject). The p-values of the conditions have Holm's
        correction for multiple tests. The p-value of the mean has no correction.
    more_than_chance: p is below 0.05 and the interval does not contain 0.
    """

    condition: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    more_than_chance: bool


def intervals(hits: SubjectHits, kind: str, seed: int = 0) -> np.ndarray:
    """Return the 95 % interval of rank-1 per condition: [c, 2] in percent, NaN if there are fewer than two subjects.

    `kind` is `including` or `excluding` (identical views).
    """
    count = len(hits.subjects)
    if count < 2:
        return np.full((len(hits.conditions), 2), np.nan)
    drawn = np.concatenate([hits.rank1(kind, weights) for weights in _draws(count, seed)])
    return _bounds(drawn, count).T


def compare(first: SubjectHits, second: SubjectHits, kind: str, seed: int = 0) -> list[Difference]:
    """Return the differences in rank-1 between `second` and `first`: a row for the mean, then one row per condition.

    Raises UserError if the results have different sequences or fewer than two subjects.
    """
    check_pairs(first, second)
    count = len(first.subjects)
    if count < 2:
        raise UserError(
            f"cannot compare the two results: they have {counted(count, 'subject')}, expected at least two; test more "
            "subjects"
        )

    def rank1(weights: np.ndarray) -> list[np.ndarray]:
        return [_with_mean(hits.rank1(kind, weights)) for hits in (first, second)]

    drawn = np.concatenate([np.subtract(*reversed(rank1(weights))) for weights in _draws(count, seed)])
    p = _permutation_test(first, second, kind, seed + 1)
    p[1:] = _holm(p[1:])
    columns = (column.tolist() for column in (*rank1(np.ones(count)), *_bounds(drawn, count), p))
    return [
        Difference(name, a, b, b - a, low, high, q, q < 0.05 and low * high > 0)
        for name, a, b, low, high, q in zip((OVERALL, *first.conditions), *columns, strict=True)
        if not np.isnan(a)
    ]


def check_pairs(first: SubjectHits, second: SubjectHits) -> None:
    """Raise UserError if the results differ in subjects, conditions, views, numbers of probes or gallery views."""
    for what in ("subjects", "conditions", "views"):
        one, other = getattr(first, what), getattr(second, what)
        if one != other:
            only = [sorted(set(a) - set(b), key=natural_key) for a, b in ((one, other), (other, one))]
            named = "; ".join(
                f"only the {n} has {', '.join(o[:5])}" for n, o in zip(("first", "second"), only, strict=True) if o
            )
            raise UserError(
                f"cannot compare the two results: they have different {what} ({named or 'in a different order'}); "
                "run both tests on the same data"
            )
    if not np.array_equal(first.probes, second.probes) or not np.array_equal(first.enrolled, second.enrolled):
        raise UserError(
            "cannot compare the two results: they have different sequences (the numbers of probes or the gallery views "
            "differ); run both tests on the same data"
        )


def _draws(count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each of `count` subjects is drawn per resample: blocks [b, count], RESAMPLES rows in total."""
    rng = np.random.default_rng(seed)
    block = max(1, min(RESAMPLES, WEIGHT_CHUNK // count))
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)


def _bounds(drawn: np.ndarray, count: int) -> np.ndarray:
    """Return the expanded percentile interval of each column of `drawn`: [2, columns].

    Without the expansion, the percentile interval is too narrow for few subjects. The reason is the same as for an
    interval that uses the normal distribution instead of Student's t distribution (Hesterberg, What Teachers Should
    Know About the Bootstrap, The American Statistician 69, 2015, section 5.2).
    """
    from scipy.special import ndtr, stdtrit

    tail = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - CONFIDENCE) / 2)))
    # Rank-1 of a condition is NaN in a resample without probes of this condition. If no subject has such probes, it is
    # NaN in all resamples.
    known = ~np.isnan(drawn).all(axis=0)
    bounds = np.full((2, drawn.shape[1]), np.nan)
    bounds[:, known] = np.nanquantile(drawn[:, known], [tail, 1 - tail], axis=0)
    return bounds


def _permutation_test(first: SubjectHits, second: SubjectHits, kind: str, seed: int) -> np.ndarray:
    """Return p-values [1 + c] of the paired permutation test, which exchanges the two results of random subjects."""
    # Contribution of each subject to the difference in rank-1. An exchange flips the sign of the contribution.
    difference = getattr(second, kind) - getattr(first, kind)  # [s, c, v]
    shares = mean_of_known(percentage(difference, first.look_ups(kind).sum(axis=0)))  # [s, c]
    shares = _with_mean(shares)  # [s, 1 + c]
    # Count the permutations whose absolute difference is at least as large as the observed absolute difference.
    observed = np.abs(shares.sum(axis=0))
    rng = np.random.default_rng(seed)
    block = max(1, WEIGHT_CHUNK // len(shares))
    reached = np.zeros(shares.shape[1])
    for start in range(0, RESAMPLES, block):
        signs = rng.integers(0, 2, (min(block, RESAMPLES - start), len(shares))) * 2.0 - 1
        reached += (np.abs(signs @ shares) >= observed - 1e-9).sum(axis=0)
    return (1 + reached) / (1 + RESAMPLES)


def _holm(p: np.ndarray) -> np.ndarray:
    """Apply Holm's correction for multiple tests (Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def _with_mean(values: np.ndarray) -> np.ndarray:
    """Prepend the mean over the conditions that are not NaN: [..., c] -> [..., 1 + c]."""
    return np.concatenate([mean_of_known(values)[..., None], values], axis=-1)
