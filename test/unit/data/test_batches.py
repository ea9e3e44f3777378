"""Batches on the device: contents and order with any number of prefetching threads."""

import threading
from unittest.mock import Mock

import numpy as np
import pytest
import torch

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


def test_a_batch_contains_the_planned_rows(store):
    loader = loader_of(store)
    sils, ends, _ = loader.deliver(loader.gather(7))
    assert sils.shape == (6, 4, 64, 44) and sils.dtype == torch.uint8 and ends is None
    assert np.array_equal(sils.numpy(), store.frames[loader.sampler.plan(7).rows])


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
        assert np.array_equal(sils.numpy(), store.frames[rows])


@pytest.mark.parametrize("frames", [1, 4, 40])
def test_a_packed_batch_contains_each_drawn_frame_of_a_sequence_once(frames):
    """From sequences of 5 to 16 frames, 1 to 40 frames are drawn, of which 1 to 16 are distinct.

    The last sequence is the second one again, because a sequence can be drawn twice for a subject.
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
    # The size is rounded up to a multiple, at most the number of drawn rows. Added rows belong to no sequence.
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
    """The batch equals frames augmented directly, with equal changes for all frames of a sequence, packed or not."""
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
