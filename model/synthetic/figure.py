"""Describe walkers by ellipsoids and by the convex hulls that join them, for the renderer.

Shapes: b takes, s frames, k ellipsoids, p parts.
"""

from collections import namedtuple
from itertools import pairwise

import torch
from torch import Tensor

MAX_ELLIPSOIDS = 4  # per part


class Figure(namedtuple("Figure", "centres axes parts present")):
    """Figures of b takes in s frames.

    centres     [b, s, k, 3], centres of the ellipsoids in metres
    axes        [b, s, k, 3, 3], half axes as columns, in metres
    parts       int64 [p, MAX_ELLIPSOIDS], indices of the ellipsoids that each convex part joins; a part of fewer
                ellipsoids repeats its last ellipsoid
    present     bool [b, p], whether a take has the part (for example a bag, a skirt or a bun)
    """

    def of(self, takes: slice) -> "Figure":
        """Return the figures of the selected takes."""
        return Figure(self.centres[takes], self.axes[takes], self.parts, self.present[takes])


class FigureBuilder:
    """Collect the named ellipsoids of a figure, and the parts that join them."""

    def __init__(self):
        self.ellipsoids: dict[str, tuple[Tensor, Tensor]] = {}  # centre and half axes by name
        self.parts: list[tuple[tuple[str, ...], Tensor | None]] = []  # names; takes that have the part (None: all)

    def ball(self, name: str, centre: Tensor, radius: Tensor | float) -> None:
        """Add a ball at `centre` [b, s, 3]. `radius` is a tensor [b] or a number."""
        axes = torch.eye(3, dtype=centre.dtype, device=centre.device)
        self._add(name, centre, axes * (radius[:, None, None, None] if isinstance(radius, Tensor) else radius))

    def ellipsoid(self, name: str, centre: Tensor, frame: Tensor, half: tuple[Tensor | float, ...]) -> None:
        """Add an ellipsoid whose axes point along the columns (forward, left, up) of `frame` [b, s, 3, 3].

        Each of the three half axes `half` is a tensor [b] or a number.
        """
        columns = [(h if isinstance(h, Tensor) else frame.new_tensor(h)).expand(len(centre)) for h in half]
        self._add(name, centre, frame * torch.stack(columns, -1)[:, None, None])

    def _add(self, name: str, centre: Tensor, axes: Tensor) -> None:
        self.ellipsoids[name] = centre, axes.expand(*centre.shape[:2], 3, 3)

    def join(self, *names: str, where: Tensor | None = None) -> None:
        """Add the convex hull of the named ellipsoids as a part of the takes selected by `where` [b] (default: all)."""
        self.parts.append((names, where))

    def chain(self, *names: str) -> None:
        """Join each ellipsoid with the next one."""
        for pair in pairwise(names):
            self.join(*pair)

    def figure(self) -> Figure:
        centres, axes = (torch.stack(tensors, 2) for tensors in zip(*self.ellipsoids.values(), strict=True))
        number = {name: i for i, name in enumerate(self.ellipsoids)}
        filled = (names + names[-1:] * (MAX_ELLIPSOIDS - len(names)) for names, _ in self.parts)
        parts = torch.tensor([[number[name] for name in names] for names in filled], device=centres.device)
        everywhere = torch.ones(len(centres), dtype=torch.bool, device=centres.device)
        present = torch.stack([everywhere if where is None else where for _, where in self.parts], 1)
        return Figure(centres, axes, parts, present)
