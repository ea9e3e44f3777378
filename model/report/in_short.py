"""The result in a few sentences, for who asks whether it works."""

from __future__ import annotations

import numpy as np

from model.evaluation.mistakes import confusions, look_ups
from model.report.material import Material


def in_short(material: Material) -> list[str]:
    """One paragraph each: how good, where it is weak, whom it confuses."""
    return [text for text in (_how_good(material), _where_weak(material), _whom(material)) if text]


def _how_good(material: Material) -> str:
    rank1 = {c: value for c, value in material.rank1().items() if not np.isnan(value)}
    if not rank1:
        return ""
    figures = ", ".join(f"{value:.0f} with {condition}" for condition, value in rank1.items())
    others = "seen from another side" if material.kind == "excluding" else "in the gallery"
    text = f"Of 100 probes the right person is found, {others}: {figures}."
    hits = material.result.subject_hits
    if hits is not None and len(hits.subjects) > 1:
        text += f" Guessing among {len(hits.subjects):,} people would find {100 / len(hits.subjects):.2g}."
    return text


def _where_weak(material: Material) -> str:
    result = material.result
    tables = {c: {v: x for v, x in t.items() if not np.isnan(x)} for c, t in result.per_probe_view().items()}
    if not any(tables.values()) or len(result.views) < 3:
        return ""
    mean = {
        v: np.mean([t[v] for t in tables.values() if v in t])
        for v in result.views
        if any(v in t for t in tables.values())
    }
    worst, best = min(mean, key=mean.get), max(mean, key=mean.get)
    text = f"Probes from view {worst} are recognised worst ({mean[worst]:.1f} %), from {best} best ({mean[best]:.1f} %)"
    cells = result.cells().copy()
    cells[:, np.arange(len(result.views)), np.arange(len(result.views))] = np.nan
    known = ~np.isnan(cells)
    of_pair = np.where(known, cells, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    i, j = np.unravel_index(np.nanargmin(of_pair), of_pair.shape)
    return (
        text
        + f"; hardest is a probe from {result.views[i]} in the gallery of {result.views[j]} ({of_pair[i, j]:.1f} %)."
    )


def _whom(material: Material) -> str:
    if material.record is None or material.index is None:
        return ""
    found = confusions(material.record, look_ups(material.record), material.index.subject)
    if not found:
        return "Nobody was taken for anybody else."
    total = sum(c.times for c in found)
    named = "; ".join(f"{c.subject} for {c.taken_for} ({c.times:,} times)" for c in found[:3])
    by_subject: dict[str, int] = {}
    for confusion in found:
        by_subject[confusion.subject] = by_subject.get(confusion.subject, 0) + confusion.times
    few = sorted(by_subject, key=lambda s: (-by_subject[s], s))[:3]
    share = 100 * sum(by_subject[s] for s in few) / total
    return f"It most often takes {named}. {share:.0f} % of all mistakes are about {', '.join(few)}."
