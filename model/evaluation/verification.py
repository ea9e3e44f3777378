"""Verification: is this the same person? ROC, equal error rate and true accept rates, from distances counted in bins.

A pair is accepted when its distance is below a threshold. FAR is the share of impostor pairs that are accepted, TAR
that of genuine pairs. Thresholds are the edges of bins, so a figure is as exact as the bins are narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Roc:
    """`far` and `tar` [t] rise from 0 to 1 with the `threshold` [t]; `genuine`, `impostor`: how many pairs."""

    threshold: np.ndarray
    far: np.ndarray
    tar: np.ndarray
    genuine: int
    impostor: int

    def tar_at(self, far: float) -> float:
        """The highest TAR with at most this FAR; NaN with so few impostor pairs that not one may be accepted."""
        if not self.genuine or self.impostor * far < 1:
            return float("nan")
        return float(self.tar[np.searchsorted(self.far, far, side="right") - 1])

    def equal_error_rate(self) -> float:
        """Where FAR = 1 - TAR, on a straight line between the two thresholds around it; NaN without pairs."""
        if not self.genuine or not self.impostor:
            return float("nan")
        excess = self.far - (1 - self.tar)  # rises from -1 to 1
        after = int(np.argmax(excess >= 0))
        before = max(after - 1, 0)
        step = excess[after] - excess[before]
        share = 0.0 if step == 0 else -excess[before] / step
        return float(self.far[before] + share * (self.far[after] - self.far[before]))


def roc(genuine: np.ndarray, impostor: np.ndarray, bin_width: float) -> Roc:
    """The curve of `genuine` and `impostor` pairs counted in the same bins, [bins] each, from distance 0."""
    total = int(genuine.sum()), int(impostor.sum())
    tar, far = (
        np.concatenate([[0], np.cumsum(n)]) / max(1, t) for n, t in zip((genuine, impostor), total, strict=True)
    )
    return Roc(np.arange(len(genuine) + 1) * bin_width, far, tar, *total)


def rebinned(counts: np.ndarray, bin_width: float, most: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Counts [..., bins] in at most `most` wider bins over what is used: edges [n + 1] and counts [..., n]."""
    used = np.flatnonzero(counts.reshape(-1, counts.shape[-1]).any(axis=0))
    if not len(used):
        return np.array([0.0, bin_width]), np.zeros((*counts.shape[:-1], 1), counts.dtype)
    first, last = int(used[0]), int(used[-1]) + 1
    wide = -(-(last - first) // most)
    places = np.arange(first, last, wide)
    edges = np.append(places, places[-1] + wide) * bin_width
    return edges, np.add.reduceat(counts[..., :last], places, axis=-1)
