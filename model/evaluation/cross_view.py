"""Cross-view gait recognition: one rank-k table of probe view x gallery view per condition.

The protocol of Yu et al. (ICPR 2006), as GaitSet prints it: every probe is looked up in the gallery of one
view at a time, so a cell is one (condition, probe view, gallery view).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.evaluation.distance import squared_length
from model.evaluation.distance_record import DistanceRecord
from model.evaluation.metrics import INFINITE, average_precision, rank_hits
from model.evaluation.protocols import Plan, Protocol, plan_of, protocol_of
from model.evaluation.result import CrossViewResult
from model.evaluation.streaming import count_wrong
from model.evaluation.subject_hits import SubjectHits

PROBE_CHUNK = 1024
RANKS = 20  # as far as curves of cumulative matches are usually drawn
PROBES_AT_ONCE = 1 << 16  # that counts become hits and precisions of


def evaluate(
    embeddings: Tensor,
    subjects: Sequence[str],
    seq_types: Sequence[str],
    views: Sequence[str],
    protocol: Protocol,
    ranks: int = 5,
    device: torch.device | None = None,
    probe_chunk: int = PROBE_CHUNK,
    device_bytes: int | None = None,
    quiet: bool = True,
    record: DistanceRecord | None = None,
) -> CrossViewResult:
    """Rank-1..`ranks` and mAP of `embeddings` [N, ...] (flattened to [N, d]) under `protocol`.

    `subjects`, `seq_types` and `views` say what each row is. All conditions share the distances, computed on `device`
    (default: where the embeddings are). The embeddings may lie elsewhere, in a memory-mapped file too: what is on
    `device` at a time stays within `device_bytes` (see `count_wrong`; default: a quarter of what is free there, 2 GiB
    on the CPU), and a gallery that fits is moved once. A probe whose subject is absent from a gallery view counts
    as wrong there, as published. Sequences of other seq_types are left out, with a note. `record` keeps what a report
    wants to know of the distances.

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
    flat = embeddings.detach().flatten(1)
    squares = squared_length(flat)
    _check_finite(squares, subjects, seq_types, views)
    device = flat.device if device is None else torch.device(device)
    numbers = _numbered(subjects)
    if record is not None:
        record.begin(plan, numbers, squares, device)
    wrong = count_wrong(flat, squares, numbers, plan, device, probe_chunk, device_bytes, quiet, record)
    result = _tabulate(wrong, plan, protocol, ranks, np.asarray(subjects)[plan.probe_rows])
    return replace(result, notes=(*_collapse_notes(flat), *result.notes))


def evaluate_index(
    embeddings: Tensor | np.ndarray,
    index: SequenceIndex,
    dataset: str,
    device: torch.device | None = None,
    quiet: bool = True,
    record: DistanceRecord | None = None,
) -> CrossViewResult:
    """`evaluate` for the sequences of an index, with the protocol of `dataset`, to rank 20."""
    labels = (index.subject, index.seq_type, index.view)
    return evaluate(
        torch.as_tensor(embeddings), *labels, protocol_of(dataset), RANKS, device, quiet=quiet, record=record
    )


def _numbered(names: Sequence[str]) -> np.ndarray:
    """A number for each name, from 0 in the order they first appear: [N] int64."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))


def _tabulate(wrong: Tensor, plan: Plan, protocol: Protocol, ranks: int, probe_subjects: np.ndarray) -> CrossViewResult:
    blocks = wrong.split(PROBES_AT_ONCE)
    hits = torch.cat([rank_hits(block, ranks) for block in blocks]).numpy()  # [m, v, k]
    precision = torch.cat([average_precision(block) for block in blocks]).numpy()  # [m, v]
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
        SubjectHits.count(hits[..., 0], probe_subjects, plan),
    )


def _collapse_notes(embeddings: Tensor, sample: int = 64) -> list[str]:
    """A warning where embeddings of sequences all over the data are next to equal."""
    rows = embeddings[torch.linspace(0, len(embeddings) - 1, min(sample, len(embeddings))).long()].float()
    spread = (rows - rows.mean(0)).norm(dim=1).max()
    if len(rows) < 2 or spread > 1e-4 * rows.norm(dim=1).mean():
        return []
    return [
        f"the embeddings of {len(rows)} sequences are next to equal: the network has collapsed, or every sequence is "
        "the same; these figures say nothing about people"
    ]


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


def _check_finite(squares: Tensor, subjects: Sequence[str], seq_types: Sequence[str], views: Sequence[str]) -> None:
    # Four times the square bounds |p|^2 + |g|^2 - 2 p.g, so a distance cannot overflow either.
    bad = (~(4 * squares < INFINITE)).nonzero().flatten().tolist()
    if bad:
        first = f"{subjects[bad[0]]}/{seq_types[bad[0]]}/{views[bad[0]]}"
        raise UserError(
            f"{len(bad)} of {len(squares)} embeddings are not finite (or too large to square), "
            f"the first is sequence {first}; check the checkpoint and the precision it was run with"
        )
