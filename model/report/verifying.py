"""Section on verification: histograms of distances, ROC, equal error rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model.evaluation.verification import Roc, rebinned, roc
from model.report.charts import Chart, Line, line_chart
from model.report.html import Section, folded, heads, paragraph, table, words_row
from model.report.material import Material
from model.report.palette import SERIES

FARS = (0.01, 0.001)
_LEAST_FAR = 1e-5  # shown


def verification(material: Material) -> Section:
    record = material.record
    if record is None or not record.counts.sum():
        return Section("verification", "", "")
    counts = record.counts  # [c, identical views, genuine, bins]
    kinds = {"including": counts.sum(axis=1)}
    if material.kind == "excluding":
        kinds = {"excluding": counts[:, 0], **kinds}
    curves = {kind: [roc(pairs[1], pairs[0], record.bin_width) for pairs in of_kind] for kind, of_kind in kinds.items()}
    main = next(iter(kinds))
    conditions = record.plan.conditions
    tables = [_table(kind, conditions, of_kind) for kind, of_kind in curves.items()]
    first = material.show(_roc_chart(conditions, curves[main], main))
    figures = []
    edges, wide = rebinned(kinds[main], record.bin_width)
    for condition, pairs in zip(conditions, wide, strict=True):
        figures.append(material.show(_histogram(condition, edges, pairs)))
    part = f" Of so many pairs, those of every {record.every}th probe were counted." if record.every > 1 else ""
    body = (
        paragraph(
            "Is this the same person? Every probe was compared with every gallery sequence, and a pair accepted when "
            "its distance is below a threshold. FAR: share of pairs of different people that are accepted; TAR: share "
            "of pairs of the same person. Equal error rate: where as many are wrongly accepted as wrongly refused."
            + part
        )
        + f'<div class="figures">{first}<div>{tables[0]}</div></div>'
        + f'<div class="figures">{"".join(figures)}</div>'
        + "".join(folded("Including identical views", other) for other in tables[1:])
    )
    return Section("verification", "Same person or not", body, "Verification")


def _table(kind: str, conditions: tuple[str, ...], curves: list[Roc]) -> str:
    rows = [
        words_row(c, [f"{100 * x:.2f}" if not np.isnan(x) else "–" for x in (
            curve.equal_error_rate(), *(curve.tar_at(far) for far in FARS))]
            + [f"{curve.genuine:,}", f"{curve.impostor:,}"])
        for c, curve in zip(conditions, curves, strict=True)
    ]  # fmt: skip
    names = ["EER (%)", *(f"TAR (%) at FAR {100 * far:g} %" for far in FARS), "genuine pairs", "impostor pairs"]
    return table(
        f"{kind} identical views".capitalize(), heads("", names), [r.replace(' class="words"', "") for r in rows]
    )


def _roc_chart(conditions: tuple[str, ...], curves: list[Roc], kind: str) -> Chart:
    lines = []
    for place, (condition, curve) in enumerate(zip(conditions, curves, strict=True)):
        far, tar = _corners(curve)
        lines.append(Line(condition, 100 * far, 100 * tar, place, marked=False))
    says = "; ".join(
        f"{c}: equal error rate {100 * r.equal_error_rate():.1f} percent"
        for c, r in zip(conditions, curves, strict=True)
    )
    least = min((1 / curve.impostor for curve in curves if curve.impostor), default=_LEAST_FAR)
    return line_chart(
        "roc", f"ROC, {kind} identical views", says, lines, "false accept rate (%)", "true accept rate (%)",
        x_scale="log", x_range=(100 * max(least, _LEAST_FAR), 100), y_range=(0, 101.5), at="lower right",
    )  # fmt: skip


def _corners(curve: Roc, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points of the curve, evenly along its logarithmic axis."""
    shown = np.flatnonzero(curve.far > 0)
    first = max(0, int(shown[0]) - 1) if len(shown) else 0
    wanted = np.geomspace(_LEAST_FAR, 1, most)
    places = np.unique(np.clip(np.searchsorted(curve.far, wanted, side="right") - 1, first, None))
    return np.maximum(curve.far[places], _LEAST_FAR / 10), curve.tar[places]


def _histogram(condition: str, edges: np.ndarray, pairs: np.ndarray) -> Chart:
    """`pairs` [2, n]: impostor and genuine pairs by distance; each is drawn as its share a bin."""
    shares = [100 * counts / max(1, counts.sum()) for counts in pairs]

    def draw(axes, ink: Mapping[str, str]) -> None:
        for name, share, role, style in (
            ("different people", shares[0], SERIES[1], {"hatch": "///", "linestyle": "--"}),
            ("same person", shares[1], SERIES[0], {}),
        ):
            axes.stairs(share, edges, fill=False, edgecolor=ink[role], linewidth=1.6, label=name, **style)
        axes.set_xlabel("distance")
        axes.set_ylabel("share of pairs (%)")
        axes.legend()

    middle = [float(np.average((edges[1:] + edges[:-1]) / 2, weights=s)) if s.sum() else 0.0 for s in shares]
    says = f"{condition}: mean distance {middle[1]:.2f} of the same person, {middle[0]:.2f} of different people"
    return Chart(f"distances-{condition}", f"Distances, {condition}", says, draw)
