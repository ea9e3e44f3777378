"""Statistics of all distances for the report, collected during the evaluation in bounded memory.

Histogram counts give the distance histograms and the ROC curve. The nearest mate and the nearest impostor of each
look-up (one probe in the gallery of one view) show which subjects are confused.
"""

import numpy as np
import torch
from torch import Tensor

from model.evaluation.metrics import INFINITE
from model.evaluation.protocols import Plan

# The range is twice the largest length, and distances use only a part of it: some hundreds to thousands of bins.
HISTOGRAM_BINS = 1 << 14
DISTANCE_CHUNK = 1 << 22  # distances that are processed together, which needs about 100 MB
# This many pairs give smooth curves. In a larger test, only every second, third, ... probe is counted.
MAX_PAIRS = 1 << 28
_MATE, _WRONG = 0, 1  # indices of the nearest mates and of the nearest impostors


class DistanceStatistics:
    """Histogram of the distances, and nearest mate and impostor of each look-up. `evaluate` fills it.

    Attributes are numpy arrays on the host:

    counts: [c, 2, 2, bins] int64. Pairs of probe and gallery sequence by condition of the probe, identical views (1) or
        not (0), and same subject (1, genuine) or not (0, impostor). Bin i holds distances from i to i + 1 times
        `bin_width`.
    mate_distance, wrong_distance: [m, v] float32. Distance of the nearest mate and of the nearest impostor in each
        gallery view, infinite if there is none.
    mate_row, wrong_row: [m, v] int64. Row of that entry in the embeddings, -1 if there is none. Of several
        entries at the same distance, it can be any.
    plan: probes, gallery and views of the evaluation.
    every: every n-th probe is in `counts`. It is 1 except in a very large test.
    """

    def __init__(self, bins: int = HISTOGRAM_BINS) -> None:
        self.bins = bins

    def begin(self, plan: Plan, subject_ids: np.ndarray, squares: Tensor, device: torch.device) -> None:
        """Allocate the statistics for an evaluation.

        Args:
            subject_ids: subject numbers [N] of all embeddings.
            squares: squared lengths [N] of all embeddings. No distance exceeds twice the largest length.
        """
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
        self.every = -(-pairs // MAX_PAIRS)
        shape = (2, len(plan.probe_rows), len(plan.views))
        self._distance = torch.full(shape, INFINITE, device=device)
        self._row = torch.full(shape, -1, dtype=torch.int64, device=device)
        self._counts = torch.zeros(len(plan.conditions) * 4 * self.bins, dtype=torch.int64, device=device)

    def update(self, probes: np.ndarray, rows: Tensor, runs: list[tuple[slice, slice]], distance: Tensor) -> None:
        """Add the distances between some probes and some gallery entries. Each pair must be added once.

        Args:
            probes: [k] positions in the plan.
            rows: [n] rows of the gallery entries in the embeddings.
            runs: slices of views and of their columns; see `gallery_pieces.py`.
            distance: [>= k, >= n], overwritten.
        """
        device = distance.device
        rows = rows.to(device)
        size = max(1, DISTANCE_CHUNK // max(1, len(rows)))
        for start in range(0, len(probes), size):
            chunk = torch.from_numpy(probes[start : start + size]).to(device)
            part = distance[start : start + len(chunk), : len(rows)]
            genuine = self._probe_subject[chunk, None] == self._subject[rows]
            self._count(chunk, rows, part, genuine)
            self._find_mates(chunk, rows, part, genuine)
            # After this, only impostors have a finite distance.
            part.masked_fill_(genuine, INFINITE)
            for views, columns in runs:
                self._find_impostors(chunk, views, rows[columns], part[:, columns])

    def _count(self, probes: Tensor, rows: Tensor, distance: Tensor, genuine: Tensor) -> None:
        """Add the pairs to the histograms."""
        if self.every > 1:
            chosen = (probes % self.every == 0).nonzero().flatten()
            probes, distance, genuine = probes[chosen], distance[chosen], genuine[chosen]
        identical = self._probe_view[probes, None] == self._gallery_view[rows]
        # Index of (condition, identical views, genuine), then of the bin within this group.
        group = (self._probe_condition[probes, None] * 4).int() + identical * 2 + genuine
        place = (distance / self.bin_width).int().clamp_max_(self.bins - 1).add_(group, alpha=self.bins)
        self._counts += torch.bincount(place.flatten(), minlength=len(self._counts))

    def _find_mates(self, probes: Tensor, rows: Tensor, distance: Tensor, genuine: Tensor) -> None:
        """Update the nearest mates. A probe has few mates, so all pairs are listed."""
        probe, column = genuine.nonzero(as_tuple=True)
        found, row = distance[probe, column], rows[column]
        place = probes[probe] * len(self.plan.views) + self._gallery_view[row]
        known = self._distance[_MATE].view(-1).scatter_reduce_(0, place, found, "amin")
        nearest = (found == known[place]).nonzero().flatten()
        self._row[_MATE].view(-1)[place[nearest]] = row[nearest]

    def _find_impostors(self, probes: Tensor, views: slice, rows: Tensor, distance: Tensor) -> None:
        """Update the nearest impostors in a run of views with equal numbers of entries."""
        shape = (views.stop - views.start, -1)
        found = distance.unflatten(1, shape).min(dim=-1)  # [k, views]
        first = torch.arange(shape[0], device=rows.device) * (len(rows) // shape[0])
        row = rows[found.indices + first]
        known, known_row = self._distance[_WRONG, probes, views], self._row[_WRONG, probes, views]
        nearer = found.values < known
        self._distance[_WRONG, probes, views] = torch.where(nearer, found.values, known)
        self._row[_WRONG, probes, views] = torch.where(nearer, row, known_row)

    def finish(self) -> None:
        """Set the attributes on the host, with infinity in place of INFINITE."""
        distance = self._distance.cpu().numpy()
        self.mate_distance, self.wrong_distance = np.where(distance >= INFINITE, np.inf, distance)
        self.mate_row, self.wrong_row = self._row.cpu().numpy()
        self.counts = self._counts.view(-1, 2, 2, self.bins).cpu().numpy()
