"""Euclidean distances against float64 differences."""

import pytest
import torch

from model.evaluation.distance import euclidean_distance, squared_length


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_distance_of_equal_rows_is_not_nan():
    # |p|^2 + |p|^2 - 2 p.p can round to a negative number. Without the relu, half of these would be NaN.
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


def test_squared_length_of_half_precision_does_not_overflow():
    assert squared_length(torch.full((1, 4), 60000.0, dtype=torch.float16)).item() == pytest.approx(4 * 60000.0**2)


def test_given_squares_and_output_are_used():
    probe, gallery = randn(7, 100), randn(5, 100, seed=1)
    out = torch.full((7, 5), float("nan"))
    squares = squared_length(probe), squared_length(gallery)
    assert euclidean_distance(probe, gallery, *squares, out=out) is out
    assert torch.equal(out, euclidean_distance(probe, gallery))


def test_infinite_square_gives_infinite_distance():
    gallery_square = squared_length(randn(5, 100, seed=1))
    gallery_square[3] = float("inf")
    distance = euclidean_distance(randn(7, 100), randn(5, 100, seed=1), gallery_square=gallery_square)
    assert distance.isinf().all(dim=0).tolist() == [False, False, False, True, False]


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
    # 33 rows in blocks of 16 leave one row. Alone, its 40,000 numbers would be summed by several threads.
    squares = squared_length(randn(1, 40000).repeat(rows, 1), block_bytes=16 * 40000 * 4)
    assert (squares == squares[0]).all()


def test_squared_length_of_an_empty_tensor():
    assert squared_length(torch.empty(0, 5)).shape == (0,)
