"""Write an HTML page that compares two results."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model.evaluation.bootstrap import OVERALL, Difference
from model.evaluation.subject_hits import mean_of_known
from model.report.charts import Chart, Line, check_matplotlib, percent_limits, view_chart
from model.report.comparison import METHOD, Comparison, answer
from model.report.page import Page, write_page
from model.report.palette import SERIES
from model.report.render import render, render_page

MAX_PEOPLE = 10
DETAILS_SHOWN = ("model", "command", "commit", "device", "machine", "time")


def write_comparison(comparison: Comparison, path: Path, quiet: bool = True) -> Path:
    """Write the page to `path`, and its charts as PNG files. Return the folder of the PNG files.

    Raises:
        UserError: matplotlib cannot be imported.
    """
    check_matplotlib()
    return write_page(path, comparison_page(comparison), quiet)


def comparison_page(comparison: Comparison) -> Page:
    """Render the page of a comparison."""
    intervals, view_charts, people = _interval_chart(comparison), _view_charts(comparison), _people_chart(comparison)
    tables = {kind: [_table_row(row) for row in rows] for kind, rows in comparison.rows.items()}
    runs = {"A": comparison.first, "B": comparison.second}
    values = (
        ("difference", "Difference", {"chart": intervals, "tables": tables, "method": METHOD}),
        ("views", "Views", {"charts": view_charts}),
        ("people", "People", {"chart": people, "tables": _largest_changes(comparison)}),
        ("made", "Details", {"runs": runs, "shown_details": DETAILS_SHOWN}),
    )
    sections = [(anchor, label, render(f"comparison_{anchor}", **shown)) for anchor, label, shown in values]
    head = render("comparison_head", verdict=comparison.verdict, runs=runs)
    title = f"Two results on {comparison.first.content['protocol']['name']}"
    return Page(render_page(title, head, sections), [intervals, *view_charts, people])


def _table_row(row: Difference) -> list[str]:
    figures = [f"{row.first:.2f}", f"{row.second:.2f}", f"{row.difference:+.2f}", f"{row.low:+.2f} to {row.high:+.2f}"]
    return [row.condition, *figures, f"{row.p:.4f}", answer(row)]


def _interval_chart(comparison: Comparison) -> Chart:
    """Draw the differences and their intervals, with the mean at the top and the conditions below it."""
    rows = list(reversed(comparison.rows[comparison.kind]))

    def draw(axes, colours: Mapping[str, str]) -> None:
        axes.axvline(0, color=colours["soft"], linewidth=1)
        for y, row in enumerate(rows):
            significant = row.more_than_chance
            colour = colours[SERIES[0] if significant else "soft"]
            axes.plot([row.low, row.high], [y, y], color=colour, linewidth=2.4 if row.condition == OVERALL else 1.6)
            axes.plot([row.difference], [y], color=colour, marker="o" if significant else "D", markersize=7,
                      markerfacecolor=colour if significant else "none")  # fmt: skip
        axes.set_yticks(range(len(rows)), [row.condition for row in rows])
        axes.set(ylim=(-0.6, len(rows) - 0.4), xlabel="A better  ←  B - A, points of rank-1  →  B better")
        axes.grid(axis="y", visible=False)

    title = f"B - A with 95 % intervals, {comparison.kind} identical views"
    return Chart("difference", title, comparison.verdict, draw, (6.2, 0.5 * len(rows) + 1.2))


def _view_charts(comparison: Comparison) -> list[Chart]:
    """Return one chart of rank-1 per probe view for each condition. All charts have the same y axis."""
    hits = comparison.first.hits
    first, second = (run.hits.percentages(comparison.kind, axis=0) for run in (comparison.first, comparison.second))
    charts = []
    for condition, a, b in zip(hits.conditions, first, second, strict=True):
        known = ~np.isnan(a)
        views = [view for view, is_known in zip(hits.views, known, strict=True) if is_known]
        lines = [Line("A", views, a[known]), Line("B", views, b[known], style=1)]
        gains = ", ".join(f"{view} {gain:+.1f}" for view, gain in zip(views, (b - a)[known], strict=True))
        description = f"{condition}: B - A per probe view {gains}"
        charts.append(view_chart(condition, description, lines, percent_limits([first, second])))
    return charts


def _gains(comparison: Comparison) -> np.ndarray:
    """Return the difference in rank-1 (B - A) of each subject, averaged over conditions: [s]."""
    first, second = (run.hits.percentages(comparison.kind, axis=2) for run in (comparison.first, comparison.second))
    return np.nan_to_num(mean_of_known(second - first))


def _people_chart(comparison: Comparison) -> Chart:
    """Draw the differences (B - A) of all subjects as bars in ascending order."""
    gains = np.sort(_gains(comparison))

    def draw(axes, colours: Mapping[str, str]) -> None:
        axes.axhline(0, color=colours["soft"], linewidth=1)
        x = np.arange(1, len(gains) + 1)
        for chosen, role, hatch in ((gains > 0, SERIES[0], ""), (gains < 0, SERIES[1], "///")):
            face = "none" if hatch else colours[role]
            axes.bar(x[chosen], gains[chosen], width=0.8, facecolor=face, edgecolor=colours[role], hatch=hatch)
        axes.set(xlabel="people, by B - A in ascending order", ylabel="B - A (points)")

    better, worse, equal = ((np.sign(gains) == sign).sum() for sign in (1, -1, 0))
    description = f"Compared with A, B recognizes {better} people better, {worse} worse and {equal} equally well"
    return Chart("people", description, description, draw, (6.2, 3.0))


def _largest_changes(comparison: Comparison) -> dict[str, list[list[str]]]:
    """Return tables with the names and B - A of at most `MAX_PEOPLE` subjects with the largest losses and gains."""
    gains, names = _gains(comparison), comparison.first.hits.subjects
    order = np.argsort(gains, kind="stable")
    tables = {
        "Largest losses": [i for i in order[:MAX_PEOPLE] if gains[i] < 0],
        "Largest gains": [i for i in order[::-1][:MAX_PEOPLE] if gains[i] > 0],
    }
    return {caption: [[names[i], f"{gains[i]:+.1f}"] for i in chosen] for caption, chosen in tables.items() if chosen}
