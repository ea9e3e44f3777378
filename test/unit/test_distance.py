"""Distances: against float64 differences, and the stream against the whole matrix."""

from __future__ import annotations

import pytest
import torch

from model.evaluation.distance import euclidean_distance, squared_length, stream_distances

CPU = torch.device("cpu")


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equals_the_length_of_the_differences():
    probe, gallery = randn(7, 100), randn(5, 100, seed=1)
    expected = (probe.double()[:, None] - gallery.double()[None]).square().sum(-1).sqrt()
    distance = euclidean_distance(probe, gallery)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance.double(), expected, rtol=1e-5, atol=0)


def test_a_copy_far_from_the_origin_is_never_nan():
    # |p|^2 + |p|^2 - 2 p.p rounds to either side of zero; without the relu half of these would be NaN.
    embeddings = randn(200, 300) + 50
    distance = euclidean_distance(embeddings, embeddings)
    assert torch.isfinite(distance).all()
    assert distance.diagonal().max() < 0.05 * distance[0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_measured_in_float32(dtype):
    probe, gallery = randn(3, 64).to(dtype), randn(4, 64, seed=1).to(dtype)
    expected = (probe.double()[:, None] - gallery.double()[None]).square().sum(-1).sqrt()
    distance = euclidean_distance(probe, gallery)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance.double(), expected, rtol=1e-5, atol=0)


def test_squared_length_of_half_precision_does_not_overflow():
    assert squared_length(torch.full((1, 4), 60000.0, dtype=torch.float16)).item() == pytest.approx(4 * 60000.0**2)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3,), (3, 3)), ((2, 3, 4), (2, 4))])
def test_shapes_that_do_not_fit_are_named(shapes):
    with pytest.raises(ValueError, match=r"\[m, d\] and \[n, d\]"):
        euclidean_distance(randn(*shapes[0]), randn(*shapes[1]))


@pytest.mark.parametrize("chunk", [1, 4, 10, 99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_stream_gives_every_probe_once(chunk, dtype):
    embeddings = randn(20, 32).to(dtype)
    probe_rows = torch.tensor([3, 0, 19, 7, 7, 2, 11, 5, 4, 1])  # out of order, one twice
    gallery_rows = torch.tensor([18, 6, 3])
    kept = embeddings.clone()
    seen = torch.full((10, 3), float("nan"))
    for places, distance in stream_distances(embeddings, probe_rows, gallery_rows, chunk, CPU):
        assert len(distance) <= chunk
        assert seen[places].isnan().all(), "a probe was given twice"
        seen[places] = distance
    expected = euclidean_distance(embeddings[probe_rows], embeddings[gallery_rows])
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=2e-3)
    assert torch.equal(embeddings, kept)


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="probe_chunk"):
        next(stream_distances(randn(2, 3), torch.tensor([0]), torch.tensor([1]), 0, CPU))
