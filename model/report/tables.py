"""Print the tables of a result, and write them as JSON, CSV, NetCDF and HTML files."""

import csv
import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from model.common.files import atomic_file
from model.common.json_files import write_json
from model.common.netcdf import import_netcdf4, netcdf_errors
from model.evaluation.result import CrossViewResult, without_nan
from model.report.page import report_page
from model.report.report_inputs import ReportInputs

logger = logging.getLogger(__name__)


KINDS = "including", "excluding"
INCLUDING, EXCLUDING = "Include identical-view cases", "Exclude identical-view cases"


def result_text(result: CrossViewResult) -> str:
    """Return the result as printed text.

    The first three blocks are rank-1 including identical views, rank-1 excluding identical views, and rank-1 per probe
    view. Then come rank-5, mAP and published figures. All figures are percentages. Every cell is rounded to two
    decimals before averaging.
    """
    lines = [f"===Rank-1 ({INCLUDING})===", _named_figures(result.including())]
    lines += [f"===Rank-1 ({EXCLUDING})===", _named_figures(result.excluding())]
    lines += [f"===Rank-1 of each angle ({EXCLUDING})===", *_per_view_lines(result)]
    last = min(5, result.ranks)
    if last > 1:
        lines += [f"===Rank-{last}===", *_both({kind: getattr(result, kind)(last) for kind in KINDS})]
    precision = result.mean_average_precision()
    lines += ["===mAP===", *_both({kind: {c: precision[c][kind] for c in precision} for kind in KINDS})]
    if result.protocol.published:
        lines += _published_lines(result)
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines)


def write_results(
    result: CrossViewResult, folder: Path | str, name: str, details: Mapping[str, Any]
) -> dict[str, Path]:
    """Write `name`.json, .csv, .html and .nc to `folder`. Return the paths by suffix: json, csv, html and nc.

    The NetCDF file is skipped with a warning if xarray or netCDF4 cannot be imported.

    Args:
        details: how the result was made (command, config, versions, checkpoint ...); plain JSON values.
    """
    written = {suffix: Path(folder, f"{name}.{suffix}") for suffix in ("json", "csv", "html", "nc")}
    write_json(written["json"], {**result.to_json(), "details": without_nan(dict(details))})
    with atomic_file(written["csv"]) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(_csv_rows(result))
    with atomic_file(written["html"]) as part:
        part.write_text(report_page(ReportInputs(result, details)).html, encoding="utf-8")
    try:
        _write_netcdf(result, written["nc"], details)
    except ImportError as error:
        skipped = written.pop("nc")
        logger.warning(
            "%s is not written: xarray or netCDF4 cannot be imported (%s); to get this file, run pip install -r "
            "requirements.txt", skipped.name, error,
        )  # fmt: skip
    return written


def _write_netcdf(result: CrossViewResult, path: Path, details: Mapping[str, Any]) -> None:
    import_netcdf4()  # xarray would report a missing package as a ValueError
    dataset = result.to_xarray()
    dataset.attrs["details"] = json.dumps(without_nan(dict(details)), ensure_ascii=False)
    # Write in a thread, which Ctrl-C does not interrupt. An interrupt inside xarray's locks would leave a lock
    # acquired, and closing the file would wait for this lock forever.
    with atomic_file(path) as part, netcdf_errors(part), ThreadPoolExecutor(1) as pool:
        pool.submit(dataset.to_netcdf, part, engine="netcdf4").result()


def _csv_rows(result: CrossViewResult) -> Iterator[list[Any]]:
    """Yield a row of column names, then one row per cell in full precision. The figures of missing cells are empty."""
    ranks = [f"rank{k}" for k in range(1, result.ranks + 1)]
    yield ["condition", "probe_view", "gallery_view", *ranks, "map", "probes", "gallery"]
    for i, j, k in np.ndindex(result.average_precision.shape):
        labels = [result.conditions[i], result.views[j], result.views[k]]
        figures = [*result.accuracy[i, j, k], result.average_precision[i, j, k]]
        texts = ["" if np.isnan(figure) else repr(float(figure)) for figure in figures]
        yield [*labels, *texts, int(result.probe_counts[i, j]), int(result.gallery_counts[k])]


def _named_figures(figures: Mapping[str, float]) -> str:
    return ",\t".join(f"{condition}: {_figure(value)}" for condition, value in figures.items())


def _figure(value: float) -> str:
    """Format a mean with three decimals. A mean is NaN if identical views are excluded and there is a single view."""
    return "none (a single view)" if np.isnan(value) else f"{value:.3f}"


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None or np.isnan(value) else f"{value:{width}.{digits}f}"


def _both(kinds: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [f"{kind} identical views\t{_named_figures(figures)}" for kind, figures in kinds.items()]


def _per_view_lines(result: CrossViewResult) -> list[str]:
    tables = result.per_probe_view()
    label = max(len("view"), *map(len, result.conditions))
    width = max(6, *map(len, result.views))
    lines = [f"{'view':>{label}}: [" + " ".join(f"{view:>{width}}" for view in result.views) + "]"]
    for condition, table in tables.items():
        cells = (_cell(table.get(view), width, 2) for view in result.views)
        lines.append(f"{condition:>{label}}: [" + " ".join(cells) + "]")
    return lines


def _published_lines(result: CrossViewResult) -> list[str]:
    """Return a table of our rank-1 and published rank-1: including identical views left, excluding them right."""
    conditions = list(result.protocol.probes)
    rows = [("ours", result.including(), result.excluding()), *(row[:3] for row in result.protocol.published)]
    width = max(len(row[0]) for row in rows)

    def figures(values: Mapping[str, float] | None) -> str:
        return " ".join(_cell((values or {}).get(condition), 7, 3) for condition in conditions)

    span = 8 * len(conditions) - 1
    heads = " ".join(f"{c:>7}" for c in conditions)
    return [
        "===Rank-1 beside published figures===",
        f"{'identical views':<{width}} | {'included':^{span}} | {'excluded':^{span}}",
        f"{'':<{width}} | {heads} | {heads}",
        *(f"{label:<{width}} | {figures(inc)} | {figures(exc)}" for label, inc, exc in rows),
    ]
