"""Figures made of ellipsoids and of convex hulls that join them: the input of the renderer.

b takes, s frames, k ellipsoids, p parts.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

MAX_ELLIPSOIDS = 4  # per part


@dataclass(frozen=True)
class Figure:
    """Figures of b takes in s frames.

    centres     [b, s, k, 3], centres of the ellipsoids in metres
    axes        [b, s, k, 3, 3], half axes as columns, in metres
    parts       [p, MAX_ELLIPSOIDS], ellipsoids of each convex part; the last one is repeated if there are fewer
    present     bool [b, p], whether a take has the part (a bag, a skirt, a bun)
    """

    centres: Tensor
    axes: Tensor
    parts: Tensor
    present: Tensor

    def __getitem__(self, takes: slice) -> "Figure":
        """Return the figures of some of the takes."""
        return Figure(self.centres[takes], self.axes[takes], self.parts, self.present[takes])


class FigureBuilder:
    """Collect named ellipsoids and the parts that join them."""

    def __init__(self):
        self.index: dict[str, int] = {}
        self.centres: list[Tensor] = []
        self.axes: list[Tensor] = []
        self.parts: list[list[int]] = []
        self.present: list[Tensor | None] = []

    def ball(self, name: str, centre: Tensor, radius: Tensor | float) -> None:
        """Add a ball at `centre` [b, s, 3] with `radius` [b] or a number."""
        axes = torch.eye(3, dtype=centre.dtype, device=centre.device)
        self._add(name, centre, axes * (radius[:, None, None, None] if isinstance(radius, Tensor) else radius))

    def ellipsoid(self, name: str, centre: Tensor, frame: Tensor, half: tuple[Tensor | float, ...]) -> None:
        """Add an ellipsoid. `half` axes, [b] or numbers, are along the forward, left and up columns of `frame`
        [b, s, 3, 3]."""
        columns = [(h if isinstance(h, Tensor) else frame.new_tensor(h)).expand(len(centre)) for h in half]
        self._add(name, centre, frame * torch.stack(columns, -1)[:, None, None])

    def _add(self, name: str, centre: Tensor, axes: Tensor) -> None:
        self.index[name] = len(self.centres)
        self.centres.append(centre)
        self.axes.append(axes.expand(*centre.shape[:2], 3, 3))

    def join(self, *names: str, where: Tensor | None = None) -> None:
        """Add a convex part of the named ellipsoids, in the takes `where` [b] (default: all)."""
        members = [self.index[name] for name in names]
        self.parts.append(members + [members[-1]] * (MAX_ELLIPSOIDS - len(members)))
        self.present.append(where)

    def chain(self, *names: str) -> None:
        """Join each ellipsoid with the next one."""
        for first, second in pairwise(names):
            self.join(first, second)

    def figure(self) -> Figure:
        device = self.centres[0].device
        everywhere = torch.ones(len(self.centres[0]), dtype=torch.bool, device=device)
        present = torch.stack([everywhere if where is None else where for where in self.present], 1)
        parts = torch.tensor(self.parts, device=device)
        return Figure(torch.stack(self.centres, 2), torch.stack(self.axes, 2), parts, present)
