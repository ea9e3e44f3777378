"""Hold the result of a cross-view evaluation: tables, means, and conversion to JSON and xarray."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from model.evaluation.protocols import Protocol
from model.evaluation.subject_hits import SubjectHits

IDENTICAL_VIEWS = (
    "including: mean over all cells; excluding: for each probe view, mean over the gallery views other than the probe "
    "view, then mean over the probe views"
)


@dataclass(frozen=True, eq=False)
class CrossViewResult:
    """Tables with axes c conditions, v probe views, v gallery views (the same list) and k ranks from 1.

    A cell without a probe or without a gallery sequence is NaN. Means are taken over the cells that are not NaN.
    """

    protocol: Protocol
    conditions: tuple[str, ...]  # conditions with at least one probe, in the order of the protocol
    views: tuple[str, ...]
    accuracy: np.ndarray  # [c, v, v, k] float64, percent of probes with a mate among the k nearest gallery entries
    average_precision: np.ndarray  # [c, v, v] float64, percent
    probe_counts: np.ndarray  # [c, v] int64
    gallery_counts: np.ndarray  # [v] int64
    without_mate: np.ndarray  # [c, v, v] int64, probes whose subject the gallery view lacks; they count as wrong
    notes: tuple[str, ...]
    subject_hits: SubjectHits  # hits at rank 1 per subject
    gallery_subjects: int  # number of subjects in the gallery; if it is 1, all figures are the same for any model

    @property
    def ranks(self) -> int:
        return self.accuracy.shape[-1]

    def cells(self, rank: int = 1, rounded: bool = True) -> np.ndarray:
        """Return rank-`rank` in percent, [c, v, v], by default rounded to two decimals as in the original."""
        if not 1 <= rank <= self.ranks:
            raise ValueError(f"rank must be 1 to {self.ranks}, got {rank}")
        return _rounded(self.accuracy[..., rank - 1], rounded)

    def including(self, rank: int = 1, rounded: bool = True) -> dict[str, float]:
        """Return the mean over all cells per condition, including identical views."""
        return self._named([_mean(cells) for cells in self.cells(rank, rounded)])

    def excluding(self, rank: int = 1, rounded: bool = True) -> dict[str, float]:
        """Return the mean excluding identical views per condition, NaN if there is only one view."""
        return self._named([_mean(_exclude_identical(cells)) for cells in self.cells(rank, rounded)])

    def per_probe_view(self, rank: int = 1, rounded: bool = True) -> dict[str, dict[str, float]]:
        """Return the mean over the gallery views other than the probe view: {condition: {probe view: mean}}.

        Probe views without a probe of the condition are left out.
        """
        tables = {}
        for condition, cells, counts in zip(self.conditions, self.cells(rank, rounded), self.probe_counts, strict=True):
            means = _exclude_identical(cells)
            tables[condition] = {v: float(m) for v, m, n in zip(self.views, means, counts, strict=True) if n}
        return tables

    def mean_average_precision(self, rounded: bool = True) -> dict[str, dict[str, float]]:
        """Return mAP in percent: {condition: {"including": mean, "excluding": mean}}, averaged like rank-k."""
        return {
            condition: {"including": _mean(cells), "excluding": _mean(_exclude_identical(cells))}
            for condition, cells in zip(self.conditions, _rounded(self.average_precision, rounded), strict=True)
        }

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, with None for NaN. `full_precision` holds the values computed from unrounded cells."""
        summary = {str(k): _with_precise(partial(self._figures, k)) for k in range(1, self.ranks + 1)}
        rank1 = {}
        for condition, cells, precise in zip(self.conditions, self.cells(), self.cells(rounded=False), strict=True):
            values = summary["1"][condition]
            full_precision = {**values["full_precision"], "matrix": precise.tolist()}
            rank1[condition] = {**values, "full_precision": full_precision, "matrix": cells.tolist()}
        return without_nan(
            {
                "protocol": {
                    "name": self.protocol.name,
                    "gallery": list(self.protocol.gallery),
                    "probes": {c: list(seq_types) for c, seq_types in self.protocol.probes.items()},
                },
                "conditions": list(self.conditions),
                "views": list(self.views),
                "rank1": rank1,
                "rank": summary,
                "map": _with_precise(self.mean_average_precision),
                "probes": self._named([dict(zip(self.views, n.tolist(), strict=True)) for n in self.probe_counts]),
                "galleries": dict(zip(self.views, self.gallery_counts.tolist(), strict=True)),
                "without_mate": self._named([int(n.sum()) for n in self.without_mate]),
                "identical_views": IDENTICAL_VIEWS,
                "units": "percent; cells rounded to two decimals before averaging, except in full_precision",
                "notes": list(self.notes),
                "per_subject": self.subject_hits.to_json(),
            }
        )

    def to_xarray(self):
        """Return the complete result as an xarray.Dataset with labelled axes. Requires xarray."""
        import xarray

        cell = ("condition", "probe_view", "gallery_view")
        axes, percent = map(list, (self.conditions, self.views, self.views)), {"units": "percent"}
        return xarray.Dataset(
            {
                "accuracy": ((*cell, "rank"), self.accuracy, percent),
                "average_precision": (cell, self.average_precision, percent),
                "without_mate": (cell, self.without_mate),
                "probes": (cell[:2], self.probe_counts),
                "galleries": (cell[2:], self.gallery_counts),
            },
            coords={**dict(zip(cell, axes, strict=True)), "rank": np.arange(1, self.ranks + 1)},
            attrs={
                "protocol": self.protocol.name, "identical_views": IDENTICAL_VIEWS, "notes": "; ".join(self.notes),
            },
        )  # fmt: skip

    def _figures(self, rank: int, rounded: bool) -> dict[str, dict[str, Any]]:
        tables = {kind: getattr(self, kind)(rank, rounded) for kind in ("including", "excluding", "per_probe_view")}
        return {c: {kind: table[c] for kind, table in tables.items()} for c in self.conditions}

    def _named(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.conditions, values, strict=True))


def _with_precise(figures: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the figures of rounded cells per condition. `full_precision` holds the figures of unrounded cells."""
    precise = figures(rounded=False)
    return {c: {**values, "full_precision": precise[c]} for c, values in figures(rounded=True).items()}


def without_nan(value: Any) -> Any:
    """Return `value` with None in place of NaN, which JSON does not support."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _exclude_identical(cells: np.ndarray) -> np.ndarray:
    """Return the mean of each row of `cells` [v, v] without the diagonal cell: [v], NaN if no cell remains."""
    off_diagonal = cells.copy()
    np.fill_diagonal(off_diagonal, np.nan)
    return np.array([_mean(row) for row in off_diagonal])


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN. If there are none, return NaN without a warning."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _rounded(values: np.ndarray, rounded: bool) -> np.ndarray:
    return np.round(values, 2) if rounded else values
