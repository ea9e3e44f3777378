"""P×K batches: the plan of the sampler, and the content and order of the batches with any number of threads."""

import threading
from collections import Counter
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from model.common.errors import UserError
from model.data.augmentation import augment, draw_changes
from model.data.batches import PACK_TO, BatchLoader, fits_device, pack
from model.data.index import SequenceIndex
from model.data.sampler import PKSampler
from model.data.store import SilhouetteStore

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path):
    frames = np.random.default_rng(0).integers(256, size=(60, 64, 44), dtype=np.uint8)
    subjects = [f"{i // 2}" for i in range(12)]
    index = SequenceIndex.from_lengths(subjects, ["nm-01"] * 12, ["000"] * 12, [5] * 12)
    return SilhouetteStore(tmp_path, index, frames)


def loader_of(store, workers=0, resident=False, packed=False, augmented=False):
    return BatchLoader(store, PKSampler(store.index, 3, 2, 4), CPU, workers, resident, packed, augmented)


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_batches_are_in_order_from_any_iteration(store, workers, resident, packed):
    batches = list(loader_of(store, workers, resident, packed).batches(5, 17))
    assert len(batches) == 12
    sampler = PKSampler(store.index, 3, 2, 4)
    for iteration, (sils, ends, labels) in enumerate(batches, 5):
        sequences, rows = sampler.plan(iteration)
        assert labels.tolist() == store.index.subject[sequences].astype(int).tolist()
        if packed:
            rows, expected = pack(rows)
            assert ends.dtype == torch.int32 and ends.tolist() == expected.tolist()
        assert sils.dtype == torch.uint8 and np.array_equal(sils.numpy(), store.frames[rows])
        assert packed or ends is None


@pytest.mark.parametrize("frames", [1, 4, 40])
def test_a_packed_batch_contains_each_drawn_frame_of_a_sequence_once(frames):
    """From sequences of 5 to 16 frames, 1 to 40 frames are drawn, of which 1 to 16 are distinct.

    The last sequence is equal to the second sequence, because a sequence can be drawn twice for a subject.
    """
    rng = np.random.default_rng(frames)
    starts, lengths = [0, 5, 14, 30, 42, 49, 5], [5, 9, 16, 12, 7, 11, 9]
    rows = np.stack([start + rng.integers(n, size=frames) for start, n in zip(starts, lengths, strict=True)])
    before = rows.copy()
    packed, ends = pack(rows)
    assert np.array_equal(rows, before)
    assert (packed.dtype, ends.dtype, ends.shape) == (np.int64, np.int32, (8,))
    assert ends[0] == 0
    for own, start, end in zip(rows, ends[:-1], ends[1:], strict=True):
        assert packed[start:end].tolist() == sorted(set(own.tolist()))
    # The size is rounded up to a multiple of PACK_TO, but is at most the number of drawn rows.
    assert len(packed) == min(-(-ends[-1] // PACK_TO) * PACK_TO, rows.size)
    assert set(packed[ends[-1] :].tolist()) <= set(rows.flatten().tolist())


def test_an_error_while_prefetching_reaches_the_loop(store, monkeypatch):
    loader = loader_of(store, workers=2)
    monkeypatch.setattr(loader, "gather", Mock(side_effect=OSError("disk gone")))
    with pytest.raises(OSError, match="disk gone"):
        list(loader.batches(0, 9))


def test_no_thread_remains_after_leaving_the_loop_early(store):
    before = threading.active_count()
    for _ in loader_of(store, workers=3).batches(0, 1000):
        break
    assert threading.active_count() == before


def test_frames_are_never_resident_on_the_cpu(store):
    assert not fits_device(store, CPU)


@pytest.mark.parametrize("packed", [False, True])
def test_augmented_batches_depend_on_the_iteration_only(store, packed):
    """A batch equals frames that are augmented by hand, with the same changes for all frames of a sequence."""
    plain = loader_of(store, packed=packed)
    loaders = [loader_of(store, workers=workers, packed=packed, augmented=True) for workers in (0, 2)]
    first, second = ([batch.sils for batch in loader.batches(2, 5)] for loader in loaders)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    untouched = [batch.sils for batch in plain.batches(2, 5)]
    assert not any(torch.equal(a, b) for a, b in zip(first, untouched, strict=True))
    ends = plain.deliver(plain.gather(2)).ends
    number = torch.arange(6)
    counts = torch.full((6,), 4) if ends is None else ends.diff()
    known = int(counts.sum())
    by_hand = augment(untouched[0].flatten(0, -3)[:known], number.repeat_interleave(counts), draw_changes(0, 0, 2, 6))
    assert torch.equal(first[0].flatten(0, -3)[:known], by_hand)


# The sampler: contents, frequencies, and dependence only on seed, rank and iteration


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
    """The sampler of the original code never draws the first sequence."""
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
