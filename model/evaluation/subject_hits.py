"""Rank-1 of each subject: what intervals over subjects and the comparison of two results are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.evaluation.protocols import Plan


@dataclass(frozen=True, eq=False)
class SubjectHits:
    """Axes: s subjects, c conditions, v views of the probes. Whole numbers, so sums over subjects give the cells.

    A look-up is a probe in the gallery of one view; it is a hit when the nearest entry is of the right subject.
    """

    subjects: tuple[str, ...]
    conditions: tuple[str, ...]
    views: tuple[str, ...]
    enrolled: np.ndarray  # [v] bool: views that have a gallery
    probes: np.ndarray  # [s, c, v] int64
    including: np.ndarray  # [s, c, v] int64: hits in the galleries of all views
    excluding: np.ndarray  # [s, c, v] int64: hits in those of other views than the probe's

    @classmethod
    def count(cls, hits: np.ndarray, probe_subjects: np.ndarray, plan: Plan) -> SubjectHits:
        """`hits` [m, v] bool: whether the look-up of probe m in gallery view v is one; `probe_subjects` [m] names."""
        subjects, number = np.unique(probe_subjects, return_inverse=True)
        place = (number, plan.probe_condition, plan.probe_view)
        probes, including, excluding = np.zeros((3, len(subjects), len(plan.conditions), len(plan.views)), np.int64)
        hits = hits & (plan.gallery_counts > 0)
        np.add.at(probes, place, 1)
        np.add.at(including, place, hits.sum(axis=1))
        identical = hits[np.arange(len(hits)), plan.probe_view]
        np.add.at(excluding, place, hits.sum(axis=1) - identical)
        names = tuple(map(str, subjects))
        return cls(names, plan.conditions, plan.views, plan.gallery_counts > 0, probes, including, excluding)

    def look_ups(self, kind: str) -> np.ndarray:
        """How many look-ups stand behind `including` or `excluding`: [s, c, v]."""
        galleries = int(self.enrolled.sum()) - (self.enrolled if kind == "excluding" else 0)
        return self.probes * galleries

    def rank1(self, kind: str, weights: np.ndarray) -> np.ndarray:
        """Rank-1 in percent, as unrounded cells give it, when subject s counts weights[..., s] times: [..., c].

        NaN where nothing was looked up, as for `excluding` with a single view.
        """
        shape = (len(self.subjects), -1)
        hits = weights @ getattr(self, kind).reshape(shape).astype(np.float64)
        look_ups = weights @ self.look_ups(kind).reshape(shape).astype(np.float64)
        with np.errstate(invalid="ignore"):
            of_views = (hits / look_ups).reshape(*weights.shape[:-1], len(self.conditions), len(self.views))
        known = ~np.isnan(of_views)
        return (
            100 * np.where(known, of_views, 0).sum(axis=-1) / np.where(known.any(axis=-1), known.sum(axis=-1), np.nan)
        )

    def of_each_subject(self, kind: str) -> np.ndarray:
        """Rank-1 in percent of the look-ups of each subject's probes: [s, c], NaN where there are none."""
        look_ups = self.look_ups(kind).sum(axis=2)
        return 100 * getattr(self, kind).sum(axis=2) / np.where(look_ups > 0, look_ups, np.nan)

    def to_json(self) -> dict[str, Any]:
        """Plain values; of each condition three tables, a row a subject, a column a probe view."""
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
    def from_json(cls, result: Mapping[str, Any]) -> SubjectHits:
        """From the whole JSON of a result. Raises KeyError, TypeError or ValueError when it is not all there, or cannot
        be: more hits than look-ups, names that are none."""
        own, views = result["per_subject"], tuple(result["views"])
        for names in (own["subjects"], result["conditions"], views):
            if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
                raise ValueError("subjects, conditions or views that are no names, or are there twice")
        shape = (len(own["subjects"]), len(views))
        tables = {
            kind: np.stack(
                [np.array(own["conditions"][c][kind], np.int64).reshape(shape) for c in result["conditions"]], 1
            )
            for kind in ("probes", "including", "excluding")
        }
        enrolled = np.array([result["galleries"][view] > 0 for view in views], bool)
        most = tables["probes"] * enrolled.sum()
        if tables["probes"].min(initial=0) < 0 or not all(
            ((tables[kind] >= 0) & (tables[kind] <= most)).all() for kind in ("including", "excluding")
        ):
            raise ValueError("more hits than look-ups")
        return cls(tuple(own["subjects"]), tuple(result["conditions"]), views, enrolled, **tables)
