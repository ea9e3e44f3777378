"""Eleven cameras around one walking line, as in CASIA-B: 000 meets the walker, 180 looks after him.

b takes, c cameras, s frames, k ellipsoids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.counter_random import Draws

VIEWS = tuple(f"{angle:03d}" for angle in range(0, 181, 18))
HEIGHT, WIDTH = 240, 320  # pixels of a frame
FPS = 25
PATH = 4.4  # metres of the walking line; the camera at its side sees a little more than all of it
_FOCAL = 345.0  # pixels
_HORIZON = 86.0  # row of the points as high as the camera
_MIDDLE = _HORIZON + _FOCAL * (1.27 - 1.0) / 5.05  # row of what is 1 m above the middle of the line
_NEAREST = 0.5  # metres before a camera within which nothing is drawn


@dataclass(frozen=True)
class Cameras:
    """Level pinhole cameras that look at the middle of the walking line, one each for all takes or for every take.

    `position` [b or 1, c, 3] in metres in the walker's axes (x forward, y left, z up); the rows of `axes`
    [b or 1, c, 3, 3] are the directions of image right, image down and depth; `focal` and `horizon` [b or 1, c] in
    pixels.
    """

    position: Tensor
    axes: Tensor
    focal: Tensor
    horizon: Tensor

    def project(self, centres: Tensor, half_axes: Tensor) -> tuple[Tensor, Tensor]:
        """Image positions [b, c, s, k, 2] (column, row) in pixels of `centres` [b, s, k, 3], and of the `half_axes`
        [b, s, k, 3, 3] of the ellipsoids around them the first-order images [b, c, s, k, 2, 3]."""
        axes = self.axes[:, :, None, None]  # [b, c, 1, 1, 3, 3]
        from_camera = centres[:, None] - self.position[:, :, None, None]
        # Sums, not matrix products: libraries are slow at a million of three by three.
        seen = (axes * from_camera[..., None, :]).sum(-1)
        depth = seen[..., 2:].clamp(min=_NEAREST)
        flat = seen[..., :2] / depth
        focal = self.focal[:, :, None, None, None]
        column = flat[..., 0] * focal[..., 0] + (WIDTH - 1) / 2
        row = flat[..., 1] * focal[..., 0] + self.horizon[:, :, None, None]
        local = (axes[..., None] * half_axes[:, None, ..., None, :, :]).sum(-2)
        image = (local[..., :2, :] - flat[..., None] * local[..., 2:, :]) * (focal / depth)[..., None]
        return torch.stack([column, row], -1), image


def cameras_of(views: Sequence[str], draws: Draws, variety: float = 0.0) -> Cameras:
    """The cameras of `views`, 4.8 m to 5.3 m from the middle of the line and 1.2 m to 1.35 m high, for the takes of
    `draws`.

    variety: how far each take's cameras are from those places: with 1 by 9 degrees around the line, a quarter of the
    distance, and 0.5 m of height (one standard deviation), as if every take had been recorded elsewhere. Raises
    ValueError for an unknown view.
    """
    unknown = [view for view in views if view not in VIEWS]
    if unknown:
        raise ValueError(f"view {unknown[0]!r} is none of {', '.join(VIEWS)}")
    device = draws.keys.device
    around = torch.tensor([math.radians(int(view)) for view in views], device=device)[None]
    distance = 5.05 + 0.25 * (2 * around).cos()
    height = 1.27 + 0.08 * (3 * around).cos()
    focal, horizon = torch.full_like(around, _FOCAL), torch.full_like(around, _HORIZON)
    if variety:
        # By view's own number, not by its place in the list: a view is the same alone and among others.
        places = torch.tensor([VIEWS.index(view) for view in views], device=device)

        def drawn(name: str) -> Tensor:
            return draws.normal(name, shape=(len(VIEWS),))[:, places] * variety

        nearness = (0.25 * drawn("camera distance")).exp().clamp(0.7, 2.5)
        around = around + math.radians(9) * drawn("camera direction")
        distance = distance * nearness
        height = (height + 0.5 * drawn("camera height")).clamp(0.3, 2.6)
        focal = focal * nearness * (0.12 * drawn("camera zoom")).exp().clamp(0.7, 1.2)
        # However high it is, the camera has the walker in the picture: what is 1 m above the ground stays where it was.
        horizon = _MIDDLE - focal / distance * (height - 1.0)
    around, distance, height = torch.broadcast_tensors(around, distance, height)
    sin, cos, zero = around.sin(), around.cos(), torch.zeros_like(around)
    right, down = torch.stack([-sin, cos, zero], -1), torch.stack([zero, zero, zero - 1], -1)
    axes = torch.stack([right, down, torch.stack([-cos, -sin, zero], -1)], -2)
    return Cameras(torch.stack([distance * cos, distance * sin, height], -1), axes, focal, horizon)


def frame_times(frames: int, device: torch.device | str = "cpu") -> Tensor:
    """Moments [frames] in seconds at 25 frames/s, 0 in the middle."""
    return (torch.arange(frames, dtype=torch.float32, device=device) - (frames - 1) / 2) / FPS
