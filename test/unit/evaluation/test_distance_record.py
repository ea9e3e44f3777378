"""Counts and nearest entries gathered while distances pass, against loops over every pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from people import made_index
from small_results import ragged

from model.data.index import SequenceIndex
from model.evaluation import distance_record
from model.evaluation.cross_view import evaluate, evaluate_index
from model.evaluation.distance_record import DistanceRecord
from model.evaluation.protocols import protocol_of


def by_loops(index: SequenceIndex, embeddings: torch.Tensor, record: DistanceRecord, every: int = 1) -> dict:
    x = embeddings.double().flatten(1).numpy()
    plan = record.plan
    views, counts = list(plan.views), np.zeros(record.counts.shape, np.int64)
    nearest = {}
    for m, p in enumerate(plan.probe_rows):
        for g in plan.gallery_rows:
            distance = float(np.linalg.norm(x[p] - x[g]))
            genuine = index.subject[p] == index.subject[g]
            identical = index.view[p] == index.view[g]
            counts[plan.probe_condition[m], int(identical), int(genuine), int(distance / record.bin_width)] += (
                m % every == 0
            )
            key = (m, views.index(index.view[g]), "mate" if genuine else "wrong")
            nearest[key] = min(nearest.get(key, (np.inf, -1)), (distance, int(g)))
    return {"counts": counts, "nearest": nearest}


@pytest.mark.parametrize(("chunk", "device_bytes", "at_once"), [(1024, None, 1 << 22), (7, 0, 64), (3, 40_000, 1)])
def test_every_pair_is_counted_once_and_the_nearest_are_found(monkeypatch, chunk, device_bytes, at_once):
    monkeypatch.setattr(distance_record, "AT_ONCE", at_once)
    index, embeddings = ragged()
    record = DistanceRecord(bins=50)
    labels = (index.subject, index.seq_type, index.view)
    evaluate(embeddings, *labels, protocol_of("CASIA-B"), probe_chunk=chunk, device_bytes=device_bytes, record=record)
    expected = by_loops(index, embeddings, record)
    np.testing.assert_array_equal(record.counts, expected["counts"])
    for kind, distances, rows in (
        ("mate", record.mate_distance, record.mate_row),
        ("wrong", record.wrong_distance, record.wrong_row),
    ):
        for m, v in np.ndindex(distances.shape):
            distance, row = expected["nearest"].get((m, v, kind), (np.inf, -1))
            assert rows[m, v] == row
            assert distances[m, v] == pytest.approx(distance, rel=1e-5)


def test_of_a_huge_test_every_so_manieth_probe_is_counted(monkeypatch):
    index, embeddings = ragged()
    whole, part = DistanceRecord(bins=50), DistanceRecord(bins=50)
    evaluate_index(embeddings, index, "CASIA-B", record=whole)
    monkeypatch.setattr(distance_record, "MOST_PAIRS", len(whole.plan.probe_rows) * len(whole.plan.gallery_rows) // 3)
    evaluate_index(embeddings, index, "CASIA-B", record=part)
    assert whole.every == 1 and part.every in (3, 4)
    counted = by_loops(index, embeddings, part, part.every)["counts"]
    np.testing.assert_array_equal(part.counts, counted)
    np.testing.assert_array_equal(part.wrong_row, whole.wrong_row)


def test_a_look_up_is_a_hit_exactly_where_the_evaluator_says_so():
    index, embeddings = ragged()
    record = DistanceRecord()
    result = evaluate_index(embeddings, index, "CASIA-B", record=record)
    hit = record.mate_distance < record.wrong_distance
    for i, j, k in np.ndindex(result.accuracy.shape[:3]):
        here = (record.plan.probe_condition == i) & (record.plan.probe_view == j)
        if here.any() and result.gallery_counts[k]:
            assert result.accuracy[i, j, k, 0] == pytest.approx(100 * hit[here, k].mean())


def test_a_tie_is_a_miss_and_the_largest_distance_has_a_bin():
    """Two points opposite each other, as far apart as the lengths of embeddings allow."""
    index = made_index(("a", "b"), ("nm-01", "nm-05"), ("000",))
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])  # a nm-01, a nm-05, b nm-01, b nm-05
    record = DistanceRecord(bins=4)
    result = evaluate_index(embeddings, index, "CASIA-B", record=record)
    assert record.counts[0, 1].tolist() == [[1, 0, 0, 1], [1, 0, 0, 1]]
    assert record.mate_distance.ravel().tolist() == [0, 2] and record.wrong_distance.ravel().tolist() == [2, 0]
    assert result.accuracy[0, 0, 0, 0] == 50
    embeddings[:] = 1.0  # everybody in one point
    record = DistanceRecord(bins=4)
    evaluate_index(embeddings, index, "CASIA-B", record=record)
    assert not (record.mate_distance < record.wrong_distance).any()
    assert record.counts[0, 1].sum(axis=-1).tolist() == [2, 2]
