"""Compare distances with float64 differences, and histograms and nearest entries with loops over all pairs."""

import numpy as np
import pytest
import torch
from people import made_index
from small_results import ragged

from model.data.index import SequenceIndex
from model.evaluation import distance_statistics
from model.evaluation.cross_view import evaluate_index
from model.evaluation.distance import euclidean_distance, squared_length
from model.evaluation.distance_statistics import DistanceStatistics
from model.evaluation.streaming import Streaming


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_distance_of_equal_rows_is_not_nan():
    # |p|^2 + |p|^2 - 2 p.p can round to a negative number. Without the relu, half of these distances would be NaN.
    embeddings = randn(200, 300) + 50
    distance = euclidean_distance(embeddings, embeddings)
    assert torch.isfinite(distance).all()
    assert distance.diagonal().max() < 0.05 * distance[0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_distance_is_the_norm_of_the_difference_in_float32(dtype):
    probe, gallery = randn(7, 100).to(dtype), randn(5, 100, seed=1).to(dtype)
    distance = euclidean_distance(probe, gallery)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance.double(), torch.cdist(probe.double(), gallery.double()), rtol=1e-5, atol=0)


def test_given_squares_and_output_are_used():
    probe, gallery = randn(7, 100), randn(5, 100, seed=1)
    out = torch.full((7, 5), float("nan"))
    squares = squared_length(probe), squared_length(gallery)
    assert euclidean_distance(probe, gallery, *squares, out=out) is out
    assert torch.equal(out, euclidean_distance(probe, gallery))


@pytest.mark.parametrize("rows_at_once", [0, 1, 3, 10, 11, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_squared_length_in_blocks(rows_at_once, dtype):
    embeddings = randn(10, 50).to(dtype)
    expected = embeddings.double().square().sum(dim=1)
    squares = squared_length(embeddings, rows_at_once * 50 * 4)
    assert squares.dtype == torch.float32
    torch.testing.assert_close(squares.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("rows", [1, 5, 17, 33])
def test_equal_rows_have_equal_squares_in_every_block(rows):
    # 33 rows are two blocks of 16 rows and one more row. If this row were a block, several threads would sum its 40,000
    # numbers, in a different order than in the other blocks.
    squares = squared_length(randn(1, 40000).repeat(rows, 1), block_bytes=16 * 40000 * 4)
    assert (squares == squares[0]).all()


def test_squared_length_of_an_empty_tensor():
    assert squared_length(torch.empty(0, 5)).shape == (0,)


# Histograms and nearest entries


def by_loops(index: SequenceIndex, embeddings: torch.Tensor, statistics: DistanceStatistics, every: int = 1) -> dict:
    x = embeddings.double().flatten(1).numpy()
    plan = statistics.plan
    views, counts = list(plan.views), np.zeros(statistics.counts.shape, np.int64)
    nearest = {}
    for m, p in enumerate(plan.probe_rows):
        for g in plan.gallery_rows:
            distance = float(np.linalg.norm(x[p] - x[g]))
            genuine = index.subject[p] == index.subject[g]
            identical = index.view[p] == index.view[g]
            distance_bin = int(distance / statistics.bin_width)
            counts[plan.probe_condition[m], int(identical), int(genuine), distance_bin] += m % every == 0
            key = (m, views.index(index.view[g]), "mate" if genuine else "wrong")
            nearest[key] = min(nearest.get(key, (np.inf, -1)), (distance, int(g)))
    return {"counts": counts, "nearest": nearest}


@pytest.mark.parametrize(
    ("chunk", "device_bytes", "distance_chunk"), [(1024, None, 1 << 22), (7, 0, 64), (3, 40_000, 1)]
)
def test_every_pair_is_counted_once_and_nearest_entries_are_found(monkeypatch, chunk, device_bytes, distance_chunk):
    monkeypatch.setattr(distance_statistics, "DISTANCE_CHUNK", distance_chunk)
    index, embeddings = ragged()
    statistics = DistanceStatistics(bins=50)
    settings = Streaming(probe_chunk=chunk, device_bytes=device_bytes, statistics=statistics)
    evaluate_index(embeddings, index, "CASIA-B", settings)
    expected = by_loops(index, embeddings, statistics)
    np.testing.assert_array_equal(statistics.counts, expected["counts"])
    for kind, distances, rows in (
        ("mate", statistics.mate_distance, statistics.mate_row),
        ("wrong", statistics.wrong_distance, statistics.wrong_row),
    ):
        for m, v in np.ndindex(distances.shape):
            distance, row = expected["nearest"].get((m, v, kind), (np.inf, -1))
            assert rows[m, v] == row
            assert distances[m, v] == pytest.approx(distance, rel=1e-5)


def test_large_test_counts_every_nth_probe(monkeypatch):
    index, embeddings = ragged()
    whole, part = DistanceStatistics(bins=50), DistanceStatistics(bins=50)
    evaluate_index(embeddings, index, "CASIA-B", settings=Streaming(statistics=whole))
    pairs = len(whole.plan.probe_rows) * len(whole.plan.gallery_rows)
    monkeypatch.setattr(distance_statistics, "MAX_PAIRS", pairs // 3)
    evaluate_index(embeddings, index, "CASIA-B", settings=Streaming(statistics=part))
    assert whole.every == 1 and part.every in (3, 4)
    counted = by_loops(index, embeddings, part, part.every)["counts"]
    np.testing.assert_array_equal(part.counts, counted)
    np.testing.assert_array_equal(part.wrong_row, whole.wrong_row)


def test_tie_is_a_miss_and_the_largest_distance_is_counted():
    """Two opposite points have the largest possible distance for their length."""
    index = made_index(("a", "b"), ("nm-01", "nm-05"), ("000",))
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])  # a nm-01, a nm-05, b nm-01, b nm-05
    statistics = DistanceStatistics(bins=4)
    result = evaluate_index(embeddings, index, "CASIA-B", settings=Streaming(statistics=statistics))
    assert statistics.counts[0, 1].tolist() == [[1, 0, 0, 1], [1, 0, 0, 1]]
    assert statistics.mate_distance.ravel().tolist() == [0, 2] and statistics.wrong_distance.ravel().tolist() == [2, 0]
    assert result.accuracy[0, 0, 0, 0] == 50
    embeddings[:] = 1.0  # all embeddings are equal
    statistics = DistanceStatistics(bins=4)
    evaluate_index(embeddings, index, "CASIA-B", settings=Streaming(statistics=statistics))
    assert not (statistics.mate_distance < statistics.wrong_distance).any()
    assert statistics.counts[0, 1].sum(axis=-1).tolist() == [2, 2]
