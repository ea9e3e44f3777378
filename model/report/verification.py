"""Section on verification: ROC curves, equal error rates and histograms of distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.evaluation.verification import Roc, rebinned, roc
from model.report.charts import Chart, Line, line_chart
from model.report.palette import SERIES
from model.report.render import number
from model.report.report_inputs import ReportInputs

FARS = (0.01, 0.001)
MIN_FAR_SHOWN = 1e-5
MAX_CURVE_POINTS = 400


def verification(inputs: ReportInputs) -> dict[str, Any] | None:
    """ROC, error rates and histograms per condition; None without distances."""
    distances = inputs.distances
    counts = None if distances is None else distances.counts  # [c, identical views, genuine, bins]
    if counts is None or not counts.any():
        return None
    pairs = {"including": counts.sum(axis=1)}  # [c, genuine, bins]
    if inputs.kind == "excluding":
        pairs = {"excluding": counts[:, 0], **pairs}
    conditions = distances.plan.conditions
    curves = {
        kind: {
            condition: roc(genuine, impostor, distances.bin_width)
            for condition, (impostor, genuine) in zip(conditions, of_kind, strict=True)
        }
        for kind, of_kind in pairs.items()
    }
    main = next(iter(pairs))
    edges, shown = rebinned(pairs[main], distances.bin_width)
    histograms = [_histogram(name, edges, counted) for name, counted in zip(conditions, shown, strict=True)]
    return {
        "counted_every": distances.every,
        "fars": [f"{100 * far:g}" for far in FARS],
        "tables": {kind: _error_rates(of_kind) for kind, of_kind in curves.items()},
        "charts": [_roc_chart(curves[main], main), *histograms],
    }


def _error_rates(curves: Mapping[str, Roc]) -> list[list[str]]:
    rows = []
    for condition, curve in curves.items():
        rates = (curve.equal_error_rate(), *(curve.tar_at(far) for far in FARS))
        percents = [number(100 * rate, 2) for rate in rates]
        rows.append([condition, *percents, f"{curve.genuine:,}", f"{curve.impostor:,}"])
    return rows


def _roc_chart(curves: Mapping[str, Roc], kind: str) -> Chart:
    lines = []
    for style, (condition, curve) in enumerate(curves.items()):
        far, tar = _sampled(curve)
        lines.append(Line(condition, 100 * far, 100 * tar, style, markers=False))
    description = "; ".join(
        f"{condition}: equal error rate {100 * curve.equal_error_rate():.1f} percent"
        for condition, curve in curves.items()
    )
    lowest_far = min((1 / curve.impostor for curve in curves.values() if curve.impostor), default=MIN_FAR_SHOWN)
    settings = {
        "xscale": "log",
        "xlim": (100 * max(lowest_far, MIN_FAR_SHOWN), 100),
        "ylim": (0, 101.5),
        "xlabel": "false accept rate (%)",
        "ylabel": "true accept rate (%)",
    }
    return line_chart("roc", f"ROC, {kind} identical views", description, lines, settings, "lower right")


def _sampled(curve: Roc) -> tuple[np.ndarray, np.ndarray]:
    """Return FAR and TAR of at most `MAX_CURVE_POINTS` points, evenly spaced on a logarithmic axis."""
    positive = np.flatnonzero(curve.far > 0)
    first = max(0, int(positive[0]) - 1) if len(positive) else 0
    wanted = np.geomspace(MIN_FAR_SHOWN, 1, MAX_CURVE_POINTS)
    chosen = np.unique(np.clip(np.searchsorted(curve.far, wanted, side="right") - 1, first, None))
    return np.maximum(curve.far[chosen], MIN_FAR_SHOWN / 10), curve.tar[chosen]


def _histogram(condition: str, edges: np.ndarray, pairs: np.ndarray) -> Chart:
    """Return the histogram of `pairs` [2, n], impostor and genuine pairs per bin, each as a share of all its pairs."""
    impostor, genuine = (100 * counts / max(1, counts.sum()) for counts in pairs)

    def draw(axes, colours: Mapping[str, str]) -> None:
        hatched = {"hatch": "///", "linestyle": "--"}
        for name, share, role, style in (
            ("different people", impostor, SERIES[1], hatched),
            ("same person", genuine, SERIES[0], {}),
        ):
            axes.stairs(share, edges, fill=False, edgecolor=colours[role], linewidth=1.6, label=name, **style)
        axes.set(xlabel="distance", ylabel="share of pairs (%)")
        axes.legend()

    description = (
        f"{condition}: mean distance {_mean_distance(edges, genuine):.2f} for the same person, "
        f"{_mean_distance(edges, impostor):.2f} for different people"
    )
    return Chart(f"distances-{condition}", f"Distances, {condition}", description, draw)


def _mean_distance(edges: Sequence[float], share: np.ndarray) -> float:
    return float(np.average((edges[1:] + edges[:-1]) / 2, weights=share)) if share.sum() else 0.0
