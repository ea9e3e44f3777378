"""Distances between sequences and enrolled people, and the decisions that follow from the gallery's own distances.

Several sequences of a person are fused: the distance to a person is the mean of the distances to the nearest three of
the person's sequences. Each enrolled sequence is compared with all others. The distances to its own person are genuine,
the distances to other people are impostor distances. They give the thresholds and the probabilities.
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

BEST = 3  # nearest sequences of a person whose distances are averaged
MAX_CALIBRATION_PROBES = 500
MAX_PAIRS = 200_000  # impostor distances that are kept


class Distances(NamedTuple):
    """Fused distances to each person, [people], and the rows of the nearest sequences, [people].

    A distance is infinite if a person has no sequence.
    """

    distance: np.ndarray
    row: np.ndarray


def person_distances(
    probes: np.ndarray, gallery: Gallery, best: int = BEST, exclude: Sequence[int] = (), memory: int = CPU_BYTES
) -> Iterator[Distances]:
    """Compare probes [m, values] with every person of a gallery. Yield the distances of each probe.

    Args:
        best: number of nearest sequences per person whose distances are averaged.
        exclude: row of the gallery that each of the first probes must not be compared with.
        memory: bytes for the distances. Large galleries are read once per group of probes that fits.
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
    """Average the `best` smallest finite distances [n] of each person."""
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
        genuine, impostor: fused distances of enrolled sequences to their own person and to other people.
        people: number of enrolled people.
        far: false accept rate of the thresholds.
        threshold: the distance below which a probe gets a name. About the share `far` of unknown people gets one. None
            if there are too few people.
        pair_threshold: the distance below which two people are the same, about `far` of different pairs. None if
            there are too few people.
        extrapolated: the threshold follows from the distribution of few distances, because they cannot be counted.
        probability: function of a distance: the probability that both sides are one person, if a priori this is as
            likely as not. It returns None for too few distances.
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
        """Return messages about decisions that the gallery is too small for."""
        found = []
        if self.threshold is None:
            found.append(
                f"too few people for a threshold: {self.people} enrolled, at least {MIN_PEOPLE} are needed; enrol more "
                "people. No decision, distances only"
            )
        elif self.extrapolated:
            found.append(
                f"the threshold is an estimate from the distances between {self.people} people; about "
                f"{int(np.ceil(1 / self.far))} enrolled people are needed to count a false accept rate of {self.far:g}"
            )
        if min(len(self.genuine), len(self.impostor)) < MIN_PAIRS:
            found.append(
                f"no probabilities: the gallery gives {len(self.genuine)} comparisons of a person's sequence with the "
                f"person's other sequences and {len(self.impostor)} with other people, and at least {MIN_PAIRS} of "
                "each are needed; enrol several sequences per person"
            )
        return found


def calibrate(
    gallery: Gallery, far: float, best: int = BEST, probes: np.ndarray | None = None
) -> tuple[Calibration, Iterator[Distances]]:
    """Compare sequences of the gallery, at most `MAX_CALIBRATION_PROBES`, with all others, and then `probes`.

    Returns:
        The calibration, and `person_distances` of the probes. A gallery whose distances to all of these sequences fit
        into the memory is read only once.
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
    # `nearest` is the least of `people` - 1 distances, but an unknown person has `people` distances.
    lower = 1 - (1 - far) ** ((people - 1) / people)
    threshold, extrapolated = threshold_at(np.array(nearest), own, lower)
    pair_threshold, _ = threshold_at(impostor, np.repeat(own, counts), far)
    probability = logistic_fit(genuine, impostor)
    thresholds = threshold, pair_threshold, extrapolated
    return Calibration(genuine, impostor, people, far, *thresholds, probability), distances
