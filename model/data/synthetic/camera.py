"""Eleven fixed cameras around one walking line, as in CASIA-B: 000 meets the walker, 180 looks after him."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

VIEWS = tuple(f"{angle:03d}" for angle in range(0, 181, 18))
HEIGHT, WIDTH = 240, 320  # pixels of a frame
FPS = 25
PATH = 3.3  # metres of the walking line that all cameras see
_FOCAL = 345.0  # pixels
_HORIZON = 86.0  # row of the points as high as the camera


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera that looks at the middle of the walking line.

    `position` in metres in the walker's axes (x forward, y left, z up); `axes` [3][3] are the directions of
    image right, image down and depth.
    """

    position: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], ...]
    focal: float = _FOCAL

    def project(self, centres: Tensor, half_axes: Tensor) -> tuple[Tensor, Tensor]:
        """Image positions [..., 2] (column, row) in pixels of `centres` [..., 3], and of the `half_axes`
        [..., 3, 3] of the ellipsoids around them the first-order images [..., 2, 3]."""
        axes = centres.new_tensor(self.axes)
        seen = (centres - centres.new_tensor(self.position)) @ axes.T
        depth = seen[..., 2:]
        flat = seen[..., :2] / depth
        middle = centres.new_tensor([(WIDTH - 1) / 2, _HORIZON])
        local = axes @ half_axes
        image = (local[..., :2, :] - flat[..., None] * local[..., 2:, :]) * (self.focal / depth[..., None])
        return flat * self.focal + middle, image


def camera_of(view: str) -> Camera:
    """The camera of a view, one of `VIEWS`: 4.8 m to 5.3 m from the middle of the line, 1.2 m to 1.35 m high.

    Raises ValueError for another name.
    """
    if view not in VIEWS:
        raise ValueError(f"view {view!r} is none of {', '.join(VIEWS)}")
    around = math.radians(int(view))
    distance = 5.05 + 0.25 * math.cos(2 * around)
    height = 1.27 + 0.08 * math.cos(3 * around)
    position = (distance * math.cos(around), distance * math.sin(around), height)
    depth = (-math.cos(around), -math.sin(around), 0.0)
    right = (-math.sin(around), math.cos(around), 0.0)
    return Camera(position, (right, (0.0, 0.0, -1.0), depth))


def frame_times(frames: int, device: torch.device | str = "cpu") -> Tensor:
    """Moments [frames] in seconds at 25 frames/s, 0 in the middle."""
    return (torch.arange(frames, dtype=torch.float32, device=device) - (frames - 1) / 2) / FPS
