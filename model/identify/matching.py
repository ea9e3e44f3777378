"""Distances between sequences and enrolled people, and the decisions that follow from the gallery's own distances.

Several sequences of a person are fused: the distance to a person is the mean of the distances to the nearest three of
the person's sequences. Each enrolled sequence is compared with all others. The distances to its own person are genuine,
the distances to other people are impostor distances. They give the thresholds and the probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from model.evaluation.distance import euclidean_distance
from model.identify.gallery import Gallery

BEST = 3  # nearest sequences of a person whose distances are averaged
MEMORY = 1 << 30  # bytes of the distances that are in memory together
MAX_CALIBRATION_PROBES = 500
MAX_PAIRS = 200_000  # genuine or impostor pairs of the logistic fit
MIN_PAIRS = 10  # genuine pairs that the logistic fit needs at least


class Distances(NamedTuple):
    """Fused distances to each person, float32 [m, people], and the rows of the nearest sequences, [m, people].

    A distance is infinite if a person has no sequence.
    """

    distance: np.ndarray
    row: np.ndarray


def person_distances(
    probes: np.ndarray, gallery: Gallery, best: int = BEST, exclude: np.ndarray | None = None, memory: int = MEMORY
) -> Distances:
    """Compare probes [m, values] with every person of a gallery.

    Args:
        best: number of nearest sequences per person whose distances are averaged.
        exclude: row of the gallery [m] that each probe must not be compared with.
        memory: bytes for the distances. Large galleries are read once per group of probes that fits.
    """
    size = max(1, memory // (4 * max(1, len(gallery))))
    parts = []
    for start in range(0, len(probes), size):
        distance = _sequence_distances(probes[start : start + size], gallery)
        if exclude is not None:
            distance[np.arange(len(distance)), exclude[start : start + size]] = np.inf
        parts.append(fuse(distance, gallery.person_ids, len(gallery.people), best))
    return Distances(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _sequence_distances(probes: np.ndarray, gallery: Gallery) -> np.ndarray:
    distance = np.empty((len(probes), len(gallery)), np.float32)
    tensor, start = torch.from_numpy(np.ascontiguousarray(probes)), 0
    for block in gallery.embeddings():
        stop = start + len(block)
        distance[:, start:stop] = euclidean_distance(tensor, torch.tensor(block)).numpy()
        start = stop
    return distance


def fuse(distance: np.ndarray, person_ids: np.ndarray, people: int, best: int = BEST) -> Distances:
    """Average the `best` smallest finite distances [m, n] per person: distances and nearest columns [m, people]."""
    counts = np.bincount(person_ids, minlength=people)
    first = np.cumsum(counts) - counts
    places = np.minimum(first[:, None] + np.arange(best), len(person_ids) - 1)  # [people, best]
    valid = np.arange(best) < counts[:, None]
    fused, nearest = np.empty((len(distance), people), np.float32), np.empty((len(distance), people), np.int64)
    for i, row in enumerate(distance):
        order = np.lexsort((row, person_ids))  # by person, then by distance
        values = np.where(valid, row[order[places]], np.inf)
        finite = np.isfinite(values)
        total = np.where(finite, values, 0).sum(axis=1)
        fused[i] = np.where(finite.any(axis=1), total / np.maximum(finite.sum(axis=1), 1), np.inf)
        nearest[i] = order[places[:, 0]]
    return Distances(fused, nearest)


@dataclass(frozen=True)
class Calibration:
    """Thresholds and probabilities from the distances within a gallery.

    Attributes:
        genuine, impostor: fused distances of enrolled sequences to their own person and to other people.
        nearest_impostor: distance of each of these sequences to the nearest other person.
        far: false accept rate of the thresholds.
        threshold: the distance below which a probe gets a name. The share `far` of unknown people gets one. None if
            there are too few sequences.
        pair_threshold: the distance below which two people are the same, at most `far` of different pairs. None as
            above.
        slope, offset: logistic fit of the probability; None with too few pairs.
    """

    genuine: np.ndarray
    impostor: np.ndarray
    nearest_impostor: np.ndarray
    far: float
    threshold: float | None
    pair_threshold: float | None
    slope: float | None
    offset: float | None

    def probability(self, distance: float) -> float | None:
        """Return the probability that both sides are one person if a priori this is as likely as not."""
        if self.slope is None or not np.isfinite(distance):
            return None
        return float(1 / (1 + np.exp(-np.clip(self.slope * distance + self.offset, -500, 500))))

    def notes(self) -> list[str]:
        """Return messages about decisions that the gallery is too small for."""
        found = []
        count = len(self.nearest_impostor)
        if self.threshold is None:
            hint = f"--far {_round_up(1 / count):g} is the lowest rate for it" if count > 1 else "enrol several people"
            found.append(
                f"too few people for a threshold: a false accept rate of {self.far:g} needs "
                f"{int(np.ceil(1 / self.far))} comparisons with other people, and the gallery gives {count}; "
                f"enrol more sequences, or {hint}"
            )
        if self.slope is None:
            found.append(
                f"too few people for probabilities: the gallery gives {len(self.genuine)} comparisons of a person's "
                f"sequence with the person's other sequences and {len(self.impostor)} with other people, and at least "
                f"{MIN_PAIRS} of each are needed; distances only"
            )
        return found


def calibrate(gallery: Gallery, far: float, best: int = BEST, memory: int = MEMORY) -> Calibration:
    """Compare sequences of the gallery, at most `MAX_CALIBRATION_PROBES`, with all others."""
    rows = np.unique(np.linspace(0, len(gallery) - 1, min(len(gallery), MAX_CALIBRATION_PROBES)).round().astype(int))
    distance = person_distances(gallery.embeddings_of(rows), gallery, best, rows, memory).distance
    own = np.zeros(distance.shape, bool)
    own[np.arange(len(rows)), gallery.person_ids[rows]] = True
    genuine, impostor = distance[own], distance[~own]
    genuine = genuine[np.isfinite(genuine)]
    nearest = np.where(own, np.inf, distance).min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    slope, offset = _logistic_fit(genuine, impostor)
    thresholds = threshold_at(nearest, far), threshold_at(impostor, far)
    return Calibration(genuine, impostor, nearest, far, *thresholds, slope, offset)


def threshold_at(impostor: np.ndarray, far: float) -> float | None:
    """Return the largest threshold below which are at most `far` of the distances, None with fewer than 1 / `far`."""
    accepted = int(len(impostor) * far + 1e-9)
    return float(np.partition(impostor, accepted)[accepted]) if 1 <= accepted < len(impostor) else None


def _logistic_fit(genuine: np.ndarray, impostor: np.ndarray) -> tuple[float | None, float | None]:
    if min(len(genuine), len(impostor)) < MIN_PAIRS:
        return None, None
    from sklearn.linear_model import LogisticRegression  # slow to import

    parts = [values[:: -(-len(values) // MAX_PAIRS)] for values in (genuine, impostor)]
    values = np.concatenate(parts).astype(np.float64)[:, None]
    scale = values.std() or 1.0
    same = np.repeat([1, 0], [len(part) for part in parts])
    fit = LogisticRegression(class_weight="balanced").fit(values / scale, same)
    return float(fit.coef_[0, 0] / scale), float(fit.intercept_[0])


def _round_up(rate: float) -> float:
    return float(np.ceil(rate * 1000) / 1000)
