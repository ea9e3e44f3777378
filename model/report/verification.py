"""Compute the report's section on verification: ROC curves, equal error rates and histograms of distances."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.evaluation.verification import Roc, rebinned, roc
from model.report.charts import Chart, Line, line_chart
from model.report.palette import SERIES
from model.report.report_inputs import ReportInputs

FARS = (0.01, 0.001)
MIN_FAR_SHOWN = 1e-5
MAX_CURVE_POINTS = 400


def verification(inputs: ReportInputs) -> dict[str, Any] | None:
    """ROC, error rates and histograms per condition; None without distances, genuine pairs or impostor pairs."""
    distances = inputs.distances
    counts = None if distances is None else distances.counts  # [c, identical views, genuine, bins]
    if counts is None or not counts.any(axis=(0, 1, 3)).all():
        return None
    pairs = {"including": counts.sum(axis=1)}  # [c, genuine, bins]
    if inputs.kind == "excluding":
        pairs = {"excluding": counts[:, 0], **pairs}
    conditions = distances.plan.conditions
    width = distances.bin_width
    curves = {kind: [roc(genuine, impostor, width) for impostor, genuine in of_kind] for kind, of_kind in pairs.items()}
    main = next(iter(pairs))
    edges, shown = rebinned(pairs[main], width)
    histograms = [distance_histogram(name, edges, counted) for name, counted in zip(conditions, shown, strict=True)]
    return {
        "fars": FARS,
        "tables": {kind: list(map(_error_rates, conditions, of_kind)) for kind, of_kind in curves.items()},
        "charts": [_roc_chart(dict(zip(conditions, curves[main], strict=True)), main), *histograms],
    }


def _error_rates(condition: str, curve: Roc) -> list[Any]:
    """Return a table row: error rates in percent, and the numbers of genuine and impostor pairs."""
    rates = [curve.equal_error_rate(), *map(curve.tar_at, FARS)]
    return [condition, *(100 * rate for rate in rates), curve.genuine, curve.impostor]


def _roc_chart(curves: Mapping[str, Roc], kind: str) -> Chart:
    lines = []
    for style, (condition, curve) in enumerate(curves.items()):
        far, tar = _sampled(curve)
        lines.append(Line(condition, 100 * far, 100 * tar, style))
    rates = {condition: 100 * curve.equal_error_rate() for condition, curve in curves.items()}
    description = "; ".join(f"{condition}: equal error rate {rate:.1f} percent" for condition, rate in rates.items())
    # The lowest FAR above 0. It is at most 1 / 2, because the axis needs two different limits.
    lowest_far = 1 / max(2, *(curve.impostor for curve in curves.values()))
    settings = {"xscale": "log", "xlim": (100 * max(lowest_far, MIN_FAR_SHOWN), 100), "ylim": (0, 101.5)}
    settings |= {"xlabel": "false accept rate (%)", "ylabel": "true accept rate (%)"}
    return line_chart("roc", f"ROC, {kind} identical views", description, lines, settings, "lower right")


def _sampled(curve: Roc) -> tuple[np.ndarray, np.ndarray]:
    """Return FAR and TAR of at most `MAX_CURVE_POINTS` points, evenly spaced on a logarithmic axis."""
    positive = np.flatnonzero(curve.far > 0)
    first = max(0, int(positive[0]) - 1) if len(positive) else 0
    wanted = np.geomspace(MIN_FAR_SHOWN, 1, MAX_CURVE_POINTS)
    chosen = np.unique(np.clip(np.searchsorted(curve.far, wanted, side="right") - 1, first, None))
    return np.maximum(curve.far[chosen], MIN_FAR_SHOWN / 10), curve.tar[chosen]


def distance_histogram(
    condition: str, edges: np.ndarray, pairs: np.ndarray, probes: Sequence[float] = (), threshold: float | None = None
) -> Chart:
    """Return a chart with a histogram of impostor pairs and a histogram of genuine pairs.

    `pairs` [2, n] holds the numbers of impostor and genuine pairs per bin. Each histogram shows them in percent of its
    total. The distances in `probes` are drawn as ticks at the bottom, and `threshold` is drawn as a line.
    """
    impostor, genuine = (100 * counts / max(1, counts.sum()) for counts in pairs)

    def draw(axes, colours: Mapping[str, str]) -> None:
        hatched = {"hatch": "///", "linestyle": "--"}
        axes.stairs(impostor, edges, edgecolor=colours[SERIES[1]], linewidth=1.6, label="different people", **hatched)
        if genuine.any():
            axes.stairs(genuine, edges, edgecolor=colours[SERIES[0]], linewidth=1.6, label="same person")
        if threshold is not None:
            axes.axvline(threshold, color=colours["soft"], linestyle="--", linewidth=1.4, label="threshold")
        if len(probes):
            top = max(impostor.max(), genuine.max())
            style = {"color": colours["text"], "linewidth": 1.6, "label": "this page's sequences"}
            axes.vlines(probes, -0.07 * top, -0.01 * top, **style)
        axes.set(xlabel="distance", ylabel="share of pairs (%)")
        axes.legend()

    centres = (edges[1:] + edges[:-1]) / 2
    means = [
        f"{np.average(centres, weights=share):.2f} for {who}"
        for who, share in (("the same person", genuine), ("different people", impostor)) if share.any()
    ]  # fmt: skip
    description = f"{condition}: mean distance {', '.join(means)}"
    return Chart(f"distances-{condition}", f"Distances, {condition}", description, draw)
