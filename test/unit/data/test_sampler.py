"""P×K batches: contents, frequencies, and dependence only on seed, rank and iteration."""

from collections import Counter

import numpy as np
import pytest

from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.data.sampler import PKSampler


def ragged_index() -> SequenceIndex:
    """Subject i has i + 1 sequences of different lengths, and the sequences of a subject are not adjacent."""
    names = [f"{i:03d}" for i in range(5) for _ in range(i + 1)]
    order = np.random.default_rng(0).permutation(len(names))
    subjects = [names[i] for i in order]
    lengths = 1 + np.arange(len(names)) % 7
    return SequenceIndex.from_lengths(subjects, ["nm-01"] * len(names), ["000"] * len(names), lengths)


def test_batch_has_p_subjects_with_k_sequences_and_rows_of_these_sequences():
    index = ragged_index()
    sampler = PKSampler(index, 3, 4, 10)
    for iteration in range(50):
        plan = sampler.plan(iteration)
        subjects = index.subject[plan.sequences].reshape(3, 4)
        assert all(len(set(row)) == 1 for row in subjects)
        assert len(set(subjects[:, 0])) == 3
        first, length = index.offset[plan.sequences], index.frames[plan.sequences]
        assert plan.rows.shape == (12, 10)
        assert (plan.rows >= first[:, None]).all() and (plan.rows < (first + length)[:, None]).all()


def test_all_sequences_and_frames_are_drawn_with_the_expected_frequency():
    """The sampler of the original never draws the first sequence."""
    index = ragged_index()
    sampler = PKSampler(index, 2, 2, 3, seed=4)
    drawn, rows = Counter(), Counter()
    for iteration in range(4000):
        plan = sampler.plan(iteration)
        drawn.update(plan.sequences.tolist())
        rows.update(plan.rows.flatten().tolist())
    assert set(drawn) == set(range(len(index)))
    assert set(rows) == set(range(int(index.frames.sum())))
    for position in range(len(index)):
        sequences_of_subject = (index.subject == index.subject[position]).sum()
        expected = 4000 * 4 / 5 / sequences_of_subject
        assert abs(drawn[position] - expected) < 6 * np.sqrt(expected)


def test_by_view_gives_all_subjects_the_same_half_of_k_views():
    views = [f"{angle:03d}" for angle in (0, 54, 90, 180)]
    labels = [(name, take, view) for name in "abcd" for view in views for take in ("nm-01", "nm-02")]
    labels = [one for one in labels if one[::2] != ("d", "054")]  # d lacks a view
    subject, take, view = zip(*np.random.default_rng(0).permutation(labels), strict=True)
    index = SequenceIndex.from_lengths(subject, take, view, [3] * len(subject))
    sampler, pairs = PKSampler(index, 3, 4, 2, by_view=True), Counter()
    for iteration in range(400):
        sequences = sampler.plan(iteration).sequences.reshape(3, 4)
        chosen = index.view[sequences]
        full = index.subject[sequences[:, 0]] != "d"
        assert (index.subject[sequences] == index.subject[sequences[:, :1]]).all()
        assert (chosen[full] == chosen[full][0]).all() and len(set(chosen[full][0])) == 2
        assert len(set(sampler.labels[sequences[:, 0]])) == 3
        pairs.update([tuple(sorted(set(chosen[full][0])))])
    assert len(pairs) == 6 and min(pairs.values()) > 35  # of 400 / 6 = 67


def test_a_batch_depends_on_seed_rank_and_iteration_only():
    index = ragged_index()
    sampler = PKSampler(index, 3, 2, 4, seed=1, rank=0)
    late_first = [sampler.plan(i) for i in (9, 2)]
    assert np.array_equal(late_first[1].rows, PKSampler(index, 3, 2, 4, seed=1, rank=0).plan(2).rows)
    for seed, rank, iteration in [(2, 0, 2), (1, 1, 2), (1, 0, 3)]:
        other = PKSampler(index, 3, 2, 4, seed=seed, rank=rank).plan(iteration)
        assert not np.array_equal(late_first[1].rows, other.rows)


def test_fewer_subjects_than_p_are_rejected_with_both_numbers():
    with pytest.raises(UserError, match=r"5 subjects.*P = 6"):
        PKSampler(ragged_index(), 6, 2, 4)


def test_p_can_be_the_number_of_subjects():
    plan = PKSampler(ragged_index(), 5, 1, 1).plan(0)
    assert len(set(ragged_index().subject[plan.sequences])) == 5
