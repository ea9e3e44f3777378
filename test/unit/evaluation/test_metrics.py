"""Rank-k and average precision by counting, compared with sorting one probe at a time."""

import numpy as np
import pytest
import torch

from model.evaluation.metrics import (
    INFINITE,
    average_precision,
    closer_impostors,
    entries_within,
    nearest_mates,
    rank_hits,
)


def sorted_by_hand(distance: np.ndarray, mate: np.ndarray, ranks: int) -> tuple[list[bool], float]:
    """Hits at ranks 1..ranks and average precision of one probe by sorting; impostors come first on ties."""
    order = sorted(range(len(distance)), key=lambda i: (distance[i], mate[i]))
    right = [bool(mate[i]) for i in order]
    hits = [any(right[:k]) for k in range(1, ranks + 1)]
    precisions = [sum(right[: i + 1]) / (i + 1) for i in range(len(right)) if right[i]]
    return hits, sum(precisions) / len(precisions) if precisions else 0.0


def count_impostors(distance: torch.Tensor, mate: torch.Tensor, most_mates: int | None = None) -> torch.Tensor:
    """[m, n] distances and [m, n] bool mates in any column -> closer impostors [m, most_mates]."""
    most_mates = int(mate.sum(dim=1).max()) if most_mates is None else most_mates
    mates_first = mate.int().argsort(dim=1, descending=True, stable=True)
    first = torch.zeros(len(mate), 1, dtype=torch.int64)
    nearest = nearest_mates(distance.gather(1, mates_first), first, mate.sum(dim=1, keepdim=True), most_mates)[:, 0]
    return closer_impostors(entries_within(distance, nearest), nearest)


@pytest.mark.parametrize("gallery_size", [1, 3, 40])
@pytest.mark.parametrize("share_of_mates", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("levels", [5, 10**6])  # with five distances, almost all pairs are ties
def test_counting_equals_sorting(gallery_size, share_of_mates, levels):
    rng = np.random.default_rng(gallery_size)
    distance = rng.integers(0, levels, (60, gallery_size)).astype(np.float32)
    mate = rng.random((60, gallery_size)) < share_of_mates
    impostors = count_impostors(torch.from_numpy(distance), torch.from_numpy(mate), max(1, mate.sum(axis=1).max()))
    hits, precision = rank_hits(impostors, 5), average_precision(impostors)
    for i in range(60):
        expected_hits, expected_precision = sorted_by_hand(distance[i], mate[i], 5)
        assert hits[i].tolist() == expected_hits
        assert precision[i].item() == pytest.approx(expected_precision, abs=1e-12)


def test_worked_example():
    # Sorted gallery: impostor, mate, impostor, impostor, mate.
    distance = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    mate = torch.tensor([[False, True, False, False, True]])
    impostors = count_impostors(distance, mate)
    assert impostors.tolist() == [[1, 3]]
    assert rank_hits(impostors, 3).tolist() == [[False, True, True]]
    assert average_precision(impostors).item() == pytest.approx((1 / 2 + 2 / 5) / 2)


def test_mates_of_a_probe_in_several_galleries():
    distance = torch.tensor([[5.0, 3, 4, 1, 2, 0], [9.0, 8, 7, 6, 5, 4]])
    first = torch.tensor([[0, 3, 4], [5, 6, 0]])
    stop = torch.tensor([[3, 4, 4], [6, 6, 2]])  # three, one and none; one, none and two
    none = INFINITE
    assert nearest_mates(distance, first, stop, 3).tolist() == [
        [[3, 4, 5], [1, none, none], [none] * 3],
        [[4, none, none], [none] * 3, [8, 9, none]],
    ]


def test_leading_axes_are_independent():
    nearest, within = torch.rand(4, 3, 5).sort(dim=-1).values, torch.randint(5, 20, (4, 3, 5), dtype=torch.int32)
    impostors = closer_impostors(within, nearest)
    assert impostors.dtype == torch.int32
    flat = closer_impostors(within.flatten(0, 1), nearest.flatten(0, 1))
    assert torch.equal(impostors.flatten(0, 1), flat)
    assert torch.equal(rank_hits(impostors, 5).flatten(0, 1), rank_hits(flat, 5))
    assert torch.equal(average_precision(impostors).flatten(), average_precision(flat))


def test_larger_number_of_mates_changes_nothing():
    distance, mate = torch.rand(30, 25), torch.rand(30, 25) < 0.1
    found, bounded = count_impostors(distance, mate), count_impostors(distance, mate, 12)
    assert torch.equal(bounded[:, : found.shape[1]], found)
    assert (bounded[:, found.shape[1] :] == -1).all()
    torch.testing.assert_close(average_precision(found), average_precision(bounded), rtol=1e-12, atol=0)


@pytest.mark.parametrize("far", [INFINITE, float("inf"), INFINITE**0.5])
def test_entries_at_large_distance_do_not_count(far):
    distance, mate = torch.rand(30, 25), torch.rand(30, 25) < 0.2
    padding = torch.full((30, 7), far)
    padded = count_impostors(torch.cat([padding, distance], 1), torch.cat([padding < 0, mate], 1))
    assert torch.equal(padded, count_impostors(distance, mate))


def test_collapsed_encoder_and_probes_without_a_mate_have_no_hit():
    assert not rank_hits(count_impostors(torch.zeros(6, 6), torch.eye(6, dtype=torch.bool)), 5).any()
    impostors = count_impostors(torch.rand(4, 3), torch.zeros(4, 3, dtype=torch.bool), 1)
    assert not rank_hits(impostors, 5).any()
    assert average_precision(impostors).tolist() == [0, 0, 0, 0]


def test_rank_0_is_rejected():
    with pytest.raises(ValueError, match="ranks"):
        rank_hits(torch.zeros(2, 1, dtype=torch.int32), 0)
