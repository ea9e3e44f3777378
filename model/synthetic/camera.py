"""The eleven cameras around the walking line, as in CASIA-B: view 000 is from the front, view 180 is from behind.

Shapes: b takes, c cameras, s frames, k ellipsoids.
"""

import math
from collections import namedtuple
from collections.abc import Sequence

import torch
from torch import Tensor

from model.common.counter_random import Draws

VIEWS = tuple(f"{angle:03d}" for angle in range(0, 181, 18))
IMAGE_HEIGHT, IMAGE_WIDTH = 240, 320  # pixels
FPS = 25
PATH = 4.4  # length of the walking line in metres; camera 090 sees slightly more than the whole line
_FOCAL = 345.0  # pixels
_HORIZON = 86.0  # image row of points at the height of the camera
_MIDDLE = _HORIZON + _FOCAL * (1.27 - 1.0) / 5.05  # image row of the point 1 m above the middle of the line
_NEAREST = 0.5  # least depth in metres; points that are nearer are projected as if they had this depth


class Cameras(namedtuple("Cameras", "position axes focal horizon")):
    """Horizontal pinhole cameras that look at the middle of the walking line.

    The first dimension of each field is 1 if all takes share the cameras.

    position    [b or 1, c, 3], in metres, in the walker's axes (x forward, y left, z up)
    axes        [b or 1, c, 3, 3]; the rows are the directions to the right of the image, down in it, and into the depth
    focal, horizon    [b or 1, c], in pixels
    """

    def project(self, centres: Tensor, half_axes: Tensor) -> tuple[Tensor, Tensor]:
        """Project ellipsoids.

        Args:
            centres: [b, s, k, 3].
            half_axes: [b, s, k, 3, 3].

        Returns:
            Image positions (column, row) of the centres in pixels, [b, c, s, k, 2], and first-order approximations of
            the projected half axes, [b, c, s, k, 2, 3].
        """
        axes = self.axes[:, :, None, None]  # [b, c, 1, 1, 3, 3]
        from_camera = centres[:, None] - self.position[:, :, None, None]
        # Centres. They are computed as sums, because matrix products of a million 3 x 3 matrices are slow.
        seen = (axes * from_camera[..., None, :]).sum(-1)
        depth = seen[..., 2:].clamp(min=_NEAREST)
        flat = seen[..., :2] / depth
        focal = self.focal[:, :, None, None, None]
        column = flat[..., 0] * focal[..., 0] + (IMAGE_WIDTH - 1) / 2
        row = flat[..., 1] * focal[..., 0] + self.horizon[:, :, None, None]
        # Half axes: the derivative of the projection at the centre.
        local = (axes[..., None] * half_axes[:, None, ..., None, :, :]).sum(-2)
        image = (local[..., :2, :] - flat[..., None] * local[..., 2:, :]) * (focal / depth)[..., None]
        return torch.stack([column, row], -1), image


def cameras_of(views: Sequence[str], draws: Draws, variety: float = 0.0) -> Cameras:
    """Return the cameras of `views`.

    At a variety of 0, the cameras are 4.8 m to 5.3 m from the middle of the line and 1.2 m to 1.35 m high.

    Args:
        draws: random numbers of the takes.
        variety: how far the cameras of each take deviate. At a variety of 1, the standard deviations are 9 degrees of
            the direction, 25 % of the distance, 0.5 m of the height and 12 % of the zoom, as if every take had been
            recorded in a different place.
    """
    device = draws.keys.device
    around = torch.tensor([math.radians(int(view)) for view in views], device=device)[None]
    distance = 5.05 + 0.25 * (2 * around).cos()
    height = 1.27 + 0.08 * (3 * around).cos()
    focal, horizon = torch.full_like(around, _FOCAL), torch.full_like(around, _HORIZON)
    if variety:
        # Random numbers are indexed by the view, so that the camera of a view does not depend on the other `views`.
        numbers = torch.tensor([VIEWS.index(view) for view in views], device=device)

        def drawn(name: str) -> Tensor:
            return draws.normal(name, shape=(len(VIEWS),))[:, numbers] * variety

        nearness = (0.25 * drawn("camera distance")).exp().clamp(0.7, 2.5)
        around = around + math.radians(9) * drawn("camera direction")
        distance = distance * nearness
        height = (height + 0.5 * drawn("camera height")).clamp(0.3, 2.6)
        focal = focal * nearness * (0.12 * drawn("camera zoom")).exp().clamp(0.7, 1.2)
        # The walker stays in the image at any camera height: the point 1 m above the ground keeps its row.
        horizon = _MIDDLE - focal / distance * (height - 1.0)
    around, distance, height = torch.broadcast_tensors(around, distance, height)
    sin, cos, zero = around.sin(), around.cos(), torch.zeros_like(around)
    right, down = torch.stack([-sin, cos, zero], -1), torch.stack([zero, zero, zero - 1], -1)
    axes = torch.stack([right, down, torch.stack([-cos, -sin, zero], -1)], -2)
    return Cameras(torch.stack([distance * cos, distance * sin, height], -1), axes, focal, horizon)


def frame_times(frames: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the times [frames] of the frames in seconds. Time 0 is the middle of the sequence."""
    return (torch.arange(frames, dtype=torch.float32, device=device) - (frames - 1) / 2) / FPS
