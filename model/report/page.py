"""Write the HTML page of an evaluation. It is self-contained, has no scripts, and adapts to the theme and the width."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from model.common.files import atomic_file, atomic_folder
from model.common.messages import progress_bar
from model.evaluation.result import IDENTICAL_VIEWS
from model.report import accuracy
from model.report.charts import Chart, check_matplotlib
from model.report.confusions import confusion_tables, hardest_mistakes
from model.report.embedding_map import embedding_map
from model.report.render import render, render_page
from model.report.report_inputs import ReportInputs
from model.report.summary import summary
from model.report.training_curves import training_curves
from model.report.verification import verification
from model.runtime.performance import table_rows


class Page(NamedTuple):
    """HTML of a page, and the charts of its sections. Some charts are not in the HTML and are only written as PNG."""

    html: str
    charts: list[Chart]


def report_page(inputs: ReportInputs, quiet: bool = True) -> Page:
    """Render the page of an evaluation, with figures if `inputs.with_figures` is set."""
    sections, charts = [], []
    shared = {"inputs": inputs, "result": inputs.result}
    for anchor, label, make_values in progress_bar(_SECTIONS, unit="sections", what="report", quiet=quiet):
        values = make_values(inputs)
        if values is not None:
            charts += values.get("charts", [])
            sections.append((anchor, label, render(anchor, **shared, **values)))
    intervals = accuracy.confidence_intervals(inputs)
    head = render("head", **shared, summary=render("summary", **shared, **summary(inputs)), intervals=intervals)
    return Page(render_page(f"GaitSet on {inputs.result.protocol.name}", head, sections), charts)


def write_report(inputs: ReportInputs, path: Path, quiet: bool = True) -> Path:
    """Write the page with figures to `path`, and its charts as PNG files. Return the folder of the PNG files.

    Raises:
        UserError: matplotlib cannot be imported.
    """
    check_matplotlib()
    return write_page(path, report_page(replace(inputs, with_figures=True), quiet), quiet)


def write_page(path: Path, page: Page, quiet: bool = True) -> Path:
    """Write `page` to `path`, and its charts as PNG files to the folder `<stem of path>-figures` next to `path`.

    The previous content of the folder is replaced. Returns the folder.
    """
    folder = path.with_name(f"{path.stem}-figures")
    with atomic_folder(folder) as part:
        for chart in progress_bar(page.charts, unit="figures", what="drawing", quiet=quiet):
            chart.write_png(part / f"{chart.name}.png")
    with atomic_file(path) as part:
        part.write_text(page.html, encoding="utf-8")
    return folder


def throughput(inputs: ReportInputs) -> dict[str, Any] | None:
    """Measured throughput of the deployed model next to published figures; None without measurements."""
    if not inputs.throughput:
        return None
    heads, rows = table_rows(inputs.throughput)
    return {"heads": heads, "rows": rows}


# Name of anchor and template, entry in the table of contents, function that returns the values of the template. If the
# function returns None, the page does not have the section.
_SECTIONS = (
    ("published", "Published", accuracy.published),
    ("views", "Views", accuracy.views),
    ("cells", "Heat maps", accuracy.cells),
    ("ranks", "Ranks", accuracy.ranks),
    ("verification", "Verification", verification),
    ("who", "Confusions", confusion_tables),
    ("mistakes", "Mistakes", hardest_mistakes),
    ("map", "Map", embedding_map),
    ("training", "Training", training_curves),
    ("throughput", "Throughput", throughput),
    ("made", "Details", lambda inputs: {"identical_views": IDENTICAL_VIEWS}),
)
