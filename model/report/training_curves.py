"""Section on training: the curves of a train.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from model.common.errors import UserError
from model.report.charts import Chart, Line, line_chart
from model.report.html import Section, paragraph
from model.report.material import Material

POINTS = 300  # of a curve: beyond, neighbours are averaged


def training_curves(material: Material) -> Section:
    points = read_log(material.training) if material.training else []
    losses = [point for point in points if "full_loss_metric" in point]
    if len(losses) < 2:
        return Section("training", "", "")
    scores = [point for point in points if "rank1" in point]
    figures = [_losses(losses), _active(losses), *([_scores(scores)] if len(scores) > 1 else [])]
    last, speed = losses[-1], np.median([point["iterations_per_second"] for point in losses])
    text = (
        f"{last['iteration']:,} iterations at {speed:.3g} a second (median), learning rate {last['lr']:g}. "
        f"From {material.training}."
    )
    drawn = "".join(map(material.show, figures))
    return Section("training", "Training", paragraph(text) + f'<div class="figures">{drawn}</div>')


def _losses(points: list[dict]) -> Chart:
    last, lines = points[-1], []
    for place, (kind, name) in enumerate((("full", "batch-all"), ("hard", "batch-hard"))):
        trained_on = " (trained on)" if last["hard_or_full"] == kind else ""
        lines.append(_curve(name + trained_on, points, f"{kind}_loss_metric", place))
    says = (
        f"after {last['iteration']} iterations batch-all {last['full_loss_metric']:.4f}, "
        f"batch-hard {last['hard_loss_metric']:.4f}"
    )
    return line_chart("loss", "Triplet losses", says, lines, "iteration", "loss")


def _active(points: list[dict]) -> Chart:
    first, last = points[0]["full_loss_num"], points[-1]["full_loss_num"]
    says = f"mean number of triplets that still cost, {first:.0f} at first, {last:.0f} at last"
    lines = [_curve("active", points, "full_loss_num", 2)]
    return line_chart("triplets", "Active triplets of a batch", says, lines, "iteration", "number")


def _scores(points: list[dict]) -> Chart:
    says = f"{points[-1]['rank1']:.1f} percent at last"
    lines = [_curve("rank-1", points, "rank1", 3)]
    return line_chart("scores", "Rank-1 while training", says, lines, "iteration", "rank-1 (%)")


def _curve(label: str, points: list[dict], name: str, place: int) -> Line:
    x, y = thinned([point["iteration"] for point in points], [point[name] for point in points])
    return Line(label, x, y, place, marked=False)


def read_log(path: Path) -> list[dict]:
    """The points of a train.jsonl; a line that the end of the process cut off, or that is damaged, is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as the log of a training ({error})") from error
    return [point for point in map(_point_of, lines) if point is not None]


_LOSS = ("full_loss_metric", "hard_loss_metric", "full_loss_num", "iterations_per_second", "lr")


def _point_of(line: str) -> dict | None:
    """A line of losses or of a score, all of them finite numbers; None for any other."""
    try:
        point = json.loads(line)
        names = ("iteration", "rank1") if "rank1" in point else ("iteration", "hard_or_full", *_LOSS)
        numbers = [point[name] for name in names if name != "hard_or_full"]
        good = type(point["iteration"]) is int and all(type(n) in (int, float) and abs(n) < 1e15 for n in numbers)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return point if good else None


def log_of_checkpoint(checkpoint: Path) -> Path | None:
    """The train.jsonl of the run that wrote WORK/checkpoint/GaitSet/<experiment>-<iteration>-encoder.ptm, or None."""
    experiment = checkpoint.name.removesuffix("-encoder.ptm").rpartition("-")[0]
    work = checkpoint.resolve().parent.parent.parent
    log = work / "log" / experiment / "train.jsonl"
    return log if experiment and log.is_file() else None


def thinned(x: list[float], y: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """At most `POINTS` points, each the mean of equally many neighbours."""
    group = -(-len(x) // POINTS)
    starts = np.arange(0, len(x), group)
    counts = np.diff([*starts, len(x)])
    return tuple(np.add.reduceat(np.asarray(values, float), starts) / counts for values in (x, y))
