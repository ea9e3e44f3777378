"""Intervals over subjects and the paired comparison: what they cover, how often they cry wolf."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.common.errors import UserError
from model.evaluation import bootstrap
from model.evaluation.bootstrap import OVERALL, compare, intervals
from model.evaluation.subject_hits import SubjectHits

PROBES = 4  # of each subject, condition and view
VIEWS = ("000", "090", "180")


def hits_of(chance: np.ndarray, rng: np.random.Generator) -> SubjectHits:
    """Subjects who are recognised with `chance` [s, c]: three views, each looked up in the two others."""
    subjects, conditions = chance.shape
    shape = (subjects, conditions, len(VIEWS))
    probes = np.full(shape, PROBES)
    excluding = rng.binomial(2 * PROBES, np.broadcast_to(chance[..., None], shape))
    including = excluding + rng.binomial(PROBES, np.broadcast_to(chance[..., None], shape))
    names = tuple(f"{i:03d}" for i in range(subjects))
    return SubjectHits(names, ("NM", "CL")[:conditions], VIEWS, np.ones(3, bool), probes, including, excluding)


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 500)


def test_intervals_cover_the_truth_about_as_often_as_they_say(few_resamples):
    rng = np.random.default_rng(1)
    covered = []
    for trial in range(600):
        people = rng.beta(6, 3, (12, 1))  # some are easy, some are not: their mean chance is 2/3
        low, high = intervals(hits_of(people, rng), "excluding", seed=trial)[0]
        covered.append(low <= 100 * 2 / 3 <= high)
    assert 0.91 <= np.mean(covered) <= 0.975  # standard error 0.009


def test_no_difference_is_rarely_taken_for_one_and_a_large_one_is_found(few_resamples):
    rng = np.random.default_rng(2)
    wolf, found = [], []
    for trial in range(150):
        people = rng.beta(6, 3, (14, 2))
        first = hits_of(people, rng)
        wolf.append(compare(first, hits_of(people, rng), "excluding", seed=trial)[0].more_than_chance)
        found.append(compare(first, hits_of(people**0.4, rng), "excluding", seed=trial)[0].more_than_chance)
    assert np.mean(wolf) <= 0.08
    assert np.mean(found) >= 0.9


def test_pairing_sees_what_two_separate_intervals_do_not():
    """Everybody gains a little: far less than people differ among themselves."""
    rng = np.random.default_rng(3)
    people = np.linspace(0.1, 0.9, 30)[:, None]
    first = hits_of(people, rng)
    gain = np.minimum(first.excluding + 1, 2 * PROBES)
    second = replace(first, excluding=gain)
    row = compare(first, second, "excluding")[0]
    one, other = intervals(first, "excluding")[0], intervals(second, "excluding")[0]
    assert row.more_than_chance and row.low > 0
    assert one[1] > other[0], "the separate intervals overlap"


def test_the_rows_are_the_printed_figures_and_signs_turn_with_the_order():
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


def test_p_of_few_subjects_is_that_of_all_their_exchanges(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 20_000)
    rng = np.random.default_rng(6)
    people = rng.beta(6, 3, (6, 1))
    first, second = hits_of(people, rng), hits_of(people**0.5, rng)
    gains = (second.excluding - first.excluding).sum(axis=(1, 2))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    exact = np.mean(np.abs(signs @ gains) >= abs(gains.sum()))
    assert compare(first, second, "excluding")[1].p == pytest.approx(exact, abs=0.01)


def test_holm():
    np.testing.assert_allclose(bootstrap._holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def test_equal_results_do_not_differ():
    first = hits_of(np.full((5, 2), 0.5), np.random.default_rng(0))
    for row in compare(first, first, "excluding"):
        assert (row.difference, row.low, row.high, row.p, row.more_than_chance) == (0, 0, 0, 1, False)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"subjects": ("000", "001", "x")}, "not of the same subjects.*first has 002.*second has x"),
        ({"conditions": ("NM", "BG")}, "not of the same conditions"),
        ({"probes": np.full((3, 2, 3), 2)}, "not of the same sequences"),
    ],
)
def test_results_of_other_probes_are_refused(change, told):
    first = hits_of(np.full((3, 2), 0.5), np.random.default_rng(0))
    with pytest.raises(UserError, match=told):
        compare(first, replace(first, **change), "excluding")


def test_one_subject_has_no_interval():
    alone = hits_of(np.full((1, 2), 0.5), np.random.default_rng(0))
    assert np.isnan(intervals(alone, "excluding")).all()
    with pytest.raises(UserError, match="at least two"):
        compare(alone, alone, "excluding")
