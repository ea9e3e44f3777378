"""HTML page of an identification: each probe moves next to its best matches, above the distances of the gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.common.files import atomic_file
from model.data.store import SilhouetteStore
from model.identify.gallery import Gallery
from model.identify.matching import Calibration
from model.report.animation import film_strip
from model.report.charts import check_matplotlib
from model.report.render import render, render_page
from model.report.verification import distance_histogram

MAX_CARDS = 60
MATCHES = 2  # best matches next to each probe
HISTOGRAM_BINS = 60


def write_report(
    path: Path, gallery: Gallery, calibration: Calibration, results: list[dict[str, Any]], rows: list[list[int]],
    store: SilhouetteStore,
) -> None:  # fmt: skip
    """Write the page for the results of `who`, one per sequence of `store`. Raises UserError without matplotlib.

    Args:
        rows: for each result, the rows of the gallery with the sequences of the nearest people.
    """
    check_matplotlib()
    rows = [near[:MATCHES] for near in rows[:MAX_CARDS]]
    animations = gallery.animations(sorted({row for near in rows for row in near}))
    cards = []
    for position, (result, near) in enumerate(zip(results, rows, strict=False)):
        sequences = [("probe", "", result["sequence"], *film_strip(store.sequence(position)))]
        for number, (match, row) in enumerate(zip(result["nearest"], near, strict=False), 1):
            css_class = "right" if number == 1 and result["known"] else "taken"
            sequences.append((f"{number}. {match['person']}", css_class, gallery.name(row), *animations[row]))
        cards.append({**result, "sequences": sequences})
    values = {"calibration": calibration, "gallery": gallery, "results": results}
    sections = [("people", "People", render("identify_people", cards=cards, **values))]
    if len(calibration.impostor):
        sections.append(("distances", "Distances", render("identify_distances", chart=_chart(calibration, results))))
    html = render_page("Who is it?", render("identify_head", notes=calibration.notes(), **values), sections)
    with atomic_file(path) as part:
        part.write_text(html, encoding="utf-8")


def _chart(calibration: Calibration, results: list[dict[str, Any]]):
    nearest = [result["nearest"][0]["distance"] for result in results]
    edges = np.linspace(0, 1.02 * max(calibration.impostor.max(), *nearest), HISTOGRAM_BINS + 1)
    pairs = np.stack([np.histogram(v, edges)[0] for v in (calibration.impostor, calibration.genuine)])
    return distance_histogram("gallery", edges, pairs, nearest, calibration.threshold)
