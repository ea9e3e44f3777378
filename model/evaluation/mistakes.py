"""Find mistakes and confusions: look-ups whose nearest gallery entry belongs to a wrong subject.

A look-up compares one probe with the gallery of one view.
"""

from collections import Counter, defaultdict, namedtuple
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.common.natural_order import natural_key
from model.evaluation.distance_statistics import DistanceStatistics


class LookUps(namedtuple("LookUps", "probe view missed distance_ratio identical_left_out")):
    """All look-ups of an evaluation. If there are several views, look-ups with identical views are left out.

    probe: [n] position of the probe in the plan.
    view: [n] index of the gallery view.
    missed: [n] bool. An impostor is at least as close as the nearest mate.
    distance_ratio: [n] distance of the nearest mate divided by the distance of the nearest impostor. The ratio is
        infinite without a mate.
    identical_left_out: whether look-ups with identical views are left out.
    """


@dataclass(frozen=True)
class Confusion:
    """In `times` of the `look_ups` of `subject`, the nearest gallery entry belongs to `taken_for`.

    `conditions` and `views` count these mistakes per condition and per pair (probe view, gallery view).
    """

    subject: str
    taken_for: str
    times: int
    look_ups: int
    conditions: Counter[str]
    views: Counter[tuple[str, str]]


def look_ups(statistics: DistanceStatistics) -> LookUps:
    """List the look-ups of an evaluation."""
    plan = statistics.plan
    several_views = len(plan.views) > 1
    selected = np.broadcast_to(plan.gallery_counts > 0, statistics.wrong_row.shape).copy()
    if several_views:
        selected[np.arange(len(selected)), plan.probe_view] = False
    probe, view = np.nonzero(selected)
    mate, impostor = statistics.mate_distance[probe, view], statistics.wrong_distance[probe, view]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(mate == impostor, 1.0, mate / impostor)
    return LookUps(probe, view, ~(mate < impostor), ratio, several_views)


def confusions(statistics: DistanceStatistics, seen: LookUps, subjects: Sequence[str]) -> list[Confusion]:
    """Return the confused pairs of subjects, the most frequent pair first.

    Args:
        seen: result of `look_ups`.
        subjects: [N] subject of each embedding.
    """
    plan = statistics.plan
    names = np.asarray(subjects)
    probe, view = seen.probe[seen.missed], seen.view[seen.missed]
    row = statistics.wrong_row[probe, view]
    known = row >= 0  # a gallery without other subjects has no impostor
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
    return sorted(found, key=lambda c: (-c.times, natural_key(c.subject), natural_key(c.taken_for)))


def hardest(statistics: DistanceStatistics, seen: LookUps, subjects: Sequence[str], count: int) -> np.ndarray:
    """Return positions in `seen` of the `count` misses with the largest distance ratio, one per pair of subjects.

    If there is no miss, return the hits with the largest ratio. Look-ups without a mate or without an impostor are
    excluded, because the report shows both.
    """
    names = np.asarray(subjects)
    complete = np.isfinite(seen.distance_ratio) & (statistics.wrong_row[seen.probe, seen.view] >= 0)
    candidates = seen.missed if seen.missed[complete].any() else np.ones_like(seen.missed)
    order = np.flatnonzero(complete & candidates)
    order = order[np.argsort(-seen.distance_ratio[order], kind="stable")]
    chosen: dict[tuple[str, str], int] = {}
    for position in order.tolist():
        probe, view = seen.probe[position], seen.view[position]
        pair = (str(names[statistics.plan.probe_rows[probe]]), str(names[statistics.wrong_row[probe, view]]))
        chosen.setdefault(pair, position)
        if len(chosen) == count:
            break
    return np.array(list(chosen.values()), np.int64)
