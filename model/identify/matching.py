"""Compute distances between sequences and enrolled people, and calibrate decisions about them.

The distance of a sequence to a person is fused: it is the mean of the distances to the person's nearest sequences,
three by default. For the calibration, enrolled sequences are compared with all other enrolled sequences. The distance
of a sequence to its own person is a genuine distance, and its distances to other people are impostor distances. The
thresholds and the probabilities are computed from these genuine and impostor distances.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from model.evaluation.calibration import MIN_PAIRS, MIN_PEOPLE, logistic_fit, threshold_at
from model.evaluation.distance import euclidean_distance, squared_length
from model.evaluation.streaming import CPU_BYTES
from model.identify.gallery import Gallery

BEST = 3  # number of a person's nearest sequences whose distances are averaged
MAX_CALIBRATION_PROBES = 500  # largest number of enrolled sequences that are compared for the calibration
MAX_PAIRS = 200_000  # about the largest number of impostor distances that are kept


class Distances(NamedTuple):
    """Fused distances of a sequence to each person, [people], and the gallery row of each person's nearest sequence.

    A distance is infinite if the person has no sequence that can be compared.
    """

    distance: np.ndarray
    row: np.ndarray


def person_distances(
    probes: np.ndarray, gallery: Gallery, best: int = BEST, exclude: Sequence[int] = (), memory: int = CPU_BYTES
) -> Iterator[Distances]:
    """Compare probes [m, values] with every person of a gallery. Yield the distances of each probe.

    Args:
        best: number of a person's nearest sequences whose distances are averaged.
        exclude: the row of the gallery that is not compared with the first probe, then with the second, and so on.
        memory: bytes for the distances. The gallery is read once for each group of probes whose distances fit.
    """
    size = max(1, memory // (4 * max(1, len(gallery))))
    for start in range(0, len(probes), size):
        chunk = torch.tensor(probes[start : start + size])
        square, distance, filled = squared_length(chunk), torch.empty(len(chunk), len(gallery)), 0
        for block in map(torch.tensor, gallery.embeddings()):
            euclidean_distance(chunk, block, square, out=distance[:, filled : filled + len(block)])
            filled += len(block)
        for number, row in enumerate(distance.numpy(), start):
            if number < len(exclude):
                row[exclude[number]] = np.inf
            yield fuse(row, gallery.person_ids, len(gallery.people), best)


def fuse(distance: np.ndarray, person_ids: np.ndarray, people: int, best: int = BEST) -> Distances:
    """Average the `best` smallest finite distances of each person, given the distance [n] to each gallery sequence."""
    counts = np.bincount(person_ids, minlength=people)
    order = np.lexsort((distance, person_ids))  # by person, then by distance
    places = np.minimum((np.cumsum(counts) - counts)[:, None] + np.arange(best), len(order) - 1)  # [people, best]
    values = np.where(np.arange(best) < counts[:, None], distance[order[places]], np.inf)
    finite = np.isfinite(values)
    number = finite.sum(axis=1)
    total = np.where(finite, values, 0).sum(axis=1)
    return Distances(np.where(number, total / np.maximum(number, 1), np.inf), order[places[:, 0]])


@dataclass(frozen=True)
class Calibration:
    """Thresholds and probabilities from the distances within a gallery.

    Attributes:
        genuine: fused distances of enrolled sequences to their own person.
        impostor: fused distances of enrolled sequences to other people.
        people: number of enrolled people.
        far: false accept rate of the thresholds.
        threshold: a probe gets a name if its distance is below this value. About the share `far` of unknown people
            gets a name. None if there are too few people.
        pair_threshold: two tracks or people are accepted as the same person if their distance is below this value.
            About the share `far` of pairs of different people is accepted. None if there are too few people.
        extrapolated: the threshold is a quantile of an assumed distribution, because there are too few distances to
            count the share `far` of them.
        probability: function that returns the probability that a distance is genuine, if a priori the same person and
            different people are equally likely. The function returns None if there are too few distances.
    """

    genuine: np.ndarray
    impostor: np.ndarray
    people: int
    far: float
    threshold: float | None
    pair_threshold: float | None
    extrapolated: bool
    probability: Callable[[float], float | None]

    def notes(self) -> list[str]:
        """Return messages about decisions and probabilities for which the gallery is too small."""
        found = []
        if self.threshold is None:
            found.append(
                f"no decisions, only distances: a threshold needs at least {MIN_PEOPLE} enrolled people, and the "
                f"gallery has {self.people}; enrol more people"
            )
        elif self.extrapolated:
            found.append(
                f"the threshold is an estimate from the distances between {self.people} people; about "
                f"{int(np.ceil(1 / self.far))} enrolled people are needed to measure a false accept rate of "
                f"{self.far:g}; enrol more people for a more reliable threshold"
            )
        if min(len(self.genuine), len(self.impostor)) < MIN_PAIRS:
            found.append(
                f"no probabilities: the gallery gives {len(self.genuine)} distances within a person and "
                f"{len(self.impostor)} distances between people, and at least {MIN_PAIRS} of each are needed; enrol "
                "several sequences per person"
            )
        return found


def calibrate(
    gallery: Gallery, far: float, best: int = BEST, probes: np.ndarray | None = None
) -> tuple[Calibration, Iterator[Distances]]:
    """Compare at most `MAX_CALIBRATION_PROBES` sequences of the gallery with all its other sequences.

    Returns:
        The calibration, and `person_distances` of `probes`. The gallery is read only once if its distances to all
        compared sequences and probes fit into the memory.
    """
    rows = np.unique(np.linspace(0, len(gallery) - 1, min(len(gallery), MAX_CALIBRATION_PROBES)).round().astype(int))
    own, people = gallery.person_ids[rows], len(gallery.people)
    step = -(-len(rows) * people // MAX_PAIRS)
    genuine, nearest, impostor = [], [], []
    enrolled = gallery.embeddings_of(rows)
    both = enrolled if probes is None else np.concatenate([enrolled, probes])
    distances = person_distances(both, gallery, best, rows)
    for person, found in zip(own, islice(distances, len(rows)), strict=True):
        others = np.delete(found.distance, person)
        genuine.append(found.distance[person])
        nearest.append(others.min(initial=np.inf))
        impostor.append(others[::step])
    genuine, counts, impostor = np.array(genuine), [len(part) for part in impostor], np.concatenate(impostor)
    genuine = genuine[np.isfinite(genuine)]
    # Each value of `nearest` is the smallest of `people` - 1 distances. An unknown person has `people` distances, and
    # the smallest of them is below a threshold more often. `lower` is the share of `nearest` that corresponds to `far`.
    lower = 1 - (1 - far) ** ((people - 1) / people)
    threshold, extrapolated = threshold_at(np.array(nearest), own, lower)
    pair_threshold, _ = threshold_at(impostor, np.repeat(own, counts), far)
    probability = logistic_fit(genuine, impostor)
    thresholds = threshold, pair_threshold, extrapolated
    return Calibration(genuine, impostor, people, far, *thresholds, probability), distances
