"""Collect statistics of all distances for the report, during the evaluation and in bounded memory.

The statistics are histograms, which also give the ROC curve, and the nearest entries of each look-up (one probe in the
gallery of one view). The nearest mate (entry of the same subject) and the nearest impostor (entry of another subject)
show which subjects are confused.
"""

import numpy as np
import torch
from torch import Tensor

from model.evaluation.metrics import INFINITE
from model.evaluation.protocols import Plan

# The bins cover distances from 0 to twice the length of the longest embedding. The distances of a test fill only
# hundreds to thousands of these bins.
HISTOGRAM_BINS = 1 << 14
DISTANCE_CHUNK = 1 << 22  # number of distances that are processed together, which needs about 100 MB
# This number of pairs gives smooth curves. In a larger test, only every second, third, ... probe is counted.
MAX_PAIRS = 1 << 28
_MATE, _WRONG = 0, 1  # indices of the nearest mates and of the nearest impostors in `_distance` and `_row`


class DistanceStatistics:
    """Histograms of the distances, and nearest mate and impostor of each look-up. `evaluate_index` fills them.

    Attributes after the evaluation, with arrays as numpy arrays on the host:

    counts: [c, 2, 2, bins] int64. Number of pairs of a probe and a gallery sequence. The axes are the condition of the
        probe, different (0) or identical (1) views, impostor (0) or genuine (1) pair, and the distance. Bin i counts
        distances from i * bin_width to (i + 1) * bin_width.
    mate_distance, wrong_distance: [m, v] float32. Distances of the nearest mate and of the nearest impostor of each
        probe in each gallery view. A distance is infinite if there is no such entry.
    mate_row, wrong_row: [m, v] int64. Rows of these two entries in the embeddings, -1 if there is no such entry. If
        several entries have the same smallest distance, one of them is chosen arbitrarily.
    plan: probes, gallery and views of the evaluation.
    every: n if only every n-th probe is in `counts`. The value is 1 except in a very large test.
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
        """Add the distances between `probes` and the gallery entries `rows`. Each pair must be added exactly once.

        Args:
            probes: [k] positions in the plan.
            rows: [n] rows of the gallery entries in the embeddings.
            runs: for each run of views, a slice of views and the slice of their columns; see `gallery_pieces.py`.
            distance: distances in the first k rows and n columns of a larger tensor. They are overwritten.
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
            # From here on, only impostors have a distance below INFINITE.
            part.masked_fill_(genuine, INFINITE)
            for views, columns in runs:
                self._find_impostors(chunk, views, rows[columns], part[:, columns])

    def _count(self, probes: Tensor, rows: Tensor, distance: Tensor, genuine: Tensor) -> None:
        """Add the pairs to the histograms."""
        if self.every > 1:
            chosen = (probes % self.every == 0).nonzero().flatten()
            probes, distance, genuine = probes[chosen], distance[chosen], genuine[chosen]
        identical = self._probe_view[probes, None] == self._gallery_view[rows]
        # Index of the group (condition, identical views, genuine), then index of the bin in all groups.
        group = (self._probe_condition[probes, None] * 4).int() + identical * 2 + genuine
        place = (distance / self.bin_width).int().clamp_max_(self.bins - 1).add_(group, alpha=self.bins)
        self._counts += torch.bincount(place.flatten(), minlength=len(self._counts))

    def _find_mates(self, probes: Tensor, rows: Tensor, distance: Tensor, genuine: Tensor) -> None:
        """Update the nearest mates. A probe has few mates, so all pairs of a probe and a mate are listed."""
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
