"""Tests of the renderer: hulls of ellipsoids, crops, absent parts, and cameras."""

import numpy as np
import pytest
import torch

from model.common.counter_random import Draws
from model.synthetic.camera import IMAGE_HEIGHT, IMAGE_WIDTH, VIEWS, cameras_of
from model.synthetic.figure import Figure, FigureBuilder
from model.synthetic.render import silhouettes

cv2 = pytest.importorskip("cv2")
ONE = Draws(torch.zeros(1, dtype=torch.int64))


def figure_of(centres, axes, parts, present=None) -> Figure:
    """Return the figure of one take: centres [s, k, 3], axes [s, k, 3, 3]."""
    parts = torch.as_tensor(parts)
    present = torch.ones(1, len(parts), dtype=torch.bool) if present is None else torch.tensor([present])
    return Figure(torch.as_tensor(centres)[None], torch.as_tensor(axes)[None], parts, present)


def hull_of_many_points(centres: np.ndarray, axes: np.ndarray, view: str) -> np.ndarray:
    """Compute the image in a different way: project many points of the ellipsoids, and fill their convex hull."""
    cameras = cameras_of([view], ONE)
    sphere = np.random.default_rng(0).normal(size=(4000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    points = (centres[:, None] + np.einsum("kij,nj->kni", axes, sphere)).reshape(-1, 3)
    points = (points - cameras.position[0, 0].numpy()) @ cameras.axes[0, 0].numpy().T
    pixels = points[:, :2] / points[:, 2:] * 345 + [(IMAGE_WIDTH - 1) / 2, 86]
    # OpenCV draws outlines half a pixel too large, which is a sixteenth of a pixel after the reduction.
    fine = np.zeros((IMAGE_HEIGHT * 8, IMAGE_WIDTH * 8), np.uint8)
    cv2.fillConvexPoly(fine, cv2.convexHull((pixels * 8).round().astype(np.int32)), 255)
    return fine[::8, ::8]


@pytest.mark.parametrize("view", ["000", "054", "090", "162"])
def test_a_hull_of_ellipsoids_equals_the_hull_of_projected_points(view):
    generator = np.random.default_rng(int(view))
    centres = np.array([[0.1, -0.2, 0.6], [-0.3, 0.1, 1.3], [0.2, 0.3, 1.1]], np.float32)
    axes = (0.12 * generator.normal(size=(3, 3, 3))).astype(np.float32)
    figure = figure_of(centres[None], axes[None], [[0, 1, 2, 2]])
    sil = silhouettes(figure, cameras_of([view], ONE)).frames()[0].numpy()
    expected = hull_of_many_points(centres, axes, view)
    both, either = ((sil > 0) & (expected > 0)).sum(), ((sil > 0) | (expected > 0)).sum()
    assert expected.sum() > 255 * 300
    assert both / either > 0.96  # the renderer approximates the perspective and cuts corners


def walking_balls() -> Figure:
    """Return a ball in three frames: at the edge of the image of camera 090, in its middle, and outside."""
    centres = torch.tensor([[[2.3, 0.0, 1.2]], [[0.0, 0.0, 1.2]], [[9.0, 0.0, 1.2]]])
    return figure_of(centres, (torch.eye(3) * 0.3).expand(3, 1, 3, 3), torch.zeros(1, 4, dtype=torch.long))


@pytest.mark.parametrize("margin", [0, 7])
def test_a_figure_is_cut_at_the_edge_of_the_image(margin):
    crops = silhouettes(walking_balls(), cameras_of(["090"], ONE), margin)
    sils = crops.frames() > 0
    area = sils.sum((1, 2))
    assert sils[0, :, 0].any()
    assert 0 < area[0] < area[1]
    assert area[2] == 0
    assert crops.box[2, 1] < crops.box[2, 0] and crops.box[2, 3] < crops.box[2, 2]
    for mask, box, sil, top, left in zip(crops.masks, crops.box, sils, crops.top, crops.left, strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        if len(rows):
            assert box.tolist() == [int(x) for x in (rows[0], rows[-1], columns[0], columns[-1])]
            assert torch.equal(sil.any(1).nonzero(), rows + top) and torch.equal(sil.any(0).nonzero(), columns + left)


def test_within_frame_removes_pixels_outside_the_frame():
    crops = silhouettes(walking_balls(), cameras_of(["090"], ONE), 9)
    full = crops.within_frame(torch.ones_like(crops.masks))
    image = full.frames()[0]
    assert full.masks[0].sum() == (image > 0).sum() < full.masks[0].numel()


def test_absent_parts_are_not_rendered():
    builder = FigureBuilder()
    places = torch.zeros(2, 1, 3)
    builder.ball("body", places + torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.2, 0.3]))
    builder.ball("hat", places + torch.tensor([0.0, 0.0, 1.6]), 0.1)
    builder.join("body")
    builder.join("hat", where=torch.tensor([False, True]))
    sils = silhouettes(builder.figure(), cameras_of(["000"], Draws(torch.zeros(2, dtype=torch.int64)))).frames() > 0
    upper = sils[:, :72].sum((1, 2))
    assert upper[0] == 0 and upper[1] > 50
    assert sils[1].sum() > 1.5 * sils[0].sum()


def test_varied_cameras_keep_the_walker_in_the_image():
    draws = Draws.of(0, "take", torch.arange(200))
    cameras = cameras_of(VIEWS, draws, 1.0)
    assert (cameras.position[..., 2].std() > 0.3) and cameras.position.shape == (200, 11, 3)
    points = torch.tensor([[0.0, 0.0, 1.0]]).expand(200, 1, 1, 3)
    places, _ = cameras.project(points, torch.eye(3).expand(200, 1, 1, 3, 3))
    assert (places[..., 0] - (IMAGE_WIDTH - 1) / 2).abs().max() < 1e-3
    assert (places[..., 1] - 104.4).abs().max() < 0.1
