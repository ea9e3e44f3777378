"""How far chance alone moves a rank-1: intervals over subjects, and whether two results differ by more.

Another set of people would give other figures. Drawing as many subjects as there are, with replacement, shows by how
much (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). Both results of a comparison are drawn together,
because the same people are hard for both. That is the chance in whom one tests, and not that of training: only training
again with other seeds shows that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.evaluation.subject_hits import SubjectHits

RESAMPLES = 4000
WEIGHTS_AT_ONCE = 1 << 22
CONFIDENCE = 0.95
OVERALL = "mean"  # over the conditions


@dataclass(frozen=True)
class Difference:
    """One row of a comparison, in percent and percent points; `low`, `high` bound the difference second - first.

    p: how often swapping the two results of each subject by a coin moves the rank-1 at least as far; of conditions
    beside each other it is Holm's. more_than_chance: p below 0.05 and no 0 within the interval.
    """

    condition: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    more_than_chance: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def intervals(hits: SubjectHits, kind: str, seed: int = 0) -> np.ndarray:
    """Bounds of the rank-1 of each condition, at 95 %: [c, 2] in percent, NaN for fewer than two subjects.

    kind: `including` or `excluding` identical views.
    """
    count = len(hits.subjects)
    if count < 2:
        return np.full((len(hits.conditions), 2), np.nan)
    drawn = np.concatenate([hits.rank1(kind, weights) for weights in _draws(count, seed)])
    return _bounds(drawn, count).T


def compare(first: SubjectHits, second: SubjectHits, kind: str, seed: int = 0) -> list[Difference]:
    """Rank-1 of `second` against `first`: of all conditions together (`mean`), then of each.

    Raises UserError unless both are of the same probes of the same subjects.
    """
    check_pairs(first, second)
    count = len(first.subjects)
    if count < 2:
        raise UserError("a comparison over subjects needs at least two of them")
    whole = np.ones(count)
    values = [_with_mean(hits.rank1(kind, whole)) for hits in (first, second)]
    drawn = np.concatenate(
        [
            _with_mean(second.rank1(kind, weights)) - _with_mean(first.rank1(kind, weights))
            for weights in _draws(count, seed)
        ]
    )
    low, high = _bounds(drawn, count)
    p = _swapped(first, second, kind, seed + 1)
    p[1:] = _holm(p[1:])
    rows = zip((OVERALL, *first.conditions), *values, low, high, p, strict=True)
    return [
        Difference(
            name, float(a), float(b), float(b - a), float(lo), float(hi), float(q), bool(q < 0.05 and lo * hi > 0)
        )
        for name, a, b, lo, hi, q in rows
        if not np.isnan(a)
    ]


def check_pairs(first: SubjectHits, second: SubjectHits) -> None:
    for what in ("subjects", "conditions", "views"):
        one, other = getattr(first, what), getattr(second, what)
        if one != other:
            only = [sorted(set(a) - set(b)) for a, b in ((one, other), (other, one))]
            named = "; ".join(
                f"only the {n} has {', '.join(o[:5])}" for n, o in zip(("first", "second"), only, strict=True) if o
            )
            raise UserError(f"the two results are not of the same {what} ({named or 'another order'}): test both alike")
    if not np.array_equal(first.probes, second.probes) or not np.array_equal(first.enrolled, second.enrolled):
        raise UserError("the two results are not of the same sequences: a subject has more probes in one of them")


def _draws(count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `count` subjects is drawn, in blocks [b, count], RESAMPLES rows in all."""
    rng = np.random.default_rng(seed)
    block = max(1, min(RESAMPLES, WEIGHTS_AT_ONCE // count))
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)


def _bounds(drawn: np.ndarray, count: int) -> np.ndarray:
    """Expanded percentile interval of the columns of `drawn`: [2, columns].

    Percentiles alone are too narrow for few subjects, as a normal interval without Student's t would be: Hesterberg,
    What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015), section 5.2.
    """
    from scipy.special import ndtr, stdtrit

    tail = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - CONFIDENCE) / 2)))
    # A resample of people who all lack a condition gives no figure; a condition that nobody has never does.
    known = ~np.isnan(drawn).all(axis=0)
    bounds = np.full((2, drawn.shape[1]), np.nan)
    bounds[:, known] = np.nanquantile(drawn[:, known], [tail, 1 - tail], axis=0)
    return bounds


def _swapped(first: SubjectHits, second: SubjectHits, kind: str, seed: int) -> np.ndarray:
    """p of each figure: the two results of each subject are exchanged or not, by a coin: [1 + c]."""
    more = getattr(second, kind) - getattr(first, kind)  # [s, c, v]
    look_ups = first.look_ups(kind).sum(axis=0)  # [c, v]
    there = look_ups > 0
    shares = np.where(there, more / np.maximum(look_ups, 1), 0).sum(axis=2) / np.maximum(there.sum(axis=1), 1)
    shares = _with_mean(100 * np.where(there.any(axis=1), shares, np.nan))  # [s, 1 + c] what each subject contributes
    observed = np.abs(shares.sum(axis=0))
    rng = np.random.default_rng(seed)
    block = max(1, WEIGHTS_AT_ONCE // len(shares))
    reached = np.zeros(shares.shape[1])
    for start in range(0, RESAMPLES, block):
        coins = rng.integers(0, 2, (min(block, RESAMPLES - start), len(shares))) * 2.0 - 1
        reached += (np.abs(coins @ shares) >= observed - 1e-9).sum(axis=0)
    return (1 + reached) / (1 + RESAMPLES)


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction for looking at several figures (Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def _with_mean(values: np.ndarray) -> np.ndarray:
    """[..., c] to [..., 1 + c]: their mean first; NaN, of a condition that is not there, does not count."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    mean = np.where(count > 0, np.where(known, values, 0).sum(axis=-1) / np.maximum(count, 1), np.nan)
    return np.concatenate([mean[..., None], values], axis=-1)
