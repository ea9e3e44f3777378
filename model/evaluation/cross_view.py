"""Evaluate embeddings across views: rank-k and mAP for each condition, probe view and gallery view.

This is the protocol of Yu et al. (ICPR 2006) in the form that GaitSet uses. Each probe is searched in the gallery of
one view at a time, so one table cell belongs to one condition, one probe view and one gallery view.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.evaluation.distance import squared_length
from model.evaluation.metrics import INFINITE, average_precision, rank_hits
from model.evaluation.protocols import Plan, Protocol, plan_of, protocol_of
from model.evaluation.result import CrossViewResult
from model.evaluation.streaming import Streaming, count_closer_impostors
from model.evaluation.subject_hits import SubjectHits

RANKS = 20  # highest rank, a common length of cumulative match curves
TABLE_CHUNK = 1 << 16  # number of probes whose hits and precisions are computed together


def evaluate_index(
    embeddings: Tensor | np.ndarray, index: SequenceIndex, protocol: Protocol | str, settings: Streaming | None = None,
    ranks: int = RANKS,
) -> CrossViewResult:  # fmt: skip
    """Return rank-1..`ranks` and mAP of `embeddings` [N, ...] (flattened to [N, d]) under `protocol`.

    The distances are computed once for all conditions. The embeddings can be on any device or in a memory-mapped file.
    A gallery that fits on `settings.device` is copied to the device only once. If the subject of a probe is missing
    from a gallery view, the probe counts as wrong in this view, as in the published protocol. Sequences whose seq_type
    is not part of the protocol are ignored, and a note in the result counts them.

    Args:
        index: the labels of each embedding.
        protocol: a protocol, or the name of a data set.
        settings: device, memory limit and other settings of the computation (default: `Streaming()`).

    Raises UserError if there are no probes, no gallery, or embeddings that are not finite. Raises ValueError if
    `embeddings` and `index` have different lengths.
    """
    if len(embeddings) != len(index):
        raise ValueError(f"each sequence needs one embedding, got {len(embeddings)} for {len(index)} sequences")
    protocol = protocol_of(protocol) if isinstance(protocol, str) else protocol
    plan = plan_of(index.seq_type, index.view, protocol)
    flat = torch.as_tensor(embeddings).detach().flatten(1)
    squares = squared_length(flat)
    _check_finite(squares, index)
    settings = settings or Streaming()
    settings = replace(settings, device=settings.device or flat.device)
    subject_ids = _numbered(index.subject.tolist())
    if settings.statistics is not None:
        settings.statistics.begin(plan, subject_ids, squares, settings.device)
    impostors = count_closer_impostors(flat, squares, subject_ids, plan, settings)
    if settings.statistics is not None:
        settings.statistics.finish()
    notes = (*notes_on_subjects(index.subject, plan), *_collapse_notes(flat), *plan.notes)
    return _tabulate(impostors, plan, protocol, ranks, index.subject, notes)


def _numbered(names: Sequence[str]) -> np.ndarray:
    """Return a number from 0 for each name, in order of first appearance: [N] int64."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))


def _tabulate(
    impostors: Tensor, plan: Plan, protocol: Protocol, ranks: int, subjects: np.ndarray, notes: tuple[str, ...]
) -> CrossViewResult:
    blocks = impostors.split(TABLE_CHUNK)
    hits = torch.cat([rank_hits(block, ranks) for block in blocks]).numpy()  # [m, v, k]
    precision = torch.cat([average_precision(block) for block in blocks]).numpy()  # [m, v]
    no_mate = (impostors[..., 0] < 0).numpy()  # [m, v]
    c, v = len(plan.conditions), len(plan.views)
    accuracy, mean_precision = np.full((c, v, v, ranks), np.nan), np.full((c, v, v), np.nan)
    counts, without_mate = np.zeros((c, v), np.int64), np.zeros((c, v, v), np.int64)
    enrolled = plan.gallery_counts > 0
    for i, j in np.ndindex(c, v):
        probes = np.flatnonzero((plan.probe_condition == i) & (plan.probe_view == j))
        counts[i, j] = len(probes)
        if not len(probes):
            continue
        # Compute hits * 100 / probes in this order, as the original does, so that the values round in the same way.
        accuracy[i, j, enrolled] = hits[probes].sum(axis=0)[enrolled] * 100 / len(probes)
        mean_precision[i, j, enrolled] = precision[probes].mean(axis=0)[enrolled] * 100
        without_mate[i, j, enrolled] = no_mate[probes].sum(axis=0)[enrolled]
    notes = (*notes, *_coverage_notes(plan, counts, without_mate, ranks))
    tables = accuracy, mean_precision, counts, plan.gallery_counts, without_mate
    subject_hits = SubjectHits.count(hits[..., 0], subjects[plan.probe_rows], plan)
    enrolled_subjects = len(np.unique(subjects[plan.gallery_rows]))
    return CrossViewResult(protocol, plan.conditions, plan.views, *tables, notes, subject_hits, enrolled_subjects)


def notes_on_subjects(subjects: Sequence[str], plan: Plan) -> list[str]:
    """Return a note if a gallery contains only one subject, because rank-1 is then the same for any model."""
    names = np.asarray(subjects)
    starts = np.cumsum(plan.gallery_counts)[:-1]
    enrolled = [set(names[rows].tolist()) for rows in np.split(plan.gallery_rows, starts)]
    everybody = set().union(*enrolled)
    if len(everybody) == 1:
        only_it = set(names[plan.probe_rows].tolist()) == everybody
        return [
            f"the gallery contains one subject ({everybody.pop()}): rank-1 is {'100 %' if only_it else 'the same'} for "
            "any model and says nothing about the model; test two or more subjects"
        ]
    single = [view for view, of_view in zip(plan.views, enrolled, strict=True) if len(of_view) == 1]
    if not single:
        return []
    return [f"one subject in the gallery of view {', '.join(single)}: rank-1 in these cells is the same for any model"]


def _collapse_notes(embeddings: Tensor, sample: int = 64) -> list[str]:
    """Return a warning if `sample` embeddings, evenly spaced in the data, are almost equal."""
    rows = embeddings[torch.linspace(0, len(embeddings) - 1, min(sample, len(embeddings))).long()].float()
    spread = (rows - rows.mean(0)).norm(dim=1).max()
    if len(rows) < 2 or spread > 1e-4 * rows.norm(dim=1).mean():
        return []
    return [
        f"the embeddings of {len(rows)} sequences are almost equal: the network has collapsed, or all sequences are "
        "the same; the figures of this result say nothing about people"
    ]


def _coverage_notes(plan: Plan, counts: np.ndarray, without_mate: np.ndarray, ranks: int) -> list[str]:
    notes = []
    absent = [view for view, n in zip(plan.views, plan.gallery_counts, strict=True) if not n]
    small = [f"{view} ({n})" for view, n in zip(plan.views, plan.gallery_counts, strict=True) if 0 < n < ranks]
    if absent:
        notes.append(f"no gallery sequence in view {', '.join(absent)}: these cells are empty")
    if small:
        notes.append(
            f"fewer than {ranks} gallery sequences in view {', '.join(small)}: higher ranks cover the whole gallery"
        )
    for condition, row, missing in zip(plan.conditions, counts, without_mate, strict=True):
        empty = [view for view, n in zip(plan.views, row, strict=True) if not n]
        if empty:
            notes.append(f"{condition} has no probe in view {', '.join(empty)}: these cells are empty")
        if missing.any():
            look_ups = int(row.sum()) * int((plan.gallery_counts > 0).sum())
            notes.append(
                f"{condition}: in {int(missing.sum())} of {look_ups} look-ups of a probe in a gallery view, the view "
                "contains no sequence of the subject; these look-ups count as wrong"
            )
    return notes


def _check_finite(squares: Tensor, index: SequenceIndex) -> None:
    # |p|^2 + |g|^2 - 2 p.g is at most four times the larger square, so squared distances cannot overflow either.
    bad = (~(4 * squares < INFINITE)).nonzero().flatten().tolist()
    if bad:
        raise UserError(
            f"cannot compute distances: {len(bad)} of {len(squares)} embeddings are not finite or too large to square, "
            f"the first of them for sequence {index.name(bad[0])}; check the checkpoint and the precision of the run"
        )
