"""Sections on accuracy: headline figures, published results, views, heat maps and ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from model.evaluation.bootstrap import intervals
from model.evaluation.protocols import PublishedRow
from model.evaluation.result import CrossViewResult
from model.report.charts import Chart, Line, cell_label, heat_map, line_chart, percent_limits
from model.report.palette import cell_colours
from model.report.render import number, numbers
from model.report.report_inputs import ReportInputs

RANKS_SHOWN = (1, 2, 3, 4, 5, 10, 15, 20)
RANK_TICKS = (1, 5, 10, 15, 20)


class HeadlineFigure(NamedTuple):
    """Rank-1 of a condition, its 95 % interval, and the rank-1 including identical views; None if not shown."""

    condition: str
    rank1: str
    interval: tuple[str, str] | None
    including: str | None


class HeatMapCell(NamedTuple):
    """Cell of a heat map: colours, the figure with one decimal and with two, and whether both views are identical."""

    background: str
    colour: str
    label: str
    full: str
    identical: bool


def headline_figures(inputs: ReportInputs) -> list[HeadlineFigure]:
    """Return the rank-1 of each condition, with a confidence interval if figures are wanted."""
    result, kind = inputs.result, inputs.kind
    bounds = dict.fromkeys(result.conditions)
    if inputs.with_figures and result.subject_hits and len(result.subject_hits.subjects) > 1:
        bounds |= zip(result.conditions, intervals(result.subject_hits, kind), strict=True)
    including = result.including()
    return [
        HeadlineFigure(
            condition,
            number(value, 2),
            None if bounds[condition] is None else tuple(numbers(bounds[condition], 1)),
            number(including[condition], 2) if kind == "excluding" else None,
        )
        for condition, value in inputs.rank1().items()
    ]


def published(inputs: ReportInputs) -> dict[str, Any] | None:
    """Compare the rank-1 with published figures; None if the protocol has none."""
    protocol = inputs.result.protocol
    if not protocol.published:
        return None
    conditions = list(protocol.probes)
    tables = {}
    for kind in ("including", "excluding"):
        rows = [("this result", inputs.rank1(kind)), *((row.label, getattr(row, kind)) for row in protocol.published)]
        tables[kind] = [[label, *numbers(map(values.get, conditions))] for label, values in rows if values]
    return {"conditions": conditions, "tables": tables}


def views(inputs: ReportInputs) -> dict[str, Any] | None:
    """Rank-1 per probe view, excluding identical views; None if there is a single view."""
    result = inputs.result
    tables = result.per_probe_view()
    if all(np.isnan(value) for of_view in tables.values() for value in of_view.values()):
        return None
    rows = [[view, *numbers((tables[c].get(view) for c in result.conditions), 2)] for view in result.views]
    reference = next((row for row in result.protocol.published if row.per_view), None)
    charts = _view_charts(result, tables, reference) if inputs.with_figures else []
    return {"conditions": result.conditions, "rows": rows, "reference": reference, "charts": charts}


def _view_charts(
    result: CrossViewResult, tables: Mapping[str, Mapping[str, float]], reference: PublishedRow | None
) -> list[Chart]:
    """One chart per condition, with the same y axis for all."""
    published_tables = reference.per_view if reference else {}
    all_values = [x for source in (tables, published_tables) for of_view in source.values() for x in of_view.values()]
    charts = []
    for style, (condition, rank1) in enumerate(tables.items()):
        known = [view for view in result.views if view in rank1]
        lines = [Line("this result", known, [rank1[view] for view in known], style)]
        theirs = published_tables.get(condition, {})
        if set(known) <= set(theirs):
            lines.append(Line("GaitSet as published", known, [theirs[view] for view in known], reference=True))
        figures = ", ".join(f"{view} {rank1[view]:.1f}" for view in known)
        description = f"{condition}, rank-1 in percent per probe view: {figures}"
        settings = {"ylim": percent_limits(all_values), "xlabel": "probe view", "ylabel": "rank-1 (%)"}
        charts.append(line_chart(f"views-{condition}", condition, description, lines, settings, "lower center"))
    return charts


def cells(inputs: ReportInputs) -> dict[str, Any]:
    """One heat map per condition, all with one colour scale that starts at a multiple of ten."""
    result = inputs.result
    all_cells = result.cells()
    known = all_cells[~np.isnan(all_cells)]
    low = min(float(np.floor(known.min() / 10) * 10), 90.0) if known.size else 0.0
    rows, charts = {}, []
    for condition, of_condition in zip(result.conditions, all_cells, strict=True):
        rows[condition] = [
            (view, [_heat_map_cell(value, i == j, low) for j, value in enumerate(values)])
            for i, (view, values) in enumerate(zip(result.views, of_condition, strict=True))
        ]
        title = f"{condition}: rank-1 (%) per probe view and gallery view"
        charts.append(heat_map(f"cells-{condition}", title, of_condition, result.views, low))
    return {
        "views": result.views,
        "rows": rows,
        "low": f"{low:.0f}",
        "gradient": ", ".join(cell_colours(step / 8)[0] for step in range(9)),
        # Narrow enough that few views do not become bars, wide enough that the figures of many views do not touch.
        "min_width": f"{1.85 * len(result.views) + 1.9:.1f}",
        "max_width": f"{4.6 * len(result.views) + 2.6:.1f}",
        "charts": charts,
    }


def _heat_map_cell(value: float, identical: bool, low: float) -> HeatMapCell:
    if np.isnan(value):
        return HeatMapCell("", "", "–", "", identical)
    return HeatMapCell(*cell_colours((value - low) / (100 - low)), cell_label(value), f"{value:.2f}", identical)


def ranks(inputs: ReportInputs) -> dict[str, Any]:
    """Higher ranks and mean average precision, with a CMC curve if figures are wanted."""
    result = inputs.result
    precision = result.mean_average_precision()
    tables = {}
    for kind in ("including", "excluding") if inputs.kind == "excluding" else ("including",):
        at_rank = getattr(result, kind)
        shown = [rank for rank in RANKS_SHOWN if rank <= result.ranks]
        tables[kind] = [[f"rank-{rank}", *numbers(at_rank(rank).values(), 2)] for rank in shown]
        tables[kind].append(["mAP", *numbers((precision[c][kind] for c in result.conditions), 2)])
    charts = [_cmc_chart(inputs)] if inputs.with_figures else []
    return {"conditions": result.conditions, "tables": tables, "charts": charts}


def _cmc_chart(inputs: ReportInputs) -> Chart:
    """Cumulative match characteristic: one curve per condition."""
    result = inputs.result
    x = list(range(1, result.ranks + 1))
    at_rank = [getattr(result, inputs.kind)(rank) for rank in x]
    curves = {condition: [values[condition] for values in at_rank] for condition in result.conditions}
    lines = [Line(name, x, curve, style, markers=False) for style, (name, curve) in enumerate(curves.items())]
    description = "; ".join(
        f"{name}: rank-1 {curve[0]:.1f}, rank-{x[-1]} {curve[-1]:.1f} percent" for name, curve in curves.items()
    )
    settings = {
        "xticks": [rank for rank in RANK_TICKS if rank <= result.ranks],
        "ylim": percent_limits(list(curves.values())),
        "xlabel": "rank k",
        "ylabel": "probes identified (%)",
    }
    title = f"Cumulative matches, {inputs.kind} identical views"
    return line_chart("cmc", title, description, lines, settings, "lower right")
