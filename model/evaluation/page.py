"""One self-contained HTML page of an evaluation: no network, no script, light and dark, any width."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from model.evaluation.result import IDENTICAL_VIEWS, CrossViewResult, without_nan

# One hue, light to dark: told apart without colour vision too. Equal steps along the scale of a heat map.
_SCALE = ((240, 246, 252), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1b1f24; --soft: #57606a; --line: #d5dae0;
  --panel: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --text: #e8eaed; --soft: #a5adb7; --line: #3a424c; --panel: #1d2127; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; }
.soft { color: var(--soft); font-size: .875rem; }
.headlines { display: grid; grid-template-columns: repeat(auto-fit, minmax(6.2rem, 1fr)); gap: .75rem;
  margin: 1rem 0; }
.headline { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem .9rem; }
.headline b { display: block; font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.headline span { display: block; line-height: 1.3; margin-top: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .2rem 0 .9rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--page); font-weight: 500;
  padding-left: 0; white-space: normal; }
tr.ours td, tr.ours th:first-child { font-weight: 700; }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem; }
.tables > div { min-width: 0; }
.heat { table-layout: fixed; width: 100%; font-size: .8rem; }
.heat th, .heat td { padding: .3rem 0; text-align: center; border: 1px solid var(--page); }
.heat th:first-child { width: 2.6rem; text-align: center; font-weight: 600; }
.heat td.identical { outline: 2px solid currentColor; outline-offset: -3px; }
.legend { display: flex; align-items: center; gap: .5rem; flex-wrap: wrap; }
.legend i { width: 8rem; height: .8rem; border: 1px solid var(--line); }
.legend i.identical { width: 1.1rem; height: 1.1rem; border: 2px solid currentColor; margin-left: 1rem; }
ul { padding-left: 1.2rem; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) minmax(0, 1fr); gap: .3rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
@media (max-width: 30rem) {
  body { padding: .7rem; }
  .headlines { gap: .5rem; }
  .headline { padding: .5rem .6rem; }
  .headline b { font-size: 1.3rem; }
  .headline .soft { font-size: .75rem; }
  th, td { padding: .25rem .4rem; }
  .heat { font-size: .62rem; }
  .heat th:first-child { width: 1.9rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .5rem; }
}
@media print { h2, h3 { break-after: avoid; } table { break-inside: avoid; } }
"""


class Section(NamedTuple):
    """`name` is the anchor; `body` is HTML already."""

    name: str
    title: str
    body: str


def html_page(result: CrossViewResult, details: Mapping[str, Any], more: Sequence[Section] = ()) -> str:
    """The page as text. `details`, plain JSON values: how it was made; `more` sections precede them."""
    sections = [
        Section("published", "Beside published figures", _published(result)),
        Section("views", "Rank-1 of each probe view", _per_view(result)),
        Section("cells", "Rank-1 of each probe view in each gallery view", _heat_maps(result)),
        Section("ranks", "Higher ranks and mAP", _ranks(result)),
        *more,
        Section("made", "How it was made", _made(result, details)),
    ]
    title = f"GaitSet on {escape(result.protocol.name)}"
    body = "\n".join(
        f'<section id="{section.name}">\n<h2>{escape(section.title)}</h2>\n{section.body}\n</section>'
        for section in sections
        if section.body
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{_head(result)}\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def cell_colours(fraction: float) -> tuple[str, str]:
    """Background and text colour (#rrggbb) at `fraction` 0..1 of the scale; contrast at least 4.5 (WCAG)."""
    place = min(max(fraction, 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(place), len(_SCALE) - 2)
    rgb = [round(a + (b - a) * (place - low)) for a, b in zip(_SCALE[low], _SCALE[low + 1], strict=True)]
    # Of black and white one always reaches 4.58: their contrasts with any colour multiply to 21.
    black_is_clearer = (luminance(rgb) + 0.05) ** 2 >= 1.05 * 0.05
    return "#{:02x}{:02x}{:02x}".format(*rgb), "#000000" if black_is_clearer else "#ffffff"


def luminance(rgb: Sequence[int]) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _head(result: CrossViewResult) -> str:
    including, excluding = result.including(), result.excluding()
    several = any(not np.isnan(value) for value in excluding.values())
    large, small = (excluding, including) if several else (including, None)
    kind, other = ("excluding", "including") if several else ("including", "")
    boxes = "".join(
        f'<div class="headline">{escape(condition)}<b>{_figure(value, 2)}%</b>'
        f'<span class="soft">{kind} identical views</span>'
        + (f'<span class="soft">{_figure(small[condition], 2)}% {other} them</span>' if small else "")
        + "</div>"
        for condition, value in large.items()
    )
    probes, galleries = int(result.probe_counts.sum()), int(result.gallery_counts.sum())
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    return (
        "<p>Rank-1: how often the nearest sequence in the gallery is of the right person. "
        f"{probes:,} probes, {galleries:,} gallery sequences, views: {escape(', '.join(result.views))}.</p>\n"
        f'<div class="headlines">{boxes}</div>' + (f"\n<ul>{notes}</ul>" if notes else "")
    )


def _published(result: CrossViewResult) -> str:
    if not result.protocol.published:
        return ""
    conditions = list(result.protocol.probes)
    tables = []
    for place, kind, ours in ((1, "including", result.including()), (2, "excluding", result.excluding())):
        rows = [_row("this result", [ours.get(c) for c in conditions], ' class="ours"')]
        rows += [
            _row(row.label, [row[place].get(c) for c in conditions]) for row in result.protocol.published if row[place]
        ]
        caption = f"Rank-1 in percent, {kind} identical views"
        tables.append(_table(caption, _heads("", conditions), rows))
    return _side_by_side(tables)


def _per_view(result: CrossViewResult) -> str:
    tables = result.per_probe_view()
    if all(np.isnan(value) for table in tables.values() for value in table.values()):
        return ""  # a single view: nothing is left without it
    rows = [_row(view, [table.get(view) for table in tables.values()], digits=2) for view in result.views]
    return _table(
        "Percent, mean over the gallery views, excluding identical views",
        _heads("view", result.conditions),
        rows,
    )


def _heat_maps(result: CrossViewResult) -> str:
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
    for condition, cells in zip(result.conditions, result.cells(), strict=True):
        rows = [
            f"<tr><th>{escape(view)}</th>{_heat_cells(row, i, low)}</tr>"
            for i, (view, row) in enumerate(zip(result.views, cells, strict=True))
        ]
        parts += [f"<h3>{escape(condition)}</h3>", _table("", _heads("", result.views), rows, attributes)]
    return "\n".join(parts)


def _heat_cells(row: np.ndarray, identical: int, low: float) -> str:
    """Cells of one probe view: one decimal shown, both on pointing at it."""
    cells = []
    for i, value in enumerate(row):
        mark = ' class="identical"' if i == identical else ""
        if np.isnan(value):
            cells.append(f"<td{mark}>–</td>")
            continue
        background, text = cell_colours((value - low) / (100 - low))
        shown = "100" if value == 100 else f"{value:.1f}"
        cells.append(f'<td{mark} style="background:{background};color:{text}" title="{value:.2f}">{shown}</td>')
    return "".join(cells)


def _ranks(result: CrossViewResult) -> str:
    tables = []
    precision = result.mean_average_precision()
    for kind, of_rank in (("including", result.including), ("excluding", result.excluding)):
        if all(np.isnan(value) for value in of_rank(1).values()):
            continue
        rows = [_row(f"rank-{k}", of_rank(k).values(), digits=2) for k in range(1, result.ranks + 1)]
        rows.append(_row("mAP", [precision[c][kind] for c in result.conditions], digits=2))
        tables.append(_table(f"Percent, {kind} identical views", _heads("", result.conditions), rows))
    return _side_by_side(tables)


def _made(result: CrossViewResult, details: Mapping[str, Any]) -> str:
    gallery = ", ".join(result.protocol.gallery)
    probes = "; ".join(f"{c}: {', '.join(takes)}" for c, takes in result.protocol.probes.items())
    facts: dict[str, Any] = {
        "protocol": f"{result.protocol.name}. Gallery: {gallery}. Probes: {probes}",
        "identical views": IDENTICAL_VIEWS,
        "rounding": "each cell to two decimals before averaging",
        "distance": "Euclidean on the flattened embedding",
        **details,
    }
    return "<dl>" + "".join(f"<dt>{escape(str(k))}</dt><dd>{_value(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _value(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"<pre>{escape(json.dumps(without_nan(value), indent=1, ensure_ascii=False))}</pre>"
    return escape(str(value))


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def _row(label: str, values: Iterable[float | None], attributes: str = "", digits: int = 3) -> str:
    cells = "".join(f"<td>{_figure(value, digits)}</td>" for value in values)
    return f"<tr{attributes}><th>{escape(label)}</th>{cells}</tr>"


def _heads(first: str, names: Iterable[str]) -> str:
    return "".join(f"<th>{escape(name)}</th>" for name in (first, *names))


def _table(caption: str, heads: str, rows: Sequence[str], attributes: str = "") -> str:
    """A table that scrolls sideways by itself; its caption stays."""
    body = "\n".join(rows)
    return (
        (f'<p class="soft">{escape(caption)}</p>\n' if caption else "")
        + f'<div class="scroll"><table{attributes}>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _side_by_side(tables: Iterable[str]) -> str:
    return '<div class="tables">' + "\n".join(f"<div>{table}</div>" for table in tables) + "</div>"
