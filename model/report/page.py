"""One self-contained HTML page of an evaluation: no network, no script, light and dark, any width."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from model.common.files import whole_file, whole_folder
from model.common.messages import progress_bar
from model.evaluation.result import IDENTICAL_VIEWS, without_nan
from model.report import accuracy, mistaken
from model.report.charts import Chart, check_matplotlib
from model.report.embedding_map import embedding_map
from model.report.html import Section, heads, page, paragraph, table
from model.report.in_short import in_short
from model.report.material import Material
from model.report.training_curves import training_curves
from model.report.verifying import verification
from model.runtime.performance import table_rows


def report_page(material: Material, quiet: bool = True) -> str:
    """The page as text. With `material.drawn` also with figures, which are kept in `material.charts`."""
    makers = [accuracy.published, accuracy.views, accuracy.cells, accuracy.ranks]
    if material.drawn:
        makers += [verification, mistaken.who, mistaken.hardest_mistakes, embedding_map, training_curves]
    makers += [throughput, made]
    sections = [make(material) for make in progress_bar(makers, unit="sections", what="report", quiet=quiet)]
    result = material.result
    probes, galleries = int(result.probe_counts.sum()), int(result.gallery_counts.sum())
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    head = (
        "".join(paragraph(sentence, "lead") for sentence in in_short(material))
        + accuracy.headlines(material)
        + '<p class="soft">Rank-1: how often the nearest sequence in the gallery is of the right person. '
        f"{probes:,} probes, {galleries:,} gallery sequences, views: {escape(', '.join(result.views))}.</p>"
        + (f"\n<ul>{notes}</ul>" if notes else "")
    )
    return page(f"GaitSet on {result.protocol.name}", head, sections)


def write_report(material: Material, path: Path, quiet: bool = True) -> Path:
    """Write the page with figures to `path`, and the figures as PNG into the folder `<its stem>-figures` beside it.

    Returns that folder; what was in it before is replaced. Raises UserError where matplotlib is missing.
    """
    check_matplotlib()
    material.drawn = True
    material.charts.clear()
    return write_page(path, report_page(material, quiet), material.charts, quiet)


def write_page(path: Path, text: str, charts: Sequence[Chart], quiet: bool = True) -> Path:
    """Write `text` to `path` and the charts as PNG into `<its stem>-figures` beside it, whose path is returned."""
    folder = path.with_name(f"{path.stem}-figures")
    with whole_folder(folder) as part:
        for chart in progress_bar(charts, unit="figures", what="drawing", quiet=quiet):
            chart.write_png(part / f"{chart.name}.png")
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return folder


def throughput(material: Material) -> Section:
    body = ""
    if material.throughput:
        names, rows = table_rows(material.throughput)
        body = table(
            "Sequences a second, latency in ms of a batch on the device; the last rows are what was published for this "
            "model",
            heads(names[0], names[1:]),
            [
                "<tr><th>" + escape(r[0]) + "</th>" + "".join(f"<td>{escape(c)}</td>" for c in r[1:]) + "</tr>"
                for r in rows
            ],
        )
    return Section("throughput", "Throughput of the deployed model", body, "Throughput")


def made(material: Material) -> Section:
    protocol = material.result.protocol
    probes = "; ".join(f"{c}: {', '.join(takes)}" for c, takes in protocol.probes.items())
    facts: dict[str, Any] = {
        "protocol": f"{protocol.name}. Gallery: {', '.join(protocol.gallery)}. Probes: {probes}",
        "identical views": IDENTICAL_VIEWS,
        "rounding": "each cell to two decimals before averaging",
        "distance": "Euclidean on the flattened embedding",
        **material.details,
    }
    body = "".join(f"<dt>{escape(str(name))}</dt><dd>{_value(value)}</dd>" for name, value in facts.items())
    return Section("made", "How it was made", f"<dl>{body}</dl>", "Made")


def _value(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"<pre>{escape(json.dumps(without_nan(value), indent=1, ensure_ascii=False))}</pre>"
    return escape(str(value))
