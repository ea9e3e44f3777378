"""Batches on the device: what is gathered, in which order, whoever reads ahead."""

import numpy as np
import pytest
import torch

from model.data.batches import BatchLoader, fits_device
from model.data.index import SequenceIndex
from model.data.sampler import PKSampler
from model.data.store import SilhouetteStore

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path):
    frames = np.random.default_rng(0).integers(256, size=(60, 64, 44), dtype=np.uint8)
    subjects = [f"{i // 2}" for i in range(12)]
    return SilhouetteStore(
        tmp_path, SequenceIndex.from_lengths(subjects, ["nm-01"] * 12, ["000"] * 12, [5] * 12), frames
    )


def loader_of(store, workers=0, resident=False):
    return BatchLoader(store, PKSampler(store.index, 3, 2, 4), CPU, workers, resident)


def test_a_batch_is_the_planned_rows_scaled_to_one(store):
    loader = loader_of(store)
    plan = loader.sampler.plan(7)
    sils = loader.gather(7)
    assert sils.shape == (6, 4, 64, 44) and sils.dtype == torch.float32
    assert np.allclose(sils.numpy(), store.frames[plan.rows] / 255)


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("resident", [False, True])
def test_batches_come_in_order_from_any_iteration_on(store, workers, resident):
    loader = loader_of(store, workers, resident)
    expected = [loader_of(store).gather(i) for i in range(5, 17)]
    batches = list(loader.batches(5, 17))
    assert len(batches) == 12
    assert all(torch.equal(a, b) for a, b in zip(batches, expected, strict=True))


def test_a_fault_while_reading_ahead_reaches_the_loop(store, monkeypatch):
    loader = loader_of(store, workers=2)

    def broken(iteration):
        raise OSError("disk gone")

    monkeypatch.setattr(loader, "gather", broken)
    with pytest.raises(OSError, match="disk gone"):
        list(loader.batches(0, 9))


def test_leaving_the_loop_early_leaves_no_thread(store):
    import threading

    before = threading.active_count()
    for _ in loader_of(store, workers=3).batches(0, 1000):
        break
    assert threading.active_count() == before


def test_frames_stay_where_they_are_on_the_cpu(store):
    assert not fits_device(store, CPU)
