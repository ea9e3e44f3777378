"""The page that sets two results side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from model.evaluation.bootstrap import OVERALL, Difference
from model.evaluation.subject_hits import SubjectHits
from model.report.charts import Chart, Line, check_matplotlib, line_chart
from model.report.comparison import METHOD, Comparison, Run, answer
from model.report.html import Section, heads, page, paragraph, side_by_side, table, words_row
from model.report.page import write_page
from model.report.palette import SERIES

PEOPLE_SHOWN = 10
FACTS = ("model", "command", "commit", "device", "machine", "time")


def write_comparison(found: Comparison, path: Path, quiet: bool = True) -> Path:
    """Write the page to `path`, its figures as PNG into `<its stem>-figures` beside it, whose path is returned."""
    check_matplotlib()
    charts: list[Chart] = [_forest(found), *_by_view(found), _by_person(found)]
    forest, *of_views, people = (chart.figure() for chart in charts)
    tables = [_table(kind, rows) for kind, rows in found.rows.items()]
    sections = [
        Section("difference", "The difference", forest + side_by_side(tables) + paragraph(METHOD, "soft")),
        Section("views", "Rank-1 of each probe view", f'<div class="figures">{"".join(of_views)}</div>', "Views"),
        Section("people", "Who gains, who loses", people + _people(found), "People"),
        Section("made", "How they were made", _made("A", found.first) + _made("B", found.second), "Made"),
    ]
    head = paragraph(found.verdict, "lead") + (
        f"<p>A: <b>{escape(str(found.first.path))}</b><br>B: <b>{escape(str(found.second.path))}</b></p>"
        + paragraph(f"Both on the same probes of the same {len(found.first.hits.subjects):,} people.", "soft")
    )
    text = page(f"Two results on {found.first.content['protocol']['name']}", head, sections)
    return write_page(path, text, charts, quiet)


def _table(kind: str, rows: Sequence[Difference]) -> str:
    lines = [
        words_row(
            r.condition,
            [f"{r.first:.2f}", f"{r.second:.2f}", f"{r.difference:+.2f}", f"{r.low:+.2f} to {r.high:+.2f}",
             f"{r.p:.4f}", answer(r)],
        )
        for r in rows
    ]  # fmt: skip
    names = ["A", "B", "B - A", "95 % interval", "p", "more than chance?"]
    return table(f"Rank-1 in percent, {kind} identical views", heads("", names, last_is_words=True), lines)


def _forest(found: Comparison) -> Chart:
    rows = list(reversed(found.rows[found.kind]))

    def draw(axes, ink: Mapping[str, str]) -> None:
        axes.axvline(0, color=ink["soft"], linewidth=1)
        for place, r in enumerate(rows):
            colour = ink[SERIES[0] if r.more_than_chance else "soft"]
            axes.plot([r.low, r.high], [place, place], color=colour, linewidth=2.4 if r.condition == OVERALL else 1.6)
            axes.plot([r.difference], [place], color=colour, marker="o" if r.more_than_chance else "D", markersize=7,
                      markerfacecolor=colour if r.more_than_chance else "none")  # fmt: skip
        axes.set_yticks(range(len(rows)), [r.condition for r in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("A better  ←  B - A, points of rank-1  →  B better")
        axes.grid(axis="y", visible=False)

    title = f"B - A with 95 % intervals, {found.kind} identical views"
    return Chart("difference", title, found.verdict, draw, (6.2, 0.5 * len(rows) + 1.2))


def _by_view(found: Comparison) -> list[Chart]:
    charts = []
    tables = [_rank1_by_view(run.hits, found.kind) for run in (found.first, found.second)]  # [c, v]
    bottom = max(0.0, np.floor(np.nanmin(tables) / 10) * 10 - 5)
    for i, condition in enumerate(found.first.hits.conditions):
        known = ~np.isnan(tables[0][i])
        views = [view for view, there in zip(found.first.hits.views, known, strict=True) if there]
        lines = [Line(name, views, tables[place][i][known], place) for place, name in enumerate("AB")]
        gains = (tables[1] - tables[0])[i][known]
        figures = ", ".join(f"{view} {gain:+.1f}" for view, gain in zip(views, gains, strict=True))
        words = (f"views-{condition}", condition, f"{condition}: B - A by probe view {figures}")
        axes = ("view of the probe", "rank-1 (%)")
        charts.append(line_chart(*words, lines, *axes, y_range=(bottom, 101.5)))
    return charts


def _rank1_by_view(hits: SubjectHits, kind: str) -> np.ndarray:
    look_ups = hits.look_ups(kind).sum(axis=0)
    return 100 * getattr(hits, kind).sum(axis=0) / np.where(look_ups > 0, look_ups, np.nan)


def _gains(found: Comparison) -> np.ndarray:
    """B - A of each subject, mean over conditions: [s]."""
    of = [run.hits.of_each_subject(found.kind) for run in (found.first, found.second)]
    return np.nan_to_num(np.nanmean(of[1] - of[0], axis=1))


def _by_person(found: Comparison) -> Chart:
    gains = np.sort(_gains(found))

    def draw(axes, ink: Mapping[str, str]) -> None:
        axes.axhline(0, color=ink["soft"], linewidth=1)
        x = np.arange(1, len(gains) + 1)
        for better, role, hatch in ((gains > 0, SERIES[0], ""), (gains < 0, SERIES[1], "///")):
            colour = ink[role]
            face = "none" if hatch else colour
            axes.bar(x[better], gains[better], width=0.8, facecolor=face, edgecolor=colour, hatch=hatch)
        axes.set_xlabel("people, from who loses most to who gains most")
        axes.set_ylabel("B - A (points)")

    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    says = f"{better} people are recognised better by B, {worse} worse, {len(gains) - better - worse} alike"
    return Chart("people", says, says, draw, (6.2, 3.0))


def _people(found: Comparison) -> str:
    gains, names = _gains(found), found.first.hits.subjects
    order = np.argsort(gains, kind="stable")
    tables = []
    for caption, chosen in (("They lose most", order[:PEOPLE_SHOWN]), ("They gain most", order[::-1][:PEOPLE_SHOWN])):
        sign = -1 if "lose" in caption else 1
        rows = [f"<tr><th>{escape(names[i])}</th><td>{gains[i]:+.1f}</td></tr>" for i in chosen if gains[i] * sign > 0]
        if rows:
            tables.append(table(caption, heads("who", ["B - A"]), rows))
    return side_by_side(tables)


def _made(name: str, run: Run) -> str:
    details = run.content.get("details") or {}
    shown = {key: details[key] for key in FACTS if details.get(key)}
    facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in shown.items())
    return f"<h3>{name}: {escape(run.path.name)}</h3><dl>{facts}</dl>"
