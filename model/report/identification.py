"""Write the HTML page of an identification: animated silhouettes of probes and matches, and a chart of distances."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.common.files import atomic_file
from model.report.charts import Chart, check_matplotlib
from model.report.render import render, render_page
from model.report.verification import distance_histogram

MAX_CARDS = 60
MATCHES = 2  # number of best matches that are shown next to each probe
HISTOGRAM_BINS = 60
Strip = tuple[str, int, str]  # name of a sequence, and the result of `film_strip` for it


def write_identification(
    path: Path, results: Sequence[dict[str, Any]], probes: Sequence[Strip], matches: Sequence[Sequence[Strip]],
    calibration: Any, enrolled: int,
) -> None:  # fmt: skip
    """Write the page for the results of `python -m model.identify who`. Raises UserError without matplotlib.

    Args:
        probes: animated silhouettes of the first `MAX_CARDS` results.
        matches: for each of these results, animated silhouettes of the nearest people.
        calibration: a `Calibration` of `model.identify.matching`.
        enrolled: number of sequences in the gallery.
    """
    check_matplotlib()
    cards = []
    for result, probe, near in zip(results, probes, matches, strict=False):
        sequences = [("probe", "", *probe)]
        for number, (match, strip) in enumerate(zip(result["nearest"], near, strict=False), 1):
            css_class = "right" if number == 1 and result["known"] else "taken"
            sequences.append((f"{number}. {match['person']}", css_class, *strip))
        cards.append({**result, "sequences": sequences})
    values = {"calibration": calibration, "results": results, "enrolled": enrolled}
    sections = [("people", "People", render("identify_people", cards=cards, **values))]
    if len(calibration.impostor):
        sections.append(("distances", "Distances", render("identify_distances", chart=_chart(calibration, results))))
    html = render_page("Who is it?", render("identify_head", notes=calibration.notes(), **values), sections)
    with atomic_file(path) as part:
        part.write_text(html, encoding="utf-8")


def _chart(calibration: Any, results: Sequence[dict[str, Any]]) -> Chart:
    nearest = [result["nearest"][0]["distance"] for result in results]
    edges = np.linspace(0, 1.02 * max(calibration.impostor.max(), *nearest), HISTOGRAM_BINS + 1)
    pairs = np.stack([np.histogram(v, edges)[0] for v in (calibration.impostor, calibration.genuine)])
    return distance_histogram("gallery", edges, pairs, nearest, calibration.threshold)
