"""Summarize a result in a few sentences: accuracy, weakest views and most frequent confusions."""

from collections import Counter
from typing import Any

import numpy as np

from model.common.natural_order import natural_key
from model.evaluation.subject_hits import mean_of_known
from model.report.report_inputs import ReportInputs


def summary(inputs: ReportInputs) -> dict[str, Any]:
    """Return the values of templates/summary.html."""
    by_subject = Counter()
    for confusion in inputs.confusions if inputs.distances is not None else ():
        by_subject[confusion.subject] += confusion.times
    most_mistaken = sorted(by_subject, key=lambda subject: (-by_subject[subject], natural_key(subject)))[:3]
    return {
        "rank1": {condition: value for condition, value in inputs.rank1().items() if not np.isnan(value)},
        "people": len(inputs.result.subject_hits.subjects),
        "views": _weakest_views(inputs),
        "most_mistaken": most_mistaken,
        "share": 100 * sum(by_subject[subject] for subject in most_mistaken) / max(1, by_subject.total()),
    }


def _weakest_views(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return the probe views with the lowest and the highest rank-1, and the hardest pair of views.

    Return None if there are fewer than three views, or if all views have the same rank-1.
    """
    result = inputs.result
    tables = result.per_probe_view().values()
    values = {view: [t[view] for t in tables if not np.isnan(t.get(view, np.nan))] for view in result.views}
    mean = {view: np.mean(of_view) for view, of_view in values.items() if of_view}
    if len(result.views) < 3 or len(set(mean.values())) < 2:
        return None
    # Mean over the conditions of each pair of different views, [v, v]; NaN if no condition has the pair.
    cells = result.cells().copy()
    cells[:, np.arange(len(result.views)), np.arange(len(result.views))] = np.nan
    of_pair = mean_of_known(cells, axis=0)
    probe, gallery = np.unravel_index(np.nanargmin(of_pair), of_pair.shape)
    return {
        "worst": min(mean.items(), key=lambda item: item[1]),
        "best": max(mean.items(), key=lambda item: item[1]),
        "hardest_pair": (result.views[probe], result.views[gallery], of_pair[probe, gallery]),
    }
