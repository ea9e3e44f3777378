import numpy as np
import pytest

from model.report.embedding_map import project


@pytest.mark.parametrize("count", [3, 10])
def test_few_points_are_projected_onto_two_principal_components(count):
    """The result is equal to the two largest singular values times their vectors, whose signs are arbitrary."""
    points = np.random.default_rng(0).standard_normal((count, 40)).astype(np.float32) + 5
    plane, method = project(points)
    left, lengths, _ = np.linalg.svd(np.float64(points) - points.mean(0, dtype=np.float64), full_matrices=False)
    assert method == "PCA" and np.allclose(np.abs(plane), np.abs(left * lengths)[:, :2], atol=1e-4)


def test_equal_points_are_projected_onto_one():
    assert not project(np.ones((4, 8), np.float32))[0].any()


def test_clusters_stay_apart_in_the_map():
    points = np.random.default_rng(0).standard_normal((40, 12)) + 30 * (np.arange(40) % 2)[:, None]
    plane, method = project(points.astype(np.float32))
    distances = np.linalg.norm(plane[:, None] - plane, axis=2) + 1e9 * np.eye(40)
    assert method == "t-SNE" and (distances.argmin(1) % 2 == np.arange(40) % 2).all()
