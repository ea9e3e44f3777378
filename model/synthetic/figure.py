"""A figure is a set of ellipsoids and of convex hulls that join them: all that a camera needs to know.

b takes, s frames, k ellipsoids, p parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

HULL = 4  # ellipsoids in one part at most


@dataclass(frozen=True)
class Figure:
    """Ellipsoids with `centres` [b, s, k, 3] and half axes as the columns of `axes` [b, s, k, 3, 3], in metres;
    `parts` [p, HULL] lists the ellipsoids of each convex part, the last one repeated where there are fewer, and
    `worn` [b, p] tells which parts a take has (a bag, a skirt, a bun)."""

    centres: Tensor
    axes: Tensor
    parts: Tensor
    worn: Tensor

    def take(self, part: slice) -> Figure:
        """The figures of some of the takes."""
        return Figure(self.centres[part], self.axes[part], self.parts, self.worn[part])


class FigureBuilder:
    """Collects named ellipsoids and parts."""

    def __init__(self):
        self.names: dict[str, int] = {}
        self.centres: list[Tensor] = []
        self.axes: list[Tensor] = []
        self.parts: list[list[int]] = []
        self.worn: list[Tensor | None] = []

    def ball(self, name: str, centre: Tensor, radius: Tensor | float) -> None:
        """`centre` [b, s, 3], `radius` [b] or a number."""
        axes = torch.eye(3, dtype=centre.dtype, device=centre.device)
        axes = axes * (radius[:, None, None, None] if isinstance(radius, Tensor) else radius)
        self._add(name, centre, axes)

    def ellipsoid(self, name: str, centre: Tensor, frame: Tensor, half: tuple[Tensor | float, ...]) -> None:
        """`half` axes, [b] or numbers, along the forward, left and up columns of `frame` [b, s, 3, 3]."""
        b = len(centre)
        columns = [(h if isinstance(h, Tensor) else frame.new_tensor(h)).expand(b) for h in half]
        self._add(name, centre, frame * torch.stack(columns, -1)[:, None, None])

    def _add(self, name: str, centre: Tensor, axes: Tensor) -> None:
        self.names[name] = len(self.centres)
        self.centres.append(centre)
        self.axes.append(axes.expand(*centre.shape[:2], 3, 3))

    def join(self, *names: str, where: Tensor | None = None) -> None:
        """A part of the named ellipsoids, in the takes `where` [b] (default: in all)."""
        members = [self.names[name] for name in names]
        self.parts.append(members + [members[-1]] * (HULL - len(members)))
        self.worn.append(where)

    def chain(self, *names: str) -> None:
        for first, second in pairwise(names):
            self.join(first, second)

    def figure(self) -> Figure:
        device, b = self.centres[0].device, len(self.centres[0])
        always = torch.ones(b, dtype=torch.bool, device=device)
        worn = torch.stack([always if where is None else where for where in self.worn], 1)
        parts = torch.tensor(self.parts, device=device)
        return Figure(torch.stack(self.centres, 2), torch.stack(self.axes, 2), parts, worn)
