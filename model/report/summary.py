"""Summary of a result in a few sentences, for readers who want to know whether the model works."""

from __future__ import annotations

from collections import Counter

import numpy as np

from model.report.report_inputs import ReportInputs


def summary(inputs: ReportInputs) -> list[str]:
    """Return one paragraph each on the accuracy, the weakest views and the most frequent confusions."""
    return [text for text in (_accuracy(inputs), _weakest_views(inputs), _confusions(inputs)) if text]


def _accuracy(inputs: ReportInputs) -> str:
    rank1 = [f"{value:.0f} ({condition})" for condition, value in inputs.rank1().items() if not np.isnan(value)]
    if not rank1:
        return ""
    other_view = ", although the gallery shows another view" if inputs.kind == "excluding" else ""
    text = f"Of 100 probes, the model identifies {_listed(rank1)} correctly{other_view}."
    hits = inputs.result.subject_hits
    if hits is not None and len(hits.subjects) > 1:
        text += (
            f" Random guesses among {len(hits.subjects):,} people would be right {100 / len(hits.subjects):.2g} times."
        )
    return text


def _weakest_views(inputs: ReportInputs) -> str:
    """Name the probe view with the lowest and the highest rank-1, and the hardest pair of views."""
    result = inputs.result
    values_per_view = {
        view: [t[view] for t in result.per_probe_view().values() if not np.isnan(t.get(view, np.nan))]
        for view in result.views
    }
    mean = {view: np.mean(values) for view, values in values_per_view.items() if values}
    if not mean or len(result.views) < 3:
        return ""
    worst, best = min(mean, key=mean.get), max(mean, key=mean.get)
    if mean[worst] == mean[best]:
        return ""
    # Mean over the conditions of each pair of different views, [v, v]; NaN if no condition has the pair.
    cells = result.cells().copy()
    cells[:, np.arange(len(result.views)), np.arange(len(result.views))] = np.nan
    known = ~np.isnan(cells)
    of_pair = np.where(known, cells, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    probe, gallery = np.unravel_index(np.nanargmin(of_pair), of_pair.shape)
    return (
        f"Rank-1 is lowest for probes from view {worst} ({mean[worst]:.1f} %) and highest for probes from view {best} "
        f"({mean[best]:.1f} %). The hardest pair is a probe from {result.views[probe]} and a gallery of "
        f"{result.views[gallery]} ({of_pair[probe, gallery]:.1f} %)."
    )


def _confusions(inputs: ReportInputs) -> str:
    if inputs.distances is None:
        return ""
    if not inputs.confusions:
        return "No probe was matched to another person."
    named = "; ".join(f"{c.subject} taken for {c.taken_for} ({c.times:,} times)" for c in inputs.confusions[:3])
    by_subject: Counter[str] = Counter()
    for confusion in inputs.confusions:
        by_subject[confusion.subject] += confusion.times
    few = sorted(by_subject, key=lambda subject: (-by_subject[subject], subject))[:3]
    share = 100 * sum(by_subject[subject] for subject in few) / by_subject.total()
    return f"Most frequent confusions: {named}. {share:.0f} % of all mistakes concern {_listed(few)}."


def _listed(words: list[str]) -> str:
    """Join words with commas and a final "and"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
