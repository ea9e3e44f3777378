"""Compute the figures of verification from histograms of distances: ROC curve, equal error rate, true accept rate.

Verification decides whether a pair of sequences shows the same person (genuine pair) or different people (impostor
pair). A pair is accepted as genuine if its distance is below a threshold. The false accept rate (FAR) is the share of
impostor pairs that are accepted. The true accept rate (TAR) is the share of genuine pairs that are accepted. The
thresholds are the edges of the histogram bins, so the precision of the rates depends on the bin width.
"""

from collections import namedtuple

import numpy as np


class Roc(namedtuple("Roc", "threshold far tar genuine impostor")):
    """ROC curve: `far` [t] and `tar` [t] rise from 0 to 1 with `threshold` [t].

    `genuine` and `impostor` are the numbers of pairs of each type.
    """

    def tar_at(self, far: float) -> float:
        """Return the highest TAR whose FAR is at most `far`, NaN if there are fewer than 1 / `far` impostor pairs."""
        if not self.genuine or self.impostor * far < 1:
            return float("nan")
        return float(self.tar[np.searchsorted(self.far, far, side="right") - 1])

    def equal_error_rate(self) -> float:
        """Return the rate at which FAR = 1 - TAR, interpolated linearly between two thresholds; NaN without pairs."""
        if not self.genuine or not self.impostor:
            return float("nan")
        excess = self.far - (1 - self.tar)  # rises from -1 to 1
        return float(np.interp(0, excess, self.far))


def roc(genuine: np.ndarray, impostor: np.ndarray, bin_width: float) -> Roc:
    """Return the ROC curve of histograms [bins] of genuine and of impostor pairs, whose bins start at distance 0."""
    total = int(genuine.sum()), int(impostor.sum())
    tar, far = (
        np.concatenate([[0], np.cumsum(n)]) / max(1, t) for n, t in zip((genuine, impostor), total, strict=True)
    )
    return Roc(np.arange(len(genuine) + 1) * bin_width, far, tar, *total)


def rebinned(counts: np.ndarray, bin_width: float, max_bins: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Merge histograms [..., bins] into at most `max_bins` wider bins from the first to the last bin that is not empty.

    Returns the edges [n + 1] and the counts [..., n] of the wider bins.
    """
    used = np.flatnonzero(counts.reshape(-1, counts.shape[-1]).any(axis=0))
    if not len(used):
        return np.array([0.0, bin_width]), np.zeros((*counts.shape[:-1], 1), counts.dtype)
    first, last = int(used[0]), int(used[-1]) + 1
    wide = -(-(last - first) // max_bins)
    places = np.arange(first, last, wide)
    edges = np.append(places, places[-1] + wide) * bin_width
    return edges, np.add.reduceat(counts[..., :last], places, axis=-1)
