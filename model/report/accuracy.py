"""Compute the report's sections on accuracy: confidence intervals, published results, views, heat maps and ranks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from model.evaluation.bootstrap import intervals
from model.evaluation.protocols import PublishedRow
from model.report.charts import Chart, Line, heat_map, line_chart, percent_limits, view_chart
from model.report.report_inputs import ReportInputs

RANKS_SHOWN = (1, 2, 3, 4, 5, 10, 15, 20)
RANK_TICKS = (1, 5, 10, 15, 20)


def confidence_intervals(inputs: ReportInputs) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of rank-1 per condition; empty without figures or with fewer than two subjects."""
    hits = inputs.result.subject_hits
    if not inputs.with_figures or len(hits.subjects) < 2:
        return {}
    return dict(zip(hits.conditions, intervals(hits, inputs.kind), strict=True))


def published(inputs: ReportInputs) -> dict[str, Any] | None:
    """Rank-1 next to published figures; None if the protocol has no published figures."""
    protocol = inputs.result.protocol
    if not protocol.published:
        return None
    conditions = list(protocol.probes)
    tables = {}
    for kind in ("including", "excluding"):
        rows = [("this result", inputs.rank1(kind)), *((row.label, getattr(row, kind)) for row in protocol.published)]
        tables[kind] = [[label, *map(rank1.get, conditions)] for label, rank1 in rows if rank1]
    return {"conditions": conditions, "tables": tables}


def views(inputs: ReportInputs) -> dict[str, Any] | None:
    """Rank-1 per probe view, excluding identical views; None if there is a single view."""
    if inputs.kind == "including":
        return None
    result = inputs.result
    tables = result.per_probe_view()
    reference = next((row for row in result.protocol.published if row.per_view), None)
    return {
        "rows": [[view, *(tables[condition].get(view) for condition in result.conditions)] for view in result.views],
        "reference": reference,
        "charts": _view_charts(tables, reference) if inputs.with_figures else [],
    }


def _view_charts(tables: Mapping[str, Mapping[str, float]], reference: PublishedRow | None) -> list[Chart]:
    """Return one chart per condition, all with the same y axis."""
    published_tables = reference.per_view if reference else {}
    limits = percent_limits([x for t in (*tables.values(), *published_tables.values()) for x in t.values()])
    charts = []
    for style, (condition, rank1) in enumerate(tables.items()):
        lines = [Line("this result", list(rank1), list(rank1.values()), style)]
        theirs = published_tables.get(condition, {})
        if rank1.keys() <= theirs.keys():
            lines.append(Line("GaitSet as published", list(rank1), [theirs[view] for view in rank1], reference=True))
        figures = ", ".join(f"{view} {value:.1f}" for view, value in rank1.items())
        description = f"{condition}, rank-1 in percent per probe view: {figures}"
        charts.append(view_chart(condition, description, lines, limits, "lower center"))
    return charts


def cells(inputs: ReportInputs) -> dict[str, Any]:
    """Heat maps of rank-1, one per condition, with the same colour scale, which starts at a multiple of ten."""
    result = inputs.result
    tables = dict(zip(result.conditions, result.cells(), strict=True))
    low = min(float(np.floor(np.nanmin(result.cells(), initial=100) / 10) * 10), 90.0)
    charts = [heat_map(condition, table, result.views, low) for condition, table in tables.items()]
    return {"tables": tables, "low": low, "charts": charts}


def ranks(inputs: ReportInputs) -> dict[str, Any]:
    """Higher ranks and mean average precision, with curves if `inputs.with_figures` is set."""
    result = inputs.result
    precision = result.mean_average_precision()
    tables = {}
    for kind in dict.fromkeys(("including", inputs.kind)):
        at_rank = getattr(result, kind)
        tables[kind] = [[f"rank-{rank}", *at_rank(rank).values()] for rank in RANKS_SHOWN if rank <= result.ranks]
        tables[kind].append(["mAP", *(precision[condition][kind] for condition in result.conditions)])
    return {"tables": tables, "charts": [_cmc_chart(inputs)] if inputs.with_figures else []}


def _cmc_chart(inputs: ReportInputs) -> Chart:
    """Draw the cumulative match characteristic (CMC): one curve per condition."""
    result = inputs.result
    x = list(range(1, result.ranks + 1))
    at_rank = [getattr(result, inputs.kind)(rank) for rank in x]
    curves = {condition: [values[condition] for values in at_rank] for condition in result.conditions}
    lines = [Line(name, x, curve, style) for style, (name, curve) in enumerate(curves.items())]
    description = "; ".join(
        f"{name}: rank-1 {curve[0]:.1f}, rank-{x[-1]} {curve[-1]:.1f} percent" for name, curve in curves.items()
    )
    ticks = [rank for rank in RANK_TICKS if rank <= result.ranks]
    limits = percent_limits(list(curves.values()))
    settings = {"xticks": ticks, "ylim": limits, "xlabel": "rank k", "ylabel": "probes identified (%)"}
    title = f"Cumulative matches, {inputs.kind} identical views"
    return line_chart("cmc", title, description, lines, settings, "lower right")
