"""Test bootstrap intervals over subjects and paired comparisons: coverage and false positive rate."""

from dataclasses import replace

import numpy as np
import pytest

from model.common.errors import UserError
from model.evaluation import bootstrap
from model.evaluation.bootstrap import OVERALL, compare, intervals
from model.evaluation.subject_hits import SubjectHits

PROBES = 4  # per subject, condition and view
VIEWS = ("000", "090", "180")


def hits_of(chance: np.ndarray, rng: np.random.Generator) -> SubjectHits:
    """Return hits of subjects that are recognized with probability `chance` [s, c] in each of three views."""
    subjects, conditions = chance.shape
    chance = np.broadcast_to(chance[..., None], (subjects, conditions, len(VIEWS)))
    excluding = rng.binomial(2 * PROBES, chance)
    including = excluding + rng.binomial(PROBES, chance)
    names = tuple(f"{i:03d}" for i in range(subjects))
    probes = np.full(chance.shape, PROBES)
    return SubjectHits(names, ("NM", "CL")[:conditions], VIEWS, np.ones(3, bool), probes, including, excluding)


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 500)


def test_intervals_have_the_nominal_coverage(few_resamples):
    rng = np.random.default_rng(1)
    covered = []
    for trial in range(600):
        people = rng.beta(6, 3, (12, 1))  # subjects differ; their mean probability is 2/3
        low, high = intervals(hits_of(people, rng), "excluding", seed=trial)[0]
        covered.append(low <= 100 * 2 / 3 <= high)
    assert 0.91 <= np.mean(covered) <= 0.975  # standard error 0.009


def test_few_false_positives_and_large_differences_are_found(few_resamples):
    rng = np.random.default_rng(2)
    false_positives, found = [], []
    for trial in range(150):
        people = rng.beta(6, 3, (14, 2))
        first = hits_of(people, rng)
        false_positives.append(compare(first, hits_of(people, rng), "excluding", seed=trial)[0].more_than_chance)
        found.append(compare(first, hits_of(people**0.4, rng), "excluding", seed=trial)[0].more_than_chance)
    assert np.mean(false_positives) <= 0.08
    assert np.mean(found) >= 0.9


def test_paired_comparison_is_more_sensitive_than_two_intervals():
    """All subjects improve slightly. The improvement is much smaller than the differences between subjects."""
    rng = np.random.default_rng(3)
    people = np.linspace(0.1, 0.9, 30)[:, None]
    first = hits_of(people, rng)
    gain = np.minimum(first.excluding + 1, 2 * PROBES)
    second = replace(first, excluding=gain)
    row = compare(first, second, "excluding")[0]
    one, other = intervals(first, "excluding")[0], intervals(second, "excluding")[0]
    assert row.more_than_chance and row.low > 0
    assert one[1] > other[0], "the separate intervals overlap"


def test_rows_equal_rank1_and_signs_follow_the_order():
    rng = np.random.default_rng(4)
    people = rng.beta(6, 3, (10, 2))
    first, second = hits_of(people, rng), hits_of(people**0.7, rng)
    rows = compare(first, second, "including")
    whole = np.ones(10)
    assert [row.condition for row in rows] == [OVERALL, "NM", "CL"]
    np.testing.assert_allclose([r.first for r in rows[1:]], first.rank1("including", whole))
    np.testing.assert_allclose([r.second for r in rows[1:]], second.rank1("including", whole))
    assert rows[0].difference == pytest.approx(np.mean([r.difference for r in rows[1:]]))
    back = compare(second, first, "including")
    np.testing.assert_allclose([r.difference for r in back], [-r.difference for r in rows])
    np.testing.assert_allclose([r.low for r in back], [-r.high for r in rows], atol=1e-9)
    assert all(row.low <= row.difference <= row.high for row in rows)


def test_p_of_few_subjects_equals_exact_enumeration(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 20_000)
    rng = np.random.default_rng(6)
    people = rng.beta(6, 3, (6, 1))
    first, second = hits_of(people, rng), hits_of(people**0.5, rng)
    gains = (second.excluding - first.excluding).sum(axis=(1, 2))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    exact = np.mean(np.abs(signs @ gains) >= abs(gains.sum()))
    assert compare(first, second, "excluding")[1].p == pytest.approx(exact, abs=0.01)


def test_holm_correction():
    np.testing.assert_allclose(bootstrap._holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def test_equal_results_do_not_differ():
    first = hits_of(np.full((5, 2), 0.5), np.random.default_rng(0))
    for row in compare(first, first, "excluding"):
        assert (row.difference, row.low, row.high, row.p, row.more_than_chance) == (0, 0, 0, 1, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": ("000", "001", "x")}, "different subjects.*first has 002.*second has x"),
        ({"conditions": ("NM", "BG")}, "different conditions"),
        ({"probes": np.full((3, 2, 3), 2)}, "different sequences"),
    ],
)
def test_results_of_other_probes_are_rejected(change, message):
    first = hits_of(np.full((3, 2), 0.5), np.random.default_rng(0))
    with pytest.raises(UserError, match=message):
        compare(first, replace(first, **change), "excluding")


def test_one_subject_has_no_interval():
    alone = hits_of(np.full((1, 2), 0.5), np.random.default_rng(0))
    assert np.isnan(intervals(alone, "excluding")).all()
    with pytest.raises(UserError, match="at least two"):
        compare(alone, alone, "excluding")
