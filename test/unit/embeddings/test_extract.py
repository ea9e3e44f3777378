"""Embeddings of sequences do not depend on batch size and chunk size, and equal the network's output for a sequence."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threads import torch_threads

from model.data.index import SequenceIndex
from model.data.store import SilhouetteStore
from model.devices.world import World
from model.embeddings.extract import _batches, embed_sequences, extract
from model.network import GaitSet

CPU = torch.device("cpu")
LENGTHS = [3, 1, 9, 2, 5]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return GaitSet().eval()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    frames = (np.random.default_rng(0).random((sum(LENGTHS), 64, 44)) > 0.6).astype(np.uint8) * 255
    names = [f"{i:03d}" for i in range(len(LENGTHS))]
    index = SequenceIndex.from_lengths(names, ["nm-01"] * 5, ["000"] * 5, LENGTHS)
    return SilhouetteStore(tmp_path_factory.mktemp("store"), index, frames)


@pytest.fixture(scope="module")
def expected(network, store):
    with torch.no_grad():
        return torch.cat([network(torch.from_numpy(store.sequence(i))[None].float() / 255) for i in range(5)])


@pytest.mark.parametrize("frame_chunk", [1, 2, 4, 7, 20, 1000])
def test_chunk_size_does_not_change_embeddings(network, store, expected, frame_chunk, monkeypatch):
    monkeypatch.setattr("model.embeddings.extract.FRAME_CHUNK_ON_CPU", frame_chunk)
    ours = embed_sequences(network, torch.from_numpy(store.frames), LENGTHS, CPU)
    assert (ours - expected).abs().max() < 3e-5 * expected.abs().max()


@pytest.mark.parametrize("batch_size", [0, 1, 2, 5, 99])
def test_embeddings_are_in_the_order_of_the_index_for_any_batch_size(network, store, expected, batch_size):
    ours = extract(network, store, CPU, batch_size)
    assert (ours - expected).abs().max() < 3e-5 * expected.abs().max()


def with_threads(threads: int, network, store) -> torch.Tensor:
    """Embed with a number of threads, and check that this number is not changed, also for threads that start later."""
    with torch_threads(threads):
        embeddings = extract(network, store, CPU)
        with ThreadPoolExecutor(1) as pool:
            assert torch.get_num_threads() == pool.submit(torch.get_num_threads).result() == threads
    return embeddings


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_take_whole_batches_and_change_no_bit(network, store, expected, threads, monkeypatch):
    seen = Counter()

    def counted(*arguments):
        seen[torch.get_num_threads()] += 1
        return embed_sequences(*arguments)

    ours = with_threads(1, network, store)
    monkeypatch.setattr("model.embeddings.extract.embed_sequences", counted)
    monkeypatch.setattr("model.embeddings.extract.FRAME_CHUNK_ON_CPU", 3)
    alone = with_threads(1, network, store)
    assert torch.equal(with_threads(threads, network, store), alone)
    assert seen.keys() == {1} and seen[1] >= 2 * len(LENGTHS) - 2
    assert (ours - alone).abs().max() < 3e-5 * expected.abs().max()


@pytest.mark.parametrize("frame_chunk", [1, 4, 9, 11, 20, 1000])
def test_automatic_batches_are_as_full_as_the_chunk_size_allows(frame_chunk):
    positions, lengths = np.array([3, 7, 8, 20, 21]), np.array(LENGTHS)
    batches = _batches(positions, lengths, 0, frame_chunk)
    assert np.concatenate(batches).tolist() == positions.tolist()
    frames = dict(zip(positions, lengths, strict=True))
    for number, batch in enumerate(batches):
        size = sum(frames[position] for position in batch)
        assert size <= frame_chunk or len(batch) == 1  # a longer sequence has its own batch
        if number + 1 < len(batches):  # the next sequence would exceed the chunk size
            assert size + frames[batches[number + 1][0]] > frame_chunk


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (99, [5])])
def test_batches_have_the_given_number_of_sequences(batch_size, sizes):
    batches = _batches(np.arange(5), np.array(LENGTHS), batch_size, 1)
    assert [len(batch) for batch in batches] == sizes
    assert np.concatenate(batches).tolist() == [0, 1, 2, 3, 4]


def test_time_to_split_a_large_data_set_grows_with_its_size():
    start = time.process_time()
    batches = _batches(np.arange(300_000), np.full(300_000, 70), 0, 16)
    assert len(batches) == 300_000
    assert time.process_time() - start < 6  # 0.5 s; 20 s if each batch copies the positions behind it


def test_a_process_without_sequences_takes_part_in_gathering(network, store, monkeypatch):
    gathered = []
    gather = "model.devices.distributed.gather_rows"
    monkeypatch.setattr(gather, lambda rows, total, device: gathered.append((rows, total)))
    alone = SilhouetteStore(store.path, store.index.take(np.array([0])), store.frames)
    for batch_size in (0, 1):
        extract(network, alone, CPU, batch_size, World(1, 1, 2))
    assert [(tuple(rows.shape), total) for rows, total in gathered] == [((0, 62, 256), 1)] * 2


def test_embeddings_are_float32_with_autocast(network, store, expected, monkeypatch):
    monkeypatch.setattr(network, "amp_dtype", torch.bfloat16)
    ours = extract(network, store, CPU)
    assert ours.dtype == torch.float32
    assert 0 < (ours - expected).abs().max() < 0.1 * expected.abs().max()


def test_embeddings_are_float32_with_half_precision_weights(store, expected):
    """Apex converts the weights to half precision during training."""
    torch.manual_seed(0)
    half = GaitSet().to(torch.bfloat16).eval()
    ours = extract(half, store, CPU, 5)
    assert ours.dtype == torch.float32
    assert (ours - expected).abs().max() < 0.1 * expected.abs().max()


def test_training_mode_is_restored(network, store):
    network.train()
    extract(network, store, CPU)
    assert network.training
    network.eval()
