"""Sections on accuracy: the headlines, beside published figures, by view, in cells, by rank."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from model.evaluation.bootstrap import intervals
from model.evaluation.protocols import PublishedRow
from model.evaluation.result import CrossViewResult
from model.report.charts import Chart, Line, heat_map, line_chart
from model.report.html import Section, folded, heads, number, paragraph, row, side_by_side, table
from model.report.material import Material
from model.report.palette import cell_colours


def headlines(material: Material) -> str:
    """A box for each condition: rank-1, its interval over subjects, and what it is with identical views."""
    result, kind = material.result, material.kind
    bounds = dict.fromkeys(result.conditions)
    if material.drawn and result.subject_hits and len(result.subject_hits.subjects) > 1:
        bounds = dict(zip(result.conditions, intervals(result.subject_hits, kind), strict=True))
    boxes = []
    for condition, value in material.rank1().items():
        lines = [f"{kind} identical views"]
        if bounds[condition] is not None:
            low, high = bounds[condition]
            lines.append(f"{number(low, 1)} to {number(high, 1)} for other people (95 %)")
        if kind == "excluding":
            lines.append(f"{number(result.including()[condition], 2)}% including them")
        spans = "".join(f'<span class="soft">{escape(line)}</span>' for line in lines)
        boxes.append(f'<div class="headline">{escape(condition)}<b>{number(value, 2)}%</b>{spans}</div>')
    return f'<div class="headlines">{"".join(boxes)}</div>'


def published(material: Material) -> Section:
    result, body = material.result, ""
    if result.protocol.published:
        conditions = list(result.protocol.probes)
        tables = []
        for kind in ("including", "excluding"):
            ours = material.rank1(kind)
            rows = [row("this result", [ours.get(c) for c in conditions], ' class="ours"')]
            for line in result.protocol.published:
                theirs = getattr(line, kind)
                if theirs:
                    rows.append(row(line.label, [theirs.get(c) for c in conditions]))
            tables.append(table(f"Rank-1 in percent, {kind} identical views", heads("", conditions), rows))
        body = side_by_side(tables)
    return Section("published", "Beside published figures", body, "Published")


def views(material: Material) -> Section:
    result = material.result
    tables = result.per_probe_view()
    if all(np.isnan(value) for of_view in tables.values() for value in of_view.values()):
        return Section("views", "", "")  # a single view: nothing is left without it
    rows = [row(view, [tables[c].get(view) for c in result.conditions], digits=2) for view in result.views]
    caption = "Percent, mean over the gallery views, excluding identical views"
    body = table(caption, heads("view", result.conditions), rows)
    if material.drawn:
        theirs = next((line for line in result.protocol.published if line.per_view), None)
        drawn = "".join(map(material.show, _view_charts(result, tables, theirs)))
        note = f"Dashed: {theirs.label} ({theirs.source})." if theirs else ""
        body = (
            paragraph(
                f"How well each view of a probe is recognised in the galleries of all other views. {note}", "soft"
            )
            + f'<div class="figures">{drawn}</div>'
            + folded("The same as a table", body)
        )
    return Section("views", "Rank-1 of each probe view", body, "Views")


def _view_charts(
    result: CrossViewResult, tables: Mapping[str, Mapping[str, float]], theirs: PublishedRow | None
) -> list[Chart]:
    others = theirs.per_view if theirs else {}
    lowest = np.nanmin([value for source in (tables, others) for t in source.values() for value in t.values()])
    y_range = (max(0.0, np.floor(lowest / 10) * 10 - 5), 101.5)
    charts = []
    for place, condition in enumerate(result.conditions):
        ours = tables[condition]
        known = [view for view in result.views if view in ours]
        lines = [Line("this result", known, [ours[view] for view in known], place)]
        if set(known) <= set(others.get(condition, {})):
            published = [others[condition][view] for view in known]
            lines.append(Line("GaitSet as published", known, published, faint=True))
        figures = ", ".join(f"{view} {ours[view]:.1f}" for view in known)
        says = f"{condition}, rank-1 in percent by view of the probe: {figures}"
        words = (f"views-{condition}", condition, says)
        charts.append(line_chart(*words, lines, "view of the probe", "rank-1 (%)", y_range=y_range, at="lower center"))
    return charts


def cells(material: Material) -> Section:
    result = material.result
    known = result.cells()[~np.isnan(result.cells())]
    low = min(float(np.floor(known.min() / 10) * 10), 90.0) if known.size else 0.0
    gradient = ", ".join(cell_colours(step / 8)[0] for step in range(9))
    parts = [
        f'<p class="legend soft"><span>{low:.0f}%</span>'
        f'<i style="background: linear-gradient(to right, {gradient})"></i><span>100%</span>'
        '<i class="identical"></i><span>identical views</span></p>',
        '<p class="soft">Rows: view of the probe. Columns: of the gallery. One scale for all tables.</p>',
    ]
    # Narrow enough that a few views do not become bars, wide enough that the figures of many do not touch.
    columns = len(result.views)
    widths = f"min-width:{1.85 * columns + 1.9:.1f}rem;max-width:{4.6 * columns + 2.6:.1f}rem"
    attributes = f' class="heat" style="{widths}"'
    for condition, of_condition in zip(result.conditions, result.cells(), strict=True):
        rows = [
            f"<tr><th>{escape(view)}</th>{_heat_cells(values, i, low)}</tr>"
            for i, (view, values) in enumerate(zip(result.views, of_condition, strict=True))
        ]
        parts += [f"<h3>{escape(condition)}</h3>", table("", heads("", result.views), rows, attributes)]
        if material.drawn:
            title = f"{condition}: rank-1 (%) of each probe view in each gallery view"
            material.charts.append(heat_map(f"cells-{condition}", title, title, of_condition, result.views, low))
    return Section("cells", "Rank-1 of each probe view in each gallery view", "\n".join(parts), "Heat maps")


def _heat_cells(values: np.ndarray, identical: int, low: float) -> str:
    """Cells of one probe view: one decimal shown, both on pointing at it."""
    shown = []
    for i, value in enumerate(values):
        mark = ' class="identical"' if i == identical else ""
        if np.isnan(value):
            shown.append(f"<td{mark}>–</td>")
            continue
        background, text = cell_colours((value - low) / (100 - low))
        digits = "100" if value == 100 else f"{value:.1f}"
        shown.append(f'<td{mark} style="background:{background};color:{text}" title="{value:.2f}">{digits}</td>')
    return "".join(shown)


def ranks(material: Material) -> Section:
    result = material.result
    shown = [k for k in (1, 2, 3, 4, 5, 10, 15, 20) if k <= result.ranks]
    precision = result.mean_average_precision()
    tables = []
    for kind, of_rank in (("including", result.including), ("excluding", result.excluding)):
        if all(np.isnan(value) for value in of_rank(1).values()):
            continue
        rows = [row(f"rank-{k}", of_rank(k).values(), digits=2) for k in shown]
        rows.append(row("mAP", [precision[c][kind] for c in result.conditions], digits=2))
        tables.append(table(f"Percent, {kind} identical views", heads("", result.conditions), rows))
    body = side_by_side(tables)
    if material.drawn:
        of_rank = getattr(result, material.kind)
        ks = list(range(1, result.ranks + 1))
        curves = [[of_rank(k)[c] for k in ks] for c in result.conditions]
        lines = [
            Line(c, ks, curve, i, marked=False)
            for i, (c, curve) in enumerate(zip(result.conditions, curves, strict=True))
        ]
        bottom = max(0.0, np.floor(np.nanmin(curves) / 10) * 10 - 5)
        says = "; ".join(
            f"{c}: rank-1 {curve[0]:.1f}, rank-{ks[-1]} {curve[-1]:.1f} percent"
            for c, curve in zip(result.conditions, curves, strict=True)
        )
        chart = line_chart("cmc", f"Cumulative matches, {material.kind} identical views", says, lines, "rank k",
                           "right one among k (%)", y_range=(bottom, 101.5), at="lower right",
                           x_ticks=[k for k in (1, 5, 10, 15, 20) if k <= result.ranks])  # fmt: skip
        body = f'<div class="figures">{material.show(chart)}<div>{body}</div></div>'
    return Section("ranks", "Higher ranks and mAP", body, "Ranks")
