"""Cross-view gait recognition: one rank-k table of probe view x gallery view per condition.

The protocol of Yu et al. (ICPR 2006), as GaitSet prints it: every probe is looked up in the gallery of one
view at a time, so a cell is one (condition, probe view, gallery view).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.data.index import SequenceIndex
from model.errors import UserError
from model.evaluation.distance import squared_length, stream_distances
from model.evaluation.metrics import average_precision, rank_hits, wrong_before
from model.evaluation.protocols import Plan, Protocol, plan_of, protocol_of

IDENTICAL_VIEWS = (
    "including: mean over all cells, those where probe and gallery have the same view too; excluding: those "
    "cells are dropped, mean over the other gallery views of each probe view, then over probe views"
)
PROBE_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class CrossViewResult:
    """Axes: c conditions, v views of the probes, v views of the gallery (the same list), k ranks from 1.

    A cell without a probe or without a gallery sequence is NaN. Means skip such cells.
    """

    protocol: Protocol
    conditions: tuple[str, ...]  # those that have a probe, in the protocol's order
    views: tuple[str, ...]
    accuracy: np.ndarray  # [c, v, v, k] float64, percent of probes with a mate among the k nearest
    average_precision: np.ndarray  # [c, v, v] float64, percent
    probe_counts: np.ndarray  # [c, v] int64
    gallery_counts: np.ndarray  # [v] int64
    without_mate: np.ndarray  # [c, v, v] int64: probes whose subject is not in that gallery view; they count as wrong
    notes: tuple[str, ...] = ()

    @property
    def ranks(self) -> int:
        return self.accuracy.shape[-1]

    def cells(self, rank: int = 1, rounded: bool = True) -> np.ndarray:
        """Rank-`rank` in percent, [c, v, v]; `rounded` to two decimals like the original's before averaging."""
        if not 1 <= rank <= self.ranks:
            raise ValueError(f"rank must be 1 to {self.ranks}, not {rank}")
        return _rounded(self.accuracy[..., rank - 1], rounded)

    def including(self, rank: int = 1, rounded: bool = True) -> dict[str, float]:
        """Mean over all cells of a condition, identical views among them."""
        return self._named([_mean(cells) for cells in self.cells(rank, rounded)])

    def excluding(self, rank: int = 1, rounded: bool = True) -> dict[str, float]:
        """Mean without identical views; NaN where the data has a single view."""
        return self._named([_mean(_exclude_identical(cells)) for cells in self.cells(rank, rounded)])

    def per_probe_view(self, rank: int = 1, rounded: bool = True) -> dict[str, dict[str, float]]:
        """Mean over the other gallery views, for each view that the condition has probes of."""
        tables = {}
        for condition, cells, counts in zip(self.conditions, self.cells(rank, rounded), self.probe_counts, strict=True):
            means = _exclude_identical(cells)
            tables[condition] = {v: float(m) for v, m, n in zip(self.views, means, counts, strict=True) if n}
        return tables

    def mean_average_precision(self, rounded: bool = True) -> dict[str, dict[str, float]]:
        """{condition: {"including", "excluding"}} in percent, averaged over the cells like the ranks."""
        return {
            condition: {"including": _mean(cells), "excluding": _mean(_exclude_identical(cells))}
            for condition, cells in zip(self.conditions, _rounded(self.average_precision, rounded), strict=True)
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, None for NaN. `full_precision` repeats the figures without rounded cells."""
        summary = {str(k): self._rank_summary(k) for k in range(1, self.ranks + 1)}
        rank1 = {c: dict(values) for c, values in summary["1"].items()}
        for i, condition in enumerate(self.conditions):
            rank1[condition]["matrix"] = self.cells(1)[i].tolist()
            rank1[condition]["full_precision"] = {
                **rank1[condition]["full_precision"],
                "matrix": self.cells(1, rounded=False)[i].tolist(),
            }
        precise = self.mean_average_precision(rounded=False)
        mean_ap = self.mean_average_precision()
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
                "map": {c: {**mean_ap[c], "full_precision": precise[c]} for c in self.conditions},
                "probes": self._named([dict(zip(self.views, n.tolist(), strict=True)) for n in self.probe_counts]),
                "galleries": dict(zip(self.views, self.gallery_counts.tolist(), strict=True)),
                "without_mate": self._named([int(n.sum()) for n in self.without_mate]),
                "identical_views": IDENTICAL_VIEWS,
                "units": "percent; cells rounded to two decimals before averaging, except in full_precision",
                "notes": list(self.notes),
            }
        )

    def to_xarray(self):
        """The whole result as an xarray.Dataset, every axis labelled. Needs xarray."""
        import xarray

        cell = ("condition", "probe_view", "gallery_view")
        percent = {"units": "percent"}
        return xarray.Dataset(
            {
                "accuracy": ((*cell, "rank"), self.accuracy, percent),
                "average_precision": (cell, self.average_precision, percent),
                "without_mate": (cell, self.without_mate),
                "probes": (cell[:2], self.probe_counts),
                "galleries": (cell[2:], self.gallery_counts),
            },
            coords={
                "condition": list(self.conditions),
                "probe_view": list(self.views),
                "gallery_view": list(self.views),
                "rank": np.arange(1, self.ranks + 1),
            },
            attrs={
                "protocol": self.protocol.name,
                "identical_views": IDENTICAL_VIEWS,
                "notes": "; ".join(self.notes),
            },
        )

    def _rank_summary(self, rank: int) -> dict[str, dict[str, Any]]:
        def figures(rounded: bool) -> dict[str, dict[str, Any]]:
            named = {
                "including": self.including(rank, rounded),
                "excluding": self.excluding(rank, rounded),
                "per_probe_view": self.per_probe_view(rank, rounded),
            }
            return {c: {name: values[c] for name, values in named.items()} for c in self.conditions}

        precise = figures(rounded=False)
        return {c: {**values, "full_precision": precise[c]} for c, values in figures(rounded=True).items()}

    def _named(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.conditions, values, strict=True))


def evaluate(
    embeddings: Tensor,
    subjects: Sequence[str],
    seq_types: Sequence[str],
    views: Sequence[str],
    protocol: Protocol,
    ranks: int = 5,
    device: torch.device | None = None,
    probe_chunk: int = PROBE_CHUNK,
    quiet: bool = True,
) -> CrossViewResult:
    """Rank-1..`ranks` and mAP of `embeddings` [N, ...] (flattened to [N, d]) under `protocol`.

    `subjects`, `seq_types` and `views` say what each row is. All conditions share one pass over the distances
    computed on `device` (default: where the embeddings are). A probe whose subject is absent from a gallery
    view counts as wrong there, as published. Sequences of other seq_types are left out, with a note.

    Raises UserError when there is nothing to evaluate or an embedding is not finite, ValueError when lengths
    disagree.
    """
    if not len(embeddings) == len(subjects) == len(seq_types) == len(views):
        raise ValueError(
            f"one subject, seq_type and view is needed per embedding; got {len(embeddings)} embeddings, "
            f"{len(subjects)} subjects, {len(seq_types)} seq_types and {len(views)} views"
        )
    if ranks < 1:
        raise ValueError(f"ranks must be at least 1, not {ranks}")
    plan = plan_of(seq_types, views, protocol)
    flat = embeddings.flatten(1)
    _check_finite(flat, subjects, seq_types, views)
    subject_ids = torch.from_numpy(np.unique(np.asarray(subjects, dtype=str), return_inverse=True)[1])
    device = flat.device if device is None else torch.device(device)
    wrong = _count_wrong(flat, subject_ids, plan, device, probe_chunk, quiet)
    return _tabulate(wrong, plan, protocol, ranks)


def evaluate_index(
    embeddings: Tensor | np.ndarray, index: SequenceIndex, dataset: str, device: torch.device | None = None
) -> CrossViewResult:
    """`evaluate` for the sequences of an index, with the protocol of `dataset`."""
    labels = (index.subject, index.seq_type, index.view)
    return evaluate(torch.as_tensor(embeddings), *labels, protocol_of(dataset), device=device)


def without_nan(value: Any) -> Any:
    """`value` with None for each NaN, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _count_wrong(
    flat: Tensor, subject_ids: Tensor, plan: Plan, device: torch.device, probe_chunk: int, quiet: bool
) -> Tensor:
    """`wrong_before` of every probe in the gallery of every view: [m, v, r] int32 on the CPU.

    The distances, [chunk, n], are laid out as [chunk, v, largest gallery of a view], so that all views are
    counted at once; where galleries differ in size the smaller are filled up with infinite distances.
    """
    probe_rows, gallery_rows = torch.from_numpy(plan.probe_rows), torch.from_numpy(plan.gallery_rows)
    probe_subject, gallery_subject = subject_ids[probe_rows], subject_ids[gallery_rows]
    column, absent = _layout(plan.gallery_counts)
    # The most mates a probe can have in a view, known before any distance: no reading back in the loop.
    most = max(int(ids.bincount().max()) for ids in gallery_subject.split(plan.gallery_counts.tolist()) if len(ids))
    subject_of_place = gallery_subject[column].masked_fill(absent, -1).to(device)
    probe_subject, ragged = probe_subject.to(device), bool(absent.any())
    column, absent = column.to(device), absent.to(device)

    wrong = torch.empty(len(probe_rows), len(plan.views), most, dtype=torch.int32)
    chunks = stream_distances(flat, probe_rows, gallery_rows, probe_chunk, device)
    total = -(-len(probe_rows) // probe_chunk)
    bar = tqdm(chunks, total=total, desc="distances", disable=True if quiet else None, leave=False)
    for chunk, distance in bar:
        if ragged:
            distance = distance[:, column.flatten()]
        distance = distance.view(-1, *column.shape)
        if ragged:
            distance.masked_fill_(absent, float("inf"))
        mate = probe_subject[chunk, None, None] == subject_of_place
        wrong[chunk] = wrong_before(distance, mate, most).cpu()
    return wrong


def _layout(gallery_counts: np.ndarray) -> tuple[Tensor, Tensor]:
    """For galleries one after another: the column of each view's i-th entry, and whether it has none.

    Both are [v, largest gallery]; the column of an absent entry is 0.
    """
    place = np.arange(gallery_counts.max())[None, :]
    absent = place >= gallery_counts[:, None]
    first = np.cumsum(gallery_counts) - gallery_counts
    column = np.where(absent, 0, first[:, None] + place)
    return torch.from_numpy(column), torch.from_numpy(absent)


def _tabulate(wrong: Tensor, plan: Plan, protocol: Protocol, ranks: int) -> CrossViewResult:
    hits = rank_hits(wrong, ranks).numpy()  # [m, v, k]
    precision = average_precision(wrong).numpy()  # [m, v]
    mateless = (wrong[..., 0] < 0).numpy()  # [m, v]
    c, v = len(plan.conditions), len(plan.views)
    accuracy, mean_precision = np.full((c, v, v, ranks), np.nan), np.full((c, v, v), np.nan)
    counts, without_mate = np.zeros((c, v), np.int64), np.zeros((c, v, v), np.int64)
    enrolled = plan.gallery_counts > 0
    for i, j in np.ndindex(c, v):
        here = np.flatnonzero((plan.probe_condition == i) & (plan.probe_view == j))
        counts[i, j] = len(here)
        if not len(here):
            continue
        # The original's order of operations: hits * 100 / probes rounds like its figures do.
        accuracy[i, j, enrolled] = hits[here].sum(axis=0)[enrolled] * 100 / len(here)
        mean_precision[i, j, enrolled] = precision[here].mean(axis=0)[enrolled] * 100
        without_mate[i, j, enrolled] = mateless[here].sum(axis=0)[enrolled]
    notes = (*plan.notes, *_coverage_notes(plan, counts, without_mate, ranks))
    return CrossViewResult(
        protocol,
        plan.conditions,
        plan.views,
        accuracy,
        mean_precision,
        counts,
        plan.gallery_counts,
        without_mate,
        notes,
    )


def _coverage_notes(plan: Plan, counts: np.ndarray, without_mate: np.ndarray, ranks: int) -> list[str]:
    notes = []
    absent = [view for view, n in zip(plan.views, plan.gallery_counts, strict=True) if not n]
    small = [f"{view} ({n})" for view, n in zip(plan.views, plan.gallery_counts, strict=True) if 0 < n < ranks]
    if absent:
        notes.append(f"no gallery sequence in view {', '.join(absent)}: these cells are empty")
    if small:
        notes.append(f"gallery smaller than {ranks} in view {', '.join(small)}: higher ranks mean the whole gallery")
    for condition, row, missing in zip(plan.conditions, counts, without_mate, strict=True):
        empty = [view for view, n in zip(plan.views, row, strict=True) if not n]
        if empty:
            notes.append(f"{condition} has no probe in view {', '.join(empty)}: these cells are empty")
        if missing.any():
            looked_up = int(row.sum()) * int((plan.gallery_counts > 0).sum())
            notes.append(
                f"{condition}: {int(missing.sum())} of {looked_up} look-ups of a probe in a gallery view "
                "find no sequence of its subject there and count as wrong"
            )
    return notes


def _check_finite(flat: Tensor, subjects: Sequence[str], seq_types: Sequence[str], views: Sequence[str]) -> None:
    # Four times the square bounds |p|^2 + |g|^2 - 2 p.g, so a distance cannot overflow either.
    bad = (~torch.isfinite(4 * squared_length(flat))).nonzero().flatten().tolist()
    if bad:
        first = f"{subjects[bad[0]]}/{seq_types[bad[0]]}/{views[bad[0]]}"
        raise UserError(
            f"{len(bad)} of {len(flat)} embeddings are not finite (or too large to square), "
            f"the first is sequence {first}; check the checkpoint and the precision it was run with"
        )


def _exclude_identical(cells: np.ndarray) -> np.ndarray:
    """Mean of each row [v, v] without its diagonal cell: [v]; NaN where nothing is left."""
    off_diagonal = cells.copy()
    np.fill_diagonal(off_diagonal, np.nan)
    return np.array([_mean(row) for row in off_diagonal])


def _mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN, silently, of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _rounded(values: np.ndarray, rounded: bool) -> np.ndarray:
    return np.round(values, 2) if rounded else values
