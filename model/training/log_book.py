"""The training log: mean losses, log lines, train.jsonl, TensorBoard scalars, the warning of a collapsed loss, and the
result lines that the Ascend model zoo's training scripts print."""

import json
import logging
import math
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.common.errors import counted
from model.common.files import os_errors_as_user_errors, write_file
from model.common.messages import RESULT
from model.common.schema import parse_checked
from model.config import ModelConfig
from model.network.triplet import TripletLosses

log = logging.getLogger(__name__)

# Names and order of the losses in the original's log lines, so that scripts that parse these lines keep working.
FIELDS = ("hard_loss_metric", "full_loss_metric", "full_loss_num", "mean_dist")


class LossMeter:
    """Sums of the losses since the last log point. Reading them synchronizes with the device, so they stay there."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(len(FIELDS), device=device)
        self.iterations = 0  # incremented by the trainer, because replaying a CUDA graph does not call `add`

    def add(self, losses: TripletLosses) -> None:
        values = (losses.hard, losses.full, losses.full_num, losses.mean_dist)
        self.sums += torch.stack([value.detach() for value in values]).mean(1)

    def means(self) -> Tensor:
        return self.sums / max(self.iterations, 1)

    def reset(self) -> None:
        self.sums.zero_()
        self.iterations = 0


def log_line(iteration: int, point: dict) -> str:
    """Return the line that reports a log point."""
    losses = ", ".join(f"{name}={point[name]:.8f}" for name in FIELDS)
    skipped = f", {counted(point['skipped'], 'step')} skipped because gradients overflowed" if point["skipped"] else ""
    return (
        f"iter {iteration}: {losses}, lr={point['lr']:.6f}, hard or full={point['hard_or_full']}, "
        f"{point['iterations_per_second']:.2f} it/s{skipped}"
    )


def is_collapsed(point: dict, margin: float) -> bool:
    """Return whether all embeddings are in one point: both losses equal the margin, and distances are almost 0."""
    at_margin = all(abs(point[name] - margin) < 0.01 * margin for name in FIELDS[:2])
    return at_margin and point["mean_dist"] < 0.05 * margin


COLLAPSE_ADVICE = (
    "the loss has collapsed: hard = full = margin and mean_dist near 0 mean that all embeddings are in one point. "
    "Stop and start again with a lower learning rate (lr) or with hard_or_full_trip 'full' instead of 'hard'; "
    "also check that the data show more than one person"
)


class LogBook:
    """Writes each log point as a line of train.jsonl and as TensorBoard scalars, under `folder`."""

    def __init__(self, folder: Path, start: int = 0, scored: bool = True):
        """Open the log of a run that starts after iteration `start`.

        A resumed run keeps the lines up to iteration `start`. A new run renames the log of the previous run to
        `train-<time of the last line>.jsonl`.

        Args:
            scored: whether the score of iteration `start` is valid. Otherwise the line with this score is removed,
                because the run computes the score again.
        """
        from torch.utils.tensorboard import SummaryWriter  # this import takes a second; not every run writes a log

        self.path = folder / "train.jsonl"
        with os_errors_as_user_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                if start:
                    self._keep_until(start, scored)
                else:
                    last = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.path.stat().st_mtime))
                    self.path.replace(self.path.with_name(f"train-{last}.jsonl"))
            self.writer = SummaryWriter(str(folder), purge_step=start or None)

    def _keep_until(self, iteration: int, scored: bool) -> None:
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        to_score = None if scored else iteration
        kept = [line for line in lines if _iteration_of(line, to_score) <= iteration]
        write_file(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, iteration: int, point: dict) -> None:
        with os_errors_as_user_errors(self.path):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"iteration": iteration, **point}) + "\n")
            for name, value in point.items():
                if isinstance(value, int | float):
                    self.writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        with os_errors_as_user_errors(self.path):
            self.writer.close()


def _iteration_of(line: str, to_score: int | None) -> float:
    """Return the iteration of a log line; inf if the line is corrupt or is the score of iteration `to_score`."""
    try:
        point = parse_checked(line, {"iteration": int})
    except ValueError:
        return math.inf
    superseded = point["iteration"] == to_score and "rank1" in point
    return math.inf if superseded else point["iteration"]


ZOO_FRAMES = 30  # frames of a sequence that the Ascend model zoo counts as one image in its images/sec


def log_for_the_zoo(
    summary: Mapping[str, Any], settings: ModelConfig, losses: Mapping[str, Any], folder: Path | None, writing: bool
) -> None:
    """Log the result lines that the training scripts of the Ascend model zoo print.

    Programs collect these lines and the file `<CaseName>.log`. The zoo counts a sequence of 30 frames as one image.

    Args:
        summary: the content of the JSON file of `Trainer.report`, for a run with at least one iteration.
        losses: the last log point, or the mean losses of a run that ended before its first log point.
        folder: folder for the file `<CaseName>.log`, which holds the lines from `Network` on; None writes no file.
        writing: whether the run writes checkpoints. If so, the lines are the same as in the zoo's `train_full_*.sh`,
            otherwise the same as in its `train_performance_*.sh`.
    """
    processes = summary["processes"]
    batch = math.prod(settings.batch_size) * processes
    images = summary["sequences_per_second"] * settings.frame_num / ZOO_FRAMES
    case = f"{settings.model_name}_bs{batch}_{processes}p_{'acc' if writing else 'perf'}"
    lines = [
        f"Network = {settings.model_name}",
        f"RankSize = {processes}",
        f"BatchSize = {batch}",
        f"DeviceType = {platform.machine()}",
        f"CaseName = {case}",
        f"ActualFPS = {images:.3f}",
        f"TrainingTime = {batch * 1000 / images:.2f}",
        f"ActualLoss = {losses[f'{settings.hard_or_full_trip}_loss_metric']:.6e}",
        f"E2ETrainingTime = {summary['seconds']:.0f}",
    ]
    title = "------------------ Final result ------------------"
    log.log(RESULT, "\n".join([title, f"Final Performance images/sec : {images:.3f}", *lines]))
    if folder is not None:
        write_file(folder / f"{case}.log", "".join(f"{line}\n" for line in lines))
