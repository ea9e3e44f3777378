"""Cross-view gait recognition: one rank-k table of probe view x gallery view per condition.

The protocol of Yu et al. (ICPR 2006), as GaitSet prints it: every probe is looked up in the gallery of one
view at a time, so a cell is one (condition, probe view, gallery view).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.data.index import SequenceIndex
from model.errors import UserError
from model.evaluation.distance import squared_length, stream_distances
from model.evaluation.metrics import average_precision, rank_hits, wrong_before
from model.evaluation.protocols import Plan, Protocol, plan_of, protocol_of
from model.evaluation.result import CrossViewResult

PROBE_CHUNK = 1024


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
