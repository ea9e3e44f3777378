"""Last lines of a training log and the file CaseName.log of the Ascend model zoo, for programs that collect them."""

import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.common.files import atomic_file
from model.config import ModelConfig

ZOO_FRAMES = 30  # frames per sequence of the recipe; the zoo scales its images/sec to it


def zoo_lines(summary: Mapping[str, Any], settings: ModelConfig, losses: Mapping[str, Any], *, writing: bool) -> list:
    """Return the lines of the zoo's `train_full_*.sh`, or of its `train_performance_*.sh` if no checkpoint is written.

    The zoo's images are sequences of 30 frames. A run without iterations has no lines.

    Args:
        summary: what `Trainer.report` returns in its JSON file.
        losses: the last log point, or the mean losses of a run that ended before the first.
    """
    if not summary["iterations"]:
        return []
    processes = summary["processes"]
    batch = math.prod(settings.batch_size) * processes
    images = summary["sequences_per_second"] * settings.frame_num / ZOO_FRAMES
    return [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {images:.3f}",
        f"Network = {settings.model_name}",
        f"RankSize = {processes}",
        f"BatchSize = {batch}",
        f"DeviceType = {platform.machine()}",
        f"CaseName = {settings.model_name}_bs{batch}_{processes}p_{'acc' if writing else 'perf'}",
        f"ActualFPS = {images:.3f}",
        f"TrainingTime = {batch * 1000 / images:.2f}",
        f"ActualLoss = {losses[f'{settings.hard_or_full_trip}_loss_metric']:.6e}",
        f"E2ETrainingTime = {summary['seconds']:.0f}",
    ]


def write_zoo_log(folder: Path, lines: Sequence[str]) -> None:
    """Write the lines from `Network` on to `folder`, to a file with their CaseName, as the zoo's scripts do."""
    facts = dict(line.split(" = ", 1) for line in lines if " = " in line)
    with atomic_file(folder / f"{facts['CaseName']}.log") as part:
        part.write_text("".join(f"{name} = {value}\n" for name, value in facts.items()), encoding="utf-8")
