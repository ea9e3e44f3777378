"""Count hits at rank 1 per subject. Confidence intervals and comparisons of two results use these counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.common.natural_order import natural_key
from model.common.schema import check
from model.evaluation.protocols import Plan


def percentage(count: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return `count` in percent of `total`, NaN where the total is 0."""
    return 100 * count / np.where(total > 0, total, np.nan)


def mean_of_known(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the mean of the values that are not NaN, or NaN if there are none."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    return np.where(known, values, 0).sum(axis=axis) / np.where(count > 0, count, np.nan)


@dataclass(frozen=True, eq=False)
class SubjectHits:
    """Counts with axes s subjects, c conditions and v probe views. Their sums over subjects give rank-1 per probe view.

    A look-up compares one probe with the gallery of one view. It is a hit if the nearest entry belongs to the subject
    of the probe.
    """

    subjects: tuple[str, ...]  # in natural order
    conditions: tuple[str, ...]
    views: tuple[str, ...]
    enrolled: np.ndarray  # [v] bool: views with a gallery
    probes: np.ndarray  # [s, c, v] int64
    including: np.ndarray  # [s, c, v] int64: hits in the galleries of all views
    excluding: np.ndarray  # [s, c, v] int64: hits in galleries of other views

    @classmethod
    def count(cls, hits: np.ndarray, probe_subjects: np.ndarray, plan: Plan) -> "SubjectHits":
        """Count hits per subject.

        Args:
            hits: [m, v] bool, whether the look-up of each probe in each gallery view is a hit.
            probe_subjects: [m] subject names of the probes.
        """
        names = np.asarray(probe_subjects).tolist()
        subjects = sorted(set(names), key=natural_key)
        position = {subject: i for i, subject in enumerate(subjects)}
        place = (np.array([position[name] for name in names], np.int64), plan.probe_condition, plan.probe_view)
        probes, including, excluding = np.zeros((3, len(subjects), len(plan.conditions), len(plan.views)), np.int64)
        hits = hits & (plan.gallery_counts > 0)
        np.add.at(probes, place, 1)
        np.add.at(including, place, hits.sum(axis=1))
        identical = hits[np.arange(len(hits)), plan.probe_view]
        np.add.at(excluding, place, hits.sum(axis=1) - identical)
        return cls(tuple(subjects), plan.conditions, plan.views, plan.gallery_counts > 0, probes, including, excluding)

    def look_ups(self, kind: str) -> np.ndarray:
        """Return the number of look-ups [s, c, v], `including` or `excluding` identical views."""
        galleries = int(self.enrolled.sum()) - (self.enrolled if kind == "excluding" else 0)
        return self.probes * galleries

    def rank1(self, kind: str, weights: np.ndarray) -> np.ndarray:
        """Return rank-1 in percent, from unrounded cells, if subject s counts weights[..., s] times: [..., c].

        Rank-1 of a condition without look-ups is NaN, for example `excluding` identical views with a single view.
        """
        shape = (len(self.subjects), -1)
        hits = weights @ getattr(self, kind).reshape(shape).astype(np.float64)
        look_ups = weights @ self.look_ups(kind).reshape(shape).astype(np.float64)
        per_view = percentage(hits, look_ups)
        return mean_of_known(per_view.reshape(*weights.shape[:-1], len(self.conditions), len(self.views)))

    def percentages(self, kind: str, axis: int) -> np.ndarray:
        """Return the percentage of hits after summing hits and look-ups over an axis, NaN if there are no look-ups.

        The result is [c, v] for axis 0 (subjects) and [s, c] for axis 2 (probe views).
        """
        return percentage(getattr(self, kind).sum(axis=axis), self.look_ups(kind).sum(axis=axis))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: three tables per condition, with one row per subject and one column per probe view."""
        tables = {
            condition: {kind: getattr(self, kind)[:, i].tolist() for kind in ("probes", "including", "excluding")}
            for i, condition in enumerate(self.conditions)
        }
        return {
            "meaning": "hits at rank 1 of each subject (rows) from each probe view (columns), over all gallery views",
            "subjects": list(self.subjects),
            "conditions": tables,
        }

    @classmethod
    def from_json(cls, result: Mapping[str, Any]) -> "SubjectHits":
        """Read the hits from the JSON of a result.

        Raises ValueError if values are missing or impossible, for example more hits than look-ups.
        """
        check(result, {"views": [str], "conditions": [str]})
        views, conditions, counts = tuple(result["views"]), tuple(result["conditions"]), [[range(1 << 31)]]
        kinds = dict.fromkeys(("probes", "including", "excluding"), counts)
        per_subject = {"subjects": [str], "conditions": dict.fromkeys(conditions, kinds)}
        check(result, {"galleries": dict.fromkeys(views, int), "per_subject": per_subject})
        own = result["per_subject"]
        for names in (own["subjects"], conditions, views):
            if len(set(names)) < len(names):
                raise ValueError("subjects, conditions or views are not unique")
        shape = (len(own["subjects"]), len(views))
        tables = {
            kind: np.stack([np.array(own["conditions"][c][kind], np.int64).reshape(shape) for c in conditions], 1)
            for kind in kinds
        }
        enrolled = np.array([result["galleries"][view] > 0 for view in views], bool)
        most = tables["probes"] * enrolled.sum()
        if not all((tables[kind] <= most).all() for kind in ("including", "excluding")):
            raise ValueError("more hits than look-ups")
        # Files of earlier versions list the subjects as 1, 10, 2. Sort them, because their order decides which subjects
        # a bootstrap resample contains.
        order = sorted(range(len(own["subjects"])), key=lambda i: natural_key(own["subjects"][i]))
        subjects = tuple(own["subjects"][i] for i in order)
        tables = {kind: table[order] for kind, table in tables.items()}
        return cls(subjects, conditions, views, enrolled, **tables)
