"""Rank-k and average precision by counting, against sorting one probe at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.evaluation.metrics import average_precision, rank_hits, wrong_before


def sorted_by_hand(distance: np.ndarray, mate: np.ndarray, ranks: int) -> tuple[list[bool], float]:
    """One probe: hits at 1..ranks and average precision, from the sorted gallery; wrong entries first on ties."""
    order = sorted(range(len(distance)), key=lambda i: (distance[i], mate[i]))
    right = [bool(mate[i]) for i in order]
    hits = [any(right[:k]) for k in range(1, ranks + 1)]
    precisions = [sum(right[: i + 1]) / (i + 1) for i in range(len(right)) if right[i]]
    return hits, sum(precisions) / len(precisions) if precisions else 0.0


@pytest.mark.parametrize("gallery_size", [1, 3, 40])
@pytest.mark.parametrize("share_of_mates", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("levels", [5, 10**6])  # five distances only: nearly everything is a tie
def test_equals_sorting(gallery_size, share_of_mates, levels):
    rng = np.random.default_rng(gallery_size)
    distance = rng.integers(0, levels, (60, gallery_size)).astype(np.float32)
    mate = rng.random((60, gallery_size)) < share_of_mates
    wrong = wrong_before(torch.from_numpy(distance), torch.from_numpy(mate))
    hits, precision = rank_hits(wrong, 5), average_precision(wrong)
    for i in range(60):
        expected_hits, expected_precision = sorted_by_hand(distance[i], mate[i], 5)
        assert hits[i].tolist() == expected_hits
        assert precision[i].item() == pytest.approx(expected_precision, abs=1e-12)


def test_worked_example():
    # Order of the gallery: wrong, mate, wrong, wrong, mate.
    distance = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    mate = torch.tensor([[False, True, False, False, True]])
    wrong = wrong_before(distance, mate)
    assert wrong.tolist() == [[1, 3]]
    assert rank_hits(wrong, 3).tolist() == [[False, True, True]]
    assert average_precision(wrong).item() == pytest.approx((1 / 2 + 2 / 5) / 2)


def test_leading_axes_are_so_many_probes():
    distance, mate = torch.rand(4, 3, 20), torch.rand(4, 3, 20) < 0.3
    wrong = wrong_before(distance, mate)
    flat = wrong_before(distance.flatten(0, 1), mate.flatten(0, 1))
    assert torch.equal(wrong.flatten(0, 1), flat)
    assert torch.equal(rank_hits(wrong, 5).flatten(0, 1), rank_hits(flat, 5))


def test_a_known_bound_on_the_mates_changes_nothing():
    distance, mate = torch.rand(30, 25), torch.rand(30, 25) < 0.1
    found, bounded = wrong_before(distance, mate), wrong_before(distance, mate, 12)
    assert torch.equal(bounded[:, : found.shape[1]], found)
    assert (bounded[:, found.shape[1] :] == -1).all()
    assert torch.equal(average_precision(found), average_precision(bounded))


def test_infinite_distances_are_no_gallery_entries():
    distance, mate = torch.rand(30, 25), torch.rand(30, 25) < 0.2
    padding = torch.full((30, 7), float("inf"))
    padded = wrong_before(torch.cat([padding, distance], 1), torch.cat([padding > 0, mate], 1) & (torch.arange(32) > 6))
    assert torch.equal(padded, wrong_before(distance, mate))


def test_a_collapsed_encoder_scores_nothing():
    mate = torch.eye(6, dtype=torch.bool)
    assert not rank_hits(wrong_before(torch.zeros(6, 6), mate), 5).any()


def test_no_mate_is_no_hit_even_with_the_whole_gallery():
    wrong = wrong_before(torch.rand(4, 3), torch.zeros(4, 3, dtype=torch.bool))
    assert not rank_hits(wrong, 5).any()
    assert average_precision(wrong).tolist() == [0, 0, 0, 0]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="one shape"):
        wrong_before(torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="ranks"):
        rank_hits(torch.zeros(2, 1, dtype=torch.int32), 0)
