"""What training tells: the means between two log points, the log line, the JSON line, TensorBoard, the collapse."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path

import torch
from torch import Tensor

from model.common.files import atomic_file, os_errors_as_user_errors
from model.network.triplet import TripletLosses

log = logging.getLogger(__name__)

# Names and order of the original's log lines, so that scripts which read them go on working.
FIELDS = ("hard_loss_metric", "full_loss_metric", "full_loss_num", "mean_dist")


class LossMeter:
    """Means over the iterations since the last log point, kept on the device: reading one would wait for it."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(len(FIELDS), device=device)
        self.iterations = 0  # counted by who calls `add`, which may be a recording

    def add(self, losses: TripletLosses) -> None:
        values = (losses.hard, losses.full, losses.full_num, losses.mean_dist)
        self.sums += torch.stack([value.detach().mean() for value in values])

    def means(self) -> Tensor:
        return self.sums / max(self.iterations, 1)

    def reset(self) -> None:
        self.sums.zero_()
        self.iterations = 0


def log_line(iteration: int, point: dict) -> str:
    return (
        f"iter {iteration}: hard_loss_metric={point['hard_loss_metric']:.8f}, "
        f"full_loss_metric={point['full_loss_metric']:.8f}, full_loss_num={point['full_loss_num']:.8f}, "
        f"mean_dist={point['mean_dist']:.8f}, lr={point['lr']:.6f}, hard or full={point['hard_or_full']}, "
        f"{point['iterations_per_second']:.2f} it/s"
        + (f", {point['skipped']} steps left out for gradients that overflow" if point.get("skipped") else "")
    )


def is_collapsed(point: dict, margin: float) -> bool:
    """All embeddings in one point: both losses stand at the margin and distances are next to nothing."""
    at_margin = all(abs(point[name] - margin) < 0.01 * margin for name in FIELDS[:2])
    return at_margin and point["mean_dist"] < 0.05 * margin


COLLAPSE_ADVICE = (
    "the loss has collapsed: hard = full = margin and mean_dist near 0 mean that all embeddings lie in one point. "
    "Stop, start again with a lower learning rate (lr) or hard_or_full_trip 'full' instead of 'hard'; "
    "check also that the data show more than one person"
)


class LogBook:
    """Writes each log point as a line of JSON and as TensorBoard scalars, under `folder`.

    A run that goes on from iteration `start` keeps the lines up to there, but for the score of `start` when it is to be
    computed (again): not `scored`. One from the start sets the log of the run before it aside, as `train-<time of its
    last line>.jsonl`.
    """

    def __init__(self, folder: Path, start: int = 0, scored: bool = True):
        self.path = folder / "train.jsonl"
        with os_errors_as_user_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                if start:
                    self._keep_until(start, scored)
                else:
                    last = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.path.stat().st_mtime))
                    self.path.replace(self.path.with_name(f"train-{last}.jsonl"))
            self.writer = _summary_writer(folder, start)

    def _keep_until(self, iteration: int, scored: bool = True) -> None:
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        with atomic_file(self.path) as part:
            to_score = None if scored else iteration
            kept = [line for line in lines if _iteration_of(line, to_score) <= iteration]
            part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, iteration: int, point: dict) -> None:
        with os_errors_as_user_errors(self.path):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"iteration": iteration, **point}) + "\n")
            if self.writer is not None:
                for name, value in point.items():
                    if isinstance(value, int | float):
                        self.writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        if self.writer is not None:
            with os_errors_as_user_errors(self.path):
                self.writer.close()


def _iteration_of(line: str, to_score: int | None) -> float:
    """Beyond all others for a line that a killed run has left half-written, or that is damaged, and the score of an
    iteration that is to get one."""
    try:
        point = json.loads(line)
        iteration = point["iteration"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
    superseded = iteration == to_score and "rank1" in point
    return iteration if type(iteration) is int and not superseded else math.inf


def _summary_writer(folder: Path, start: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("tensorboard is not installed: no scalars for it are written")
        return None
    return SummaryWriter(str(folder), purge_step=start or None)
