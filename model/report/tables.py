"""What is printed and kept of an evaluation: the three blocks users know, JSON, CSV, NetCDF and a page."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.files import whole_file, write_json
from model.evaluation.result import CrossViewResult, without_nan
from model.report.material import Material
from model.report.page import report_page

logger = logging.getLogger(__name__)

INCLUDING, EXCLUDING = "Include identical-view cases", "Exclude identical-view cases"


class WrittenResults(dict[str, Path]):
    """Path of each file written, by kind: json, csv, html, netcdf. `notes`: what was left out, and why."""

    notes: tuple[str, ...] = ()


def result_text(result: CrossViewResult, rank: int = 1) -> str:
    """The printed result: rank-`rank` including, excluding, per probe view; rank-5, mAP, published figures.

    Percent, every cell rounded to two decimals before averaging. `rank` must not exceed the result's ranks.
    """
    lines = [
        f"===Rank-{rank} ({INCLUDING})===",
        _named_figures(result.including(rank)),
        f"===Rank-{rank} ({EXCLUDING})===",
        _named_figures(result.excluding(rank)),
        f"===Rank-{rank} of each angle ({EXCLUDING})===",
        *_per_view_lines(result, rank),
    ]
    last = min(5, result.ranks)
    if last != rank:
        lines.append(f"===Rank-{last}===")
        lines += _both(result.including(last), result.excluding(last))
    precision = result.mean_average_precision()
    lines.append("===mAP===")
    lines += _both(*({c: precision[c][kind] for c in precision} for kind in ("including", "excluding")))
    if result.protocol.published:
        lines += _published_lines(result)
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines)


def write_results(result: CrossViewResult, folder: Path | str, name: str, details: Mapping[str, Any]) -> WrittenResults:
    """Write `name`.json, .csv, .html and .nc under `folder`, each whole; returns their paths.

    `details` (command, config, versions, checkpoint ...) must be plain JSON values; they go into the JSON,
    the page and the NetCDF attributes. Without xarray and netCDF4 the NetCDF file is left out: the note about
    it is logged, and in `notes` of what is returned.
    """
    folder = Path(folder)
    written = WrittenResults()

    written["json"] = folder / f"{name}.json"
    write_json(written["json"], {**result.to_json(), "details": without_nan(dict(details))})
    written["csv"] = folder / f"{name}.csv"
    with whole_file(written["csv"]) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(_csv_rows(result))
    written["html"] = folder / f"{name}.html"
    with whole_file(written["html"]) as part:
        part.write_text(report_page(Material(result, details)), encoding="utf-8")
    try:
        _write_netcdf(result, folder / f"{name}.nc", details)
        written["netcdf"] = folder / f"{name}.nc"
    except ImportError as error:
        note = f"{name}.nc is left out: it needs the packages xarray and netCDF4 ({error})"
        logger.warning("%s", note)
        written.notes = (note,)
    return written


def _write_netcdf(result: CrossViewResult, path: Path, details: Mapping[str, Any]) -> None:
    import netCDF4  # noqa: F401  (xarray reports a missing engine as a ValueError; this one is an ImportError)

    dataset = result.to_xarray()
    dataset.attrs["details"] = json.dumps(without_nan(dict(details)), ensure_ascii=False)
    with whole_file(path) as part:
        try:
            dataset.to_netcdf(part, engine="netcdf4")
        except RuntimeError as error:  # of the HDF5 library, which does not pass on what the system said
            raise UserError(f"{path}: cannot be written ({error}); is the disk full?") from error


def _csv_rows(result: CrossViewResult):
    """Long form, one cell a row, full precision; a cell that does not exist is left empty."""
    ranks = [f"rank{k}" for k in range(1, result.ranks + 1)]
    yield ["condition", "probe_view", "gallery_view", *ranks, "map", "probes", "gallery"]
    for i, condition in enumerate(result.conditions):
        for j, probe_view in enumerate(result.views):
            for k, gallery_view in enumerate(result.views):
                figures = [*result.accuracy[i, j, k], result.average_precision[i, j, k]]
                yield [
                    condition,
                    probe_view,
                    gallery_view,
                    *("" if np.isnan(figure) else repr(float(figure)) for figure in figures),
                    int(result.probe_counts[i, j]),
                    int(result.gallery_counts[k]),
                ]


def _named_figures(figures: Mapping[str, float]) -> str:
    return ",\t".join(f"{condition}: {_figure(value)}" for condition, value in figures.items())


def _figure(value: float) -> str:
    """Three decimals as ever; the mean of no cell is said to be that."""
    return "none (a single view)" if np.isnan(value) else f"{value:.3f}"


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None or np.isnan(value) else f"{value:{width}.{digits}f}"


def _both(including: Mapping[str, float], excluding: Mapping[str, float]) -> list[str]:
    return [
        f"including identical views\t{_named_figures(including)}",
        f"excluding identical views\t{_named_figures(excluding)}",
    ]


def _per_view_lines(result: CrossViewResult, rank: int) -> list[str]:
    tables = result.per_probe_view(rank)
    label = max(len("view"), *map(len, result.conditions))
    width = max(6, *map(len, result.views))
    lines = [f"{'view':>{label}}: [" + " ".join(f"{view:>{width}}" for view in result.views) + "]"]
    for condition, table in tables.items():
        cells = (_cell(table.get(view), width, 2) for view in result.views)
        lines.append(f"{condition:>{label}}: [" + " ".join(cells) + "]")
    return lines


def _published_lines(result: CrossViewResult) -> list[str]:
    """Our rank-1 and the published ones in a table, identical views included left, excluded right."""
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
