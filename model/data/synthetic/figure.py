"""A figure is a set of ellipsoids and of convex hulls that join them: all that a camera needs to know.

s frames, k ellipsoids, p parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

HULL = 4  # ellipsoids in one part at most


@dataclass(frozen=True)
class Figure:
    """Ellipsoids with `centres` [s, k, 3] and half axes as the columns of `axes` [s, k, 3, 3], in metres;
    `parts` [p, HULL] lists the ellipsoids of each convex part, the last one repeated where there are
    fewer."""

    centres: Tensor
    axes: Tensor
    parts: Tensor


class FigureBuilder:
    """Collects named ellipsoids and parts."""

    def __init__(self):
        self.names: dict[str, int] = {}
        self.centres: list[Tensor] = []
        self.axes: list[Tensor] = []
        self.parts: list[list[int]] = []

    def ball(self, name: str, centre: Tensor, radius: float) -> None:
        identity = torch.eye(3, dtype=centre.dtype, device=centre.device)
        self.ellipsoid(name, centre, identity.expand(len(centre), 3, 3), (radius, radius, radius))

    def ellipsoid(self, name: str, centre: Tensor, frame: Tensor, half: tuple[float, float, float]) -> None:
        """`half` axes along the forward, left and up columns of `frame` [s, 3, 3]."""
        self.names[name] = len(self.centres)
        self.centres.append(centre)
        self.axes.append(frame * frame.new_tensor(half))

    def join(self, *names: str) -> None:
        members = [self.names[name] for name in names]
        self.parts.append(members + [members[-1]] * (HULL - len(members)))

    def chain(self, *names: str) -> None:
        for first, second in pairwise(names):
            self.join(first, second)

    def figure(self) -> Figure:
        parts = torch.tensor(self.parts, device=self.centres[0].device)
        return Figure(torch.stack(self.centres, 1), torch.stack(self.axes, 1), parts)
