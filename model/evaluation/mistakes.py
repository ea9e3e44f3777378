"""Who was taken for whom: look-ups whose nearest gallery entry is of the wrong subject."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.evaluation.distance_record import DistanceRecord


@dataclass(frozen=True, eq=False)
class LookUps:
    """Look-ups of one kind, a column each; those with identical views are left out where there are others.

    probe [n]: position in the plan; view [n]: of the gallery; missed [n] bool: the nearest entry is a wrong one, or one
    at the same distance is; nearness [n]: how much farther the right one is (1 equally far, infinite: not there).
    """

    probe: np.ndarray
    view: np.ndarray
    missed: np.ndarray
    nearness: np.ndarray
    identical_left_out: bool


@dataclass(frozen=True)
class Confusion:
    """`times` of the `look_ups` of `subject` the nearest was `taken_for`; counts by condition and pair of views."""

    subject: str
    taken_for: str
    times: int
    look_ups: int
    conditions: Counter[str]
    views: Counter[tuple[str, str]]  # of probe and gallery


def look_ups(record: DistanceRecord) -> LookUps:
    plan = record.plan
    several = len(plan.views) > 1
    there = np.broadcast_to(plan.gallery_counts > 0, record.wrong_row.shape).copy()
    if several:
        there[np.arange(len(there)), plan.probe_view] = False
    probe, view = np.nonzero(there)
    mate, wrong = record.mate_distance[probe, view], record.wrong_distance[probe, view]
    with np.errstate(divide="ignore", invalid="ignore"):
        nearness = np.where(mate == wrong, 1.0, mate / wrong)
    return LookUps(probe, view, ~(mate < wrong), nearness, several)


def confusions(record: DistanceRecord, seen: LookUps, subjects: Sequence[str]) -> list[Confusion]:
    """Every pair of a subject and whom it was taken for, most frequent first. `subjects` [N] of all embeddings."""
    plan = record.plan
    names = np.asarray(subjects)
    probe, view = seen.probe[seen.missed], seen.view[seen.missed]
    row = record.wrong_row[probe, view]
    known = row >= 0  # a gallery of nobody else has no wrong entry
    probe, view, row = probe[known], view[known], row[known]
    of_subject = Counter(names[plan.probe_rows[seen.probe]].tolist())
    conditions, views = defaultdict(Counter), defaultdict(Counter)
    columns = (names[plan.probe_rows[probe]], names[row], plan.probe_condition[probe], plan.probe_view[probe], view)
    for subject, other, condition, probe_view, gallery_view in zip(*(c.tolist() for c in columns), strict=True):
        conditions[subject, other][plan.conditions[condition]] += 1
        views[subject, other][plan.views[probe_view], plan.views[gallery_view]] += 1
    found = [
        Confusion(*pair, counts.total(), of_subject[pair[0]], counts, views[pair])
        for pair, counts in conditions.items()
    ]
    return sorted(found, key=lambda c: (-c.times, c.subject, c.taken_for))


def hardest(record: DistanceRecord, seen: LookUps, subjects: Sequence[str], most: int) -> np.ndarray:
    """Positions in `seen` of the misses that look surest, at most one of each pair of subjects; without any miss,
    of the hits that were nearest to being one. A look-up without a right entry cannot show it and is left out."""
    names = np.asarray(subjects)
    can_be_shown = np.isfinite(seen.nearness)
    wanted = seen.missed if seen.missed[can_be_shown].any() else np.ones_like(seen.missed)
    order = np.flatnonzero(can_be_shown & wanted)
    order = order[np.argsort(-seen.nearness[order], kind="stable")]
    taken: dict[tuple[str, str], int] = {}
    for place in order.tolist():
        probe, view = seen.probe[place], seen.view[place]
        pair = (str(names[record.plan.probe_rows[probe]]), str(names[record.wrong_row[probe, view]]))
        taken.setdefault(pair, place)
        if len(taken) == most:
            break
    return np.array(list(taken.values()), np.int64)
