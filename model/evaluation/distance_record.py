"""What a report wants to know of all distances, gathered while they pass, in bounded memory.

Counts in bins give the histograms and the ROC of verification; the nearest wrong and the nearest right entry of every
look-up (a probe in the gallery of one view) tell who was taken for whom.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.evaluation.metrics import INFINITE
from model.evaluation.protocols import Plan

# Embeddings lie closer together than their lengths would allow: some hundreds to thousands of these bins are used.
BINS = 1 << 14
AT_ONCE = 1 << 22  # distances that are sorted into bins together: about 100 MB
# That many pairs give curves without a visible step; of larger tests every second, third ... probe is counted.
MOST_PAIRS = 1 << 28


class DistanceRecord:
    """Filled by an evaluation; then every array is numpy's, on the host.

    counts [c, 2, 2, bins] int64: pairs of a probe and a gallery sequence by condition of the probe, whether their views
    are identical (1) or not (0), and whether their subjects are (1, genuine) or not (0, impostor); bin i holds
    distances from i to i + 1 times `bin_width`.
    mate_distance, wrong_distance [m, v] float32: of the nearest gallery entry of the probe's own subject and of the
    nearest other in each gallery view, infinite where there is none; mate_row, wrong_row [m, v] int64: which row of
    the embeddings that is, -1 for none. Of equally near ones any.
    plan: whose probes and views those are. every: of so many probes one is counted; 1 unless the test is huge.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins

    def begin(self, plan: Plan, subject_ids: np.ndarray, squares: Tensor, device: torch.device) -> None:
        """`squares` [N] are the squared lengths of the embeddings: no distance exceeds twice the longest."""
        self.plan = plan
        longest = 2 * float(squares.max().sqrt())
        self.bin_width = (longest or 1.0) * (1 + 1e-6) / self.bins
        self._subject = torch.from_numpy(subject_ids).to(device)
        view = np.full(len(subject_ids), -1)
        view[plan.gallery_rows] = np.repeat(np.arange(len(plan.views)), plan.gallery_counts)
        self._gallery_view = torch.from_numpy(view).to(device)
        self._probe_subject = torch.from_numpy(subject_ids[plan.probe_rows]).to(device)
        self._probe_view = torch.from_numpy(plan.probe_view).to(device)
        self._probe_condition = torch.from_numpy(plan.probe_condition).to(device)
        pairs = len(plan.probe_rows) * len(plan.gallery_rows)
        self.every = -(-pairs // MOST_PAIRS)
        shape = (len(plan.probe_rows), len(plan.views))
        self._distance = {kind: torch.full(shape, INFINITE, device=device) for kind in ("mate", "wrong")}
        self._row = {kind: torch.full(shape, -1, dtype=torch.int64, device=device) for kind in ("mate", "wrong")}
        self._counts = torch.zeros(len(plan.conditions) * 4 * self.bins, dtype=torch.int64, device=device)

    def see(self, probes: np.ndarray, rows: Tensor, runs: list[tuple[slice, slice]], distance: Tensor) -> None:
        """`distance` [>= k, >= n] of the `probes` [k] (positions in the plan) to the gallery entries `rows` [n].

        runs: views, and the columns of entries of these views: neighbours with equally many. Each pair must come once.
        `distance` is written over.
        """
        device = distance.device
        rows = rows.to(device)
        size = max(1, AT_ONCE // max(1, len(rows)))
        for start in range(0, len(probes), size):
            some = torch.from_numpy(probes[start : start + size]).to(device)
            part = distance[start : start + len(some), : len(rows)]
            genuine = self._probe_subject[some, None] == self._subject[rows]
            self._count(some, rows, part, genuine)
            self._find_mates(some, rows, part, genuine)
            part.masked_fill_(genuine, INFINITE)
            for views, columns in runs:
                self._find_wrong(some, views, rows[columns], part[:, columns])

    def _count(self, probes: Tensor, rows: Tensor, distance: Tensor, genuine: Tensor) -> None:
        if self.every > 1:
            chosen = (probes % self.every == 0).nonzero().flatten()
            probes, distance, genuine = probes[chosen], distance[chosen], genuine[chosen]
        identical = self._probe_view[probes, None] == self._gallery_view[rows]
        group = (self._probe_condition[probes, None] * 4).int() + identical * 2 + genuine
        place = (distance / self.bin_width).int().clamp_max_(self.bins - 1).add_(group, alpha=self.bins)
        self._counts += torch.bincount(place.flatten(), minlength=len(self._counts))

    def _find_mates(self, probes: Tensor, rows: Tensor, distance: Tensor, genuine: Tensor) -> None:
        """A probe has few mates, so they are taken one by one."""
        probe, column = genuine.nonzero(as_tuple=True)
        found, row = distance[probe, column], rows[column]
        place = probes[probe] * len(self.plan.views) + self._gallery_view[row]
        known = self._distance["mate"].view(-1).scatter_reduce_(0, place, found, "amin")
        nearest = (found == known[place]).nonzero().flatten()
        self._row["mate"].view(-1)[place[nearest]] = row[nearest]

    def _find_wrong(self, probes: Tensor, views: slice, rows: Tensor, distance: Tensor) -> None:
        shape = (views.stop - views.start, -1)
        found = distance.unflatten(1, shape).min(dim=-1)  # [k, views]
        first = torch.arange(shape[0], device=rows.device) * (len(rows) // shape[0])
        row = rows[found.indices + first]
        known, known_row = self._distance["wrong"][probes, views], self._row["wrong"][probes, views]
        nearer = found.values < known
        self._distance["wrong"][probes, views] = torch.where(nearer, found.values, known)
        self._row["wrong"][probes, views] = torch.where(nearer, row, known_row)

    @property
    def counts(self) -> np.ndarray:
        return self._counts.view(-1, 2, 2, self.bins).cpu().numpy()

    @property
    def mate_distance(self) -> np.ndarray:
        return np.where(self.mate_row < 0, np.float32(np.inf), self._distance["mate"].cpu().numpy())

    @property
    def wrong_distance(self) -> np.ndarray:
        return np.where(self.wrong_row < 0, np.float32(np.inf), self._distance["wrong"].cpu().numpy())

    @property
    def mate_row(self) -> np.ndarray:
        return self._row["mate"].cpu().numpy()

    @property
    def wrong_row(self) -> np.ndarray:
        return self._row["wrong"].cpu().numpy()
