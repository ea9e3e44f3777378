"""Compute the report's section on training: curves of losses, active triplets and rank-1 from a train.jsonl file."""

from pathlib import Path
from typing import Any

import numpy as np

from model.checkpoints.metadata import parse_name
from model.common.errors import UserError
from model.common.schema import check, parse_checked
from model.report.charts import Chart, Line, line_chart
from model.report.report_inputs import ReportInputs

MAX_POINTS = 300  # largest number of points per curve; longer curves show means of neighbouring points
_LOSS_FIELDS = ("full_loss_metric", "hard_loss_metric", "full_loss_num", "iterations_per_second", "lr")


def training_curves(inputs: ReportInputs) -> dict[str, Any] | None:
    """Training curves; None without a training log that has at least two points."""
    points = read_log(inputs.training_log) if inputs.training_log else []
    losses = [point for point in points if "full_loss_metric" in point]
    scores = [point for point in points if "rank1" in point]
    if len(losses) < 2:
        return None
    last = losses[-1]
    names = {"full": "batch-all", "hard": "batch-hard"}
    names = {kind: f"{name} (trained on)" if last["hard_or_full"] == kind else name for kind, name in names.items()}
    loss_fields = {name: f"{kind}_loss_metric" for kind, name in names.items()}
    charts = [
        _chart("loss", "Triplet losses", "loss", losses, loss_fields),
        _chart("triplets", "Active triplets per batch", "number", losses, {"active": "full_loss_num"}, style=2),
    ]
    if len(scores) > 1:
        charts.append(_chart("scores", "Rank-1 during training", "rank-1 (%)", scores, {"rank-1": "rank1"}, style=3))
    return {"last": last, "speed": np.median([point["iterations_per_second"] for point in losses]), "charts": charts}


def _chart(name: str, title: str, y_label: str, points: list[dict], fields: dict[str, str], style: int = 0) -> Chart:
    """Return a chart with one line per item of `fields` {label: field of the log}. `style` is for the first line."""
    lines, descriptions = [], []
    for label, field in fields.items():
        values = [point[field] for point in points]
        lines.append(Line(label, *thinned([point["iteration"] for point in points], values), style))
        descriptions.append(f"{label}: {values[0]:.4g} at the start, {values[-1]:.4g} at the end")
        style += 1
    return line_chart(name, title, "; ".join(descriptions), lines, {"xlabel": "iteration", "ylabel": y_label})


def read_log(path: Path) -> list[dict]:
    """Return the points of a train.jsonl file. Incomplete and damaged lines are skipped.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a training log ({error}); pass a train.jsonl file") from error
    return [point for point in map(_parse_line, lines) if point is not None]


def _parse_line(line: str) -> dict | None:
    """Return the values of a line with losses or a score; None if values are missing or not finite."""
    try:
        point = parse_checked(line, {"iteration": range(1 << 40)})
        fields = {"rank1": float} if "rank1" in point else {"hard_or_full": str, **dict.fromkeys(_LOSS_FIELDS, float)}
        return check(point, fields)
    except ValueError:
        return None


def log_of_checkpoint(checkpoint: Path) -> Path | None:
    """Return the train.jsonl of the run that wrote `checkpoint`, or None if the file does not exist.

    A checkpoint is WORK/checkpoint/GaitSet/<experiment>-<iteration>-encoder.ptm, and the log of its run is
    WORK/log/<experiment>/train.jsonl.
    """
    parsed = parse_name(checkpoint.name)
    if parsed is None:
        return None
    log = checkpoint.resolve().parent.parent.parent / "log" / parsed[0] / "train.jsonl"
    return log if log.is_file() else None


def thinned(x: list[float], y: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a curve to at most `MAX_POINTS` points. Each point is the mean of a group of neighbouring points."""
    group = -(-len(x) // MAX_POINTS)
    starts = np.arange(0, len(x), group)
    counts = np.diff([*starts, len(x)])
    return tuple(np.add.reduceat(np.asarray(values, float), starts) / counts for values in (x, y))
